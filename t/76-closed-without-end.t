# An answer is whole when its stream was ended, or its length is reached.
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
my $HEAD = "$TYPE\r\n";
my $LENGTH = "Content-Length: 4\r\n$HEAD";
my $H2 = Httpd::mpm() ne 'prefork';
my $files = Private::temp_dir('files');
Private::spew("$files/a.txt", 'file');

# What comes before the connection is closed: whole ones and others.
my %whole = (
    ended => sub { out($_[0], "${HEAD}body", '') },
    'both-ended' => sub {
        out($_[0], "${HEAD}body", '') . $_[0]->records(FCGI_STDERR, $_[0]{id}, '');
    },
    'words-behind' => sub {
        out($_[0], "${HEAD}body", '') . $_[0]->records(FCGI_STDERR, $_[0]{id}, "w\n");
    },
    'end-request-cut' => sub {
        out($_[0], "${HEAD}body", '') . substr $_[0]->end_record, 0, 11;
    },
    length => sub { out($_[0], "${LENGTH}body") },
    'length-ended' => sub { out($_[0], "${LENGTH}body", '') },
    'length-in-pieces' => sub { out($_[0], "${LENGTH}bo", 'dy') },
    'length-trimmed' => sub { out($_[0], "${LENGTH}body and more") },
    'length-record-cut' => sub {
        substr out($_[0], "${LENGTH}body and more"), 0, -4;
    },
    error => sub { out($_[0], "Status: 404\r\n${HEAD}body", '') },
);
my %cut = (
    open => sub { out($_[0], "${HEAD}body") },
    'went-on' => sub { out($_[0], "${HEAD}bo", '', 'dy') },
    'length-short' => sub { out($_[0], "${LENGTH}bod") },
    'length-short-ended' => sub { out($_[0], "${LENGTH}bod", '') },
    'stderr-ended' => sub {
        out($_[0], "${HEAD}body") . $_[0]->records(FCGI_STDERR, $_[0]{id}, '');
    },
);
my %none = (
    'nothing-ended' => sub { out($_[0], '') },
    'headers-ended' => sub { out($_[0], $TYPE, '') },
    'headers-open' => sub { out($_[0], $TYPE) },
);
my %other = (
    file => sub { out($_[0], "X-Sendfile: $files/a.txt\r\n$HEAD", '') },
    local => sub { out($_[0], "Location: /other.txt\r\n\r\n", '') },
    empty => sub { out($_[0], "Content-Length: 0\r\n$HEAD") },
    204 => sub { out($_[0], "Status: 204\r\n\r\n", '') },
    'file-length' => sub {
        out($_[0], "X-Sendfile: $files/a.txt\r\n${LENGTH}body");
    },
    'page-length' => sub { out($_[0], "Status: 410\r\n${LENGTH}body") },
);
my %short = (
    'file-short' => sub {
        out($_[0], "X-Sendfile: $files/a.txt\r\n${LENGTH}bod");
    },
    'page-short' => sub { out($_[0], "Status: 410\r\n${LENGTH}bod") },
);

