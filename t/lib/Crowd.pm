# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Thousands of clients and an application that can serve them all at once, each
# a small C program: t/crowd/crowd.c and t/crowd/patient.c, whose first
# lines say what they do. And what thousands of requests cost a server.
#
#     my $app = Crowd::Application->start(transport => 'unix');
#     $app->handler                   # for httpd
#     $app->go; $app->hold;           # opens and closes the gate
#     $app->count                     # { held, streams, open, seen }
#     $app->order                     # ids, in the order of their requests
#     $app->kill                      # SIGKILL; the socket stays
#     $app->resume                    # a new process on the same socket
#     $app->another                   # one more beside it, as an object
#
#     my $crowd = Crowd->start(port => $httpd->port, path => '/app?hold&id=',
#                              again => 1, patience => 5000);
#     $crowd->ask(1000);              # 1000 clients come
#     $crowd->say('leave 10');        # and all other commands
#     $crowd->report                  # { right => 5, ... }
#     $crowd->wait_for(20, sub { $_[0]{right} == 1000 })   # a report or undef
#     $crowd->stop
#
#     Crowd::kilobytes(@pids)         # memory that is theirs (Pss)
#     Crowd::threads(@pids), Crowd::descriptors(@pids)     # all together
#     Crowd::most_descriptors()       # that a process may have
#     Crowd::milliseconds($report->{answer})   # "p50 0.2 ms, ..."
package Crowd;

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP qw(decode_json);
use POSIX ();
use Private;
use Time::HiRes qw(sleep time);

our @ISA = qw(Private::Server);

my $SOURCES = abs_path(dirname(__FILE__) . '/../crowd');
my $build_dir;

# Compiled once for a run.
sub program {
    my ($name) = @_;
    $build_dir //= Private::temp_dir('crowd');
    return "$build_dir/$name" if -x "$build_dir/$name";
    my ($status, $output) = Private::run(
        $ENV{CC} || 'cc', '-std=gnu99', '-O2', '-Wall', '-Wextra', '-o',
        "$build_dir/$name", "$SOURCES/$name.c", "$SOURCES/tool.c");
    die "$name.c: $output" if $status;
    return "$build_dir/$name";
}

# Gives $self a process that takes commands, and what it says.
sub run_program {
    my ($self, $listener, @command) = @_;
    pipe my $commands_in, my $commands or die "pipe: $!";
    pipe my $words, my $words_out or die "pipe: $!";
    my $pid = Private::spawn(code => sub {
        POSIX::dup2(fileno $commands_in, 0) // die "dup2: $!";
        POSIX::dup2(fileno $words_out, 1) // die "dup2: $!";
        pass_on($listener) if $listener;
        unshift @command, qw(/usr/bin/setpriv --pdeathsig TERM)
            if -x '/usr/bin/setpriv';
        exec { $command[0] } @command;
    });
    $commands->autoflush(1);
    @$self{qw(pid commands words)} = ($pid, $commands, $words);
    return $self;
}

# As descriptor 3, also if it has that number already, and goes at exec.
sub pass_on {
    my ($listener) = @_;
    my $copy = POSIX::dup(fileno $listener) // die "dup: $!";
    POSIX::dup2($copy, 3) // die "dup2: $!";
    POSIX::close($copy);
    return;
}

sub start {
    my ($class, %opt) = @_;
    my $self = $class->new('clients');
    return $self->run_program(undef, program('crowd'), map {
        my $flag = $_ eq 'again' || $_ eq 'stream';
        !$flag ? "--$_=$opt{$_}" : $opt{$_} ? "--$_" : ();
    } sort keys %opt);
}

sub say {
    my ($self, $command) = @_;
    print { $self->{commands} } "$command\n" or die "$command: $!";
    return;
}

# The line that answers a command.
sub said {
    my ($self, $command) = @_;
    $self->say($command);
    my $line = readline $self->{words} // die "no answer to $command\n";
    chomp $line;
    return $line;
}

sub ask {
    my ($self, $count) = @_;
    return $self->say("ask $count");
}

sub report { return decode_json($_[0]->said('report')) }

sub wait_for {
    my ($self, $seconds, $condition) = @_;
    my $deadline = time + $seconds;
    while (1) {
        my $report = $self->report;
        return $report if $condition->($report);
        return undef if time >= $deadline;
        sleep 0.02;
    }
}

sub milliseconds {
    my ($times) = @_;
    return join ', ', map { sprintf '%s %.2f ms', $_, $times->{$_} / 1000 }
        qw(p50 p90 p99 p999 max);
}

sub kilobytes {
    my $sum = 0;
    for my $pid (@_) {
        my ($kb) = Private::slurp("/proc/$pid/smaps_rollup")
            =~ /^Pss:\s*(\d+)/m;
        $sum += $kb // 0;
    }
    return $sum;
}

sub threads {
    my $count = 0;
    for my $pid (@_) {
        my ($threads) = Private::slurp("/proc/$pid/status")
            =~ /^Threads:\s*(\d+)/m;
        $count += $threads // 0;
    }
    return $count;
}

sub descriptors {
    my $count = 0;
    $count += () = glob("/proc/$_/fd/*") for @_;
    return $count;
}

# How many one process may have: the programs above, and httpd's children take
# all they may.
sub most_descriptors {
    my ($hard) = Private::slurp('/proc/self/limits')
        =~ /^Max open files\s+\S+\s+(\d+)/m;
    return $hard // 1024;
}

package Crowd::Application;

use strict;
use warnings;
use Private;

our @ISA = qw(Crowd);

sub start {
    my ($class, %opt) = @_;
    my $self = $class->new('patient',
        transport => $ENV{TRANSPORT} || 'unix', backlog => 4096, %opt);
    $self->{listener} = $self->listener;
    $self->resume;
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
    return $self->{address} //= $self->{port}
        ? '127.0.0.1:' . $self->{port}->sockport : "$self->{dir}/app.sock";
}

sub another {
    my ($self) = @_;
    my $other = ref($self)->new('patient', map { $_ => $self->{$_} }
                                qw(transport listener port));
    $other->{address} = $self->address;
    $other->resume;
    return $other;
}

sub resume {
    my ($self) = @_;
    $self->run_program($self->{listener}, Crowd::program('patient'));
    return;
}

sub kill {
    my ($self) = @_;
    Private::end(delete $self->{pid}, 'KILL');
    return;
}

sub go   { return $_[0]->say('go') }
sub hold { return $_[0]->say('hold') }

sub count {
    my ($self) = @_;
    my %count;
    (undef, @count{qw(held streams open seen)}) =
        split / /, $self->said('count');
    return \%count;
}

sub order {
    my ($self) = @_;
    my (undef, @ids) = split / /, $self->said('order');
    return @ids;
}

1;
