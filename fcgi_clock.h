/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_clock.h - the clock that everything is measured by: it runs on while
 * administrators and NTP set the time of day, and is one for all processes of
 * the machine.
 *
 * APR's apr_time_now() is the time of day. Only what people read may ask it,
 * and t/01-layers.t keeps it out of every other file, so that the two cannot
 * be compared.
 */
#ifndef FCGI_CLOCK_H
#define FCGI_CLOCK_H

#include <semaphore.h>

#include <apr_time.h>

/* A moment: microseconds since an arbitrary one that is the same in all
 * processes (POSIX's CLOCK_MONOTONIC). Never 0, which stands for no moment at
 * all. The difference of two is an apr_interval_time_t. */
typedef apr_int64_t fcgi_instant;

/* This moment. Cannot fail. */
fcgi_instant fcgi_clock_now(void);

/* Waits until the semaphore is posted, at most for that long; -1: for good.
 * True: it was, and is taken down. */
int fcgi_clock_wait(sem_t *semaphore, apr_interval_time_t at_most);

#endif
