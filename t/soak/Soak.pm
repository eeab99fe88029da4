# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A soak: clients of many kinds ask for what applications of many kinds say,
# while those, httpd and its surroundings are restarted, killed and disturbed.
#
#     Soak::run(seconds => 1800, seed => 1);      # tests, for Test::More
#
# It goes in rounds. After each every answer is judged: wrong ones there must
# be none, and an error is one only if nothing could have saved the request:
#
#     a child of httpd that had it was killed (the connection is closed);
#     its application was killed, and a part of the answer was on its way (it
#     is cut), or it must not be sent twice (502 for a POST), or was sent twice
#     already (502, and the log says so);
#     the application closed a kept connection, as it does at any time, under
#     a POST, or under the second try (502);
#     there was no room on the disk for its body (507, or a stream that is
#     reset, and the log says so);
#     httpd restarted, and mod_http2 refused its stream, or ended it, before a
#     byte of the answer was given.
#
# In the last third the children stay the same, and may not grow.
package Soak;

use strict;
use warnings;
use Client;
use Crowd;
use Httpd;
use List::Util qw(max min sum);
use Private;
use Soak::Clients;
use Soak::Events;
use Soak::Server;
use Test::More;
use Time::HiRes qw(sleep time);

my $ROUND = 60;         # seconds, at the most
my $EVENTS = 15;        # in a round, at least
my $PAUSE = 2;          # seconds between two events, at the most
my $DEADLINE = 60;
my $SHOWN = 20;         # of what is wrong

# "30m", "1h", "90s" or "90".
sub seconds {
    my ($text) = @_;
    my ($number, $unit) = $text =~ /^(\d+)([smh]?)$/
        or die "TIME=$text: a number and s, m or h\n";
    return $number * { '' => 1, s => 1, m => 60, h => 3600 }->{$unit};
}

sub run {
    my (%opt) = @_;
    my $self = bless { clients => 8, crowd => 200, %opt, total => {},
                       excused => {}, bad => [], crowd_total => {} };
    diag("SEED=$self->{seed}");
    srand $self->{seed};
    $self->{server} = Soak::Server->start(%$self{qw(seed crowd)});
    $self->{events} = Soak::Events->new($self->{server});
    $self->warm_up;
    my $end = time + 0.67 * $self->{seconds};
    $self->round('all', min($ROUND, max(1, $end - time)))
        while time < $end && !$self->{server}->crash;
    $self->same_children($end + 0.33 * $self->{seconds});
    $self->conclude;
    return;
}

# Some requests without an application, so that the numbers afterwards are an idle server's.
sub warm_up {
    my ($self) = @_;
    my $server = $self->{server};
    for (1 .. 50) {
        Client->get($server->httpd->port, $_) for qw(/static.txt /status);
    }
    $self->{descriptors} = $server->descriptors;
    $self->{parent_descriptors} = $server->parent_descriptors;
    $self->{parent_memory} = Crowd::kilobytes($server->httpd->pid);
    return;
}

# ---- rounds ----

sub round {
    my ($self, $name, $seconds) = @_;
    my ($server, $events) = @$self{qw(server events)};
    my $number = ++$self->{rounds};
    my $end = time + $seconds;
    my $pause = min($PAUSE, $seconds / $EVENTS);
    my $clients = Soak::Clients->start(
        httpd => $server->httpd, php => $server->php, h2 => $server->h2,
        count => $self->{clients}, seed => $self->{seed}, round => $number);
    $server->crowd_begins;
    while ((time < $end || $events->begins) && !$server->crash) {
        sleep rand $pause;
        $events->next($name ne 'all');
    }
    $self->add_crowd($server->crowd_ends);
    $self->add($clients->finish);
    $self->nothing_is_left;
    diag("round $number, $name: " . $self->summary);
    diag($server->crash) if $server->crash;
    return;
}

sub add {
    my ($self, @results) = @_;
    for my $result (@results) {
        my $verdict = $result->{verdict};
        my $excuse = $verdict eq 'lost' ? $self->excuse($result) : undef;
        $self->{excused}{$excuse}++ if $excuse;
        $verdict = 'beyond saving' if $excuse;
        $self->{total}{$verdict}++;
        $self->{kinds}{ $result->{kind} }++;
        $self->{hows}{ $result->{how} }++;
        $self->show($result) if $verdict =~ /lost|wrong/;
    }
    $self->show_slowest(@results);
    return;
}

sub show_slowest {
    my ($self, @results) = @_;
    my ($slowest) = sort { $b->{took} <=> $a->{took} }
        map { { %$_, took => $_->{ended} - $_->{asked} } } @results or return;
    diag(sprintf 'the slowest took %.1f s: %s', $slowest->{took},
         join ' ', map { $slowest->{$_} } qw(kind method path how id verdict));
    return;
}

sub show {
    my ($self, $result) = @_;
    push @{ $self->{bad} }, $result;
    return if @{ $self->{bad} } > $SHOWN;
    my @events = $self->{events}->happened(
        @$result{qw(asked ended)}, qr/./);
    diag(join ' ', map { "$_=$result->{$_}" } sort keys %$result);
    diag('  meanwhile: ' . join ', ', map {
        sprintf '%s %.2f-%.2f', $_->{name},
            map { $_ - $result->{asked} } @$_{qw(from to)}
    } @events);
    diag("  $_") for $self->{server}->words_about($result->{id});
    return;
}

my %KILLED = ('/two' => qr/^two killed/, '/page.php' => qr/^php/);

