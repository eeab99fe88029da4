/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_clock.c - the contract is in fcgi_clock.h. APR has no clock but that
 * of the day; POSIX has.
 */
#include "fcgi_clock.h"

#include <time.h>

fcgi_instant fcgi_clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (fcgi_instant)now.tv_sec * 1000000 + now.tv_nsec / 1000 + 1;
}
