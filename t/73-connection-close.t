# "Connection: close" of an application closes the client's connection.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use Test::More;

my $TYPE = "Content-Type: text/plain\r\n";
my $H2 = Httpd::mpm() ne 'prefork';

# What an application says to /app/NAME, and whether the connection is closed.
my %says = (
    close => ["Connection: close\r\n", 1], case => ["connection: Close\r\n", 1],
    among => ["Connection: X-Any, close\r\n", 1],
    second => ["Connection: X-Any\r\nConnection: close\r\n", 1],
    length => ["Connection: close\r\nContent-Length: 4\r\n", 1],
    error => ["Status: 404\r\nConnection: close\r\n", 1],
    none => ['', 0], keep => ["Connection: keep-alive\r\n", 0],
    other => ["Connection: closed, not-close\r\n", 0],
    cached => ["Connection: close\r\nCache-Control: max-age=60\r\n", 1],
);

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $params = $request->{params};
    my ($name) = "$params->{SCRIPT_NAME}$params->{PATH_INFO}" =~ m{/(\w+)$};
    return $c->reply("$says{$name}[0]$TYPE\r\nbody") if $name ne 'work';
    # says it all, and works on; or has more to say
    my $all = $params->{QUERY_STRING} eq '' ? 4 : 5;
    $c->stdout("Connection: close\r\nContent-Length: $all\r\n$TYPE\r\nbody");
    $c->wait_release('work', 10);
    # an end would be here within a second
    $c->report(worked => !$c->wait_eof(2.5));
    $c->reply('');
}, workers => 4);

my $httpd = Httpd->start(
    vars => { APP => $app->handler }, http2 => $H2,
    modules => [qw(cache cache_disk include filter deflate)], tls => 1,
    files => { 'other.txt' => 'a file', 'page.shtml' =>
               '<!--#include virtual="/app/close" -->', 'work.shtml' =>
               '<!--#include virtual="/app/work" -->' },
    config => <<'EOC');
CacheRoot @ROOT@/tmp
CacheQuickHandler off
AddOutputFilter INCLUDES .shtml
<Directory @DOCROOT@>
  Options +Includes
</Directory>
<LocationMatch "^/(app|cache|override|zip)/">
  SetHandler @APP@
</LocationMatch>
<Location /zip/>
  SetOutputFilter DEFLATE
</Location>
<Location /cache/>
  CacheEnable disk
</Location>
EOC

# Sends a request and says whether the connection is closed behind the answer.
sub ask {
    my ($path, %opt) = @_;
    my $method = $opt{method} // 'GET';
    my $version = $opt{version} // '1.1';
    my $conn = Client->connect($httpd->port);
    $conn->send("$method $path HTTP/$version\r\nHost: x\r\n"
                . ($opt{fields} // '') . "\r\n");
    my $answer = $conn->read_response(method => $method);
    $answer->{said} = join '|', grep { !/^Upgrade$/ }
        $answer->header_all('Connection');
    if ($answer->{said} =~ /close/) {
        $answer->{closed} = $conn->at_eof(5) ? 1 : 'not yet';
        return $answer;
    }
    $conn->send("GET /other.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    $answer->{closed} = ($conn->read_response->body // '') eq 'a file' ? 0 : 1;
    return $answer;
}

subtest 'what closes, and what does not' => sub {
    for my $name (sort keys %says) {
        for my $method (qw(GET HEAD)) {
            my $answer = ask("/app/$name", method => $method);
            is_deeply([@$answer{qw(body complete closed said)}],
                      [$method eq 'GET' ? 'body' : '', 1, $says{$name}[1],
                       $says{$name}[1] ? 'close' : ''], "$method $name");
        }
    }
};

subtest 'HTTP/1.0 with keep-alive' => sub {
    my %keep = (version => '1.0', fields => "Connection: keep-alive\r\n");
    my $answer = ask('/app/length', %keep);
    is_deeply([@$answer{qw(body closed said)}], ['body', 1, 'close']);
};

subtest 'HTTP/2 has no such field' => sub {
    plan skip_all => 'prefork has no HTTP/2' if !$H2;
    my $answer = Client::curl('--http2-prior-knowledge', 'http://127.0.0.1:'
                              . $httpd->port . '/app/close');
    is_deeply([@$answer{qw(exit status http_version body)}],
              [0, 200, 2, 'body']);
    unlike($answer->{headers}, qr/^connection:/mi);
};

subtest 'a part of a page closes nothing' => sub {
    my $answer = ask('/page.shtml');
    is_deeply([@$answer{qw(body closed)}], ['body', 0]);
};

subtest 'a cache keeps no word of it' => sub {
    my ($first, $again) = map { ask('/cache/cached') } 1, 2;
    is_deeply([@$first{qw(body closed)}], ['body', 1], 'the first');
    is_deeply([@$again{qw(body closed)}], ['body', 0], 'from the cache');
};

subtest 'an application that works on' => sub {
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /app/work HTTP/1.1\r\nHost: x\r\n\r\n");
    my $answer = $conn->read_response(timeout => 5);
    is_deeply([@$answer{qw(body complete)}, $answer->header('Connection')],
              ['body', 1, 'close'], 'the client has it all, and may go');
    $conn->close;
    $app->release('work');
    is($app->wait_report('worked', 10), 1, 'and the application works on');
    $conn = Client->connect($httpd->port);
    $conn->send("GET /app/work HTTP/1.1\r\nHost: x\r\n\r\n");
    is($conn->read_response(timeout => 5)->body, 'body');
    $conn->reset;
    is($app->wait_report('worked', 10), 1, 'also behind a reset');
    my @urls = ('https://127.0.0.1:' . $httpd->tls_port . '/app/work');
    push @urls, 'http://127.0.0.1:' . $httpd->port . '/app/work' if $H2;
    for my $url (@urls) {
        is(Client::curl('-k', $url =~ /^https/ ? '--http1.1'
                        : '--http2-prior-knowledge', $url)->{body}, 'body',
           $url =~ s/:.*//r);
        is($app->wait_report('worked', 10), 1, 'the same');
    }
    unlike($httpd->error_log, qr/FCGI09/, 'no client is missed');
};

subtest 'a client that leaves before it has all' => sub {
    for my $path ('/app/work?more', '/zip/work', '/work.shtml') {
        my $conn = Client->connect($httpd->port);
        $conn->send("GET $path HTTP/1.1\r\nHost: x\r\n"
                    . "Accept-Encoding: gzip\r\n\r\n");
        ok($conn->read_until(qr/\r\n\r\n./s, 5), $path);
        $conn->close;
        is($app->wait_report('worked', 10), '', 'the application is told');
    }
};

$httpd->ok_healthy;
done_testing;
