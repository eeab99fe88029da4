# Real PHP-FPM behind AddHandler works as a PHP programmer expects.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Bytes;
use Client;
use Digest::SHA qw(sha256_hex);
use Httpd;
use PhpFpm;
use Private;
use Test::More;

plan skip_all => 'no php-fpm here' if !PhpFpm::program();

my $H2 = Httpd::mpm() ne 'prefork';

my %script = (
    'page.php' => '<?php header("X-A: b"); echo "hello from PHP\n";',
    'sub/index.php' => '<?php echo "an index";',
    'info.php' => '<?php header("Content-Type: text/plain");
        foreach (["PHP_SELF", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING",
                  "SCRIPT_FILENAME", "REQUEST_METHOD"] as $name)
            echo "$name=", $_SERVER[$name] ?? "-", "\n";',
    'post.php' => '<?php echo json_encode($_POST), strlen(
        file_get_contents("php://input"));',
    'upload.php' => '<?php $file = $_FILES["file"];
        echo "$file[name] $file[size] $file[error] $_POST[more] ",
            hash_file("sha256", $file["tmp_name"]);',
    'finish.php' => '<?php echo "the whole answer"; ignore_user_abort(true);
        fastcgi_finish_request();
        $dir = dirname(__DIR__) . "/tmp/$_GET[id]";
        touch("$dir.working");
        for ($i = 0; !file_exists("$dir.go"); $i++) {
            if ($i == 5000) exit;
            usleep(2000);
            clearstatcache();
        }
        touch("$dir.done");',
    'away.php' => '<?php header("Location: /page.php?x=y"); echo "moved";',
    'away301.php' => '<?php header("Location: /page.php", true, 301);',
    'cookies.php' => '<?php setcookie("a", "1"); setcookie("b", "2");',
    'missing.php' => '<?php http_response_code(404); echo "my own 404";',
    'error.php' => '<?php http_response_code(500); echo "my own 500";',
    'status.php' => '<?php header("HTTP/1.1 418 I am PHP"); echo "tea";',
    'nothing.php' => '<?php http_response_code(204);',
    'exit.php' => '<?php echo "so far"; exit(3);',
    'exception.php' => '<?php throw new Exception("it is\nbroken");',
    'warn.php' => '<?php echo "page"; trigger_error("one", E_USER_WARNING);
        error_log("two\nthree"); $x = $undefined;
        error_log("b\x01ll"); error_log(str_repeat("long ", 1000));',
    'big.php' => '<?php for ($i = 0; $i < 1280; $i++)
        echo str_repeat(pack("N", $i), 16384);',
    'big_length.php' => '<?php header("Content-Length: " . 20 * 65536);
        for ($i = 0; $i < 20; $i++) echo str_repeat(pack("N", $i), 16384);',
    'early.php' => '<?php if (!function_exists("headers_send")) exit("none");
        header("Link: </a.css>; rel=preload"); headers_send(103);
        echo "final";',
    'killed.php' => '<?php echo str_repeat("x", 100000); flush();
        shell_exec("kill -9 " . getmypid());',
    'echo.php' => '<?php echo $_SERVER["REQUEST_METHOD"];',
);

my $php = PhpFpm->start(children => 2, global => 'log_limit = 65536', ini => {
    log_errors => 'on', display_errors => 'off', upload_max_filesize => '8M',
    post_max_size => '9M', html_errors => 'off', error_reporting => 32767,
});
my $httpd = Httpd->start(
    vars => { PHP => $php->handler }, http2 => $H2,
    files => { %script, 'errors/404.html' => "the site's 404\n",
               'errors/503.html' => "the site's 503\n",
               'errors/502.html' => "the site's 502\n" },
    config => <<'EOC');
AddHandler @PHP@ .php
DirectoryIndex index.php
ErrorDocument 404 /errors/404.html
ErrorDocument 502 /errors/502.html
ErrorDocument 503 /errors/503.html
EOC

sub get { return Client->get($httpd->port, @_) }

sub post {
    my ($path, $type, $body) = @_;
    return Client->request(
        $httpd->port, "POST $path HTTP/1.1\r\nHost: x\r\nConnection: close"
        . "\r\nContent-Type: $type\r\nContent-Length: @{[ length $body ]}"
        . "\r\n\r\n$body");
}

