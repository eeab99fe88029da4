# An attempt to connect waits for nothing, and leaves no descriptor behind.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# The tests are in t/unit/test_connect.c; here they are compiled and run.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use CTest;

CTest::run(sources => ['t/unit/test_connect.c', 'fcgi_conn.c',
                       'fcgi_connect.c', 'fcgi_socket.c', 'fcgi_address.c',
                       'fcgi_path.c'],
           apr => 1, flags => ['-D_GNU_SOURCE', '-pthread']);
done_testing();
