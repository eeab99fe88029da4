/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_exchange.h - one request on one connection, as a resumable object.
 *
 * fcgi_exchange_step() moves what can move at once and says what it waits
 * for. It never waits for the application, and for the client only inside
 * httpd's output filters; its state is in the struct, so any driver can go on
 * with it: fcgi_driver.c waits in the worker thread. Knows no directives and
 * no HTTP status.
 */
#ifndef FCGI_EXCHANGE_H
#define FCGI_EXCHANGE_H

#include <httpd.h>
#include <apr_buckets.h>

#include "fcgi_backend.h"
#include "fcgi_clock.h"
#include "fcgi_outcome.h"
#include "fcgi_outflow.h"
#include "fcgi_record.h"
#include "fcgi_response.h"
#include "fcgi_spool.h"
#include "fcgi_writer.h"

/* How an exchange is to be done. Times in microseconds; 0 is off. */
typedef struct fcgi_terms {
    apr_interval_time_t connect;    /* getting a connection */
    apr_interval_time_t idle;       /* no byte moved in any direction */
    apr_interval_time_t first_byte; /* from the request's last byte */
    apr_interval_time_t total;      /* from when the body is held */
    int ignore_client_abort;        /* the application may finish alone */
    int has_body;                   /* the client's body is this request's */
    int stream_body;                /* do not hold the request's body first */
    fcgi_flush flush;               /* when the client gets what there is */
    apr_size_t max_header_size;     /* of the answer, in bytes */
    fcgi_spool_limits spool;        /* of the body held, and of the answer */
    apr_interval_time_t retry;      /* since a safe request was sent; if its
                                     * worker dies later it is not sent again */
} fcgi_terms;

/* What a pending exchange waits for, beside its wake_at. */
#define FCGI_WANTS_READ         1  /* the application's bytes, or its close */
#define FCGI_WANTS_WRITE        2  /* room towards the application */
#define FCGI_WANTS_CLIENT       4  /* the client's body, or its going away */
#define FCGI_WANTS_CLIENT_WRITE 8  /* room towards the client */
#define FCGI_WANTS_CLIENT_END   16 /* its connection is reset, or fails */

typedef struct fcgi_exchange {
    request_rec *r;
    const fcgi_backend *backend;
    fcgi_terms terms;
    fcgi_outflow *outflow; /* the answer, on its way to the client */
    fcgi_response *response;
    fcgi_conn *conn; /* held from start to the end; NULL outside */
    fcgi_result result;
    int tries;           /* connections that were asked for */
    int starts;          /* connections it was begun on */
    fcgi_waits waits;    /* for them */
    int resent;          /* it broke once after it was accepted */
    int on_reused;       /* its connection carried another request before */
    int stray;           /* more came than its answer */
    int unended;         /* it is whole, but there was no FCGI_END_REQUEST */
    uint32_t app_status; /* of FCGI_END_REQUEST */

    /* from the application */
    fcgi_reader reader;
    int heard;          /* something came on this connection, of whatever kind:
                         * a worker is at it */
    int stdout_ended;   /* its last record was empty */
    apr_bucket *buffer; /* heap bucket that is read into; NULL: none yet */

    /* to the application */
    fcgi_writer writer;    /* records, and how many bytes were written */
    int write_failed;      /* it reads no more; its answer may be here */
    apr_off_t sent_before; /* bytes written on connections that broke */

    /* from the client */
    apr_bucket_brigade *body; /* as the input filters gave it, for a moment */
    fcgi_spool *held;         /* the body; when streamed, its rest */
    apr_off_t body_len;       /* bytes so far */
    apr_off_t body_queued;    /* bytes of it that are in records */
    int body_done;            /* the last byte is here */
    int watch_client;         /* its going away would show */
    int client_gone;          /* its connection is reset, or failed */
    fcgi_instant client_ended_at; /* it sends no more since; 0: it may */
    int lost;                     /* it, or a filter, takes no more */

    /* readiness: 0 after an attempt that would have waited */
    int readable;
    int writable;
    int client_ready;

    /* what it waits for: set when a step ends with FCGI_OUTCOME_PENDING */
    int wants;
    fcgi_instant wake_at; /* when to step at the latest; 0: never */

    /* progress */
    int moved;             /* in this round of a step */
    fcgi_instant started;  /* when the body was held */
    fcgi_instant begun_at; /* on this connection */
    fcgi_instant last_moved;
    fcgi_instant sent_at;       /* the request's last byte left; 0: not yet */
    fcgi_instant first_byte_at; /* of STDOUT's content; 0: not yet */
    apr_off_t bytes_in;         /* of all kinds, from the application, on all
                         * connections */
} fcgi_exchange;

/* Makes an exchange for r that will ask backend. All lives in r->pool. */
fcgi_exchange *fcgi_exchange_create(request_rec *r,
                                    const fcgi_backend *backend,
                                    const fcgi_terms *terms);

/*
 * Takes the request's body from the client: all of it, waiting in httpd's
 * input filters, so that no application waits for a client; or, with
 * stream_body, what is here already. Returns the body's length in bytes if it
 * is all here, else -1. A body that is broken, too large or cannot be held
 * ends the exchange: look at result.outcome.
 */
apr_off_t fcgi_exchange_take_body(fcgi_exchange *ex);

/*
 * Takes over conn and prepares the request: BEGIN_REQUEST, then params (len
 * bytes of name-value pairs, left where they are) as a PARAMS stream, then
 * the body. The first step sends it. May be called again, with another
 * connection, after fcgi_exchange_may_retry().
 */
void fcgi_exchange_start(fcgi_exchange *ex, fcgi_conn *conn,
                         const char *params, apr_size_t len);

/*
 * Moves what can move. Returns FCGI_OUTCOME_PENDING with wants and wake_at
 * set, or the outcome; then the connection is released.
 */
fcgi_outcome fcgi_exchange_step(fcgi_exchange *ex);

/*
 * True if the application died before a byte of its answer, and the request
 * can be sent again on a new connection without doing anything twice: once if
 * its method is safe (RFC 9110, 9.2.1) and it died young, for what ran long
 * before it was killed would only run long again; any, if the connection had been used
 * before and took not one byte of it. The exchange is pending again then.
 * Streamed bodies are not sent again.
 */
int fcgi_exchange_may_retry(fcgi_exchange *ex);

/* True if that would be so whatever its connection does to a request that it
 * accepts. To be asked once the body was taken. */
int fcgi_exchange_is_repeatable(const fcgi_exchange *ex);

/* Bytes written to the application, on all connections. */
apr_off_t fcgi_exchange_sent(const fcgi_exchange *ex);

/*
 * True if the exchange ended while it has no connection: its total time is
 * over, or it is safe and its client has left, at which it looks if client_ready says that
 * the socket has something. Else wake_at says when to ask again at the latest.
 */
int fcgi_exchange_is_over(fcgi_exchange *ex);

/* Tells what became ready: FCGI_WANTS_ flags. Then step. */
void fcgi_exchange_ready(fcgi_exchange *ex, int ready);

#endif
