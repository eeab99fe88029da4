# A URL below a Location is the Location's path and the rest of the URL.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Django;
use FcgiApp;
use Httpd;
use JSON::PP ();
use Test::More;

# Answers "name SCRIPT_NAME|PATH_INFO"; a dash is a variable not sent.
sub app_called {
    my ($name) = @_;
    return FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request or return;
        $c->report(params => $request->{params});
        $c->reply("Content-Type: text/plain\r\n\r\n$name " . join '|',
                  map { $_ // '-' } @{ $request->{params} }
                      {qw(SCRIPT_NAME PATH_INFO)});
    });
}

my $one = app_called('one');
my $two = app_called('two');
my %vars = (ONE => $one->handler, TWO => $two->handler);

# "status body" of a URL; a redirect's place, no error page.
sub seen {
    my ($httpd, $url, %headers) = @_;
    my $answer = Client->get($httpd->port, $url, %headers);
    my $status = $answer->status // 'nothing';
    return $status if $status >= 400;
    return "$status " . ($answer->header('Location') // $answer->body);
}

# Pairs of URL and "status body".
sub check_table {
    my ($httpd, @table) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    while (my ($url, $expected) = splice @table, 0, 2) {
        is(seen($httpd, $url), $expected, $url);
    }
    return;
}

# DocumentRoot has a bit of everything that could be in the way.
my %files = (
    'admin/secret.txt' => 'secret', 'admin/deep/x.txt' => 'x',
    'pages/index.html' => 'index', 'static/logo.txt' => 'logo',
    'script.x' => 'script', 'plain.txt' => 'plain', 'app/file.x' => 'file',
    'app/sub/file.x' => 'file', 'b/file.x' => 'file',
);

subtest '<Location />' => sub {
    my $httpd = Httpd->start(vars => \%vars, files => \%files,
                             config => <<'EOC');
<Location />
  SetHandler @ONE@
</Location>
EOC
    check_table($httpd,
        '/' => '200 one |/',
        '/?a=b' => '200 one |/',
        '/x' => '200 one |/x',
        '/x/' => '200 one |/x/',
        '/x/y/z.html' => '200 one |/x/y/z.html',
        # folders of the same names
        '/admin' => '200 one |/admin',
        '/admin?x' => '200 one |/admin',
        '/admin/' => '200 one |/admin/',
        '/admin/login' => '200 one |/admin/login',
        '/admin/deep' => '200 one |/admin/deep',
        '/admin/deep/' => '200 one |/admin/deep/',
        '/admin/deep/er/est' => '200 one |/admin/deep/er/est',
        # regular files are scripts
        '/script.x' => '200 one /script.x|-',
        '/script.x/more/yet' => '200 one /script.x|/more/yet',
        '/static/logo.txt' => '200 one /static/logo.txt|-',
        '/admin/secret.txt' => '200 one /admin/secret.txt|-',
        # no DirectoryIndex
        '/pages' => '200 one |/pages',
        '/pages/' => '200 one |/pages/',
        '/pages/none' => '200 one |/pages/none',
    );

    # URL => PATH_INFO; REQUEST_URI is what the client wrote
    my @decoded = (
        '/a%20b' => '/a b', '/a%2520b' => '/a%20b', '/a%252520' => '/a%2520',
        '/a%2Bb' => '/a+b', '/a+b' => '/a+b', '/a%3Fb?c=%20+d' => '/a?b',
        '/a%23b' => '/a#b', '/a%25' => '/a%', '/a%22b%27' => '/a"b\'',
        '/a%26b%3Bc%5Cd' => '/a&b;c\\d',
        '/%C3%A9t%C3%A9/%E6%97%A5' => "/\xc3\xa9t\xc3\xa9/\xe6\x97\xa5",
        "/\xc3\xa9" => "/\xc3\xa9", '/%FF%FE' => "/\xff\xfe",
        '/a%01%7F' => "/a\x01\x7f", '/a;b=c,d' => '/a;b=c,d',
        '//a//b' => '/a/b', '/a/./b/../c' => '/a/c', '/a/%2e%2e/c' => '/c',
        '/admin/%73ecret' => '/admin/secret', '/~user' => '/~user',
        '/x?' => '/x', '/x??y=?' => '/x', '/a:b@c!$()*' => '/a:b@c!$()*',
    );
    while (my ($url, $path) = splice @decoded, 0, 2) {
        my $answer = Client->get($httpd->port, $url);
        is($answer->body, "one |$path", "$url decoded");
        my $params = (grep { $_->[0] eq 'params' } $one->reports)[-1][1];
        is($params->{REQUEST_URI}, $url, 'REQUEST_URI as it came');
        is($params->{QUERY_STRING}, $url =~ /\?(.*)/ ? $1 : '',
           'QUERY_STRING as it came');
    }
    my $answer = Client->request($httpd->port,
        "GET http://localhost/abs%20olute?q HTTP/1.1\r\n"
        . "Host: localhost\r\nConnection: close\r\n\r\n");
    is($answer->body, 'one |/abs olute', 'a URL in absolute form');

    my $count = $one->connections;
    is(seen($httpd, "/a$_"), 404, "404 for $_ in PATH_INFO")
        for qw(%0A %0D %0Ab x/%0D%0Ay);
    is(seen($httpd, '/script.x/a%0Ab'), 404, 'and behind a file');
    is(seen($httpd, '/a%00b'), 404, '404 for NUL');
    is(seen($httpd, '/a%2Fb'), 404, 'AllowEncodedSlashes Off is kept');
    is($one->connections, $count, 'nobody was asked');
    $httpd->ok_healthy;
};

subtest 'the other variables' => sub {
    my $app = FcgiApp->start(\&FcgiApp::echo_params);
    my $httpd = Httpd->start(vars => { APP => $app->handler },
                             files => \%files, config => <<'EOC');
DirectoryIndex index.html
<Location /app>
  SetHandler @APP@
</Location>
EOC
    my $root = $httpd->docroot;
    my $echo = sub {
        my $body = Client->get($httpd->port, $_[0])->body;
        return { $body =~ /^(\w+)=(.*)$/mg };
    };
    my $params = $echo->('/app/sub/no%20file?q=%20');
    is($params->{SCRIPT_FILENAME}, "$root/app", 'SCRIPT_FILENAME');
    is($params->{DOCUMENT_ROOT}, $root, 'DOCUMENT_ROOT');
    is($params->{PATH_TRANSLATED}, undef, 'no PATH_TRANSLATED');
    is($params->{REQUEST_URI}, '/app/sub/no%20file?q=%20', 'REQUEST_URI');
    is($params->{QUERY_STRING}, 'q=%20', 'QUERY_STRING');
    $params = $echo->('/app/sub/file.x');
    is($params->{SCRIPT_FILENAME}, "$root/app/sub/file.x", 'of a file');
    ok(!exists $params->{PATH_INFO}, 'which has no PATH_INFO');
    $httpd->ok_healthy;
};

subtest 'paths of Locations' => sub {
    my $httpd = Httpd->start(
        vars => \%vars, modules => [qw(rewrite actions include)],
        files => { %files, 'aliased/real.x' => 'real', 'aa/x.go' => 'go',
                   'fall/x.txt' => 'x', 'outer/forced/file.x' => 'file',
                   'include.shtml' =>
                       '<!--#include virtual="/app/included/x" -->' },
        config => <<'EOC');
<Location /app>
  SetHandler @ONE@
</Location>
<Location /slash/>
  SetHandler @ONE@
</Location>
<Location /wild/*/app/*>
  SetHandler @ONE@
</Location>
<Location ~ "^/tilde/">
  SetHandler @ONE@
</Location>
<LocationMatch "^/match(/|$)">
  SetHandler @ONE@
</LocationMatch>
<LocationMatch "^/script\.x">
  SetHandler @ONE@
</LocationMatch>
<LocationMatch "/literal">
  SetHandler @ONE@
</LocationMatch>

# an <If> inside
<Location /if>
  <If "%{QUERY_STRING} == 'two'">
    SetHandler @TWO@
  </If>
  <ElseIf "%{QUERY_STRING} == 'one'">
    SetHandler @ONE@
  </ElseIf>
</Location>

# one inside the other
<Location /outer>
  SetHandler @ONE@
</Location>
<Location /outer/inner>
  SetHandler @TWO@
</Location>
<Location /outer/none>
  SetHandler none
</Location>
<Location /outer/same>
  FcgiTimeout 5
</Location>

# the outer one written last holds for all
<Location /late/inner>
  SetHandler @TWO@
</Location>
<Location /late>
  SetHandler @ONE@
</Location>

Alias /alias @DOCROOT@/aliased
<Location /alias>
  SetHandler @ONE@
</Location>

# ways into a Location
RewriteEngine On
RewriteRule ^/rewritten/(.*) /app/$1 [PT]
AddHandler go .go
Action go /app/action
<Directory @DOCROOT@/fall>
  FallbackResource /app/file.x
</Directory>
ErrorDocument 404 /app/error

AddOutputFilter INCLUDES .shtml
<Files *.shtml>
  Options +Includes
</Files>

# these are no Locations
RewriteRule ^/outer/forced - [H=@TWO@]
<Directory @DOCROOT@/b>
  SetHandler @TWO@
</Directory>
<Location /static>
  AddHandler @TWO@ .txt .none
</Location>
EOC
    check_table($httpd,
        '/app' => '200 one /app|',
        '/app?q' => '200 one /app|',
        '/app/' => '200 one /app|/',
        '/app/x' => '200 one /app|/x',
        '/app//x' => '200 one /app|/x',
        '/app/x%2520y' => '200 one /app|/x%20y',
        '/%61pp/x' => '200 one /app|/x',
        '/app/sub' => '200 one /app|/sub',
        '/app/sub/' => '200 one /app|/sub/',
        '/app/sub/none' => '200 one /app|/sub/none',
        '/app/sub/file.x' => '200 one /app/sub/file.x|-',
        '/app/file.x/tail' => '200 one /app/file.x|/tail',
        '/slash/' => '200 one /slash|/',
        '/slash/x' => '200 one /slash|/x',
        '/slash/x/' => '200 one /slash|/x/',
        '/wild/card/app/x' => '200 one |/wild/card/app/x',
        '/wild/*/app/*' => '200 one |/wild/*/app/*',
        '/tilde/x' => '200 one /tilde|/x',
        '/match' => '200 one /match|',
        '/match/x' => '200 one /match|/x',
        '/script.x/x' => '200 one /script.x|/x',
        '/literal/x' => '200 one /literal|/x',
        '/if/x?one' => '200 one /if|/x',
        '/if/x?two' => '200 two /if|/x',
        '/outer' => '200 one /outer|',
        '/outer/x' => '200 one /outer|/x',
        '/outer/inner' => '200 two /outer/inner|',
        '/outer/inner/x' => '200 two /outer/inner|/x',
        '/outer/innermost' => '200 one /outer|/innermost',
        '/outer/same/x' => '200 one /outer|/same/x',
        '/late/inner/x' => '200 one /late|/inner/x',
        '/alias' => '200 one /alias|',
        '/alias/x' => '200 one /alias|/x',
        '/alias/real.x/y' => '200 one /alias/real.x|/y',
        '/rewritten/x/y' => '200 one /app|/x/y',
        '/rewritten/file.x' => '200 one /app/file.x|-',
        '/aa/x.go' => '200 one /app|/action/aa/x.go',
        '/fall/none' => '200 one /app/file.x|-',
        '/fall/x.txt' => '200 x',
        '/include.shtml' => '200 one /app|/included/x',
        '/outer/forced/file.x' => '200 two /outer/forced/file.x|-',
        '/b/file.x' => '200 two /b/file.x|-',
        '/static/logo.txt' => '200 two /static/logo.txt|-',
    );
    for my $url ('/slash', '/application', '/b/none', '/b/none/x',
                 '/static/none.none', '/outer/none/x', '/outer/forced/x',
                 '/if/x?three', '/wild/app/x', '/none') {
        my $answer = Client->get($httpd->port, $url);
        is($answer->status . ' ' . $answer->body, '404 one /app|/error',
           "$url is an error, and the error page is below a Location");
    }
    like(Client->get($httpd->port, $_)->header('Location'), qr{\Q$_\E/\z},
         "$_ is redirected as always") for '/pages', '/b';
    $httpd->ok_healthy;
};

subtest 'files beside an application' => sub {
    my $httpd = Httpd->start(vars => \%vars, files => \%files,
                             config => <<'EOC');
<Location />
  SetHandler @ONE@
</Location>
<Location /static>
  SetHandler none
</Location>
<Location />
  <If "-f %{REQUEST_FILENAME} && %{REQUEST_URI} =~ /\.txt$/">
    SetHandler none
  </If>
</Location>
EOC
    check_table($httpd,
        '/static/logo.txt' => '200 logo',
        '/static/none.txt' => 404,
        '/plain.txt' => '200 plain',
        '/none.txt' => '200 one |/none.txt',
        '/script.x' => '200 one /script.x|-',
        '/' => '200 one |/',
    );
    $httpd->ok_healthy;
};

subtest 'outside of all sections, and in virtual hosts' => sub {
    my $httpd = Httpd->start(vars => \%vars, files => \%files,
                             config => <<'EOC');
<Location /main>
  SetHandler @ONE@
</Location>
<VirtualHost *>
  ServerName wide
  SetHandler @TWO@
</VirtualHost>
<VirtualHost *>
  ServerName mixed
  SetHandler @TWO@
  <Location /app>
    SetHandler @ONE@
  </Location>
</VirtualHost>
<VirtualHost *>
  ServerName if
  <If "%{REQUEST_URI} =~ m#^/if#">
    SetHandler @TWO@
  </If>
</VirtualHost>
<VirtualHost *>
  ServerName none
</VirtualHost>
EOC
    # host and URL => what is seen
    my @table = (
        'wide /' => '200 two |/',
        'wide /x/y' => '200 two |/x/y',
        'wide /admin' => '200 two |/admin',
        'wide /script.x/y' => '200 two /script.x|/y',
        'wide /pages/' => '200 two |/pages/',
        'wide /main/x' => '200 one /main|/x',
        'mixed /x' => '200 two |/x',
        'mixed /app/x' => '200 one /app|/x',
        'if /if/x' => '200 two |/if/x',
        'if /x' => '404',
        'none /main/x' => '200 one /main|/x',
        'none /x' => '404',
    );
    while (my ($name, $expected) = splice @table, 0, 2) {
        my ($host, $url) = split ' ', $name;
        is(seen($httpd, $url, Host => $host), $expected, $name);
    }
    my $answer = Client->request($httpd->port, "OPTIONS * HTTP/1.1\r\n"
        . "Host: wide\r\nConnection: close\r\n\r\n");
    is($answer->status . $answer->body, '200', 'OPTIONS * is httpd\'s own');
    $httpd->ok_healthy;
};

subtest 'the whole server' => sub {
    my $httpd = Httpd->start(vars => \%vars, files => \%files,
                             config => 'SetHandler @ONE@');
    check_table($httpd,
        '/' => '200 one |/',
        '/admin' => '200 one |/admin',
        '/admin/x' => '200 one |/admin/x',
        '/script.x/y' => '200 one /script.x|/y',
    );
    $httpd->ok_healthy;
};

my $missing = Django::missing();
my $django = $missing ? undef : Django->start;

# A visitor with cookies.
sub visit {
    my ($httpd, $cookies, $method, $url, $body) = @_;
    my $jar = join '; ', map { "$_=$cookies->{$_}" } sort keys %$cookies;
    my $head = "$method $url HTTP/1.1\r\nHost: localhost\r\n"
        . "Connection: close\r\n" . ($jar ? "Cookie: $jar\r\n" : '');
    $head .= "Content-Type: application/x-www-form-urlencoded\r\n"
        . 'Content-Length: ' . length($body) . "\r\n" if defined $body;
    my $answer = Client->request($httpd->port, "$head\r\n" . ($body // ''));
    for my $line ($answer->header_all('Set-Cookie')) {
        my ($name, $value) = $line =~ /^([^=]+)=([^;]*)/;
        $cookies->{$name} = $value;
    }
    return $answer;
}

# The site at $mount, '' or a path.
sub check_site {
    my ($httpd, $mount) = @_;
    my %cookies;
    my $get = sub { visit($httpd, \%cookies, 'GET', "$mount$_[0]") };

    is($get->('/')->body, "hello\n", 'home');
    my $echo = JSON::PP::decode_json($get->('/echo/?a=%20b')->body);
    is_deeply($echo, {
        method => 'GET', script_name => $mount, path_info => '/echo/',
        query => 'a=%20b', post => {},
        uri => "http://localhost$mount/echo/?a=%20b" }, 'as Django sees it');
    my $answer = visit($httpd, {}, 'POST', "$mount/echo/?q", 'a=1&b=x+y');
    is_deeply(JSON::PP::decode_json($answer->body)->{post},
              { a => ['1'], b => ['x y'] }, 'a form');

    $answer = $get->('/echo');
    is($answer->status, 301, 'a slash is appended');
    is($answer->header('Location'), "$mount/echo/", 'by Django');
    $answer = $get->('/go/');
    is($answer->status, 302, 'a redirect');
    is($answer->header('Location'), "$mount/named/after%20go/",
       'to a reversed URL');
    is($get->('/named/after%20go/')->body,
       "after go\n$mount/named/after%20go/\n", 'the page it leads to');
    is($get->('/named/%C3%A9%252B+%3F/')->body,
       "\xc3\xa9%2B+?\n$mount/named/%C3%A9%252B+%3F/\n", 'decoded once');
    is($get->('/none/')->status, 404, "Django's own 404");

    $answer = $get->('/admin');
    is($answer->status, 301, '/admin, a folder in DocumentRoot');
    is($answer->header('Location'), "$mount/admin/", "is Django's");
    $answer = $get->('/admin/');
    is($answer->status, 302, 'the admin wants a login');
    is($answer->header('Location'),
       "$mount/admin/login/?next=$mount/admin/", 'at this page');
    $answer = $get->('/admin/login/?next=/');
    like($answer->body, qr{action="$mount/admin/login/\?next=/"},
         'the login form');
    my ($token) = $answer->body =~ /csrfmiddlewaretoken" value="(\w+)"/;
    my $login = 'username=admin&password=admin&next=' . "$mount/admin/";
    is(visit($httpd, \%cookies, 'POST', "$mount/admin/login/", $login)
           ->status, 403, 'no CSRF token, no login');
    $answer = visit($httpd, \%cookies, 'POST', "$mount/admin/login/",
                    "$login&csrfmiddlewaretoken=$token");
    is($answer->status, 302, 'login');
    is($answer->header('Location'), "$mount/admin/", 'leads to the admin');
    like($get->('/admin/')->body, qr/Site administration/, 'which is open');
    like($get->('/admin/auth/user/1/change/')->body,
         qr{href="$mount/admin/auth/user/1/history/"}, 'reversed URLs');
    ($token) = $get->('/admin/auth/group/add/')->body
        =~ /csrfmiddlewaretoken" value="(\w+)"/;
    my $group = 'group' . ($mount =~ tr/a-z//cdr);
    $answer = visit($httpd, \%cookies, 'POST', "$mount/admin/auth/group/add/",
                    "name=$group&csrfmiddlewaretoken=$token");
    is($answer->header('Location'), "$mount/admin/auth/group/",
       'something is saved');
    like($get->('/admin/auth/group/')->body, qr/>\Q$group\E</, 'and listed');
    return;
}

for my $mount ('', '/site') {
    subtest 'Django below <Location ' . ($mount || '/') . '>' => sub {
        plan skip_all => "no $missing here" if $missing;
        # no dummy files, and folders of Django's own names
        my $httpd = Httpd->start(
            vars => { DJANGO => $django->handler, MOUNT => $mount || '/' },
            files => { map { ("$_/none.txt" => 'none') }
                       'admin/auth', 'echo', 'named', 'site/admin/auth' },
            config => <<'EOC');
<Location @MOUNT@>
  SetHandler @DJANGO@
</Location>
EOC
        check_site($httpd, $mount);
        is(visit($httpd, {}, 'GET', '/site')->body, "hello\n",
           'its root without a slash') if $mount;
        $httpd->ok_healthy;
    };
}

done_testing;
