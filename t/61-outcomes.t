# However an answer ends, the client sees the truth and the log has one line.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use PhpFpm;
use Private;
use Test::More;
use Time::HiRes qw(time);

my $HEAD = "Content-Type: text/plain\r\n\r\n";

# How an answer ends that is none: what is sent, and how the connection ends;
# then the status before the headers and what the log says.
my %end = (
    'end-alone' => {
        send => sub { $_[0]->end_record }, status => 502,
        log => qr/FCGI05: .*: bad headers in phase headers: no header/ },
    'headers-cut' => {
        send => sub {
            $_[0]->records(FCGI_STDOUT, 1, "X-Secret: SECRET\r\n")
                . $_[0]->end_record;
        },
        status => 502, log => qr/FCGI05: .*headers: the header block is cut/ },
    'overloaded' => {
        send => sub { $_[0]->end_record(0, FCGI_OVERLOADED) },
        status => 503, after => 1,
        log => qr/FCGI06: .*: overloaded in phase .* FCGI_OVERLOADED/ },
    'cant-mpx' => {
        send => sub { $_[0]->end_record(0, FCGI_CANT_MPX_CONN) },
        status => 503, after => 1,
        log => qr/FCGI06: .*: overloaded in phase .* FCGI_CANT_MPX_CONN/ },
    'unknown-role' => {
        send => sub { $_[0]->end_record(0, FCGI_UNKNOWN_ROLE) },
        status => 500, after => 1,
        log => qr/FCGI07: .*: unknown role in phase .* FCGI_UNKNOWN_ROLE/ },
    'unknown-status' => {
        send => sub { $_[0]->end_record(0, 4) }, status => 502, after => 1,
        log => qr/FCGI04: .*: not FastCGI in phase .*status 4/ },
    'eof' => {
        send => sub { '' }, how => 'close', status => 502, after => 1,
        log => qr/FCGI03: .*: broken answer in phase .* closed/ },
    'reset' => {
        send => sub { '' }, how => 'reset', status => 502, after => 1,
        log => qr/FCGI03: .*: broken answer in phase / },
    'eof-in-headers' => {
        send => sub { $_[0]->records(FCGI_STDOUT, 1, 'X-Secret: SECRET') },
        how => 'close', status => 502, log => qr/FCGI03: .*phase headers: / },
    'eof-in-record' => {
        send => sub {
            substr $_[0]->record(FCGI_STDOUT, 1, 'SECRET: ' . 'x' x 99), 0, 50;
        },
        how => 'close', status => 502, log => qr/FCGI03: .*phase headers: / },
    'eof-in-record-header' => {
        send => sub { substr $_[0]->end_record, 0, 7 }, how => 'close',
        status => 502, after => 1, log => qr/FCGI03: .*: broken answer/ },
    'no-fastcgi' => {
        send => sub { 'SECRET' }, status => 502, after => 1,
        log => qr/FCGI04: .*: not FastCGI in phase .*version 83/ },
    'end-short' => {
        send => sub { $_[0]->record(FCGI_END_REQUEST, 1, 'abc') },
        status => 502, after => 1, log => qr/FCGI04: .*: not FastCGI/ },
);

# Whole answers, and other stories.
my %story = (
    'no-page/here' => sub { $_[0]->end },
    'good' => sub { $_[0]->reply("${HEAD}good") },
    'at-once' => sub {
        my ($c) = @_;
        $c->stdout("${HEAD}first");
        return $c->close;
    },
    'at-once-empty' => sub {
        my ($c) = @_;
        $c->stdout($HEAD);
        return $c->close;
    },
    'stays-open' => sub {
        my ($c) = @_;
        $c->reply("${HEAD}whole");
        $c->report(closed => $c->wait_eof(5));
    },
    'says-more' => sub {
        my ($c) = @_;
        $c->send($c->records(FCGI_STDOUT, 1, "${HEAD}whole")
                 . $c->end_record . $c->records(FCGI_STDOUT, 1, 'SECRET')
                 . 'SECRET');
        $c->stdout('SECRET') for 1 .. 10;
    },
    'app-status' => sub {
        my ($c) = @_;
        $c->stdout("${HEAD}whole");
        $c->end(4_000_000_001);
    },
    'too-short' => sub {
        $_[0]->reply("Content-Length: 100\r\n${HEAD}first");
    },
    'cached-whole' => sub {
        $_[0]->reply("Cache-Control: max-age=99\r\n${HEAD}" . $_[0]->number);
    },
    map({ my $length = $_;
          ("cached-cut$length" => sub {
              my ($c) = @_;
              my $body = 'first ' . $c->number . "\n";
              my $head = "Cache-Control: max-age=99\r\n"
                  . ($length ? "Content-Length: 90\r\n" : '') . $HEAD;
              return $c->reply($head . $body . 'x' x (90 - length $body))
                  if $c->wait_release("cached-cut$length", 0);
              $c->stdout($head . $body);
              return $c->wait_release("cut$length", 10);
          }) } '', '-length'),
);

