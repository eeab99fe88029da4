# A connection is kept only when it is quiet, and only as many as may be.
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
use Time::HiRes qw(time);

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $SECRET = "${HEAD}SECRET";

# One process of httpd serves all requests.
my $ONE = Httpd::mpm() eq 'prefork' ? <<'EOC' : undef;
StartServers 1
ServerLimit 4
MinSpareServers 1
MaxSpareServers 1
MaxRequestWorkers 1
EOC

# Four of them, four requests each, or sixteen with prefork.
my $FOUR = Httpd::mpm() eq 'prefork' ? <<'EOC' : <<'EOC';
StartServers 16
ServerLimit 16
MinSpareServers 1
MaxSpareServers 16
MaxRequestWorkers 16
EOC
StartServers 4
ServerLimit 4
ThreadLimit 4
ThreadsPerChild 4
MinSpareThreads 1
MaxSpareThreads 16
MaxRequestWorkers 16
EOC

# What the answer says: who was asked, and how.
sub words {
    my ($c, $request, $nr) = @_;
    return "$HEAD$request->{params}{REQUEST_URI}"
        . " connection=" . $c->number . " nr=$nr flags=$request->{flags}"
        . " stdin=" . length $request->{stdin};
}

# That of the request before.
sub other_id { return $_[0]{id} + 7 }

