# A closer look at the log tells the story of a request, and shows its records.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use Test::More;

# One that is parked has two lines more.
delete $ENV{PARK};

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    while (my $request = $c->read_request(10)) {
        my $path = $request->{params}{PATH_INFO} // '';
        return if $path eq '/broken';
        $c->stderr("a word\n");
        $c->stdout("Status: 201\r\nContent-Type: text/plain\r\n\r\nhel\0lo");
        $c->end(7, FCGI_REQUEST_COMPLETE);
    }
});

# What the log says at a level of the requests, without the time, the process
# and the place.
sub story {
    my ($level, @requests) = @_;
    my $httpd = Httpd->start(
        log_level => "info fastcgi_handler:$level",
        vars => { APP => $app->handler, ADDRESS => $app->address },
        config => <<'EOC');
FcgiBackend @ADDRESS@ keepalive=30
# a slow machine would have more to tell
FcgiPark Off
<Location /app>
  SetHandler @APP@
</Location>
EOC
    my $conn = Client->connect($httpd->port);
    for my $request (@requests) {
        $conn->send($request);
        $conn->read_response;
    }
    $conn->close;
    my $count = @requests;
    $httpd->wait_for_access(qr/\A(?:.*\n){$count}/)
        or diag 'lines are missing in the access log';
    my @lines = grep { /fastcgi_handler:|FCGI/ && !/FCGI(?:26|36)/ } split /\n/,
        $httpd->error_log;
    $httpd->leave;
    return join '', map { s/^(?:\[[^\]]*\] )+(?:\S+\.c\(\d+\): )?//r . "\n" }
        @lines;
}

sub get { return "GET $_[0] HTTP/1.1\r\nHost: x\r\n\r\n" }

# A test for each line of @wanted, in this order and nothing in between.
sub told {
    my ($story, @wanted) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @lines = split /\n/, $story;
    for my $wanted (@wanted) {
        like(shift @lines // 'no more lines', $wanted, "$wanted");
    }
    is("@lines", '', 'and no more');
    return;
}

my $name = quotemeta $app->handler;
my @first = (
    qr{^(?:\[.*\] )?$name: to be asked for /app/a, with \d+ bytes of variables and a body of 0 bytes$},
    qr{$name: has a new connection, try 1, after \d+ us in line and \d+ us to connect$},
    qr{$name: the request is sent, \d+ bytes$},
    qr{FCGI10: .*a word},
    qr{$name: the answer begins, after \d+ us$},
    qr{$name: a header block is here: 201, 1 fields, Content-Length -1$},
    qr{$name: the application is done; the connection is kept$},
    qr{$name: done, after \d+ us, \d+ bytes to and \d+ bytes from the application$},
    qr{FCGI12: },
);

subtest 'trace4: the story' => sub {
    my $story = story('trace4', get('/app/a'), get('/app/a'));
    my @second = @first;
    $second[1] = qr{$name: has a kept connection, try 1, after 0 us in line and 0 us to connect$};
    told($story, @first, @second);
};

subtest 'trace4: of one that fails' => sub {
    my $story = story('trace4', get('/app/broken'));
    like($story, qr{has a new connection, try 1, .*has a new connection, try 2, }s,
         'both tries');
    like($story, qr{$name: broken answer, after .*\n.*FCGI03}, 'and its end');
};

subtest 'trace3: nothing of it' => sub {
    unlike(story('trace3', get('/app/a')), qr/the request is sent/);
};

my $body = join '', map { chr } 0 .. 255;
my $post = "POST /app/a HTTP/1.1\r\nHost: x\r\nContent-Length: 256\r\n\r\n$body";

# The bytes that a record's lines of numbers show.
sub bytes_of {
    my ($story, $label) = @_;
    my ($lines) = $story =~ /^.*\Q$label\E.*\n((?:[0-9a-f]{4}: .*\n)*)/m;
    return pack 'H*', join '',
        ($lines // '') =~ /^[0-9a-f]{4}: .{16} ([0-9a-f]+) *$/mg;
}

subtest 'trace8: the records' => sub {
    my $story = story('trace8', $post);
    my @records = $story =~ /((?:to|from) the application: FCGI_\w+.*)/g;
    my @wanted = (
        qr/^to .*FCGI_BEGIN_REQUEST, responder, flags 1/,
        qr/^to .*FCGI_PARAMS \(\d+ bytes\)/, qr/^to .*FCGI_STDIN \(256 bytes\)/,
        qr/^to .*FCGI_STDIN \(0 bytes\)/, qr/^from .*FCGI_STDERR \(7 bytes\)/,
        qr/^from .*FCGI_STDOUT \(\d+ bytes\)/,
        qr/^from .*FCGI_END_REQUEST, application status 7, protocol status 0, FCGI_REQUEST_COMPLETE/,
    );
    like(shift @records // 'no more', $_, "$_") for @wanted;
    is("@records", '', 'and no more');
    is(unpack('H*', bytes_of($story, 'FCGI_STDIN (256 bytes)')),
       unpack('H*', $body), 'all bytes of the body');
};

subtest 'trace7: no records' => sub {
    unlike(story('trace7', $post), qr/the application: FCGI_/);
};

Httpd->ok_left;
done_testing;
