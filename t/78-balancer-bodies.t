# Behind a balancer a body reaches one member whole, or the client hears that it did not; also from spares and by heartbeats.
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

my $TYPE = "Content-Type: text/plain\r\n";
my $LONG = 300_000;

# A member answers with its name and the body, or does what the query says,
# "name=what", when it has a part of the body or all of it.
my %does = (
    overloaded => sub { $_[0]->end(0, FCGI_OVERLOADED) },
    dies => sub { $_[0]->close },
);

sub member {
    my ($name, %opt) = @_;
    return FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_params or return;
        my ($what) = $request->{params}{QUERY_STRING} =~ /\b$name=(\w+)/;
        $c->report(asked => $request->{params});
        my $body = '';
        while (my $record = $c->read_record) {
            next if $record->{type} != FCGI_STDIN;
            last if $record->{content} eq '';
            $body .= $record->{content};
            return $does{$what}->($c) if $what && length $body >= 1000;
        }
        return $does{$what}->($c) if $what;
        $c->reply("$TYPE\r\n$name$body");
    }, workers => 3, %opt);
}

sub balance {
    my ($members, %opt) = @_;
    return Httpd->start(
        %opt, modules => [Balanced::modules(), @{ $opt{modules} || [] },
                          'proxy_fastcgi'],
        config => Balanced::section('php', $members, $opt{set})
            . <<'EOC' . ($opt{config} // ''));
FcgiConnectTimeout 20
ProxyPass /app balancer://php/srv
<Location /app/streamed>
  FcgiRequestBuffering Off
</Location>
EOC
}

sub head {
    my ($path, $len) = @_;
    return "POST $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        . "Content-Length: $len\r\n\r\n";
}

# An answer to what is sent in two halves; the second when a member was asked.
sub post_in_halves {
    my ($httpd, $path, $apps) = @_;
    my $half = 'b' x ($LONG / 2);
    my $conn = Client->connect($httpd->port);
    $conn->send(head($path, $LONG) . $half);
    Private::wait_until(10, sub { grep { $_->wait_report('asked', 0) } @$apps })
        or diag 'nobody was asked';
    $conn->send($half);
    return $conn->read_response;
}

my $BODY = 'b' x $LONG;

subtest 'a streamed body that was not sent goes on to the next' => sub {
    my ($one, $two) = map { member($_) } qw(one two);
    my $httpd = balance([[$one], [$two]]);
    $one->stop(keep_file => 1);
    for my $n (1 .. 2) {
        my $answer = post_in_halves($httpd, '/app/streamed/x', [$two]);
        is($answer->status, 200, "request $n is done");
        ok($answer->body eq "two$BODY", 'with all of its body');
    }
    is(Balanced::states($httpd), 'Err,Ok', 'as one is dead');
    $httpd->ok_healthy;
};

subtest 'one of which a part was sent does not' => sub {
    my ($one, $two) = map { member($_) } qw(one two);
    my $httpd = balance([[$one], [$two]]);
    my $answer = post_in_halves($httpd, '/app/streamed/x?one=overloaded',
                                [$one]);
    is($answer->status, 503, 'overloaded: a 503')
        or diag 'its body has ' . length $answer->body;
    is($answer->header('Retry-After'), 1, 'for now');
    is($two->connections, 0, 'nobody else got the rest');
    is(Balanced::states($httpd), 'Ok,Ok', 'nobody is in error');
    Client->get($httpd->port, '/app/x'); # two's turn
    $answer = post_in_halves($httpd, '/app/streamed/x?one=dies', [$one]);
    is($answer->status, 502, 'dies: a 502');
    is($two->connections, 1, 'nobody else got the rest');
    is(Balanced::states($httpd), 'Ok,Ok', 'nobody is in error');
    Client->get($httpd->port, '/app/x');
    is(Client->get($httpd->port, '/app/streamed/x?one=dies')->body, 'two',
       'what has no body goes on');
    $httpd->ok_healthy;
};

subtest 'HTTP/2' => sub {
    my ($one, $two) = map { member($_) } qw(one two);
    my $httpd = balance([[$one], [$two]], http2 => 1);
    my $base = 'http://127.0.0.1:' . $httpd->port;
    my $file = Private::spew($httpd->root . '/body', $BODY);
    my @h2 = qw(--http2-prior-knowledge);
    my @post = (@h2, '--data-binary', "\@$file");
    my $answer = Client::curl(@post, "$base/app/x");
    is($answer->{http_version}, 2, 'it is');
    ok($answer->{body} eq "one$BODY", 'a body');
    is(Client::curl(@h2, "$base/app/x")->{body}, 'two', 'in turn');
    ok(Client::curl(@post, "$base/app/x?one=overloaded")->{body}
       eq "two$BODY", 'one is overloaded');
    is(Client::curl(@h2, "$base/app/x?one=dies")->{body}, 'two', 'one dies');
    is(Balanced::states($httpd), 'Ok,Ok', 'with no harm to it');
    is(Balanced::idle($httpd), '0,0', 'nobody is busy');
    $one->stop(keep_file => 1);
    for my $path (qw(x streamed/x)) {
        ok(Client::curl(@post, "$base/app/$path")->{body} eq "two$BODY",
           "$path: one is dead") for 1 .. 2;
    }
    is(Balanced::states($httpd), 'Err,Ok', 'which is known');
    $httpd->ok_healthy;
};

subtest 'hot spares' => sub {
    my ($one, $two, $three) = map { member($_) } qw(one two three);
    my $httpd = balance([[$one, 'retry=1'], [$two, 'retry=1'],
                         [$three, 'status=+R']]);
    my $seen = sub {
        my %seen = map { Client->get($httpd->port, '/app/x')->body => 1 }
            1 .. 6;
        return join ' ', sort keys %seen;
    };
    is($seen->(), 'one two', 'nobody needs it');
    $one->stop(keep_file => 1);
    ok(Private::wait_until(10, sub { $seen->() eq 'three two' }),
       'it is in the place of one, beside the other');
    $two->stop(keep_file => 1);
    is(Client->get($httpd->port, '/app/x')->body, 'three',
       'with both dead it is alone') for 1 .. 3;
    $_->restart for $one, $two;
    ok(Private::wait_until(20, sub { $seen->() eq 'one two' }),
       'and nobody needs it again');
    $httpd->ok_healthy;
};

subtest 'heartbeats' => sub {
    plan skip_all => 'no mod_heartmonitor here'
        if !Httpd::has_module('heartmonitor');
    my %host = (one => '127.0.0.1', two => '127.0.0.2');
    my ($one, $two) = map {
        member($_, transport => 'tcp', host => $host{$_})
    } qw(one two);
    # No group of addresses can be joined here: that is said in the log, and
    # members tell by HTTP all the same.
    my $httpd = balance(
        [[$one], [$two]], set => 'lbmethod=heartbeat',
        modules => [qw(watchdog heartmonitor lbmethod_heartbeat)],
        config => <<'EOC');
HeartbeatMaxServers 11
HeartbeatListen 127.0.0.1:@PORT@
<Location /heartbeat>
  SetHandler heartbeat
  Require ip 127.0.0.0/8
</Location>
EOC
    my $beat = sub {
        my ($name, $ready, $busy) = @_;
        my $answer = Client::curl(
            '--interface', $host{$name}, '--data',
            "v=1&ready=$ready&busy=$busy",
            'http://127.0.0.1:' . $httpd->port . '/heartbeat');
        is($answer->{body}, 'OK', "$name has $ready ready");
    };
    my $asked = sub {
        my %asked = (one => 0, two => 0, 503 => 0);
        for (1 .. 40) {
            my $answer = Client->get($httpd->port, '/app/x');
            $asked{$answer->status == 200 ? $answer->body
                   : $answer->status}++;
        }
        return \%asked;
    };
    is(Client->get($httpd->port, '/app/x')->status, 503,
       'nobody is asked who has not said that he is there');
    $beat->(one => 1000, 1);
    is_deeply($asked->(), { one => 40, two => 0, 503 => 0 }, 'one is there');
    $one->stop;
    my $conn = Client->connect($httpd->port);
    $conn->send(head('/app/x', 4) . 'body');
    ok($httpd->wait_for_log(qr/FCGI01: /, 5), 'it refuses');
    $one->restart;
    is($conn->read_response->body, 'onebody',
       'and is waited for, as nobody else has said anything');
    $beat->(two => 1000, 1);
    $beat->(one => 10, 1);
    my $count = $asked->();
    cmp_ok($count->{two}, '>', 30, 'the one that has more ready is asked more')
        or diag explain $count;
    $two->stop;
    is(Client->get($httpd->port, '/app/x')->body, 'one',
       'one that is there and refuses: the other') for 1 .. 5;
    $httpd->ok_healthy;
};

done_testing;
