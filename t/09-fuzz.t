# Whatever was found by fuzzing holds: each input is what it should be.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# t/fuzz has the targets and what they require; "make fuzz" looks for more.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use CTest;
use File::Temp ();
use Fuzz;

# As libFuzzer's name of an input, or one that somebody gave it.
sub inputs_of {
    my ($name) = @_;
    my @files = sort glob "$CTest::TOP/t/fuzz/corpus/$name/*";

    return @files;
}

sub replay {
    my ($name) = @_;
    my $dir = File::Temp->newdir('fuzz-XXXXXX', TMPDIR => 1);
    my @inputs = inputs_of($name);
    my %parts = Fuzz::parts_of($name);
    my $program = CTest::program_in($dir, %parts);

    push @{ $parts{sources} }, 't/fuzz/replay.c';
    my ($end, $output) =
        CTest::capture(900, CTest::compiler_command($program, %parts));
    is($end, 'exit 0', "$name compiles without a warning")
        or return diag($output);
    ok(scalar(@inputs), "$name has a corpus") or return;
    is((grep { -s $_ >= 4096 } @inputs), 0, 'of small files');
    ($end, $output) = CTest::capture(900, $program, @inputs);
    my $passed = () = $output =~ /^ok /mg;
    is("$end, $passed", 'exit 0, ' . @inputs, "$name: all inputs pass")
        or diag($output);
}

replay($_) for Fuzz::names();
done_testing();
