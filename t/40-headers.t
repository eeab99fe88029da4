# A header block is passed on however it is cut, or the answer is a 502.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use Test::More;

my $TYPE = "Content-Type: text/plain\r\n";
my $LEAK = 'never to be seen';

# What the application says to a URL below /app, by its last part.
my %says = (
    crlf    => "Status: 201 Made Up\r\nX-A: 1\r\n$TYPE\r\nbody",
    lf      => "Status: 201 Made Up\nX-A: 1\nContent-Type: text/plain\n\nbody",
    mixed   => "Status: 201 Made Up\nX-A: 1\r\nContent-Type: text/plain\n\r\n"
             . 'body',
    mixed2  => "Status: 201 Made Up\r\nX-A: 1\nContent-Type: text/plain\r\n\n"
             . 'body',
    no_body => "Status: 200 OK\r\n$TYPE\r\n",
    values  => "X-Empty:\r\nX-Spaces: \t a b \t \r\nX-Utf8: \xc3\xa4\xff\r\n"
             . "X-Colon: a:b:\r\nx-MiXeD: kept\r\n\r\nbody",
    blank_body => "$TYPE\r\n\r\n\n\r\nX-A: 1\r\n\r\n",
    not_found => "Status: 404\r\n$TYPE\r\nthe application's own page",
    long_line => 'X-Long: ' . 'y' x 40_000 . "\r\n$TYPE\r\nbody",
    long_lines => join('', map { "X-$_: " . $_ x 20_000 . "\r\n" } 1 .. 3)
             . "$TYPE\r\nbody",
    many    => join('', map { "X-$_: value $_\r\n" } 1 .. 1000)
             . "$TYPE\r\nbody",
);

# Status lines: value => [status, reason]
my %status = (
    '200' => [200, 'OK'],
    '200 OK' => [200, 'OK'],
    '200 Fine by me' => [200, 'Fine by me'],
    '404' => [404, 'Not Found'],
    '404 Nothing Here: (at all)' => [404, 'Nothing Here: (at all)'],
    '418 I am a teapot ' => [418, 'I am a teapot'],
    '299' => [299, ''],
    '299 Odd' => [299, 'Odd'],
    '499' => [499, ''],
    '499 Odder' => [499, 'Odder'],
    '599' => [599, ''],
    '500 Mine' => [500, 'Mine'],
    '601 UPDATE NEEDED' => [601, 'UPDATE NEEDED'],
    '600' => [600, ''],
    '999 Request denied' => [999, 'Request denied'],
    '404Not Found' => [404, 'Not Found'],
    "404\tGone away" => [404, 'Gone away'],
    '200OK' => [200, 'OK'],
);

