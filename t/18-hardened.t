# httpd with no more rights than docs/security.rst leaves it serves all the same.
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# systemd's words are taken from the document and said by other programs: what
# may not be written is mounted so, for this httpd alone, and the capabilities
# are dropped before it starts.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Private;
use Test::More;

my ($unit, $dir);

# Before Httpd.pm asks which program it is to start.
BEGIN {
    plan skip_all => 'only root can take rights away' if $> != 0;
    plan skip_all => 'no mounts of its own here'
        if system qw(unshare --mount --propagation private true);
    ($unit) = Private::slurp("$Bin/../docs/security.rst")
        =~ /^   \[Service\]\n((?:   \w+=.*\n)+)/m;
    my @kept = ($unit // '') =~ /\bCAP_(\w+)/g;
    my $capabilities = join ',', '-all', map { '+' . lc } @kept;
    $dir = Private::temp_dir('hardened');
    my $program = $ENV{HTTPD} || '/usr/sbin/apache2';
    $ENV{HTTPD} = Private::spew("$dir/httpd", <<"EOC", 0755);
#!/bin/sh
exec unshare --mount --propagation private sh -c '
    for folder in /usr /boot /etc; do
        mount --bind \$folder \$folder &&
            mount -o remount,bind,ro \$folder || exit 1
    done
    exec setpriv --no-new-privs --bounding-set=$capabilities \\
        $program "\$@"' httpd "\$@"
EOC
}

use Client;
use FcgiApp;
use Httpd;

like($unit, qr/^   $_$/m, $_)
    for qw(NoNewPrivileges=yes ProtectSystem=full),
        qr/CapabilityBoundingSet=(?:CAP_\w+ ?)+/, 'PrivateDevices=yes';

my $app = FcgiApp->start(\&FcgiApp::echo_params, workers => 2);
my $httpd = Httpd->start(
    tls => 1, http2 => Httpd::mpm() ne 'prefork',
    vars => { APP => $app->address }, config => <<'EOC');
FcgiBackend app @APP@ max=2 keepalive=1
FcgiBufferMemory 4K
<Location />
  SetHandler fcgi:app
</Location>
EOC

sub rights {
    my ($name) = @_;
    my ($value) = Private::slurp('/proc/' . $httpd->pid . '/status')
        =~ /^$name:\s+(\w+)/m;
    return $value;
}

is(rights('NoNewPrivs'), 1, 'it gets no new rights');
# CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_NET_BIND_SERVICE
my $five = 0;
$five |= 1 << $_ for 0, 5, 6, 7, 10;
is(hex rights('CapBnd'), $five, 'and has five old ones');
unlike(Private::slurp('/proc/' . $httpd->pid . '/mountinfo')
       =~ s/^(?!.* \/usr ).*\n//mgr, qr{ /usr rw}, '/usr is read-only');

sub serves {
    my ($name) = @_;
    is(Client->get($httpd->port, '/x')->status, 200, "$name: it serves");
    my $body = 'x' x 100_000;
    like(Client->request($httpd->port, "POST /x HTTP/1.1\r\nHost: x\r\n"
             . "Connection: close\r\nContent-Length: 100000\r\n\r\n$body")
             ->body, qr/\n\n$body\z/, 'and holds a body');
    is(Client::curl('-k', 'https://localhost:' . $httpd->tls_port . '/x')
           ->{status}, 200, 'and TLS');
    return;
}

serves('at first');
my @pids = $httpd->pids;
$httpd->graceful;
serves('after a reload');
ok(Private::wait_until(20, sub {
    my %there = map { $_ => 1 } $httpd->pids;
    !grep { $there{$_} } @pids;
}), 'the old children are gone');
$httpd->kill_children(($httpd->pids)[0]);
ok(Private::wait_until(20, sub {
    (eval { Client->get($httpd->port, '/x')->status } // 0) == 200;
}), 'a child that was killed is replaced');
$httpd->stop_gracefully;
unlike($httpd->words, qr/exit signal (?!Killed)|Permission|not permitted/,
       'it missed nothing') or diag($httpd->words);
done_testing;
