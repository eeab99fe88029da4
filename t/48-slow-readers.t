# Clients that do not read their answers hold no application.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use FindBin qw($Bin);
use lib "$Bin/lib";
use Bytes;
use Client;
use FcgiApp;
use Httpd;
use PhpFpm;
use POSIX qw(WNOHANG);
use Private;
use Socket qw(SOL_SOCKET SO_RCVBUF);
use Test::More;

my $MB = 1024 * 1024;
my $MPM = Httpd::mpm();
my $H2 = $MPM ne 'prefork';

# Four threads; with the event MPM that is no limit for connections.
my $HAS_MANY = $MPM eq 'event' && Httpd::accepts_again();
my $FOUR = <<'EOC';
StartServers 1
ServerLimit 1
ThreadLimit 4
ThreadsPerChild 4
MinSpareThreads 1
MaxSpareThreads 4
MaxRequestWorkers 4
EOC
my $FEW_THREADS = $HAS_MANY ? "${FOUR}AsyncRequestWorkerFactor 50\n"
    : undef;
my $READERS = $HAS_MANY ? 40 : 10;

# Bytes in which every place is known, a different part for every number.
my $DATA = Bytes::numbered(4 * (4 * $MB + 100_001));

sub page {
    my ($number, $length) = @_;
    return "page $number\n" . substr $DATA, $number * 4096, $length;
}

# /page?NUMBER,LENGTH or /page?NUMBER,LENGTH,PIECE,COUNT: with pauses after so
# many pieces.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my ($number, $length, $piece, $count) =
        split /,/, $request->{params}{QUERY_STRING};
    my $answer = "Content-Type: text/plain\r\n\r\n" . page($number, $length);
    for (1 .. $count // 0) {
        $c->stdout(substr $answer, 0, $piece, '');
        select undef, undef, undef, 0.01;
    }
    $c->reply($answer);
    $c->report(closed => $number) if $c->wait_eof(30);
}, workers => 2);

my $php = PhpFpm::program() ? PhpFpm->start(children => 2) : undef;
my $spool = Private::temp_dir('spool');
chmod 01777, $spool;

my $httpd = Httpd->start(
    tls => 1, http2 => $H2,
    $FEW_THREADS ? (mpm => $FEW_THREADS) : (),
    files => {
        'page.php' => <<'EOP',
<?php
[$number, $length] = explode(',', $_SERVER['QUERY_STRING']);
echo "page $number\n";
$data = '';
for ($i = $number * 1024; strlen($data) < $length; $i += 1024) {
    $data .= pack('N*', ...range($i, $i + 1023));
}
echo substr($data, 0, $length);
EOP
    },
    vars => {
        APP => $app->handler, SPOOL => $spool,
        PHP => $php ? $php->handler : 'None',
    },
    config => <<'EOC');
# the last one waits as long as all others read
Timeout 300
FcgiBufferDir @SPOOL@
<Location /page>
  SetHandler @APP@
</Location>
<Files *.php>
  SetHandler @PHP@
</Files>
EOC
my ($http, $https) = ('http://127.0.0.1:' . $httpd->port,
                      'https://127.0.0.1:' . $httpd->tls_port);

