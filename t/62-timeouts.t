# Each time limit ends a request at its time and says which one it was.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Private;
use Socket qw(MSG_NOSIGNAL);
use Test::More;
use Time::HiRes qw(sleep time);

my $HEAD = "Content-Type: text/plain\r\n\r\n";
# Seconds after a limit, for a busy machine; with prefork it may be until there
# is a process for the request.
my $LATE = Httpd::mpm() eq 'prefork' ? 5 : 1.5;

# What the application does, by the query string; in the end it answers with
# "whole".  The pauses are longer than the limit they are to meet, or shorter
# than the one that they must not meet.
my %story = (
    'quiet'   => sub { $_[0]->wait_eof(20) },
    'upload'  => sub { $_[0]->wait_eof(20) },
    'piece'   => sub { $_[0]->stdout("${HEAD}first"); $_[0]->wait_eof(20) },
    'stderr'  => sub { $_[0]->stderr("words\n"); $_[0]->wait_eof(20) },
    'late'    => sub {
        sleep 1.3;
        $_[0]->reply("${HEAD}whole");
    },
    'begins'  => sub {
        $_[0]->stdout($HEAD);
        sleep 1.3;
        $_[0]->reply('whole');
    },
    'drip'    => sub { drip($_[0], $HEAD, 'x' x 200, 0.05) },
    'drip-headers' => sub { drip($_[0], '', "A: b\r\n" x 200, 0.05) },
    'drip-noise'   => sub {
        my ($c) = @_;
        for (1 .. 400) {
            $c->send($c->record(FCGI_GET_VALUES_RESULT, 0)) or return;
            sleep 0.05;
        }
    },
    'words'   => sub {
        my ($c) = @_;
        for (1 .. 400) {
            $c->stderr("words\n") or return;
            sleep 0.05;
        }
    },
    'ends'    => sub { $_[0]->stdout(''); $_[0]->stderr('');
                       $_[0]->wait_eof(20) },
    'part'    => sub { $_[0]->send("\1\6\0"); $_[0]->wait_eof(20) },
    'other'   => sub { $_[0]->send($_[0]->record(FCGI_STDERR, 9, 'x'));
                       $_[0]->wait_eof(20) },
    'slow'    => sub {
        my ($c) = @_;
        for my $piece ($HEAD, qw(w h o l e)) {
            $c->stdout($piece);
            sleep 0.3;
        }
        $c->end;
    },
);

sub drip {
    my ($c, $first, $bytes, $pause) = @_;
    $c->stdout($first) if $first ne '';
    for my $byte (split //, $bytes) {
        $c->stdout($byte) or return;
        sleep $pause;
    }
    return;
}

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_params or return;
    my $how = $request->{params}{QUERY_STRING};
    return $c->wait_release('never', 20) if $how eq 'deaf';
    if (!$request->{stdin_complete}) {
        1 while ($c->read_record->{content} // '') ne '';
    }
    return $story{$how}->($c);
}, workers => 14);

my $deaf = FcgiApp->start(undef, workers => 0, backlog => 1);

my $httpd = Httpd->start(
    modules => ['proxy'],
    vars => { APP => $app->handler, DEAF => $deaf->handler },
    files => { '503.html' => 'page 503', '504.html' => 'page 504' },
    config => <<'EOC');
Timeout 1
ProxyTimeout 1
ErrorDocument 503 /503.html
ErrorDocument 504 /504.html
FcgiTotalTimeout 20
<LocationMatch "^/[a-z0-9-]+(/[a-z]+)?$">
  SetHandler @APP@
</LocationMatch>
<Location /idle>
  FcgiTimeout 500ms
</Location>
<Location /first>
  FcgiFirstByteTimeout 500ms
</Location>
<Location /total>
  FcgiTotalTimeout 500ms
</Location>
<Location /connect>
  SetHandler @DEAF@
  FcgiConnectTimeout 1100ms
</Location>
<Location /idle/second>
  FcgiTimeout 1
</Location>
<Location /total/off>
  FcgiTotalTimeout off
