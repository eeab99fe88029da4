# mod_proxy_fastcgi serves the configurations of mod_proxy_fcgi as they are.
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

sub check {
    my (%opt) = @_;
    my ($status, $output) = Httpd->configtest(%opt);
    return "$status $output";
}

subtest 'what has to be loaded' => sub {
    like(check(modules => [qw(proxy proxy_fastcgi)]), qr/^0 .*Syntax OK/s,
         'mod_proxy and both modules');
    my $alone = check(modules => [qw(proxy proxy_fastcgi)], module => 0);
    unlike($alone, qr/^0 /, 'without the first module');
    like($alone, qr/FCGI43: .*load that, too/, 'the log says what is missing');
    unlike(check(modules => ['proxy_fastcgi']), qr/^0 /, 'without mod_proxy');
    like(check(modules => []), qr/^0 /, 'the first needs none of them');
};

subtest 'directives' => sub {
    my @modules = (modules => [qw(proxy proxy_fastcgi)]);
    like(check(@modules, config => $_->[0]), $_->[1], $_->[0]) for
        ['ProxyFCGIBackendType OTHER', qr/'OTHER' is not FPM or GENERIC/],
        ['ProxyFCGISetEnvIf true !X y', qr/write !NAME, and no value/],
        ['ProxyFCGISetEnvIf true !', qr/write !NAME, and no value/],
        ['ProxyFCGISetEnvIf "a b" X y', qr/'a b'/],
        ['ProxyFCGISetEnvIf true X y', qr/Syntax OK/];
};

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    $c->reply("Content-Type: text/plain\r\n\r\n$request->{stdin}");
}, workers => 2);
my $url = $app->{port} ? 'fcgi://' . $app->address
    : 'unix:' . $app->address . '|fcgi://localhost';
my $CONFIG = <<'EOC';
ProxyPass /pass @URL@/x
<Location /handler>
  SetHandler "proxy:@URL@"
</Location>
EOC

sub serves {
    my ($httpd, $path) = @_;
    my $port = $httpd->port;
    my $body = 'x' x 100_000;
    my $answer = Client->request(
        $port, "POST $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        . "Transfer-Encoding: chunked\r\n\r\n186a0\r\n$body\r\n0\r\n\r\n");
    is($answer->status, 200, "$path is served");
    ok($answer->body eq $body, 'with its body');
    return;
}

for my $modules ([qw(proxy proxy_fcgi proxy_fastcgi)],
                 [qw(proxy proxy_fastcgi proxy_fcgi)],
                 [qw(proxy proxy_fastcgi)]) {
    subtest "@$modules" => sub {
        my $httpd = Httpd->start(modules => $modules, vars => { URL => $url },
                                 config => $CONFIG, log_level => 'debug');
        serves($httpd, $_) for '/pass/y', '/handler/z';
        unlike($httpd->error_log, qr/\[proxy_fcgi:/,
               'mod_proxy_fcgi has no part in it');
        $httpd->ok_healthy;
    };
}

subtest 'what fails' => sub {
    my $missing = Private::temp_dir('nobody') . '/none.sock';
    my $httpd = Httpd->start(
        modules => [qw(proxy proxy_fastcgi)], config => <<"EOC");
FcgiConnectTimeout 50ms
ProxyPass /none unix:$missing|fcgi://localhost/x
EOC
    my $answer = Client->get($httpd->port, '/none/y');
    is($answer->status, 503, 'nobody is there');
    is($answer->header('Retry-After'), 1, 'and may be later');
    like($httpd->error_log, qr/FCGI01: fcgi:\Q$missing\E: no connection/,
         'the log has the one line');
    my $port = $httpd->port;
    is(Client->get($port, '/none/%0A')->status, 503, 'an encoded line end');
    $httpd->ok_healthy;
};

subtest 'the body of a request that was refused' => sub {
    my $seen = FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request or return;
        my $params = $request->{params};
        $c->report(asked => $params->{REQUEST_URI});
        $c->reply("Content-Type: text/plain\r\n\r\npage "
                  . ($params->{CONTENT_LENGTH} // 'none')
                  . " $request->{stdin}");
    }, transport => 'tcp');
    my $httpd = Httpd->start(
        modules => [qw(proxy proxy_fastcgi)], files => { 'a.txt' => 'text' },
        vars => { APP => $seen->address }, config => <<'EOC');
ErrorDocument 403 /page
ProxyPass /page fcgi://@APP@/x
ProxyPass /inner fcgi://@APP@/y
<Location /secret>
  Require all denied
</Location>
EOC
    my $body = "GET /inner HTTP/1.1\r\nHost: x\r\n\r\n";
    for my $coding ('Content-Length: ' . length $body,
                    'Transfer-Encoding: chunked') {
        my $conn = Client->connect($httpd->port);
        my $sent = $coding =~ /chunked/
            ? sprintf "%x\r\n%s\r\n0\r\n\r\n", length $body, $body : $body;
        $conn->send("POST /secret HTTP/1.1\r\nHost: x\r\n$coding\r\n\r\n$sent"
                    . "GET /a.txt HTTP/1.1\r\nHost: x\r\n"
                    . "Connection: close\r\n\r\n");
        my $answer = $conn->read_response(method => 'POST');
        is($answer->status, 403, "refused, $coding");
        is($answer->body, 'page none ', 'its page has no body');
        is($conn->read_response->body, 'text', 'then the next request');
    }
    is(join(' ', map { $_->[1] } $seen->reports), '/secret /secret',
       'no body was taken for a request');
    $httpd->ok_healthy;
};

subtest "the php-fpm package's own file" => sub {
    my ($file) = sort glob '/etc/apache2/conf-available/php*-fpm.conf';
    plan skip_all => 'no such package here' if !$file || !PhpFpm::program();
    my $php = PhpFpm->start(transport => 'unix');
    my $text = Private::slurp($file);
    my $count = $text =~ s{unix:/run/php/php[\d.]+-fpm\.sock}
                          {unix:@{[ $php->address ]}}g;
    ok($count, 'names a socket');
    my $httpd = Httpd->start(
        modules => [qw(proxy proxy_fcgi proxy_fastcgi)],
        files => { 'a.php' => <<'PHP' }, config => $text);
<?php
echo implode('|', [$_SERVER['SCRIPT_FILENAME'], $_SERVER['SCRIPT_NAME'],
          $_SERVER['PATH_INFO'] ?? '', $_SERVER['PHP_SELF'],
          $_SERVER['PHP_AUTH_USER'] ?? '', file_get_contents('php://input')]);
PHP
    my $conn = Client->connect($httpd->port);
    $conn->send("POST /a.php/in/fo HTTP/1.1\r\nHost: x\r\n"
                . "Authorization: Basic dXNlcjpw\r\nConnection: close\r\n"
                . "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n");
    is($conn->read_response->body, $httpd->docroot
       . '/a.php|/a.php|/in/fo|/a.php/in/fo|user|body', 'PHP has it all');
    is(Client->get($httpd->port, '/none.php')->status, 404,
       'PHP-FPM says what is not there');
    like($httpd->error_log, qr/FCGI26: backend fcgi:\Q@{[ $php->address ]}\E/,
         'the backend is known at startup');
    like($httpd->error_log, qr/FCGI10.*Primary script unknown/,
         'and stderr is in the log');
    $httpd->ok_healthy;
};

done_testing;
