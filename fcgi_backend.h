/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_backend.h - an application's address and the connections to it.
 *
 * Knows addresses and sockets; knows neither requests nor HTTP. Keeping,
 * capping and queueing connections belong behind acquire and release.
 */
#ifndef FCGI_BACKEND_H
#define FCGI_BACKEND_H

#include <apr_network_io.h>
#include <apr_pools.h>

#include "fcgi_outcome.h"

/* What a handler name of ours starts with. */
#define FCGI_HANDLER_PREFIX "fcgi:"

typedef struct fcgi_backend {
    const char *name; /* as messages call it: "fcgi:" and the address */
    const char *path; /* of a unix socket; NULL for TCP */
    const char *host; /* TCP: a name or a number, IPv6 without brackets */
    apr_port_t port;  /* TCP: 1 to 65535 */
} fcgi_backend;

/* A connection that one request holds. */
typedef struct fcgi_conn {
    const fcgi_backend *backend;
    apr_socket_t *socket; /* non-blocking */
} fcgi_conn;

/* True if a handler name is meant for us. handler may be NULL. */
int fcgi_backend_is_ours(const char *handler);

/*
 * Parses a handler name, "fcgi:" and one of
 *
 *     /path   unix:/path   host:port   [ipv6]:port   //host:port
 *
 * into a backend that lives in pool. Returns NULL, or a sentence that says
 * what is wrong and what to write instead; then *backend is not set. Looks
 * nothing up.
 */
const char *fcgi_backend_parse(apr_pool_t *pool, const char *handler,
                               fcgi_backend **backend);

/*
 * Connects, trying each address of a host name in turn, for at most timeout
 * microseconds in all; waits in a unix socket's full backlog in the kernel's
 * own queue. Returns a connection that lives in pool until it is released,
 * or NULL; then *result has outcome, phase, rv and why.
 */
fcgi_conn *fcgi_backend_acquire(const fcgi_backend *backend, apr_pool_t *pool,
                                apr_interval_time_t timeout,
                                fcgi_result *result);

/*
 * Ends the use of a connection: closes it. The one place where a connection
 * that could carry another request (FastCGI 1.0, 3.5) would be kept.
 */
void fcgi_backend_release(fcgi_conn *conn);

#endif
