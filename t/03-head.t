# A header block cut at any byte gives the same fields.
#
# Licensed under the Apache License, Version 2.0; see LICENSE.
# The tests are in t/unit/test_head.c; here they are compiled and run. The
# linker option lets the program see what fcgi_head.c allocates.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use CTest;

CTest::run(sources => ['t/unit/test_head.c', 'fcgi_head.c'],
           httpd => 1, apr => 1, flags => ['-Wl,--wrap=apr_palloc']);
done_testing();
