# Everything happens at once: no answer is wrong, none is lost that could be saved, nothing is left.
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# TIME=30m for as long (20 seconds), SEED=N for the same order of events as in
# another run, CLIENTS=N and CROWD=N for more clients. t/soak/Soak.pm says what
# may be lost.

use strict;
use warnings;
use Cwd qw(abs_path);
use FindBin qw($Bin);
use lib "$Bin/lib", "$Bin/soak";

# The disk that is filled is mounted for these processes alone.
BEGIN {
    if ($> == 0 && !exists $ENV{SOAK_MOUNTS}) {
        $ENV{SOAK_MOUNTS} = '';
        my @unshare = qw(unshare --mount --propagation private);
        if (system(@unshare, 'true') == 0) {
            $ENV{SOAK_MOUNTS} = 1;
            exec @unshare, $^X, abs_path($0);
        }
    }
}

use Soak;
use Test::More;

Soak::run(seconds => Soak::seconds($ENV{TIME} || 20),
          seed => $ENV{SEED} || $$,
          clients => $ENV{CLIENTS} || 8, crowd => $ENV{CROWD} || 200);
done_testing;
