/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_backlog.h - the requests of this child that wait without blocking for
 * room in the backlog of an application's socket: the first come is the first
 * to try again, and the next is called once it got in, so that one of them
 * asks the kernel at a time. Knows neither sockets nor requests.
 */
#ifndef FCGI_BACKLOG_H
#define FCGI_BACKLOG_H

#include <apr_ring.h>

#include "fcgi_bell.h"

typedef struct fcgi_backlogged {
    APR_RING_ENTRY(fcgi_backlogged) link;
    fcgi_bell *bell; /* rung when it is the first; NULL: it does not wait */
} fcgi_backlogged;

/* Of one backend, in this process. */
typedef struct fcgi_backlog {
    APR_RING_HEAD(fcgi_backlogged_ring, fcgi_backlogged) waiting;
} fcgi_backlog;

void fcgi_backlog_init(fcgi_backlog *backlog);

/* True if nobody waits; else a newcomer has no right to try before them. */
int fcgi_backlog_is_empty(const fcgi_backlog *backlog);

/* Waits behind those that do already. */
void fcgi_backlog_enter(fcgi_backlog *backlog, fcgi_backlogged *one,
                        fcgi_bell *bell);

/* True if it is the first, and may try. */
int fcgi_backlog_is_first(const fcgi_backlog *backlog,
                          const fcgi_backlogged *one);

/* It got in, or gave up. Nothing if it does not wait. */
void fcgi_backlog_leave(fcgi_backlog *backlog, fcgi_backlogged *one);

#endif
