# Over HTTP/2 and for an included page a request keeps its thread, and is whole.
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

my $PATIENCE = 20;
my $CURL = (grep { -x } map { "$_/curl" } split /:/, $ENV{PATH})[0]
    or plan skip_all => 'no curl here';
delete $ENV{PARK};      # what may give its thread back does so at once

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $path = $request->{params}{PATH_INFO};
    $c->report($path => 1);
    $c->wait_release($path, 30);
    $c->reply("Content-Type: text/plain\r\n\r\nanswer $path");
}, workers => 3);

my $httpd = Httpd->start(
    http2 => 1, modules => ['include'],
    vars => { APP => $app->handler },
    files => { 'page.shtml' => 'page, <!--#include virtual="/app/part" -->' },
    config => <<'EOC');
FcgiPark 0
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

sub numbers {
    my $all = JSON::PP->new->decode(
        Client->get($httpd->port, '/fcgi-status?json')->body);
    my ($said) = @{ $all->{backends} };
    return "$said->{in_use} in use, $said->{parked} parked";
}

# Or what was said last.
sub numbers_become {
    my ($wanted, $what) = @_;
    my $said;
    Private::wait_until($PATIENCE, sub { ($said = numbers()) eq $wanted });
    return is($said, $wanted, $what);
}

my $dir = Private::temp_dir('curl');
my $output = "$dir/output";
my $curl = Private::spawn(log => $output, exec => [
    $CURL, qw(-sS --http2-prior-knowledge -m 60 -w), ' %{http_version}',
    'http://127.0.0.1:' . $httpd->port . '/app/stream']);
ok($app->wait_report('/stream', $PATIENCE), 'an HTTP/2 stream waits');

my $page = Client->connect($httpd->port);
$page->send("GET /page.shtml HTTP/1.1\r\nHost: x\r\n\r\n");
ok($app->wait_report('/part', $PATIENCE), 'a page that is included waits');

# What came later has given its thread back.
my $plain = Client->connect($httpd->port);
$plain->send("GET /app/plain HTTP/1.1\r\nHost: x\r\n\r\n");
ok($app->wait_report('/plain', $PATIENCE), 'a plain request waits');
my $parked = Httpd::can_park() ? 1 : 0;
numbers_become("3 in use, $parked parked", 'only that one without a thread');

$app->release($_) for qw(/plain /part /stream);
is($plain->read_response->body, 'answer /plain', 'it is answered');
is($page->read_response->body, 'page, answer /part', 'the page, too');
ok(Private::wait_until($PATIENCE, sub { !Private::alive($curl) }), 'and');
is(Private::slurp($output), 'answer /stream 2', 'the stream');
numbers_become('0 in use, 0 parked', 'nothing is left');
$httpd->ok_healthy;
done_testing();
