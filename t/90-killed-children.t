# Children killed at any moment leave the others max connections, not one more.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use IO::Poll qw(POLLIN);
use List::Util qw(shuffle);
use Private;
use Test::More;
use Time::HiRes qw(sleep time);

my $MAX = 3;
my $CLIENTS = 8;
my $THREADS = 4;                # of a child
my $SECONDS = 8;                # of killing
my $KILL_EVERY = 0.25;

# The kernel tells that a child is dead some microseconds before it closes the
# sockets of that child, and this machine may be slow.
my $CLOSING = 0.25;

# Linux has it, Perl does not know it: the peer has closed, whatever is still
# to be read.
my $POLLRDHUP = 0x2000;

my $threads = <<"EOC";
StartServers 6
ServerLimit 16
ThreadLimit $THREADS
ThreadsPerChild $THREADS
MinSpareThreads 20
MaxSpareThreads 64
MaxRequestWorkers 64
EOC
my %mpm = (event => $threads, worker => $threads, prefork => <<'EOC');
StartServers 12
ServerLimit 32
MinSpareServers 8
MaxSpareServers 32
MaxRequestWorkers 32
EOC

# ---- the application: one process, which sees all its connections ----

# Accepts all that wait, then asks all at once which are closed: the others
# were open at one moment.
sub count_open {
    my ($app) = @_;
    while (my $socket = $app->{listener}->accept) {
        $socket->blocking(1);
        my $c = FcgiApp::Connection->new($socket);
        $app->{conns}{ ++$app->{accepted} } = $c;
    }
    my $poll = IO::Poll->new;
    my $conns = $app->{conns};
    $poll->mask($_->{socket} => $POLLRDHUP) for values %$conns;
    $poll->poll(0) if %$conns;
    $_->{open} = !$poll->events($_->{socket}) for values %$conns;
    return scalar grep { $_->{open} } values %$conns;
}

# More than there may be: those must be gone soon, as those of killed children
# are, and by nothing else: no request is answered until then.
sub watch_open {
    my ($app) = @_;
    my $open = count_open($app);
    $app->{most} = $open if $open > $app->{most};
    if ($open <= $MAX) {
        $app->{above_since} = 0;
    }
    elsif (!$app->{above_since}) {
        $app->{above_since} = time;
        $app->{moments}++;
    }
    elsif (time > $app->{above_since} + $CLOSING) {
        $app->append_report(above => $open);
        $app->{above_since} = time;
    }
    return;
}

