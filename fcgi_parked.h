/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_parked.h - requests of httpd that wait without a thread. A handler
 * returns OK without having answered, httpd's MPM polls fcgi_park.h's
 * descriptor in place of the client's, and some worker thread goes on with
 * the request when there is something to do.
 *
 * Knows httpd's requests and connections, and how they end; knows neither
 * FastCGI nor what is waited for. Needs httpd 2.4.63, its event MPM, and a
 * system that fcgi_park.h knows; else no request is parked.
 */
#ifndef FCGI_PARKED_H
#define FCGI_PARKED_H

#include <httpd.h>
#include <apr_network_io.h>

#include "fcgi_park.h"
#include "fcgi_wait.h"

/* What somebody does who can be parked. All are called in one thread at a
 * time, not always the same. */
typedef struct fcgi_parkable_kind {
    /* Tells what became ready: FCGI_WANTS_ flags. Then step. */
    void (*ready)(void *baton, int ready);
    /* Moves what can move, and waits for nobody. 0: it is pending, and wait
     * and application of the parkable are set. Else it is over. */
    int (*step)(void *baton);
    /* It is over: the conclusion. Returns what a handler returns. May redirect
     * internally, which may park another request of the same connection. The
     * parkable is not touched after that. */
    int (*finish)(void *baton);
    /* The connection goes while the request is parked. Gives back what is held
     * and logs; says nothing to the client, whose connection is marked as
     * aborted. The access log is written afterwards. */
    void (*abandon)(void *baton);
    /* It is parked from now on (1), or not any more (0): once each. */
    void (*count)(void *baton, int parked);
} fcgi_parkable_kind;

/* What is parked; embedded by its owner, in the request's pool. */
typedef struct fcgi_parkable {
    const fcgi_parkable_kind *kind;
    void *baton;
    fcgi_wait wait;
    apr_socket_t *application; /* that wait is about; NULL: none */

    /* fcgi_parked.c's own */
    request_rec *r;
    const char *handler; /* r's, which httpd takes away */
    fcgi_park park;
} fcgi_parkable;

/* Before all others; from then on it may be woken. */
void fcgi_parked_init(fcgi_parkable *parkable, const fcgi_parkable_kind *kind,
                      void *baton);

/* True if r may be parked: it is no subrequest and no HTTP/2 stream, and httpd
 * can do it. Allocates nothing, and asks nobody. */
int fcgi_parked_may(const request_rec *r);

/* How many are parked in this process. */
apr_uint32_t fcgi_parked_count(void);

/*
 * Parks r, for which fcgi_parked_may() is true; wait and application are set
 * by a step that was just done. Its handler must return OK at once then,
 * having said nothing that it has not said before. Gives r an id for the logs
 * (%L), if it has none. Returns 0 if it cannot be
 * done, as there are no descriptors or the child ends and none is parked in it:
 * the thread has to wait.
 */
int fcgi_parked_start(request_rec *r, fcgi_parkable *parkable);

/*
 * Makes it step soon, in some worker thread; nothing is lost if it is not
 * parked yet. May be called from any thread, until finish or abandon is called:
 * who calls makes sure, by a lock, that it is not too late.
 */
void fcgi_parked_wake(fcgi_parkable *parkable);

/* When the module is loaded, before any request. */
void fcgi_parked_register(void);

/* A child_init hook. */
void fcgi_parked_child(apr_pool_t *pchild, server_rec *s);

/* A process_connection hook, before all others. */
int fcgi_parked_process(conn_rec *c);

/* A pre_close_connection hook. */
int fcgi_parked_close(conn_rec *c);

#endif
