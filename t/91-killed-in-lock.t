# A child killed while it has a backend's lock stops nobody, whatever the lock.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use JSON::PP ();
use Private;
use Test::More;

my $MAX = 2;
my $CLIENTS = 5;
my $ROUNDS = 5;
my $PATIENCE = 10;      # seconds for anything to happen

# httpd with this kills the process that is about to give a lock back while
# there is a file of that name, which it takes away: the lock of all, or that of
# a backend, which is known by being shared and robust. With ONE_LOCK there are
# none of the second kind, as on systems that do not have them.
my $KILLER = <<'EOC';
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

typedef int unlocker(void *);
typedef int maker(pthread_mutex_t *, const pthread_mutexattr_t *);

/* Made before the children are. */
static pthread_mutex_t *robust[64];
static int count;

int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *how)
{
    static maker *make;
    int is_robust = PTHREAD_MUTEX_STALLED;

    if (!make) {
        make = (maker *)dlsym(RTLD_NEXT, "pthread_mutex_init");
    }
    if (how && !pthread_mutexattr_getrobust(how, &is_robust)
        && is_robust == PTHREAD_MUTEX_ROBUST && count < 64) {
        robust[count++] = mutex;
    }
    return make(mutex, how);
}

int pthread_mutexattr_setrobust(pthread_mutexattr_t *how, int robustness)
{
    typedef int setter(pthread_mutexattr_t *, int);

    return getenv("ONE_LOCK") && atoi(getenv("ONE_LOCK"))
               ? ENOTSUP
               : ((setter *)dlsym(RTLD_NEXT, "pthread_mutexattr_setrobust"))(
                     how, robustness);
}

static void perhaps_kill(void)
{
    const char *gate = getenv("KILL_GATE");

    if (gate && unlink(gate) == 0) {
        kill(getpid(), SIGKILL);
        pause();
    }
}

int apr_global_mutex_unlock(void *mutex)
{
    perhaps_kill();
    return ((unlocker *)dlsym(RTLD_NEXT, "apr_global_mutex_unlock"))(mutex);
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    static unlocker *unlock;
    int i;

    if (!unlock) {
        unlock = (unlocker *)dlsym(RTLD_NEXT, "pthread_mutex_unlock");
    }
    for (i = 0; i < count; i++) {
        if (robust[i] == mutex) {
            perhaps_kill();
        }
    }
    return unlock(mutex);
}
EOC

my $build = Private::temp_dir('killer');
my $source = Private::spew("$build/killer.c", $KILLER);
my ($failed, $output) = Private::run(
    $ENV{CC} || 'cc', qw(-shared -fPIC -o), "$build/killer.so", $source,
    '-ldl');
die $output if $failed;

# Every process of httpd may take the file away.
my $dir = Private::temp_dir('gate');
chmod 0777, $dir or die $!;

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    while (my $request = $c->read_request(60)) {
        my $query = $request->{params}{QUERY_STRING};
        if ($query =~ /held/) {
            $c->report(inside => $query);
            $c->wait_release($query, $PATIENCE);
        }
        $c->reply("Content-Type: text/plain\r\n\r\n$query");
    }
}, workers => $CLIENTS + 1);

sub send_get {
    my ($httpd, $query) = @_;
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /app?$query HTTP/1.1\r\nHost: x\r\n"
                . "Connection: close\r\n\r\n");
    return $conn;
}

sub numbers_of {
    my ($httpd) = @_;
    my $all = JSON::PP->new->decode(
        Client->get($httpd->port, '/fcgi-status?json')->body);
    my ($said) = grep { $_->{name} eq 'app' } @{ $all->{backends} };
    return join ' ', map { "$_=$said->{$_}" } qw(in_use idle waiting);
}

# Requests at once, in whose course a child is killed in the lock; then others
# one by one. Returns what went wrong with these.
sub kill_in_lock {
    my ($httpd, $gate) = @_;
    Private::spew($gate, '', 0666);
    my %before = map { $_ => 1 } $httpd->pids;
    my @conns = map { send_get($httpd, "kill$_") } 1 .. $CLIENTS;
    my $killed = Private::wait_until($PATIENCE, sub {
        !-e $gate && grep { Httpd::is_over($_) } keys %before;
    });
    my @answers = map { $_->read_response(timeout => $PATIENCE) } @conns;
    my @wrong = map { 'hangs' } grep { $_->timed_out } @answers;
    push @wrong, 'nobody is killed' if !$killed;
    for my $n (1 .. 4) {
        last if @wrong;
        my $answer = send_get($httpd, "after$n")->read_response(
            timeout => $PATIENCE);
        push @wrong, $answer->status // $answer->error
            if !$answer->complete || $answer->body ne "after$n";
    }
    return @wrong;
}

# Directive Mutex => whether the module says that it takes another one; whether
# backends have no locks of their own. APR's pthread is robust itself.
my @mutexes = (
    ['' => 0, 0], ['Mutex posixsem default' => 1, 0],
    ['Mutex sysvsem default' => 0, 1], ['Mutex fcntl:run default' => 0, 1],
    ['Mutex flock:run fcgi-backends' => 0, 1],
    ['Mutex posixsem fcgi-backends' => 1, 0],
);

my $servers = 0;
for my $case (@mutexes) {
    my ($mutex, $replaced, $one_lock) = @$case;
    subtest(($mutex || 'the default of httpd')
            . ($one_lock ? ', one for all' : '') => sub {
        my $gate = "$dir/gate" . ++$servers;
        my $httpd = Httpd->start(
            mpm => Httpd::several(4), vars => { APP => $app->address },
            env => { KILL_GATE => $gate, ONE_LOCK => $one_lock,
                     LD_PRELOAD => join ' ', $ENV{HTTPD_PRELOAD} // (),
                         "$build/killer.so" },
            config => <<"EOC");
$mutex
FcgiBackend app \@APP\@ max=$MAX queue=50 queue-timeout=20 keepalive=1
<Location /app>
  SetHandler fcgi:app
</Location>
<Location /fcgi-status>
  SetHandler fcgi-status
</Location>
EOC
        my @said = $httpd->error_log =~ /:(\w+)\] .*(FCGI30: .*)/g;
        is(scalar @said, $replaced ? 2 : 0, 'what is said of it, once');
        if ($replaced) {
            is($said[0], 'warn', 'a warning');
            like($said[1], qr/posixsem.*Mutex \w+ fcgi-backends/,
                 'what, and what to write');
        }
        for my $round (1 .. $ROUNDS) {
            is_deeply([kill_in_lock($httpd, $gate)], [],
                      "round $round: all others are served") or last;
        }
        my $numbers;
        Private::wait_until($PATIENCE, sub {
            $numbers = numbers_of($httpd);
            $numbers =~ /^in_use=0 idle=[01] waiting=0$/;
        });
        like($numbers, qr/^in_use=0 idle=[01] waiting=0$/,
             'the counts are right');
        my @held = map { "held$servers.$_" } 1 .. $MAX;
        my @conns = map { send_get($httpd, $_) } @held;
        is(scalar(grep { $app->wait_report('inside', $PATIENCE) } @conns),
           $MAX, 'as many are served at a time as before');
        like(numbers_of($httpd), qr/^in_use=$MAX idle=0 waiting=0$/,
             'and counted');
        $app->release($_) for @held;
        ok($_->read_response->complete, 'answered') for @conns;
        unlike($httpd->error_log, qr/FCGI2[12]/, 'no other child ended');
        $httpd->leave;
    });
}

Httpd->ok_left;
done_testing();
