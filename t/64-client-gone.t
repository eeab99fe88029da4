# A client that goes away frees the application and the thread within two seconds.
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
use Time::HiRes qw(time);

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my %LIMIT = (close => 2, reset => 0.9);     # seconds; a close may be half a one

# The query string says what the application does after the request is here:
#     silent    nothing, until the peer ends it or the test says "go"
#     piece     the same after a first piece
#     stream    sends until nobody takes it
#     finish, piece-finish    waits for "finish", then answers with 1 MB
sub serve {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $how = $request->{params}{QUERY_STRING};
    my $name = $request->{params}{REQUEST_URI} =~ s/\?.*//r;
    $c->stdout("${HEAD}first") if $how =~ /piece|stream/;
    $c->report(begun => $name);
    return $c->report(ended => stream($c)) if $how eq 'stream';
    return $c->report(ended => finish($c, $how, $name)) if $how =~ /finish/;
    Private::wait_until(20, sub {
        $c->readable(0.02) || $c->wait_release("go $name", 0);
    });
    return $c->report(ended => how_it_ended($c)) if $c->readable;
    return $c->reply($how eq 'piece' ? ' last' : "${HEAD}whole");
}

# Whether the peer said ABORT_REQUEST, whether it closed, and when.
sub how_it_ended {
    my ($c) = @_;
    my %end = (aborted => 0, closed => 0);
    while (my $record = eval { $c->read_record(2) }) {
        $end{aborted} ||= time if $record->{type} == FCGI_ABORT_REQUEST;
    }
    $end{closed} = time if $c->{eof};
    return \%end;
}

sub stream {
    my ($c) = @_;
    1 while $c->stdout('x' x 65535);
    return { closed => time };
}

sub finish {
    my ($c, $how, $name) = @_;
    $c->wait_release("finish $name", 10);
    my $wrote = ($how =~ /piece/ || $c->stdout($HEAD))
        && $c->stdout('x' x 1_000_000) && $c->end;
    return { wrote => $wrote ? 1 : 0, %{ how_it_ended($c) } };
}

my $app = FcgiApp->start(\&serve, workers => 8);

# One thread, or the least that there can be, and it has to be free again for
# the next request.
my $one_thread = Httpd::mpm() eq 'prefork' ? <<'EOC'
StartServers 1
ServerLimit 1
MinSpareServers 1
MaxSpareServers 1
MaxRequestWorkers 1
EOC
    : Httpd::single(Httpd::accepts_again() ? 1 : 2);

my $httpd = Httpd->start(
    mpm => $one_thread, vars => { APP => $app->handler },
    files => { 'off/.htaccess' => 'FcgiIgnoreClientAbort Off',
               'on/.htaccess' => 'FcgiIgnoreClientAbort On' },
    config => <<'EOC');
<Location />
  SetHandler @APP@
</Location>
<Location /ignore/>
  FcgiIgnoreClientAbort On
</Location>
<Directory @DOCROOT@/off>
  FcgiIgnoreClientAbort On
</Directory>
EOC

my $count = 0;

