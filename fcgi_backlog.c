/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_backlog.c - the contract is in fcgi_backlog.h. One lock for all
 * backends of the process: it is taken only where a backlog is full.
 */
#include "fcgi_backlog.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void fcgi_backlog_init(fcgi_backlog *backlog)
{
    APR_RING_INIT(&backlog->waiting, fcgi_backlogged, link);
}

static const fcgi_backlogged *first(const fcgi_backlog *backlog)
{
    return APR_RING_EMPTY(&backlog->waiting, fcgi_backlogged, link)
               ? NULL
               : APR_RING_FIRST(&backlog->waiting);
}

int fcgi_backlog_is_empty(const fcgi_backlog *backlog)
{
    int is_empty;

    pthread_mutex_lock(&lock);
    is_empty = !first(backlog);
    pthread_mutex_unlock(&lock);
    return is_empty;
}

void fcgi_backlog_enter(fcgi_backlog *backlog, fcgi_backlogged *one,
                        fcgi_bell *bell)
{
    pthread_mutex_lock(&lock);
    one->bell = bell;
    APR_RING_INSERT_TAIL(&backlog->waiting, one, fcgi_backlogged, link);
    pthread_mutex_unlock(&lock);
}

int fcgi_backlog_is_first(const fcgi_backlog *backlog,
                          const fcgi_backlogged *one)
{
    int is_first;

    pthread_mutex_lock(&lock);
    is_first = first(backlog) == one;
    pthread_mutex_unlock(&lock);
    return is_first;
}

/* The bell is rung under the lock: its owner cannot leave meanwhile. */
void fcgi_backlog_leave(fcgi_backlog *backlog, fcgi_backlogged *one)
{
    const fcgi_backlogged *next;

    if (!one->bell) {
        return;
    }
    pthread_mutex_lock(&lock);
    APR_RING_REMOVE(one, link);
    one->bell = NULL;
    next = first(backlog);
    if (next) {
        fcgi_bell_ring(next->bell);
    }
    pthread_mutex_unlock(&lock);
}
