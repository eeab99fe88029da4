# No more than max connections are made, and the others wait in a fair line.
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
use Time::HiRes qw(sleep time);

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $THREADED = Httpd::mpm() ne 'prefork';
my $AT_ONCE = 0.5;      # seconds, on a busy machine
my $SOON = 2;
my $PATIENCE = 20;

my $SEVERAL = Httpd::several(4);

# ---- the application ----

# Answers each request when it is released; those called "now" at once, and
# those called "soon" after some ms of work.
sub held {
    my ($c) = @_;
    while (my $request = $c->read_request(60)) {
        my $id = $request->{params}{QUERY_STRING};
        $c->report(begin => [$id, $c->number]);
        sleep 0.005 if $id =~ /^soon/;
        $c->wait_release($id, 30) if $id !~ /^(?:now|soon)/;
        $c->report(end => $id);
        $c->reply("$HEAD$id");
        last if !($request->{flags} & FCGI_KEEP_CONN);
    }
    return;
}

# It could serve more at a time than any max here.
sub start_app { return FcgiApp->start(\&held, workers => 8) }

sub next_begun {
    my ($app) = @_;
    my $begun = $app->wait_report('begin', $PATIENCE);
    return $begun ? $begun->[0] : 'nothing';
}

# The highest number of requests that it had at a time.
sub most_at_once {
    my ($app) = @_;
    my ($now, $most) = (0, 0);
    for my $report ($app->reports) {
        $now += { begin => 1, end => -1 }->{ $report->[0] } // 0;
        $most = $now if $now > $most;
    }
    return $most;
}

# ---- httpd and its clients ----

# Serves /line by the application with these keys of FcgiBackend.
sub start_httpd {
    my ($app, $keys, %opt) = @_;
    my $config = delete $opt{config} // '';
    return Httpd->start(
        vars => { APP => $app->handler }, config => <<"EOC", %opt);
FcgiBackend \@APP\@ $keys
<Location /line>
  SetHandler \@APP\@
</Location>
<Location /fcgi-status>
  SetHandler fcgi-status
</Location>
$config
EOC
}

sub send_request {
    my ($conn, $id) = @_;
    $conn->send("GET /line?$id HTTP/1.1\r\nHost: x\r\n"
                . "Connection: close\r\n\r\n");
    return $conn;
}

sub ask { return send_request(Client->connect($_[0]->port), $_[1]) }

sub count_in_line {
    my ($httpd) = @_;
    my $said = Client->get($httpd->port, '/fcgi-status?json')->body;
    return JSON::PP->new->decode($said)->{backends}[0]{waiting};
}

sub wait_in_line {
    my ($httpd, $count) = @_;
    my $waiting;
    Private::wait_until($PATIENCE, sub {
        $waiting = count_in_line($httpd);
        return $waiting == $count;
    });
    return is($waiting, $count, "$count stand in line");
}

sub is_answered {
    my ($conn, $id) = @_;
    my $answer = $conn->read_response(timeout => $PATIENCE);
    return is_deeply([@$answer{qw(status body complete)}], [200, $id, 1],
                     "$id is answered");
}

# A 503 that asks to come again.
sub is_refused {
    my ($answer, $why) = @_;
    is($answer->status, 503, "503: $why");
    return is($answer->header('Retry-After'), 1, 'with Retry-After');
}

sub ms { return sprintf '%.1f ms', 1000 * $_[0] }

# ---- the tests ----

