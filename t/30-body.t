# A request body arrives byte for byte, with its length where that is known.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use Compress::Zlib ();
use Digest::MD5 qw(md5_hex);
use FindBin qw($Bin);
use lib "$Bin/lib";
use Bytes;
use Client;
use FcgiApp;
use Httpd;
use POSIX ();
use Private;
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Strace;
use Test::More;

my $HEAD = "Content-Type: text/plain\r\n\r\n";

# Tells the test everything about the request, and the client a little.
sub serve {
    my ($c) = @_;
    $c->readable(10);
    my $got = sysread $c->{socket}, $c->{buffer}, 1_000_000;
    my $request = $c->read_params or return;
    my $params = $request->{params};
    $c->report(begun => 1);
    if ($params->{QUERY_STRING} eq 'early') {
        return $c->reply("Status: 403 No\r\n${HEAD}early");
    }
    while (!$request->{stdin_complete} && !$request->{aborted}) {
        my $record = $c->read_record or last;
        FcgiApp::Connection::add_record($request, $record);
    }
    my $body = delete $request->{stdin};
    my $size = 0;
    $size += 8 + length($_->{content}) + length $_->{padding}
        for @{ $request->{records} };
    my %told = (%$request, size => $size, first => $got,
                md5 => md5_hex($body), length => length $body,
                empty_last => $request->{records}[-1]{content} eq '');
    delete $told{records};
    $c->report(request => \%told);
    my $answer = join ' ', $params->{REQUEST_METHOD}, length $body,
        md5_hex($body);
    my $length = $params->{QUERY_STRING} eq 'length'
        ? 'Content-Length: ' . length($answer) . "\r\n" : '';
    return $c->reply("$length$HEAD$answer");
}

my $app = FcgiApp->start(\&serve, workers => 4);
my $nobody = Private::reserve_port();
my $httpd = Httpd->start(
    modules => [qw(deflate ext_filter)],
    http2 => Httpd::mpm() ne 'prefork',
    vars => { APP => $app->handler,
              NOBODY => 'fcgi:127.0.0.1:' . $nobody->sockport },
    config => <<'EOC');
<Location />
  SetHandler @APP@
  FcgiTimeout 10
</Location>
<Location /stream>
  FcgiRequestBuffering Off
</Location>
<Location /nobody>
  SetHandler @NOBODY@
  FcgiRequestBuffering Off
</Location>
<Location /small>
  LimitRequestBody 10
</Location>
<Location /inflate>
  SetInputFilter DEFLATE
</Location>
ExtFilterDefine make mode=input cmd="/bin/echo made"
<Location /make>
  SetInputFilter make
</Location>
EOC

sub chunked {
    my ($body, $size) = @_;
    return join('', map { sprintf "%x\r\n%s\r\n", length, $_ }
                unpack "(a$size)*", $body) . "0\r\n\r\n";
}

