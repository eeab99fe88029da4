# Records in any pieces, with any padding and among others, carry the answer.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Bytes;
use Client;
use FcgiApp;
use Httpd;
use Private;
use Test::More;

my $HEAD = "Content-Type: text/plain\r\nX-Whole: yes\r\n\r\n";

# The records of a whole answer, by name.  The second part of the name is a
# number.
my %answer = (
    # Everything a stream may have in it, in about 200 bytes.
    pieces => sub {
        my ($c) = @_;
        return $c->records(FCGI_STDOUT, 1, substr($HEAD, 0, 30))
            . $c->record(FCGI_STDERR, 1, 'one ', 3)
            . $c->record(FCGI_STDOUT, 1, substr($HEAD, 30) . 'a', 9)
            . $c->record(77, 1, 'SECRET')
            . $c->record(FCGI_STDERR, 2, 'SECRET', 1)
            . $c->record(FCGI_STDERR, 1, "line\n")
            . $c->record(FCGI_STDOUT, 1, 'bcd')
            . $c->record(FCGI_STDOUT, 1) . $c->record(FCGI_STDERR, 1, '', 2)
            . $c->end_record;
    },
    padding => sub {
        my ($c, $padding) = @_;
        return $c->records(FCGI_STDOUT, 1, $HEAD . 'x' x 3000, chunk => 100,
                           padding => $padding)
            . $c->record(FCGI_STDERR, 1, "words\n", $padding)
            . $c->record(FCGI_STDOUT, 1, '', $padding) . $c->end_record;
    },
    large => sub {
        my ($c, $padding) = @_;
        return $c->records(FCGI_STDOUT, 1, $HEAD)
            . $c->records(FCGI_STDOUT, 1, large_body(), padding => $padding)
            . $c->records(FCGI_STDOUT, 1, '') . $c->end_record;
    },
    foreign => sub {
        my ($c, $id) = @_;
        my $noise = join '', map { $c->record($_, $id, 'SECRET: x', 5) }
            1, 4, 5, 7, 8;
        return among($c, $noise);
    },
    unknown => sub {
        my ($c, $type) = @_;
        return among($c, $c->record($type, 1, 'SECRET: x', 255)
                         . $c->record($type, 1, ''));
    },
    management => sub {
        my ($c, $type) = @_;
        return among($c, $c->record($type, 0, 'SECRET: x', 8)
                         . $c->record($type, 0, ''));
    },
    empty => sub {
        my ($c) = @_;
        return among($c, $c->record(FCGI_STDERR, 1, '', 4)
                         . $c->record(FCGI_STDERR, 1, ''));
    },
    # libfcgi and uWSGI leave the empty records out when it suits them.
    unended => sub {
        my ($c) = @_;
        return $c->records(FCGI_STDOUT, 1, "${HEAD}body") . $c->end_record;
    },
    longend => sub {
        my ($c) = @_;
        return $c->records(FCGI_STDOUT, 1, "${HEAD}body")
            . $c->record(FCGI_END_REQUEST, 1, pack('NCx3', 0, 0) . 'more', 9);
    },
);

# The answer "body" with the same noise in every gap between its records.
sub among {
    my ($c, $noise) = @_;
    return join $noise, '', $c->records(FCGI_STDOUT, 1, substr $HEAD, 0, 9),
        $c->records(FCGI_STDOUT, 1, substr($HEAD, 9) . 'bo'),
        $c->records(FCGI_STDOUT, 1, 'dy'), $c->records(FCGI_STDOUT, 1, ''),
        $c->end_record;
}

# Three MB in which every place is known.
sub large_body {
    return Bytes::numbered(3_000_000, 1);
}