my %bad = (
    'Status abc' => "Status: abc\r\n$TYPE\r\n$LEAK",
    'Status 99' => "Status: 99\r\n$TYPE\r\n$LEAK",
    'Status 099' => "Status: 099\r\n$TYPE\r\n$LEAK",
    'Status 20' => "Status: 20\r\n$TYPE\r\n$LEAK",
    'Status 1000' => "Status: 1000\r\n$TYPE\r\n$LEAK",
    'Status 2000' => "Status: 2000 OK\r\n$TYPE\r\n$LEAK",
    'Status 0' => "Status: 0\r\n$TYPE\r\n$LEAK",
    'Status -200' => "Status: -200\r\n$TYPE\r\n$LEAK",
    'Status 2OO' => "Status: 2OO OK\r\n$TYPE\r\n$LEAK",
    'Status HTTP/1.1' => "Status: HTTP/1.1 200 OK\r\n$TYPE\r\n$LEAK",
    'Status empty' => "Status:\r\n$TYPE\r\n$LEAK",
    'Status blank' => "Status:   \r\n$TYPE\r\n$LEAK",
    'no blank line' => "Status: 200\r\nX-Leak: $LEAK\r\n",
    'a cut line' => "Status: 200\r\nX-Leak: $LEAK",
    'cut in the blank line' => "Status: 200\r\nX-Leak: $LEAK\r\n\r",
    'only text' => "$LEAK\n\n$LEAK",
    'only markup' => "<html>\n<body>$LEAK</body>\n\n</html>",
    'NUL in a value' => "$TYPE" . "X-A: a\0b\r\n\r\n$LEAK",
    'NUL in a name' => "$TYPE" . "X\0A: b\r\n\r\n$LEAK",
    'NUL at the start' => "\0$TYPE\r\n$LEAK",
    'bare CR in a value' => "X-A: a\rX-B: b\r\n$TYPE\r\n$LEAK",
    'CR before CRLF' => "X-A: a\r\r\n$TYPE\r\n$LEAK",
    'a line of CR' => "$TYPE\r\r\n\r\n$LEAK",
    'space in a name' => "X A: b\r\n$TYPE\r\n$LEAK",
    'space before the colon' => "X-A : b\r\n$TYPE\r\n$LEAK",
    'Status with that space' => "Status : 200\r\n$TYPE\r\n$LEAK",
    'tab before the colon' => "X-A\t: b\r\n$TYPE\r\n$LEAK",
    'separators in a name' => "X(A): b\r\n$TYPE\r\n$LEAK",
    'eight bits in a name' => "X-\xe4: b\r\n$TYPE\r\n$LEAK",
    'empty name' => ": b\r\n$TYPE\r\n$LEAK",
    'no colon' => "X-A\r\n$TYPE\r\n$LEAK",
    'a folded line' => "X-A: b\r\n c\r\n$TYPE\r\n$LEAK",
    'a first line that is folded' => " X-A: b\r\n$TYPE\r\n$LEAK",
    'escape in a value' => "X-A: \e[31m\r\n$TYPE\r\n$LEAK",
    'control byte 1' => "X-A: a\x01b\r\n$TYPE\r\n$LEAK",
    'DEL in a value' => "X-A: a\x7fb\r\n$TYPE\r\n$LEAK",
    'nothing' => '',
    'nothing but CR' => "\r",
);

# URLs cannot have those names.
my %empty = (crlf => "\r\nbody", lf => "\nbody", alone => "\r\n",
             'a blank line behind' => "\n\nbody");
my @empty = sort keys %empty;
$says{"empty$_"} = $empty{ $empty[$_] } for 0 .. $#empty;
my @bad = sort keys %bad;
$says{"bad$_"} = $bad{ $bad[$_] } for 0 .. $#bad;
my @status = sort keys %status;
$says{"status$_"} = "Status: $status[$_]\r\n$TYPE\r\nbody" for 0 .. $#status;

# Below /app/: NAME, NAME/size of the records, with padding if it is odd;
# huge/lines or huge/line gives 16 MB of header, sized/N a block of N bytes.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my (undef, $name, $how) = split m{/}, $request->{params}{PATH_INFO};
    if ($name eq 'huge') {
        my $line = ($how eq 'lines' ? 'X-Huge: ' : '') . 'z' x 65_000
            . ($how eq 'lines' ? "\r\n" : '');
        for (1 .. 16 * 1024 * 1024 / 65_000) {
            $c->stdout($line) or last;
        }
        return $c->report(huge => 1);
    }
    my $bytes = $says{$name};
    if ($name eq 'sized') {
        $bytes = "$TYPE\r\n";
        $bytes = 'X: ' . 'y' x ($how - 5 - length $bytes) . "\r\n$bytes";
        $how = 0;
    }
    $c->stdout($bytes, chunk => $how, padding => $how && $how % 2 ? 9 : 0);
    $c->end;
}, workers => 2);

my $httpd = Httpd->start(
    vars => { APP => $app->handler },
    files => { 'errors/502.html' => "the site's own 502\n",
               'errors/404.html' => "the site's own 404\n" },
    mpm => one_process(),
    config => <<'EOC');
ErrorDocument 502 /errors/502.html
ErrorDocument 404 /errors/404.html
<Location /app>
  SetHandler @APP@
