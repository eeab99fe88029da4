# An application that owns a URL is asked for all that is below it.
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

$_->leave for @servers;
Httpd->ok_left;
done_testing;