# Open files of the spool, of this test's httpd or another.
sub held_files {
    my ($of) = (@_, $httpd);
    return grep { m{^\Q$spool\E/.* \(deleted\)$} }
        map { readlink // () } map { glob "/proc/$_/fd/*" } $of->pids;
}

# A client that has asked, and does not read.
sub open_reader {
    my ($url) = @_;
    my $conn = Client->connect($httpd->port, rcvbuf => 4096);
    $conn->send("GET $url HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    return $conn;
}

# The same with curl, whose output goes into a pipe that is not read.
sub open_curl {
    my (@args) = @_;
    my $pid = open(my $pipe, '-|', qw(curl -q -sS -k --max-time 120), @args)
        // die $!;
    return { socket => $pipe, pid => $pid };
}

# Now it reads.
sub check_reader {
    my ($conn, $page, $name) = @_;
    setsockopt $conn->{socket}, SOL_SOCKET, SO_RCVBUF, $MB;
    my $answer = $conn->read_response(timeout => 30);
    is($answer->status, 200, $name);
    ok($answer->complete, 'whole') or diag $answer->error;
    is(length $answer->body, length $page, 'its length');
    is(md5_hex($answer->body), md5_hex($page), 'every byte');
    return;
}

sub check_curl {
    my ($curl, $page, $name) = @_;
    my $body = do { local $/; readline $curl->{socket} };
    close $curl->{socket};
    is($?, 0, "$name: curl is content");
    is(length $body, length $page, 'its length');
    is(md5_hex($body), md5_hex($page), 'every byte');
    return;
}

# How many of these answers the application has got rid of.
sub count_closed {
    my ($count) = @_;
    my $closed = 0;
    while ($closed < $count && defined $app->wait_report('closed', 20)) {
        $closed++;
    }
    return $closed;
}

subtest "$READERS readers" => sub {
    my @readers = map { open_reader("/page?$_," . 5 * $MB) } 1 .. $READERS;
    is(count_closed($READERS), $READERS, 'the application is free of all');
    is($app->connections, $READERS, 'each asked once');
    cmp_ok(scalar(my @files = held_files()), '>', 0, 'files hold the rest');
    my @answers = $MPM eq 'prefork' ? () : map {
        Client->get($httpd->port, "/page?$_,10")
    } 1 .. 20;
    for my $n (1 .. @answers) {
        is($answers[$n - 1]->body, page($n, 10), "another request, $n");
    }
    count_closed(scalar @answers);
    for my $n (1 .. @readers) {
        check_reader($readers[$n - 1], page($n, 5 * $MB), "reader $n");
    }
    ok(Private::wait_until(10, sub { !held_files() }), 'no file is left');
};

subtest 'pipelined requests of a client that does not read' => sub {
    my $conn = Client->connect($httpd->port, rcvbuf => 4096);
    $conn->send(join '', map {
        "GET /page?$_," . 5 * $MB . " HTTP/1.1\r\nHost: x\r\n\r\n"
    } 1 .. 3);
    is(count_closed(1), 1, 'the application is free of the first');
    check_reader($conn, page($_, 5 * $MB), "answer $_") for 1 .. 3;
    is(count_closed(2), 2, 'and of the others');
};

my %kind = (
    'TLS' => ['--http1.1', $https],
    $H2 ? ('HTTP/2' => ['--http2-prior-knowledge', $http],
           'HTTP/2 over TLS' => ['--http2', $https]) : (),
);
for my $kind (sort keys %kind) {
    my ($option, $server) = @{ $kind{$kind} };
    subtest "readers over $kind" => sub {
        my $length = 16 * $MB;
        my @readers = map {
            open_curl($option, "$server/page?$_,$length")
        } 1 .. 3;
        is(count_closed(3), 3, 'the application is free of them');
        cmp_ok(scalar(my @files = held_files()), '>', 0, 'files hold it');
        my $answer = Client::curl('-k', $option, "$server/page?4,10");
        is($answer->{body}, page(4, 10), 'another request');
        count_closed(1);
        for my $n (1 .. @readers) {
            check_curl($readers[$n - 1], page($n, $length), "reader $n");
        }
        ok(Private::wait_until(10, sub { !held_files() }), 'no file is left');
    };
}

for my $pauses ('', '1000,10', '9000,10', '30000,10', '47000,10', '900,100') {
    my $name = $pauses ? "pauses $pauses" : 'no pauses';
    subtest "one HTTP/2 connection, many streams, $name" => sub {
        plan skip_all => 'no HTTP/2 on prefork' if !$H2;
        my $pid = open(my $pipe, '-|', 'nghttp', map {
            "$http/page?$_," . 5 * $MB . ",$pauses"
        } 1 .. 6) // die $!;
        is(count_closed(6), 6, 'the application is free of all');
        cmp_ok(scalar(my @files = held_files()), '<', 6 * 12,
               'in few open files');
        my $bytes = do { local $/; readline $pipe };
        close $pipe;
        is($?, 0, 'the client is content');
        is(length $bytes, 6 * length page(1, 5 * $MB), 'and has everything');
        ok(Private::wait_until(10, sub { !held_files() }), 'no file is left');
    };
}

# Each line is sent when the one before has arrived; in between the answer
# pauses. The first ones are held for longer and longer; not all that follow.
subtest 'an HTTP/2 stream that pauses again and again' => sub {
    plan skip_all => 'no HTTP/2 on prefork' if !$H2;
    my $lines = 70;
    my $one = FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request or return;
        $c->stdout("Content-Type: text/plain\r\n\r\n" . 'x' x 40_000);
        for my $n (1 .. $lines) {
            $c->stdout("\nline $n\n");
            $c->wait_release("line $n", 30) or return;
        }
        $c->end(0, FCGI_REQUEST_COMPLETE);
    });
    my $httpd = Httpd->start(
        http2 => 1, vars => { ONE => $one->handler, SPOOL => $spool },
        config => <<'EOC');
FcgiBufferDir @SPOOL@
<Location />
  SetHandler @ONE@
</Location>
EOC
    my $curl = open_curl('-N', '--http2-prior-knowledge',
                         'http://127.0.0.1:' . $httpd->port . '/');
    local $SIG{ALRM} = sub { close $curl->{socket} };
    alarm 40;       # it takes 12 s; with a long pause for each line, 100 s
    my $got = 0;
    while (defined(my $line = readline $curl->{socket})) {
        next if $line !~ /^line (\d+)$/;
        $got = $1;
        $one->release("line $got");
    }
    alarm 0;
    is($got, $lines, 'each line arrives, and in time');
    cmp_ok(scalar(my @files = held_files($httpd)), '<', 20,
           'with few open files');
    $httpd->ok_healthy;
};

