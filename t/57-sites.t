# Sites as they are: front controllers, a socket for each customer, far hosts.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Httpd;
use JSON::PP qw(decode_json);
use Machine;
use PhpFpm;
use Private;
use Test::More;

plan skip_all => 'no php-fpm here' if !PhpFpm::program();

# Says how it sees the request, and who it is.
my $SHOW = '<?php $all = ["file" => __FILE__, "body" => strlen(
        file_get_contents("php://input"))];
    foreach (["REQUEST_METHOD", "REQUEST_URI", "SCRIPT_NAME", "PATH_INFO",
              "QUERY_STRING", "PHP_SELF", "SCRIPT_FILENAME", "DOCUMENT_ROOT",
              "PATH_TRANSLATED"] as $name)
        $all[$name] = $_SERVER[$name] ?? null;
    preg_match("/^Uid:\s+(\d+)/m", file_get_contents("/proc/self/status"), $m);
    $all["uid"] = $m[1];
    $all["devices"] = file_get_contents("/proc/net/dev");
    if (isset($_GET["read"]))
        $all["read"] = @file_get_contents($_GET["read"]);
    if (isset($_GET["connect"]))
        $all["connect"] = (bool)@stream_socket_client(
            "unix://" . $_GET["connect"]);
    header("Content-Type: application/json");
    echo json_encode($all);';

