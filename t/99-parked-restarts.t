# Requests that wait without a thread outlive a graceful restart, and a stop ends them.
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
use Time::HiRes qw(sleep time);

plan skip_all => 'it takes the event MPM of httpd 2.4.63 or later'
    if !Httpd::can_park();

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $COUNT = 12;

# Answers when the test says so; "left" when httpd leaves before.
sub serve {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $name = $request->{params}{QUERY_STRING};
    $c->report(begun => $name);
    Private::wait_until(30, sub {
        $c->readable(0.05) || $c->wait_release("go $name", 0);
    });
    return $c->report(left => $name) if $c->readable;
    return $c->reply("${HEAD}held $name");
}

my $app = FcgiApp->start(\&serve, workers => $COUNT + 2);

sub start {
    my (%opt) = @_;
    return Httpd->start(
        vars => { APP => $app->handler }, files => { 'a.txt' => 'static' },
        log_level => 'info fastcgi_handler:trace4', %opt,
        config => ($opt{config} // '') . <<'EOC');
FcgiPark 20ms
<Location /app>
  SetHandler @APP@
</Location>
EOC
}

# Requests that wait, of that name.
sub begin {
    my ($httpd, $name, $count) = @_;
    my $seen = parked($httpd);
    my @conns = map { Client->connect($httpd->port) } 1 .. $count;
    $_->send("GET /app?$name HTTP/1.1\r\nHost: x\r\n\r\n") for @conns;
    $app->wait_report('begun') or die 'not begun' for @conns;
    ok(Private::wait_until(10, sub { parked($httpd) == $seen + $count }),
       "$name: $count wait without a thread");
    return @conns;
}

sub parked {
    my ($httpd) = @_;
    my $count = () = $httpd->error_log =~ /waits without a thread/g;
    return $count;
}

sub are_answered {
    my ($name, @conns) = @_;
    $app->release("go $name");
    is(scalar(grep { $_->read_response->body eq "held $name" } @conns),
       scalar(@conns), "$name: all are answered");
    $_->close for @conns;
    return;
}

# A line may be written a moment after its answer.
sub are_logged_once {
    my ($httpd, $regex, $count) = @_;
    my $lines = sub { scalar(() = $httpd->access_log =~ /$regex/mg) };
    Private::wait_until(10, sub { $lines->() >= $count });
    return is($lines->(), $count, 'each is logged once');
}

subtest 'graceful restart' => sub {
    my $httpd = start();
    my @waiting = begin($httpd, 'restart', $COUNT);
    $httpd->graceful for 1 .. 3;
    is(Client->get($httpd->port, '/a.txt')->body, 'static',
       'the new children serve');
    are_answered('restart', @waiting);
    are_logged_once($httpd, qr{"GET /app\?restart HTTP/1.1" 200}, $COUNT);
    $httpd->ok_healthy;
};

subtest 'graceful stop' => sub {
    my $httpd = start();
    my @waiting = begin($httpd, 'finish', $COUNT);
    kill 'WINCH', $httpd->pid;
    are_answered('finish', @waiting);
    ok(Private::wait_until(5, sub { !Private::alive($httpd->pid) }),
       'then it is over');
    $httpd->ok_healthy;
};

subtest 'stop' => sub {
    my $httpd = start();
    my @waiting = begin($httpd, 'stop', $COUNT);
    kill 'TERM', $httpd->pid;
    my $left = grep { ($app->wait_report('left', 10) // '') eq 'stop' }
        @waiting;
    is($left, $COUNT, 'the application is left');
    is(scalar(grep { $_->at_eof(5) } @waiting), $COUNT,
       'and so are the clients');
    ok(Private::wait_until(10, sub { !Private::alive($httpd->pid) }),
       'it is over');
    ok($httpd->healthy, 'no child crashed') or diag($httpd->words);
};

subtest 'MaxConnectionsPerChild' => sub {
    my $httpd = start(config => "MaxConnectionsPerChild 4\n");
    my @waiting = begin($httpd, 'few', 2);
    is(Client->get($httpd->port, '/a.txt')->body, 'static', 'the last one');
    is(Client->get($httpd->port, '/a.txt')->body, 'static',
       'another child serves');
    are_answered('few', @waiting);
    $httpd->ok_healthy;
};

# How many a process has open, once that does not change, of those that such a
# low limit is about.
sub settled_descriptors {
    my ($pid) = @_;
    my ($count, $same) = (0, 0);
    Private::wait_until(10, sub {
        my $now = grep { m{/\d\d?$} } glob("/proc/$pid/fd/*");
        $same = $now == $count ? $same + 1 : 0;
        $count = $now;
        return $same > 20;
    });
    return $count;
}

# Four requests that came too late for their child take all its threads, if
# they may; then the two that wait already would never go on.
subtest 'the last requests of a child' => sub {
    my $httpd = start(
        vars => { APP => $app->handler, ADDRESS => $app->address },
        config => "FcgiBackend \@ADDRESS\@ max=1\n", mpm => <<'EOC');
StartServers 1
ServerLimit 4
ThreadLimit 4
ThreadsPerChild 4
MinSpareThreads 1
MaxSpareThreads 4
MaxRequestWorkers 4
AsyncRequestWorkerFactor 10
EOC
    my ($child) = $httpd->pids;
    my ($first) = begin($httpd, 'last', 1);
    my $second = Client->connect($httpd->port);
    my $request = "GET /app?last HTTP/1.1\r\nHost: x\r\n\r\n";
    $second->send($request);
    ok(Private::wait_until(10, sub { parked($httpd) == 2 }),
       'one waits for the application, and one in line');
    my $before = settled_descriptors($child);
    my @late = map { Client->connect($httpd->port) } 1 .. 4;
    $_->send('GET') for @late;
    ok(Private::wait_until(10, sub {
        settled_descriptors($child) == $before + 4;
    }), 'four more come to its threads');
    $httpd->graceful;
    $_->send(substr $request, 3) for @late;
    ok(Private::wait_until(10, sub { parked($httpd) == 6 }),
       'and give them back, though the child ends');
    are_answered('last', $first, $second, @late);
    $app->wait_report('begun') for $second, @late;
    ok(Private::wait_until(10, sub { !Private::alive($child) }),
       'then it has ended');
    $httpd->ok_healthy;
};

subtest 'killed child' => sub {
    my $httpd = start();
    my @waiting = begin($httpd, 'killed', 3);
    ok($httpd->kill_children($httpd->pids), 'the child is killed');
    my $left = grep { ($app->wait_report('left', 10) // '') eq 'killed' }
        @waiting;
    is($left, 3, 'the application is left');
    ok(Private::wait_until(10, sub {
        (Client->get($httpd->port, '/a.txt')->body // '') eq 'static';
    }), 'the next child serves');
    ok(kill(0, $httpd->pid), 'httpd goes on');
    $httpd->stop_gracefully;
};

# Longer than Timeout, after which httpd would close the connection.
subtest 'Timeout' => sub {
    my $httpd = start(config => "Timeout 2\n");
    my ($conn) = begin($httpd, 'long', 1);
    ok(!$conn->read_until(qr/./, 5), 'five seconds without a word');
    are_answered('long', $conn);
    $httpd->ok_healthy;
};

# A server whose child can open so many descriptors more, or undef.
sub start_with_descriptors {
    my ($count, %opt) = @_;
    my $roomy = start(%opt);
    my $open = settled_descriptors($roomy->pids);
    $roomy->stop;
    my ($limit) = Private::slurp('/proc/self/limits') =~ /open files +(\d+)/;
    my $set = sub { system('prlimit', "--pid=$$", "--nofile=$_[0]:") };
    return undef if $set->($limit);
    $set->($open + $count);
    my $httpd = start(%opt);
    $set->($limit);
    settled_descriptors($httpd->pids);
    return $httpd;
}

# A request takes two descriptors, and two more when it waits.
subtest 'no descriptors left' => sub {
    my $httpd = start_with_descriptors(11)
        or plan skip_all => 'no prlimit here';
    my @conns = begin($httpd, 'poor', 2);
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /app?poor HTTP/1.1\r\nHost: x\r\n\r\n");
    is($app->wait_report('begun'), 'poor', 'a third has the application');
    ok($httpd->wait_for_log(qr/FCGI35/), 'the log says that it holds a thread');
    are_answered('poor', $conn, @conns);
    my $count = () = $httpd->error_log =~ /FCGI35/g;
    is($count, 1, 'once');
    $httpd->ok_healthy;
};

# Here even the first of the two is missing.
subtest 'no descriptor for a connection' => sub {
    my $httpd = start_with_descriptors(4, config => <<'EOC')
FcgiConnectTimeout 20s
<Directory @DOCROOT@>
  AllowOverride None
</Directory>
EOC
        or plan skip_all => 'no prlimit here';
    my ($conn, @others) = map { Client->connect($httpd->port) } 1 .. 4;
    settled_descriptors($httpd->pids);
    $conn->send("GET /app?patient HTTP/1.1\r\nHost: x\r\n\r\n");
    ok(!$conn->read_until(qr/./, 1), 'it is waited for');
    $_->close for @others;
    is($app->wait_report('begun'), 'patient', 'and then the request is sent');
    are_answered('patient', $conn);
    $httpd->ok_healthy;
};

done_testing();
