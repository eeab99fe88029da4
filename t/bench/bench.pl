# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Compares this module with mod_proxy_fcgi and nginx, side by side, on this
# machine: "make bench" runs it. All servers are private to the run, and gone
# after it. docs/performance.rst says how to read the tables.
#
#     BENCH_ROUNDS=5     measurements of each (3). A round asks every gateway
#                        once, in turn, so that what else the machine does
#                        hits all alike
#     BENCH_SECONDS=3    how long one measurement takes (1)
#     BENCH_ONLY="small slow"   some scenarios: small, own, http2, download,
#                        upload, slow, overload, waiting, syscalls, memory
#     CROWD=10000        requests that wait at once in "waiting" (1000)
#     BENCH_CHART=file   a chart of "waiting" as SVG, by gnuplot
#     BENCH_LINES=file   every single value as well, one a line: scenario,
#                        application, gateway, what, round, value; with tabs
#     MPM=event|worker|prefork   httpd's, for both of its gateways
#
# The gateways' configurations are in Gateway.pm, the application is app.c.
use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use lib dirname(__FILE__), dirname(__FILE__) . '/../lib';
use BenchApp;
use Client;
use Clients;
use Gateway;
use List::Util qw(max min sum0);
use PhpFpm;
use Private;
use Time::HiRes qw(sleep time);
use Waiting;

my $HERE = abs_path(dirname(__FILE__));
my $ROUNDS = positive('BENCH_ROUNDS', 3);
my $SECONDS = positive('BENCH_SECONDS', 1);
my $CROWD = positive('CROWD', 1000);

my $KEPT = 8;                   # clients of small answers, kept connections
my $STREAMS = 4;                # of each client, over HTTP/2
my $MB = 1_000_000;
my $UPLOAD = 16 * 1024 * 1024;
my $BIG_UPLOAD = 1024 ** 3;

# More than the idle connections that all gateways together keep in all of their
# processes, which hold one each: the first to be asked would have the most.
my $WORKERS = 256;
my $SLEEP = 10;                 # milliseconds of the overloaded application
my @READERS = (count => 20, rate => 1_500_000);
my $READ = 12 * $MB;            # the kernel holds 4 of it for the client
my $SLOW_END = 6;               # seconds
my $TRACED = 500;               # requests under strace

# For two workers: 2 connections in all where a gateway can say that.
my @OVERLOADED = (
    [fcgi => max => 2], [proxy =>], ['nginx'],
    [fcgi => max => 2, keep => 2], [proxy => max => 1, keep => 1],
    [nginx => keep => 1],
);

# The columns of small answers, and those of downloads and uploads.
my @SMALL = (['1000/s', 'rate'], ['p50 ms', 'p50'], ['p95 ms', 'p95'],
             ['p99 ms', 'p99'], ['CPU us', 'cpu'], ['failed', 'failed']);
my @BULK = (['MB/s', 'mb'], ['p50 ms', 'p50'], ['p99 ms', 'p99'],
            ['CPU ms/MB', 'cpu_mb'], ['failed', 'failed']);

my @targets;                    # applications that all gateways share
my %running;                    # gateways that serve all of these

my %scenarios = (
    small => \&small, own => \&own, http2 => \&http2, download => \&download,
    upload => \&upload, slow => \&slow, overload => \&overload, waiting => \&waiting,
    syscalls => \&syscalls, memory => \&memory,
);
my @order = qw(small own http2 download upload slow overload waiting syscalls
               memory);

$| = 1;
$ENV{no_proxy} = '*';
my @wanted = split /[ ,]+/, $ENV{BENCH_ONLY} // "@order";
for my $name (@wanted) {
    $scenarios{$name} or die "BENCH_ONLY: there is no $name, but @order\n";
}
my $lines;
if ($ENV{BENCH_LINES}) {
    open $lines, '>', $ENV{BENCH_LINES} or die "$ENV{BENCH_LINES}: $!\n";
}

