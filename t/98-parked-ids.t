# Requests of the same moment have different ids in the logs, whoever's thread goes on with them.
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# httpd makes an id of the time, the process and the thread when the first line
# about a request is logged. Here the time stands still for four seconds at a
# time, so that the threads alone tell requests apart.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use Private;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'it takes the event MPM of httpd 2.4.63 or later'
    if !Httpd::can_park();

my $COUNT = 8;
my $THREADS = 2 * $COUNT;

my $dir = Private::temp_dir('moment');
my ($status, $output) = Private::run(
    $ENV{CC} || 'cc', qw(-shared -fPIC -o), "$dir/moment.so",
    Private::spew("$dir/moment.c", <<'EOC'), '-ldl');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>

typedef int reader(struct timeval *, void *);

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int result = ((reader *)dlsym(RTLD_NEXT, "gettimeofday"))(now, zone);

    now->tv_sec -= now->tv_sec % 4;
    now->tv_usec = 0;
    return result;
}
EOC
die $output if $status;

# Closes without an answer, when it may.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $name = $request->{params}{QUERY_STRING};
    $c->report(begun => $name);
    $c->wait_release($name, 30);
}, workers => $COUNT + $THREADS);

my $httpd = Httpd->start(
    env => { LD_PRELOAD => join ' ', $ENV{HTTPD_PRELOAD} // (),
             "$dir/moment.so" },
    vars => { APP => $app->handler }, access_format => '%r %L',
    mpm => Httpd::single($THREADS) . 'AsyncRequestWorkerFactor 10',
    config => <<'EOC');
# No thread reads two of them: each waits with its own until all have come,
# as half of a child's threads may.
FcgiPark 3s
<Location /app>
  SetHandler @APP@
</Location>
<Location /held>
  SetHandler @APP@
  FcgiPark Off
</Location>
<Location /status>
  SetHandler fcgi-status
</Location>
EOC

my @conns = map { Client->connect($httpd->port) } 1 .. $COUNT;
sleep 0.01 while time - 4 * int(time / 4) > 0.5;
for my $n (0 .. $#conns) {
    $conns[$n]->send("POST /app?$n HTTP/1.1\r\nHost: x\r\n"
                     . "Content-Length: 1\r\n\r\nx");
}
$app->wait_report('begun') // fail 'begun' for @conns;
ok(Private::wait_until(10, sub {
    Client->get($httpd->port, '/status?json')->body =~ /"parked":\s*$COUNT\b/;
}), 'all wait without a thread');
# which leave two threads for all of them
my @held = map { Client->connect($httpd->port) } 3 .. $THREADS;
$_->send("GET /held?held HTTP/1.1\r\nHost: x\r\n\r\n") for @held;
$app->wait_report('begun') // fail 'begun' for @held;
for my $n (0 .. $#conns) {
    $app->release($n);
    is($conns[$n]->read_response->status, 502, 'one has no answer');
}
ok($httpd->wait_for_access(qr/(?:^POST .*\n(?:GET .*\n)*){$COUNT}/m),
   'all are logged');
$app->release('held');
$_->read_response for @held;
my %seen = map { $_ => 1 } $httpd->access_log =~ /^POST .* (\S+)$/mg;
is(scalar keys %seen, $COUNT, 'each has an id of its own')
    or diag $httpd->access_log;
my %said = map { $_ => 1 }
    $httpd->error_log =~ m{\[([^\]\s]+)\] [^\[]*FCGI03: .*/docs/app\)}g;
is_deeply([sort keys %said], [sort keys %seen], 'and so says the other log')
    or diag $httpd->error_log;
$httpd->ok_healthy;
done_testing;
