# An answer reaches the client while the request body is still on its way.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use Errno qw(EAGAIN EINTR);
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use IO::Select;
use Private;
use Socket qw(MSG_NOSIGNAL);
use Test::More;
use Time::HiRes qw(time);

my $MB = 1024 * 1024;
my $HEAD = "Content-Type: text/plain\r\n\r\n";

# What the application does once it has the variables; none of the body was
# read on purpose, though some of it may have come along.
my %story = (
    'ends' => sub {
        my ($c) = @_;
        $c->reply("${HEAD}the answer");
        $c->report(closed => $c->wait_release('never-read', 10));
    },
    'ends-with-length' => sub {
        my ($c) = @_;
        $c->reply("Content-Length: 10\r\n${HEAD}the answer");
        $c->report(closed => $c->wait_release('never-read', 10));
    },
    'closes' => sub {
        my ($c) = @_;
        $c->reply("${HEAD}the answer");
        $c->close;
    },
    'closes-later' => sub {
        my ($c) = @_;
        $c->wait_release('close', 10);
        $c->reply("${HEAD}the answer");
        $c->close;
    },
    'pauses' => sub { in_two_pieces($_[0]) },
    # httpd cannot write any more, and finds out before the answer ends.
    'deaf' => sub {
        my ($c) = @_;
        shutdown $c->{socket}, 0;
        in_two_pieces($c);
    },
    'refuses' => sub {
        my ($c) = @_;
        $c->reply("Status: 413 Too Large\r\n${HEAD}no more than 1 MB");
        $c->close;
    },
    'refuses-and-reads' => sub {
        my ($c) = @_;
        $c->stdout("Status: 413 Too Large\r\n${HEAD}no more than 1 MB");
        $c->end;
        $c->wait_eof(10);
    },
    'first-and-reads' => sub {
        my ($c) = @_;
        $c->stdout("${HEAD}first ");
        my ($body, $complete) = read_body($c);
        $c->stdout(length($body) . ' ' . md5_hex($body));
        $c->end if $complete;
    },
    'echo' => sub {
        my ($c) = @_;
        $c->stdout($HEAD);
        while (my $record = $c->read_record) {
            next if $record->{type} != FCGI_STDIN;
            return $c->end if $record->{content} eq '';
            $c->stdout($record->{content}) or return;
        }
    },
);

# The last piece and END_REQUEST go together: closing a TCP socket that has
# something to be read throws away what still waits to be sent.
sub in_two_pieces {
    my ($c) = @_;
    $c->stdout("${HEAD}the ");
    $c->wait_release('never-read', 0.1);
    $c->send($c->records(FCGI_STDOUT, $c->{id}, 'answer') . $c->end_record);
    return;
}

sub read_body {
    my ($c) = @_;
    my $body = '';
    while (my $record = $c->read_record) {
        next if $record->{type} != FCGI_STDIN;
        return ($body, 1) if $record->{content} eq '';
        $body .= $record->{content};
    }
    return ($body, 0);
}

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_params or return;
    $story{ substr $request->{params}{REQUEST_URI}, 1 }->($c);
}, workers => 16);

my $httpd = Httpd->start(
    vars => { APP => $app->handler }, config => <<'EOC');
<Location />
  SetHandler @APP@
  FcgiRequestBuffering Off
  FcgiTimeout 10
</Location>
EOC

# Two ways to send a body: the header, and the coding of a piece.
my %coding = (
    length => [sub { "Content-Length: $_[0]" }, sub { $_[0] }, ''],
    chunked => [
        sub { 'Transfer-Encoding: chunked' },
        sub { join '', map { sprintf "%x\r\n%s\r\n", length, $_ }
                  unpack '(a100000)*', $_[0] },
        "0\r\n\r\n",
    ],
);

sub post {
    my ($name, $header) = @_;
    my $conn = Client->connect($httpd->port);
    $conn->send("POST /$name HTTP/1.1\r\nHost: x\r\n$header\r\n\r\n");
    return $conn;
}

# $length bytes in which every place is known.
sub make_body {
    my ($length) = @_;
    my $block = join '', map { pack 'N', $_ } 1 .. 16_383;
    my $count = int($length / 65536) + 1;
    return substr join('', map { pack('N', $_) . $block } 1 .. $count),
        0, $length;
}

# Sends and receives at once, until $ended says yes to what was received or
# the connection ends.  Returns how many bytes were sent.
sub pump {
    my ($conn, $bytes, $ended) = @_;
    my $socket = $conn->{socket};
    my $select = IO::Select->new($socket);
    my ($sent, $deadline) = (0, time + 60);
    $socket->blocking(0);
    while (!$ended->($conn->{buffer}) && time < $deadline) {
        my $more = $sent < length $bytes;
        my ($in, $out) = IO::Select->select($select, $more ? $select : undef,
                                          undef, 1);
        last if $in && @$in && !$conn->fill(time + 1);
        next if !$out || !@$out;
        my $count = CORE::send($socket, substr($bytes, $sent, $MB / 4),
                               MSG_NOSIGNAL);
        last if !defined $count && $! != EAGAIN && $! != EINTR;
        $sent += $count // 0;
    }
    $socket->blocking(1);
    return $sent;
}

