# A byte costs a byte: bodies and answers of tiny pieces need little memory.
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The bound is that of docs/performance.rst, "Memory of a request": 512 KB
# with FcgiBufferMemory 64K, and what mod_ssl and mod_http2 need themselves.

use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use FindBin qw($Bin);
use lib "$Bin/lib";
use Bytes;
use Client;
use FcgiApp;
use Httpd;
use IPC::Open2 qw(open2);
use Private;
use Socket qw(IPPROTO_TCP SOL_SOCKET SO_RCVBUF TCP_NODELAY);
use Streams;
use Test::More;
use Time::HiRes qw(time);

my $BOUND = 512;                # kilobytes
my $TLS_OWN = 512;
my $H2_OWN = 1024;              # of its threads as well
my $SLOPPY = 256;               # Linux counts pages of a process roughly
my $MB = 1024 * 1024;
my $H2 = Httpd::mpm() ne 'prefork';
my $HEAD = "Content-Type: text/plain\r\n\r\n";

# One process with one thread for requests: its memory tells.
my $ONE = $H2 ? Httpd::single(Httpd::accepts_again() ? 1 : 2) : <<'EOC';
StartServers 1
ServerLimit 1
MaxRequestWorkers 1
EOC

# What the application answers, as records of one byte; the same piece again
# and again, so that millions of records are soon made.
my $PIECE = Bytes::mixed(20_000);

# /large?COUNT sends that many times the piece, in one go; /trickle each record
# with a write of its own. All others tell of the body; /stream/late reads it
# when it may.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_params(60) or return;
    my ($uri, $count) = @{ $request->{params} }{qw(REQUEST_URI QUERY_STRING)};
    $c->wait_release('late', 60) if $uri =~ /late/;
    while (!$request->{stdin_complete}) {
        my $record = $c->read_record(60) or return;
        FcgiApp::Connection::add_record($request, $record);
    }
    my $stdin = $request->{stdin};
    if ($uri !~ /large|trickle/) {
        my @records = grep { $_->{type} == FCGI_STDIN }
            @{ $request->{records} };
        return $c->reply(join ' ', $HEAD . length $stdin, md5_hex($stdin),
                         scalar @records);
    }
    $c->stdout($HEAD);
    my @records = map { $c->record(FCGI_STDOUT, $c->{id}, $_) }
        split //, $PIECE;
    my $all = join '', @records;
    for (1 .. $count) {
        $c->send($_) or last for $uri =~ /large/ ? $all : @records;
    }
    $c->end;
    $c->report(written => $count);
}, transport => 'unix'); # a socket that is full soon: TCP's takes far more

my $spool = Private::temp_dir('spool');
chmod 01777, $spool;
my ($httpd, $port, $tls_port);

# A process that has had nothing yet but a few ordinary requests of all kinds:
# what earlier tests left free would hide what this one takes.
sub start_fresh {
    $httpd->leave if $httpd;
    $httpd = Httpd->start(
        mpm => $ONE, tls => 1, http2 => $H2,
        vars => { APP => $app->handler, SPOOL => $spool },
        config => <<'EOC');
FcgiBufferDir @SPOOL@
<IfModule http2_module>
  H2MinWorkers 1
  H2MaxWorkers 1
</IfModule>
<Location />
  SetHandler @APP@
</Location>
<Location /stream>
  FcgiRequestBuffering Off
</Location>
<Location /off>
  FcgiFlush Off
</Location>
EOC
    ($port, $tls_port) = ($httpd->port, $httpd->tls_port);
    warm_up();
    return;
}

# ---- what the process has had ----

sub child { return ($httpd->pids)[0] }

sub status {
    my ($name) = @_;
    my $status = Private::slurp('/proc/' . child() . '/status');
    return $status =~ /^\Q$name\E:\s+(\d+)/m ? $1 : 0;
}

# How much more memory a fresh process has at any time while $code runs: no
# more than the bound and what others need themselves.
sub ok_growth {
    my ($own, $code) = @_;
    start_fresh();
    Private::spew('/proc/' . child() . '/clear_refs', '5');
    my $before = status('VmRSS');
    $code->();
    my $growth = status('VmHWM') - $before;
    note "$growth KB";
    SKIP: {
        skip 'a sanitizer keeps what was freed', 1 if $ENV{HTTPD_PRELOAD};
        cmp_ok($growth, '<', $BOUND + $own + $SLOPPY, 'kilobytes more');
    }
    return;
}

