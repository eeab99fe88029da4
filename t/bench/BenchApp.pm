# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The cheap application of the benchmark, app.c, with a socket of its own.
#
#     my $app = BenchApp->start(workers => 2, transport => 'tcp');
#
# Options: workers (2), backlog (511, as PHP-FPM has it), transport.
#     address    "/tmp/.../app.sock" or "127.0.0.1:34567"
#     log        [began, done] of each request that was to be logged, seconds
#     stop
package BenchApp;

use strict;
use warnings;
use File::Basename qw(dirname);
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use Private;

our @ISA = qw(Private::Server);

my $build_dir;

# Compiled once for a run.
sub program {
    return "$build_dir/app" if $build_dir;
    my $dir = Private::temp_dir('benchapp');
    my ($status, $output) = Private::run(
        $ENV{CC} || 'cc', '-O2', '-Wall', '-Wextra', '-o', "$dir/app",
        dirname(__FILE__) . '/app.c', '-lfcgi');
    die "app.c: $output" if $status;
    $build_dir = $dir;
    return "$dir/app";
}

sub start {
    my ($class, %opt) = @_;
    my $self = $class->new('benchapp', transport => 'unix', workers => 2,
                           backlog => 511, %opt);
    my @command = (program(), $self->{workers}, "$self->{dir}/log");
    my $listener = $self->listener;
    $self->{pid} = Private::spawn(code => sub {
        POSIX::dup2(fileno $listener, 0) // die "dup2: $!";
        unshift @command, qw(/usr/bin/setpriv --pdeathsig TERM)
            if -x '/usr/bin/setpriv';
        exec { $command[0] } @command;
    });
    return $self;
}

sub listener {
    my ($self) = @_;
    my $socket;
    if ($self->{transport} eq 'tcp') {
        $self->{port} = Private::reserve_port();
        $socket = IO::Socket::INET->new(
            LocalAddr => '127.0.0.1', LocalPort => $self->{port}->sockport,
            Listen => $self->{backlog}, ReuseAddr => 1);
    }
    else {
        $socket = IO::Socket::UNIX->new(
            Local => $self->address, Listen => $self->{backlog});
        chmod 0777, $self->address;
    }
    return $socket || die 'cannot listen on ' . $self->address . ": $!";
}

sub address {
    my ($self) = @_;
    return $self->{port} ? '127.0.0.1:' . $self->{port}->sockport
        : "$self->{dir}/app.sock";
}

sub log {
    my ($self) = @_;
    return map { [split] } split /\n/, Private::slurp("$self->{dir}/log");
}

1;
