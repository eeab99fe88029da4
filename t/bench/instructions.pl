# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Prints how many instructions a small GET takes, for httpd alone, for
# mod_proxy_fcgi and for this module: "make bench-instructions" runs it, and
# "make update-instructions" with --update, which writes this module's own into
# instructions.txt. Instructions.pm says what is counted.
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
}
