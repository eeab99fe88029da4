# Each system call of the module may fail: nobody hangs, nothing leaks or lies.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# t/faults/shim.c lets them fail. Requests of each kind are made once while it
# notes which calls the module makes, and from where; then again for each of
# these and each way in which it can fail: the first time it is made in the
# course of that, and the last. FAULTS_ALL=1 takes all times in between, too.
# FAULTS_ONLY=post/sendmsg names a kind, and a call.

use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use Errno;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Bytes;
use Client;
use FcgiApp;
use Httpd;
use JSON::PP ();
use List::Util qw(uniq);
use Private;
use Socket qw(SOL_SOCKET SO_RCVBUF);
use Test::More;

delete $ENV{PARK};              # the kinds say it

my $PATIENCE = 10;              # seconds for anything to happen
my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $LARGE = Bytes::numbered(1_600_004);
my $BODY = Bytes::numbered(300_000, 1);
my ($ONLY_KIND, $ONLY_CALL) = split m{/}, $ENV{FAULTS_ONLY} // '';

# ---- the shim ----

# How calls fail, once; with a + all fail after it that lack the same. What
# passes by itself has to leave no trace. What no call on Linux ever answers is
# left out, as are EAGAIN of a pipe to ring with, which is full then and has
# been rung, and the memory of APR's pools.
my %PASSING = map { $_ => 1 } qw(EINTR EAGAIN SHORT);
my @OPEN = qw(EINTR EMFILE EMFILE+ ENOSPC ENOSPC+ ENOENT);
my %MOVES = map { $_ => 1 } qw(read recv recvfrom write writev sendto
                                sendmsg);
my @FAULTS_OF = (               # those, of what struct control calls kind
    [],
    [qw(EINTR EIO ENOSPC ENOSPC+ SHORT)],
    [qw(EINTR EAGAIN ECONNRESET SHORT)],
    ['EINTR'],
);
my %FAULTS = (
    sendfile => [qw(EINTR EAGAIN ECONNRESET EIO SHORT)],
    socket => [qw(EMFILE EMFILE+ ENOBUFS)],
    connect => [qw(EINTR EAGAIN ECONNREFUSED ECONNRESET)],
    setsockopt => ['ENOBUFS'], getsockopt => ['ENOBUFS'],
    open => \@OPEN, openat => \@OPEN, mkstemp => \@OPEN,
    pipe => [qw(EMFILE EMFILE+)], fcntl => ['ENOLCK'],
    ftruncate => ['EIO'], lseek => ['EIO'], fstat => ['EIO'],
    stat => ['EACCES'], unlink => ['EACCES'], dup => ['EMFILE'],
    poll => [qw(EINTR ENOMEM)],
    epoll_create1 => [qw(EMFILE EMFILE+)], epoll_ctl => [qw(ENOMEM ENOSPC)],
    epoll_wait => ['EINTR'], timerfd_create => [qw(EMFILE EMFILE+)],
    mmap => ['ENOMEM'], malloc => ['ENOMEM'],
    pthread_create => ['EAGAIN'], sem_init => ['ENOSPC'],
);
my $SHORT = 0x10000;
my ($OFF, $RECORD, $FAIL) = 0 .. 2;
my $HEADER = 8;                 # words of struct control before the calls
my $WORDS = $HEADER + 2 * 8192;

my $source = Private::slurp("$Bin/faults/shim.c");
my ($list) = $source =~ /^#define FUNCTIONS\(X\)(.*?\))\n\n/ms;
my @functions = $list =~ /X\((\w+)\)/g;
my %number = map { $functions[$_] => $_ } 0 .. $#functions;

my $build = Private::temp_dir('shim');
my ($failed, $output) = Private::run(
    $ENV{CC} || 'cc', qw(-std=gnu11 -O1 -Wall -Wextra -Werror -fPIC -shared),
    ($ENV{HTTPD_PRELOAD} ? '-DWITHOUT_MALLOC' : ()),
    '-o', "$build/shim.so", "$Bin/faults/shim.c", '-ldl');
