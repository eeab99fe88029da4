# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Another machine, as a network namespace that a cable joins to this one: what
# runs there has its own addresses and ports, and this machine's files.
#
#     my $machine = Machine->start or plan skip_all => Machine::why_not();
#     $machine->address          # "198.18.0.2", which is reached from here
#     $machine->name             # of the namespace, and of its device with
#                                # a "b" behind it, that of this side has an "a"
#     Private::spawn(exec => [$machine->under, 'php-fpm', ...], ...)
#     $machine->cut              # the cable; what is sent is lost from now on
#     $machine->mend
#     $machine->stop             # also at the test's end
# Needs root and iproute2.
package Machine;

use strict;
use warnings;
use Private;

our @ISA = qw(Private::Server);

my $why_not = '';
my $made = 0;           # by this test, which may have four at a time

sub why_not { return "no other machine can be made here: $why_not" }

# undef if it cannot be made.
sub start {
    my ($class) = @_;
    my $nr = $made++;
    if ($> != 0) {
        $why_not = 'not root';
        return undef;
    }
    my $self = $class->new('machine', name => "fcgi$$-$nr");
    my $name = $self->{name};
    my ($here, $there) = addresses($$ * 4 + $nr % 4);
    $self->{address} = $there;
    my @steps = (
        [qw(netns add), $name],
        [qw(link add), "${name}a", qw(type veth peer name), "${name}b",
         'netns', $name],
        [qw(addr add), "$here/30", 'dev', "${name}a"],
        [qw(link set), "${name}a", 'up'],
        ['-n', $name, qw(addr add), "$there/30", 'dev', "${name}b"],
        ['-n', $name, qw(link set lo up)],
        ['-n', $name, qw(link set), "${name}b", 'up'],
    );
    for my $step (@steps) {
        my ($status, $output) = Private::run('ip', @$step);
        next if !$status;
        $why_not = "ip @$step: $output";
        $self->stop;
        return undef;
    }
    return $self;
}

# Both ends of a cable, of 198.18.0.0/15, which is there for tests.
sub addresses {
    my ($nr) = @_;
    my $net = $nr % 32_768 * 4;
    return map {
        join '.', 198, 18 + ($_ >> 16), ($_ >> 8) & 255, $_ & 255
    } $net + 1, $net + 2;
}

sub address { return $_[0]{address} }
sub name    { return $_[0]{name} }
sub under   { return (qw(ip netns exec), $_[0]{name}) }
sub cut     { return $_[0]->set_link('down') }
sub mend    { return $_[0]->set_link('up') }

sub set_link {
    my ($self, $how) = @_;
    my ($status, $output) = Private::run(
        'ip', '-n', $self->{name}, qw(link set), "$self->{name}b", $how);
    die $output if $status;
    return;
}

# The namespace is there until the last process in it ends; the cable is not.
sub stop {
    my ($self) = @_;
    return if $self->{owner} != $$ || !$self->{name};
    Private::run(qw(ip link del), "$self->{name}a");
    Private::run(qw(ip netns del), $self->{name});
    $self->{name} = undef;
    return;
}

1;
