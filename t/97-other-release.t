# A kept connection does not outlive the release that its socket's path leads to.
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

my $NOTICED = 2;        # seconds: one, on a busy machine
my $ONE = Httpd::mpm() eq 'prefork' ? <<'PREFORK' : undef;
StartServers 1
ServerLimit 4
MinSpareServers 1
MaxSpareServers 1
MaxRequestWorkers 1
PREFORK

# Answers with its name, its connection and the request's number there. Says
# when a connection ends.
sub app_called {
    my ($name) = @_;
    return sub {
        my ($c) = @_;
        my $nr = 0;
        while (my $request = $c->read_request(60)) {
            $nr++;
            my $how = $request->{params}{QUERY_STRING} // '';
            if ($how) {
                $c->stdout("Content-Type: text/plain\r\n\r\nbegun ");
                $c->wait_release($how, 20);
                $c->stdout("$name " . $c->number . " $nr");
                $c->end;
                next;
            }
            $c->reply("Content-Type: text/plain\r\n\r\n$name " . $c->number
                      . " $nr");
        }
        $c->report(closed => $c->number);
    };
}

my $dir = Private::temp_dir('releases');
my @all = (transport => 'unix', workers => 4);

sub start_httpd {
    my ($address, $keys) = @_;
    return Httpd->start(mpm => $ONE, config => <<"EOC");
FcgiBackend app $address $keys
<Location />
  SetHandler fcgi:app
</Location>
EOC
}

# [application, connection, number of the request there]
sub ask {
    my ($httpd, $method) = @_;
    my $answer = Client->request(
        $httpd->port, ($method || 'GET') . " / HTTP/1.1\r\nHost: x\r\n"
        . "Connection: close\r\nContent-Length: 0\r\n\r\n");
    return split ' ', $answer->body;
}

sub turn_link {
    my ($to, $link) = @_;
    symlink $to, "$link.new" or die $!;
    return rename "$link.new", $link;
}

# Asks all the time, until another application answers.
sub wait_for {
    my ($httpd, $name) = @_;
    my ($count, $from) = (0, time);
    my $seen = Private::wait_until(5, sub {
        $count++;
        (ask($httpd))[0] eq $name;
    });
    ok($seen, "$name answers, after $count requests");
    cmp_ok(time - $from, '<', $NOTICED, 'in time');
    return;
}

for my $keys ('keepalive=2', 'max=1 keepalive=1') {
    subtest "a link is turned: $keys" => sub {
        my %app = map {
            $_ => FcgiApp->start(app_called($_), @all,
                                 socket => "$dir/$_.sock")
        } qw(old new);
        my $link = "$dir/current.sock";
        turn_link("$dir/old.sock", $link);
        my $httpd = start_httpd($link, "$keys idle=60");
        my @connections = map { join ' ', (ask($httpd))[0, 1] } 1 .. 20;
        is_deeply(\@connections, [('old 1') x 20], 'one carries all');

        my $busy = Client->connect($httpd->port);
        $busy->send("GET /?go HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                    . "\r\n");
        ok($busy->read_until(qr/begun/), 'a request has begun');
        turn_link("$dir/new.sock", $link);
        is($app{old}->wait_report('closed', $NOTICED), undef,
           'it is not cut') if $keys !~ /max/;
        $app{old}->release('go');
        my $answer = $busy->read_response;
        $busy->close;       # with prefork its child lingers for it
        like($answer->body, qr/^begun old 1 21$/, 'ends on the old one');
        wait_for($httpd, 'new');
        is($app{old}->wait_report('closed', 5), 1, 'the old one is closed');
        is((ask($httpd, 'POST'))[0], 'new', 'a POST goes there, too');
        my (undef, $number, $nr) = ask($httpd);
        my (undef, @next) = ask($httpd);
        is("@next", "$number " . ($nr + 1), 'and connections are kept');

        turn_link("$dir/old.sock", $link);
        wait_for($httpd, 'old');
        $httpd->leave;
    };
}

subtest 'an idle one' => sub {
    my %app = map {
        $_ => FcgiApp->start(app_called($_), @all, socket => "$dir/$_.2")
    } qw(old new);
    my $link = "$dir/current.2";
    turn_link("$dir/old.2", $link);
    my $httpd = start_httpd($link, 'keepalive=1 idle=60');
    is(join(' ', ask($httpd)), 'old 1 1', 'the old one answers');
    turn_link("$dir/new.2", $link);
    select undef, undef, undef, 1.1;    # the second that it may take
    is(join(' ', ask($httpd)), 'new 1 1', 'then the new one');
    is($app{old}->wait_report('closed', 5), 1, 'in place of the old one');
    $httpd->leave;
};

subtest 'a socket is made anew' => sub {
    my $old = FcgiApp->start(app_called('old'), @all, socket => "$dir/app");
    my $httpd = start_httpd("$dir/app", 'keepalive=1 idle=60');
    is(join(' ', ask($httpd)), 'old 1 1', 'the old one answers');
    rename "$dir/app", "$dir/away";
    select undef, undef, undef, 1.1;
    is(join(' ', ask($httpd)), 'old 1 2', 'also while nothing is there');
    my $new = FcgiApp->start(app_called('new'), @all, socket => "$dir/app");
    wait_for($httpd, 'new');
    is($old->wait_report('closed', 5), 1, 'the old one is closed');
    $httpd->leave;
};

subtest 'lifetime=' => sub {
    my $app = FcgiApp->start(app_called('app'), transport => 'tcp',
                             workers => 4);
    my $httpd = start_httpd($app->address,
                            'keepalive=1 idle=60 lifetime=700ms');
    my $from = time;
    my @first = ask($httpd);
    is("@first", 'app 1 1', 'a connection');
    my $last;
    ok(Private::wait_until(5, sub {
        my @next = ask($httpd);
        $last = $next[2] if $next[1] == 1;
        $next[1] == 2;
    }), 'another, though it was always busy');
    cmp_ok(time - $from, '>=', 0.6, 'not too early');
    cmp_ok(time - $from, '<', $NOTICED, 'in time');
    cmp_ok($last, '>', 1, 'it carried more than one request until then');
    is($app->wait_report('closed', 5), 1, 'and is closed');
    is($app->wait_report('closed', $NOTICED), 2, 'an idle one is, too');

    my $busy = Client->connect($httpd->port);
    $busy->send("GET /?go HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    ok($busy->read_until(qr/begun/), 'a request has begun');
    is($app->wait_report('closed', 1), undef, 'and is not cut');
    $app->release('go');
    like($busy->read_response->body, qr/^begun app 3 1$/, 'nor its answer');
    is($app->wait_report('closed', 5), 3, 'but no other comes on it');
    ok($httpd->error_log =~ /FCGI26: .* lifetime=700ms/, 'FCGI26 says so');
    $httpd->leave;
};

Httpd->ok_left;
done_testing;
