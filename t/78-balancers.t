# Behind a balancer of mod_proxy no request is lost that another member can do.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Balanced;
use Client;
use FcgiApp;
use Httpd;
use IO::Socket::UNIX;
use Private;
use Test::More;

my $TYPE = "Content-Type: text/plain\r\n";
my @MODULES = (Balanced::modules(qw(byrequests bybusyness bytraffic)),
               'proxy_fastcgi');

# What a member does with a request, by the query: "name=what" for one of that
# name, else it answers with its name and the body.
my %does = (
    overloaded => sub { $_[0]->end(0, FCGI_OVERLOADED) },
    dies => sub { $_[0]->close },
    half => sub { $_[0]->stdout("$TYPE\r\nhalf"); $_[0]->close },
    quiet => sub { $_[0]->wait_eof(20) },
    held => sub {
        my ($c, $name) = @_;
        $c->report(held => 1);
        $c->wait_release('held', 20);
        $c->reply("$TYPE\r\n$name");
    },
    error => sub { $_[0]->reply("Status: 503 Busy\r\n$TYPE\r\nits own") },
    page => sub { $_[0]->reply("Status: 500 Bad\r\n$TYPE\r\nits own") },
);

sub member {
    my ($name, %opt) = @_;
    return FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request or return;
        my $params = $request->{params};
        $c->report(asked => $params->{REQUEST_METHOD});
        my ($what) = $params->{QUERY_STRING} =~ /\b(?:$name|all)=(\w+)/;
        return $does{$what}->($c, $name) if $what;
        $c->reply("$TYPE\r\n$name" . $request->{stdin});
    }, workers => 3, %opt);
}

# A server with a balancer of these members: [app, parameters], ...
sub balance {
    my ($members, %opt) = @_;
    my @modules = (@{ $opt{modules} || [] }, @MODULES);
    return Httpd->start(
        %opt, modules => \@modules,
        config => Balanced::section('php', $members, $opt{set})
            . <<'EOC' . ($opt{config} // ''));
FcgiConnectTimeout 20
ProxyPass /app balancer://php/srv
EOC
}

sub get { return Client->get($_[0]->port, $_[1]) }

sub post {
    my ($httpd, $path, $body) = @_;
    return Client->request(
        $httpd->port, "POST $path HTTP/1.1\r\nHost: x\r\n"
        . "Connection: close\r\nContent-Length: " . length($body)
        . "\r\n\r\n$body");
}

subtest 'the spread, and what the balancer shows of it' => sub {
    my ($one, $two) = map { member($_) } qw(one two);
    my $httpd = balance([[$one], [$two, 'loadfactor=1']]);
    my %count;
    $count{ post($httpd, '/app/x', 'x' x 1000)->body =~ /^(one|two)/
            ? $1 : 'none' }++ for 1 .. 10;
    is_deeply(\%count, { one => 5, two => 5 }, 'in turn')
        or diag get($httpd, '/app/x')->raw, $httpd->error_log;
    is(Balanced::idle($httpd), '0,0', 'none is busy');
    my @rows = Balanced::manager($httpd);
    is(scalar @rows, 2, 'two rows');
    for my $row (@rows) {
        is($row->{elected}, 5, 'Elected');
        like($row->{to}, qr/^[5-9](?:\.\d)?K$/, "To: $row->{to}");
        like($row->{from}, qr/^[5-6](?:\.\d)?K$/, "From: $row->{from}");
        like($row->{status}, qr/Ok/, 'Status');
    }
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /app/x?all=held HTTP/1.1\r\nHost: x\r\n"
                . "Connection: close\r\n\r\n");
    Private::wait_until(5, sub {
        grep { $_->{busy} } Balanced::manager($httpd);
    });
    like(Balanced::column($httpd, 'busy'), qr/^(?:1,0|0,1)$/,
         'one is busy while it is asked');
    $_->release('held') for $one, $two;
    $conn->read_response;
    is(Balanced::idle($httpd), '0,0', 'and not after');
    $httpd->ok_healthy;
};

subtest 'one that refuses' => sub {
    my ($one, $two) = map { member($_) } qw(one two);
    my $httpd = balance([[$one], [$two]]);
    $one->stop(keep_file => 1);
    my $body = 'b' x 300_000;
    for my $n (1 .. 4) {
        my $answer = post($httpd, '/app/x', $body);
        is($answer->status, 200, "request $n is done");
        ok($answer->body eq "two$body", 'by the other, with all of its body');
        is($answer->header('Retry-After'), undef, 'and no word of it');
    }
    my @lines = $httpd->error_log =~ /(\S+:\w+\] .*FCGI01: .*)/g;
    is(scalar @lines, 1, 'asked once');
    like($lines[0] // '', qr/fastcgi_handler:warn.*\(1 attempt,/,
         'and not again, a warning');
    is(Balanced::states($httpd), 'Err,Ok', 'the balancer knows');
    $httpd->ok_healthy;
};

