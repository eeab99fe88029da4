# An application that owns a URL is asked for all that is below it.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use PhpFpm;
use Private;
use Test::More;

my @servers;

# Answers "SCRIPT_NAME|PATH_INFO", a dash for a variable not sent; what the
# query says instead, as its whole answer.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $params = $request->{params};
    return $c->reply("X-Said: $1\r\n\r\nbody")
        if ($params->{QUERY_STRING} // '') =~ /^say=(.*)/;
    $c->reply("Content-Type: text/plain\r\n\r\n" . join '|',
              map { $_ // '-' } @$params{qw(SCRIPT_NAME PATH_INFO)});
}, workers => 4);

sub start {
    my (%opt) = @_;
    my $httpd = Httpd->start(%opt, vars => { APP => $app->handler });
    push @servers, $httpd;
    return $httpd;
}

# "status body"; of a redirect its place, of an error its status alone.
sub seen {
    my ($httpd, $url, %headers) = @_;
    my $answer = Client->get($httpd->port, $url, %headers);
    my $status = $answer->status // 'nothing';
    return $status if $status >= 400;
    return "$status " . ($answer->header('Location') // $answer->body);
}

sub check_table {
    my ($httpd, @table) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    while (my ($url, $expected) = splice @table, 0, 2) {
        is(seen($httpd, $url), $expected, substr $url, 0, 60);
    }
    return;
}

subtest 'the default site' => sub {
    my %site = (
        http2 => Httpd::mpm() ne 'prefork',
        files => { 'index.html' => 'It works', 'favicon.ico' => 'icon',
                   'sub/index.html' => 'sub', 'sub/index.cgi' => 'cgi',
                   'noindex/a' => 'a',
                   'php/index.php' => '<?php', 'php/a.php' => '<?php' },
    );
    my $default = <<'EOC';
DirectoryIndex index.html index.cgi index.php
<Directory @DOCROOT@>
  Options Indexes FollowSymLinks
  AllowOverride None
  Require all granted
</Directory>
<VirtualHost *>
  ServerName example
  <Location />
    SetHandler @APP@
EOC
    my $auto = start(%site, config => <<"EOC");
$default
  </Location>
</VirtualHost>
<VirtualHost *>
  ServerName folder
  <Location /sub>
    SetHandler \@APP@
  </Location>
  <Location /php>
    SetHandler \@APP@
    FcgiScript File
  </Location>
</VirtualHost>
EOC
    check_table($auto,
        '/' => '200 |/', '/?a=b' => '200 |/', '/sub/' => '200 |/sub/',
        '/sub' => '200 |/sub', '/noindex/' => '200 |/noindex/',
        # a file is a script, as for PHP
        '/favicon.ico' => '200 /favicon.ico|-');
    for my $request ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
                     . "Connection: close\r\n\r\nb", "GET / HTTP/1.0\r\n\r\n",
                     "OPTIONS / HTTP/1.1\r\nHost: x\r\n"
                     . "Connection: close\r\n\r\n") {
        is(Client->request($auto->port, $request)->body, '|/',
           (split /\r/, $request)[0]);
    }
    my $answer = Client->get($auto->port, '/?say=nothing');
    is($answer->header('X-Said'), 'nothing', 'an answer of no type');
    unlike($answer->header('Content-Type') // '', qr/directory/,
           'is no folder');
    is(seen($auto, '/', Host => 'folder'), '200 It works',
       'beside a Location DirectoryIndex holds');
    is(seen($auto, '/sub/', Host => 'folder'), '200 /sub|/', 'below it not');
    is(seen($auto, '/php/', Host => 'folder'), '200 /php/index.php|-',
       'but with FcgiScript File');
    if ($site{http2}) {
        my $curled = Client::curl('--http2-prior-knowledge',
                                  'http://127.0.0.1:' . $auto->port . '/');
        is($curled->{body}, '|/', 'HTTP/2');
    }

    my $virtual = start(%site, config => <<"EOC");
$default
    FcgiScript Virtual
  </Location>
</VirtualHost>
EOC
    check_table($virtual,
        '/' => '200 |/', '/sub/' => '200 |/sub/', '/sub' => '200 |/sub',
        '/favicon.ico' => '200 |/favicon.ico',
        '/index.html' => '200 |/index.html');
};

# Nothing of these can be a file: a name of more than 255 bytes, a path of
# more than 4096, a folder that may not be searched, links that lead nowhere,
# a pipe.
my $LONG = 'n' x 300;
my @impossible = (
    "/$LONG", "/$LONG/x", "/dir/$LONG", "/dir/$LONG/x/", "/$LONG.x",
    '/x' x 3000, '/' . 'y' x 6000, '/dir' x 1500, '/dir/' . 'z' x 6000,
    '/dir/' . 'n' x 255 . '/x' x 3000,
    '/locked', '/locked/', '/locked/a', '/locked/a/b', "/locked/$LONG",
    '/loop', '/loop/', '/loop/x', '/dir/loop/x/y', '/lost', '/lost/x',
    '/dir/far', '/dir/far/x', '/pipe', '/pipe/x', '/piped', '/piped/x',
);

sub impossible_files {
    my ($httpd) = @_;
    my $root = $httpd->docroot;
    symlink 'loop', "$root/loop" or die $!;
    symlink '../loop', "$root/dir/loop" or die $!;
    symlink 'none', "$root/lost" or die $!;
    symlink 'pipe', "$root/piped" or die $!;
    symlink '../locked/a', "$root/dir/far" or die $!;
    system('mkfifo', "$root/pipe") == 0 or die;
    chmod 0, "$root/locked" or die $!;
    return;
}

subtest 'URLs that can be no file' => sub {
    my $httpd = start(
        http2 => Httpd::mpm() ne 'prefork',
        log_level => 'warn',
        files => {
            'dir/.htaccess' => "Header always set X-Dir seen\n",
            'script.x' => 'x', 'locked/a' => 'a', 'plain/a.txt' => 'a',
            'secret/a' => 'a', 'ht/.htaccess' => 'Require all denied',
            'ht/a' => 'a', 'both/script.x' => 'x',
        },
        modules => [qw(headers rewrite)], config => <<'EOC');
LimitRequestLine 20000
<Directory @DOCROOT@/secret>
  Require all denied
</Directory>
<VirtualHost *>
  ServerName auto
  <Location />
    SetHandler @APP@
  </Location>
</VirtualHost>
<VirtualHost *>
  ServerName nolinks
  <Location />
    SetHandler @APP@
  </Location>
  <Directory @DOCROOT@>
    Options None
    AllowOverride None
  </Directory>
</VirtualHost>
<VirtualHost *>
  ServerName virtual
  <Location />
    SetHandler @APP@
    FcgiScript Virtual
  </Location>
</VirtualHost>
# one that depends on more, so that httpd is asked again where a .htaccess file
# was read
<VirtualHost *>
  ServerName asked
  <Location />
    SetHandler "@APP@%{reqenv:NONE}"
  </Location>
</VirtualHost>
<VirtualHost *>
  ServerName whole
  SetHandler @APP@
</VirtualHost>
<VirtualHost *>
  ServerName below
  Alias /app @DOCROOT@
  RewriteEngine On
  RewriteRule ^/short/(.*) /app/$1/$1/$1 [PT]
  <Location /app>
    SetHandler @APP@
  </Location>
  <Location /virtual>
    SetHandler @APP@
    FcgiScript Virtual
  </Location>
  <Location /file>
    SetHandler @APP@
    FcgiScript File
  </Location>
</VirtualHost>
EOC
    impossible_files($httpd);
    my %name = map { $_ => substr($_, 0, 30) . ' (' . length . ')' }
        @impossible;
    for my $url (@impossible) {
        my $name = $name{$url};
        is(seen($httpd, $url, Host => $_), "200 |$url", "$_: $name")
            for qw(auto nolinks virtual asked whole);
        is(seen($httpd, "/virtual$url", Host => 'below'),
           "200 /virtual|$url", "/virtual: $name");
        is(seen($httpd, "/app$url", Host => 'below'), "200 /app|$url",
           "Alias: $name") if length $url < 4000;
    }
    unlike($httpd->error_log, qr/:error\]/,
           'nobody complains');
    for my $url (grep { !/pipe/ } @impossible) {
        like(seen($httpd, "$_$url", Host => 'below'), qr/^40[34]$/,
             "as ever: $_$name{$url}") for '', '/file';
    }
    is(seen($httpd, "/short/" . 'v' x 2000, Host => 'below'),
       '200 /app|' . ('/' . 'v' x 2000) x 3, 'a URL that a rule made long');

    # what can be a file still is one
    my $rest = '/y' x 4000;
    check_table($httpd,
        '/script.x' => '200 /script.x|-', "/script.x/$LONG"
            => "200 /script.x|/$LONG",
        "/script.x$rest" => "200 /script.x|$rest",
        "/both/script.x/" . 'w' x 7000
            => '200 /both/script.x|/' . 'w' x 7000);

    # a URL that is cut for httpd is not cut in a name: each of these files
    # is as long as a path may be, or nearly
    my $deep = $httpd->docroot;
    my $path = '';
    while (length "$deep$path" < 3800) {
        $path .= '/' . 'd' x 200;
        mkdir "$deep$path" or die $!;
    }
    for my $length (4070 .. 4094) {
        my $file = "$path/" . 'f' x ($length - 1 - length "$deep$path");
        Private::spew("$deep$file", '');
        is(seen($httpd, $file . 'g' . '/x' x 100),
           "200 |${file}g" . '/x' x 100, "a path of $length bytes");
        unlink "$deep$file" or die $!;
    }

    # and access rules hold as far as there are folders
    for my $folder (qw(secret ht)) {
        is(seen($httpd, "/$folder$_"), 403, substr "/$folder$_", 0, 60)
            for '/x', "/$LONG", '/x' x 3000, '/' . 'y' x 6000;
    }
    is(Client->get($httpd->port, "/dir/$LONG")->header('X-Dir'), 'seen',
       'its .htaccess file was read');
    is(seen($httpd, '/' . 'x' x 20_000), 414, 'LimitRequestLine');
    my $answer = Client->request($httpd->port,
        "POST /$LONG HTTP/1.1\r\nHost: auto\r\nContent-Length: 1\r\n"
        . "Connection: close\r\n\r\nb");
    is($answer->body, "|/$LONG", 'POST');
    if (Httpd::mpm() ne 'prefork') {
        my $url = '/x' x 3000;
        my $curled = Client::curl('--http2-prior-knowledge',
                                  'http://127.0.0.1:' . $httpd->port . $url);
        is($curled->{body}, "|$url", 'HTTP/2');
    }
    chmod 0700, $httpd->docroot . '/locked';
};

