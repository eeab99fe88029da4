# The modules of httpd do for an application what they do for a file.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Digest::SHA qw(sha1_base64);
use FcgiApp;
use Httpd;
use IO::Uncompress::Gunzip qw(gunzip);
use MIME::Base64 qw(encode_base64);
use Private;
use Test::More;
use Time::HiRes qw(time);

my $H2 = Httpd::mpm() ne 'prefork';
my $TYPE = "Content-Type: text/plain\r\n";
my $ALL = join '', map { sprintf "%08d\n", $_ } 1 .. 2000;      # 18000 bytes
my $HAS_BROTLI = Httpd::has_module('brotli');

# What an application says is in the request; if nothing, it says which
# variables it got.  With X-Wait it waits before it answers, with X-Pause it
# waits after the body's first half.
sub application {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $params = $request->{params};
    $c->report(request => $request);
    if (defined(my $id = $params->{HTTP_X_WAIT})) {
        $c->wait_release($id, 10);
    }
    if (defined(my $id = $params->{HTTP_X_PAUSE})) {
        my $half = length($ALL) / 2;
        $c->stdout("$TYPE\r\n" . substr $ALL, 0, $half);
        $c->wait_release($id, 10);
        return $c->reply(substr $ALL, $half);
    }
    if (my $says = $params->{HTTP_X_SAYS}) {
        $c->reply(pack('H*', $says) =~ s/ALL\z/$ALL/r);
    }
    else {
        $c->reply("$TYPE\r\n" . join '', map { "$_=$params->{$_}\n" }
                  sort keys %$params);
    }
}

my $app = FcgiApp->start(\&application, workers => 8);
my $mortal = FcgiApp->start(\&application, workers => 2);

