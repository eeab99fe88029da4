# A request body that breaks off never looks complete to the application.
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

my $HEAD = "Content-Type: text/plain\r\n\r\n";

# Reports what the request was and how it ended; answers if it was whole.
# In an echo each piece goes back at once; a talker says something all the
# time.
sub serve {
    my ($c) = @_;
    my $request = $c->read_params or return;
    my ($how) = $request->{params}{QUERY_STRING};
    my %seen = (stdin => '', complete => 0, aborted => 0,
                length => $request->{params}{CONTENT_LENGTH});
    $c->report(begun => 1);
    $c->stdout($HEAD) if $how ne 'quiet';
    while (my $record = $how eq 'talk' ? talk($c) : eval { $c->read_record }) {
        my ($type, $content) = @$record{qw(type content)};
        $seen{aborted} = 1 if $type == FCGI_ABORT_REQUEST;
        $seen{complete} = 1 if $type == FCGI_STDIN && $content eq '';
        $seen{stdin} .= $content if $type == FCGI_STDIN;
        $c->report(got => length $seen{stdin}) if $type == FCGI_STDIN;
        $c->stdout($content) if $how eq 'echo' && $content ne '';
        last if $seen{complete};
    }
    $seen{closed} = $c->{eof} ? 1 : 0;
    $c->report(ended => \%seen);
    return if !$seen{complete};
    return $how eq 'echo' ? $c->end : $c->reply("${HEAD}$seen{stdin}");
}

# The next record; until it comes there is another byte of the answer again and
# again, at most for ten seconds.
sub talk {
    my ($c) = @_;
    for (1 .. 50) {
        my $record;
        return $record if eval { $record = $c->read_record(0.2); 1 };
        $c->stdout('.');
    }
    return undef;
}

my $app = FcgiApp->start(\&serve, workers => 4);
my $httpd = Httpd->start(
    modules => ['reqtimeout'], vars => { APP => $app->handler },
    files => { '400.html' => 'page 400', '413.html' => 'page 413',
               '408.html' => 'page 408' },
    config => <<'EOC');
ErrorDocument 400 /400.html
ErrorDocument 408 /408.html
ErrorDocument 413 /413.html
FcgiRequestBuffering Off
RequestReadTimeout header=10 body=0
<LocationMatch "^/[a-z0-9-]+$">
  SetHandler @APP@
  FcgiTimeout 10
</LocationMatch>
<Location /held>
  FcgiRequestBuffering On
</Location>
<Location /small>
  LimitRequestBody 1000
</Location>
EOC

my $count = 0;

# Begins a POST; the body's first piece has reached the application when this
# returns.
sub begin {
    my ($how, $fields, $first, %opt) = @_;
    my $conn = Client->connect($opt{port} || $httpd->port);
    my $path = '/' . ($opt{path} || 'body-' . ++$count);
    $conn->{path} = $path;
    $conn->send("POST $path?$how HTTP/1.1\r\nHost: x\r\n$fields\r\n\r\n");
    $app->wait_report('begun') or die "the application was not asked\n";
    $conn->send($first);
    ok(wait_bytes(4), 'the first bytes are there');
    return $conn;
}

# Waits until the application has read so many bytes of the body.
sub wait_bytes {
    my ($bytes) = @_;
    while (my $got = $app->wait_report('got')) {
        return 1 if $got >= $bytes;
    }
    return 0;
}

# The application saw the request end without its whole body, which began
# with $stdin; of a piece with a bad end all or nothing may have been taken.
sub check_application {
    my ($stdin) = @_;
    my $seen = $app->wait_report('ended') or return fail('no end');
    ok(!$seen->{complete}, 'no empty STDIN record');
    ok($seen->{aborted} || $seen->{closed}, 'but an end of the request');
    is($seen->{stdin}, substr($stdin, 0, length $seen->{stdin}),
       'not a byte too many');
    return;
}