subtest 'nobody waits for a reader that is half as fast' => sub {
    my $length = 200 * $MB;             # for which it would be waited 3 s
    my $one = FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request or return;
        my $piece = 'x' x (8 * $MB);
        $c->stdout("Content-Type: text/plain\r\n\r\n");
        if ($request->{params}{PATH_INFO} eq '/large') {
            $c->stdout($piece) for 1 .. $length / length $piece;
            $c->report(large => 'written');
        }
        $c->end(0, FCGI_REQUEST_COMPLETE);
    });
    my $httpd = Httpd->start(
        vars => { ONE => $one->handler, SPOOL => $spool }, config => <<'EOC');
FcgiBufferDir @SPOOL@
<Location />
  SetHandler @ONE@
</Location>
EOC
    my $reader = Client->connect($httpd->port, rcvbuf => 4096);
    $reader->send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    ok(defined $reader->read_until(qr/xxx/, 10), 'its answer comes');
    setsockopt $reader->{socket}, SOL_SOCKET, SO_RCVBUF, $MB;
    my $count = Private::spew("$spool/count", '');
    my $pid = fork // die "fork: $!";
    if (!$pid) {                        # one that reads 16 MB a second
        open my $out, '>>', $count or POSIX::_exit(1);
        while (my $read = sysread $reader->{socket}, my $piece, $MB) {
            syswrite $out, "$read\n";
            select undef, undef, undef, $read / (16 * $MB);
        }
        POSIX::_exit(0);
    }
    my $other = Client->request(
        $httpd->port, "GET /small HTTP/1.1\r\nHost: x\r\n\r\n",
        timeout => 60);
    my $read = 0;
    $read += $_ for split /\n/, Private::slurp($count);
    is($other->status, 200, 'another request is answered');
    is($one->wait_report('large', 10), 'written', 'after the large answer');
    # had it been waited for only what the sockets hold would be missing
    cmp_ok($read, '<', 0.85 * $length, 'while the reader still reads');
    kill 'KILL', $pid;
    waitpid $pid, 0;
    $httpd->ok_healthy;
};

subtest 'PHP-FPM with two children and ten readers' => sub {
    plan skip_all => 'no php-fpm here' if !$php;
    my @readers = map { open_reader("/page.php?$_," . 5 * $MB) } 1 .. 10;
    ok(Private::wait_until(30, sub {
        my $status = $php->status;
        $status->{'accepted conn'} >= 10 && !$status->{'active processes'};
    }), 'no child works') or diag explain $php->status;
    my $others = $MPM eq 'prefork' ? 3 : 20;
    for my $n (1 .. $others) {
        my $answer = Client->get($httpd->port, "/page.php?$n,1000");
        is($answer->body, page($n, 1000), "another request, $n");
    }
    for my $n (1 .. @readers) {
        check_reader($readers[$n - 1], page($n, 5 * $MB), "reader $n");
    }
};

$httpd->ok_healthy;
done_testing;
