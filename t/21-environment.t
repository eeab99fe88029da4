# An application sees byte for byte the variables that mod_cgid gives a script.
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

plan skip_all => 'no mod_cgid here'
    if !Httpd::has_module('cgid');

# What FcgiApp::echo_params does, as a CGI script.
my $SCRIPT = <<"EOC" . <<'EOC';
#!$^X
EOC
sub escape {
    my ($value) = @_;
    $value =~ s/\\/\\\\/g;
    $value =~ s/\n/\\n/g;
    $value =~ s/([\x00-\x1f\x7f])/sprintf '\\x%02x', ord $1/ge;
    return $value;
}
print "Content-Type: text/plain\r\n\r\n";
print sort map { "$_=" . escape($ENV{$_}) . "\n" } keys %ENV;
print "\n", <STDIN>;
EOC

# One tree of files for both servers, so that nothing but ports differs.
my $site = Private::temp_dir('site');
my @scripts = (
    'docs/plain.x', 'docs/error.x', 'docs/action.x', 'docs/front.x',
    'docs/plain.php', "docs/with space.x", 'docs/per%cent.x',
    'docs/%41.x', 'docs/plus+sign.x', 'docs/question?mark.x',
    'docs/hash#mark.x', "docs/\xc3\xa9t\xc3\xa9.x", "docs/latin\xe9.x",
    "docs/quote'\".x", 'docs/semi;colon&and=.x', 'docs/back\\slash.x',
    'docs/UPPER.X', 'docs/a.x.y', 'docs/no-extension',
    'docs/ht/.phpd/no-extension', 'docs/ht/a.phpx.x',
    'docs/ht/script.x', 'docs/ht/script.php', 'docs/ht/deep/in.x',
    'docs/index/index.x', 'docs/index/deep/index.x', 'docs/fall/real.x',
    'docs/private/a.x', 'docs/neg/a.x', 'docs/strict/a.x',
    'docs/forbidden/a.x', 'docs/with space/in side.x',
    'docs/front/index.x', 'docs/base/script.x',
    'other/a.x', 'other/sub/b.x', 'other/index.x', 'other/ht/script.x',
    'users/anna/www/a.x', 'users/anna/www/index.x',
    'users/anna/www/ht/script.x',
    'hosts/one.test/a.x', 'hosts/one.test/index.x', 'hosts/one.test/404.x',
    'hosts/two.test/a.x',
);
Private::spew("$site/$_", $SCRIPT, 0755) for @scripts;

my $REWRITE = <<'EOC';
RewriteEngine On
RewriteRule ^pretty/(.*)$ script.x/$1 [L]
RewriteRule ^query/(.*)$ script.x?q=$1 [QSA,L]
RewriteRule ^plain$ script.x [L]
RewriteRule ^drop/(.*)$ script.x [DPI,L]
RewriteRule ^twice/(.*)$ pretty/$1
RewriteRule ^env/(.*)$ script.x/$1 [E=FROM_RULE:$1,L]
RewriteRule ^php/(.*)$ script.php/$1 [L]
RewriteRule ^php$ script.php [L]
RewriteRule ^no-escape/(.*)$ script.x/$1?$1 [NE,L]
RewriteRule ^escape/(.*)$ script.x?q=$1 [B,L]
RewriteRule ^forbidden - [F]
EOC
my %texts = (
    'docs/ht/.htaccess' => $REWRITE . <<'EOC',
RewriteRule ^elsewhere/(.*)$ /plain.x/$1 [L]
RewriteRule ^other/(.*)$ .phpd/no-extension/$1 [L]
RewriteRule ^name/(.*)$ a.phpx.x/$1 [L]
EOC
    'other/ht/.htaccess' => $REWRITE,
    'users/anna/www/ht/.htaccess' => $REWRITE,
    'docs/base/.htaccess' => "RewriteBase /base/\n$REWRITE",
    'docs/front/.htaccess' => <<'EOC',
DirectoryIndex index.x
RewriteEngine On
RewriteCond %{REQUEST_FILENAME} !-f
RewriteCond %{REQUEST_FILENAME} !-d
RewriteRule ^(.*)$ index.x/$1 [L]
EOC
    'docs/front/file.txt' => 'file',
    'docs/index/empty/none.txt' => 'none',
    'docs/a.act' => 'act', 'docs/b c.act' => 'act',
    'docs/page.shtml' => '<!--#include virtual="/plain.x/a%20b?c=d" -->',
    'docs/private/.htpasswd' => 'anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g='
        . "\n",
    'docs/plain.txt' => 'text', 'docs/404.html' => 'the page of the site',
);
Private::spew("$site/$_", $texts{$_}) for keys %texts;