subtest 'an error page is not waited for once more' => sub {
    my ($one, $two) = map { member($_) } qw(one two);
    my $httpd = balance([[$one], [$two]], config => <<'EOC');
LogLevel debug
FcgiConnectTimeout 1
ErrorDocument 503 /app/page
EOC
    $_->stop(keep_file => 1) for $one, $two;
    is(get($httpd, '/app/x')->status, 503, 'both are dead');
    like($httpd->error_log, qr{FCGI01: .*/srv/page}, 'also for the page');
    my @waited = $httpd->error_log =~ m{FCGI01: .*\(\d\d+ attempts.*/(\w+)\)}g;
    is("@waited", 'x', 'one was waited for, for the request');
    $httpd->ok_healthy;
};

subtest 'a dead one comes back by itself' => sub {
    my ($one, $two) = map { member($_) } qw(one two);
    my $httpd = balance([[$one, 'retry=1'], [$two]]);
    $one->stop(keep_file => 1);
    get($httpd, '/app/x') for 1, 2;
    is(Balanced::states($httpd), 'Err,Ok', 'dead');
    $one->restart;
    ok(Private::wait_until(10, sub { get($httpd, '/app/x')->body eq 'one' }),
       'and alive');
    is(Balanced::states($httpd), 'Ok,Ok', 'for the balancer, too');
    $httpd->ok_healthy;
};

subtest 'nobody is there' => sub {
    my ($one, $two) = map { member($_) } qw(one two);
    my $httpd = balance([[$one], [$two]]);
    $_->stop(keep_file => 1) for $one, $two;
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /app/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    ok($httpd->wait_for_log(qr/FCGI01/, 5), 'one was asked');
    $_->restart for $one, $two;
    my $answer = $conn->read_response;
    is($answer->status, 200, 'the last that is left is waited for');
    $httpd->ok_healthy;
};

subtest 'the other is known to be dead' => sub {
    my ($one, $two, $three) = map { member($_) } qw(one two three);
    my $httpd = balance([[$one], [$two], [$three]]);
    $_->stop(keep_file => 1) for $one, $three;
    get($httpd, '/app/x') for 1 .. 3;
    is(Balanced::states($httpd), 'Err,Ok,Err', 'one is left');
    $two->stop(keep_file => 1);
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /app/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    $conn->read_until(qr/./, 0.3);
    $two->restart;
    is($conn->read_response->body, 'two', 'and waited for');
    is(Balanced::states($httpd), 'Err,Ok,Err', 'with nobody else asked');
    $httpd->ok_healthy;
};

