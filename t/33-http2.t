# Over HTTP/2 bodies stream, cuts are stream errors, and cancels are noticed.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use FindBin qw($Bin);
use lib "$Bin/lib";
use Bytes;
use Client;
use FcgiApp;
use Httpd;
use IO::Select;
use POSIX ();
use Private;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'no HTTP/2 on prefork' if Httpd::mpm() eq 'prefork';

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $LIMIT = 3;          # one second, and some for a busy machine

# What the application does once it has the variables, by the query string.
my %story = (
    'good' => sub { $_[0]->reply("${HEAD}good") },
    'echo' => sub {
        my ($c) = @_;
        $c->stdout($HEAD);
        while (my $record = $c->read_record) {
            next if $record->{type} != FCGI_STDIN;
            return $c->end if $record->{content} eq '';
            $c->stdout($record->{content}) or return;
        }
    },
    'refuse' => sub { $_[0]->reply("Status: 413 No\r\n${HEAD}too large") },
    'end-alone' => sub { $_[0]->end },
    'overloaded' => sub { $_[0]->end(0, FCGI_OVERLOADED) },
    'cut' => sub { cut($_[0], '') },
    'cut-length' => sub { cut($_[0], "Content-Length: 100\r\n") },
    'cut-at-once' => sub { $_[0]->stdout("${HEAD}first") },
    'cut-overloaded' => sub {
        my ($c) = @_;
        cut($c, '');
        $c->end(0, FCGI_OVERLOADED);
        $c->wait_eof(5);
    },
    'silent' => sub { how_it_ends($_[0]) },
    'piece' => sub { $_[0]->stdout("${HEAD}first"); how_it_ends($_[0]) },
    'finish' => sub {
        my ($c) = @_;
        $c->wait_release('finish', 10);
        my $wrote = $c->stdout($HEAD . 'x' x 1_000_000) && $c->end;
        how_it_ends($c, wrote => $wrote);
    },
    'ticks' => sub {
        my ($c) = @_;
        $c->stdout("Content-Type: text/event-stream\r\n\r\n");
        for my $i (0 .. 4) {
            $c->wait_release('tick' . $c->number . $i, 10) or return;
            $c->stdout("data: $i\n\n");
        }
        $c->end;
    },
);

# The test says when: it has the first piece then.
sub cut {
    my ($c, $length) = @_;
    $c->stdout("$length${HEAD}first");
    return $c->wait_release('cut' . $c->number, 10);
}

sub how_it_ends {
    my ($c, %more) = @_;
    my %end = (aborted => 0, closed => 0, complete => 0, stdin => '', %more);
    while (my $record = eval { $c->read_record(5) }) {
        my ($type, $content) = @$record{qw(type content)};
        $end{aborted} ||= time if $type == FCGI_ABORT_REQUEST;
        $end{complete} = 1 if $type == FCGI_STDIN && $content eq '';
        $end{stdin} .= $content if $type == FCGI_STDIN;
        $c->report(body => length $end{stdin}) if $content ne '';
    }
    $end{closed} = time if $c->{eof};
    return $c->report(ended => \%end);
}

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_params or return;
    $c->report(begun => $c->number);
    $story{ $request->{params}{QUERY_STRING} }->($c);
}, workers => 8);

my $httpd = Httpd->start(
    tls => 1, http2 => 1, vars => { APP => $app->handler },
    files => { '502.html' => 'page 502', '503.html' => 'page 503' },
    config => <<'EOC');
ErrorDocument 502 /502.html
ErrorDocument 503 /503.html
<LocationMatch "^/[a-z0-9]*$">
  SetHandler @APP@
  FcgiRequestBuffering Off
  FcgiTimeout 20
</LocationMatch>
<Location /ignore>
  FcgiIgnoreClientAbort On
</Location>
EOC

my %protocol = (
    h2c => ['http://127.0.0.1:' . $httpd->port, '--http2-prior-knowledge'],
    h2  => ['https://127.0.0.1:' . $httpd->tls_port, '-k', '--http2'],
);

