# The files of what is held are for nobody else, and sent as the server says.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use Fcntl qw(O_RDONLY);
use FindBin qw($Bin);
use lib "$Bin/lib";
use Bytes;
use Client;
use FcgiApp;
use Httpd;
use POSIX ();
use Private;
use Socket qw(SOL_SOCKET SO_RCVBUF);
use Strace;
use Test::More;

my $MB = 1024 * 1024;
my $H2 = Httpd::mpm() ne 'prefork';
my $CLOSE_ON_EXEC = 02000000;   # as Linux shows it in fdinfo
my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $PAGE = Bytes::numbered(20 * $MB + 4);

# /page answers with the page, after a pause in it; /hold when it may.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request(30) or return;
    if ($request->{params}{REQUEST_URI} =~ /hold/) {
        $c->report(asked => length $request->{stdin});
        $c->wait_release('hold', 30);
        return $c->reply($HEAD . md5_hex($request->{stdin}));
    }
    $c->stdout($HEAD . substr $PAGE, 0, 100_000);
    select undef, undef, undef, 0.05;
    $c->reply(substr $PAGE, 100_000);
    $c->report(written => 1) if $c->wait_eof(30);
}, workers => 4);

my $spool = Private::temp_dir('spool');
chmod 01777, $spool;

sub start {
    my ($lines) = @_;
    return Httpd->start(
        tls => 1, http2 => $H2,
        vars => { APP => $app->handler, SPOOL => $spool },
        config => <<"EOC");
FcgiBufferDir \@SPOOL\@
$lines
<Location />
  SetHandler \@APP\@
</Location>
EOC
}