die $output if $failed;

# A file of zeros, which is mode OFF. Every process of httpd may write to it.
sub control_file {
    my ($name) = @_;
    return Private::spew("$build/$name", pack("L$WORDS"), 0666);
}

sub set_words {
    my ($file, $at, @words) = @_;
    open my $handle, '+<:raw', $file or die "$file: $!";
    sysseek $handle, 4 * $at, 0;
    syswrite $handle, pack 'L*', @words;
    return;
}

sub words { return unpack 'L*', Private::slurp($_[0]) }

sub record {
    my ($file) = @_;
    set_words($file, 0, $RECORD, (0) x ($HEADER - 1));
    return;
}

# Ends RECORD: [function, place, how often, kind], in the order of the first
# calls.
sub recorded {
    my ($file) = @_;
    set_words($file, 0, $OFF);
    my @words = words($file);
    my ($count, @found, %place) = $words[$HEADER - 1];
    for my $index (0 .. $count - 1) {
        my ($function, $place) = @words[map { $HEADER + 2 * $index + $_ } 0, 1];
        my $known = $place{"$function $place"} //= do {
            push @found, [$functions[$function & 0xff], $place, 0,
                          $function >> 8];
            $found[-1];
        };
        $known->[2]++;
    }
    return @found;
}

sub arm {
    my ($file, $function, $place, $nth, $fault) = @_;
    my $lasts = $fault =~ s/\+$//;
    my $end = $fault eq 'SHORT' ? $SHORT : do {
        no strict 'refs';
        &{"Errno::$fault"}();
    };
    set_words($file, 0, $OFF, $number{$function}, $place, $nth, $end,
              $lasts ? 1 : 0, 0);
    set_words($file, 0, $FAIL);
    return;
}

# Ends FAIL: whether the call that was to fail was made.
sub disarm {
    my ($file) = @_;
    set_words($file, 0, $OFF);
    my @words = words($file);
    return $words[6] >= $words[3];
}

# The line of the source at which a call is made.
my %line_of;

sub line_of {
    my ($place) = @_;
    return $line_of{$place} //= do {
        my ($status, $said) = Private::run(
            'addr2line', '-s', '-e', Httpd::module_file(),
            sprintf '0x%x', $place - 1);
        $status ? sprintf '0x%x', $place : $said =~ s/\s.*//sr;
    };
}

# ---- the application ----

my $seen = Private::temp_dir('seen');

# True the first time that anybody asks for that.
sub is_first {
    my ($uri) = @_;
    return mkdir "$seen/" . md5_hex($uri);
}

sub answer {
    my ($c) = @_;
    while (my $request = $c->read_request(60)) {
        return if !$request->{stdin_complete};
        my $uri = $request->{params}{REQUEST_URI};
        return if $uri =~ /dies/ && is_first($uri);
        if ($uri =~ /held/) {
            $c->report($uri => 1);
            $c->wait_release($uri, $PATIENCE);
        }
        my $text = $uri =~ /large/ ? $LARGE : $uri;
        $c->reply($HEAD . $text . md5_hex($request->{stdin}));
        $c->report($uri => 1) if $uri =~ /large/;
    }
    return;
}

