# Requests that hold threads in line leave some for those that have none.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use JSON::PP ();
use Private;
use Test::More;

plan skip_all => 'it takes the event MPM of httpd 2.4.63 or later'
    if Httpd::mpm() ne 'event' || !Httpd::can_park();
delete $ENV{PARK};

my $PARKED = 5;
my $THREADS = 6;
my $SOON = 20;  # of queue-timeout's 60 seconds

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $query = $request->{params}{QUERY_STRING};
    $c->report(begun => 1) if $query eq 'first';
    $c->wait_release('first', 60) if $query eq 'first';
    $c->reply("Content-Type: text/plain\r\n\r\nanswer $query");
}, workers => 2);

my $httpd = Httpd->start(
    modules => ['include'], vars => { APP => $app->handler },
    files => { 'page.shtml' => 'page, <!--#include virtual="/app?part" -->',
               'a.txt' => 'static' },
    mpm => Httpd::single($THREADS) . "AsyncRequestWorkerFactor 100\n",
    config => <<'EOC');
FcgiPark 0
FcgiBackend @APP@ max=1 queue=100 queue-timeout=60s
AddOutputFilter INCLUDES .shtml
AddType text/html .shtml
<Directory @DOCROOT@>
  Options +Includes
</Directory>
<Location /app>
  SetHandler @APP@
</Location>
<Location /fcgi-status>
  SetHandler fcgi-status
</Location>
EOC

sub ask {
    my ($path) = @_;
    my $conn = Client->connect($httpd->port);
    $conn->send("GET $path HTTP/1.1\r\nHost: x\r\n\r\n");
    return $conn;
}

sub waiting {
    my $answer = Client->get($httpd->port, '/fcgi-status?json');
    return -1 if !$answer->complete;   # there was no thread for that
    my $all = JSON::PP->new->decode($answer->body);
    return $all->{backends}[0]{waiting};
}

my $first = ask('/app?first');
ok($app->wait_report('begun'), 'one has the only place');
my @parked = map { ask("/app?parked$_") } 1 .. $PARKED;
ok(Private::wait_until(10, sub { waiting() == $PARKED }),
   "$PARKED wait in line without a thread");
my @pages = map { ask('/page.shtml') } 1 .. $THREADS;
ok(Private::wait_until($SOON, sub { waiting() == $PARKED + $THREADS - 2 }),
   'pages hold all threads but two in line behind them');
ok($httpd->wait_for_log(qr/FCGI18: .* all threads but two wait in line/),
   'and more are refused');
is(Client->get($httpd->port, '/a.txt')->body, 'static',
   'others are served meanwhile');
$app->release('first');
is($first->read_response->body, 'answer first', 'the first goes on');
is($parked[$_ - 1]->read_response(timeout => $SOON)->body,
   "answer parked$_", "parked $_") for 1 .. $PARKED;
my @said = map { $_->read_response(timeout => $SOON)->body // '' } @pages;
is(scalar(grep { $_ eq 'page, answer part' } @said), $THREADS - 2,
   'and the pages') or diag("@said");
is(scalar(grep { /an error occurred/ } @said), 2, 'two have an error');
is(waiting(), 0, 'nobody is left in line');
$httpd->ok_healthy;
done_testing();
