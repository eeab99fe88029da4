# Many threads take, use, keep and give back connections without a data race.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# The tests are in t/unit/test_pool_races.c; here they are compiled under
# ThreadSanitizer and run.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use CTest;

$ENV{TSAN_OPTIONS} = 'halt_on_error=1:exitcode=66';
CTest::run(sources => ['t/unit/test_pool_races.c', 'fcgi_stats.c',
                       'fcgi_tally.c', 'fcgi_clock.c', 'fcgi_path.c',
                       'fcgi_slots.c', 'fcgi_bell.c', 'fcgi_line.c',
                       'fcgi_address.c', 'fcgi_connect.c', 'fcgi_conn.c',
                       'fcgi_socket.c', 'fcgi_thread.c', 'fcgi_idle.c',
                       'fcgi_notice.c', 'fcgi_outcome.c', 'fcgi_backlog.c',
                       'fcgi_backend.c', 'fcgi_acquire.c'],
           apr => 1, sanitize => 'thread',
           flags => ['-D_GNU_SOURCE', '-pthread', '-O1']);
done_testing();
