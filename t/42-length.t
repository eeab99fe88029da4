# The application's Content-Length is kept, and is the length of its answer.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Digest::SHA;
use FcgiApp;
use Httpd;
use IO::Uncompress::Gunzip qw(gunzip);
use Private;
use Test::More;

my $TYPE = "Content-Type: text/plain\r\n";
my $H2 = Httpd::mpm() ne 'prefork';
my $BODY = join '', map { "line $_ of it\n" } 1 .. 20_000;
my $LENGTH = length $BODY;
my $BIG = 100 * 1024 * 1024;
my $PIECE = 65_521;             # not a power of two, not a record's most

# /app/HOW/N: $BODY with a Content-Length that is larger by N; with "big" it
# is $BIG bytes, and without a length if N is "none".
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my ($how, $more) = $request->{params}{REQUEST_URI}
        =~ m{/app/(\w+)/(-?\w+)};
    my $head = $TYPE;
    if ($more ne 'none') {
        my $length = $more + ($how eq 'big' ? $BIG : $LENGTH);
        $head .= "Content-Length: $length\r\n";
    }
    return $c->reply("${TYPE}Content-Length: 10\r\n\r\nabcde")
        if $how eq 'small';
    $c->stdout("$head\r\n");
    $how eq 'big' ? send_big($c) : $c->stdout($BODY);
    $c->wait_release('slow', 10) if $how eq 'slow';
    my $sent = $c->end;
    $c->report(sent => $sent);
}, workers => 2);

# Every piece is another one.
sub piece { return pack('N', $_[0]) x ($PIECE / 4) . 'x' }

sub send_big {
    my ($c) = @_;
    for (my ($at, $i) = (0, 0); $at < $BIG; $at += $PIECE) {
        $c->stdout(substr piece($i++), 0, $BIG - $at) or return;
    }
    return;
}

my $threads = Httpd::mpm() eq 'prefork' ? '' : "ThreadsPerChild 4\n";
my $httpd = Httpd->start(
    vars => { APP => $app->handler }, modules => ['deflate'], http2 => $H2,
    mpm => "StartServers 1\nServerLimit 1\n"
        . 'MaxRequestWorkers ' . ($threads ? 4 : 1) . "\n$threads",
    files => { 'other.txt' => 'a file' },
    config => <<'EOC');
<Location /app>
  SetHandler @APP@
</Location>
<Location /app/deflate>
  SetOutputFilter DEFLATE
</Location>
EOC