sub expected {
    my ($uri, $body) = @_;
    return ($uri =~ /large/ ? $LARGE : $uri) . md5_hex($body // '');
}

my %app = map {
    $_ => FcgiApp->start(\&answer, workers => 3,
                         $_ eq 'tcp' ? (transport => 'tcp') : ())
} qw(fresh kept one tcp);

# ---- httpd ----

my $spool = Private::temp_dir('spool');
chmod 01777, $spool;

# No process ends or comes meanwhile, so that their descriptors can be counted.
my $MPM = Httpd::mpm() eq 'prefork' ? <<'PREFORK' : Httpd::single(16);
StartServers 4
ServerLimit 4
MinSpareServers 4
MaxSpareServers 4
MaxRequestWorkers 4
PREFORK

sub start {
    my ($control, $how) = @_;
    return Httpd->$how(
        mpm => $MPM,
        vars => { SPOOL => $spool,
                  map { uc $_ => $app{$_}->address } keys %app },
        env => { FAULTS => $control,
                 LD_PRELOAD => join ' ', $ENV{HTTPD_PRELOAD} // (),
                     "$build/shim.so" },
        config => <<'EOC');
FcgiBufferDir @SPOOL@
FcgiBufferMemory 16K
FcgiPark Off
FcgiConnectTimeout 1s
FcgiBackend fresh @FRESH@ keepalive=0
FcgiBackend tcp @TCP@ keepalive=0
FcgiBackend kept @KEPT@ keepalive=1
FcgiBackend one @ONE@ max=1 queue=5 queue-timeout=20
<Location /fresh/>
  SetHandler fcgi:fresh
</Location>
<Location /tcp/>
  SetHandler fcgi:tcp
</Location>
<Location /kept/>
  SetHandler fcgi:kept
</Location>
<Location /one/>
  SetHandler fcgi:one
</Location>
<LocationMatch ^/\w+/parked/>
  FcgiPark 0
</LocationMatch>
<Location /fcgi-status>
  SetHandler fcgi-status
</Location>
EOC
}

my $httpd;
my $log_read = 0;

# What the log says since the last fault.
sub log_since {
    open my $log, '<', $httpd->root . '/logs/error.log' or return '';
    seek $log, $log_read, 0;
    local $/;
    return readline($log) // '';
}

sub backends {
    my $all = JSON::PP->new->decode(
        Client->get($httpd->port, '/fcgi-status?json')->body);
    return @{ $all->{backends} };
}

sub sum {
    my ($what) = @_;
    my $sum = 0;
    $sum += $_->{$what} for backends();
    return $sum;
}

# True if the log has a word of a request, or will have: requests without a
# connection share a line a second.
sub was_said {
    my ($failures) = @_;
    return log_since() =~ /FCGI\d\d: / || sum('failed') > $failures;
}

sub count_descriptors {
    my $count = () = map { glob "/proc/$_/fd/*" } $httpd->pids;
    return $count;
}

# ---- the kinds of requests ----

sub send_request {
    my ($uri, $body, %opt) = @_;
    my $conn = Client->connect($httpd->port, %opt);
    $conn->send(
        defined $body
        ? "POST $uri HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            . 'Content-Length: ' . length($body) . "\r\n\r\n$body"
        : "GET $uri HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    return $conn;
}

# How it went: 'right', 'error 503', 'cut', or what may never be.
sub judge {
    my ($conn, $uri, $body) = @_;
    my $answer = $conn->read_response(timeout => $PATIENCE);
    return 'HANGS' if $answer->timed_out;
    return 'cut' if !$answer->complete;
    my $status = $answer->status;
    return $status =~ /^[45]/ ? "error $status" : "WRONG: $status"
        if $status != 200;
    return $answer->body eq expected($uri, $body) ? 'right' : 'WRONG: body';
}

sub ask {
    my ($uri, $body) = @_;
    return judge(send_request($uri, $body), $uri, $body);
}

# Waits for the application to say so, or for httpd to say that it failed.
sub wait_told {
    my ($app, $uri) = @_;
    return Private::wait_until($PATIENCE, sub {
        $app{$app}->wait_report($uri, 0) || log_since() =~ /FCGI\d+:/;
    });
}

# Holds a request until $is_there is true, or will not be.
sub hold {
    my ($app, $uri, $is_there) = @_;
    my $conn = send_request($uri);
    wait_told($app, $uri);
    Private::wait_until(1, $is_there);
    $app{$app}->release($uri);
    return $conn;
}

# One that is served, and one in line behind it.
sub ask_in_line {
    my ($first, $next, $is_there) = @_;
    my $second;
    my $conn = hold('one', $first, sub {
        $second //= send_request($next);
        return $is_there->();
    });
    wait_told('one', $next);
    $app{one}->release($next);
    return (judge($conn, $first), judge($second, $next));
}

my $run = 0;

# Each returns how each of its requests went.
my %KINDS = (
    get => sub { ask('/fresh/' . ++$run) },
    tcp => sub { ask('/tcp/' . ++$run) },
    kept => sub { map { ask('/kept/' . ++$run) } 1 .. 2 },
    post => sub { ask('/fresh/' . ++$run, $BODY) },
    large => sub {
        my $uri = '/fresh/large/' . ++$run;
        my $conn = send_request($uri, undef, rcvbuf => 4096);
        wait_told('fresh', $uri);
        setsockopt $conn->{socket}, SOL_SOCKET, SO_RCVBUF, 1 << 20;
        return judge($conn, $uri);
    },
    parked => sub {
        my $uri = '/kept/parked/held' . ++$run;
        return judge(hold('kept', $uri, sub { sum('parked') }), $uri);
    },
    line => sub {
        ask_in_line((map { '/one/held' . ++$run } 1 .. 2),
                    sub { sum('waiting') });
    },
    line_parked => sub {
        ask_in_line((map { '/one/parked/held' . ++$run } 1 .. 2),
                    sub { sum('waiting') && sum('parked') == 2 });
    },
    again => sub { ask('/kept/dies' . ++$run) },
);
my @KINDS = grep { !/parked/ || Httpd::can_park() }
    qw(get tcp kept post large parked line line_parked again);

# ---- one fault ----

my $base;                       # descriptors, without idle connections

# Whether all that was taken is given back; else what is not.
sub wait_for_peace {
    my ($said, $open);
    Private::wait_until($PATIENCE, sub {
        my @backends = backends();
        my $idle = 0;
        $idle += $_->{idle} for @backends;
        $said = join ' ', map {
            my $one = $_;
            map { $one->{$_} ? "$one->{name}: $_=$one->{$_}" : () }
                qw(in_use waiting parked);
        } @backends;
        $open = count_descriptors() - $idle;
        $base //= $open;
        return $said eq '' && $open <= $base;
    });
    return ($said ? $said : (),
            $open > $base ? $open - $base . ' descriptors more' : ());
}

# True if the connection is reset before a byte of the request is written: it
# can be sent on another, whatever its method.
sub is_unseen {
    my ($function, $nth, $fault) = @_;
    return $function eq 'sendmsg' && $nth == 1 && $fault eq 'ECONNRESET';
}

# What is wrong with a kind of request under a fault.
sub try {
    my ($kind, $control, $function, $place, $nth, $fault) = @_;
    my @pids = $httpd->pids;
    my $failures = sum('failed');
    arm($control, $function, $place, $nth, $fault);
    my @ends = $KINDS{$kind}->();
    my $was_made = disarm($control);
    my @wrong = grep { /[A-Z]/ } @ends;
    my @failed = grep { /error|cut/ } @ends;
    push @wrong, "@failed without a word"
        if @failed && !Private::wait_until(5, sub { was_said($failures) });
    push @wrong, "@failed"
        if @failed && ($PASSING{$fault} || is_unseen($function, $nth, $fault));
    push @wrong, 'a process ended' if "@pids" ne join ' ', $httpd->pids;
    push @wrong, wait_for_peace();
    my $after = ask(($kind =~ /line/ ? '/one/' : '/kept/') . ++$run);
    push @wrong, "the next: $after" if $after ne 'right';
    return ($was_made, \@wrong, @ends);
}

# ---- all of them ----

my (%ends, $tried);
my $not_made = 0;

sub try_call {
    my ($kind, $control, $function, $place, $count, $of) = @_;
    my @times = $ENV{FAULTS_ALL} ? 1 .. $count : uniq(1, $count);
    my $faults = $MOVES{$function} ? $FAULTS_OF[$of] : $FAULTS{$function};
    for my $fault (@$faults) {
        for my $nth (@times) {
            my $name = "$function() at " . line_of($place)
                . ", $nth of $count: $fault";
            $log_read = -s $httpd->root . '/logs/error.log';
            my ($was_made, $wrong, @ends) =
                try($kind, $control, $function, $place, $nth, $fault);
            $tried++;
            $not_made++ if !$was_made;
            $ends{$_}++ for @ends;
            note "$name: @ends" if $was_made;
            is_deeply($wrong, [], $name) or diag log_since() if @$wrong;
        }
    }
    return;
}

sub try_kind {
    my ($kind, $control) = @_;
    my %calls;
    is_deeply([uniq $KINDS{$kind}->()], ['right'], 'answered');
    is_deeply([wait_for_peace()], [], 'and all is given back');
    record($control);
    is_deeply([uniq $KINDS{$kind}->()], ['right'], 'again, with all noted');
    my @found = recorded($control);
    cmp_ok(scalar @found, '>', 3, 'calls: ' . @found);
    for my $call (@found) {
        my ($function) = @$call;
        try_call($kind, $control, @$call)
            if !$ONLY_CALL || $ONLY_CALL eq $function;
    }
    return;
}

# ---- the start of httpd ----

# Starts one; returns how that went. A child is there when it has answered
# what is not for the module.
sub try_to_start {
    my ($control) = @_;
    my $server = eval { start($control, 'start') };
    my $words = $@;
    if ($server && eval {
        Client->get($server->port, '/none')->complete;
    }) {
        set_words($control, 0, $OFF);
        $httpd = $server;
        my $end = ask('/kept/' . ++$run);
        $server->stop_gracefully;
        return $server->healthy ? $end : $server->words;
    }
    if ($server) {
        $server->stop;
        $words = $server->words;
    }
    return $words =~ /:emerg\].*FCGI\d\d: / ? 'says why' : "NO WORD: $words";
}

sub try_starts {
    my ($control) = @_;
    record($control);
    is(try_to_start($control), 'right', 'it starts, with all noted');
    my %ends;
    for my $call (recorded($control)) {
        my ($function, $place, $count) = @$call;
        next if $ONLY_CALL && $ONLY_CALL ne $function;
        for my $fault (@{ $FAULTS{$function} // [] }) {
            for my $nth (uniq 1, $count) {
                arm($control, $function, $place, $nth, $fault);
                my $end = try_to_start($control);
                $ends{$end}++;
                like($end, qr/^(?:right|says why)$/, "$function() at "
                     . line_of($place) . ", $nth of $count: $fault: $end");
            }
        }
    }
    cmp_ok($ends{'says why'} // 0, '>', 2, 'some could not start')
        if !$ONLY_CALL;
    return;
}

subtest start => sub { try_starts(control_file('start')) }
    if !$ONLY_KIND || $ONLY_KIND eq 'start';

# ---- requests ----

my $control = control_file('requests');
$httpd = start($control, 'start');
for my $warm_up (1 .. 2) {
    $KINDS{$_}->() for @KINDS;
    undef $base;
    wait_for_peace();
}
for my $kind (grep { !$ONLY_KIND || $_ eq $ONLY_KIND } @KINDS) {
    subtest $kind => sub { try_kind($kind, $control) };
}
note +($tried // 0), ' faults tried, ', $not_made,
    ' of them in calls that were not made: ',
    join ', ', map { "$_ $ends{$_}" } sort keys %ends;
cmp_ok($not_made, '<', $tried / 2, 'most of them were made') if $tried;
$httpd->ok_healthy;
done_testing();
