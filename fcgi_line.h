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
 *     slot      shared memory of one that waits in line, until it leaves
 *               (fcgi_slots.h); its number says nothing about the order
 *     ticket    its number in the order of coming: the lowest is the first
 *     bell      what tells it that its turn has come (fcgi_bell.h): nobody
 *               waits here, and nothing here blocks
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

#include <apr_ring.h>

#include "fcgi_bell.h"
#include "fcgi_stats.h"

/* Requests that can wait in the line of one backend. */
#define FCGI_LINE_MAX FCGI_SLOTS_MAX

/* What FcgiBackend says; counted over the whole server. */
typedef struct fcgi_limits {
    apr_uint32_t max;       /* connections; 0: any number */
    apr_uint32_t queue;     /* requests in line, at most FCGI_LINE_MAX */
    apr_uint32_t keepalive; /* idle connections */
} fcgi_limits;

/* A backend's line, as this process sees it. It stays as long as the process
 * once anybody has waited in it. Begins with 0 in all but the first two. */
typedef struct fcgi_line {
    fcgi_limits limits;
    fcgi_account *account;  /* NULL: nothing is counted or limited */
    apr_uint32_t waiting;   /* requests of this child in line; atomic */
    int is_listed;          /* it is one of the lines that have next */
    struct fcgi_line *next; /* in which requests of this child have waited */
} fcgi_line;

/* A request of this child that waits in line, in the caller's memory, where it
 * stays until it has a permit or has left. */
typedef struct fcgi_waiting {
    APR_RING_ENTRY(fcgi_waiting) link; /* fcgi_line.c's */
    fcgi_bell bell;    /* rung when it has a grant; whoever waits hangs
                        * something up, and takes it down after the last call
                        * of fcgi_line_look() or fcgi_line_leave() */
    apr_uint32_t slot; /* fcgi_line.c's, as all that follows */
    void *handed;      /* the connection handed on with the grant, or NULL */
    int is_called;     /* it is in the ring of those whose bell is to ring */
} fcgi_waiting;

typedef enum {
    FCGI_LINE_PERMIT,  /* it has a permit */
    FCGI_LINE_WAITING, /* it waits in line */
    FCGI_LINE_FULL     /* no permit is free, and the line is full */
} fcgi_line_state;

/* Asks for a permit. FCGI_LINE_WAITING: waiting stands in line; its bell was
 * made by the caller, and may have something hung up already. */
fcgi_line_state fcgi_line_enter(fcgi_line *line, fcgi_waiting *waiting);

/*
 * Looks whether one that waits has its permit; any time, and when its bell has
 * rung. FCGI_LINE_PERMIT: it has, and does not stand in line any more; *conn is
 * a connection handed to it, or NULL. To be called without any lock that what
 * hangs at the bell takes, as it waits for a ring that is on its way.
 */
fcgi_line_state fcgi_line_look(fcgi_line *line, fcgi_waiting *waiting,
                               void **conn);

/* Stops waiting. FCGI_LINE_PERMIT: one was granted just now; as with
 * fcgi_line_look(). */
fcgi_line_state fcgi_line_leave(fcgi_line *line, fcgi_waiting *waiting,
                                void **conn);

/*
 * For the thread that hears notices: rings for those of this child that others
 * have granted a permit. True if any request of this child waits in any line:
 * then fcgi_line_attend() is to be called soon, again and again until it
 * returns false. The next request that comes notifies this child.
 */
int fcgi_line_tell(void);

/* The same, with a look for dead children, whose permits go to who waits. */
int fcgi_line_attend(void);

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
    apr_uint32_t parked;  /* requests, in line or later, that wait without a
                           * thread */
} fcgi_line_length;
fcgi_line_length fcgi_line_measure(fcgi_account *account);

#endif
