/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_conn.h - one connection to an application, from its making to its end.
 *
 *     NEW --> IN_USE <--> IDLE
 *      |        |           |
 *      +--------+--> CLOSED <+
 *
 * Every move names the state it leaves. Knows sockets; knows neither
 * requests nor who else wants a connection.
 */
#ifndef FCGI_CONN_H
#define FCGI_CONN_H

#include <stdint.h>

#include <apr_network_io.h>
#include <apr_poll.h>
#include <apr_pools.h>
#include <apr_ring.h>

#include "fcgi_address.h"
#include "fcgi_clock.h"
#include "fcgi_connect.h"
#include "fcgi_line.h"
#include "fcgi_outcome.h"

typedef enum {
    FCGI_CONN_NEW,    /* not connected yet */
    FCGI_CONN_IN_USE, /* one request's */
    FCGI_CONN_IDLE,   /* kept for the next; fcgi_idle.c's */
    FCGI_CONN_CLOSED
} fcgi_conn_state;

typedef struct fcgi_conn {
    APR_RING_ENTRY(fcgi_conn) link; /* first, as compilers' checks want it */
    fcgi_conn_state state;
    apr_pool_t *pool;     /* what the connection lives in */
    int owns_pool;        /* it may outlive the request */
    apr_socket_t *socket; /* new: of the attempt that is under way, or NULL */
    int is_patient; /* its reading can wait; else the socket is non-blocking */
    fcgi_instant wake_at;       /* see fcgi_conn_open() */
    fcgi_connecting connecting; /* that attempt */
    fcgi_line *line;            /* whose permit it takes */
    int has_permit;             /* of that line */
    int pressing;   /* its request is counted as one that waits; fcgi_line.h */
    int keep_asked; /* FCGI_KEEP_CONN goes out with the request */
    int reused;     /* it carried another request before */
    apr_uint32_t requests; /* carried so far, with this one */
    uint16_t request_id;   /* of this one, see fcgi_acquire_step() */
    fcgi_instant used_at;  /* when this request got it */
    fcgi_instant made_at;
    apr_uint64_t leads_to; /* the socket its path led to, see fcgi_place */

    /* while idle, with link */
    apr_pollfd_t watched;
    int is_watched; /* it is in the pollset */
    fcgi_instant idle_since;
    fcgi_instant watch_from; /* when it is worth being in it */
    fcgi_instant expires;
} fcgi_conn;

/* A new connection. With keepable it lives in a pool of its own and may
 * outlive pool; NULL if there is no memory for that. */
fcgi_conn *fcgi_conn_create(apr_pool_t *pool, fcgi_line *line, int keepable);

/*
 * Begins one attempt to connect a new connection, or goes on with the one that
 * is under way, as fcgi_connect_step() does: each address of a host name in
 * turn, until the time is over. Never waits, but with may_wait in a unix
 * socket's full backlog.
 *
 * APR_SUCCESS: the connection is in use. APR_EINPROGRESS: it is still new; call
 * again, with the same arguments, when conn->socket can be written to or has
 * failed, and at conn->wake_at at the latest. The socket may be another one
 * each time, also under the number of the one before. Else it is still new,
 * nothing is under way, and *result has outcome, phase, rv and why, in
 * scratch; APR_EAGAIN is a full backlog.
 */
apr_status_t fcgi_conn_open(fcgi_conn *conn, const fcgi_address *address,
                            fcgi_instant until, int may_wait,
                            apr_pool_t *scratch, fcgi_result *result);

/* Moves a connection; it must be in the state from. */
void fcgi_conn_move(fcgi_conn *conn, fcgi_conn_state from, fcgi_conn_state to);

/* Makes reading able to wait, or unable to; is_patient says what it is then. */
void fcgi_conn_be_patient(fcgi_conn *conn, int patient);

/* Ends a connection that is in state from, with what is under way if it is
 * new, and frees it. */
void fcgi_conn_close(fcgi_conn *conn, fcgi_conn_state from);

#endif
