# Nothing but a script is asked for, and nobody is asked who may not be.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Django;
use FcgiApp;
use Httpd;
use Private;
use Test::More;

# Stopped all at once at the end, as each takes a second.
my @servers;

# Answers "SCRIPT_NAME|PATH_INFO", a dash for a variable not sent; or what
# the query says, with \n for the ends of lines.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $params = $request->{params};
    my $query = $params->{QUERY_STRING} // '';
    if ($query =~ /^say=(.*)/) {
        return $c->reply($1 =~ s/%([0-9A-F]{2})/chr hex $1/ger);
    }
    $c->reply("Content-Type: text/plain\r\n\r\n" . join '|',
              map { $_ // '-' } @$params{qw(SCRIPT_NAME PATH_INFO)});
});

# "status body"; for an error its status and the ErrorDocument's text, and
# "asked" if the application was.
sub seen {
    my ($httpd, $url, %headers) = @_;
    my $before = $app->connections;
    my $answer = Client->get($httpd->port, $url, %headers);
    my $status = $answer->status // 'nothing';
    my $body = $answer->body =~ /^<!DOCTYPE/ ? '' : ' ' . $answer->body;
    $body = ' ' . $answer->header('Location') if $status =~ /^3/;
    return "$status$body"
        . ($status >= 300 && $app->connections != $before ? ' asked' : '');
}

sub check_table {
    my ($httpd, @table) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    while (my ($url, $expected) = splice @table, 0, 2) {
        is(seen($httpd, $url), $expected, $url);
    }
    return;
}

my %files = (
    'script.x' => 'source', 'other.txt' => 'text', 'folder.x/a.txt' => 'a',
    'sub/index.html' => 'the page', 'both/index.x' => 'source',
    'both/index.html' => 'the page', 'error.html' => 'our own page',
);

# mode => what a Location's handler gives
my %modes = (
    Auto => [
        '/script.x' => '200 /script.x|-', '/script.x/y' => '200 /script.x|/y',
        '/none.x' => '200 |/none.x', '/none/y' => '200 |/none/y',
        '/folder.x' => '200 |/folder.x', '/sub/' => '200 |/sub/',
        '/' => '200 |/',
    ],
    File => [
        '/script.x' => '200 /script.x|-', '/script.x/y' => '200 /script.x|/y',
        '/none.x' => '404 our own page', '/none/y' => '404 our own page',
        '/folder.x/none' => '404 our own page',
        '/sub/' => '200 /sub/index.html|-', '/both/' => '200 /both/index.x|-',
    ],
    Virtual => [
        '/script.x' => '200 |/script.x', '/script.x/y' => '200 |/script.x/y',
        '/none.x' => '200 |/none.x', '/folder.x' => '200 |/folder.x',
        '/folder.x/' => '200 |/folder.x/', '/sub' => '200 |/sub',
        '/sub/' => '200 |/sub/', '/both/' => '200 |/both/', '/' => '200 |/',
        '/other.txt' => '200 |/other.txt',
    ],
);

for my $mode (sort keys %modes) {
    subtest "FcgiScript $mode, a Location" => sub {
        my $httpd = Httpd->start(
            files => \%files, vars => { APP => $app->handler },
            config => <<"EOC");
DirectoryIndex disabled
DirectoryIndex index.x index.html
ErrorDocument 404 /error.html
<Location />
  SetHandler \@APP@
  FcgiScript $mode
</Location>
<Location /error.html>
  SetHandler none
</Location>
EOC
        check_table($httpd, @{ $modes{$mode} });
        push @servers, $httpd;
    };
}

subtest 'Auto is the default' => sub {
    my $httpd = Httpd->start(
        files => \%files, vars => { APP => $app->handler }, config => <<'EOC');
<Location />
  SetHandler @APP@
</Location>
EOC
    check_table($httpd, @{ $modes{Auto} }[0 .. 7]);
    push @servers, $httpd;
};

