# Of three machines one may be cut off, stopped, killed or slow: no request is lost that it has not got.
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Each machine has PHP-FPM. Two httpds share them and what befalls them: one
# with mod_proxy_fastcgi, which has to keep our promises, and one with
# mod_proxy_fcgi, whose figures are printed beside ours and decide nothing.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Httpd;
use List::Util qw(max min sum0);
use Machine;
use PhpFpm;
use Private;
use Test::More;
use Time::HiRes qw(time);

my $CLIENTS = 6;        # of each httpd
my $ANSWERS = 240;      # so many make a phase
my $TIMEOUT = 6;        # seconds, of a member
my $PATIENCE = 120;     # seconds for what happens by itself at some time
my @NAMES = qw(a b c);
my @WHO = qw(ours mod_proxy_fcgi);

plan skip_all => 'no php-fpm here' if !PhpFpm::program();
my %machine;
for my $name (@NAMES) {
    $machine{$name} = Machine->start or plan skip_all => Machine::why_not();
}

# Says which machine it is on, and what it got, and notes each POST that it
# begins with. Is slow while a file says so.
my $dir = Private::temp_dir('machines');
my %php = map {
    $_ => PhpFpm->start(machine => $machine{$_}, children => 2 * $CLIENTS,
                        pool => "env[MACHINE] = $_\n");
} @NAMES;
Private::spew("$dir/docs/app.php", <<"EOP");
<?php
header("Content-Type: text/plain");
\$name = getenv("MACHINE");
if (\$_SERVER["REQUEST_METHOD"] == "POST")
    file_put_contents("$dir/posts", \$_SERVER["HTTP_X_ID"] . "\\n", FILE_APPEND);
usleep(is_file("$dir/slow-\$name") ? 1000000 : 50000);
echo \$name, " ", strlen(file_get_contents("php://input"));
EOP
chmod 0666, Private::spew("$dir/posts", '');

# Both have the same balancers, of the same members. PHP is behind each.
sub httpd {
    my (%opt) = @_;
    my $members = join '', map {
        "  BalancerMember \"fcgi://@{[ $php{$_}->address ]}\" "
            . "retry=1 timeout=$TIMEOUT\n"
    } @NAMES;
    return Httpd->start(
        mpm => Httpd::several(16),
        access_format => '%{X-Id}i %>s %{fcgi-bytes-out}n', %opt,
        config => join('', map { <<"EOC" } qw(byrequests bybusyness)));
<Proxy "balancer://$_">
$members  ProxySet lbmethod=$_ failontimeout=On
</Proxy>
<Location "/$_">
  SetHandler "proxy:balancer://$_"
  ProxyFCGISetEnvIf "true" SCRIPT_FILENAME "$dir/docs/app.php"
</Location>
EOC
}

my @BALANCER = qw(slotmem_shm proxy proxy_balancer lbmethod_byrequests
                  lbmethod_bybusyness);
my %httpd = (
    ours => httpd(modules => [@BALANCER, 'proxy_fastcgi']),
    mod_proxy_fcgi => httpd(modules => [@BALANCER, 'proxy_fcgi'],
                            module => 0),
);

# ---- clients ----

# One of them: a GET, a POST, a GET ... Each is a line, when it is over.
sub run_client {
    my ($who, $nr) = @_;
    my $owner = getppid;
    open my $out, '>>', "$dir/$who" or die $!;
    $out->autoflush(1);
    for (my $n = 1; getppid == $owner; $n++) {
        last if -e "$dir/end";
        my $method = -e "$dir/bybusyness" ? 'bybusyness' : 'byrequests';
        my $id = "$who-$nr-$n";
        my $len = $n % 2 ? 0 : 3000;
        my $began = time;
        my $answer = eval {
            Client->request(
                $httpd{$who}->port, ($len ? 'POST' : 'GET')
                . " /$method/x HTTP/1.1\r\nHost: x\r\nX-Id: $id\r\n"
                . "Connection: close\r\nContent-Length: $len\r\n\r\n"
                . 'x' x $len, timeout => 60);
        };
        my ($machine) = $answer && $answer->complete
            && $answer->body =~ /^([abc]) $len$/;
        printf $out "%s %s %s %.6f %.6f\n", $id,
            $answer && $answer->status || 'none', $machine || '-', $began,
            time - $began;
    }
    return;
}

# All requests that are over: [{ id, status, machine, began, took }, ...].
sub requests {
    my ($who) = @_;
    return map {
        my %request;
        @request{qw(id status machine began took)} = split;
        \%request;
    } split /\n/, Private::slurp("$dir/$who") =~ s/[^\n]*\z//r;
}

sub since {
    my ($who, $began) = @_;
    return grep { $_->{began} >= $began } requests($who);
}

sub are_right { return grep { $_->{machine} ne '-' } @_ }

# True when both have given so many right answers since then.
sub wait_for_answers {
    my ($began) = @_;
    local $Private::POLL = 0.3;
    return Private::wait_until($PATIENCE, sub {
        min(map { scalar are_right(since($_, $began)) } @WHO) >= $ANSWERS;
    });
}

# True when that machine answers both again.
sub wait_for_machine {
    my ($name, $began) = @_;
    local $Private::POLL = 0.3;
    return Private::wait_until($PATIENCE, sub {
        !grep {
            my $who = $_;
            !grep { $_->{machine} eq $name } since($who, $began);
        } @WHO;
    });
}

