# What a page includes gets the form that was posted to the page, if mod_request
# keeps it.
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

# Answers "(METHOD LENGTH TYPE body)"; /page/... with a page that includes the
# URL in the query, .../go with a local redirect; .../early as soon as it has a
# part of the body, if there is one.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_params or return;
    my $early = $request->{params}{PATH_INFO} eq '/early';
    until ($request->{stdin_complete} || ($early && $request->{stdin})) {
        FcgiApp::Connection::add_record($request, $c->read_record || return);
    }
    my ($name, $path, $method, $length, $type, $query) =
        map { $_ // 'none' } @{ $request->{params} }{
            qw(SCRIPT_NAME PATH_INFO REQUEST_METHOD CONTENT_LENGTH
               CONTENT_TYPE QUERY_STRING) };
    return $c->reply("Location: /app/gone\r\n\r\n") if $path eq '/go';
    my $body = $request->{stdin};
    $body = length($body) . ' bytes ' . unpack('%32C*', $body)
        if length $body > 100;
    my $said = "($method $length $type $body)";
    $said .= qq(<!--#include virtual="$query" -->) if $name eq '/page';
    $c->reply("Content-Type: text/html\r\n\r\n$said");
}, workers => 4);

my $TYPE = 'application/x-www-form-urlencoded';
my $H2 = Httpd::mpm() ne 'prefork';
my %pages = (
    one => '<!--#include virtual="/app/x" -->',
    two => '<!--#include virtual="/app/x" -->'
        . '<!--#include virtual="/app/y?z" -->',
    nested => '<!--#include virtual="/kept/one.shtml" -->',
    go => '<!--#include virtual="/app/go" -->',
    streamed => '<!--#include virtual="/stream/x" -->',
    small => '<!--#include virtual="/small/x" -->',
    ht => '<!--#include virtual="/ht/x" -->',
    gone => '<!--#include virtual="/denied/x" -->',
);
my $httpd = Httpd->start(
    modules => [qw(include request rewrite)], http2 => $H2,
    vars => { APP => $app->handler },
    files => {
        (map { ("kept/$_.shtml" => $pages{$_}, "none/$_.shtml" => $pages{$_}) }
            keys %pages),
        'ht/.htaccess' => "RewriteEngine On\nRewriteRule ^(.*)\$ /app/\$1\n",
    },
    config => <<'EOC');
AddOutputFilter INCLUDES .shtml
<Directory @DOCROOT@>
  Options +Includes
</Directory>
<Location /kept>
  KeptBodySize 300000
</Location>
<Location /page>
  SetHandler @APP@
  KeptBodySize 300000
  Options +Includes
  SetOutputFilter INCLUDES
</Location>
<Location /page/early>
  FcgiRequestBuffering Off
</Location>
<Location /app>
  SetHandler @APP@
</Location>
<Location /stream>
  SetHandler @APP@
  FcgiRequestBuffering Off
</Location>
<Location /small>
  SetHandler @APP@
  FcgiBufferMemory 256
  FcgiBufferMax 512
</Location>
<Location /denied>
  Require all denied
  ErrorDocument 403 /app/sorry
</Location>
<Location /refused>
  Require all denied
  ErrorDocument 403 /kept/two.shtml
</Location>
<Location /refused/nested>
  ErrorDocument 403 /kept/nested.shtml
</Location>
EOC

