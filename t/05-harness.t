# The test harness itself tells a complete answer from a cut one.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Django;
use FcgiApp;
use FcgiClient;
use Httpd;
use IO::Socket::INET;
use PhpFpm;
use Private;
use Test::More;
use Time::HiRes qw(time);

# A server that reads one request of every connection and does what $code
# says with the socket; it is no web server at all.
sub raw_http {
    my ($code) = @_;
    my $listener = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1', Listen => 8, ReuseAddr => 1) or die $!;
    my $pid = Private::spawn(code => sub {
        alarm 60;
        while (my $socket = $listener->accept) {
            my $request = '';
            sysread $socket, $request, 4096, length $request
                until $request =~ /\r\n\r\n/;
            $code->(FcgiWire->new($socket), $request);
        }
    });
    return ($listener->sockport, $pid);
}

sub answer_to {
    my ($bytes, %opt) = @_;
    my ($port, $pid) = raw_http(sub {
        my ($wire) = @_;
        $wire->send($bytes);
        return $opt{reset} ? $wire->reset : $wire->close;
    });
    my $method = $opt{method} || 'GET';
    my $answer = Client->request($port, "$method / HTTP/1.1\r\n\r\n");
    Private::end($pid, 'KILL');
    return $answer;
}

my $OK = "HTTP/1.1 200 OK\r\n";
my $CHUNKED = "${OK}Transfer-Encoding: chunked\r\n\r\n";

subtest 'complete answers' => sub {
    my $answer = answer_to("${OK}X: a\r\nx:b\r\nContent-Length: 3\r\n\r\nabc");
    ok($answer->complete, 'Content-Length reached');
    is($answer->status, 200);
    is($answer->reason, 'OK');
    is($answer->body, 'abc');
    is($answer->header('x'), 'a', 'the first header of a name');
    is_deeply([$answer->header_all('X')], [qw(a b)], 'all of them');

    $answer = answer_to("${CHUNKED}3\r\nabc\r\n2;x\r\nde\r\n0\r\n"
                        . "T: u\r\n\r\n");
    ok($answer->complete, 'last chunk');
    is($answer->body, 'abcde');
    is_deeply($answer->trailers, [[qw(T u)]]);

    $answer = answer_to("${OK}\r\nto the end");
    ok($answer->complete, 'until the end of the connection');
    is($answer->body, 'to the end');

    $answer = answer_to("${OK}Content-Length: 9\r\n\r\n", method => 'HEAD');
    ok($answer->complete, 'HEAD has no body');
    ok(answer_to("HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n")->complete,
       '304 has none');

    $answer = answer_to("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
                        . "${OK}Content-Length: 0\r\n\r\n");
    is($answer->status, 200, 'the answer after an interim one');
    is_deeply($answer->interim,
              [{ status => 103, headers => [[qw(Link x)]] }]);
};

subtest 'cut answers' => sub {
    my %cut = (
        'short of Content-Length' => "${OK}Content-Length: 4\r\n\r\nabc",
        'no last chunk' => "${CHUNKED}3\r\nabc\r\n",
        'within a chunk' => "${CHUNKED}4\r\nabc",
        'after the last chunk size' => "${CHUNKED}3\r\nabc\r\n0\r\n",
        'within the headers' => "${OK}Content-Length: 0\r\n",
        'nothing at all' => '',
    );
    for my $name (sort keys %cut) {
        my $answer = answer_to($cut{$name});
        ok(!$answer->complete, $name);
        is($answer->error, 'closed', 'why');
    }
    is(answer_to("${CHUNKED}4\r\nabc")->body, 'abc', 'what came is there');
    my $answer = answer_to("${OK}\r\nabc", reset => 1);
    ok(!$answer->complete && $answer->reset, 'reset');
    $answer = answer_to("${CHUNKED}xyz\r\nabc");
    ok(!$answer->complete, 'no chunk size');
    is($answer->error, 'malformed');
};

subtest 'waiting and pipelining' => sub {
    my ($port, $pid) = raw_http(sub {
        my ($wire, $request) = @_;
        $wire->send("${OK}Content-Length: 1\r\n\r\n1" x 2);
        $wire->wait_eof(5) if $request =~ /wait/;
    });
    my $conn = Client->connect($port);
    $conn->send("GET /wait HTTP/1.1\r\n\r\n");
    ok($conn->read_until(qr/1/, 5), 'read_until sees the body');
    ok($conn->read_response->complete, 'first answer') for 1 .. 2;
    ok(!$conn->at_eof(0.05), 'the connection is open');
    my $none = $conn->read_response(timeout => 0.05);
    ok($none->timed_out && !$none->complete, 'no third answer');
    $conn->close;
    $conn = Client->connect($port);
    $conn->send("GET /close HTTP/1.1\r\n\r\n");
    $conn->read_response for 1 .. 2;
    ok($conn->at_eof(5), 'the connection is closed');
    Private::end($pid, 'KILL');
};