for my $needed (qw(wrk h2load nginx strace)) {
    grep { -x "$_/$needed" } split(/:/, $ENV{PATH} // ''), '/usr/sbin'
        or die "$needed is not here; see the group bench in t/deps\n";
}
my $began = time;
facts();
my $failed = grep { !finished($_) } @wanted;
printf "\n%d seconds in all.\n", time - $began;
exit($failed ? 1 : 0);

# Runs a scenario; one that fails does not take the others with it.
sub finished {
    my ($name) = @_;
    return 1 if eval { $scenarios{$name}->(); 1 };
    print "\n$name could not be measured: $@\n";
    return 0;
}

sub positive {
    my ($name, $default) = @_;
    my $value = $ENV{$name} || $default;
    $value =~ /^[1-9]\d*$/ or die "$name is a whole number, not $value\n";
    return $value;
}

# ---- what is measured on ----

sub facts {
    my ($model) = Private::slurp('/proc/cpuinfo') =~ /^model name\s*: (.*)/m;
    my @cores = Private::slurp('/proc/cpuinfo') =~ /^processor\s*:/mg;
    my ($memory) = Private::slurp('/proc/meminfo') =~ /^MemTotal:\s*(\d+)/m;
    my ($load) = Private::slurp('/proc/loadavg') =~ /^(\S+)/;
    my %versions = (
        httpd => [$ENV{HTTPD} || '/usr/sbin/apache2', '-v', qr{Apache/(\S+)}],
        nginx => [Gateway::Nginx::program(), '-v', qr{nginx/(\S+)}],
        PHP => [PhpFpm::program(), '-v', qr{PHP (\S+)}]);
    my @versions = map {
        my ($program, $option, $pattern) = @{ $versions{$_} };
        my ($version) = (Private::run($program, $option))[1] =~ $pattern;
        "$_ " . ($version // 'of unknown version');
    } qw(httpd nginx PHP);
    printf "%d cores%s, %.0f GB, Linux %s, load %s at the start\n"
        . "%s, MPM %s\n"
        . "%d rounds, each measurement %d s; median, and below"
        . " it lowest-highest\n",
        scalar @cores, $model ? " ($model)" : '', $memory / 1024 ** 2,
        (split ' ', Private::slurp('/proc/version'))[2], $load,
        join(', ', @versions), Httpd::mpm(), $ROUNDS, $SECONDS;
    return;
}

# ---- tables ----

sub heading {
    my ($title, @notes) = @_;
    print "\n\n$title\n", '=' x length $title, "\n";
    print "$_\n" for @notes;
    return;
}

sub note_value {
    my ($scenario, $target, $gateway, $what, $round, $value) = @_;
    print $lines join("\t", $scenario, $target, $gateway, $what, $round,
                      $value // ''), "\n" if $lines;
    return;
}

sub median {
    my @sorted = sort { $a <=> $b } @_;
    return $sorted[$#sorted / 2];
}

# A number in about three digits.
sub short {
    my ($number) = @_;
    my $digits = abs $number >= 100 || $number == int $number ? 0
        : abs $number >= 10 ? 1 : 2;
    return sprintf "%.${digits}f", $number;
}

# Median and, if there is more than one, lowest and highest.
sub spread {
    my @values = grep { defined } @_;
    return ('-', '') if !@values;
    my ($low, $high) = (short(min @values), short(max @values));
    return (short(median(@values)), $low eq $high ? '' : "$low-$high");
}

# One table: columns are [heading, key]; results { gateway => [one hash for
# each round] }, gateways in order. Columns in which nothing but 0 stands are
# left out if they are failures.
sub table {
    my ($scenario, $label, $columns, $gateways, $results) = @_;
    my @columns = grep {
        my $key = $_->[1];
        $key ne 'failed' || grep { $_->{failed} } map { @$_ } values %$results;
    } @$columns;
    my @rows = [$label, map { $_->[0] } @columns];
    for my $gateway (@$gateways) {
        my @cells = map {
            [column($scenario, $label, $gateway, $_, $results)]
        } @columns;
        push @rows, ["  $gateway", map { $_->[0] } @cells];
        push @rows, ['', map { $_->[1] } @cells] if $ROUNDS > 1;
    }
    print_rows(@rows);
    print "  failed: none\n" if @columns < @$columns;
    return;
}

# The two cells of a gateway and a column.
sub column {
    my ($scenario, $label, $gateway, $column, $results) = @_;
    my ($heading, $key) = @$column;
    my @values = map { $_->{$key} } @{ $results->{$gateway} };
    note_value($scenario, $label, $gateway, $heading, $_ + 1, $values[$_])
        for 0 .. $#values;
    return spread(@values);
}

sub print_rows {
    my (@rows) = @_;
    my @widths = map {
        my $column = $_;
        max map { length $_->[$column] } @rows;
    } 0 .. $#{ $rows[0] };
    print "\n";
    for my $row (grep { grep { length } @$_ } @rows) {
        my $line = sprintf "%-$widths[0]s", $row->[0];
        $line .= sprintf "  %$widths[$_]s", $row->[$_] for 1 .. $#widths;
        print $line =~ s/ +$//r, "\n";
    }
    return;
}

# ---- measuring with wrk, and with h2load ----

sub wrk {
    my ($url, %arg) = @_;
    local $ENV{BENCH_BODY} = $arg{body} || 0;
    my ($status, $output) = Private::run(
        qw(wrk --latency --timeout 10s -t 1 -c), $arg{clients}, '-d',
        "${SECONDS}s", '-s', "$HERE/wrk.lua", $url);
    my ($line) = $output =~ /^RESULT (.*)/m
        or die "wrk says nothing that is understood:\n$output";
    my %result;
    @result{qw(took requests errors failed p50 p95 p99)} = split ' ', $line;
    return \%result;
}

# The same over HTTP/2. A line of its log is a request: when, status,
# microseconds.
sub h2load {
    my ($url, %arg) = @_;
    my $log = Private::temp_dir('h2load');
    my ($status, $output) = Private::run(
        'h2load', '-t', 1, '-c', $arg{clients}, '-m', $STREAMS, '-D', $SECONDS,
        "--log-file=$log/requests", $url);
    my ($seconds) = $output =~ /^finished in ([\d.]+)s,/m;
    my @requests = map { [split /\t/] } split /\n/,
        Private::slurp("$log/requests");
    my @took = sort { $a <=> $b } map { $_->[2] }
        grep { $_->[1] == 200 } @requests;
    die "h2load says nothing that is understood:\n$output"
        if !$seconds || !@took;
    return { took => $seconds * 1e6, requests => scalar @requests, errors => 0,
             failed => @requests - @took,
             map { ("p$_" => $took[$#took * $_ / 100]) } 50, 95, 99 };
}

# One measurement: rates, times, and the gateway's processor time.
sub measure {
    my ($gateway, $url, %arg) = @_;
    my $cpu = $gateway->cpu;
    my $wrk = ($arg{load} || \&wrk)->($url, %arg);
    my $done = $wrk->{requests} - $wrk->{failed};
    my $seconds = $wrk->{took} / 1e6;
    $cpu = $gateway->cpu - $cpu;
    return {
        rate => $done / $seconds / 1000,
        mb => $done * ($arg{bytes} || 0) / $MB / $seconds,
        (map { $_ => $wrk->{$_} / 1000 } qw(p50 p95 p99)),
        failed => $wrk->{failed} + $wrk->{errors},
        cpu => $done ? $cpu * 1e6 / $done : undef,
        cpu_mb => $done && $arg{bytes}
            ? $cpu * 1e3 / ($done * $arg{bytes} / $MB) : undef,
    };
}

# Once before anything counts: the answer has to be right.
sub check {
    my ($gateway, $url, $pattern, @curl) = @_;
    my $answer = Client::curl($url, @curl);
    return if $answer->{status} == 200 && $answer->{body} =~ $pattern;
    die $gateway->name . ", $url: status $answer->{status}, ",
        substr($answer->{body}, 0, 200), "\n", $gateway->{server}->words;
}

# ---- applications and gateways of the scenarios with wrk ----

sub app_target {
    my ($transport) = @_;
    my $server = BenchApp->start(workers => $WORKERS,
                                 transport => $transport);
    return { name => "app-$transport", type => 'app',
             label => "C program, $transport", server => $server,
             address => $server->address };
}

# Started once; the same for every gateway.
sub targets {
    return @targets if @targets;
    push @targets, map { app_target($_) } qw(unix tcp);
    for my $transport (qw(unix tcp)) {
        push @targets, {
            name => "php-$transport", type => 'php',
            label => "PHP-FPM, $transport",
            server => PhpFpm->start(
                children => $WORKERS, transport => $transport,
                backlog => 511,
                ini => { post_max_size => 0, enable_post_data_reading => 0 },
            ) };
    }
    $_->{address} //= $_->{server}->address for @targets;
    return @targets;
}

# A gateway that serves all targets, started once. With prefork there are no
# more processes than the application has workers to spare.
sub gateway {
    my ($kind, $keep, %opt) = @_;
    return $running{join ' ', $kind, $keep, %opt} //= Gateway->start(
        kind => $kind, keep => $keep, targets => [targets()], %opt,
        threads => Httpd::mpm() eq 'prefork' ? 10 : 64);
}

sub gateways {
    my (@keeps) = @_;
    return map { my $keep = $_; map { gateway($_, $keep) }
                 qw(fcgi proxy nginx) } @keeps;
}

sub compare {
    my ($scenario, $targets, $gateways, $columns, $url, %arg) = @_;
    for my $target (@$targets) {
        my %results;
        for my $gateway (@$gateways) {
            check($gateway, $url->($gateway, $target), $arg{right},
                  @{ $arg{curl} || [] });
        }
        for my $round (1 .. $ROUNDS) {
            for my $gateway (@$gateways) {
                push @{ $results{$gateway->name} },
                    measure($gateway, $url->($gateway, $target), %arg);
            }
        }
        table($scenario, $target->{label}, $columns,
              [map { $_->name } @$gateways], \%results);
    }
    return;
}

sub small {
    heading('Small answers',
        "$KEPT clients with kept connections of their own. Without \"kept\" a"
        . " new connection", 'to the application for each request.'
        . ' CPU is the gateway\'s, for a request.');
    compare('small', [targets()], [gateways(0, $KEPT)],
        \@SMALL,
        sub { $_[0]->url($_[1]) }, clients => $KEPT, right => qr/^ok 0\n/);
    return;
}

# Each round's own time is what is more than httpd's alone in that round; what
# the least has of the answer is always small.
sub own {
    heading('Own processor time',
        'The C program on a unix socket, kept connections, 16 clients, 2 for the'
        . ' largest. Own:', 'more than httpd alone takes, which answers from'
        . ' memory. The least: one write by each', 'of its threads, which then'
        . ' waits and reads until it has all, and answers with 13 bytes.');
    my $target = app_target('unix');
    # keepalive= counts those of both processes, the others those of each
    my %keep = (alone => 0, least => 0, fcgi => 32, proxy => 16, nginx => 16);
    my @gateways = map {
        Gateway->start(kind => $_, targets => [$target], keep => $keep{$_})
    } qw(alone least fcgi proxy nginx);
    own_of($target, @$_, @gateways)
        for [8, 16], [100_000, 16], [10 * $MB, 2];
    return;
}

sub own_of {
    my ($target, $size, $clients, @gateways) = @_;
    my @names = map { $_->name } @gateways;
    my %results;
    for my $round (1 .. $ROUNDS) {
        my $small;
        for my $gateway (@gateways) {
            my $url = $gateway->url($target);
            check($gateway, "$url?bytes=$size", qr/^ok 0\n/) if $round == 1;
            $small = measure($gateway, "$url?bytes=8", clients => $clients)
                if $gateway->{kind} eq 'alone';
            push @{ $results{$gateway->name} },
                measure($gateway, "$url?bytes=$size", clients => $clients);
        }
        my ($alone, $least, $ours, $proxy, $nginx)
            = map { $results{$_}[-1] } @names;
        $least->{own} = more($least->{cpu}, $small->{cpu});
        $_->{own} = more($_->{cpu}, $alone->{cpu}) for $ours, $proxy;
        $_->{of_least} = ratio($_->{own}, $least->{own}) for $ours, $proxy;
        $ours->{of_proxy} = ratio($ours->{cpu}, $proxy->{cpu});
        $ours->{of_nginx} = ratio($ours->{cpu}, $nginx->{cpu});
        $ours->{own_of_proxy} = ratio($ours->{own}, $proxy->{own});
    }
    table('own', "$size bytes",
          [['CPU us', 'cpu'], ['/proxy_fcgi', 'of_proxy'],
           ['/nginx', 'of_nginx'], ['own us', 'own'],
           ['own/least', 'of_least'], ['own/proxy_fcgi', 'own_of_proxy'],
           ['failed', 'failed']], \@names, \%results);
    return;
}

# Undefined where it says nothing, as that of a machine that does something else.
sub more {
    my ($all, $part) = @_;
    return defined $all && defined $part && $all > $part ? $all - $part
        : undef;
}

sub ratio {
    my ($one, $other) = @_;
    return defined $one && $other ? $one / $other : undef;
}

sub http2 {
    return if Httpd::mpm() eq 'prefork';        # which has no HTTP/2
    heading('Small answers over HTTP/2',
        "$KEPT clients with $STREAMS streams each at a time, without TLS;"
        . ' kept connections to', 'the application. CPU is the gateway\'s, for a'
        . ' request.');
    compare('http2', [grep { $_->{name} =~ /unix/ } targets()],
        [map { gateway($_, $KEPT * $STREAMS, http2 => 1) } qw(fcgi proxy nginx)],
        \@SMALL,
        sub { $_[0]->url($_[1]) }, clients => $KEPT, load => \&h2load,
        curl => ['--http2-prior-knowledge'], right => qr/^ok 0\n/);
    return;
}

sub download {
    heading('Downloads of 10 MB',
        '2 clients, a new connection to the application for each.');
    compare('download', [grep { $_->{name} ne 'php-tcp' } targets()],
        [gateways(0)], \@BULK, sub {
            my $url = $_[0]->url($_[1], 'big');
            return $_[1]{type} eq 'app' ? "$url?bytes=10485760" : $url;
        }, clients => 2, bytes => 10485760, right => qr/x{1000}$/);
    return;
}

sub upload {
    heading('Uploads of 16 MB',
        '2 clients, a new connection to the application for each.');
    my $dir = Private::temp_dir('bench');
    Private::spew("$dir/body", 'x' x $UPLOAD);
    compare('upload', [grep { $_->{name} ne 'php-tcp' } targets()],
        [gateways(0)], \@BULK, sub { $_[0]->url($_[1], 'upload') },
        clients => 2, bytes => $UPLOAD, body => $UPLOAD,
        curl => ['--data-binary', "\@$dir/body"], right => qr/^ok $UPLOAD\n/);
    return;
}

# ---- scenarios with an application of their own for each measurement ----

# A fresh application and a fresh gateway, so that nothing is left over.
sub fresh {
    my ($kind, $app, %opt) = @_;
    my $server = BenchApp->start(workers => 2, %$app);
    my $target = { name => 'app', type => 'app', server => $server,
                   address => $server->address };
    my $gateway = Gateway->start(kind => $kind, targets => [$target], %opt);
    check($gateway, $gateway->url($target), qr/^ok 0\n/);
    return ($gateway, $server, $gateway->url($target));
}

sub slow {
    heading('Slow readers',
        "$READERS[1] clients read 12 MB at 1.5 MB/s each; an application with"
        . ' 2 workers; until all',
        "answers are made, $SLOW_END s at the most. Made: answers after which"
        . ' the worker was free.', 'Held: how long an answer held its worker.'
        . ' Others: the longest wait of small', 'requests meanwhile, also of'
        . ' one that got no answer.');
    my %results;
    my @names;
    for my $round (1 .. $ROUNDS) {
        for my $kind (qw(fcgi proxy nginx)) {
            my ($gateway, $app) = fresh($kind, {});
            push @{ $results{$gateway->name} }, slow_once($gateway, $app);
            push @names, $gateway->name if $round == 1;
            $_->stop for $gateway, $app;
        }
    }
    table('slow', 'C program, unix',
        [['made', 'freed'], ['all after s', 'end'],
         ['held s', 'held'], ['longest s', 'longest'],
         ['others ms', 'others']],
        \@names, \%results);
    return;
}

sub slow_once {
    my ($gateway, $app) = @_;
    my $start = time;
    my $result = Clients::slow(
        $gateway->port, @READERS, path => "/app/?bytes=$READ&log",
        probe => '/app/', seconds => $SLOW_END,
        until => sub { my @done = $app->log; @done >= $READERS[1] });
    my @log = $app->log;
    my @held = map { $_->[1] - $_->[0] } @log;
    return {
        freed => scalar @log,
        end => @log >= $READERS[1] ? (max map { $_->[1] } @log) - $start
            : undef,
        held => @held ? median(@held) : undef,
        longest => @held ? max @held : undef,
        others => 1000 * max(@{ $result->{answered} },
                             $result->{waited} // 0),
    };
}

sub overload {
    my $seconds = max 2, $SECONDS;
    heading('Overload',
        "64 clients, an application with 2 workers that takes $SLEEP ms for"
        . " each; $seconds s.",
        'fastcgi_handler: max=2, and kept: keepalive=2; proxy_fcgi kept:'
        . ' max=1 in each',
        'child; nginx kept: keepalive 1 in each of 2 processes. A client that'
        . ' gets no',
        '200, or none in 5 s, pauses 100 ms. Longest: also without an answer'
        . ' at the end.');
    for my $backlog (511, 16) {
        my @variants = grep {
            my (undef, %opt) = @$_;
            $backlog == 511 || !$opt{keep};
        } @OVERLOADED;
        overload_table($seconds, $backlog, @variants);
    }
    return;
}

sub overload_table {
    my ($seconds, $backlog, @variants) = @_;
    my (%results, @names);
    for my $round (1 .. $ROUNDS) {
        for my $variant (@variants) {
            my ($kind, %opt) = @$variant;
            my ($gateway, $app) = fresh($kind, { backlog => $backlog }, %opt);
            push @names, $gateway->name if $round == 1;
            push @{ $results{$gateway->name} },
                overload_once($gateway, $seconds);
            $_->stop for $gateway, $app;
        }
    }
    table('overload', "backlog $backlog",
        [['answered/s', 'rate'], ['failed/s', 'failed'],
         ['p50 ms', 'p50'], ['p99 ms', 'p99'], ['longest ms', 'longest']],
        \@names, \%results);
    return;
}

sub overload_once {
    my ($gateway, $seconds) = @_;
    my $result = Clients::crowd(
        $gateway->port, path => "/app/?sleep=$SLEEP", count => 64,
        seconds => $seconds, timeout => 5);
    my @took = sort { $a <=> $b } @{ $result->{answered} };
    return {
        rate => @took / $seconds,
        failed => sum0(values %{ $result->{failed} }) / $seconds,
        p50 => @took ? 1000 * $took[$#took * 0.5] : undef,
        p99 => @took ? 1000 * $took[$#took * 0.99] : undef,
        longest => 1000 * $result->{waited},
    };
}

# ---- requests that wait ----

sub waiting {
    my $work = Waiting::work_seconds($CROWD);
    my $patience = Waiting::patience($CROWD);
    heading("$CROWD requests that wait",
        "An application that has them all at once and takes $work s for each;"
        . " clients leave", "after $patience s. Both httpds: 4 children of 16"
        . ' threads; nginx: a process for each core.',
        'At once: requests the application had. Lost: no answer, or no right'
        . ' one. Static: a', 'small file meanwhile, from the first of them'
        . ' on; idle: before. Memory and CPU: the', 'gateway\'s, for each'
        . ' request that the application has, or was answered.');
    my (%results, @names);
    for my $round (1 .. $ROUNDS) {
        for my $variant ([fcgi =>], [fcgi => park => 0], [proxy =>],
                         ['nginx']) {
            my ($gateway, $result) = Waiting::measure($CROWD, @$variant);
            push @names, $gateway->name if $round == 1;
            push @{ $results{$gateway->name} }, $result;
            $gateway->stop;
        }
    }
    table('waiting', 'C program, unix',
        [['at once', 'held'], ['answered', 'right'], ['lost', 'lost'],
         ['idle ms', 'idle'], ['static ms', 'median'],
         ['longest ms', 'longest'], ['KB each', 'memory'],
         ['CPU us', 'cpu']], \@names, \%results);
    chart($ENV{BENCH_CHART}, \@names, \%results) if $ENV{BENCH_CHART};
    return;
}

# The medians of the rounds.
sub chart {
    my ($file, $names, $results) = @_;
    my %medians;
    for my $name (@$names) {
        for my $key (keys %{ $results->{$name}[0] }) {
            my @values = grep { defined } map { $_->{$key} }
                @{ $results->{$name} };
            $medians{$name}{$key} = @values ? median(@values) : undef;
        }
    }
    Waiting::chart($file, $CROWD, $names, \%medians);
    print "\n$file is drawn.\n";
    return;
}

# ---- system calls ----

sub syscalls {
    heading('System calls of a small request',
        "All processes of the gateway under strace, $TRACED requests of one"
        . ' client on one', 'connection; the C program on a unix socket;'
        . ' counted once.');
    my (%counts, @names, %seen);
    for my $keep (0, $KEPT) {
        for my $kind (qw(fcgi proxy nginx)) {
            my ($gateway, $app) =
                fresh($kind, { workers => $WORKERS }, keep => $keep,
                      children => 1);
            my $counts = traced($gateway);
            push @names, $gateway->name;
            $counts{$gateway->name} = $counts;
            $seen{$_} += $counts->{$_} for keys %$counts;
            $_->stop for $gateway, $app;
        }
    }
    my @calls = sort { $seen{$b} <=> $seen{$a} || $a cmp $b }
        grep { $seen{$_} >= 0.1 } keys %seen;
    for my $name (@names) {
        note_value('syscalls', 'C program, unix', $name, $_, 1,
                   $counts{$name}{$_} // 0) for @calls;
    }
    print_rows(
        ['', map { s/^(fastcgi|proxy)_\w+/$1/r } @names],
        map { my $call = $_; [$call eq 'total' ? 'all' : "  $call", map {
            my $count = $counts{$_}{$call} || 0;
            $count >= 0.05 ? sprintf '%.1f', $count : '-';
        } @names] } @calls);
    return;
}

# { call => how often for a request }, with total.
sub traced {
    my ($gateway) = @_;
    my $dir = Private::temp_dir('strace');
    Clients::one_by_one($gateway->port, '/app/', 10);
    my $pid = Private::spawn(
        exec => ['strace', '-f', '-c', '-o', "$dir/counts",
                 map { ('-p', $_) } $gateway->pids], log => "$dir/said");
    Private::wait_until(10, sub {
        Private::slurp("$dir/said") =~ /attached/;
    }) or die "strace: " . Private::slurp("$dir/said");
    sleep 0.2;
    Clients::one_by_one($gateway->port, '/app/', $TRACED);
    Private::end($pid, 'INT');
    my %counts;
    for my $line (split /\n/, Private::slurp("$dir/counts")) {
        my @fields = split ' ', $line;
        next if @fields < 5 || $fields[0] !~ /^[\d.]+$/;
        $counts{$fields[-1]} = $fields[3] / $TRACED;
    }
    return \%counts;
}

# ---- memory ----

sub memory {
    heading('Memory for an upload of 1 GB',
        'How much more memory the processes of a fresh gateway have at the'
        . ' most (RSS),', 'and what it writes to the disk or its cache.'
        . ' FcgiBufferMax is 1G, the default.');
    my $dir = Private::temp_dir('bench');
    Private::spew("$dir/body", '');
    truncate "$dir/body", $BIG_UPLOAD or die "truncate: $!";
    my (%results, @names);
    for my $round (1 .. $ROUNDS) {
        for my $kind (qw(fcgi proxy nginx)) {
            my ($gateway, $app, $url) = fresh($kind, {}, children => 1);
            push @names, $gateway->name if $round == 1;
            push @{ $results{$gateway->name} },
                memory_once($gateway, $url, "$dir/body");
            $_->stop for $gateway, $app;
        }
    }
    table('memory', 'C program, unix',
        [['MB more', 'grown'], ['MB written', 'written'], ['seconds', 'took']],
        \@names, \%results);
    return;
}

sub memory_once {
    my ($gateway, $url, $body) = @_;
    my @pids = $gateway->pids;
    Private::spew("/proc/$_/clear_refs", "5\n") for @pids;  # begins again
    my $before = sum0 map { status_of($_, 'VmRSS') } @pids;
    my $written = sum0 map { written($_) } @pids;
    my $start = time;
    check($gateway, $url, qr/^ok $BIG_UPLOAD\n/, '-X', 'POST', '-T', $body,
          '-H', 'Expect:');
    return {
        took => time - $start,
        grown => ((sum0 map { status_of($_, 'VmHWM') } @pids) - $before)
            / 1024,
        written => ((sum0 map { written($_) } @pids) - $written) / 1024 ** 2,
    };
}

sub status_of {
    my ($pid, $name) = @_;
    my ($kb) = Private::slurp("/proc/$pid/status") =~ /^$name:\s*(\d+)/m;
    return $kb || 0;
}

# Bytes that a process has made dirty in files, not in sockets.
sub written {
    my ($pid) = @_;
    my ($bytes) = Private::slurp("/proc/$pid/io") =~ /^write_bytes: (\d+)/m;
    return $bytes || 0;
}