subtest 'a page' => sub {
    my $answer = get('/page.php');
    is_deeply([@$answer{qw(status body complete)}],
              [200, "hello from PHP\n", 1]);
    like($answer->header('Content-Type'), qr{^text/html; *charset=UTF-8$}i);
    is($answer->header('X-A'), 'b');
    like($answer->header('X-Powered-By'), qr/^PHP/);
    is(get('/sub/')->body, 'an index', 'an index page');
    $answer = get('/info.php/more/path?a=b%20c&d');
    is($answer->body, <<"EOC", 'how it sees the request');
PHP_SELF=/info.php/more/path
SCRIPT_NAME=/info.php
PATH_INFO=/more/path
QUERY_STRING=a=b%20c&d
SCRIPT_FILENAME=@{[ $httpd->docroot ]}/info.php
REQUEST_METHOD=GET
EOC
    for my $method (qw(PUT DELETE OPTIONS PATCH)) {
        $answer = Client->request(
            $httpd->port, "$method /echo.php HTTP/1.1\r\nHost: x\r\n"
            . "Connection: close\r\n\r\n");
        is($answer->body, $method, $method);
    }
    $answer = Client->request(
        $httpd->port, "HEAD /page.php HTTP/1.1\r\nHost: x\r\n"
        . "Connection: close\r\n\r\n");
    like($answer->raw, qr/^HTTP\S+ 200 .*\r\n\r\n\z/s, 'HEAD');
};

subtest 'bodies' => sub {
    my $answer = post('/post.php', 'application/x-www-form-urlencoded',
                      'a=b+c&d[]=1&d[]=2');
    is($answer->body, '{"a":"b c","d":["1","2"]}17', 'a form');
    $answer = post('/post.php', 'text/plain', 'x' x 300_000);
    is($answer->body, '[]300000', 'anything');
    my $data = Bytes::numbered(5 * 1024 * 1024, 1);
    my $form = join "\r\n", '--XX', 'Content-Disposition: form-data; '
        . 'name="file"; filename="a b.bin"', 'Content-Type: a/b', '', $data,
        '--XX', 'Content-Disposition: form-data; name="more"', '', 'text',
        '--XX--', '';
    $answer = post('/upload.php', 'multipart/form-data; boundary=XX', $form);
    is($answer->body, join(' ', 'a b.bin', length $data, 0, 'text',
                           sha256_hex($data)), 'a file of 5 MB');
};

# The script ends only after the test has its answer.
subtest 'fastcgi_finish_request()' => sub {
    my $file = $httpd->root . '/tmp';
    my $conn = Client->connect($httpd->port);
    for my $id (1, 2) {
        $conn->send("GET /finish.php?id=$id HTTP/1.1\r\nHost: x\r\n\r\n");
        my $answer = $conn->read_response(timeout => 5);
        is_deeply([@$answer{qw(status body complete)}],
                  [200, 'the whole answer', 1], 'the answer is whole');
        ok(Private::wait_until(5, sub { -e "$file/$id.working" }),
           'the script has passed there');
        ok(!-e "$file/$id.done", 'and is still at work');
        $conn->send("GET /page.php HTTP/1.1\r\nHost: x\r\n\r\n");
        is($conn->read_response(timeout => 5)->body, "hello from PHP\n",
           'meanwhile the client asks another thing');
        Private::spew("$file/$id.go", '');
        ok(Private::wait_until(5, sub { -e "$file/$id.done" }),
           'the script comes to its end');
    }
    return if !$H2;
    my $answer = Client::curl(
        '--http2-prior-knowledge', '--max-time', 5,
        'http://127.0.0.1:' . $httpd->port . '/finish.php?id=3');
    is_deeply([@$answer{qw(exit body)}], [0, 'the whole answer'], 'HTTP/2');
    ok(!-e "$file/3.done", 'the script is still at work');
    Private::spew("$file/3.go", '');
    ok(Private::wait_until(5, sub { -e "$file/3.done" }), 'to its end');
};

