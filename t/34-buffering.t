# A request body is here, whole and measured, before the application is asked.
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
use IO::Compress::Gzip qw(gzip);
use PhpFpm;
use POSIX ();
use Private;
use Test::More;
use Time::HiRes ();

my $MB = 1024 * 1024;
my $H2 = Httpd::mpm() ne 'prefork';

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $params = $request->{params};
    my $stdin = $request->{stdin};
    my ($largest) = sort { $b <=> $a } map { length $_->{content} }
        grep { $_->{type} == FCGI_STDIN } @{ $request->{records} };
    $c->report(request => {
        params => $params, length => length $stdin, md5 => md5_hex($stdin),
        largest => $largest,
    });
    my $head = "Content-Type: text/plain\r\n\r\n";
    if ($params->{REQUEST_URI} =~ /hold/) {
        $c->stdout("${head}held");
        $c->report(eof => $c->wait_eof(10));
        return;
    }
    $c->reply($head . length($stdin) . ' ' . md5_hex($stdin));
}, workers => 4);

my $php = PhpFpm::program() ? PhpFpm->start : undef;

# A directory for the bodies, and one with 1 MB of space.
my $spool = Private::temp_dir('spool');
my $tiny = Private::temp_dir('tiny');
chmod 01777, $spool;
my ($failed, $words) = Private::run(
    qw(mount -t tmpfs -o), 'size=1m,mode=1777', 'tmpfs', "$tiny");
my $mounted = !$failed;

END {
    local $?;
    Private::run('umount', '-l', "$tiny") if $mounted;
}

my $httpd = Httpd->start(
    http2 => $H2, modules => [qw(deflate reqtimeout)],
    files => { 'body.php' => <<'EOP' },
<?php
$body = file_get_contents('php://input');
echo strlen($body), ' ', md5($body), ' ', $_SERVER['CONTENT_LENGTH'] ?? '-',
    ' ', isset($_SERVER['HTTP_TRANSFER_ENCODING']) ? 'coded' : 'plain';
EOP
    vars => {
        APP => $app->handler, SPOOL => $spool, TINY => $tiny,
        PHP => $php ? $php->handler : 'None',
    },
    config => <<'EOC');
RequestReadTimeout handshake=0 header=0 body=0
FcgiBufferDir @SPOOL@
<Location /app>
  SetHandler @APP@
</Location>
<Location /app/memory>
  FcgiBufferMemory 1M
</Location>
<Location /app/max>
  FcgiBufferMax 100000
</Location>
<Location /app/limit>
  LimitRequestBody 100000
</Location>
<Location /app/tiny>
  FcgiBufferDir @TINY@
</Location>
<Location /app/inflate>
  SetInputFilter DEFLATE
</Location>
<Location /app/inflate-max>
  SetInputFilter DEFLATE
  FcgiBufferMax 100000
</Location>
<Files *.php>
  SetHandler @PHP@
</Files>
EOC
my $dir_changed = (Time::HiRes::stat("$spool"))[9];

sub held_files {
    my ($dir) = @_;
    return grep { -e $_ && readlink =~ m{^\Q$dir\E/.* \(deleted\)$} }
        map { glob "/proc/$_/fd/*" } $httpd->pids;
}

# True when a file that nobody can see has at least so many bytes.
sub wait_held {
    my ($dir, $size) = @_;
    return Private::wait_until(10, sub {
        return grep { -s $_ >= $size } held_files($dir);
    });
}

sub visible {
    my ($dir) = @_;
    opendir my $handle, "$dir" or die "$dir: $!";
    return grep { !/^\.\.?$/ } readdir $handle;
}

sub chunks {
    my ($bytes, $size) = @_;
    return join '', map { sprintf "%x\r\n%s\r\n", length, $_ }
        unpack "(a$size)*", $bytes;
}

my $CHUNKED = 'Transfer-Encoding: chunked';

sub post {
    my ($path, @headers) = @_;
    my $conn = Client->connect($httpd->port);
    $conn->send(join "\r\n", "POST $path HTTP/1.1", 'Host: x', @headers,
                '', '');
    return $conn;
}