# The name of the story is the URL; VARIANT-after-NAME is an end of %end
# after a first piece of the body.
sub tell {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $name = substr $request->{params}{REQUEST_URI}, 1;
    return $story{$name}->($c) if $story{$name};
    my ($variant, $end) = $name =~ /^(?:(\w+)-after-)?(.*)/;
    my $sent = '';
    if ($variant) {
        my $length = $variant eq 'length' ? "Content-Length: 100\r\n" : '';
        $sent = $c->records(FCGI_STDOUT, 1, "$length${HEAD}first");
        $c->send($sent);
        $c->wait_release($name, 10);
    }
    my $bytes = $end{$end}{send}->($c);
    $c->report(bytes => [request_size($request), length $sent . $bytes]);
    $c->send($bytes);
    my $how = $end{$end}{how} || 'wait_eof';
    return $c->$how;
}

sub request_size {
    my ($request) = @_;
    my $size = 0;
    $size += 8 + length($_->{content}) + length $_->{padding}
        for @{ $request->{records} };
    return $size;
}

my $app = FcgiApp->start(\&tell, workers => 4);
my $php = PhpFpm::program() ? PhpFpm->start(children => 1) : undef;
my $nobody = Private::reserve_port();

my $httpd = Httpd->start(
    modules => [qw(cache cache_disk headers)],
    files => {
        (map { ("$_.html" => "the site's page $_") } 500, 502, 503, 504),
        'finish.php' => <<'EOP',
<?php
echo 'answer';
fastcgi_finish_request();
for ($i = 0; $i < 2000 && !file_exists($_GET['go']); $i++) {
    usleep(5000);
    clearstatcache();
}
file_put_contents($_GET['done'], 'worked on');
EOP
    },
    vars => {
        APP => $app->handler, NOBODY => 'fcgi:127.0.0.1:' . $nobody->sockport,
        PHP => $php ? $php->handler : 'None',
    },
    config => <<'EOC');
ErrorDocument 500 /500.html
ErrorDocument 502 /502.html
ErrorDocument 503 /503.html
ErrorDocument 504 /504.html
FcgiRetry Off
FcgiConnectTimeout 2
<LocationMatch "^/[a-z0-9-]+$">
  SetHandler @APP@
  FcgiTimeout 10
</LocationMatch>
<Location /nobody/>
  SetHandler @NOBODY@
  ErrorDocument 503 /nobody/page
</Location>
<Location /no-page/>
  SetHandler @APP@
  ErrorDocument 502 /end-alone
</Location>
<Files finish.php>
  SetHandler @PHP@
</Files>
CacheRoot @ROOT@/tmp
CacheQuickHandler off
CacheHeader on
<LocationMatch "^/cached-">
  CacheEnable disk
</LocationMatch>
EOC

# The access log's line of the one request for this URL, in its words.
sub access {
    my ($path) = @_;
    my $line = qr{"\w+ \Q$path\E[ ?][^"]*" (.*)$}m;
    $httpd->wait_for_access($line);
    return split ' ', ($httpd->access_log =~ $line)[0];
}

# What the module says in the error log of that request.
sub failures {
    my ($path) = @_;
    my $id = (access($path))[-1];
    return grep { /\[\Q$id\E\].*FCGI\d\d: / } split /\n/, $httpd->error_log;
}