# A whole answer as bytes, with what END_REQUEST has.
sub answer {
    my ($c, $words, $end) = @_;
    return $c->records(FCGI_STDOUT, $c->{id}, $words)
        . $c->record(FCGI_STDOUT, $c->{id}) . ($end // $c->end_record);
}

sub end_with {
    my ($c, $padding) = @_;
    return $c->record(FCGI_END_REQUEST, $c->{id}, "\0" x 8, $padding);
}

# Stories that differ from a plain answer; each returns false if nothing more
# is to be read from the connection.
my %story = (
    'close' => sub { $_[0]->send(answer(@_)); 0 },
    'late-byte' => sub { $_[0]->send(answer(@_) . 'x') },
    'second-answer' => sub {
        $_[0]->send(answer(@_) . answer($_[0], $SECRET));
    },
    'wrong-id' => sub {
        my ($c, $words) = @_;
        $c->send($c->records(FCGI_STDOUT, other_id($c), $SECRET) . answer($c, $words));
    },
    'wrong-id-after' => sub {
        my ($c, $words) = @_;
        $c->send(answer($c, $words) . $c->records(FCGI_STDOUT, other_id($c), $SECRET));
    },
    'unknown-after' => sub {
        my ($c, $words) = @_;
        $c->send(answer($c, $words) . $c->record(99, $c->{id}, $SECRET));
    },
    'management-after' => sub {
        my ($c, $words) = @_;
        $c->send(answer($c, $words)
                 . $c->record(FCGI_UNKNOWN_TYPE, 0, "\0" x 8));
    },
    'wrong-end' => sub {
        my ($c, $words) = @_;
        $c->send($c->record(FCGI_END_REQUEST, other_id($c), "\0" x 8)
                 . answer($c, $words));
    },
    'idle-byte' => sub { send_idle(@_, 'x') },
    'idle-answer' => sub { send_idle(@_, answer($_[0], $SECRET)) },
    'idle-end' => sub { send_idle(@_, $_[0]->end_record) },
    'idle-record' => sub {
        send_idle(@_, $_[0]->records(FCGI_STDOUT, other_id($_[0]), $SECRET));
    },
    'padded' => sub { $_[0]->send(answer(@_, end_with($_[0], 255))) },
    'padding-cut' => sub {
        my ($c, $words) = @_;
        my $bytes = answer($c, $words, end_with($c, 9));
        $c->send(substr $bytes, 0, -4);
    },
    'padding-missing' => sub {
        my ($c, $words) = @_;
        my $bytes = answer($c, $words, end_with($c, 9));
        $c->send(substr $bytes, 0, -9);
    },
    'app-status' => sub { $_[0]->send(answer(@_, $_[0]->end_record(7))) },
    'no-stdout-end' => sub {
        my ($c, $words) = @_;
        $c->send($c->records(FCGI_STDOUT, $c->{id}, $words) . $c->end_record);
    },
    'overloaded' => sub { $_[0]->end(0, FCGI_OVERLOADED) },
    'cant-mpx' => sub { $_[0]->end(0, FCGI_CANT_MPX_CONN) },
    'unknown-status' => sub { $_[0]->end(0, 9) },
    'no-headers' => sub { $_[0]->send(answer($_[0], "no header\r\n\r\n")) },
    'held' => sub {
        my ($c, $words) = @_;
        $c->stdout($words);
        $c->wait_release('held', 20);
        $c->send($c->record(FCGI_STDOUT, $c->{id}) . $c->end_record);
    },
);

# Sends more on a connection that is idle.
sub send_idle {
    my ($c, $words, $more) = @_;
    $c->send(answer($c, $words));
    $c->wait_release('idle' . $c->number, 10);
    return $c->send($more);
}

# A request that is answered before its body is read; a large one is not read
# before the answer has arrived.
sub answer_early {
    my ($c) = @_;
    my $request = $c->read_params(30) or return 0;
    $c->reply(words($c, $request, 1));
    $c->wait_release('arrived', 30)
        if $request->{params}{REQUEST_URI} =~ /spooled/;
    while (!$request->{stdin_complete}) {
        my $record = $c->read_record(30) or return 0;
        last if $record->{type} != FCGI_STDIN;
        $request->{stdin_complete} = $record->{content} eq '';
    }
    return $request->{stdin_complete};
}

sub tell {
    my ($c) = @_;
    my $nr = 0;
    my $open = 1;
    while ($open) {
        my $request = $c->read_request(30) or last;
        my ($name) = $request->{params}{REQUEST_URI} =~ m{([^/]+)$};
        my $words = words($c, $request, ++$nr);
        my $story = $story{$name} || sub { $_[0]->send(answer(@_)) };
        $open = $story->($c, $words);
    }
    $c->report(closed => { number => $c->number, at => time,
                           reset => $c->{reset} });
    return;
}

sub tell_early {
    my ($c) = @_;
    my $nr = 0;
    $nr++ while answer_early($c);
    $c->report(closed => { number => $c->number, whole => $nr });
    return;
}

# How many connections are open at an application.
sub open_count {
    my ($app) = @_;
    return $app->connections - grep { $_->[0] eq 'closed' } $app->reports;
}

# What the application saw of a request: { connection, nr, flags, stdin }.
sub seen {
    my ($answer, $path) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($own, $rest) = $answer->body =~ /^(\S+) (.*)/;
    is($own, $path, "$path: the right answer") or diag $answer->raw;
    ok($answer->complete, 'complete');
    unlike($answer->raw, qr/SECRET/, 'and nothing else');
    return { map { split /=/ } split ' ', $rest // '' };
}

my %app;

sub start_app {
    my ($name, $code) = @_;
    return $app{$name} = FcgiApp->start($code // \&tell, workers => 4);
}

start_app($_) for qw(kept none zero three short rules);
start_app('early', \&tell_early);
my $many = FcgiApp->start(\&tell, workers => 16);

my $locations = join '', map {
    "<Location /$_/>\nSetHandler " . $app{$_}->handler . "\n</Location>\n"
} sort keys %app;

my $httpd = Httpd->start(
    mpm => $ONE,
    vars => { map { uc $_ => $app{$_}->address } keys %app },
    config => <<"EOC");
FcgiBackend \@KEPT\@ keepalive=2
FcgiBackend \@ZERO\@ keepalive=0
FcgiBackend \@THREE\@ keepalive=2 requests=3
FcgiBackend \@SHORT\@ keepalive=2 idle=300ms
FcgiBackend \@RULES\@ keepalive=2
FcgiBackend \@EARLY\@ keepalive=2
$locations
<Location /early/stream>
  FcgiRequestBuffering Off
</Location>
EOC

sub get {
    my ($path) = @_;
    return seen(Client->get($httpd->port, $path), $path);
}

sub post {
    my ($path, $body) = @_;
    return Client->request($httpd->port,
        "POST $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        . 'Content-Length: ' . length($body) . "\r\n\r\n$body",
        timeout => 20);
}

sub stray_lines {
    my @lines = $httpd->error_log =~ /:warn\].*(FCGI19: .*)/g;
    return @lines;
}

# All that is not told for information.
sub complaints {
    return grep { /FCGI\d\d:/ && !/:(?:info|notice)\]/ }
        split /\n/, $httpd->error_log;
}

subtest 'one connection carries one request after another' => sub {
    for my $nr (1 .. 6) {
        # a POST takes one only that has been idle for a while
        select undef, undef, undef, 0.3 if !($nr % 3);
        my $seen = $nr % 3 ? get("/kept/r$nr")
            : seen(post("/kept/r$nr", 'b' x $nr), "/kept/r$nr");
        is($seen->{connection}, 1, 'on the first connection');
        is($seen->{nr}, $nr, "its request $nr");
        is($seen->{flags}, FCGI_KEEP_CONN, 'FCGI_KEEP_CONN is set');
        is($seen->{stdin}, $nr % 3 ? 0 : $nr, 'with its body');
    }
    is($app{kept}->connections, 1, 'no other was made');
    is(open_count($app{kept}), 1, 'and it is open');
};

for my $name (qw(none zero)) {
    subtest "by default none is kept: $name" => sub {
        for my $connection (1 .. 3) {
            my $seen = get("/$name/r");
            is($seen->{connection}, $connection, 'a connection of its own');
            is($seen->{flags}, 0, 'FCGI_KEEP_CONN is not set');
        }
        ok(Private::wait_until(5, sub { !open_count($app{$name}) }),
           'all are closed');
    };
}

subtest 'requests=' => sub {
    for my $i (0 .. 6) {
        my $seen = get('/three/r');
        is($seen->{connection}, 1 + int($i / 3), 'three on a connection');
        is($seen->{nr}, 1 + $i % 3, 'in order');
        is($seen->{flags}, $i % 3 == 2 ? 0 : FCGI_KEEP_CONN,
           'the last one says that it is the last');
    }
    ok(Private::wait_until(5, sub { open_count($app{three}) == 1 }),
       'the full ones are closed');
};

subtest 'idle=' => sub {
    for my $connection (1 .. 2) {
        is(get('/short/r')->{connection}, $connection, 'a new one');
        my $from = time;
        my $closed = $app{short}->wait_report('closed', 5);
        ok($closed, 'it is closed, though nobody asks') or next;
        cmp_ok($closed->{at} - $from, '>', 0.15, 'after its time');
        cmp_ok($closed->{at} - $from, '<', 2, 'and soon after');
    }
    is(get('/kept/r')->{nr}, 7, 'another backend\'s has more time');
};

subtest 'the application closes an idle connection' => sub {
    for my $round (1 .. 10) {
        my $first = get('/kept/close');
        ok($app{kept}->wait_report('closed', 5), 'it is closed') or last;
        my $next = $round % 2 ? get('/kept/r')
            : seen(post('/kept/r', 'x' x 1000), '/kept/r');
        is($next->{connection}, $first->{connection} + 1,
           'the next request has another one');
        is($next->{stdin}, $round % 2 ? 0 : 1000, 'with its body');
    }
    $app{kept}->restart;
    is(get('/kept/r')->{nr}, 1, 'a restart of the application');
    my @words = complaints();
    is(scalar @words, 0, 'not a word of it') or diag @words;
};

# story => [the status, whether bytes were stray]
my %rule = (
    'late-byte' => [200, 1], 'second-answer' => [200, 1],
    'wrong-id' => [502, 0], 'wrong-id-after' => [200, 1],
    'unknown-after' => [200, 1], 'management-after' => [200, 1],
    'wrong-end' => [502, 0],
    'idle-byte' => [200, 1], 'idle-answer' => [200, 1],
    'idle-end' => [200, 1], 'idle-record' => [200, 1],
    'padding-cut' => [200, 0], 'padding-missing' => [200, 0],
    'overloaded' => [503, 0], 'cant-mpx' => [503, 0],
    'unknown-status' => [502, 0], 'no-headers' => [502, 0],
);

# Each on a new connection and on one that was kept.
for my $name (sort keys %rule) {
    my ($status, $stray) = @{ $rule{$name} };
    for my $round ('kept', 'new') {
        subtest "not quiet: $name, $round" => sub {
            $app{rules}->restart if $round eq 'new';
            my $before = $round eq 'new' ? 0 : get('/rules/before')->{nr};
            my $number = $app{rules}->connections + !$before;
            my @stray = stray_lines();
            my $answer = Client->get($httpd->port, "/rules/$name");
            is($answer->status, $status, 'its status');
            my $seen = $status == 200 ? seen($answer, "/rules/$name")
                : { connection => $number, nr => $before + 1 };
            is($seen->{nr}, $before + 1, "on a $round connection");
            is($seen->{connection}, $number, 'the one meant');
            unlike($answer->raw, qr/SECRET/, 'it has nothing else');
            if ($name =~ /^idle/) {
                is(scalar stray_lines(), scalar @stray, 'quiet so far');
                $app{rules}->release("idle$number");
            }
            else {
                my $next = get('/rules/next');
                is($next->{connection}, $number + 1, 'the next has another');
                is($next->{nr}, 1, 'a new one');
            }
            ok(Private::wait_until(5, sub {
                grep { $_->[0] eq 'closed' && $_->[1]{number} == $number }
                    $app{rules}->reports;
            }), 'it is closed');
            is(get('/rules/last')->{connection}, $number + 1,
               'and never used again');
            my @now = stray_lines();
            is(@now - @stray, $stray, $stray ? 'one warning' : 'no warning')
                or diag @now;
            like($now[-1], qr/\Q@{[ $app{rules}->handler ]}\E: bytes came/,
                 'that names the backend') if $stray;
        };
    }
}

subtest 'strange, but quiet' => sub {
    my $number = get('/rules/r')->{connection};
    my @stray = stray_lines();
    for my $name (qw(padded r app-status r no-stdout-end r)) {
        is(get("/rules/$name")->{connection}, $number, "$name: kept");
    }
    is(scalar stray_lines(), scalar @stray, 'no warning');
};

subtest 'the body is not written yet' => sub {
    my $early = $app{early};
    my $answer = post('/early/spooled', 'x' x 16_000_000);
    is($answer->status, 200, 'answered before its body was read');
    $early->release('arrived');
    like($answer->body, qr/connection=1 nr=1/, 'the right answer');
    my $closed = $early->wait_report('closed', 10);
    is($closed->{whole}, 0, 'the connection is closed within the body');

    my $conn = Client->connect($httpd->port);
    $conn->send("POST /early/stream HTTP/1.1\r\nHost: x\r\n"
                . "Content-Length: 1000\r\n\r\n" . 'x' x 10);
    $answer = $conn->read_response;
    like($answer->body, qr/connection=2 nr=1/, 'answered before it is here');
    $conn->close;
    $closed = $early->wait_report('closed', 10);
    is($closed->{whole}, 0, 'closed');

    $answer = post('/early/small', 'x' x 10);
    like($answer->body, qr/connection=3 /, 'another connection');
    $answer = Client->get($httpd->port, '/early/next');
    like($answer->body, qr{^/early/next connection=3 },
         'all was written: kept');
};

ok($httpd->error_log !~ /FCGI03/, 'no answer was broken');
$httpd->ok_healthy;

# ---- many children ----

# Asks count times at once; all have begun before the first one ends. The
# number that are then open at the application.
sub ask_at_once {
    my ($server, $path, $count) = @_;
    my @conns = map { Client->connect($server->port) } 1 .. $count;
    $_->send("GET $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for @conns;
    my $begun = grep { $_->read_until(qr/flags=/, 15) } @conns;
    is($begun, $count, "$count requests are served at once");
    return @conns;
}

subtest 'keepalive= counts over all children' => sub {
    my $server = Httpd->start(
        mpm => $FOUR, access_format => '%P %r',
        vars => { MANY => $many->address }, config => <<'EOC');
FcgiBackend many @MANY@ keepalive=3
<Location /many/>
  SetHandler fcgi:many
  # each child takes as many as it has threads
  FcgiPark Off
</Location>
EOC
    my @conns = ask_at_once($server, '/many/held', 12);
    is($many->connections, 12, 'each on its own connection');
    $many->release('held');
    is($_->read_response->status, 200, 'answered') for @conns;
    ok(Private::wait_until(10, sub { open_count($many) == 3 }),
       'three are kept') or diag open_count($many);
    ok($server->wait_for_access(qr/(?:.*\n){12}/), 'all are in the log');
    my %pids = map { $_ => 1 } $server->access_log =~ m{^(\d+) GET /many}mg;
    cmp_ok(scalar keys %pids, '>=', 3, 'children that served them');
    $_->close for @conns;

    # Not another one, in whatever child.
    for (1 .. 20) {
        my $answer = Client->get($server->port, '/many/r');
        is($answer->status, 200, 'one more');
        ok(Private::wait_until(10, sub { open_count($many) <= 3 }),
           'and no more than three are idle') or diag open_count($many);
    }
    $server->leave;
    ok(Private::wait_until(5, sub { !open_count($many) }),
       'none without httpd');
};

# ---- graceful ----

for my $signal ('USR1', 'WINCH') {
    subtest "told to stop, $signal: idle ones are closed at once" => sub {
        my $idle = FcgiApp->start(\&tell, workers => 4);
        my $busy = FcgiApp->start(\&tell);
        my $server = Httpd->start(
            mpm => $ONE, vars => { IDLE => $idle->address,
                                   BUSY => $busy->address },
            config => <<'EOC');
GracefulShutdownTimeout 20
FcgiBackend @IDLE@ keepalive=2
FcgiBackend @BUSY@ keepalive=2
<Location /idle/>
  SetHandler fcgi:@IDLE@
</Location>
<Location /busy/>
  SetHandler fcgi:@BUSY@
</Location>
EOC
        is(Client->get($server->port, '/idle/r')->status, 200, 'asked');
        is(open_count($idle), 1, 'one is idle');
        my ($conn) = ask_at_once($server, '/busy/held', 1);
        is(open_count($idle), 1, 'still, while a request runs');
        kill $signal, $server->pid;
        ok($idle->wait_report('closed', 5), 'it is closed');
        is(open_count($busy), 1, 'the request runs on');
        $busy->release('held');
        my $answer = $conn->read_response;
        is($answer->status, 200, 'to its end');
        ok($answer->complete, 'complete');
        ok($busy->wait_report('closed', 5), 'and its connection is closed');
        $conn->close;
        if ($signal eq 'USR1') {
            ok(Private::wait_until(10, sub { $server->starts > 1 }),
               'restarted');
            is(Client->get($server->port, '/idle/r')->body
                   =~ /connection=(\d+)/ ? $1 : '', 2, 'and serves anew');
            is(open_count($idle), 1, 'and keeps');
        }
        $server->leave;
    };
}

Httpd->ok_left;
done_testing;
