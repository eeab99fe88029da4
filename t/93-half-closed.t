# A client that closes its sending side gets its answer, unless a second is silent.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use IO::Socket::SSL;
use Private;
use Test::More;
use Time::HiRes qw(time);

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $SILENCE = 1;        # seconds
my $LIMIT = 2;          # the same, on a busy machine
my $LARGE = 12_000_000;
my $BODY = 'x' x $LARGE;        # made before somebody waits for it

# The query string says what the application does after the request is here:
#     silent     nothing, until the peer ends it or the test says "go"
#     piece      the same after a first piece
#     trickle    a piece each time the test says so, five in all
#     large      a large answer at once
sub serve {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $how = $request->{params}{QUERY_STRING};
    my $name = $request->{params}{REQUEST_URI} =~ s/\?.*//r;
    $c->stdout("${HEAD}first") if $how eq 'piece';
    $c->report(begun => $name);
    if ($how eq 'large') {
        $c->stdout($HEAD);
        return $c->reply($BODY);
    }
    return trickle($c, $name) if $how eq 'trickle';
    Private::wait_until(20, sub {
        $c->readable(0.02) || $c->wait_release("go $name", 0);
    });
    if ($c->readable) {
        return $c->report(ended => { at => time, path => $name });
    }
    return $c->reply($how eq 'piece' ? ' last' : "${HEAD}whole");
}

sub trickle {
    my ($c, $name) = @_;
    $c->stdout($HEAD);
    for my $n (1 .. 5) {
        $c->wait_release("$n $name", 10);
        $c->stdout($n);
    }
    return $c->end;
}

my $app = FcgiApp->start(\&serve, workers => 4);
my $one = FcgiApp->start(\&serve, workers => 4);
my $httpd = Httpd->start(
    tls => 1, vars => { APP => $app->handler, ONE => $one->address },
    tls_config => <<'EOC', config => <<'EOC2');
<Location />
  SetHandler @APP@
</Location>
EOC
FcgiBackend one @ONE@ max=1 queue-timeout=20
<Location />
  SetHandler @APP@
</Location>
LimitRequestLine 100
ErrorDocument 414 /refused/?silent
<Location /one/>
  SetHandler fcgi:one
</Location>
<Location /held-up/>
  FcgiBufferMax 1M
</Location>
<Location /ignore/>
  FcgiIgnoreClientAbort On
</Location>
EOC2

my $count = 0;

# A request's bytes and its path.
sub request {
    my ($how, %opt) = @_;
    my $path = ($opt{dir} || '') . '/r' . ++$count;
    my $fields = "Host: x\r\n"
        . ($opt{body} ? "Content-Length: $opt{body}\r\n" : '');
    return ($path, ($opt{body} ? 'POST' : 'GET') . " $path?$how HTTP/"
            . ($opt{version} || '1.1') . "\r\n$fields\r\n"
            . 'x' x ($opt{body} || 0));
}

# A request that the application has, of a client that sends no more.
sub begin {
    my ($how, %opt) = @_;
    my ($path, $bytes) = request($how, %opt);
    my $conn = Client->connect($httpd->port, %opt);
    $conn->send($bytes);
    $conn->shutdown_write if $opt{at_once};
    is($app->wait_report('begun'), $path, 'the application is at work');
    ok($conn->read_until(qr/first/), 'and has begun to answer')
        if $how eq 'piece';
    $conn->shutdown_write if !$opt{at_once};
    return ($conn, $path);
}

# The processor time httpd's children used so far, in seconds.
sub used {
    my $ticks = 0;
    for my $pid ($httpd->pids) {
        my @stat = split ' ', Private::slurp("/proc/$pid/stat") =~ s/.*\)//sr;
        $ticks += $stat[11] + $stat[12];
    }
    return $ticks / 100;
}

my %whole = (
    'HTTP/1.0, with the request' => ['silent', version => '1.0', at_once => 1],
    'HTTP/1.0, later'            => ['silent', version => '1.0'],
    'HTTP/1.1, with the request' => ['silent', at_once => 1],
    'HTTP/1.1, later'            => ['silent'],
    'POST'                       => ['silent', body => 100_000, at_once => 1],
    'after a piece'              => ['piece'],
    'ignoring aborts'            => ['silent', dir => '/ignore'],
);

for my $name (sort keys %whole) {
    subtest "answered: $name" => sub {
        my ($conn, $path) = begin(@{ $whole{$name} });
        my $before = used();
        is($app->wait_report('ended', 0.4), undef, 'not given up');
        cmp_ok(used() - $before, '<', 0.2, 'nothing spins');
        $app->release("go $path");
        my $answer = $conn->read_response;
        ok($answer->complete, 'the answer is whole') or diag $answer->error;
        is($answer->body, $name =~ /piece/ ? 'first last' : 'whole');
        ok($conn->at_eof, 'and the connection ends');
    };
}

