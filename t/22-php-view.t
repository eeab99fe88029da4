# PHP under FPM sees of a URL what mod_php shows it.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Httpd;
use PhpFpm;
use Private;
use Test::More;

plan skip_all => 'no php-fpm here' if !PhpFpm::program();

# NAME=value of all in $_SERVER, control characters as in C.
my $PAGE = <<'EOC';
<?php
header('Content-Type: text/plain');
foreach ($_SERVER as $name => $value) {
    if (is_string($value)) {
        echo $name, '=', addcslashes($value, "\0..\37\177"), "\n";
    }
}
EOC

my $site = Private::temp_dir('site');
Private::spew("$site/$_", $PAGE) for
    (map { "docs/$_" } 'a.php', 'index.php', 'error.php', 'sub/b.php',
        'sub/index.php', 'dir.php/c.php', 'with space.php', 'per%cent.php',
        '%41.php', 'plus+sign.php', 'question?mark.php', 'hash#mark.php',
        "\xc3\xa9t\xc3\xa9.php", "latin\xe9.php", "quote'\".php",
        'amp&semi;.php', 'UPPER.PHP', 'ht/script.php', 'ht/index.php',
        'wp/index.php', 'act/e.act', 'act/with space.act',
        'proxy:fcgi.php', 'denied/x.php'),
    'other/o.php', 'other/e.act', 'other/ht/script.php',
    'users/anna/www/u.php', 'users/anna/www/index.php',
    'users/anna/www/ht/script.php';
my $REWRITE = <<'EOC';
RewriteEngine On
RewriteRule ^pretty/(.*)$ script.php/$1 [L]
RewriteRule ^query/(.*)$ script.php?q=$1 [QSA,L]
RewriteRule ^plain$ script.php [L]
EOC
Private::spew("$site/$_/ht/.htaccess", $REWRITE)
    for 'docs', 'other', 'users/anna/www';
Private::spew("$site/docs/wp/.htaccess", <<'EOC');
RewriteEngine On
RewriteBase /wp/
RewriteRule ^index\.php$ - [L]
RewriteCond %{REQUEST_FILENAME} !-f
RewriteCond %{REQUEST_FILENAME} !-d
RewriteRule . /wp/index.php [L]
EOC
Private::spew("$site/docs/fall/file.txt", 'file');

my $php = PhpFpm->start(
    pool => "security.limit_extensions = .php .PHP .act\n");
my $httpd = Httpd->start(
    modules => [qw(rewrite actions userdir)],
    vars => { SITE => $site, PHP => $php->handler }, config => <<'EOC');
DocumentRoot "@SITE@/docs"
<Directory "@SITE@">
  AllowOverride All
  Options FollowSymLinks
  Require all granted
