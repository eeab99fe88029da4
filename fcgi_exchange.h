/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_exchange.h - one request on one connection, as a resumable object.
 *
 * A round moves what can move at once; when nothing does, settling says what
 * is waited for. It waits for the application only where it is let, for a moment,
 * and for the client only inside httpd's output filters; its state is in the
 * struct. Getting the connection, and sending the request again on another, is
 * fcgi_ask.c's. Knows no directives and no HTTP status.
 */
#ifndef FCGI_EXCHANGE_H
#define FCGI_EXCHANGE_H

#include <httpd.h>
#include <apr_buckets.h>

#include "fcgi_backend.h"
#include "fcgi_client.h"
#include "fcgi_clock.h"
#include "fcgi_inflow.h"
#include "fcgi_outcome.h"
#include "fcgi_outflow.h"
#include "fcgi_record.h"
#include "fcgi_response.h"
#include "fcgi_terms.h"
#include "fcgi_wait.h"
#include "fcgi_writer.h"

typedef struct fcgi_exchange {
    request_rec *r;
    const fcgi_backend *backend;
    const fcgi_terms *terms;
    fcgi_inflow *inflow;   /* the body, on its way from the client */
    fcgi_client *client;   /* who waits for the answer */
    fcgi_outflow *outflow; /* the answer, on its way to the client */
    fcgi_response *response;
    fcgi_conn *conn; /* held from start to the end; NULL outside */
    fcgi_result result;
    fcgi_wait wait;      /* what it waits for, once it has settled */
    int starts;          /* connections it was begun on */
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
    int is_over;        /* it is done, and conn is NULL; the client has to take
                         * more before the answer can end without waiting */
    char *bytes;        /* what is read into; NULL: nothing now */
    apr_bucket *buffer; /* the heap bucket that has these bytes, once pieces of
                         * them are given on; NULL: the exchange has them */

    /* to the application */
    fcgi_writer writer;    /* records, and how many bytes were written */
    int write_failed;      /* it reads no more; its answer may be here */
    apr_off_t sent_before; /* bytes written on connections that broke */

    int lost; /* the client, or a filter, takes no more */

    /* readiness: 0 after an attempt that would have waited */
    int readable;
    int writable;
    int read_waits; /* in the next round */

    /* progress */
    int moved;             /* in this round */
    fcgi_instant begun_at; /* on this connection */
    fcgi_instant last_moved;
    fcgi_instant sent_at;       /* the request's last byte left; 0: not yet */
    fcgi_instant first_byte_at; /* of STDOUT's content; 0: not yet */
    apr_off_t bytes_in;         /* of all kinds, from the application, on all
                         * connections */
} fcgi_exchange;

/* Makes an exchange for r that will ask backend. All lives in r->pool, and
 * terms, inflow and client live as long. */
fcgi_exchange *fcgi_exchange_create(request_rec *r,
                                    const fcgi_backend *backend,
                                    const fcgi_terms *terms,
                                    fcgi_inflow *inflow, fcgi_client *client);

/*
 * Takes over conn and prepares the request: BEGIN_REQUEST, then params (len
 * bytes of name-value pairs, left where they are, with room around them) as a
 * PARAMS stream, then the body. The first round sends it. May be called again,
 * with another connection, after fcgi_exchange_may_retry().
 */
void fcgi_exchange_start(fcgi_exchange *ex, fcgi_conn *conn, char *params,
                         apr_size_t len);

/* Moves what can move, once: reads from the application, takes the client's
 * body, writes to the application. True if something moved. Once
 * result.outcome is not FCGI_OUTCOME_PENDING the connection is released. */
int fcgi_exchange_round(fcgi_exchange *ex);

/* Nothing moves: checks the limits of now, which may end it, and sets wait. */
void fcgi_exchange_settle(fcgi_exchange *ex, fcgi_instant now);

/*
 * Nobody takes the answer any more, which outcome says; the client is not
 * watched from now on. False if the application may finish alone, as it has
 * all of the request: with ignore_client_abort, or if the client has all of
 * the answer. Nothing is passed on then.
 */
int fcgi_exchange_lose(fcgi_exchange *ex, fcgi_outcome outcome);

/* Ends it for a reason that it does not know of. */
void fcgi_exchange_end(fcgi_exchange *ex, fcgi_outcome outcome,
                       apr_status_t rv, const char *why);

/* It may wait for long: frees what is easily had again. */
void fcgi_exchange_rest(fcgi_exchange *ex);

/*
 * True if the application died before a byte of its answer, and the request
 * can be sent again on a new connection without doing anything twice: once if
 * its method is safe (RFC 9110, 9.2.1) and it died young, for what ran long
 * before it was killed would only run long again; any, if the connection took
 * not one byte of it, once more where that was new. The exchange is pending
 * again then. Streamed bodies are not sent again.
 */
int fcgi_exchange_may_retry(fcgi_exchange *ex);

/* True if that would be so whatever its connection does to a request that it
 * accepts. To be asked once the body was taken. */
int fcgi_exchange_is_repeatable(const fcgi_exchange *ex);

/* True if it has to be sent even if its client left: whoever sends what is not
 * safe may not wait for what it does. Jobs are started so. It is sent, in its
 * turn, if it is all here. */
int fcgi_exchange_must_be_sent(const fcgi_exchange *ex);

/* Bytes written to the application, on all connections. */
apr_off_t fcgi_exchange_sent(const fcgi_exchange *ex);

/* Lets the next round wait in reading, for FCGI_SOCKET_PATIENCE at the most. False
 * if it will not: there is more to do or to wait for, or the connection cannot. */
int fcgi_exchange_let_read_wait(fcgi_exchange *ex);

/* Tells what became ready: FCGI_WANTS_ flags. Then another round. */
void fcgi_exchange_ready(fcgi_exchange *ex, int ready);

#endif
