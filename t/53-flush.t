# A piece of an answer reaches the client when FcgiFlush says so.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Bytes;
use Client;
use FcgiApp;
use Httpd;
use IO::Handle;
use IPC::Open2 qw(open2);
use List::Util qw(min);
use PhpFpm;
use Private;
use Socket qw(SOL_SOCKET SO_RCVBUF);
use Test::More;
use Time::HiRes ();

my $MB = 1024 * 1024;
my $H2 = Httpd::mpm() ne 'prefork';
my $PLAIN = "Content-Type: text/plain\r\n";
my $EVENTS = "Content-Type: text/event-stream\r\n";
my $DATA = Bytes::numbered(20 * $MB);

my %head = (
    plain => $PLAIN,
    events => $EVENTS,
    events_charset => "Content-Type: text/event-stream; charset=utf-8\r\n",
    events_upper => "content-type: TEXT/Event-Stream\r\n",
    unbuffered => "${PLAIN}X-Accel-Buffering: no\r\n",
    buffered => "${PLAIN}X-Accel-Buffering: yes\r\n",
);

# /FLUSH/HEAD/STORY?ID
my %story = (
    # Four pieces, each when the client has the one before.
    ticks => sub {
        my ($c, $id, $head) = @_;
        $c->stdout("$head\r\n");
        for my $n (1 .. 4) {
            $c->stdout("tick$n ");
            $c->report("sent$id" => $n);
            $c->wait_release("$n-$id", 20) or return;
        }
        $c->stdout('end');
        $c->stdout('');
        $c->end;
    },
    # Headers, and a pause.
    headers => sub {
        my ($c, $id, $head) = @_;
        $c->stdout("$head\r\n");
        $c->report("sent$id" => 0);
        $c->wait_release("1-$id", 20) or return;
        $c->reply('body');
    },
    # A little at a time, without a pause.
    busy => sub {
        my ($c, $id, $head) = @_;
        $c->stdout("$head\r\n");
        my $n = 0;
        until ($c->wait_release("1-$id", 0) || $n++ > 20_000) {
            $c->stdout('tick ') or return;
            Time::HiRes::sleep(0.001);
        }
        $c->report("busy$id" => $n);
        $c->reply('end');
    },
    # Much, then a small piece, and a pause.
    tail => sub {
        my ($c, $id, $head) = @_;
        $c->stdout("$head\r\n$DATA");
        $c->stdout('tick1 ');
        $c->report("sent$id" => 1);
        $c->wait_release("1-$id", 20) or return;
        $c->reply('end');
    },
    # Events in bursts, until there are many, of which the client lacks fewer
    # at any time than memory holds.
    stream => sub {
        my ($c, $id, $head) = @_;
        $c->stdout("$head\r\n");
        for my $n (1 .. 300) {
            $c->stdout("data: " . 'x' x 1000 . "\n\n") or return for 1 .. 10;
            $c->stdout("data: burst $n\n\n") or return;
            $n % 5 or $c->wait_release("$n-$id", 20) or return;
        }
        $c->stdout('');
        $c->end;
    },
);

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request(30) or return;
    my ($head, $name, $id) = $request->{params}{REQUEST_URI}
        =~ m{(\w+)/(\w+)\?(\d+)$};
    $story{$name}->($c, $id, $head{$head});
}, workers => 4);

my $php = PhpFpm::program() ? PhpFpm->start : undef;

# Where this directory was nobody can make a file.
my $gone = Private::temp_dir('gone');
my $httpd = Httpd->start(
    tls => 1, http2 => $H2,
    files => {
        'ticks.php' => <<'EOP',
<?php
header('Content-Type: text/event-stream');
while (ob_get_level()) ob_end_flush();
for ($n = 1; $n <= 4; $n++) {
    echo "data: tick$n\n\n";
    flush();
    for ($i = 0; !file_exists("$_GET[go]$n") && $i < 2000; $i++) {
        usleep(5000);
        clearstatcache();
    }
}
EOP
        'off/.htaccess' => "FcgiFlush Off\n",
    },
    vars => {
        APP => $app->handler, GONE => $gone,
        PHP => $php ? $php->handler : 'None',
    },
    config => <<'EOC');