for my $transport (qw(unix tcp)) {
    subtest "scripted application over $transport" => sub {
        my $app = FcgiApp->start(\&FcgiApp::echo_params,
                                 transport => $transport);
        my $body = join '', map { chr } 0 .. 255;
        my $answer = FcgiClient::request($app->address, {
            LONG => 'x' x 300, EMPTY => '', NEWLINE => "a\nb\\",
        }, $body);
        ok($answer->{complete}, 'END_REQUEST came');
        like($answer->{stdout}, qr/^LONG=x{300}$/m, 'a long value');
        like($answer->{stdout}, qr/^EMPTY=$/m, 'an empty value');
        like($answer->{stdout}, qr/^NEWLINE=a\\nb\\\\$/m, 'escaped');
        like($answer->{stdout}, qr/\n\n\Q$body\E\z/, 'every byte of a body');
        is($app->connections, 1, 'connections are counted');

        my $big = 'z' x 1_000_000;
        $answer = FcgiClient::request($app->address, {}, $big);
        is(length(($answer->{stdout} =~ /\n\n(z+)\z/)[0]), 1_000_000,
           'a body of many records');

        $app->stop;
        ok(!FcgiClient::connect($app->address), 'refused when stopped');
        $app->restart;
        ok(FcgiClient::request($app->address, {})->{complete}, 'restarted');
    };
}

subtest 'scripted application: reports and releases' => sub {
    my $app = FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request;
        $c->report(seen => { number => $c->number, %$request });
        $c->stdout('one', chunk => 1, padding => 7);
        $c->wait_release('go', 5) or die "not released\n";
        $c->stderr('two');
        $c->reply('three');
        $c->report(closed => $c->wait_eof(5));
    });
    my $wire = FcgiClient::connect($app->address);
    FcgiClient::send_request($wire, { A => 'b' }, 'body', FCGI_KEEP_CONN);
    my $seen = $app->wait_report('seen', 5);
    is($seen->{params}{A}, 'b', 'variables');
    is($seen->{stdin}, 'body', 'request body');
    is($seen->{flags}, FCGI_KEEP_CONN, 'flags');
    ok($seen->{stdin_complete} && !$seen->{aborted}, 'to its end');
    is($seen->{number}, 1, 'number of the connection');
    my @records = map { $wire->read_record(5) } 1 .. 3;
    is(join('', map { $_->{content} } @records), 'one', 'in small records');
    is(length $records[0]{padding}, 7, 'with padding');
    ok(!$wire->readable(0.05), 'it waits for the release');
    $app->release('go');
    my $answer = FcgiClient::read_answer($wire);
    is_deeply($answer, { stdout => 'three', stderr => 'two', complete => 1,
                         app_status => 0, protocol_status => 0 }, 'the rest');
    my $later = FcgiApp->start(\&FcgiApp::echo_params);
    $wire->close;
    is($app->wait_report('closed', 5), 1,
       'the peer closed, and no other application holds its socket');
    is($app->wait_report('never', 0.02), undef, 'a report that never comes');
    is(scalar(my @all = $app->reports), 2, 'all reports');
};

subtest 'scripted application: misbehaviour' => sub {
    my %wrong = (
        close => sub { $_[0]->close },
        reset => sub { $_[0]->reset },
        cut   => sub {
            $_[0]->send(substr $_[0]->record(FCGI_STDOUT, 1, 'abc'), 0, 9);
        },
    );
    my $app = FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request;
        die "last words\n" if $request->{aborted};
        $wrong{ $request->{params}{HOW} }->($c);
    }, transport => 'tcp');
    for my $how (sort keys %wrong) {
        my $wire = FcgiClient::connect($app->address);
        FcgiClient::send_request($wire, { HOW => $how });
        ok(!FcgiClient::read_answer($wire)->{complete}, $how);
        is(!!$wire->{reset}, $how eq 'reset', 'reset or not');
    }
    my $wire = FcgiClient::connect($app->address);
    $wire->send($wire->record(FCGI_BEGIN_REQUEST, 1, pack 'nCx5', 1, 0)
                . $wire->record(FCGI_ABORT_REQUEST, 1));
    ok($wire->wait_eof(5), 'a dying handler closes');
    is($app->wait_report('died', 5), "last words\n", 'its last words');
};