</Location>
<Location /first/off>
  FcgiFirstByteTimeout off
</Location>
<Location /first/long>
  FcgiFirstByteTimeout 1h
</Location>
<Location /first/idle>
  FcgiTimeout 1s
</Location>
EOC

# What the module says in the log of the one request for this URL.
sub log_lines {
    my ($path) = @_;
    my $line = qr{"\w+ \Q$path\E [^"]*".* (\S+)$}m;
    $httpd->wait_for_access($line);
    my ($id) = $httpd->access_log =~ $line;
    return grep { /\[\Q$id\E\].*FCGI\d\d: / && !/stderr/ }
        split /\n/, $httpd->error_log;
}

# Asks; what has to wait waits beside others.
sub ask {
    my ($path) = @_;
    my $conn = Client->connect($httpd->port);
    my $from = time;
    $conn->send("GET $path HTTP/1.1\r\nHost: x\r\n\r\n");
    return sub { ($conn->read_response(timeout => 20), time - $from) };
}

# Requests that a limit ends, at the same time: [path, directive, milliseconds,
# more], first those that end first.
sub check_limits {
    my (@limits) = @_;
    my @answers = map { ask($_->[0]) } @limits;
    check_limit($answers[$_], @{ $limits[$_] }) for 0 .. $#limits;
    return;
}

sub check_limit {
    my ($answered, $path, $directive, $ms, %opt) = @_;
    my ($answer, $after) = $answered->();
    my $status = $opt{status} // 504;
    is($answer->status, $status, "$path: $directive gives $status");
    if ($status == 200) {
        ok(!$answer->complete && !$answer->timed_out, 'the answer is cut');
    }
    else {
        is($answer->body, "page $status", 'with ErrorDocument');
    }
    is(!!$answer->header('Retry-After'), $status == 503, 'Retry-After');
    cmp_ok($after, '>=', ($ms - 2) / 1000, 'not before its time');
    cmp_ok($after, '<', $ms / 1000 + $LATE, 'and not much later');
    check_line($path, "$directive $ms ms", $ms, %opt);
    return;
}

# Requests that no limit ends, at the same time: [path, why].  What is returned
# checks their answers, after those of others that wait less.
sub begin_whole {
    my (@whole) = @_;
    my @answers = map { [$_->[1], ask($_->[0])] } @whole;
    return sub {
        is(($_->[1]->())[0]->body, 'whole', $_->[0]) for @answers;
    };
}

