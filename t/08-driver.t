# A request that is called while a thread waits for it, or leaves it, is heard.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# The tests are in t/unit/test_driver.c; here they are compiled and run.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use CTest;

CTest::run(sources => ['t/unit/test_driver.c', 'fcgi_driver.c', 'fcgi_bell.c',
                       'fcgi_clock.c'],
           apr => 1, httpd => 1, flags => ['-D_GNU_SOURCE', '-pthread']);
done_testing();