subtest 'LocationMatch' => sub {
    # pattern => URL => what is seen
    my @patterns = (
        # one page, or several
        '/(fpm-status|fpm-ping)' => {
            '/fpm-status' => '/fpm-status|', '/fpm-ping' => '/fpm-ping|',
            '/fpm-status/x' => '/fpm-status|/x',
            '/in/fpm-status' => '/in/fpm-status|',
            '/fpm-statuses' => '/fpm-statuses|',
            '/fpm-status?full' => '/fpm-status|' },
        '^/(status|ping)$' => { '/status' => '/status|' },
        '^/[a-z]+\.do$' => { '/x.do' => '/x.do|' },
        # all but some
        '^/(?!static)' => {
            '/' => '|/', '/x' => '|/x', '/x/y/' => '|/x/y/',
            '/admin' => '|/admin', '/%20a' => '|/ a' },
        '^/(?!static/|media/).*' => { '/' => '|/', '/x/y' => '|/x/y' },
        '^(?!/static)' => { '/' => '|/', '/x/y' => '|/x/y' },
        '^/((?!static).)*$' => { '/' => '|/', '/x/y' => '|/x/y' },
        '^/(?!.*\.css$)' => { '/' => '|/', '/x/y.html' => '|/x/y.html' },
        '.' => { '/x/y' => '|/x/y' }, '^' => { '/x/y' => '|/x/y' },
        # a part
        '^/app' => { '/app' => '/app|', '/app/x' => '/app|/x',
                     '/apple/x' => '/apple|/x', '/app/' => '/app|/' },
        '^/app(/|$)' => { '/app' => '/app|', '/app/x' => '/app|/x' },
        '^/app/' => { '/app/' => '/app|/', '/app/x/y' => '/app|/x/y' },
        '^/app/.*' => { '/app/x/y' => '/app|/x/y' },
        '^/(de|en)/shop' => { '/de/shop/cart' => '/de/shop|/cart' },
        '^/v[0-9]+/api(/.*)?$' => { '/v12/api/a/b' => '/v12/api|/a/b' },
        '^/(?<lang>[a-z]{2})/' => { '/de/x' => '/de|/x' },
        # more names than are tried
        'end$' => { '/a/end' => '/a/end|',
                    '/x' x 100 . '/end' => '|' . '/x' x 100 . '/end' },
    );
    my (@table, $vhosts);
    while (my ($pattern, $urls) = splice @patterns, 0, 2) {
        my $host = 'p' . @table;
        $vhosts .= <<"EOC";
<VirtualHost *>
  ServerName $host
  <LocationMatch "$pattern">
    SetHandler \@APP\@
  </LocationMatch>
</VirtualHost>
<VirtualHost *>
  ServerName v$host
  <Location ~ "$pattern">
    SetHandler \@APP\@
    FcgiScript Virtual
  </Location>
</VirtualHost>
EOC
        push @table, [$host, $pattern, $urls];
    }
    my $httpd = start(modules => ['rewrite'], config => <<"EOC");
$vhosts
<VirtualHost *>
  ServerName changed
  RewriteEngine On
  RewriteRule ^/old\$ /new/page [PT]
  <LocationMatch "^/new">
    SetHandler \@APP\@
  </LocationMatch>
</VirtualHost>
<VirtualHost *>
  ServerName slashes
  MergeSlashes Off
  <LocationMatch "^/+app">
    SetHandler \@APP\@
  </LocationMatch>
</VirtualHost>
EOC
    for my $case (@table) {
        my ($host, $pattern, $urls) = @$case;
        for my $url (sort keys %$urls) {
            is(seen($httpd, $url, Host => $_), "200 $urls->{$url}",
               "$_ $pattern " . substr $url, 0, 40) for $host, "v$host";
        }
    }
    is(seen($httpd, '/old', Host => 'changed'), '200 /new|/page',
       'a rewritten URL');
    is(seen($httpd, '//app//x', Host => 'slashes'), '200 /app|//x',
       'MergeSlashes Off');
};