# A handler that no Location set needs a file, whatever the mode.
my %file_ways = (
    AddHandler => 'AddHandler @APP@ .x',
    Files => "<Files *.x>\nSetHandler \@APP@\n</Files>",
    FilesMatch => "<FilesMatch \\.x\$>\nSetHandler \@APP@\n</FilesMatch>",
    'Files in a Directory' => "<Directory \@DOCROOT@>\n<Files *.x>\n"
        . "SetHandler \@APP@\n</Files>\n</Directory>",
    'If in a Directory' => "<Directory \@DOCROOT@>\n"
        . "<If \"%{REQUEST_URI} =~ /\\.x/ || -d %{REQUEST_FILENAME}\">\n"
        . "SetHandler \@APP@\n</If>\n</Directory>",
    RewriteRule => "RewriteEngine On\nRewriteRule \\.x - [H=\@APP@]",
    Directory => "<Directory \@DOCROOT@>\nSetHandler \@APP@\n</Directory>\n"
        . "<Files *.html>\nSetHandler none\n</Files>",
    '.htaccess' => 'DocumentRoot @DOCROOT@/ht',
);

# One virtual host for each way and mode: [name, way, mode], ...
sub hosts_of {
    my (%ways) = @_;
    my @hosts;
    for my $way (sort keys %ways) {
        push @hosts, map { ["host" . @hosts . lc, $way, $_] }
            'Auto', 'File', 'Virtual';
    }
    return @hosts;
}

sub vhosts {
    my ($ways, @hosts) = @_;
    return join '', map { <<"EOC" } @hosts;
<VirtualHost *>
  ServerName $_->[0]
  FcgiScript $_->[2]
  $ways->{ $_->[1] }
</VirtualHost>
EOC
}

# .htaccess files may name the address, too.
my $BOTH = <<'EOC';
DirectoryIndex disabled
DirectoryIndex index.x index.html
ErrorDocument 404 /error.html
FcgiAllow Configured
<Files nowhere>
  SetHandler @APP@
</Files>
EOC

subtest 'a file is needed' => sub {
    my @hosts = hosts_of(%file_ways);
    my $httpd = Httpd->start(
        modules => ['rewrite'], vars => { APP => $app->handler },
        files => { %files, (map { ("ht/$_" => $files{$_}) } keys %files),
                   'ht/.htaccess' => 'AddHandler @APP@ .x' },
        config => $BOTH . vhosts(\%file_ways, @hosts));
    for my $host (@hosts) {
        my ($name, $way, $mode) = @$host;
        my @table = (
            '/script.x' => '200 /script.x|-',
            '/script.x/y' => '200 /script.x|/y',
            '/none.x' => '404 our own page',
            '/none.x/y' => '404 our own page',
            '/sub/none.x' => '404 our own page',
            '/folder.x/none.x' => '404 our own page',
            '/both/' => '200 /both/index.x|-',
            '/sub/' => '200 the page',
        );
        while (my ($url, $expected) = splice @table, 0, 2) {
            is(seen($httpd, $url, Host => $name), $expected,
               "$way, $mode, $url");
        }
    }
    push @servers, $httpd;
};

subtest 'what is no regular file' => sub {
    my $httpd = Httpd->start(
        files => { 'a' => '' }, vars => { APP => $app->handler },
        config => <<'EOC');
AddHandler @APP@ .x
<Location /loc>
  SetHandler @APP@
  FcgiScript File
</Location>
EOC
    for my $place ('', '/loc') {
        my $dir = $httpd->docroot . $place;
        mkdir $dir;
        mkdir "$dir/folder.x" or die;
        system('mkfifo', '-m', '666', "$dir/pipe.x") and die;
        symlink "$dir/nowhere", "$dir/dangling.x" or die;
        like(seen($httpd, "$place/$_"), qr/^40[34]$/, "$place/$_")
            for qw(pipe.x dangling.x folder.x/x);
    }
    like($httpd->error_log,
         qr/:info\].*FCGI14: .*: not asked for .*: there is no such file/,
         'one line says why, at level info');
    push @servers, $httpd;
};

# Says in httpd's error log which paths below a DocumentRoot it looks at.
my $LOOKS = <<'EOC';
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void look(const char *path)
{
    if (path && strstr(path, "/docs")) {
        dprintf(2, "looked at %s\n", path);
    }
}