# What is open of the spool's files: the flags of each descriptor.
sub held_flags {
    my ($httpd) = @_;
    my @flags;
    for my $fd (map { glob "/proc/$_/fd/*" } $httpd->pids) {
        next if (readlink $fd // '') !~ m{^\Q$spool\E/};
        my $info = Private::slurp($fd =~ s{/fd/}{/fdinfo/}r);
        push @flags, oct $1 if $info =~ /^flags:\s+(\d+)/m;
    }
    return @flags;
}

sub open_reader {
    my ($httpd) = @_;
    my $conn = Client->connect($httpd->port, rcvbuf => 4096);
    $conn->send("GET /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    return $conn;
}

sub check_reader {
    my ($conn) = @_;
    setsockopt $conn->{socket}, SOL_SOCKET, SO_RCVBUF, $MB;
    my $answer = $conn->read_response(timeout => 30);
    ok($answer->complete, 'the answer is whole') or diag $answer->error;
    is(md5_hex($answer->body), md5_hex($PAGE), 'every byte');
    return;
}

sub open_curl {
    my (@args) = @_;
    open(my $pipe, '-|', qw(curl -q -sS -k --max-time 60), @args) // die $!;
    return $pipe;
}

sub check_curl {
    my ($pipe) = @_;
    is(md5_hex(do { local $/; readline $pipe }), md5_hex($PAGE), 'every byte');
    close $pipe;
    return;
}

# mod_http2 has a descriptor for each piece of a file, also of httpd's own, and
# APR alone takes them from programs.
my $H2_IS_PRIVATE = Httpd::is_at_least('2.4.64')
    || !Httpd::is_at_least('2.4.55');

# Looks until something is held, and at all that is.
sub ok_private {
    my ($httpd, $least, $is_h2) = @_;
    my @flags;
    Private::wait_until(10, sub {
        @flags = held_flags($httpd);
        return @flags >= $least;
    });
    cmp_ok(scalar @flags, '>=', $least, 'files are open');
    SKIP: {
        skip "mod_http2's own are open, too", 1 if $is_h2 && !$H2_IS_PRIVATE;
        is(scalar(grep { !($_ & $CLOSE_ON_EXEC) } @flags), 0,
           'no program that httpd starts gets one');
    }
    return;
}

subtest 'a program that httpd starts gets none of them' => sub {
    my $httpd = start('');
    my ($http, $https) = ('http://127.0.0.1:' . $httpd->port,
                          'https://127.0.0.1:' . $httpd->tls_port);

    subtest 'an answer' => sub {
        my $conn = open_reader($httpd);
        ok($app->wait_report('written', 20), 'the application is free');
        ok_private($httpd, 3);          # ours, and what httpd sends from
        check_reader($conn);
    };
    my %kind = (
        TLS => ['--http1.1', "$https/page"],
        $H2 ? ('HTTP/2' => ['--http2-prior-knowledge', "$http/page"],
               'HTTP/2 over TLS' => ['--http2', "$https/page"]) : (),
    );
    for my $kind (sort keys %kind) {
        subtest "an answer, $kind" => sub {
            my $pipe = open_curl(@{ $kind{$kind} });
            ok($app->wait_report('written', 20), 'the application is free');
            ok_private($httpd, 3, $kind =~ /HTTP/);
            check_curl($pipe);
        };
    }
    subtest 'a body' => sub {
        my $conn = Client->connect($httpd->port);
        my $body = substr $PAGE, 0, $MB;
        $conn->send("POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: $MB\r\n"
                    . "Connection: close\r\n\r\n$body");
        is($app->wait_report('asked', 10), $MB, 'the application has it');
        ok_private($httpd, 2);
        $app->release('hold');
        is($conn->read_response->body, md5_hex($body), 'every byte');
    };
    $httpd->ok_healthy;
};

# The calls of these names that the processes make while $code runs; undef if
# strace cannot be had.
sub traced_calls {
    my ($httpd, $names, $code) = @_;
    my $trace = Strace->attach([$httpd->pids], $names) or return;
    $code->();
    return [grep { /^\d+ +\w+\(/ } $trace->end];
}

my %sendfile = ('' => 1, 'EnableSendfile On' => 1, 'EnableSendfile Off' => 0,
                "EnableSendfile On\n<Location /page>\nEnableSendfile Off\n"
                . '</Location>' => 0);
for my $lines (sort keys %sendfile) {
    my $name = $lines =~ s/\n/ /gr || 'no word of sendfile';
    subtest $name => sub {
        plan skip_all => 'no strace here' if !Strace::is_here();
        my $httpd = start($lines);
        my $calls = traced_calls($httpd, 'sendfile', sub {
            my @readers = map { open_reader($httpd) } 1 .. 3;
            ok($app->wait_report('written', 20), 'the application is free')
                for @readers;
            check_reader($_) for @readers;
        });
        SKIP: {
            skip 'strace may not look', 1 if !defined $calls;
            is(!!@$calls, !!$sendfile{$lines}, 'whether httpd calls it')
                or diag scalar(@$calls), ' calls';
        }
        ok(Private::wait_until(10, sub { !held_flags($httpd) }),
           'no file is left');
        $httpd->ok_healthy;
    };
}

# Over TCP it would be the application that pays for it. What is not sent from
# the file is read, by APR, which goes to its place each time; nothing is mapped,
# as that ends the process if the file cannot be read.
my $goes_so = $app->address =~ m{^/};
for my $lines ('', 'EnableSendfile Off') {
    subtest 'a body, ' . ($lines || 'no word of sendfile') => sub {
        plan skip_all => 'no strace here' if !Strace::is_here();
        my $httpd = start($lines);
        my $body = substr $PAGE, 0, $MB;
        my $calls = traced_calls($httpd, 'sendfile,lseek,mmap', sub {
            my $conn = Client->connect($httpd->port);
            $conn->send("POST /hold HTTP/1.1\r\nHost: x\r\n"
                        . "Content-Length: $MB\r\nConnection: close\r\n\r\n"
                        . $body);
            is($app->wait_report('asked', 10), $MB, 'the application has it');
            $app->release('hold');
            is($conn->read_response->body, md5_hex($body), 'every byte');
        });
        SKIP: {
            skip 'strace may not look', 3 if !defined $calls;
            my ($sent, $reads, $maps) = map {
                my $call = $_;
                scalar grep { /$call/ } @$calls
            } 'sendfile', 'lseek', 'mmap.*MAP_SHARED';
            is(!!$sent, $goes_so && !$lines, 'whether it is called')
                or diag "$sent calls";
            cmp_ok($reads, '<=', $MB / 60_000 + 1, 'read in large pieces');
            is($maps, 0, 'nothing is mapped');
        }
        $httpd->ok_healthy;
    };
}

# Looking for it makes a file there, for which its time changes; a second child
# would look when it starts.
subtest "the system's directory" => sub {
    my $dir = Private::temp_dir('system');
    chmod 01777, $dir;
    my $threads = Httpd::mpm() eq 'prefork' ? 1 : 4;
    my $httpd = Httpd->start(
        mpm => "StartServers 1\nServerLimit 1\nMaxRequestWorkers $threads\n"
            . ($threads > 1 ? "ThreadsPerChild $threads\n" : ''),
        env => { TMPDIR => $dir }, vars => { APP => $app->handler },
        config => "<Location />\n  SetHandler \@APP\@\n</Location>\n");
    my $body = substr $PAGE, 0, $MB;
    my $post = sub {
        my $conn = Client->connect($httpd->port);
        $conn->send("POST /hold HTTP/1.1\r\nHost: x\r\n"
                    . "Content-Length: $MB\r\nConnection: close\r\n\r\n$body");
        is($app->wait_report('asked', 10), $MB, 'the application has it');
        $app->release('hold');
        is($conn->read_response->body, md5_hex($body), 'every byte');
        return;
    };
    $post->();
    utime 1, 1, $dir or die "utime: $!";
    $post->();
    is((stat $dir)[9], 1, 'it was not looked for again');
    rmdir $dir or die "$dir: $!";
    $post->();                  # another one is found
    $httpd->ok_healthy;
};

done_testing;
