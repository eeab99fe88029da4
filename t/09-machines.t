# The codec says the same on machines of 32 bits, and with the high byte first.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# It knows nothing of httpd or APR, so that a cross compiler and qemu's user
# mode are enough for the inputs of its fuzz target.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use CTest;
use File::Temp ();
use Fuzz;

# What runs a program for each (not every kernel runs those of 32 bits), and
# the bytes of its ELF header that tell: its class (1: 32 bits) and its order
# (2: high byte first).
my @MACHINES = (
    ['i686', ['qemu-i386'], 1, 1],
    ['s390x', ['qemu-s390x'], 2, 2],
);
my @inputs = sort glob "$CTest::TOP/t/fuzz/corpus/record/*";
my %parts = Fuzz::parts_of('record');

sub is_here {
    my ($program) = @_;
    return grep { -x "$_/$program" } split /:/, $ENV{PATH};
}

for my $machine (@MACHINES) {
    my ($name, $under, $class, $order) = @$machine;
    my $compiler = "$name-linux-gnu-gcc";
    SKIP: {
        my @lacking = grep { !is_here($_) } $compiler, @$under;
        skip "no @lacking here", 3 if @lacking;
        my $dir = File::Temp->newdir('machine-XXXXXX', TMPDIR => 1);
        my ($end, $output) = CTest::capture(
            60, $compiler, qw(-std=c99 -Wall -Wextra -Werror -O2 -static),
            "-I$CTest::TOP", '-o', "$dir/program",
            map { "$CTest::TOP/$_" } @{ $parts{sources} }, 't/fuzz/replay.c');
        is($end, 'exit 0', "$name: compiles without a warning")
            or diag($output), next;
        open my $elf, '<:raw', "$dir/program" or die "$dir/program: $!\n";
        read $elf, my $header, 6;
        is_deeply([unpack 'x4 C2', $header], [$class, $order],
                  "$name: " . ($class == 1 ? 32 : 64) . ' bits, '
                  . ($order == 1 ? 'low' : 'high') . ' byte first');
        ($end, $output) =
            CTest::capture(120, @$under, "$dir/program", @inputs);
        my $passed = () = $output =~ /^ok /mg;
        is("$end, $passed", 'exit 0, ' . @inputs, "$name: all inputs pass")
            or diag($output);
    }
}
cmp_ok(scalar @inputs, '>', 50, 'of many');
done_testing();