</Location>
<Location /text>
  SetHandler @APP@
  ErrorDocument 502 "just a text"
</Location>
<Location /small>
  SetHandler @APP@
  FcgiMaxHeaderSize 512
</Location>
<Location /large>
  SetHandler @APP@
  FcgiMaxHeaderSize 1M
</Location>
EOC

# One process to measure, whatever the MPM.
sub one_process {
    my $threads = Httpd::mpm() eq 'prefork' ? 1 : 4;
    return <<"EOC" . ($threads > 1 ? "ThreadsPerChild $threads\n" : '');
StartServers 1
ServerLimit 1
MaxRequestWorkers $threads
EOC
}

sub get { return Client->get($httpd->port, $_[0]) }

sub refusals {
    my @lines = $httpd->error_log =~ /^.*FCGI05.*$/mg;
    return @lines;
}

subtest 'any line ends, in records of any size' => sub {
    for my $name (qw(crlf lf mixed mixed2)) {
        for my $size ('', 1, 2, 3, 7, 30) {
            my $answer = get("/app/$name/$size");
            is_deeply(
                [@$answer{qw(status reason body complete)},
                 $answer->header('X-A'), $answer->header('Content-Type')],
                [201, 'Made Up', 'body', 1, 1, 'text/plain'],
                "$name in " . ($size ? "records of $size" : 'one record'));
        }
    }
    my $answer = get('/app/no_body');
    is_deeply([@$answer{qw(status body complete)}], [200, '', 1], 'no body');
    is(get("/app/blank_body/$_")->body, "\r\n\n\r\nX-A: 1\r\n\r\n",
       'a body that looks like headers') for '', 1, 2;
};

subtest 'values are passed as they are' => sub {
    my $answer = get('/app/values');
    is($answer->header('X-Empty'), '', 'empty');
    is($answer->header('X-Spaces'), 'a b', 'spaces around are none of it');
    is($answer->header('X-Utf8'), "\xc3\xa4\xff", 'eight bits');
    is($answer->header('X-Colon'), 'a:b:', 'colons');
    like($answer->raw, qr/^x-MiXeD: kept\r$/m, "the name's case");
    is($answer->body, 'body');
    is($answer->header('Status'), undef, 'Status is no header');
};

subtest 'Status' => sub {
    for my $i (0 .. $#status) {
        my $answer = get("/app/status$i");
        is_deeply([@$answer{qw(status reason body complete)}],
                  [@{ $status{ $status[$i] } }, 'body', 1],
                  "Status: $status[$i]");
    }
    my $answer = get('/app/not_found');
    is($answer->status, 404);
    is($answer->body, "the application's own page",
       'which no ErrorDocument replaces');
};

subtest 'an empty block is one' => sub {
    for my $i (0 .. $#empty) {
        for my $size ('', 1) {
            my $answer = get("/app/empty$i/$size");
            is_deeply([@$answer{qw(status body complete)}],
                      [200, $empty{ $empty[$i] } =~ s/^\r?\n//r, 1],
                      "$empty[$i], " . ($size ? 'byte by byte' : 'at once'));
            is($answer->header('Content-Type'), undef, 'without a type');
        }
    }
};

subtest 'statuses that httpd does not know, with HEAD and keep-alive' => sub {
    my ($i) = grep { $status[$_] eq '999 Request denied' } 0 .. $#status;
    my $conn = Client->connect($httpd->port);
    for my $method (qw(HEAD GET)) {
        $conn->send("$method /app/status$i HTTP/1.1\r\nHost: x\r\n\r\n");
        my $answer = $conn->read_response(method => $method);
        is_deeply([@$answer{qw(status reason body)}],
                  [999, 'Request denied', $method eq 'GET' ? 'body' : ''],
                  $method);
    }
};

subtest 'broken blocks are a 502 with its ErrorDocument' => sub {
    for my $i (0 .. $#bad) {
        for my $size ('', 1) {
            my $before = refusals();
            my $answer = get("/app/bad$i/$size");
            my $name = "$bad[$i], " . ($size ? 'byte by byte' : 'at once');
            is_deeply([@$answer{qw(status reason body complete)}],
                      [502, 'Bad Gateway', "the site's own 502\n", 1], $name);
            unlike($answer->raw, qr/\Q$LEAK\E|^X-(?:A|Leak)/m, 'no raw byte');
            is(refusals() - $before, 1, 'one log line');
        }
    }
    like($_, qr/:error\].*FCGI05/, 'an error') for (refusals())[0];
    unlike($httpd->error_log, qr/\e|\x01/, 'nothing raw in the log either');
    my $answer = get('/text/bad0');
    is_deeply([@$answer{qw(status body complete)}],
              [502, 'just a text', 1], 'ErrorDocument is a text');
    my $raw = Client->request(
        $httpd->port, "HEAD /app/bad0 HTTP/1.1\r\nHost: x\r\n"
        . "Connection: close\r\n\r\n")->raw;
    like($raw, qr/^HTTP\S+ 502 .*\r\n\r\n\z/s, 'HEAD');
};