</Directory>
AddHandler @PHP@ .php
DirectoryIndex index.php
ErrorDocument 404 /error.php
Alias /alias "@SITE@/other"
Alias /one-file "@SITE@/other/o.php"
UserDir @SITE@/users/*/www
RewriteEngine On
RewriteRule ^/rw/pt/(.*)$ /a.php/$1 [PT]
RewriteRule ^/rw/plain$ /a.php [PT]
RewriteRule ^/rw/as-it-is/(.*)$ /a.php/$1
RewriteRule ^/rw/query/(.*)$ /a.php?q=$1 [QSA,PT]
ErrorDocument 403 /error.php/no/way?because=denied
<Directory "@SITE@/docs/denied">
  Require all denied
</Directory>
<Directory "@SITE@/docs/fall">
  FallbackResource /index.php
</Directory>

# the recipe of the days of mod_fastcgi
AddHandler php-script .act
Action php-script /php-fpm virtual
<Location /php-fpm>
  SetHandler @PHP@
</Location>
EOC

# What PHP sees of a URL.
sub view {
    my ($url) = @_;
    my $answer = Client->get($httpd->port, $url);
    return { $answer->body =~ /^(\w+)=(.*)$/mg };
}

my $docs = "$site/docs";

# [URL, SCRIPT_NAME, PATH_INFO or undef, file if not SCRIPT_NAME in docs].
# The rule of mod_php: SCRIPT_NAME is the URL of the script, PATH_INFO what
# follows, both decoded, PHP_SELF the two together.
my @TABLE = (
    ['/a.php', '/a.php'],
    ['/a.php?x=%20&y', '/a.php'],
    ['/a.php/', '/a.php', '/'],
    ['/a.php/info', '/a.php', '/info'],
    ['/a.php/in/fo/?q', '/a.php', '/in/fo/'],
    ['/a.php/a%20b%2520c+d%2Be', '/a.php', '/a b%20c+d+e'],
    ['/a.php/%3F%23%25%C3%A9?q', '/a.php', "/?#%\xc3\xa9"],
    ['/a.php/x.php', '/a.php', '/x.php'],
    ['/a.php/sub/b.php', '/a.php', '/sub/b.php'],
    ['/a.php/a.php/a.php', '/a.php', '/a.php/a.php'],
    ['/a.php//x///y', '/a.php', '/x/y'],
    ['//a.php/x', '/a.php', '/x'],
    ['/sub/b.php/x', '/sub/b.php', '/x'],
    ['/sub/../a.php/x', '/a.php', '/x'],
    ['/%61.php/x', '/a.php', '/x'],
    ['/dir.php/c.php/x', '/dir.php/c.php', '/x'],
    ['/UPPER.PHP/x', '/UPPER.PHP', '/x'],
    (map { my ($url, $name) = @$_; [$url, $name], ["$url/a%20b?q=%20",
                                                   $name, '/a b'] }
        ['/with%20space.php', '/with space.php'],
        ['/per%25cent.php', '/per%cent.php'],
        ['/%2541.php', '/%41.php'],
        ['/plus+sign.php', '/plus+sign.php'],
        ['/question%3Fmark.php', '/question?mark.php'],
        ['/hash%23mark.php', '/hash#mark.php'],
        ['/%C3%A9t%C3%A9.php', "/\xc3\xa9t\xc3\xa9.php"],
        ['/latin%E9.php', "/latin\xe9.php"],
        ["/quote'%22.php", "/quote'\".php"],
        ['/amp&semi;.php', '/amp&semi;.php'],
        ['/proxy:fcgi.php', '/proxy:fcgi.php']),

    # Alias, UserDir
    ['/alias/o.php', '/alias/o.php', undef, 'other/o.php'],
    ['/alias/o.php/i%20n?q', '/alias/o.php', '/i n', 'other/o.php'],
    ['/one-file', '/one-file', undef, 'other/o.php'],
    ['/one-file/info', '/one-file', '/info', 'other/o.php'],
    ['/~anna/u.php', '/~anna/u.php', undef, 'users/anna/www/u.php'],
    ['/~anna/u.php/i%20n', '/~anna/u.php', '/i n', 'users/anna/www/u.php'],

    # DirectoryIndex
    ['/', '/index.php'],
    ['/?a=b', '/index.php'],
    ['/sub/', '/sub/index.php'],
    ['/~anna/', '/~anna/index.php', undef, 'users/anna/www/index.php'],

    # mod_rewrite in .htaccess
    ['/ht/plain', '/ht/script.php'],
    ['/ht/plain?q', '/ht/script.php'],
    ['/ht/pretty/a%20b/c?q', '/ht/script.php', '/a b/c'],
    # the rule's result is a URL and decoded once more
    ['/ht/pretty/a%2520+%2B%C3%A9', '/ht/script.php', "/a ++\xc3\xa9"],
    ['/ht/pretty/x.php', '/ht/script.php', '/x.php'],
    ['/ht/pretty/', '/ht/script.php', '/'],
    ['/ht/query/5?a=b', '/ht/script.php'],
    ['/alias/ht/plain', '/alias/ht/script.php', undef,
     'other/ht/script.php'],
    ['/alias/ht/pretty/x', '/alias/ht/script.php', '/x',
     'other/ht/script.php'],
    ['/~anna/ht/pretty/x', '/~anna/ht/script.php', '/x',
     'users/anna/www/ht/script.php'],
    ['/wp/', '/wp/index.php'],
    ['/wp/2026/a%20post/?p=1', '/wp/index.php'],
    ['/wp/index.php', '/wp/index.php'],
    ['/wp/index.php/x', '/wp/index.php', '/x'],

    # mod_rewrite in the server
    ['/rw/plain?q', '/a.php'],
    ['/rw/pt/a%20b/c?q', '/a.php', '/a b/c'],
    ['/rw/query/5?a=b', '/a.php'],
    ['/rw/as-it-is/x', '/rw/as-it-is', '/x', 'docs/a.php'],


    # FallbackResource and ErrorDocument
    ['/fall/none', '/index.php'],
    ['/fall/none/a%20b?q', '/index.php'],
    ['/none', '/error.php'],
    ['/none/a%20b?q', '/error.php'],
    ['/none.php/x', '/error.php'],
    ['/alias/none', '/error.php'],
    ['/denied/x.php/y', '/error.php', '/no/way'],

    # Action, with a virtual script
    ['/act/e.act', '/act/e.act'],
    ['/act/e.act?q=%20', '/act/e.act'],
    ['/alias/e.act/a%20b', '/alias/e.act', '/a b', 'other/e.act'],
    ['/act/e.act/info', '/act/e.act', '/info'],
    ['/act/with%20space.act/a%20b?q', '/act/with space.act', '/a b'],
);

for my $case (@TABLE) {
    my ($url, $script, $info, $file) = @$case;
    my $seen = view($url);
    my %expected = (
        PHP_SELF => $script . ($info // ''), SCRIPT_NAME => $script,
        PATH_INFO => $info, DOCUMENT_ROOT => $docs, REQUEST_URI => $url,
        SCRIPT_FILENAME => $file ? "$site/$file" : "$docs$script",
    );
    is_deeply({ map { $_ => $seen->{$_} } keys %expected }, \%expected, $url)
        or diag explain { map { $_ => $seen->{$_} } keys %expected };
}

subtest 'query strings' => sub {
    my %query = (
        '/a.php?x=%20&y=+%2B' => 'x=%20&y=+%2B', '/a.php/x?' => '',
        '/ht/query/5?a=b' => 'q=5&a=b', '/rw/query/5?a=b' => 'q=5&a=b',
        '/wp/x?p=1' => 'p=1', '/act/e.act/x?q=%20' => 'q=%20',
        '/fall/none?q' => 'q', '/?a=b' => 'a=b',
    );
    is(view($_)->{QUERY_STRING}, $query{$_}, $_) for sort keys %query;
};

subtest 'nothing of a gateway is to be seen' => sub {
    for my $url ('/a.php', '/a.php/x', '/ht/pretty/x', '/none', '/rw/pt/x') {
        my $seen = view($url);
        is_deeply([grep { /^ORIG_/ } keys %$seen], [], "$url: no ORIG_");
        is_deeply([grep { $seen->{$_} =~ /fcgi:/ } keys %$seen], [],
                  'no address');
    }
};

subtest 'what is not there' => sub {
    is(Client->get($httpd->port, $_)->status, 404, "404: $_")
        for '/none', '/none.php', '/none.php/x', '/dir.php/none.php',
            '/a.php/x%0Ay', '/a.php/%0D';
    unlike($php->log, qr/Primary script unknown/, 'FPM never hears of it');
};

$httpd->ok_healthy;
done_testing;