# What is no FastCGI: URL => what is sent after the request was read.
my %wrong = (
    'version-0' => sub { $_[0]->record(FCGI_STDOUT, 1, $HEAD, 0, 0) },
    'version-2' => sub { $_[0]->record(FCGI_STDOUT, 1, $HEAD, 0, 2) },
    'version-in-headers' => sub {
        $_[0]->records(FCGI_STDOUT, 1, "X-Secret: SECRET\r\n")
            . $_[0]->record(FCGI_STDOUT, 1, "\r\n", 0, 255);
    },
    'version-foreign' => sub { $_[0]->record(FCGI_STDOUT, 9, 'x', 0, 3) },
    'http' => sub { "HTTP/1.0 200 OK\r\n\r\nSECRET" },
    'end-short' => sub { $_[0]->record(FCGI_END_REQUEST, 1, "\0" x 7) },
    'end-empty' => sub { $_[0]->record(FCGI_END_REQUEST, 1, '', 8) },
);

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my ($kind, $number, $size, $at) =
        split m{/}, substr $request->{params}{QUERY_STRING}, 1;
    if ($kind eq 'wrong') {
        $c->send($wrong{$number}->($c));
    }
    elsif ($kind eq 'later') {
        $c->stdout("${HEAD}first");
        $c->wait_release($number, 10);
        $c->send($wrong{$number}->($c));
    }
    elsif ($kind eq 'alien') {
        my ($id, $type, $later) = split /-/, $number;
        $c->stdout("${HEAD}first") if $later;
        $c->send($c->record($type, $id, "SECRET: x\0\0"));
    }
    elsif ($kind eq 'open') {
        $c->stdout("${HEAD}body");
        $c->stdout('');
        $c->stderr('');
        $c->wait_release('end', 10);
        return $c->end;
    }
    else {
        send_in_pieces($c, $answer{$kind}->($c, $number), $size, $at);
        return;
    }
    $c->wait_eof(10);   # it is httpd that has to close
}, workers => 4);

# In pieces of $size bytes, or cut once at $at, or all at once.
sub send_in_pieces {
    my ($c, $bytes, $size, $at) = @_;
    my @pieces = $size ? unpack "(a$size)*", $bytes
        : $at ? unpack "a$at a*", $bytes : $bytes;
    $c->send_slowly($_, length, @pieces > 1 ? 0.001 : 0) for @pieces;
    return;
}

my $httpd = Httpd->start(
    vars => { APP => $app->handler }, config => <<'EOC');
<Location />
  SetHandler @APP@
  FcgiTimeout 10
</Location>
EOC

sub ask {
    my ($name, @more) = @_;
    return Client->get($httpd->port, join '/', "/$name?", @more);
}