subtest 'nothing but END_REQUEST' => sub {
    my $mute = FcgiApp->start(sub { $_[0]->read_request; $_[0]->end });
    my $server = Httpd->start(vars => { APP => $mute->handler },
                              config => <<'EOC');
ErrorDocument 502 "mute"
<Location /app>
  SetHandler @APP@
</Location>
EOC
    my $answer = Client->get($server->port, '/app');
    is_deeply([@$answer{qw(status body)}], [502, 'mute'], 'a 502');
    like($server->error_log, qr/FCGI05/, 'logged');
    $server->ok_healthy;
};

subtest 'large blocks within the limit' => sub {
    my $answer = get('/app/long_line');
    is($answer->status, 200, '40 KB in one line');
    is($answer->header('X-Long'), 'y' x 40_000, 'whole');
    is($answer->body, 'body');
    for my $size ('', 1000) {
        $answer = get("/app/long_lines/$size");
        is($answer->header("X-$_"), $_ x 20_000, "line $_ of 20 KB")
            for 1 .. 3;
    }
    $answer = get('/app/many');
    is($answer->status, 200, '1000 headers');
    my $wrong = grep {
        ($answer->header("X-$_") // '') ne "value $_"
    } 1 .. 1000;
    is($wrong, 0, 'every one of them');
};

subtest 'FcgiMaxHeaderSize' => sub {
    my %limit = (small => 512, app => 65536, large => 1048576);
    for my $where (sort keys %limit) {
        my $limit = $limit{$where};
        my $answer = get("/$where/sized/$limit");
        is($answer->status, 200, "/$where takes a block of $limit bytes");
        is(length $answer->header('X'), $limit - length("X: \r\n$TYPE\r\n"));
        $answer = get("/$where/sized/" . ($limit + 1));
        is($answer->status, 502, 'and not of one more');
        is($answer->body, "the site's own 502\n");
        like((refusals())[-1], qr/FcgiMaxHeaderSize \b$limit\b/,
             'the line names the limit');
    }
};

# Peak memory of the one child, in KB, since the last call.
sub peak {
    my ($pid) = $httpd->pids;
    my ($peak) = Private::slurp("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m;
    Private::spew("/proc/$pid/clear_refs", '5');
    return $peak;
}

subtest '16 MB of header block cost no memory' => sub {
    for my $how (qw(line lines)) {
        get('/app/crlf') for 1 .. 4;
        peak();
        get('/app/crlf');
        my $before = peak();
        my $answer = get("/app/huge/$how");
        my $growth = peak() - $before;
        is_deeply([@$answer{qw(status body)}],
                  [502, "the site's own 502\n"], "$how: 502");
        cmp_ok($growth, '<', 2048, "and $growth KB more memory");
        is($app->wait_report('huge'), 1, 'the application is let go');
    }
};

$httpd->ok_healthy;
done_testing;
