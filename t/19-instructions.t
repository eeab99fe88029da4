# A small GET takes no more of the processor's instructions than it did.
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Counted, not timed: see t/bench/Instructions.pm. A change that makes the
# module dearer has to say so, with "make update-instructions".

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib", "$Bin/bench";
use Httpd;
use Instructions;
use Test::More;

plan skip_all => 'valgrind is not here' if !Instructions::valgrind();
plan skip_all => 'a sanitizer has instructions of its own'
    if $ENV{HTTPD_PRELOAD};
plan skip_all => 'the figures are those of the event MPM, without FcgiPark'
    if Httpd::mpm() ne 'event' || defined $ENV{PARK};

my %figure = Instructions::figures();
my %own = Instructions::own('fcgi');

for my $kind (qw(kept new)) {
    cmp_ok($own{$kind}, '<=', $figure{$kind} * 1.05,
           "$kind connection: $own{$kind} instructions, and the figure is"
           . " $figure{$kind}");
}

done_testing();
