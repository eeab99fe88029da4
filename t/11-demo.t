# The demo answers three times and leaves nothing behind, however it ends.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use Cwd qw(abs_path);
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Django;
use Httpd;
use PhpFpm;
use POSIX qw(WNOHANG);
use Private;
use Test::More;

my $TOP = abs_path("$Bin/..");

plan skip_all => 'no ' . Django::missing() if Django::missing();
plan skip_all => 'no php-fpm' if !PhpFpm::program();
delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES DEMO_CHECK)};

my $logs = Private::temp_dir('demolog');
my %started;        # pid => 1, to be ended with the test

END {
    local $?;
    for my $pid (keys %started) {
        kill 'KILL', $pid, processes_of($pid);
    }
}

# Runs a command in a session of its own, by which its processes are known,
# whatever they change in their names or groups: { pid, log }.
sub start {
    my (@command) = @_;
    my $log = "$logs/" . (1 + keys %started);
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
        POSIX::setsid();
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', $log;
        open STDERR, '>&', \*STDOUT;
        exec { $command[0] } @command or POSIX::_exit(127);
    }
    $started{$pid} = 1;
    return { pid => $pid, log => $log };
}

# The processes of a session that have not ended.
sub processes_of {
    my ($session) = @_;
    my @found;
    for my $stat (glob '/proc/[0-9]*/stat') {
        my ($pid, $state, $of) = Private::slurp($stat)
            =~ /^(\d+) \(.*\) (\S) \d+ \d+ (\d+)/s or next;
        push @found, $pid if $of == $session && $state ne 'Z';
    }
    return @found;
}

# Temporary directories that the processes of a session have made.
sub directories_of {
    my (@pids) = @_;
    return map { glob "/tmp/fcgi-*-$_-*" } @pids;
}

# True when the first process ended; its exit status is in $demo->{status}.
sub wait_for_end {
    my ($demo) = @_;
    return Private::wait_until(60, sub {
        return 0 if waitpid($demo->{pid}, WNOHANG) == 0;
        $demo->{status} = $?;
        return 1;
    });
}

sub wait_for_output {
    my ($demo, $regex) = @_;
    my $said = Private::wait_until(60, sub {
        Private::slurp($demo->{log}) =~ $regex;
    });
    ok($said, "it said $regex") or diag Private::slurp($demo->{log});
    return;
}

# The demo ends, and nothing that these processes of it made is there then.
sub ok_nothing_left {
    my ($demo, @pids) = @_;
    ok(wait_for_end($demo), 'it ended') or diag Private::slurp($demo->{log});
    Private::wait_until(2, sub { !processes_of($demo->{pid}) });
    is_deeply([processes_of($demo->{pid})], [], 'no process is left');
    is_deeply([directories_of(@pids)], [], 'no file is left');
    return;
}

subtest 'DEMO_CHECK=1' => sub {
    my $demo = start('env', 'DEMO_CHECK=1', 'make', '-C', $TOP, 'demo');
    wait_for_output($demo, qr/Starting/);
    ok_nothing_left($demo, processes_of($demo->{pid}));
    is($demo->{status}, 0, 'exit status 0');
    my $output = Private::slurp($demo->{log});
    like($output, qr/^  Hello from \Q$_\E \d/m, "$_ answered")
        for 'PHP', 'Django';
    like($output, qr/^  Hello from C: request 1/m, 'C answered');
};

# A signal to the group of processes is what Ctrl-C on a terminal does.
for my $case (['Ctrl-C', 'INT', -1], ['SIGTERM to make', 'TERM', 1]) {
    my ($name, $signal, $whom) = @$case;
    subtest "$name while it is up" => sub {
        my $demo = start('make', '-C', $TOP, 'demo');
        wait_for_output($demo, qr/^Ctrl-C stops everything/m);
        my @pids = processes_of($demo->{pid});
        cmp_ok(scalar @pids, '>=', 8, 'servers and their workers are there');
        cmp_ok(scalar directories_of(@pids), '>=', 4,
               'and their directories');
        my ($url) = Private::slurp($demo->{log}) =~ m{^    (http://\S+/) }m;
        local $ENV{no_proxy} = '*';
        like(Client::curl($url)->{body}, qr/<h1>Hello from PHP/, 'a page');
        like(Client::curl("${url}django/")->{body}, qr/<h1>Hello from Django/,
             'another');
        like(Client::curl("${url}hello?<>")->{body},
             qr/<h1>Hello from C.*QUERY_STRING<td>&lt;&gt;/s, 'and another');
        kill $signal, $whom * $demo->{pid};
        ok_nothing_left($demo, @pids);
    };
}

subtest 'Ctrl-C while it starts' => sub {
    my $demo = start('make', '-C', $TOP, 'demo');
    wait_for_output($demo, qr/Starting/);
    Private::wait_until(10, sub {
        directories_of(processes_of($demo->{pid})) >= 2;
    });
    my @pids = processes_of($demo->{pid});
    kill 'INT', -$demo->{pid};
    ok_nothing_left($demo, @pids);
    isnt($demo->{status}, 0, 'and that is no success');
};

subtest 'a wrong answer' => sub {
    my $copy = Private::temp_dir('democopy');
    mkdir "$copy/t";
    Private::run('cp', '-R', "$TOP/demo", "$copy/demo");
    Private::run('cp', '-R', "$TOP/t/lib", "$TOP/t/django", "$copy/t");
    my $page = Private::slurp("$TOP/demo/index.php");
    Private::spew("$copy/demo/index.php", $page =~ s/6 \* 7\);/6 * 8);/r);
    local $ENV{MODULE_SO} = Httpd::module_file();
    local $ENV{DEMO_CHECK} = 1;
    my $demo = start('perl', "$copy/demo/demo.pl");
    ok_nothing_left($demo, $demo->{pid});
    isnt($demo->{status}, 0, 'is no success');
    my $output = Private::slurp($demo->{log});
    like($output, qr/WRONG.*6 \* 7 = 48.*1 of 3 did not answer/s,
         'and is shown');
};

done_testing;
