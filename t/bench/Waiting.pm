# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A crowd that waits for a slow application, and somebody who only wants a
# static file meanwhile; and the chart of it. The clients and the application
# are those of t/lib/Crowd.pm.
#
#     my ($gateway, $result) = Waiting::measure(1000, 'fcgi', park => 0);
#     $result->{held}         # requests that the application had at once
#     {right}, {lost}         # answers, and clients that got none
#     {idle}, {median}, {longest}    # a static file: milliseconds
#     {memory}, {cpu}         # KB and microseconds for each request
#     Waiting::chart('docs/waiting.svg', 1000, \@names, { name => $result })
package Waiting;

use strict;
use warnings;
use Crowd;
use Gateway;
use List::Util qw(max);
use Private;
use Time::HiRes qw(sleep time);

# What the application takes for a request: all of the crowd should be there
# before the first is answered.
sub work_seconds {
    my ($count) = @_;
    return 1 + 4 * $count / 1000;
}

sub patience { return 2 * work_seconds($_[0]) }

sub cores {
    my @cores = Private::slurp('/proc/cpuinfo') =~ /^processor\s*:/mg;
    return scalar @cores || 1;
}

# Seconds of processor time of all threads that live, to the nanosecond.
sub processor_time {
    my $sum = 0;
    for my $file (map { glob "/proc/$_/task/*/schedstat" } @_) {
        my ($used) = Private::slurp($file) =~ /^(\d+)/;
        $sum += $used // 0;
    }
    return $sum / 1e9;
}

sub measure {
    my ($count, $kind, %opt) = @_;
    my $app = Crowd::Application->start(transport => 'unix');
    my $target = { name => 'app', type => 'app', address => $app->address };
    my $gateway = Gateway->start(
        kind => $kind, targets => [$target], crowd => $count,
        $kind eq 'nginx' ? (children => cores())
            : (children => 4, threads => 16), %opt);
    my $probe = Crowd->start(
        port => $gateway->port, again => 1, pause => 10,
        path => $gateway->static_path . '?', expect => 'static');
    $probe->ask(1);
    sleep 1;
    my $idle = $probe->report;
    my $result = wait_together($count, $app, $gateway, $probe);
    $result->{idle} = $idle->{answer}{p50} / 1000;
    $_->stop for $probe, $app;
    return ($gateway, $result);
}

sub wait_together {
    my ($count, $app, $gateway, $probe) = @_;
    my @pids = $gateway->pids;
    my ($memory, $cpu) = (Crowd::kilobytes(@pids), processor_time(@pids));
    my $work = work_seconds($count);
    my $crowd = Crowd->start(
        port => $gateway->port, patience => 1000 * patience($count),
        path => '/app/?after=' . 1000 * $work . '&id=');
    $probe->say('reset');
    my $first = time;
    $crowd->ask($count);
    Private::wait_until($work - 0.5, sub { $app->count->{open} >= $count });
    my $held = $app->count->{open};
    $memory = Crowd::kilobytes($gateway->pids) - $memory;
    sleep max 0, $first + $work - time;
    my $static = $probe->report;
    my $all = $crowd->wait_for(patience($count) + 5,
                               sub { !$_[0]{waiting} }) || $crowd->report;
    $cpu = processor_time($gateway->pids) - $cpu;
    $crowd->stop;
    return {
        held => $held, right => $all->{right},
        lost => $count - $all->{right},
        median => $static->{answer}{count}
            ? $static->{answer}{p50} / 1000 : undef,
        longest => max($static->{answer}{max}, $static->{oldest}) / 1000,
        memory => $held ? $memory / $held : undef,
        cpu => $all->{right} ? $cpu * 1e6 / $all->{right} : undef,
    };
}

# ---- the chart ----

# [title, key, 1 if the axis is logarithmic]
my @PANELS = (
    ['answered', 'right', 0],
    ['a static file meanwhile, longest, ms', 'longest', 1],
    ['memory of each, KB', 'memory', 0],
    ['processor time of each, µs', 'cpu', 0],
);

my %COLORS = (fastcgi_handler => '#2a6fbb', proxy_fcgi => '#b0b0b0',
              nginx => '#5fa463');

sub chart {
    my ($file, $count, $names, $results) = @_;
    my $dir = Private::temp_dir('chart');
    my $script = Private::spew("$dir/chart", join '',
        head($file, $count), (map { panel($_, $names, $results) } @PANELS),
        "unset multiplot\n");
    my ($status, $output) = Private::run('gnuplot', $script);
    die "gnuplot: $output" if $status;
    return;
}

sub head {
    my ($file, $count) = @_;
    return <<"EOC";
set encoding utf8
set terminal svg noenhanced size 880,520 font 'sans-serif,12' background '#ffffff'
set output '$file'
set multiplot layout 2,2 title '$count requests that wait for an application'
set style fill solid
set boxwidth 0.6
set border 3
set bmargin 3
set xtics nomirror scale 0 font ',10'
set ytics nomirror
set grid ytics
unset key
EOC
}

# Bars, each with its number.
sub panel {
    my ($panel, $names, $results) = @_;
    my ($title, $key, $is_log) = @$panel;
    my @rows = map {
        my $value = $results->{$names->[$_]}{$key} // 0;
        my ($kind) = $names->[$_] =~ /^(\w+)/;
        sprintf qq(%d %g "%s" 0x%s "%s"\n), $_, max($value, $is_log ? 1 : 0),
            $names->[$_] =~ s/ /\\n/r, substr($COLORS{$kind}, 1), short($value);
    } 0 .. $#$names;
    my $highest = max map { $results->{$_}{$key} // 0 } @$names;
    my $range = $is_log ? 'set logscale y; set yrange [1:'
        . 10 * max($highest, 1) . ']'
        : "unset logscale y; set yrange [0:" . 1.2 * max($highest, 1) . ']';
    return <<"EOC";
\$rows << END
@{[join '', @rows]}END
set title "$title"
$range
set xrange [-0.6:$#$names.6]
plot \$rows using 1:2:4:xtic(3) with boxes linecolor rgb variable, \\
     \$rows using 1:2:5 with labels offset 0,0.7
EOC
}

sub short {
    my ($value) = @_;
    return $value >= 10 ? sprintf '%.0f', $value : sprintf '%.1f', $value;
}

1;
