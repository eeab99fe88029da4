# With FcgiRequestBuffering Off a body reaches the application as it comes.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use Errno qw(EAGAIN EINTR);
use FindBin qw($Bin);
use lib "$Bin/lib";
use Bytes;
use Client;
use FcgiApp;
use Httpd;
use IO::Handle;
use IO::Select;
use List::Util qw(min);
use PhpFpm;
use Private;
use Socket qw(MSG_NOSIGNAL);
use Test::More;
use Time::HiRes ();

my $MB = 1024 * 1024;
my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $CHUNKED = 'Transfer-Encoding: chunked';
my $H2 = Httpd::mpm() ne 'prefork';

# What the application does once it has the variables: by the URL's end, and
# with the number of the request in the name of each report.
my %story = (
    pieces => sub {
        my ($c, $id) = @_;
        my ($body, $end) = ('', 'closed');
        while (my $record = $c->read_record(30)) {
            $end = 'aborted' if $record->{type} == FCGI_ABORT_REQUEST;
            next if $record->{type} != FCGI_STDIN;
            $end = 'complete' if $record->{content} eq '';
            last if $end eq 'complete';
            $body .= $record->{content};
            $c->report("piece$id" => length $body);
        }
        $c->report("end$id" => [$end, length $body, md5_hex($body)]);
        $c->reply("${HEAD}done") if $end eq 'complete';
    },
    refuse => sub {
        my ($c, $id) = @_;
        $c->wait_release("refuse$id", 10);
        $c->reply("Status: 413 Too Large\r\n${HEAD}too much");
        $c->wait_eof(10);
    },
    echo => sub {
        my ($c) = @_;
        $c->stdout($HEAD);
        while (my $record = $c->read_record(30)) {
            next if $record->{type} != FCGI_STDIN;
            return $c->end if $record->{content} eq '';
            $c->stdout($record->{content}) or return;
        }
    },
    deaf => sub {
        my ($c) = @_;
        $c->wait_release('listen', 20);
        my $length = 0;
        while (my $record = $c->read_record) {
            next if $record->{type} != FCGI_STDIN;
            last if $record->{content} eq '';
            $length += length $record->{content};
        }
        $c->reply($HEAD . $length);
    },
);

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_params(30) or return;
    my ($name, $id) = $request->{params}{REQUEST_URI} =~ m{(\w+)\?(\d+)$};
    $c->report("params$id" => $request->{params});
    $story{$name}->($c, $id);
}, workers => 4);

my $php = PhpFpm::program() ? PhpFpm->start : undef;
my $spool = Private::temp_dir('spool');
chmod 01777, $spool;

my $httpd = Httpd->start(
    http2 => $H2, modules => ['reqtimeout'],
    files => { 'body.php' => <<'EOP' },
<?php
$body = file_get_contents('php://input');
echo strlen($body), ' ', md5($body), ' ', $_SERVER['CONTENT_LENGTH'] ?? '-';
EOP
    vars => {
        APP => $app->handler, SPOOL => $spool,
        PHP => $php ? $php->handler : 'None',
    },
    config => <<'EOC');
RequestReadTimeout handshake=0 header=0 body=0
FcgiBufferDir @SPOOL@
<Location /held>
  SetHandler @APP@
</Location>
<Location /streamed>
  SetHandler @APP@
  FcgiRequestBuffering Off
</Location>
<Location /streamed/little/>
  FcgiBufferMemory 1K
  FcgiBufferMax 100K
</Location>
<Location /streamed/limit/>
  LimitRequestBody 100000
</Location>
<Location /held/again/>
  FcgiRequestBuffering Off
</Location>
<Location /held/again/held/>
  FcgiRequestBuffering On
</Location>
<Files *.php>
  SetHandler @PHP@
  FcgiRequestBuffering Off
</Files>
EOC