subtest 'a rule that gives the handler' => sub {
    my $httpd = start(modules => ['rewrite'], files => {
        'virt/file' => 'a file', 'virt/index.html' => 'an index',
        'virt/.htaccess' => 'Require all denied', 'app/virt/file' => 'x',
        'files/a' => 'a',
        'sites/.htaccess' => "RewriteEngine On\n"
            . "RewriteRule ^[a-z]+/(.*) \$1 [L]\nRewriteRule ^b a.x [L]",
        'sites/a.x' => 'x', 'sites/b.x' => 'x',
        'ht/x' => 'x', 'ht/.htaccess' => <<'EOC' }, config => <<'EOC');
RewriteEngine On
RewriteRule ^(gone|folder.*)$ - [H=@APP@]
EOC
RewriteEngine On
RewriteRule ^/virt - [H=@APP@]
RewriteRule ^/outer - [H=@APP@]
RewriteRule ^/files - [H=@APP@]
RewriteRule ^/pattern - [H=@APP@]
RewriteRule ^/moved/(.*) /virt/$1 [PT,H=@APP@]
RewriteRule ^/other - [H=cgi-script]
RewriteRule ^/both/rule - [H=@APP@]
RewriteRule \.x$ - [H=@APP@]
<Location /virt>
  FcgiScript Virtual
</Location>
<Location /outer>
  FcgiScript Virtual
</Location>
<Location /outer/inner>
  FcgiScript Virtual
</Location>
<Location /outer/inner/timeout>
  FcgiTimeout 5
</Location>
<Location /outer/auto>
  FcgiScript Auto
</Location>
<LocationMatch "^/pattern/[a-z]+">
  FcgiScript Virtual
</LocationMatch>
<Location /other>
  FcgiScript Virtual
</Location>
<Location /both>
  FcgiScript Virtual
  SetHandler none
</Location>
<Location /ht>
  FcgiScript Virtual
</Location>
<VirtualHost *>
  ServerName localhost
  RewriteEngine On
  RewriteOptions Inherit
  FcgiAllow Configured
</VirtualHost>
<VirtualHost *>
  ServerName everywhere
  FcgiScript Virtual
  RewriteEngine On
  RewriteRule ^/all - [H=@APP@]
</VirtualHost>
EOC
    check_table($httpd,
        '/virt' => '200 /virt|', '/virt/' => '200 /virt|/',
        '/virt/x/y' => '200 /virt|/x/y', '/virt/file' => '200 /virt|/file',
        '/virt/x?a=b' => '200 /virt|/x', '/virtual' => 404,
        "/virt/$LONG" => "200 /virt|/$LONG",
        '/outer/x' => '200 /outer|/x',
        '/outer/inner/x' => '200 /outer/inner|/x',
        '/outer/inner/timeout/x' => '200 /outer/inner|/timeout/x',
        '/outer/auto/x' => 404, '/files/a' => '200 /files/a|-',
        '/files/b' => 404, '/moved/x' => '200 /virt|/x',
        '/pattern/abc/x' => '200 /pattern/abc|/x', '/pattern/7' => 404,
        '/other/x' => 404, '/both/rule/x' => '200 /both|/rule/x',
        '/ht/gone' => '200 /ht|/gone', '/ht/folder/x' => '200 /ht|/folder/x',
        '/ht/none' => 404,
        # a rule of the folder leads elsewhere
        '/sites/a.x' => '200 /sites/a.x|-', '/sites/b.x' => '200 /sites/a.x|-',
        '/sites/one/a.x' => '200 /sites/a.x|-', '/sites/one/c.x' => 404);
    is(seen($httpd, '/all/x', Host => 'everywhere'), 404,
       'no Location says Virtual');
};

