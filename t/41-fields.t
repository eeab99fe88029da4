# Header fields reach the client as the application meant them.
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
my $ETAG = "ETag: \"abc\"\r\n";
my $MODIFIED = "Last-Modified: Tue, 01 Jun 2021 10:00:00 GMT\r\n";
my $BIG = 'x' x 1_000_000;

# What the application says to /app/NAME.
my %says = (
    plain    => "${TYPE}\r\nplain",
    several  => join('', map { "$_\r\n" }
        'Set-Cookie: a=1; Path=/', 'Link: </a.css>; rel=preload', 'Vary: A',
        'set-cookie: b=2, 3', 'WWW-Authenticate: Basic realm="x"',
        'Link: </b.js>; rel=preload', 'Vary: B', 'Set-Cookie: a=1; Path=/',
        'WWW-Authenticate: Negotiate', 'X-Any: 1', 'X-Any: 2')
        . "Status: 401\r\n$TYPE\r\nbody",
    types    => "Content-Type: text/html\r\nX: y\r\n"
        . "content-type: Text/Plain; charset=UTF-8\r\n\r\nbody",
    charset  => "Content-Type: text/html; charset=ISO-8859-15\r\n\r\nbody",
    odd_type => "Content-Type: application/x-odd;a=\"b;C\"\r\n\r\nbody",
    no_type  => "X-Some: header\r\n\r\nbody",
    etag     => "$TYPE$ETAG\r\n$BIG",
    modified => "$TYPE$MODIFIED\r\n$BIG",
    etag_ok  => "Status: 404\r\n$TYPE$ETAG\r\nmissing",
    304      => "Status: 304\r\n$ETAG\r\n",
    '304b'   => "Status: 304 Not Modified\r\n$ETAG\r\nsurprise",
    '304l'   => "Status: 304\r\n${ETAG}Content-Length: 8\r\n\r\n",
    204      => "Status: 204\r\nX: y\r\n\r\n",
    '204b'   => "Status: 204\r\n$TYPE\r\nsurprise",
    412      => "Status: 412\r\n$TYPE\r\nmine",
    length   => "${TYPE}Content-Length: 5\r\n\r\nabcde",
    length2  => "${TYPE}Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    head     => "${TYPE}Content-Length: 5\r\n\r\n",
    no_length => "$TYPE\r\nabcde",
    head_no_length => "$TYPE\r\n",
    big      => "$TYPE\r\n$BIG",
    mod_future => "${TYPE}Last-Modified: Thu, 01 Jan 2099 00:00:00 GMT\r\n\r\nx",
    mod_bad    => "${TYPE}Last-Modified: yesterday\r\n\r\nx",
    mod_empty  => "${TYPE}Last-Modified:\r\n\r\nx",
    mod_old    => "${TYPE}Last-Modified: Sunday, 06-Nov-94 08:49:37 GMT\r\n\r\nx",
    hint     => "Status: 103\r\nLink: </a>\r\nContent-Length: x\r\n\r\n"
        . "$TYPE\r\nabcde",
);

my %hop = (
    'Transfer-Encoding' => 'chunked', 'transfer-encoding' => 'gzip, chunked',
    Connection => 'X-Any', 'Keep-Alive' => 'timeout=77, max=77',
    Upgrade => 'websocket', Trailer => 'X-Trailer', TE => 'trailers',
    'Proxy-Connection' => 'close',
);
$says{"hop$_"} = "$_: $hop{$_}\r\n$TYPE\r\n5\r\nabcde\r\n0\r\n\r\n"
    for keys %hop;
$says{hops} = join('', map { "$_: $hop{$_}\r\n" } sort keys %hop)
    . "$TYPE\r\nbody";

my %bad_length = (
    'no number' => ['not a number'], negative => [-1], plus => ['+5'],
    list => ['5, 5'], empty => [''], hex => ['0x5'], fraction => ['5.0'],
    'with a unit' => ['5 bytes'], huge => ['9' x 30],
    'two that differ' => [5, 6], 'two, written differently' => [5, 'five'],
);
my @bad_length = sort keys %bad_length;
$says{"badlength$_"} = join('', map { "Content-Length: $_\r\n" }
                            @{ $bad_length{ $bad_length[$_] } })
    . "$TYPE\r\nabcde" for 0 .. $#bad_length;

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my ($name) = $request->{params}{REQUEST_URI} =~ m{/(\w[-\w]*)[^/]*$};
    my $sent = $c->reply($says{$name});
    $c->report(sent => $sent);
}, workers => 2);

my $httpd = Httpd->start(
    vars => { APP => $app->handler },
    files => { 'no_type.app' => 'x', 'no_type.en.app.gz' => 'x',
               'other.txt' => 'a file' },
    config => <<'EOC');
