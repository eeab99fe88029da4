/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_backend.h - an application, as this process sees it: its limits, what
 * is counted of it, and what becomes of a connection that a request has done
 * with. Getting one is fcgi_acquire.c's. Knows neither requests nor HTTP.
 */
#ifndef FCGI_BACKEND_H
#define FCGI_BACKEND_H

#include "fcgi_address.h"
#include "fcgi_clock.h"
#include "fcgi_conn.h"
#include "fcgi_line.h"
#include "fcgi_outcome.h"
#include "fcgi_wait.h"

/* What a unix socket's path leads to, as this process saw it last. */
typedef struct fcgi_place {
    apr_uint32_t looked; /* atomic: in which second of the clock; 0: never */
    apr_uint64_t socket; /* atomic: which one it is, see look_at() */
} fcgi_place;

typedef struct fcgi_backend {
    const fcgi_address *address;
    const char *name;                  /* the address's */
    fcgi_line *line;                   /* its limits, and who has permits */
    apr_interval_time_t queue_timeout; /* in line at most */
    apr_interval_time_t idle_time;     /* a kept connection lives */
    apr_uint32_t requests;        /* a connection may carry; 0: any number */
    apr_interval_time_t lifetime; /* of a connection; 0: no end */
    fcgi_place *place;
    struct fcgi_backlog *backlog; /* of its socket, in this process */
} fcgi_backend;

/* A backend at an address, without limits. All of it lives in pool. */
fcgi_backend *fcgi_backend_create(apr_pool_t *pool,
                                  const fcgi_address *address);

/* Counts a request that got no connection. True if the log is to say so now;
 * *others: for how many more, too. */
int fcgi_backend_failed(const fcgi_backend *backend, apr_uint32_t *others);

/* Counts a request that ended. */
void fcgi_backend_count(const fcgi_backend *backend, const fcgi_ended *ended);

/* Counts a request that waits without a thread from now on, or, with 0, does
 * not any more. */
void fcgi_backend_count_parked(const fcgi_backend *backend, int is_parked);

/* A connection to it is about to be made: notes which socket the path leads
 * to. Before connecting: it may be taken for an old one, never an old one for
 * new. */
void fcgi_backend_look(const fcgi_backend *backend, fcgi_conn *conn);

/* Notes how an attempt to connect went. */
void fcgi_backend_found(const fcgi_backend *backend, fcgi_conn *conn,
                        apr_status_t rv);

/* True if a connection is to carry no other request now: it is older than its
 * lifetime, or a release of the application may have taken the place of the
 * one that it leads to. */
int fcgi_backend_is_outdated(const fcgi_backend *backend,
                             const fcgi_conn *conn, fcgi_instant now);

/* Its request waits for the application, in line, for room in the backlog, or
 * long enough to be connected or for the first byte, and says so: idle
 * connections to the backend are given up, in all children. */
void fcgi_backend_press(fcgi_conn *conn);

/* The same if the application has been silent for long enough at now; else wait
 * lasts no longer than until then. Never on a connection that was kept, which
 * has a worker. */
void fcgi_backend_press_in_time(fcgi_conn *conn, fcgi_instant now,
                                fcgi_wait *wait);

/* The first byte is here, or never comes. */
void fcgi_backend_unpress(fcgi_conn *conn);

/* True if any request of any child waits for the application. */
int fcgi_backend_is_pressed(const fcgi_backend *backend);

/*
 * Ends the use of a connection. quiet says that it may carry another request
 * (FastCGI 1.0, 3.5): it was asked to stay open, the request is wholly
 * written, its END_REQUEST is read, and not a byte more. Then, unless it is
 * older than its lifetime or its path leads to another socket by now, it is
 * handed to who waits for it in this child, or kept if nobody waits; else closed.
 * Returns which of these, as a word for the log.
 */
const char *fcgi_backend_release(const fcgi_backend *backend, fcgi_conn *conn,
                                 int quiet);

#endif
