# Whoever waits for a connection says until when, wherever time passes.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# The tests are in t/unit/test_acquire.c; here they are compiled and run.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use CTest;

CTest::run(sources => ['t/unit/test_acquire.c', 'fcgi_stats.c',
                       'fcgi_tally.c', 'fcgi_path.c', 'fcgi_slots.c',
                       'fcgi_bell.c', 'fcgi_line.c', 'fcgi_address.c',
                       'fcgi_connect.c', 'fcgi_conn.c', 'fcgi_socket.c',
                       'fcgi_thread.c', 'fcgi_idle.c', 'fcgi_outcome.c',
                       'fcgi_backlog.c', 'fcgi_backend.c', 'fcgi_acquire.c'],
           apr => 1, flags => ['-D_GNU_SOURCE', '-pthread']);
done_testing();
