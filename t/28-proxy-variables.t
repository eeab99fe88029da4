# By mod_proxy an application is told what mod_proxy_fcgi tells it.
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The same requests go to two servers of one configuration: one has
# mod_proxy_fcgi alone, the other mod_proxy_fastcgi as well. Names, values and
# their order must be the same, byte for byte. What mod_proxy_fcgi of an older
# httpd says otherwise stands in %LATER.

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
    my $request = $c->read_request or return;
    my @pairs = map { FcgiApp::escape($_->[0]) . '='
                      . FcgiApp::escape($_->[1]) . "\n" }
        @{ $request->{pairs} };
    $c->reply(join '', "Content-Type: text/plain\r\n\r\n", @pairs, "\n",
              $request->{stdin});
}, transport => 'unix');
my $tcp = FcgiApp->start($app->{code}, transport => 'tcp');

my $CONFIG = <<'EOC';
DirectoryIndex index.php
Alias /alias @DOCROOT@/sub
<FilesMatch "\.php$">
  SetHandler "proxy:unix:@UNIX@|fcgi://localhost"
</FilesMatch>
<FilesMatch "\.tcp$">
  SetHandler "proxy:fcgi://@TCP@"
</FilesMatch>
<FilesMatch "\.slash$">
  SetHandler "proxy:fcgi://@TCP@/"
</FilesMatch>
<Proxy "balancer://members">
  BalancerMember "fcgi://@TCP@"
</Proxy>
<FilesMatch "\.member$">
  SetHandler "proxy:balancer://members"
</FilesMatch>
<Location /location>
  SetHandler "proxy:fcgi://@TCP@"
</Location>
ProxyPass /no !
ProxyPass /pass fcgi://@TCP@/srv/app
ProxyPass /unix unix:@UNIX@|fcgi://php/srv/app/
ProxyPass /raw fcgi://@TCP@/srv/app nocanon
ProxyPass /port fcgi://LOCALHOST:@PORT_ONLY@/srv/app
ProxyPassMatch ^/match/(.*\.php(/.*)?)$ fcgi://@TCP@@DOCROOT@/$1
RewriteEngine On
RewriteRule ^/rewritten/(.*)$ fcgi://@TCP@/srv/$1 [P]
RewriteRule ^/query/(.*)$ fcgi://@TCP@/srv/$1?more=1 [P,QSA]
RewriteRule ^/inside/(.*)$ /a.php/$1 [PT]
RewriteRule ^/env/(.*)$ fcgi://@TCP@/srv/$1 [P,E=FROM_RULE:$1]
SetEnvIf Request_URI "first-dot" proxy-fcgi-pathinfo=first-dot
SetEnvIf Request_URI "last-dot" proxy-fcgi-pathinfo=last-dot
SetEnvIf Request_URI "all-of-it" proxy-fcgi-pathinfo=1
SetEnvIf Request_URI "unescape" proxy-fcgi-pathinfo=unescape
SetEnvIf Request_URI "full" proxy-fcgi-pathinfo=full
SetEnvIfNoCase ^Authorization$ "(.+)" HTTP_AUTHORIZATION=$1
SetEnv no-gzip 1
SetEnv some_lower "case"
<Location /pass/generic>
  ProxyFCGIBackendType GENERIC
</Location>
<LocationMatch "generic">
  ProxyFCGIBackendType generic
</LocationMatch>
<LocationMatch "fpm">
  ProxyFCGIBackendType FPM
</LocationMatch>
<LocationMatch "set">
  ProxyFCGISetEnvIf "true" SET_ALWAYS yes
  ProxyFCGISetEnvIf "true" SET_EMPTY
  ProxyFCGISetEnvIf "true" !HTTP_HOST
  ProxyFCGISetEnvIf "false" SET_NEVER no
  ProxyFCGISetEnvIf "reqenv('SCRIPT_FILENAME') =~ m#^proxy:fcgi://[^/]*(/.*)$#" \
      SCRIPT_FILENAME "$1"
  ProxyFCGISetEnvIf "-n %{QUERY_STRING}" QUERY_STRING "changed&%{QUERY_STRING}"
</LocationMatch>
<LocationMatch "set-more">
  ProxyFCGISetEnvIf "true" SET_ALWAYS "once more"
</LocationMatch>
ErrorDocument 404 /a.php/error
Action script /action-script virtual
<Location /action-script>
  SetHandler "proxy:fcgi://@TCP@"
</Location>
<Location /sub/acted>
  SetHandler script
</Location>
<Directory @DOCROOT@/nice>
  RewriteEngine On
  RewriteCond %{REQUEST_FILENAME} !-f
  RewriteRule ^(.*)$ index.php/$1 [L]
</Directory>
Header always set X-Answered %{REMOTE_ADDR}e
EOC