# What is there of a connection without a request: the next one, or its end.
sub take_request {
    my ($app, $number) = @_;
    my $c = $app->{conns}{$number};
    my $request = eval { $c->read_request(5) };
    return delete $app->{conns}{$number}
        if !$request || !$request->{stdin_complete};
    my ($hold) = $request->{params}{QUERY_STRING} =~ /hold=([\d.]+)/;
    $c->{due} = time + ($hold // 0);
    $c->{answer} = $request->{params}{QUERY_STRING};
    $app->append_report(slow => $number) if $c->{answer} =~ /slow/;
    $c->{keep} = $request->{flags} & FCGI_KEEP_CONN;
    $app->{again}++ if $c->{requests}++;
    return;
}

# Those that ask for company are answered when $MAX of them are here.
sub join_together {
    my ($app) = @_;
    my @alone = grep { $_->{due} && $_->{answer} =~ /together/ }
        values %{ $app->{conns} };
    return if @alone < $MAX;
    @$_{qw(due answer)} = (time, 'all are here') for @alone;
    return;
}

sub answer_due {
    my ($app) = @_;
    for my $number (keys %{ $app->{conns} }) {
        my $c = $app->{conns}{$number};
        next if !$c->{due} || $c->{due} > time;
        $c->{due} = 0;
        my $sent = $c->reply("Content-Type: text/plain\r\n\r\n$c->{answer}");
        delete $app->{conns}{$number} if !$sent || !$c->{keep};
    }
    return;
}

# Waits for something to do, for a few milliseconds.
sub wait_for_work {
    my ($app) = @_;
    my $conns = $app->{conns};
    my $poll = IO::Poll->new;
    $poll->mask($app->{listener} => POLLIN);
    $poll->mask($_->{socket} => POLLIN)
        for grep { !$_->{due} } values %$conns;
    $poll->poll(0.003);
    return grep {
        !$conns->{$_}{due} && $poll->events($conns->{$_}{socket})
    } keys %$conns;
}

sub be_application {
    my ($app) = @_;
    $SIG{PIPE} = 'IGNORE';
    @$app{qw(conns accepted again most above_since moments)} = ({}, (0) x 5);
    while (getppid == $app->{owner}) {
        my @readable = wait_for_work($app);
        watch_open($app);
        take_request($app, $_) for @readable;
        join_together($app);
        answer_due($app) if !$app->{above_since};
        if (-e $app->gate('end')) {
            $app->append_report(
                seen => { %$app{qw(accepted again most moments)} });
            return;
        }
    }
    return;
}

# ---- the clients ----

# Requests until the test says stop; one line a request in a file of its own.
sub be_client {
    my ($port, $dir, $number) = @_;
    srand $number;
    open my $out, '>', "$dir/client.$number" or die $!;
    for (my $i = 0; !-e "$dir/stop"; $i++) {
        my $query = sprintf 'hold=%.3f&%d-%d', 0.005 + rand 0.035, $number,
            $i;
        my $from = time;
        my $answer = Client->get($port, "/app?$query");
        my $status = $answer->status // 0;
        my $end = !$answer->complete ? $answer->error
            : $status == 200 && $answer->body ne $query ? 'wrong' : 'complete';
        printf $out "%.6f %.6f %d %s\n", $from, time, $status, $end;
    }
    close $out or die $!;
    return;
}

# [from, to, status, end] of every request of every client.
sub read_results {
    my ($dir) = @_;
    return map { [split] }
        map { split /\n/, Private::slurp("$dir/client.$_") } 1 .. $CLIENTS;
}

# Kills children at random; returns when.
sub kill_children {
    my ($httpd) = @_;
    my $until = time + $SECONDS;
    my @times;
    while (time < $until) {
        sleep $KILL_EVERY;
        my @pids = living($httpd);
        next if @pids < 2;
        push @times, time;
        kill 'KILL', $pids[rand @pids];
    }
    return @times;
}

# No whole answer, and a child was killed while it was waited for.
sub is_victim {
    my ($result, @kills) = @_;
    my ($from, $to, undef, $end) = @$result;
    return $end =~ /^(?:closed|reset)$/
        && grep { $_ > $from - 0.1 && $_ < $to } @kills;
}

sub send_get {
    my ($httpd, $query) = @_;
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /app?$query HTTP/1.1\r\nHost: x\r\n"
                . "Connection: close\r\n\r\n");
    return $conn;
}

# The children that the parent has not to bury yet.
sub living {
    my ($httpd) = @_;
    return grep { Private::slurp("/proc/$_/stat") =~ /\) [^Z]/ } $httpd->pids;
}

# All places are taken, and half of the children are killed by surprise while
# the parent cannot put others in their stead, which would clear what the dead
# ones left. Returns how many places got free by that, and the status of as
# many requests to the children that are left.
sub kill_without_heirs {
    my ($httpd, $app) = @_;
    my @slow = map { send_get($httpd, "hold=60&slow") } 1 .. $MAX;
    my $inside = grep { defined } map { $app->wait_report('slow', 10) } @slow;
    my @pids;
    Private::wait_until(20, sub { (@pids = living($httpd)) >= 4 });
    kill 'STOP', $httpd->pid;
    $httpd->kill_children((shuffle @pids)[0 .. @pids / 2 - 1])
        or diag 'not all are over';
    my $gone = grep { $_->at_eof(0.5) } @slow;
    my @status = map { Client->get($httpd->port, '/app?hold=0')->status }
        1 .. $gone;
    kill 'CONT', $httpd->pid;
    $_->close for @slow;
    return ($inside, $gone, @status);
}

