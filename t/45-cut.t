# An answer that breaks off is a 502, or is cut so that every client sees it.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use Private;
use Test::More;

my $SOON = 1;           # seconds
my $TYPE = "Content-Type: text/plain\r\n";
my $ETAG = "ETag: \"abc\"\r\n";
my $H2 = Httpd::mpm() ne 'prefork';

my %break = (
    close   => sub { $_[0]->close },
    reset   => sub { $_[0]->reset },
    garbage => sub {
        $_[0]->send('no record at all' x 9);
        $_[0]->wait_eof(5);
    },
    version => sub {
        $_[0]->send($_[0]->record(FCGI_STDOUT, 1, 'y', 0, 2));
        $_[0]->wait_eof(5);
    },
    record  => sub {
        $_[0]->send(substr $_[0]->record(FCGI_STDOUT, 1, 'y' x 99), 0, 50);
        $_[0]->close;
    },
    end     => sub {
        $_[0]->send(substr $_[0]->end_record, 0, 12);
        $_[0]->close;
    },
    overloaded => sub { $_[0]->end(0, FCGI_OVERLOADED) },
    unknown    => sub { $_[0]->end(0, 77) },
);
my @ways = sort keys %break;

my %head = (
    chunked => "$TYPE\r\n",
    length  => "${TYPE}Content-Length: 200\r\n\r\n",
    cached  => "${TYPE}Cache-Control: max-age=600\r\n\r\n",
);

# What it says before it breaks off, with the headers or without their end.
my %before = (
    none => '',
    part => "${TYPE}X-Part: never seen\r\n",
    redirect => "Location: /plain.txt\r\n\r\n",
    unwanted => "${TYPE}${ETAG}X-Part: never seen\r\n\r\n",
);

# /app/BEFORE/WAY, or /app/HEAD/WAY/ID: headers, 100 bytes, and once ID is
# released, the break.
sub application {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my (undef, $head, $way, $id) = split m{/}, $request->{params}{PATH_INFO};
    if ($head eq 'params') {
        $c->report(request => $request);
        return $c->reply("$TYPE\r\n(included)");
    }
    return $c->reply("$head{$head}" . 'z' x 100) if $way eq 'whole';
    if ($head{$head}) {
        $c->stdout($head{$head} . ($id =~ /empty/ ? '' : 'x' x 100));
        $id =~ /now/ or $c->wait_release($id) or die "$id not released\n";
        $c->stdout('y' x 50, chunk => 9) if $id =~ /more/;
    }
    elsif ($before{$head} ne '') {
        $c->stdout($before{$head});
    }
    return $break{$way}->($c);
}

# A page with another request in it, from an application that does not read
# the body of its own.
my $page = FcgiApp->start(sub {
    my ($c) = @_;
    $c->read_params or return;
    $c->reply("Content-Type: text/html\r\n\r\n"
              . 'a <!--#include virtual="/app/params" --> b');
});

my %app = map { $_ => FcgiApp->start(\&application, workers => 4,
                                     transport => $_) } qw(unix tcp);
my $default = $app{ $ENV{TRANSPORT} || 'unix' };

# A unix socket knows no reset.
sub path_for { return $_[0] eq 'reset' ? '/tcp' : '/app' }

my %vars = (APP => $default->handler, TCP => $app{tcp}->handler,
            PAGE => $page->handler);
my $LOCATIONS = <<'EOC';
<Location /app>
  SetHandler @APP@
</Location>
<Location /tcp>
  SetHandler @TCP@
</Location>
<Location /page>
  SetHandler @PAGE@
  FcgiRequestBuffering Off
  SetOutputFilter INCLUDES
</Location>
EOC

my $httpd = Httpd->start(
    vars => \%vars, tls => 1, http2 => $H2,
    modules => [qw(include cache cache_disk deflate)],
    files => {
        'errors/502.html' => "the site's own 502\n",
        'errors/503.html' => "the site's own 503\n",
        'plain.txt' => 'a file',
        'parent.shtml' => "before\n<!--#include virtual=\"/app/chunked/close/"
            . "parent\" -->\nafter\n",
        'post.shtml' => 'a <!--#include virtual="/app/params" --> b',
    },
    config => $LOCATIONS . <<'EOC');
ErrorDocument 502 /errors/502.html
ErrorDocument 503 /errors/503.html
AddType text/html .shtml
AddOutputFilter INCLUDES .shtml
<Directory @DOCROOT@>
  Options +Includes
</Directory>
<Location /app/chunked/close/deflated>
  SetOutputFilter DEFLATE
</Location>
CacheRoot @ROOT@/tmp
CacheEnable disk /app/cached
EOC

subtest 'before the headers: 502' => sub {
    for my $how (map { my $way = $_; map { [$_, $way] }
                       qw(none part redirect) } @ways) {
        my ($head, $way) = @$how;
        my $status = $way eq 'overloaded' ? 503 : 502;
        my $answer = Client->get($httpd->port,
                                 path_for($way) . "/$head/$way");
        is_deeply([@$answer{qw(status body complete)}],
                  [$status, "the site's own $status\n", 1], "$head, $way");
        unlike($answer->raw, qr/X-Part/);
    }
};

