# Interim answers of the application go ahead of its final one.
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

my $HINT = "Status: 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
my $HINT2 = "Status: 103\nLink: </b.js>; rel=preload\n"
    . "Link: </c.js>; rel=preload\n\n";
my $FINAL = "Content-Type: text/plain\r\nX-A: b\r\n\r\nwhole body";
my $H2 = Httpd::mpm() ne 'prefork';

# /app/NAME/SIZE, SIZE of the records.
my %says = (
    one => $HINT . $FINAL,
    two => "$HINT$HINT2$FINAL",
    status => "${HINT}Status: 404 Not At All\r\n$FINAL",
    continue => "Status: 100 Continue\r\n\r\n$FINAL",
    processing => "Status: 102\r\n\r\n$FINAL",
    odd => "Status: 199 Odd\r\nX-Odd: 1\r\n\r\n$FINAL",
    hops => "Status: 103\r\nConnection: close\r\nTransfer-Encoding: chunked"
        . "\r\nLink: <x>\r\n\r\n$FINAL",
    length => "Status: 103\r\nContent-Length: 3\r\nLink: <x>\r\n\r\n$FINAL",
    type => "Status: 103\r\nContent-Type: text/html\r\nLink: <x>\r\n\r\n"
        . "X-A: b\r\n\r\nwhole body",
    switch => "Status: 101 Switching Protocols\r\nUpgrade: x\r\n\r\n$FINAL",
    switch2 => "${HINT}Status: 101\r\n\r\n$FINAL",
    alone => $HINT,
    then_bad => "${HINT}Status: 99\r\n\r\nraw bytes",
    redirect => "${HINT}Location: /other.txt\r\n\r\n",
);

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my (undef, $name, $size) = split m{/}, $request->{params}{PATH_INFO};
    if ($name eq 'pause') {
        $c->stdout($HINT);
        $c->wait_release($size, 10) or return;
        return $c->reply($FINAL);
    }
    if ($name eq 'endless') {
        my $hints = "Status: 103\r\n\r\n" x 4000;
        for (1 .. 16 * 1024 * 1024 / length $hints) {
            $c->stdout($hints) or last;
        }
        return $c->reply($FINAL);
    }
    if ($name eq 'fields') {
        my $hint = "Status: 103\n" . "a:\n" x 15_000 . "\n";
        $c->stdout($hint) or return for 1 .. 500;
        return $c->reply($FINAL);
    }
    $c->stdout($says{$name}, chunk => $size);
    $c->end;
}, workers => 2);

my $threads = $H2 ? "ThreadsPerChild 4\n" : '';
my $httpd = Httpd->start(
    vars => { APP => $app->handler }, http2 => $H2, modules => ['include'],
    mpm => "StartServers 1\nServerLimit 1\n"
        . 'MaxRequestWorkers ' . ($H2 ? 4 : 1) . "\n$threads",
    files => { 'other.txt' => 'a file',
               'parent.shtml' => '(<!--#include virtual="/app/one" -->)' },
    config => ($H2 ? "H2EarlyHints on\n" : '') . <<'EOC');
ErrorDocument 502 "broken"
AddType text/html .shtml
AddOutputFilter INCLUDES .shtml
<Directory @DOCROOT@>
  Options +Includes
</Directory>
<Location /app>
  SetHandler @APP@
</Location>
EOC

my @LINK = (Link => '</a.css>; rel=preload');

