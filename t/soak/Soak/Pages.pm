# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What an answer, or a body, of a certain number and size looks like: its
# number, then four bytes for each place, which begin elsewhere for every
# number. Whatever is lost, moved or another's is seen by comparing.
#
#     my $bytes = Soak::Pages::page($id, $size);    # up to 8 MB
#     $Soak::Pages::PHP                             # makes the same in PHP
package Soak::Pages;

use strict;
use warnings;

my $PLACES = 1_000_000;         # where a page can begin
my $MOST = 8 * 1024 * 1024;     # bytes of one
my $STEP = 7919;                # places between the pages of two numbers

my $data = '';
$data .= pack 'N*', $_ .. $_ + 9_999
    for map { 10_000 * $_ } 0 .. ($PLACES + $MOST / 4) / 10_000;

sub page {
    my ($id, $size) = @_;
    my $head = "page $id\n";
    return substr $head, 0, $size if $size <= length $head;
    return $head . substr $data, 4 * ($id * $STEP % $PLACES),
        $size - length $head;
}

# ?id=, size=, length=1, pause= microseconds before it; a POST is answered with
# its body's length and checksum before that.
our $PHP = <<'EOP';
<?php
$body = file_get_contents('php://input');
usleep((int)$_GET['pause']);
$page = "page $_GET[id]\n";
$size = (int)$_GET['size'];
for ($i = $_GET['id'] * 7919 % 1000000; strlen($page) < $size; $i += 1024)
    $page .= pack('N*', ...range($i, $i + 1023));
$page = substr($page, 0, $size);
if ($_SERVER['REQUEST_METHOD'] == 'POST')
    $page = 'got ' . strlen($body) . ' ' . md5($body) . "\n$page";
if ($_GET['length'])
    header('Content-Length: ' . strlen($page));
echo $page;
EOP

1;