subtest 'first come, first served' => sub {
    my $app = start_app();
    my $httpd = start_httpd($app, 'max=2 queue=6', mpm => $SEVERAL);
    my @ids = map { "r$_" } 1 .. 8;
    my %conn;
    for my $n (1 .. 8) {
        my $id = $ids[$n - 1];
        $conn{$id} = ask($httpd, $id);
        $n <= 2 ? is(next_begun($app), $id, "$id begins")
            : wait_in_line($httpd, $n - 2);
    }
    is($app->connections, 2, 'two connections for eight requests');
    for my $n (1 .. 8) {
        my $from = time;
        $app->release($ids[$n - 1]);
        if ($n <= 6) {
            is(next_begun($app), $ids[$n + 1], "$ids[$n + 1] is next");
            note 'handed on in ' . ms(time - $from);
        }
        is_answered($conn{ $ids[$n - 1] }, $ids[$n - 1]);
    }
    is(most_at_once($app), 2, 'never more than two at a time');
    is($app->connections, 8, 'each with a connection of its own');
    $httpd->leave;
};

subtest 'the line is full' => sub {
    for my $queue (2, 0) {
        my $app = start_app();
        my $httpd = start_httpd($app, "max=1 queue=$queue", mpm => $SEVERAL);
        my %conn = (runs => ask($httpd, 'runs'));
        is(next_begun($app), 'runs', "queue=$queue: one runs");
        for my $n (1 .. $queue) {
            $conn{"waits$n"} = ask($httpd, "waits$n");
            wait_in_line($httpd, $n);
        }
        for (1 .. 3) {
            my $from = time;
            my $answer = Client->get($httpd->port, '/line?full');
            my $took = time - $from;
            is_refused($answer, 'the line is full');
            cmp_ok($took, '<', $AT_ONCE, 'at once');
            note 'refused in ' . ms($took);
        }
        ok($httpd->wait_for_log(qr/:error\].*FCGI18:\ \S+:\ no\ place\ in\ phase
            \ queue:\ max\ connections\ are\ in\ use\ and\ the\ line\ is\ full
            \ .*\ 0\ bytes\ to\ and\ 0\ bytes\ from/x), 'the log says so');
        $app->release($_) for keys %conn;
        is_answered($conn{$_}, $_) for sort keys %conn;
        is_answered(ask($httpd, 'now'), 'now');
        is($app->connections, $queue + 2, 'nobody else got through');
        $httpd->leave;
    }
};

subtest 'queue-timeout' => sub {
    my $app = start_app();
    my $httpd = start_httpd($app, 'max=1 queue=1 queue-timeout=700ms',
                            mpm => $SEVERAL);
    my $runs = ask($httpd, 'runs');
    is(next_begun($app), 'runs', 'one runs');
    for (1, 2) {
        my $from = time;
        my $answer = Client->get($httpd->port, '/line?late');
        my $took = time - $from;
        is_refused($answer, 'its turn did not come');
        cmp_ok($took, '>=', 0.7, 'not before the time');
        cmp_ok($took, '<', 0.7 + $SOON, 'and then');
        note 'refused in ' . ms($took);
        wait_in_line($httpd, 0);
    }
    ok($httpd->wait_for_log(qr/FCGI18:\ \S+:\ no\ place\ in\ phase\ queue:
        \ its\ turn\ did\ not\ come\ within\ queue-timeout/x),
       'the log says so');
    my $waits = ask($httpd, 'waits');
    wait_in_line($httpd, 1);
    $app->release($_) for qw(runs waits);
    is_answered($runs, 'runs');
    is(next_begun($app), 'waits', 'a later one has its turn');
    is_answered($waits, 'waits');
    $httpd->leave;
};

subtest 'a client leaves the line' => sub {
    my $app = start_app();
    my $httpd = start_httpd($app, 'max=1 queue=1', mpm => $SEVERAL);
    my $runs = ask($httpd, 'runs');
    is(next_begun($app), 'runs', 'one runs');
    for my $n (1 .. 3) {
        my $leaves = ask($httpd, "leaves$n");
        wait_in_line($httpd, 1);
        $n == 2 ? $leaves->reset : $leaves->close;
        ok(Private::wait_until($PATIENCE, sub {
            my @gone = $httpd->error_log =~ /FCGI09: \S+: client gone in phase queue/g;
            @gone == $n;
        }), "client $n has left");
    }
    my $waits = ask($httpd, 'waits');
    wait_in_line($httpd, 1);
    $app->release($_) for qw(runs waits);
    is_answered($runs, 'runs');
    is(next_begun($app), 'waits', 'who is there has its turn');
    is_answered($waits, 'waits');
    is($app->connections, 2, 'the application saw nobody else');
    $httpd->leave;
};