subtest 'scripted application: workers and backlog' => sub {
    my $app = FcgiApp->start(sub {
        my ($c) = @_;
        $c->report(pid => $$);
        $c->wait_release('all', 5);
        $c->reply('x') if $c->read_request;
    }, workers => 2);
    my @wires = map { FcgiClient::connect($app->address) } 1 .. 3;
    FcgiClient::send_request($_, {}) for @wires;
    isnt($app->wait_report('pid', 5), $app->wait_report('pid', 5),
         'two at a time');
    is($app->wait_report('pid', 0.05), undef, 'the third waits');
    is($app->connections, 2);
    $app->release('all');
    ok(FcgiClient::read_answer($_)->{complete}, 'answered') for @wires;
    is($app->connections, 3);

    $app->pause;
    my $wire = FcgiClient::connect($app->address);
    FcgiClient::send_request($wire, {});
    ok(!$wire->readable(0.05), 'paused');
    $app->resume;
    ok(FcgiClient::read_answer($wire)->{complete}, 'resumed');

    my $deaf = FcgiApp->start(undef, transport => 'unix', workers => 0);
    $wire = FcgiClient::connect($deaf->address);
    ok($wire && !$wire->readable(0.05), 'listens and never accepts');
    $deaf->stop(keep_file => 1);
    ok(-S $deaf->address && !FcgiClient::connect($deaf->address),
       'a socket that nobody listens on');
};

subtest 'httpd of its own, ' . Httpd::mpm() => sub {
    my %both = (module => 0, files => { 'a.txt' => "on \@PORT\@\n" });
    my $httpd = Httpd->start(%both, vars => { WHERE => '/b' },
                             config => 'Alias @WHERE@ @DOCROOT@/a.txt');
    my $other = Httpd->start(%both);
    for my $server ($httpd, $other) {
        my $answer = Client->get($server->port, '/a.txt');
        is($answer->status, 200);
        is($answer->body, 'on ' . $server->port . "\n", 'its own file');
        ok($answer->complete);
    }
    is(Client->get($httpd->port, '/b')->status, 200, 'config');
    is(Client->get($other->port, '/b')->status, 404, 'of one server only');
    $httpd->write('sub/new.txt', 'new');
    is(Client->get($httpd->port, '/sub/new.txt')->body, 'new', 'a new file');
    ok($httpd->wait_for_access(qr{GET /sub/new.txt}, 5), 'access log');
    ok(scalar $httpd->pids, 'it has children');
    $httpd->graceful;
    is(Client->get($httpd->port, '/b')->status, 200, 'after a reload');
    my $root = $httpd->root;
    $_->ok_healthy for $httpd, $other;
    ok(!eval { Client->connect($httpd->port) }, 'stopped');
    undef $httpd;
    ok(!-e $root, 'its directory is gone');
};

subtest 'httpd: TLS and HTTP/2' => sub {
    plan skip_all => 'no HTTP/2 on prefork' if Httpd::mpm() eq 'prefork';
    my $httpd = Httpd->start(module => 0, tls => 1, http2 => 1,
                             files => { 'a.txt' => 'secret' });
    my $answer = Client::curl('--http2-prior-knowledge',
                              'http://127.0.0.1:' . $httpd->port . '/a.txt');
    is_deeply([@$answer{qw(exit status http_version body stderr)}],
              [0, 200, 2, 'secret', ''], 'h2c');
    $answer = Client::curl('-k', '--http2',
                           'https://127.0.0.1:' . $httpd->tls_port . '/a.txt');
    is_deeply([@$answer{qw(exit status http_version body stderr)}],
              [0, 200, 2, 'secret', ''], 'h2');
    $httpd->ok_healthy;
    $answer = Client::curl('http://127.0.0.1:' . $httpd->port . '/');
    is($answer->{exit}, 7, 'refused');
    like($answer->{stderr}, qr/connect/, 'with words');
};

subtest 'httpd: bad configuration and crashes' => sub {
    my ($status, $output) = Httpd->configtest(config => 'Nonsense on',
                                              module => 0);
    isnt($status, 0, 'refused');
    like($output, qr/Nonsense/, 'and said why');
    ($status) = Httpd->configtest(module => 0);
    is($status, 0, 'accepted');
    ok(!eval { Httpd->start(module => 0, config => 'Nonsense on') }, 'start');
    like($@, qr/Nonsense/, 'dies with the reason');

    my $httpd = Httpd->start(module => 0);
    kill 'SEGV', ($httpd->pids)[0];
    ok($httpd->wait_for_log(qr/exit signal/, 10), 'a crash is in the log');
    ok(!$httpd->healthy, 'and not healthy');
};

