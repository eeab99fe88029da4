# A full backlog is waited for, and no request of a burst is turned away.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use IO::Select;
use IO::Socket::UNIX;
use PhpFpm;
use Private;
use Socket qw(pack_sockaddr_un SOCK_STREAM);
use Test::More;
use Time::HiRes qw(sleep time);

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $LATE = 1.0;         # seconds after a limit, for a busy machine
my $PATIENCE = 30;

# More threads or processes than any burst here has requests.
my $MANY = Httpd::mpm() eq 'prefork' ? <<'PREFORK' : <<'THREADS';
StartServers 110
ServerLimit 128
MinSpareServers 1
MaxSpareServers 120
MaxRequestWorkers 120
PREFORK
StartServers 2
ServerLimit 4
ThreadLimit 64
ThreadsPerChild 60
MinSpareThreads 1
MaxSpareThreads 120
MaxRequestWorkers 120
THREADS

# As FcgiBackend says it: connections that come and go, and kept ones.
my @KEYS = ('', 'keepalive=2');

sub start_httpd {
    my ($address, $keys, $config) = @_;
    my $backend = $keys && "FcgiBackend $address $keys";
    return Httpd->start(
        mpm => $MANY, files => { 'page.php' => <<'EOP' },
<?php usleep(5000); echo "answer $_GET[id]";
EOP
        config => <<"EOC");
$backend
AddHandler fcgi:$address .php
<Location /app>
  SetHandler fcgi:$address
</Location>
$config
EOC
}

# All of them at once; the answers in order.
sub burst {
    my ($httpd, @paths) = @_;
    my @conns = map { Client->connect($httpd->port) } @paths;
    $conns[$_]->send("GET $paths[$_] HTTP/1.1\r\nHost: x\r\n"
                     . "Connection: close\r\n\r\n") for 0 .. $#paths;
    return map { $_->read_response(timeout => $PATIENCE) } @conns;
}

# Each is a whole answer with its own number.
sub all_right {
    my ($httpd, @answers) = @_;
    my @wrong = grep {
        my $answer = $answers[$_];
        !$answer->complete || $answer->status != 200
            || $answer->body ne "answer $_";
    } 0 .. $#answers;
    my $ok = is(scalar @wrong, 0, @answers . ' answers');
    diag map({ "$_: " . ($answers[$_]->status // 'none') . "\n" } @wrong),
        $httpd->error_log =~ /^.*FCGI.*\n/mg if !$ok;
    return $ok;
}

for my $keys (@KEYS) {
    subtest "PHP-FPM, 2 children, backlog 8; $keys" => sub {
        plan skip_all => 'no php-fpm here' if !PhpFpm::program();
        my $php = PhpFpm->start(children => 2, backlog => 8,
                                transport => 'unix');
        my $httpd = start_httpd($php->address, $keys, '');
        all_right($httpd, burst($httpd,
                                map { "/page.php?id=$_" } 0 .. 39))
            for 1 .. 2;
        unlike($httpd->error_log, qr/FCGI(?!26|36)/, 'and nothing in the log');
        $httpd->leave;
    };

    # It takes a connection only after the one before, and a while.
    subtest "a slow application, backlog 1; $keys" => sub {
        my $app = FcgiApp->start(sub {
            my ($c) = @_;
            sleep 0.01;
            my $request = $c->read_request(20) or return;
            $c->reply("${HEAD}answer $request->{params}{QUERY_STRING}");
        }, transport => 'unix', backlog => 1);
        my $httpd = start_httpd($app->address, $keys, '');
        $app->pause;
        my $from = time;
        my $resume = Private::spawn(code => sub {
            sleep 0.3;
            $app->resume;
        });
        all_right($httpd, burst($httpd, map { "/app?$_" } 0 .. 99));
        note sprintf 'in %.1f s', time - $from;
        is($app->connections, 100, 'each was asked once');
        $httpd->leave;
    };
}

# A socket whose backlog is full: nobody accepts, and no more can come in.
sub full_socket {
    my ($dir) = @_;
    my $listener = IO::Socket::UNIX->new(Local => "$dir/full.sock",
                                         Listen => 1) or die $!;
    chmod 0777, "$dir/full.sock";
    my @waiting;
    while (my $socket = IO::Socket::UNIX->new(Type => SOCK_STREAM)) {
        $socket->blocking(0);
        last if !connect $socket, pack_sockaddr_un("$dir/full.sock");
        push @waiting, $socket;
        die 'the backlog has no end' if @waiting > 1000;
    }
    return ($listener, @waiting);
}

for my $keys ('', 'max=2 keepalive=2') {
    subtest "the limit; $keys" => sub {
        my $dir = Private::temp_dir('full');
        my ($listener, @waiting) = full_socket($dir);
        my $httpd = start_httpd("$dir/full.sock", $keys,
                                'FcgiConnectTimeout 1');
        my $from = time;
        my $answer = Client->get($httpd->port, '/app');
        my $took = time - $from;
        is($answer->status, 503, 'the backlog stays full: 503');
        is($answer->header('Retry-After'), 1, 'with Retry-After');
        cmp_ok($took, '>=', 1, 'not before the limit');
        cmp_ok($took, '<', 1 + $LATE, 'and then');
        note sprintf 'after %.1f ms', 1000 * $took;
        like($httpd->error_log, qr/FCGI01:\ .*\ phase\ connect:\ no\ place
            \ in\ the\ socket's\ backlog\ .*\ 1000\ ms\)/x,
             'the log says so');

        # the next comes in when there is room within the time
        my $conn = Client->connect($httpd->port);
        $conn->send("GET /app HTTP/1.1\r\nHost: x\r\n"
                    . "Connection: close\r\n\r\n");
        ok(!IO::Select->new($conn->{socket})->can_read(0.2), 'one waits');
        $listener->accept for @waiting;
        my $c = IO::Select->new($listener)->can_read(5)
            && $listener->accept;
        ok($c, 'and comes in when there is room');
        if ($c) {
            my $wire = FcgiApp::Connection->new($c);
            ok($wire->read_request(5), 'with its whole request');
            $wire->reply("${HEAD}late");
            $wire->close;
            is($conn->read_response->body, 'late', 'it is answered');
        }
        $httpd->leave;
    };
}

Httpd->ok_left;
done_testing;
