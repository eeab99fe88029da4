# A request is sent again only if nothing is lost and nothing done twice.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use Private;
use Test::More;
use Time::HiRes qw(sleep);

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $H2 = Httpd::mpm() ne 'prefork';

# One process of httpd serves all requests: it has all idle connections.
my $ONE = Httpd::mpm() eq 'prefork' ? <<'EOC' : undef;
StartServers 1
ServerLimit 4
MinSpareServers 1
MaxSpareServers 1
MaxRequestWorkers 1
EOC

# How often the application was asked for a URL, counted over its processes.
my $asked = Private::temp_dir('asked');

sub asked_for {
    my ($uri) = @_;
    return -s "$asked/" . md5_hex($uri) || 0;
}

sub count_request {
    my ($uri) = @_;
    open my $file, '>>', "$asked/" . md5_hex($uri) or die $!;
    syswrite $file, '.';
    close $file;
    return asked_for($uri);
}

# How a connection breaks once the request is read.
my %break = (
    'die' => sub { $_[0]->close },
    'reset' => sub { $_[0]->reset },
    'byte' => sub { $_[0]->send("\1"); $_[0]->close },
    'header' => sub {
        $_[0]->send($_[0]->record(FCGI_STDOUT, 1));
        $_[0]->close;
    },
    'stderr' => sub { $_[0]->stderr("a word\n"); $_[0]->close },
    'management' => sub {
        $_[0]->send($_[0]->record(FCGI_GET_VALUES_RESULT, 0, 'x'));
        $_[0]->close;
    },
    'foreign' => sub {
        $_[0]->send($_[0]->record(FCGI_STDERR, 9, 'x'));
        $_[0]->close;
    },
    'interim' => sub {
        $_[0]->stdout("Status: 103\r\n\r\n");
        $_[0]->close;
    },
    # of age, where FcgiRetry says 450ms, and where nothing is said
    'late' => sub { sleep 0.5; $_[0]->close },
    'later' => sub { sleep 1.2; $_[0]->close },
    'words' => sub { $_[0]->stderr("a word\n"); sleep 0.5; $_[0]->close },
    'stdout' => sub { $_[0]->stdout('X-'); $_[0]->close },
);