# One line, with everything that is needed to know whom to ask.
sub check_line {
    my ($path, $log) = @_;
    my @lines = failures($path);
    is(scalar(@lines), 1, 'one line in the log') or diag @lines;
    like($lines[0], $log, 'with its id, the phase and the reason');
    like($lines[0], qr/ FCGI\d\d: \Q@{[ $app->handler ]}\E: /, 'the backend');
    my $bytes = $app->wait_report('bytes') // [-1, -1];
    my $numbers = "$bytes->[0] bytes to and $bytes->[1] bytes from the";
    like($lines[0], qr/\(after \d+ ms, $numbers application, try 1, /,
         'the time and the bytes');
    return;
}

subtest 'before the headers' => sub {
    for my $name (sort keys %end) {
        note $name;
        my $status = $end{$name}{status};
        my $answer = Client->get($httpd->port, "/$name");
        is($answer->status, $status, "$name: $status");
        is($answer->body, "the site's page $status", 'with ErrorDocument');
        is($answer->header('Content-Type'), 'text/html', 'and its type');
        ok($answer->complete, 'complete');
        is(!!$answer->header('Retry-After'), $status == 503,
           'Retry-After with 503 alone');
        unlike($answer->raw, qr/SECRET/, 'no raw bytes');
        check_line("/$name", $end{$name}{log});
    }
};

my %client = (
    chunked => "HTTP/1.1\r\nHost: x",
    length  => "HTTP/1.1\r\nHost: x",
    close   => "HTTP/1.1\r\nHost: x\r\nConnection: close",
    old     => 'HTTP/1.0',
    oldkeep => "HTTP/1.0\r\nConnection: keep-alive",
);

for my $variant (sort keys %client) {
    subtest "after the headers, $variant" => sub {
        for my $end (grep { $end{$_}{after} } sort keys %end) {
            my $name = "$variant-after-$end";
            my $conn = Client->connect($httpd->port);
            $conn->send("GET /$name $client{$variant}\r\n\r\n");
            ok($conn->read_until(qr/first/), "$end: the answer begins");
            $app->release($name);
            my $answer = $conn->read_response;
            is($answer->status, 200, 'it was good so far');
            ok(!$answer->complete, 'it is cut');
            isnt($answer->error, 'timeout', 'and the connection closed');
            ok($answer->reset, 'by a reset') if $variant =~ /old/;
            is($answer->body, 'first', 'nothing was added');
            check_line("/$name", $end{$end}{log});
        }
    };
}

subtest 'the access log shows a cut answer as one' => sub {
    for my $variant (sort keys %client) {
        is((access("/$variant-after-eof"))[2], 'X', "%X, $variant");
    }
};

subtest 'all at once' => sub {
    for my $name (qw(at-once at-once-empty too-short)) {
        for my $version ('1.1', '1.0') {
            my $answer = Client->request($httpd->port,
                "GET /$name HTTP/$version\r\nHost: x\r\n\r\n");
            ok(!($answer->complete && $answer->status == 200),
               "$name, HTTP/$version: no whole answer")
                or diag $answer->raw;
            isnt($answer->error // '', 'timeout', 'at once');
        }
        like((failures("/$name"))[0], qr/FCGI03: /, 'in the log');
    }
    my ($line) = failures('/too-short');
    like($line, qr/has 5 bytes, its Content-Length says 100/, 'and why');
};

subtest 'an ErrorDocument that needs the same application' => sub {
    my $from = time;
    my $answer = Client->get($httpd->port, '/nobody/here');
    is($answer->status, 503, 'refused');
    cmp_ok(time - $from, '<', 3.5, 'it was not waited for twice');
    ok($answer->complete && $answer->header('Retry-After'), 'an answer');
    my @lines = failures('/nobody/here');
    is(scalar(@lines), 1, 'one line in the log') or diag @lines;

    my $connections = $app->connections;
    $answer = Client->get($httpd->port, '/no-page/here');
    is($answer->status, 502, 'asked, and gave nothing');
    ok($answer->complete, 'an answer');
    is($app->connections, $connections + 2, 'it was asked once more');
};

subtest 'END_REQUEST ends the request' => sub {
    my $conn = Client->connect($httpd->port);
    for my $name (qw(stays-open says-more app-status good)) {
        $conn->send("GET /$name HTTP/1.1\r\nHost: x\r\n\r\n");
        my $answer = $conn->read_response(timeout => 5);
        ok($answer->complete, "$name: complete");
        is($answer->body, $name eq 'good' ? 'good' : 'whole', 'the answer');
        unlike($answer->raw, qr/SECRET/, 'and nothing else');
    }
    is($app->wait_report('closed'), 1, 'the open connection was closed');
    is(scalar(my @none = failures('/says-more')), 0, 'not worth a line');
    my @lines = failures('/app-status');
    like($lines[0], qr/:info\].*FCGI12: .* status 4000000001$/,
         'appStatus is logged');
    is(scalar(@lines), 1, 'once');
};

subtest 'PHP works on after fastcgi_finish_request()' => sub {
    plan skip_all => 'no php-fpm here' if !$php;
    my ($go, $done) = map { $httpd->root . "/tmp/$_" } qw(go done);
    my $answer = Client->get($httpd->port, "/finish.php?go=$go&done=$done");
    ok($answer->complete, 'the answer is complete');
    is($answer->body, 'answer');
    ok(!-e $done, 'before the script has ended');
    Private::spew($go, '');
    ok(Private::wait_until(10, sub { Private::slurp($done) }), 'it goes on');
};

subtest 'mod_cache' => sub {
    for my $length ('', '-length') {
        my $name = "cached-cut$length";
        my $conn = Client->connect($httpd->port);
        $conn->send("GET /$name HTTP/1.1\r\nHost: localhost:"
                    . $httpd->port . "\r\n\r\n");
        ok($conn->read_until(qr/first/), "$name: the answer begins");
        $app->release("cut$length");
        my $answer = $conn->read_response;
        ok($answer->status == 200 && !$answer->complete, 'it is cut');
        $app->release($name);
        $answer = Client->get($httpd->port, "/$name");
        like($answer->header('X-Cache'), qr/^MISS/, 'it is not in the cache');
        is(length $answer->body, 90, 'the next one is whole');
        my $again = Client->get($httpd->port, "/$name");
        is($again->body, $answer->body, 'and cached');
        like($again->header('X-Cache'), qr/^HIT/, 'really');
    }
    my $connections = $app->connections;
    my @bodies = map { Client->get($httpd->port, '/cached-whole')->body }
        1 .. 3;
    is($app->connections, $connections + 1, 'a whole answer is cached');
    is($bodies[2], $bodies[0], 'as it was');
};

$httpd->ok_healthy;
done_testing;