#define WRAP(type, name, params, args)                        \
    type name params                                          \
    {                                                         \
        type(*real) params =                                  \
            (type(*) params)dlsym(RTLD_NEXT, #name);          \
        look(path);                                           \
        return real args;                                     \
    }

WRAP(int, stat, (const char *path, struct stat *s), (path, s))
WRAP(int, lstat, (const char *path, struct stat *s), (path, s))
WRAP(int, stat64, (const char *path, struct stat64 *s), (path, s))
WRAP(int, lstat64, (const char *path, struct stat64 *s), (path, s))
WRAP(int, fstatat, (int d, const char *path, struct stat *s, int f),
     (d, path, s, f))
WRAP(int, statx, (int d, const char *restrict path, int f, unsigned m,
                  struct statx *restrict s), (d, path, f, m, s))
WRAP(int, open, (const char *path, int f, mode_t m), (path, f, m))
WRAP(int, open64, (const char *path, int f, mode_t m), (path, f, m))
WRAP(int, access, (const char *path, int m), (path, m))
WRAP(void *, opendir, (const char *path), (path))
WRAP(char *, realpath, (const char *restrict path, char *restrict p),
     (path, p))
WRAP(ssize_t, readlink, (const char *restrict path, char *restrict p,
                         size_t n), (path, p, n))
EOC

subtest 'FcgiScript Virtual looks at no file' => sub {
    my $build = Private::temp_dir('looks');
    my $source = Private::spew("$build/looks.c", $LOOKS);
    my ($failed, $output) = Private::run(
        $ENV{CC} || 'cc', qw(-shared -fPIC -o), "$build/looks.so", $source,
        '-ldl');
    die $output if $failed;
    my $httpd = Httpd->start(
        env => { LD_PRELOAD => join ' ', $ENV{HTTPD_PRELOAD} // (),
                     "$build/looks.so" },
        modules => ['rewrite', 'headers'],
        files => { %files, '.htaccess' => 'no directive',
                   'auto/a.txt' => '', 'index.html' => 'index',
                   'auto/.htaccess' => '' },
        vars => { APP => $app->handler }, config => <<'EOC');
<Location />
  SetHandler @APP@
  FcgiScript Virtual
  Header set X-From "the location"
</Location>
<Location /static>
  SetHandler none
</Location>
<Location /auto>
  FcgiScript Auto
</Location>
<Directory @DOCROOT@>
  Require all denied
</Directory>
<Directory @DOCROOT@/auto>
  Require all granted
</Directory>
LimitRequestLine 20000
EOC
    for my $url ('/', '/script.x', '/a/b/c', '/sub', '/sub/', '/none.x/y',
                 '/index.html', '/' . 'n' x 300, '/x' x 3000,
                 '/sub/' . 'n' x 6000) {
        my $before = length $httpd->error_log;
        my $answer = Client->get($httpd->port, $url);
        is($answer->status . ' ' . $answer->body, "200 |$url", $url);
        is($answer->header('X-From'), 'the location', "the Location's Header");
        is(substr($httpd->error_log, $before), '', 'not a look');
    }
    Client->get($httpd->port, '/auto/a');
    like($httpd->error_log, qr{looked at \S+/docs/\.htaccess},
         'a look at .htaccess would be seen');
    like($httpd->error_log, qr{looked at \S+/docs/auto/a\b},
         'and one at the file');
    is(seen($httpd, '/static'), '500', 'without the handler .htaccess counts');
    push @servers, $httpd;
};

subtest 'FcgiScript Virtual, whose handler it is' => sub {
    my $httpd = Httpd->start(
        files => { %files, 'app/.htaccess' => 'Require all denied',
                   'app/x.y' => 'y', 'if/x.y' => 'y', 'once/a.x' => '' },
        vars => { APP => $app->handler }, config => <<'EOC');
FcgiScript Virtual
<Location /app>
  SetHandler @APP@
</Location>
<Location /app/files>
  SetHandler none
</Location>
<Location /app/secret>
  Require all denied
</Location>
<Location /app/file>
  FcgiScript File
</Location>
<Location /if>
  <If "%{QUERY_STRING} == 'app'">
    SetHandler @APP@
  </If>
</Location>
<LocationMatch "\.v$">
  SetHandler @APP@
</LocationMatch>
<Location /once>
  FcgiParam PATH_INFO "%{reqenv:PATH_INFO}+"
</Location>
<Files *.x>
  SetHandler @APP@
</Files>
<VirtualHost *>
  ServerName localhost
</VirtualHost>
<VirtualHost *>
  ServerName file
  FcgiScript File
</VirtualHost>
EOC
    check_table($httpd,
        '/app' => '200 /app|', '/app/x.y' => '200 /app|/x.y',
        '/app/' => '200 /app|/', '/app/secret/x' => '403',
        '/app/x%20y/%252f' => '200 /app|/x y/%2f',
        '/app/files/x' => '403', '/app/file/x' => '403',
        '/if/x?app' => '200 /if|/x', '/if/x' => '404',
        '/if/x.y?app' => '200 /if|/x.y', '/once/a.x' => '200 /once/a.x|+',
        '/other.txt' => '200 text', '/none' => '404',
        '/other.txt/photo.v' => '200 /other.txt/photo.v|',
    );
    is(seen($httpd, '/app/x', Host => 'file'), '403',
       'another virtual host takes File');
    push @servers, $httpd;
};

subtest 'FcgiScript is merged' => sub {
    my $httpd = Httpd->start(
        files => { 'ht/a.x' => '', 'ht/.htaccess' => 'FcgiScript File' },
        vars => { APP => $app->handler }, config => <<'EOC');
FcgiScript File
SetHandler @APP@
<Location /auto>
  FcgiScript Auto
</Location>
<Location /auto/file>
  FcgiScript File
</Location>
<VirtualHost *>
  ServerName localhost
</VirtualHost>
<VirtualHost *>
  ServerName auto
  FcgiScript Auto
</VirtualHost>
EOC
    check_table($httpd, '/x' => '404', '/auto/x' => '200 |/auto/x',
                '/auto/file/x' => '404', '/ht/a.x' => '500');
    is(seen($httpd, '/x', Host => 'auto'), '200 |/x', 'a virtual host');
    like($httpd->error_log, qr/\.htaccess: FcgiScript not allowed here/,
         'not in .htaccess');
    push @servers, $httpd;
};

# Ways to say that what ends in .php is a script.
my %php_ways = (
    AddHandler => 'AddHandler @APP@ .php',
    'AddHandler, ModMimeUsePathInfo' =>
        "<Directory \@DOCROOT@>\nModMimeUsePathInfo On\n"
        . "AddHandler \@APP@ .php\n</Directory>",
    Files => "<Files *.php>\nSetHandler \@APP@\n</Files>",
    FilesMatch => "<FilesMatch \"\\.php\$\">\nSetHandler \@APP@\n"
        . '</FilesMatch>',
    LocationMatch => "<LocationMatch \"\\.php\$\">\nSetHandler \@APP@\n"
        . '</LocationMatch>',
    'Location with a wildcard' => "<Location \"/*.php\">\nSetHandler \@APP@\n"
        . "</Location>\n<Location \"/*/*.php\">\nSetHandler \@APP@\n"
        . '</Location>',
    If => "<If \"%{REQUEST_URI} =~ /\\.php\$/\">\nSetHandler \@APP@\n</If>",
    'If in Directory' => "<Directory \@DOCROOT@>\n"
        . "<If \"%{REQUEST_URI} =~ /\\.php\$/\">\nSetHandler \@APP@\n"
        . "</If>\n</Directory>",
    'If in LocationMatch' => "<LocationMatch php>\n"
        . "<If \"%{REQUEST_URI} =~ /\\.php\$/\">\nSetHandler \@APP@\n"
        . "</If>\n</LocationMatch>",
    RewriteRule => "RewriteEngine On\nRewriteRule \\.php\$ - [H=\@APP@]",
    'RewriteRule in Directory' => "<Directory \@DOCROOT@>\n"
        . "RewriteEngine On\nRewriteRule \\.php\$ - [H=\@APP@]\n"
        . '</Directory>',
    '.htaccess, AddHandler' => 'DocumentRoot @DOCROOT@/ht',
);

my %alias_ways = (
    Directory => "<Directory \@ROOT@/cgi>\nSetHandler \@APP@\n</Directory>",
    Location => "<Location /cgi-bin>\nSetHandler \@APP@\nFcgiScript File\n"
        . '</Location>',
    If => "<If \"%{HANDLER} == 'cgi-script'\">\nSetHandler \@APP@\n"
        . "FcgiScript File\n</If>",
);

subtest 'the scripts of a ScriptAlias' => sub {
    my @hosts = grep { $_->[2] eq 'Auto' } hosts_of(%alias_ways);
    my $alias = "ScriptAlias /cgi-bin \@ROOT@/cgi\n";
    my $httpd = Httpd->start(
        modules => ['alias'], vars => { APP => $app->handler },
        files => { '../cgi/a.sh' => '' },
        config => "<Directory \@ROOT@/cgi>\nRequire all granted\n"
            . "</Directory>\n" . vhosts({ map {
                ($_ => $alias . $alias_ways{$_}) } keys %alias_ways }, @hosts));
    for my $host (@hosts) {
        my ($name, $way) = @$host;
        is(seen($httpd, '/cgi-bin/a.sh', Host => $name),
           '200 /cgi-bin/a.sh|-', "$way: a script");
        is(seen($httpd, '/cgi-bin/a.sh/x', Host => $name),
           '200 /cgi-bin/a.sh|/x', 'with what follows');
        is(seen($httpd, "/cgi-bin/$_", Host => $name), '404',
           "'$_' is none") for 'none', '', 'none/a.sh';
    }
    push @servers, $httpd;
};

subtest 'photo.jpg/x.php is no script' => sub {
    my @hosts = hosts_of(%php_ways);
    my %photos = ('photo.jpg' => 'a photo', 'real.php' => 'source',
                  'up/photo.jpg' => 'a photo');
    my $httpd = Httpd->start(
        modules => ['rewrite'], vars => { APP => $app->handler },
        files => { %photos, (map { ("ht/$_" => $photos{$_}) } keys %photos),
                   'ht/.htaccess' => 'AddHandler @APP@ .php' },
        config => $BOTH . vhosts(\%php_ways, @hosts));
    for my $host (@hosts) {
        my ($name, $way, $mode) = @$host;
        for my $url ('/photo.jpg/x.php', '/photo.jpg/.php',
                     '/up/photo.jpg/x.php', '/photo.jpg/real.php',
                     '/photo%2ejpg/x.php') {
            unlike(seen($httpd, $url, Host => $name), qr/jpg\||asked/,
                   "$way, $mode, $url");
        }
        is(seen($httpd, '/photo.jpg', Host => $name), '200 a photo',
           'a photo is one');
        like(seen($httpd, '/real.php', Host => $name),
             qr{^200 (/real\.php\|-?|\|/real\.php)$}, 'a script is one');
        like(seen($httpd, '/real.php/x.php', Host => $name),
             qr{^200 (/real\.php\|/x\.php|\|/real\.php/x\.php)$},
             'also with what follows');
    }
    push @servers, $httpd;
};

subtest 'denied: nobody is asked' => sub {
    my %denied = map { ("$_/a.x" => 'source') }
        qw(directory files location ht method login limited);
    my $httpd = Httpd->start(
        modules => [qw(auth_basic authn_core authn_file authz_user rewrite)],
        files => {
            %denied, 'ht/.htaccess' => 'Require all denied',
            'ok.x' => 'source', 'strict/a.x' => 'source',
            'rewritten/.htaccess' => "RewriteEngine On\nRewriteRule . - [F]",
            'rewritten/a.x' => 'source' },
        vars => { APP => $app->handler }, config => <<'EOC');
AddHandler @APP@ .x
<Location /virtual>
  SetHandler @APP@
</Location>
<Location /virtual/denied>
  Require all denied
</Location>
<Location /virtual/login>
  AuthType Basic
  AuthName here
  AuthUserFile @ROOT@/none
  Require valid-user
</Location>
<Directory @DOCROOT@/directory>
  Require all denied
</Directory>
<Directory @DOCROOT@/files>
  <Files a.x>
    Require all denied
  </Files>
</Directory>
<Location /location>
  Require all denied
</Location>
<Directory @DOCROOT@/method>
  <LimitExcept POST>
    Require all denied
  </LimitExcept>
</Directory>
<Directory @DOCROOT@/login>
  AuthType Basic
  AuthName here
  AuthUserFile @ROOT@/none
  Require valid-user
</Directory>
<Directory @DOCROOT@/strict>
  AcceptPathInfo Off
</Directory>
EOC
    check_table($httpd, '/ok.x' => '200 /ok.x|-',
        (map { ("/$_/a.x" => '403', "/$_/a.x/more" => '403') }
             qw(directory files location ht method rewritten)),
        '/login/a.x' => '401', '/virtual/denied/x' => '403',
        '/virtual/login/x' => '401', '/virtual/x' => '200 /virtual|/x',
        '/strict/a.x' => '200 /strict/a.x|-', '/strict/a.x/y' => '404');
    push @servers, $httpd;
};

subtest "httpd's own limits" => sub {
    my $httpd = Httpd->start(
        files => { 'a.x' => '', 'small/a.x' => '' },
        vars => { APP => $app->handler }, config => <<'EOC');
AddHandler @APP@ .x
LimitRequestFields 10
LimitRequestFieldSize 500
LimitRequestLine 300
<Directory @DOCROOT@/small>
  LimitRequestBody 10
</Directory>
<Location /virtual>
  SetHandler @APP@
  FcgiScript Virtual
</Location>
<VirtualHost *>
  ServerName default
</VirtualHost>
<VirtualHost *>
  ServerName decoded
  AllowEncodedSlashes On
</VirtualHost>
<VirtualHost *>
  ServerName verbatim
  AllowEncodedSlashes NoDecode
</VirtualHost>
EOC
    my @slashes = (
        'default /a.x/b%2Fc' => '404', 'default /virtual/b%2fc' => '404',
        'default /a.x%2Fc' => '404',
        'decoded /a.x/b%2Fc' => '200 /a.x|/b/c',
        'decoded /virtual/b%2fc' => '200 /virtual|/b/c',
        'verbatim /a.x/b%2Fc' => '200 /a.x|/b%2Fc',
        'verbatim /virtual/b%2fc' => '200 /virtual|/b%2fc',
    );
    while (my ($name, $expected) = splice @slashes, 0, 2) {
        my ($host, $url) = split ' ', $name;
        is(seen($httpd, $url, Host => $host), $expected,
           "AllowEncodedSlashes, $name");
    }
    my %fields = map { ("X-$_" => 'x') } 1 .. 9;
    is(seen($httpd, '/a.x', %fields), '400', 'LimitRequestFields');
    is(seen($httpd, '/a.x', X => 'x' x 600), '400', 'LimitRequestFieldSize');
    is(seen($httpd, '/a.x?' . 'x' x 400), '414', 'LimitRequestLine');
    is(seen($httpd, '/a.x', X => 'x' x 400), '200 /a.x|-', 'and below it');

    my $before = $app->connections;
    my $post = sub {
        my ($body, @more) = @_;
        my $head = join "\r\n", 'POST /small/a.x HTTP/1.1', 'Host: default',
            'Connection: close', @more;
        return Client->request($httpd->port, "$head\r\n\r\n$body")->status;
    };
    is($post->('x' x 11, 'Content-Length: 11'), 413, 'LimitRequestBody');
    is($post->("b\r\n" . 'x' x 11 . "\r\n0\r\n\r\n",
               'Transfer-Encoding: chunked'), 413, 'of a chunked one');
    is($app->connections, $before, 'nobody was asked');
    is($post->('x' x 10, 'Content-Length: 10'), 200, 'and below it');
    push @servers, $httpd;
};

subtest 'ends of lines in PATH_INFO' => sub {
    my $httpd = Httpd->start(
        files => { 'a.x' => '' }, vars => { APP => $app->handler },
        config => <<'EOC');
AddHandler @APP@ .x
<Location /auto>
  SetHandler @APP@
</Location>
<Location /virtual>
  SetHandler @APP@
  FcgiScript Virtual
</Location>
EOC
    for my $place (qw(a.x auto virtual)) {
        for my $tail (qw(%0a %0A %0d %0d%0a x%0ay x/%0a/y %0a.x)) {
            is(seen($httpd, "/$place/$tail"), '404', "/$place/$tail");
        }
        like(seen($httpd, "/$place/$_"), qr/^40[04]$/, "/$place/$_")
            for qw(%00 x%00y %00.x);
        is(seen($httpd, "/$place/x%09y"), "200 /$place|/x\ty", 'a tab');
    }
    like($httpd->error_log,
         qr/:info\].*FCGI14: .*there is a line end in PATH_INFO/, 'and why');
    push @servers, $httpd;
};