# A whole request; returns the answer and what the application saw.
sub ask {
    my ($path, $headers, $bytes) = @_;
    my $conn = post($path, @$headers);
    $conn->send($bytes);
    my $answer = $conn->read_response(method => 'POST');
    my $seen = $answer->status == 200 && $path =~ /^\/app/
        ? $app->wait_report('request') : undef;
    return ($answer, $seen);
}

sub check_seen {
    my ($seen, $body, $name) = @_;
    is($seen->{length}, length $body, "$name: all of it");
    is($seen->{md5}, md5_hex($body), 'byte for byte');
    is($seen->{params}{CONTENT_LENGTH}, length $body, 'CONTENT_LENGTH');
    ok(!exists $seen->{params}{HTTP_TRANSFER_ENCODING},
       'no HTTP_TRANSFER_ENCODING');
    ok(!exists $seen->{params}{HTTP_CONTENT_LENGTH},
       'no HTTP_CONTENT_LENGTH');
    return;
}

subtest 'byte by byte' => sub {
    my $conn = post('/app', $CHUNKED);
    my $early = 0;
    for my $byte (split //, 'a slow client') {
        $early += $app->connections;
        $conn->send(chunks($byte, 1));
    }
    $early += $app->connections;
    is($early, 0, 'the application is not connected');
    is($conn->read_until(qr/./, 0.2), undef, 'the end is missing');
    is($app->connections, 0, 'so nobody is asked');
    $conn->send("0\r\n\r\n");
    my $answer = $conn->read_response(method => 'POST');
    is($answer->status, 200, 'the end');
    is($app->connections, 1, 'the application is asked');
    check_seen($app->wait_report('request'), 'a slow client', 'then');
};

subtest 'a large body' => sub {
    my $body = Bytes::numbered(5 * $MB);
    my %coding = (
        declared => ['Content-Length: ' . length $body, sub { $_[0] }, ''],
        chunked => [$CHUNKED, sub { chunks($_[0], 50_000) }, "0\r\n\r\n"],
    );
    for my $name (sort keys %coding) {
        my ($header, $encode, $end) = @{ $coding{$name} };
        my $connections = $app->connections;
        my $conn = post('/app', $header);
        $conn->send($encode->(substr $body, 0, -1));
        ok(wait_held($spool, length($body) - 100_000),
           "$name: nearly all is in a file");
        is($app->connections, $connections, 'no connection yet');
        is_deeply([visible($spool)], [], 'the file has no name');
        $conn->send($encode->(substr $body, -1) . $end);
        is($conn->read_response->status, 200, 'the end');
        my $seen = $app->wait_report('request');
        check_seen($seen, $body, $name);
        is($seen->{largest}, 60 * 1024, 'in records of whole pages');
        ok(Private::wait_until(5, sub { !held_files($spool) }),
           'the file is gone');
    }
};

subtest 'every size round the limits of memory and of records' => sub {
    my $conn = Client->connect($httpd->port);
    for my $size (0, 1, 8191 .. 8193, 61_439 .. 61_441, 65_534 .. 65_537,
                  122_879 .. 122_881, 131_069 .. 131_073,
                  491_519 .. 491_521, 983_039 .. 983_041) {
        my $body = Bytes::numbered($size);
        for my $how ("Content-Length: $size", $CHUNKED) {
            my $bytes = $how eq $CHUNKED
                ? chunks($body, 10_000) . "0\r\n\r\n" : $body;
            $conn->send("POST /app HTTP/1.1\r\nHost: x\r\n$how\r\n\r\n$bytes");
            is($conn->read_response->body, "$size " . md5_hex($body),
               "$size bytes, $how");
            is($app->wait_report('request')->{params}{CONTENT_LENGTH}, $size);
        }
    }
};

