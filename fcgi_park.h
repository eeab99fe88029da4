/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_park.h - waiting without a thread: one descriptor that becomes readable
 * when any of three things happens, so that whoever polls for one socket,
 * as httpd's MPM does for a client's, polls for all of them.
 *
 *     epoll set  <--  the client's socket
 *                <--  the application's socket
 *                <--  a timer: a deadline, or another thread that wakes it
 *
 * The set's descriptor takes the place of the client's in the client's
 * apr_socket_t while nobody reads or writes there. Knows descriptors and
 * deadlines; knows neither FastCGI nor HTTP nor httpd.
 */
#ifndef FCGI_PARK_H
#define FCGI_PARK_H

#include <apr_network_io.h>

#include "fcgi_clock.h"
#include "fcgi_wait.h"

typedef struct fcgi_park {
    int set;                     /* of epoll; -1: not open */
    volatile apr_uint32_t timer; /* its descriptor + 1; 0: not open */
    volatile apr_uint32_t woken; /* since it was looked at last */
    int client;        /* the descriptor that set stands for; -1: none */
    int client_events; /* for which that is in the set; -1: it is not */
    int application;   /* the descriptor in the set; -1: none */
    int wants;         /* what is watched for */
    int is_blind;      /* the set could not take a socket */
} fcgi_park;

/* True if this system has what it takes. */
int fcgi_park_is_possible(void);

/* To be called once, before all others. */
void fcgi_park_init(fcgi_park *park);

/* Takes two descriptors, if it has none. APR_ENOTIMPL, or the system's error
 * if there are none left. */
apr_status_t fcgi_park_open(fcgi_park *park);

/* Gives them back. The client's has to be in its place again. */
void fcgi_park_close(fcgi_park *park);

/*
 * What to watch for from now on, and until when; application may be NULL.
 * A socket of which nothing is wanted is not watched. What the system has no
 * room to watch is looked at every few milliseconds instead.
 */
void fcgi_park_watch(fcgi_park *park, apr_socket_t *client,
                     apr_socket_t *application, const fcgi_wait *wait);

/* The FCGI_WANTS_ flags of what is ready now; waits for nothing. */
int fcgi_park_look(fcgi_park *park);

/*
 * Puts the set's descriptor into the client's socket, in place of its own;
 * and back, which may be done at any time, also when httpd has closed what it
 * found in the socket: then the client's own descriptor is closed here. The
 * peers' addresses in the socket are as unknown to APR afterwards as in a new
 * one.
 */
void fcgi_park_swap_in(fcgi_park *park, apr_socket_t *client);
void fcgi_park_swap_out(fcgi_park *park, apr_socket_t *client);

/*
 * Makes it ready now, and if it is not watched now, as soon as it is. May be
 * called from any thread between fcgi_park_init() and fcgi_park_close(): who
 * calls makes sure, by a lock of its own, that it is not too late.
 */
void fcgi_park_wake(fcgi_park *park);

#endif
