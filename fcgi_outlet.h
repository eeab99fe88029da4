/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_outlet.h - httpd's output filters, as one answer sees them: what is
 * given to them, what became of it, and how an answer is cut so that nobody
 * takes it for a whole one. Decides neither when nor how much; knows neither
 * FastCGI nor what is held.
 */
#ifndef FCGI_OUTLET_H
#define FCGI_OUTLET_H

#include <httpd.h>
#include <apr_buckets.h>

/* How an answer fares. */
typedef enum {
    FCGI_OUTLET_OPEN,    /* it may be given on */
    FCGI_OUTLET_GONE,    /* the client's connection is gone */
    FCGI_OUTLET_FAILED,  /* an output filter of httpd's takes no more, or what
                          * is held cannot be read: it is not whole */
    FCGI_OUTLET_ANSWERED /* a filter gave an answer of its own in its place, a
                          * whole one */
} fcgi_outlet_state;

typedef struct fcgi_outlet {
    request_rec *r;
    fcgi_outlet_state state;
    apr_bucket_brigade *bb; /* what is to be given next */
    int was_used;           /* something went to the output filters */
    apr_status_t rv;        /* FAILED: why what is held cannot be given;
                             * APR_SUCCESS: a filter failed */
} fcgi_outlet;

void fcgi_outlet_init(fcgi_outlet *outlet, request_rec *r);

/* Adds a flush, or the answer's end, to what is to be given next. */
void fcgi_outlet_add_flush(fcgi_outlet *outlet);
void fcgi_outlet_add_eos(fcgi_outlet *outlet);

/* Gives all of bb to the filters; it is empty afterwards. Returns 0 if state
 * is not OPEN any more. */
int fcgi_outlet_give(fcgi_outlet *outlet);

/* True if httpd holds something that the client's socket had no room for. */
int fcgi_outlet_holds(const fcgi_outlet *outlet);

/* Lets httpd write what it holds for the client's socket, as far as that has
 * room. Returns as fcgi_outlet_give(). */
int fcgi_outlet_write(fcgi_outlet *outlet);

/* Lets an answer that a filter gave leave, as far as the client's socket has
 * room: the application may work on for long. */
void fcgi_outlet_send_answer(fcgi_outlet *outlet);

/* Flushes what is behind the request's own filters: those are done at EOS, and
 * what ends a chunked body comes from them. */
void fcgi_outlet_flush_connection(fcgi_outlet *outlet);

/* True if the header fields went to the client: it is too late for another
 * answer. */
int fcgi_outlet_is_out(const fcgi_outlet *outlet);

/*
 * Cuts an answer that was begun, behind what is in bb, so that every client
 * sees it: HTTP/1.1 has no last chunk or less than Content-Length, HTTP/2 a
 * reset stream, and where only the connection's end marks the answer's, a TCP
 * reset. The header fields must be out: else httpd would count the bytes there
 * are and call them the whole answer. What a filter gave in its place is left
 * alone.
 */
void fcgi_outlet_cut(fcgi_outlet *outlet);

#endif
