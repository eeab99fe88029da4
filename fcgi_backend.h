/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_backend.h - an application and how to get a connection to it: a kept
 * one, or a permit and a new one, tried again until the time is over.
 *
 * Everything about keeping, capping and queueing is behind acquire and
 * release. Knows neither requests nor HTTP.
 */
#ifndef FCGI_BACKEND_H
#define FCGI_BACKEND_H

#include "fcgi_address.h"
#include "fcgi_clock.h"
#include "fcgi_conn.h"
#include "fcgi_line.h"
#include "fcgi_outcome.h"

/* What a unix socket's path leads to, as this process saw it last. */
typedef struct fcgi_place {
    apr_uint32_t looked; /* atomic: in which second of the clock; 0: never */
    apr_uint64_t socket; /* atomic: which one it is, see look_at() */
} fcgi_place;

typedef struct fcgi_backend {
    const fcgi_address *address;
    const char *name;                  /* the address's */
    fcgi_line *line;                   /* its limits, and who has permits */
    apr_interval_time_t queue_timeout; /* in line at most */
    apr_interval_time_t idle_time;     /* a kept connection lives */
    apr_uint32_t requests;        /* a connection may carry; 0: any number */
    apr_interval_time_t lifetime; /* of a connection; 0: no end */
    fcgi_place *place;
} fcgi_backend;

/* How a request wants its connection. */
typedef struct fcgi_patience {
    apr_interval_time_t connect; /* trying, once it has a permit */
    fcgi_instant until;          /* whatever else is allowed; 0: no end */
    int fresh;                   /* not one that was used before */
    int unrepeatable;            /* it is lost if its connection ends: not one
                                  * that was used just now */
    int once;                    /* one attempt without standing in line: it
                                  * was waited for in vain just now */
    /*
     * Waits for at most interval microseconds, 0: not at all, as only the
     * caller may. Anything but APR_SUCCESS: the request is over, give up.
     */
    apr_status_t (*pause)(void *baton, apr_interval_time_t interval);
    void *baton;
    fcgi_waits waits; /* out: what it waited; added to */
} fcgi_patience;

/* A backend at an address, without limits. All of it lives in pool. */
fcgi_backend *fcgi_backend_create(apr_pool_t *pool,
                                  const fcgi_address *address);

/* Counts a request that got no connection. True if the log is to say so now;
 * *others: for how many more, too. */
int fcgi_backend_failed(const fcgi_backend *backend, apr_uint32_t *others);

/* Counts a request that ended. */
void fcgi_backend_count(const fcgi_backend *backend, const fcgi_ended *ended);

/*
 * A connection in use: a kept one; or, when the backend's max allows, a new
 * one, for which it is tried again with growing pauses while the application
 * is not there. The connection lives in pool or longer, until it is released.
 * NULL: *result has outcome, phase, rv and why.
 *
 * It carries one request at a time, each under the next id (FastCGI 1.0, 3.3):
 * what an application still writes for a request that it has ended, after the
 * connection was found quiet, is not taken for the next one's answer. PHP-FPM,
 * libfcgi, uWSGI, Go's net/http/fcgi and flup write the id that they were
 * asked with.
 */
fcgi_conn *fcgi_backend_acquire(const fcgi_backend *backend, apr_pool_t *pool,
                                fcgi_patience *patience, fcgi_result *result);

/* When fcgi_backend_press() is due if the application is silent; 0: never,
 * as this connection was kept, and has a worker. */
fcgi_instant fcgi_backend_press_time(const fcgi_conn *conn);

/* Its request waits for the application, in line, for a connection, or long
 * enough for the first byte, and says so: idle connections to the backend are
 * given up, in all children. */
void fcgi_backend_press(fcgi_conn *conn);

/* The first byte is here, or never comes. */
void fcgi_backend_unpress(fcgi_conn *conn);

/* True if any request of any child waits for the application. */
int fcgi_backend_is_pressed(const fcgi_backend *backend);

/*
 * Ends the use of a connection. quiet says that it may carry another request
 * (FastCGI 1.0, 3.5): it was asked to stay open, the request is wholly
 * written, its END_REQUEST is read, and not a byte more. Then, unless it is
 * older than its lifetime or its path leads to another socket by now, it is
 * handed to who waits for it in this child, or kept if nobody waits; else closed.
 * Returns which of these, as a word for the log.
 */
const char *fcgi_backend_release(const fcgi_backend *backend, fcgi_conn *conn,
                                 int quiet);

#endif
