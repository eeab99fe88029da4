# Fields of the application are where httpd's CGI programs have theirs.
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

my $TYPE = "Content-Type: text/plain\r\n";
my $OWN = "Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\n"
    . "X-Powered-By: PHP/8\r\nX-Frame-Options: SAMEORIGIN\r\n"
    . "X-Any: 1\r\nX-Any: 2\r\n";
my $H2 = Httpd::mpm() ne 'prefork';

# What an application says to /any/NAME.
my %says = (
    page => "$OWN$TYPE\r\nown",
    404 => "Status: 404\r\n$OWN$TYPE\r\nown",
    304 => "Status: 304\r\nETag: \"a\"\r\nSet-Cookie: a=1; Path=/\r\n\r\n",
    redirect => "Location: /elsewhere\r\n$OWN$TYPE\r\nown",
    local => "Location: /other.txt\r\n\r\n",
    file => "X-Sendfile: \@FILES\@/a.txt\r\n$OWN$TYPE\r\nnot this",
    nofile => "X-Sendfile: \@FILES\@/none\r\n$OWN$TYPE\r\nnot this",
    url => "X-Accel-Redirect: /other.txt\r\n$OWN$TYPE\r\nnot this",
    etag => "ETag: \"a\"\r\n$OWN$TYPE\r\nown",
    early => "Status: 103\r\nLink: </a.css>\r\nX-Early: 1\r\n\r\n"
        . "$OWN$TYPE\r\nown",
    cached => "Cache-Control: max-age=60\r\nETag: \"a\"\r\n"
        . "Last-Modified: Tue, 01 Jun 2021 10:00:00 GMT\r\n$OWN$TYPE\r\nown",
    vary => "Vary: X-One\r\nVary: X-Two\r\nCache-Control: max-age=60\r\n"
        . "$TYPE\r\nown",
    short => "Content-Length: 9\r\n$OWN$TYPE\r\n",
);

my $files = Private::temp_dir('files');
Private::spew("$files/a.txt", 'a file');
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    while (my $request = $c->read_request(60)) {
        my ($name) = $request->{params}{REQUEST_URI} =~ m{/(\w+)[^/]*$};
        $c->report(asked => $name);
        return $c->stdout("$OWN$TYPE") if $name eq 'cut';
        $c->reply($says{$name} =~ s/\@FILES\@/$files/gr);
    }
}, workers => 4);

my $httpd = Httpd->start(
    vars => { APP => $app->handler, FILES => "$files" },
    modules => [qw(headers cache cache_disk include)], http2 => $H2,
    files => { 'other.txt' => 'another', 'errors/404.html' => "the site's\n",
               'page.shtml' => '<!--#include virtual="/plain/page" -->' },
    config => <<'EOC');
ErrorDocument 404 /errors/404.html
ErrorDocument 502 "broken"
ErrorDocument 412 "not so"
FcgiSendfile @FILES@
AddOutputFilter INCLUDES .shtml
<FilesMatch "\.shtml$">
  Options +Includes
</FilesMatch>
<LocationMatch "^/(plain|always|onsuccess|override|cache)/">
  SetHandler @APP@
  FcgiScript Virtual
</LocationMatch>
<Location /always/>
  Header always edit Set-Cookie "$" "; HttpOnly"
  Header always unset X-Powered-By
  Header always set X-Frame-Options DENY
</Location>
<Location /onsuccess/>
  Header edit Set-Cookie "$" "; HttpOnly"
  Header unset X-Powered-By
</Location>
<Location /override/>
  FcgiErrorOverride On
</Location>
<Location /cache/>
  Header always set X-Frame-Options DENY
</Location>
CacheRoot @ROOT@/tmp
CacheEnable disk /cache/
CacheQuickHandler off
EOC

sub get {
    my ($path, @fields) = @_;
    return Client->get($httpd->port, $path, @fields);
}

# The fields that the tests are about, as the client sees them.
sub fields {
    my ($answer) = @_;
    return { map { my @values = $answer->header_all($_);
                   @values ? ($_ => \@values) : () }
             qw(Set-Cookie X-Powered-By X-Frame-Options X-Any) };
}

my %own = ('Set-Cookie' => ['a=1; Path=/', 'b=2'],
           'X-Powered-By' => ['PHP/8'], 'X-Frame-Options' => ['SAMEORIGIN'],
           'X-Any' => [1, 2]);
my %always = ('Set-Cookie' => ['a=1; Path=/; HttpOnly', 'b=2; HttpOnly'],
              'X-Frame-Options' => ['DENY'], 'X-Any' => [1, 2]);