# Where there is no file these look for another: MultiViews for one with more
# extensions, CheckSpelling for a similar name, FallbackResource for a script.
subtest 'no other file is looked for' => sub {
    my $httpd = start(
        modules => [qw(negotiation speling rewrite)],
        files => { 'script.x' => '', 'page.html' => 'a page',
                   'two.html.de' => '', 'folder/a' => '',
                   'sub/folder/a' => '' },
        config => <<'EOC');
Options FollowSymLinks MultiViews
CheckSpelling On
AddHandler @APP@ .x
<VirtualHost *>
  ServerName virtual
  <Location />
    SetHandler @APP@
    FcgiScript Virtual
  </Location>
</VirtualHost>
<VirtualHost *>
  ServerName rule
  FallbackResource /script.x
  RewriteEngine On
  RewriteRule ^/ - [H=@APP@]
  <Location />
    FcgiScript Virtual
  </Location>
</VirtualHost>
<VirtualHost *>
  ServerName folder
  FallbackResource /script.x
  DirectoryIndex page.html
  <Directory @DOCROOT@>
    RewriteEngine On
    RewriteRule ^ - [H=@APP@]
  </Directory>
  <Location />
    FcgiScript Virtual
  </Location>
</VirtualHost>
<VirtualHost *>
  ServerName auto
  <Location />
    SetHandler @APP@
  </Location>
</VirtualHost>
<VirtualHost *>
  ServerName beside
  <Directory @DOCROOT@>
    Options +MultiViews
  </Directory>
</VirtualHost>
EOC
    for my $host (qw(virtual rule)) {
        is(seen($httpd, $_, Host => $host), "200 |$_", "$host: $_")
            for qw(/ /none /page /PAGE.html /two /script /script.x /script.x/a
                   /script.y /folder /folder/ /folder/b /sub/folder/);
    }
    is(seen($httpd, $_, Host => 'folder'), "200 |$_", "a folder's rule: $_")
        for qw(/ /none /PAGE.html /script.x /folder/ /folder/b);
    is(seen($httpd, $_, Host => 'auto'), "200 |$_", "auto: $_")
        for qw(/ /folder /folder/ /sub/folder/);
    is(seen($httpd, '/PAGE.html', Host => 'beside'),
       '301 http://beside/page.html', 'elsewhere a name is corrected');
    is(seen($httpd, '/page', Host => 'beside'), '200 a page', 'and completed');
};

