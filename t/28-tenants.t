# A .htaccess file does not lead another's script to where its user may not.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# The server's own SetHandler has variables: what a .htaccess file makes of
# them is another address. And what else a reading of the code brought up.

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

my $run = Private::temp_dir('tenants');
my %app = map {
    my $name = $_;
    $name => FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request(5) or return;
        my $answer = $request->{params}{PATH_INFO} // '';
        $c->reply($answer eq '/gone'
            ? "X-Sendfile: $run/none\r\nStatus: 200 OK\r\n\r\n"
            : "Content-Type: text/plain\r\n\r\n$name");
    }, transport => 'unix', socket => "$run/$name.sock");
} qw(own other);

my $httpd = Httpd->start(
    modules => [qw(rewrite headers actions include)],
    files => {
        (map { ("$_/i.x" => 'source') } qw(plain setenvif header setenv deep)),
        'setenvif/.htaccess' => "SetEnvIf Request_URI ^ POOL=other\n"
            . "DirectoryIndex i.x\n",
        'setenv/.htaccess' => "SetEnv POOL other\nDirectoryIndex i.x\n",
        'header/.htaccess' =>
            "RequestHeader set X-Pool other\nDirectoryIndex i.x\n",
        'deep/.htaccess' => "RewriteEngine On\nRewriteRule ^ - [E=POOL:other]\n"
            . "DirectoryIndex i.x\n",
        'folder/i.x' => 'source',
        'one.shtml' => '<!--#include virtual="/two.shtml" -->',
        'two.shtml' => '<!--#include virtual="/header/i.x" -->',
        'error.x' => 'source',
    },
    vars => { RUN => $run },
    access_format => '%U %{fcgi-backend}n',
    config => <<'EOC');
SetEnvIf Request_URI ^ POOL=own
<FilesMatch "\.x$">
  SetHandler "fcgi:@RUN@/%{env:POOL}.sock"
</FilesMatch>
<Directory @DOCROOT@>
  AllowOverride All
  Options +Includes
  AddOutputFilter INCLUDES .shtml
</Directory>
<Directory @DOCROOT@/header>
  <FilesMatch "\.x$">
    SetHandler "fcgi:@RUN@/%{HTTP:X-Pool}.sock"
  </FilesMatch>
</Directory>
<Location /virtual>
  SetHandler fcgi:@RUN@/own.sock
  FcgiScript Virtual
</Location>
<Location /folder>
  SetHandler fcgi:@RUN@/own.sock
  FcgiScript File
  DirectoryIndex i.x
</Location>
<Location /send>
  SetHandler fcgi:@RUN@/own.sock
  FcgiSendfile @RUN@
</Location>
<Location /loop>
  SetHandler fcgi:@RUN@/own.sock
  FcgiSendfile @RUN@
  ErrorDocument 404 /loop/gone
</Location>
<Location /down>
  SetHandler fcgi:@RUN@/nobody.sock
  FcgiConnectTimeout 50ms
  ErrorDocument 503 /plain/page.html
</Location>
EOC

sub get {
    my ($path, @fields) = @_;
    return Client->request($httpd->port, join "\r\n",
        "GET $path HTTP/1.1", 'Host: x', 'Connection: close', @fields, '', '');
}

subtest 'the server says which' => sub {
    is(get('/plain/i.x')->body, 'own', 'its own expression is trusted');
    is(get('/header/i.x', 'X-Pool: own')->body, 'own', 'also of a field');
    is(get('/two.shtml', 'X-Pool: other')->body, 'other', 'in an include');
    is(get('/one.shtml', 'X-Pool: other')->body, 'other',
       'and in an include of an include');
};

for my $dir (qw(setenvif setenv deep header)) {
    subtest "$dir in .htaccess" => sub {
        my $before = $app{other}->connections;
        for my $url ("/$dir/", "/$dir/i.x") {
            my $answer = get($url, 'X-Pool: own');
            isnt($answer->body, 'other', "$url: not the other's");
            ok($answer->status == 500 || $answer->body eq 'own',
               'refused, or its own') or diag $answer->raw;
        }
        is($app{other}->connections, $before, 'nobody connected to it');
    };
}

subtest 'Virtual leaves TRACE and OPTIONS * to httpd' => sub {
    is(get('/virtual/x')->body, 'own', 'GET is for the application');
    my $before = $app{own}->connections;
    my $trace = Client->request($httpd->port,
        "TRACE /virtual/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    like($trace->header('Content-Type') // '', qr{^message/http},
         'httpd answers TRACE');
    is($app{own}->connections, $before, 'the application was not asked');
};

subtest 'File has folders and their index' => sub {
    my $answer = get('/folder');
    is($answer->status, 301, 'a folder needs its slash');
    is(get('/folder/')->body, 'own', 'and has its index');
};

subtest 'an error page whose file is missing' => sub {
    my $before = $app{own}->connections;
    is(get('/send/gone')->status, 404, 'a missing file is a 404');
    is($app{own}->connections, $before + 1, 'asked once');
    is(get('/loop/gone')->status, 404, 'also where the page has none');
    is($app{own}->connections, $before + 3, 'the page is asked for once');
};

subtest "a tenant's variables are not PHP's settings" => sub {
    plan skip_all => 'no php-fpm' if !PhpFpm::program();
    my $php = PhpFpm->start(transport => 'unix');
    my $tell = '<?php echo ini_get("memory_limit"), " ", ini_get("precision");';
    my $try = "SetEnv PHP_ADMIN_VALUE memory_limit=77M\n"
        . "FcgiParam PHP_VALUE precision=7\n";
    my $httpd = Httpd->start(
        files => { map { ("$_/a.php" => $tell, "$_/.htaccess" => $try) }
                   qw(open guarded) },
        vars => { PHP => $php->handler }, config => <<'EOC');
<Directory @DOCROOT@>
  AllowOverride FileInfo
</Directory>
<FilesMatch "\.php$">
  SetHandler @PHP@
</FilesMatch>
<Location /guarded>
  FcgiParam !PHP_VALUE
  FcgiParam !PHP_ADMIN_VALUE
</Location>
EOC
    # in this order: a worker of PHP-FPM keeps such settings
    unlike(Client->get($httpd->port, '/guarded/a.php')->body, qr/77M| 7$/,
           "a Location's FcgiParam has the last word");
    is(Client->get($httpd->port, '/open/a.php')->body, '77M 7',
       'without it PHP-FPM takes settings from variables');
    $httpd->ok_healthy;
};

subtest 'the access log names who failed' => sub {
    is(get('/down')->status, 503, 'nobody is there');
    ok($httpd->wait_for_access(qr{^\S+ fcgi:\Q$run\E/nobody\.sock$}m),
       'also with an ErrorDocument') or diag $httpd->access_log;
};

$httpd->ok_healthy;
done_testing;