subtest 'an answer that goes on is no silence, however long it takes' => sub {
    my ($conn, $path) = begin('trickle');
    for my $n (1 .. 5) {
        is($app->wait_report('ended', 0.5), undef);
        $app->release("$n $path");
        ok($conn->read_until(qr/\n$n\r\n/), "piece $n");
    }
    ok($conn->read_response->complete, 'whole');
};

subtest 'a client that reads slowly is not silent' => sub {
    my ($conn, $path) = begin('large', dir => '/held-up', rcvbuf => 4096);
    is($app->wait_report('ended', 2.5), undef);
    my $answer = $conn->read_response(timeout => 30);
    ok($answer->complete, 'whole') or diag $answer->error;
    is(length $answer->body, $LARGE);
};

for my $how (qw(silent piece)) {
    subtest "$how: a second of silence ends it" => sub {
        my $before = time;
        my ($conn, $path) = begin($how);
        my $closed_at = time;
        my $end = $app->wait_report('ended');
        is($end->{path}, $path);
        cmp_ok($end->{at} - $before, '>=', $SILENCE, 'not too early');
        cmp_ok($end->{at} - $closed_at, '<', $LIMIT, 'in time');
        ok($httpd->wait_for_log(qr/FCGI09: .*client closed/), 'and says so');
    };

    subtest "$how: a reset after it ends it at once" => sub {
        my ($conn, $path) = begin($how);
        is($app->wait_report('ended', 0.3), undef, 'not given up');
        my $reset_at = time;
        $conn->reset;
        my $end = $app->wait_report('ended');
        is($end->{path}, $path);
        cmp_ok($end->{at} - $reset_at, '<', $SILENCE - 0.3, 'in time');
    };
}

subtest 'in line' => sub {
    my ($holder, $holder_path, @bytes);
    ($holder_path, $bytes[0]) = request('silent', dir => '/one');
    $holder = Client->connect($httpd->port);
    $holder->send($bytes[0]);
    is($one->wait_report('begun'), $holder_path, 'one is at work');
    my (@waits, @paths);
    for my $n (0, 1) {
        ($paths[$n], $bytes[$n]) = request('silent', dir => '/one');
        $one->release("go $paths[$n]");
        $waits[$n] = Client->connect($httpd->port);
        $waits[$n]->send($bytes[$n]);
        $waits[$n]->shutdown_write;
        if (!$n) {
            my $closed_at = time;
            ok($waits[$n]->at_eof, 'given up in line');
            my $waited = time - $closed_at;
            cmp_ok($waited, '>=', $SILENCE - 0.1, 'after a second');
            cmp_ok($waited, '<', $LIMIT, 'in time');
        }
    }
    is($one->wait_report('begun', 0.3), undef, 'the other waits');
    $one->release("go $holder_path");
    is($holder->read_response->body, 'whole', 'the one at work is answered');
    is($waits[1]->read_response->body, 'whole', 'and the one in line');
};

subtest 'TLS' => sub {
    for my $how (qw(answered silent)) {
        my ($path, $bytes) = request('silent');
        my $tls = IO::Socket::SSL->new(
            PeerAddr => '127.0.0.1', PeerPort => $httpd->tls_port,
            SSL_verify_mode => SSL_VERIFY_NONE) or die $SSL_ERROR;
        print {$tls} $bytes;
        is($app->wait_report('begun'), $path, 'the application is at work');
        my $before = used();
        my $closed_at = time;
        Net::SSLeay::shutdown($tls->_get_ssl_object);
        is($app->wait_report('ended', 0.4), undef, 'not given up');
        cmp_ok(used() - $before, '<', 0.2, 'nothing spins');
        if ($how eq 'answered') {
            $app->release("go $path");
            like(join('', <$tls>), qr/whole/, 'answered');
        }
        else {
            my $end = $app->wait_report('ended');
            cmp_ok($end->{at} - $closed_at, '<', $LIMIT, 'silence ends it');
        }
    }
};

# What httpd has refused to read is no end of the client's.
my $refused = Client->connect($httpd->port);
$refused->send('GET /' . 'x' x 100_000 . " HTTP/1.1\r\nHost: x\r\n\r\n");
my $asked = $app->wait_report('begun');
like($asked, qr{^/x}, 'a request is too long, and has a page');
is($app->wait_report('ended', $LIMIT), undef,
   'its client is not given up while more of it comes');
$app->release("go $asked");
my $page = $refused->read_response;
is($page->status, 414, 'it gets its status');
is($page->body, 'whole', 'and the page');

$httpd->ok_healthy;
done_testing;
