# A POST is sent in its turn even if its client has left the line; a GET is not.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use PhpFpm;
use Private;
use Test::More;

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $H2 = Httpd::mpm() ne 'prefork';
my $LARGE = 300_000;

# Answers when it is told to; says what came, and whether it was given up.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request(30) or return;
    my $name = $request->{params}{QUERY_STRING};
    $c->report(begun => "$name " . length($request->{stdin} // ''));
    Private::wait_until(20, sub {
        $c->readable(0.02) || $c->wait_release($name, 0);
    });
    return $c->report(ended => $name) if $c->readable;
    return $c->reply("${HEAD}$name");
}, workers => 4);

my $httpd = Httpd->start(http2 => $H2, vars => { APP => $app->address },
                         config => <<'EOC');
FcgiBackend app @APP@ max=1 queue-timeout=20
<Location />
  SetHandler fcgi:app
</Location>
<Location /fcgi-status>
  SetHandler fcgi-status
</Location>
EOC

sub ask {
    my ($method, $name, $len) = @_;
    my $conn = Client->connect($httpd->port);
    $conn->send("$method /?$name HTTP/1.1\r\nHost: x\r\nContent-Length: $len"
                . "\r\n\r\n" . 'x' x $len);
    return $conn;
}

# True once so many requests stand in line.
sub line_is {
    my ($count) = @_;
    my $said = '';
    return Private::wait_until(5, sub {
        $said = Client->get($httpd->port, '/fcgi-status?json')->body;
        return $said =~ /"waiting":\s*$count\b/;
    }) || diag $said =~ /("in_use.*?"waiting":\d+)/;
}

# One that has the only place.
sub hold {
    my ($name) = @_;
    my $conn = ask('GET', $name, 0);
    is($app->wait_report('begun'), "$name 0", 'one is at work');
    return $conn;
}

my %leave = (
    'closes'     => sub { $_[0]->close },
    'resets'     => sub { $_[0]->reset },
    'half closes' => sub { $_[0]->shutdown_write },
);

for my $way (sort keys %leave) {
    subtest "POST: the client $way" => sub {
        my $name = $way =~ tr/ /-/r;
        my $holder = hold("$name-holder");
        my @posts = map { ask('POST', "$name-$_", $_) } 1, $LARGE;
        ok(line_is(2), 'two wait');
        $leave{$way}->($_) for @posts;
        # longer than any silence that ends an exchange
        is($app->wait_report('begun', 1.5), undef, 'they still wait');
        ok(line_is(2), 'in line');
        $app->release("$name-holder");
        is($holder->read_response->status, 200, 'the holder is answered');
        my (@names, @ended);
        for my $n (1, 2) {
            my $begun = $app->wait_report('begun');
            like($begun, qr/^\Q$name\E-(\d+) \1$/, 'sent, with its body');
            push @names, $begun =~ /^(\S+)/;
            if ($way eq 'half closes') {
                $app->release($names[-1]);
            }
            else { # not in their order, as each has its process there
                push @ended, $app->wait_report('ended');
            }
        }
        is_deeply([sort @ended], [sort @names], 'then they are over')
            if $way ne 'half closes';
        isnt($names[0], $names[1], 'both of them');
        if ($way eq 'half closes') {
            is($_->read_response->status, 200, 'answered') for @posts;
        }
    };
}

subtest 'a GET leaves the line' => sub {
    my $holder = hold('get-holder');
    for my $way (sort keys %leave) {
        my $conn = ask("GET", "get-" . ($way =~ tr{ }{-}r), 0);
        ok(line_is(1), 'it waits');
        $leave{$way}->($conn);
        ok(line_is(0), "it $way, and has left");
    }
    $app->release('get-holder');
    is($holder->read_response->status, 200, 'the holder is answered');
    is($app->wait_report('begun', 0.3), undef, 'nobody else was sent');
};

subtest 'HTTP/2' => sub {
    plan skip_all => 'no HTTP/2 on prefork' if !$H2;
    my $holder = hold('h2-holder');
    my $dir = Private::temp_dir('curl');
    my $post = Private::spawn(
        exec => ['curl', '-q', '-sS', '--http2-prior-knowledge', '-d', 'abc',
                 'http://127.0.0.1:' . $httpd->port . '/?h2'],
        log => "$dir/log");
    ok(line_is(1), 'it waits');
    Private::end($post, 'KILL');
    is($app->wait_report('begun', 1), undef, 'it still does');
    $app->release('h2-holder');
    is($holder->read_response->status, 200, 'the holder is answered');
    is($app->wait_report('begun'), 'h2 3', 'sent, with its body');
    $app->release('h2');
};

$httpd->leave;

# A job as WordPress starts it: a POST whose client does not wait.
subtest 'PHP-FPM' => sub {
    plan skip_all => 'no php-fpm here' if !PhpFpm::program();
    my $php = PhpFpm->start(children => 3);
    my $server = Httpd->start(
        vars => { PHP => $php->address },
        files => { 'cron.php' => <<'EOP' }, config => <<'EOC');
<?php
ignore_user_abort(true);
usleep(100000);
file_put_contents(dirname(__DIR__) . "/tmp/ran", "$_GET[n]\n",
                  FILE_APPEND | LOCK_EX);
EOP
FcgiBackend php @PHP@ max=3
AddHandler fcgi:php .php
EOC
    for my $n (1 .. 10) {
        my $conn = Client->connect($server->port);
        $conn->send("POST /cron.php?n=$n HTTP/1.1\r\nHost: x\r\n"
                    . "Content-Length: 0\r\n\r\n");
        $conn->read_some(0.01);
        $conn->close;
    }
    my $ran = $server->root . '/tmp/ran';
    ok(Private::wait_until(20, sub {
        -e $ran && 10 == (() = Private::slurp($ran) =~ /\n/g);
    }), 'all ten ran') or diag -e $ran ? Private::slurp($ran) : 'none';
    my @numbers = sort { $a <=> $b } split /\n/, Private::slurp($ran);
    is("@numbers", '1 2 3 4 5 6 7 8 9 10', 'each once');
    $server->leave;
};

Httpd->ok_left;
done_testing;