subtest 'a body that fits into memory needs no file' => sub {
    my $conn = post('/app/memory', 'Content-Length: 900000');
    $conn->send(Bytes::numbered(899_999));
    is($conn->read_until(qr/./, 0.2), undef, 'the end is missing');
    is_deeply([held_files($spool)], [], 'no file');
    $conn->send('x');
    is($conn->read_response->status, 200, 'the end');
    is($app->wait_report('request')->{largest}, 65_535,
       'in records as large as there are');
};

subtest '300 000 chunked bytes to PHP-FPM' => sub {
    plan skip_all => 'no php-fpm here' if !$php;
    my $body = Bytes::numbered(300_000);
    for my $size (300_000, 8000, 7) {
        my ($answer) = ask('/body.php', [$CHUNKED],
                           chunks($body, $size) . "0\r\n\r\n");
        is($answer->body, '300000 ' . md5_hex($body) . ' 300000 plain',
           "in chunks of $size");
    }
    my ($answer) = ask('/body.php', [$CHUNKED], "0\r\n\r\n");
    is($answer->body, '0 ' . md5_hex('') . ' 0 plain', 'nothing');
};

subtest 'a body that mod_deflate inflates' => sub {
    my $body = join '', map { "line $_\n" } 1 .. 50_000;
    gzip(\$body => \my $packed) or die;
    for my $how ('Content-Length: ' . length $packed, $CHUNKED) {
        my $bytes = $how eq $CHUNKED
            ? chunks($packed, 5000) . "0\r\n\r\n" : $packed;
        my ($answer, $seen) = ask('/app/inflate',
                                  ['Content-Encoding: gzip', $how], $bytes);
        is($answer->status, 200, $how);
        check_seen($seen, $body, 'inflated');
    }
    my $connections = $app->connections;
    my $some = substr $body, 0, 150_000;
    gzip(\$some => \$packed) or die;
    cmp_ok(length $packed, '<', 100_000, 'packed it is small enough');
    my ($answer) = ask('/app/inflate-max', ['Content-Encoding: gzip',
        'Content-Length: ' . length $packed], $packed);
    is($answer->status, 413, 'too large once it is inflated');
    is($app->connections, $connections, 'the application is not asked');
};

subtest 'an HTTP/2 body without a length' => sub {
    plan skip_all => 'no HTTP/2 on prefork' if !$H2;
    for my $size (1, 10, 300_000, 5 * $MB) {
        my $body = Bytes::numbered($size);
        my $file = Private::spew($httpd->root . '/tmp/body', $body);
        my $answer = Client::curl(
            '--http2-prior-knowledge', '-X', 'POST', '-T', $file,
            '-H', 'Content-Length:', '-H', 'Expect:',
            'http://127.0.0.1:' . $httpd->port . '/app/h2');
        is($answer->{status}, 200, "$size bytes") or diag $answer->{stderr};
        is($answer->{http_version}, 2);
        check_seen($app->wait_report('request'), $body, 'HTTP/2');
    }
};

subtest 'Expect: 100-continue' => sub {
    for my $how ('Content-Length: 4', $CHUNKED) {
        my $connections = $app->connections;
        my $conn = post('/app', $how, 'Expect: 100-continue');
        ok($conn->read_until(qr/^HTTP\/1.1 100 /, 5), "$how: 100");
        is($app->connections, $connections, 'the application waits');
        $conn->send($how eq $CHUNKED ? "4\r\nbody\r\n0\r\n\r\n" : 'body');
        my $answer = $conn->read_response;
        is($answer->status, 200, 'answered');
        is(scalar @{ $answer->interim }, 1, 'one interim answer');
        check_seen($app->wait_report('request'), 'body', 'the body');
    }
};

my $body = Bytes::numbered(100_001);
for my $where (qw(max limit)) {
    subtest "one byte too many: $where" => sub {
        my $less = substr $body, 0, -1;
        my %coded = (
            'Content-Length: ' => sub { $_[0] },
            $CHUNKED => sub { chunks($_[0], 10_000) . "0\r\n\r\n" },
        );
        for my $how (sort keys %coded) {
            my $header = sub { $how eq $CHUNKED ? $how : $how . length $_[0] };
            my ($answer, $seen) = ask("/app/$where", [$header->($less)],
                                      $coded{$how}->($less));
            is($answer->status, 200, "$how: as much as may be");
            check_seen($seen, $less, $how);
            my $connections = $app->connections;
            ($answer) = ask("/app/$where", [$header->($body)],
                            $coded{$how}->($body));
            is($answer->status, 413, 'one byte more');
            ok($answer->complete, 'is answered');
            is($app->connections, $connections, 'nobody is asked');
        }
    };
}

