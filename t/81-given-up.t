# An idle connection never stands in the way of a request.
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
use Time::HiRes qw(time);

my $HEAD = "Content-Type: text/plain\r\n\r\n";

# Promised are 20 ms, and 5 more before a silent application counts as busy;
# the machine may be busy, too.
my $LIMIT = 0.5;

# So many children, each of which serves one request at a time.
sub children {
    my ($count) = @_;
    return Httpd::mpm() eq 'prefork' ? <<"EOC" : <<"EOC";
StartServers $count
ServerLimit $count
MinSpareServers 1
MaxSpareServers $count
MaxRequestWorkers $count
EOC
StartServers $count
ServerLimit $count
ThreadLimit 1
ThreadsPerChild 1
MinSpareThreads 1
MaxSpareThreads $count
MaxRequestWorkers $count
EOC
}

# /app/go-NAME makes an idle connection in a child and keeps the child busy
# with another application until NAME is released; /app/silent says nothing
# until that is released.
sub tell {
    my ($c) = @_;
    my $nr = 0;
    while (my $request = $c->read_request(60)) {
        my ($name) = $request->{params}{REQUEST_URI} =~ m{([^/]+)$};
        $nr++;
        $c->report($name => { number => $c->number, at => time, nr => $nr });
        if ($name =~ /^go-(.*)/) {
            $c->reply("Location: /busy/$1\r\n\r\n");
            next;
        }
        return if $name =~ /^die/ && $nr > 1;
        $c->stdout("${HEAD}begun") if $name =~ /^begin/;
        $c->wait_release($name, 20) if $name =~ /^(?:begin|silent|die)/;
        $c->stdout($HEAD) if $name !~ /^begin/;
        $c->stdout("$name connection=" . $c->number . " nr=$nr");
        $c->end;
    }
    $c->report('closed-' . $c->number => time);
    return;
}

sub be_busy {
    my ($c) = @_;
    my $request = $c->read_request or return;
    # A redirect leaves REQUEST_URI as the client sent it.
    my ($name) = $request->{params}{REQUEST_URI} =~ m{go-([^/]+)$};
    $c->stdout("${HEAD}busy");
    $c->wait_release($name, 30);
    return $c->end;
}

my $busy = FcgiApp->start(\&be_busy, workers => 4);

# A server of its own for an application.
sub start_httpd {
    my ($app, $children, $settings) = @_;
    # With one thread in a child, event may never accept what comes early.
    local $ENV{MPM} = 'worker' if $children && Httpd::mpm() eq 'event';
    return Httpd->start(
        mpm => $children, vars => { APP => $app->address,
                                    BUSY => $busy->handler },
        config => <<"EOC");
FcgiTimeout 20
FcgiBackend app \@APP\@ idle=60 $settings
<Location /app/>
  SetHandler fcgi:app
</Location>
<Location /busy/>
  SetHandler \@BUSY\@
</Location>
EOC
}

