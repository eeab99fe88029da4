# A Django site works at the root, and below another place.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Django;
use Httpd;
use JSON::PP qw(decode_json);
use Test::More;

my $missing = Django::missing();
plan skip_all => "no $missing here" if $missing;

my $django = Django->start;
my %site = (
    '' => Httpd->start(vars => { APP => $django->handler },
                       config => "<Location />\nSetHandler \@APP\@\n"
                       . "</Location>\n"),
    '/deep/site' => Httpd->start(vars => { APP => $django->handler },
                                 config => "<Location /deep/site>\n"
                                 . "SetHandler \@APP\@\n</Location>\n"),
);
my $FORM = 'application/x-www-form-urlencoded';

for my $base (sort keys %site) {
    my $httpd = $site{$base};
    my $host = 'localhost:' . $httpd->port;
    my %cookie;

    my $ask = sub {
        my ($path, $form) = @_;
        my $cookies = join '; ', map { "$_=$cookie{$_}" } sort keys %cookie;
        my $answer = Client->request(
            $httpd->port, ($form ? 'POST' : 'GET') . " $path HTTP/1.1\r\n"
            . "Host: $host\r\nConnection: close\r\n"
            . ($cookies ? "Cookie: $cookies\r\n" : '')
            . ($form ? "Content-Type: $FORM\r\nContent-Length: "
               . length($form) . "\r\n\r\n$form" : "\r\n"));
        for ($answer->header_all('Set-Cookie')) {
            $cookie{$1} = $2 if /^(\w+)=([^;]*)/;
        }
        return $answer;
    };

    subtest 'pages at ' . ($base || '/') => sub {
        my $answer = $ask->("$base/");
        is_deeply([@$answer{qw(status body complete)}],
                  [200, "hello\n", 1], 'home');
        is($answer->header('Content-Type'), 'text/plain');
        is($answer->header('Content-Length'), 6, 'its length');
        $answer = $ask->("$base/named/a%20b/");
        is($answer->body, "a b\n$base/named/a%20b/\n", 'reverse()');
        $answer = $ask->("$base/go/");
        is_deeply([$answer->status, $answer->header('Location')],
                  [302, "$base/named/after%20go/"], 'a redirect');
        is($ask->($answer->header('Location'))->status, 200, 'to a page');
        $answer = $ask->("$base/admin");
        is_deeply([$answer->status, $answer->header('Location')],
                  [301, "$base/admin/"], 'a slash that was missing');
        $answer = $ask->("$base/nothing/");
        is($answer->status, 404, "Django's own 404");
        like($answer->body, qr/requested resource was not found/);
    };

    subtest 'forms at ' . ($base || '/') => sub {
        my $seen = decode_json($ask->("$base/echo/?x=y%26", 'a=b&a=c')->body);
        is_deeply($seen, {
            method => 'POST', script_name => $base, path_info => '/echo/',
            query => 'x=y%26', uri => "http://$host$base/echo/?x=y%26",
            post => { a => [qw(b c)] },
        }, 'how it sees one');

        my $login = "$base/admin/login/";
        my $answer = $ask->("$base/admin/");
        is_deeply([$answer->status, $answer->header('Location')],
                  [302, "$login?next=$base/admin/"], 'the admin asks who');
        my ($token) = $ask->($login)->body =~
            /name="csrfmiddlewaretoken" value="(\w+)"/;
        ok($token, 'the form has a token');
        my $who = 'username=admin&password=admin&next=' . "$base/admin/";
        is($ask->($login, $who)->status, 403, 'without it: refused');
        $answer = $ask->($login, "$who&csrfmiddlewaretoken=$token");
        is_deeply([$answer->status, $answer->header('Location')],
                  [302, "$base/admin/"], 'with it: let in');
        my @names = map { /^(\w+)/ } $answer->header_all('Set-Cookie');
        is_deeply([sort @names], [qw(csrftoken sessionid)], 'two cookies');
        $answer = $ask->("$base/admin/");
        is($answer->status, 200);
        like($answer->body, qr/Site administration/, 'the admin');
        like($answer->body, qr{href="\Q$base\E/admin/auth/user/"},
             'its links are below the place');
    };
    $httpd->ok_healthy;
}

done_testing;