my %options = (
    files => { map { $_ => '' } 'index.php', 'a.php', 'a b.php', 'c%41d.php',
               'e;f&g=h.php', 'x.tcp', 'x.slash', 'sub/a.php', 'nice/index.php',
               "\xc3\xa4.php",
               'full.php', 'full/index.php', 'generic.php', 'set.php',
               'q?.php', 'q?.member', 'first-dot.php' },
    vars => { UNIX => $app->address, TCP => $tcp->address,
              PORT_ONLY => $tcp->{port}->sockport },
    config => $CONFIG);

# For files below folders.
sub start {
    my (@modules) = @_;
    my %files = %{ $options{files} };
    my @below = grep { m{/} } keys %files;
    delete @files{@below};
    my $httpd = Httpd->start(
        %options, files => \%files,
        modules => [qw(rewrite headers actions slotmem_shm proxy proxy_balancer
                       lbmethod_byrequests), @modules, qw(proxy_fcgi)]);
    for my $path (@below) {
        my ($folder) = $path =~ m{^(.*)/};
        mkdir $httpd->docroot . "/$folder", 0755;
        $httpd->write($path, '');
    }
    return $httpd;
}

my ($theirs, $ours) = (start(), start('proxy_fastcgi'));

# What is different for two servers, and for two connections.
sub without_places {
    my ($httpd, $text) = @_;
    my ($root, $port) = ($httpd->root, $httpd->port);
    $text =~ s/\Q$root\E/ROOT/g;
    $text =~ s/\b$port\b/PORT/g;
    $text =~ s/^REMOTE_PORT=.*$/REMOTE_PORT=some/m;
    return $text;
}

sub asked {
    my ($httpd, $request) = @_;
    my $answer = Client->request($httpd->port, $request);
    return join "\n", $answer->status,
        without_places($httpd, $answer->body);
}

# 2.4.62 says these otherwise, and the branch that became 2.4.63: status,
# SCRIPT_FILENAME, SCRIPT_NAME and PATH_INFO.
my $HAS_LATER = Httpd::is_at_least('2.4.64');
my %LATER = (
    '/a%20b.php' =>
        ['200', 'proxy:fcgi://localhostROOT/docs/a b.php', '/a b.php'],
    '/c%2541d.php' =>
        ['200', 'proxy:fcgi://localhostROOT/docs/c%41d.php', '/c%41d.php'],
    '/%C3%A4.php/%C3%A4' =>
        ['200', "proxy:fcgi://localhostROOT/docs/\xc3\xa4.php",
         "/\xc3\xa4.php", "/\xc3\xa4"],
    '/q%3F.php' => ['403'],
    '/q%3F.member' => ['403'],
    '/raw/x?a%20b' => ['403'],
    '/pass/full/a.php/b.c/d' =>
        ['200', 'proxy:fcgi://TCP/srv/app/full/a.php/b.c/d',
         '/pass/full/a.php/b.c/d'],
    '/pass/full/none' =>
        ['200', 'proxy:fcgi://TCP/srv/app/full/none', '/pass/full/none'],
    '/match/full.php/in/fo' =>
        ['200', 'ROOT/docs/full.php', '/match/full.php', '/in/fo'],
    '/match/full.php/more' =>
        ['200', 'ROOT/docs/full.php', '/match/full.php', '/more'],
    '/match/full/index.php/in%20fo' =>
        ['200', 'ROOT/docs/full/index.php', '/match/full/index.php', '/in fo'],
    # a SetHandler's URL is not divided before
    Httpd::is_at_least('2.4.62')
        ? ('/full.php/x' => ['200', 'ROOT/docs/full.php', '/full.php/x'])
        : (),
);

# These of an answer.
sub script_in {
    my ($text) = @_;
    my $address = $tcp->address;
    $text =~ s/\Q$address\E/TCP/g;
    return [$text =~ /^(\d+)$/m, map { $text =~ /^$_=(.*)$/m }
                qw(SCRIPT_FILENAME SCRIPT_NAME PATH_INFO)];
}

sub same {
    my ($request, $name) = @_;
    my ($wanted, $got) = map { asked($_, $request) } $theirs, $ours;
    my ($line, $path) = $request =~ /^(\S+ (\S+) \S+)/;
    $name //= $line;
    is_deeply(script_in($got), $LATER{$path}, "$name, the script")
        if $LATER{$path};
    is($got, $wanted, $name) if $HAS_LATER || !$LATER{$path};
    return $got;
}

sub get_of {
    my ($path) = @_;
    return "GET $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
}

subtest 'SetHandler' => sub {
    same(get_of($_)) for '/a.php', '/a.php?b=c', '/a.php/info', '/',
        '/a.php/in%20fo/%C3%A4?d', '/a%20b.php', '/c%2541d.php',
        '/e;f&g=h.php', '/%C3%A4.php/%C3%A4', '/sub/a.php/x', '/alias/a.php',
        '/x.tcp', '/x.tcp/info?x', '/x.slash', '/x.slash/y', '/location',
        '/location/some/path?x=y', '/inside/more', '/nothing.php',
        '/nothing/at/all.php', '/q%3F.php', '/q%3F.member', '/no/file';
};

