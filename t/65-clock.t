# Time limits hold while the time of day is set back or forward.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Clock;
use FcgiApp;
use Httpd;
use Private;
use Test::More;

# httpd measures how long it leaves a parked connection alone by the time of
# day; a subtest is about that.
delete $ENV{PARK};
use Time::HiRes qw(sleep time);

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $HOUR = 3600;
my $SOON = 4;           # seconds by which a limit of one has come, surely

my $clock = Clock->new;

# ?HOW
my %says = (
    good => sub { $_[0]->reply("${HEAD}good") },
    silent => sub { $_[0]->wait_eof(20) },
    busy => sub {
        my ($c) = @_;
        $c->report(busy => $c->number);
        $c->wait_release('go' . $c->number, 20);
        $c->reply("${HEAD}busy");
    },
    ticks => sub {
        my ($c) = @_;
        $c->stdout("${HEAD}one ");
        $c->wait_release('two', 20);
        $c->stdout('two ');
        $c->wait_release('end', 20);
        $c->reply('end');
    },
);

my @app = map { FcgiApp->start(sub {
    my ($c) = @_;
    while (my $request = $c->read_request(60)) {
        $says{ $request->{params}{QUERY_STRING} }->($c);
        last if !($request->{flags} & FcgiWire::FCGI_KEEP_CONN());
    }
    $c->report(closed => 1);
}, workers => 3) } 1 .. 3;

my $nowhere = Private::temp_dir('nowhere') . '/none.sock';
my $httpd = Httpd->start(
    env => $clock->environment,
    vars => { APP => $app[0]->handler, ONE => $app[1]->address,
              KEPT => $app[2]->address, NOWHERE => $nowhere },
    config => <<'EOC');
FcgiBackend one @ONE@ max=1 queue-timeout=1
FcgiBackend kept @KEPT@ max=3 keepalive=1 idle=1
<Location /none>
  SetHandler fcgi:@NOWHERE@
  FcgiConnectTimeout 1
</Location>
<Location /idle>
  SetHandler @APP@
  FcgiTimeout 1
</Location>
<Location /first>
  SetHandler @APP@
  FcgiFirstByteTimeout 1
</Location>
<Location /total>
  SetHandler @APP@
  FcgiTotalTimeout 1
</Location>
<Location /parked>
  SetHandler @APP@
  FcgiPark 0
</Location>
<Location /one>
  SetHandler fcgi:one
</Location>
<Location /kept>
  SetHandler fcgi:kept
</Location>
EOC

my $conn;

# Asks, sets the clock a moment later, and gives the answer and how long it
# took by a clock that nobody sets.
sub ask {
    my ($url, $shift) = @_;
    my $since = Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC());
    $conn = Client->connect($httpd->port);
    $conn->send("GET $url HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    sleep 0.3;
    $clock->set($shift);
    my $answer = $conn->read_response(timeout => 15);
    return ($answer, Time::HiRes::clock_gettime(
        Time::HiRes::CLOCK_MONOTONIC()) - $since);
}

for my $shift (-$HOUR, $HOUR) {
    my $way = $shift < 0 ? 'back' : 'forward';
    my %limits = ('/none/x?good' => 503, '/idle/x?silent' => 504,
                  '/first/x?silent' => 504, '/total/x?silent' => 504);
    for my $url (sort keys %limits) {
        my ($answer, $took) = ask($url, $shift);
        is($answer->status // 'none', $limits{$url}, "$url, set $way");
        ok($took > 0.9 && $took < $SOON, 'in its time') or diag $took;
        $clock->set(0);
    }

    subtest "in line, set $way" => sub {
        my $busy = Client->connect($httpd->port);
        $busy->send("GET /one/x?busy HTTP/1.1\r\nHost: x\r\n\r\n");
        my $number = $app[1]->wait_report('busy');
        ok($number, 'the only worker is busy');
        my ($answer, $took) = ask('/one/x?good', $shift);
        is($answer->status // 'none', 503, 'queue-timeout');
        ok($took > 0.9 && $took < $SOON, 'in its time') or diag $took;
        $clock->set(0);
        $app[1]->release("go$number");
        ok($app[1]->wait_report('closed', 15), 'not busy any more');
    };

    subtest "a kept connection, set $way" => sub {
        is(Client->get($httpd->port, '/kept/x?good')->body, 'good', 'kept');
        sleep 0.3;
        my $since = time;
        $clock->set($shift);
        ok($app[2]->wait_report('closed', 15), 'and closed');
        ok(time - $since > 0.4 && time - $since < $SOON, 'in its time')
            or diag time - $since;
        $clock->set(0);
    };
}

# httpd measures its own Timeout by the time of day, and closes what waits for
# longer.
subtest 'without a thread, set forward' => sub {
    plan skip_all => 'not with this httpd' if !Httpd::can_park();
    my @conns = map { Client->connect($httpd->port) } 1 .. 2;
    for my $waiting (@conns) {
        $waiting->send("GET /parked/x?busy HTTP/1.1\r\nHost: x\r\n\r\n");
        ok($app[0]->wait_report('busy'), 'it waits');
    }
    sleep 0.3;
    $clock->set($HOUR);
    Client->get($httpd->port, '/kept/x?good'); # which wakes httpd
    ok($_->at_eof(10), 'httpd closed it') for @conns;
    ok(Private::wait_until(10, sub {
        my @lines = $httpd->access_log =~ m{/parked/x\?busy \S+" 499 }g;
        @lines == 2;
    }), 'as the access log says') or diag($httpd->access_log);
    like($httpd->error_log, qr/FCGI09: .*httpd closes the client's/,
         'and the error log');
    ok($app[0]->wait_report('closed', 15), 'the application is left')
        for @conns;
    $clock->set(0);
    is(Client->get($httpd->port, '/kept/x?good')->body, 'good',
       'others are served');
};

subtest 'a stream' => sub {
    $conn = Client->connect($httpd->port);
    $conn->send("GET /total/x?ticks HTTP/1.1\r\nHost: x\r\n\r\n");
    ok($conn->read_until(qr/one /, 5), 'the first piece');
    $clock->set(-$HOUR);
    $app[0]->release('two');
    ok($conn->read_until(qr/two /, 5), 'the next, with the clock set back');
    $app[0]->release('end');
    like($conn->read_response->body, qr/end\z/, 'the last');
    $clock->set(0);
};

$httpd->ok_healthy;
done_testing;
