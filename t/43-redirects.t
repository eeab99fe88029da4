# A Location without Status redirects as RFC 3875 says.
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

# What the application says to /first/NAME.
my %says = (
    local     => "Location: /second/x\r\n\r\n",
    typed     => "Content-Type: text/html\r\nLocation: /second/x\r\n\r\n",
    with_body => "Location: /second/x\r\n\r\nnobody reads this",
    query     => "Location: /second/a%20b/c?d=e%26f&g\r\n\r\n",
    static    => "Location: /plain.txt\r\n\r\n",
    page      => "Location: /page.shtml\r\n\r\n",
    missing   => "Location: /nowhere.txt\r\n\r\n",
    denied    => "Location: /secret/plain.txt\r\n\r\n",
    guarded   => "Location: /guarded/x\r\n\r\n",
    loop      => "Location: /first/loop\r\n\r\n",
    away      => "Location: http://example.com/x?y=z\r\n\r\n",
    away_body => "Location: https://example.com/\r\n$TYPE\r\ngone there",
    host      => "Location: //example.com/x\r\n\r\n",
    relative  => "Location: other/x\r\n\r\n",
    dots      => "Location: ../x\r\n\r\n",
    cookie    => "Location: /second/x\r\nSet-Cookie: a=b\r\n\r\n",
    other     => "Location: /second/x\r\nCache-Control: no-store\r\n\r\n",
    status301 => "Status: 301 Moved\r\nLocation: /second/x\r\n\r\n",
    status302 => "Status: 302\r\nLocation: /second/x\r\n\r\n",
    status307 => "Status: 307\r\nLocation: http://example.com/\r\n$TYPE\r\nb",
    status200 => "Status: 200 OK\r\nLocation: /second/x\r\n$TYPE\r\nhere",
    status201 => "Status: 201\r\nLocation: /second/x\r\n$TYPE\r\nmade",
    (map { 'handler' . $_->[0] => "Content-Type: $_->[1]\r\n"
               . "Location: /plain.txt\r\n\r\n" }
     [1, 'server-status'], [2, 'fcgi:/nobody/is/here.sock'],
     [3, 'text/x-server-status'], [4, 'application/x-httpd-cgi']),
);

# Only one connection at a time: a second one is accepted when the first is
# closed by httpd.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $params = $request->{params};
    my ($name) = $params->{REQUEST_URI} =~ m{/first/(\w+)};
    my $redirected = $params->{SCRIPT_NAME} eq '/second';
    $c->report(request => $request) if $redirected;
    $c->reply($redirected
              ? "${TYPE}X-Second: yes\r\n\r\n$params->{REQUEST_METHOD} $name"
              : $says{$name});
    $c->report(closed => $c->wait_eof(5)) if !$redirected;
});

# This one does not wait for a request's body.
my $hasty = FcgiApp->start(sub {
    my ($c) = @_;
    $c->read_params or return;
    $c->reply($says{local});
});

my $httpd = Httpd->start(
    vars => { APP => $app->handler, HASTY => $hasty->handler },
    modules => [qw(status include)],
    files => {
        'plain.txt' => "a file\n", 'secret/plain.txt' => 'secret',
        'page.shtml' => join ' ', map { "<!--#echo var=\"$_\" -->" }
            qw(REQUEST_METHOD CONTENT_LENGTH HTTP_TRANSFER_ENCODING),
    },
    config => <<'EOC');
LimitInternalRecursion 5
AddOutputFilter INCLUDES .shtml
<Directory @DOCROOT@>
  Options +Includes
</Directory>
ErrorDocument 404 "not here"
<Location /first>
  SetHandler @APP@
</Location>
<Location /hasty>
  SetHandler @HASTY@
  FcgiRequestBuffering Off
</Location>
<Location /second>
  SetHandler @APP@
</Location>
<Location /guarded>
  SetHandler @APP@
  Require all denied
</Location>
<Location /secret>
  Require all denied
</Location>
EOC

