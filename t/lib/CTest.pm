# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Compiles a cmocka program under ASan and UBSan, runs it, and turns each of
# its tests into one of this test. A program that does not compile, crashes,
# hangs, skips or reports fewer tests than planned, or exits non-zero fails;
# so does a machine without cmocka. Knows nothing of what is tested.
#
#     use CTest;
#     CTest::run(sources => ['t/unit/test_record.c', 'fcgi_record.c']);
#     done_testing();
package CTest;

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp ();
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

our $TOP = abs_path(dirname(__FILE__) . '/../..');

my @FLAGS = ('-std=c99', '-Wall', '-Wextra', '-Werror', '-g',
             '-fno-sanitize-recover=all');

# Paths are relative to the top of the repository.
#   sources  the .c files that make the program
#   flags    more for the compiler        include  more directories
#   libs     more for the linker          args     for the program
#   apr      1: with APR and APR-util     httpd    1: with httpd's headers, too
#   timeout  seconds the program may run; 600
#   sanitize 'thread' for ThreadSanitizer, instead of ASan and UBSan
# The caller says done_testing(). With COVERAGE, a folder, programs count what
# they run, in place of the sanitizers, and stay there for t/coverage.
sub run {
    my (%with) = @_;
    my $dir = File::Temp->newdir('ctest-XXXXXX', TMPDIR => 1);
    my $program = program_in($dir, %with);

    my @command = compiler_command($program, %with);
    my ($status, $output) = capture($with{timeout}, @command);
    is($status, 'exit 0', "$with{sources}[0] compiles without a warning")
        or return diag("@command\n$output");

    local $ENV{CMOCKA_MESSAGE_OUTPUT} = 'TAP';
    ($status, $output) = capture($with{timeout}, $program,
                                 @{ $with{args} || [] });
    pass_through($output);
    is($status, 'exit 0', 'the program ends well')
        or diag($output);
}

# Where a program is put: in dir, or where t/coverage looks for it.
sub program_in {
    my ($dir, %with) = @_;
    my ($name) = $with{sources}[0] =~ m{([^/]+)\.c$};

    return $ENV{COVERAGE} ? "$ENV{COVERAGE}/programs/$name" : "$dir/program";
}

# What watches over a program.
sub watching_flags {
    my (%with) = @_;

    return $ENV{COVERAGE} ? qw(-fprofile-instr-generate -fcoverage-mapping
                                 -mllvm -runtime-counter-relocation)
                          : '-fsanitize='
                            . ($with{sanitize} || 'address,undefined');
}

sub compiler_command {
    my ($program, %with) = @_;
    my @include = ('.', @{ $with{include} || [] });
    my @system = $with{apr} || $with{httpd} ? apr_flags() : ();

    push @system, '-isystem', words('apxs', '-q', 'INCLUDEDIR')
        if $with{httpd};
    return ($ENV{CC} || 'gcc', @FLAGS, watching_flags(%with),
            (map { "-I$TOP/$_" } @include), @system,
            @{ $with{flags} || [] }, '-o', $program,
            (map { "$TOP/$_" } @{ $with{sources} }), '-lcmocka',
            $with{apr} || $with{httpd} ? apr_libs() : (),
            @{ $with{libs} || [] });
}

# APR's headers are not ours to warn about: -isystem.
sub apr_flags {
    return (words('apr-1-config', '--cppflags'),
            map { s/^-I// ? ('-isystem', $_) : $_ }
                words('apr-1-config', '--includes'),
                words('apu-1-config', '--includes'));
}

sub apr_libs {
    return (words('apu-1-config', '--link-ld', '--libs'),
            words('apr-1-config', '--link-ld', '--libs'));
}

# What a program prints, as words.
sub words {
    my (@command) = @_;

    open(my $from, '-|', @command) or die "$command[0]: $!\n";
    my @words = map { split } <$from>;
    close($from) or die "@command failed\n";
    return @words;
}

# Runs a command with a deadline and without a terminal. Returns how it ended
# and what it said on both outputs.
sub capture {
    my ($timeout, @command) = @_;
    my $out = File::Temp->new(TEMPLATE => 'ctest-XXXXXX', TMPDIR => 1);

    my $pid = fork();
    die "fork: $!\n" if !defined $pid;
    if ($pid == 0) {
        open(STDIN, '<', '/dev/null');
        open(STDOUT, '>&', $out);
        open(STDERR, '>&', $out);
        no warnings 'exec';
        exec { $command[0] } @command or print STDERR "$command[0]: $!\n";
        POSIX::_exit(127);
    }
    my $end = wait_for($pid, time + ($timeout || 600));
    open(my $in, '<', $out->filename) or die "cannot read the output: $!\n";
    local $/;
    return ($end, scalar <$in>);
}

sub wait_for {
    my ($pid, $deadline) = @_;

    while (waitpid($pid, POSIX::WNOHANG()) == 0) {
        if (time > $deadline) {
            kill 'KILL', $pid;
            waitpid($pid, 0);
            return 'stopped at the deadline';
        }
        sleep 0.01;
    }
    return 'signal ' . ($? & 127) if $? & 127;
    return 'exit ' . ($? >> 8);
}

# Each "ok" or "not ok" becomes a test, and each one the plan lacks a failure.
sub pass_through {
    my ($output) = @_;
    my ($planned) = $output =~ /^1\.\.(\d+)$/m;
    my $seen = 0;

    while ($output =~ /^(not )?ok (\d+) - (.*)\n((?:#.*\n)*)/mg) {
        my ($failed, $number, $name, $comment) = ($1, $2, $3, $4);
        $seen++;
        $name =~ tr/_/ /;
        ok(!$failed && $number == $seen, $name) or diag($comment);
    }
    ok($planned && $planned == $seen, 'every planned test reports')
        or diag(sprintf('%s planned, %d seen', $planned || 'none', $seen));
}

1;