FcgiBufferDir @GONE@
<LocationMatch "^/(?:auto|on|off|default)/">
  SetHandler @APP@
</LocationMatch>
<Location /auto/>
  FcgiFlush Auto
</Location>
<Location /on/>
  FcgiFlush On
</Location>
<Location /off/>
  FcgiFlush Off
</Location>
<Files *.php>
  SetHandler @PHP@
</Files>
EOC
rmdir $gone or die "rmdir $gone: $!";
my %server = (
    'HTTP/1.1' => [],
    'TLS' => ['--http1.1', 'https://127.0.0.1:' . $httpd->tls_port],
    $H2 ? ('HTTP/2' => ['--http2-prior-knowledge',
                        'http://127.0.0.1:' . $httpd->port],
           'HTTP/2 over TLS' => ['--http2',
                                 'https://127.0.0.1:' . $httpd->tls_port])
        : (),
);

my $id = 0;         # of the last request

# A client of this kind that has asked; what curl gets is read as if it were
# a connection.
sub ask {
    my ($kind, $path, %opt) = @_;
    my ($option, $url) = @{ $server{$kind} };
    $id++;
    if (!$option) {
        my $conn = Client->connect($httpd->port, %opt);
        $conn->send("GET $path?$id HTTP/1.1\r\nHost: x\r\n\r\n");
        return $conn;
    }
    open(my $pipe, '-|', qw(curl -q -sS -i -N -k --max-time 60), $option,
         "$url$path?$id") // die $!;
    return bless { socket => $pipe, buffer => '', state => 'open' }, 'Client';
}

# curl keeps headers to itself until there is a body; these do not.
sub ask_for_headers {
    my ($kind, $path) = @_;
    return ask($kind, $path) if $kind eq 'HTTP/1.1';
    $id++;
    my @command = $kind eq 'TLS'
        ? (qw(openssl s_client -quiet -verify_quiet -connect),
           '127.0.0.1:' . $httpd->tls_port)
        : (qw(stdbuf -o0 nghttp -v), "$server{$kind}[1]$path?$id");
    my $pid = open2(my $out, my $in, @command);
    print $in "GET $path?$id HTTP/1.1\r\nHost: x\r\n\r\n";
    $in->flush;
    return bless { socket => $out, in => $in, buffer => '', state => 'open',
                   pid => $pid }, 'Client';
}

sub seen { return $app->wait_report($_[0] . $id) }

# How often httpd wanted to make a file, in the log.
sub count_lines {
    return scalar(my @lines = $httpd->error_log =~ /FCGI17: /g);
}

# Follows the ticks; returns how many came before the next was sent.
sub follow {
    my ($conn) = @_;
    my $came = 0;
    for my $n (1 .. 4) {
        seen('sent');
        $came++ if $conn->read_until(qr/tick$n /, 5);
        $app->release("$n-$id");
    }
    return $came;
}