subtest 'as it is' => sub {
    for my $name (qw(page 404 redirect etag)) {
        my $answer = get("/plain/$name");
        is_deeply(fields($answer), \%own, "/$name");
        is($answer->body, 'own', 'its body');
    }
};

subtest 'Header always' => sub {
    for my $name (qw(page 404 redirect etag)) {
        my $answer = get("/always/$name");
        is_deeply(fields($answer), \%always, "/$name");
        is_deeply([$answer->header_all('Content-Type')], ['text/plain'],
                  'one type');
    }
    is(get('/always/redirect')->header('Location') =~ s/^http:..[^\/]+//r,
       '/elsewhere', 'Location');
    is_deeply(fields(get('/always/file')), \%always, 'a file in its place');
    return if !$H2;
    my $answer = Client::curl('--http2-prior-knowledge', 'http://127.0.0.1:'
                              . $httpd->port . '/always/page');
    is_deeply([$answer->{headers} =~ /^set-cookie: (.*?)\r$/mg],
              $always{'Set-Cookie'}, 'HTTP/2');
    is_deeply([$answer->{headers} =~ /^x-frame-options: (.*?)\r$/mg],
              ['DENY']);
};

subtest 'Header without always finds none of them' => sub {
    is_deeply(fields(get('/onsuccess/page')), \%own);
};

subtest 'interim responses have theirs alone' => sub {
    my $answer = get('/always/early');
    is_deeply([map { @{ $_->{headers} } } @{ $answer->interim }],
              [[Link => '</a.css>'], ['X-Early' => 1]], 'the interim one');
    is_deeply(fields($answer), \%always, 'the answer');
    is_deeply([$answer->header_all('X-Early')], [], 'has none of them');
};

subtest 'conditions' => sub {
    my $answer = get('/plain/etag', 'If-None-Match' => '"a"');
    is($answer->status, 304);
    is($answer->header('ETag'), '"a"');
    $answer = get('/plain/etag', 'If-Match' => '"b"');
    is_deeply([@$answer{qw(status body)}], [412, 'not so']);
    is_deeply(fields($answer), {}, 'without fields of what is not given');
    is_deeply([get('/always/304')->header_all('Set-Cookie')],
              ['a=1; Path=/; HttpOnly'], "the application's own 304");
};

subtest 'an answer that is taken back takes its fields with it' => sub {
    my %case = ('/plain/cut' => [502, 'broken'],
                '/plain/nofile' => [404, "the site's\n"],
                '/override/404' => [404, "the site's\n"]);
    for my $path (sort keys %case) {
        my $answer = get($path);
        is_deeply([@$answer{qw(status body)}], $case{$path}, $path);
        my $fields = fields($answer);
        my $cookies = delete $fields->{'Set-Cookie'};
        is_deeply($cookies, $path =~ /override/ ? $own{'Set-Cookie'} : undef,
                  'cookies, where they are kept');
        is_deeply($fields, {}, 'and no others');
    }
    is(get('/plain/short')->complete, 0, 'one that is begun is cut');
    is_deeply(fields(get('/plain/local')), {}, 'a local redirect');
    is_deeply(fields(get('/plain/url')),
              { 'Set-Cookie' => $own{'Set-Cookie'} }, 'X-Accel-Redirect');
};

subtest 'a part of a page sets no field of the page' => sub {
    my $answer = get('/page.shtml');
    is($answer->body, 'own');
    is_deeply(fields($answer), {});
};

subtest 'mod_cache' => sub {
    my @answers = map { get('/cache/cached') } 1 .. 3;
    push @answers, get('/cache/cached', 'Cache-Control' => 'max-age=0');
    for my $answer (@answers) {
        is_deeply(fields($answer), { %own, 'X-Frame-Options' => ['DENY'] },
                  'the fields, once each');
        is_deeply([map { [$answer->header_all($_)] } qw(ETag Last-Modified
                                                       Cache-Control)],
                  [['"a"'], ['Tue, 01 Jun 2021 10:00:00 GMT'],
                   ['max-age=60']]);
        is($answer->body, 'own');
    }
    my @asked = grep { $_->[0] eq 'asked' && $_->[1] eq 'cached' }
        $app->reports;
    is(scalar @asked, 2, 'asked, and asked again when that was wanted');
    my $answer = get('/cache/cached', 'If-None-Match' => '"a"');
    is($answer->status, 304, 'a condition');
    get('/cache/vary', 'X-Two' => $_) for 1, 2, 1, 2;
    @asked = grep { $_->[0] eq 'asked' && $_->[1] eq 'vary' } $app->reports;
    is(scalar @asked, 2, 'each variant once, by all lines of Vary');
};

$httpd->ok_healthy;
done_testing;
