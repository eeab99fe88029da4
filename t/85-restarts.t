# No GET is lost while PHP-FPM or httpd is restarted, reloaded or killed.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Httpd;
use PhpFpm;
use Private;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'no php-fpm here' if !PhpFpm::program();

my $GETTERS = 4;
my $GAP = 0.7;          # seconds that nobody listens
my $PATIENCE = 30;      # seconds for anything to happen

# Each request notes its number before it works.
my $SCRIPT = <<'EOC';
<?php
if ($_SERVER["REQUEST_METHOD"] == "POST")
    file_put_contents(dirname(__DIR__) . "/tmp/noted", "$_GET[id]\n",
                      FILE_APPEND | LOCK_EX);
usleep(3000);
echo "answer $_GET[id] ", strlen(file_get_contents("php://input"));
EOC

# Three children at least, and room for those that end beside them. With few
# threads a child may crash when it is told to end, see docs/performance.rst.
my $MPM = Httpd::mpm() eq 'prefork' ? <<'PREFORK' : <<'THREADS';
StartServers 6
ServerLimit 32
MinSpareServers 4
MaxSpareServers 12
MaxRequestWorkers 16
PREFORK
StartServers 3
ServerLimit 12
ThreadLimit 64
ThreadsPerChild 32
MinSpareThreads 96
MaxSpareThreads 96
MaxRequestWorkers 96
THREADS

my $php = PhpFpm->start(children => 4);

# ---- the load ----

# One client: asks until it is told to stop, a line for each answer in a file.
sub client {
    my ($httpd, $dir, $method, $name) = @_;
    my $body = $method eq 'POST' ? 'x' x 1000 : '';
    open my $file, '>>', "$dir/$name" or die $!;
    $file->autoflush(1);
    for (my $i = 1; !-e "$dir/stop"; $i++) {
        my $id = "$name-$i";
        my $port = $httpd->port;
        my $answer = eval {
            Client->request($port, "$method /page.php?id=$id HTTP/1.1\r\n"
                . "Host: x\r\nConnection: close\r\n"
                . ($body && 'Content-Length: ' . length($body) . "\r\n")
                . "\r\n$body", timeout => 20);
        };
        my $right = $answer && $answer->complete
            && $answer->body eq "answer $id " . length $body;
        print $file "$id ", $answer && $answer->status || 0, ' ',
            $right ? 'right' : $answer ? $answer->error // 'other' : $@ =~
                s/\s+/_/gr, "\n";
    }
    return;
}

my $loads = 0;

sub start_load {
    my ($httpd) = @_;
    $loads++;
    my $load = { dir => Private::temp_dir('load'),
                 names => [(map { "get$loads.$_" } 1 .. $GETTERS),
                           "post$loads"] };
    for my $name (@{ $load->{names} }) {
        my $method = uc $name =~ s/[\d.]+//r;
        push @{ $load->{pids} }, Private::spawn(code => sub {
            client($httpd, "$load->{dir}", $method, $name);
        });
    }
    return $load;
}

sub lines { return split /\n/, Private::slurp("$_[0]{dir}/$_[1]") }

# Every client has had so many answers more.
sub wait_for_answers {
    my ($load, $count) = @_;
    my %before = map { $_ => scalar lines($load, $_) } @{ $load->{names} };
    return Private::wait_until($PATIENCE, sub {
        !grep { lines($load, $_) < $before{$_} + $count }
            @{ $load->{names} };
    });
}

# Ends the load: [id, status, 'right' or what was wrong], ...
sub end_load {
    my ($load) = @_;
    Private::spew("$load->{dir}/stop", '');
    for my $pid (@{ $load->{pids} }) {
        Private::wait_until($PATIENCE, sub { !Private::alive($pid) })
            or die 'a client does not end';
    }
    return map { [split ' '] } map { lines($load, $_) } @{ $load->{names} };
}

# ---- what is looked at afterwards ----

sub is_right { return $_[0][1] == 200 && $_[0][2] eq 'right' }

sub show {
    my ($httpd, @wrong) = @_;
    diag "@$_" for @wrong;
    diag $_ for grep { /FCGI\d\d/ && !/stderr/ }
        split /\n/, $httpd->error_log;
    return;
}

# Under load does $event, and looks at the answers: no GET is lost, and no
# POST that could have been saved. The one client that sends POSTs may lose
# some with each death of all workers: the one that a worker has, one that the
# kernel takes for the socket that goes, and one for each kept connection,
# which the kernel takes while its worker is on the way out.
my $kept;