# On Debian modules are loaded in the order of their names, ours before
# mod_proxy: its hook must not be kept from the rules in <Proxy>.
subtest 'what mod_proxy takes' => sub {
    my $modules = Httpd::module_dir();
    plan skip_all => 'no mod_proxy here' if !Httpd::has_module('proxy');
    my $behind = start(files => { 'open/a' => 'behind', 'shut/a' => 'shut' });
    my $httpd = Httpd->start(
        modules => ['rewrite'],
        vars => { APP => $app->handler, BEHIND => $behind->port,
                  MODULES => $modules }, config => <<'EOC');
LoadModule proxy_module @MODULES@/mod_proxy.so
LoadModule proxy_http_module @MODULES@/mod_proxy_http.so
LimitRequestLine 20000
<Proxy "http://127.0.0.1:@BEHIND@/shut*">
  Require all denied
</Proxy>
ProxyPass /open http://127.0.0.1:@BEHIND@/open
ProxyPass /shut http://127.0.0.1:@BEHIND@/shut
RewriteEngine On
RewriteRule ^/rule/(.*) http://127.0.0.1:@BEHIND@/$1 [P]
<VirtualHost *>
  ServerName auto
  RewriteEngine On
  RewriteOptions Inherit
  <Location />
    SetHandler @APP@
  </Location>
</VirtualHost>
<VirtualHost *>
  ServerName virtual
  RewriteEngine On
  RewriteOptions Inherit
  <Location />
    SetHandler @APP@
    FcgiScript Virtual
  </Location>
</VirtualHost>
EOC
    push @servers, $httpd;
    for my $host (qw(auto virtual)) {
        is(seen($httpd, $_, Host => $host), '200 behind', "$host: $_")
            for qw(/open/a /rule/open/a);
        is(seen($httpd, $_, Host => $host), 403, "$host: " . substr $_, 0, 60)
            for qw(/shut/a /rule/shut/a), '/shut/' . 'x' x 5000;
        is(seen($httpd, '/x', Host => $host), '200 |/x', "$host: /x");
    }
};

