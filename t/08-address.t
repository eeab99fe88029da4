# Handlers that are much alike are found as fast as others.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# The tests are in t/unit/test_address.c; here they are compiled and run.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use CTest;

CTest::run(sources => ['t/unit/test_address.c', 'fcgi_address.c'],
           apr => 1, flags => ['-D_GNU_SOURCE', '-pthread']);
done_testing();
