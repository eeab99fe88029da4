# Bodies of gigabytes arrive whole, and httpd needs no more memory for them.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use Digest::MD5;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use IO::Select;
use Private;
use Test::More;

my $MB = 1024 * 1024;
my $GB = 1024 * $MB;

# One process with one thread for requests: its memory tells.
my $ONE = Httpd::mpm() eq 'prefork' ? <<'EOC' : <<'EOC2';
StartServers 1
ServerLimit 1
MaxRequestWorkers 1
EOC
StartServers 1
ServerLimit 1
ThreadsPerChild 1
MinSpareThreads 1
MaxSpareThreads 1
MaxRequestWorkers 1
EOC2

# /md5 reads with care, all others just count.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_params(30) or return;
    my $params = $request->{params};
    my $md5 = $params->{REQUEST_URI} =~ /md5/ ? Digest::MD5->new : undef;
    my ($length, $records) = (0, 0);
    while (my $record = $c->read_record(30)) {
        next if $record->{type} != FCGI_STDIN;
        last if $record->{content} eq '';
        $length += length $record->{content};
        $md5->add($record->{content}) if $md5;
        $c->report(half => $length) if $records++ == 16_000;
    }
    $c->reply("Content-Type: text/plain\r\n\r\n" . join ' ', $length,
              $params->{CONTENT_LENGTH} // 'none',
              $md5 ? $md5->hexdigest : ());
});

my $spool = Private::temp_dir('spool');
chmod 01777, $spool;
my $httpd = Httpd->start(
    mpm => $ONE, vars => { APP => $app->handler, SPOOL => $spool },
    config => <<'EOC');
LimitRequestBody 0
FcgiBufferDir @SPOOL@
FcgiBufferMax 4G
FcgiTimeout 120
<Location />
  SetHandler @APP@
</Location>
<Location /streamed>
  FcgiRequestBuffering Off
</Location>
EOC
my $url = 'http://127.0.0.1:' . $httpd->port;

my ($free) = (Private::run('df', '-Pk', "$spool"))[1]
    =~ /\d+\s+\d+\s+(\d+)\s+\d+%/;
my $room = ok($free > 2.5 * 1024 * 1024, 'the disk has room for 2.5 GB')
    or diag "$spool has $free KB";

sub memory {
    my ($most) = sort { $b <=> $a } map {
        Private::slurp("/proc/$_/status") =~ /^RssAnon:\s+(\d+)/m ? $1 : 0
    } $httpd->pids;
    return $most;
}

# Has curl send a file; returns the answer.
sub upload {
    my ($path, $file, @args) = @_;
    return Client::curl(qw(-X POST -H Expect: --max-time 300), @args,
                        '-T', $file, "$url$path")->{body};
}

# Sends so many zeros and looks at httpd's memory meanwhile.  Returns the
# answer and the most kilobytes.
sub upload_zeros {
    my ($path, $length) = @_;
    my $conn = Client->connect($httpd->port);
    my $zeros = "\0" x $MB;
    my $answered = IO::Select->new($conn->{socket});
    my $most = 0;
    my $look = sub {
        my $now = memory();
        $most = $now if $now > $most;
    };
    $conn->send("POST $path HTTP/1.1\r\nHost: x\r\n"
                . "Content-Length: $length\r\n\r\n");
    for (my $left = $length; $left > 0; $left -= $MB) {
        $conn->send($left < $MB ? substr $zeros, 0, $left : $zeros) or last;
        $look->() if int($left / $MB) % 16 == 0;
    }
    Private::wait_until(300, sub { $look->(); $answered->can_read(0) });
    return ($conn->read_response->body, $most);
}

subtest '64 MB at random' => sub {
    my $body = '';
    open my $random, '<:raw', '/dev/urandom' or die $!;
    read $random, $body, 64 * $MB;
    my $file = Private::spew($httpd->root . '/tmp/random', $body);
    my $md5 = Digest::MD5::md5_hex($body);
    my $length = 64 * $MB;
    my $answer = upload('/md5', $file);
    is($answer, "$length $length $md5", 'declared');
    $answer = upload('/md5', $file, '-H', 'Transfer-Encoding: chunked');
    is($answer, "$length $length $md5", 'chunked');
    $answer = upload('/streamed/md5', $file);
    is($answer, "$length $length $md5", 'streamed');
    unlink $file;
};

my %length = ('/count' => 2 * $GB + 1, '/streamed/count' => 4 * $GB + 1);
for my $path (sort keys %length) {
    subtest "many gigabytes, $path" => sub {
        my $length = $length{$path};
        plan skip_all => 'the disk is too small'
            if !$room && $path eq '/count';
        my $before = memory();
        my ($answer, $most) = upload_zeros($path, $length);
        is($answer, "$length $length", 'all of it arrives');
        cmp_ok($app->wait_report('half', 1), '>', 0, 'seen half way');
        SKIP: {
            skip 'a sanitizer keeps what was freed', 1 if $ENV{HTTPD_PRELOAD};
            cmp_ok($most - $before, '<', 1024, 'kilobytes of memory more');
        }
        ok(Private::wait_until(10, sub {
            !grep { m{^\Q$spool\E/} } map { readlink // () }
                map { glob "/proc/$_/fd/*" } $httpd->pids;
        }), 'no file is left');
    };
}

subtest 'more than FcgiBufferMax' => sub {
    my $connections = $app->connections;
    my $answer = Client->request($httpd->port, "POST /big HTTP/1.1\r\n"
        . "Host: x\r\nContent-Length: 17179869184\r\n\r\n", timeout => 5);
    is($answer->status, 413, '16 GB are refused at once');
    is($app->connections, $connections, 'the application is not asked');
};

$httpd->ok_healthy;
done_testing;
