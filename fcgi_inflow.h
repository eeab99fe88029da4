/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_inflow.h - a request's body on its way from the client: held as a
 * whole before anybody is asked, so that no application waits for a client,
 * or streamed. Says what part of it is next; knows neither records nor the
 * application's socket.
 */
#ifndef FCGI_INFLOW_H
#define FCGI_INFLOW_H

#include <httpd.h>
#include <apr_buckets.h>

#include "fcgi_outcome.h"
#include "fcgi_spool.h"
#include "fcgi_terms.h"

/* A streamed body waits in httpd while more than this is to be written. */
#define FCGI_INFLOW_AHEAD (64 * 1024)

typedef struct fcgi_inflow {
    request_rec *r;
    int is_streamed;
    fcgi_spool_limits limits; /* of what may be held */
    apr_bucket_brigade *bb;   /* as the input filters gave it, or the part that
                             * is next; for a moment. NULL: there is no
                             * body */
    fcgi_spool *held;         /* the body; when streamed, its rest; NULL: there
                             * was none yet */
    apr_off_t len;            /* bytes so far */
    apr_off_t queued;         /* bytes of it that were taken to be sent */
    int is_done;              /* the last byte is here */
    int is_ready;             /* 0 after an attempt that would have waited */
} fcgi_inflow;

fcgi_inflow *fcgi_inflow_create(request_rec *r, const fcgi_terms *terms);

/*
 * Takes all of a body that is to be held, waiting in httpd's input filters.
 * False if it is broken, too large or cannot be held: *result has outcome,
 * rv, client_status and why.
 */
int fcgi_inflow_take_all(fcgi_inflow *inflow, fcgi_result *result);

/*
 * Takes what is here of a body that is streamed, as long as there is less than
 * FCGI_INFLOW_AHEAD of it, with ahead bytes that are being written. Once the
 * application has answered (is_answered) the output filters are out of reach:
 * httpd's input filter would end the answer in good order when the body
 * breaks, and that would be a lie. Returns as fcgi_inflow_take_all(); *moved
 * is set if something came.
 */
int fcgi_inflow_take(fcgi_inflow *inflow, apr_size_t ahead, int is_answered,
                     int *moved, fcgi_result *result);

/* True if more of a streamed body may come, and is wanted now. */
int fcgi_inflow_wants(const fcgi_inflow *inflow, apr_size_t ahead);

/* It will not be used for long: memory that is not needed goes. */
void fcgi_inflow_rest(fcgi_inflow *inflow);

/* Bytes that are held and not taken to be sent yet. */
apr_off_t fcgi_inflow_left(const fcgi_inflow *inflow);

/*
 * Puts the next part of the body, of which something is left, into bb. What is
 * streamed goes once; what was held first stays held, for the request may have
 * to be sent again. all_sent says that nothing of the part before is in use.
 * The caller adds to queued.
 */
apr_status_t fcgi_inflow_next(fcgi_inflow *inflow, int all_sent);

/* True if it can be sent from its beginning again. */
int fcgi_inflow_is_held(const fcgi_inflow *inflow);

#endif
