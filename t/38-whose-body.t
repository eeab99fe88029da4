# A body is its request's: an error page has none, a rewritten POST keeps it.
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

my $H2 = Httpd::mpm() ne 'prefork';
my $TYPE = "Content-Type: text/plain\r\n\r\n";
my $SIZE = 300_000;

# Says what it was asked, and answers with that; /early before it has the body.
sub serve {
    my ($c) = @_;
    my $request = $c->read_params or return;
    if ($request->{params}{SCRIPT_NAME} eq '/early') {
        $c->reply("Content-Type: text/html\r\n\r\n"
                  . '<!--#include virtual="/app/included" -->');
        return $c->wait_eof;
    }
    while (!$request->{stdin_complete}) {
        my $record = $c->read_record or last;
        FcgiApp::Connection::add_record($request, $record);
    }
    my $params = $request->{params};
    my $said = join ' ', $params->{REQUEST_METHOD}, $params->{REQUEST_URI},
        $params->{CONTENT_LENGTH} // 'none', length $request->{stdin};
    $c->report(asked => $said);
    my $head = $params->{SCRIPT_NAME} eq '/over' ? "Status: 404\r\n"
        : $params->{SCRIPT_NAME} eq '/local' ? "Location: /app/there\r\n"
        : $TYPE;
    return $c->reply($head eq $TYPE ? "$head$said" : "$head\r\n");
}

my $app = FcgiApp->start(\&serve, workers => 4);
my $httpd = Httpd->start(
    modules => [qw(rewrite include auth_basic authn_core authn_file
                   authz_user)],
    http2 => $H2, vars => { APP => $app->handler },
    files => {
        'ht/.htaccess' => <<'EOC',
RewriteEngine On
RewriteRule ^app/(.*)$ /app/$1 [L]
RewriteRule ^small/(.*)$ /small/$1 [L]
RewriteRule ^stream/(.*)$ /stream/$1 [L]
EOC
        users => '',
    },
    config => <<'EOC');
ErrorDocument 401 /app/page
ErrorDocument 403 /app/page
ErrorDocument 404 /app/page
ErrorDocument 413 /app/page
AddHandler @APP@ .x
<Location /app>
  SetHandler @APP@
</Location>
<Location /over>
  SetHandler @APP@
  FcgiErrorOverride On
</Location>
<Location /local>
  SetHandler @APP@
</Location>
<Location /stream>
  SetHandler @APP@
  FcgiRequestBuffering Off
</Location>
<Location /early>
  SetHandler @APP@
  FcgiRequestBuffering Off
  Options +Includes
  SetOutputFilter INCLUDES
</Location>
<Location /small>
  SetHandler @APP@
  FcgiBufferMemory 32K
  FcgiBufferMax 64K
</Location>
<Location /limited>
  SetHandler @APP@
  LimitRequestBody 1000
</Location>
<Location /denied>
  Require all denied
</Location>
<Location /denied/stream>
  ErrorDocument 403 /stream/page
</Location>
<Location /denied/local>
  ErrorDocument 403 /local/page
</Location>
<Location /denied/rewritten>
  ErrorDocument 403 /ht/app/page
</Location>
<Location /private>
  AuthType Basic
  AuthName x
  AuthUserFile @DOCROOT@/users
  Require valid-user
</Location>
EOC

my $body = 'x' x $SIZE;
my %coding = (
    length  => ["Content-Length: $SIZE\r\n", $body],
    chunked => ["Transfer-Encoding: chunked\r\n",
                sprintf("%x\r\n%s\r\n0\r\n\r\n", $SIZE, $body)],
);

# path => status
my %refused = ('/private/x' => 401, '/denied/x' => 403, '/none.x' => 404,
               '/denied/stream' => 403, '/denied/local' => 403,
               '/denied/rewritten' => 403);

sub page_of {
    my ($path) = @_;
    return "GET $path none 0";
}