# { machine => answers } of the requests that began in that time.
sub spread {
    my ($who, $from, $to) = @_;
    my %count = map { $_ => 0 } @NAMES;
    $count{$_->{machine}}++ for are_right(
        grep { $_->{began} < $to } since($who, $from));
    return \%count;
}

# ---- what is promised, and what was seen ----

# The bytes that each request has sent to its last member, by its id.
sub sent {
    my $log = $httpd{ours}->access_log;
    return { $log =~ /^(\S+) \d+ (\d+)$/mg };
}

my @figures;

# The POSTs that PHP has begun more than once, of those.
sub begun_again {
    my (@requests) = @_;
    my %times;
    $times{$_}++ for split /\n/, Private::slurp("$dir/posts");
    return grep { ($times{$_->{id}} // 0) > 1 } @requests;
}

# What was lost, what was done twice, and the longest wait, of what began since
# then.
sub note_figures {
    my ($what, $began) = @_;
    for my $who (@WHO) {
        my @all = since($who, $began);
        my @lost = grep { $_->{machine} eq '-' } @all;
        my $lost = @lost;
        my $again = begun_again(@all);
        push @figures, sprintf '%-11s %-15s %5d %5d %5d %9.1f s', $what, $who,
            scalar @all, $lost, $again, max(map { $_->{took} } @all);
    }
    return;
}

# Of what began since then, what was lost had been sent to its machine.
sub ok_none_lost_before {
    my ($began) = @_;
    my @lost = grep { $_->{machine} eq '-' } since('ours', $began);
    Private::wait_until(10, sub {
        my $sent = sent();
        !grep { !exists $sent->{$_->{id}} } @lost;
    });
    my $sent = sent();
    my @never = grep { !$sent->{$_->{id}} } @lost;
    is(scalar @never, 0, 'no request is lost that its machine has not got')
        or diag join("\n", map { "$_->{id} $_->{status}" } @never),
        $httpd{ours}->error_log =~ s/^.*(?:info|notice)\].*\n//mgr;
    my @odd = grep { $_->{status} !~ /^50[24]$/ } @lost;
    is(scalar @odd, 0, 'what is lost is a 502 or a 504')
        or diag join ' ', map { $_->{status} } @odd;
    is(scalar begun_again(since('ours', $began)), 0, 'no POST is done twice');
    return scalar @lost;
}

my @clients = map {
    my $who = $_;
    map { my $nr = $_; Private::spawn(code => sub { run_client($who, $nr) }) }
        1 .. $CLIENTS;
} @WHO;

my $started = time;
ok(wait_for_answers($started), 'all is well');
is(ok_none_lost_before($started), 0, 'nothing is lost at all');
note_figures('well', $started);
my $well = spread('ours', $started, time);
cmp_ok(min(values %$well), '>', 0.6 * max(values %$well), 'in turn')
    or diag explain $well;

# What befalls one machine, and how that ends. It is known to be out when it
# has answered nothing for so long.
sub befalls {
    my ($what, $name, $begin, $end) = @_;
    my @others = grep { $_ ne $name } @NAMES;
    my $began = time;
    $begin->();
    my $noticed = time;
    ok(wait_for_answers($noticed), "$what: the others go on");
    my $spread = spread('ours', $noticed, time);
    is($spread->{$name}, 0, 'it answers nothing');
    cmp_ok(min(@$spread{@others}), '>', 0.6 * max(@$spread{@others}),
           'the others share its part') or diag explain $spread;
    my $ended = time;
    $end->();
    ok(wait_for_machine($name, $ended), 'it comes back by itself');
    $ended = time;
    ok(wait_for_answers($ended), 'and all is well');
    $spread = spread('ours', $ended, time);
    cmp_ok(min(values %$spread), '>', 0.6 * max(values %$spread),
           'in turn again') or diag explain $spread;
    ok_none_lost_before($began);
    note_figures($what, $began);
    return;
}

befalls('cut off', 'a', sub { $machine{a}->cut }, sub { $machine{a}->mend });
befalls('stopped', 'b', sub { $php{b}->pause }, sub { $php{b}->resume });
befalls('killed', 'c', sub { $php{c}->kill }, sub { $php{c}->restart });

# byrequests gives a slow one as many as others, bybusyness fewer.
Private::spew("$dir/bybusyness", '');
Private::spew("$dir/slow-a", '');
my $slow = time;
ok(wait_for_answers($slow), 'slow: all go on');
my $share = spread('ours', $slow, time);
cmp_ok($share->{a}, '<', 0.7 * min(@$share{qw(b c)}), 'bybusyness: it has less')
    or diag explain $share;
unlink "$dir/slow-a";
is(ok_none_lost_before($slow), 0, 'nothing is lost');
note_figures('slow', $slow);

Private::spew("$dir/end", '');
Private::wait_until(60, sub { !grep { Private::alive($_) } @clients });
diag join "\n", '', sprintf('%-11s %-15s %5s %5s %5s %11s', 'machine',
                            'gateway', 'all', 'lost', 'twice', 'longest'), @figures;
$httpd{ours}->ok_healthy;
done_testing;
