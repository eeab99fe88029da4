# One descriptor says that a client, an application, a deadline or a thread is ready.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# The tests are in t/unit/test_park.c; here they are compiled and run, and the
# one with threads under ThreadSanitizer as well.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use CTest;

plan skip_all => 'no epoll here' if $^O ne 'linux';

my @sources = ('t/unit/test_park.c', 'fcgi_park.c', 'fcgi_clock.c');
my @flags = ('-D_GNU_SOURCE', '-pthread');
CTest::run(sources => \@sources, apr => 1, flags => \@flags);
$ENV{TSAN_OPTIONS} = 'halt_on_error=1:exitcode=66';
CTest::run(sources => \@sources, apr => 1, sanitize => 'thread',
           flags => [@flags, '-O1']);
done_testing();
