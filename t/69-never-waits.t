# No setting lets a client that does not read its answer hold an application.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use Private;
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Test::More;

my $SOON = 25;          # seconds in which the application is done, surely
my $PLAIN = "Content-Type: text/plain\r\n\r\n";
my $PIECE = 'x' x 4095 . "\n";
my $HINT = "Status: 103\r\nLink: </a.css>; rel=preload\r\nX-Long: "
    . 'y' x 3000 . "\r\n\r\n";

# ?HOW: more than any socket holds, in the end.
my %says = (
    much => sub { $_[0]->reply($PLAIN . $PIECE x 1500) },
    pieces => sub {
        my ($c) = @_;
        $c->stdout($PLAIN);
        for my $n (1 .. 750) {
            $c->stdout($PIECE x 2) or return;
            select undef, undef, undef, 0.0005;
        }
        $c->end;
    },
    small => sub {
        my ($c) = @_;
        $c->stdout($PLAIN);
        for my $n (1 .. 6000) {
            $c->stdout('x' x 999 . "\n") or return;
            select undef, undef, undef, 0.0002;
        }
        $c->end;
    },
    events => sub {
        my ($c) = @_;
        $c->stdout("Content-Type: text/event-stream\r\n\r\n");
        for my $n (1 .. 750) {
            $c->stdout("data: $PIECE\n" x 2) or return;
            select undef, undef, undef, 0.0005;
        }
        $c->end;
    },
    hints => sub {
        my ($c) = @_;
        $c->stdout($HINT) or return for 1 .. 900;
        $c->reply("${PLAIN}the answer");
    },
    hints_then_much => sub {
        my ($c) = @_;
        $c->stdout($HINT) or return for 1 .. 900;
        $c->reply($PLAIN . $PIECE x 1500);
    },
    large_hints => sub {
        my ($c) = @_;
        my $large = "Status: 103\r\nX-Large: " . 'z' x 60_000 . "\r\n\r\n";
        $c->stdout($large) or return for 1 .. 200;
        $c->reply("${PLAIN}the answer");
    },
    endless => sub {
        my ($c) = @_;
        $c->stdout($PLAIN);
        $c->stdout($PIECE x 15) or return for 1 .. 2000;
        $c->report(finished => 1) if $c->end;
    },
    good => sub { $_[0]->reply("${PLAIN}good") },
);

# One worker: who holds it holds all.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    $says{ $request->{params}{QUERY_STRING} }->($c);
});

my $H2 = Httpd::mpm() ne 'prefork';
my $spool = Private::temp_dir('spool');
chmod 01777, $spool;

sub server {
    my ($lines) = @_;
    return Httpd->start(
        tls => 1, http2 => 0, modules => ['deflate'],
        vars => { APP => $app->handler, SPOOL => $spool }, config => <<"EOC");
$lines
FcgiBufferDir \@SPOOL\@
Timeout 60
FcgiTimeout 60
<LocationMatch "^/(?:auto|on|off|packed)/">
  SetHandler \@APP\@
</LocationMatch>
<Location /auto/ignore/>
  FcgiIgnoreClientAbort On
  FcgiBufferMemory 32K
</Location>
<Location /on/>
  FcgiFlush On
</Location>
<Location /packed/>
  FcgiFlush On
  SetOutputFilter DEFLATE
</Location>
<Location /off/>
  FcgiFlush Off
</Location>
EOC
}

# Asks, reads nothing, and gives the worker so long to be free for another.
sub ok_free {
    my ($httpd, $url, $version) = @_;
    my $conn = Client->connect($httpd->port, rcvbuf => 4096);
    my $before = $app->connections;
    $conn->send("GET $url HTTP/$version\r\nHost: x\r\n"
                . "Accept-Encoding: gzip\r\n\r\n");
    ok(Private::wait_until($SOON, sub { $app->connections > $before }),
       "$url, HTTP/$version: asked") or return;
    my $other = Client->connect($httpd->port);
    $other->send("GET /auto/x?good HTTP/1.1\r\nHost: x\r\n\r\n");
    my $answer = $other->read_response(timeout => $SOON);
    is($answer->body, 'good', 'and the next request has the worker soon');
    return $conn;
}

subtest 'as it is' => sub {
    my $httpd = server('');
    for my $place (qw(auto on off packed)) {
        for my $how (qw(much pieces small events)) {
            my $conn = ok_free($httpd, "/$place/x?$how", '1.1');
            my $answer = $conn->read_response(timeout => 40);
            ok($answer->complete, 'what it gets is whole');
        }
    }
    for my $how (qw(hints hints_then_much large_hints)) {
        my $conn = ok_free($httpd, "/auto/x?$how", '1.1');
        my $answer = $conn->read_response(timeout => 40);
        ok($answer->complete, 'what it gets is whole') or diag $answer->error;
        is($answer->status, 200, 'the final answer');
        like($answer->body, $how =~ /much/ ? qr/\A(?:\Q$PIECE\E){1500}\z/
             : qr/\Athe answer\z/, 'its body');
        my $hints = @{ $answer->interim };
        ok($how =~ /large/ ? $hints == 0 : $hints > 0 && $hints < 900,
           "as many hints as there was room for: $hints");
    }
    ok_free($httpd, '/on/x?pieces', '1.0');
    for my $time (1 .. 10) {
        my $conn = Client->connect($httpd->port);
        $conn->send("GET /auto/ignore/x?endless HTTP/1.1\r\nHost: x\r\n\r\n");
        my $read = 0;
        while ($read < 3_000_000 * $time) {
            last if !sysread $conn->{socket}, my $bytes, 1_000_000;
            $read += length $bytes;
        }
        $conn->reset;
        ok($app->wait_report('finished', $SOON),
           "a client that leaves after $read bytes holds nobody") or last;
    }
    $httpd->leave;
};

for my $threshold (1, 5000, 8192, 20_000, 65_535) {
    subtest "FlushMaxThreshold $threshold" => sub {
        my $httpd = server("FlushMaxThreshold $threshold");
        for my $url (qw(/auto/x?much /auto/x?pieces /on/x?pieces)) {
            # less than the header fields: only httpd can wait then
            next if $threshold == 1;
            my $conn = ok_free($httpd, $url, '1.1');
            ok($conn->read_response(timeout => 40)->complete, 'whole');
        }
        is(Client->get($httpd->port, '/auto/x?much')->body, $PIECE x 1500,
           'a client that reads gets all') if $threshold == 1;
        $httpd->leave;
    };
}

Httpd->ok_left;
done_testing;