subtest "the application's Content-Type is no handler" => sub {
    my $other = FcgiApp->start(sub {
        my ($c) = @_;
        $c->read_request or return;
        $c->reply("Content-Type: text/plain\r\n\r\nthe other");
    });
    my $httpd = Httpd->start(
        modules => [qw(status include cgid actions)],
        files => { 'a.x' => '', 'plain' => "text <!--#echo var=\"X\" -->\n",
                   'run.txt' => ["#!/bin/sh\necho Content-Type: x/y; echo\n",
                                 0755] },
        vars => { APP => $app->handler, OTHER => $other->handler },
        config => <<'EOC');
ScriptSock run/cgid
<Directory @DOCROOT@>
  Options +ExecCGI +Includes
</Directory>
AddHandler @APP@ .x
<Files nowhere>
  SetHandler @OTHER@
</Files>
FcgiSendfile @DOCROOT@
Action application/x-own /run.txt
EOC
    my $plain = $httpd->docroot . '/plain';
    for my $type ('server-status', 'cgi-script', 'application/x-httpd-cgi',
                  'text/x-server-parsed-html', 'application/x-own',
                  'default-handler', 'none', $other->handler) {
        my $get = sub {
            my ($head) = @_;
            my $say = "Content-Type: $type\n$head\n\nits own body";
            $say =~ s/([^\w.\/:])/sprintf '%%%02X', ord $1/ge;
            return Client->get($httpd->port, "/a.x?say=$say");
        };
        is($get->('X-Y: z')->body, 'its own body', $type);
        my $answer = $get->('Location: /plain');
        is($answer->body, "text <!--#echo var=\"X\" -->\n",
           'a local redirect to a file');
        unlike($answer->header('Content-Type') // '', qr/\Q$type\E/,
               'which has its own type, if any');
        is($get->('Location: /run.txt')->body,
           "#!/bin/sh\necho Content-Type: x/y; echo\n", 'to a program');
        is($get->("X-Sendfile: $plain")->body,
           "text <!--#echo var=\"X\" -->\n", 'X-Sendfile');
        is($get->('X-Accel-Redirect: /plain')->body,
           "text <!--#echo var=\"X\" -->\n", 'X-Accel-Redirect');
    }
    is($other->connections, 0, 'no other application was asked');
    push @servers, $httpd;
};