sub fetch {
    my ($server, $path, %opt) = @_;
    my $body = $opt{body};
    return Client->request(
        $server->port, ($opt{method} // 'GET') . " $path HTTP/1.1\r\n"
        . 'Host: ' . ($opt{host} // 'localhost') . "\r\nConnection: close\r\n"
        . (defined $body ? 'Content-Length: ' . length($body) . "\r\n" : '')
        . "\r\n" . ($body // ''));
}

# What a script says of the request, as a hash; empty if it is no such answer.
sub shown {
    my $answer = fetch(@_);
    return eval { decode_json($answer->body) }
        || { status => $answer->status, body => $answer->body };
}

# ---- front controllers ----

my $php = PhpFpm->start(children => 2);
my $httpd = Httpd->start(
    vars => { PHP => $php->handler }, modules => [qw(rewrite)],
    files => {
        (map { $_ => $SHOW } qw(
            wp/index.php wp/wp-login.php wp/wp-admin/index.php
            symfony/public/index.php symfony/public/dev.php
            laravel/index.php info/index.php)),
        'wp/wp-content/style.css' => 'a {}', 'laravel/a.txt' => 'a file',
        'symfony/public/robots.txt' => 'robots', 'symfony/.env' => 'SECRET=1',
        'laravel/.htaccess' => <<'EOC',
RewriteEngine On
RewriteCond %{REQUEST_FILENAME} !-d
RewriteCond %{REQUEST_FILENAME} !-f
RewriteRule ^ index.php [L]
EOC
        'info/.htaccess' => <<'EOC',
RewriteEngine On
RewriteCond %{REQUEST_FILENAME} !-f
RewriteRule ^(.*)$ index.php/$1 [L]
EOC
        'error.html' => "the site's 404\n",
    },
    config => <<'EOC', extra_vhosts => <<'EOC');
ErrorDocument 404 /error.html
<FilesMatch "\.php$">
  SetHandler @PHP@
</FilesMatch>
DirectoryIndex index.php

# WordPress. index.php is the first index: for one that is not there httpd
# would ask the FallbackResource.
<Directory @DOCROOT@/wp>
  DirectoryIndex index.php
  FallbackResource /wp/index.php
</Directory>
EOC
<VirtualHost 127.0.0.1:@PORT@>
  ServerName localhost
</VirtualHost>

# Symfony
<VirtualHost 127.0.0.1:@PORT@>
  ServerName symfony.example
  DocumentRoot @DOCROOT@/symfony/public
  FallbackResource /index.php
</VirtualHost>
EOC

my @NAMES = qw(file SCRIPT_NAME PATH_INFO REQUEST_URI QUERY_STRING);
my $root = $httpd->docroot;

# [path, script, PATH_INFO, further options of fetch()]; the script's folder
# is $dir, its URL begins with $prefix.
sub are_seen {
    my ($dir, $prefix, @cases) = @_;
    for my $case (@cases) {
        my ($path, $script, $info, %opt) = @$case;
        my ($query) = $path =~ /\?(.*)/;
        my $shown = shown($httpd, $prefix . $path, %opt);
        is_deeply([@$shown{@NAMES}],
                  ["$root/$dir/$script", "$prefix/$script", $info,
                   $prefix . $path, $query // ''], $prefix . $path)
            or diag explain $shown;
        is($shown->{REQUEST_METHOD}, $opt{method} // 'GET');
        is($shown->{PHP_SELF}, "$prefix/$script" . ($info // ''));
        is($shown->{body}, length($opt{body} // ''));
    }
    return;
}

my @POST = (method => 'POST', body => 'a=b' x 50_000);

subtest 'FallbackResource, as for WordPress' => sub {
    are_seen('wp', '/wp',
        ['/', 'index.php'], ['/?p=7', 'index.php'],
        ['/hello-world/', 'index.php'], ['/2024/01/post?a=b&c', 'index.php'],
        ['/wp-json/wp/v2/posts?x=%20', 'index.php', undef, @POST],
        ['/a%20b/%C3%A4', 'index.php'],
        ['/wp-login.php', 'wp-login.php'],
        ['/index.php/2024/x', 'index.php', '/2024/x'],
        ['/wp-login.php', 'wp-login.php', undef, @POST]);
    is(shown($httpd, '/wp/wp-admin/')->{SCRIPT_NAME},
       '/wp/wp-admin/index.php', 'an index below');
    is(fetch($httpd, '/wp/wp-content/style.css')->body, 'a {}',
       'a file is a file');
    my $answer = fetch($httpd, '/wp/missing.php');
    is_deeply([@$answer{qw(status body)}], [404, "the site's 404\n"],
              'a script that is not there');
};

subtest 'a virtual host, as for Symfony' => sub {
    my @host = (host => 'symfony.example');
    are_seen('symfony/public', '',
        ['/', 'index.php', undef, @host],
        ['/blog/posts/7?page=2', 'index.php', undef, @host],
        ['/api/posts', 'index.php', undef, @host, @POST],
        ['/index.php/blog/7', 'index.php', '/blog/7', @host],
        ['/dev.php/blog?x', 'dev.php', '/blog', @host]);
    is(fetch($httpd, '/robots.txt', @host)->body, 'robots', 'a file');
    is(shown($httpd, '/.env', @host)->{file},
       "$root/symfony/public/index.php", 'nothing outside is a file');
};

subtest 'rewrite rules in .htaccess, as for Laravel' => sub {
    are_seen('laravel', '/laravel',
        ['/', 'index.php'], ['/users/7?a=b', 'index.php'],
        ['/users/7', 'index.php', undef, @POST],
        ['/missing.php', 'index.php']);
    is(fetch($httpd, '/laravel/a.txt')->body, 'a file', 'a file');
};

subtest 'rewrite rules that make PATH_INFO' => sub {
    are_seen('info', '/info',
        ['/users/7?a=b', 'index.php', '/users/7'],
        ['/a%20b', 'index.php', '/a b'],
        ['/users', 'index.php', '/users', @POST]);
};

# ---- PHP's own ----

subtest 'session.upload_progress' => sub {
    my $dir = Private::temp_dir('sessions');
    chmod 01777, $dir;
    my $pool = PhpFpm->start(
        children => 2, ini => {
            'session.upload_progress.enabled' => 1,
            'session.upload_progress.min_freq' => 0,
            'session.save_path' => $dir,
        });
    my $server = Httpd->start(
        vars => { PHP => $pool->handler },
        files => {
            map({ ("$_/up.php" => '<?php echo $_FILES["f"]["size"];',
                   "$_/how.php" => '<?php session_start();
                        echo $_SESSION["upload_progress_x"]
                            ["bytes_processed"] ?? "none";') } qw(on off)),
        },
        config => <<'EOC');
<FilesMatch "\.php$">
  SetHandler @PHP@
</FilesMatch>
<Location /off>
  FcgiRequestBuffering Off
</Location>
EOC
    my $body = join "\r\n", '--b',
        'Content-Disposition: form-data; name="PHP_SESSION_UPLOAD_PROGRESS"',
        '', 'x', '--b',
        'Content-Disposition: form-data; name="f"; filename="f"', '',
        'y' x 400_000, '--b--', '';
    for my $how ('on', 'off') {
        my @cookie = (Cookie => "PHPSESSID=upload$how");
        my $conn = Client->connect($server->port);
        $conn->send("POST /$how/up.php HTTP/1.1\r\nHost: localhost\r\n"
            . "Cookie: PHPSESSID=upload$how\r\nContent-Type: "
            . 'multipart/form-data; boundary=b' . "\r\nContent-Length: "
            . length($body) . "\r\n\r\n" . substr $body, 0, 200_000);
        my $seen;
        my $look = sub {
            $seen = Client->get($server->port, "/$how/how.php", @cookie)->body;
            return $seen =~ /^[1-9]/;
        };
        $how eq 'on' ? grep { $look->() } 1 .. 5
            : Private::wait_until(10, $look);
        like($seen, $how eq 'on' ? qr/^none$/ : qr/^\d{4,}$/,
             "half of it is here, FcgiRequestBuffering $how");
        $conn->send(substr $body, 200_000);
        is($conn->read_response->body, 400_000, 'then all of it');
    }
    $server->ok_healthy;
    $pool->stop;
};

subtest 'settings of PHP that stood in httpd for mod_php' => sub {
    my $server = Httpd->start(
        vars => { PHP => $php->handler }, files => {
            map { $_ => '<?php echo ini_get("memory_limit"), " ",
                    ini_get("display_errors");' }
                qw(a.php old/a.php) },
        config => <<'EOC');
<FilesMatch "\.php$">
  SetHandler @PHP@
</FilesMatch>
<Directory @DOCROOT@>
  FcgiParam PHP_VALUE "memory_limit=77M\ndisplay_errors=0"
</Directory>
EOC
    $server->write('old/.htaccess', 'php_value memory_limit 88M');
    is(fetch($server, '/a.php')->body, '77M 0', 'PHP_VALUE');
    is(fetch($server, '/old/a.php')->status, 500, 'php_value in .htaccess');
    $server->ok_healthy;
};

# ---- a socket for each customer ----

my %uid = ('one.example' => 64_101, 'two.example' => 64_102);
my %user = (ann => 64_101, bob => 64_102);

sub pool {
    my ($name, $uid, $run) = @_;
    return <<"EOC";
[$name]
user = $uid
group = $uid
listen = $run/$name.sock
listen.owner = www-data
listen.mode = 0600
pm = static
pm.max_children = 1
EOC
}

subtest 'PHP-FPM under the users of many sites' => sub {
    plan skip_all => 'pools of two users need root' if $> != 0;
    my $run = Private::temp_dir('run');
    my $sites = Private::temp_dir('sites');
    my %all = (%uid, %user);
    for my $name (keys %all) {
        my $public = $uid{$name} ? 'public' : 'public_html';
        Private::spew("$sites/$name/$public/show.php", $SHOW);
        Private::spew("$sites/$name/private/secret", $name, 0600);
        chown $all{$name}, $all{$name}, "$sites/$name/private/secret";
    }
    my $pools = PhpFpm->start(
        pool => join '', map { pool($_, $all{$_}, $run) } sort keys %all);
    my $server = Httpd->start(
        vars => { SITES => "$sites", RUN => "$run" },
        modules => [qw(vhost_alias userdir rewrite)], config => <<'EOC');
# A socket for each virtual host
UseCanonicalName Off
VirtualDocumentRoot @SITES@/%0/public
<Directory @SITES@>
  AllowOverride FileInfo
  Require all granted
  <FilesMatch "\.php$">
    SetHandler "fcgi:@RUN@/%{SERVER_NAME}.sock"
  </FilesMatch>
</Directory>

# A socket for each user
UserDir @SITES@/*/public_html
SetEnvIf Request_URI "^/~([a-z0-9-]+)/" POOL=$1
<Directory @SITES@/*/public_html>
  <FilesMatch "\.php$">
    SetHandler "fcgi:@RUN@/%{reqenv:POOL}.sock"
  </FilesMatch>
</Directory>
FcgiConnectTimeout 200ms
EOC
    my @path = (
        (map { [$_, '/show.php', 'public'] } sort keys %uid),
        (map { [$_, "/~$_/show.php", 'public_html'] } sort keys %user));
    # as Laravel and WordPress have it
    Private::spew("$sites/$_->[0]/$_->[2]/.htaccess", <<"EOC") for @path;
RewriteEngine On
RewriteRule ^pretty\$ show.php [L]
EOC
    push @path, map { [$_->[0], $_->[1] =~ s/show\.php/pretty/r, $_->[2]] }
        @path;
    for my $time (1, 2) {
        for my $site (@path) {
            my ($name, $path, $public) = @$site;
            my $host = $uid{$name} ? $name : 'one.example';
            my $shown = shown($server, $path, host => $host);
            is_deeply([@$shown{qw(uid file)}],
                      [$all{$name}, "$sites/$name/$public/show.php"],
                      "$name has its own user") or diag explain $shown;
        }
    }
    for my $site (@path) {
        my ($name, $path) = @$site;
        my $host = $uid{$name} ? $name : 'one.example';
        for my $other (sort keys %all) {
            my $read = shown($server, "$path?read=$sites/$other/private/"
                             . 'secret', host => $host)->{read};
            my $may = $all{$name} == $all{$other};
            is($read || '', $may ? $other : '',
               "$name reads " . ($may ? 'what is its own' : 'nothing else'));
        }
        is(!!shown($server, "$path?connect=$run/two.example.sock",
                   host => $host)->{connect}, '', 'nor may it connect');
    }
    Private::spew("$sites/three.example/public/show.php", $SHOW);
    is(fetch($server, '/show.php', host => 'three.example')->status, 503,
       'a site without a pool');
    is(fetch($server, '/show.php', host => 'four.example')->status, 404,
       'a site that is none');
    is(fetch($server, '/show.php', host => $_)->status, 400, "Host: $_")
        for '../two.example', 'one.example/../two.example';
    my $htaccess = "$sites/one.example/public/.htaccess";
    for my $way ("SetHandler fcgi:$run/two.example.sock",
                 'SetHandler "fcgi:' . $run . '/%{HTTP:X-Site}.sock"') {
        Private::spew($htaccess, "<Files show.php>\n$way\n</Files>\n");
        my $answer = Client->get($server->port, '/show.php',
                                 Host => 'one.example',
                                 'X-Site' => 'two.example');
        is($answer->status, 500, "no other's socket by .htaccess");
        unlike($answer->body, qr/64102/);
    }
    $server->ok_healthy;
    $pools->stop;
};

# ---- another host ----

subtest 'PHP-FPM on another host, with another document root' => sub {
    my $machine = Machine->start;
    # Where no other machine can be made, another address has to do.
    my $address = $machine ? $machine->address : '127.0.0.2';
    my $port = Private::reserve_port()->sockport;
    my $dir = Private::temp_dir('far');
    Private::spew("$dir/there/app/$_.php", $SHOW) for qw(show index);
    Private::spew("$dir/here/app/$_.php", 'only its name matters')
        for qw(show index);
    Private::spew("$dir/fpm.conf", <<"EOC");
[global]
error_log = $dir/log
[www]
@{[ $> == 0 ? "user = www-data\ngroup = www-data" : '' ]}
listen = $address:$port
pm = static
pm.max_children = 2
EOC
    my $pid = Private::spawn(
        log => "$dir/output", exec => [
            $machine ? $machine->under : (),
            PhpFpm::program(), '-n', '--nodaemonize', '--fpm-config',
            "$dir/fpm.conf"]);
    ok(Private::wait_until(10, sub {
        Private::slurp("$dir/log") =~ /ready to handle connections/;
    }), "it listens on $address");
    my $server = Httpd->start(
        vars => { DIR => "$dir", FAR => "fcgi:$address:$port" },
        config => <<'EOC');
# PHP-FPM on another host or in a container
DocumentRoot @DIR@/here
<Directory @DIR@/here>
  Require all granted
  DirectoryIndex index.php
  <FilesMatch "\.php$">
    SetHandler @FAR@
    FcgiDocumentRoot @DIR@/there
  </FilesMatch>
</Directory>
<Directory @DIR@/here/app>
  FallbackResource /app/index.php
</Directory>
EOC
    my $shown = shown($server, '/app/show.php/more?a=b');
    is_deeply([@$shown{qw(file SCRIPT_FILENAME DOCUMENT_ROOT PATH_TRANSLATED
                          SCRIPT_NAME PATH_INFO)}],
              ["$dir/there/app/show.php", "$dir/there/app/show.php",
               "$dir/there", undef, '/app/show.php', '/more'],
              'the paths are those of that host') or diag explain $shown;
    SKIP: {
        skip Machine::why_not(), 2 if !$machine;
        my $name = $machine->name;
        like($shown->{devices}, qr/^\s*${name}b:/m, 'it runs there');
        unlike($shown->{devices}, qr/^\s*${name}a:/m, 'and not here');
    }
    is(shown($server, '/app/')->{file}, "$dir/there/app/index.php",
       'an index');
    $shown = shown($server, '/app/users/7', @POST);
    is_deeply([@$shown{qw(file REQUEST_URI body)}],
              ["$dir/there/app/index.php", '/app/users/7', 150_000],
              'a front controller');
    is(fetch($server, '/app/missing.php')->status, 404, 'a missing script');
    $server->ok_healthy;
    Private::end($pid);
};

$httpd->ok_healthy;
done_testing;
