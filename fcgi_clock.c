/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_clock.c - the contract is in fcgi_clock.h. APR has no clock but that
 * of the day; POSIX has.
 */
#include "fcgi_clock.h"

#include <errno.h>
#include <time.h>

/* Where a semaphore cannot be waited for by this clock, by that of the day. */
#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 30)
#define WAIT_CLOCK             CLOCK_MONOTONIC
#define wait_until(sem, limit) sem_clockwait(sem, WAIT_CLOCK, limit)
#endif
#endif
#ifndef WAIT_CLOCK
#define WAIT_CLOCK             CLOCK_REALTIME
#define wait_until(sem, limit) sem_timedwait(sem, limit)
#endif

fcgi_instant fcgi_clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (fcgi_instant)now.tv_sec * 1000000 + now.tv_nsec / 1000 + 1;
}

int fcgi_clock_wait(sem_t *semaphore, apr_interval_time_t at_most)
{
    struct timespec limit;
    int rv;

    clock_gettime(WAIT_CLOCK, &limit);
    limit.tv_sec += (time_t)apr_time_sec(at_most);
    limit.tv_nsec += (long)apr_time_usec(at_most) * 1000;
    if (limit.tv_nsec >= 1000000000) {
        limit.tv_nsec -= 1000000000;
        limit.tv_sec++;
    }
    do {
        rv = at_most < 0 ? sem_wait(semaphore) : wait_until(semaphore, &limit);
    } while (rv && errno == EINTR);
    return rv == 0;
}