subtest 'status and headers' => sub {
    my $answer = get('/away.php');
    is_deeply([@$answer{qw(status body)}, $answer->header('Location')],
              [302, 'moved', '/page.php?x=y'], 'Location');
    $answer = get('/away301.php');
    is_deeply([$answer->status, $answer->header('Location')],
              [301, '/page.php'], 'with a status');
    is_deeply([get('/cookies.php')->header_all('Set-Cookie')],
              ['a=1', 'b=2'], 'two cookies');
    $answer = get('/missing.php');
    is_deeply([@$answer{qw(status body)}], [404, 'my own 404'],
              "the script's own 404");
    $answer = get('/error.php');
    is_deeply([@$answer{qw(status body)}], [500, 'my own 500'],
              "the script's own 500");
    $answer = get('/status.php');
    is_deeply([@$answer{qw(status reason body)}], [418, 'I am PHP', 'tea'],
              'a reason of its own');
    $answer = get('/nothing.php');
    is_deeply([@$answer{qw(status body complete)}], [204, '', 1],
              'no content');
    $answer = get('/exit.php');
    is_deeply([@$answer{qw(status body complete)}], [200, 'so far', 1],
              'exit(3)');
};

subtest 'what it logs' => sub {
    my $answer = get('/warn.php');
    is_deeply([@$answer{qw(status body complete)}], [200, 'page', 1]);
    $httpd->wait_for_access(qr{/warn.php}, 5);
    my @lines = $httpd->error_log =~ /FCGI10: \S+: stderr: (.*)/g;
    # FPM itself joins the messages of a request with "; ".
    my $all = join '', map { s/ \[continued\]$// ? $_ : "$_\n" } @lines;
    my ($first, @more) = split /; PHP message: |\n/, $all;
    like($first, qr/^PHP message: PHP Warning: +one in \S+warn.php on line 1/,
         'a warning');
    is_deeply([@more[0, 1]], [qw(two three)], 'a message of two lines');
    like($more[2], qr/^PHP Warning: +Undefined variable/, 'another warning');
    is($more[3], 'b\x01ll', 'control bytes escaped');
    is($more[4], 'long ' x 1000, 'a long one, whole');
    is(scalar @more, 5, 'and nothing else');

    $answer = get('/exception.php');
    is($answer->status, 500, 'an exception');
    ok($httpd->wait_for_log(qr/stderr: .*PHP Fatal error: .*it is$/m, 5),
       'is logged');
    ok($httpd->wait_for_log(qr/stderr: broken in /, 5), 'line by line');
};

subtest 'large answers' => sub {
    my $answer = get('/big.php');
    my $sha = Digest::SHA->new(256);
    $sha->add(pack('N', $_) x 16384) for 0 .. 1279;
    ok($answer->complete, '80 MB');
    is(length $answer->body, 1280 * 65536);
    is(sha256_hex($answer->body), $sha->hexdigest, 'byte for byte');
    $answer = get('/big_length.php');
    is($answer->header('Content-Length'), 20 * 65536, 'with its length');
    ok($answer->complete);
};

subtest '103 Early Hints' => sub {
    my $answer = get('/early.php');
    plan skip_all => 'this PHP has no headers_send()'
        if $answer->body eq 'none';
    is_deeply($answer->interim, [{
        status => 103, headers => [[Link => '</a.css>; rel=preload']] }]);
    is_deeply([@$answer{qw(status body)}], [200, 'final']);
};

subtest 'scripts that are not there' => sub {
    my @missing = qw(/none.php /none.php/x /sub/none.php /none.php?a=b);
    for my $path (@missing) {
        my $answer = get($path);
        is_deeply([@$answer{qw(status body)}], [404, "the site's 404\n"],
                  $path);
    }
    unlike($httpd->error_log, qr/Primary script unknown/, 'FPM is not asked');
};

subtest 'a worker that dies' => sub {
    my $answer = get('/killed.php');
    is($answer->status, 200);
    ok(!$answer->complete, 'the client sees that the answer is cut');
    is($answer->error, 'closed', 'at once');
    is(get('/page.php')->status, 200, 'the next one works');
};

subtest 'FPM is gone' => sub {
    $php->stop;
    my $answer = get('/page.php');
    is_deeply([@$answer{qw(status body complete)}],
              [503, "the site's 503\n", 1], 'gone: 503');
    like($answer->header('Retry-After'), qr/^\d+$/, 'Retry-After');
    like($httpd->error_log, qr/FCGI01: \S*\Q@{[ $php->address ]}\E: /,
         'the line has the address');
    is(get('/none.php')->status, 404, 'a missing script is still a 404');
    is(get('/errors/404.html')->status, 200, 'a file is served');
};

$httpd->ok_healthy;
done_testing;
