# Clients that send their bodies slowly hold no child of PHP-FPM.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use FindBin qw($Bin);
use lib "$Bin/lib";
use Bytes;
use Client;
use Httpd;
use PhpFpm;
use Private;
use Test::More;

plan skip_all => 'no php-fpm here' if !PhpFpm::program();

my $H2 = Httpd::mpm() ne 'prefork';
my $php = PhpFpm->start(children => 2);
my $httpd = Httpd->start(
    http2 => $H2, modules => ['reqtimeout'],
    mpm => Httpd::mpm() eq 'prefork'
        ? "StartServers 16\nServerLimit 32\nMaxRequestWorkers 32\n"
        : "StartServers 1\nServerLimit 1\nThreadsPerChild 32\n"
          . "MaxRequestWorkers 32\n",
    files => { 'body.php' => <<'EOP', 'small.php' => '<?php echo "here";' },
<?php
$body = file_get_contents('php://input');
echo strlen($body), ' ', md5($body), ' ', $_SERVER['CONTENT_LENGTH'] ?? '-';
EOP
    vars => { PHP => $php->handler },
    config => <<'EOC');
RequestReadTimeout handshake=0 header=0 body=0
<Files *.php>
  SetHandler @PHP@
</Files>
EOC

my $LENGTH = 400_000;

# A body in which every place is known, another one for each number.
sub body {
    my ($number) = @_;
    return Bytes::numbered($LENGTH, $number);
}

sub chunks {
    my ($bytes) = @_;
    return join '', map { sprintf "%x\r\n%s\r\n", length, $_ }
        unpack '(a5000)*', $bytes;
}

# Sends half of a body; half of the clients say its length before.
sub open_uploader {
    my ($number) = @_;
    my $chunked = $number % 2;
    my $header = $chunked ? 'Transfer-Encoding: chunked'
        : "Content-Length: $LENGTH";
    my $conn = Client->connect($httpd->port);
    $conn->send("POST /body.php HTTP/1.1\r\nHost: x\r\n$header\r\n\r\n");
    my $encode = $chunked ? \&chunks : sub { $_[0] };
    my ($first, $second) = unpack "a@{[ $LENGTH / 2 ]} a*", body($number);
    $conn->send($encode->($first));
    return { conn => $conn, number => $number, encode => $encode,
             rest => $second, end => $chunked ? "0\r\n\r\n" : '' };
}

sub is_idle {
    return Private::wait_until(5, sub {
        !$php->status->{'active processes'}
    });
}

sub check_others {
    my ($when) = @_;
    my @answers = map { Client->get($httpd->port, '/small.php') } 1 .. 20;
    is(scalar(grep { $_->complete && $_->status == 200
                         && $_->body eq 'here' } @answers), 20,
       "$when: twenty other requests are answered");
    ok(is_idle(), 'no child of FPM works');
    return;
}

my @uploaders = map { open_uploader($_) } 1 .. 10;
check_others('half of ten bodies');
is($php->status->{'accepted conn'}, 20, 'the uploaders did not ask yet');

for my $uploader (@uploaders) {
    $uploader->{conn}->send($uploader->{encode}->($_))
        for split //, substr $uploader->{rest}, 0, 20, '';
}
check_others('some drops more');
is($php->status->{'accepted conn'}, 40, 'still not');

for my $uploader (reverse @uploaders) {
    my ($conn, $number) = @$uploader{qw(conn number)};
    $conn->send($uploader->{encode}->($uploader->{rest}) . $uploader->{end});
    my $answer = $conn->read_response(method => 'POST');
    is($answer->status, 200, "uploader $number is answered");
    is($answer->body, "$LENGTH " . md5_hex(body($number)) . " $LENGTH",
       'rightly');
}
is($php->status->{'accepted conn'}, 50, 'one connection for each');

subtest 'uploads over HTTP/2 that stand still' => sub {
    plan skip_all => 'no HTTP/2 on prefork' if !$H2;
    my $accepted = $php->status->{'accepted conn'};
    my $dir = Private::temp_dir('uploads');
    my @curls = map {
        my $pid = open(my $to, '|-', qw(curl -q -sS --max-time 60 -N
            --http2-prior-knowledge -X POST -H Expect: -T -), '-o', "$dir/$_",
            'http://127.0.0.1:' . $httpd->port . '/body.php') // die $!;
        binmode $to;
        print $to substr body($_), 0, $LENGTH / 2;
        $to->flush;
        $to;
    } 1 .. 10;
    check_others('half of ten bodies');
    is($php->status->{'accepted conn'}, $accepted + 20,
       'the uploaders did not ask yet');
    for my $n (1 .. 10) {
        print { $curls[$n - 1] } substr body($n), $LENGTH / 2;
        close $curls[$n - 1];
        is(Private::slurp("$dir/$n"),
           "$LENGTH " . md5_hex(body($n)) . " $LENGTH", "uploader $n");
    }
};

$httpd->ok_healthy;
done_testing;
