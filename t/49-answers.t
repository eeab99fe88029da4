# However a client reads, the application is free and the answer is true.
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
use IO::Select;
use Private;
use Socket qw(SOL_SOCKET SO_RCVBUF);
use Test::More;

my $MB = 1024 * 1024;
my $MPM = Httpd::mpm();
my $H2 = $MPM ne 'prefork';
my $HEAD = "Content-Type: text/plain\r\n\r\n";

# One process, so that its memory can be watched.
my $ONE = $MPM eq 'prefork' ? <<'EOC' : <<'EOC2';
StartServers 1
ServerLimit 1
MaxRequestWorkers 1
EOC
StartServers 1
ServerLimit 1
ThreadsPerChild 2
MinSpareThreads 1
MaxSpareThreads 2
MaxRequestWorkers 2
EOC2

# Bytes in which every place is known.
my $DATA = Bytes::numbered(20 * $MB);
my $PIECE = substr $DATA, 0, 60_000;

# By the URL's end; the rest of it is in the names of the reports.
my %story = (
    # One piece, and no end.
    starts => sub {
        my ($c, $id) = @_;
        $c->stdout("${HEAD}first");
        $c->report("eof$id" => $c->wait_eof(30));
    },
    # Much, and no end.
    behind => sub {
        my ($c, $id) = @_;
        $c->stdout($HEAD . $DATA) and $c->report("sent$id" => 1);
        $c->report("eof$id" => $c->wait_eof(30));
    },
    # Much, for ever.
    endless => sub {
        my ($c, $id) = @_;
        $c->stdout($HEAD);
        $c->report("begun$id" => 1);
        1 while $c->stdout($PIECE);
        $c->report("eof$id" => 1);
    },
    # Much, a pause, more, and the end.
    pauses => sub {
        my ($c, $id) = @_;
        my $half = length($DATA) / 2;
        $c->stdout($HEAD . substr $DATA, 0, $half) or return;
        $c->report("half$id" => 1);
        $c->wait_release("half$id", 30);
        $c->stdout(substr $DATA, $half) or return;
        $c->stdout('');
        $c->end;
        $c->report("eof$id" => $c->wait_eof(30));
    },
    whole => sub {
        my ($c, $id) = @_;
        $c->reply($HEAD . $DATA);
        $c->report("eof$id" => $c->wait_eof(30));
    },
    whole_length => sub {
        my ($c, $id) = @_;
        $c->reply('Content-Length: ' . length($DATA) . "\r\n$HEAD$DATA");
        $c->report("eof$id" => $c->wait_eof(30));
    },
    cut => sub {
        my ($c, $id) = @_;
        $c->stdout($HEAD . $DATA);
        $c->close;
        $c->report("cut$id" => 1);
    },
    cut_length => sub {
        my ($c, $id) = @_;
        $c->stdout('Content-Length: ' . (1 + length $DATA)
                   . "\r\n$HEAD$DATA");
        $c->close;
        $c->report("cut$id" => 1);
    },
    # Says how far it came whenever it has to wait.
    stalls => sub {
        my ($c, $id) = @_;
        my $select = IO::Select->new($c->{socket});
        my $at = 0;
        $c->stdout($HEAD);
        while ($at < length $DATA) {
            if (!$select->can_write(1)) {
                $c->report("stalled$id" => $at);
                $select->can_write(20);
            }
            $c->stdout(substr $DATA, $at, 8192) or return;
            $at += 8192;
        }
        $c->stdout('');
        $c->end;
        $c->report("eof$id" => $c->wait_eof(30));
    },
    hundred => sub {
        my ($c, $id) = @_;
        $c->stdout($HEAD);
        my $records = $c->records(FCGI_STDOUT, $c->{id}, 'x' x $MB);
        for (1 .. 100) {
            $c->send($records) or return;
        }
        $c->stdout('');
        $c->end;
        $c->report("eof$id" => $c->wait_eof(30));
    },
);

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request(30) or return;
    my ($name, $id) = $request->{params}{REQUEST_URI} =~ m{(\w+)\?(\d+)$};
    $story{$name}->($c, $id);
}, workers => 6);

my $spool = Private::temp_dir('spool');
my $gone = Private::temp_dir('gone');
my $tiny = Private::temp_dir('tiny');
chmod 01777, $spool;
my ($failed, $words) = Private::run(
    qw(mount -t tmpfs -o), 'size=1m,mode=1777', 'tmpfs', "$tiny");
