# A request that waits without a thread ends as any other, however it came to us.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use IO::Socket::SSL;
use Private;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'it takes the event MPM of httpd 2.4.63 or later'
    if !Httpd::can_park();

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $HAS_SECURITY = Httpd::has_module('security2');

# The last part of SCRIPT_NAME and PATH_INFO says what the application does:
#     echo       its URL, and the body's length
#     fail       404, without a body
#     accel, local, file   the redirect that QUERY_STRING names
#     hold       reports "begun", and answers when the test says "go"
#     die        the first time it dies
#     cut        answers a part, and dies
sub serve {
    my ($c) = @_;
    while (my $request = $c->read_request) {
        my $params = $request->{params};
        my $path = $params->{SCRIPT_NAME} . ($params->{PATH_INFO} // '');
        my ($what) = $path =~ /(\w+)(?:\.\w+)?$/;
        my $query = $params->{QUERY_STRING};
        return if !answer($c, $what, $query, $params, $request);
    }
    return;
}

sub answer {
    my ($c, $what, $query, $params, $request) = @_;
    return $c->reply("Status: 404\r\n$HEAD") if $what eq 'fail';
    return $c->reply("X-Accel-Redirect: $query\r\n\r\n") if $what eq 'accel';
    return $c->reply("Location: $query\r\n\r\n") if $what eq 'local';
    return $c->reply("X-Sendfile: $query\r\n\r\n") if $what eq 'file';
    return hold($c, $query) if $what eq 'hold';
    if ($what eq 'die' && !$c->wait_release('died', 0)) {
        $c->report(died => 1);
        return 0;
    }
    if ($what eq 'cut') {
        $c->stdout("${HEAD}part");
        $c->wait_release('cut', 10);
        return 0;
    }
    return $c->reply("${HEAD}$params->{REQUEST_URI} "
                     . length($request->{stdin} // '')
                     . ($query eq 'long' ? 'x' x 1000 : ''));
}

sub hold {
    my ($c, $name) = @_;
    $c->report(begun => $name);
    Private::wait_until(20, sub {
        $c->readable(0.02) || $c->wait_release("go $name", 0);
    });
    return $c->reply("${HEAD}held $name") if !$c->readable;
    my $aborted = 0;
    while (my $record = eval { $c->read_record(2) }) {
        $aborted ||= $record->{type} == FCGI_ABORT_REQUEST;
    }
    $c->report(left => { aborted => $aborted, closed => $c->{eof} });
    return 0;
}

my $app = FcgiApp->start(\&serve, workers => 6);
my $httpd = Httpd->start(
    tls => 1, vars => { APP => $app->handler, ADDRESS => $app->address },
    modules => [qw(rewrite actions headers filter deflate),
                $HAS_SECURITY ? qw(unique_id security2) : ()],
    log_level => 'info fastcgi_handler:trace4',
    access_format =>
        '\"%r\\" %>s %B %X %{fcgi-backend}n %{fcgi-tries}n %{fcgi-total}n',
    files => {
        'site/.htaccess' => "RewriteEngine On\nRewriteRule ^pretty/(.*)"
            . " echo.fcgi?\$1 [L]\n",
        (map { ("site/$_.fcgi" => '') } qw(echo fail accel local file)),
        'site/page.act' => '', 'site/static.txt' => 'static',
        'site/big.txt' => 'y' x 200_000,
    },
    tls_config => <<'EOC', config => <<'EOC2');
FcgiPark 0
<Location /app>
  SetHandler @APP@
</Location>
EOC
FcgiPark 0
FcgiBackend kept @ADDRESS@ max=1 keepalive=1
<Location /app>
  SetHandler @APP@
</Location>
<Location /app/stream>
  FcgiRequestBuffering Off
</Location>
<Location /app/zip>
  SetOutputFilter DEFLATE
  Header set X-Mark here
</Location>
<Directory @DOCROOT@/site>
  AddHandler @APP@ .fcgi
  AddHandler act .act
  Action act /site/echo.fcgi
  FcgiSendfile @DOCROOT@/site
  FcgiErrorOverride On 404
</Directory>
ErrorDocument 404 /app/echo?page
ErrorDocument 400 /app/echo?refused
ErrorDocument 403 /app/echo?refused
ErrorDocument 414 /app/echo?refused
ErrorDocument 417 /app/echo?refused
LimitRequestLine 500
<IfModule security2_module>
  SecRuleEngine On
  SecRule REQUEST_URI "@contains evil" "id:1,phase:1,deny,status:403"
</IfModule>
EOC2

sub parked {
    my $count = () = $httpd->error_log =~ /waits without a thread/g;
    return $count;
}

my $seen = 0;

# So many requests were parked since the last time.
sub is_parked {
    my ($count, $name) = @_;
    my $now = parked();
    is($now - $seen, $count, "$name: parked $count times");
    $seen = $now;
    return;
}

sub access_lines {
    my ($path) = @_;
    $httpd->wait_for_access(qr/"\w+ \Q$path\E HTTP/);
    my @lines = grep { /"\w+ \Q$path\E HTTP/ }
        split /\n/, $httpd->access_log;
    return @lines;
}

# path => what it gives, status, times parked
my @ways = (
    ['/app/echo?plain' => qr/^\S+plain 0$/, 200, 1],
    ['/site/echo.fcgi?file' => qr/^\S+file 0$/, 200, 1],
    ['/site/pretty/a' => qr{^/site/pretty/a 0$}, 200, 1],
    ['/site/page.act' => qr{^/site/page.act 0$}, 200, 1],
    ['/nowhere' => qr{^/nowhere 0$}, 404, 1],
    ['/site/fail.fcgi' => qr{^/site/fail.fcgi 0$}, 404, 2],
    ['/site/accel.fcgi?/app/echo' => qr{0$}, 200, 2],
    ['/site/accel.fcgi?/site/static.txt' => qr/^static$/, 200, 1],
    ['/site/local.fcgi?/site/pretty/b' => qr{0$}, 200, 2],
    ['/site/local.fcgi?/nowhere' => qr{0$}, 404, 2],
    ['/site/file.fcgi?' . $httpd->docroot . '/site/big.txt'
        => qr/^y{60000}y+$/, 200, 1],
    ['/app/echo' => qr{0$}, 200, 1],
);
for my $way (@ways) {
    my ($path, $body, $status, $times) = @$way;
    my $answer = Client->get($httpd->port, $path);
    ok($answer->complete, "$path: whole") or diag($answer->error);
    is($answer->status, $status, "$path: $status");
    like($answer->body, $body, "$path: its body");
    is_parked($times, $path);
    my @lines = access_lines($path);
    is(scalar(@lines), 1, "$path: one line in the access log");
    like($lines[0], qr/" $status \d+ - fcgi:\S+ 1 \d+$/,
         "$path: with status and notes");
}

# Two at once, HTTP/1.0, POST.
my $conn = Client->connect($httpd->port);
$conn->send("GET /app/hold?pipe HTTP/1.1\r\nHost: x\r\n\r\n"
            . "POST /app/echo?second HTTP/1.1\r\nHost: x\r\n"
            . "Content-Length: 3\r\n\r\nabc");
is($app->wait_report('begun'), 'pipe', 'the first of two waits');
$app->release('go pipe');
is($conn->read_response->body, 'held pipe', 'its answer');
is($conn->read_response->body, '/app/echo?second 3', 'and the second\'s');
$conn->send("GET /app/hold?late HTTP/1.1\r\nHost: x\r\n\r\n");
is($app->wait_report('begun'), 'late', 'a third waits');
$conn->send("GET /app/echo?fourth HTTP/1.1\r\nHost: x\r\n\r\n");
$app->release('go late');
is($conn->read_response->body, 'held late', 'its answer');
is($conn->read_response->body, '/app/echo?fourth 0',
   'and that of one that came meanwhile');
$conn->close;
is_parked(4, 'four on a connection');
my $old = Client->request($httpd->port, "GET /app/echo?old HTTP/1.0\r\n\r\n");
is($old->body, '/app/echo?old 0', 'HTTP/1.0');
is_parked(1, 'HTTP/1.0');

# Error pages of requests that httpd refuses while it reads them.
my %refused = (
    400 => "GET /none HTTP/1.1\r\n\r\n",
    414 => 'GET /' . 'x' x 600 . " HTTP/1.1\r\nHost: x\r\n\r\n",
    417 => "GET /none HTTP/1.1\r\nHost: x\r\nExpect: much\r\n\r\n"
        . "GET /app/echo HTTP/1.1\r\nHost: x\r\n\r\n",
    $HAS_SECURITY
        ? (403 => "GET /evil HTTP/1.1\r\nHost: x\r\n\r\n") : (),
);
for my $status (sort keys %refused) {
    my $refused = Client->connect($httpd->port);
    $refused->send($refused{$status});
    my $page = $refused->read_response;
    is($page->status, $status, "refused with $status");
    ok($page->complete, 'and a whole page');
    like($page->body, qr{^/\S* 0$}, 'of the application\'s');
    ok($refused->at_eof, 'then the connection is closed');
    is_parked(1, $status);
    ok($httpd->wait_for_access(qr/" $status \d+ - fcgi:\S+ 1 \d+$/m),
       'the access log says so');
}

# Filters.
my $zip = Client->get($httpd->port, '/app/zip/echo?long',
                      'Accept-Encoding' => 'gzip');
is($zip->header('Content-Encoding'), 'gzip', 'a filter packs it');
is($zip->header('X-Mark'), 'here', 'another adds a field');
ok($zip->complete, 'and it is whole');
is_parked(1, 'filters');

# A body that comes slowly, streamed.
$conn = Client->connect($httpd->port);
$conn->send("POST /app/stream/echo?slow HTTP/1.1\r\nHost: x\r\n"
            . "Content-Length: 6\r\n\r\nabc");
ok(Private::wait_until(10, sub { parked() > $seen }), 'it waits for a client');
$conn->send('def');
is($conn->read_response->body, '/app/stream/echo?slow 6',
   'the body is streamed');
$conn->send("GET /app/echo?behind HTTP/1.1\r\nHost: x\r\n\r\n");
is($conn->read_response->body, '/app/echo?behind 0', 'and its end is known');
is_parked(2, 'streamed');

# TLS.
my $tls = IO::Socket::SSL->new(
    PeerAddr => '127.0.0.1', PeerPort => $httpd->tls_port,
    SSL_verify_mode => SSL_VERIFY_NONE) or die $IO::Socket::SSL::SSL_ERROR;
for my $n (1, 2) {
    print {$tls} "GET /app/echo?tls$n HTTP/1.1\r\nHost: x\r\n\r\n";
    my $got = '';
    1 while $got !~ /tls$n 0/ && sysread($tls, $got, 4096, length $got);
    like($got, qr/tls$n 0/, "TLS, request $n of a connection");
}
close $tls;
is_parked(2, 'TLS');

# The application dies, before its answer and in it.
my $again = Client->connect($httpd->port);
$again->send("GET /app/die HTTP/1.1\r\nHost: x\r\n\r\n");
ok($app->wait_report('died'), 'it died');
$app->release('died');
my $answer = $again->read_response;
is($answer->status, 200, 'one that dies young is asked again');
like((access_lines('/app/die'))[0], qr/ 2 \d+$/, 'at its second try');
$again->close;
is_parked(1, 'asked again');
my $cut = Client->connect($httpd->port);
$cut->send("GET /app/cut HTTP/1.1\r\nHost: x\r\n\r\n");
ok($cut->read_until(qr/part/), 'a part of an answer');
$app->release('cut');
$answer = $cut->read_response;
ok(!$answer->complete, 'one that is cut looks cut');
like((access_lines('/app/cut'))[0], qr/" 200 \d+ X /,
     'in the access log as well');

# Clients that leave.
for my $how (qw(close reset)) {
    my $leaver = Client->connect($httpd->port);
    $leaver->send("GET /app/hold?$how HTTP/1.1\r\nHost: x\r\n\r\n");
    is($app->wait_report('begun'), $how, 'a client that will leave');
    $leaver->$how;
    my $left = $app->wait_report('left', 5);
    ok($left && $left->{aborted} && $left->{closed},
       "$how: the application is told and left");
    like((access_lines("/app/hold?$how"))[0], qr/" 499 0 X /,
         "$how: the access log says so");
}
ok($httpd->wait_for_log(qr/FCGI09: .*the client closed/), 'and the error log');
$httpd->ok_healthy;
done_testing();
