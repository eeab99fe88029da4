# A request of mod_proxy that waits holds no thread.
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

plan skip_all => 'requests hold their threads here' if !Httpd::can_park();

my $TYPE = "Content-Type: text/plain\r\n";
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my ($what) = $request->{params}{REQUEST_URI} =~ m{/([^/]*)$};
    $c->report(asked => $what);
    $c->wait_release($what, 20);
    return $c->close if $what eq 'dies';
    $c->reply($what eq 'error' ? "Status: 500 No\r\n$TYPE\r\nits own"
              : "$TYPE\r\n$what$request->{stdin}");
}, workers => 12);
my $url = $app->{port} ? 'fcgi://' . $app->address
    : 'unix:' . $app->address . '|fcgi://app';

# Two threads for all.
my $httpd = Httpd->start(
    modules => [qw(proxy status proxy_fastcgi)],
    log_level => 'info fastcgi_handler:trace4',
    mpm => Httpd::single(2) . "AsyncRequestWorkerFactor 100\n",
    config => <<"EOC");
FcgiPark 0
KeepAlive On
ProxyPass /pass $url/x
<Location /handler>
  SetHandler "proxy:$url"
</Location>
<Location /pass/over>
  ProxyErrorOverride On
</Location>
ErrorDocument 500 "the site's"
ErrorDocument 502 "cut short"
EOC

sub open_for {
    my ($path, $body) = @_;
    my $conn = Client->connect($httpd->port);
    my $method = defined $body ? 'POST' : 'GET';
    $conn->send("$method $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                . (defined $body ? 'Content-Length: ' . length($body) . "\r\n"
                   : '') . "\r\n" . ($body // ''));
    return $conn;
}

subtest 'more than there are threads' => sub {
    my @conns = map { open_for($_ % 2 ? '/pass/first' : '/handler/first',
                               "body$_") } 1 .. 8;
    $app->wait_report('asked') for @conns;
    my @waiting = $httpd->error_log =~ /waits without a thread from now on/g;
    cmp_ok(scalar @waiting, '>=', 6, 'they wait without threads');
    is(Client->get($httpd->port, '/none')->status, 404, 'others get one');
    $app->release('first');
    is($conns[$_ - 1]->read_response->body, "firstbody$_", "answer $_")
        for 1 .. 8;
};

subtest 'how they end' => sub {
    my %conn = map { $_ => open_for($_) }
        qw(/pass/over/error /pass/error /pass/dies);
    $app->wait_report('asked') for keys %conn;
    $app->release($_) for qw(error dies);
    my %answer = map { $_ => $conn{$_}->read_response } keys %conn;
    is($answer{'/pass/over/error'}->body, "the site's", 'ProxyErrorOverride');
    is($answer{'/pass/error'}->body, 'its own', 'without it');
    is($answer{'/pass/error'}->status, 500, 'with its status');
    is($answer{'/pass/dies'}->status, 502, 'a worker that dies twice');
    is($answer{'/pass/dies'}->body, 'cut short', 'and the page for it');
};

subtest 'a client that leaves' => sub {
    my $conn = open_for('/pass/left');
    $app->wait_report('asked');
    $app->wait_report('asked', 0.1);
    $conn->reset;
    ok($httpd->wait_for_log(qr/FCGI09: /, 10), 'is noticed');
    $app->release('left');
};

$httpd->ok_healthy;
done_testing;
