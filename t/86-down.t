# A dead application costs nobody else anything, and is found when it is back.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use Private;
use Test::More;
use Time::HiRes qw(sleep time);

my $AT_ONCE = 0.6;      # seconds, on a busy machine
my $FULL = 0.95;        # of a second: the last attempt comes a bit before it
my $PATIENCE = 20;
my $THREADED = Httpd::mpm() ne 'prefork';

# Room for all clients here, in several children.
my $SEVERAL = $THREADED ? <<'THREADS' : <<'PREFORK';
StartServers 2
ServerLimit 4
ThreadLimit 64
ThreadsPerChild 16
MinSpareThreads 1
MaxSpareThreads 32
MaxRequestWorkers 32
THREADS
StartServers 24
ServerLimit 40
MinSpareServers 1
MaxSpareServers 32
MaxRequestWorkers 32
PREFORK

# One child, which alone knows what names are.
my $ONE = $THREADED ? undef : <<'PREFORK';
StartServers 1
ServerLimit 4
MinSpareServers 1
MaxSpareServers 1
MaxRequestWorkers 1
PREFORK

# Answers with its name.
sub app_called {
    my ($name) = @_;
    return sub {
        my ($c) = @_;
        while (my $request = $c->read_request(60)) {
            $c->reply("Content-Type: text/plain\r\n\r\n$name");
            last if !($request->{flags} & FCGI_KEEP_CONN);
        }
    };
}

sub ms { return sprintf '%.1f ms', 1000 * $_[0] }