# /where/HOW-WHEN-anything: breaks the first time (once), or each time
# (always); anything else is answered. "read" takes one record of the request
# only. "hang-up" answers, and resets the connection when it is told to.
sub tell {
    my ($c) = @_;
    my $nr = 0;
    while (1) {
        my $request = $c->read_params(60) or return;
        my ($uri) = $request->{params}{REQUEST_URI};
        my ($how, $when) = $uri =~ m{/(\w+)-(once|always)};
        my $times = count_request($uri);
        if ($when && ($times == 1 || $when eq 'always')) {
            read_rest($c, $request);
            $c->report(broke => $c->number);
            return $break{$how}->($c);
        }
        read_rest($c, $request);
        $c->reply(join ' ', $HEAD . $uri, "times=$times", 'connection='
            . $c->number, 'nr=' . ++$nr, 'method='
            . $request->{params}{REQUEST_METHOD},
            'body=' . length($request->{stdin}) . '-'
            . md5_hex($request->{stdin}),
            'length=' . ($request->{params}{CONTENT_LENGTH} // ''));
        return part_of_next($c) if $uri =~ /part-of-next/;
        if ($uri =~ /hang-up/) {
            $c->wait_release("hang-up$times", 10);
            return $c->reset;
        }
    }
    return;
}

sub read_rest {
    my ($c, $request) = @_;
    while (!$request->{stdin_complete}) {
        my $record = $c->read_record(20) or return;
        FcgiApp::Connection::add_record($request, $record);
    }
    return;
}

# Takes a little of the next request.
sub part_of_next {
    my ($c) = @_;
    $c->read_record(20);
    $c->report(took => 1);
    return $c->close;
}

my $app = FcgiApp->start(\&tell, workers => 8);
my $kept = FcgiApp->start(\&tell, workers => 8);
my $single = FcgiApp->start(\&tell, workers => 8);

# A stand-in for a moment that comes once in a million: while the file is
# there, idle connections seem quiet whatever has happened to them.
my $shim = Private::temp_dir('shim');
Private::spew("$shim/quiet.c", <<'EOC');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

ssize_t recv(int fd, void *data, size_t len, int flags)
{
    static ssize_t (*next)(int, void *, size_t, int);
    const char *file = getenv("SEEM_QUIET");

    if (len == 1 && (flags & MSG_PEEK) && file && !access(file, F_OK)) {
        errno = EAGAIN;
        return -1;
    }
    if (!next) {
        *(void **)&next = dlsym(RTLD_NEXT, "recv");
    }
    return next(fd, data, len, flags);
}
EOC
my ($no_compiler) = Private::run(
    'cc', qw(-shared -fPIC -O1 -o), "$shim/quiet.so", "$shim/quiet.c",
    '-ldl');

my $httpd = Httpd->start(
    http2 => $H2, mpm => $ONE,
    env => $no_compiler ? {} : {
        LD_PRELOAD => join(' ', $ENV{HTTPD_PRELOAD} // (),
                           "$shim/quiet.so"),
        SEEM_QUIET => "$shim/seem-quiet",
    },
    vars => { APP => $app->address, KEPT => $kept->address,
              SINGLE => $single->address },
    config => <<'EOC');
FcgiTimeout 10
FcgiBackend app @APP@
FcgiBackend kept @KEPT@ keepalive=4 idle=60
FcgiBackend single @SINGLE@ max=1 queue-timeout=5
<Location />
  SetHandler fcgi:app
</Location>
<Location /kept/>
  SetHandler fcgi:kept
</Location>
<Location /kept/off/>
  FcgiRetry Off
</Location>
<Location /single/>
  SetHandler fcgi:single
</Location>
<Location /off/>
  FcgiRetry Off
</Location>
<LocationMatch "/young/">
  FcgiRetry Safe 450ms
</LocationMatch>
<LocationMatch "/old/">
  FcgiRetry Safe 1min
</LocationMatch>
<Location /off/safe/>
  FcgiRetry Safe
</Location>
<LocationMatch "/stream">
  FcgiRequestBuffering Off
</LocationMatch>
EOC

my $SMALL = join '', map { chr 65 + $_ % 26 } 1 .. 1000;
my $LARGE = join '', map { pack 'N', $_ * 2654435761 % 2**32 } 1 .. 75_000;

sub ask {
    my ($method, $path, $body) = @_;
    my $length = defined $body
        ? 'Content-Length: ' . length($body) . "\r\n" : '';
    return Client->request($httpd->port,
        "$method $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        . "$length\r\n" . ($body // ''), timeout => 20);
}

# The answer is right, came at that time of asking, and has the whole body.
sub answered {
    my ($answer, $path, $times, $method, $body) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($answer->status, 200, "$path: answered") or diag $answer->raw;
    ok($answer->complete, 'complete');
    is(asked_for($path), $times, "the application was asked $times times");
    return if $method eq 'HEAD';
    like($answer->body, qr/^\Q$path\E times=$times .* method=$method /,
         'its own answer');
    $body //= '';
    my $md5 = md5_hex($body);
    like($answer->body, qr/ body=${\length $body}-$md5 /, 'the whole body');
    like($answer->body, qr/ length=${\length $body}$/, 'and its length')
        if $body ne '';
    return;
}

# The client gets an error, after the application was asked so many times.
sub failed {
    my ($answer, $path, $times) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($answer->status, 502, "$path: an error") or diag $answer->raw;
    is(asked_for($path), $times, "the application was asked $times times");
    my @lines = grep { /FCGI03: .*broken answer/ } split /\n/,
        $httpd->error_log;
    like($lines[-1] // '', qr/, try $times, /, 'the log says so');
    return;
}

# The number of the one connection that is idle now.
sub make_idle {
    my ($answer) = ask('GET', '/kept/make-idle');
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($number) = $answer->body =~ /connection=(\d+)/;
    ok($number, 'a connection is idle') or diag $answer->raw;
    settle();
    return $number // 0;
}

subtest 'a safe method is sent once more' => sub {
    for my $method (qw(GET HEAD OPTIONS)) {
        for my $how (qw(die reset)) {
            my $path = "/$how-once-$method";
            answered(ask($method, $path), $path, 2, $method);
            $path = "/$how-always-$method";
            failed(ask($method, $path), $path, 2);
        }
    }
};

subtest 'any other is not' => sub {
    for my $method (qw(POST PUT DELETE PATCH REPORT FANCY)) {
        my $path = "/die-once-$method";
        my $connections = $app->connections;
        failed(ask($method, $path, $SMALL), $path, 1);
        is($app->connections, $connections + 1, 'one connection');
    }
    failed(ask('POST', '/reset-once-post', $LARGE), '/reset-once-post', 1);
    failed(ask('DELETE', '/die-once-empty'), '/die-once-empty', 1);
};

subtest 'FcgiRetry' => sub {
    failed(ask('GET', "/off/$_-once-x"), "/off/$_-once-x", 1)
        for qw(die reset);
    answered(ask('GET', '/off/safe/die-once'), '/off/safe/die-once', 2,
             'GET');
};

subtest 'only if it died young' => sub {
    for my $where ('', '/kept') {
        for my $how (qw(late words)) {
            my $path = "$where/young/$how-once";
            make_idle() if $where;
            failed(ask('GET', $path), $path, 1);
            $path = "$where/old/$how-once";
            make_idle() if $where;
            answered(ask('GET', $path), $path, 2, 'GET');
        }
        my $path = "$where/young/die-once";
        make_idle() if $where;
        answered(ask('GET', $path), $path, 2, 'GET');
        next if !$where;
        $kept->wait_report('broke') for 1 .. 5;
    }
    failed(ask('GET', '/later-once'), '/later-once', 1);
    my ($answer, $path);
    for my $time (1 .. 5) {     # on a busy machine it may live longer
        $path = "/late-once-$time";
        $answer = ask('GET', $path);
        last if asked_for($path) == 2;
    }
    answered($answer, $path, 2, 'GET');
    failed(ask('GET', '/young/late-once-body', $LARGE),
           '/young/late-once-body', 1);
};

subtest 'not once the answer has begun' => sub {
    for my $how (qw(stdout interim)) {
        my $path = "/$how-once-begun";
        failed(ask('GET', $path), $path, 1);
    }
};

subtest 'what is no answer begins none' => sub {
    for my $how (qw(byte header stderr management foreign)) {
        my $path = "/$how-once";
        answered(ask('GET', $path), $path, 2, 'GET');
        failed(ask('GET', "/$how-always"), "/$how-always", 2);
        failed(ask('POST', "$path-post", $SMALL), "$path-post", 1);
    }
    like($httpd->error_log, qr/a word/, 'the word on stderr is in the log');
};

subtest 'with its body' => sub {
    for my $body ($SMALL, $LARGE) {
        my $path = '/die-once-body' . length $body;
        answered(ask('GET', $path, $body), $path, 2, 'GET', $body);
    }
    my $path = '/die-once-chunked';
    my $chunks = join '', map { sprintf "%x\r\n%s\r\n", length, $_ }
        unpack '(a9999)*', $LARGE;
    answered(Client->request($httpd->port,
        "GET $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        . "Transfer-Encoding: chunked\r\n\r\n${chunks}0\r\n\r\n"),
        $path, 2, 'GET', $LARGE);
};

subtest 'a streamed body is not' => sub {
    failed(ask('GET', '/stream-1/die-once', $SMALL), '/stream-1/die-once', 1);
    failed(ask('GET', '/stream-2/die-once', $LARGE), '/stream-2/die-once', 1);
    answered(ask('GET', '/stream-3/die-once'), '/stream-3/die-once', 2,
             'GET');
};

subtest 'max=1: the second time in the place of the first' => sub {
    for my $path (map { "/single/die-once-$_" } 1 .. 3) {
        answered(ask('GET', $path), $path, 2, 'GET');
    }
    failed(ask('GET', '/single/die-always'), '/single/die-always', 2);
    answered(ask('GET', '/single/after'), '/single/after', 1, 'GET');
};

# Lets an idle connection be idle for so long that any request may take it.
sub settle { return select undef, undef, undef, 0.3 }

subtest 'kept, and all of the request was accepted' => sub {
    for my $how (qw(die reset)) {
        make_idle();
        my $connections = $kept->connections;
        my $path = "/kept/$how-once-get";
        my $answer = ask('GET', $path);
        answered($answer, $path, 2, 'GET');
        like($answer->body, qr/connection=@{[ $connections + 1 ]} nr=1 /,
             'the second time on a new connection');
        is($kept->wait_report('broke'), $connections,
           'the first time on the idle one') or diag $answer->raw;

        make_idle();
        $connections = $kept->connections;
        $path = "/kept/$how-once-post";
        failed(ask('POST', $path, $SMALL), $path, 1);
        is($kept->connections, $connections, 'on the idle one');
        is($kept->wait_report('broke'), $connections, 'that one');

        make_idle();
        $path = "/kept/off/$how-once-get";
        failed(ask('GET', $path), $path, 1);
        $kept->wait_report('broke');

        make_idle();
        $path = "/kept/$how-always-get";
        failed(ask('GET', $path), $path, 2);
        $kept->wait_report('broke') for 1 .. 2;
    }
};

subtest 'kept, and a part was accepted' => sub {
    for my $method (qw(POST GET)) {
        my $path = "/kept/part-of-next-$method";
        is(ask('GET', $path)->status, 200, 'a connection is idle');
        settle();
        my $connections = $kept->connections;
        $path = "/kept/after-part-$method";
        my $answer = ask($method, $path, $LARGE x 20);
        is($kept->wait_report('took'), 1, 'it took a part');
        if ($method eq 'GET') {
            answered($answer, $path, 1, 'GET', $LARGE x 20);
            next;
        }
        is($answer->status, 502, 'POST: an error');
        is(asked_for($path), 0, 'it was not asked again');
        is($kept->connections, $connections, 'on the same connection');
    }
};

subtest 'another idle connection is not tried' => sub {
    plan skip_all => 'one request at a time' if Httpd::mpm() eq 'prefork';
    my @idle = map { "/kept/two-$_" } 1, 2;
    my @conns = map { Client->connect($httpd->port) } @idle;
    $kept->restart(sub {
        my ($c) = @_;
        my $request = $c->read_params(60) or return;
        read_rest($c, $request);
        if ($request->{params}{REQUEST_URI} =~ /two/) {
            $c->stdout("${HEAD}begun");
            $c->wait_release('two', 10);
            $c->end;
            $request = $c->read_params(60) or return;
            read_rest($c, $request);
            $c->report(second => $c->number);
            return;
        }
        $c->reply($HEAD . 'connection=' . $c->number);
    });
    my $connections = $kept->connections;
    $conns[$_]->send("GET $idle[$_] HTTP/1.1\r\nHost: x\r\n"
                     . "Connection: close\r\n\r\n") for 0, 1;
    ok($_->read_until(qr/begun/), 'begun') for @conns;
    $kept->release('two');
    is($_->read_response->status, 200, 'both are answered') for @conns;
    is($kept->connections, $connections + 2, 'on two connections');
    my $answer = ask('GET', '/kept/three');
    is($answer->status, 200, 'one breaks, answered all the same');
    is($answer->body, 'connection=' . ($connections + 3), 'on a new one');
    ok($kept->wait_report('second'), 'one idle one was asked');
    is(scalar(grep { $_->[0] eq 'second' } $kept->reports), 1,
       'and no other');
    $kept->restart(\&tell);
};

# The application resets an idle connection, which httpd does not know yet.
sub hang_up {
    my $times = asked_for('/kept/hang-up') + 1;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(ask('GET', '/kept/hang-up')->status, 200, 'a connection is idle');
    settle();
    Private::spew("$shim/seem-quiet", '');
    $kept->release("hang-up$times");
    ok(Private::wait_until(5, sub { !app_sockets() }), 'it is reset');
    return;
}

# How many connections the application's processes have open.
sub app_sockets {
    my $count = 0;
    for my $pid (@{ $kept->{pids} }) {
        my @sockets = grep { /^socket:/ } map { readlink($_) // '' }
            glob "/proc/$pid/fd/*";
        $count += @sockets - 1; # one listens
    }
    return $count;
}

subtest 'kept, and not one byte was accepted' => sub {
    plan skip_all => 'no compiler here' if $no_compiler;
    my %case = (
        'post-empty' => ['POST', undef], 'post-small' => ['POST', $SMALL],
        'post-large' => ['POST', $LARGE], 'put' => ['PUT', $LARGE],
        'get' => ['GET', undef], 'delete' => ['DELETE', undef],
        'off/post' => ['POST', $SMALL],
        'stream-1' => ['POST', $SMALL, 'error'],
        'stream-2' => ['POST', $LARGE, 'error'],
    );
    # A sanitizer's own recv() hides the stand-in: the moment does not come,
    # and these are answered as on any ended connection.
    delete @case{qw(stream-1 stream-2)} if $ENV{HTTPD_PRELOAD};
    for my $name (sort keys %case) {
        my ($method, $body, $error) = @{ $case{$name} };
        my $path = "/kept/$name";
        hang_up();
        my $connections = $kept->connections;
        my $answer = ask($method, $path, $body);
        unlink "$shim/seem-quiet";
        if ($error) {
            is($answer->status, 502, "$name: an error");
            is(asked_for($path), 0, 'the application was not asked');
            next;
        }
        answered($answer, $path, 1, $method, $body);
        is($kept->connections, $connections + 1, 'on a new connection');
        like($answer->body, qr/ nr=1 /, 'as its first');
    }
    my @lines = $httpd->error_log =~ /(FCGI19.*)/g;
    is(scalar @lines, 0, 'nothing was stray') or diag @lines;
};

subtest 'HTTP/2' => sub {
    plan skip_all => 'no HTTP/2 on prefork' if !$H2;
    my $url = 'http://127.0.0.1:' . $httpd->port;
    my @h2 = '--http2-prior-knowledge';
    Private::spew("$asked/large", $LARGE);
    my $got = Client::curl(@h2, "$url/die-once-h2");
    is("$got->{status} $got->{http_version}", '200 2', 'GET: answered');
    like($got->{body}, qr{^/die-once-h2 times=2 }, 'the second time');
    $got = Client::curl(@h2, '--data-binary', "\@$asked/large", '-X', 'GET',
                        "$url/die-once-h2-body");
    my $md5 = md5_hex($LARGE);
    like($got->{body}, qr/ times=2 .* body=300000-$md5 /, 'with its body');
    $got = Client::curl(@h2, "$url/die-always-h2");
    is($got->{status}, 502, 'GET twice in vain');
    is(asked_for('/die-always-h2'), 2, 'asked twice');
    $got = Client::curl(@h2, '-d', 'x', "$url/die-once-h2-post");
    is($got->{status}, 502, 'POST: an error');
    is(asked_for('/die-once-h2-post'), 1, 'asked once');
};

$httpd->ok_healthy;
done_testing;