sub check_line {
    my ($path, $limit, $ms, %opt) = @_;
    my @lines = log_lines($path);
    is(scalar(@lines), 1, 'one line in the log') or diag @lines;
    my $line = $lines[0] // '';
    like($line, qr/\b\Q$limit\E\b/, 'the limit and its value');
    like($line, qr/ \Q@{[ ($opt{app} || $app)->handler ]}\E: /, 'the backend');
    like($line, qr/in phase $opt{phase}: /, "phase $opt{phase}");
    $line =~ /\(after (\d+) ms, (\d+) bytes to and (\d+) bytes from the/
        or return fail("time and bytes: $line");
    cmp_ok($1, '>=', $ms - 2, 'the time');     # poll() takes whole ms
    cmp_ok($2, $opt{phase} eq 'connect' ? '==' : '>', 0, 'bytes to');
    cmp_ok($3, $opt{silent} ? '==' : '>', 0, 'bytes from');
    return;
}

# To an application that does not read; httpd takes the rest of the body
# before it sends an ErrorDocument.
sub post_to_deaf {
    my ($path) = @_;
    my $left = 20 * 1024 * 1024;
    my $conn = Client->connect($httpd->port);
    my $select = IO::Select->new($conn->{socket});
    my $from = time;
    $conn->send("POST $path HTTP/1.1\r\nHost: x\r\n"
                . "Content-Length: $left\r\n\r\n");
    $conn->{socket}->blocking(0);
    while ($left) {
        my ($in, $out) = IO::Select->select($select, $select, undef, 10);
        last if !$out || @$in;
        my $bytes = 'x' x ($left < 65536 ? $left : 65536);
        $left -= CORE::send($conn->{socket}, $bytes, MSG_NOSIGNAL) // 0;
    }
    return ($conn->read_response, time - $from);
}

subtest 'FcgiTimeout' => sub {
    my $check_whole = begin_whole(
        ['/idle/second?slow', 'an answer in pieces meets it never']);
    check_limits(
        ['/idle?quiet', 'FcgiTimeout', 500, phase => 'headers', silent => 1],
        ['/idle?piece', 'FcgiTimeout', 500, phase => 'body', status => 200],
        ['/idle?stderr', 'FcgiTimeout', 500, phase => 'headers'],
        ['/idle/second?quiet', 'FcgiTimeout', 1000, phase => 'headers',
         silent => 1]);
    check_limit(sub { post_to_deaf('/idle?deaf') }, '/idle?deaf',
                'FcgiTimeout', 500, phase => 'send', silent => 1);
    $app->release('never');
    $check_whole->();
};

subtest 'FcgiFirstByteTimeout' => sub {
    my $limit = 'FcgiFirstByteTimeout';
    my $check_whole = begin_whole(
        ['/first?begins', 'the first byte ends it'],
        map { ["/first/$_?late", "a section inside says $_"] } qw(off long));
    check_limits(
        (map { [$_, $limit, 500, phase => 'headers', silent => 1] }
         qw(/first?quiet /first/idle?quiet)),
        (map { ["/first?$_", $limit, 500, phase => 'headers'] }
         qw(stderr words ends drip-noise part other)),
        ['/first/idle?begins', 'FcgiTimeout', 1000, phase => 'body',
         status => 200]);
    $check_whole->();
};

subtest 'FcgiTotalTimeout' => sub {
    my $limit = 'FcgiTotalTimeout';
    my $check_whole = begin_whole(
        ['/total/off?slow', 'a section inside says off']);
    check_limits(
        ['/total?quiet', $limit, 500, phase => 'headers', silent => 1],
        ['/total?drip', $limit, 500, phase => 'body', status => 200],
        map { ["/total?$_", $limit, 500, phase => 'headers'] }
        qw(drip-headers drip-noise));
    $check_whole->();
};

# Connections to an application that never accepts, until its backlog is
# full; they are held by the caller.
sub fill_backlog {
    my @held;
    while (@held < 100) {
        my $socket = $deaf->address =~ /^\//
            ? IO::Socket::UNIX->new(Peer => $deaf->address, Blocking => 0)
            : IO::Socket::INET->new(PeerAddr => $deaf->address,
                                    Timeout => 0.3);
        return @held if !$socket || !$socket->connected;
        push @held, $socket;
    }
    die "the backlog does not fill\n";
}

subtest 'FcgiConnectTimeout, and the time limits of others' => sub {
    my $check_whole = begin_whole(
        ['/none?late',
         'Timeout 1 and ProxyTimeout 1 do not count before the headers'],
        ['/none?begins', 'nor after them']);
    my @held = fill_backlog();
    note scalar(@held) . ' connections filled the backlog';
    # those of a second share a line in the log
    check_limits(["/connect?$_", 'FcgiConnectTimeout', 1100, status => 503,
                  phase => 'connect', silent => 1, app => $deaf]) for 1 .. 2;
    $check_whole->();
};

subtest 'a slow upload is no idle time' => sub {
    my $conn = Client->connect($httpd->port);
    $conn->send("POST /idle/second?upload HTTP/1.1\r\nHost: x\r\n"
                . "Content-Length: 7\r\n\r\n");
    for (1 .. 7) {
        sleep 0.2;      # longer than FcgiTimeout altogether
        $conn->send('x');
    }
    is($conn->read_response->status, 504, 'but afterwards it counts');
    like((log_lines('/idle/second?upload'))[0],
         qr/in phase headers: FcgiTimeout 1000 ms/, 'as the log says');
};

$httpd->ok_healthy;
done_testing;