sub ok_final {
    my ($answer, $status) = @_;
    is_deeply([@$answer{qw(status body complete)}, $answer->header('X-A')],
              [$status // 200, 'whole body', 1, 'b'], 'the final answer');
    is($answer->header('Content-Type'), 'text/plain', 'its type');
    return;
}

subtest 'one and two, in records of any size' => sub {
    for my $size ('', 1, 7, 50) {
        my $answer = Client->get($httpd->port, "/app/one/$size");
        is_deeply($answer->interim, [{ status => 103, headers => [\@LINK] }],
                  "one, size '$size'");
        ok_final($answer);
        is($answer->header('Link'), undef, 'which has no hint');
        $answer = Client->get($httpd->port, "/app/two/$size");
        is_deeply($answer->interim, [
            { status => 103, headers => [\@LINK] },
            { status => 103, headers => [[Link => '</b.js>; rel=preload'],
                                         [Link => '</c.js>; rel=preload']] },
        ], 'two');
        ok_final($answer);
    }
    like(Client->get($httpd->port, '/app/one')->raw,
         qr{^HTTP/1.1 103 Early Hints\r\n}, 'its status line');
    my $answer = Client->get($httpd->port, '/app/status');
    is($answer->interim->[0]{status}, 103, 'before another status');
    ok_final($answer, 404);
    is($answer->reason, 'Not At All');
};

subtest 'at once' => sub {
    my $conn = Client->connect($httpd->port);
    for my $time (1, 2) {
        $conn->send("GET /app/pause/$time HTTP/1.1\r\nHost: x\r\n\r\n");
        ok($conn->read_until(qr/ 103 .*preload\r\n\r\n\z/s, 2),
           'the hint is here before the answer');
        $app->release($time);
        ok_final($conn->read_response);
    }
};

subtest 'many fields cost no memory' => sub {
    my ($pid) = $httpd->pids;
    my $peak = sub { Private::slurp("/proc/$pid/status") =~ /VmHWM:\s*(\d+)/;
                     return $1 };
    ok(Client->get($httpd->port, '/app/one')->complete, 'warm');
    my $before = $peak->();
    my $answer = Client->request(
        $httpd->port, "GET /app/fields HTTP/1.1\r\nHost: x\r\n\r\n",
        timeout => 60);
    is($answer->status, 200, 'the final answer');
    my $grown = $peak->() - $before;
    ok($grown < 20_000, 'a few MB') or diag "$grown KB";
} if -r "/proc/$$/status";

subtest 'other ones' => sub {
    my %interim = (continue => 100, processing => 102, odd => 199,
                   hops => 103, length => 103, type => 103);
    my $conn = Client->connect($httpd->port);
    for my $name (sort keys %interim) {
        $conn->send("GET /app/$name HTTP/1.1\r\nHost: x\r\n\r\n");
        my $answer = $conn->read_response;
        my @got = map { $_->{status} } @{ $answer->interim };
        is("@got", $interim{$name}, $name) if $name ne 'continue';
        is_deeply([@$answer{qw(status body complete)}],
                  [200, 'whole body', 1], 'the final answer');
        unlike(join(' ', map { $_->[0] } map { @{ $_->{headers} } }
                    @{ $answer->interim }),
               qr/Connection|Transfer|Length/, 'no framing');
    }
    is(Client->get($httpd->port, '/app/type')->header('Content-Type'), undef,
       'nor does its type stay');
};

subtest 'where there is no place for them' => sub {
    for my $name (qw(one two continue)) {
        my $answer = Client->request(
            $httpd->port, "GET /app/$name HTTP/1.0\r\n\r\n");
        is_deeply($answer->interim, [], "HTTP/1.0, $name");
        ok_final($answer);
    }
    my $answer = Client->get($httpd->port, '/parent.shtml');
    is_deeply($answer->interim, [], 'a part of a page');
    is($answer->body, '(whole body)');
};

subtest 'HTTP/2' => sub {
    plan skip_all => 'no HTTP/2 on prefork' if !$H2;
    my @args = ('--http2-prior-knowledge',
                'http://127.0.0.1:' . $httpd->port);
    for my $name (qw(one two)) {
        my $answer = Client::curl("$args[0]", "$args[1]/app/$name");
        my @blocks = split /\r\n\r\n/, $answer->{headers};
        my $last = pop @blocks;
        is(scalar @blocks, $name eq 'one' ? 1 : 2, "$name before");
        like($_, qr{^HTTP/2 103\b.*^link: <}msi, 'a hint') for @blocks;
        like($last, qr{^HTTP/2 200\b.*^x-a: b}msi, 'the final answer');
        unlike($last, qr{^link:}mi, 'which has no hint');
        is_deeply([@$answer{qw(exit status body)}], [0, 200, 'whole body']);
    }
    at_once_over_http2(@args);
    my $answer = Client::curl("$args[0]", "$args[1]/app/switch");
    is_deeply([@$answer{qw(status body)}], [502, 'broken'], '101 is broken');
};

sub at_once_over_http2 {
    my ($how, $base) = @_;
    my $dir = Private::temp_dir('curl');
    my $pid = Private::spawn(log => "$dir/log", exec => [
        'curl', '-q', '-vsN', '--max-time', 30, $how, "$base/app/pause/3"]);
    ok(Private::wait_until(5, sub {
        Private::slurp("$dir/log") =~ m{^< HTTP/2 103.*^< link}msi;
    }), 'the hint is here before the answer');
    $app->release(3);
    ok(Private::wait_until(5, sub { !Private::alive($pid) }), 'the end');
    like(Private::slurp("$dir/log"), qr/whole body/, 'and the answer');
    return;
}

subtest 'nothing good follows' => sub {
    for my $name (qw(switch switch2 alone then_bad)) {
        my $answer = Client->get($httpd->port, "/app/$name");
        is_deeply([@$answer{qw(status body complete)}], [502, 'broken', 1],
                  "$name: 502");
        unlike($answer->raw, qr/ 101 |Upgrade|raw bytes/);
        is($answer->header('Link'), undef, 'which has no hint');
    }
    my $answer = Client->get($httpd->port, '/app/redirect');
    is_deeply([@$answer{qw(status body)}], [200, 'a file'],
              'a redirect may follow');
};

# Peak memory of the one child, in KB, since the last call.
sub peak {
    my ($pid) = $httpd->pids;
    my ($peak) = Private::slurp("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m;
    Private::spew("/proc/$pid/clear_refs", '5');
    return $peak;
}

subtest 'a million of them cost no memory' => sub {
    Client->get($httpd->port, '/app/two') for 1 .. 4;
    peak();
    my $before = peak();
    my $answer = Client->get($httpd->port, '/app/endless');
    my $growth = peak() - $before;
    like($answer->status, qr/^(?:200|502)$/, 'an answer or an error');
    ok($answer->complete);
    cmp_ok($growth, '<', 4096, "and $growth KB more memory");
};

$httpd->ok_healthy;
done_testing;
