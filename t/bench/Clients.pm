# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Clients that wrk does not have: many that read slowly, one that asks again
# and again meanwhile, and many of which each answer and failure is counted.
#
#     Clients::slow($port, path => '/app/?bytes=12000000&log', count => 20,
#                   rate => 1_500_000, probe => '/app/', until => sub { ... },
#                   seconds => 5)
#         count clients read rate bytes a second each, until until says true
#         or the time is over. Meanwhile one asks for probe, 20 ms after each
#         answer. Gives how many seconds each of its answers took, the last
#         one perhaps without an answer: { answered => [...],
#         waited => seconds or undef }
#     Clients::crowd($port, path => '/app/', count => 64, seconds => 2,
#                    timeout => 5)
#         count clients ask, each again when it has its answer; after an
#         answer that is no 200, and after timeout seconds, it pauses 100 ms.
#         { answered => [seconds], failed => { 503 => count, timeout => ... },
#         waited => the longest wait for an answer, also of those that have
#         none }
#     Clients::one_by_one($port, '/app/', $count)
#         count requests on one connection; dies if one is no 200
package Clients;

use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use List::Util qw(max min);
use Socket qw(:all);
use Time::HiRes qw(sleep time);

my $TICK = 0.02;        # seconds between two readings of a slow client
my $PROBE_PAUSE = 0.02;
my $FAILURE_PAUSE = 0.1;

# A socket to 127.0.0.1 on which GET path was sent.
sub ask {
    my ($port, $path, $receive_buffer) = @_;
    socket my $socket, PF_INET, SOCK_STREAM, 0 or die "socket: $!";
    setsockopt $socket, SOL_SOCKET, SO_RCVBUF, $receive_buffer
        if $receive_buffer;
    connect $socket, sockaddr_in($port, inet_aton('127.0.0.1'))
        or die "connect: $!";
    syswrite $socket,
        "GET $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    $socket->blocking(0);
    return $socket;
}

# Reads what there is: false when the answer is over.
sub take {
    my ($client) = @_;
    my $len = sysread $client->{socket}, $client->{bytes}, 65536,
        length $client->{bytes};
    return defined $len ? $len > 0 : $!{EAGAIN} || $!{EINTR};
}

sub status {
    my ($client) = @_;
    return $client->{bytes} =~ m{^HTTP/1\.\d (\d\d\d)} ? $1 : 'no answer';
}

# ---- slow readers ----

sub slow {
    my ($port, %arg) = @_;
    my $start = time;
    my @readers = map {
        { socket => ask($port, $arg{path}, 65536), got => 0 }
    } 1 .. $arg{count};
    my %probe = (port => $port, path => $arg{probe}, answered => [],
                 next => $start + 0.1);
    while (time - $start < $arg{seconds} && !$arg{until}->()) {
        read_slowly($_, $arg{rate} * (time - $start)) for @readers;
        probe(\%probe);
        sleep $TICK / 4;
    }
    return { answered => $probe{answered},
             waited => $probe{socket} ? time - $probe{asked} : undef };
}

sub read_slowly {
    my ($reader, $allowed) = @_;
    return if $allowed - $reader->{got} < 8192;
    my $len = sysread $reader->{socket}, my $bytes,
        int($allowed - $reader->{got});
    $reader->{got} += $len || 0;
    return;
}

sub probe {
    my ($probe) = @_;
    if (!$probe->{socket}) {
        return if time < $probe->{next};
        $probe->{asked} = time;
        $probe->{bytes} = '';
        $probe->{socket} = ask($probe->{port}, $probe->{path});
    }
    return if take($probe);
    push @{ $probe->{answered} }, time - $probe->{asked};
    $probe->{socket} = undef;
    $probe->{next} = time + $PROBE_PAUSE;
    return;
}

# ---- a crowd ----

sub crowd {
    my ($port, %arg) = @_;
    my $result = { answered => [], failed => {}, waited => 0 };
    my $end = time + $arg{seconds};
    my @clients = map { { asks_at => 0 } } 1 .. $arg{count};
    while (time < $end) {
        for my $client (grep { !$_->{socket} && $_->{asks_at} <= time }
                        @clients) {
            @$client{qw(socket bytes asked)} =
                (ask($port, $arg{path}), '', time);
        }
        serve_crowd(\@clients, $result, $arg{timeout});
    }
    $result->{waited} = max $result->{waited},
        map { $_->{socket} ? time - $_->{asked} : 0 } @clients;
    return $result;
}

# Reads from those that have something, and looks at the clock of all.
sub serve_crowd {
    my ($clients, $result, $timeout) = @_;
    my %by_socket = map { $_->{socket} ? (fileno $_->{socket} => $_) : () }
        @$clients;
    my $select = IO::Select->new(map { $_->{socket} } values %by_socket);
    for my $socket ($select->can_read(0.01)) {
        my $client = $by_socket{fileno $socket};
        account($client, $result, status($client)) if !take($client);
    }
    for my $client (grep { $_->{socket} } @$clients) {
        account($client, $result, 'timeout')
            if time - $client->{asked} > $timeout;
    }
    return;
}

sub account {
    my ($client, $result, $status) = @_;
    my $took = time - $client->{asked};
    $result->{waited} = max $result->{waited}, $took;
    if ($status eq '200') {
        push @{ $result->{answered} }, $took;
    }
    else {
        $result->{failed}{$status}++;
    }
    $client->{asks_at} = $status eq '200' ? 0 : time + $FAILURE_PAUSE;
    $client->{socket} = undef;
    return;
}

# ---- one ----

sub one_by_one {
    my ($port, $path, $count) = @_;
    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1', PeerPort => $port) or die "connect: $!";
    for my $request (1 .. $count) {
        syswrite $socket, "GET $path HTTP/1.1\r\nHost: localhost\r\n\r\n";
        my $bytes = '';
        while (!is_whole($bytes)) {
            sysread $socket, $bytes, 65536, length $bytes
                or die "request $request was cut: $bytes\n";
        }
        $bytes =~ /^HTTP\S+ 200/ or die "request $request: $bytes\n";
    }
    return;
}

# Small answers have a length, or chunks.
sub is_whole {
    my ($bytes) = @_;
    my ($head, $body) = $bytes =~ /^(.*?\r\n)\r\n(.*)/s or return 0;
    return $head =~ /^Content-Length: (\d+)/mi ? length $body >= $1
        : $body =~ /(?:^|\r\n)0\r\n\r\n\z/;
}

1;
