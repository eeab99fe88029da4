# Thousands of requests wait on 64 threads: each gets its answer, and nobody else waits for them.
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# CROWD=10000 takes as many (1000), where the hard limit of descriptors allows.
# What was measured is printed; asserted are deadlines, memory and threads.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Crowd;
use Httpd;
use JSON::PP qw(decode_json);
use List::Util qw(max min);
use Private;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'it takes the event MPM of httpd 2.4.63 or later'
    if !Httpd::can_park();

my $CHILDREN = 4;
my $THREADS = 16;
my $SECONDS = 2;                # of each look at it
my $DEADLINE = 60;
my $KB_EACH = 40;

# A waiting request has four descriptors in its child, and a fifth of the crowd
# is let in by a child beyond its part.
my $COUNT = min($ENV{CROWD} || 1000,
                int((Crowd::most_descriptors() - 500) * $CHILDREN / 5));
cmp_ok($COUNT, '>=', 500, "a crowd of $COUNT")
    or BAIL_OUT('ulimit -Hn is too low');

my $app = Crowd::Application->start;
my $other = Crowd::Application->start;

# $children at once, and slots for those that end.
sub start {
    my ($slots, $config) = @_;
    my $all = $CHILDREN * $THREADS;
    my $factor = 2 + int(1.2 * $COUNT / $all);
    return Httpd->start(
        vars => { APP => $app->handler, OTHER => $other->handler,
                  ADDRESS => $app->address },
        files => { 'static.txt' => 'static' }, log_level => 'notice',
        mpm => <<"EOM", config => $config . <<'EOC');
StartServers $CHILDREN
ServerLimit $slots
ThreadLimit $THREADS
ThreadsPerChild $THREADS
MinSpareThreads $all
MaxSpareThreads $all
MaxRequestWorkers $all
AsyncRequestWorkerFactor $factor
ListenBacklog 4096
MaxKeepAliveRequests 0
EOM
<Location /app>
  SetHandler @APP@
</Location>
<Location /other>
  SetHandler @OTHER@
</Location>
<Location /status>
  SetHandler fcgi-status
</Location>
EOC
}

# Two that ask for something else, again and again.
sub probes {
    my ($httpd) = @_;
    my %ask = (port => $httpd->port, again => 1, pause => 10);
    my %probes = (
        'a static file' => Crowd->start(%ask, path => '/static.txt?',
                                        expect => 'static'),
        'another application' => Crowd->start(%ask, path => '/other?id='),
    );
    $_->ask(1) for values %probes;
    return \%probes;
}

# What they see in some seconds: name => report.
sub look {
    my ($probes) = @_;
    $_->say('reset') for values %$probes;
    sleep $SECONDS;
    return { map { $_ => $probes->{$_}->report } keys %$probes };
}

sub compare_looks {
    my ($idle, $busy) = @_;
    for my $name (sort keys %$idle) {
        my ($before, $now) = map { $_->{$name}{answer} } $idle, $busy;
        diag(sprintf '%s: median %.2f ms, idle %.2f ms', $name,
             $now->{p50} / 1000, $before->{p50} / 1000);
        cmp_ok($now->{count}, '>', 10, "$name is there meanwhile");
        is($busy->{$name}{right}, $busy->{$name}{asked}
           - $busy->{$name}{waiting}, 'always');
    }
    return;
}

sub all_right {
    my ($crowd, $count, $name) = @_;
    my $report = $crowd->wait_for($DEADLINE, sub { !$_[0]{waiting} })
        || $crowd->report;
    is($report->{right}, $count, $name)
        or diag(join ' ', map { "$_ $report->{$_}" }
                qw(right refused cut wrong left late waiting why));
    return $report;
}

# A crowd comes, waits, and gets its answers. The rest is done meanwhile.
sub scenario {
    my ($httpd, $ready, $meanwhile, %crowd) = @_;
    my $probes = probes($httpd);
    my $idle = look($probes);
    my @pids = $httpd->pids;
    my ($memory, $threads) = (Crowd::kilobytes(@pids), Crowd::threads(@pids));
    my $crowd = Crowd->start(port => $httpd->port, %crowd);
    $_->say('reset') for values %$probes;
    my $began = time;
    my $count = $ready->($crowd);
    diag(sprintf '%d wait after %.1f s', $count, time - $began);
    for my $name (sort keys %$probes) {
        my $report = $probes->{$name}->report;
        diag(sprintf '%s, while they come: median %.2f ms, longest %.2f ms',
             $name, map { $report->{answer}{$_} / 1000 } qw(p50 max));
    }
    my $busy = look($probes);
    my $each = (Crowd::kilobytes(@pids) - $memory) / $count;
    diag(sprintf '%.1f KB each', $each);
    cmp_ok($each, '<', $KB_EACH, "each less than $KB_EACH KB")
        if !$ENV{HTTPD_PRELOAD};        # which has memory of its own
    is(Crowd::threads(@pids), $threads, 'no thread more');
    is(join(' ', sort $httpd->pids), join(' ', sort @pids), 'no child more');
    compare_looks($idle, $busy);
    $meanwhile->($crowd);
    $app->go;
    all_right($crowd, $count, "all $count are answered");
    $app->hold;
    $_->stop for $crowd, values %$probes;
    return;
}

