# Permits are counted over all children, in order, and a dead child keeps none.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# The tests are in t/unit/test_line.c; here they are compiled and run.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use CTest;

CTest::run(sources => ['t/unit/test_line.c', 'fcgi_line.c', 'fcgi_stats.c',
                       'fcgi_tally.c', 'fcgi_clock.c'],
           apr => 1, flags => ['-D_GNU_SOURCE', '-pthread']);
done_testing();
