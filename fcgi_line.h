/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_line.h - who may have a connection to a backend: the rules of max,
 * queue and keepalive over all children of the server.
 *
 * A request enters and has a permit, or waits in line until one is granted.
 * Whoever ends a connection frees its permit, keeps it with the connection, or
 * hands both on to the first in line.
 *
 *     permit    the right to one connection; there are max ("no place" in
 *               messages: no permit came)
 *     line      the queue of those that wait for a permit, of all children
 *     slot      memory of one that waits in line, until it leaves; the number
 *               of the slot says nothing about the order
 *     ticket    its number in the order of coming: the lowest is the first
 *     grant     to give the first in line a permit, which it still has to pick
 *               up; its "turn" in messages
 *     hand on   to grant a permit together with the connection that has it
 *     pressure  requests wait for the application, in line or anywhere before
 *               the first byte; each presses, and no connection stays idle
 *     backlog   the kernel's own queue, of connections that were made and that
 *               the application has not accepted: behind the permit
 *     grace     how long a client that takes its answer slowly may hold the
 *               application up where there is no pressure (fcgi_outflow.c)
 *
 * Knows no sockets: a connection is a pointer.
 */
#ifndef FCGI_LINE_H
#define FCGI_LINE_H

#include <apr_time.h>

#include "fcgi_stats.h"

/* What FcgiBackend says; counted over the whole server. */
typedef struct fcgi_limits {
    apr_uint32_t max;       /* connections; 0: any number */
    apr_uint32_t queue;     /* requests in line, at most FCGI_LINE_MAX */
    apr_uint32_t keepalive; /* idle connections */
} fcgi_limits;

/* A backend's line, as this process sees it. */
typedef struct fcgi_line {
    fcgi_limits limits;
    fcgi_account *account; /* NULL: nothing is counted or limited */
    void **handed;         /* what is handed to this child's waiters, one for
                            * each slot of the line; NULL without max */
} fcgi_line;

typedef enum {
    FCGI_LINE_PERMIT,  /* it has a permit */
    FCGI_LINE_WAITING, /* it waits in line */
    FCGI_LINE_FULL     /* no permit is free, and the line is full */
} fcgi_line_state;

/* Asks for a permit; FCGI_LINE_WAITING sets *slot. */
fcgi_line_state fcgi_line_enter(fcgi_line *line, apr_uint32_t *slot);

/*
 * Waits in slot for at most tick. FCGI_LINE_PERMIT: it has one, and the slot
 * no more; *conn is a connection handed to it, or NULL.
 */
fcgi_line_state fcgi_line_wait(fcgi_line *line, apr_uint32_t slot,
                               apr_interval_time_t tick, void **conn);

/* Stops waiting in slot. FCGI_LINE_PERMIT: one was granted just now; as with
 * fcgi_line_wait(). */
fcgi_line_state fcgi_line_leave(fcgi_line *line, apr_uint32_t slot,
                                void **conn);

/* A connection was closed, or not made: its permit is free. */
void fcgi_line_free(fcgi_line *line);

/* Hands a connection with its permit to the first in line, if that is one of
 * this child's. False: the caller still has both. */
int fcgi_line_hand_on(fcgi_line *line, void *conn);

/* Asks whether a connection may stay idle: false if as many do, or if any
 * request of any child waits. */
int fcgi_line_keep(fcgi_line *line);

/* Asks whether an idle connection may be used again: false if any request
 * waits, which came before. */
int fcgi_line_reuse(fcgi_line *line);

/* An idle connection was closed. */
void fcgi_line_drop(fcgi_line *line);

/* One request more, or less, waits for the application: for a permit, a
 * connection, or the first byte on a new one. The children that keep idle
 * connections are notified (fcgi_stats_wait_for_notice()). */
void fcgi_line_press(fcgi_line *line);
void fcgi_line_unpress(fcgi_line *line);

/* True if any request of any child waits. */
int fcgi_line_is_pressed(fcgi_line *line);

/* What an account says at this moment, over all children. */
typedef struct fcgi_line_length {
    apr_uint32_t in_use;  /* connections, those being made included */
    apr_uint32_t idle;    /* connections kept */
    apr_uint32_t waiting; /* requests in line */
} fcgi_line_length;
fcgi_line_length fcgi_line_measure(fcgi_account *account);

#endif
