# A request to a balancer's member that waits holds no thread, and another member still does what that one cannot.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Balanced;
use Client;
use FcgiApp;
use Httpd;
use Private;
use Test::More;

plan skip_all => 'requests hold their threads here' if !Httpd::can_park();

my $TYPE = "Content-Type: text/plain\r\n";
my $PARKED = qr/waits without a thread from now on/;

# What a member does when the test has let it, by the query: "name=what" for
# one of that name or "all", else it answers with its name and the body.
my %does = (
    overloaded => sub { $_[0]->end(0, FCGI_OVERLOADED) },
    dies => sub { $_[0]->close },
    busy => sub { $_[0]->reply("Status: 503 Busy\r\n$TYPE\r\nits own") },
    quiet => sub { $_[0]->wait_eof(20) },
);

sub member {
    my ($name, %opt) = @_;
    return FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request or return;
        my $query = $request->{params}{QUERY_STRING};
        my ($turn) = $query =~ /^(\w+)/;
        my ($what) = $query =~ /\b(?:$name|all)=(\w+)/;
        $c->report($turn => 1);
        $c->wait_release($turn, 20);
        return $does{$what}->($c) if $what;
        my $hops = $request->{params}{HTTP_MAX_FORWARDS} // '';
        $c->reply("$TYPE\r\n$name$hops$request->{stdin}");
    }, workers => 10, %opt);
}

