# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Prints how many instructions a small GET takes, for httpd alone, for
# mod_proxy_fcgi and for this module, and the gateways' own over TCP, with
# other MPMs, and over HTTP/2: "make bench-instructions" runs it. "make
# update-instructions" does with --update, for the first part alone, of which
# it writes this module's own into instructions.txt. Instructions.pm says what
# is counted.
use strict;
use warnings;

use File::Basename qw(dirname);
use lib dirname(__FILE__), dirname(__FILE__) . '/../lib';
use Instructions;

my @ROWS = (['httpd alone', 'alone', 'answer'],
            ['mod_proxy_fcgi, kept connections', 'proxy', 'kept'],
            ['mod_proxy_fcgi, new ones', 'proxy', 'new'],
            ['this module, kept connections', 'fcgi', 'kept'],
            ['this module, new ones', 'fcgi', 'new']);

my @SETTINGS = (
    ['event, TCP', mpm => 'event', transport => 'tcp'],
    ['worker, unix', mpm => 'worker'],
    ['prefork, unix', mpm => 'prefork'],
    ['event, unix, HTTP/2', mpm => 'event', http2 => 1],
    ['  one thread at a time', mpm => 'event', http2 => 1, in_turn => 1]);

Instructions::valgrind() or die "valgrind is not here\n";
my %count = map { $_ => { Instructions::count($_) } } qw(alone proxy fcgi);
my $alone = $count{alone}{answer};

printf "%-34s %8s %8s\n", 'user instructions for a small GET', 'all', 'own';
for my $row (@ROWS) {
    my ($label, $kind, $url) = @$row;
    my $all = $count{$kind}{$url};
    printf "%-34s %8d %8s\n", $label, $all,
        $kind eq 'alone' ? '' : $all - $alone;
}

if (grep { $_ eq '--update' } @ARGV) {
    my $ours = $count{fcgi};
    Instructions::write_figures(map { $_ => $ours->{$_} - $alone } keys %$ours);
    exit;
}

printf "\n%-24s %8s  %17s  %17s\n", 'own, elsewhere', 'httpd',
    'mod_proxy_fcgi', 'this module';
printf "%-24s %8s" . '  %8s %8s' x 2 . "\n", '', 'alone', qw(kept new) x 2;
for my $setting (@SETTINGS) {
    my ($label, %in) = @$setting;
    my ($httpd, $proxy, $ours) = map { +{ Instructions::count($_, %in) } }
        qw(alone proxy fcgi);
    printf "%-24s %8d" . '  %8d %8d' x 2 . "\n", $label, $httpd->{answer},
        map { $_ - $httpd->{answer} } map { @$_{qw(kept new)} } $proxy, $ours;
}