subtest 'before a body that nobody wants: 502' => sub {
    for my $way (@ways) {
        my $path = path_for($way) . "/unwanted/$way";
        my $status = $way eq 'overloaded' ? 503 : 502;
        my %fields = (HEAD => '', GET => "If-None-Match: \"abc\"\r\n");
        for my $method (sort keys %fields) {
            my $answer = Client->request(
                $httpd->port, "$method $path HTTP/1.1\r\nHost: x\r\n"
                . "Connection: close\r\n$fields{$method}\r\n");
            is_deeply([@$answer{qw(status complete)}], [$status, 1],
                      "$method, $way");
            is($answer->header('X-Part'), undef, 'none of its headers');
        }
    }
};

# A raw request whose answer breaks off after 100 bytes that have arrived.
sub cut_answer {
    my ($path, $id, $request) = @_;
    my $conn = Client->connect($httpd->port);
    $conn->send("GET $path HTTP/1.1\r\nHost: x\r\n\r\n" =~ s/1\.1/$request/r);
    my $seen = $id =~ /empty/ ? qr/\r\n\r\n/ : qr/x{100}/;
    ok($conn->read_until($seen, 5), "$path: its beginning");
    $_->release($id) for values %app;
    return ($conn, $conn->read_response(timeout => $SOON));
}

