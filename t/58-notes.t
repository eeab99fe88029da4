# The access log can say which backend answered, and how long everything took.
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

my @NOTES = map { "fcgi-$_" } qw(backend reused tries queue connect first-byte
                                 total bytes-out bytes-in app-status);

my $dir = Private::temp_dir('notes');
my $flag = "$dir/asked";

# /slow waits for a release, /once breaks when it is asked first.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    while (my $request = $c->read_request(10)) {
        my $path = $request->{params}{PATH_INFO} // '';
        $c->report(asked => $path);
        return if $path eq '/once' && !-e $flag && Private::spew($flag, '1');
        $c->wait_release('slow', 10) if $path eq '/slow';
        $c->stdout("Content-Type: text/plain\r\n\r\n" . 'x' x 1000);
        $c->end($path eq '/status' ? 7 : 0, FCGI_REQUEST_COMPLETE);
    }
}, workers => 2);
my $nobody = Private::reserve_port();

my $httpd = Httpd->start(
    vars => { APP => $app->handler, ADDRESS => $app->address,
              NOBODY => 'fcgi:127.0.0.1:' . $nobody->sockport },
    mpm => ($ENV{MPM} || 'event') eq 'prefork'
        ? "StartServers 4\nServerLimit 4\nMaxRequestWorkers 4\n" : undef,
    access_format => join(' ', '%U', map { "%{$_}n" } @NOTES),
    config => <<'EOC');
FcgiBackend @ADDRESS@ max=1 keepalive=1
FcgiConnectTimeout 200ms
<Location /app>
  SetHandler @APP@
</Location>
<Location /nobody>
  SetHandler @NOBODY@
</Location>
EOC

# The notes of the newest request for this path.
sub notes_of {
    my ($path) = @_;
    $httpd->wait_for_access(qr{^\Q$path\E }m) or return {};
    my ($line) = reverse grep { m{^\Q$path\E } } split /\n/,
        $httpd->access_log;
    my (undef, @values) = split ' ', $line;
    return { map { $NOTES[$_] => $values[$_] } 0 .. $#NOTES };
}

subtest 'an answer' => sub {
    is(Client->get($httpd->port, '/app/status')->status, 200, 'answered');
    my $notes = notes_of('/app/status');
    is($notes->{'fcgi-backend'}, $app->handler, 'backend');
    is($notes->{'fcgi-reused'}, 0, 'a new connection');
    is($notes->{'fcgi-tries'}, 1, 'one try');
    is($notes->{'fcgi-app-status'}, 7, "the application's status");
    cmp_ok($notes->{'fcgi-bytes-in'}, '>', 1000, 'bytes from it');
    cmp_ok($notes->{'fcgi-bytes-out'}, '>', 100, 'bytes to it');
    cmp_ok($notes->{'fcgi-first-byte'}, '<=', $notes->{'fcgi-total'},
           'the first byte comes before the end');
    cmp_ok($notes->{'fcgi-connect'}, '>', 0, 'time to connect');
};

subtest 'a kept connection' => sub {
    my $conn = Client->connect($httpd->port);
    for my $n (1 .. 2) {
        $conn->send("GET /app/kept$n HTTP/1.1\r\nHost: x\r\n\r\n");
        is($conn->read_response->status, 200, 'answered');
    }
    my $notes = notes_of('/app/kept2');
    is($notes->{'fcgi-reused'}, 1, 'it was used before');
    is($notes->{'fcgi-connect'}, 0, 'no time to connect');
};

subtest 'in line' => sub {
    my $slow = Client->connect($httpd->port);
    $slow->send("GET /app/slow HTTP/1.1\r\nHost: x\r\n\r\n");
    my $asked = '';
    while (defined $asked && $asked ne '/slow') {
        $asked = $app->wait_report('asked', 5);
    }
    is($asked, '/slow', 'the application is busy');
    my $next = Client->connect($httpd->port);
    $next->send("GET /app/next HTTP/1.1\r\nHost: x\r\n\r\n");
    select undef, undef, undef, 0.2;      # so long it stands there
    $app->release('slow');
    is($_->read_response->status, 200, 'answered') for $slow, $next;
    my $notes = notes_of('/app/next');
    cmp_ok($notes->{'fcgi-queue'}, '>', 100_000, 'its time in line');
    cmp_ok($notes->{'fcgi-queue'}, '<=', $notes->{'fcgi-total'}, 'of all');
};

subtest 'sent again' => sub {
    is(Client->get($httpd->port, '/app/once')->status, 200, 'answered');
    is(notes_of('/app/once')->{'fcgi-tries'}, 2, 'two tries');
};

subtest 'no connection' => sub {
    is(Client->get($httpd->port, '/nobody')->status, 503, 'refused');
    my $notes = notes_of('/nobody');
    is($notes->{'fcgi-tries'}, 1, 'one try');
    cmp_ok($notes->{'fcgi-connect'}, '>', 100_000, 'the time to connect');
    is($notes->{'fcgi-first-byte'}, '-', 'no first byte');
    is($notes->{'fcgi-app-status'}, '-', 'no status');
};

subtest 'they are made where any directive names one' => sub {
    my $other = Httpd->start(
        vars => { APP => $app->handler }, config => <<'EOC');
CustomLog logs/other.log "logged %U" "expr=%{note:FCGI-Tries} -eq 1"
<Location /app>
  SetHandler @APP@
</Location>
EOC
    is(Client->get($other->port, '/app/other')->status, 200, 'answered');
    my $log = $other->root . '/logs/other.log';
    Private::wait_until(10, sub { Private::slurp($log) =~ /\n/ });
    is(Private::slurp($log), "logged /app/other\n",
       'as the condition of an access log');
    $other->leave;
};

$httpd->ok_healthy;
Httpd->ok_left;
done_testing;
