# A file that is swapped while it is asked for is never one from outside.
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Who owns the files below a folder of FcgiSendfile may put a link or a pipe
# into a file's place between a check and the opening.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use POSIX qw(mkfifo);
use Private;
use Test::More;

my $REQUESTS = 3000;
my $files = Private::temp_dir('files');
my $dir = "$files/inside";
Private::spew("$files/$_", 'secret') for qw(outside/x.txt);
Private::spew("$dir/$_", 'inside') for qw(file.txt sub/x.txt pipe.txt
                                              tmp/regular);

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    while (my $request = $c->read_request(60)) {
        $c->reply("X-Sendfile: $dir$request->{params}{PATH_INFO}\r\n\r\n");
    }
}, workers => 4);
my $httpd = Httpd->start(
    vars => { APP => $app->handler, DIR => $dir }, config => <<'EOC');
FcgiBackend @APP@ keepalive=4
MaxKeepAliveRequests 0
LogLevel fastcgi_handler:crit
<Location /file>
  SetHandler @APP@
  FcgiSendfile @DIR@
</Location>
EOC

# Puts something else into the place of a file, and back, as fast as it can.
mkfifo("$dir/tmp/pipe", 0666) or die $!;
chmod 0666, "$dir/tmp/pipe";
my %swap = (
    '/file.txt' => sub {
        symlink '../outside/x.txt', "$dir/tmp/other";
        rename "$dir/tmp/other", "$dir/file.txt";
        link "$dir/tmp/regular", "$dir/tmp/back";
        rename "$dir/tmp/back", "$dir/file.txt";
    },
    '/sub/x.txt' => sub {
        rename "$dir/sub", "$dir/tmp/sub";
        symlink '../outside', "$dir/sub";
        unlink "$dir/sub";
        rename "$dir/tmp/sub", "$dir/sub";
    },
    '/pipe.txt' => sub {
        link "$dir/tmp/pipe", "$dir/tmp/other";
        rename "$dir/tmp/other", "$dir/pipe.txt";
        link "$dir/tmp/regular", "$dir/tmp/back";
        rename "$dir/tmp/back", "$dir/pipe.txt";
    },
);

# How often there was which answer.
sub count_answers {
    my ($path) = @_;
    my %count;
    my $conn = Client->connect($httpd->port);
    my $deadline = time + 30;
    # more than that where the attacker hardly gets a processor
    for (my $n = 0; $n < $REQUESTS
         || (time < $deadline && !($count{inside} && $count{refused}));
         $n++) {
        $conn->send("GET /file$path HTTP/1.1\r\nHost: x\r\n\r\n");
        my $answer = $conn->read_response(timeout => 10);
        my $kind = !$answer->complete ? 'broken: ' . $answer->error
            : $answer->status == 404 ? 'refused' : $answer->body;
        $count{$kind}++;
        last if !$answer->complete;
    }
    return \%count;
}

for my $path (sort keys %swap) {
    my $attacker = Private::spawn(code => sub {
        $swap{$path}->() while getppid != 1;
    });
    my $count = count_answers($path);
    Private::end($attacker, 'KILL');
    my $inside = delete $count->{inside};
    my $refused = delete $count->{refused};
    is_deeply($count, {}, "$path: a file from inside, or none");
    ok($inside, 'the file was there') or diag $refused;
    ok($refused, 'and something else was') or diag $inside;
}

# What httpd's children have open below the folder: flags of each.
sub open_files {
    return map { Private::slurp(s{/fd/}{/fdinfo/}r) =~ /^flags:\s*(\d+)/m }
        grep { (readlink // '') =~ /^\Q$files\E/ }
        map { glob "/proc/$_/fd/*" } $httpd->pids;
}

subtest 'the open file' => sub {
    plan skip_all => 'no /proc here' if !-d '/proc/self/fdinfo';
    ok(Private::wait_until(5, sub { !open_files() }), 'none is left');
    truncate Private::spew("$dir/big", ''), 20_000_000 or die $!;
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /file/big HTTP/1.1\r\nHost: x\r\n\r\n");
    my @flags;
    ok(Private::wait_until(5, sub { @flags = open_files() }),
       'while a client reads slowly one is open');
    is(scalar(@flags), 1, 'once');
    # O_CLOEXEC; O_PATH of no folder
    is(oct($flags[0]) & 0x280000, 0x80000, 'for httpd alone');
    is(length $conn->read_response->body, 20_000_000, 'it comes');
    ok(Private::wait_until(5, sub { !open_files() }), 'and is closed');
};

$httpd->ok_healthy;
done_testing;