# How often the process has read.
sub reads {
    return Private::slurp('/proc/' . child() . '/io') =~ /^syscr: (\d+)/m
        ? $1 : die 'no /proc/PID/io';
}

# True if none of its threads has anything to do.
sub is_at_rest {
    return !grep { Private::slurp($_) !~ /\) S / }
        glob '/proc/' . child() . '/task/*/stat';
}

# ---- bodies ----

# Sends pieces, each when the one before has been read, so that no two of them
# arrive together; and has gone where it is held, if that is asked for.
sub send_pieces {
    my ($send, $pieces, $wait_for_rest) = @_;
    my $before = reads();
    for my $piece (@$pieces) {
        my $deadline = time + 10;
        my $seen = reads();
        $send->($piece);
        while (reads() == $seen || $wait_for_rest && !is_at_rest()) {
            die "a piece is not read\n" if time > $deadline;
        }
    }
    cmp_ok(reads() - $before, '>=', @$pieces, 'each was read alone');
    return;
}

sub post {
    my ($path, @headers) = @_;
    return join "\r\n", "POST $path HTTP/1.1", 'Host: x',
        'Connection: close', @headers, '', '';
}

sub check_echo {
    my ($answer, $body) = @_;
    my ($length, $md5, $records) = split / /, $answer;
    is($length, length $body, 'all bytes arrive');
    is($md5, md5_hex($body), 'and are right');
    return $records // 0;
}

# A client over TLS whose bytes are written to and read from handles.
sub open_tls {
    my $pid = open2(my $from, my $to, 'exec openssl s_client -quiet '
        . "-connect 127.0.0.1:$tls_port 2>/dev/null");
    $to->autoflush(1);
    return { pid => $pid, from => $from, to => $to };
}

sub close_tls {
    my ($tls) = @_;
    my $answer = do { local $/; readline $tls->{from} } // '';
    close $tls->{to};
    waitpid $tls->{pid}, 0;
    return $answer =~ s/^.*?\r\n\r\n//sr;
}

my $BODY = Bytes::mixed(10_000);
my $DECLARED = 'Content-Length: ' . length $BODY;

