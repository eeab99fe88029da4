# Clients, applications and children die at random: each answer is right or visibly cut, and nothing is left behind.
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# STRESS=60 for a minute (10 seconds), CROWD=3000 with as many clients (1000),
# STRESS_SEED=N for the same order of deaths as in another run.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Crowd;
use Httpd;
use JSON::PP qw(decode_json);
use List::Util qw(max sum);
use Private;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'it takes the event MPM of httpd 2.4.63 or later'
    if !Httpd::can_park();

my $SECONDS = $ENV{STRESS} || 10;
my $COUNT = $ENV{CROWD} || 1000;
my $SEED = $ENV{STRESS_SEED} || $$;
my $CHILDREN = 4;
my $DEADLINE = 60;
my @KINDS = qw(right refused cut wrong left late);

srand $SEED;
diag("STRESS_SEED=$SEED");

# Some processes on each socket.
my @first = map { Crowd::Application->start } 1, 2;
my @apps = map { ($_, $_->another, $_->another) } @first;

my $factor = 2 + int(2 * $COUNT / 64);
my $httpd = Httpd->start(
    vars => { ONE => $first[0]->handler, TWO => $first[1]->address },
    files => { 'static.txt' => 'static' }, log_level => 'notice',
    mpm => <<"EOM", config => <<'EOC');
StartServers $CHILDREN
ServerLimit $CHILDREN
ThreadLimit 16
ThreadsPerChild 16
MinSpareThreads 64
MaxSpareThreads 64
MaxRequestWorkers 64
AsyncRequestWorkerFactor $factor
ListenBacklog 4096
EOM
FcgiPark 20ms
FcgiBackend two @TWO@ max=60 queue=1000 keepalive=20 idle=1s
<Location /one>
  SetHandler @ONE@
</Location>
<Location /two>
  SetHandler fcgi:two
</Location>
<Location /status>
  SetHandler fcgi-status
</Location>
EOC

# path, lines of the answer, 1 for an event stream; part of the crowd
my @WANTED = (
    ['/one?after=300&half=300&lines=2000&id=', 2000, 0, 0.3],
    ['/one?every=400&events=5&id=', 0, 1, 0.4],
    ['/two?after=20&lines=3&id=', 3, 0, 0.2],
    ['/two?half=30&lines=500&id=', 500, 0, 0.1],
);

sub come {
    return map {
        my ($path, $lines, $is_stream, $part) = @$_;
        my $crowd = Crowd->start(
            port => $httpd->port, path => $path, lines => $lines,
            stream => $is_stream, again => 1, pause => 100,
            patience => $DEADLINE * 1000);
        $crowd->ask(int($part * $COUNT));
        $crowd;
    } @WANTED;
}

sub any { return $_[rand @_] }

# Deaths: what, and how many in a second, about.
my %killed = (client => 0, application => 0, child => 0);
my %DEATHS = (
    client => [20, sub {
        my ($crowd) = @_;
        any(@$crowd)->say('leave ' . int(1 + rand($COUNT / 100)));
    }],
    application => [2, sub {
        my $app = any(@apps);
        $app->kill;
        $app->resume;
    }],
    child => [1, sub {
        my @pids = $httpd->pids or return;
        kill 'KILL', any(@pids);
    }],
);

# So many seconds with these deaths. Then nobody asks again.
sub stress {
    my ($name, $seconds, @deaths) = @_;
    my @crowd = come();
    my $end = time + $seconds;
    my %due = map { $_ => time + rand(2 / $DEATHS{$_}[0]) } @deaths;
    while (time < $end) {
        sleep 0.02;
        for my $what (grep { $due{$_} <= time } @deaths) {
            my ($rate, $die) = @{ $DEATHS{$what} };
            $die->(\@crowd);
            $killed{$what}++;
            $due{$what} = time + rand(2 / $rate);
        }
    }
    $_->say('finish') for @crowd;
    my @reports = map {
        $_->wait_for($DEADLINE, sub { !$_[0]{waiting} }) || $_->report
    } @crowd;
    $_->stop for @crowd;
    return judge($name, @reports);
}

sub judge {
    my ($name, @reports) = @_;
    my %all = map { my $kind = $_; $kind => sum(map { $_->{$kind} } @reports) }
        'asked', 'waiting', @KINDS;
    diag("$name: " . join ', ', map { "$all{$_} $_" } 'asked', @KINDS);
    ok($all{right} > 2 * $COUNT * $SECONDS / 60, 'many are right');
    is($all{waiting} + $all{late}, 0, 'none is lost');
    is($all{wrong}, 0, 'none is wrong')
        or diag(join "\n", map { $_->{why} } @reports);
    return;
}

sub report_of_status {
    my $answer = eval { Client->get($httpd->port, '/status?json') };
    return $answer && $answer->complete ? decode_json($answer->body) : undef;
}

# What is not zero on the status page.
sub counts {
    my $status = report_of_status() or return 'no status';
    my @left;
    for my $backend (@{ $status->{backends} }) {
        push @left, map { "$backend->{backend} $_ $backend->{$_}" }
            grep { $backend->{$_} }
            qw(in_use idle waiting parked pressing);
    }
    return join ', ', @left;
}

# The most descriptors that a child has.
sub descriptors { return max map { Crowd::descriptors($_) } $httpd->pids }

sub all_children_are_there {
    return Private::wait_until($DEADLINE, sub {
        my @pids = $httpd->pids;
        @pids == $CHILDREN && Crowd::threads(@pids) >= 16 * $CHILDREN;
    });
}

sub nothing_is_left {
    my ($descriptors) = @_;
    ok(all_children_are_there(), 'all children are there');
    ok(Private::wait_until($DEADLINE, sub { counts() eq '' }),
       'the counts are back at zero') or diag(counts());
    # One connection may be the one that just asked.
    ok(Private::wait_until($DEADLINE,
                           sub { descriptors() <= $descriptors + 1 }),
       'no descriptor is left') or diag(descriptors(), " > $descriptors");
    return;
}

ok(all_children_are_there(), 'it is up');
for (1 .. 50) {
    Client->get($httpd->port, $_) for qw(/static.txt /status);
}
my $descriptors = descriptors();

stress('all of them die', 0.6 * $SECONDS, qw(client application child));
nothing_is_left($descriptors);

# The same children from here on.
my @memory;
my @pids = sort $httpd->pids;
for my $round (1, 2) {
    stress("clients and applications die, $round", 0.2 * $SECONDS,
           qw(client application));
    nothing_is_left($descriptors);
    push @memory, Crowd::kilobytes(@pids);
}
is(join(' ', sort $httpd->pids), "@pids", 'the same children all the time');
diag("memory: $memory[0] KB, then $memory[1] KB");
cmp_ok($memory[1], '<', 1.25 * $memory[0] + 4096, 'no memory is left behind')
    if !$ENV{HTTPD_PRELOAD};            # which has memory of its own
diag(join ', ', map { "$killed{$_} of $_" } sort keys %killed);
cmp_ok($killed{$_}, '>', 0, "some of $_ died") for sort keys %killed;

$httpd->stop_gracefully;
my @crashes = grep { !/exit signal Killed/ }
    $httpd->words =~ /^.*(?:exit\ signal|Sanitizer|runtime\ error:).*$/mgx;
is("@crashes", '', 'no child crashed but those that were killed');
is($httpd->words =~ s/^.*exit signal Killed.*\n//mgr =~ /AH00050|assert/,
   '', 'and httpd has nothing to say about it');
done_testing();
