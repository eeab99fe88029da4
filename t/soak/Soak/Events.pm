# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What happens to a server while it is soaked, one after the other, and when:
# for who judges the answers.
#
#     my $events = Soak::Events->new($server);
#     $events->next;              # the next one of a shuffled round of them
#     $events->next(1);           # of those that leave httpd's children alone
#     $events->begins             # true until each has happened
#     $events->happened($from, $to, qr/^php/)   # those within that time
#     $events->counts             # { name => how often }
#     $events->{cuts}             # of the crowd, by children that were killed
package Soak::Events;

use strict;
use warnings;
use List::Util qw(shuffle);
use Private;
use Time::HiRes qw(sleep time);

my $MARGIN = 0.5;       # seconds by which two clocks' readings may differ
my $CLOCK = 60;         # seconds that the time of day is set forth or back

my %EVENTS = (
    'one killed'    => \&kill_application,
    'two killed'    => \&kill_application,
    'one pauses'    => \&pause_application,
    'two pauses'    => \&pause_application,
    'php reloaded'  => sub { $_[0]{server}->php->reload },
    'php restarted' => sub {
        my $php = $_[0]{server}->php;
        $php->stop;
        sleep rand 1;
        $php->restart;
    },
    'php killed'    => sub {
        my $php = $_[0]{server}->php;
        $php->kill;
        sleep rand 0.5;
        $php->restart;
    },
    'graceful'      => \&graceful,
    'child killed'  => \&kill_child,
    'clock set'     => sub {
        $_[0]{server}->clock->set(int(rand 2 * $CLOCK) - $CLOCK);
    },
    'disk full'     => \&fill_disk,
    'streams end'   => \&end_streams,
    'clients leave' => sub {
        $_->say('leave 5') for @{ $_[0]{server}{crowds} };
    },
);

sub new {
    my ($class, $server) = @_;
    my @names = grep {
        (!/^php/ || $server->php) && (!/^disk/ || $server->disk)
    } sort keys %EVENTS;
    return bless { server => $server, names => \@names, left => [],
                   list => [], cuts => 0 }, $class;
}

sub next {
    my ($self, $spare_children) = @_;
    my $name;
    do {
        $self->{left} = [shuffle @{ $self->{names} }] if !@{ $self->{left} };
        $name = shift @{ $self->{left} };
    } while ($spare_children && $name =~ /graceful|child/);
    my $event = { name => $name, from => time };
    $EVENTS{$name}->($self, $name);
    $event->{to} = time;
    push @{ $self->{list} }, $event;
    return $name;
}

# True until each has happened once.
sub begins { return @{ $_[0]{list} } < @{ $_[0]{names} } }

sub happened {
    my ($self, $from, $to, $pattern) = @_;
    return grep {
        $_->{name} =~ $pattern && $_->{from} < $to + $MARGIN
            && $_->{to} > $from - $MARGIN
    } @{ $self->{list} };
}

sub counts {
    my ($self) = @_;
    my %counts = map { $_ => 0 } @{ $self->{names} };
    $counts{ $_->{name} }++ for @{ $self->{list} };
    return \%counts;
}

sub application {
    my ($self, $name) = @_;
    my ($which) = $name =~ /^(\w+)/;
    return $self->{server}->$which;
}

sub kill_application {
    my ($self, $name) = @_;
    my $app = $self->application($name);
    kill 'KILL', @{ $app->{pids} };     # all at one moment
    $app->stop;
    sleep rand 0.5;
    $app->restart;
    return;
}

sub pause_application {
    my ($self, $name) = @_;
    my $app = $self->application($name);
    $app->pause;
    sleep rand 1;
    $app->resume;
    return;
}

sub graceful {
    my ($self) = @_;
    my $server = $self->{server};
    my $times = $server->restarts;
    kill 'USR1', $server->httpd->pid;
    Private::wait_until(60, sub { $server->restarts > $times })
        or die "httpd does not restart\n";
    return;
}

# The crowd's answers that are cut by that are no others.
sub kill_child {
    my ($self) = @_;
    my $server = $self->{server};
    my @pids = $server->httpd->pids or return;
    my $before = $server->crowd_cuts;
    $server->httpd->kill_children($pids[rand @pids]);
    sleep 0.2;
    $self->{cuts} += $server->crowd_cuts - $before;
    return;
}

sub fill_disk {
    my ($self) = @_;
    my $path = $self->{server}->disk . '/full';
    open my $file, '>:raw', $path or die "$path: $!";
    1 while syswrite $file, "\0" x 1_048_576;
    sleep 0.5 + rand 1;
    close $file;
    unlink $path;
    return;
}

# All at once, again and again until there are none that had begun before.
sub end_streams {
    my ($self) = @_;
    $self->{server}->patient->go;
    $self->{server}->patient->hold;
    return;
}

1;
