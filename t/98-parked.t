# Hundreds of requests that wait hold no thread, and all get their answers.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use Private;
use Test::More;

# Its own servers say when to park.
delete $ENV{PARK};

plan skip_all => 'it takes the event MPM of httpd 2.4.63 or later'
    if Httpd::mpm() ne 'event' || !Httpd::can_park();

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $COUNT = 200;

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    return $c->reply("${HEAD}$request->{params}{REQUEST_URI}");
}, workers => 4, backlog => 2 * $COUNT);

# Eight threads in all.
my $httpd = Httpd->start(
    vars => { APP => $app->handler }, files => { 'static.txt' => 'static' },
    log_level => 'info fastcgi_handler:trace4', mpm => <<'EOC',
StartServers 2
ServerLimit 2
ThreadLimit 4
ThreadsPerChild 4
MinSpareThreads 1
MaxSpareThreads 8
MaxRequestWorkers 8
AsyncRequestWorkerFactor 100
EOC
    config => <<'EOC');
FcgiPark 100ms
<LocationMatch ^/(app|held|long)/>
  SetHandler @APP@
</LocationMatch>
<Location /held/>
  FcgiPark Off
</Location>
<Location /long/>
  FcgiPark 1min
</Location>
EOC

sub threads {
    my $count = 0;
    $count += () = glob("/proc/$_/task/*") for $httpd->pids;
    return $count;
}

sub parked {
    my $count = () = $httpd->error_log =~ /waits without a thread/g;
    return $count;
}

# Requests on their way.
sub begin {
    my ($dir, $count) = @_;
    return map {
        my $conn = Client->connect($httpd->port);
        $conn->send("GET /$dir/$_ HTTP/1.1\r\nHost: x\r\n\r\n");
        $conn;
    } 1 .. $count;
}

is(Client->get($httpd->port, '/long/first')->body, '/long/first',
   'it answers at once');
is(parked(), 0, 'and was not parked');

$app->pause;
my $threads = 2 * (4 + 2);  # those that work, one that listens, one that waits
ok(Private::wait_until(10, sub { threads() == $threads }),
   "$threads threads in two children") or diag(threads());
my @waiting = begin('app', $COUNT);
ok(Private::wait_until(20, sub { parked() == $COUNT }),
   "$COUNT requests wait without a thread") or diag(parked());
my $static = Client->get($httpd->port, '/static.txt');
is($static->body, 'static', 'a static file is there meanwhile');
is(threads(), $threads, 'and no thread more');
$app->resume;
my @answers = map { $_->read_response(timeout => 20) } @waiting;
is(scalar(grep { $answers[$_]->complete
                     && $answers[$_]->body eq '/app/' . ($_ + 1) }
              0 .. $#answers), $COUNT, 'each gets its answer');
$_->close for @waiting;

# Of clients that wait for nothing httpd closes some when its threads are all
# busy: this one is alone.
my $before = parked();
$app->pause;
my ($one) = begin('app', 1);
ok(Private::wait_until(10, sub { parked() > $before }), 'one more waits');
$app->resume;
is($one->read_response->body, '/app/1', 'and is answered');
$one->send("GET /app/again HTTP/1.1\r\nHost: x\r\n\r\n");
is($one->read_response->body, '/app/again',
   'its connection is kept for the next request');

# A crowd does not take all threads, however long each may be held.
$app->pause;
$before = parked();
my @patient = begin('long', 16);
ok(Private::wait_until(10, sub { parked() >= $before + 12 }),
   'a crowd holds half of the threads')
    or diag(parked() - $before);
is(Client->get($httpd->port, '/static.txt')->body, 'static',
   'and leaves some to others');
$app->resume;
$_->read_response, $_->close for @patient;

# Eight that hold their threads are all there can be.
$app->pause;
$before = parked();
my @held = begin('held', 8);
my $late = Client->connect($httpd->port);
$late->send("GET /static.txt HTTP/1.1\r\nHost: x\r\n\r\n");
ok(!$late->read_response(timeout => 1)->complete,
   'with FcgiPark Off they hold their threads');
$app->resume;
is(scalar(grep { $_->read_response->complete } @held), 8,
   'and are answered');
is(parked(), $before, 'none was parked');
my $lines = () = $httpd->access_log =~ m{"GET /app/\d+ }g;
is($lines, $COUNT + 1, 'the access log has each once');
$httpd->ok_healthy;
done_testing();