sub held_files {
    return grep { m{^\Q$spool\E/.* \(deleted\)$} }
        map { readlink // () } map { glob "/proc/$_/fd/*" } $httpd->pids;
}

sub chunk { return sprintf "%x\r\n%s\r\n", length $_[0], $_[0] }

my $id = 0;         # of the last request

sub post {
    my ($path, @headers) = @_;
    my $conn = Client->connect($httpd->port);
    $id++;
    $conn->send(join "\r\n", "POST $path?$id HTTP/1.1", 'Host: x', @headers,
                '', '');
    return $conn;
}

# What the application said of the last request.
sub seen {
    my ($name) = @_;
    return $app->wait_report("$name$id");
}

# Waits until the application has so many bytes of it.
sub wait_pieces {
    my ($length) = @_;
    my $have = 0;
    while ($have < $length) {
        $have = seen('piece') // last;
    }
    return $have;
}

my %coding = (
    declared => ['Content-Length: 9', sub { $_[0] }, ''],
    chunked => [$CHUNKED, \&chunk, "0\r\n\r\n"],
);

subtest 'piece by piece' => sub {
    for my $name (sort keys %coding) {
        my ($header, $encode, $end) = @{ $coding{$name} };
        for my $url ('/streamed/pieces', '/held/again/pieces') {
            my $conn = post($url, $header);
            $conn->send($encode->('one'));
            my $params = seen('params');
            is($params->{CONTENT_LENGTH}, $name eq 'chunked' ? undef : 9,
               "$name: CONTENT_LENGTH if the client says so");
            ok(!exists $params->{HTTP_TRANSFER_ENCODING},
               'no HTTP_TRANSFER_ENCODING');
            is(wait_pieces(3), 3, 'the first piece');
            $conn->send($encode->('two'));
            is(wait_pieces(6), 6, 'the second piece');
            $conn->send($encode->('six') . $end);
            is($conn->read_response->body, 'done', 'answered');
            is_deeply(seen('end'),
                      ['complete', 9, md5_hex('onetwosix')], 'whole');
            is(wait_pieces(9), 9);
        }
    }
};

subtest 'only where it is asked for' => sub {
    for my $url ('/held/pieces', '/held/again/held/pieces') {
        my $connections = $app->connections;
        my $conn = post($url, $CHUNKED);
        $conn->send(chunk('one'));
        is($conn->read_until(qr/./, 0.2), undef, "$url: nothing");
        is($app->connections, $connections, 'the application is not asked');
        $conn->send("0\r\n\r\n");
        is($conn->read_response->body, 'done', 'then it is');
        is(seen('params')->{CONTENT_LENGTH}, 3, 'with a length');
        is(seen('end')->[0], 'complete', 'and whole');
        wait_pieces(3);
    }
};

subtest 'an early 413 of the application' => sub {
    for my $name (sort keys %coding) {
        my ($header, $encode) = @{ $coding{$name} };
        my @seconds = map {
            my $conn = post('/streamed/refuse',
                            $name eq 'chunked' ? $header
                                : 'Content-Length: 1000000');
            $conn->send($encode->('a beginning'));
            seen('params');
            my $start = Time::HiRes::time();
            $app->release("refuse$id");
            my $answer = $conn->read_response(method => 'POST');
            is($answer->status, 413, "$name: 413");
            is($answer->body, 'too much', 'and its text');
            ok($answer->complete, 'complete');
            ($answer->first_byte_at // 9e9) - $start;
        } 1 .. 5;
        cmp_ok(min(@seconds), '<', 0.1, 'at once');
    }
};

subtest 'both ways' => sub {
    for my $name (sort keys %coding) {
        my ($header, $encode, $end) = @{ $coding{$name} };
        my $conn = post('/streamed/echo', $name eq 'chunked' ? $header
                                              : 'Content-Length: 120');
        for my $i (1 .. 20) {
            my $piece = sprintf 'ping%02d', $i;
            $conn->send($encode->($piece));
            ok($conn->read_until(qr/\Q$piece/, 5), "$name: piece $i") or last;
        }
        $conn->send($end);
        is(length $conn->read_response->body, 120, 'all of them');
    }
};

subtest 'a body is not held, however little may be' => sub {
    my $body = Bytes::numbered(5 * $MB);
    for my $url ('/streamed/pieces', '/streamed/little/pieces') {
        for my $name (sort keys %coding) {
            my ($header, $encode, $end) = @{ $coding{$name} };
            my $conn = post($url, $name eq 'chunked' ? $header
                                      : 'Content-Length: ' . length $body);
            $conn->send($encode->($_)) for unpack '(a60000)*', $body;
            $conn->send($end);
            is($conn->read_response(method => 'POST')->status, 200,
               "$url, $name: taken");
            is_deeply(seen('end'),
                      ['complete', 5 * $MB, md5_hex($body)], 'whole');
        }
    }
};

# Sends until the other side takes no more for a while.
sub fill {
    my ($conn, $bytes) = @_;
    my $select = IO::Select->new($conn->{socket});
    my $sent = 0;
    $conn->{socket}->blocking(0);
    while ($sent < length $bytes && $select->can_write(0.5)) {
        my $count = CORE::send($conn->{socket},
                               substr($bytes, $sent, $MB / 4), MSG_NOSIGNAL);
        last if !defined $count && $! != EAGAIN && $! != EINTR;
        $sent += $count // 0;
    }
    $conn->{socket}->blocking(1);
    return $sent;
}

subtest 'an application that does not read makes the client wait' => sub {
    my $body = Bytes::numbered(32 * $MB);
    my $conn = post('/streamed/deaf', 'Content-Length: ' . length $body);
    my $sent = fill($conn, $body);
    cmp_ok($sent, '<', length $body, 'the client cannot send on');
    is_deeply([held_files()], [], 'nothing is in a file');
    $app->release('listen');
    $conn->send(substr $body, $sent);
    is($conn->read_response->body, 32 * $MB, 'then all arrives');
};

subtest 'LimitRequestBody' => sub {
    my $body = Bytes::numbered(200_000);
    my $conn = post('/streamed/limit/pieces', 'Content-Length: 200000');
    my $answer = $conn->read_response(method => 'POST');
    is($answer->status, 413, 'declared: 413');
    $conn = post('/streamed/limit/pieces', $CHUNKED);
    $conn->send(join('', map { chunk($_) } unpack '(a9999)*', $body)
                . "0\r\n\r\n");
    $answer = $conn->read_response(method => 'POST');
    is($answer->status, 413, 'chunked: 413');
    isnt((seen('end') // [''])->[0], 'complete', 'nothing looks complete');
};

subtest 'a client that is gone in mid-body' => sub {
    for my $how (qw(close reset shutdown_write)) {
        for my $name (sort keys %coding) {
            my ($header, $encode) = @{ $coding{$name} };
            my $conn = post('/streamed/pieces', $header);
            $conn->send($encode->('one'));
            is(wait_pieces(3), 3, "$name, $how: a piece came");
            $conn->$how;
            my $end = seen('end');
            like($end->[0], qr/^(?:aborted|closed)$/, 'no end of STDIN');
            is($end->[1], 3, 'what came, and nothing else');
        }
    }
};

subtest 'HTTP/2' => sub {
    plan skip_all => 'no HTTP/2 on prefork' if !$H2;
    for my $ends (1, 0) {
        $id++;
        my $pid = open(my $curl, '|-', qw(curl -q -sS -N --max-time 20
            --http2-prior-knowledge -X POST -H Expect: -o /dev/null -T -),
            'http://127.0.0.1:' . $httpd->port . "/streamed/pieces?$id")
            // die $!;
        $curl->autoflush(1);
        print $curl 'one';
        is(seen('params')->{CONTENT_LENGTH}, undef, 'no CONTENT_LENGTH');
        is(wait_pieces(3), 3, 'the first piece');
        print $curl 'two';
        is(wait_pieces(6), 6, 'the second piece');
        kill 'KILL', $pid if !$ends;
        close $curl;
        my $end = seen('end');
        is($end->[0] eq 'complete' ? 1 : 0, $ends,
           $ends ? 'whole' : 'it never looks complete');
    }
};

subtest 'PHP-FPM' => sub {
    plan skip_all => 'no php-fpm here' if !$php;
    my $body = Bytes::numbered(300_000);
    my $conn = post('/body.php', 'Content-Length: 300000');
    $conn->send($body);
    is($conn->read_response->body, '300000 ' . md5_hex($body) . ' 300000',
       'a declared length: PHP reads it');
    $conn = post('/body.php', $CHUNKED);
    $conn->send(chunk('one'));
    my $answer = $conn->read_response;
    is($answer->body, '0 ' . md5_hex('') . ' -',
       'no length: PHP sees nothing, as the README says');
};

$httpd->ok_healthy;
done_testing;
