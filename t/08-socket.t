# No call on an application's socket waits, but reading where that is asked for.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# The tests are in t/unit/test_socket.c; here they are compiled and run.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use CTest;

CTest::run(sources => ['t/unit/test_socket.c', 'fcgi_socket.c'],
           apr => 1, flags => ['-D_GNU_SOURCE', '-pthread']);
done_testing();
