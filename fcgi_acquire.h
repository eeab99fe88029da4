/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_acquire.h - getting a connection to a backend for one request, as a
 * resumable object: a kept one; or, when the backend's max allows, in line for
 * a permit until then, a new one, tried again with growing pauses while the
 * application is not there. It never blocks, but for a look-up of a host name,
 * and where may_wait says so.
 *
 *     BEGIN --> IN_LINE --> CONNECTING --> ended
 *
 * Knows neither requests nor HTTP.
 */
#ifndef FCGI_ACQUIRE_H
#define FCGI_ACQUIRE_H

#include "fcgi_backend.h"
#include "fcgi_backlog.h"
#include "fcgi_wait.h"

typedef enum {
    FCGI_ACQUIRE_BEGIN,
    FCGI_ACQUIRE_IN_LINE,
    FCGI_ACQUIRE_CONNECTING,
    FCGI_ACQUIRE_ENDED
} fcgi_acquire_state;

typedef struct fcgi_acquire {
    const fcgi_backend *backend;
    apr_pool_t *pool; /* the request's */

    /* how the request wants its connection */
    apr_interval_time_t connect; /* trying, once it has a permit */
    fcgi_instant until;          /* whatever else is allowed; 0: no end */
    int fresh;                   /* not one that was used before */
    int unrepeatable;            /* it is lost if its connection ends: not one
                                  * that was used just now */
    int once;                    /* one attempt, and a moment in line: it was
                                  * waited for in vain just now */
    int has_others;              /* another application is asked in place of
                                  * this one: an attempt that fails is not
                                  * repeated */
    int may_wait;                /* the thread may wait in the kernel's queue
                                  * for room in a unix socket's backlog */
    apr_uint32_t threads;        /* of the process, one of which is held while
                                  * it is in line: never the last two; 0: none
                                  * is held, or all may be */

    /* what becomes of it */
    fcgi_acquire_state state;
    fcgi_result result;
    fcgi_wait wait;
    fcgi_waits waits; /* what it waited, all times that it began */

    fcgi_conn *conn;        /* that is made, or was got */
    fcgi_waiting waiting;   /* in line; its bell is that of all waiting here */
    fcgi_instant since;     /* in this state */
    int was_pressing;       /* before it connected */
    int attempts;           /* to connect that failed */
    int under_way;          /* one is */
    fcgi_instant tries_at;  /* the next; 0: now */
    fcgi_instant denied_at; /* since when we may not connect; 0: we may */
    apr_interval_time_t limit; /* of all attempts */
    apr_interval_time_t pause; /* after the next that fails */
    fcgi_backlogged backlogged;
} fcgi_acquire;

/* For a request whose pool that is; it has not begun. */
void fcgi_acquire_init(fcgi_acquire *acquire, const fcgi_backend *backend,
                       apr_pool_t *pool);

/* Begins, or begins anew after it ended. */
void fcgi_acquire_begin(fcgi_acquire *acquire);

/*
 * Goes as far as it can. FCGI_OUTCOME_PENDING: wait says what it waits for.
 * FCGI_OUTCOME_DONE: conn is in use, the caller's until
 * fcgi_backend_release(). Else there is none: result.
 *
 * A connection carries one request at a time, each under the next id (FastCGI
 * 1.0, 3.3): what an application still writes for a request that it has ended,
 * after the connection was found quiet, is not taken for the next one's
 * answer. PHP-FPM, libfcgi, uWSGI, Go's net/http/fcgi and flup write the id
 * that they were asked with.
 */
fcgi_outcome fcgi_acquire_step(fcgi_acquire *acquire);

/* The request is over: gives back all that it has, or was granted. */
void fcgi_acquire_cancel(fcgi_acquire *acquire);

/* What it is at, for a result. */
fcgi_phase fcgi_acquire_phase(const fcgi_acquire *acquire);

/* To be rung when it may go on: whoever waits for it hangs it. */
fcgi_bell *fcgi_acquire_bell(fcgi_acquire *acquire);

#endif