subtest 'a single member that is restarted' => sub {
    my $one = member('one');
    my $httpd = balance([[$one]]);
    $one->stop(keep_file => 1);
    my $conn = Client->connect($httpd->port);
    $conn->send("POST /app/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                . "Content-Length: 4\r\n\r\nbody");
    $conn->read_until(qr/./, 0.3);
    $one->restart;
    is($conn->read_response->body, 'onebody', 'is waited for');
    $httpd->ok_healthy;
};

subtest 'what is set for one does not hold for the next' => sub {
    my ($one, $two) = map {
        FcgiApp->start(\&FcgiApp::echo_params, workers => 3)
    } 1, 2;
    my $httpd = balance(
        [[$one, 'route=a retry=0 connectiontimeout=100ms flushpackets=on'],
         [$two, 'route=b retry=0']],
        set => 'stickysession=S', config => <<'EOC');
SetEnv THERE yes
SetEnv COUNT 0
<Location /app>
  FcgiParam NODE a "expr=%{reqenv:BALANCER_WORKER_ROUTE} == 'a'"
  FcgiParam !THERE "expr=%{reqenv:BALANCER_WORKER_ROUTE} == 'a'"
  FcgiParam COUNT "%{reqenv:COUNT}+"
  ProxyFCGISetEnvIf "%{reqenv:BALANCER_WORKER_ROUTE} == 'a'" P_NODE a
</Location>
EOC
    my $wanted = qr/^((?:BALANCER_WORKER_ROUTE|NODE|P_NODE|THERE|COUNT)=.*\n)/m;
    my $told = sub {
        my @lines = get($httpd, '/app/x?S=1.a')->body =~ /$wanted/g;
        return join '', sort @lines;
    };
    is($told->(), "BALANCER_WORKER_ROUTE=a\nCOUNT=0+\nNODE=a\nP_NODE=a\n",
       'the variables of the first');
    $one->stop(keep_file => 1);
    is($told->(), "BALANCER_WORKER_ROUTE=b\nCOUNT=0+\nTHERE=yes\n",
       'and of the second, when that is asked in its place');
    $two->stop(keep_file => 1);
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /app/x?S=1.a HTTP/1.1\r\nHost: x\r\n"
                . "Connection: close\r\n\r\n");
    $conn->read_until(qr/./, 1);
    $two->restart;
    is($conn->read_response->status, 200, 'which is waited for as it is set');
    $httpd->ok_healthy;
};

subtest 'one that does not answer a SYN' => sub {
    my $one = Balanced::silent_host();
    my $two = member('two');
    my $httpd = balance([[$one], [$two]]);
    for (1 .. 2) {
        is(post($httpd, '/app/x', 'body')->body, 'twobody',
           'the other is asked long before FcgiConnectTimeout');
    }
    is(Balanced::states($httpd), 'Err,Ok', 'and it is in error');
    $httpd->ok_healthy;
};

subtest 'one whose backlog is full' => sub {
    my $one = FcgiApp->start(sub { }, transport => 'unix', workers => 0,
                             backlog => 1);
    my $two = member('two');
    my @held = map { IO::Socket::UNIX->new(Peer => $one->address) } 1 .. 2;
    my $httpd = balance([[$one], [$two]]);
    is(post($httpd, '/app/x', 'body')->body, 'twobody', 'the other is asked')
        for 1 .. 2;
    is(Balanced::states($httpd), 'Ok,Ok', 'and it is in no error');
    $httpd->ok_healthy;
};

subtest 'one whose line is full' => sub {
    my ($one, $two) = map { member($_) } qw(one two);
    my $httpd = balance([[$one], [$two]], config =>
        'FcgiBackend ' . $one->address . " max=1 queue=0\n");
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /app/x?one=held HTTP/1.1\r\nHost: x\r\n"
                . "Connection: close\r\n\r\n");
    $one->wait_report('held');
    for my $n (1 .. 4) {
        is(post($httpd, '/app/x', 'body')->body, 'twobody',
           "request $n goes to the other");
    }
    like($httpd->error_log, qr/fastcgi_handler:warn.*FCGI18/,
         'and the log says so');
    is(Balanced::states($httpd), 'Ok,Ok', 'it is in no error');
    $one->release('held');
    is($conn->read_response->body, 'one', 'the first is done');
    $httpd->ok_healthy;
};