sub send_get {
    my ($httpd, $path) = @_;
    my $conn = Client->connect($httpd->port);
    $conn->send("GET $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    return $conn;
}

my $round = 0;

# A connection is idle in a child that is busy otherwise; returns the client
# and how to let it go.
sub make_idle {
    my ($httpd, $app) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $name = 'round' . ++$round;
    my $conn = send_get($httpd, "/app/go-$name");
    ok($conn->read_until(qr/busy/, 10), 'a child is busy elsewhere');
    my $idle = $app->wait_report("go-$name");
    ok(!(grep { $_->[0] eq "closed-$idle->{number}" } $app->reports),
       'and has an idle connection');
    return ($idle->{number}, sub {
        $busy->release($name);
        ok($conn->read_response->complete, 'the child is free again');
    });
}

# That connection is closed, and soon after $from.
sub given_up {
    my ($app, $number, $from, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $closed = $app->wait_report("closed-$number", 5);
    ok($closed, "$what: it is given up") or return;
    my $ms = sprintf '%.1f', 1000 * ($closed - $from);
    note "$what: after $ms ms";
    cmp_ok($closed, '>=', $from, 'not before');
    cmp_ok($closed - $from, '<', $LIMIT, 'and soon');
    return;
}

subtest 'another child waits for the first byte' => sub {
    for (1 .. 3) {
        # a new application each time: one that is started again at the same
        # path would have its connections closed within a second
        my $app = FcgiApp->start(\&tell, workers => 4);
        my $httpd = start_httpd($app, children(2), 'keepalive=4');
        my ($number, $go_on) = make_idle($httpd, $app);
        my $conn = send_get($httpd, "/app/silent$_");
        my $asked = $app->wait_report("silent$_");
        isnt($asked->{number}, $number, 'on another connection');
        given_up($app, $number, $conn->{sent_at}, 'a silent application');
        $app->release("silent$_");
        my $answer = $conn->read_response;
        like($answer->body, qr/^silent$_ connection=$asked->{number} /,
             'answered');
        my $again = Client->get($httpd->port, '/app/again');
        like($again->body, qr/connection=$asked->{number} nr=2/,
             'and now its own is kept');
        $go_on->();
        $httpd->leave;
    }
};

subtest 'the only worker is held by another child' => sub {
    my $app = FcgiApp->start(\&tell, workers => 1);
    my $httpd = start_httpd($app, children(2), 'keepalive=1');
    my ($number, $go_on) = make_idle($httpd, $app);
    my $from = time;
    my $answer = Client->get($httpd->port, '/app/r');
    is($answer->status, 200, 'answered');
    like($answer->body, qr/^r connection=2 nr=1/, 'on a new connection');
    given_up($app, $number, $from, 'the only worker');
    $go_on->();
    $httpd->leave;
};

subtest 'another child waits in line' => sub {
    my $app = FcgiApp->start(\&tell, workers => 4);
    my $httpd = start_httpd($app, children(2),
                            'max=1 keepalive=1 queue-timeout=5');
    my ($number, $go_on) = make_idle($httpd, $app);
    my $from = time;
    my $answer = Client->get($httpd->port, '/app/r');
    is($answer->status, 200, 'answered');
    like($answer->body, qr/^r connection=2 nr=1/, 'on a new connection');
    given_up($app, $number, $from, 'max=1');
    my $asked = $app->wait_report('r');
    cmp_ok($asked->{at} - $from, '<', $LIMIT, 'and the line moves on');
    $go_on->();
    $httpd->leave;
};

subtest 'another child cannot connect' => sub {
    my $dir = Private::temp_dir('moved');
    my $app = FcgiApp->start(\&tell, workers => 4, transport => 'unix',
                             socket => "$dir/app.sock");
    my $httpd = start_httpd($app, children(2), 'keepalive=2');
    my ($number, $go_on) = make_idle($httpd, $app);
    rename "$dir/app.sock", "$dir/elsewhere.sock" or die $!;
    my $from = time;
    my $conn = send_get($httpd, '/app/r');
    given_up($app, $number, $from, 'no socket');
    rename "$dir/elsewhere.sock", "$dir/app.sock" or die $!;
    my $answer = $conn->read_response;
    is($answer->status, 200, 'answered once the socket is there');
    $go_on->();
    $httpd->leave;
};

subtest 'the same child' => sub {
    plan skip_all => 'one request at a time' if Httpd::mpm() eq 'prefork';
    my $app = FcgiApp->start(\&tell, workers => 4);
    my $httpd = start_httpd($app, undef, 'keepalive=4');
    my @conns = map { send_get($httpd, '/app/begin') } 1, 2;
    ok($_->read_until(qr/begun/, 10), 'begun') for @conns;
    $app->release('begin');
    is($_->read_response->status, 200, 'answered') for @conns;
    # One of both is asked and breaks; the request is sent again on a new one.
    my $conn = send_get($httpd, '/app/die');
    my ($first, $second) = map { $app->wait_report('die') } 1, 2;
    is($first->{nr}, 2, 'an idle one is asked');
    is($second->{number}, 3, 'then a new one');
    my ($other) = grep { $_ != $first->{number} } 1, 2;
    given_up($app, $other, $conn->{sent_at}, 'the other one');
    $app->release('die');
    is($conn->read_response->status, 200, 'answered');
    is(scalar(grep { $_->[0] =~ /^closed/ } $app->reports), 1,
       'the new one is kept');
    $httpd->leave;
};

# ---- PHP-FPM: an idle connection takes one of its two workers ----

my $FOUR = <<'EOC';
StartServers 4
ServerLimit 4
ThreadLimit 16
ThreadsPerChild 16
MinSpareThreads 1
MaxSpareThreads 64
MaxRequestWorkers 64
EOC

# Clients in processes of their own, each one request after another; the
# statuses of all with how often they came.
sub ask_in_parallel {
    my ($port, $clients, $requests) = @_;
    my $dir = Private::temp_dir('clients');
    my @pids = map {
        my $client = $_;
        Private::spawn(code => sub {
            my @seen = map {
                my $id = "$client-$_";
                my $answer = Client->get($port, "/id.php?$id");
                ($answer->status // 'none') . ($answer->complete ? '' : ' cut')
                    . (($answer->body // '') eq "id $id" ? '' : ' wrong');
            } 1 .. $requests;
            Private::spew("$dir/$client.part", join "\n", @seen);
            rename "$dir/$client.part", "$dir/$client";
        });
    } 1 .. $clients;
    my $done = Private::wait_until(60, sub {
        (grep { -e "$dir/$_" } 1 .. $clients) == $clients;
    });
    Private::end($_, 'KILL') for @pids;
    my %count;
    $count{$_}++ for map { split /\n/, Private::slurp("$dir/$_") }
        1 .. $clients;
    return \%count;
}

my @mpms = $ENV{MPM} ? $ENV{MPM} : qw(event prefork);

for my $mpm (@mpms) {
    subtest "PHP-FPM, $mpm: 1000 requests of 50 clients" => sub {
        plan skip_all => 'no php-fpm here' if !PhpFpm::program();
        local $ENV{MPM} = $mpm;
        my $php = PhpFpm->start(children => 2);
        my $httpd = Httpd->start(
            mpm => $mpm eq 'prefork' ? children(4) : $FOUR,
            access_format => '%P %>s',
            files => {
                'id.php' => '<?php echo "id ", $_SERVER["QUERY_STRING"];',
                'sockets.php' => <<'EOP' },
<?php
foreach (glob('/proc/self/fd/*') as $fd) {
    echo @readlink($fd), ' ';
}
EOP
            vars => { PHP => $php->address }, config => <<'EOC');
FcgiBackend php @PHP@ keepalive=2 idle=60
FcgiTimeout 10
AddHandler fcgi:php .php
EOC
        my $from = time;
        my $count = ask_in_parallel($httpd->port, 50, 20);
        note sprintf '%.1f s', time - $from;
        is_deeply($count, { 200 => 1000 }, '1000 times 200, each its own');
        my %pids = map { $_ => 1 } $httpd->access_log =~ /^(\d+) /mg;
        cmp_ok(scalar keys %pids, '>', 1, 'by several children');
        # One client connection, so one child: its connection is kept, once
        # those that the others had are counted off.
        my $conn = Client->connect($httpd->port);
        my ($last, $times) = ('', 0);
        for (1 .. 30) {
            $conn->send("GET /sockets.php HTTP/1.1\r\nHost: x\r\n\r\n");
            my $body = $conn->read_response->body;
            my $sockets = join ' ', $body =~ /(socket:\S+)/g;
            $times = $sockets ne '' && $sockets eq $last ? $times + 1 : 1;
            $last = $sockets;
            last if $times == 5;
        }
        is($times, 5, 'and then five requests on one connection');
        $conn->close;
        $httpd->leave;
    };
}

Httpd->ok_left;
done_testing;
