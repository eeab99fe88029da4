# A client that does not read its answer holds no thread, even if there is no room for a file.
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

plan skip_all => 'it takes the event MPM of httpd 2.4.63 or later'
    if !Httpd::can_park();

my $THREADS = 4;
my $LEN = 12_000_000;   # more than sockets hold, less than FcgiBufferMemory

# ?whole: an answer; ?cut: as much, and no end.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $how = $request->{params}{QUERY_STRING};
    $c->stdout("Content-Type: text/plain\r\n\r\n" . 'x' x $LEN);
    $c->end if $how eq 'whole';
    $c->report($how => 1);
}, workers => 4);

my $dir = Private::temp_dir('gone');
chmod 0777, "$dir";
my $httpd = Httpd->start(
    vars => { APP => $app->handler, DIR => "$dir" },
    files => { 'static.txt' => 'static' },
    mpm => Httpd::single($THREADS) . "AsyncRequestWorkerFactor 100\n",
    config => <<'EOC');
FcgiPark 0
FcgiBufferMemory 16M
FcgiBufferDir @DIR@
<Location /app>
  SetHandler @APP@
</Location>
<Location /app/short>
  FcgiTimeout 5
</Location>
EOC
rmdir "$dir" or die $!;

# So many ask and read nothing; the application gets rid of all answers.
sub begin {
    my ($path, $how, $count) = @_;
    my @clients = map {
        my $client = Client->connect($httpd->port, rcvbuf => 4096);
        $client->send("GET $path?$how HTTP/1.1\r\nHost: x\r\n\r\n");
        $client;
    } 1 .. $count;
    my $done = grep { $app->wait_report($how, 20) } @clients;
    is($done, $count, "$path?$how: the application is done $count times");
    return @clients;
}

sub static_is_there {
    my ($name) = @_;
    is(Client->get($httpd->port, '/static.txt')->body, 'static',
       "$name: a file is there meanwhile");
    return;
}

my @slow = begin('/app/long', 'whole', 2 * $THREADS);
static_is_there('whole answers');
ok($httpd->wait_for_log(qr/FCGI17/), 'the log says that there is no file');
for my $client (splice @slow, 0, 2) {
    my $answer = $client->read_response(timeout => 30);
    ok($answer->complete, 'who reads after all gets all') or diag($answer->error);
    is(length $answer->body, $LEN, 'of it');
    $client->send("GET /static.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    is($client->read_response->body, 'static', 'and may ask again');
}
$_->reset for @slow;
ok(Private::wait_until(10, sub {
    2 * $THREADS == (() = $httpd->access_log =~ m{/app/long\?whole }g);
}), 'those that leave are noticed');

@slow = begin('/app/short', 'whole', 2 * $THREADS);
static_is_there('until FcgiTimeout');
ok(Private::wait_until(20, sub {
    8 <= (() = $httpd->access_log
              =~ m{/app/short\?whole HTTP/1.1" 200 \d+ X }g);
}), 'one that takes nothing for FcgiTimeout is given up');
static_is_there('after FcgiTimeout');
ok($httpd->wait_for_log(qr/FCGI09: .*FcgiTimeout/), 'the log blames it');
$_->close for @slow;

@slow = begin('/app/long', 'cut', 2 * $THREADS);
static_is_there('answers that are cut');
ok(!$slow[0]->read_response->complete, 'they look cut');
$httpd->ok_healthy;
done_testing();