sub median { return (sort { $a <=> $b } @_)[$#_ / 2] // 0 }

# ---- a dead backend ----

# A socket's path where nobody listens, and httpd that knows it as /dead.
sub start_with_dead {
    my ($keys, $timeout, $more) = @_;
    my $dir = Private::temp_dir('dead');
    my $alive = FcgiApp->start(app_called('alive'));
    my $httpd = Httpd->start(
        mpm => $SEVERAL, vars => { ALIVE => $alive->handler },
        files => { 'file.txt' => 'file' }, config => <<"EOC");
FcgiBackend $dir/dead.sock $keys
FcgiConnectTimeout $timeout
<Location /dead>
  SetHandler fcgi:$dir/dead.sock
</Location>
<Location /alive>
  SetHandler \@ALIVE\@
</Location>
$more
EOC
    return { dir => $dir, alive => $alive, httpd => $httpd,
             path => "$dir/dead.sock" };
}

sub revive {
    my ($world) = @_;
    $world->{back} = FcgiApp->start(app_called('back'), transport => 'unix',
                                    socket => $world->{path});
    return;
}

# Asks for a path again and again until there is the file "stop"; a line for
# each answer: status, Retry-After or "-", seconds, body.
sub client {
    my ($httpd, $dir, $name, $path) = @_;
    my $lines = '';
    while (!-e "$dir/stop") {
        my $from = time;
        my $answer = Client->get($httpd->port, $path);
        $lines .= join(' ', $answer->status // 'none',
                       $answer->header('Retry-After') // '-', time - $from,
                       $answer->status == 200 ? $answer->body : '') . "\n";
        sleep 0.01;
    }
    Private::spew("$dir/$name", $lines);
    return;
}

# Runs clients, name => path, for some seconds; name => [[fields], ...]
sub run_clients {
    my ($httpd, $seconds, %paths) = @_;
    my $dir = Private::temp_dir('load');
    my @pids = map {
        my $name = $_;
        Private::spawn(code => sub {
            client($httpd, $dir, $name, $paths{$name});
        });
    } sort keys %paths;
    sleep $seconds;
    Private::spew("$dir/stop", '');
    for my $pid (@pids) {
        Private::wait_until($PATIENCE, sub { !Private::alive($pid) })
            or die 'a client does not end';
    }
    return map {
        $_ => [map { [split ' '] } split /\n/, Private::slurp("$dir/$_")];
    } keys %paths;
}

# All are 200 and in time; their median.
sub all_served {
    my ($name, @lines) = @_;
    ok(@lines > 5, "$name: " . @lines . ' answers');
    is_deeply([grep { $_->[0] != 200 || $_->[2] > 3 } @lines], [],
              "$name: each is served, and in time");
    return ms(median(map { $_->[2] } @lines));
}

subtest 'others do not notice' => sub {
    my $world = start_with_dead('max=2 queue=2', 1, '');
    my $httpd = $world->{httpd};
    my %others = (file => '/file.txt', alive => '/alive');
    my %before = run_clients($httpd, 1, %others);
    my $from = time;
    my %during = run_clients($httpd, 3, %others,
                             map { ("dead$_" => '/dead') } 1 .. 10);
    for my $name (sort keys %others) {
        my ($was, $is) = map { all_served($name, @{ $_->{$name} }) }
            \%before, \%during;
        note "$name: median $was, then $is";
    }
    my @dead = map { @{ $during{"dead$_"} } } 1 .. 10;
    is_deeply([grep { "@$_[0, 1]" ne '503 1' } @dead], [],
              'of the dead one ' . @dead . ' answers: 503 with Retry-After');

    # This one takes a second, so that its line has the rest of the count.
    is(Client->get($httpd->port, '/dead')->status, 503, 'one more');
    my $seconds = time - $from;
    my @lines = $httpd->error_log =~ /^.*:error\].*FCGI(?:01|18): .*$/mg;
    cmp_ok(scalar @lines, '<=', $seconds + 1,
           @lines . sprintf ' lines in the log in %.1f s', $seconds);
    cmp_ok(scalar @lines, '>=', 3, 'and some');
    my $count = @lines;
    for my $line (@lines) {
        $count += $1 if $line
            =~ /; (\d+) more requests got no connection since the last such/;
    }
    is($count, @dead + 1, 'they count all requests') or diag @lines;

    revive($world);
    $from = time;
    is(Client->get($httpd->port, '/dead')->status, 200, 'it is back');
    cmp_ok(time - $from, '<', 1, 'which is found at once');
    $httpd->leave;
};

# The two that have a place are given up after a second, then those in line.
subtest 'no more than its line wait for it' => sub {
    my $world = start_with_dead('max=2 queue=2', 1, '');
    my $httpd = $world->{httpd};
    my @conns = map { Client->connect($httpd->port) } 1 .. 12;
    my (%at, %took);
    for my $n (0 .. 11) {
        $at{$n} = time;
        $conns[$n]->send("GET /dead HTTP/1.1\r\nHost: x\r\n"
                         . "Connection: close\r\n\r\n");
    }
    my $deadline = time + $PATIENCE;
    while (keys %took < 12 && time < $deadline) {
        for my $n (grep { !$took{$_} } 0 .. 11) {
            $took{$n} = time - $at{$n} if $conns[$n]->read_until(qr/./, 0.01);
        }
    }
    my @took = map { $took{$_} // 99 } 0 .. 11;
    is(scalar(grep { $_ < $AT_ONCE } @took), 8, 'eight are refused at once');
    is(scalar(grep { $_ >= $FULL } @took), 4, 'four are waited for');
    cmp_ok($_, '<', 4, 'but not for long') for @took;
    note join ' ', map { ms($_) } @took;
    my @answers = map { $_->read_response } @conns;
    is_deeply([map { $_->status } @answers], [(503) x 12], '503 for all');
    like($httpd->error_log, qr/FCGI18: .*the line is full/, 'with a reason');
    $httpd->leave;
};

subtest 'its own error page is not waited for' => sub {
    for my $keys ('', 'max=1 queue=0') {
        my $world = start_with_dead($keys, 1, <<'EOC');
ErrorDocument 503 /dead/error
EOC
        my $httpd = $world->{httpd};
        my $from = time;
        my $answer = Client->get($httpd->port, '/dead');
        my $took = time - $from;
        is($answer->status, 503, 'the page is not there either');
        cmp_ok($took, '>=', $FULL, 'the request is waited for');
        cmp_ok($took, '<', 2 * $FULL, 'the page is not');
        note 'after ' . ms($took);
        $httpd->leave;
    }
};

subtest 'who waits is served when it is back' => sub {
    my $world = start_with_dead('max=2', 15, '');
    my $httpd = $world->{httpd};
    my @conns = map { Client->connect($httpd->port) } 1 .. 4;
    $_->send("GET /dead HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for @conns;
    ok(!$conns[0]->read_until(qr/./, 0.5), 'they wait');
    revive($world);
    my $from = time;
    is($_->read_response->body, 'back', 'answered') for @conns;
    my $took = time - $from;
    cmp_ok($took, '<', 2, 'soon');
    note 'after ' . ms($took);
    unlike($httpd->error_log, qr/FCGI(?!26|36)/, 'nothing in the log');
    $httpd->leave;
};

# ---- names ----

# httpd with this before the C library finds the addresses of names that end
# in ".test" in a file of that name, and adds a byte to another when it looks.
# To a third goes what the sockets to one port are like when they are used.
my $PRELOAD = <<'EOC';
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef int resolver(const char *, const char *, const struct addrinfo *,
                     struct addrinfo **);
typedef ssize_t sender(int, const struct msghdr *, int);

static void note(const char *name, const char *text)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", getenv("NAMES"), name);
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0666);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) {
        abort();
    }
    close(fd);
}

