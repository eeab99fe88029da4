# A child that keeps an idle connection sleeps until something happens to it.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use JSON::PP ();
use Private;
use Test::More;
use Time::HiRes qw(sleep time);

# A thread of httpd's own may look after its own things meanwhile.
my $HANDFUL = 10;

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    $c->reply("Content-Type: text/plain\r\n\r\n" . $c->number)
        while $c->read_request(60);
}, workers => 8);

# How often each thread of httpd's children has woken up so far.
sub wakes {
    my ($httpd) = @_;
    my %wakes;
    for my $status (map { glob "/proc/$_/task/*/status" } $httpd->pids) {
        ($wakes{$status}) = Private::slurp($status)
            =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
    }
    return \%wakes;
}

# How often the thread that woke up most did so in a second.
sub most_wakes {
    my ($httpd) = @_;
    my $before = wakes($httpd);
    my $from = time;
    sleep 1;
    my $after = wakes($httpd);
    my $seconds = time - $from;
    my ($most) = sort { $b <=> $a } map {
        ($after->{$_} // 0) - $before->{$_}
    } keys %$before;
    note sprintf '%d times in %.2f s', $most, $seconds;
    return $most / $seconds;
}

sub idle {
    my ($httpd) = @_;
    my $text = Client->get($httpd->port, '/fcgi-status?json')->body;
    return JSON::PP->new->decode($text)->{backends}[0]{idle};
}

my $httpd = Httpd->start(
    vars => { APP => $app->address }, config => <<'EOC');
FcgiBackend app @APP@ keepalive=8 idle=60
<Location /app>
  SetHandler fcgi:app
</Location>
<Location /fcgi-status>
  SetHandler fcgi-status
</Location>
EOC

is(Client->get($httpd->port, '/app')->body, 1, 'asked');
ok(Private::wait_until(5, sub { idle($httpd) == 1 }), 'it is kept');
cmp_ok(most_wakes($httpd), '<=', $HANDFUL, 'with an idle connection');
$app->restart;
ok(Private::wait_until(5, sub { idle($httpd) == 0 }), 'it ends');
cmp_ok(most_wakes($httpd), '<=', $HANDFUL, 'without one');
is(Client->get($httpd->port, '/app')->body, 2, 'asked again');
ok(Private::wait_until(5, sub { idle($httpd) == 1 }), 'it is kept');
cmp_ok(most_wakes($httpd), '<=', $HANDFUL, 'and with one again');
$httpd->ok_healthy;
done_testing();
