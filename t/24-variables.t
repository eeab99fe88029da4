# Variables arrive whole, and a client makes none but those of its headers.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use Test::More;

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request(30) or return;
    my $records = delete $request->{records};
    $request->{shape} = [map {
        { %$_{qw(type id)}, size => length $_->{content} }
    } @$records];
    $c->report(request => $request);
    $c->reply("Content-Type: text/plain\r\n\r\nseen");
});

my $BASIC = 'Basic YW5uYTpwYXNzd29yZA==';    # anna:password

# The request as the application got it; $bytes without its last headers.
sub ask {
    my ($httpd, $bytes, $body) = @_;
    my $answer = Client->request($httpd->port, $bytes
        . "Host: localhost\r\nConnection: close\r\n\r\n" . ($body // ''),
        timeout => 60);
    is($answer->body, 'seen', 'answered') or diag $httpd->error_log;
    return $answer->status == 200 ? $app->wait_report('request') : {};
}

# The variables of a GET with headers, a list of names and values.
sub params {
    my ($httpd, $url, @headers) = @_;
    my $bytes = "GET $url HTTP/1.1\r\n";
    while (my ($name, $value) = splice @headers, 0, 2) {
        $bytes .= "$name: $value\r\n";
    }
    return ask($httpd, $bytes)->{params} || {};
}

# The names of variables in which something stands.
sub names_with {
    my ($params, $what) = @_;
    return [grep { ($params->{$_} // '') =~ /$what/ } sort keys %$params];
}

my $httpd = Httpd->start(
    modules => [qw(rewrite headers auth_basic authn_core authn_file
                   authz_user)],
    vars => { APP => $app->handler },
    files => {
        'a.x' => '', 'htpasswd' => "anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n",
        (map { ("$_/a.x" => '') } qw(pretty off on twice setenvif plain)),
        'pretty/.htaccess' => <<'EOR',
RewriteEngine On
RewriteRule .* - [E=HTTP_AUTHORIZATION:%{HTTP:Authorization}]
RewriteCond %{REQUEST_FILENAME} !-f
RewriteRule . a.x [L]
EOR
        'off/.htaccess' => <<'EOR',
CGIPassAuth Off
RewriteEngine On
RewriteRule ^direct$ - [E=HTTP_AUTHORIZATION:%{HTTP:Authorization}]
RewriteRule ^pretty$ a.x [E=HTTP_AUTHORIZATION:%{HTTP:Authorization},L]
EOR
        'on/.htaccess' => <<'EOR',
CGIPassAuth On
RewriteEngine On
RewriteRule ^pretty$ a.x [L]
EOR
        'twice/.htaccess' => <<'EOR',
RewriteEngine On
RewriteRule ^one$ two [E=HTTP_AUTHORIZATION:%{HTTP:Authorization},L]
RewriteRule ^two$ three [L]
RewriteRule ^three$ a.x [L]
EOR
        'setenvif/.htaccess' => <<'EOR',
SetEnvIf Authorization "(.*)" HTTP_AUTHORIZATION=$1
RewriteEngine On
RewriteRule ^pretty$ a.x [L]
EOR
        'plain/.htaccess' => <<'EOR',
RewriteEngine On
RewriteRule ^pretty$ a.x [L]
EOR
    },
    config => <<'EOC');
LimitRequestFieldSize 2000000
LimitRequestFields 0
AddHandler @APP@ .x
<Location /app>
  SetHandler @APP@
</Location>

# httpd's own advice for clients that cannot do better
SetEnvIfNoCase ^Legacy.Header$ ^(.*)$ fixed=$1
<Location /app/legacy>
  RequestHeader set Legacy-Header %{fixed}e env=fixed
</Location>

<Location /app/pass/on>
  CGIPassAuth On
</Location>
<Location /app/pass/off>
  CGIPassAuth Off
</Location>
<LocationMatch ^/app/setenvif>
  SetEnvIf Authorization "(.*)" HTTP_AUTHORIZATION=$1
</LocationMatch>
<Location /app/setenvif/off>
  CGIPassAuth Off
</Location>
RewriteEngine On
RewriteRule ^/app/rewrite - [E=HTTP_AUTHORIZATION:%{HTTP:Authorization}]

<LocationMatch ^/app/(user|group)>
  AuthType Basic
  AuthName app
  AuthUserFile @DOCROOT@/htpasswd
  Require valid-user
</LocationMatch>
<Location /app/user/pass>
  CGIPassAuth On
</Location>
<Location /app/group>
  Require user nobody
</Location>
<Location /app/denied>
  Require all denied
</Location>
<Location /app/elsewhere>
  Require ip 192.0.2.1
</Location>
<Files denied.x>
  Require all denied
</Files>
EOC

subtest 'names of headers' => sub {
    # names that a careless gateway makes the variable of another header of
    my @aliases = (
        'X_Foo', 'X.Foo', 'x_foo', 'X!Foo', 'X~Foo', 'Content_Length',
        'Content.Length', 'CONTENT_LENGTH', 'Content_Type', 'Content.Type',
        'User_Agent', 'HTTP_X_FOO', 'REMOTE_USER', 'Remote.User', 'HTTPS',
        'X_Forwarded_For', 'HTTP_AUTHORIZATION', 'Cookie_', 'Ho_st');
    for my $name (@aliases) {
        my $params = params($httpd, '/app/x', $name => 'evil');
        my $only = $name eq 'HTTPS' ? ['HTTP_HTTPS'] : [];
        is_deeply(names_with($params, 'evil'), $only, "$name alone");
        ok(!exists $params->{HTTPS}, 'no HTTPS');
    }
    my @good = ('X-Foo' => 'good', 'User-Agent' => 'good',
                'Content-Type' => 'good/good');
    for my $headers ([@good, map { $_ => 'evil' } @aliases],
                     [(map { $_ => 'evil' } @aliases), @good]) {
        my $params = params($httpd, '/app/x', @$headers);
        is_deeply(names_with($params, 'evil'), ['HTTP_HTTPS'], 'aliases');
        is_deeply(names_with($params, '^good'),
                  [qw(CONTENT_TYPE HTTP_USER_AGENT HTTP_X_FOO)],
                  'beside the good ones');
    }

    for my $proxy (qw(Proxy proxy PROXY)) {
        my $params = params($httpd, '/app/x', $proxy => 'http://evil/');
        is_deeply(names_with($params, 'evil'), [], "$proxy is not HTTP_PROXY");
    }
    my $params = params($httpd, '/a.x/y', Proxy => 'evil', _Proxy => 'evil');
    is_deeply(names_with($params, 'evil'), [], 'nor for a file');

    $params = params($httpd, '/app/legacy', 'Legacy_Header' => 'old');
    is($params->{HTTP_LEGACY_HEADER}, 'old', "httpd's own way around it");
    $params = params($httpd, '/app/x', 'Legacy_Header' => 'old');
    ok(!exists $params->{HTTP_LEGACY_HEADER}, 'only where it is wanted');
};

subtest 'the length of the body' => sub {
    my @cases = (
        ["Content-Length: 3\r\nContent_Length: 99\r\n", 'abc', 3],
        ["Content_Length: 99\r\nContent-Length: 3\r\n", 'abc', 3],
        ["Content.Length: 99\r\n", '', undef],
        ["Content-Length: 0\r\nContent_Length: 99\r\n", '', 0],
        ["Transfer-Encoding: chunked\r\nContent_Length: 99\r\n",
         "3\r\nabc\r\n0\r\n\r\n", 3],
    );
    for my $case (@cases) {
        my ($headers, $body, $len) = @$case;
        my $request = ask($httpd, "POST /app/x HTTP/1.1\r\n$headers", $body);
        my $params = $request->{params};
        is($params->{CONTENT_LENGTH}, $len, 'CONTENT_LENGTH');
        is(length $request->{stdin}, $len // 0, 'is the length');
        ok(!exists $params->{"HTTP_$_"}, "no HTTP_$_")
            for qw(CONTENT_LENGTH TRANSFER_ENCODING);
    }
};

subtest 'CGIPassAuth' => sub {
    my %passed = (
        '/app/pass' => undef, '/app/pass/on' => $BASIC,
        '/app/pass/off' => undef, '/app/user' => undef,
        '/app/user/pass' => $BASIC, '/a.x' => undef, '/on/a.x' => $BASIC,
        '/on/pretty' => $BASIC, '/off/a.x' => undef, '/off/pretty' => undef,
        '/plain/a.x' => undef, '/plain/pretty' => undef,
        # what a SetEnvIf or RewriteRule recipe says, holds
        '/app/setenvif' => $BASIC, '/app/setenvif/off' => $BASIC,
        '/app/rewrite' => $BASIC, '/pretty/a.x' => $BASIC,
        '/setenvif/a.x' => $BASIC,
        # also after an internal redirect
        '/pretty/none' => $BASIC, '/pretty/a%20b?c' => $BASIC,
        '/twice/one' => $BASIC, '/twice/two' => undef,
        '/setenvif/pretty' => $BASIC,
    );
    for my $url (sort keys %passed) {
        my $params = params($httpd, $url, Authorization => $BASIC,
                            'Proxy-Authorization' => 'other');
        is($params->{HTTP_AUTHORIZATION}, $passed{$url},
           "$url: " . ($passed{$url} ? 'passed' : 'kept back'));
    }
    my $params = params($httpd, '/pretty/none');
    ok(!$params->{HTTP_AUTHORIZATION}, 'none sent, none there');
    $params = params($httpd, '/plain/pretty',
                     'Redirect-HTTP-Authorization' => 'evil',
                     'REDIRECT_HTTP_AUTHORIZATION' => 'evil');
    is_deeply(names_with($params, 'evil'),
              ['HTTP_REDIRECT_HTTP_AUTHORIZATION'], 'a client cannot set it');
};

subtest 'users, and what is denied' => sub {
    my $params = params($httpd, '/app/user', Authorization => $BASIC);
    is($params->{REMOTE_USER}, 'anna', 'REMOTE_USER');
    is($params->{AUTH_TYPE}, 'Basic', 'AUTH_TYPE');
    $params = params($httpd, '/app/x', Authorization => $BASIC);
    ok(!exists $params->{$_}, "no $_ where nobody asked")
        for qw(REMOTE_USER AUTH_TYPE);

    my $count = $app->connections;
    my %denied = (
        '/app/denied' => 403, '/app/denied/x' => 403, '/app/elsewhere' => 403,
        '/denied.x' => 403, '/denied.x/y' => 403, '/app/user' => 401,
        '/app/user/pass' => 401, '/app//denied' => 403,
        '/app/%64enied' => 403, '/app/x/../denied' => 403,
    );
    $httpd->write('denied.x', '');
    is(Client->get($httpd->port, $_)->status, $denied{$_}, $_)
        for sort keys %denied;
    is(Client->get($httpd->port, '/app/user', Authorization => 'Basic x')
           ->status, 401, 'a wrong password');
    is(Client->get($httpd->port, '/app/group', Authorization => $BASIC)
           ->status, 401, 'the wrong user');
    is($app->connections, $count, 'nobody was asked');
};

# Text in which each place is different from any other.
sub text {
    my ($len, $seed) = @_;
    my $text = join ',', map { "$seed$_" } 1 .. $len / 7 + 1;
    return substr $text, 0, $len;
}

# The records' shape is as FastCGI has it, and nothing is lost.
sub check_records {
    my ($request) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @shape = @{ $request->{shape} };
    is((shift @shape)->{type}, FCGI_BEGIN_REQUEST, 'BEGIN_REQUEST first');
    my @params = grep { $_->{type} == FCGI_PARAMS } @shape;
    is_deeply([map { $_->{type} } @shape[0 .. $#params]],
              [(FCGI_PARAMS) x @params], 'then PARAMS');
    is((pop @params)->{size}, 0, 'ended by an empty record');
    is(scalar(grep { $_->{size} < 1 || $_->{size} > 65535 } @params), 0,
       'no other is empty or too large');
    my $len = length $request->{params_raw};
    cmp_ok(scalar @params, '<=', $len / 60000 + 1,
           scalar(@params) . " records of PARAMS for $len bytes");
    ok(FcgiWire::encode_pairs(@{ $request->{pairs} })
       eq $request->{params_raw}, 'every byte belongs to a pair');
    my %times;
    $times{ $_->[0] }++ for @{ $request->{pairs} };
    is_deeply([grep { $times{$_} > 1 } sort keys %times], [], 'none twice');
    return;
}

subtest 'values of many lengths' => sub {
    my @lengths = (0, 1, 126, 127, 128, 129, 255, 256, 65_527, 65_528, 65_534,
                   65_535, 65_536, 65_537, 131_070, 131_072, 1_048_576);
    for my $len (@lengths) {
        my $value = text($len, 'v');
        my $request = ask($httpd, "POST /app/x HTTP/1.1\r\nX-Long: $value\r\n"
                          . "Content-Length: 4\r\n", 'body');
        my $params = $request->{params};
        ok(($params->{HTTP_X_LONG} // 'none') eq $value, "$len bytes");
        is($params->{REQUEST_METHOD}, 'POST', 'and all others');
        is($request->{stdin}, 'body', 'and the body');
        check_records($request);
    }
};

subtest 'names of many lengths' => sub {
    for my $len (1, 2, 121, 122, 123, 124, 250, 251, 65_536) {
        my $name = 'X' x $len;
        my $request = ask($httpd, "GET /app/x HTTP/1.1\r\n$name: value\r\n");
        is($request->{params}{"HTTP_$name"}, 'value', "$len bytes");
        check_records($request);
    }
};

subtest 'many megabytes' => sub {
    for my $case ([8, 1_048_576], [130, 65_536], [1100, 8000],
                  [3000, 300]) {
        my ($count, $len) = @$case;
        my %sent = map { ("HTTP_X_$_" => text($len, "v$_-")) } 1 .. $count;
        my $bytes = "POST /app/x HTTP/1.1\r\nContent-Length: 4\r\n";
        $bytes .= "X-$_: $sent{qq(HTTP_X_$_)}\r\n" for 1 .. $count;
        my $request = ask($httpd, $bytes, 'body');
        my $params = $request->{params};
        my @lost = grep { ($params->{$_} // '') ne $sent{$_} }
            sort keys %sent;
        is_deeply(\@lost, [], "$count variables of $len bytes");
        is($request->{stdin}, 'body', 'and the body');
        check_records($request);
    }
};

$httpd->ok_healthy;

subtest 'variables of the configuration' => sub {
    my %value = (BIG => text(1_000_000, 'big'), EMPTY => '', ONE => 'x',
                 QUOTES => q{a 'b' "c" \d}, BYTES => "\xc3\xa9\xff\t.");
    my $server = Httpd->start(
        modules => ['rewrite'],
        vars => { APP => $app->handler, BIG => $value{BIG} },
        env => { PASSED => 'through' }, config => <<"EOC" . <<'EOC');
SetEnv BYTES "$value{BYTES}"
EOC
SetEnv BIG "@BIG@"
SetEnv EMPTY
SetEnv ONE x
SetEnv QUOTES "a 'b' \"c\" \d"
PassEnv PASSED
UnsetEnv GONE
SetEnv odd-name 1
SetEnv odd.name.2 2
SetEnv 3digits 3
SetEnv "with space" 4
SetEnv BASH_FUNC_x() 5
SetEnv _6 6
SetEnv 7 7
RewriteEngine On
RewriteRule ^/app/(.*) - [E=FROM_RULE:$1,E=odd-rule:8]
SetEnvIf Request_URI x from-setenvif=9
<Location /app>
  SetHandler @APP@
</Location>
EOC
    my $params = params($server, '/app/x%20y');
    ok(($params->{$_} // 'none') eq $value{$_}, $_) for sort keys %value;
    my %more = (
        odd_name => 1, odd_name_2 => 2, _digits => 3, with_space => 4,
        BASH_FUNC_x__ => 5, _6 => 6, _ => 7, odd_rule => 8,
        from_setenvif => 9, PASSED => 'through', FROM_RULE => 'x y',
    );
    is($params->{$_}, $more{$_}, $_) for sort keys %more;
    is_deeply([grep { !/^[A-Za-z_][A-Za-z0-9_]*\z/ } sort keys %$params], [],
              'all names can be variables');
    $server->ok_healthy;
};

subtest 'one name in several spellings' => sub {
    my $server = Httpd->start(
        modules => [qw(headers auth_basic authn_core authn_file authz_user)],
        vars => { APP => $app->handler },
        files => { 'htpasswd' =>
                       "anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n" },
        access_format => '%U %{no-gzip}e %{A-NAME}e',
        config => <<'EOC');
SetEnv REMOTE-USER admin
SetEnv Remote.User admin
SetEnv REQUEST-METHOD POST
SetEnv SCRIPT-NAME /admin
SetEnv HTTP-HOST evil
SetEnv HTTP-X-NEW new
SetEnv A-NAME dashes
SetEnv A.NAME dots
SetEnv A_NAME itself
SetEnv B.NAME dots
SetEnv B-NAME dashes
SetEnv no-gzip 1
SetEnv server_name lower
SetEnv remote_user lower
SetEnv script_name lower
SetEnv Query_String lower
SetEnv script_filename lower
SetEnv http_host lower
SetEnv CONTENT-LENGTH 99
SetEnv HTTP-TRANSFER-ENCODING chunked
FcgiParam SEES "%{reqenv:A-NAME}"
RequestHeader add X-Twice one
RequestHeader add X-Twice two
<Location /app>
  SetHandler @APP@
</Location>
<Location /app/user>
  AuthType Basic
  AuthName app
  AuthUserFile @DOCROOT@/htpasswd
  Require valid-user
</Location>
EOC
    my $request = ask($server, "GET /app/user HTTP/1.1\r\n"
                      . "Authorization: $BASIC\r\n");
    my $params = $request->{params};
    check_records($request);
    my %expected = (
        REMOTE_USER => 'anna', REQUEST_METHOD => 'GET',
        SCRIPT_NAME => '/app', HTTP_HOST => 'localhost',
        SERVER_NAME => 'localhost', QUERY_STRING => '',
        HTTP_X_NEW => 'new', A_NAME => 'itself', no_gzip => 1,
        SEES => 'dashes', CONTENT_LENGTH => undef,
        HTTP_TRANSFER_ENCODING => undef);
    is($params->{$_}, $expected{$_}, $_) for sort keys %expected;
    is_deeply(names_with($params, 'lower'), [], 'nothing of SetEnv');
    like($params->{SCRIPT_FILENAME}, qr{/app$}, 'SCRIPT_FILENAME');
    like($params->{B_NAME}, qr/^(?:dots|dashes)$/, 'one of two odd ones');
    is_deeply([grep { !/^[A-Za-z_][A-Za-z0-9_]*\z/ } sort keys %$params], [],
              'all names can be variables');
    $params = params($server, '/app/x');
    is(($params->{remote_user} // '') . ($params->{REMOTE_USER} // ''),
       'lower', 'where nobody else says it, SetEnv does, once');
    ok($server->wait_for_access(qr{^/app/user 1 dashes$}m),
       'httpd itself still has the names as they are')
        or diag $server->access_log;
    $server->ok_healthy;
};

subtest 'TLS' => sub {
    my $server = Httpd->start(
        tls => 1, vars => { APP => $app->handler }, files => { 'a.x' => '' },
        config => <<'EOC');
AddHandler @APP@ .x
<Location /app>
  SetHandler @APP@
</Location>
<LocationMatch ^/app/(std|all)|^/a\.x/std>
  SSLOptions +StdEnvVars
</LocationMatch>
<Location /app/all>
  SSLOptions +ExportCertData
</Location>
EOC
    my $secure = sub {
        my $answer = Client::curl(
            '-k', 'https://localhost:' . $server->tls_port . $_[0]);
        is($answer->{body}, 'seen', $_[0]) or diag $answer->{stderr};
        return $app->wait_report('request')->{params};
    };
    for my $url ('/app/std', '/a.x/std') {
        my $params = $secure->($url);
        is($params->{HTTPS}, 'on', 'HTTPS');
        is($params->{REQUEST_SCHEME}, 'https', 'REQUEST_SCHEME');
        is($params->{SERVER_PORT}, $server->tls_port, 'SERVER_PORT');
        like($params->{SSL_PROTOCOL}, qr/^TLSv1\.\d$/, 'SSL_PROTOCOL');
        like($params->{SSL_CIPHER}, qr/^\w[\w-]+$/, 'SSL_CIPHER');
        is($params->{SSL_SERVER_S_DN_CN}, 'localhost', 'SSL_SERVER_S_DN_CN');
        is($params->{SSL_TLS_SNI}, 'localhost', 'SSL_TLS_SNI');
    }
    my $params = $secure->('/app/all');
    like($params->{SSL_SERVER_CERT},
         qr/\A-----BEGIN CERTIFICATE-----\n[\w+\/=\n]+-----END/,
         'a certificate with its lines');
    $params = $secure->('/app/x');
    is($params->{HTTPS}, 'on', 'HTTPS without StdEnvVars');
    ok(!exists $params->{SSL_CIPHER}, 'and no more');
    $params = params($server, '/app/std');
    is_deeply([grep { /^(?:HTTPS|SSL_.*)$/ } sort keys %$params], [],
              'nothing of this without TLS');
    is($params->{REQUEST_SCHEME}, 'http', 'REQUEST_SCHEME');
    $server->ok_healthy;
};

# What a protocol adds comes beside all that a plain request has. Of a header
# that was added again, and of a variable that was set twice, the last one holds.
subtest 'each name once, with any protocol' => sub {
    my $server = Httpd->start(
        tls => 1, http2 => Httpd::mpm() ne 'prefork',
        modules => ['headers'], vars => { APP => $app->handler },
        files => { 'app/index/a.x' => '' }, config => <<'EOC');
<Location /app>
  SetHandler @APP@
</Location>
<Location /app/setenv>
  SetEnv A_NAME itself
</Location>
<Location /app/std>
  SSLOptions +StdEnvVars
</Location>
<Location /app/verify>
  SetEnv SSL_CLIENT_VERIFY NONE
  SetEnvIf X-More . SSL_CLIENT_VERIFY=SUCCESS
</Location>
<Location /app/index>
  SetHandler None
  DirectoryIndex a.x
  AddHandler @APP@ .x
</Location>
RequestHeader add X-More 2
RequestHeader add x-more 3
RequestHeader add X-Mode 4
EOC
    my %base = (plain => 'http://localhost:' . $server->port,
                tls => 'https://localhost:' . $server->tls_port);
    my @ways = (['plain', '--http1.1'], ['tls', '--http1.1'],
                Httpd::mpm() eq 'prefork' ? ()
                : (['plain', '--http2-prior-knowledge'], ['tls', '--http2']));
    my @same = qw(DOCUMENT_ROOT GATEWAY_INTERFACE HTTP_ACCEPT HTTP_X_MODE
                  PATH_INFO QUERY_STRING REMOTE_ADDR REQUEST_METHOD HTTP_X_69
                  REQUEST_URI SCRIPT_NAME SERVER_ADDR SERVER_SOFTWARE A_NAME
                  SSL_CLIENT_VERIFY);
    my @more = ('-H', 'X-More: 1');
    my @many = map { ('-H', "X-$_: of many") } 1 .. 70;
    for my $path (qw(x many setenv/x verify/x index/ std/x)) {
        my $wanted;
        for my $way (@ways) {
            my ($base, $option) = @$way;
            my $answer = Client::curl('-k', $option, @more,
                                      $path eq 'many' ? @many : (),
                                      "$base{$base}/app/$path?a=b");
            is($answer->{body}, 'seen', "$path, $base, $option");
            my $request = $app->wait_report('request');
            my %times;
            $times{$_->[0]}++ for @{ $request->{pairs} };
            is_deeply([grep { $times{$_} > 1 } sort keys %times], [],
                      'no name twice');
            my $params = $request->{params};
            my $is_std = $base eq 'tls' && $path eq 'std/x';
            is($params->{HTTP2}, $option eq '--http1.1' ? undef : 'on',
               'HTTP2');
            is($params->{HTTPS}, $base eq 'tls' ? 'on' : undef, 'HTTPS');
            is(!!$params->{SSL_PROTOCOL}, $is_std, 'SSL_PROTOCOL');
            is($params->{HTTP_X_MORE}, 3, 'HTTP_X_MORE');
            my %seen = map { $_ => $params->{$_} } @same;
            delete $seen{SSL_CLIENT_VERIFY} if $path eq 'std/x';
            $wanted //= \%seen;
            is_deeply(\%seen, $wanted, 'and all others');
        }
        is($wanted->{HTTP_X_MODE}, 4, 'a header that was added');
        is($wanted->{HTTP_X_69}, $path eq 'many' ? 'of many' : undef,
           'one of many');
        is($wanted->{A_NAME}, $path eq 'setenv/x' ? 'itself' : undef,
           'SetEnv');
        is($wanted->{SSL_CLIENT_VERIFY}, $path eq 'verify/x' ? 'NONE' : undef,
           'what no client sets') if $path ne 'std/x';
    }
    $server->ok_healthy;
};

done_testing;