for my $path ('/', '/stream') {
    subtest "$path: a byte in each segment" => sub {
        my $answer;
        ok_growth(0, sub {
            my $conn = Client->connect($port);
            setsockopt $conn->{socket}, IPPROTO_TCP, TCP_NODELAY, 1;
            $conn->send(post($path, $DECLARED));
            send_pieces(sub { $conn->send($_[0]) }, [split //, $BODY]);
            $answer = $conn->read_response;
        });
        check_echo($answer->body, $BODY);
    };

    subtest "$path: a byte in each TLS record" => sub {
        my $answer;
        ok_growth($TLS_OWN, sub {
            my $tls = open_tls();
            print { $tls->{to} } post($path, $DECLARED);
            send_pieces(sub { syswrite $tls->{to}, $_[0] },
                        [split //, $BODY]);
            $answer = close_tls($tls);
        });
        check_echo($answer, $BODY);
    };

    subtest "$path: a byte in each chunk" => sub {
        my $body = Bytes::mixed(100_000);
        my $answer;
        ok_growth(0, sub {
            my $conn = Client->connect($port);
            $conn->send(post($path, 'Transfer-Encoding: chunked')
                        . join('', map { "1\r\n$_\r\n" } split //, $body)
                        . "0\r\n\r\n");
            $answer = $conn->read_response(timeout => 60);
        });
        my $records = check_echo($answer->body, $body);
        # how much is here when it is asked for is the network's affair
        cmp_ok($records, '<', $path eq '/' ? 5 : 1000, 'records of STDIN');
    };
}

# It cannot take what comes, so all of it waits.
subtest 'a byte in each segment, for an application that is late' => sub {
    my $body = Bytes::mixed(8000);
    my $answer;
    ok_growth(0, sub {
        my $conn = Client->connect($port);
        setsockopt $conn->{socket}, IPPROTO_TCP, TCP_NODELAY, 1;
        $conn->send(post('/stream/late', 'Content-Length: ' . length $body));
        send_pieces(sub { $conn->send($_[0]) }, [split //, $body]);
        $app->release('late');
        $answer = $conn->read_response;
    });
    cmp_ok(check_echo($answer->body, $body), '<', length($body) / 4,
           'records of STDIN');
};

# ---- HTTP/2 ----

# A request whose body comes as frames of one byte; returns the answer's body.
# mod_http2 has 8000 bytes of its own for each frame that nobody has taken, so
# each waits until the one before is where we hold it.
sub h2_post {
    my ($body) = @_;
    my $conn = Client->connect($port);
    my $last = chop(my $rest = $body);
    $conn->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . Streams::frame(4, 0, 0, '')
        . Streams::frame(1, 4, 1, join '', map { Streams::field(@$_) }
            [':method', 'POST'], [':scheme', 'http'], [':path', '/'],
            [':authority', 'x'], ['content-length', length $body]));
    send_pieces(sub { $conn->send($_[0]) },
                [map { Streams::frame(0, 0, 1, $_) } split //, $rest], 1);
    $conn->send(Streams::frame(0, 1, 1, $last));
    my ($bytes, $answer, $ended) = ('', '', 0);
    while (!$ended && sysread $conn->{socket}, $bytes, 65536, length $bytes) {
        while (length $bytes >= 9) {
            my ($high, $low, $type, $flags) = unpack 'CnCC', $bytes;
            my $length = $high * 65536 + $low;
            last if length $bytes < 9 + $length;
            my $payload = substr substr($bytes, 0, 9 + $length, ''), 9;
            $answer .= $payload if $type == 0;
            $ended ||= $type == 3 || $type == 7 || $type < 2 && $flags & 1;
        }
    }
    return $answer;
}

sub warm_up {
    my $body = Bytes::mixed(200_000);
    my $head = post('/', 'Content-Length: ' . length $body);
    for (1 .. 3) {
        Client->request($port, $head . $body);
        my $tls = open_tls();
        print { $tls->{to} } $head . $body;
        close_tls($tls);
        Client::curl('--http2-prior-knowledge', '--data-binary', 'body',
                     "http://127.0.0.1:$port/") if $H2;
    }
    return;
}

subtest 'HTTP/2: a byte in each frame' => sub {
    plan skip_all => 'no HTTP/2 on prefork' if !$H2;
    my $answer;
    my $body = Bytes::mixed(5000);
    ok_growth($H2_OWN, sub { $answer = h2_post($body) });
    my $records = check_echo($answer, $body);
    cmp_ok($records, '<', 5, 'records of STDIN');
};

# ---- answers ----

sub is_answer {
    my ($body, $count) = @_;
    is(length $body, $count * length $PIECE, 'its length');
    is(md5_hex($body), md5_hex($PIECE x $count), 'every byte');
    return;
}

subtest 'an answer for a client that follows' => sub {
    for my $story ('/large?100', '/trickle?1', '/off/trickle?1') {
        my ($count) = $story =~ /(\d+)/;
        my $answer;
        ok_growth(0, sub { $answer = Client->get($port, $story) });
        is_answer($answer->body, $count);
        $app->wait_report('written', 10);
    }
};

# So much that httpd's own buffers and the kernel's do not hold it.
my $COUNT = 400;

subtest 'an answer for a client that does not read' => sub {
    my $conn;
    ok_growth(0, sub {
        $conn = Client->connect($port, rcvbuf => 4096);
        $conn->send("GET /large?$COUNT HTTP/1.1\r\nHost: x\r\n"
                    . "Connection: close\r\n\r\n");
        is($app->wait_report('written', 60), $COUNT, 'all is written');
    });
    setsockopt $conn->{socket}, SOL_SOCKET, SO_RCVBUF, $MB;
    is_answer($conn->read_response(timeout => 60)->body, $COUNT);
};

my %kind = (
    'TLS' => [$TLS_OWN, 'https', '--http1.1'],
    $H2 ? ('HTTP/2' => [$H2_OWN, 'http', '--http2-prior-knowledge'],
           'HTTP/2 over TLS' => [$H2_OWN + $TLS_OWN, 'https', '--http2'])
        : (),
);
for my $kind (sort keys %kind) {
    my ($own, $scheme, @options) = @{ $kind{$kind} };
    subtest "an answer that is not read, $kind" => sub {
        my $pipe;
        ok_growth($own, sub {
            open $pipe, '-|', qw(curl -q -sS -k --max-time 120), @options,
                "$scheme://127.0.0.1:"
                . ($scheme eq 'http' ? $port : $tls_port) . "/large?$COUNT"
                or die $!;
            is($app->wait_report('written', 60), $COUNT, 'all is written');
        });
        is_answer(do { local $/; readline $pipe }, $COUNT);
        close $pipe;
    };
}

$httpd->leave;
Httpd->ok_left;
done_testing;
