# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# How many instructions httpd spends in user space on a small GET: a client's
# kept connection, 13 bytes of an answer, the event MPM, a unix socket.
# Callgrind (valgrind) counts them, so that they are the same on a fast machine
# and a slow one, a quiet and a busy one: it writes down how many there were
# each time httpd has read a request, by a function that each passes once,
# whatever its protocol. What counts is the lowest of those numbers. Starting
# httpd is in none of them, and the load of the machine in others: where
# requests come slowly, the thread that watches idle connections wakes between
# two of them.
#
#     my %count = Instructions::count('fcgi');  # (kept => 46000, new => 47000)
#
#     alone   (answer => ...): no gateway; what answer.c says, from memory
#     proxy   mod_proxy_fcgi, with connections that are kept, and with new ones
#     fcgi    this module: the same, after FcgiBackend with keepalive=
#
#     my %own = Instructions::own('fcgi');      # the same without "alone"
#     my %figure = Instructions::figures();     # own('fcgi') in the tree
#     Instructions::write_figures(%own);
#     Instructions::valgrind();                 # its path; undef: not here
#
# count() takes settings after the kind:
#
#     mpm => 'worker'       instead of $MPM
#     transport => 'tcp'    of the application
#     http2 => 1            of the client: streams, one after another
#     in_turn => 1          the threads of httpd share one processor, and one
#                           that is woken runs when the other waits
#
# Over HTTP/2 two threads serve a request: the client's connection has one, the
# stream another. How often the first is woken, and how far it is when the next
# request has been read, is not the same twice. So the next request is sent
# when all threads sleep, and what counts is the mean of many, as one count may
# have what belongs to the next; in_turn, where most are alike, the median.
package Instructions;

use strict;
use warnings;
use Balanced;
use BenchApp;
use Client;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use Gateway;
use Httpd;
use List::Util qw(min sum);
use Private;
use Streams;

my $HERE = abs_path(dirname(__FILE__));
my $FIGURES = "$HERE/instructions.txt";

# The first ones of a kind make connections, and fill what is kept in memory.
my $WARM_UP = 8;
my $REQUESTS = 48;
my $STREAMS = 208;

my %URLS = (alone => ['answer'], proxy => [qw(kept new)],
            fcgi => [qw(kept new)]);

# One process of few threads, and what differs from httpd's defaults no more
# than needed.
my $COMMON = <<'EOC';
MaxKeepAliveRequests 0
KeepAliveTimeout 60
EOC
my $LOG = '%h - %u %t \"%r\" %>s %B \"%{User-Agent}i\"';

my %CONFIG = (alone => <<'EOC', proxy => <<'EOC', fcgi => <<'EOC');
LoadModule bench_answer_module @ANSWER@
<Location /answer>
  SetHandler bench-answer
</Location>
EOC
ProxyPass "/kept/" "@KEPT_URL@/" enablereuse=on
ProxyPass "/new/" "@NEW_URL@/"
EOC
FcgiBackend @KEPT@ keepalive=5
<Location /kept>
  SetHandler fcgi:@KEPT@
  FcgiScript Virtual
</Location>
<Location /new>
  SetHandler fcgi:@NEW@
  FcgiScript Virtual
</Location>
EOC