sub can_send {
    my ($conn, $seconds) = @_;
    return scalar IO::Select->new($conn->{socket})->can_write($seconds);
}

sub last_chunk_came { return substr($_[0], -7) eq "\r\n0\r\n\r\n" }

my $twenty = make_body(20 * $MB);

for my $coding (sort keys %coding) {
    my ($header, $encode, $end) = @{ $coding{$coding} };
    my $whole = $encode->($twenty) . $end;
    my %answer = (
        'ends' => [200, 'the answer'],
        'ends-with-length' => [200, 'the answer'],
        'closes' => [200, 'the answer'],
        'deaf' => [200, 'the answer'],
        'pauses' => [200, 'the answer'],
        'refuses' => [413, 'no more than 1 MB'],
        'refuses-and-reads' => [413, 'no more than 1 MB'],
    );
    subtest "an application that does not read, $coding" => sub {
        for my $name (sort keys %answer) {
            my ($status, $body) = @{ $answer{$name} };
            my $check = sub {
                my ($answer, $when) = @_;
                is($answer->status, $status, "$name: $when");
                ok($answer->complete, 'complete') or diag $answer->error;
                is($answer->body, $body, 'and right');
            };
            my $conn = post($name, $header->(length $twenty));
            $conn->send($encode->(substr $twenty, 0, 65536));
            $check->($conn->read_response(method => 'POST'),
                     'while it waits for the client');

            $conn = post($name, $header->(length $twenty));
            pump($conn, $whole, sub { $_[0] =~ /\Q$body\E/ });
            $check->($conn->read_response(method => 'POST'),
                     'while the client sends');

            $conn = post($name, $header->(length $twenty));
            $conn->send($whole);
            $check->($conn->read_response(method => 'POST'),
                     'to a client that reads later');
        }
        $app->release('never-read');
    };

    subtest "the next request stays in step, $coding" => sub {
        for my $name (qw(ends closes)) {
            my $conn = post($name, $header->($MB));
            $conn->send($encode->(substr $twenty, 0, $MB) . $end
                        . "POST /echo HTTP/1.1\r\nHost: x\r\n"
                        . "Content-Length: 4\r\n\r\nnext");
            is($conn->read_response(method => 'POST')->body, 'the answer',
               $name);
            my $next = $conn->read_response;
            ok($next->complete ? $next->body eq 'next' : $next->raw eq '',
               'the next one is answered, or the connection ends')
                or diag $next->raw;
        }
    };

    subtest "the answer first, $coding" => sub {
        my $part = 100_000;
        my $rest = $encode->(substr $twenty, $part) . $end;
        my $conn = post('first-and-reads', $header->(length $twenty));
        $conn->send($encode->(substr $twenty, 0, $part));
        ok($conn->read_until(qr/first /), 'it begins before the body ends');
        $conn->send($rest);
        my $answer = $conn->read_response;
        ok($answer->complete, 'and ends after it');
        is($answer->body, 'first ' . 20 * $MB . ' ' . md5_hex($twenty),
           'the application has all of the body');
    };

    subtest "an echo of 64 MB, $coding" => sub {
        my $body = make_body(64 * $MB);
        my $bytes = $encode->($body) . $end;  # which takes its time
        my $conn = post('echo', $header->(length $body));
        is(pump($conn, $bytes, \&last_chunk_came), length $bytes, 'all sent');
        my $answer = $conn->read_response(timeout => 30);
        ok($answer->complete, 'complete') or diag $answer->error;
        is(length $answer->body, 64 * $MB, 'all of it');
        is(md5_hex($answer->body), md5_hex($body), 'byte for byte');
    };
}

subtest 'every buffer on the way is full' => sub {
    my $conn = post('closes-later', 'Content-Length: ' . 20 * $MB);
    my $sent = pump($conn, $twenty, sub { !can_send($conn, 0.2) });
    cmp_ok($sent, '<', 20 * $MB, 'the client cannot send any more');
    $app->release('close');
    my $answer = $conn->read_response(method => 'POST');
    ok($answer->complete, 'the answer comes') or diag $answer->error;
    is($answer->body, 'the answer');
};

subtest 'one piece back for each piece sent' => sub {
    my $conn = post('echo', 'Transfer-Encoding: chunked');
    for my $i (1 .. 20) {
        $conn->send(sprintf "6\r\nping%02d\r\n", $i);
        ok($conn->read_until(qr/ping\Q@{[ sprintf '%02d', $i ]}/, 5),
           "piece $i")
            or last;
    }
    $conn->send("0\r\n\r\n");
    is(length $conn->read_response->body, 120, 'all of them');
};

subtest 'memory' => sub {
    plan skip_all => 'a sanitizer keeps what was freed'
        if $ENV{HTTPD_PRELOAD};
    my ($most) = sort { $b <=> $a } map {
        Private::slurp("/proc/$_/status") =~ /^VmHWM:\s+(\d+)/m ? $1 : 0
    } $httpd->pids;
    plan skip_all => 'no /proc here' if !$most;
    cmp_ok($most, '<', 48 * 1024, 'kilobytes after bodies of 64 MB');
    note "$most KB";
};

$httpd->ok_healthy;
done_testing;