# An answer over HTTP/1.1, and whether the connection serves a file then.
sub get_two {
    my ($path, $fields) = @_;
    my $conn = Client->connect($httpd->port);
    $conn->send("GET $path HTTP/1.1\r\nHost: x\r\n" . ($fields // '')
                . "\r\n");
    my $answer = $conn->read_response;
    $conn->send("GET /other.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    return ($answer, ($conn->read_response->body // '') eq 'a file');
}

sub logged {
    my ($number) = @_;
    my @lines = $httpd->error_log =~ /FCGI$number:.*/g;
    return @lines;
}

subtest 'exact' => sub {
    my ($answer, $kept) = get_two('/app/x/0');
    is_deeply([@$answer{qw(status complete)},
               $answer->header('Content-Length')], [200, 1, $LENGTH]);
    ok($answer->body eq $BODY, 'whole');
    ok($kept, 'the connection is kept');
    is_deeply([logged('03'), logged('11')], [], 'nothing logged');
};

subtest 'too short' => sub {
    my $count = 0;
    for my $more (1, 1000, 10_000_000) {
        my ($answer, $kept) = get_two("/app/x/$more");
        is_deeply([$answer->status, $answer->header('Content-Length')],
                  [200, $LENGTH + $more], "by $more");
        ok(!$answer->complete, 'the client sees that it is cut');
        is($answer->error, 'closed', 'not by waiting');
        ok($answer->body eq $BODY, 'what came is there');
        ok(!$kept, 'the connection is not kept');
        is(scalar logged('03'), ++$count, 'logged once');
        like((logged('03'))[-1],
             qr/\b$LENGTH bytes, its Content-Length says @{[
                 $LENGTH + $more ]}\b/, 'with both numbers');
    }
    my $answer = Client->request(
        $httpd->port, "GET /app/x/1 HTTP/1.0\r\nHost: x\r\n\r\n");
    ok(!$answer->complete, 'HTTP/1.0');
    return if !$H2;
    $answer = Client::curl(
        '--http2-prior-knowledge',
        'http://127.0.0.1:' . $httpd->port . '/app/x/1');
    is($answer->{exit}, 92, 'HTTP/2');
};

subtest 'too short, and all of it at once' => sub {
    my ($answer, $kept) = get_two('/app/small/5');
    is_deeply([@$answer{qw(status body error)},
               $answer->header('Content-Length')],
              [200, 'abcde', 'closed', 10], 'is cut, too');
    ok(!$kept, 'the connection is not kept');
};

subtest 'too long' => sub {
    my $before = logged('03');
    my $count = 0;
    for my $more (-1, -1000, 10 - $LENGTH, -$LENGTH) {
        my ($answer, $kept) = get_two("/app/x/$more");
        my $length = $LENGTH + $more;
        is_deeply([@$answer{qw(status complete)},
                   $answer->header('Content-Length')], [200, 1, $length],
                  "$length bytes of $LENGTH");
        ok($answer->body eq substr($BODY, 0, $length), 'the first ones');
        ok($kept, 'the connection is in step');
        is(scalar logged('11'), ++$count, 'logged once');
        like((logged('11'))[-1], qr/Content-Length $length\b/);
    }
    is(scalar logged('03'), $before, 'as nothing else');
};

subtest 'an answer that is whole before it is ended' => sub {
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /app/slow/0 HTTP/1.1\r\nHost: x\r\n\r\n");
    my $answer = $conn->read_response(timeout => 5);
    ok($answer->complete, 'is whole for the client at once');
    $app->release('slow');
    $conn->send("GET /other.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    is($conn->read_response->body, 'a file', 'and its connection is kept');
};

subtest 'a filter that changes the body' => sub {
    my $gzip = "Accept-Encoding: gzip\r\n";
    my ($answer, $kept) = get_two('/app/deflate/0', $gzip);
    is($answer->header('Content-Encoding'), 'gzip', 'compressed');
    isnt($answer->header('Content-Length') // '', $LENGTH,
         "the application's length is not that of the answer");
    ok($answer->complete && $kept, 'whole');
    gunzip(\$answer->{body} => \my $text);
    ok($text eq $BODY, 'and right');

    ($answer, $kept) = get_two('/app/deflate/0');
    is($answer->header('Content-Encoding'), undef, 'not compressed');
    ok($answer->body eq $BODY && $kept, 'whole');

    ($answer, $kept) = get_two('/app/deflate/1', $gzip);
    ok(!$answer->complete && !$kept, 'too short is cut');
    ($answer, $kept) = get_two('/app/deflate/-1000', $gzip);
    ok($answer->complete && $kept, 'too long is trimmed');
    gunzip(\$answer->{body} => \$text);
    ok($text eq substr($BODY, 0, -1000), 'to its length');
};

# Peak memory of the one child, in KB, since the last call.
sub peak {
    my ($pid) = $httpd->pids;
    my ($peak) = Private::slurp("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m;
    Private::spew("/proc/$pid/clear_refs", '5');
    return $peak;
}

# Starts curl; collect() gives its exit status, the length and the digest of
# what it got.
sub start {
    my ($path, @args) = @_;
    open my $pipe, '-|', 'curl', '-q', '-sS', '--max-time', 60, @args,
        'http://127.0.0.1:' . $httpd->port . $path or die $!;
    return $pipe;
}

sub collect {
    my ($pipe) = @_;
    my $sha = Digest::SHA->new(256);
    my $length = 0;
    while (sysread $pipe, my $bytes, 1 << 20) {
        $sha->add($bytes);
        $length += length $bytes;
    }
    close $pipe;
    return ($? >> 8, $length, $sha->hexdigest);
}

sub digest {
    my $sha = Digest::SHA->new(256);
    for (my ($at, $i) = (0, 0); $at < $BIG; $at += $PIECE) {
        $sha->add(substr piece($i++), 0, $BIG - $at);
    }
    return $sha->hexdigest;
}

my $DIGEST = digest();

subtest '100 MB' => sub {
    my %way = (
        'with a length' => ['/app/big/0'],
        'without a length' => ['/app/big/none'],
        'HTTP/1.0' => ['/app/big/none', '--http1.0'],
        $H2 ? ('HTTP/2' => ['/app/big/none', '--http2-prior-knowledge']) : (),
    );
    for my $way (sort keys %way) {
        my ($path, @args) = @{ $way{$way} };
        collect(start($path, @args));
        peak();
        my $before = peak();
        is_deeply([collect(start($path, @args))], [0, $BIG, $DIGEST], $way);
        my $growth = peak() - $before;
        SKIP: {
            # buffers come and go, in older mod_http2 larger ones
            my $most = $way ne 'HTTP/2' || Httpd::is_at_least('2.4.71')
                ? 4096 : 16_384;
            skip 'a sanitizer keeps what was freed', 1
                if $ENV{HTTPD_PRELOAD};
            cmp_ok($growth, '<', $most, "and $growth KB more memory");
        }
    }
};

# Clients that are slower than the application.
subtest '100 MB, two at a time' => sub {
    plan skip_all => 'prefork has one process here' if !$H2;
    for my $version (qw(--http1.1 --http2-prior-knowledge)) {
        for my $path (qw(/app/big/none /app/big/0)) {
            my @pipes = map { start($path, $version) } 1, 2;
            is_deeply([collect($_)], [0, $BIG, $DIGEST], "$version, $path")
                for @pipes;
        }
    }
};

$httpd->ok_healthy;
done_testing;