sub valgrind {
    return (grep { -x } map { "$_/valgrind" } split /:/, $ENV{PATH} // '')[0];
}

# SCHED_BATCH: a thread that is woken does not take the processor away.
sub in_turn {
    my ($cpu) = Private::slurp('/proc/self/status')
        =~ /^Cpus_allowed_list:\s*(\d+)/m;
    return (qw(taskset -c), $cpu, qw(chrt --batch 0));
}

sub start_httpd {
    my ($kind, $kept, $new, %in) = @_;
    return Httpd->start_under(
        [$in{in_turn} ? in_turn() : (), valgrind(),
         qw(--tool=callgrind --dump-before=ap_run_post_read_request),
         '--callgrind-out-file=@ROOT@/tmp/count'],
        module => $kind eq 'fcgi', log_level => 'notice',
        override => 'None', http2 => $in{http2},
        mpm => Httpd::mpm() eq 'prefork' ? undef : Httpd::single(2),
        modules => $kind eq 'proxy' ? [qw(proxy proxy_fcgi)] : [],
        access_format => $LOG, config => $COMMON . $CONFIG{$kind},
        vars => { KEPT => $kept->address, NEW => $new->address,
                  KEPT_URL => Balanced::url_of($kept),
                  NEW_URL => Balanced::url_of($new),
                  ANSWER => $kind eq 'alone' ? Gateway::answer_module() : '' });
}

sub is_right { return $_[0] && length $_[1] == 13 }

sub ask {
    my ($conn, $url) = @_;
    $conn->send("GET /$url/x?bytes=8 HTTP/1.1\r\nHost: localhost\r\n"
                . "User-Agent: bench/1.0\r\nAccept: */*\r\n\r\n");
    my $answer = $conn->read_response(timeout => 60);
    return is_right($answer->complete && $answer->status == 200,
                    $answer->body);
}

sub ask_stream {
    my ($conn, $url, $httpd) = @_;
    my $answer = $conn->get("/$url/x?bytes=8", 'user-agent' => 'bench/1.0',
                            accept => '*/*');
    return is_right($answer->{is_200}, $answer->{body})
        && Private::wait_until(60, sub { all_sleep($httpd->pid) });
}

# True if no thread of the process has anything to do.
sub all_sleep {
    my ($pid) = @_;
    return !grep { !/^\d+ \(.*\) S/s } grep { $_ ne '' }
        map { Private::slurp($_) } glob "/proc/$pid/task/*/stat";
}

# What was counted up to the nth time that a request was read.
sub counted {
    my ($httpd, $n) = @_;
    my $file = $httpd->root . "/tmp/count.$n";
    my ($count) = Private::slurp($file) =~ /^totals: (\d+)/m;
    return $count // die "nothing was counted: $file\n" . $httpd->words;
}

sub mean { return int(sum(@_) / @_ + 0.5) }
sub median { return (sort { $a <=> $b } @_)[@_ / 2] }

sub count {
    my ($kind, %in) = @_;
    local $ENV{MPM} = $in{mpm} // Httpd::mpm();
    my ($class, $ask, $requests, $typical) = $in{http2}
        ? ('Streams', \&ask_stream, $STREAMS,
           $in{in_turn} ? \&median : \&mean)
        : ('Client', \&ask, $REQUESTS, \&min);
    my ($kept, $new) = map {
        BenchApp->start(workers => 1, transport => $in{transport} // 'unix')
    } 1, 2;
    my $httpd = start_httpd($kind, $kept, $new, %in);
    my $conn = $class->connect($httpd->port);
    my @urls = @{ $URLS{$kind} };
    for my $url (@urls) {
        for (1 .. $requests) {
            $ask->($conn, $url, $httpd)
                or die "no right answer\n" . $httpd->words;
        }
    }
    $ask->($conn, $urls[-1], $httpd);   # which ends the last one's count
    $conn->close;
    # count.1 is all before the first request, count.2 the first
    my $first = 2;
    my %count;
    for my $url (@urls) {
        my @counts = map { counted($httpd, $_) }
            $first + $WARM_UP .. $first + $requests - 1;
        $count{$url} = $typical->(@counts);
        $first += $requests;
    }
    $httpd->stop;
    return %count;
}

my $alone;

sub own {
    my ($kind) = @_;
    $alone //= { count('alone') };
    my %count = count($kind);
    return map { $_ => $count{$_} - $alone->{answer} } keys %count;
}

# ---- the figures in the tree ----

sub figures {
    return Private::slurp($FIGURES) =~ /^(kept|new)\s+(\d+)$/mg;
}

sub write_figures {
    my (%own) = @_;
    Private::spew($FIGURES, <<"EOC");
# The module's own instructions for a small GET, beyond what httpd alone takes
# for the same answer; see Instructions.pm. "make update-instructions" writes
# this file, and t/19-instructions.t fails when they rise by 5 %.
kept $own{kept}
new $own{new}
EOC
    return;
}

1;
