/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_line.h - who may have a connection to a backend: the rules of max,
 * queue and keepalive over all children of the server.
 *
 * A request enters and has a place, or stands in line until it is called. A
 * place is the right to one connection. Whoever ends a connection frees the
 * place, keeps it with the connection, or hands both on to the first in line.
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
                            * each place of the line; NULL without max */
} fcgi_line;

typedef enum {
    FCGI_LINE_PLACE,   /* it has a place */
    FCGI_LINE_WAITING, /* it stands in line */
    FCGI_LINE_FULL     /* no place, and the line is full */
} fcgi_line_state;

/* Asks for a place; FCGI_LINE_WAITING sets *spot. */
fcgi_line_state fcgi_line_enter(fcgi_line *line, apr_uint32_t *spot);

/*
 * Waits at spot for at most tick. FCGI_LINE_PLACE: it was called and stands
 * there no more; *conn is a connection handed to it, or NULL.
 */
fcgi_line_state fcgi_line_wait(fcgi_line *line, apr_uint32_t spot,
                               apr_interval_time_t tick, void **conn);

/* Stops waiting at spot. FCGI_LINE_PLACE: it was called just now; as with
 * fcgi_line_wait(). */
fcgi_line_state fcgi_line_leave(fcgi_line *line, apr_uint32_t spot,
                                void **conn);

/* A connection was closed, or not made: the place is free. */
void fcgi_line_free(fcgi_line *line);

/* Hands a connection with its place to the first in line, if that is one of
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

/* One request more, or less, waits for the application: for a place, a
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