subtest 'a local redirect is a request like any other' => sub {
    my $httpd = Httpd->start(
        modules => [qw(rewrite headers)],
        files => { 'a.x' => '', 'private/a.txt' => 'secret',
                   'private/a.x' => 'secret', 'ht/a.txt' => 'secret',
                   'ht/.htaccess' => 'Require all denied',
                   'photo.jpg' => 'a photo', 'b.x' => '',
                   'index/index.html' => 'the page' },
        vars => { APP => $app->handler }, config => <<'EOC');
AddHandler @APP@ .x
<Location /private>
  Require all denied
</Location>
<Location /app>
  SetHandler @APP@
</Location>
Alias /alias @DOCROOT@/index
<LocationMatch "\.php$">
  SetHandler @APP@
</LocationMatch>
RewriteEngine On
RewriteRule ^/rewritten /b.x/tail [PT]
EOC
    # Location => what is seen
    my @table = (
        '/b.x' => '200 /b.x|-', '/b.x/y' => '200 /b.x|/y',
        '/app/z' => '200 /app|/z', '/alias/' => '200 the page',
        '/rewritten' => '200 /b.x|/tail', '/photo.jpg' => '200 a photo',
    );
    while (my ($to, $expected) = splice @table, 0, 2) {
        is(seen($httpd, "/a.x?say=Location:%20$to%0A%0A"), $expected, $to);
    }
    for my $to (qw(/private/a.txt /private/a.x /ht/a.txt)) {
        is(Client->get($httpd->port, "/a.x?say=Location:%20$to%0A%0A")
               ->status, 403, "$to is denied");
    }
    for my $to (qw(/photo.jpg/x.php /none.x /none)) {
        my $before = $app->connections;
        is(Client->get($httpd->port, "/a.x?say=Location:%20$to%0A%0A")
               ->status, 404, "$to is a 404") if $to ne '/none.php';
        is($app->connections, $before + 1, 'asked once, for /a.x');
    }
    push @servers, $httpd;
};