# The connection still works, if it was kept.
sub next_is_right {
    my ($conn) = @_;
    $conn->send("POST /app/next HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
                . "\r\nbody");
    my $answer = $conn->read_response;
    return is($answer->body, 'POST /app/next 4 4',
              'the next request on the connection is answered right')
        && $app->wait_report('asked');
}

# The application was asked for the page of a path; a local redirect asks
# twice.
sub page_was_asked {
    my ($path) = @_;
    is($app->wait_report('asked', 5), page_of($path),
       'the application is asked for a page without a body') or return;
    is($app->wait_report('asked', 5), page_of($path), 'and where it leads')
        if $path =~ /local/;
    return;
}

for my $path (sort keys %refused) {
    for my $coding (sort keys %coding) {
        my ($field, $bytes) = @{ $coding{$coding} };

        subtest "$path, $coding" => sub {
            my $conn = Client->connect($httpd->port);
            $conn->send("POST $path HTTP/1.1\r\nHost: x\r\n$field\r\n"
                        . substr $bytes, 0, 1000);
            page_was_asked($path);
            $conn->send(substr $bytes, 1000);
            my $answer = $conn->read_response;
            is_deeply([@$answer{qw(status body complete)}],
                      [$refused{$path}, page_of($path), 1], 'the page');
            next_is_right($conn);
        };

        subtest "$path, $coding, Expect" => sub {
            my $conn = Client->connect($httpd->port);
            $conn->send("POST $path HTTP/1.1\r\nHost: x\r\n$field"
                        . "Expect: 100-continue\r\n\r\n");
            my $answer = $conn->read_response(timeout => 5);
            page_was_asked($path);
            is_deeply([@$answer{qw(status body complete)}],
                      [$refused{$path}, page_of($path), 1], 'the page');
            is_deeply($answer->interim, [], 'the body is not asked for');
            like($answer->header('Connection'), qr/\bclose\b/,
                 'it may still come');
            ok($conn->at_eof, 'so that the connection ends');
        };
    }

    subtest "$path, HTTP/1.0" => sub {
        my $conn = Client->connect($httpd->port);
        $conn->send("POST $path HTTP/1.0\r\nContent-Length: $SIZE\r\n"
                    . "Connection: keep-alive\r\n\r\n");
        page_was_asked($path);
        $conn->send($body);
        my $answer = $conn->read_response;
        is_deeply([@$answer{qw(status body)}],
                  [$refused{$path}, page_of($path)], 'the page');
        next_is_right($conn) if ($answer->header('Connection') // '') =~ /keep/;
    };

    subtest "$path, HTTP/2" => sub {
        plan skip_all => 'no HTTP/2 on prefork' if !$H2;
        my $dir = Private::temp_dir('body');
        Private::spew("$dir/body", $body);
        my $url = 'http://127.0.0.1:' . $httpd->port;
        my $answer = Client::curl('--http2-prior-knowledge', '--data-binary',
                                  "\@$dir/body", "$url$path");
        page_was_asked($path);
        # mod_http2 may reset a stream whose body nobody took, behind httpd's
        # own pages, too; then curl has no page
        ok($answer->{exit} == 92
           || "@$answer{qw(status body)}" eq "$refused{$path} "
               . page_of($path), 'the page, or none') or diag explain $answer;
    };
}

# The connection is closed then, as httpd does.
subtest 'a body that is too large' => sub {
    for my $path ('/small/x', '/ht/small/x', '/limited') {
        for my $expect ('', "Expect: 100-continue\r\n") {
            my $conn = Client->connect($httpd->port);
            $conn->send("POST $path HTTP/1.1\r\nHost: x\r\n"
                        . "Content-Length: $SIZE\r\n$expect\r\n");
            my $answer = $conn->read_response(timeout => 5);
            is_deeply([@$answer{qw(status body)}], [413, page_of($path)],
                      $path . ($expect && ', Expect'));
            is_deeply($answer->interim, [], 'the body is not asked for');
            page_was_asked($path);
            ok($conn->at_eof, 'the connection ends');
        }
        my $conn = Client->connect($httpd->port);
        $conn->send("POST $path HTTP/1.1\r\nHost: x\r\n"
                    . "Transfer-Encoding: chunked\r\n\r\n"
                    . sprintf "%x\r\n%s\r\n", 80_000, 'x' x 80_000);
        my $answer = $conn->read_response(timeout => 5);
        is_deeply([@$answer{qw(status body)}], [413, page_of($path)],
                  'chunked');
        page_was_asked($path);
    }
};

# httpd takes the body itself, before it looks for the file.
subtest 'no such file' => sub {
    for my $coding (sort keys %coding) {
        my ($field, $bytes) = @{ $coding{$coding} };
        my $conn = Client->connect($httpd->port);
        $conn->send("POST /none HTTP/1.1\r\nHost: x\r\n$field\r\n$bytes");
        my $answer = $conn->read_response;
        is_deeply([@$answer{qw(status body)}], [404, page_of('/none')],
                  $coding);
        page_was_asked('/none');
        next_is_right($conn);
    }
};

subtest 'a rewritten POST keeps its body' => sub {
    for my $path ('/ht/app/x', '/ht/stream/x') {
        for my $coding (sort keys %coding) {
            my ($field, $bytes) = @{ $coding{$coding} };
            my $length = $coding eq 'chunked' && $path =~ /stream/ ? 'none'
                : $SIZE;
            my $conn = Client->connect($httpd->port);
            $conn->send("POST $path HTTP/1.1\r\nHost: x\r\n$field\r\n$bytes");
            my $answer = $conn->read_response;
            is($answer->body, "POST $path $length $SIZE", "$path, $coding");
            $app->wait_report('asked');

            $conn->send("POST $path HTTP/1.1\r\nHost: x\r\n$field"
                        . "Expect: 100-continue\r\n\r\n");
            ok($conn->read_until(qr{^HTTP/1.1 100 .*\r\n\r\n\z}, 5),
               'is asked for');
            $conn->send($bytes);
            $answer = $conn->read_response;
            is($answer->body, "POST $path $length $SIZE", 'and comes');
            $app->wait_report('asked');
            next_is_right($conn);
        }
    }
    my $conn = Client->connect($httpd->port);
    $conn->send("POST /ht/small/x HTTP/1.1\r\nHost: x\r\n"
                . "Content-Length: 60000\r\n\r\n" . 'x' x 60_000);
    is($conn->read_response->body, 'POST /ht/small/x 60000 60000',
       'that fits');
    $app->wait_report('asked');
};

subtest 'a body that was taken is taken once' => sub {
    my %leads = ('/over' => [404, '/over'], '/local' => [200, '/local']);
    for my $path (sort keys %leads) {
        for my $coding (sort keys %coding) {
            my ($field, $bytes) = @{ $coding{$coding} };
            my $conn = Client->connect($httpd->port);
            $conn->send("POST $path HTTP/1.1\r\nHost: x\r\n$field\r\n$bytes");
            my $answer = $conn->read_response;
            is_deeply([@$answer{qw(status body)}],
                      [$leads{$path}[0], page_of($path)], "$path, $coding");
            is($app->wait_report('asked'), "POST $path $SIZE $SIZE", 'first');
            is($app->wait_report('asked'), page_of($path), 'then');
            next_is_right($conn);
        }
    }
};

subtest 'a subrequest has none' => sub {
    for my $coding (sort keys %coding) {
        my ($field, $bytes) = @{ $coding{$coding} };
        my $conn = Client->connect($httpd->port);
        $conn->send("POST /early HTTP/1.1\r\nHost: x\r\n$field\r\n"
                    . substr $bytes, 0, 1000);
        is($app->wait_report('asked', 5), 'GET /early none 0',
           "$coding: it does not wait for another's");
        $conn->send(substr $bytes, 1000);
        like($conn->read_response->body, qr/^GET \/early none 0$/, 'the page');
    }
};

$httpd->ok_healthy;
done_testing;
