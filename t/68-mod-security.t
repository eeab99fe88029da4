# What mod_security says of an answer reaches the client, in its place.
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

plan skip_all => 'no mod_security2 for this httpd'
    if !Httpd::has_module('security2');

my $H2 = Httpd::mpm() ne 'prefork';
my $HEAD = "Content-Type: text/html\r\n";

# /PLACE/x?BYTES[,PIECE]: so much, in pieces if asked for, and a bad word.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my ($bytes, $piece) =
        split /,/, $request->{params}{QUERY_STRING};
    return fail_later($c, $1) if $bytes =~ /^(\D+)$/;
    my $body = ('x' x ($bytes - 8)) . ' secret.';
    return $c->reply("${HEAD}X-Kind: app\r\n\r\n$body") if !$piece;
    $c->stdout("${HEAD}X-Kind: app\r\n\r\n");
    while (length $body) {
        $c->stdout(substr $body, 0, $piece, '') or return;
        select undef, undef, undef, 0.01;
    }
    $c->end;
}, workers => 4);

# It fails, or works on, once the filter has answered in its place.
sub fail_later {
    my ($c, $how) = @_;
    $c->stdout("${HEAD}X-Kind: app\r\n\r\n" . 'x' x 20_000);
    return $c->wait_release('end', 10) if $how eq 'on';
    select undef, undef, undef, 0.1;
    $c->send("\x07" x 16) if $how eq 'bad';
    $c->wait_eof(5) if $how eq 'silent';
    return;
}

my $httpd = Httpd->start(
    tls => 1, http2 => $H2, modules => [qw(unique_id security2 include)],
    vars => { APP => $app->handler },
    files => { 'denied.html' => 'a page for what is denied',
               'ssi/a.shtml' => 'before <!--#include virtual="/good/x?20000" '
                   . '--> after',
               'ssi/b.shtml' => 'before <!--#include virtual="/good/x?20000,'
                   . '3000" --> after' },
    config => <<'EOC');
SecRuleEngine On
SecResponseBodyAccess On
SecResponseBodyMimeType text/html
SecDataDir @ROOT@/tmp
SecTmpDir @ROOT@/tmp
SecAuditEngine Off
<Location /limit/>
  SetHandler @APP@
  SecResponseBodyLimit 10000
  SecResponseBodyLimitAction Reject
</Location>
<Location /head/>
  SetHandler @APP@
  SecRule RESPONSE_HEADERS:X-Kind app "id:1,phase:3,deny,status:500"
</Location>
<Location /body/>
  SetHandler @APP@
  SecRule RESPONSE_BODY secret "id:2,phase:4,deny,status:403"
</Location>
<Location /page/>
  SetHandler @APP@
  SecRule RESPONSE_BODY secret "id:3,phase:4,deny,status:403"
  ErrorDocument 403 /denied.html
</Location>
<Location /good/>
  SetHandler @APP@
</Location>
<Location /on/>
  SetHandler @APP@
  FcgiIgnoreClientAbort On
  FcgiTimeout 1
  SecResponseBodyLimit 10000
  SecResponseBodyLimitAction Reject
</Location>
<Location /ssi/>
  Options +Includes
  AddType text/html .shtml
  SetOutputFilter INCLUDES
  SecResponseBodyLimit 10000
  SecResponseBodyLimitAction Reject
</Location>
EOC

my %over = (
    'HTTP/1.0' => sub {
        my $got = Client->request($httpd->port, "GET $_[0] HTTP/1.0\r\n"
                                  . "Host: localhost\r\n\r\n");
        return ($got->status, $got->body, $got->complete);
    },
    'HTTP/1.1' => sub {
        my $got = Client->get($httpd->port, $_[0]);
        return ($got->status, $got->body, $got->complete);
    },
    'TLS' => sub {
        my $got = Client::curl('--http1.1', '-sk', 'https://127.0.0.1:'
                               . $httpd->tls_port . $_[0]);
        return (@$got{qw(status body)}, $got->{exit} == 0);
    },
    $H2 ? ('HTTP/2' => sub {
        my $got = Client::curl('--http2-prior-knowledge', '-s',
                               'http://127.0.0.1:' . $httpd->port . $_[0]);
        return (@$got{qw(status body)}, $got->{exit} == 0);
    }) : (),
);

# [where, how much, status, its page]
my @denied = (
    ['limit', '20000', 500, qr/Internal Server Error/],
    ['limit', '20000,3000', 500, qr/Internal Server Error/],
    ['limit', '500000', 500, qr/Internal Server Error/],
    ['head', '100', 500, qr/Internal Server Error/],
    ['head', '90000', 500, qr/Internal Server Error/],
    ['head', '9000,3000', 500, qr/Internal Server Error/],
    ['body', '100', 403, qr/Forbidden/],
    ['body', '90000', 403, qr/Forbidden/],
    ['body', '9000,3000', 403, qr/Forbidden/],
    ['page', '100', 403, qr/\Aa page for what is denied\z/],
    ['page', '9000,3000', 403, qr/\Aa page for what is denied\z/],
);

for my $protocol (sort keys %over) {
    subtest "$protocol, a page that includes the application" => sub {
        for my $page (qw(a b)) {
            my @got = $over{$protocol}->("/ssi/$page.shtml");
            is($got[0], 500, "$page: 500");
            like($got[1], qr/Internal Server Error/, "httpd's page");
            ok($got[2], 'which is whole');
        }
    };
    subtest "$protocol, an application that fails afterwards" => sub {
        for my $how (qw(dies bad silent)) {
            my @got = $over{$protocol}->("/on/x?$how");
            is($got[0], 500, "$how: 500");
            like($got[1], qr/Internal Server Error/, "httpd's page");
            ok($got[2], 'which is whole');
        }
    };
    subtest $protocol => sub {
        for my $case (@denied) {
            my ($place, $size, $status, $page) = @$case;
            my $before = $httpd->error_log;
            my @got = $over{$protocol}->("/$place/x?$size");
            is($got[0], $status, "$place, $size: $status");
            like($got[1], $page, 'with its page');
            ok($got[2], 'which is whole');
            ok(Private::wait_until(5, sub {
                substr($httpd->error_log, length $before)
                    =~ /:info\].*FCGI31:.*answered in place/;
            }), 'the log says who answered') or diag $httpd->error_log;
        }
        my @good = $over{$protocol}->('/good/x?90000,30000');
        is("$good[0] " . length $good[1], '200 90000', 'what is allowed');
    };
}

subtest 'an application that works on' => sub {
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /on/x?on HTTP/1.1\r\nHost: x\r\n\r\n");
    my $answer = $conn->read_response(timeout => 5);
    is($answer->status, 500, 'is not waited for');
    ok($answer->complete, 'by its client');
    $app->release('end');
};

ok($httpd->error_log !~ /FCGI09/, 'nobody is said to have left')
    or diag grep { /FCGI09/ } split /^/m, $httpd->error_log;
$httpd->ok_healthy;
done_testing;
