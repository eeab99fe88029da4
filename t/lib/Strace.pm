# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Which calls of the system some processes make, by strace:
#
#     plan skip_all => 'no strace here' if !Strace::is_here();
#     my $trace = Strace->attach([$httpd->pids], 'connect,sendmsg,?poll')
#         or plan skip_all => 'strace may not look here';
#     ...
#     my @lines = $trace->lines;        # what it has written so far
#     @lines = $trace->end;             # all of it; it looks no more
#     my @calls = Strace::on_connection($address, @lines);
#
# The calls are named as strace's -e trace= has them. A line has the thread's
# number and the call, as strace writes it.
package Strace;

use strict;
use warnings;
use Private;

sub is_here {
    return scalar grep { -x "$_/strace" } split /:/, $ENV{PATH} // '';
}

# undef if it may not look at them.
sub attach {
    my ($class, $pids, $calls) = @_;
    my $dir = Private::temp_dir('strace');
    my $pid = Private::spawn(log => "$dir/log", exec => [
        qw(strace -f -o), "$dir/calls", '-e', "trace=$calls",
        map { ('-p', $_) } @$pids]);
    Private::wait_until(20, sub {
        my @attached = Private::slurp("$dir/log") =~ /attached/g;
        @attached >= @$pids || !Private::alive($pid);
    });
    return if !Private::alive($pid);
    return bless { pid => $pid, dir => $dir }, $class;
}

sub lines {
    my ($self) = @_;
    return split /\n/, Private::slurp("$self->{dir}/calls");
}

sub end {
    my ($self) = @_;
    Private::end($self->{pid}, 'INT');
    return $self->lines;
}

# The calls on the last connection that was made to an address (a path, or
# host:port), until it is closed: [name, whole line] of each, the connecting
# first. One that was interrupted by another thread's counts once.
sub on_connection {
    my ($address, @lines) = @_;
    my $there = $address =~ /:(\d+)$/ ? "htons($1)" : $address;
    my ($fd, @calls);
    for my $line (@lines) {
        my ($call) = $line =~ /^\d+ +(\w.*)/ or next;
        if ($call =~ /^connect\((\d+), .*\Q$there\E/) {
            ($fd, @calls) = ($1);
        }
        next if !defined $fd;
        push @calls, [$1, $line] if $call =~ /^(p?poll)\(\[.*\{fd=$fd\b/
            || $call =~ /^(\w+)\($fd\b/;
        undef $fd if $call =~ /^close\($fd\)/;
    }
    return @calls;
}

1;
