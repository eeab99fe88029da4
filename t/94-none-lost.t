# No POST is lost on connections of workers that end after some requests.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use PhpFpm;
use Private;
use Test::More;

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $CLIENTS = 4;
my $EACH = 500;
my $SETTLED = 0.3;      # seconds, more than the time a connection is feared
my $ONE = Httpd::mpm() eq 'prefork' ? <<'PREFORK' : Httpd::several(16);
StartServers 1
ServerLimit 1
MinSpareServers 1
MaxSpareServers 1
MaxRequestWorkers 1
PREFORK
$ONE =~ s/^(StartServers|ServerLimit) .*/$1 1/mg;
$ONE =~ s/^(M\w+SpareThreads|MaxRequestWorkers) .*/$1 16/mg
    if Httpd::mpm() ne 'prefork';

sub whole {
    my ($port, $method, $path, $body) = @_;
    return Client->request(
        $port, "$method $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        . 'Content-Length: ' . length($body) . "\r\n\r\n$body");
}

# ---- which connection a request gets ----

# Answers with the connection's number and the request's number there.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $nr = 0;
    while (my $request = $c->read_request(60)) {
        $nr++;
        my $answer = $HEAD . $c->number . "-$nr";
        if (($request->{params}{QUERY_STRING} // '') eq 'hold') {
            $c->report(held => 1);
            $c->wait_release('held', 10);
        }
        $c->reply($answer);
    }
}, workers => 4);

my $httpd = Httpd->start(mpm => $ONE, vars => { APP => $app->address },
                         config => <<'EOC');
FcgiBackend app @APP@ max=1 keepalive=1 idle=60
<Location />
  SetHandler fcgi:app
</Location>
<Location /off/>
  FcgiRetry Off
</Location>
<Location /stream/>
  FcgiRequestBuffering Off
</Location>
EOC

sub place {
    my ($method, $path, $body) = @_;
    return whole($httpd->port, $method, $path, $body // '')->body;
}

subtest 'what may be sent again takes what was used just now' => sub {
    is(place('GET', '/'), '1-1', 'a new one');
    is(place($_, '/'), '1-' . ($_ eq 'GET' ? 2 : 3), "$_: the same")
        for qw(GET OPTIONS);
    is(place('GET', '/stream/'), '1-4', 'streamed, but without a body');
};

subtest 'what may not gets a new one in its place' => sub {
    my %case = (POST => ['POST', '/'], PATCH => ['PATCH', '/'],
                'GET, FcgiRetry Off' => ['GET', '/off/'],
                'GET, streamed' => ['GET', '/stream/', 'body']);
    my $number = 1;
    for my $name (sort keys %case) {
        $number++;
        is(place(@{ $case{$name} }), "$number-1", "$name: a new one");
        is(place('GET', '/'), "$number-2", 'which is kept as any');
    }
    is($app->connections, $number, 'each took the permit of the one before');
};

subtest 'one that was quiet for a while is not feared' => sub {
    my ($number) = place('GET', '/') =~ /^(\d+)/;
    for my $nr (4 .. 6) {
        select undef, undef, undef, $SETTLED;   # what makes it quiet
        is(place('POST', '/', 'x'), "$number-$nr", 'the same');
    }
};

subtest 'in line' => sub {
    plan skip_all => 'one request at a time' if Httpd::mpm() eq 'prefork';
    my $connections = $app->connections;
    my $holds = Client->connect($httpd->port);
    $holds->send("GET /?hold HTTP/1.1\r\nHost: x\r\n\r\n");
    ok($app->wait_report('held'), 'one has the connection');
    my $waits = Client->connect($httpd->port);
    $waits->send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    $app->release('held');
    is($holds->read_response->status, 200, 'it is answered');
    is($waits->read_response->body, $connections + 1 . '-1',
       'the POST behind it has a new one');
};
$httpd->leave;

# ---- PHP-FPM ----

my $SCRIPT = <<'EOC';
<?php
register_shutdown_function(function () { $GLOBALS["a"] = range(1, 20000); });
echo "got ", strlen(file_get_contents("php://input"));
EOC

# Each client asks so often, one request after the other; how many answers
# were not right.
sub lose {
    my ($port, $method) = @_;
    my $dir = Private::temp_dir('clients');
    my @pids = map {
        my $file = "$dir/$_";
        Private::spawn(code => sub {
            my $lost = 0;
            for my $n (1 .. $EACH) {
                my $answer = eval {
                    whole($port, $method, '/page.php', 'x' x 100);
                };
                $lost++ if !$answer || $answer->body ne 'got 100';
            }
            Private::spew($file, "$lost\n");
        });
    } 1 .. $CLIENTS;
    Private::wait_until(120, sub { !grep { Private::alive($_) } @pids });
    my $lost = 0;
    $lost += -s "$dir/$_" ? Private::slurp("$dir/$_") : $EACH
        for 1 .. $CLIENTS;
    return $lost;
}

SKIP: {
    skip 'no php-fpm here', 2 if !PhpFpm::program();
    for my $keys ('keepalive=2', 'max=3 keepalive=2') {
        my $php = PhpFpm->start(children => 3,
                                pool => "pm.max_requests = 10\n");
        my $server = Httpd->start(
            vars => { PHP => $php->address },
            files => { 'page.php' => $SCRIPT }, config => <<"EOC");
FcgiBackend php \@PHP\@ $keys
AddHandler fcgi:php .php
EOC
        is(lose($server->port, 'POST'), 0,
           "$keys: of " . $CLIENTS * $EACH . ' POSTs none is lost')
            or diag grep { /FCGI0/ } split /^/, $server->error_log;
        $server->leave;
    }
}

Httpd->ok_left;
done_testing;