# An Authorizer: lets ann in with the password that a request has, and says
# which group she is in.
my $authorizer = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_params or return;
    my $params = $request->{params};
    my $role = $params->{FCGI_APACHE_ROLE} // '';
    my $good = ($params->{REMOTE_USER} // '') eq 'ann'
        && ($role eq 'AUTHORIZER'
            || ($params->{REMOTE_PASSWD} // '') eq 'secret');
    $c->reply($good ? "Status: 200 OK\r\nVariable-GROUP: staff\r\n\r\n"
              : "Status: 401 No\r\n\r\n");
}, workers => 2, transport => 'tcp');

my $httpd = Httpd->start(
    vars => { APP => $app->handler, MORTAL => $mortal->handler,
              AUTHORIZER => $authorizer->address,
              BROTLI => $HAS_BROTLI ? 'BROTLI_COMPRESS;' : '' },
    modules => [
        qw(cache cache_disk socache_shmcb cache_socache filter deflate
           ratelimit headers remoteip include authn_core authn_file authz_user
           auth_basic authnz_fcgi), $HAS_BROTLI ? 'brotli' : (),
    ],
    tls => 1, http2 => $H2, tls_config => <<'EOC',
SSLVerifyClient optional_no_ca
<Location /ssl>
  SSLOptions +StdEnvVars
</Location>
EOC
    files => {
        'page.shtml' => 'before <!--#include virtual="/app/part/x?y=z" -->'
            . ' and <!--#include virtual="/app/part/2" --> after',
        'old.txt' => 'a file',
        'users' => 'ann:{SHA}' . sha1_base64('secret') . "=\n",
    },
    config => <<'EOC');
<LocationMatch "^/(app|headers|remote|ssl|auth|pass|authnz|limited|packed)">
  SetHandler @APP@
</LocationMatch>
<LocationMatch "^/(disk|shm)">
  SetHandler @APP@
  FcgiSendfile @DOCROOT@
</LocationMatch>
<LocationMatch "/mortal/">
  SetHandler @MORTAL@
  FcgiConnectTimeout 200ms
</LocationMatch>

# A cache on disk, and one in memory
CacheQuickHandler off
CacheLock on
CacheLockPath @ROOT@/tmp/lock
CacheStaleOnError on
CacheHeader on
CacheRoot @ROOT@/tmp
CacheSocache shmcb
<Location /disk>
  CacheEnable disk
</Location>
<Location /shm>
  CacheEnable socache
</Location>

# Compression
<Location /packed>
  AddOutputFilterByType @BROTLI@DEFLATE text/html text/plain application/json
</Location>

# So many KB a second
<Location /limited>
  SetOutputFilter RATE_LIMIT
  SetEnv rate-limit 40
</Location>

# Fields of requests and answers
<Location /headers>
  RequestHeader set X-Tenant "example"
  RequestHeader unset X-Secret
  Header always set X-Frame-Options "DENY"
  Header always unset X-Powered-By
  Header always edit Set-Cookie "^(.*)$" "$1; Secure"
</Location>

# Behind a load balancer
<Location /remote>
  Require all granted
</Location>
RemoteIPHeader X-Forwarded-For
RemoteIPInternalProxy 127.0.0.1

# Pages with parts of an application
AddOutputFilter INCLUDES .shtml
AddType text/html .shtml
<Directory @DOCROOT@>
  Options +Includes
</Directory>

# Users
<LocationMatch "^/(auth|pass|disk/auth)/">
  AuthType Basic
  AuthName "members"
  AuthUserFile @DOCROOT@/users
  AuthBasicProvider file
  Require valid-user
</LocationMatch>
<Location /pass>
  CGIPassAuth On
</Location>

# Users, by a FastCGI authorizer
AuthnzFcgiDefineProvider authnz ByApplication fcgi://@AUTHORIZER@/
<Location /authnz>
  AuthType Basic
  AuthName "by an application"
  AuthBasicProvider ByApplication
  Require ByApplication
</Location>
EOC

sub ask {
    my ($path, $says, %field) = @_;
    my $method = delete $field{METHOD} // 'GET';
    $field{'X-Says'} = unpack 'H*', $says if defined $says;
    return Client->request(
        $httpd->port, "$method $path HTTP/1.1\r\nHost: x\r\nConnection: close"
        . "\r\n" . join('', map { "$_: $field{$_}\r\n" } sort keys %field)
        . "\r\n", method => $method);
}

# How often $who was asked since the last time.
my %asked;

sub asked {
    my ($who) = @_;
    my $before = $asked{$who} // 0;
    return ($asked{$who} = $who->connections) - $before;
}

# The variables in an answer that lists them.
sub variables {
    my ($answer) = @_;
    return { map { /^(\w+)=(.*)$/ ? ($1 => $2) : () }
             split /\n/, ref $answer eq 'HASH' ? $answer->{body}
             : $answer->body };
}

# Long ago fresh: stored, and to be asked for again the next time.
my $STALE = "${TYPE}Cache-Control: max-age=50\r\nAge: 100\r\n"
    . "ETag: \"v1\"\r\n";

my %cache = (disk => 'mod_cache_disk', shm => 'mod_cache_socache');

for my $where (sort keys %cache) {
    subtest "$cache{$where}: what is fresh is not asked for" => sub {
        asked($app);
        my $says = "${TYPE}Cache-Control: max-age=600\r\nX-A: b\r\n\r\n";
        my $first = ask("/$where/fresh", $says . 'one');
        is($first->body, 'one');
        for my $time (1, 2) {
            my $answer = ask("/$where/fresh", $says . 'two');
            is_deeply([@$answer{qw(status body complete)}],
                      [200, 'one', 1], 'from the cache');
            is($answer->header('X-A'), 'b');
            like($answer->header('X-Cache'), qr/^HIT/);
        }
        is(asked($app), 1, 'asked once');
        is(ask("/$where/other", $says . 'three')->body, 'three',
           'another URL');
        is(ask("/$where/no/$_", "$TYPE\r\n$_")->body, $_, 'without a time')
            for 1, 2;
        is(ask("/$where/store", "${TYPE}Cache-Control: no-store, max-age=9"
               . "\r\n\r\n$_")->body, $_, 'no-store') for 1, 2;
        is(ask("/$where/fail", "Status: 500\r\n${TYPE}\r\n$_")->body, $_,
           'an error') for 1, 2;
        is(asked($app), 7, 'are asked for');
    };

    subtest "$cache{$where}: what is stale is looked after" => sub {
        ask("/$where/stale", "$STALE\r\nthe first");
        asked($app);
        1 while $app->wait_report('request', 0);
        my $answer = ask("/$where/stale", "Status: 304\r\nETag: \"v1\"\r\n"
                         . "Cache-Control: max-age=600\r\n\r\n");
        is_deeply([@$answer{qw(status body complete)}],
                  [200, 'the first', 1], 'it is still good');
        is($app->wait_report('request')->{params}{HTTP_IF_NONE_MATCH},
           '"v1"', 'the application was asked for its ETag');
        # mod_cache_socache loses a file of httpd's own here, too.
        is(ask("/$where/stale", "$TYPE\r\nnot this")->body, 'the first',
           'and now it is fresh') if $where ne 'shm';
        is(asked($app), 1, 'asked once');
        ask("/$where/changed", "$STALE\r\nthe first");
        is(ask("/$where/changed", "$TYPE\r\nthe second")->body,
           'the second', 'it has changed');
        # Without a Status httpd itself compares, here with mod_cache's ETag.
        ask("/$where/compared", "$STALE\r\nthe first");
        for my $time (1 .. ($where eq 'shm' ? 1 : 2)) {
            $answer = ask("/$where/compared", "$STALE\r\nnot this");
            is_deeply([@$answer{qw(status body complete)}],
                      [200, 'the first', 1], 'the same ETag, no Status');
        }
        my $file = "X-Sendfile: @{[ $httpd->docroot ]}/old.txt\r\n";
        ask("/$where/file", "$STALE$file\r\n");
        $answer = ask("/$where/file", "$STALE$file\r\n");
        is_deeply([@$answer{qw(status body complete)}],
                  [200, 'a file', 1], 'X-Sendfile');
    };

    subtest "$cache{$where}: stale on error" => sub {
        ask("/$where/error", "$STALE\r\nthe first");
        for my $status (500, 502, 503, 504) {
            my $answer = ask("/$where/error",
                             "Status: $status\r\n$TYPE\r\nno");
            is_deeply([@$answer{qw(status body complete)}],
                      [200, 'the first', 1], "status $status");
            like($answer->header('Warning'), qr/^11[01] /, 'with a warning');
        }
        is(ask("/$where/error", 'no header at all')->body, 'the first',
           'a broken answer');
        is(ask("/$where/error", "Status: 404\r\n$TYPE\r\nno")->status, 404,
           '404 is no such error');
    };
}

subtest 'mod_cache: one asks, the others do not wait' => sub {
    for my $where (sort keys %cache) {
        ask("/$where/lock", "$STALE\r\nthe first");
        asked($app);
        1 while $app->wait_report('request', 0);
        my $conn = Client->connect($httpd->port);
        $conn->send("GET /$where/lock HTTP/1.1\r\nHost: x\r\nX-Wait: $where"
                    . "\r\nX-Says: " . unpack('H*', "$TYPE\r\nthe second")
                    . "\r\n\r\n");
        ok($app->wait_report('request', 5), "$where: the first asks");
        for my $time (1 .. 3) {
            my $answer = ask("/$where/lock", "$TYPE\r\nnot this");
            is($answer->body, 'the first', 'another one has the old page');
        }
        is(asked($app), 1, 'one request for all');
        $app->release($where);
        is($conn->read_response->body, 'the second');
    }
};

subtest 'mod_cache: users are asked for their password nevertheless' => sub {
    my %ann = (Authorization => 'Basic ' . encode_base64('ann:secret', ''));
    my $says = "${TYPE}Cache-Control: public, max-age=600\r\n\r\nmembers";
    asked($app);
    is(ask('/disk/auth/x', $says, %ann)->body, 'members') for 1, 2;
    is(asked($app), 1, 'from the cache');
    is(ask('/disk/auth/x', $says)->status, 401, 'nobody else');
};

subtest 'mod_cache: the application is gone' => sub {
    for my $where (sort keys %cache) {
        is(ask("/$where/mortal/x", "$STALE\r\nthe first")->body,
           'the first');
    }
    $mortal->stop;
    for my $where (sort keys %cache) {
        my $answer = ask("/$where/mortal/x", "$TYPE\r\n");
        is_deeply([@$answer{qw(status body complete)}],
                  [200, 'the first', 1], "$where: the old page");
        is(ask("/$where/mortal/new", "$TYPE\r\n")->status, 503,
           'and 503 for one that is not there');
    }
};

subtest 'mod_deflate' => sub {
    for my $length ('', "Content-Length: 18000\r\n") {
        my $answer = ask('/packed/x', "$TYPE$length\r\nALL",
                         'Accept-Encoding' => 'gzip');
        is($answer->header('Content-Encoding'), 'gzip');
        like($answer->header('Vary'), qr/Accept-Encoding/);
        cmp_ok(length $answer->body, '<', 9000, 'smaller');
        gunzip(\$answer->body, \my $plain);
        ok($plain eq $ALL && $answer->complete, 'and all is there');
        $answer = ask('/packed/x', "$TYPE$length\r\nALL");
        is($answer->header('Content-Encoding'), undef, 'only on demand');
        ok($answer->body eq $ALL);
        $answer = ask('/packed/x', "Content-Type: image/png\r\n\r\nALL",
                      'Accept-Encoding' => 'gzip');
        is($answer->header('Content-Encoding'), undef, 'not this type');
        $answer = ask('/packed/x', "${TYPE}Content-Encoding: gzip\r\n\r\nx",
                      'Accept-Encoding' => 'gzip');
        is_deeply([$answer->header_all('Content-Encoding')], ['gzip'],
                  'not twice');
        is($answer->body, 'x');
    }
};

subtest 'mod_deflate: the client gets what there is' => sub {
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /packed/x HTTP/1.1\r\nHost: x\r\nX-Pause: packed\r\n"
                . "Accept-Encoding: gzip\r\n\r\n");
    my $seen = $conn->read_until(qr/\r\n\r\n[0-9a-f]+\r\n.*\r\n$/s, 5);
    # A second piece is the flush behind the first one.
    my $packed = ($seen // '') =~ s/.*?\r\n\r\n//sr;
    cmp_ok(length $packed, '>', 1000, 'while the application waits');
    $app->release('packed');
    my $answer = $conn->read_response;
    gunzip(\$answer->body, \my $plain);
    ok($plain eq $ALL, 'then the rest');
};

subtest 'mod_brotli' => sub {
    plan skip_all => 'no mod_brotli here' if !$HAS_BROTLI;
    my $says = unpack 'H*', "$TYPE\r\nALL";
    my $answer = Client::curl(
        '--compressed', '-H', 'Accept-Encoding: gzip, br',
        '-H', "X-Says: $says",
        'http://127.0.0.1:' . $httpd->port . '/packed/x');
    like($answer->{headers}, qr/^Content-Encoding: br\r$/mi);
    is($answer->{exit}, 0);
    ok($answer->{body} eq $ALL, 'all is there');
};

subtest 'mod_ratelimit' => sub {
    my $start = time;
    my $answer = ask('/limited/x', "${TYPE}Content-Length: 18000\r\n\r\nALL");
    my $took = time - $start;
    ok($answer->body eq $ALL && $answer->complete, 'all is there');
    cmp_ok($took, '>=', 0.35, '18 KB take their time at 40 KB a second');
    is($answer->header('Content-Length'), 18000);
};

subtest 'mod_headers' => sub {
    my $vars = variables(ask('/headers/x', undef, 'X-Secret' => 's'));
    is($vars->{HTTP_X_TENANT}, 'example', 'set for the application');
    is($vars->{HTTP_X_SECRET}, undef, 'unset');
    my $answer = ask('/headers/x', "${TYPE}X-Powered-By: x\r\n"
                     . "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nbody");
    is($answer->header('X-Powered-By'), undef, 'unset for the client');
    is($answer->header('X-Frame-Options'), 'DENY', 'set');
    is_deeply([$answer->header_all('Set-Cookie')],
              ['a=1; Secure', 'b=2; Secure'], 'edited, each of two');
    $answer = ask('/headers/x', 'broken');
    is_deeply([$answer->status, $answer->header('X-Frame-Options')],
              [502, 'DENY'], '"always" is for errors, too');
};

subtest 'mod_remoteip' => sub {
    my $vars = variables(ask('/remote/x', undef,
                             'X-Forwarded-For' => '203.0.113.7'));
    is($vars->{REMOTE_ADDR}, '203.0.113.7');
    is($vars->{HTTP_X_FORWARDED_FOR}, undef, 'used up');
    is(variables(ask('/remote/x'))->{REMOTE_ADDR}, '127.0.0.1');
};

subtest 'mod_ssl' => sub {
    my $base = 'https://127.0.0.1:' . $httpd->tls_port;
    my $pem = Httpd::certificate();
    my $vars = variables(Client::curl('-k', "$base/ssl/x"));
    is($vars->{HTTPS}, 'on');
    is($vars->{REQUEST_SCHEME}, 'https');
    like($vars->{SSL_PROTOCOL} // '', qr/^TLSv1\.[23]$/);
    ok($vars->{SSL_CIPHER}, 'SSL_CIPHER');
    is($vars->{SSL_SERVER_S_DN_CN}, 'localhost');
    is($vars->{SSL_CLIENT_VERIFY}, 'NONE');
    $vars = variables(Client::curl('-k', '--cert', $pem, "$base/ssl/x"));
    is($vars->{SSL_CLIENT_S_DN_CN}, 'localhost', "a client's certificate");
    like($vars->{SSL_CLIENT_VERIFY}, qr/^(?:GENEROUS|FAILED)/);
    $vars = variables(Client::curl('-k', "$base/app/x"));
    is($vars->{HTTPS}, 'on', 'without StdEnvVars');
    is($vars->{SSL_PROTOCOL}, undef);
    is(variables(ask('/app/x'))->{HTTPS}, undef, 'not without TLS');
};

subtest 'mod_http2' => sub {
    plan skip_all => 'prefork has no HTTP/2' if !$H2;
    my $url = 'http://127.0.0.1:' . $httpd->port . '/app/x';
    my $vars = variables(Client::curl('--http2-prior-knowledge', $url));
    is($vars->{HTTP2}, 'on');
    is($vars->{SERVER_PROTOCOL}, 'HTTP/2.0');
    $url = 'https://127.0.0.1:' . $httpd->tls_port . '/app/x';
    my @urls = map { "$url?$_" } 1 .. 40;
    my $dir = Private::temp_dir('many');
    my ($exit) = Private::run(qw(curl -q -sSk --http2 -Z --parallel-max 40
                                 --max-time 20),
                              map { ('-o', "$dir/$_", $urls[$_ - 1]) }
                              1 .. 40);
    is($exit, 0, '40 at the same time');
    my $wrong = grep { Private::slurp("$dir/$_") !~ /^QUERY_STRING=$_$/m }
        1 .. 40;
    is($wrong, 0, 'each has its own answer');
};

subtest 'mod_include' => sub {
    my $says = "$TYPE\r\n(part)";
    my $answer = ask('/page.shtml', $says);
    is_deeply([@$answer{qw(status body complete)}],
              [200, 'before (part) and (part) after', 1]);
    $answer = ask('/page.shtml');
    is_deeply([$answer->body
               =~ /^PATH_INFO=(.*)\nQUERY_STRING=(.*)/mg],
              [qw(/part/x y=z /part/2), ''], 'the URLs of the parts');
    like($answer->body, qr/^DOCUMENT_URI=\/page\.shtml$/m, 'of which page');
};

subtest 'byte ranges' => sub {
    my $says = "${TYPE}Content-Length: 18000\r\nETag: \"abc\"\r\n\r\nALL";
    my %case = ('0-8' => [0, 9], '17991-' => [17991, 9], '-9' => [17991, 9]);
    for my $range (sort keys %case) {
        my ($from, $len) = @{ $case{$range} };
        my $answer = ask('/app/x', $says, Range => "bytes=$range");
        is_deeply([@$answer{qw(status body complete)}],
                  [206, substr($ALL, $from, $len), 1], $range);
        is($answer->header('Content-Range'),
           sprintf('bytes %d-%d/18000', $from, $from + $len - 1));
    }
    is(ask('/app/x', $says, Range => 'bytes=18000-')->status, 416,
       'beyond the end');
    my $answer = ask('/app/x', $says, Range => 'bytes=0-8,900-908');
    is($answer->status, 206, 'two ranges');
    like($answer->header('Content-Type'), qr{^multipart/byteranges});
    is(ask('/app/x', $says, Range => 'bytes=0-8', 'If-Range' => '"abc"')
       ->status, 206, 'If-Range, the same');
    is(ask('/app/x', $says, Range => 'bytes=0-8', 'If-Range' => '"x"')
       ->body, $ALL, 'another one');
    $answer = ask('/app/x', "Status: 206\r\n${TYPE}"
                  . "Content-Range: bytes 3-5/9\r\n\r\nabc",
                  Range => 'bytes=3-5');
    is_deeply([@$answer{qw(status body)}], [206, 'abc'],
              'that the application serves itself');
    is($answer->header('Content-Range'), 'bytes 3-5/9');
};

subtest 'mod_auth_basic' => sub {
    my %ann = (Authorization => 'Basic ' . encode_base64('ann:secret', ''));
    asked($app);
    is(ask('/auth/x')->status, 401, 'without a password');
    is(ask('/auth/x', undef, Authorization => 'Basic YW5uOng=')->status, 401,
       'a wrong one');
    is(asked($app), 0, 'the application was not asked');
    my $vars = variables(ask('/auth/x', undef, %ann));
    is_deeply([@$vars{qw(REMOTE_USER AUTH_TYPE HTTP_AUTHORIZATION)}],
              ['ann', 'Basic', undef], 'a good one');
    $vars = variables(ask('/pass/x', undef, %ann));
    is($vars->{HTTP_AUTHORIZATION}, $ann{Authorization}, 'CGIPassAuth');
    is(variables(ask('/app/x', undef, %ann))->{REMOTE_USER}, undef,
       'nobody where nobody is asked');
};

subtest 'mod_authnz_fcgi' => sub {
    my %ann = (Authorization => 'Basic ' . encode_base64('ann:secret', ''));
    asked($app);
    is(ask('/authnz/x')->status, 401, 'without a password');
    is(ask('/authnz/x', undef, Authorization => 'Basic YW5uOng=')->status,
       401, 'a wrong one');
    is(asked($app), 0, 'the application was not asked');
    my $vars = variables(ask('/authnz/x', undef, %ann));
    is_deeply([@$vars{qw(REMOTE_USER GROUP)}], [qw(ann staff)],
              'a good one, and what the authorizer said of her');
};

$httpd->ok_healthy;
done_testing;