# A request that the application has; the client's connection and the URL.
sub begin {
    my ($how, %opt) = @_;
    my $path = ($opt{dir} || '') . '/r' . ++$count;
    my $conn = Client->connect($httpd->port);
    my $method = defined $opt{body} ? 'POST' : 'GET';
    my $fields = "Host: x\r\n" . (defined $opt{body}
        ? 'Content-Length: ' . length($opt{body}) . "\r\n" : '');
    $conn->send("$method $path?$how HTTP/" . ($opt{version} || '1.1')
                . "\r\n$fields\r\n" . ($opt{body} // ''));
    is($app->wait_report('begun'), $path, 'the application is at work');
    ok($conn->read_until(qr/first/), 'and has begun to answer')
        if $how =~ /piece|stream/;
    return ($conn, $path);
}

sub access {
    my ($path) = @_;
    my $line = qr{"\w+ \Q$path\E\?[^"]*" (.*)$}m;
    $httpd->wait_for_access($line);
    return split ' ', ($httpd->access_log =~ $line)[0];
}

sub lines_of {
    my ($path) = @_;
    my $id = (access($path))[-1];
    return grep { /\[\Q$id\E\]/ } split /\n/, $httpd->error_log;
}

sub check_thread {
    my $path = '/next' . ++$count;
    $app->release("go $path");
    my $answer = Client->get($httpd->port, "$path?silent");
    is($answer->body, 'whole', 'the thread serves the next request');
    $app->wait_report('begun');
    return;
}

sub check_log {
    my ($path) = @_;
    is((access($path))[2], 'X', 'the access log shows it');
    my @lines = lines_of($path);
    is(scalar(@lines), 1, 'one line in the error log') or diag @lines;
    like($lines[0], qr/:info\].*FCGI09: \Q@{[ $app->handler ]}\E: client gone/,
         'at info');
    return;
}

my %request = (
    'silent'             => ['silent'],
    'silent, HTTP/1.0'   => ['silent', version => '1.0'],
    'silent after POST'  => ['silent', body => 'x' x 100_000],
    'after a piece'      => ['piece'],
    'after a piece, HTTP/1.0' => ['piece', version => '1.0'],
    '.htaccess says Off' => ['silent', dir => '/off'],
);

for my $name (sort keys %request) {
    for my $way (qw(close reset)) {
        subtest "$way, $name" => sub {
            my ($conn, $path) = begin(@{ $request{$name} });
            $conn->$way;
            my $gone_at = time;
            my $end = $app->wait_report('ended');
            ok($end->{aborted}, 'ABORT_REQUEST');
            ok($end->{closed}, 'and the connection is closed');
            cmp_ok($end->{closed} - $gone_at, '<', $LIMIT{$way}, 'in time');
            check_thread();
            check_log($path);
        };
    }
}

subtest 'while the application sends' => sub {
    for my $way (qw(close reset)) {
        my ($conn, $path) = begin('stream');
        $conn->$way;
        my $gone_at = time;
        my $end = $app->wait_report('ended');
        cmp_ok($end->{closed} - $gone_at, '<', $LIMIT{$way}, "$way, in time");
        check_thread();
        check_log($path);
    }
};

subtest 'a client that waits is there' => sub {
    my ($conn, $path) = begin('silent');
    is($app->wait_report('ended', $LIMIT{close}), undef, 'not given up');
    $app->release("go $path");
    is($conn->read_response->body, 'whole', 'answered');
};

# Two requests: both at once, or the second while the first is at work.
sub check_pipeline {
    my ($how, $later) = @_;
    my $conn = Client->connect($httpd->port);
    my @paths = map { "/pipeline$_" } ++$count, ++$count;
    my @requests = map { "GET $_?$how HTTP/1.1\r\nHost: x\r\n\r\n" } @paths;
    $conn->send($later ? $requests[0] : join '', @requests);
    is($app->wait_report('begun'), $paths[0], "$how: at work");
    $conn->send($requests[1]) if $later;
    is($app->wait_report('ended', 0.5), undef, 'and goes on');
    $app->release("go $_") for @paths;
    for my $path (@paths) {
        my $answer = $conn->read_response;
        ok($answer->complete, "the answer to $path is whole");
        is($answer->body, $how eq 'piece' ? 'first last' : 'whole');
    }
    is($app->wait_report('begun'), $paths[1], 'the second came second');
    return;
}

subtest 'the next request in the pipeline is no going away' => sub {
    for my $how (qw(silent piece)) {
        check_pipeline($how, $_) for 0, 1;
    }
};

my %ignored = (
    'in a Location'      => [dir => '/ignore'],
    'in .htaccess'       => [dir => '/on'],
);

for my $name (sort keys %ignored) {
    for my $how (qw(finish piece-finish)) {
        subtest "FcgiIgnoreClientAbort On $name, $how" => sub {
            for my $way (qw(close reset)) {
                my ($conn, $path) = begin($how, @{ $ignored{$name} });
                $conn->$way;
                is($app->wait_report('ended', 0.4), undef, 'not given up');
                $app->release("finish $path");
                my $end = $app->wait_report('ended');
                ok($end->{wrote}, 'the application could write everything');
                ok(!$end->{aborted}, 'no ABORT_REQUEST');
                ok($end->{closed}, 'closed in the end');
                check_thread();
                my @lines = grep { !/:info\]/ } lines_of($path);
                is("@lines", '', 'nothing to complain of');
            }
        };
    }
}

$httpd->ok_healthy;
done_testing;