# Two threads for all.
sub balance {
    my ($apps, %opt) = @_;
    my $members = [map { [$_, $opt{member}] } @$apps];
    return Httpd->start(
        modules => [Balanced::modules(), 'status', 'proxy_fastcgi'],
        log_level => 'info fastcgi_handler:trace4',
        mpm => Httpd::single(2) . "AsyncRequestWorkerFactor 100\n",
        config => Balanced::section('php', $members, $opt{set})
            . <<'EOC' . ($opt{config} // ''));
FcgiPark 0
FcgiConnectTimeout 20
ProxyPass /app balancer://php/srv
<Location /handler>
  SetHandler "proxy:balancer://php"
</Location>
EOC
}

sub open_for {
    my ($httpd, $path, $body, $fields) = @_;
    my $conn = Client->connect($httpd->port);
    my $method = defined $body ? 'POST' : 'GET';
    $conn->send("$method $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                . (defined $body ? 'Content-Length: ' . length($body) . "\r\n"
                   : '') . ($fields // '') . "\r\n" . ($body // ''));
    return $conn;
}

# A request whose members are all let go at once.
sub ask {
    my ($httpd, $apps, $turn, $query, @more) = @_;
    $_->release($turn) for @$apps;
    my $conn = open_for($httpd, "/app/x?$turn&$query", @more);
    return $conn->read_response;
}

sub states { return Balanced::states($_[0]) }
sub elected { return Balanced::column($_[0], 'elected') }
sub busy { return Balanced::column($_[0], 'busy') }

sub parked {
    my ($httpd) = @_;
    my $times = () = $httpd->error_log =~ /$PARKED/g;
    return $times;
}

subtest 'more than there are threads' => sub {
    my @apps = map { member($_) } qw(one two);
    my $httpd = balance(\@apps);
    my @conns = map {
        open_for($httpd, $_ % 2 ? '/app/x?first' : '/handler/x?first',
                 "body$_")
    } 1 .. 8;
    for my $app (@apps) {
        $app->wait_report('first') or fail 'asked' for 1 .. 4;
    }
    ok(Private::wait_until(10, sub { parked($httpd) >= 6 }),
       'they wait without threads');
    is(busy($httpd), '4,4', 'the balancer knows of them, as a thread is free');
    $_->release('first') for @apps;
    like($conns[$_ - 1]->read_response->body, qr/^(?:one|two)body$_$/,
         "answer $_") for 1 .. 8;
    is(Balanced::idle($httpd), '0,0', 'and that they are over');
    is(elected($httpd), '4,4', 'in turn');

    my $conn = open_for($httpd, '/app/x?left');
    ok(Private::wait_until(10, sub { busy($httpd) =~ /1/ }), 'one more');
    $conn->reset;
    ok($httpd->wait_for_log(qr/FCGI09: /, 10), 'leaves');
    is(Balanced::idle($httpd), '0,0', 'and counts no more');
    is(states($httpd), 'Ok,Ok', 'with no harm to its member');
    $_->release('left') for @apps;
    $httpd->ok_healthy;
};

subtest 'the next member is asked' => sub {
    my @apps = map { member($_) } qw(one two);
    my $httpd = balance(\@apps);
    my $body = 'b' x 200_000;
    for my $how (qw(overloaded dies)) {
        my $before = parked($httpd);
        my $conn = open_for($httpd, "/app/x?$how&one=$how",
                            $how eq 'dies' ? () : $body);
        my ($first, $next) = @apps;
        ok($first->wait_report($how), "$how: one is asked");
        ok(Private::wait_until(10, sub { parked($httpd) == $before + 1 }),
           'and waits without a thread');
        $first->release($how);
        ok($next->wait_report($how), 'the other is asked');
        ok(Private::wait_until(10, sub { parked($httpd) == $before + 2 }),
           'and waited for without a thread as well');
        is(states($httpd), 'Ok,Ok', 'the first one is there for others');
        is(Client->get($httpd->port, '/none')->status, 404, 'which is free');
        $next->release($how);
        ok($conn->read_response->body eq 'two' . ($how eq 'dies' ? '' : $body),
           'the answer is its, to all of the request');
        is(states($httpd), 'Ok,Ok', 'nobody is in error');
        is(Balanced::idle($httpd), '0,0', 'nobody is busy');
        ask($httpd, \@apps, "after$how", '');   # in turn: the second
    }
    my @lines = $httpd->error_log =~ /fastcgi_handler:warn\] .*?(FCGI0\d)/g;
    is("@lines", 'FCGI06 FCGI03', 'a warning for each that failed');
    $httpd->ok_healthy;
};

subtest 'the client, or httpd, goes before the next has answered' => sub {
    my @apps = map { member($_) } qw(one two);
    my $httpd = balance(\@apps);
    my $conn = open_for($httpd, '/app/x?gone&one=overloaded');
    $apps[0]->wait_report('gone');
    $apps[0]->release('gone');
    ok($apps[1]->wait_report('gone'), 'the other is asked');
    ok(Private::wait_until(10, sub { parked($httpd) == 2 }), 'and waited for');
    $conn->reset;
    ok($httpd->wait_for_log(qr/FCGI09: /, 10), 'the client leaves');
    is(Balanced::idle($httpd), '0,0', 'all of it ends');
    is(states($httpd), 'Ok,Ok', 'with nobody in error');

    my @conns = map { open_for($httpd, '/app/x?down') } 1 .. 4;
    for my $app (@apps) {
        $app->wait_report('down') or fail 'asked' for 1, 2;
    }
    ok(Private::wait_until(10, sub { busy($httpd) eq '2,2' }), 'four wait');
    $httpd->stop;
    ok(!$_->read_response->complete, 'httpd leaves') for @conns;
    unlike($httpd->error_log, qr/Sanitizer|runtime error/, 'with no harm');
    $_->release('down') for @apps;
};

subtest 'what is said and counted is not said twice' => sub {
    my @apps = map { member($_) } qw(one two);
    my $httpd = balance(\@apps);
    is(ask($httpd, \@apps, 'a', 'one=overloaded', undef,
           "Max-Forwards: 7\r\n")->body, 'two6', 'one proxy is one hop');
    is(ask($httpd, \@apps, 'b', 'all=dies')->status, 502,
       'what kills each worker ends');
    is(elected($httpd), '2,2', 'after two');
    is(ask($httpd, \@apps, 'c', 'all=dies', 'x')->status, 502, 'a POST');
    is(join(',', sort split /,/, elected($httpd)), '2,3', 'after one');
    is(ask($httpd, \@apps, 'd', 'all=overloaded')->status, 503, 'all are full');
    is(states($httpd), 'Ok,Ok', 'nobody is in error');
    is(Balanced::idle($httpd), '0,0', 'nobody is busy');
    $httpd->ok_healthy;
};

subtest 'maxattempts' => sub {
    my @apps = map { member($_) } qw(one two three);
    my $httpd = balance(\@apps, set => 'maxattempts=1');
    is(ask($httpd, \@apps, 'a', 'all=overloaded')->status, 503, 'a 503');
    my $sum = 0;
    $sum += $_ for split /,/, elected($httpd);
    is($sum, 2, 'after two of three');
    $httpd->leave;

    # The line of all others is full: said at once, in the thread that goes on.
    $httpd = balance(\@apps, set => 'maxattempts=1', config => join('', map {
        my $address = $_->address;
        my $url = $_->{port} ? "fcgi://$address" : "unix:$address|fcgi://app";
        "FcgiBackend $address max=1 queue=0\nProxyPass /alone$address $url/\n"
    } @apps[1, 2]));
    my @conns = map { open_for($httpd, '/alone' . $_->address . '?b') }
        @apps[1, 2];
    $_->wait_report('b') for @apps[1, 2];
    $apps[0]->release('b');
    is(open_for($httpd, '/app/x?b&one=overloaded')->read_response->status,
       503, 'a 503 again');
    $sum = 0;
    $sum += $_ for split /,/, elected($httpd);
    is($sum, 2, 'after two of three');
    is(states($httpd), 'Ok,Ok,Ok', 'nobody is in error');
    $_->release('b') for @apps;
    $_->read_response for @conns;
    $httpd->leave;
    Httpd->ok_left;
};

subtest 'a member that does not answer a SYN' => sub {
    my $one = Balanced::silent_host();
    my $two = member('two');
    my $httpd = balance([$one, $two]);
    is(ask($httpd, [$two], "turn$_", '', 'body')->body, 'twobody',
       "request $_") for 1, 2;
    is(states($httpd), 'Err,Ok', 'it is in error');
    cmp_ok(parked($httpd), '>=', 2, 'they waited without a thread');
    $httpd->ok_healthy;
};

subtest 'what the balancer is to look at' => sub {
    my @apps = map { member($_) } qw(one two);
    my $httpd = balance(\@apps, set => 'failonstatus=503');
    is(ask($httpd, \@apps, 'a', 'all=busy')->body, 'its own', 'a 503');
    is(states($httpd), 'Err,Ok', 'failonstatus');
    $httpd->leave;

    $httpd = balance(\@apps, set => 'failontimeout=On',
                     member => 'timeout=1');
    is(ask($httpd, \@apps, 'b', 'all=quiet')->status, 504, 'a 504');
    is(states($httpd), 'Err,Ok', 'failontimeout');
    $httpd->leave;

    $httpd = balance(\@apps, set => 'failontimeout=Off',
                     member => 'timeout=1');
    is(ask($httpd, \@apps, 'c', 'all=quiet')->status, 504, 'a 504');
    is(states($httpd), 'Ok,Ok', 'failontimeout is off');
    $httpd->leave;
    Httpd->ok_left;
};

done_testing;