int getaddrinfo(const char *node, const char *service,
                const struct addrinfo *hints, struct addrinfo **result)
{
    resolver *resolve = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    struct addrinfo **end = result;
    char path[4096], address[64];
    FILE *file;

    if (!node || strlen(node) < 5 || strcmp(node + strlen(node) - 5, ".test")) {
        return resolve(node, service, hints, result);
    }
    snprintf(path, sizeof(path), "%s.asked", node);
    note(path, ".");
    snprintf(path, sizeof(path), "%s/%s", getenv("NAMES"), node);
    file = fopen(path, "r");
    if (!file) {
        return EAI_AGAIN;
    }
    *result = NULL;
    while (fscanf(file, "%63s", address) == 1) {
        if (resolve(address, service, hints, end)) {
            abort();
        }
        while (*end) {
            end = &(*end)->ai_next;
        }
    }
    fclose(file);
    return *result ? 0 : EAI_AGAIN;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    sender *next = (sender *)dlsym(RTLD_NEXT, "sendmsg");
    struct sockaddr_in peer;
    socklen_t len = sizeof(peer), size = sizeof(int);
    int nodelay = -1, keepalive = -1;
    char text[64];

    memset(&peer, 0, sizeof(peer));
    if (!getpeername(fd, (struct sockaddr *)&peer, &len)
        && peer.sin_family == AF_INET
        && ntohs(peer.sin_port) == atoi(getenv("NAMES_PORT"))) {
        getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &size);
        getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &keepalive, &size);
        snprintf(text, sizeof(text), "nodelay %d keepalive %d\n", !!nodelay,
                 !!keepalive);
        note("sockets", text);
    }
    return next(fd, message, flags);
}
EOC

# A scripted application on another of the loopback addresses.
package AppAt {
    our @ISA = qw(FcgiApp);

    sub listener {
        my ($self) = @_;
        my $socket = IO::Socket::INET->new(
            LocalAddr => $self->{ip}, LocalPort => $self->{at}, Listen => 128,
            ReuseAddr => 1) or die "$self->{ip}: $@";
        $socket->blocking(0);
        return $socket;
    }
}

my $names = Private::temp_dir('names');
chmod 01777, $names;
my ($status, $output) = Private::run(
    $ENV{CC} || 'cc', qw(-shared -fPIC -o), "$names/names.so",
    Private::spew("$names/names.c", $PRELOAD), '-ldl');
die $output if $status;

# A name has these addresses from now on; none: the resolver does not answer.
sub set_name {
    my ($name, @addresses) = @_;
    my $new = Private::spew("$names/$name.new", "@addresses\n", 0644);
    rename $new, "$names/$name" or die $!;
    return;
}

sub asked { return -s "$names/$_[0].asked" || 0 }

subtest 'names' => sub {
    my $one = FcgiApp->start(app_called('one'), transport => 'tcp');
    my ($port) = $one->address =~ /(\d+)$/;
    my $two = AppAt->start(app_called('two'), transport => 'tcp',
                           ip => '127.0.0.2', at => $port);
    my $httpd = Httpd->start(
        mpm => $ONE,
        env => { NAMES => "$names", NAMES_PORT => $port,
                 LD_PRELOAD => join ' ', $ENV{HTTPD_PRELOAD} // (),
                     "$names/names.so" },
        config => join '', "FcgiBackend short.test:$port ttl=1\n",
            "FcgiBackend kept.test:$port keepalive=1\n", map { <<"EOC" }
<Location /$_>
  SetHandler fcgi:$_.test:$port
</Location>
EOC
            qw(long short several kept));
    my $ask = sub {
        my $answer = Client->get($httpd->port, "/$_[0]");
        return $answer->status == 200 ? $answer->body : $answer->status;
    };

    set_name('long.test', '127.0.0.1');
    is($ask->('long'), 'one', 'an address');
    is(asked('long.test'), 1, 'was asked for');
    set_name('long.test', '127.0.0.2');
    is($ask->('long'), 'one', 'another is not known yet') for 1 .. 3;
    is(asked('long.test'), 1, 'as nobody asks');

    my $from = time;
    set_name('short.test', '127.0.0.1');
    is($ask->('short'), 'one', 'ttl=1');
    set_name('short.test', '127.0.0.2');
    my $said = 'nothing';
    Private::wait_until($PATIENCE, sub {
        $said = $ask->('short');
        $said ne 'one';
    });
    is($said, 'two', 'its new address');
    cmp_ok(time - $from, '>=', 1, 'is found after that time');
    cmp_ok(time - $from, '<', 5, 'and not much later');
    is(asked('short.test'), 2, 'asked for twice');
    set_name('short.test');
    my %answers;
    ok(Private::wait_until($PATIENCE, sub {
        $answers{ $ask->('short') }++;
        asked('short.test') > 3;
    }), 'the resolver does not answer any more');
    is_deeply([keys %answers], ['two'], 'what was known still holds');

    set_name('several.test', map { "127.0.0.$_" } 3, 4, 5, 2);
    is($ask->('several'), 'two', 'the last of four addresses');

    $one->stop;
    $from = time;
    is($ask->('long'), 'two', 'a refused connection: asked again at once');
    cmp_ok(time - $from, '<', 2, 'in no time');
    is(asked('long.test'), 2, 'once');
    is($ask->('long'), 'two', 'and then it is known');
    is(asked('long.test'), 2, 'for long');

    set_name('kept.test', '127.0.0.2');
    is($ask->('kept'), 'two', 'a connection to be kept');
    my %sockets;
    $sockets{$_}++ for split /\n/, Private::slurp("$names/sockets");
    is_deeply([keys %sockets], ['nodelay 1 keepalive 1'],
              'all have TCP_NODELAY and SO_KEEPALIVE');
    $httpd->leave;
};

Httpd->ok_left;
done_testing;