sub under_load {
    my ($httpd, $deaths, $event) = @_;
    my $noted = $httpd->root . '/tmp/noted';
    unlink $noted;
    my $load = start_load($httpd);
    ok(wait_for_answers($load, 5), 'clients get answers');
    $event->($load);
    ok(wait_for_answers($load, 10), 'and afterwards, too');
    my @answers = end_load($load);

    my @gets = grep { $_->[0] =~ /^get/ } @answers;
    # sent once more, and on a busy machine killed with that worker, too; or
    # not sent again, as FcgiRetry's second was over
    my @lost = grep { !is_right($_) && said_of($httpd, $_->[0])
                          !~ /FCGI03: .*(?:\(after \d{4,} ms,| try 2,)/ } @gets;
    is(scalar @lost, 0, 'of ' . @gets . ' GETs none is lost')
        or show($httpd, @lost);
    my @posts = grep { $_->[0] =~ /^post/ } @answers;
    @lost = grep { !is_right($_) } @posts;
    cmp_ok(scalar @lost, '<=', (2 + $kept) * $deaths,
           'of ' . @posts . ' POSTs ' . @lost . ' are lost')
        or show($httpd, @lost);
    check_lost($httpd, $_) for @lost;

    my %times;
    $times{$_}++ for split /\n/, Private::slurp($noted);
    is_deeply([grep { $times{$_} > 1 } sort keys %times], [],
              'no POST is worked at twice');
    is_deeply([grep { !$times{$_} } map { $_->[0] } grep { is_right($_) }
                   @posts], [], 'all that are answered were worked at');
    note 'lost POSTs that no worker noted: '
        . (join(' ', grep { !$times{$_} } map { $_->[0] } @lost) || 'none');
    return;
}

# What the error log has of a request.
sub said_of {
    my ($httpd, $id) = @_;
    my $line = qr/\S+id=\Q$id\E [^"]*".* (\S+)$/m;
    $httpd->wait_for_access($line);
    my ($log_id) = $httpd->access_log =~ $line or return '';
    my ($said) = grep { /\[\Q$log_id\E\]/ } split /\n/, $httpd->error_log;
    return $said // '';
}

# A POST is lost only if it was written to a connection that broke then: not
# when there was none, and not when it could have been sent again.
sub check_lost {
    my ($httpd, $answer) = @_;
    my ($id, $status) = @$answer;
    is($status, 502, "$id: it had been handed on");
    my $said = said_of($httpd, $id);
    like($said, qr/FCGI03: .* phase (?:send|headers): .* [1-9]\d* bytes to /,
         "$id: the log says so");
    like($said, qr/ and 0 bytes from /, "$id: before its answer");
    return;
}

sub restart_with_gap {
    $php->stop;
    sleep $GAP;
    $php->restart;
    return;
}

my %modes = (
    'no limits'         => '',
    'keepalive=2'       => 'FcgiBackend @PHP@ keepalive=2',
    'max=3'             => 'FcgiBackend @PHP@ max=3',
    'max=3 keepalive=2' => 'FcgiBackend @PHP@ max=3 keepalive=2',
);

for my $mode (sort keys %modes) {
    $kept = $mode =~ /keepalive=(\d+)/ ? $1 : 0;
    my $httpd = Httpd->start(
        vars => { PHP => $php->handler }, mpm => $MPM,
        files => { 'page.php' => $SCRIPT },
        config => "AddHandler \@PHP\@ .php\n$modes{$mode}\n");

    subtest "$mode: FPM restarted with a gap" => sub {
        under_load($httpd, 1, \&restart_with_gap);
    };
    subtest "$mode: FPM reloaded three times" => sub {
        under_load($httpd, 3, sub {
            for (1 .. 3) {
                $php->reload;
                ok(wait_for_answers($_[0], 2), 'answers after a reload');
            }
        });
    };
    subtest "$mode: FPM killed and started" => sub {
        under_load($httpd, 1, sub {
            $php->kill;
            $php->restart;
        });
    };
    subtest "$mode: httpd restarted gracefully" => sub {
        under_load($httpd, 0, sub {
            for (1 .. 2) {
                $httpd->graceful;
                ok(wait_for_answers($_[0], 2), 'answers after a restart');
            }
        });
    };
    $httpd->leave;
}

Httpd->ok_left;
done_testing;