subtest 'several applications for one script' => sub {
    my $second = FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request or return;
        $c->reply("X-App: second\r\n\r\n$request->{params}{SCRIPT_NAME}"
                  . "|$request->{params}{PATH_INFO}");
    });
    my $httpd = Httpd->start(
        vars => { APP => $app->handler, SECOND => $second->handler },
        modules => ['rewrite'],
        files => { map { $_ => 'source' } qw(a.x rule.x b.x photo.jpg) },
        config => <<'EOC');
<FilesMatch "\.x$">
  SetHandler @APP@
  <If "%{REQUEST_METHOD} == 'PUT' || %{QUERY_STRING} =~ /export/">
    SetHandler @SECOND@
  </If>
</FilesMatch>
<Location /b.x/api>
  SetHandler @SECOND@
</Location>
<If "%{REQUEST_METHOD} == 'PUT' && %{REQUEST_URI} =~ m#/x\.x$#">
  SetHandler @SECOND@
</If>
RewriteEngine On
RewriteCond %{REQUEST_METHOD} =PUT
RewriteRule ^/rule\.x - [H=@SECOND@]
EOC
    # a request => its answer, and whether the second one gave it
    my @table = (
        'GET /a.x/y' => '200 /a.x|/y', 'PUT /a.x/y' => '200 /a.x|/y second',
        'GET /a.x/y?export' => '200 /a.x|/y second',
        'POST /a.x/y?export=1' => '200 /a.x|/y second',
        'PUT /rule.x/y' => '200 /rule.x|/y second',
        'PUT /rule.x/y?b' => '200 /rule.x|/y second',
        'GET /b.x/api/1' => '200 /b.x|/api/1 second',
        'GET /b.x/y' => '200 /b.x|/y', 'PUT /photo.jpg/x.x' => '404 ',
    );
    while (my ($request, $expected) = splice @table, 0, 2) {
        my $answer = Client->request(
            $httpd->port, "$request HTTP/1.1\r\nHost: x\r\n"
                . "Content-Length: 0\r\nConnection: close\r\n\r\n");
        my $body = $answer->status == 200 ? $answer->body : '';
        my $by = $answer->header('X-App');
        is($answer->status . " $body" . ($by ? " $by" : ''), $expected,
           $request);
    }
    push @servers, $httpd;
};

