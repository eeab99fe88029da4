# A host name that does not resolve is asked for now and then, not at each try.
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

my $PATIENCE = 20;      # seconds for anything to happen
my $CLIENTS = 6;
my $LIMIT = 1.5;        # FcgiConnectTimeout, seconds

# A failure is remembered for a quarter of a second: so often may a process
# ask within $LIMIT, and once more for its rounding.
my $TIMES = $LIMIT / 0.25 + 2;

# httpd with this before the C library writes for each name in .test that it
# asks for its process number into NAMES/name.asked.  There is an answer while
# there is a file NAMES/name.  A slow name's takes until there is a file
# NAMES/name.ready; who has to wait for it says so in NAMES/name.thinks.  A name
# that is ready before it is asked for is not waited for.
my $RESOLVER = <<'EOC';
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int resolver(const char *, const char *, const struct addrinfo *,
                     struct addrinfo **);

static int is_there(const char *node, const char *what)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s%s", getenv("NAMES"), node, what);
    return access(path, F_OK) == 0;
}

static void note(const char *node, const char *what)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/%s%s", getenv("NAMES"), node, what);
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0666);
    if (fd < 0 || dprintf(fd, "%d\n", (int)getpid()) < 0) {
        abort();
    }
    close(fd);
}

int getaddrinfo(const char *node, const char *service,
                const struct addrinfo *hints, struct addrinfo **result)
{
    resolver *resolve = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    int is_ready = !node || is_there(node, ".ready");

    if (!node || !strstr(node, ".test")) {
        return resolve(node, service, hints, result);
    }
    note(node, ".asked");
    if (strstr(node, "slow") && !is_ready) {
        note(node, ".thinks");
        while (!is_there(node, ".ready")) {
            usleep(1000);
        }
    }
    return is_there(node, "") ? resolve("127.0.0.1", service, hints, result)
                              : EAI_AGAIN;
}
EOC

my $names = Private::temp_dir('names');
chmod 01777, $names;
my ($status, $output) = Private::run(
    $ENV{CC} || 'cc', qw(-shared -fPIC -o), "$names/names.so",
    Private::spew("$names/names.c", $RESOLVER), '-ldl');
die $output if $status;

sub asked { return split ' ', Private::slurp("$names/$_[0].asked") }

# How often the process asked that asked most.
sub asked_most {
    my ($name) = @_;
    my %times;
    $times{$_}++ for asked($name);
    my ($most) = sort { $b <=> $a } values %times;
    return $most // 0;
}

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    $c->read_request or return;
    $c->reply("Content-Type: text/plain\r\n\r\nhere");
}, transport => 'tcp', workers => $CLIENTS);
my ($port) = $app->address =~ /(\d+)$/;

# The names of /named/ are the configuration's, those of /asked/ only the
# request's.
my $httpd = Httpd->start(
    env => { NAMES => "$names", LD_PRELOAD => join ' ',
                 $ENV{HTTPD_PRELOAD} // (), "$names/names.so" },
    config => "FcgiConnectTimeout ${\ ($LIMIT * 1000)}ms\n"
        . join '', map { <<"EOC" } qw(never later slow));
<Location /named/$_>
  SetHandler fcgi:$_-named.test:$port
</Location>
<Location /asked/$_>
  SetHandler "fcgi:%{HTTP:X-Name}-asked.test:$port"
</Location>
<Location /named/slow>
  FcgiConnectTimeout 20
</Location>
EOC

sub send_get {
    my ($way, $name) = @_;
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /$way/$name HTTP/1.1\r\nHost: x\r\nX-Name: $name\r\n"
                . "Connection: close\r\n\r\n");
    return $conn;
}

sub statuses {
    return [map { $_->read_response(timeout => $PATIENCE)->status } @_];
}

for my $way (qw(named asked)) {
    subtest "$way: one that never resolves" => sub {
        my @conns = map { send_get($way, 'never') } 1 .. $CLIENTS;
        is_deeply(statuses(@conns), [(503) x $CLIENTS], 'no request gets on');
        my ($tries) = $httpd->error_log
            =~ /never-$way.*phase\ resolve.*\((\d+)\ attempts/x;
        cmp_ok($tries, '>', $TIMES, "$tries attempts in a request");
        my $asked = asked_most("never-$way.test");
        note "asked for $asked times by $CLIENTS requests";
        # at first each asks, where no answer would be remembered for others
        cmp_ok($asked, '<=', $TIMES + ($way eq 'asked' && $CLIENTS),
               'but not as many questions');
        cmp_ok($asked, '>=', 2, 'and not one alone');
    };

    subtest "$way: one that resolves in time" => sub {
        my $conn = send_get($way, 'later');
        ok(Private::wait_until($PATIENCE, sub { asked("later-$way.test") }),
           'there is no such name');
        Private::spew("$names/later-$way.test", '');
        is_deeply(statuses($conn), [200], 'it is seen when it is there');
        is_deeply(statuses(send_get($way, 'later')), [200], 'and after that');
    };
}

# Who comes while another asks, and nothing is known, waits for that answer.
subtest 'one question for all' => sub {
    my @conns = map { send_get('named', 'slow') } 1 .. $CLIENTS;
    ok(Private::wait_until($PATIENCE, sub { asked('slow-named.test') }),
       'the resolver thinks');
    Private::spew("$names/slow-named.test", '');
    Private::wait_until(0.3, sub { asked('slow-named.test') >= $CLIENTS });
    Private::spew("$names/slow-named.test.ready", '');
    is_deeply(statuses(@conns), [(200) x $CLIENTS], 'all get on');
    is(asked_most('slow-named.test'), 1, 'each process asked once');
};

# The failure of before holds for others while one asks again.
subtest 'one question after a failure' => sub {
    plan skip_all => 'each child for itself' if Httpd::mpm() eq 'prefork';
    Private::spew("$names/slow-asked.test.ready", '');
    my $first = send_get('asked', 'slow');
    ok(Private::wait_until($PATIENCE, sub { asked('slow-asked.test') }),
       'there is no such name');
    unlink "$names/slow-asked.test.ready" or die $!;
    ok(Private::wait_until($PATIENCE, sub {
        -e "$names/slow-asked.test.thinks";
    }), 'asked again, the resolver thinks');
    my $before = asked('slow-asked.test');
    my @conns = map { send_get('asked', 'slow') } 2 .. $CLIENTS;
    is_deeply(statuses(@conns), [(503) x @conns], 'others do not wait for it');
    is(scalar(my @after = asked('slow-asked.test')), $before, 'nor ask');
    Private::spew("$names/slow-asked.test$_", '') for '', '.ready';
    is_deeply(statuses($first), [200], 'the answer is taken');
};

$httpd->ok_healthy;
done_testing;