subtest 'ProxyPass' => sub {
    like(same(get_of('/pass/x.php')),
         qr{^SCRIPT_FILENAME=proxy:fcgi://127\.0\.0\.1:\d+/srv/app/x\.php$}m,
         'a URL that PHP-FPM knows');
    same(get_of($_)) for '/pass', '/pass/', '/pass/x.php?a=b&c',
        '/pass/x.php/info', '/pass/a%20b%25c.php/%C3%A4', '/pass//x//y',
        '/pass/x;y=z/q', '/raw/a%20b.php/%2e', '/raw/x?a%20b',
        '/unix/x.php', '/unix', '/unix/x.php/y?z', '/port/x',
        '/pass/%3F/x', '/raw/%3F/x', '/pass/a%0Ab', '/pass/a%2Fb';
};

subtest 'ProxyPassMatch and RewriteRule' => sub {
    same(get_of($_)) for '/match/a.php', '/match/a.php/info?q',
        '/match/a%20b.php', '/rewritten/x.php', '/rewritten/x.php/info?a=b',
        '/rewritten/a%20b', '/query/x.php?a=b', '/query/x.php',
        '/env/x.php?y', '/nice/path/in%20fo?q', '/nice/index.php?q',
        '/nice/';
};

subtest 'Action' => sub {
    like(same(get_of('/sub/acted/a.php/info?q')),
         qr{^PATH_INFO=/sub/acted/a\.php/info$}m, 'has the whole path');
    same(get_of('/sub/acted'));
};

subtest 'ProxyFCGIBackendType' => sub {
    same(get_of($_)) for '/pass/generic/x.php?a=b', '/rewritten/generic?a=b',
        '/generic.php/info?x', '/query/generic.php?a=b', '/pass/fpm/x',
        '/unix/generic/%3F', '/raw/generic/%3Fa=b?a=b',
        '/rewritten/generic%3fa=b?a=b';
};

subtest 'ProxyFCGISetEnvIf' => sub {
    like(same(get_of('/pass/set/x.php')), qr/^SET_ALWAYS=yes$/m, 'is heard');
    same(get_of($_)) for '/set.php?a', '/pass/set-more/x', '/pass/set/x?y=z';
};

subtest 'proxy-fcgi-pathinfo' => sub {
    same(get_of($_)) for (map { my $how = $_; map { "/pass/$how$_" }
                                '/a.php/b.c/d', '/none', '/a.php%2f/x%20y' }
                          qw(first-dot last-dot all-of-it unescape full)),
        '/match/full.php/in/fo', '/match/full/index.php/in%20fo',
        '/first-dot.php/a.b/c', '/full.php/x';
    like(same(get_of('/match/full.php/more')), qr/^PATH_INFO=\/more$/m,
         'finds a script by its file');
};

subtest 'fields, methods and bodies' => sub {
    my $end = "Host: x\r\nConnection: close\r\n";
    same("POST /a.php HTTP/1.1\r\n${end}Content-Length: 5\r\n\r\nhello");
    same("POST /pass/x HTTP/1.1\r\n${end}Content-Length: 0\r\n\r\n");
    same("POST /pass/x HTTP/1.1\r\n${end}Transfer-Encoding: chunked\r\n\r\n"
         . "5\r\nhello\r\n0\r\n\r\n", 'a chunked body');
    same("PUT /a.php HTTP/1.1\r\n${end}Transfer-Encoding: chunked\r\n\r\n"
         . "0\r\n\r\n", 'an empty chunked one');
    same("HEAD /a.php HTTP/1.1\r\n${end}\r\n");
    same("DELETE /pass/x HTTP/1.1\r\n${end}\r\n");
    same("OPTIONS /pass/x HTTP/1.1\r\n$end\r\n");
    same("GET /a.php HTTP/1.1\r\n${end}Authorization: Basic eDp5\r\n"
         . "Proxy: evil\r\nX-Forwarded-For: 1.2.3.4\r\nAccept: a\r\n"
         . "Accept: b\r\nCookie: a=b; c\r\nContent-Type: x/y\r\n\r\n");
    same("GET /a.php HTTP/1.0\r\nHost: x\r\n\r\n");
    same("GET /a.php HTTP/1.0\r\n\r\n", 'without a host');
};

my $answer = Client->get($ours->port, '/a.php');
is($answer->header('X-Answered'), '127.0.0.1', 'variables stay for others');
like($ours->error_log, qr/FCGI26/, 'the second server has our modules');
unlike($ours->error_log, qr/AH010[67]\d/, 'and mod_proxy_fcgi serves nothing');
$_->ok_healthy for $theirs, $ours;
done_testing;
