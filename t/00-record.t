# A record cut at any byte gives the same content.
#
# Licensed under the Apache License, Version 2.0; see LICENSE.
# The tests are in t/unit/test_record.c; here they are compiled and run.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use CTest;

CTest::run(sources => ['t/unit/test_record.c', 'fcgi_record.c']);
done_testing();
