/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_response.h - what the application says, given to httpd: the bytes of
 * STDOUT become status, headers and body buckets (RFC 3875, section 6), the
 * bytes of STDERR log lines. Knows neither records nor sockets.
 */
#ifndef FCGI_RESPONSE_H
#define FCGI_RESPONSE_H

#include <httpd.h>
#include <apr_buckets.h>

#include "fcgi_config.h"
#include "fcgi_head.h"
#include "fcgi_outcome.h"
#include "fcgi_replace.h"
#include "fcgi_spool.h"
#include "fcgi_stderr.h"

/* So many 1xx blocks may come before an answer. */
#define FCGI_MAX_INTERIM 1000

typedef enum {
    FCGI_RESPONSE_GATHERING, /* a header block is not complete yet */
    FCGI_RESPONSE_PASSING,   /* headers are set, the body goes to the client */
    FCGI_RESPONSE_DROPPING   /* headers are set, there is no body to pass */
} fcgi_response_state;

typedef struct fcgi_response {
    request_rec *r;
    const char *backend; /* its name, for log lines */
    fcgi_response_state state;
    int original_status; /* r->status before the application spoke */

    fcgi_head head;            /* the header block */
    int interim_count;         /* 1xx blocks so far */
    fcgi_replacement replaced; /* what httpd is to give in its place */
    int condition;             /* 304 or 412 of ap_meets_conditions(), or 0 */

    /* the body */
    apr_bucket_brigade *bb; /* just taken, or just being passed on */
    fcgi_spool *held;       /* taken, but the client is behind */
    int no_file;            /* the spool's file failed; memory has to do */
    fcgi_flush flush;
    int is_live; /* flushed on demand: an HTTP/2 client is taken to follow */
    apr_off_t body_len; /* bytes taken */
    int too_long;       /* more came than Content-Length; dropped */
    int begun;          /* an answer is on its way; state may be DROPPING */
    int passed_any;     /* something went to the output filters */
    apr_size_t given;   /* bytes of which httpd may hold some still */
    int unflushed;      /* something came since the last flush */
    int filters_failed; /* the output filters refused it */
    int file_pieces;    /* that an HTTP/2 stream got in pauses */

    fcgi_stderr stderr_lines;

    const char *why; /* BAD_HEADERS, BROKEN: the reason, in r->pool */
} fcgi_response;

/* Makes a response for r. backend names the application in log lines,
 * max_header_size bounds a header block, in bytes, and spool what is held for
 * a client that is behind. */
fcgi_response *fcgi_response_create(request_rec *r, const char *backend,
                                    apr_size_t max_header_size,
                                    fcgi_flush flush,
                                    const fcgi_spool_limits *spool);

/*
 * Takes len bytes of STDOUT at data, which lie in the heap bucket buffer;
 * body bytes become slices of it, nothing is passed on yet. Returns
 * FCGI_OUTCOME_PENDING or FCGI_OUTCOME_BAD_HEADERS.
 */
fcgi_outcome fcgi_response_stdout(fcgi_response *response, apr_bucket *buffer,
                                  const char *data, apr_size_t len);

/*
 * Passes on what was taken, as far as the client follows; holds the rest.
 * Returns 0 if the client or a filter took no more (filters_failed is set).
 */
int fcgi_response_pass(fcgi_response *response);

/* The client's socket takes bytes again: the same, for what is held. */
int fcgi_response_resume(fcgi_response *response);

/* True while what is held has to wait for the client. */
int fcgi_response_is_behind(const fcgi_response *response);

/* How often an HTTP/2 stream got what was held for it in a pause, as long as
 * it is held for it. */
int fcgi_response_pauses(const fcgi_response *response);

/* Passes on all that is held, and a flush. May wait for a client that does
 * not follow. Returns as fcgi_response_pass(). */
int fcgi_response_flush(fcgi_response *response);

/* How many more bytes of STDOUT can be held now. */
apr_off_t fcgi_response_room(const fcgi_response *response);

/* True if len more bytes of STDOUT would be written to a file. */
int fcgi_response_needs_file(const fcgi_response *response, apr_size_t len);

/* Drops all that is still to come: nobody is there to take it. */
void fcgi_response_drop(fcgi_response *response);

/* Takes back status and headers of an answer that was not begun, so that an
 * error can be said instead. Once begun is set it is too late: cut it. */
void fcgi_response_withdraw(fcgi_response *response);

/*
 * The application said that it is ready. Ends the answer, with a flush if
 * asked for, and returns FCGI_OUTCOME_DONE; or says why it cannot be whole,
 * FCGI_OUTCOME_BAD_HEADERS or FCGI_OUTCOME_BROKEN.
 */
fcgi_outcome fcgi_response_finish(fcgi_response *response, int flush);

/*
 * Cuts an answer that was begun so that every client sees it: HTTP/1.1 has
 * no last chunk or less than Content-Length, HTTP/2 a reset stream, and
 * where only the connection's end marks the answer's, a TCP reset.
 */
void fcgi_response_cut(fcgi_response *response);

#endif
