# What backends did is counted to the last request, and times to an eighth.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# The tests are in t/unit/test_tally.c; here they are compiled and run, and
# then once more under ThreadSanitizer.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use CTest;

my %tally = (sources => ['t/unit/test_tally.c', 'fcgi_tally.c'], apr => 1,
             flags => ['-D_GNU_SOURCE', '-pthread', '-O1']);

CTest::run(%tally);
$ENV{TSAN_OPTIONS} = 'halt_on_error=1:exitcode=66';
CTest::run(%tally, sanitize => 'thread');
done_testing();