ErrorDocument 502 "broken"
ErrorDocument 412 "not so"
AddType text/x-wrong .app
AddEncoding x-gzip .gz
<Files *.app>
  SetHandler @APP@
</Files>
<Files *.app.gz>
  SetHandler @APP@
</Files>
<Location /app>
  SetHandler @APP@
</Location>
EOC

sub get {
    my ($name, %headers) = @_;
    return Client->get($httpd->port, "/app/$name", %headers);
}

# The answers to requests on one connection, and at last a file, which shows
# that the client's connection is in step.
sub on_one_connection {
    my (@requests) = @_;
    my $conn = Client->connect($httpd->port);
    my @answers = map {
        my ($method, $name, $fields) = @$_;
        $conn->send("$method /app/$name HTTP/1.1\r\nHost: x\r\n"
                    . ($fields // '') . "\r\n");
        $conn->read_response(method => $method);
    } @requests;
    $conn->send("GET /other.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    my $file = $conn->read_response;
    is_deeply([@$file{qw(status body complete)}], [200, 'a file', 1],
              'the connection is in step');
    return @answers;
}

subtest 'fields that come several times' => sub {
    my $answer = get('several');
    is_deeply([$answer->header_all('Set-Cookie')],
              ['a=1; Path=/', 'b=2, 3', 'a=1; Path=/'], 'cookies, in order');
    is(join(' & ', $answer->header_all('Link')),
       '</a.css>; rel=preload & </b.js>; rel=preload', 'Link');
    is_deeply([map { split /,\s*/ } $answer->header_all('Vary')], [qw(A B)],
              'Vary');
    is_deeply([$answer->header_all('WWW-Authenticate')],
              ['Basic realm="x"', 'Negotiate'], 'WWW-Authenticate');
    is(join(', ', $answer->header_all('X-Any')), '1, 2', 'any');
    is_deeply([@$answer{qw(status body)}], [401, 'body']);
};

subtest 'Content-Type' => sub {
    my %type = (
        types => 'text/plain; charset=UTF-8',
        charset => 'text/html; charset=ISO-8859-15',
        odd_type => 'application/x-odd;a="b;C"', plain => 'text/plain',
    );
    for my $name (sort keys %type) {
        my $answer = get($name);
        is_deeply([$answer->header_all('Content-Type')], [$type{$name}],
                  $type{$name});
        is($answer->status, 200);
    }
    for my $path (qw(/app/no_type /no_type.app /no_type.en.app.gz)) {
        my $answer = Client->get($httpd->port, $path);
        is_deeply([@$answer{qw(status body)}], [200, 'body'], $path);
        is($answer->header("Content-$_"), undef, "no Content-$_")
            for qw(Type Encoding);
    }
};

subtest 'fields about the connection are not passed on' => sub {
    for my $name (sort(keys %hop), 's') {
        my ($answer) = on_one_connection(['GET', "hop$name"]);
        is_deeply([@$answer{qw(status body complete)}],
                  [200, $name eq 's' ? 'body'
                   : "5\r\nabcde\r\n0\r\n\r\n", 1], $name);
        for my $field (sort keys %hop) {
            my @wrong = grep { $_ eq $hop{$field} }
                $field =~ /^transfer/i ? () : $answer->header_all($field);
            is_deeply(\@wrong, [], "no $field");
        }
        my @framing = map { $answer->header_all($_) }
            qw(Content-Length Transfer-Encoding);
        is(scalar @framing, 1, 'one framing');
    }
    my $answer = Client->request(
        $httpd->port, "GET /app/hops HTTP/1.0\r\nHost: x\r\n\r\n");
    is($answer->header('Transfer-Encoding'), undef, 'none for HTTP/1.0');
    is_deeply([@$answer{qw(body complete)}], ['body', 1]);
};

subtest 'conditional requests' => sub {
    my %condition = (
        'If-None-Match' => ['etag', '"abc"', '"abd"'],
        'If-Modified-Since' => ['modified', 'Tue, 01 Jun 2021 10:00:00 GMT',
                                'Tue, 01 Jun 2021 09:59:59 GMT'],
    );
    for my $field (sort keys %condition) {
        my ($name, $same, $other) = @{ $condition{$field} };
        my @fresh = map { "$field: $_\r\n" } $same, $other;
        my @answers = on_one_connection(
            [GET => $name], [GET => $name, $fresh[0]],
            [HEAD => $name, $fresh[0]], [GET => $name, $fresh[1]]);
        is_deeply([map { $_->status } @answers], [200, 304, 304, 200],
                  $field);
        is($answers[1]->raw =~ s/.*\r\n\r\n//sr, '', 'no body');
        is($answers[$_]->body, $BIG, 'the whole body') for 0, 3;
        is($answers[1]->header('ETag'), '"abc"') if $name eq 'etag';
        is($app->wait_report('sent'), 1, 'the application said it all')
            for 1 .. 4;
    }
    for my $name (qw(mod_bad mod_empty)) {
        is_deeply([get($name)->header_all('Last-Modified')], [], $name);
    }
    is(get('mod_old')->header('Last-Modified'),
       'Sun, 06 Nov 1994 08:49:37 GMT', 'as HTTP has it');
    my $future = get('mod_future');
    isnt($future->header('Last-Modified'), undef, 'in the future');
    isnt($future->header('Last-Modified'), 'Thu, 01 Jan 2099 00:00:00 GMT',
         'is now');
    my ($answer) = on_one_connection([GET => 'etag', "If-Match: \"x\"\r\n"]);
    is_deeply([@$answer{qw(status body)}], [412, 'not so'], 'If-Match');
    is($app->wait_report('sent'), 1, 'the application said it all');
    ($answer) = on_one_connection([GET => 'etag_ok',
                                   "If-None-Match: \"abc\"\r\n"]);
    is_deeply([@$answer{qw(status body)}], [404, 'missing'],
              'only good answers are compared');
};

subtest 'answers that have no body' => sub {
    for my $name (qw(304 304b 304l 204 204b)) {
        for my $method (qw(GET HEAD POST)) {
            my @twice = on_one_connection(
                map { [$method, $name, "Content-Length: 0\r\n"] } 1, 2);
            my ($status) = $name =~ /(\d+)/;
            is($_->status, $status, "$method, $name") for @twice;
            isnt($_->header('Content-Length') // '', '0',
                 'nothing has no length') for @twice;
            like($_->raw, qr/\r\n\r\n\z/, 'no body') for @twice;
            unlike($_->raw, qr/surprise/) for @twice;
        }
    }
    my @twice = on_one_connection(([GET => 412]) x 2);
    is_deeply([@$_{qw(status body)}], [412, 'mine'], "the application's 412")
        for @twice;
};

subtest 'HEAD' => sub {
    for my $name (qw(plain length no_length head head_no_length big
                     several 412)) {
        my @answers = on_one_connection(([HEAD => $name]) x 2);
        for my $answer (@answers) {
            is($answer->raw =~ s/.*?\r\n\r\n//sr, '', "$name: no body");
            my ($length) = $says{$name} =~ /Content-Length: (\d+)/;
            is($answer->header('Content-Length'), $length,
               'the length that the application says, if any');
        }
    }
    my ($get, $head) = on_one_connection([GET => 'several'],
                                         [HEAD => 'several']);
    my @fields = map {
        [grep { !/^(?:Date|Transfer-Encoding|Content-Length): / }
         map { "$_->[0]: $_->[1]" } @{ $_->headers }];
    } $head, $get;
    is_deeply(@fields, 'the same headers as for GET');
};

subtest 'Content-Length' => sub {
    for my $name (qw(length length2)) {
        my ($answer) = on_one_connection([GET => $name]);
        is_deeply([@$answer{qw(status body)}], [200, 'abcde'], $name);
        is_deeply([$answer->header_all('Content-Length')], [5], 'once');
        is($answer->header('Transfer-Encoding'), undef);
    }
    my ($answer) = on_one_connection([GET => 'hint']);
    is_deeply([@$answer{qw(status body)}], [200, 'abcde'],
              'a wrong one of an interim response');
    is_deeply([$httpd->error_log =~ /FCGI33/g], [], 'no warning for these');
    for my $i (0 .. $#bad_length) {
        for my $method (qw(GET HEAD)) {
            my $before = () = $httpd->error_log =~ /FCGI33/g;
            my ($answer) = on_one_connection([$method, "badlength$i"]);
            is_deeply([@$answer{qw(status body complete)}],
                      [200, $method eq 'GET' ? 'abcde' : '', 1],
                      "$method, $bad_length[$i]");
            is($answer->header('Content-Length') // 5, 5,
               "no length but httpd's own");
            my @lines = $httpd->error_log =~ /:warn\].*FCGI33: (.*)/g;
            is(@lines - $before, 1, 'one warning');
            my $last = $bad_length{ $bad_length[$i] }[-1];
            like($lines[-1], qr/Content-Length '\Q$last\E'/, 'names it');
        }
        my $answer = Client->request($httpd->port, "GET /app/badlength$i "
                                     . "HTTP/1.0\r\nHost: x\r\n\r\n");
        is_deeply([@$answer{qw(status body complete)}], [200, 'abcde', 1],
                  'HTTP/1.0');
    }
};

$httpd->ok_healthy;
done_testing;
