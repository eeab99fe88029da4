# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The time of day of a program, set while it runs: a library before the C
# library's that adds seconds to it, from one moment to the next.  The clocks
# that nobody can set stay as they are, and so does the machine's.
#
#     my $clock = Clock->new;
#     Httpd->start(env => $clock->environment, ...);
#     $clock->set(-3600);
#
# The environment has HTTPD_PRELOAD's library, too, for it must be the first.
package Clock;

use strict;
use warnings;
use Private;

my $SOURCE = <<'EOC';
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile long long *shift;

__attribute__((constructor)) static void start(void)
{
    int fd = open(getenv("CLOCK_SHIFT"), O_RDONLY);

    shift = mmap(0, sizeof(*shift), PROT_READ, MAP_SHARED, fd, 0);
}

int gettimeofday(struct timeval *now, void *zone)
{
    static int (*real)(struct timeval *, void *);
    int rv;

    if (!real) {
        real = dlsym(RTLD_NEXT, "gettimeofday");
    }
    rv = real(now, zone);
    now->tv_sec += shift ? *shift : 0;
    return rv;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    int rv;

    if (!real) {
        real = dlsym(RTLD_NEXT, "clock_gettime");
    }
    rv = real(clock, now);
    if (clock == CLOCK_REALTIME) {
        now->tv_sec += shift ? *shift : 0;
    }
    return rv;
}

time_t time(time_t *to)
{
    struct timeval now;

    gettimeofday(&now, 0);
    if (to) {
        *to = now.tv_sec;
    }
    return now.tv_sec;
}
EOC

sub new {
    my ($class) = @_;
    my $dir = Private::temp_dir('clock');
    Private::spew("$dir/clock.c", $SOURCE);
    my ($failed, $output) = Private::run($ENV{CC} || 'cc',
        qw(-shared -fPIC -o), "$dir/clock.so", "$dir/clock.c", '-ldl');
    die $output if $failed;
    Private::spew("$dir/shift", pack 'q', 0);
    return bless { dir => $dir }, $class;
}

sub environment {
    my ($self) = @_;
    return { CLOCK_SHIFT => "$self->{dir}/shift",
             LD_PRELOAD => join ' ', $ENV{HTTPD_PRELOAD} // (),
                 "$self->{dir}/clock.so" };
}

# In place, as the processes have it in their memory.
sub set {
    my ($self, $seconds) = @_;
    open my $file, '+<:raw', "$self->{dir}/shift" or die $!;
    syswrite $file, pack 'q', $seconds;
    return;
}

1;
