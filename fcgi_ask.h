/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_ask.h - one request's asking of an application, from when its body is
 * here to the end: a connection, an exchange on it, and perhaps both once
 * more. One object whose step does not block, unless it is let for a moment, and
 * says what it waits for, so that any driver can go on with it, in any thread:
 * fcgi_driver.c waits in one, fcgi_parked.c in none.
 *
 *     ACQUIRING --> EXCHANGING --> ENDED
 *         ^              |
 *         +--- PAUSING <-+
 *
 * Knows no HTTP status and no log line of a failed request.
 */
#ifndef FCGI_ASK_H
#define FCGI_ASK_H

#include <httpd.h>

#include "fcgi_acquire.h"
#include "fcgi_client.h"
#include "fcgi_exchange.h"
#include "fcgi_inflow.h"
#include "fcgi_terms.h"
#include "fcgi_wait.h"

typedef enum {
    FCGI_ASK_ACQUIRING,  /* a connection */
    FCGI_ASK_EXCHANGING, /* the request and its answer */
    FCGI_ASK_PAUSING,    /* before it is sent once more */
    FCGI_ASK_ENDED
} fcgi_ask_state;

typedef struct fcgi_ask {
    request_rec *r;
    const fcgi_backend *backend;
    fcgi_terms terms;
    char *params; /* name-value pairs; see fcgi_ask_begin() */
    apr_size_t params_len;

    fcgi_inflow *inflow; /* the request's body */
    fcgi_client client;
    fcgi_exchange *ex;
    fcgi_acquire acquire;

    fcgi_ask_state state;
    fcgi_result result;
    int no_connection;       /* it ended for want of one */
    int may_repeat;          /* its worker died, and it may be sent again: by
                              * terms.has_others to somebody else */
    int tries;               /* connections that were asked for */
    fcgi_instant started;    /* when the body was held */
    fcgi_instant goes_on;    /* PAUSING: until then */
    fcgi_instant body_check; /* when it is read from its client unasked; 0:
                              * never */
    fcgi_wait wait; /* what it waits for, when a step did not end it */
} fcgi_ask;

/* Makes one for r that will ask backend. All lives in r->pool. */
fcgi_ask *fcgi_ask_create(request_rec *r, const fcgi_backend *backend,
                          const fcgi_terms *terms);

/*
 * Takes the request's body from the client: all of it, waiting in httpd's
 * input filters, so that no application waits for a client; or, with
 * stream_body, what is here already. Returns the body's length in bytes if it
 * is all here, else -1. A body that is broken, too large or cannot be held
 * ends it: look at result.outcome.
 */
apr_off_t fcgi_ask_take_body(fcgi_ask *ask);

/*
 * To be asked with params, len bytes of name-value pairs, left where they are,
 * with room around them (FCGI_ROOM_).
 * once: one attempt to get a connection, without waiting for one, as that was
 * done in vain just now. The first step begins.
 */
void fcgi_ask_begin(fcgi_ask *ask, char *params, apr_size_t len, int once);

/* Moves what can move. Returns FCGI_OUTCOME_PENDING with wait set, or the
 * outcome; then nothing is held any more. */
fcgi_outcome fcgi_ask_step(fcgi_ask *ask);

/* Tells what became ready: FCGI_WANTS_ flags. Then step. */
void fcgi_ask_ready(fcgi_ask *ask, int ready);

/* Lets the next step wait in reading from the application, and see nothing else
 * meanwhile, for FCGI_SOCKET_PATIENCE at the most. False if it will not: there is
 * more to wait for, or the connection cannot. */
int fcgi_ask_let_read_wait(fcgi_ask *ask);

/* The application's socket of which wait.wants something, or NULL. */
apr_socket_t *fcgi_ask_socket(const fcgi_ask *ask);

/* Whether the thread that steps may wait where the kernel has the better
 * queue, see fcgi_acquire. */
void fcgi_ask_may_wait(fcgi_ask *ask, int may_wait);

/* Its thread, of so many, is held while it is in line: not the last two. */
void fcgi_ask_spare_thread(fcgi_ask *ask, apr_uint32_t threads);

/* To be rung, in any thread, when it may go on. */
fcgi_bell *fcgi_ask_bell(fcgi_ask *ask);

/* It may wait for long: frees what is easily had again. */
void fcgi_ask_rest(fcgi_ask *ask);

/*
 * True if what has ended can be asked of another application, with nothing
 * lost and nothing done twice: it got no connection; or it was told that the
 * application is overloaded; or its worker died where fcgi_exchange_may_retry()
 * says that it may be sent again, which is done once.
 */
int fcgi_ask_may_move(const fcgi_ask *ask);

/* What may move is to ask backend, by those terms; its body stays. Then
 * fcgi_ask_begin(). */
void fcgi_ask_move(fcgi_ask *ask, const fcgi_backend *backend,
                   const fcgi_terms *terms);

/* Nobody is there any more to step it: its client is taken to be gone. */
void fcgi_ask_abandon(fcgi_ask *ask);

#endif
