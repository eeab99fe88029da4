/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_wait.h - what something that does not block waits for, in words that
 * it and whoever waits for it share: fcgi_driver.c in a thread, fcgi_parked.c
 * without one.
 */
#ifndef FCGI_WAIT_H
#define FCGI_WAIT_H

#include "fcgi_clock.h"

#define FCGI_WANTS_READ         1  /* the application's bytes, or its close */
#define FCGI_WANTS_WRITE        2  /* room towards it, or that it connects */
#define FCGI_WANTS_CLIENT       4  /* the client's body, or its going away */
#define FCGI_WANTS_CLIENT_WRITE 8  /* room towards the client */
#define FCGI_WANTS_CLIENT_END   16 /* its connection is reset, or fails */
#define FCGI_WANTS_BELL         32 /* to be called, in line (fcgi_bell.h) */

typedef struct fcgi_wait {
    int wants;            /* of the above, whichever comes first */
    fcgi_instant wake_at; /* when to step at the latest; 0: never */
    fcgi_instant said_at; /* the moment for which that holds */
} fcgi_wait;

/* Waits no longer than until when. */
static inline void fcgi_wait_until(fcgi_wait *wait, fcgi_instant when)
{
    if (!wait->wake_at || when < wait->wake_at) {
        wait->wake_at = when;
    }
}

/* What poll() or its like says of a socket, in those words: in and out, that it
 * can be read from and written to; ended, that it has failed or is closed,
 * which reading and writing will tell, too. */
static inline int fcgi_wait_ready(int is_client, int in, int out, int ended)
{
    int ready = 0;

    if (in || ended) {
        ready |= is_client ? FCGI_WANTS_CLIENT : FCGI_WANTS_READ;
    }
    if (out || ended) {
        ready |= is_client ? FCGI_WANTS_CLIENT_WRITE : FCGI_WANTS_WRITE;
    }
    if (is_client && ended) {
        ready |= FCGI_WANTS_CLIENT_END;
    }
    return ready;
}

#endif