subtest 'a declared length that is too large' => sub {
    for my $where (qw(max limit)) {
        my $connections = $app->connections;
        my $conn = post("/app/$where", 'Content-Length: 100001');
        my $answer = $conn->read_response(method => 'POST', timeout => 5);
        is($answer->status, 413, "$where: refused before the body is sent");
        $conn = post("/app/$where", 'Content-Length: 100001',
                     'Expect: 100-continue');
        $answer = $conn->read_response(method => 'POST', timeout => 5);
        is($answer->status, 413, 'and with Expect');
        is_deeply($answer->interim, [], 'it is not asked for');
        is($app->connections, $connections, 'the application is not asked');
    }
};

subtest 'over HTTP/2' => sub {
    plan skip_all => 'no HTTP/2 on prefork' if !$H2;
    my $file = Private::spew($httpd->root . '/tmp/body', $body);
    for my $where (qw(max limit)) {
        my $connections = $app->connections;
        my $answer = Client::curl(
            '--http2-prior-knowledge', '-X', 'POST', '-T', $file,
            '-H', 'Content-Length:', '-H', 'Expect:',
            'http://127.0.0.1:' . $httpd->port . "/app/$where");
        is($answer->{status}, 413, "$where: 413") or diag $answer->{stderr};
        is($app->connections, $connections, 'the application is not asked');
    }
};

subtest 'a client that goes away in mid-body' => sub {
    my $connections = $app->connections;
    for my $header ('Content-Length: 1000000', $CHUNKED) {
        my $bytes = Bytes::numbered(500_000);
        my $conn = post('/app/gone', $header);
        $conn->send($header eq $CHUNKED ? chunks($bytes, 9999) : $bytes);
        ok(wait_held($spool, 300_000), "$header: half is here");
        $conn->close;
        ok(Private::wait_until(10, sub { !held_files($spool) }),
           'the file is gone');
    }
    is($app->connections, $connections, 'the application is not asked');
};

subtest 'a body that is no chunked coding' => sub {
    my $connections = $app->connections;
    my ($answer) = ask('/app', [$CHUNKED], "5\r\nhello\r\nxyz\r\n");
    is($answer->status, 400, 'bad request');
    is($app->connections, $connections, 'the application is not asked');
};

subtest 'RequestReadTimeout' => sub {
    my $slow = Httpd->start(
        modules => ['reqtimeout'], vars => { APP => $app->handler },
        config => <<'EOC');
RequestReadTimeout handshake=0 header=0 body=1
<Location />
  SetHandler @APP@
</Location>
EOC
    my $connections = $app->connections;
    my %begin = ('Content-Length: 1000000' => 'abc', $CHUNKED => "1\r\na\r\n");
    for my $header (sort keys %begin) {
        my $conn = Client->connect($slow->port);
        $conn->send("POST / HTTP/1.1\r\nHost: x\r\n$header\r\n\r\n"
                    . $begin{$header});
        my $answer = $conn->read_response(method => 'POST');
        is($answer->status, 408, "$header: 408");
        ok($conn->at_eof, 'and the end');
    }
    my $conn = Client->connect($slow->port);
    $conn->send("POST / HTTP/1.1\r\nHost: x\r\n$CHUNKED\r\n\r\n");
    my $drips = 0;
    while (!$conn->read_until(qr/./, 0.1) && $drips++ < 100) {
        $conn->send("1\r\na\r\n");
    }
    is($conn->read_response(method => 'POST')->status, 408, 'drop by drop');
    is($app->connections, $connections, 'the application is not asked');
    $slow->ok_healthy;
};