for my $transport (qw(unix tcp)) {
    subtest "php-fpm over $transport" => sub {
        plan skip_all => 'no php-fpm here' if !PhpFpm::program();
        my $php = PhpFpm->start(transport => $transport, children => 1,
                                ini => { memory_limit => '42M' });
        my $dir = Private::temp_dir('script');
        my $script = Private::spew("$dir/a.php", '<?php echo '
            . 'ini_get("memory_limit"), file_get_contents("php://input");');
        my %params = (SCRIPT_FILENAME => $script, REQUEST_METHOD => 'POST');
        for (1 .. 2) {
            my $answer = FcgiClient::request($php->address, \%params, 'body');
            ok($answer->{complete});
            like($answer->{stdout}, qr/42Mbody\z/);
            $php->reload if $_ == 1;
        }
        is($php->status->{'total processes'}, 1, 'status');
        $php->stop;
        ok(!FcgiClient::connect($php->address), 'stopped');
    };
}

# A client that does not read keeps a graceful stop waiting.
subtest 'httpd: what happens after a TERM' => sub {
    my $httpd = Httpd->start(files => { 'large' => 'x' x 20_000_000 });
    my $say = sub {
        open my $log, '>>', $httpd->root . '/logs/error.log' or die $!;
        print $log "$_[0]\n";
    };
    my $conn = Client->connect($httpd->port, rcvbuf => 4096);
    $conn->send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    ok($conn->read_until(qr/200 OK/), 'it is being sent');
    $httpd->stop_gracefully;
    $say->('child pid 1 exit signal Segmentation fault (11)');
    ok($httpd->healthy, 'a crash then is not the module\'s');
    $say->('AddressSanitizer');
    ok(!$httpd->healthy, 'what a sanitizer says is');
};

subtest 'Django' => sub {
    my $missing = Django::missing();
    plan skip_all => "no $missing here" if $missing;
    my $django = Django->start;
    my $ask = sub {
        my ($path, %more) = @_;
        return FcgiClient::request($django->address, {
            SCRIPT_NAME => '/site', PATH_INFO => $path, SERVER_NAME => 'x',
            SERVER_PORT => 80, REQUEST_URI => "/site$path", HTTP_HOST => 'x',
            %more }, $more{BODY})->{stdout};
    };
    like($ask->('/'), qr/\r\n\r\nhello\n\z/, 'home');
    like($ask->('/go/'), qr{^Location: /site/named/after%20go/}m, 'redirect');
    like($ask->('/named/x/'), qr{\nx\n/site/named/x/\n\z}, 'reverse()');
    my $echo = $ask->('/echo/', REQUEST_METHOD => 'POST', BODY => 'a=b',
                      CONTENT_TYPE => 'application/x-www-form-urlencoded');
    like($echo, qr{"script_name": "/site"}, 'mounted');
    like($echo, qr{"post": \{"a": \["b"\]\}}, 'form');
    like($ask->('/admin/login/'), qr/csrfmiddlewaretoken/, 'admin');
};

# Another test, which starts everything and then ends in some way.  Returns
# its pid, the processes it started and a function that waits for its end.
sub short_test {
    my ($end) = @_;
    my $pid = open my $output, '-|', $^X, "-I$Bin/lib", '-e', <<"EOC";
        use Httpd; use FcgiApp; use PhpFpm;
        my \$httpd = Httpd->start(module => 0);
        our \$app = FcgiApp->start(\\&FcgiApp::echo_params, workers => 2,
            transport => 'unix', socket => "/tmp/fcgi-own-\$\$-socket");
        my \$php = PhpFpm::program() ? PhpFpm->start : undef;
        \$| = 1;
        print join(' ', \$httpd->pid, \$httpd->pids, \@{ \$app->{pids} },
                   \$php ? \$php->{pid} : ()), "\\n";
        close STDERR;
        $end;
EOC
    my @pids = split ' ', <$output>;
    return ($pid, \@pids, sub { local $?; close $output });
}

for my $end ('die', 'exit', 'kill TERM => $$; sleep 9',
             'pipe my $r, STDOUT; close $r; print 1 or die; sleep 9',
             'kill KILL => $$; sleep 9') {
    subtest "a test that ends with: $end" => sub {
        my ($pid, $started, $wait) = short_test($end);
        cmp_ok(scalar @$started, '>=', 4, 'its processes ran');
        $wait->();
        ok(Private::wait_until(5, sub { !grep { kill 0, $_ } @$started }),
           'and are gone');
        my @left = glob "/tmp/fcgi-*-$pid-*";
        is_deeply(\@left, [], 'no file is left') if $end !~ /KILL/;
        system 'rm', '-rf', @left if @left;
    };
}

done_testing;