sub out { return join '', map { $_[0]->records(FCGI_STDOUT, $_[0]{id}, $_) }
                          @_[1 .. $#_] }

my %tell = (%whole, %cut, %none, %other, %short);

sub tell {
    my ($c) = @_;
    while (my $request = $c->read_request(60)) {
        my $params = $request->{params};
        my ($how, $name) = $params->{REQUEST_URI} =~ m{/(\w+)/([-\w]+)$};
        if ($name eq 'good') {
            $c->reply("${HEAD}good");
            next;
        }
        $c->send($tell{$name}->($c));
        return $how eq 'reset' ? $c->reset : $c->close;
    }
    return;
}

my $app = FcgiApp->start(\&tell, workers => 4);
my $httpd = Httpd->start(
    vars => { APP => $app->address, FILES => "$files" }, http2 => $H2,
    files => { 'other.txt' => 'another' }, config => <<'EOC');
ErrorDocument 502 "broken"
ErrorDocument 410 "the site's"
FcgiBackend app @APP@ keepalive=2
<LocationMatch "^/(close|reset|kept)/">
  SetHandler fcgi:app
  FcgiScript Virtual
  FcgiSendfile @FILES@
  FcgiErrorOverride On 410
  FcgiRetry Off
</LocationMatch>
EOC

# Lines about the application's close since the last call; with a count, once
# there are so many.
my %told;

sub told {
    my ($id, $count) = @_;
    my (@lines, @new);
    Private::wait_until(10, sub {
        @lines = $httpd->error_log =~ /:(\w+)\][^\n]*FCGI$id: /g;
        @new = @lines[($told{$id} // 0) .. $#lines];
        return @new >= ($count // 0);
    });
    $told{$id} = @lines;
    return "@new";
}

sub get {
    my ($path, $version) = @_;
    return Client->request($httpd->port, "GET $path HTTP/"
                           . ($version // '1.1') . "\r\nHost: x\r\n\r\n");
}

subtest 'whole' => sub {
    for my $name (sort keys %whole) {
        for my $version ('1.1', '1.0') {
            my $answer = get("/close/$name", $version);
            is_deeply([@$answer{qw(status body complete)}],
                      [$name eq 'error' ? 404 : 200, 'body', 1],
                      "$name, HTTP/$version");
            is(told('34', 1), 'info', 'with a word in the log');
            is(told('03'), '', 'which is no error');
        }
    }
    is(told('11', 4), join(' ', ('warn') x 4), 'what is longer is said, too');
};

subtest 'a reset is an end as well' => sub {
    is_deeply([@{ get('/reset/ended') }{qw(status body complete)}],
              [200, 'body', 1]);
    is(told('34', 1), 'info');
};

subtest 'cut' => sub {
    for my $name (sort keys %cut) {
        my $answer = get("/close/$name");
        is_deeply([@$answer{qw(status complete)}], [200, 0], $name);
        is(told('03', 1), 'error', 'an error in the log');
        is(told('34'), '', 'and nothing else');
    }
};

subtest 'none' => sub {
    for my $name (sort keys %none) {
        my $answer = get("/close/$name");
        is_deeply([@$answer{qw(status body complete)}], [502, 'broken', 1],
                  $name);
        is(told('03', 1), 'error', 'an error in the log');
    }
};

subtest 'other answers' => sub {
    my %body = (file => 'file', local => 'another', empty => '', 204 => '',
                'file-length' => 'file', 'page-length' => "the site's");
    my %status = (204 => 204, 'page-length' => 410);
    for my $name (sort keys %body) {
        my $answer = get("/close/$name");
        is_deeply([@$answer{qw(status body)}],
                  [$status{$name} // 200, $body{$name}], "/$name");
        is(told('34', 1), 'info');
    }
    for my $name (sort keys %short) {
        is(get("/close/$name")->status, 502, "/$name");
        is(told('34'), '');
    }
};

sub head {
    my ($name) = @_;
    return Client->request($httpd->port, "HEAD /close/$name HTTP/1.1\r\n"
                           . "Host: x\r\n\r\n");
}

subtest 'HEAD, with a body that is not wanted' => sub {
    for my $name (sort keys %whole) {
        is(head($name)->status, $name eq 'error' ? 404 : 200, $name);
        is(told('34', 1), 'info');
    }
    told('03');
    is(head('length-short')->status, 502, 'cut');
    is(told('03', 1), 'error');
};

subtest 'on a kept connection' => sub {
    is(Client->get($httpd->port, '/kept/good')->body, 'good', 'kept');
    my $count = $app->connections;
    my $answer = get('/kept/ended');
    is_deeply([@$answer{qw(status body complete)}], [200, 'body', 1]);
    is(Client->get($httpd->port, '/kept/good')->body, 'good',
       'the next one has a connection of its own');
    cmp_ok($app->connections, '>', $count);
};

subtest 'HTTP/2' => sub {
    plan skip_all => 'prefork has no HTTP/2' if !$H2;
    my @h2 = ('--http2-prior-knowledge', 'http://127.0.0.1:' . $httpd->port);
    my $answer = Client::curl($h2[0], "$h2[1]/close/ended");
    is_deeply([@$answer{qw(exit status body)}], [0, 200, 'body'], 'whole');
    $answer = Client::curl($h2[0], "$h2[1]/close/open");
    isnt($answer->{exit}, 0, 'cut') if Httpd::h2_shows_cuts();
};

$httpd->ok_healthy;
done_testing;