# True if the answer is whole and has nothing of another record in it.
sub is_whole {
    my ($answer, $body) = @_;
    return $answer->complete && $answer->status == 200
        && ($answer->header('X-Whole') // '') eq 'yes'
        && $answer->body eq $body && $answer->raw !~ /SECRET/;
}

# What the module says in the log of the one request for this URL.
sub failures {
    my ($name) = @_;
    my $line = qr{"GET /\Q$name\E\?.* (\S+)$}m;
    $httpd->wait_for_access($line);
    my ($id) = $httpd->access_log =~ $line;
    return grep { /\[\Q$id\E\].*FCGI\d\d: / } split /\n/, $httpd->error_log;
}

subtest 'in pieces' => sub {
    my $length = length $answer{pieces}->(
        bless { id => 1 }, 'FcgiApp::Connection');
    my @bad = grep { !is_whole(ask('pieces', 'pieces', 0, $_), 'abcd') }
        1 .. 40;
    is("@bad", '', 'of 1 byte, of 2, and so on to 40');
    @bad = grep { !is_whole(ask('pieces', 'pieces', 0, 0, $_), 'abcd') }
        1 .. $length - 1;
    is("@bad", '', "cut once, at every byte of $length");
    my @lines = $httpd->error_log =~ /stderr: (.*)/g;
    is(scalar(@lines), 40 + $length - 1, 'stderr of each');
    is(scalar(grep { $_ !~ /^one line(?:, .*)?$/ } @lines), 0, 'is one line');
};

subtest 'sizes' => sub {
    for my $padding (0, 1, 254, 255) {
        ok(is_whole(ask('padding', 'padding', $padding), 'x' x 3000),
           "padding $padding");
        my $answer = ask('large', 'large', $padding);
        ok(is_whole($answer, large_body()), "65535 bytes + $padding")
            or diag length $answer->body;
    }
};

subtest 'records that are not of this answer' => sub {
    for my $id (0, 2, 256, 257, 65535) {
        ok(is_whole(ask('foreign', 'foreign', $id), 'body'), "request $id");
    }
    for my $type (0, 1, 2, 4, 5, 8, 9, 11, 12, 255) {
        ok(is_whole(ask('unknown', 'unknown', $type), 'body'), "type $type");
    }
    for my $type (9, 10, 11, 12) {
        ok(is_whole(ask('management', 'management', $type), 'body'),
           "management record $type");
    }
    unlike($httpd->error_log, qr/SECRET/, 'nor is any of them in the log');
};

subtest 'ends of streams and of the request' => sub {
    ok(is_whole(ask('empty', 'empty'), 'body'), 'empty STDERR records');
    ok(is_whole(ask('unended', 'unended'), 'body'), 'no empty STDOUT record');
    ok(is_whole(ask('longend', 'longend'), 'body'), 'a longer END_REQUEST');
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /open?/open HTTP/1.1\r\nHost: x\r\n\r\n");
    ok($conn->read_until(qr/body/), 'the answer is here');
    ok(!$conn->read_until(qr/\n0\r\n/, 0.1), 'the ends of streams end it not');
    $app->release('end');
    ok(is_whole($conn->read_response, 'body'), 'END_REQUEST does');
};

subtest 'the answer to another request' => sub {
    for my $id (0, 2, 256, 257, 65535) {
        for my $type (FCGI_STDOUT, FCGI_END_REQUEST) {
            my $name = "alien-$id-$type";
            my $answer = ask($name, 'alien', "$id-$type");
            is_deeply([@$answer{qw(status complete)}], [502, 1],
                      "type $type, request $id");
            unlike($answer->raw, qr/SECRET/, 'nothing of it is seen');
            my @lines = failures($name);
            is(scalar(@lines), 1, 'one line in the log');
            my $what = $type == FCGI_STDOUT ? 'STDOUT' : 'END_REQUEST';
            like($lines[0], qr/FCGI04:.* FCGI_$what .*\b$id\b.*\b1\b/,
                 'with both ids');
        }
    }
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /alien-later?/alien/9-6-later HTTP/1.1\r\n"
                . "Host: x\r\n\r\n");
    my $answer = $conn->read_response;
    is($answer->complete ? $answer->status : 0, 0,
       'one that was begun is cut');
    unlike($answer->raw, qr/SECRET/, 'and has nothing of it');
};

subtest 'no FastCGI, before the headers' => sub {
    for my $name (sort keys %wrong) {
        my $answer = ask($name, 'wrong', $name);
        is($answer->status, 502, $name);
        ok($answer->complete, 'an answer of httpd');
        unlike($answer->raw, qr/SECRET/, 'none of the raw bytes');
        my @lines = failures($name);
        is(scalar(@lines), 1, 'one line in the log') or diag @lines;
        like($lines[0], qr/FCGI04: \Q@{[ $app->handler ]}\E: not FastCGI/,
             'which names the backend');
        like($lines[0], $name =~ /end/ ? qr/END_REQUEST/ : qr/version \d+/,
             'and says why');
    }
};

subtest 'no FastCGI, after the headers' => sub {
    for my $name (grep { !/in-headers/ } sort keys %wrong) {
        my $conn = Client->connect($httpd->port);
        $conn->send("GET /$name-later?/later/$name HTTP/1.1\r\n"
                    . "Host: x\r\n\r\n");
        ok($conn->read_until(qr/first/), "$name: the answer begins");
        $app->release($name);
        my $answer = $conn->read_response;
        is($answer->status, 200, 'it was good so far');
        ok(!$answer->complete, 'it is cut');
        isnt($answer->error, 'timeout', 'at once');
        unlike($answer->raw, qr/SECRET|version/, 'nothing is added');
        my @lines = failures("$name-later");
        is(scalar(@lines), 1, 'one line in the log') or diag @lines;
        like($lines[0], qr/FCGI04: .* in phase body: /, 'in the body');
    }
};

$httpd->ok_healthy;
done_testing;
