/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_connect.h - how a connection to an address is made: one attempt, to a
 * unix socket or to all addresses of a host name in turn, which somebody else
 * waits for.
 *
 * Knows addresses and sockets; knows neither what a connection is used for
 * nor whether another attempt makes sense.
 */
#ifndef FCGI_CONNECT_H
#define FCGI_CONNECT_H

#include <apr_network_io.h>
#include <apr_pools.h>

#include "fcgi_address.h"
#include "fcgi_clock.h"
#include "fcgi_outcome.h"

/* An attempt to connect. All zero but pool: none is under way. */
typedef struct fcgi_connecting {
    apr_pool_t *pool;     /* what socket lives in */
    apr_socket_t *socket; /* the one that connects, or is connected; NULL:
                           * none */
    fcgi_instant wake_at; /* under way: the end of the present address's time;
                           * else 0 */

    /* what fcgi_connect.c has to know when it is called again */
    apr_sockaddr_t *tried; /* the present address, or the next one */
    int left;              /* addresses not given up yet, with that one */
    int is_one_of_several;
    apr_sockaddr_t *probed; /* tried beside them; NULL: none is */
    apr_socket_t *probe;
} fcgi_connecting;

/*
 * Begins an attempt, or goes on with the one that is under way. It is over at
 * until, but the system's resolver takes its time. Never waits, but where
 * may_wait says that it may, in a unix socket's full backlog: in the kernel's
 * own queue, first come, first served.
 *
 * APR_SUCCESS: socket is connected, non-blocking, and the caller's.
 * APR_EINPROGRESS: call it again, with the same arguments, when socket can be
 * written to or has failed, and not later than wake_at; each address has its
 * share of the time. To be called sooner does no harm.
 * Else it is over: socket is NULL, and *result has outcome, phase, rv and
 * why, in scratch. APR_EAGAIN: a unix socket's backlog is full.
 */
apr_status_t fcgi_connect_step(fcgi_connecting *connecting,
                               const fcgi_address *address, fcgi_instant until,
                               int may_wait, apr_pool_t *scratch,
                               fcgi_result *result);

/* Ends an attempt that is under way, if one is, and closes what it has. */
void fcgi_connect_give_up(fcgi_connecting *connecting);

#endif
