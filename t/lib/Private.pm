# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What every server of a test run has in common: a temporary directory, a
# port that is ours alone, a process that ends with the test however the test
# ends.  Knows nothing of HTTP or FastCGI.  Used by Httpd.pm, FcgiApp.pm,
# PhpFpm.pm and Django.pm, whose objects are all Private::Server, at the end
# of this file; a test needs only wait_until() from here.
#
#     my $dir  = Private::temp_dir('php');       # removed with the object
#     my $hold = Private::reserve_port();        # $hold->sockport is ours, of
#                                                # 127.0.0.1 or the host named
#     my $pid  = Private::spawn(log => "$dir/log", exec => [@command]);
#     Private::wait_until(5, sub { -e "$dir/pid" }) or die;
#     Private::end($pid);                        # TERM, later KILL
package Private;

use strict;
use warnings;
use File::Basename qw(dirname);
use File::Path qw(make_path);
use File::Temp ();
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);

our $POLL = 0.005;      # seconds between two looks at a condition, at first

my %running;            # pid => the process that spawned it

# Interrupted tests run their END blocks, too, even when nobody reads what
# they print there.
$SIG{$_} ||= sub { exit 1 } for qw(INT TERM HUP);
$SIG{PIPE} ||= 'IGNORE';

# A directory /tmp/fcgi-LABEL-PID-... that www-data may enter; removed when
# the object goes.
sub temp_dir {
    my ($label) = @_;
    my $dir = File::Temp->newdir("fcgi-$label-$$-XXXXXX", DIR => '/tmp');
    chmod 0755, $dir or die "chmod $dir: $!";
    return $dir;
}

# A bound socket that does not listen.  While it is held the kernel gives its
# port to nobody who asks for any port, connections to it are refused, and a
# server which binds with SO_REUSEADDR, as all do, can still listen on it.
sub reserve_port {
    my ($host) = @_;
    return IO::Socket::INET->new(
        LocalAddr => $host // '127.0.0.1', LocalPort => 0, Proto => 'tcp',
        ReuseAddr => 1) || die "no free port: $!";
}

# Listens at a port that was reserved, or at a path, in place of what is there.
sub listen_at {
    my ($where, $backlog) = @_;
    if (ref $where) {
        return IO::Socket::INET->new(
            LocalAddr => $where->sockhost, LocalPort => $where->sockport,
            Listen => $backlog, ReuseAddr => 1)
            || die 'cannot listen on port ' . $where->sockport . ": $!";
    }
    unlink $where;
    my $socket = IO::Socket::UNIX->new(Local => $where, Listen => $backlog)
        || die "cannot listen on $where: $!";
    chmod 0777, $where;
    return $socket;
}

# The first true value of $code, or its last, false one after $seconds.  What
# takes long is looked at less often, as many tests wait at a time.
sub wait_until {
    my ($seconds, $code) = @_;
    my $begin = time;
    while (1) {
        my $value = $code->();
        my $waited = time - $begin;
        return $value if $value || $waited >= $seconds;
        my $rare = $waited < 0.5 ? $waited / 20 : 0.025;
        sleep($rare > $POLL ? $rare : $POLL);
    }
}

# Starts a process in a group of its own and returns its pid.  Either
# exec => [command] with log => file for its output and env => {}, or
# code => sub, which runs in a copy of the test that never returns from it.
sub spawn {
    my (%arg) = @_;
    my $pid = fork // die "fork: $!";
    if ($pid) {
        $running{$pid} = $$;
        return $pid;
    }
    setpgrp;
    %running = ();
    $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
    eval { $arg{exec} ? run_program(%arg) : $arg{code}->(); 1 }
        or print STDERR $@;
    POSIX::_exit(0);
}

# In the new process: becomes the program, or ends with a word in the log.
sub run_program {
    my (%arg) = @_;
    $ENV{$_} = $arg{env}{$_} for keys %{ $arg{env} || {} };
    open STDIN, '<', '/dev/null' or die $!;
    open STDOUT, '>>', $arg{log} || '/dev/null' or die "$arg{log}: $!";
    open STDERR, '>&', \*STDOUT or die $!;
    exec { $arg{exec}[0] } @{ $arg{exec} } if !-x '/usr/bin/setpriv';
    # Even a test that is killed outright leaves no server behind.
    exec '/usr/bin/setpriv', '--pdeathsig', 'TERM', @{ $arg{exec} };
}

# True while a spawned process runs; reaps it when it does not.
sub alive {
    my ($pid) = @_;
    return 0 if !$pid || !$running{$pid} || $running{$pid} != $$;
    local $?;
    return 1 if waitpid($pid, WNOHANG) == 0;
    delete $running{$pid};
    return 0;
}

# Ends a spawned process: $signal (TERM), and after $seconds (10) or when
# something of its group is left over, KILL for the group.
sub end {
    my ($pid, $signal, $seconds) = @_;
    return if !$pid || !$running{$pid} || $running{$pid} != $$;
    local ($?, $!);
    kill $signal || 'TERM', $pid;
    my $gone = wait_until($seconds // 10, sub { !alive($pid) });
    kill 'KILL', -$pid;
    return if $gone;
    waitpid $pid, 0;
    delete $running{$pid};
    return;
}

# Runs a command to its end: (exit status, what it wrote to both outputs).
sub run {
    my (@command) = @_;
    local $?;
    my $pid = open(my $pipe, '-|') // die "fork: $!";
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        open STDERR, '>&', \*STDOUT;
        exec { $command[0] } @command or POSIX::_exit(127);
    }
    my $output = do { local $/; <$pipe> } // '';
    close $pipe;
    return ($? & 127 ? 128 + ($? & 127) : $? >> 8, $output);
}

# A file's bytes; the empty string when there is no such file.
sub slurp {
    my ($path) = @_;
    open my $file, '<:raw', $path or return '';
    local $/;
    return <$file> // '';
}

# Writes a file and the directories it needs; returns its path.
sub spew {
    my ($path, $content, $mode) = @_;
    make_path(dirname($path), { mode => 0755 });
    open my $file, '>:raw', $path or die "$path: $!";
    print $file $content;
    close $file or die "$path: $!";
    chmod $mode // 0644, $path;
    return $path;
}

my %servers;            # every object that has to be stopped at the end

END {
    local $?;
    $_->stop for grep { defined } values %servers;
    end($_, 'TERM', 5) for keys %running;
}

# A server's object: { pid, dir, owner } and what the class adds.
package Private::Server;

use strict;
use warnings;
use Scalar::Util qw(refaddr weaken);

# fields of the class, dir made for the label.
sub new {
    my ($class, $label, %fields) = @_;
    my $self = bless {
        dir => Private::temp_dir($label), owner => $$, %fields,
    }, $class;
    weaken($servers{refaddr $self} = $self);
    return $self;
}

sub handler { return 'fcgi:' . $_[0]->address }

# Ends the process, if this is the test and not a copy of it.
sub stop {
    my ($self) = @_;
    return if $self->{owner} != $$;
    Private::end(delete $self->{pid}, 'TERM', 15);
    return;
}

sub DESTROY {
    my ($self) = @_;
    return if ${^GLOBAL_PHASE} eq 'DESTRUCT';
    local ($?, $@, $!);
    $self->stop;
    delete $servers{refaddr $self};
    return;
}

1;
