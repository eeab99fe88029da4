# On a kept connection an answer is waited for in reading; nothing is missed meanwhile.
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
use Strace;
use Test::More;
use Time::HiRes qw(sleep);

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $PATIENCE = 20;

# ---- the application ----

# Bytes of an answer, after so many ms, in pieces of a size.
sub answer {
    my ($c, $request) = @_;
    my %how = $request->{params}{QUERY_STRING} =~ /(\w+)=(\d+)/g;
    my $bytes = $c->records(FCGI_STDOUT, $c->{id},
                            $HEAD . Bytes::numbered($how{size} // 10, 1))
        . $c->record(FCGI_STDOUT, $c->{id}) . $c->end_record;
    my $piece = $how{piece} || length $bytes;
    sleep $how{after} / 1000 if $how{after};
    for (my $at = 0; $at < length $bytes; $at += $piece) {
        sleep 0.001 if $at;
        $c->send(substr $bytes, $at, $piece);
    }
    return 1;
}

# Begins to answer before it reads the body, which has to wait.
sub answer_first {
    my ($c) = @_;
    my $len = 0;
    $c->stdout("${HEAD}first ");
    $c->wait_release('arrived', $PATIENCE);
    while (my $record = $c->read_record($PATIENCE)) {
        last if $record->{content} eq '';
        $len += length $record->{content};
    }
    $c->stdout($len);
    return $c->end;
}

sub say_nothing {
    my ($c) = @_;
    $c->report(has => 1);
    $c->wait_eof($PATIENCE);
    $c->report(gone => 1);
    return 0;
}

my %STORY = (first => \&answer_first, nothing => \&say_nothing);

sub serve {
    my ($c) = @_;
    while (my $request = $c->read_params(60)) {
        my ($name) = $request->{params}{REQUEST_URI} =~ m{^/(\w*)};
        $c->report(connection => $c->number);
        if ($STORY{$name}) {
            $STORY{$name}->($c) or last;
            next;
        }
        $c->read_record(60);    # the end of its body
        answer($c, $request);
    }
    return;
}

# The second request of a connection is answered when it has just begun.
sub serve_unread {
    my ($c) = @_;
    my $request = $c->read_request(60) or return;
    answer($c, $request);
    my $begin = $c->read_record(60) or return;
    $c->{id} = $begin->{id};
    $c->reply("${HEAD}unread");
    $c->wait_release('unread', $PATIENCE);
    return;
}

my $app = FcgiApp->start(\&serve, workers => 4);
my $unread = FcgiApp->start(\&serve_unread, workers => 1);
my $traced = FcgiApp->start(\&serve, workers => 1);

# One process, as only its own requests can use its connections.
my $httpd = Httpd->start(
    mpm => Httpd::mpm() eq 'prefork' ? undef : Httpd::single(8),
    vars => { APP => $app->handler, UNREAD => $unread->handler,
              TRACED => $traced->handler },
    config => <<'EOC');
LimitRequestFieldSize 1000000
MaxKeepAliveRequests 0
FcgiBackend @APP@ keepalive=2
FcgiBackend @UNREAD@ keepalive=2
FcgiBackend @TRACED@ keepalive=2
<Location />
  SetHandler @APP@
</Location>
<Location /unread>
  SetHandler @UNREAD@
</Location>
<Location /traced>
  SetHandler @TRACED@
</Location>
EOC

# With prefork all on one connection, so that one process has them.
my $conn = Client->connect($httpd->port);

sub send_request {
    my ($path, %opt) = @_;
    my $body = $opt{body} // '';
    my $method = defined $opt{body} ? 'POST' : 'GET';
    $conn->send("$method $path HTTP/1.1\r\nHost: x\r\n" . ($opt{fields} // '')
                . "Content-Length: " . length($body) . "\r\n\r\n$body");
    return;
}

sub ask {
    send_request(@_);
    return $conn->read_response(timeout => $PATIENCE);
}

# So that the next request is the second of its connection, or a later one.
sub keep_one {
    my ($path) = @_;
    my $answer = ask($path // '/');
    return ok($answer->complete && $answer->status == 200,
              'a connection is kept');
}

# The connection's number that the application was asked on.
sub connection { return $app->wait_report('connection', $PATIENCE) }

keep_one();
my $FIRST = connection();

subtest 'whenever it comes, and in whatever pieces' => sub {
    my @ways = ((map { "after=$_" } 0, 5, 15, 19, 21, 30, 90, 200),
                (map { "size=$_" } 0, 1, 4000 .. 4003, 4020 .. 4024,
                    4050 .. 4100, 8190, 57_300 .. 57_350, 300_000),
                (map { "piece=$_&size=20" } 1, 7, 8, 9),
                (map { "piece=$_&size=20000" } 4094 .. 4097),
                'after=30&piece=3', 'after=10&size=300000&piece=50000');
    for my $way (@ways) {
        my ($size) = "$way&size=10" =~ /size=(\d+)/;
        my $answer = ask("/?$way");
        my $right = Bytes::numbered($size, 1);
        ok($answer->complete && $answer->status == 200
           && $answer->body eq $right, $way);
        is(connection(), $FIRST, 'on that connection');
    }
};

# A POST takes a connection only if that has been idle for 250 ms. Over a unix
# socket a large body is sent from its file.
subtest 'with a body it waits for both' => sub {
    for my $size (10, 3_000_000) {
        sleep 0.4;
        send_request('/first', body => 'x' x $size);
        ok($conn->read_until(qr/first /, $PATIENCE),
           "$size bytes: the answer begins while the body waits");
        is(connection(), $FIRST, 'on that connection');
        $app->release('arrived');
        like($conn->read_until(qr/\r\n0\r\n\r\n/, $PATIENCE), qr/\Q$size\E\r\n/,
             'and ends when it was read');
        $conn->{buffer} = '';
        keep_one();
        is(connection(), $FIRST, 'and a GET uses it again');
        unlink $app->gate('arrived');
    }
};

subtest 'answered before it is read' => sub {
    keep_one('/unread');
    my $fields = join '', map { "X-$_: " . 'x' x 900_000 . "\r\n" } 1 .. 5;
    my $answer = ask('/unread', fields => $fields);
    is($answer->status, 200, 'parameters for which there is no room');
    is($answer->body, 'unread', 'keep nobody from reading');
    $unread->release('unread');
};

subtest 'the client leaves' => sub {
    for my $way (qw(close reset)) {
        keep_one();
        my $number = connection();
        send_request('/nothing');
        ok($app->wait_report('has', $PATIENCE), "$way: it is at work");
        is(connection(), $number, 'on a kept connection');
        $conn->$way;
        ok($app->wait_report('gone', $PATIENCE), 'it is told');
        $conn = Client->connect($httpd->port);
    }
};

# What httpd does on the connection that it makes meanwhile: [name, all of it]
# each; nothing if strace may not look.
sub trace_calls {
    my ($code) = @_;
    my $trace = Strace->attach([$httpd->pids],
        'connect,sendmsg,write,writev,sendfile,?poll,?ppoll,recvfrom,read,'
        . 'fcntl,setsockopt') or return;
    $code->();
    return Strace::on_connection($traced->address, $trace->end);
}

subtest 'system calls' => sub {
    plan skip_all => 'no strace here' if !Strace::is_here();
    plan skip_all => 'it waits without a thread' if defined $ENV{PARK};
    my @calls = trace_calls(sub { keep_one('/traced') for 1 .. 12 })
        or plan skip_all => 'strace may not look here';
    my @requests;
    for my $call (@calls) {
        push @requests, [] if $call->[0] eq 'sendmsg';
        push @{ $requests[-1] }, $call->[0] if @requests;
    }
    is(scalar @requests, 12, 'all on one connection');
    # a machine may be so busy that an answer takes more than the moment
    my @quick = grep { "@$_" eq 'sendmsg recvfrom recvfrom' } @requests;
    cmp_ok(scalar @quick, '>=', 6,
           'one to write, one to read, one to look before the next')
        or diag join "\n", map { "@$_" } @requests;
    my @modes = map { $_->[1] =~ /(F_SETFL|SO_RCVTIMEO)/ } @calls;
    is("@modes", 'SO_RCVTIMEO F_SETFL', 'it is made able to wait once');
};

$httpd->ok_healthy;
done_testing;