# It asks for a tunnel to a host and has no URL (RFC 9110, 9.3.6).
subtest 'CONNECT' => sub {
    my $httpd = start(
        modules => ['rewrite'], files => { 'script.x' => '' },
        config => <<'EOC');
<VirtualHost *>
  ServerName auto
  <Location />
    SetHandler @APP@
  </Location>
</VirtualHost>
<VirtualHost *>
  ServerName virtual
  <Location />
    SetHandler @APP@
    FcgiScript Virtual
  </Location>
  ErrorDocument 405 /sorry
</VirtualHost>
<VirtualHost *>
  ServerName index
  DirectoryIndex script.x
  AddHandler @APP@ .x
  RewriteEngine On
  RewriteRule ^/$ /script.x
</VirtualHost>
EOC
    for my $host (qw(auto virtual index)) {
        for my $version ('1.0', '1.1') {
            my $before = $app->connections;
            my $answer = Client->request($httpd->port,
                "CONNECT $host:443 HTTP/$version\r\nHost: $host\r\n"
                . "Connection: close\r\n\r\n");
            is($answer->status, 405, "$host, HTTP/$version");
            ok(defined $answer->header('Allow'), "in httpd's page, with Allow")
                if $host ne 'virtual';
            is($app->connections, $before + ($host eq 'virtual'),
               'no application is asked, but for the error page');
        }
        my $answer = Client->request($httpd->port,
            "CONNECT /path HTTP/1.1\r\nHost: $host\r\n"
            . "Connection: close\r\n\r\n");
        like($answer->status, qr/^40[05]$/, 'nor for a path');
        # with other letters it is another method
        is(Client->request($httpd->port,
                           "connect / HTTP/1.1\r\nHost: $host\r\n"
                           . "Connection: close\r\n\r\n")->status, 200,
           'connect is no CONNECT') if $host ne 'index';
    }
    $httpd->wait_for_log(qr/:info\].* FCGI32: .*CONNECT/, 5);
    like($httpd->error_log, qr/:info\].* FCGI32: .*CONNECT/, 'and why');
};