# The lines of the module in the log about a request, and its access log.
sub check_log {
    my ($path, $regex) = @_;
    my $line = qr{"POST \Q$path\E\?.* (\S+)$}m;
    $httpd->wait_for_access($line);
    my ($id) = $httpd->access_log =~ $line;
    my @lines = grep { /\[\Q$id\E\].*FCGI\d\d: / }
        split /\n/, $httpd->error_log;
    is(scalar(@lines), 1, 'one line in the log') or diag @lines;
    like($lines[0], $regex, 'about the client, at info');
    return;
}

my $BAD = qr/:info\].*FCGI08: .*bad request body/;
my $GONE = qr/:info\].*FCGI(?:08: .*bad request body|09: .*client gone)/;
my %fields = (
    length  => ['Content-Length: 10', 'abcd'],
    chunked => ['Transfer-Encoding: chunked', "4\r\nabcd\r\n"],
);

for my $coding (sort keys %fields) {
    for my $how (qw(quiet echo)) {
        subtest "the client goes away, $coding, $how" => sub {
            for my $way (qw(close reset)) {
                my $conn = begin($how, @{ $fields{$coding} });
                $conn->read_until(qr/abcd/) if $how eq 'echo';
                $conn->$way;
                check_application('abcd');
                check_log($conn->{path}, $GONE);
            }
        };

        subtest "the client stops sending, $coding, $how" => sub {
            my $conn = begin($how, @{ $fields{$coding} });
            $conn->shutdown_write;
            check_application('abcd');
            my $answer = $conn->read_response;
            ok($how eq 'echo' ? !$answer->complete
                   : $answer->status == 400 || $answer->raw eq '',
               'nothing that looks like an answer') or diag $answer->raw;
            isnt($answer->error // '', 'timeout', 'at once');
            check_log($conn->{path}, $GONE);
        };
    }
}

my %malformed = (
    'no size' => "xyz\r\nabcd\r\n",
    'a negative size' => "-1\r\n",
    'a size too large' => "fffffffffffffffff\r\n",
    'no line end after the piece' => "4\r\nefghXX\r\n0\r\n\r\n",
);

for my $name (sort keys %malformed) {
    subtest "a malformed chunk: $name" => sub {
        my $bytes = $malformed{$name};
        my $stdin = 'abcd' . ($bytes =~ /efgh/ ? 'efgh' : '');
        my $conn = begin('quiet', @{ $fields{chunked} });
        $conn->send($bytes);
        check_application($stdin);
        my $answer = $conn->read_response;
        my $status = $name =~ /large/ ? 413 : 400;
        is($answer->status, $status, 'the client is told');
        is($answer->body, "page $status", 'with ErrorDocument');
        ok($conn->at_eof, 'and the connection closed');
        check_log($conn->{path}, $BAD);

        $conn = begin('echo', @{ $fields{chunked} });
        ok($conn->read_until(qr/abcd/), 'an answer has begun');
        $conn->send($bytes);
        check_application($stdin);
        $answer = $conn->read_response;
        is($answer->status, 200, 'it was good so far');
        ok(!$answer->complete, 'it is cut') or diag $answer->raw;
        isnt($answer->error, 'timeout', 'and the connection closed');
        like('abcdefgh', qr/^\Q$answer->{body}\E/, 'nothing was added');
        check_log($conn->{path}, $BAD);
    };
}

subtest 'broken from the beginning' => sub {
    for my $name (sort keys %malformed) {
        my $answer = Client->request($httpd->port,
            "POST /body-0?quiet HTTP/1.1\r\nHost: x\r\n"
            . "Transfer-Encoding: chunked\r\n\r\n$malformed{$name}");
        is($answer->status, $name =~ /large/ ? 413 : 400, $name);
    }
    for my $fields ('Content-Length: 1x', 'Content-Length: -1',
                    "Content-Length: 1\r\nContent-Length: 2",
                    'Transfer-Encoding: gzip') {
        my $answer = Client->request($httpd->port,
            "POST /x?quiet HTTP/1.1\r\nHost: x\r\n$fields\r\n\r\nabcd");
        cmp_ok($answer->status, '>=', 400, $fields =~ s/\r\n/, /r);
    }
    ok(!grep({ $_->[0] eq 'ended' && $_->[1]{complete} } $app->reports),
       'never a complete body');
};

subtest 'LimitRequestBody' => sub {
    my $connections = $app->connections;
    my $answer = Client->request($httpd->port,
        "POST /small?quiet HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n"
        . "\r\n" . 'x' x 1001);
    is($answer->status, 413, 'declared');
    is($answer->body, 'page 413', 'with ErrorDocument');
    is($app->connections, $connections, 'the application is not asked');

    $answer = Client->request($httpd->port,
        "POST /small?quiet HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        . "\r\n" . 'x' x 1000);
    is($answer->body, 'x' x 1000, 'exactly the limit');
    $app->wait_report($_) for qw(begun ended);

    my $conn = begin('quiet', @{ $fields{chunked} }, path => 'small');
    $conn->send("400\r\n" . 'x' x 1024 . "\r\n");
    my $seen = $app->wait_report('ended');
    ok(!$seen->{complete}, 'no empty STDIN record');
    cmp_ok(length $seen->{stdin}, '<=', 1000, 'no more than the limit');
    $answer = $conn->read_response;
    is($answer->status, 413, 'in chunks');
    is($answer->body, 'page 413', 'with ErrorDocument');

    $conn = begin('echo', @{ $fields{chunked} }, path => 'small');
    ok($conn->read_until(qr/abcd/), 'in chunks, when an answer has begun');
    $conn->send("400\r\n" . 'x' x 1024 . "\r\n");
    ok(!$app->wait_report('ended')->{complete}, 'no empty STDIN record');
    $answer = $conn->read_response;
    ok(!$answer->complete && !$answer->timed_out, 'it is cut, at once');
    unlike($answer->body, qr/page/, 'nothing was added');
};

subtest 'RequestReadTimeout' => sub {
    my $slow = Httpd->start(
        modules => ['reqtimeout'], vars => { APP => $app->handler },
        config => <<'EOC');
RequestReadTimeout header=10 body=1
FcgiRequestBuffering Off
<Location />
  SetHandler @APP@
  FcgiTimeout 20
</Location>
EOC
    my $conn = begin('quiet', @{ $fields{length} }, port => $slow->port);
    check_application('abcd');
    is($conn->read_response->status, 408, 'a body that does not come');
    ok($conn->at_eof, 'ends the connection');

    $conn = begin('echo', @{ $fields{chunked} }, port => $slow->port);
    check_application('abcd');
    my $answer = $conn->read_response;
    ok(!$answer->complete && !$answer->timed_out, 'the begun answer is cut');
    is($answer->body, 'abcd', 'nothing was added');

    $conn = begin('talk', @{ $fields{length} }, port => $slow->port);
    my $seen = $app->wait_report('ended') || {};
    ok($seen->{aborted} || $seen->{closed},
       'it is looked at in the middle of an answer');
    $slow->ok_healthy;
};

subtest 'FcgiTimeout' => sub {
    my $slow = Httpd->start(
        vars => { APP => $app->handler }, config => <<'EOC');
<Location />
  SetHandler @APP@
  FcgiRequestBuffering Off
  FcgiTimeout 1
</Location>
EOC
    my $conn = begin('quiet', @{ $fields{length} }, port => $slow->port);
    check_application('abcd');
    is($conn->read_response->status, 408, 'it is the client that is late');
    like($slow->error_log, qr/:info\].*FCGI08: .*FcgiTimeout 1000 ms/,
         'and the log says so');
    $slow->ok_healthy;
};

subtest 'a body that is gathered first' => sub {
    my $connections = $app->connections;
    for my $name (sort keys %malformed) {
        my $answer = Client->request($httpd->port,
            "POST /held?quiet HTTP/1.1\r\nHost: x\r\n"
            . "Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n"
            . $malformed{$name});
        is($answer->status, $name =~ /large/ ? 413 : 400, $name);
    }
    for my $way (qw(close reset shutdown_write)) {
        for my $coding (sort keys %fields) {
            my ($field, $first) = @{ $fields{$coding} };
            my $conn = Client->connect($httpd->port);
            my $path = '/held?' . ++$count;
            $conn->send("POST $path HTTP/1.1\r\nHost: x\r\n$field\r\n\r\n"
                        . $first);
            $conn->$way;
            ok($httpd->wait_for_access(qr{"POST \Q$path\E }), "$coding, $way");
        }
    }
    is($app->connections, $connections, 'the application is never asked');
};

subtest 'a whole body, for comparison' => sub {
    my $conn = begin('quiet', @{ $fields{chunked} });
    $conn->send("2\r\nef\r\n0\r\n\r\n");
    is($conn->read_response->body, 'abcdef', 'is answered');
    my $seen = $app->wait_report('ended');
    ok($seen->{complete} && !$seen->{aborted}, 'with an empty STDIN record');
};

# Its page is asked for while the body is read, and may wait without a thread.
subtest 'refused by httpd, and the page is an application that takes its time' =>
    sub {
    my $pages = FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request or return;
        my $page = $request->{params}{QUERY_STRING};
        $c->report(asked => $page);
        select undef, undef, undef, 0.3;
        $c->reply("${HEAD}page $page") if $page ne 'dies';
    }, workers => 4);
    my $with_pages = Httpd->start(
        vars => { APP => $pages->handler },
        access_format => '%{X}i %>s %s %b', config => join '', <<'EOC',
FcgiRetry Off
ErrorDocument 500 /app?500
<Location /app>
  SetHandler @APP@
  LimitRequestBody 10
</Location>
EOC
            map { my $park = $_; map { <<"EOL" } qw(page dies) } qw(Off 50ms 0));
<Location /app/$park/$_>
  FcgiPark $park
  ErrorDocument 413 /app/page/$park?$_
  ErrorDocument 400 /app/page/$park?$_
</Location>
<Location /app/page/$park>
  FcgiPark $park
</Location>
EOL
    my %body = (
        'too large' => [413, "Content-Length: 20\r\n\r\n" . 'x' x 20],
        'too large, in chunks' =>
            [413, "Transfer-Encoding: chunked\r\n\r\n14\r\n" . 'x' x 20
                  . "\r\n0\r\n\r\n"],
        'a broken chunk' =>
            [400, "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"],
    );
    for my $park (qw(Off 50ms 0)) {
        for my $page (qw(page dies)) {
            for my $name (sort keys %body) {
                my ($status, $body) = @{ $body{$name} };
                my $label = "$name, FcgiPark $park, $page";
                my $x = $label =~ s/\W+/_/gr;
                my $answer = Client->request(
                    $with_pages->port, "POST /app/$park/$page HTTP/1.1\r\n"
                        . "Host: x\r\nConnection: close\r\nX: $x\r\n$body");
                is($answer->status, $status, $label);
                $with_pages->wait_for_access(qr/^$x /m);
                my ($logged) = $with_pages->access_log =~ /^$x (.*)/m;
                if ($page eq 'page') {
                    is($answer->body, 'page page', 'with its page');
                    is($logged, "$status $status 9", 'and so says the log');
                }
            }
        }
    }
    my @asked;
    while (defined(my $page = $pages->wait_report('asked', 0.1))) {
        push @asked, $page;
    }
    is("@asked", join(' ', (('page') x 3, ('dies') x 3) x 3),
       'no other page was asked for');
    $with_pages->ok_healthy;
};

$httpd->ok_healthy;
done_testing;