subtest 'no space' => sub {
    ok($mounted, 'a tmpfs of 1 MB is mounted, which needs root')
        or return diag $words;
    my $connections = $app->connections;
    my $large = Bytes::numbered(3 * $MB);
    for my $header ('Content-Length: ' . length $large, $CHUNKED) {
        my $bytes = $header eq $CHUNKED
            ? chunks($large, 60_000) . "0\r\n\r\n" : $large;
        my ($answer) = ask('/app/tiny', [$header], $bytes);
        is($answer->status, 507, "$header: 507");
        ok($answer->complete, 'an answer');
    }
    is($app->connections, $connections, 'the application is not asked');
    my @lines = $httpd->error_log =~ /^(.* FCGI16: .*)$/mg;
    is(scalar @lines, 2, 'one line each') or diag explain \@lines;
    like($lines[0], qr/:error\].*No space left on device/, 'says what');
    like($lines[0], qr/FcgiBufferDir/, 'and where to look');
    ok(Private::wait_until(5, sub { !held_files($tiny) }),
       'no file is left');
    my ($answer, $seen) = ask('/app/tiny', ['Content-Length: 500000'],
                              Bytes::numbered(500_000));
    is($answer->status, 200, 'a smaller one fits');
    check_seen($seen, Bytes::numbered(500_000), 'it');
};

subtest 'a crash leaves nothing' => sub {
    my $conn = post('/app', 'Content-Length: 1000000');
    $conn->send(Bytes::numbered(999_999));
    ok(wait_held($spool, 900_000), 'a body is in a file');
    my ($fd) = held_files($spool);
    my ($pid) = $fd =~ m{^/proc/(\d+)/};
    ok($httpd->kill_children($pid), 'killed');
    is_deeply([visible($spool)], [], 'nothing is there');
    ok(Private::wait_until(10, sub {
        my $answer = eval { Client->get($httpd->port, '/app') };
        return $answer && ($answer->status // 0) == 200;
    }), 'another child serves');
};

subtest 'no file ever had a name' => sub {
    my $fd = syscall(257, -100, "$spool", 020200002, 0600);   # O_TMPFILE
    plan skip_all => 'only with O_TMPFILE' if $^O ne 'linux' || $fd < 0;
    POSIX::close($fd);
    is((Time::HiRes::stat("$spool"))[9], $dir_changed,
       'the directory never changed');
};

subtest 'bad values are refused at startup' => sub {
    my %bad = (
        'FcgiBufferDir /does/not/exist' =>
            qr{FcgiBufferDir: '/does/not/exist' is not a directory},
        'FcgiBufferDir @ROOT@/httpd.conf' => qr/is not a directory/,
        (map { ("FcgiBufferMemory $_" => qr/FcgiBufferMemory: '\Q$_\E' is not/,
                "FcgiBufferMax $_" => qr/FcgiBufferMax: '\Q$_\E' is not/) }
         qw(0 -1 1.5M 64X 64KK abc 9999999999999999999 10T)),
        'FcgiBufferMemory 2G' => qr/FcgiBufferMemory: '2G' is not/,
        'FcgiRequestBuffering maybe' => qr/FcgiRequestBuffering must be On/,
        'FcgiFlush sometimes' => qr/'sometimes' is not Auto, On or Off/,
    );
    for my $line (sort keys %bad) {
        my ($status, $output) = Httpd->configtest($line);
        isnt($status, 0, "$line: refused");
        like($output, $bad{$line}, 'and why');
    }
    my ($status, $output) = Httpd->configtest(join "\n",
        'FcgiBufferMemory 128K', 'FcgiBufferMax 16G', 'FcgiBufferDir tmp',
        'FcgiRequestBuffering off', 'FcgiFlush auto', '<Directory /x>',
        'FcgiBufferMemory 1m', 'FcgiBufferMax 1g', 'FcgiBufferDir @ROOT@/tmp',
        'FcgiRequestBuffering On', 'FcgiFlush ON', '</Directory>');
    is($status, 0, 'good ones are accepted') or diag $output;
};

$httpd->ok_healthy;
done_testing;