# ---- the story ----

my $dir = Private::temp_dir('killed');
my $app = FcgiApp->start(sub { }, workers => 0);
Private::spawn(code => sub { be_application($app) });
my $httpd = Httpd->start(
    mpm => $mpm{ Httpd::mpm() }, vars => { APP => $app->address },
    config => <<"EOC");
FcgiBackend \@APP\@ max=$MAX queue=100 queue-timeout=20 keepalive=2
<Location /app>
  SetHandler fcgi:\@APP\@
</Location>
EOC

is(Client->get($httpd->port, '/app?hold=0')->status, 200, 'it works before');
my @clients = map {
    my $number = $_;
    Private::spawn(code => sub { be_client($httpd->port, $dir, $number) });
} 1 .. $CLIENTS;
my @kills = kill_children($httpd);
Private::spew("$dir/stop", '');
ok(Private::wait_until(40, sub { !grep { Private::alive($_) } @clients }),
   'every client comes to its end');

my @after;
do {
    push @after, Client->get($httpd->port, '/app?hold=0')->status;
} while ($after[-1] && $after[-1] == 200 && @after < 20);
is_deeply(\@after, [(200) x 20], 'afterwards every request works');

for my $round (1 .. 3) {
    my @conns = map { send_get($httpd, 'hold=3&together') } 1 .. $MAX;
    my @bodies = map { $_->read_response->body } @conns;
    is_deeply(\@bodies, [('all are here') x $MAX],
              "and $MAX are in the application at a time");
}

my ($inside, $gone, @status);
for my $try (1 .. 20) {
    ($inside, $gone, @status) = kill_without_heirs($httpd, $app);
    last if $inside < $MAX || $gone;
}
is($inside, $MAX, 'all places are taken');
cmp_ok($gone, '>', 0, 'some of those children are killed');
is_deeply(\@status, [(200) x $gone],
          'the others have their places without a new child');

my @results = read_results($dir);
my @whole = grep { $_->[2] == 200 && $_->[3] eq 'complete' } @results;
my @victims = grep { is_victim($_, @kills) } @results;
my @others = grep {
    ($_->[2] != 200 || $_->[3] ne 'complete') && !is_victim($_, @kills)
} @results;
note(sprintf '%d kills, %d whole answers, %d victims', scalar @kills,
     scalar @whole, scalar @victims);
is_deeply(\@others, [],
          'who did not lose its child got the whole of its answer');
cmp_ok(@kills, '>=', 10, 'many children were killed');
cmp_ok(@whole, '>=', 100, 'many requests were served');
cmp_ok(@victims, '>', 0, 'some children were killed at work');
cmp_ok(@victims, '<=', $THREADS * @kills, 'nobody else lost its connection');

$app->release('end');
my $seen = $app->wait_report('seen');
note("$seen->{accepted} connections, $seen->{again} requests more on them, "
     . "$seen->{most} at a time, $seen->{moments} moments above max");
is_deeply([map { $_->[1] } grep { $_->[0] eq 'above' } $app->reports], [],
          "never more than $MAX connections");
cmp_ok($seen->{most}, '>=', $MAX, 'all of them were used');
# With one request at a time in a child, it would have to come back there.
cmp_ok($seen->{again}, '>=', 10, 'and used again')
    if Httpd::mpm() ne 'prefork';

$httpd->stop_gracefully;
my $words = $httpd->words;
my @ends = $words =~ /exit signal ([^\n,]*)/g;
is_deeply([grep { !/^Killed \(9\)/ } @ends], [],
          'no child ended but those that were killed');
cmp_ok(@ends, '<=', @kills, 'and not one more');
unlike($words, qr/Sanitizer|: runtime error:|FCGI21|FCGI22/,
       'nobody has anything to say about the rest') or diag($words);
done_testing();
