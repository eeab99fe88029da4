/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_await.h - waiting for the end of an asking: in this thread for as long
 * as it may, then without one, where that is possible. Knows neither what the
 * end means nor what is waited for.
 */
#ifndef FCGI_AWAIT_H
#define FCGI_AWAIT_H

#include <httpd.h>

#include "fcgi_ask.h"

/* What becomes of an asking that has gone on without the thread that began. */
typedef struct fcgi_await_ends {
    /* It has ended. Returns what a handler does. */
    int (*finish)(fcgi_ask *ask, void *baton);
    /* Its client's connection is closed, it was abandoned: nothing can be
     * said. */
    void (*abandon)(fcgi_ask *ask, void *baton);
} fcgi_await_ends;

/* A child_init hook. */
void fcgi_await_child(apr_pool_t *pchild, server_rec *s);

/*
 * Waits for what was begun. True if it goes on without this thread, that has
 * nothing more to do with it: then one of ends is called some time, with
 * baton, in any thread. False if it has ended; always, if ends is NULL.
 */
int fcgi_await(fcgi_ask *ask, const fcgi_await_ends *ends, void *baton);

#endif