my $mounted = !$failed;

END {
    local $?;
    Private::run('umount', '-l', "$tiny") if $mounted;
}

my %vars = (APP => $app->handler, SPOOL => $spool, GONE => $gone,
            TINY => $tiny);
my $config = <<'EOC';
SendBufferSize 65536
FcgiBufferDir @SPOOL@
<Location />
  SetHandler @APP@
</Location>
<Location /small/>
  FcgiBufferMax 1M
</Location>
<Location /gone/>
  FcgiBufferDir @GONE@
</Location>
<Location /tiny/>
  FcgiBufferDir @TINY@
</Location>
EOC
my $httpd = Httpd->start(tls => 1, http2 => $H2, vars => \%vars,
                         config => $config);
my ($http, $https) = ('http://127.0.0.1:' . $httpd->port,
                      'https://127.0.0.1:' . $httpd->tls_port);
rmdir $gone or die "rmdir $gone: $!";

sub held_files {
    my ($dir, $server) = @_;
    return grep { m{^\Q$dir\E/.* \(deleted\)$} } map { readlink // () }
        map { glob "/proc/$_/fd/*" } ($server || $httpd)->pids;
}

my $id = 0;         # of the last request

# A client that has asked and does not read.
sub ask {
    my ($path, $version) = @_;
    $version //= "1.1\r\nHost: x\r\nConnection: close";
    $id++;
    my $conn = Client->connect($httpd->port, rcvbuf => 65536);
    $conn->send("GET $path?$id HTTP/$version\r\n\r\n");
    return $conn;
}

# The same with curl, into a pipe.
sub ask_curl {
    my ($url, @args) = @_;
    $id++;
    my $pid = open(my $pipe, '-|', qw(curl -q -sS -k --max-time 60
                                      --stderr /dev/null), @args,
                   "$url?$id") // die $!;
    return { socket => $pipe, pid => $pid };
}

sub seen {
    my ($name, $seconds) = @_;
    return $app->wait_report("$name$id", $seconds // 20);
}

sub access_line {
    my ($seconds) = @_;
    return $httpd->wait_for_access(qr{\?$id HTTP}, $seconds);
}

sub no_files {
    my ($dir) = @_;
    return Private::wait_until(10, sub { !held_files($dir) });
}

sub read_all {
    my ($conn) = @_;
    setsockopt $conn->{socket}, SOL_SOCKET, SO_RCVBUF, $MB;
    return $conn->read_response(timeout => 30);
}

my %curls = (
    'TLS' => ['--http1.1', $https],
    $H2 ? ('HTTP/2' => ['--http2-prior-knowledge', $http],
           'HTTP/2 over TLS' => ['--http2', $https]) : (),
);

# One that just closes may only have closed its sending side: after a second in
# which nothing was delivered to it, it counts as gone.
subtest 'a client goes away' => sub {
    for my $how (qw(close reset)) {
        my $conn = ask('/starts');
        ok($conn->read_until(qr/first/), "$how, while the answer is produced");
        $conn->$how;
        is(seen('eof', 3), 1, 'the application is free soon');
        ok(access_line(3), 'and the thread');

        $conn = ask('/behind');
        ok(seen('sent'), "$how, while the answer is held");
        cmp_ok(scalar(my @files = held_files($spool)), '>', 0, 'in a file');
        $conn->$how;
        is(seen('eof', 3), 1, 'the application is free soon');
        ok(access_line(3), 'and the thread');
        ok(no_files($spool), 'and the file is gone');

        $conn = ask('/endless');
        ok(seen('begun'), "$how, while the application goes on and on");
        ok($conn->read_until(qr/\Q@{[ substr $PIECE, 0, 100 ]}/), 'it comes');
        $conn->$how;
        is(seen('eof', 3), 1, 'the application is free soon');
        ok(access_line(3), 'and the thread');
        ok(no_files($spool), 'and the file is gone');

        $conn = ask('/whole');
        is(seen('eof'), 1, "$how, while the rest is sent");
        ok(!access_line(0), 'it is not sent yet');
        $conn->$how;
        ok(access_line(3), 'httpd is done with it soon');
        ok(no_files($spool), 'and the file is gone');
    }
};

for my $kind (sort keys %curls) {
    my ($option, $server) = @{ $curls{$kind} };
    subtest "a client goes away, $kind" => sub {
        my $curl = ask_curl("$server/starts", $option, '-N');
        is(sysread($curl->{socket}, my $first, 5), 5, 'produced');
        kill 'KILL', $curl->{pid};
        is(seen('eof', 3), 1, 'the application is free soon');

        $curl = ask_curl("$server/behind", $option);
        ok(seen('sent'), 'held');
        kill 'KILL', $curl->{pid};
        is(seen('eof', 3), 1, 'the application is free soon');
        ok(no_files($spool), 'and the file is gone');

        $curl = ask_curl("$server/endless", $option);
        ok(seen('begun'), 'without an end');
        my $length = read $curl->{socket}, my $much, 50 * $MB;
        is($length, 50 * $MB, 'it comes while the client reads');
        kill 'KILL', $curl->{pid};
        is(seen('eof', 3), 1, 'the application is free soon');
        ok(no_files($spool), 'and the file is gone');

        $curl = ask_curl("$server/whole", $option);
        is(seen('eof'), 1, 'sent');
        kill 'KILL', $curl->{pid};
        ok(access_line(3), 'httpd is done with it soon');
        ok(no_files($spool), 'and the file is gone');
    };
}

# Longer than any pause after which an answer is flushed.
sub let_time_pass { select undef, undef, undef, 0.2 }

subtest 'an application that pauses while the client is behind' => sub {
    my $conn = ask('/pauses');
    ok(seen('half'), 'half of it is taken');
    let_time_pass();
    $app->release("half$id");
    is(seen('eof'), 1, 'and the rest: the application is free');
    my $answer = read_all($conn);
    ok($answer->complete, 'the answer is whole');
    is(md5_hex($answer->body), md5_hex($DATA), 'and right');

    for my $kind (sort keys %curls) {
        my ($option, $server) = @{ $curls{$kind} };
        my $curl = ask_curl("$server/pauses", $option);
        ok(seen('half'), "$kind: half of it is taken");
        let_time_pass();
        $app->release("half$id");
        is(seen('eof'), 1, 'and the rest: the application is free');
        my $body = do { local $/; readline $curl->{socket} };
        close $curl->{socket};
        is($?, 0, 'the answer is whole');
        is(md5_hex($body), md5_hex($DATA), 'and right');
    }
};

my %versions = (
    'HTTP/1.1' => "1.1\r\nHost: x",
    'close' => "1.1\r\nHost: x\r\nConnection: close",
    'HTTP/1.0' => '1.0',
    'HTTP/1.0 keep-alive' => "1.0\r\nConnection: keep-alive",
);
subtest 'an answer that is cut while the client is behind' => sub {
    for my $version (sort keys %versions) {
        for my $path (qw(cut cut_length)) {
            my $conn = ask("/$path", $versions{$version});
            ok(seen('cut'), "$version, $path: the application has gone");
            ok($httpd->wait_for_log(qr/FCGI03: .*\n/, 5), 'noticed');
            my $answer = read_all($conn);
            is($answer->status, 200, 'it was good so far');
            ok(!$answer->complete, 'it is cut');
            isnt($answer->error, 'timeout', 'and the connection ends');
            my $length = length $answer->body;
            ok($answer->body eq substr($DATA, 0, $length),
               'what comes is right');
            is($length, length $DATA, 'and all of it')
                if $version =~ m{1\.1|close};
        }
    }
    for my $kind (sort keys %curls) {
        my ($option, $server) = @{ $curls{$kind} };
        for my $path (qw(cut cut_length)) {
            my $curl = ask_curl("$server/$path", $option);
            ok(seen('cut'), "$kind, $path: the application has gone");
            my $body = do { local $/; readline $curl->{socket} };
            close $curl->{socket};
            isnt($?, 0, 'curl sees it')
                if $kind !~ /HTTP/ || Httpd::h2_shows_cuts()
                || $path eq 'cut_length';
            ok($body eq substr($DATA, 0, length $body),
               'what comes is right');
        }
    }
    ok(no_files($spool), 'no file is left');
};

subtest 'back-pressure at FcgiBufferMax' => sub {
    my $conn = ask('/small/stalls');
    my $at = seen('stalled');
    cmp_ok($at, '>', $MB / 2, 'so much is taken');
    cmp_ok($at, '<', 8 * $MB, 'then the application waits');
    my $answer = read_all($conn);
    ok($answer->complete, 'the client reads: the answer is whole');
    is(md5_hex($answer->body), md5_hex($DATA), 'and right');
    is(seen('eof'), 1, 'the application is free');

    for my $kind (sort keys %curls) {
        my ($option, $server) = @{ $curls{$kind} };
        my $curl = ask_curl("$server/small/stalls", $option);
        $at = seen('stalled');
        cmp_ok($at // 9e9, '<', 12 * $MB, "$kind: the application waits");
        my $body = do { local $/; readline $curl->{socket} };
        close $curl->{socket};
        is($?, 0, 'the answer is whole');
        is(md5_hex($body), md5_hex($DATA), 'and right');
        is(seen('eof'), 1, 'the application is free');
    }
    ok(no_files($spool), 'no file is left');

    $conn = ask('/small/stalls');
    ok(defined seen('stalled'), 'once more');
    $conn->close;
    ok(access_line(1), 'httpd is done within a second of the client');
};

# How often httpd could make no file, in the log.
sub count_lines {
    return scalar(my @lines = $httpd->error_log =~ /FCGI17: /g);
}

subtest 'no temporary file can be made' => sub {
    for my $dir (qw(gone tiny)) {
        ok($mounted, 'a tmpfs of 1 MB is mounted, which needs root')
            or diag($words), next if $dir eq 'tiny';
        my $before = count_lines();
        my $conn = ask("/$dir/stalls");
        my $at = seen('stalled');
        cmp_ok($at // 9e9, '<', 8 * $MB, "$dir: the application waits");
        my $answer = read_all($conn);
        ok($answer->complete, 'the answer is whole');
        is(md5_hex($answer->body), md5_hex($DATA), 'and right');
        is(seen('eof'), 1, 'the application is free');
        is(count_lines() - $before, 1, 'one line in the log');

        $before = count_lines();
        $conn = ask("/$dir/whole_length");
        ok($httpd->wait_for_log(qr/(?:FCGI17: .*){@{[ $before + 1 ]}}/s, 10),
           'a line in the log, with a length');
        $answer = read_all($conn);
        ok($answer->complete, 'the answer is whole');
        is(md5_hex($answer->body), md5_hex($DATA), 'and right');

        for my $kind (sort keys %curls) {
            my ($option, $server) = @{ $curls{$kind} };
            my $curl = ask_curl("$server/$dir/whole", $option);
            my $body = do { local $/; readline $curl->{socket} };
            close $curl->{socket};
            is($?, 0, "$kind: the answer is whole");
            is(md5_hex($body), md5_hex($DATA), 'and right');
        }
        my $small = ask("/$dir/starts");
        ok($small->read_until(qr/first/), 'a small one');
        $small->close;
    }
    like($httpd->error_log, qr/:warn\].*No space left on device.* FCGI17/s,
         'with the reason');
};

subtest '100 MB to a client that keeps up' => sub {
    my $dir = Private::temp_dir('gone');
    my $one = Httpd->start(mpm => $ONE, vars => { %vars, GONE => $dir },
                           config => <<'EOC');
<Location />
  SetHandler @APP@
  FcgiBufferDir @GONE@
</Location>
EOC
    rmdir $dir or die "rmdir $dir: $!";
    my $url = 'http://127.0.0.1:' . $one->port . '/hundred';
    my $download = sub {
        my ($while) = @_;
        $id++;
        my $pid = Private::spawn(log => '/dev/null', exec => [
            qw(curl -q -sS --max-time 60 -o /dev/null), "$url?$id"]);
        my $most = 0;
        while (Private::alive($pid)) {
            my $now = $while->();
            $most = $now if $now > $most;
        }
        return $most;
    };
    my $memory = sub {
        my ($kb) = map { Private::slurp("/proc/$_/status")
                             =~ /^RssAnon:\s+(\d+)/m } $one->pids;
        return $kb // 0;
    };
    $download->(sub { 0 });
    my $before = $memory->();
    my $most = $download->($memory);
    ok($one->wait_for_access(qr{"GET /hundred\?$id .*?" 200 104857600 }, 10),
       'all of it is sent') or diag $one->access_log;
    ok($one->error_log !~ qr/FCGI17: /, 'it needs no file');
    SKIP: {
        skip 'a sanitizer keeps what was freed', 1 if $ENV{HTTPD_PRELOAD};
        cmp_ok($most - $before, '<', 1024, 'kilobytes of memory more');
    }
    $one->ok_healthy;
};

$httpd->ok_healthy;
done_testing;
