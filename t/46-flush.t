# What the application has said reaches the client when it pauses.
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
use Strace;
use Test::More;
use Time::HiRes qw(time);

my $SOON = 2;           # seconds; the application waits five times as long
my $TYPE = "Content-Type: text/plain\r\n\r\n";
my $ALL = join '', '<start>', map { "<piece $_>" } 1 .. 4;
my $H2 = Httpd::mpm() ne 'prefork';

# /app/ID: the headers and, once ID-0 is released, a start and four pieces;
# after each it waits for the next.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my ($id) = $request->{params}{REQUEST_URI} =~ m{/(\w+)$};
    my $step = 0;
    for my $piece ($TYPE, '<start>', map { "<piece $_>" } 1 .. 4) {
        $c->stdout($piece);
        $c->wait_release("$id-" . $step++, 5 * $SOON) or return;
    }
    $c->end;
}, workers => 4);

# Never stops saying a little until it is released.
my $dripping = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    $c->stdout($TYPE);
    for (1 .. 10_000) {
        $c->stdout('x') or return;
        last if $c->wait_release('drip', 0);
        select undef, undef, undef, 0.001;
    }
    $c->end;
});

# The same in PHP, which sends headers only with something of the body.
my $SCRIPT = <<'EOC';
<?php
header('Content-Type: text/plain');
echo '<start>';
flush();
for ($i = 1; $i <= 5; $i++) {
    $file = __DIR__ . "/release/$_SERVER[QUERY_STRING]-$i";
    for ($times = 0; !file_exists($file); $times++) {
        if ($times == 5000) exit;
        usleep(2000);
        clearstatcache();
    }
    if ($i <= 4) echo "<piece $i>";
    flush();
}
EOC

my $php = PhpFpm::program() && PhpFpm->start;
my $httpd = Httpd->start(
    vars => { APP => $app->handler, DRIP => $dripping->handler,
              PHP => $php ? $php->handler : 'none' },
    tls => 1, http2 => $H2, modules => ['deflate'],
    files => { 'pieces.php' => $SCRIPT },
    config => <<'EOC');
<Files *.php>
  SetHandler @PHP@
</Files>
<Location /app>
  SetHandler @APP@
</Location>
<Location /drip>
  SetHandler @DRIP@
</Location>
<Location /app/deflate>
  SetOutputFilter DEFLATE
</Location>
EOC

sub release {
    my ($path, $step) = @_;
    my ($id) = $path =~ /(\w+)$/;
    $app->release("$id-$step");
    $httpd->write("release/$id-$step", '');
    return;
}

my $id = 0;

# $seen waits until what the client has so far matches.
sub four_pieces {
    my ($path, $seen) = @_;
    ok($seen->(qr{HTTP/\S+ 200.*\r?\n(?:< )?\r?\n}s), 'the headers alone');
    release($path, 0);
    ok($seen->(qr/<start>/), 'the start of the body');
    for my $i (1 .. 4) {
        release($path, $i);
        ok($seen->(qr/<piece $i>/), "piece $i alone");
    }
    release($path, 5);
    return;
}

sub by_socket {
    my ($path, $version) = @_;
    my $conn = Client->connect($httpd->port);
    $conn->send("GET $path HTTP/$version\r\nHost: x\r\n\r\n");
    four_pieces($path, sub { $conn->read_until($_[0], $SOON) });
    my $answer = $conn->read_response;
    is($answer->body, $ALL, 'all of it');
    ok($answer->complete, 'to its end');
    return;
}

# curl in the background, which writes to files as it reads.  It does so with
# headers only in the log of -v.
sub by_curl {
    my ($path, $base, @args) = @_;
    my $dir = Private::temp_dir('curl');
    my $pid = Private::spawn(log => "$dir/log", exec => [
        'curl', '-q', '-vsNk', '-o', "$dir/out", '--max-time', 60,
        '-w', 'exit=%{exitcode} version=%{http_version}', @args,
        "$base$path"]);
    four_pieces($path, sub {
        my ($pattern) = @_;
        Private::wait_until($SOON, sub {
            join('', map { Private::slurp("$dir/$_") } qw(log out))
                =~ $pattern;
        });
    });
    ok(Private::wait_until($SOON, sub { !Private::alive($pid) }), 'the end');
    Private::end($pid, 'KILL');
    is(Private::slurp("$dir/out"), $ALL, 'all of it');
    return Private::slurp("$dir/log");
}

my %plain = ('HTTP/1.1' => '1.1', 'HTTP/1.0' => '1.0');
my $HTTP = 'http://127.0.0.1:' . $httpd->port;
my $HTTPS = 'https://127.0.0.1:' . $httpd->tls_port;
my %curl = (
    'HTTP/1.1 over TLS' => [$HTTPS, '--http1.1'],
    $H2 ? ('HTTP/2' => [$HTTP, '--http2-prior-knowledge'],
           'HTTP/2 over TLS' => [$HTTPS, '--http2']) : (),
);
my %source = ('a scripted application' => '/app/a', 'PHP' => '/pieces.php?p');