# One child, as only its own requests can use its connections.
subtest 'a connection is handed on in line' => sub {
    my $app = start_app();
    my $httpd = start_httpd($app, 'max=1 keepalive=1');
    my @ids = map { "r$_" } 1 .. 5;
    my %conn;
    for my $n (0 .. 4) {
        $conn{ $ids[$n] } = ask($httpd, $ids[$n]);
        $n ? wait_in_line($httpd, $n) : is(next_begun($app), 'r1', 'r1 runs');
    }
    for my $n (0 .. 4) {
        $app->release($ids[$n]);
        is_answered($conn{ $ids[$n] }, $ids[$n]);
        is(next_begun($app), $ids[$n + 1], "$ids[$n + 1] is next") if $n < 4;
    }
    is(most_at_once($app), 1, 'never more than one at a time');
    $THREADED
        ? is($app->connections, 1, 'one connection served all')
        : is($app->connections, 5, 'each child had its own connection');
    $httpd->leave;
};

subtest 'every end gives the place back' => sub {
    my %story = (
        broken => sub { $_[0]->close },
        cut    => sub { $_[0]->stdout("${HEAD}x"); $_[0]->close },
        silent => sub { $_[0]->wait_eof(20) },
        leaves => sub { $_[0]->report(has => 1); $_[0]->wait_eof(20) },
        fine   => sub { $_[0]->reply("${HEAD}fine") },
    );
    my $app = FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request(20) or return;
        $story{ $request->{params}{QUERY_STRING} }->($c);
    }, workers => 4);
    for my $keys ('max=1 queue=0', 'max=1 queue=1 queue-timeout=1 keepalive=1') {
        my $httpd = start_httpd($app, $keys, mpm => $SEVERAL,
                                config => 'FcgiTimeout 1');
        my %status = (broken => 502, cut => 200, silent => 504, fine => 200);
        for my $end (sort keys %story) {
            if ($end eq 'leaves') {
                my $conn = ask($httpd, $end);
                ok($app->wait_report('has', $PATIENCE), 'the client leaves');
                $conn->reset;
                ok($httpd->wait_for_log(qr/FCGI09/), 'which is seen');
            }
            else {
                my $answer = Client->get($httpd->port, "/line?$end");
                is($answer->status, $status{$end}, "$keys: $end");
            }
            my $answer;
            Private::wait_until($SOON, sub {
                $answer = Client->get($httpd->port, '/line?fine');
                $answer->status == 200;
            });
            is($answer->status, 200, 'the next one has the place');
        }
        $httpd->leave;
    }
};