subtest 'one that is overloaded' => sub {
    my ($one, $two) = map { member($_) } qw(one two);
    my $httpd = balance([[$one], [$two]]);
    my $body = 'b' x 200_000;
    for my $n (1 .. 4) {
        ok(post($httpd, '/app/x?one=overloaded', $body)->body eq "two$body",
           "request $n goes to the other, whole");
    }
    is(Balanced::states($httpd), 'Ok,Ok', 'it is in no error');
    my $answer = post($httpd, '/app/x?all=overloaded', $body);
    is($answer->status, 503, 'all are');
    is($answer->header('Retry-After'), 1, 'for now');
    is(Balanced::states($httpd), 'Ok,Ok', 'none of them in error');
    $httpd->ok_healthy;
};

subtest 'who is overloaded for one is there for others' => sub {
    my ($one, $two, $three) = map { member($_) } qw(one two three);
    my $httpd = balance([[$one], [$two]], config => "FcgiPark Off\n");
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /app/x?one=overloaded&two=held HTTP/1.1\r\nHost: x\r\n"
                . "Connection: close\r\n\r\n");
    ok($two->wait_report('held'), 'the other is asked, and waited for');
    is(Balanced::states($httpd), 'Ok,Ok', 'meanwhile it is in no error');
    is(join(' ', sort map { get($httpd, '/app/x')->body } 1, 2), 'one two',
       'and is asked');
    $two->release('held');
    is($conn->read_response->body, 'two', 'the first is done');
    $httpd->leave;

    for my $method (qw(byrequests bytraffic)) {
        my %park = (0 => 'Off', 60 => 0);
        for my $retry (sort keys %park) {
            $httpd = balance([[$one, "loadfactor=50 retry=$retry"],
                              [$two, "loadfactor=20 retry=$retry"], [$three]],
                             set => "lbmethod=$method",
                             config => "FcgiPark $park{$retry}\n");
            my $why = "$method, retry=$retry: nobody is asked twice";
            is(get($httpd, '/app/x?one=overloaded&two=overloaded')->body,
               'three', $why) for 1 .. 3;
            is(Balanced::column($httpd, 'elected'), '3,3,3', 'in turn');
            is(Balanced::states($httpd), 'Ok,Ok,Ok', 'none is in error');
            $_->stop(keep_file => 1) for $one, $two;
            is(get($httpd, '/app/x')->body, 'three', 'nor one that refuses')
                for 1, 2;
            $_->restart for $one, $two;
            $httpd->leave;
        }
    }
    Httpd->ok_left;
};

subtest 'many at once, one is overloaded and one full' => sub {
    my %late = (one => sub { $_[0]->end(0, FCGI_OVERLOADED) },
                two => sub { $_[0]->wait_eof(0.01) });
    my @apps = map {
        my $name = $_;
        FcgiApp->start(sub {
            my ($c) = @_;
            my $request = $c->read_request or return;
            $late{$name}->($c) if $late{$name};
            $c->reply("$TYPE\r\n" . length $request->{stdin});
        }, workers => 8);
    } qw(one two three);
    my @weights = (30, 10, 1);
    my $httpd = balance(
        [map { [$apps[$_], "loadfactor=$weights[$_]"] } 0 .. 2],
        mpm => Httpd::several(8), log_level => 'error',
        config => 'FcgiBackend ' . $apps[1]->address
            . " max=1 queue=0\nFcgiPark 0\n");
    my $dir = Private::temp_dir('many');
    my @clients = map {
        my $lost = "$dir/$_";
        Private::spawn(code => sub {
            for my $len (map { $_ % 2 ? 0 : 70_000 } 1 .. 50) {
                my $answer = eval { post($httpd, '/app/x', 'b' x $len) };
                next if $answer && $answer->complete
                    && $answer->body eq $len;
                Private::spew($lost, $answer ? $answer->raw : $@);
            }
        });
    } 1 .. 10;
    ok(Private::wait_until(120, sub {
        !grep { Private::alive($_) } @clients;
    }), 'all are done');
    my @lost = map { Private::slurp($_) } glob "$dir/*";
    is(scalar @lost, 0, 'and none is lost') or diag $lost[0];
    is(Balanced::states($httpd), 'Ok,Ok,Ok', 'none is in error');
    $httpd->ok_healthy;
};