subtest 'event streams' => sub {
    my $httpd = start($CHILDREN + 2, '');
    scenario($httpd, sub {
        my ($crowd) = @_;
        $crowd->ask($COUNT);
        ok($crowd->wait_for($DEADLINE, sub { $_[0]{begun} == $COUNT }),
           "$COUNT streams are open");
        $crowd->say('reset');
        return $COUNT;
    }, sub {
        my ($crowd) = @_;
        my $events = $crowd->report->{event};
        diag("$events->{count} events: " . Crowd::milliseconds($events));
        cmp_ok($events->{count}, '>', $COUNT / 4, 'events come');
        cmp_ok($events->{max}, '<', $DEADLINE * 1e6, 'each in time');
    }, path => '/app?every=5000&id=', stream => 1);
    $httpd->ok_healthy;
};

subtest 'before the first byte' => sub {
    my $httpd = start($CHILDREN + 2, '');
    scenario($httpd, sub {
        my ($crowd) = @_;
        $crowd->ask($COUNT);
        ok(Private::wait_until($DEADLINE,
                               sub { $app->count->{held} == $COUNT }),
           "the application has $COUNT requests");
        return $COUNT;
    }, sub { }, path => '/app?hold&id=');
    $httpd->ok_healthy;
};

# Each child that ends keeps its slot until the last of its requests is over.
subtest 'graceful restarts' => sub {
    my $restarts = 20;
    my $httpd = start($CHILDREN * ($restarts + 2), '');
    my $crowd = Crowd->start(port => $httpd->port, stream => 1,
                             path => '/app?every=1000&id=');
    my $count = min($COUNT, 1000);
    $crowd->ask($count);
    ok($crowd->wait_for($DEADLINE, sub { $_[0]{begun} == $count }),
       "$count streams are open");
    for (1 .. $restarts) {
        $httpd->graceful;
        $count += 10;
        $crowd->ask(10);
        $crowd->wait_for($DEADLINE, sub { $_[0]{begun} == $count })
            or fail('ten more');
    }
    my $report = $crowd->report;
    is($report->{waiting}, $count, "after $restarts restarts all are open");
    my $events = $report->{events};
    ok($crowd->wait_for($DEADLINE,
                        sub { $_[0]{events} > $events + 2 * $count }),
       'and get their events');
    $app->go;
    all_right($crowd, $count, 'and end well');
    $app->hold;
    $httpd->ok_healthy;
};

# The backend's numbers on the status page, over a connection that is kept.
sub status {
    my ($httpd) = @_;
    for my $try (1 .. 5) {
        my $conn = $httpd->{status_conn} //= Client->connect($httpd->port);
        $conn->send("GET /status?json HTTP/1.1\r\nHost: x\r\n\r\n");
        my $answer = $conn->read_response(timeout => $DEADLINE);
        if ($answer->complete) {
            my $address = $app->handler;
            my ($found) = grep { $_->{backend} eq $address }
                @{ decode_json($answer->body)->{backends} };
            return $found;
        }
        delete $httpd->{status_conn};
    }
    die "no status\n";
}

# Of so many that are called at once one may be overtaken by those behind it.
sub in_order {
    my ($max, @ids) = @_;
    my $worst = max map { abs($ids[$_] - $_ - 1) } 0 .. $#ids;
    diag("$worst places from the order at the most");
    cmp_ok($worst, '<', 16 * $max, 'in their order');
    return;
}

subtest 'in line' => sub {
    my $httpd = start($CHILDREN + 2,
                      "FcgiBackend \@ADDRESS\@ max=4 queue=65535"
                      . " queue-timeout=5min\n");
    my $count = int($COUNT / 2);
    $app->kill;
    $app->resume;
    scenario($httpd, sub {
        my ($crowd) = @_;
        my $begun = 0;
        local $Private::POLL = 0.001;
        for my $number (1 .. $count) {
            $crowd->ask(1);
            last if !Private::wait_until(10, sub {
                $number <= 4 ? $app->count->{held} == $number
                    : status($httpd)->{waiting} == $number - 4;
            });
            $begun++;
        }
        is($begun, $count, 'they are in line, one after the other');
        return $count;
    }, sub { }, path => '/app?hold&after=4&id=');
    in_order(4, $app->order);
    $httpd->ok_healthy;
};

done_testing();