my $CONFIG = <<'EOC';
ServerAdmin admin@example.org
DocumentRoot "@SITE@/docs"
<Directory "@SITE@">
  AllowOverride All
  Options +ExecCGI +FollowSymLinks
  Require all granted
</Directory>
AddHandler @HANDLER@ .x .php
<Files no-extension>
  SetHandler @HANDLER@
</Files>

Alias /alias "@SITE@/other"
Alias /one-file "@SITE@/other/a.x"
AliasMatch ^/match/(.*)\.html$ "@SITE@/other/$1.x"

RewriteEngine On
RewriteRule ^/rw/plain$ /plain.x
RewriteRule ^/rw/file$ @SITE@/other/a.x
RewriteRule ^/rw/info/(.*)$ /plain.x/$1
RewriteRule ^/rw/pt/(.*)$ /plain.x/$1 [PT]
RewriteRule ^/rw/alias/(.*)$ /alias/a.x/$1 [PT]
RewriteRule ^/rw/query/(.*)$ /plain.x?id=$1 [QSA,PT]
RewriteRule ^/rw/env/(.*)$ /plain.x [E=ONE:$1,E=TWO:2]
RewriteRule ^/rw/qsd$ /plain.x [QSD]
RewriteRule ^/rw/ht$ /ht/pretty/x [PT]

AddHandler by-action .act
Action by-action /action.x
Action virtual-action /action.x/virtual virtual
<Location /virtual>
  SetHandler virtual-action
</Location>
Action PATCH /action.x
Script LOCK /action.x

<Directory "@SITE@/docs/index">
  DirectoryIndex none.html index.x
</Directory>
<Directory "@SITE@/docs/index/empty">
  DirectoryIndex /plain.x
</Directory>
<Directory "@SITE@/other">
  DirectoryIndex index.x
</Directory>
<Directory "@SITE@/docs/fall">
  FallbackResource /front.x
</Directory>
<Directory "@SITE@/docs/forbidden">
  Require all denied
</Directory>
<Directory "@SITE@/docs/neg">
  Options +MultiViews
  MultiviewsMatch Any
</Directory>
<Directory "@SITE@/docs/private">
  AuthType Basic
  AuthName private
  AuthUserFile "@SITE@/docs/private/.htpasswd"
  Require valid-user
</Directory>
AddType text/html .shtml
AddOutputFilter INCLUDES .shtml
<Files *.shtml>
  Options +Includes
</Files>

ErrorDocument 404 /error.x
ErrorDocument 403 "/error.x/no%20way?because=denied"
ErrorDocument 401 /error.x
ErrorDocument 400 /error.x
ErrorDocument 414 /error.x

