# PHP-FPM runs the script that httpd has looked at, and no other.
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# With cgi.fix_pathinfo=1 PHP-FPM takes PATH_TRANSLATED for the script where
# REDIRECT_URL is there, with 0 wherever PATH_TRANSLATED is.

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

# file=name below docs, and what it sees of the request.
my $SHOW = '<?php header("Content-Type: text/plain");
    $all = ["file" => __FILE__] + $_SERVER;
    foreach ($all as $name => $value)
        if (is_string($value)) echo "$name=$value\n";';

my $site = Private::temp_dir('site');
Private::spew("$site/$_", $SHOW) for
    (map { "docs/$_" } qw(app/front.phar app/index.php app/Odd%.php
        app/a.web app/b.web private/x.php private/e.act both/x.php errors/e.act e.act
        static/x.php alias/e.act md.php)),
    'other/e.act', 'front.php';
Private::spew("$site/docs/$_", 'text') for 'app/doc.md', 'private/doc.md';
# It is not run by an Action: it redirects to one's URL.
Private::spew("$site/docs/app/self.php",
              '<?php if (!isset($_SERVER["REDIRECT_URL"]))
                  header("X-Accel-Redirect: /php-fpm/app/self.php");');
my %htaccess = (
    app => <<'EOC',
RewriteEngine On
RewriteRule ^r/(.*)$ front.phar/$1 [L]
RewriteRule ^i/(.*)$ index.php/$1 [L]
RewriteRule ^odd/(.*)$ Odd\%25.php/$1 [L]
RewriteRule ^v1/(.*)$ /api/$1 [L]
RewriteRule ^([ab])/w/(.*)$ $1.web/$2 [L]
RewriteRule ^a/(.*)$ /php-fpm/$1 [L]
RewriteRule ^env/(.*)$ /php-fpm/$1 [L,E=PATH_TRANSLATED:@SITE@/docs/$1]
RewriteRule ^here/(.*)$ - [L,E=PATH_TRANSLATED:@SITE@/docs/$1]
EOC
    private => "SetEnvIf Request_URI . HANDLER=as-if\n"
        . "ErrorDocument 403 /php-fpm/private/x.php\n",
    both => "SetEnvIf Request_URI . HANDLER=as-if\n"
        . "RewriteEngine On\nRewriteRule ^(.*)\$ /php-fpm/private/\$1\n",
    static => "RemoveHandler .php\nSetHandler default-handler\n"
        . "<Files x.php>\nErrorDocument 404 /php-fpm/static/x.php\n"
        . "Redirect 404 /static/x.php\n</Files>\n",
);
Private::spew("$site/docs/$_/.htaccess", $htaccess{$_} =~ s/\@SITE\@/$site/r)
    for keys %htaccess;

my $CONFIG = <<'EOC';
DocumentRoot "@SITE@/docs"
<Directory "@SITE@">
  AllowOverride All
  Options FollowSymLinks
  Require all granted
</Directory>
<Directory "@SITE@/docs/private">
  Require all denied
</Directory>
Alias /one "@SITE@/other"
<Directory "@SITE@/docs/app">
  FcgiSendfile "@SITE@/docs/app"
</Directory>
# that of the Debian package
<FilesMatch ".+\.ph(?:ar|p|tml)$">
  SetHandler @PHP@
</FilesMatch>
<FilesMatch "\.web$">
  SetHandler @PHP@
</FilesMatch>
<Files b.web>
  FcgiParam !REDIRECT_URL
</Files>
<Location /api>
  SetHandler @PHP@
  FcgiParam SCRIPT_FILENAME @SITE@/front.php
</Location>
ErrorDocument 404 /errors/e.act
# the recipe of the days of mod_fastcgi
AddHandler php-script .act
Action php-script /php-fpm virtual
<Location /php-fpm>
  SetHandler @PHP@
</Location>
# a script that shows other files
AddHandler markdown .md
Action markdown /md.php
EOC

my %server;
for my $fix (0, 1) {
    my $php = PhpFpm->start(
        ini => { 'cgi.fix_pathinfo' => $fix },
        pool => "security.limit_extensions = .php .phar .act .web\n");
    $server{$fix} = {
        php => $php, httpd => Httpd->start(
            modules => [qw(rewrite actions)], config => $CONFIG,
            vars => { SITE => "$site", PHP => $php->handler }) };
}

# What PHP sees of a URL, with status; its file below the site.
sub view {
    my ($fix, $url) = @_;
    my $answer = Client->get($server{$fix}{httpd}->port, $url);
    my %seen = $answer->body =~ /^(\w+)=(.*)$/mg;
    $seen{file} =~ s{^\Q$site\E/}{} if $seen{file};
    return { %seen, status => $answer->status };
}

# [URL, the script that runs, if one is to run, and its PATH_INFO]
my @NEVER = (
    ['/app/r/private/x.php', 'docs/app/front.phar', '/private/x.php'],
    ['/app/i/private/x.php', 'docs/app/index.php', '/private/x.php'],
    ['/app/odd/private/x.php', 'docs/app/Odd%.php', '/private/x.php'],
    ['/app/index.php/private/x.php', 'docs/app/index.php', '/private/x.php'],
    ['/app/v1/private/x.php', 'front.php', '/private/x.php'],
    ['/api/private/x.php', 'front.php', '/private/x.php'],
    ['/app/here/private/x.php', undef],
    ['/app/a/private/x.php', undef],
    ['/app/env/private/x.php', undef],
    ['/php-fpm/private/x.php', undef],
    ['/private/x.php', undef],
    ['/private/x.php/more', undef],
    ['/private/e.act', undef],
    ['/both/x.php', undef],
    ['/app/self.php', undef],
    ['/static/x.php', undef],
);

for my $fix (0, 1) {
    subtest "no other script, cgi.fix_pathinfo=$fix" => sub {
        for my $case (@NEVER) {
            my ($url, $file, $info) = @$case;
            my $seen = view($fix, $url);
            if ($file) {
                is($seen->{file}, $file, $url);
                is($seen->{PATH_INFO}, $info, 'PATH_INFO');
                next;
            }
            # perhaps with the page for what is not found
            isnt($seen->{status}, 200, "$url: no page");
            unlike($seen->{file} // '', qr{/x\.php|private}, 'no script');
        }
    };

    subtest "an Action, cgi.fix_pathinfo=$fix" => sub {
        my @actions = (['/e.act', 'docs/e.act'], ['/one/e.act', 'other/e.act'],
                       ['/alias/e.act?q', 'docs/alias/e.act'],
                       # an error page that is run through an Action
                       ['/none', 'docs/errors/e.act']);
        for my $case (@actions) {
            my ($url, $file) = @$case;
            is(view($fix, $url)->{file}, $file, $url);
        }
        my $seen = view($fix, '/private/doc.md');
        isnt($seen->{status}, 200, 'denied');
        is($seen->{file}, undef, 'and no script runs');
    };
}

subtest 'what a router sees' => sub {
    my @NAMES = qw(file SCRIPT_NAME PATH_INFO PHP_SELF REDIRECT_URL
                   SCRIPT_FILENAME);
    my @cases = (
        ['/app/i/users/7?x', 'docs/app/index.php', '/app/index.php',
         '/users/7', '/app/i/users/7'],
        ['/app/r/users/7', 'docs/app/front.phar', '/app/front.phar',
         '/users/7', '/app/r/users/7'],
        ['/app/v1/users/7', 'front.php', '/api', '/users/7',
         '/app/v1/users/7'],
        # PHP-FPM would read this name as a URL
        ['/app/odd/users/7', 'docs/app/Odd%.php', '/app/Odd%.php', '/users/7',
         undef],
        ['/app/index.php/users', 'docs/app/index.php', '/app/index.php',
         '/users', undef],
        ['/app/doc.md', 'docs/md.php', '/md.php', '/app/doc.md',
         '/app/doc.md'],
    );
    for my $case (@cases) {
        my ($url, $file, $name, $info, $redirect) = @$case;
        my $seen = view(1, $url);
        is_deeply([@$seen{@NAMES}],
                  [$file, $name, $info, "$name$info", $redirect,
                   "$site/$file"], $url) or diag explain $seen;
        is_deeply([grep { /^ORIG_/ } keys %$seen], [], 'nothing is moved');
    }
    is_deeply([map { @{ view(1, "/app/$_/w/x") }{qw(file PATH_INFO
                                                   ORIG_PATH_INFO)} } 'a', 'b'],
              ['docs/app/a.web', undef, '/x', 'docs/app/b.web', '/x', undef],
              'another extension, and the remedy');
    is(view(1, '/app/doc.md')->{PATH_TRANSLATED}, "$site/docs/app/doc.md",
       'PATH_TRANSLATED of the file that an Action shows');
    is(view(1, $_)->{PATH_TRANSLATED}, undef, "none of $_")
        for qw(/app/i/users /app/index.php/users /api/users);
};

$_->{httpd}->ok_healthy for values %server;
done_testing;
