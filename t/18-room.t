# The log says at startup how many requests can wait, if nobody has chosen it.
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

delete $ENV{PARK};      # each says its own

my $CAN_PARK = Httpd::can_park();
my $EVENT = Httpd::mpm() eq 'event';
my $APP = "SetHandler fcgi:127.0.0.1:9\n";
my $FACTOR = "AsyncRequestWorkerFactor 3\n";

sub mpm_of {
    my ($threads, $children) = @_;
    my $all = $threads * $children;
    return <<"EOC";
StartServers 1
ServerLimit 16
ThreadLimit 500
ThreadsPerChild $threads
MinSpareThreads 1
MaxSpareThreads $all
MaxRequestWorkers $all
EOC
}

sub started {
    my ($config, $mpm) = @_;
    return Httpd->start(log_level => 'warn', config => $config,
                        $EVENT ? (mpm => $mpm // mpm_of(25, 6)) : ());
}

sub said {
    my ($httpd) = @_;
    return $httpd->words =~ /FCGI36: (.*)/g;
}

sub text {
    my ($connections, $in_all, $threads, $possible, $all_possible, $factor)
        = @_;
    return 'requests that wait hold no thread (FcgiPark), but count as'
        . " connections: a child of httpd takes about $connections at most,"
        . " and $in_all in all children ($threads threads and httpd's default"
        . " AsyncRequestWorkerFactor, 2); for $possible and $all_possible"
        . " write AsyncRequestWorkerFactor $factor (and let a child have more"
        . ' than ' . 4 * $possible . ' files: ulimit -n)';
}

subtest 'what is said' => sub {
    my %said = (
        '25 6' => text(75, 450, 25, 1025, 6150, 40),
        '16 1' => text(48, 48, 16, 1024, 1024, 63),
        '64 4' => text(192, 768, 64, 1088, 4352, 16),
    );
    for my $numbers (sort keys %said) {
        my $httpd = started($APP, mpm_of(split / /, $numbers));
        is_deeply([said($httpd)], $CAN_PARK ? [$said{$numbers}] : [],
                  "threads, children: $numbers");
        $httpd->leave;
    }
};

subtest 'where it is said' => sub {
    my %said = (
        'an application' => $APP,
        'FcgiBackend alone' => "FcgiBackend 127.0.0.1:9\n",
        'an expression' => 'SetHandler "fcgi:%{HTTP:X}"' . "\n",
        'FcgiAllow' => "FcgiAllow /run/*\n",
        'FcgiPark' => "${APP}FcgiPark 0\n",
        'Off, and not Off' => "${APP}FcgiPark Off\nFcgiPark 1s\n",
        'Off but for a section' =>
            "${APP}FcgiPark Off\n<Location /x>\nFcgiPark 1s\n</Location>\n",
        'Off but for a virtual host' =>
            "${APP}FcgiPark Off\n<VirtualHost *>\nFcgiPark 1s\n"
            . "</VirtualHost>\n",
        'Off in a section' =>
            "$APP<Location /x>\nFcgiPark Off\n</Location>\n",
    );
    for my $what (sort keys %said) {
        my $httpd = started($said{$what});
        is(scalar(my @lines = said($httpd)), $CAN_PARK ? 1 : 0, $what);
        $httpd->leave;
    }
};

subtest 'where it is not' => sub {
    my %not = (
        'no application' => '',
        'none for .htaccess files' => "FcgiAllow None\n",
        'FcgiPark Off' => "${APP}FcgiPark Off\n",
        'Off, the last one' => "${APP}FcgiPark 1s\nFcgiPark off\n",
        'Off everywhere' =>
            "${APP}FcgiPark Off\n<Location /x>\nFcgiPark off\n</Location>\n"
            . "<VirtualHost *>\nFcgiPark Off\n</VirtualHost>\n",
        $EVENT ? (
            'the factor is set' => "$APP$FACTOR",
            'in other letters' => $APP . lc $FACTOR,
            'as it is by itself' => "${APP}AsyncRequestWorkerFactor 2\n",
            'below IfModule' =>
                "$APP<IfModule mpm_event_module>\n$FACTOR</IfModule>\n",
        ) : (),
    );
    for my $what (sort keys %not) {
        my $httpd = started($not{$what});
        is_deeply([said($httpd)], [], $what);
        $httpd->leave;
    }
    if ($EVENT) {
        my $httpd = started($APP, mpm_of(500, 2));
        is_deeply([said($httpd)], [], 'a child takes a thousand');
        $httpd->leave;
    }
    my (undef, $output) = Httpd->configtest($APP);
    like($output, qr/Syntax OK/, 'a test of the configuration');
    unlike($output, qr/FCGI36/, 'says nothing');
    for my $mpm (qw(worker prefork)) {
        local $ENV{MPM} = $mpm;
        my $httpd = Httpd->start(log_level => 'warn', config => $APP);
        is_deeply([said($httpd)], [], "the MPM $mpm");
        $httpd->leave;
    }
};

subtest 'restarts' => sub {
    plan skip_all => 'not this MPM' if !$CAN_PARK;
    my $httpd = started('');
    my $file = $httpd->root . '/httpd.conf';
    my $text = Private::slurp($file);
    my $count = sub { scalar(my @lines = said($httpd)) };
    my $again = sub {
        Private::spew($file, $_[0]);
        $httpd->graceful;
        return $count->();
    };
    is($count->(), 0, 'no application');
    is($again->("$text$APP"), 1, 'there is one');
    is($again->("$text$APP#"), 1, 'once is enough');
    my $fewer = "$text$APP" =~ s/ThreadsPerChild 25/ThreadsPerChild 10/r;
    is($again->($fewer), 2, 'other numbers');
    is((said($httpd))[-1], text(30, 450, 10, 1010, 15150, 100),
       'are said') or diag $httpd->error_log;
    is($again->("$text$APP$FACTOR"), 2, 'the factor is set');
    is($again->("$text$APP"), 2, 'and may be so still');
    $httpd->leave;
};

# What is said is true. httpd takes a factor less once it has had to stop, and
# some more when they come faster than its threads count them.
subtest 'so many, and no more' => sub {
    plan skip_all => 'not this MPM' if !$CAN_PARK;
    my $app = FcgiApp->start(sub {
        my ($c) = @_;
        $c->read_request or return;
        $c->reply("Content-Type: text/plain\r\n\r\nhere");
    }, workers => 2, backlog => 40);
    my $threads = 4;
    for my $factor (0, 7) {
        my $httpd = Httpd->start(
            vars => { APP => $app->handler }, mpm => mpm_of($threads, 1),
            log_level => 'info fastcgi_handler:trace4',
            config => "SetHandler \@APP\@\n"
                . ($factor ? "AsyncRequestWorkerFactor $factor\n" : ''));
        my $taken = $threads * (1 + ($factor || 2));
        my $least = $taken - ($factor || 2);
        my $parked = sub {
            scalar(() = $httpd->error_log =~ /waits without a thread/g);
        };
        my ($said) = $httpd->words =~ /a child of httpd takes about (\d+) /;
        is($said, $factor ? undef : $taken, 'that is said');
        $app->pause;
        my @waiting = map {
            my $conn = Client->connect($httpd->port);
            $conn->send("GET /$_ HTTP/1.1\r\nHost: x\r\n"
                        . "Connection: close\r\n\r\n");
            $conn;
        } 1 .. $taken + 3 * $threads;
        ok(Private::wait_until(20, sub { $parked->() >= $least }),
           "at least $least wait without a thread") or diag $parked->();
        ok(!$waiting[-1]->read_response(timeout => 1)->complete,
           'not all of them');
        cmp_ok($parked->(), '<=', $taken + $threads, 'hardly more than said');
        $app->resume;
        is(scalar(grep { $_->read_response->body eq 'here' }
                  @waiting[0 .. $#waiting - 1]), $#waiting,
           'all get their answers');
        $_->close for @waiting;
        $httpd->leave;
    }
};

Httpd->ok_left;
done_testing;
