# Without a connection there is a 503 in time, and a line that says why.
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

my $dir = Private::temp_dir('none');
my $app = FcgiApp->start(\&FcgiApp::echo_params);
my $crashed = FcgiApp->start(\&FcgiApp::echo_params, transport => 'unix');
my $closed = FcgiApp->start(\&FcgiApp::echo_params, transport => 'unix',
                            socket => "$dir/closed.sock");
mkdir "$dir/private", 0700;
my $inside = FcgiApp->start(\&FcgiApp::echo_params, transport => 'unix',
                            socket => "$dir/private/app.sock");
my $nobody = Private::reserve_port();
Private::spew("$dir/file", 'no socket', 0777);

$crashed->stop(keep_file => 1);
chmod 0600, "$dir/closed.sock";

# URL => the address, and what the log says.
my %none = (
    'refused' => ['127.0.0.1:' . $nobody->sockport,
                  qr/\(111\).* connect: cannot connect; is the appl/],
    'ipv6'    => ['[::1]:' . $nobody->sockport, qr/phase connect: cannot/],
    'crashed' => [$crashed->address, qr/\(111\).*phase connect: cannot/],
    'missing' => ["$dir/missing.sock",
                  qr/\(2\).* phase connect: the socket does not exist/],
    'nodir'   => ["$dir/missing/app.sock",
                  qr/\(2\).* phase connect: the socket does not exist/],
    'file'    => ["$dir/file", qr/\(111\).* phase connect: cannot connect/],
    # A part of a name has 63 bytes at most: no server needs to be asked.
    'unknown' => [('x' x 64) . '.invalid:9000',
                  qr/phase resolve: the host name does not resolve/],
);

my $httpd = Httpd->start(
    vars => { APP => $app->handler, CLOSED => $closed->handler,
              INSIDE => $inside->handler },
    files => { '503.html' => 'page 503' },
    config => <<"EOC" . join '', map { <<"EOL" } sort keys %none);
ErrorDocument 503 /503.html
FcgiConnectTimeout 300ms
<Location /app>
  SetHandler \@APP\@
</Location>
<Location /closed>
  SetHandler \@CLOSED\@
</Location>
<Location /inside>
  SetHandler \@INSIDE\@
</Location>
EOC
<Location /$_>
  SetHandler fcgi:$none{$_}[0]
</Location>
EOL

my $count = 0;
my %said_at;            # when the log had each address's last line, or before

# A 503 and its one line in the log; may_lack_line: none if there was one in the
# last second.
sub check_none {
    my ($name, $address, $regex, %opt) = @_;
    my $path = "/$name?" . ++$count;
    my $from = time;
    my $answer = $opt{body}
        ? Client->request($httpd->port,
            "POST $path HTTP/1.1\r\nHost: x\r\nContent-Length: "
            . length($opt{body}) . "\r\n\r\n$opt{body}")
        : Client->get($httpd->port, $path);
    is($answer->status, 503, "$path: 503");
    cmp_ok($answer->end_at - $from, '<', 1.5, 'when the time is over');
    is($answer->header('Retry-After'), 1, 'with Retry-After');
    is($answer->body, 'page 503', 'and ErrorDocument');

    my $line = qr{"\w+ \Q$path\E [^"]*".* (\S+)$}m;
    $httpd->wait_for_access($line);
    my ($id) = $httpd->access_log =~ $line;
    my @lines = grep { /\[\Q$id\E\]/ } split /\n/, $httpd->error_log;
    my $is_new = time - ($said_at{$address} // 0) >= 1;
    return cmp_ok(scalar(@lines), '<=', $is_new, 'a line a second')
        if $opt{may_lack_line};
    $said_at{$address} = $from;
    is(scalar(@lines), 1, 'one line in the log') or diag @lines;
    like($lines[0], qr/:error\].*FCGI01: fcgi:\Q$address\E: no connection in/,
         'with the address');
    like($lines[0], $regex, 'and the reason');
    like($lines[0], qr/\(after \d+ ms, 0 bytes to and 0 bytes from the/,
         'the time and the bytes');
    return;
}

# Each backend a line a second: the second round comes later than that.
for my $body ('', 'x' x 2_000_000) {
    for my $name (sort keys %none) {
        subtest "$name, " . length($body) . ' bytes of body' => sub {
            check_none($name, @{ $none{$name} }, body => $body);
        };
    }
}

subtest 'permission denied' => sub {
    plan skip_all => 'httpd has another user only for root' if $> != 0;
    my $uid = getpwnam 'www-data';
    check_none('closed', $closed->address, qr/\(13\).*\ phase\ connect:
        .*\ uid\ 0\ gid\ 0\ .*\ mode\ 0600,\ we\ run\ as\ uid\ $uid\b/x);
    check_none('inside', $inside->address, qr/\(13\).*\ phase\ connect:
        .*\ on\ the\ way\ .*\ uid\ $uid\b/x);
    chmod 0777, "$dir/closed.sock";
    chmod 0711, "$dir/private";
    for my $name (qw(closed inside)) {
        is(Client->get($httpd->port, "/$name")->status, 200,
           "$name: allowed, and it works");
    }
};

subtest 'the application comes back' => sub {
    is(Client->get($httpd->port, '/app')->status, 200, 'it is there');
    for (1 .. 3) {
        $app->stop;
        check_none('app', $app->address, qr/phase connect: /,
                   may_lack_line => $_ > 1);
        $app->restart;
        is(Client->get($httpd->port, '/app')->status, 200, 'and back');
    }
};

$httpd->ok_healthy;
done_testing;
