/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_thread.c - the contract is in fcgi_thread.h.
 */
#include "fcgi_thread.h"

#include <pthread.h>
#include <signal.h>

#include <apr_atomic.h>

/* So many milliseconds a child that ends waits. */
#define END_ROUNDS 200

apr_status_t fcgi_thread_start(apr_thread_start_t work, apr_uint32_t *running,
                               apr_pool_t *pool)
{
    apr_threadattr_t *detached;
    apr_thread_t *thread;
    sigset_t all, before;
    apr_status_t rv = apr_threadattr_create(&detached, pool);

    if (rv == APR_SUCCESS) {
        rv = apr_threadattr_detach_set(detached, 1);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }

    apr_atomic_inc32(running);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rv = apr_thread_create(&thread, detached, work, NULL, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rv != APR_SUCCESS) {
        apr_atomic_dec32(running);
    }
    return rv;
}

void fcgi_thread_wait(apr_uint32_t *running)
{
    int rounds = END_ROUNDS;

    while (apr_atomic_read32(running) && rounds--) {
        apr_sleep(apr_time_from_msec(1));
    }
}