for my $kind (sort keys %server) {
    subtest "each piece, $kind" => sub {
        my @paths = map({ ("/$_/plain", "/$_/events") } qw(default auto on)),
            map { "/off/$_" } qw(events events_charset events_upper
                                 unbuffered);
        for my $path (@paths) {
            my $conn = ask($kind, "$path/ticks");
            is(follow($conn), 4, "$path: all come at once");
            ok($conn->read_until(qr/end/), 'and the end');
            $conn->close;
        }
    };

    subtest "headers alone, $kind" => sub {
        for my $path (qw(/default/plain /on/plain /off/events)) {
            my $conn = ask_for_headers($kind, "$path/headers");
            ok($conn->read_until(qr/\n\r?\n|:status: 200/, 5),
               "$path: they come");
            $app->release("1-$id");
            ok($conn->read_until(qr/body/), 'and the body');
            $conn->close;
            kill 'TERM', $conn->{pid} if $conn->{pid};
        }
    };

    # mod_http2 sends whatever it has.
    my $held = $kind !~ m{HTTP/2};
    subtest "not flushed, $kind" => sub {
        for my $path (qw(/off/plain /off/buffered)) {
            my $conn = ask($kind, "$path/ticks");
            for my $n (1 .. 4) {
                is(seen('sent'), $n, "$path: piece $n is sent");
                is($conn->read_until(qr/tick/, 0.1), undef, 'and held back')
                    if $held;
                $app->release("$n-$id");
            }
            ok($conn->read_until(qr/tick1.*tick2.*tick3.*tick4.*end/s),
               'all come at the end') or diag $conn->{buffer};
            $conn->close;
        }
    };

    subtest "an application that is busy, $kind" => sub {
        for my $path (qw(/default/plain /on/plain /off/events)) {
            my $conn = ask($kind, "$path/busy");
            ok($conn->read_until(qr/tick.*tick/s, 10), "$path: it comes");
            $app->release("1-$id");
            cmp_ok(seen('busy'), '<', 20_000, 'while there is more');
            ok($conn->read_until(qr/end/), 'and the end');
            $conn->close;
        }
    };

    subtest "an event stream needs no file, $kind" => sub {
        my $before = count_lines();
        for my $path (qw(/default/events /off/events /on/plain)) {
            my $conn = ask($kind, "$path/stream");
            my $n = 5;
            while ($n <= 300 && $conn->read_until(qr/burst $n\n/, 10)) {
                $conn->{buffer} = '';
                $app->release("$n-$id");
                $n += 5;
            }
            cmp_ok($n, '>', 300, "$path: all of it");
            $conn->close;
        }
        is(count_lines(), $before, 'no file was asked for');
    };
}

subtest 'at once' => sub {
    for my $path ('/default/plain', '/off/events') {
        my @seconds = map {
            my $conn = ask('HTTP/1.1', "$path/ticks");
            my @gaps = map {
                my $n = $_;
                seen('sent');
                my $start = Time::HiRes::time();
                $conn->read_until(qr/tick$n /, 5);
                $app->release("$n-$id");
                Time::HiRes::time() - $start;
            } 1 .. 4;
            $conn->close;
            @gaps;
        } 1 .. 5;
        cmp_ok(min(@seconds), '<', 0.05, $path);
    }
};

subtest 'the last piece to a client that was behind' => sub {
    my $spool = Private::temp_dir('spool');
    chmod 01777, $spool;
    my $other = Httpd->start(
        vars => { APP => $app->handler, SPOOL => $spool },
        config => <<'EOC');
FcgiBufferDir @SPOOL@
SetHandler @APP@
<Location /off/>
  FcgiFlush Off
</Location>
EOC
    for my $path (qw(/default/plain /default/events /off/events)) {
        my $conn = Client->connect($other->port, rcvbuf => 65536);
        $id++;
        $conn->send("GET $path/tail?$id HTTP/1.1\r\nHost: x\r\n\r\n");
        ok(seen('sent'), "$path: the client is behind");
        setsockopt $conn->{socket}, SOL_SOCKET, SO_RCVBUF, $MB;
        my ($length, $last) = (0, '');
        while ($last !~ /tick1 /) {
            my $piece = $conn->read_some(10);
            last if $piece eq '';
            $length += length $piece;
            $last = substr($last, -10) . $piece;
        }
        like($last, qr/tick1 /, 'it reads, and has all that was said');
        cmp_ok($length, '>', length $DATA, 'really all');
        $app->release("1-$id");
        ok($conn->read_until(qr/end/), 'and the end');
        $conn->close;
    }
    $other->ok_healthy;
};

subtest 'an event stream of PHP' => sub {
    plan skip_all => 'no php-fpm here' if !$php;
    for my $kind (sort keys %server) {
        my ($option, $url) = @{ $server{$kind} };
        my $go = $httpd->root . '/tmp/go-' . ++$id . '-';
        my $conn;
        if ($option) {
            open(my $pipe, '-|', qw(curl -q -sS -i -N -k --max-time 60),
                 $option, "$url/ticks.php?go=$go") // die $!;
            $conn = bless { socket => $pipe, buffer => '', state => 'open' },
                'Client';
        }
        else {
            $conn = Client->connect($httpd->port);
            $conn->send("GET /ticks.php?go=$go HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        for my $n (1 .. 4) {
            ok($conn->read_until(qr/tick$n/, 5), "$kind: event $n");
            Private::spew("$go$n", '');
        }
        $conn->close;
    }
};

$httpd->ok_healthy;
done_testing;