for my $source (sort keys %source) {
    for my $client (sort keys %plain) {
        subtest "$source, $client" => sub {
            plan skip_all => 'no php-fpm here' if $source eq 'PHP' && !$php;
            by_socket($source{$source} . ++$id, $plain{$client});
        };
    }
    for my $client (sort keys %curl) {
        subtest "$source, $client" => sub {
            plan skip_all => 'no php-fpm here' if $source eq 'PHP' && !$php;
            my $log = by_curl($source{$source} . ++$id, @{ $curl{$client} });
            my $version = $client =~ /2/ ? '2' : '1.1';
            like($log, qr/\bexit=0 version=\Q$version\E\z/, 'no complaint');
        };
    }
}

subtest 'through a filter that compresses' => sub {
    my $log = by_curl('/app/deflate/d', $HTTP, '--compressed');
    like($log, qr/^< Content-Encoding: gzip/m, 'gzip');
    like($log, qr/\bexit=0 version=1.1\z/, 'no complaint');
    return if !$H2;
    $log = by_curl('/app/deflate/e', $HTTP, '--compressed',
                   '--http2-prior-knowledge');
    like($log, qr/\bexit=0 version=2\z/, 'the same over HTTP/2');
};

subtest 'an application that hardly pauses' => sub {
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /drip HTTP/1.0\r\n\r\n");
    ok($conn->read_until(qr/\r\n\r\nx/, $SOON), 'is heard before it ends');
    $dripping->release('drip');
    ok($conn->read_response->complete, 'to its end');
};

# ---- what it costs ----

my $SIZE = 100 * 1024 * 1024;
my $PIECES = 2000;

# /fast: $SIZE bytes without a pause; /drip: small pieces with such short
# pauses that they are none.
my $writer = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    $c->stdout($TYPE);
    my $record = $c->record(FCGI_STDOUT, $c->{id}, 'x' x 32768);
    if ($request->{params}{PATH_INFO} =~ /fast/) {
        $c->send($record) or return for 1 .. $SIZE / 32768;
    }
    else {
        for (1 .. $PIECES) {
            $c->stdout('x' x 100) or return;
            select undef, undef, undef, 0.0005;
        }
    }
    $c->end;
});
my $proxied = $writer->address =~ m{^/}
    ? 'proxy:unix:' . $writer->address . '|fcgi://localhost'
    : 'proxy:fcgi://' . $writer->address;

# One process, so that it is known which one is to be watched.
sub one_process {
    my $threads = Httpd::mpm() eq 'prefork' ? 1 : 4;
    return <<"EOC" . ($threads > 1 ? "ThreadsPerChild $threads\n" : '');
StartServers 1
ServerLimit 1
MaxRequestWorkers $threads
EOC
}

# How often the child reads and writes while an answer is fetched, its length
# and the time it took; nothing if strace cannot be had.
sub count_calls {
    my ($server, $path) = @_;
    my $trace = Strace->attach([($server->pids)[0]],
        'write,writev,sendto,sendmsg,sendfile,read,readv,recvfrom') or return;
    my $started = time;
    my (undef, $length) = Private::run(
        qw(curl -q -s -o /dev/null -w %{size_download}),
        'http://127.0.0.1:' . $server->port . $path);
    my %count = (length => $length, seconds => time - $started,
                 in => 0, out => 0);
    for my $line ($trace->end) {
        $count{$1 eq 'read' || $1 eq 'recv' ? 'in' : 'out'}++
            if $line =~ /^\d+ +(read|recv|write|send)/;
    }
    return \%count;
}

subtest 'an answer costs no more writes than without' => sub {
    plan skip_all => 'no strace here' if !Strace::is_here();
    my $server = Httpd->start(
        mpm => one_process(), modules => [qw(proxy proxy_fcgi)],
        vars => { APP => $writer->handler, PROXIED => $proxied },
        config => <<'EOC');
<Location /app>
  SetHandler @APP@
</Location>
<Location /proxied>
  SetHandler "@PROXIED@"
</Location>
EOC
    my $ours = count_calls($server, '/app/fast');
    plan skip_all => 'strace may not watch other processes' if !$ours;
    my $theirs = count_calls($server, '/proxied/fast');
    is($_->{length}, $SIZE, '100 MB') for $ours, $theirs;
    note "$ours->{out} writes, with mod_proxy_fcgi $theirs->{out}";
    cmp_ok($ours->{out}, '<=', $theirs->{out} * 1.05,
           'no more than mod_proxy_fcgi, which never flushes');
    cmp_ok($ours->{out}, '<=', $ours->{in} * 1.05 + 50,
           'no more than what was read');
    cmp_ok($ours->{out}, '<=', $SIZE / 16384 * 1.05, 'and large ones');

    # httpd by itself writes when it has 4 KB; we flush at most every 5 ms.
    my $drip = count_calls($server, '/app/drip');
    is($drip->{length}, $PIECES * 100, 'small pieces');
    my $most = $drip->{length} / 4096 + $drip->{seconds} / 0.005 + 10;
    note "$drip->{out} writes in $drip->{seconds} seconds";
    cmp_ok($drip->{out}, '<=', $most, 'are written together');
    $server->ok_healthy;
};

$httpd->ok_healthy;
done_testing;