# What both sides have to say of a whole body.  $length is what CONTENT_LENGTH
# is to be: undef for none, '?' for either.
sub check_body {
    my ($answer, $method, $body, $length) = @_;
    my $request = $app->wait_report('request') or return fail('no request');
    my $params = $request->{params};
    $app->wait_report('begun', 0);
    is($answer->body, join(' ', $method, length $body, md5_hex($body)),
       'the answer knows it');
    ok($answer->complete, 'and is complete');
    is($request->{md5}, md5_hex($body), 'the application has every byte');
    ok($request->{stdin_complete} && $request->{empty_last},
       'and an empty STDIN record at the end');
    is($params->{CONTENT_LENGTH}, $length, 'CONTENT_LENGTH')
        if ($length // '') ne '?';
    is($params->{CONTENT_LENGTH} // length $body, length $body, 'not wrong');
    is($params->{REQUEST_METHOD}, $method, 'the method');
    is_deeply([grep { /^HTTP_(?:TRANSFER_ENCODING|CONTENT_LENGTH|TE)$/ }
                    keys %$params], [], 'nothing of the transfer itself');
    return $request;
}

for my $size (0, 1, 61_440, 61_441, 65_535, 65_536, 491_520, 491_521,
              5 * 1024 * 1024) {
    my $body = Bytes::mixed($size);
    subtest "$size bytes" => sub {
        for my $path ('/', '/stream') {
            my $answer = Client->request($httpd->port,
                "POST $path HTTP/1.1\r\nHost: x\r\nContent-Length: $size\r\n"
                . "\r\n$body");
            check_body($answer, 'POST', $body, $size);
        }
        for my $piece ($size < 100 ? 1 : 1000, 100_000) {
            my $answer = Client->request($httpd->port,
                "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                . "\r\n" . chunked($body, $piece));
            check_body($answer, 'POST', $body, $size);
        }
    };
}

subtest 'a body that a filter makes, and no field announces' => sub {
    my $answer = Client->request($httpd->port,
                                 "GET /make HTTP/1.1\r\nHost: x\r\n\r\n");
    check_body($answer, 'GET', "made\n", 5);
};

subtest 'chunks that are here already' => sub {
    my $conn = Client->connect($httpd->port);
    for my $body ('a', 'b' x 5000) {
        for my $piece (1000, 9000) {
            $conn->send("POST / HTTP/1.1\r\nHost: x\r\n"
                        . "Transfer-Encoding: chunked\r\n\r\n"
                        . chunked($body, $piece));
            check_body($conn->read_response, 'POST', $body, length $body);
        }
    }
};

subtest 'chunks that come later' => sub {
    for my $path ('/stream', '/') {
        my $streamed = $path eq '/stream';
        my $conn = Client->connect($httpd->port);
        $conn->send("POST $path HTTP/1.1\r\nHost: x\r\n"
                    . "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        is(!!$app->wait_report('begun', $streamed ? 10 : 0.2), $streamed,
           "$path: whether the application is asked meanwhile");
        $conn->send("1;x=y\r\nd\r\n0\r\nTrailer: x\r\n\r\n");
        my $request = check_body($conn->read_response, 'POST', 'abcd',
                                 $streamed ? undef : 4);
        ok(!grep({ /TRAILER/ } keys %{ $request->{params} }), 'no trailers');
    }
};

subtest 'bytes that come one by one' => sub {
    my $body = Bytes::mixed(300);
    for my $path ('/', '/stream') {
        my $conn = Client->connect($httpd->port);
        $conn->{socket}->setsockopt(IPPROTO_TCP, TCP_NODELAY, 1);
        $conn->send("POST $path HTTP/1.1\r\nHost: x\r\n"
                    . "Content-Length: 300\r\n\r\n");
        $conn->send($_) for split //, $body;
        check_body($conn->read_response, 'POST', $body, 300);
    }
};

subtest 'no body' => sub {
    my $conn = Client->connect($httpd->port);
    $conn->send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    my $request = check_body($conn->read_response, 'GET', '', undef);
    is($request->{role}, FCGI_RESPONDER, 'role');
    is($request->{flags}, 0, 'no flags');
    ok($request->{id} > 0, 'a request id');
};

subtest 'a filter that changes the body' => sub {
    my $body = unpack 'H*', Bytes::mixed(20_000);
    my $packed = Compress::Zlib::memGzip($body);
    for my $later (0, 1) {
        my $conn = Client->connect($httpd->port);
        $conn->send("POST /inflate HTTP/1.1\r\nHost: x\r\nContent-Length: "
                    . length($packed) . "\r\nContent-Encoding: gzip\r\n\r\n"
                    . substr $packed, 0, $later ? 20 : 99999);
        $conn->send(substr $packed, 20)
            if $later && ($app->wait_report('begun', 0.3), 1);
        check_body($conn->read_response, 'POST', $body, length $body);
    }
};

subtest 'methods' => sub {
    my $conn = Client->connect($httpd->port);
    for my $method (qw(GET POST PUT DELETE PATCH OPTIONS PROPFIND REPORT BREW
                       M-SEARCH)) {
        for my $body ('', 'body') {
            $conn->send("$method /x HTTP/1.1\r\nHost: x\r\n"
                        . ($body && "Content-Length: 4\r\n") . "\r\n$body");
            check_body($conn->read_response, $method, $body,
                       $body ? 4 : undef);
        }
    }
    for my $query ('', '?length') {
        $conn->send("HEAD /$query HTTP/1.1\r\nHost: x\r\n\r\n");
        my $answer = $conn->read_response(method => 'HEAD');
        is($answer->status, 200, "HEAD /$query");
        is($app->wait_report('request')->{params}{REQUEST_METHOD}, 'HEAD');
        $app->wait_report('begun');
        is($answer->header('Content-Length'), $query ? 39 : undef,
           'the length the application said') if $query;
        ok(!$conn->read_until(qr/./, 0.05), 'no body');
    }
    $conn->send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    check_body($conn->read_response, 'GET', '', undef);
};

subtest 'HTTP/1.0' => sub {
    my $conn = Client->connect($httpd->port);
    my $post = "POST /?length HTTP/1.0\r\nContent-Length: 4\r\n";
    for (1 .. 2) {
        $conn->send("${post}Connection: keep-alive\r\n\r\nbody");
        my $answer = $conn->read_response;
        check_body($answer, 'POST', 'body', 4);
        like($answer->header('Connection'), qr/keep-alive/i, 'kept');
    }
    $conn->send("$post\r\nbody");
    my $answer = $conn->read_response;
    check_body($answer, 'POST', 'body', 4);
    ok($conn->at_eof, 'not kept when nobody asked');

    $conn = Client->connect($httpd->port);
    $conn->send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    $answer = $conn->read_response;
    is($answer->header('Transfer-Encoding'), undef, 'no chunks');
    check_body($answer, 'GET', '', undef);
};

subtest 'pipelining' => sub {
    my @posts = (
        "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
        "POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        . chunked('body', 3));
    for my $post (@posts) {
        my $conn = Client->connect($httpd->port);
        $conn->send("${post}GET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
                    . "GET /3 HTTP/1.1\r\nHost: x\r\n\r\n");
        for my $n (1 .. 3) {
            my $request = check_body($conn->read_response,
                                     $n == 1 ? ('POST', 'body', 4)
                                         : ('GET', '', undef));
            is($request->{params}{REQUEST_URI}, "/$n", 'in order');
        }
    }
};

subtest 'Expect: 100-continue' => sub {
    my $expect = "Host: x\r\nExpect: 100-continue\r\n";
    my $four = "${expect}Content-Length: 4\r\n\r\n";
    for my $length ("Content-Length: 4\r\n",
                    "Transfer-Encoding: chunked\r\n") {
        my $body = $length =~ /chunked/ ? chunked('body', 4) : 'body';
        my $conn = Client->connect($httpd->port);
        for my $path ('/', '/stream') {
            $conn->send("POST $path HTTP/1.1\r\n$expect$length\r\n");
            ok($conn->read_until(qr{^HTTP/1.1 100 .*\r\n\r\n\z}),
               'the client is told to go on');
            $conn->send($body);
            my $answer = $conn->read_response;
            check_body($answer, 'POST', 'body', $body eq 'body' ? 4 : '?');
            is(scalar @{ $answer->interim }, 1, 'told once');
        }
        $conn->send("POST / HTTP/1.1\r\n$expect$length\r\n$body");
        my $answer = $conn->read_response;
        check_body($answer, 'POST', 'body', 4);
        cmp_ok(scalar @{ $answer->interim }, '<=', 1, 'it did not wait');
    }

    my $answer = Client->request($httpd->port,
                                 "POST /nobody HTTP/1.1\r\n$four");
    is($answer->status, 503, 'no application');
    is(scalar @{ $answer->interim }, 0, 'the body is not asked for');
    $answer = Client->request($httpd->port, "POST /small HTTP/1.1\r\n"
                              . "${expect}Content-Length: 11\r\n\r\n");
    is($answer->status, 413, 'too large');
    is(scalar @{ $answer->interim }, 0, 'the body is not asked for');
    $answer = Client->request($httpd->port,
                              "POST /stream?early HTTP/1.1\r\n$four");
    $app->wait_report('begun');
    is($answer->status, 403, 'an application that does not want it');
    cmp_ok(scalar @{ $answer->interim }, '<=', 1, 'told once at most');

    my $conn = Client->connect($httpd->port);
    $conn->send("POST / HTTP/1.0\r\n$four");
    ok(!$conn->read_until(qr/./, 0.2), 'HTTP/1.0 does not know it');
    $conn->send('body');
    $answer = $conn->read_response;
    check_body($answer, 'POST', 'body', 4);
    is(scalar @{ $answer->interim }, 0, 'not told at all');
};

subtest 'a small request comes at once' => sub {
    for my $body ('', 'x' x 100, 'x' x 4000) {
        my $answer = Client->request($httpd->port,
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " . length($body)
            . "\r\n\r\n$body");
        my $request = check_body($answer, 'POST', $body, length $body);
        is($request->{first}, $request->{size}, 'all of it in the first read');
    }
};

# How often a small request writes, waits and so on, and the names of its calls;
# nothing if strace may not look. Waiting for the connection is not counted.
sub calls_of_a_request {
    my $trace = Strace->attach([$httpd->pids],
        'connect,sendto,sendmsg,write,writev,poll,ppoll,recvfrom,recvmsg,read,'
        . 'readv,close') or return;
    Client->request($httpd->port,
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
        . "Connection: close\r\n\r\n" . 'x' x 100);
    $app->wait_report($_) for qw(begun request);
    my @calls;
    Private::wait_until(5, sub {
        @calls = map { $_->[0] }
            Strace::on_connection($app->address, $trace->lines);
        ($calls[-1] // '') eq 'close';
    });
    $trace->end;
    shift @calls while @calls && $calls[0] !~ /send|write/;
    my %count;
    $count{ /send|write/ ? 'write' : /poll/ ? 'wait' : /recv|read/ ? 'read'
            : $_ }++ for @calls;
    return (\%count, @calls);
}

# On a busy machine an application may be so late that it is waited for twice.
subtest 'system calls of a small request' => sub {
    plan skip_all => 'no strace here' if !Strace::is_here();
    plan skip_all => 'it waits without a thread' if defined $ENV{PARK};
    my ($count, @calls);
    for (1 .. 5) {
        ($count, @calls) = calls_of_a_request()
            or plan skip_all => 'strace may not look here';
        last if ($count->{wait} // 0) == 1;
    }
    is_deeply($count, { write => 1, wait => 1, read => 1, close => 1 },
              'one write, one wait, one read') or diag "@calls";
};

subtest 'HTTP/2' => sub {
    plan skip_all => 'no HTTP/2 on prefork' if Httpd::mpm() eq 'prefork';
    my $ask = sub {
        my ($method, $body, $length, @args) = @_;
        my $answer = Client::curl('--http2-prior-knowledge', @args,
            'http://127.0.0.1:' . $httpd->port . '/');
        is($answer->{http_version}, 2, "$method " . length $body);
        check_body(Client::Response::of_curl($answer), $method, $body,
                   $length);
    };
    my $dir = Private::temp_dir('body');
    $ask->('GET', '', undef);
    for my $size (0, 1, 65535, 5 * 1024 * 1024) {
        my $body = Bytes::mixed($size);
        my $file = Private::spew("$dir/body", $body);
        $ask->('POST', $body, $size, '--data-binary', "\@$file");
        POSIX::mkfifo("$dir/fifo", 0600) or die "mkfifo: $!";
        my $writer = Private::spawn(code => sub {
            Private::spew("$dir/fifo", $body);
        });
        $ask->('PUT', $body, $size || '?', '-T', "$dir/fifo");
        Private::end($writer, 'KILL');
        unlink "$dir/fifo";
    }
    my $answer = Client::curl('--http2-prior-knowledge', '-I',
        'http://127.0.0.1:' . $httpd->port . '/?length');
    is($answer->{exit}, 0, 'HEAD');
    is($answer->{status}, 200);
    like($answer->{headers}, qr/^content-length: 39\r$/mi, 'its length');
};

# curl's answer in the words of the other client.
sub Client::Response::of_curl {
    my ($answer) = @_;
    return bless { %$answer, complete => $answer->{exit} == 0 },
        'Client::Response';
}

$httpd->ok_healthy;
done_testing;
