# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Bodies in which every place is known. They are made in slices: a list of as
# many numbers takes twenty times the memory of its bytes, all processes that
# the test starts have to be made with it, and some machines are slow at that.
#
#     Bytes::numbered($length, $first)   the 32-bit numbers from $first (0) on
#     Bytes::mixed($length)              the same in an order in which few of
#                                        them have all values of a byte
package Bytes;

use strict;
use warnings;

my $SLICE = 10_000;

sub make {
    my ($length, $numbers) = @_;
    my $count = int(($length + 3) / 4);
    my $bytes = '';
    for (my $at = 0; $at < $count; $at += $SLICE) {
        my $end = $at + $SLICE < $count ? $at + $SLICE : $count;
        $bytes .= pack 'N*', $numbers->($at, $end - 1);
    }
    return substr $bytes, 0, $length;
}

sub numbered {
    my ($length, $first) = @_;
    $first //= 0;
    return make($length, sub { $first + $_[0] .. $first + $_[1] });
}

sub mixed {
    my ($length) = @_;
    return make($length, sub {
        map { $_ * 2_654_435_761 % 2**32 } $_[0] .. $_[1];
    });
}

1;
