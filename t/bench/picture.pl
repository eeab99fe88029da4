#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The picture of the status page in the README: a browser's, of a private httpd
# with PHP-FPM and two more applications that clients have used for a while.
#
#     t/bench/picture.pl [file.png]    docs/status.png; PICTURE_SECONDS=600

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Browser;
use Client;
use FcgiApp;
use Httpd;
use PhpFpm;
use Private;
use Time::HiRes qw(sleep time);

my $FILE = shift // "$Bin/../../docs/status.png";
my $SECONDS = $ENV{PICTURE_SECONDS} // 600;
my $WIDTH = 1240;
my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $PHP = "<?php usleep(random_int(1, 9) * 10000);"
    . " echo str_repeat('<p>A page', random_int(100, 9000));\n";

die "no chromium here\n" if !Browser::program();
die "no php-fpm here\n" if !PhpFpm::program();

# One that answers at once, and one that takes its time and breaks off now and
# then.
sub quick {
    my ($c) = @_;
    while (my $request = $c->read_request(60)) {
        sleep 0.0002 + rand 0.001;
        $c->reply($HEAD . 'x' x rand 2000);
        last if !($request->{flags} & FCGI_KEEP_CONN);
    }
    return;
}

sub breaks {
    my ($c) = @_;
    $c->read_request(60) or return;
    sleep 0.1 + rand 0.8;
    rand() < 0.03 ? $c->close : $c->reply($HEAD . 'y' x 200_000);
    return;
}

my $shop = PhpFpm->start(children => 8);
my $search = FcgiApp->start(\&quick, workers => 4);
my $reports = FcgiApp->start(\&breaks, workers => 4);
my $httpd = Httpd->start(
    files => { 'shop.php' => $PHP },
    vars => { SHOP => $shop->address, SEARCH => $search->address,
              REPORTS => $reports->address },
    config => <<'EOC');
FcgiBackend shop @SHOP@ max=8 queue=100
FcgiBackend search @SEARCH@ keepalive=4
FcgiBackend reports @REPORTS@ max=4 queue=20
<Files shop.php>
  SetHandler fcgi:shop
</Files>
<Location /search>
  SetHandler fcgi:search
</Location>
<Location /reports>
  SetHandler fcgi:reports
</Location>
<Location /status>
  SetHandler fcgi-status
</Location>
EOC

# Clients that ask and think, in the end all of them, of whom more come and go
# in waves of three minutes.
my $end = time + $SECONDS;

sub think {
    my ($path, $number, $mean) = @_;
    while (time < $end) {
        my $awake = 0.55 + 0.45 * sin(time * 2 * 3.1416 / 180);
        eval { Client->get($httpd->port, $path) }
            if $number < $awake || $end - time < 3;
        sleep rand 2 * $mean;
    }
    return;
}

my @pids = map {
    my ($path, $count, $mean) = @$_;
    map {
        my $number = $_ / $count;
        Private::spawn(code => sub { srand $$; think($path, $number, $mean) });
    } 1 .. $count;
} ['/shop.php', 20, 0.08], ['/search', 6, 0.1], ['/reports', 4, 1];

my $browser = Browser->start;
$browser->open_page;
$browser->look_like('light', $WIDTH);
sleep $end - time - 1 if $end - time > 1;
$browser->go('http://127.0.0.1:' . $httpd->port . '/status?refresh=0');
Private::spew($FILE, $browser->screenshot);
$browser->stop;
Private::end($_) for @pids;
$httpd->stop;
print "$FILE\n";
