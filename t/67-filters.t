# A filter that fails or answers itself never makes a whole answer of a part.
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

my $H2 = Httpd::mpm() ne 'prefork';
my $HEAD = "Content-Type: text/plain\r\n";
my $BODY = join '', map { sprintf "%07d\n", $_ } 1 .. 1000;     # 8000 bytes

my $dir = Private::temp_dir('files');
Private::spew("$dir/file", $BODY);

# ?HOW: what the application does once it has the request.
my %says = (
    at_once => sub { $_[0]->reply("$HEAD\r\n$BODY") },
    length => sub { $_[0]->reply("${HEAD}Content-Length: 8000\r\n\r\n$BODY") },
    pieces => sub {
        my ($c) = @_;
        $c->stdout("$HEAD\r\n");
        for my $at (0 .. 79) {
            $c->stdout(substr $BODY, $at * 100, 100) or last;
            select undef, undef, undef, 0.002;
        }
        $c->end;
    },
    alone => sub {
        my ($c) = @_;
        $c->stdout("$HEAD\r\n$BODY");
        $c->report(finished => 1) if $c->stdout($BODY x 20) && $c->end;
    },
    file => sub { $_[0]->reply("${HEAD}X-Sendfile: $dir/file\r\n\r\n") },
    page => sub { $_[0]->reply("$HEAD\r\nthe page of the site") },
    cached => sub {
        $_[0]->reply("${HEAD}Cache-Control: max-age=600\r\n\r\n$BODY");
    },
);

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $how = $request->{params}{QUERY_STRING} =~ s/\W.*//r;
    $c->report(asked => $how);
    $says{$how}->($c);
}, workers => 4);

# Our test's own module.
my $build = Private::temp_dir('filter');
Private::spew("$build/mod_failing_filter.c",
              Private::slurp("$Bin/unit/mod_failing_filter.c"));
my ($failed, $output) = Private::run('sh', '-c',
    "cd $build && apxs -c -Wc,-Wall mod_failing_filter.c");
die $output if $failed;

my $httpd = Httpd->start(
    tls => 1, http2 => $H2,
    modules => [qw(rewrite cache cache_disk headers)],
    vars => { APP => $app->handler, BUILD => $build, DIR => $dir },
    files => {
        'to/.htaccess' => "RewriteEngine On\nRewriteRule . /off/x [L]",
        'to/on/.htaccess' => "RewriteEngine On\nRewriteRule . /on/x [L]",
        'static.html' => 'a static page',
    },
    config => <<'EOC');
LoadModule failing_filter_module @BUILD@/.libs/mod_failing_filter.so
CacheRoot @ROOT@/tmp
CacheQuickHandler Off
<Location />
  SetOutputFilter FAILING
</Location>
<LocationMatch "^/(?:on|off|static|paged|cache)/">
  SetHandler @APP@
  FcgiSendfile @DIR@
</LocationMatch>
<LocationMatch "^/(?:on|cache)/">
  FcgiIgnoreClientAbort On
</LocationMatch>
<Location /static/>
  ErrorDocument 403 /static.html
</Location>
<Location /paged/>
  ErrorDocument 403 /off/page?page
</Location>
<Location /cache/>
  CacheEnable disk
  SetOutputFilter FAILING;CACHE
</Location>
EOC

# Where a request may come in, and by which protocol: a function that gives
# [status, body, whether it is complete].
my %over = (
    'HTTP/1.0' => sub {
        my ($url, $order) = @_;
        return judge(Client->request($httpd->port, "GET $url HTTP/1.0\r\n"
            . "Host: localhost\r\nX-Filter: $order\r\n\r\n"));
    },
    'HTTP/1.1' => sub {
        my ($url, $order) = @_;
        return judge(Client->get($httpd->port, $url, 'X-Filter' => $order));
    },
    'kept alive' => sub {
        my ($url, $order) = @_;
        my $conn = Client->connect($httpd->port);
        $conn->send("GET $url HTTP/1.1\r\nHost: localhost\r\n"
                    . "X-Filter: $order\r\n\r\n");
        my $judged = judge($conn->read_response);
        return $judged if !$judged->[2];
        # what comes next on the connection is right, or it is closed
        $conn->send("GET /off/x?page HTTP/1.1\r\nHost: localhost\r\n\r\n");
        my $next = $conn->read_response;
        push @$judged, $next->body if $next->body ne '';
        return $judged;
    },
    $H2 ? ('HTTP/2' => sub {
        my ($url, $order) = @_;
        my $got = Client::curl('--http2-prior-knowledge', '-s', '-H',
            "X-Filter: $order", 'http://127.0.0.1:' . $httpd->port . $url);
        return [@$got{qw(status body)}, $got->{exit} == 0 ? 1 : 0];
    }) : (),
);

