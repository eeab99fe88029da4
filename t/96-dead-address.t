# One dead address of a host name keeps the first request waiting, and no other.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use IO::Socket::INET;
use Private;
use Test::More;
use Time::HiRes qw(time);

my $TIMEOUT = 2;        # FcgiConnectTimeout, of which one of two has half
my $AT_ONCE = 0.8;      # seconds; less than that half
# Each child remembers for itself, and a single one of prefork lingers two
# seconds behind each client.
$ENV{MPM} = 'worker' if Httpd::mpm() eq 'prefork';

# httpd with this before the C library knows a host of two addresses.
my $build = Private::temp_dir('resolver');
Private::spew("$build/resolver.c", <<'EOC');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>

typedef int resolver(const char *, const char *, const struct addrinfo *,
                     struct addrinfo **);

int getaddrinfo(const char *node, const char *service,
                const struct addrinfo *hints, struct addrinfo **result)
{
    resolver *resolve = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    struct addrinfo *end;
    int rv;

    if (!node || strcmp(node, "two.test")) {
        return resolve(node, service, hints, result);
    }
    rv = resolve("127.0.0.2", service, hints, result);
    if (rv) {
        return rv;
    }
    for (end = *result; end->ai_next; end = end->ai_next) {
    }
    return resolve("127.0.0.1", service, hints, &end->ai_next);
}
EOC
my ($status, $output) = Private::run(
    $ENV{CC} || 'cc', qw(-shared -fPIC -o), "$build/resolver.so",
    "$build/resolver.c", '-ldl');
die $output if $status;

# An application at the first address.
package App2 {
    our @ISA = ('FcgiApp');

    sub listener {
        my ($self) = @_;
        my $socket = IO::Socket::INET->new(
            LocalAddr => '127.0.0.2', LocalPort => $self->{at}, Listen => 128,
            ReuseAddr => 1) or die "127.0.0.2:$self->{at}: $!";
        $socket->blocking(0);
        return $socket;
    }
}

# Answers with its name.
sub app_called {
    my ($name) = @_;
    return sub {
        my ($c) = @_;
        while (my $request = $c->read_request(10)) {
            $c->reply("Content-Type: text/plain\r\n\r\n$name");
            last if !($request->{flags} & FCGI_KEEP_CONN);
        }
    };
}

my $second = FcgiApp->start(app_called('second'), transport => 'tcp',
                            workers => 4);
my $port = $second->{port}->sockport;

# What answers nobody: its backlog is full.
sub make_dead {
    my $listener = IO::Socket::INET->new(
        LocalAddr => '127.0.0.2', LocalPort => $port, Listen => 1,
        ReuseAddr => 1) or die "127.0.0.2:$port: $!";
    my @held = ($listener);
    while (@held < 8) {
        my $conn = IO::Socket::INET->new(
            PeerAddr => '127.0.0.2', PeerPort => $port, Timeout => 0.3)
            or last;
        push @held, $conn;
    }
    return \@held;
}

sub start_httpd {
    my ($keys) = @_;
    return Httpd->start(
        vars => { PORT2 => $port, TIMEOUT => $TIMEOUT },
        env => { LD_PRELOAD => join ' ', $ENV{HTTPD_PRELOAD} // (),
                     "$build/resolver.so" },
        config => <<"EOC");
FcgiBackend two.test:\@PORT2\@ $keys
FcgiConnectTimeout \@TIMEOUT\@
<Location />
  SetHandler fcgi:two.test:\@PORT2\@
</Location>
EOC
}

# Who answers, and after how long.
sub ask {
    my ($httpd) = @_;
    my $from = time;
    my $answer = Client->get($httpd->port, '/');
    return ($answer->body, time - $from);
}

sub all_at_once {
    my ($httpd, $name) = @_;
    for my $n (1 .. 10) {
        my ($who, $took) = ask($httpd);
        is($who, $name, "$n: answered");
        cmp_ok($took, '<', $AT_ONCE, 'at once');
    }
    return;
}

my $dead = make_dead();
plan skip_all => 'a full backlog takes connections here' if @$dead > 7;

subtest 'the first address is dead' => sub {
    my $httpd = start_httpd('ttl=1');
    my ($who) = ask($httpd);
    is($who, 'second', 'the first request is answered by the second');
    all_at_once($httpd, 'second');
    my $until = time + 7;       # names are looked up, and the dead one tried
    my ($count, $slowest) = (0, 0);
    while (time < $until) {
        my ($name, $took) = ask($httpd);
        $count++ if $name ne 'second';
        $slowest = $took if $took > $slowest;
    }
    is($count, 0, 'for some seconds');
    cmp_ok($slowest, '<', $AT_ONCE, 'all at once');
    $httpd->leave;
};

subtest 'many at once, max=2' => sub {
    my $httpd = start_httpd('max=2');
    my $from = time;
    my @conns = map { Client->connect($httpd->port) } 1 .. 6;
    $_->send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for @conns;
    is($_->read_response->body, 'second', 'answered') for @conns;
    cmp_ok(time - $from, '<', $TIMEOUT, 'nobody waits for two that wait');
    $httpd->leave;
};

subtest 'both fail for a moment' => sub {
    my $httpd = start_httpd('keepalive=0');
    is((ask($httpd))[0], 'second', 'answered');
    $second->stop;
    my $conn = Client->connect($httpd->port);
    $conn->send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    is($conn->read_some(0.3), '', 'one waits');
    $second->restart(app_called('second'));
    is($conn->read_response->body, 'second', 'who is back has it');
    all_at_once($httpd, 'second');
    $httpd->leave;
};

subtest 'the dead one comes back' => sub {
    my $httpd = start_httpd('keepalive=0');
    is((ask($httpd))[0], 'second', 'answered');
    close $_ for @$dead;
    my $first = App2->start(app_called('first'), transport => 'tcp',
                            at => $port, workers => 2);
    my $slowest = 0;
    ok(Private::wait_until(15, sub {
        my ($who, $took) = ask($httpd);
        $slowest = $took if $took > $slowest;
        $who eq 'first';
    }), 'it is asked again');
    cmp_ok($slowest, '<', $AT_ONCE, 'and nobody waited for that');
    $first->stop;
    my ($who, $took) = ask($httpd);
    is($who, 'second', 'until it is gone');
    cmp_ok($took, '<', $AT_ONCE, 'which is seen at once');
    $httpd->leave;
};

Httpd->ok_left;
done_testing;
