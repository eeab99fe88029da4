# httpd gives an error page, a file or another URL in place of an answer.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use File::Spec;
use Httpd;
use POSIX qw(mkfifo);
use Private;
use Test::More;
use Time::HiRes qw(time);

my $TYPE = "Content-Type: text/plain\r\n";
my $H2 = Httpd::mpm() ne 'prefork';
my $BIG = 20_000_000;           # bytes

# The files that applications may have sent, and those around them.
my $files = Private::temp_dir('files');
my $ALL = join '', map { sprintf "%08d\n", $_ } 1 .. 2000;      # 18000 bytes
my %file = (
    'private/a.txt' => $ALL, 'private/page.html' => '<b>page</b>',
    'private/no type' => 'no type', 'private/empty.txt' => '',
    'private/100%25 ?#.txt' => 'odd name', 'private/sub/x.css' => 'b {}',
    'more/b.txt' => 'more', 'real/c.txt' => 'behind a link',
    'private-evil/secret.txt' => 'secret', 'outside/secret.txt' => 'secret',
    'secret.txt' => 'secret',
);
Private::spew("$files/$_", $file{$_}) for keys %file;
Private::spew("$files/private/shut.txt", 'secret', 0000);
Private::spew("$files/private/big.bin", '');
truncate "$files/private/big.bin", $BIG or die $!;
# Of an hour ago: httpd says W/ of an ETag for a file that is quite new.
utime time - 3600, time - 3600, "$files/private/a.txt";
my %link = (
    'private/out.txt' => '../secret.txt', 'private/outdir' => '../outside',
    'private/in.txt' => 'a.txt', 'private/nowhere.txt' => 'gone.txt',
    'linked' => 'real',
);
symlink $link{$_}, "$files/$_" or die $! for keys %link;
mkfifo("$files/private/pipe", 0666) or die $!;
chmod 0666, "$files/private/pipe";

# What an application says is in the request; below /on/page it has a page of
# its own for each status.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $params = $request->{params};
    my $url = $params->{SCRIPT_NAME} . ($params->{PATH_INFO} // '');
    $c->report(url => "$params->{REQUEST_METHOD} $url");
    if ($url =~ m{/page/(\d+)}) {
        $c->reply(($1 == 200 ? '' : "Status: $1\r\n")
                  . "${TYPE}\r\nthe application's page");
    }
    else {
        $c->reply(pack 'H*', $params->{HTTP_X_SAYS});
    }
    $c->report('closed ' . ($params->{HTTP_X_ID} // '')
               => $c->wait_eof(10));
}, workers => 6);

my $httpd = Httpd->start(
    vars => { APP => $app->handler, FILES => "$files" },
    modules => [qw(headers)], http2 => $H2,
    files => {
        'errors/404.html' => "the site's 404\n",
        'errors/401.html' => "the site's 401\n",
        'errors/503.html' => "the site's 503\n",
        'plain.txt' => "a file\n",
        'protected/a.txt' => $ALL, 'protected/0815' => 'named by a number',
        'closed/a.txt' => 'closed',
        'ht/a.app' => '', 'ht/.htaccess' => "FcgiErrorOverride On 404\n",
        'noht/a.app' => '', 'rel/a.app' => '', 'rel/down/a.txt' => 'below',
    },
    config => <<'EOC');
LimitInternalRecursion 5
ErrorDocument 401 /errors/401.html
ErrorDocument 404 /errors/404.html
ErrorDocument 405 "the site's 405"
ErrorDocument 503 /errors/503.html
ErrorDocument 500 /on/page/200
ErrorDocument 410 /on/page/410
ErrorDocument 409 /on/page/500
ErrorDocument 504 /on/page/204
AddHandler @APP@ .app

<Location /off>
  SetHandler @APP@
</Location>
<Location /on>
  SetHandler @APP@
  FcgiErrorOverride On
</Location>
<Location /some>
  SetHandler @APP@
  FcgiErrorOverride On 404 503
</Location>
<Location /some/off>
  FcgiErrorOverride Off
</Location>
<Location /some/one>
  FcgiErrorOverride On 405
</Location>
<Location /some/all>
  FcgiErrorOverride On
</Location>
<Location /dead>
  SetHandler fcgi:@FILES@/nobody.sock
  FcgiConnectTimeout 700ms
  FcgiErrorOverride On
  ErrorDocument 503 /dead/page
