# Permits are counted over all children, in order, and a dead child keeps none.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# The tests are in t/unit/test_slots.c and test_line.c; here they are compiled
# and run. FCGI_SLOTS_STEP is what the first counts, and is killed at.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use CTest;

my @FLAGS = ('-D_GNU_SOURCE', '-DFCGI_SLOTS_STEP=count_step', '-pthread');

CTest::run(sources => ['t/unit/test_slots.c', 'fcgi_slots.c'],
           apr => 1, flags => \@FLAGS);
CTest::run(sources => ['t/unit/test_line.c', 'fcgi_line.c', 'fcgi_slots.c',
                       'fcgi_bell.c', 'fcgi_stats.c', 'fcgi_tally.c',
                       'fcgi_clock.c'],
           apr => 1, flags => \@FLAGS);
done_testing();
