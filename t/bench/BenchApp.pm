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
    $self->{port} = Private::reserve_port() if $self->{transport} eq 'tcp';
    return Private::listen_at($self->{port} || $self->address,
                              $self->{backlog});
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