sub send_and_read {
    my ($conn, $method, $path, $body, $fields) = @_;
    my $length = defined $body ? 'Content-Length: ' . length($body) . "\r\n"
        : '';
    $conn->send("$method $path HTTP/1.1\r\nHost: localhost\r\n$length"
                . ($fields // '') . "\r\n" . ($body // ''));
    return $conn->read_response(method => $method);
}

sub get { return Client->get($httpd->port, "/first/$_[0]") }

subtest 'a local path alone is another request here' => sub {
    for my $name (qw(local typed with_body)) {
        my $answer = get($name);
        is_deeply([@$answer{qw(status body complete)}],
                  [200, "GET $name", 1], $name);
        is($answer->header('X-Second'), 'yes', 'answered by the second');
        is($answer->header('Location'), undef, 'the client knows nothing');
        is($answer->header('Content-Type'), 'text/plain');
        is($app->wait_report('closed'), 1,
           'the first connection was closed before');
        my $params = $app->wait_report('request')->{params};
        is($params->{REDIRECT_STATUS}, 200, 'REDIRECT_STATUS');
        is($params->{REDIRECT_URL}, "/first/$name", 'REDIRECT_URL');
    }
};

subtest 'it is a GET without a body' => sub {
    my %way = (
        GET => [undef],
        POST => ['a=b' x 10],
        PUT => ['x' x 1_000_000],
        'POST, chunked' => [undef, "Transfer-Encoding: chunked\r\n"],
        HEAD => [undef],
    );
    for my $way (sort keys %way) {
        my ($method) = $way =~ /(\w+)/;
        my ($body, $fields) = @{ $way{$way} };
        my $conn = Client->connect($httpd->port);
        for my $time (1, 2) {
            my $answer;
            if ($fields) {
                $conn->send("POST /first/local HTTP/1.1\r\nHost: x\r\n"
                            . "$fields\r\n3\r\nabc\r\n0\r\n\r\n");
                $answer = $conn->read_response;
            }
            else {
                $answer = send_and_read($conn, $method, '/first/local',
                                        $body);
            }
            is_deeply([@$answer{qw(status body complete)}],
                      [200, $method eq 'HEAD' ? '' : 'GET local', 1],
                      "$way, request $time of its connection");
            my $second = $app->wait_report('request');
            my $params = $second->{params};
            is($params->{REQUEST_METHOD}, 'GET', 'REQUEST_METHOD');
            is($params->{CONTENT_LENGTH} // 0, 0, 'CONTENT_LENGTH');
            is($params->{HTTP_TRANSFER_ENCODING}, undef, 'no coding');
            is($second->{stdin}, '', 'no body');
            ok($second->{stdin_complete}, 'and its end');
        }
    }
};

subtest 'a body that nobody has read' => sub {
    my $conn = Client->connect($httpd->port);
    for my $time (1, 2) {
        my $answer = send_and_read($conn, 'POST', '/hasty/first/local',
                                   'x' x 1_000_000);
        is_deeply([@$answer{qw(status body complete)}], [200, 'GET local', 1],
                  "request $time of its connection");
        is($app->wait_report('request')->{stdin}, '', 'gets lost');
    }
};

subtest 'what another handler sees' => sub {
    for my $body ("Content-Length: 3\r\n\r\nabc",
                  "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n") {
        my $answer = Client->request(
            $httpd->port, "POST /first/page HTTP/1.1\r\nHost: x\r\n"
            . "Connection: close\r\n$body");
        is($answer->body, 'GET (none) (none)', 'a GET without a body');
    }
};

subtest 'where to' => sub {
    is(get('query')->status, 200);
    my $params;
    while (my $request = $app->wait_report('request', 0)) {
        $params = $request->{params};
    }
    is($params->{QUERY_STRING}, 'd=e%26f&g', 'the query string');
    is($params->{PATH_INFO}, '/a b/c', 'the path, decoded');
    my $answer = get('static');
    is_deeply([@$answer{qw(status body)}], [200, "a file\n"], 'a file');
    is($answer->header('Content-Type'), 'text/plain');
    $answer = get('missing');
    is_deeply([@$answer{qw(status body)}], [404, 'not here'], 'nowhere');
    my $before = $app->connections;
    $answer = get('denied');
    is($answer->status, 403, 'a forbidden file');
    unlike($answer->body, qr/secret/);
    is(get('guarded')->status, 403, 'a forbidden application');
    is($app->connections - $before, 2, 'which is not asked');
};

subtest 'round in circles' => sub {
    my $before = $app->connections;
    my $answer = get('loop');
    is($answer->status, 500, 'is an error');
    ok($answer->complete);
    cmp_ok($app->connections - $before, '<=', 7, 'after a few rounds');
    like($httpd->error_log, qr/LimitInternalRecursion/, 'logged');
    is(get('local')->status, 200, 'and goes on');
};

subtest 'the type that goes with it chooses no handler' => sub {
    for my $i (1 .. 4) {
        my $answer = get("handler$i");
        is_deeply([@$answer{qw(status body)}], [200, "a file\n"],
                  $says{"handler$i"} =~ s/\r\n.*//sr);
        is($answer->header('Content-Type'), 'text/plain');
    }
};

subtest 'other places are a redirect for the client' => sub {
    my %to = (
        away => 'http://example.com/x?y=z',
        away_body => 'https://example.com/',
        host => '//example.com/x', relative => 'other/x', dots => '../x',
        cookie => '/second/x', other => '/second/x',
    );
    for my $name (sort keys %to) {
        my $before = $app->connections;
        my $answer = get($name);
        is_deeply([@$answer{qw(status reason complete)},
                   $answer->header('Location')],
                  [302, 'Found', 1, $to{$name}], $name);
        is($app->connections - $before, 1, 'asked once');
    }
    is(get('away_body')->body, 'gone there', 'its body');
    is(get('cookie')->header('Set-Cookie'), 'a=b', 'its cookie');
    is(get('other')->header('Cache-Control'), 'no-store', 'its headers');
};

subtest 'with Status it is passed as it is' => sub {
    my %as = (
        301 => [301, 'Moved', '/second/x', ''],
        302 => [302, 'Found', '/second/x', ''],
        307 => [307, 'Temporary Redirect', 'http://example.com/', 'b'],
        200 => [200, 'OK', '/second/x', 'here'],
        201 => [201, 'Created', '/second/x', 'made'],
    );
    for my $status (sort keys %as) {
        my $answer = get("status$status");
        is_deeply([@$answer{qw(status reason)}, $answer->header('Location'),
                   $answer->body], $as{$status}, "Status: $status");
        ok($answer->complete);
    }
};

$httpd->ok_healthy;
done_testing;