subtest 'a worker that dies' => sub {
    my ($one, $two) = map { member($_) } qw(one two);
    my $httpd = balance([[$one], [$two]]);
    is(get($httpd, '/app/x?one=dies')->body, 'two',
       'a safe request goes to the other') for 1 .. 3;
    is(Balanced::states($httpd), 'Ok,Ok', 'the member has more workers');
    is($one->connections, 2, 'it was asked in its turn, once each');

    my $before = $one->connections + $two->connections;
    is(post($httpd, '/app/x?all=dies', 'x')->status, 502,
       'a POST that may have been seen is a 502');
    is($one->connections + $two->connections - $before, 1, 'and seen once');
    $before += 1;
    is(get($httpd, '/app/x?all=dies')->status, 502,
       'what kills each worker ends');
    is($one->connections + $two->connections - $before, 2, 'after two');
    $before += 2;
    my $half = get($httpd, '/app/x?all=half');
    ok(!$half->complete, 'a cut answer looks cut');
    is($one->connections + $two->connections - $before, 1, 'and stays so');
    is(Balanced::states($httpd), 'Ok,Ok', 'nobody is in error');
    $httpd->ok_healthy;
};

subtest 'the next one is switched off meanwhile' => sub {
    my $two = member('two');
    my $one = FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request or return;
        return $c->reply("$TYPE\r\nagain") if $c->number % 2 == 0;
        my $how = $request->{params}{QUERY_STRING};
        $c->report(asked => 1);
        $c->wait_release($how, 20);
        $does{$how}->($c);
    });
    my $httpd = balance([[$one], [$two]]);
    for my $how (qw(dies overloaded)) {
        my $conn = Client->connect($httpd->port);
        $conn->send("GET /app/x?$how HTTP/1.1\r\nHost: x\r\n"
                    . "Connection: close\r\n\r\n");
        ok($one->wait_report('asked'), "$how: one is asked");
        is(Balanced::change($httpd, 1, 'w_status_D=1'), 200,
           'while the other is switched off');
        $one->release($how);
        is($conn->read_response->body, 'again',
           'it is the last one, and asked again');
        is(Balanced::states($httpd), 'Ok,Ok', 'it is in no error');
        is(Balanced::idle($httpd), '0,0', 'nobody is busy');
        Balanced::change($httpd, 1, 'w_status_D=0');
        is(get($httpd, '/app/x')->body, 'two', 'the other is there again');
    }
    $httpd->ok_healthy;
};

subtest "the application's own errors" => sub {
    my ($one, $two) = map { member($_) } qw(one two);
    my $httpd = balance([[$one], [$two]], config => <<'EOC');
ErrorDocument 500 "the site's"
ErrorDocument 503 "the site's"
<Location /app/over>
  ProxyErrorOverride On
</Location>
EOC
    is(get($httpd, '/app/x?all=error')->body, 'its own', 'a 503');
    is(get($httpd, '/app/over?all=error')->body, "the site's", 'with a page');
    is(get($httpd, '/app/over?all=page')->body, "the site's",
       '500 with a page');
    is($one->connections + $two->connections, 3, 'nobody else was asked');
    is(Balanced::states($httpd), 'Ok,Ok', 'none is in error');
    $httpd->leave;

    $httpd = balance([[$one], [$two]], set => 'failonstatus=503');
    is(get($httpd, '/app/x?all=error')->status, 503, 'failonstatus');
    like(Balanced::states($httpd), qr/Err/, 'is heard');
    is(get($httpd, '/app/x?all=overloaded')->status, 503, 'also for our own');
    $httpd->leave;

    $httpd = balance([[$one, 'timeout=1'], [$two, 'timeout=1']],
                     set => 'failontimeout=On');
    is(get($httpd, '/app/x?all=quiet')->status, 504, 'failontimeout');
    like(Balanced::states($httpd), qr/Err/, 'is heard');
    Httpd->ok_left;
    $httpd->ok_healthy;
};