# The lines of the access log about these that have no X for %X.
sub not_aborted {
    my (@paths) = @_;
    my @lines = map {
        $httpd->wait_for_access(qr{GET \Q$_\E }, 5);
        $httpd->access_log =~ m{^(.* "GET \Q$_\E [^"]*" .*)}m;
    } @paths;
    return grep { !/" 200 \d+ X / } @lines;
}

my %version = (
    'HTTP/1.1' => '1.1',
    'HTTP/1.0' => '1.0',
    'HTTP/1.0, keep-alive' => "1.0\r\nConnection: keep-alive",
    'HTTP/1.1, close' => "1.1\r\nConnection: close",
);
my $id = 0;

for my $version (sort keys %version) {
    for my $head (qw(chunked length)) {
        subtest "after the headers, $version, $head" => sub {
            my $by_reset = $version =~ /1\.0/ && $head eq 'chunked';
            my @paths;
            for my $way (@ways, 'close empty', 'close more', 'close now') {
                next if $by_reset && $way =~ /now/; # it may overtake bytes
                my ($how, $more) = split ' ', $way;
                my $name = ($more // '') . ++$id;
                my $path = path_for($how) . "/$head/$how/$name";
                my ($conn, $answer) = cut_answer($path, $name,
                                                 $version{$version});
                is($answer->status, 200);
                ok(!$answer->complete, 'the client sees that it is cut');
                is($answer->error, $by_reset ? 'reset' : 'closed', 'and how');
                ok($conn->at_eof($SOON), 'its connection is closed');
                push @paths, $path;
                my @lines = $httpd->error_log =~ /^.*FCGI0[3467].*$/mg;
                like($lines[-1], qr/FCGI0[3467]/, 'one log line');
            }
            is_deeply([not_aborted(@paths)], [], 'the access log says X');
        };
    }
}

subtest 'every cut has one log line' => sub {
    my @lines = $httpd->error_log =~ /^.*FCGI(?!26|36)\d\d.*$/mg;
    is(scalar @lines, 5 * @ways + $id, 'all before');
    is(scalar(grep { /in phase body/ } @lines), $id + 3 * @ways,
       'the phase (a redirect has its headers, too)');
    is(scalar(grep { /FCGI0[3467]: \S+: .* in phase/ } @lines),
       scalar @lines, 'their number');
};

# curl in the background; what it has so far is in files of its directory.
sub start_curl {
    my ($url, @args) = @_;
    my $dir = Private::temp_dir('curl');
    my $pid = Private::spawn(log => "$dir/log", exec => [
        'curl', '-q', '-sSNk', '-o', "$dir/body", '-D', "$dir/head",
        '-w', 'exit=%{exitcode} version=%{http_version}', '--max-time', 20,
        @args, $url]);
    return { dir => $dir, pid => $pid };
}

# An answer with a length or chunks lacks its end (18); over TLS later ones of
# curl see first that the connection does (56).
my $LACKS_ITS_END = '18|56';

my %curl = (
    'HTTP/1.1 over TLS' => [1, $LACKS_ITS_END, '1.1', '--http1.1'],
    'HTTP/1.0 over TLS' => [1, 56, '1.1', qw(--http1.0 --no-alpn)],
    $H2 ? ('HTTP/2' => [0, 92, '2', '--http2-prior-knowledge'],
           'HTTP/2 over TLS' => [1, 92, '2', '--http2']) : (),
);

for my $client (sort keys %curl) {
    my ($tls, $exit, $version, @args) = @{ $curl{$client} };
    my $base = $tls ? 'https://127.0.0.1:' . $httpd->tls_port
        : 'http://127.0.0.1:' . $httpd->port;
    subtest "after the headers, $client" => sub {
        my @paths = map { cut_curl($base, path_for($_) . "/chunked/$_",
                                   $exit, $version, @args) }
            $version eq '2' && !Httpd::h2_shows_cuts() ? () : @ways;
        push @paths, cut_curl($base, '/app/length/close',
                              $exit eq '92' ? 92 : $LACKS_ITS_END, $version,
                              @args);
        is_deeply([not_aborted(@paths)], [], 'the access log says X');
    };
}

sub cut_curl {
    my ($base, $path, $exit, $version, @args) = @_;
    my $name = ++$id;
    my $curl = start_curl("$base$path/$name", @args);
    ok(Private::wait_until(5, sub { -s "$curl->{dir}/body" }),
       "$path: its beginning");
    $_->release($name) for values %app;
    ok(Private::wait_until($SOON, sub { !Private::alive($curl->{pid}) }),
       'over within the time');
    Private::end($curl->{pid}, 'KILL');
    like(Private::slurp("$curl->{dir}/log"),
         qr/\bexit=(?:$exit) version=$version\z/, 'curl knows it is cut');
    return "$path/$name";
}

subtest 'a compressed answer' => sub {
    my ($conn, $answer) = cut_deflated();
    is($answer->header('Content-Encoding'), 'gzip');
    ok(!$answer->complete, 'is cut, too');
    is($answer->error, 'closed');
    ok($conn->at_eof($SOON), 'its connection is closed');
};

sub cut_deflated {
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /app/chunked/close/deflated HTTP/1.1\r\nHost: x\r\n"
                . "Accept-Encoding: gzip\r\n\r\n");
    ok($conn->read_until(qr/\r\n\r\n/, 5), 'its beginning');
    $default->release('deflated');
    return ($conn, $conn->read_response(timeout => $SOON));
}

subtest 'a page that includes the answer' => sub {
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /parent.shtml HTTP/1.1\r\nHost: x\r\n\r\n");
    ok($conn->read_until(qr/before\n.*x{100}/s, 5), 'its beginning');
    $default->release('parent');
    my $answer = $conn->read_response(timeout => $SOON);
    is($answer->status, 200);
    like($answer->body, qr/before\nx{100}/);
    ok(!$answer->complete, 'is cut, too');
    is($answer->error, 'closed');
    ok($conn->at_eof($SOON), 'its connection is closed');
    is_deeply([not_aborted('/parent.shtml')], [], 'the access log says X');
};

subtest 'a subrequest has no body' => sub {
    my $conn = Client->connect($httpd->port);
    for my $way ("Content-Length: 3\r\n\r\nabc",
                 "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n") {
        $conn->send("POST /post.shtml HTTP/1.1\r\nHost: x\r\n"
                    . "Content-Type: text/plain\r\n$way");
        my $answer = $conn->read_response;
        is_deeply([@$answer{qw(status body complete)}],
                  [200, 'a (included) b', 1], 'the page');
        my $request = $default->wait_report('request');
        is($request->{params}{CONTENT_LENGTH} // 0, 0, 'no CONTENT_LENGTH');
        is($request->{params}{HTTP_TRANSFER_ENCODING}, undef, 'no coding');
        is($request->{stdin}, '', 'no body');
        ok($request->{stdin_complete}, 'and its end');
    }
};

subtest 'nor has it the rest of a body that was not read' => sub {
    my $conn = Client->connect($httpd->port);
    for my $time (1, 2) {
        $conn->send("POST /page HTTP/1.1\r\nHost: x\r\n"
                    . "Content-Length: 2000000\r\n\r\n" . 'b' x 2_000_000);
        my $answer = $conn->read_response;
        is_deeply([@$answer{qw(status body complete)}],
                  [200, 'a (included) b', 1], 'the page');
        is($default->wait_report('request')->{stdin}, '', 'no body');
    }
};

subtest 'a cache keeps nothing of it' => sub {
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /app/cached/close/c HTTP/1.1\r\nHost: x\r\n\r\n");
    ok($conn->read_until(qr/x{100}/, 5), 'its beginning');
    $default->release('c');
    ok(!$conn->read_response(timeout => $SOON)->complete, 'cut');
    my $before = $default->connections;
    ok(!Client->get($httpd->port, '/app/cached/close/c')->complete,
       'the next one, too') for 1 .. 2;
    is($default->connections - $before, 2, 'the application was asked again');
    $default->release('w');
    is(Client->get($httpd->port, '/app/cached/whole/w')->body,
       'z' x 100, 'a whole answer') for 1 .. 2;
    is($default->connections - $before, 3, 'is kept');
};

$httpd->ok_healthy;
done_testing;