# A curl whose output is read as it comes.  With the argument stdin => file
# it sends that, a piece as soon as it is there.
sub start_curl {
    my ($protocol, $path, @args) = @_;
    my ($base, @options) = @{ $protocol{$protocol} };
    my $stdin = '/dev/null';
    if (@args && $args[0] eq 'stdin') {
        (undef, $stdin, @args) = (@args, '-T', '.');
    }
    my $pid = open my $pipe, '-|', 'sh', '-c', 'exec "$@" <"$0"', $stdin,
        'curl', '-q', '-sSN', '--stderr', '/dev/null', '--max-time', 20,
        @options, @args, "$base$path";
    die "curl: $!" if !$pid;
    return { pipe => $pipe, pid => $pid, buffer => '' };
}

# Waits until what curl has put out matches.
sub read_curl {
    my ($curl, $regex) = @_;
    my $deadline = time + 10;
    while ($curl->{buffer} !~ $regex) {
        my $left = $deadline - time;
        return 0 if $left <= 0;
        next if !IO::Select->new($curl->{pipe})->can_read($left);
        sysread($curl->{pipe}, $curl->{buffer}, 65536,
                length $curl->{buffer}) or return 0;
    }
    return 1;
}

# The rest of its output, and its exit status.
sub end_curl {
    my ($curl, $signal) = @_;
    kill $signal, $curl->{pid} if $signal;
    1 while sysread $curl->{pipe}, $curl->{buffer}, 65536,
        length $curl->{buffer};
    local $?;
    close $curl->{pipe};
    return $? >> 8;
}

# A file that is no regular one has no length that could be announced.
sub start_fifo {
    my ($dir, $bytes, $stay) = @_;
    POSIX::mkfifo("$dir/fifo", 0600) or die "mkfifo: $!";
    my $pid = Private::spawn(code => sub {
        open my $fifo, '>:raw', "$dir/fifo" or die $!;
        $fifo->autoflush(1);
        print $fifo $bytes;
        sleep 20 if $stay;
    });
    return ("$dir/fifo", $pid);
}

my $big = Bytes::numbered(20 * 1024 * 1024, 1);
my $dir = Private::temp_dir('http2');
my $file = Private::spew("$dir/big", $big);