UserDir @SITE@/users/*/www
<Directory "@SITE@/users">
  DirectoryIndex index.x
</Directory>

SetEnv FROM_SETENV "some value"
SetEnv odd-name.x odd
SetEnv 1digit odd
SetEnv "sp ace()" odd
PassEnv PASSED
SetEnvIf Request_URI \.x FROM_SETENVIF=yes
SetEnvIf User-Agent (.+) AGENT=$1

<VirtualHost *>
  ServerName localhost
  RewriteEngine On
  RewriteOptions Inherit
</VirtualHost>
<VirtualHost *>
  ServerName one.test
  ServerAlias *.test
  UseCanonicalName Off
  VirtualDocumentRoot "@SITE@/hosts/%0"
  DirectoryIndex index.x
  ErrorDocument 404 /404.x
  RewriteEngine On
  RewriteRule ^/pretty/(.*) /a.x/$1 [PT]
</VirtualHost>
EOC

my $app = FcgiApp->start(\&FcgiApp::echo_params);
my %common = (
    modules => [qw(rewrite actions userdir vhost_alias cgid negotiation
                   auth_basic authn_core authn_file authz_user include)],
    env => { PASSED => 'through' }, config => $CONFIG);
my $cgi = Httpd->start(%common, vars => {
    SITE => $site, HANDLER => 'cgi-script' });
my $our = Httpd->start(%common, vars => {
    SITE => $site, HANDLER => $app->handler });

# The answer's status, a redirect's place and the body, where ports are
# called by name.
sub ask {
    my ($httpd, $request) = @_;
    my $port = $httpd->port;
    my $answer = Client->request($port, $request);
    my $text = ($answer->status // 'nothing') . ' '
        . ($answer->header('Location') // '') . "\n" . $answer->body;
    $text =~ s/^(?:REDIRECT_)*REMOTE_PORT=\K\d+$/ANY/gm;
    $text =~ s/\b$port\b/PORT/g;
    return $text;
}

my $asked;      # what the last comparison saw, name => value

# mod_cgid's text without PATH_TRANSLATED, which we say of an Action's file
# alone.
sub without_path_translated {
    my ($text) = @_;
    return $text if $text =~ /^REDIRECT_HANDLER=by-action$/m;
    return $text =~ s/^PATH_TRANSLATED=.*\n//mr;
}

# Compares the two servers; expected are variables as they must be at least.
sub compare {
    my ($request, $name, %expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($from_cgi, $from_us) = map { ask($_, $request) } $cgi, $our;
    $from_cgi = without_path_translated($from_cgi);
    $asked = { $from_us =~ /^(\w+)=(.*)$/mg };
    if ($from_us ne $from_cgi) {
        my %of = (cgi => $from_cgi, us => $from_us);
        my %lines = map { my $of = $_; ($of => {
            map { $_ => 1 } split /\n/, $of{$of} }) } keys %of;
        diag "only cgi: $_"
            for grep { !$lines{us}{$_} } sort keys %{ $lines{cgi} };
        diag "only us: $_"
            for grep { !$lines{cgi}{$_} } sort keys %{ $lines{us} };
    }
    return ok($from_us eq $from_cgi, $name) && !grep {
        !is($asked->{$_}, $expected{$_}, "$name: $_")
    } sort keys %expected;
}

sub get {
    my ($url, %headers) = @_;
    %headers = (Host => 'localhost', Connection => 'close', %headers);
    return "GET $url HTTP/1.1\r\n"
        . join('', map { "$_: $headers{$_}\r\n" } sort keys %headers)
        . "\r\n";
}

# subject => SCRIPT_NAME of those that must answer => [URLs]; each URL is asked
# of both servers.
my @TABLE = (
    'a file' => qr{^/plain\.x$} => [qw(
        /plain.x /plain.x? /plain.x?a=b&c=%20+d?e /plain.x/ /plain.x/a/b
        /plain.x/a%20b%2520c+d%2Be%3F%23%C3%A9%25%26%3B%27%22%5C/?q=%2F
        /plain.x//a///b// //plain.x//a /./plain.x/a/../b /%70lain.x/%61
        /plain.x/~a:@!$&'()*;= /plain.x/%FF%01%7F /none/../plain.x/x
        /plain.x/../plain.x /plain.x?/a/b.x /plain.x?%3F%00%0A
        /plain.x/a.x/b.php)],
    'names of files' => qr{\.[xX](\.y)?$|^/no-extension$} => [
        (map { ($_, "$_?q", "$_/a%20%25b") } qw(
            /with%20space.x /per%25cent.x /%2541.x /plus+sign.x
            /plus%2Bsign.x /question%3Fmark.x /hash%23mark.x
            /%C3%A9t%C3%A9.x /latin%E9.x /quote'%22.x
            /semi;colon&and=.x /back%5Cslash.x /UPPER.X /a.x.y
            /no-extension /with%20space/in%20side.x)),
        "/\xc3\xa9t\xc3\xa9.x/\xc3\xa9"],
    'Alias' => qr{^/(?:alias/.*|one-file|match/.*)$} => [qw(
        /alias/a.x /alias/a.x/i%20n?q /alias/sub/b.x/x /alias/ /one-file
        /one-file/info?q /match/a.html /match/sub/b.html?q
        /alias/./a.x //alias//a.x)],
    'mod_rewrite in the server' => qr{^/(?!error)} => [qw(
        /rw/plain /rw/plain?q /rw/file /rw/file?q /rw/info/a%20b/c?q
        /rw/info/ /rw/info/a%2520b%23d+e%2Bf /rw/pt/a/b?q
        /rw/pt/a%20b%25 /rw/alias/x%20y?q /rw/query/5 /rw/query/a+b?c=d
        /rw/query/%C3%A9%26%3D /rw/env/v%20w /rw/qsd?gone /rw/ht?q)],
    'mod_rewrite in .htaccess' => qr{ht/script\.x$|^/base/script\.x$} => [
        map { my $ht = $_; map { "$ht$_" } qw(
            plain plain?q pretty/a%20b pretty/a/b?q=%20 pretty/
            pretty/a%2520b+c%2Bd%C3%A9 query/5 query/a+b?c=d
            query/%26%23 drop/x/y twice/x/y?z env/v%20w script.x
            script.x/in%20fo?q no-escape/a%C3%A9 escape/a%20b%26c
            pretty//a//b) } '/ht/', '/alias/ht/', '/~anna/ht/', '/base/'],
    'a front controller' => qr{^/front/index\.x$|^/plain\.x$} => [qw(
        /front/ /front/a /front/a/b%20c?d /front/index.x/x
        /ht/elsewhere/a%20b?q)],
    'Action' => qr{^/action\.x$} => [qw(
        /a.act /a.act?q /b%20c.act /a.act/more /virtual /virtual/a%20b?q
        /virtual/x/../y)],
    'DirectoryIndex' => qr{/index\.x$|^/plain\.x$} => [qw(
        /index/ /index/?q=%20 /index/deep/ /index//deep// /index/empty/
        /index/empty/?q /alias/ /~anna/ /~anna/?q)],
    'ErrorDocument' => qr{^/error\.x$} => [qw(
        /none /none?q=%20 /none/a%20b /none.x /none.x/a?q /alias/none
        /alias/none.x/x /forbidden/a.x /forbidden/a.x/b?q /private/a.x
        /~anna/none /~nobody/a.x /ht/forbidden /ht/none /plain.x/a%2Fb
        /plain.txt/x /fall/none.x)],
    # since 2.4.60 and 2.4.56
    'what mod_rewrite refuses' => Httpd::is_at_least('2.4.60')
        ? qr{^/error\.x$} : qr{^/(?:error|plain)\.x$} =>
        [qw(/rw/pt/a%3Fb /rw/query/a%20b)],
    'UserDir' => qr{^/~anna/} => [qw(
        /~anna/a.x /~anna/a.x/i%20n?q /%7Eanna/a.x/x /~anna//a.x)],
    'FallbackResource' => qr{^/front\.x$|^/fall/real\.x$} => [qw(
        /fall/none /fall/none?q /fall/none/a%20b?q /fall/ /fall/real.x
        /fall/real.x/in)],
    'MultiViews' => qr{^/neg/a} => [qw(/neg/a /neg/a/in?q /neg/a.x)],
    'a subrequest' => qr{^/plain\.x} => [qw(/page.shtml /page.shtml?q)],
);

while (my ($subject, $script_name, $urls) = splice @TABLE, 0, 3) {
    subtest $subject => sub {
        for my $url (@$urls) {
            compare(get($url), $url);
            like($asked->{SCRIPT_NAME} // '', $script_name,
                 'and a script answered');
        }
    };
}

subtest 'VirtualDocumentRoot' => sub {
    for my $case (qw(one.test/a.x one.test/a.x/b%20c?d one.test/ one.test/none
                     two.test/a.x/b one.test/pretty/a%20b?q
                     ONE.test/a.x)) {
        my ($host, $url) = $case =~ m{^([^/]+)(.*)};
        compare(get($url, Host => $host), $case,
                DOCUMENT_ROOT => "$site/hosts/" . lc $host);
    }
    compare(get('/none', Host => 'other.test'), 'a host without a folder');
};

subtest 'redirects and refusals are not for the application' => sub {
    my $count = $app->connections;
    compare(get($_), $_) for qw(/index /alias /index?q /plain.txt);
    is($app->connections, $count, 'nobody was asked');
};

subtest 'methods and bodies' => sub {
    my $head = "Host: localhost\r\nConnection: close\r\n";
    my $form = "${head}Content-Type: application/x-www-form-urlencoded\r\n";
    my $post = "POST /plain.x/a?b HTTP/1.1\r\n$form";
    compare("${post}Content-Length: 7\r\n\r\na=b&c=d", 'POST',
            CONTENT_LENGTH => 7, REQUEST_METHOD => 'POST',
            CONTENT_TYPE => 'application/x-www-form-urlencoded');
    compare("${post}Content-Length: 0\r\n\r\n", 'an empty POST');
    compare("POST /plain.x HTTP/1.1\r\n$head\r\n", 'POST without a length');
    compare("$_ /plain.x/a HTTP/1.1\r\n${head}Content-Length: 1\r\n\r\nx", $_,
            REQUEST_METHOD => $_)
        for qw(PUT DELETE PATCH PROPFIND MKCOL OPTIONS);
    compare("LOCK /plain.txt HTTP/1.1\r\n$head\r\n", 'Script for a method');
    compare("POST /$_ HTTP/1.1\r\n${form}Content-Length: 3\r\n\r\na=b",
            "POST to $_")
        for qw(ht/pretty/x rw/pt/x a.act index/ fall/none);
    compare("GET /plain.x HTTP/1.0\r\n\r\n", 'HTTP/1.0',
            SERVER_PROTOCOL => 'HTTP/1.0');
    compare("GET http://localhost/plain.x/a%20b?q HTTP/1.1\r\n$head\r\n",
            'absolute form', PATH_INFO => '/a b');

    # httpd itself reads the body of a request that it refuses: what mod_cgid
    # tells of its length is not true any more.
    my $refused = "POST /none HTTP/1.1\r\n${form}Content-Length: 3\r\n\r\na=b";
    my ($from_cgi, $from_us) = map { ask($_, $refused) } $cgi, $our;
    like($from_us, qr/^REDIRECT_REQUEST_METHOD=POST$/m, 'POST to an error');
    unlike($from_us, qr/^CONTENT_LENGTH/m, 'has no body and no length');
    is($from_us, $from_cgi =~ s/^CONTENT_LENGTH=3\n//mr, 'all else the same');
};

# Of most of these httpd knows neither a method nor a URL.  (mod_cgid cannot
# answer then.)
subtest 'the error page of a request that cannot be read' => sub {
    my $head = "Host: localhost\r\nConnection: close\r\n\r\n";
    my @unread = (
        414 => 'GET /' . 'x' x 9000 . " HTTP/1.1\r\n$head",
        400 => "\x16\x03\x01\x02\x00\x01\r\n\r\n",
        400 => "GET /plain.x/\0 HTTP/1.1\r\n$head",
        400 => "G\@T /plain.x HTTP/1.1\r\n$head",
        400 => "GET /plain.x HTTP/1.1\r\nX: " . 'x' x 9000 . "\r\n$head",
        400 => "GET /plain.x HTTP/1.1\r\nno field\r\n$head",
        400 => "GET /plain.x HTTP/1.1\r\nConnection: close\r\n\r\n",
    );
    while (my ($status, $request) = splice @unread, 0, 2) {
        my $answer = Client->request($our->port, $request);
        my $name = FcgiApp::escape(substr $request, 0, 30);
        is($answer->status, $status, $name);
        like($answer->body, qr/^SCRIPT_NAME=\/error\.x$/m, 'the error page');
        like($answer->body, qr/^REDIRECT_STATUS=$status$/m, 'why');
        like($answer->body, qr/^REDIRECT_REQUEST_METHOD=(?:G[E\@]T)?$/m,
             'and what method, if there is one');
    }
};

subtest 'headers and the server' => sub {
    compare(get('/plain.x/i?q', Cookie => 'a=b; c="d e"',
                'User-Agent' => "x\xc3\xa9y", Accept => '', 'X-One' => "a\tb",
                Referer => 'http://x/?a=b', 'If-Modified-Since' => 'x',
                'Content-Type' => 'text/strange', 'If-Range' => '"x"',
                'X--Two-' => 'dashes', 'Accept-Encoding' => 'gzip'),
            'many headers', HTTP_COOKIE => 'a=b; c="d e"',
            HTTP_USER_AGENT => "x\xc3\xa9y", AGENT => "x\xc3\xa9y",
            FROM_SETENV => 'some value', PASSED => 'through',
            FROM_SETENVIF => 'yes');
    my $long = 'x' x 7000;
    compare(get('/plain.x', 'X-Long' => $long), 'a long one',
            HTTP_X_LONG => $long);
    compare("GET /plain.x HTTP/1.1\r\nHost: localhost\r\nX: 1\r\nx: 2\r\n"
            . "Connection: close\r\n\r\n", 'a header twice', HTTP_X => '1, 2');
    compare(get('/plain.x', Host => 'LOCALHOST:99'), 'a host with a port',
            HTTP_HOST => 'LOCALHOST:99', SERVER_NAME => 'localhost');
    compare(get('/plain.x', Host => 'unknown.example'), 'an unknown host');
};

subtest 'users' => sub {
    my $basic = 'Basic YW5uYTpwYXNzd29yZA==';    # anna:password
    my %who = (REMOTE_USER => 'anna', AUTH_TYPE => 'Basic');
    compare(get('/private/a.x/b', Authorization => $basic), 'a user', %who);
    compare(get('/private/none', Authorization => $basic), 'and an error',
            REDIRECT_REMOTE_USER => 'anna');
    ok(!grep({ /AUTHORIZATION/ } keys %$asked), 'no password');
    my $count = $app->connections;
    my $page = Client->get($our->port, '/private/a.x');
    is($page->status, 401, 'without a password');
    like($page->body, qr/^REDIRECT_STATUS=401$/m, 'the error page');
    is($app->connections, $count + 1, 'and no more is asked for');
};

subtest 'PHP scripts with PATH_INFO behind a rewrite rule' => sub {
    for my $url (qw(/ht/php/a /ht/php/a%20b?q)) {
        my ($from_cgi, $from_us) = map { ask($_, get($url)) } $cgi, $our;
        like($from_cgi, qr/^REDIRECT_URL=/m, "$url: mod_cgid has it");
        is($from_us =~ s{^SCRIPT_FILENAME=\Kproxy:fcgi://localhost}{}mr,
           without_path_translated($from_cgi),
           'SCRIPT_FILENAME is as PHP-FPM wants it, all others are the same');
    }
    compare(get('/ht/php?q'), 'without PATH_INFO nothing differs',
            REDIRECT_URL => '/ht/php');
    compare(get("/ht/$_/a"), 'no PHP script by its name',
            REDIRECT_URL => "/ht/$_/a") for qw(other name);
    compare(get('/plain.php/a?q'), 'without a rewrite rule nothing differs');
};

$_->ok_healthy for $cgi, $our;

subtest 'what is no script is not asked for' => sub {
    my $httpd = Httpd->start(
        vars => { SITE => $site, HANDLER => $app->handler },
        config => <<'EOC');
DocumentRoot "@SITE@/docs"
<Directory "@SITE@">
  Require all granted
</Directory>
AddHandler @HANDLER@ .x
<Files "no-*">
  SetHandler @HANDLER@
</Files>
<Directory "@SITE@/docs/strict">
  AcceptPathInfo Off
</Directory>
<Directory "@SITE@/docs/index/deep">
  SetHandler @HANDLER@
</Directory>
ErrorDocument 404 /404.html
EOC
    my $count = $app->connections;
    for my $url ('/strict/a.x/b', '/strict/a.x/', '/strict/a.x/b?q',
                 '/none.x', '/none.x/b', '/fall/none.x', '/no-file',
                 '/index/deep/none', '/index/deep/none/x', '/index/deep/',
                 '/plain.x/a%0Ab', '/plain.x/%0D', '/plain.x/%0A',
                 '/no-extension/%0D%0Ax') {
        my $answer = Client->get($httpd->port, $url);
        is($answer->status, 404, "404: $url");
        is($answer->body, 'the page of the site', 'with the error page');
    }
    is($app->connections, $count, 'nobody was asked');
    my @lines = $httpd->error_log =~ /(FCGI14: .*)/g;
    is(scalar @lines, 14, 'a line in the log for each');
    my $why = join "\n", @lines;
    like($why, qr/not asked for \S+none\.x: there is no such file/, 'why');
    like($why, qr/a\.x: AcceptPathInfo Off/, 'or why');
    like($why, qr/plain\.x: there is a line end in PATH_INFO/, 'or why');
    is(Client->get($httpd->port, $_)->status, 200, "200: $_")
        for '/strict/a.x', '/strict/a.x?b', '/index/deep/index.x/y';
    is($app->connections, $count + 3, 'those are asked for');
    $httpd->ok_healthy;
};

done_testing;