subtest 'Django in pure URL space' => sub {
    my $missing = Django::missing();
    plan skip_all => "no $missing here" if $missing;
    my $django = Django->start;
    my $httpd = Httpd->start(
        vars => { DJANGO => $django->handler },
        files => { 'admin/index.html' => 'a file', 'echo/.htaccess' => 'no',
                   'static/logo.txt' => 'logo' }, config => <<'EOC');
<Location />
  SetHandler @DJANGO@
  FcgiScript Virtual
</Location>
<Location /static>
  SetHandler none
</Location>
<Location /named>
  Require all denied
</Location>
EOC
    my $status = sub { Client->get($httpd->port, $_[0])->status };
    is(Client->get($httpd->port, '/')->body, "hello\n", 'home');
    is(Client->get($httpd->port, '/admin')->header('Location'), '/admin/',
       'a folder of the same name does not matter');
    like(Client->get($httpd->port, '/admin/login/')->body, qr/<form/,
         'the admin');
    is($status->('/echo/'), 200, 'nor a .htaccess file');
    is($status->('/named/x/'), 403, "a Location's Require does");
    is(Client->get($httpd->port, '/static/logo.txt')->body, 'logo',
       'files beside it');
    push @servers, $httpd;
};

kill 'WINCH', map { $_->pid } @servers;
$_->ok_healthy for @servers;
done_testing;