# The child that has the other end of a client's connection.
sub child_of {
    my ($httpd, $conn) = @_;
    my $ends = sprintf ':%04X 0100007F:%04X', $httpd->port, $conn->port;
    my ($inode) = Private::slurp('/proc/net/tcp')
        =~ /\Q$ends\E(?: +\S+){6} +(\d+)/ or return;
    for my $pid ($httpd->pids) {
        return $pid if grep { (readlink // '') eq "socket:[$inode]" }
            glob "/proc/$pid/fd/*";
    }
    return;
}

# Idle connections to httpd, by the child that has accepted them: so many of
# children, with so many each.
sub spread {
    my ($httpd, $children, $each) = @_;
    my (%conns, @enough);
    for (1 .. 12) {
        my $conn = Client->connect($httpd->port);
        my $pid = Private::wait_until($PATIENCE, sub {
            child_of($httpd, $conn);
        }) or die 'nobody accepts';
        push @{ $conns{$pid} }, $conn;
        @enough = grep { @{ $conns{$_} } >= $each } keys %conns;
        last if @enough >= $children;
    }
    die 'all in one child' if @enough < $children;
    return map { [$_, @{ $conns{$_} }] } @enough;
}

subtest 'an idle connection of another child takes no place' => sub {
    my $app = start_app();
    my $httpd = start_httpd($app, 'max=1 queue=0 keepalive=1',
                            mpm => $SEVERAL);
    my @conns = map { $_->[1] } spread($httpd, 2, 1);
    for my $conn (@conns) {
        send_request($conn, 'now');
        is_answered($conn, 'now');
    }
    is($app->connections, 2, 'each child makes its own');
    $httpd->leave;
};

# One of the killed ones runs, the other is the first in line.
subtest 'a child is killed' => sub {
    my $app = start_app();
    my $httpd = start_httpd($app, 'max=1', mpm => $SEVERAL);
    my (@dies, $stays);
    if ($THREADED) {
        my ($one, $two) = spread($httpd, 2, 2);
        @dies = ([@$one[0, 1]], [@$one[0, 2]]);
        $stays = $two->[1];
    }
    else {
        (@dies[0, 1], my $three) = spread($httpd, 3, 1);
        $stays = $three->[1];
    }
    send_request($dies[0][1], 'dies1');
    is(next_begun($app), 'dies1', 'one runs');
    send_request($dies[1][1], 'dies2');
    wait_in_line($httpd, 1);
    send_request($stays, 'stays');
    wait_in_line($httpd, 2);
    kill 'STOP', $httpd->pid; # so that no new child takes its number over
    my $from = time;
    kill 'KILL', map { $_->[0] } @dies;
    is(next_begun($app), 'stays', 'the one of another child has its turn');
    my $took = time - $from;
    cmp_ok($took, '<', $SOON, 'soon');
    note 'given back in ' . ms($took);
    kill 'CONT', $httpd->pid;
    $app->release('stays');
    is_answered($stays, 'stays');

    # what it held is given back once, not twice
    my @conns = (ask($httpd, 'r1'));
    is(next_begun($app), 'r1', 'then another one');
    push @conns, ask($httpd, 'r2');
    wait_in_line($httpd, 1);
    $app->release($_) for qw(r1 r2);
    is_answered($conns[$_], 'r' . ($_ + 1)) for 0, 1;
    $httpd->stop_gracefully;
    unlike($httpd->words =~ s/exit signal Killed//gr,
           qr/exit signal|Sanitizer|runtime error/, 'no other child crashed');
};

subtest 'children of before a graceful restart count' => sub {
    my $app = start_app();
    my $httpd = start_httpd($app, 'max=2', mpm => $SEVERAL,
                            config => 'GracefulShutdownTimeout 0');
    my %conn = map { $_ => ask($httpd, $_) } qw(old1 old2);
    is_deeply([sort map { next_begun($app) } 1, 2], [qw(old1 old2)],
              'two run');
    $conn{old3} = ask($httpd, 'old3');
    wait_in_line($httpd, 1);
    my %old = map { $_ => 1 } $httpd->pids;
    $httpd->graceful;
    ok(Private::wait_until($PATIENCE, sub { grep { !$old{$_} } $httpd->pids }),
       'new children');
    $conn{new1} = ask($httpd, 'new1');
    wait_in_line($httpd, 2);
    is($app->connections, 2, 'no third connection');
    for my $pair ([old1 => 'old3'], [old2 => 'new1']) {
        $app->release($pair->[0]);
        is_answered($conn{ $pair->[0] }, $pair->[0]);
        is(next_begun($app), $pair->[1], "$pair->[1] has its turn");
    }
    $app->release($_) for qw(old3 new1);
    is_answered($conn{$_}, $_) for qw(old3 new1);
    is(most_at_once($app), 2, 'never more than two at a time');
    $httpd->leave;
};

# Asks one after another; writes the answers that were not right to a file.
sub ask_often {
    my ($httpd, $file, $name, $count) = @_;
    my @wrong;
    for my $n (1 .. $count) {
        my $answer = ask($httpd, "soon-$name-$n")->read_response(
            timeout => $PATIENCE);
        push @wrong, join(' ', "soon-$name-$n", $answer->status // 'none',
                          $answer->error // '') . "\n"
            if !$answer->complete || $answer->body ne "soon-$name-$n";
    }
    Private::spew($file, join '', @wrong, "end\n");
    return;
}

# httpd itself may drop a connection that such a child has just accepted: that is
# no matter of ours, as long as the application was not asked. It should be rare
# among the twenty children that end.
subtest 'children that end after a few connections' => sub {
    for my $keys ('max=2 keepalive=2') {
        my $app = start_app();
        my $httpd = start_httpd($app, $keys, mpm => $SEVERAL,
                                config => 'MaxConnectionsPerChild 4');
        my %before = map { $_ => 1 } $httpd->pids;
        my $dir = Private::temp_dir('load');
        for my $name (1 .. 5) {
            Private::spawn(code => sub {
                ask_often($httpd, "$dir/$name", $name, 16);
            });
        }
        ok(Private::wait_until(2 * $PATIENCE, sub {
            !grep { Private::slurp("$dir/$_") !~ /^end$/m } 1 .. 5;
        }), "$keys: all clients come to their end");
        my @wrong = grep { $_ ne 'end' }
            map { split /\n/, Private::slurp("$dir/$_") } 1 .. 5;
        my %seen = map { $_->[1][0] => 1 }
            grep { $_->[0] eq 'begin' } $app->reports;
        my @dropped = grep { /^(\S+) none/ && !$seen{$1} } @wrong;
        is_deeply([grep { !/^(\S+) none/ || $seen{$1} } @wrong], [],
                  'every request is answered');
        cmp_ok(scalar @dropped, '<=', 10, 'httpd dropped ' . @dropped);
        is(most_at_once($app), 2, 'two at a time, and never more');
        ok(Private::wait_until($PATIENCE, sub {
            my @left = grep { $before{$_} } $httpd->pids;
            @left < keys %before;
        }), 'some children have ended');
        $httpd->leave;
    }
};

subtest 'streams of HTTP/2' => sub {
    plan skip_all => 'HTTP/2 needs threads' if !$THREADED;
    plan skip_all => 'no nghttp here' if !-x '/usr/bin/nghttp';
    my $app = start_app();
    my $httpd = start_httpd($app, 'max=1', http2 => 1);
    my $dir = Private::temp_dir('h2');
    my $start = sub {
        my ($name, @ids) = @_;
        my $url = 'http://127.0.0.1:' . $httpd->port . '/line?';
        return Private::spawn(log => "$dir/$name", exec => [
            'nghttp', '-v', map { "$url$_" } @ids]);
    };
    my $client = $start->('one', 1 .. 4);
    my $first = next_begun($app);
    wait_in_line($httpd, 3);
    is($app->connections, 1, 'one of four streams runs');
    for my $n (1 .. 4) {
        $app->release($first);
        $first = next_begun($app) if $n < 4;
    }
    ok(Private::wait_until($PATIENCE, sub { !Private::alive($client) }),
       'the client ends');
    my @good = Private::slurp("$dir/one") =~ /:status: 200/g;
    is(scalar @good, 4, 'all are answered');
    is(most_at_once($app), 1, 'one at a time');

    $client = $start->('two', 11 .. 14);
    like(next_begun($app), qr/^1[1-4]$/, 'again one runs');
    wait_in_line($httpd, 3);
    Private::end($client, 'KILL');
    my $conn = ask($httpd, 'now');
    is(next_begun($app), 'now', 'who leaves does not keep others waiting');
    is_answered($conn, 'now');
    is($app->connections, 6, 'and asks the application nothing');
    $httpd->leave;
};

Httpd->ok_left;
done_testing;