# PHP-FPM may search folders that httpd may not.
subtest 'a pattern leads to no file' => sub {
    my $echo = FcgiApp->start(\&FcgiApp::echo_params);
    my $httpd = Httpd->start(
        vars => { APP => $echo->handler },
        files => { 'locked/x.php' => '<?php' }, config => <<'EOC');
<LocationMatch "\.php$">
  SetHandler @APP@
</LocationMatch>
EOC
    push @servers, $httpd;
    my $root = $httpd->docroot;
    chmod 0, "$root/locked" or die $!;
    for my $url ('/locked/x.php', '/none.php') {
        my $body = Client->get($httpd->port, $url)->body;
        my %params = $body =~ /^(\w+)=(.*)$/mg;
        is($params{SCRIPT_NAME}, $url, "$url: SCRIPT_NAME");
        is($params{SCRIPT_FILENAME}, $root, 'SCRIPT_FILENAME');
    }
    chmod 0700, "$root/locked";
};

subtest "PHP-FPM's pages" => sub {
    plan skip_all => 'no php-fpm here' if !PhpFpm::program();
    my $php = PhpFpm->start(pool => <<'EOC');
pm.status_path = /fpm-status
ping.path = /fpm-ping
EOC
    my $httpd = Httpd->start(
        files => { 'a.php' => '<?php echo "script";' },
        vars => { PHP => $php->handler }, config => <<'EOC');
<FilesMatch "\.php$">
  SetHandler @PHP@
</FilesMatch>
<VirtualHost *>
  ServerName auto
  <LocationMatch "/(fpm-status|fpm-ping)">
    SetHandler @PHP@
  </LocationMatch>
</VirtualHost>
<VirtualHost *>
  ServerName virtual
  <LocationMatch "^/(fpm-status|fpm-ping)$">
    SetHandler @PHP@
    FcgiScript Virtual
  </LocationMatch>
</VirtualHost>
EOC
    push @servers, $httpd;
    for my $host (qw(auto virtual)) {
        like(seen($httpd, '/fpm-status', Host => $host),
             qr/^200 pool: .*accepted conn/s, "$host: status");
        like(seen($httpd, '/fpm-status?json', Host => $host),
             qr/^200 \{"pool":/, 'as JSON');
        is(seen($httpd, '/fpm-ping', Host => $host), '200 pong', 'ping');
        is(seen($httpd, '/a.php', Host => $host), '200 script', 'a script');
    }
};

$_->leave for @servers;
Httpd->ok_left;
done_testing;
