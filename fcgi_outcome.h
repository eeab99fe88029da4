/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_outcome.h - how a request can end, in words all layers share.
 *
 * An outcome is set once, in the place that knows (backend, exchange or
 * response), and turned into an HTTP status and a log line once, in
 * fcgi_conclude.c. Nothing here knows HTTP, FastCGI or sockets.
 */
#ifndef FCGI_OUTCOME_H
#define FCGI_OUTCOME_H

#include <apr_errno.h>
#include <apr_pools.h>
#include <apr_time.h>

typedef enum {
    FCGI_OUTCOME_PENDING,      /* not ended yet */
    FCGI_OUTCOME_DONE,         /* the application's answer is complete */
    FCGI_OUTCOME_NO_CONNECT,   /* refused, missing, backlog full, unresolved */
    FCGI_OUTCOME_NO_PLACE,     /* max connections are in use: no turn came */
    FCGI_OUTCOME_TIMED_OUT,    /* one of the time limits */
    FCGI_OUTCOME_BROKEN,       /* the application closed or reset too early */
    FCGI_OUTCOME_MALFORMED,    /* bytes that are not FastCGI 1.0 */
    FCGI_OUTCOME_BAD_HEADERS,  /* none, cut, invalid or too large */
    FCGI_OUTCOME_OVERLOADED,   /* FCGI_OVERLOADED or FCGI_CANT_MPX_CONN */
    FCGI_OUTCOME_UNKNOWN_ROLE, /* FCGI_UNKNOWN_ROLE */
    FCGI_OUTCOME_CLIENT_BAD,   /* the request body is broken or too large */
    FCGI_OUTCOME_NO_SPACE,     /* the request body cannot be held */
    FCGI_OUTCOME_CLIENT_GONE,  /* nobody is left to answer */
    FCGI_OUTCOME_REFUSED,      /* an output filter of httpd's takes no more of
                                * the answer */
    FCGI_OUTCOME_COUNT
} fcgi_outcome;

/* Where a request was when it ended. */
typedef enum {
    FCGI_PHASE_RECEIVE, /* taking the request's body from the client */
    FCGI_PHASE_QUEUE,   /* standing in line for a connection */
    FCGI_PHASE_RESOLVE, /* looking up a host name */
    FCGI_PHASE_CONNECT, /* waiting for a connection */
    FCGI_PHASE_SEND,    /* the request is not wholly written, no answer yet */
    FCGI_PHASE_HEADERS, /* waiting for a whole header block */
    FCGI_PHASE_BODY     /* the header block is here */
} fcgi_phase;

typedef struct fcgi_result {
    fcgi_outcome outcome;
    fcgi_phase phase;
    apr_status_t rv;   /* the system's error, or APR_SUCCESS */
    int client_status; /* CLIENT_BAD: 4xx, or AP_FILTER_ERROR if an answer
                        * has been given already */
    const char *why;   /* a phrase for the log, in the request's pool */
} fcgi_result;

/* How long a request waited for a connection, all tries together. */
typedef struct fcgi_waits {
    apr_interval_time_t queue;   /* in line */
    apr_interval_time_t connect; /* making a connection */
} fcgi_waits;

/* A phrase for a result's why, in pool: that limit of that directive is
 * over. */
const char *fcgi_outcome_over(apr_pool_t *pool, const char *directive,
                              apr_interval_time_t limit);

/* Their names, as the log and the status pages have them. */
const char *fcgi_outcome_name(fcgi_outcome outcome);
const char *fcgi_phase_name(fcgi_phase phase);

#endif
