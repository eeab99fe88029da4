# What is held comes back in order, whether it was in memory or in a file.
#
# Licensed under the Apache License, Version 2.0; see LICENSE.
# The tests are in t/unit/test_spool.c; here they are compiled and run.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use CTest;

CTest::run(sources => ['t/unit/test_spool.c', 'fcgi_spool.c'], apr => 1,
           flags => ['-D_GNU_SOURCE']);
done_testing();