subtest 'sessions, standbys and spares' => sub {
    my ($one, $two, $three) = map { member($_) } qw(one two three);
    my $httpd = balance(
        [[$one, 'route=a'], [$two, 'route=b'], [$three, 'status=+H']],
        set => 'stickysession=ID', config => <<'EOC');
<Location /handler>
  SetHandler "proxy:balancer://php"
</Location>
EOC
    is(get($httpd, '/app/x;ID=1.b')->body, 'two', 'a route') for 1 .. 3;
    is(Client->get($httpd->port, '/app/x', Cookie => 'ID=1.a')->body, 'one',
       'by a cookie') for 1 .. 3;
    like(get($httpd, '/handler/x')->body, qr/^(?:one|two)$/, 'SetHandler');
    $two->stop(keep_file => 1);
    is(get($httpd, '/app/x;ID=1.b')->body, 'one', 'its member is dead');
    $one->stop(keep_file => 1);
    is(get($httpd, '/app/x')->body, 'three', 'the standby');
    $httpd->leave;

    $_->restart for $one, $two;
    $httpd = balance([[$one, 'route=a'], [$two, 'route=b']],
                     set => 'stickysession=ID nofailover=On',
                     config => "FcgiConnectTimeout 100ms\n");
    $two->stop(keep_file => 1);
    is(get($httpd, '/app/x;ID=1.b')->status, 503, 'nofailover');
    is(get($httpd, '/app/x;ID=1.a')->body, 'one', 'the other serves its own');
    $httpd->leave;
    Httpd->ok_left;
};

subtest 'health checks' => sub {
    plan skip_all => 'no mod_proxy_hcheck here'
        if !Httpd::has_module('proxy_hcheck');
    my ($one, $two) = map { member($_, transport => 'tcp') } qw(one two);
    my $check = 'hcmethod=TCP hcinterval=2 hcfails=1 hcpasses=1';
    my $httpd = balance([[$one, $check], [$two, $check]],
                        modules => [qw(watchdog proxy proxy_hcheck)]);
    my $sees = sub {
        my ($wanted) = @_;
        return Private::wait_until(20, sub {
            my $now = join ',', map { $_->{status} =~ /HcFl/ ? 'Fail' : 'Ok' }
                Balanced::manager($httpd);
            $now eq $wanted;
        });
    };
    ok($sees->('Ok,Ok'), 'both are well');
    $one->stop;
    ok($sees->('Fail,Ok'), 'one is not');
    is(get($httpd, '/app/x')->body, 'two', 'and is not asked') for 1 .. 3;
    unlike($httpd->error_log, qr/FCGI01/, 'at all');
    $one->restart;
    ok($sees->('Ok,Ok'), 'until it is again');
    my %seen = map { get($httpd, '/app/x')->body => 1 } 1 .. 4;
    is(join(' ', sort keys %seen), 'one two', 'both are asked');
    $httpd->ok_healthy;
};

subtest 'changed live' => sub {
    my ($one, $two) = map { member($_) } qw(one two);
    my $httpd = balance([[$one], [$two]]);
    is(Balanced::change($httpd, 0, 'w_status_D=1'), 200,
       'the manager takes it');
    is(get($httpd, '/app/x')->body, 'two', 'one is switched off') for 1 .. 3;
    $httpd->ok_healthy;
};

subtest 'unix and TCP, and other methods' => sub {
    my $one = member('one', transport => 'unix');
    my $two = member('two', transport => 'tcp');
    for my $method (qw(bybusyness bytraffic)) {
        my $httpd = balance([[$one], [$two]], set => "lbmethod=$method");
        my %seen = map { get($httpd, '/app/x')->body => 1 } 1 .. 6;
        is(join(' ', sort keys %seen), 'one two', "$method: both are asked");
        $two->stop;
        is(get($httpd, '/app/x')->body, 'one', 'one is left') for 1 .. 3;
        $two->restart;
        $httpd->leave;
    }
    Httpd->ok_left;
};

done_testing;