sub judge {
    my ($answer) = @_;
    return [$answer->status, $answer->body, $answer->complete ? 1 : 0];
}

# The new lines of our module's in the log, once there are any.
sub new_lines {
    my ($before) = @_;
    my @lines;
    Private::wait_until(10, sub {
        @lines = grep { /FCGI\d\d/ }
            split /\n/, substr $httpd->error_log, length $before;
    });
    return @lines;
}

for my $protocol (sort keys %over) {
    for my $place (qw(/off /on /to /to/on)) {
        for my $how (qw(at_once length pieces file)) {
            subtest "$protocol, $place, $how: in the middle" => sub {
                my $before = $httpd->error_log;
                my ($status, $body, $complete) =
                    @{ $over{$protocol}->("$place/x?$how", 'pass 4000 fail') };
                my $shows = $protocol ne 'HTTP/2' || Httpd::h2_shows_cuts()
                    || $how =~ /length|file/;
                if ($shows) {
                    ok(!$complete, 'what is not whole is not taken for whole')
                        or diag "$status, " . length($body) . ' bytes';
                }
                ok(length $body <= 4000 && $body eq substr($BODY, 0,
                   length $body), 'a part of the answer at most');
                my @lines = new_lines($before);
                is(scalar @lines, 1, 'one line') or diag join "\n", @lines;
                like($lines[0] // '', qr/:error\].*FCGI31:.*refused\ by\ a
                     \ filter.*an\ output\ filter\ failed/x,
                     'that blames the filter');
            };
        }
    }
    for my $order ('pass 0 fail', 'hold 4000 fail', 'hold 8000 fail') {
        for my $how (qw(at_once pieces file)) {
            subtest "$protocol, $how, $order: nothing is out" => sub {
                my $before = $httpd->error_log;
                my ($status, $body, $complete) =
                    @{ $over{$protocol}->("/off/x?$how", $order) };
                is("$status $complete", '500 1', 'an error that can be read');
                like($body, qr/Internal Server Error/, "httpd's page");
                like((new_lines($before))[0] // '',
                     qr/:error\].*FCGI31:.*an output filter failed/,
                     'one line');
            };
        }
    }
    for my $order ('pass 0 error', 'hold 4000 error', 'hold 8000 error') {
        for my $how (qw(at_once length pieces file)) {
            for my $place (qw(/off /on /to /static /paged)) {
                subtest "$protocol, $place, $how, $order" => sub {
                    my $before = $httpd->error_log;
                    my ($status, $body, $complete, $next) =
                        @{ $over{$protocol}->("$place/x?$how", $order) };
                    is("$status $complete", '403 1', "the filter's answer");
                    my $page = $place eq '/static' ? qr/\Aa static page\z/
                        : $place eq '/paged' ? qr/\Athe page of the site\z/
                        : qr/Forbidden/;
                    like($body, $page, 'with its page, and nothing else');
                    is($next // 'the page of the site', 'the page of the site',
                       'the next request has its own answer');
                    my @lines = grep { /FCGI31/ } new_lines($before);
                    is(scalar @lines, 1, 'one line');
                    like($lines[0], qr/:info\].*FCGI31:.*a\ filter.*answered
                         \ in\ place/x, 'which blames nobody');
                };
            }
        }
    }
}

subtest 'mod_cache stores no part' => sub {
    for my $order ('pass 4000 fail', 'hold 4000 error') {
        my $answer = Client->get($httpd->port, '/cache/x?cached',
                                 'X-Filter' => $order);
        ok($order =~ /error/ ? $answer->status == 403 : !$answer->complete,
           $order);
    }
    my $asked = grep { $_->[0] eq 'asked' && $_->[1] eq 'cached' }
        $app->reports;
    for my $time (1, 2) {
        my $answer = Client->get($httpd->port, '/cache/x?cached');
        ok($answer->complete && $answer->body eq $BODY, 'the whole answer');
    }
    is((grep { $_->[0] eq 'asked' && $_->[1] eq 'cached' } $app->reports)
           - $asked, 1, 'asked for once, and stored then');
};

subtest 'the application may finish alone' => sub {
    Client->get($httpd->port, '/on/x?alone', 'X-Filter' => 'pass 100 fail');
    ok($app->wait_report('finished', 10), 'it came to its end');
};

$httpd->ok_healthy;
done_testing;
