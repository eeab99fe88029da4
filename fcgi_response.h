/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_response.h - what the application says, in httpd's words: the bytes of
 * STDOUT become status, headers and body buckets (RFC 3875, section 6), the
 * bytes of STDERR log lines. How fast they go to the client is
 * fcgi_outflow.h's. Knows neither records nor sockets.
 */
#ifndef FCGI_RESPONSE_H
#define FCGI_RESPONSE_H

#include <httpd.h>
#include <apr_buckets.h>

#include "fcgi_config.h"
#include "fcgi_head.h"
#include "fcgi_outflow.h"
#include "fcgi_outcome.h"
#include "fcgi_replace.h"
#include "fcgi_stderr.h"

/* So many 1xx blocks may come before an answer. */
#define FCGI_MAX_INTERIM 1000

/* And so many can wait for room towards the client; more are dropped. */
#define FCGI_INTERIMS 16

typedef enum {
    FCGI_RESPONSE_GATHERING, /* a header block is not complete yet */
    FCGI_RESPONSE_PASSING,   /* headers are set, the body goes to the client */
    FCGI_RESPONSE_BODILESS,  /* headers are set, no body is wanted */
    FCGI_RESPONSE_REPLACED   /* httpd will give another answer in its place */
} fcgi_response_state;

/* A 1xx block that waits for room towards the client. */
typedef struct fcgi_interim {
    int status;
    const char *reason;
    const apr_table_t *fields;
    apr_size_t len; /* bytes, about */
} fcgi_interim;

typedef struct fcgi_response {
    request_rec *r;
    const char *backend; /* its name, for log lines */
    fcgi_response_state state;
    int original_status; /* r->status before the application spoke */
    int is_said;         /* the application's fields are set */
    const apr_table_t *fields_before; /* r->err_headers_out before that; NULL:
                                       * it was empty */

    fcgi_head head;            /* the header block */
    apr_off_t promised;        /* its Content-Length, or -1 */
    apr_off_t received;        /* bytes behind it, wanted or not */
    int interim_count;         /* 1xx blocks so far */
    fcgi_replacement replaced; /* what httpd is to give in its place */
    int condition;             /* 304 or 412 of ap_meets_conditions(), or 0 */

    fcgi_interim *interims; /* not sent yet, FCGI_INTERIMS at most */
    int interims_held;
    apr_pool_t *interim_pool; /* what they say; NULL: there were none */

    fcgi_flush flush;   /* FcgiFlush */
    fcgi_outflow *flow; /* the body, on its way to the client */
    int too_long;       /* more came than Content-Length; dropped */

    fcgi_stderr stderr_lines;

    const char *why; /* of an outcome but DONE: the reason, in r->pool */
} fcgi_response;

/* Makes a response that goes out by flow. max_header_size bounds a header
 * block, in bytes. */
fcgi_response *fcgi_response_create(fcgi_outflow *flow,
                                    apr_size_t max_header_size,
                                    fcgi_flush flush);

/*
 * Takes len bytes of STDOUT at data, which lie in the heap bucket buffer; body
 * bytes become slices of it, nothing is passed on yet. If len is less than
 * FCGI_OUTFLOW_COPY_BELOW they are copied, and buffer is NULL. Returns FCGI_OUTCOME_PENDING or
 * FCGI_OUTCOME_BAD_HEADERS.
 */
fcgi_outcome fcgi_response_stdout(fcgi_response *response, apr_bucket *buffer,
                                  const char *data, apr_size_t len);

/* Passes on what was taken, as far as the client follows; flow's state says
 * whether it was. */
void fcgi_response_pass(fcgi_response *response);

/* The client's socket takes bytes again: the same, for what is held. */
void fcgi_response_resume(fcgi_response *response);

/* True if an answer was begun, so that it is too late for another one. */
int fcgi_response_is_begun(const fcgi_response *response);

/* Takes back status and headers of an answer that is not out, so that an
 * error can be said instead. */
void fcgi_response_withdraw(fcgi_response *response);

/*
 * flow takes no more of the answer. Says how that ends the request,
 * FCGI_OUTCOME_CLIENT_GONE or FCGI_OUTCOME_REFUSED, and why.
 */
fcgi_outcome fcgi_response_lost(fcgi_response *response);

/* True if the answer is whole although nobody says that it is: its header
 * block is here, and either its stream was ended or its Content-Length is
 * reached. */
int fcgi_response_is_whole(const fcgi_response *response, int stdout_ended);

/* True if the client was given all of the answer, and knows by its length that
 * it was: whether it stays does not matter any more. */
int fcgi_response_is_delivered(const fcgi_response *response);

/*
 * The application is done. Ends the answer, with a flush if
 * asked for, and returns FCGI_OUTCOME_DONE; or says why it cannot be whole:
 * FCGI_OUTCOME_BAD_HEADERS, FCGI_OUTCOME_BROKEN, or as fcgi_response_lost().
 */
fcgi_outcome fcgi_response_finish(fcgi_response *response, int flush);

#endif