# The event MPM has more children and fewer with the threads that requests hold.
sub children_stay {
    return Httpd::mpm() ne 'event'
        || Httpd::can_park() && ($ENV{PARK} // '') ne 'Off';
}

# Why nobody could have saved it, or undef.
sub excuse {
    my ($self, $result) = @_;
    my ($status, $is_post) = ($result->{status}, $result->{method} eq 'POST');
    my $during = sub {
        return scalar $self->{events}->happened(
            @$result{qw(asked ended)}, @_);
    };
    my $was_killed = $during->($KILLED{ $result->{path} }
                               // qr/^one killed/);
    return 'a child was killed' if (!$status || $status == 200)
        && $during->(qr/^child killed/);
    my $words = join "\n", $self->{server}->words_about($result->{id});
    return 'no space' if $is_post && $words =~ /FCGI16: /
        && $during->(qr/^disk full/);
    # some streams, whatever their handler is, and however far that is
    return 'refused or ended by mod_http2'
        if $words =~ /^(?:(?:499|200) X [^\n]*)?\z/ && !$status
        && $result->{kind} =~ /^h2/
        && (!children_stay() || $during->(qr/^graceful/));
    return 'killed in its answer'
        if $words =~ /FCGI03: .* and [1-9]\d* bytes from/ && $was_killed;
    return undef if $status != 502;
    if ($was_killed) {
        return 'killed, not safe' if $is_post;
        return 'killed twice' if $words =~ /FCGI03: .* try 2,/;
    }
    return 'kept connection closed' if $result->{path} eq '/two'
        && ($is_post || $words =~ /FCGI03: .* try 2,/);
    return undef;
}

sub add_crowd {
    my ($self, $report) = @_;
    $self->{crowd_total}{$_} += $report->{$_}
        for grep { $_ ne 'why' } keys %$report;
    diag("the crowd: $report->{why}") if $report->{why};
    return;
}

sub nothing_is_left {
    my ($self) = @_;
    my $server = $self->{server};
    my $left;
    Private::wait_until($DEADLINE, sub { !($left = $server->left) });
    $self->{left} ||= $left;
    diag("left: $left") if $left;
    # One connection may be the one that just asked.
    my $descriptors;
    Private::wait_until($DEADLINE, sub {
        ($descriptors = $server->descriptors) <= $self->{descriptors} + 1;
    });
    $self->{most_descriptors} = max($descriptors,
                                    $self->{most_descriptors} // 0);
    return;
}

sub summary {
    my ($self) = @_;
    my $crowd = $self->{crowd_total};
    return join ', ', (map { "$self->{total}{$_} $_" }
                       sort keys %{ $self->{total} }),
        map { "crowd $_ $crowd->{$_}" } sort keys %$crowd;
}

sub same_children {
    my ($self, $end) = @_;
    my $server = $self->{server};
    my @memory;
    my $each = min($ROUND, max(1, ($end - time) / 2));
    my @pids = sort $server->httpd->pids;
    do {
        $self->round('same children', $each);
        push @memory, Crowd::kilobytes(@pids);
    } while (!$server->crash && (@memory < 2 || time + $each < $end));
    diag("the children's memory, in KB: @memory");
    return if Httpd::mpm() eq 'prefork';    # whose children come and go
    my %is_there = map { $_ => 1 } $server->httpd->pids;
    is(join(' ', grep { !$is_there{$_} } @pids), '',
       'the same children in the last rounds') if children_stay();
    cmp_ok($memory[-1], '<', 1.25 * $memory[0] + 4096, 'they do not grow')
        if !$ENV{HTTPD_PRELOAD};            # which has memory of its own
    return;
}

# ---- what is said of it ----

sub conclude {
    my ($self) = @_;
    my ($server, $events, $crowd) = @$self{qw(server events crowd_total)};
    my $all = sum(values %{ $self->{total} }) + $crowd->{asked};
    diag("$all requests: " . $self->summary);
    for my $what (['by kind', $self->{kinds}], ['by way', $self->{hows}],
                  ['beyond saving', $self->{excused}],
                  ['events', $events->counts], ['log', $server->said]) {
        my ($name, $counts) = @$what;
        diag("$name: " . join ', ', map { "$_ $counts->{$_}" }
             sort keys %$counts);
    }
    is($self->{total}{wrong} // 0, 0, 'no answer is wrong');
    is($self->{total}{lost} // 0, 0, 'none is lost that could be saved');
    is($crowd->{$_}, 0, "of the crowd none is $_")
        for qw(wrong refused late waiting);
    is($crowd->{cut}, $events->{cuts}, 'and none cut but by killed children');
    cmp_ok($self->{total}{right}, '>', 0, 'some are right');
    cmp_ok($self->{total}{cut} // 0, '>', 0, 'some had to be cut');
    my $counts = $events->counts;
    cmp_ok($counts->{$_}, '>', 0, $_) for sort keys %$counts;
    $self->end_as_idle;
    return;
}

sub end_as_idle {
    my ($self) = @_;
    my $server = $self->{server};
    is($self->{left}, '', 'no connection, place or file was left');
    cmp_ok($self->{most_descriptors}, '<=', $self->{descriptors} + 1,
           'no descriptor');
    cmp_ok($server->parent_descriptors, '<=', $self->{parent_descriptors},
           "none of httpd's own");
    diag(sprintf "httpd's own memory: %d KB, then %d KB",
         $self->{parent_memory}, Crowd::kilobytes($server->httpd->pid));
    is(Client->get($server->httpd->port, '/static.txt')->body, 'static',
       'it serves');
    ok($server->stop, 'it ends by itself');
    is($server->crash // '', '', 'no child crashed');
    return;
}

1;