for my $protocol (sort keys %protocol) {
    my ($base, @options) = @{ $protocol{$protocol} };
    my $ask = sub {
        my ($path, @args) = @_;
        return Client::curl(@options, @args, "$base$path");
    };

    subtest "$protocol: a body of 20 MB and its echo" => sub {
        my ($fifo, $writer) = start_fifo($dir, $big);
        for my $args (['--data-binary', "\@$file"], ['-T', $fifo]) {
            my $answer = $ask->('/?echo', @$args);
            is($answer->{exit}, 0, "$args->[0]: complete");
            is($answer->{http_version}, 2, 'HTTP/2');
            is(md5_hex($answer->{body}), md5_hex($big), 'byte for byte');
        }
        Private::end($writer, 'KILL');
        unlink $fifo;
    };

    subtest "$protocol: before the headers" => sub {
        my %status = ('end-alone' => 502, 'overloaded' => 503);
        for my $how (sort keys %status) {
            my $answer = $ask->("/?$how");
            is($answer->{status}, $status{$how}, "$how: $status{$how}");
            is($answer->{body}, "page $status{$how}", 'with ErrorDocument');
            is($answer->{exit}, 0, 'complete');
        }
    };

    subtest "$protocol: a cut answer" => sub {
        for my $how ('cut-length', Httpd::h2_shows_cuts()
                     ? qw(cut cut-overloaded) : ()) {
            1 while $app->wait_report('begun', 0);
            my $curl = start_curl($protocol, "/?$how");
            ok(read_curl($curl, qr/first/), "$how: it begins");
            $app->release('cut' . $app->wait_report('begun'));
            my $from = time;
            like(end_curl($curl), qr/^(?:18|92)$/, 'it is a stream error');
            cmp_ok(time - $from, '<', $LIMIT, 'at once');
            is($curl->{buffer}, 'first', 'nothing is added');
        }
        SKIP: {
            skip 'no word of it by this mod_http2', 1
                if !Httpd::h2_shows_cuts();
            my $answer = $ask->('/?cut-at-once');
            ok($answer->{exit} != 0 || $answer->{status} == 502,
               'cut at once: no whole answer');
        }
    };

    subtest "$protocol: the streams of one connection" => sub {
        plan skip_all => 'no nghttp here' if !-x '/usr/bin/nghttp';
        my ($exit, $output) = Private::run(
            'nghttp', '-v', "$base/?cut-at-once", "$base/?good");
        is($exit, 0, 'one is cut');
        SKIP: {
            skip 'no word of it by this mod_http2', 2
                if !Httpd::h2_shows_cuts();
            is(() = $output =~ /recv RST_STREAM/g, 1,
               'by a reset of its own');
            like($output, qr/INTERNAL_ERROR/,
                 'which says that it is an error');
        }
        like($output, qr/^good.*recv DATA/m, 'the other is answered');

        ($exit, $output) = Private::run(
            'nghttp', '-v', '-d', $file, "$base/?refuse");
        like($output, qr/:status: 413/, 'an answer before the body was read');
        like($output, qr/^too large.*recv DATA.*\n.*END_STREAM/m, 'complete');
        unlike($output, qr/INTERNAL_ERROR/, 'is no error');
    };

    subtest "$protocol: a client that cancels" => sub {
        my $before = length $httpd->error_log;
        for my $how (qw(silent piece)) {
            for my $signal (undef, 'KILL') {
                1 while $app->wait_report('begun', 0);
                my $curl = start_curl($protocol, "/?$how",
                                      $signal ? () : ('--max-time', 0.5));
                ok($app->wait_report('begun'), "$how: at work");
                read_curl($curl, qr/first/) if $how eq 'piece';
                my $exit = end_curl($curl, $signal);
                my $gone_at = time;
                is($exit, 28, 'curl gave up') if !$signal;
                my $end = $app->wait_report('ended');
                ok($end->{aborted}, 'ABORT_REQUEST');
                ok($end->{closed}, 'and the connection is closed');
                cmp_ok($end->{closed} - $gone_at, '<', $LIMIT, 'in time');
            }
        }
        ok(Private::wait_until(10, sub {
            4 <= (() = substr($httpd->error_log, $before)
                  =~ /:info\].* FCGI09: .*client gone/g);
        }), 'with a line in the log for each');
    };

    subtest "$protocol: cancelled in mid-body" => sub {
        my ($fifo, $writer) = start_fifo($dir, 'abcd', 1);
        my $curl = start_curl($protocol, '/?silent', stdin => $fifo);
        ok(Private::wait_until(10, sub {
            ($app->wait_report('body', 0) // 0) == 4;
        }), 'the application has the first piece');
        end_curl($curl, 'KILL');
        my $gone_at = time;
        my $end = $app->wait_report('ended');
        ok(!$end->{complete}, 'no empty STDIN record');
        ok($end->{closed}, 'but the connection is closed');
        cmp_ok($end->{closed} - $gone_at, '<', $LIMIT, 'in time');
        is($end->{stdin}, 'abcd', 'not a byte too many');
        Private::end($writer, 'KILL');
        unlink $fifo;
    };

    subtest "$protocol: events arrive one by one" => sub {
        1 while $app->wait_report('begun', 0);
        my $curl = start_curl($protocol, '/?ticks');
        my $number = $app->wait_report('begun');
        for my $i (0 .. 4) {
            ok($curl->{buffer} !~ /data: $i/, "event $i is not there");
            $app->release("tick$number$i");
            ok(read_curl($curl, qr/data: $i\n\n\z/), 'and then it is');
        }
        is(end_curl($curl), 0, 'complete');
    };
}

subtest 'FcgiIgnoreClientAbort On' => sub {
    1 while $app->wait_report('begun', 0);
    my $curl = start_curl('h2c', '/ignore?finish');
    ok($app->wait_report('begun'), 'at work');
    end_curl($curl, 'KILL');
    is($app->wait_report('ended', 0.6), undef, 'not given up');
    $app->release('finish');
    my $end = $app->wait_report('ended');
    ok($end->{wrote}, 'it could write everything');
    ok(!$end->{aborted}, 'no ABORT_REQUEST');
};

$httpd->ok_healthy;
done_testing;