</Location>

<Location /file>
  SetHandler @APP@
  FcgiSendfile @FILES@/private @FILES@/more/ @FILES@/linked
</Location>
<Location /file/off>
  FcgiSendfile Off
</Location>
<Location /file/override>
  FcgiErrorOverride On
</Location>
<Directory @DOCROOT@/rel>
  DirectoryIndex a.app
  FcgiSendfile @DOCROOT@/rel/down
</Directory>
<Location /protected>
  Require env REDIRECT_STATUS
</Location>
<Location /closed>
  Require all denied
</Location>
EOC

# Sends a request for $path to which the application says $says.
sub ask {
    my ($path, $says, %field) = @_;
    my $method = delete $field{METHOD} // 'GET';
    my $body = delete $field{BODY};
    $field{'Content-Length'} = length $body if defined $body;
    my $conn = Client->connect($httpd->port);
    $conn->send("$method $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                . 'X-Says: ' . unpack('H*', $says) . "\r\n"
                . join('', map { "$_: $field{$_}\r\n" } sort keys %field)
                . "\r\n" . ($body // ''));
    my $answer = $conn->read_response(method => $method);
    $answer->{rest} = $conn->at_eof(5) ? '' : 'bytes after the answer';
    return $answer;
}

sub is_answer {
    my ($answer, $status, $body, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is_deeply([@$answer{qw(status body complete rest)}],
                     [$status, $body, 1, ''], $name);
}

# The same over HTTP/2.
sub ask_h2 {
    my ($path, $says, @args) = @_;
    return Client::curl('--http2-prior-knowledge', @args, '-H',
                        'X-Says: ' . unpack('H*', $says),
                        'http://127.0.0.1:' . $httpd->port . $path);
}

sub error {
    my ($status, $fields) = @_;
    return "Status: $status\r\n$TYPE" . ($fields // '')
        . "\r\nthe application's own";
}

# The requests the application got since the last call.
my $seen = 0;

sub urls {
    my @urls = map { $_->[1] } grep { $_->[0] eq 'url' } $app->reports;
    my @new = @urls[$seen .. $#urls];
    $seen = @urls;
    return \@new;
}

my $OWN = "the application's own";

subtest 'Off is the default' => sub {
    for my $status (400, 401, 404, 405, 500, 503) {
        my $answer = ask('/off/x', error($status, "X-A: b\r\n"));
        is_answer($answer, $status, $OWN, "status $status");
        is($answer->header('X-A'), 'b');
    }
};

my %page = (401 => "the site's 401\n", 404 => "the site's 404\n",
            405 => "the site's 405", 503 => "the site's 503\n",
            500 => "the application's page");

subtest 'On: the page of the site, the status of the application' => sub {
    for my $status (sort keys %page) {
        is_answer(ask('/on/x', error($status)), $status, $page{$status},
                  "status $status");
    }
    for my $status (400, 402, 403, 406, 422, 429, 451, 501, 502, 505) {
        my $answer = ask('/on/x', error($status));
        is($answer->status, $status, "$status without a page of the site");
        like($answer->body, qr/<title>$status /, "is httpd's text");
        unlike($answer->raw, qr/\Q$OWN/);
    }
};

subtest 'what is no error is not touched' => sub {
    for my $status (200, 201, 203, 206, 301, 302, 303, 307, 399) {
        my $answer = ask('/on/x', error($status, "Location: /y\r\n"));
        is_answer($answer, $status, $OWN, "status $status");
        is($answer->header('Location'), '/y');
    }
    is_answer(ask('/on/x', "$TYPE\r\n$OWN"), 200, $OWN, 'no Status');
    is_answer(ask('/on/x', "Status: 204\r\nX-A: b\r\n\r\n"), 204, '',
              'status 204');
};

subtest 'a list of statuses' => sub {
    is_answer(ask('/some/x', error($_)), $_, $page{$_}, "$_ is in it")
        for 404, 503;
    is_answer(ask('/some/x', error($_)), $_, $OWN, "$_ is not")
        for 400, 401, 405, 500;
    is_answer(ask('/some/off/x', error($_)), $_, $OWN, "Off below: $_")
        for 404, 500;
    is_answer(ask('/some/one/x', error(405)), 405, $page{405},
              'another list below');
    is_answer(ask('/some/one/x', error(404)), 404, $OWN, 'in its place');
    is_answer(ask('/some/all/x', error(401)), 401, $page{401},
              'no list below');
    is_answer(ask('/ht/a.app', error(404)), 404, $page{404}, '.htaccess');
    is_answer(ask('/ht/a.app', error(401)), 401, $OWN, 'and its list');
    is_answer(ask('/noht/a.app', error(404)), 404, $OWN, 'not elsewhere');
};

subtest 'fields that belong to the status are kept' => sub {
    my $kept = "WWW-Authenticate: Bearer realm=\"a\"\r\nAllow: GET, PUT\r\n"
        . "Retry-After: 77\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n";
    my $dropped = "X-Other: x\r\nETag: \"abc\"\r\nContent-Length: 21\r\n"
        . "Content-Encoding: gzip\r\nContent-Language: de\r\n"
        . "Content-Disposition: attachment\r\n";
    for my $status (401, 403, 405, 500, 503) {
        my $answer = ask('/on/x', error($status, $kept . $dropped));
        is_deeply([@$answer{qw(status complete)}], [$status, 1],
                  "status $status");
        is($answer->body, $page{$status}, 'its page') if $page{$status};
        is_deeply([map { [$answer->header_all($_)] }
                   qw(WWW-Authenticate Retry-After Set-Cookie)],
                  [['Bearer realm="a"'], [77], [qw(a=1 b=2)]], 'kept');
        # httpd may add methods of its own
        my %allow = map { $_ => 1 }
            map { split /, */ } $answer->header_all('Allow');
        ok($allow{GET} && $allow{PUT}, 'Allow') or diag explain \%allow;
        is_deeply([map { $answer->header($_) // () }
                   qw(X-Other Content-Encoding Content-Language
                      Content-Disposition)], [], 'dropped');
        isnt($answer->header('ETag') // '', '"abc"');
        is($answer->header('Content-Type') =~ s/;.*//r,
           $status =~ /40[35]/ ? 'text/html' : $status == 500 ? 'text/plain'
           : 'text/html', 'the type is that of the page');
    }
};

subtest 'the page is asked for with GET, HEAD has no body' => sub {
    for my $method (qw(GET POST PUT HEAD)) {
        urls();
        my $answer = ask('/on/x', error(500), METHOD => $method,
                         $method =~ /^P/ ? (BODY => 'x' x 300_000) : ());
        is_answer($answer, 500, $method eq 'HEAD' ? '' : $page{500}, $method);
        is(urls()->[1], 'GET /on/page/200', 'the request for the page');
        is_answer(ask('/on/x', error(404), METHOD => $method,
                      $method =~ /^P/ ? (BODY => 'x') : ()),
                  404, $method eq 'HEAD' ? '' : $page{404}, 'a file');
    }
    my $conn = Client->connect($httpd->port);
    for my $time (1, 2) {
        $conn->send("POST /on/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
                    . 'X-Says: ' . unpack('H*', error(404)) . "\r\n\r\nabcde");
        is($conn->read_response->body, $page{404}, 'one after another');
    }
};

subtest 'a large body of an error is dropped' => sub {
    is_answer(ask('/on/x', "Status: 404\r\n\r\n" . 'e' x 3000), 404,
              $page{404}, 'in parts');
    is_answer(ask('/on/x', "Status: 404\r\nContent-Length: 100\r\n\r\nless"),
              404, $page{404}, 'and its length is not looked at');
};

subtest 'a page that is an error itself is no loop' => sub {
    for my $case ([410, 410, '/on/page/410'], [409, 500, '/on/page/500']) {
        my ($status, $said, $page) = @$case;
        urls();
        my $answer = ask('/on/x', error($status));
        like($answer->status, qr/^(?:$status|$said)$/, "status $status");
        is_deeply([@$answer{qw(body complete)}],
                  ["the application's page", 1], 'what the page says');
        is_deeply(urls(), ['GET /on/x', "GET $page"], 'asked once each');
    }
    is(ask('/on/x', error(504))->complete, 1, 'a page without a body');
};

subtest 'a page of an application that is not there' => sub {
    my $start = time;
    my $answer = Client->get($httpd->port, '/dead/x');
    my $took = time - $start;
    is_deeply([@$answer{qw(status complete)}], [503, 1]);
    like($answer->body, qr/<title>503 /, "httpd's own text");
    is($answer->header('Retry-After'), 1);
    cmp_ok($took, '>=', 0.69, 'it was tried');
    cmp_ok($took, '<', 1.3, 'and not a second time') or diag $took;
};

subtest 'error pages over HTTP/2' => sub {
    plan skip_all => 'prefork has no HTTP/2' if !$H2;
    for my $status (sort keys %page) {
        my $answer = ask_h2('/on/x', error($status, "Retry-After: 3\r\n"));
        is_deeply([@$answer{qw(exit status http_version body)}],
                  [0, $status, 2, $page{$status}],
                  "status $status");
        like($answer->{headers}, qr/^retry-after: 3\r$/mi);
    }
    is(ask_h2('/on/x', error(404), '-I')->{status}, 404, 'HEAD');
};

# ---- X-Sendfile ----

sub sendfile {
    my ($file, $fields) = @_;
    return "X-Sendfile: $file\r\n" . ($fields // '') . "\r\nnot this";
}

subtest 'X-Sendfile: a file' => sub {
    my $answer = ask('/file/x', sendfile("$files/private/a.txt",
                                         "$TYPE" . "X-A: b\r\n"));
    is_answer($answer, 200, $ALL, 'its content');
    is($answer->header('Content-Length'), length $ALL, 'its length');
    is($answer->header('X-A'), 'b', 'fields of the application are kept');
    is($answer->header('X-Sendfile'), undef, 'but not this one');
    is($answer->header('Accept-Ranges'), 'bytes');
    like($answer->header('Last-Modified'), qr/GMT$/);
    like($answer->header('ETag'), qr/^"/);
    unlike($answer->raw, qr/\Q$files/, 'the path is not shown');
    my %good = ('more/b.txt' => 'more', 'linked/c.txt' => 'behind a link',
                'real/c.txt' => 'behind a link', 'private/in.txt' => $ALL,
                'private/100%25 ?#.txt' => 'odd name',
                'private/sub/../a.txt' => $ALL, 'private//a.txt' => $ALL,
                'private/empty.txt' => '');
    is_answer(ask('/file/x', sendfile("$files/$_", $TYPE)), 200, $good{$_},
              $_) for sort keys %good;
    $answer = ask('/file/x', sendfile("$files/private/a.txt",
                                      "Content-Length: 8\r\n$TYPE"));
    is_answer($answer, 200, $ALL, "the application's length is its own");
    $answer = ask('/file/x', "Status: 203\r\n"
                  . sendfile("$files/private/a.txt", $TYPE));
    is_answer($answer, 203, $ALL, 'with a status');
    $answer = ask('/file/x', sendfile("$files/more/b.txt", $TYPE),
                  METHOD => 'POST', BODY => 'x' x 100_000);
    is_answer($answer, 200, 'more', 'for a POST');
};

subtest 'X-Sendfile: no other file' => sub {
    my @bad = (
        map({ "$files/$_" } qw(
            secret.txt outside/secret.txt private-evil/secret.txt
            private/out.txt private/outdir/secret.txt private/../secret.txt
            private/sub/../../secret.txt private/nowhere.txt private/gone.txt
            private private/ private/sub private/shut.txt
            private/a.txt/ private/a.txt/x private/%2e%2e/secret.txt
            private%2Fa.txt private/a.txt%00 private/%6 private/%zz
            private/%2561.txt)),
        File::Spec->abs2rel("$files/private/a.txt"),
        substr("$files/private/a.txt", 1), 'a.txt', 'private/a.txt',
        '../secret.txt',
        'file:///etc/passwd', '/etc/passwd', '/', '/file/x', '~/a',
        $files . '/private/' . 'x' x 3000);
    for my $bad (@bad) {
        my $before = () = $httpd->error_log =~ /FCGI25/g;
        my $answer = ask('/file/x', sendfile($bad, "${TYPE}X-A: b\r\n"));
        my $name = length $bad > 99 ? 'a long name' : $bad;
        is_answer($answer, 404, $page{404}, $name =~ s/\Q$files/FILES/r);
        unlike($answer->raw, qr/\Q$files\E|secret|X-Sendfile/i,
               'the client learns nothing');
        is($answer->header('X-A'), undef, 'nor of the other fields');
        my @lines = $httpd->error_log =~ /FCGI25: (.*)/g;
        is(@lines - $before, 1, 'one log line');
        is($answer->header('Content-Encoding'), undef);
        like($lines[-1], qr/\Q$bad\E'/, 'with the path') if length $bad < 99;
    }
    is_answer(ask('/file/x', sendfile('', $TYPE)), 404, $page{404},
              'an empty name');
    is_answer(ask('/file/override/x', sendfile("$files/none", $TYPE)), 404,
              $page{404}, 'beside FcgiErrorOverride');
};

subtest 'X-Sendfile: fields of the body that is dropped' => sub {
    my @dropped = ('Content-Encoding: gzip', 'Content-Range: bytes 0-4/5',
                   'Content-MD5: x', 'Digest: md5=x', 'Repr-Digest: md5=:x:',
                   'Content-Digest: md5=:x:', 'Transfer-Encoding: chunked',
                   'Accept-Ranges: none');
    my $fields = join '', map { "$_\r\n" } @dropped, 'Content-Language: de';
    for my $status ('', "Status: 206\r\n") {
        my $answer = ask('/file/x', $status
            . sendfile("$files/private/a.txt", $TYPE . $fields));
        is_answer($answer, 200, $ALL, $status || 'no status');
        for (@dropped) {
            my ($name) = /^([^:]+)/;
            is_deeply([$answer->header_all($name)],
                      $name eq 'Accept-Ranges' ? ['bytes'] : [], $name);
        }
        is($answer->header('Content-Language'), 'de', 'no others');
    }
    my $answer = ask('/file/x', sendfile("$files/private/a.txt",
                                         $TYPE . $fields),
                     Range => 'bytes=9-17');
    is_answer($answer, 206, "00000002\n", 'a range');
    is_deeply([$answer->header_all('Content-Range')], ['bytes 9-17/18000']);
};

subtest 'X-Sendfile: a name as a URL has it' => sub {
    my %good = ('private/%61.txt' => $ALL, 'private/a%2etxt' => $ALL,
                '%70rivate/a.txt' => $ALL, 'private/no%20type' => 'no type',
                'private/100%2525%20%3F%23.txt' => 'odd name',
                'private/sub/%2e%2e/a.txt' => $ALL);
    is_answer(ask('/file/x', sendfile("$files/$_", $TYPE)), 200, $good{$_},
              $_) for sort keys %good;
    Private::spew("$files/private/a%2etxt", 'as it is written');
    is_answer(ask('/file/x', sendfile("$files/private/a%2etxt", $TYPE)), 200,
              'as it is written', 'a file of that very name comes first');
};

subtest 'X-Sendfile: a relative name is below the script' => sub {
    my %good = ('down/a.txt' => 'below', './down/a.txt' => 'below',
                'down/%61.txt' => 'below', 'down/../down/a.txt' => 'below');
    for my $script ('/rel/a.app', '/rel/a.app/info/x', '/rel/') {
        is_answer(ask($script, sendfile($_, $TYPE)), 200, $good{$_},
                  "$script: $_") for sort keys %good;
        is_answer(ask($script, sendfile($_, $TYPE)), 404, $page{404},
                  "$script: not $_")
            for qw(a.app ../rel/a.app ../rel/down/a.txt ../plain.txt down/../a.app down/none
                   ../down/a.txt down %2e%2e/plain.txt rel/down/a.txt);
    }
};

subtest 'X-Sendfile: a pipe' => sub {
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /file/x HTTP/1.1\r\nHost: x\r\nX-Says: "
                . unpack('H*', sendfile("$files/private/pipe", $TYPE))
                . "\r\n\r\n");
    is($conn->read_response(timeout => 3)->status, 404, 'is no file');
    # lets a thread go that waits for someone to write
    sysopen my $pipe, "$files/private/pipe",
        POSIX::O_RDWR() | POSIX::O_NONBLOCK();
};

subtest 'X-Sendfile: the type' => sub {
    my %case = (
        'private/a.txt' => 'text/plain', 'private/page.html' => 'text/html',
        'private/sub/x.css' => 'text/css', 'private/no type' => undef,
    );
    for my $name (sort keys %case) {
        is(ask('/file/x', sendfile("$files/$name"))
           ->header('Content-Type'), $case{$name}, "$name has its own");
        is(ask('/file/x', sendfile("$files/$name", "Content-Type:\r\n"))
           ->header('Content-Type'), $case{$name}, 'an empty one is none');
        is(ask('/file/x', sendfile("$files/$name",
                                   "Content-Type: image/X\r\n"))
           ->header('Content-Type'), 'image/x', "or the application's");
    }
};

subtest 'X-Sendfile: ranges' => sub {
    my $says = sendfile("$files/private/a.txt", $TYPE);
    my %case = ('0-0' => [0, 1], '9-17' => [9, 9], '17990-' => [17990, 10],
                '-9' => [17991, 9], '0-99999' => [0, 18000]);
    for my $range (sort keys %case) {
        my ($from, $len) = @{ $case{$range} };
        my $answer = ask('/file/x', $says, Range => "bytes=$range");
        is_answer($answer, 206, substr($ALL, $from, $len), $range);
        is($answer->header('Content-Range'),
           sprintf('bytes %d-%d/18000', $from, $from + $len - 1));
        is($answer->header('Content-Length'), $len);
    }
    my $answer = ask('/file/x', $says, Range => 'bytes=18000-');
    is($answer->status, 416, 'beyond the end');
    $answer = ask('/file/x', $says, Range => 'bytes=0-8,900-908');
    is($answer->status, 206, 'two ranges');
    like($answer->header('Content-Type'), qr{^multipart/byteranges});
    like($answer->body, qr{bytes\ 0-8/18000\r\n\r\n00000001\n\r\n.*
                           bytes\ 900-908/18000\r\n\r\n00000101\n}sx);
    my $etag = ask('/file/x', $says)->header('ETag');
    is(ask('/file/x', $says, Range => 'bytes=0-8', 'If-Range' => $etag)
       ->status, 206, 'If-Range, the same file');
    is_answer(ask('/file/x', $says, Range => 'bytes=0-8',
                  'If-Range' => '"other"'), 200, $ALL, 'another file');
};

subtest 'X-Sendfile: conditions' => sub {
    my $says = sendfile("$files/private/a.txt", $TYPE);
    my $whole = ask('/file/x', $says);
    my ($etag, $date) = map { $whole->header($_) } qw(ETag Last-Modified);
    my $old = 'Thu, 01 Jan 2004 00:00:00 GMT';
    my @case = (
        [304, 'If-None-Match' => $etag], [304, 'If-Modified-Since' => $date],
        [304, 'If-None-Match' => '*'],
        [200, 'If-None-Match' => '"x"'], [200, 'If-Modified-Since' => $old],
        [412, 'If-Match' => '"x"'], [412, 'If-Unmodified-Since' => $old],
        [200, 'If-Match' => $etag],
    );
    for my $case (@case) {
        my ($status, $name, $value) = @$case;
        my $answer = ask('/file/x', $says, $name => $value);
        is($answer->status, $status, "$status, $name");
        is($answer->body, $status == 200 ? $ALL : '', 'its body')
            if $status != 412;
        is($answer->header('ETag'), $etag) if $status == 304;
    }
    $says = sendfile("$files/private/a.txt", "${TYPE}ETag: \"mine\"\r\n");
    is(ask('/file/x', $says)->header('ETag'), '"mine"',
       "the application's ETag");
    is(ask('/file/x', $says, 'If-None-Match' => '"mine"')->status, 304);
    is(ask('/file/x', $says, 'If-None-Match' => $etag)->status, 200);
    my $later = 'Fri, 01 Jan 2100 00:00:00 GMT';
    $says = sendfile("$files/private/a.txt", "${TYPE}Last-Modified: $old\r\n");
    is(ask('/file/x', $says)->header('Last-Modified'), $old,
       "the application's Last-Modified");
    is(ask('/file/x', $says, 'If-Modified-Since' => $old)->status, 304,
       'is what is compared');
};

subtest 'X-Sendfile: HEAD' => sub {
    for my $name (qw(a.txt big.bin)) {
        my $answer = ask('/file/x', sendfile("$files/private/$name", $TYPE),
                         METHOD => 'HEAD');
        is_answer($answer, 200, '', $name);
        is($answer->header('Content-Length'), -s "$files/private/$name");
    }
    my $answer = ask('/file/x', sendfile("$files/none", $TYPE),
                     METHOD => 'HEAD');
    is_answer($answer, 404, '', 'of none');
};

subtest 'X-Sendfile: the worker is free before the file is sent' => sub {
    my $conn = Client->connect($httpd->port, rcvbuf => 4096);
    $conn->send("GET /file/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                . "X-Id: sent\r\nX-Says: " . unpack('H*',
                  sendfile("$files/private/big.bin", $TYPE)) . "\r\n\r\n");
    ok($conn->read_until(qr/\r\n\r\n/, 5), 'the client reads no more');
    is($app->wait_report('closed sent', 5), 1, 'the application is free');
    my $answer = $conn->read_response(timeout => 20);
    is_deeply([@$answer{qw(status complete)}], [200, 1]);
    ok($answer->body eq "\0" x $BIG, 'and then it reads all');
};

subtest 'X-Sendfile: over HTTP/2' => sub {
    plan skip_all => 'prefork has no HTTP/2' if !$H2;
    my $answer = ask_h2('/file/x', sendfile("$files/private/big.bin", $TYPE));
    is_deeply([@$answer{qw(exit status http_version)}], [0, 200, 2]);
    ok($answer->{body} eq "\0" x $BIG, 'a large file');
    like($answer->{headers}, qr/^content-length: $BIG\r$/mi);
    $answer = ask_h2('/file/x', sendfile("$files/private/a.txt", $TYPE),
                     '-r', '9-17');
    is_deeply([@$answer{qw(exit status body)}], [0, 206, "00000002\n"],
              'a range');
    $answer = ask_h2('/file/x', sendfile("$files/secret.txt", $TYPE));
    is_deeply([@$answer{qw(exit status body)}], [0, 404, $page{404}],
              'none of ours');
};

subtest 'Off: the fields pass as any other' => sub {
    for my $path ('/off/x', '/file/off/x') {
        my $answer = ask($path, sendfile("$files/private/a.txt",
                                         "${TYPE}X-Accel-Redirect: /a\r\n"));
        is_answer($answer, 200, 'not this', $path);
        is($answer->header('X-Sendfile'), "$files/private/a.txt");
        is($answer->header('X-Accel-Redirect'), '/a');
    }
};

# ---- X-Accel-Redirect ----

sub accel {
    my ($url, $fields) = @_;
    return "X-Accel-Redirect: $url\r\n" . ($fields // $TYPE)
        . "\r\nnot this";
}

subtest 'X-Accel-Redirect: another URL' => sub {
    my $kept = "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nCache-Control: private"
        . "\r\nExpires: Thu, 01 Jan 2004 00:00:00 GMT\r\n"
        . "Content-Disposition: attachment; filename=\"z\"\r\n";
    my $answer = ask('/file/x', accel('/protected/a.txt', $kept . $TYPE
        . "X-Other: x\r\nETag: \"abc\"\r\nContent-Length: 8\r\n"));
    is_answer($answer, 200, $ALL, 'its answer');
    is_deeply([map { [$answer->header_all($_)] }
               qw(Set-Cookie Cache-Control Expires Content-Disposition)],
              [[qw(a=1 b=2)], ['private'], ['Thu, 01 Jan 2004 00:00:00 GMT'],
               ['attachment; filename="z"']], 'fields that are kept');
    is_deeply([map { $answer->header($_) // () }
               qw(X-Other X-Accel-Redirect Location)], [], 'and dropped');
    isnt($answer->header('ETag'), '"abc"');
    is($answer->header('Content-Length'), length $ALL);
    is(Client->get($httpd->port, '/protected/a.txt')->status, 403,
       'the client itself may not');
    is(ask('/file/x', accel('/closed/a.txt'))->status, 403,
       'its access rules hold');
    is_answer(ask('/file/x', accel('/nowhere')), 404, $page{404}, 'missing');
    is_answer(ask('/file/x', accel('/protected/a.txt'),
                  Range => 'bytes=9-17'), 206, "00000002\n", 'a range');
    is(ask('/file/x', accel('/protected/a.txt'), 'If-None-Match' => '*')
       ->status, 304, 'a condition');
    is_answer(ask('/file/x', accel('/protected/a.txt'), METHOD => 'HEAD'),
              200, '', 'HEAD');
    is_answer(ask('/file/x', accel('/protected/a.txt'), METHOD => 'POST',
                  BODY => 'x' x 300_000), 200, $ALL, 'POST');
    urls();
    is_answer(ask('/file/x', accel('/off/page/200?a=b')), 200,
              "the application's page", 'of an application');
    is_deeply(urls(), ['GET /file/x', 'GET /off/page/200']);
    is_answer(ask('/file/x', accel('/off/page/200'), METHOD => 'POST',
                  BODY => 'x' x 300_000), 200, "the application's page");
    is_deeply(urls(), ['POST /file/x', 'GET /off/page/200'], 'with GET');
};

subtest 'X-Accel-Redirect: the type' => sub {
    my @case = (
        ['/protected/a.txt', 'Content-Type: application/x-own', 'application/x-own'],
        ['/protected/0815', 'Content-Type: Application/PDF', 'application/pdf'],
        ['/protected/0815', 'X-A: b', undef],
        ['/protected/0815', 'Content-Type:', undef],
        ['/protected/a.txt', 'Content-Type:', 'text/plain'],
        ['/off/page/200', 'Content-Type: text/html', 'text/plain'],
        ['/closed/a.txt', 'Content-Type: application/x-own', qr{^text/html}],
        ['/nowhere', 'Content-Type: application/x-own', 'text/html'],
    );
    for my $case (@case) {
        my ($url, $field, $type) = @$case;
        my $said = ask('/file/x', accel($url, "$field\r\n"))
            ->header('Content-Type');
        ref $type ? like($said, $type, "$url, $field")
                  : is($said, $type, "$url, $field");
    }
};

subtest 'X-Accel-Redirect: no URL here' => sub {
    for my $url ('http://example.com/', 'protected/a.txt', '@name', '',
                 '/protected/100%.txt', '/100%zz?a=b') {
        my $before = () = $httpd->error_log =~ /FCGI25/g;
        my $answer = ask('/file/x', accel($url, "${TYPE}X-A: b\r\n"));
        is_answer($answer, 404, $page{404}, "'$url'");
        is_deeply([map { $answer->header($_) // () } qw(X-Accel-Redirect X-A)],
                  [], 'the client learns nothing');
        my @lines = $httpd->error_log =~ /FCGI25: (.*)/g;
        is(@lines - $before, 1, 'one log line');
        like($lines[-1], qr/X-Accel-Redirect names '\Q$url\E'/, 'with it');
    }
    is(ask('/file/x', accel('/file/x'))->status, 500, 'a loop has an end');
};

subtest 'X-Accel-Redirect: the worker is free before' => sub {
    $httpd->write('protected/big.bin', '');
    truncate $httpd->docroot . '/protected/big.bin', $BIG;
    my $conn = Client->connect($httpd->port, rcvbuf => 4096);
    $conn->send("GET /file/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                . "X-Id: moved\r\nX-Says: "
                . unpack('H*', accel('/protected/big.bin')) . "\r\n\r\n");
    ok($conn->read_until(qr/\r\n\r\n/, 5), 'the client reads no more');
    is($app->wait_report('closed moved', 5), 1, 'the application is free');
    ok($conn->read_response->body eq "\0" x $BIG, 'and then it reads all');
};

subtest 'what is refused' => sub {
    my %bad = (
        'FcgiErrorOverride' => qr/write On, On and statuses, or Off/,
        'FcgiErrorOverride 404' => qr/write On, On and statuses, or Off/,
        'FcgiErrorOverride Off 404' => qr/write On, On and statuses, or Off/,
        'FcgiErrorOverride On 200' => qr/'200' is not a status from 400/,
        'FcgiErrorOverride On 600' => qr/'600' is not a status from 400/,
        'FcgiErrorOverride On 4040' => qr/'4040' is not a status/,
        'FcgiErrorOverride On 404,500' => qr/'404,500' is not a status/,
        'FcgiSendfile' => qr/'' is not the absolute path of a folder/,
        'FcgiSendfile files' => qr/'files' is not the absolute path/,
        'FcgiSendfile /tmp Off' => qr/'Off' is not the absolute path/,
    );
    for my $line (sort keys %bad) {
        my ($status, $output) = Httpd->configtest("$line\n");
        isnt($status, 0, $line);
        like($output, $bad{$line});
    }
};

$httpd->ok_healthy;
done_testing;