# The bodies of answers to requests on one connection.
sub posted {
    my ($path, $body, %opt) = @_;
    my $method = $opt{method} // 'POST';
    my $head = "$method $path HTTP/" . ($opt{version} // '1.1')
        . "\r\nHost: x\r\nContent-Type: $TYPE\r\n";
    my $bytes = $opt{chunked}
        ? "Transfer-Encoding: chunked\r\n\r\n"
            . sprintf("%x\r\n%s\r\n0\r\n\r\n", length $body, $body)
        : 'Content-Length: ' . length($body) . "\r\n\r\n$body";
    my $conn = Client->connect($httpd->port);
    my @bodies;
    for (1 .. 2) {
        $conn->send($head . $bytes);
        push @bodies, $conn->read_response->body;
        last if $opt{version};
    }
    push @bodies, $bodies[0] if $opt{version};
    is($bodies[1], $bodies[0], "$path: the next request, too");
    return $bodies[0];
}

my $form = "(POST 7 $TYPE a=1&b=2)";
my $none = "(GET none $TYPE )";

subtest 'a page with a form' => sub {
    for my $chunked (0, 1) {
        my $seen = sub { posted($_[0], 'a=1&b=2', chunked => $chunked) };
        is($seen->('/kept/one.shtml'), $form, 'the script has it');
        is($seen->('/kept/two.shtml'), $form x 2, 'both have');
        is($seen->('/kept/nested.shtml'), $form, 'a page in a page');
        is($seen->('/kept/streamed.shtml'), $form, 'without buffering');
        is($seen->('/kept/small.shtml'), $form, 'in little memory');
        is($seen->('/kept/ht.shtml'), $form, 'a rewritten subrequest');
        is($seen->('/page/x?/app/x'), $form x 2, 'a page of an application');
        is($seen->("/none/$_.shtml"), $none, 'not without KeptBodySize')
            for qw(one nested streamed);
    }
    is(posted('/kept/one.shtml', 'a=1&b=2', version => '1.0'), $form,
       'HTTP/1.0');
    is(posted('/kept/one.shtml', ''), "(POST 0 $TYPE )", 'an empty one');
    is(Client->get($httpd->port, '/kept/one.shtml')->body, '(GET 0 none )',
       'GET');
};

subtest 'who gets none' => sub {
    unlike(posted('/kept/go.shtml', 'a=1&b=2'), qr/a=1/,
           'where the script redirects to');
    unlike(posted('/kept/gone.shtml', 'a=1&b=2'), qr/a=1/, 'an error page');
    for my $chunked (0, 1) {
        is(posted('/refused', 'a=1&b=2', chunked => $chunked), $none x 2,
           'what an error page includes');
        is(posted('/refused/nested', 'a=1&b=2', chunked => $chunked), $none,
           'however deep');
    }
};

subtest 'large bodies' => sub {
    my $body = join '', map { chr(32 + $_ % 90) } 1 .. 250_000;
    my $sum = "250000 bytes " . unpack '%32C*', $body;
    for my $chunked (0, 1) {
        is(posted('/kept/two.shtml', $body, chunked => $chunked),
           "(POST 250000 $TYPE $sum)" x 2, 'whole, for both');
        unlike(posted('/kept/small.shtml', $body, chunked => $chunked),
               qr/POST/, 'FcgiBufferMax');
    }
    my $answer = Client->request($httpd->port,
        "POST /kept/one.shtml HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        . "Content-Length: 300001\r\n\r\n" . 'x' x 300_001);
    is($answer->status, 413, 'larger than KeptBodySize');
};

# mod_request's filter crashes where its body is streamed.
subtest 'a body that is kept is not streamed' => sub {
    my $conn = Client->connect($httpd->port);
    $conn->send("POST /page/early?/app/x HTTP/1.1\r\nHost: x\r\n"
                . "Content-Type: $TYPE\r\nContent-Length: 2000\r\n\r\n"
                . 'x' x 1000);
    is($conn->read_until(qr/./, 0.5), undef, 'no answer to a part of it');
    $conn->send('y' x 1000);
    my $said = "(POST 2000 $TYPE 2000 bytes " . (1000 * (ord('x') + ord 'y'))
        . ')';
    is($conn->read_response->body, $said x 2, 'both have all of it');
};

subtest 'HTTP/2' => sub {
    plan skip_all => 'no HTTP/2 on prefork' if !$H2;
    my $answer = Client::curl('--http2-prior-knowledge', '-d', 'a=1&b=2',
        'http://127.0.0.1:' . $httpd->port . '/page/x?/app/x');
    is($answer->{body}, $form x 2, 'the same');
};

subtest 'PHP-FPM' => sub {
    plan skip_all => 'no php-fpm here' if !PhpFpm::program();
    my $php = PhpFpm->start;
    my $site = Httpd->start(
        modules => [qw(include request)], vars => { PHP => $php->handler },
        files => { 'form.php' => '<?php echo "[$_POST[name]]";',
                   'page.shtml' => '<!--#include virtual="form.php" -->' },
        config => <<'EOC');
AddOutputFilter INCLUDES .shtml
AddHandler @PHP@ .php
<Directory @DOCROOT@>
  Options +Includes
  KeptBodySize 1000
</Directory>
EOC
    my $answer = Client->request($site->port,
        "POST /page.shtml HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        . "Content-Type: $TYPE\r\nContent-Length: 9\r\n\r\nname=J%2E");
    is($answer->body, '[J.]', 'has $_POST');
    $site->ok_healthy;
};

$httpd->ok_healthy;
done_testing;
