# A program that leaves FastCGI to libfcgi gets requests and is heard.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiClient;
use Httpd;
use Private;
use Test::More;

my $dir = Private::temp_dir('libfcgi');
plan skip_all => 'no libfcgi here' if !-e '/usr/include/fcgiapp.h';
my ($failed, $output) = Private::run(
    $ENV{CC} || 'cc', '-Wall', '-Wextra', '-Werror', '-o', "$dir/echo",
    "$Bin/unit/echo_app.c", '-lfcgi');
die $output if $failed;

my $tcp = ($ENV{TRANSPORT} || 'unix') eq 'tcp';
my $port = $tcp && Private::reserve_port();
my $address = $tcp ? '127.0.0.1:' . $port->sockport : "$dir/echo.sock";
my $pid = Private::spawn(
    log => "$dir/log",
    exec => ["$dir/echo", $tcp ? ':' . $port->sockport : $address]);
Private::wait_until(5, sub { FcgiClient::connect($address) })
    or die Private::slurp("$dir/log");

my $httpd = Httpd->start(
    vars => { APP => "fcgi:$address" }, files => { 'x.txt' => 'a file' },
    config => <<'EOC');
<Location /echo>
  SetHandler @APP@
</Location>
EOC

sub ask {
    my ($conn, $method, $path, $body) = @_;
    my $length = defined $body ? 'Content-Length: ' . length($body) . "\r\n"
        : '';
    $conn->send("$method $path HTTP/1.1\r\nHost: x\r\nX-Some: header\r\n"
                . "$length\r\n" . ($body // ''));
    my $answer = $conn->read_response(method => $method);
    my ($lines, $rest) = split /\n\n/, $answer->body, 2;
    $answer->{params} = { ($lines // '') =~ /^(\w+)=(.*)$/mg };
    $answer->{rest} = $rest;
    return $answer;
}

subtest 'requests one after another' => sub {
    my $conn = Client->connect($httpd->port);
    my $first;
    for my $i (1 .. 5) {
        my $answer = ask($conn, 'GET', "/echo/path/$i?a=b%20$i");
        is_deeply([@$answer{qw(status complete rest)}], [200, 1, ''],
                  "request $i");
        $first //= $answer->header('X-Count');
        is($answer->header('X-Count'), $first + $i - 1, 'of one process');
        my $params = $answer->{params};
        is_deeply([@$params{qw(REQUEST_METHOD SCRIPT_NAME PATH_INFO
                               QUERY_STRING HTTP_X_SOME)}],
                  ['GET', '/echo', "/path/$i", "a=b%20$i", 'header'],
                  'its variables');
    }
    my $answer = ask($conn, 'HEAD', '/echo/');
    is_deeply([@$answer{qw(status body)}], [200, ''], 'HEAD');
    is(ask($conn, 'GET', '/x.txt')->body, 'a file',
       'the connection is in step');
};

subtest 'bodies' => sub {
    my $conn = Client->connect($httpd->port);
    my $bytes = join '', map { chr } 0 .. 255;
    for my $body ('', 'abc', $bytes, $bytes x 20_000) {
        my $answer = ask($conn, 'POST', '/echo', $body);
        is($answer->{params}{CONTENT_LENGTH}, length $body,
           length($body) . ' bytes');
        ok($answer->{rest} eq $body, 'came back');
        ok($answer->complete);
    }
    for my $size (3, 100_000, 2_000_000) {
        my $answer = ask($conn, 'POST', '/echo?unread', 'x' x $size);
        is_deeply([@$answer{qw(status complete rest)}], [200, 1, ''],
                  "$size bytes that it does not read");
    }
    is(ask($conn, 'GET', '/x.txt')->body, 'a file',
       'the connection is in step');
};

subtest 'exit status and stderr' => sub {
    my $conn = Client->connect($httpd->port);
    my $answer = ask($conn, 'POST', '/echo?status=3', 'body');
    is_deeply([@$answer{qw(status complete rest)}], [200, 1, 'body'],
              'a status that is not 0 does not break the answer');
    ok($httpd->wait_for_log(qr/:info\].*FCGI12.*\bstatus 3$/m, 5),
       'it is in the log');
    my @lines = $httpd->error_log =~ /FCGI12/g;
    is(scalar @lines, 1, 'and only it');
    $answer = ask($conn, 'GET', '/echo?stderr');
    is_deeply([@$answer{qw(status complete rest)}], [200, 1, ''], 'stderr');
    ok($httpd->wait_for_log(qr/FCGI10.*stderr: a line on stderr$/m, 5),
       'is in the log');
};

subtest 'it ends' => sub {
    Private::end($pid, 'KILL');
    unlink $address if !$tcp;
    my $conn = Client->connect($httpd->port);
    is(ask($conn, 'GET', '/echo')->status, 503, 'nobody is there');
};

$httpd->ok_healthy;
done_testing;
