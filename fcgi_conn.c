/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_conn.c - making, watching and ending connections; the contract is in
 * fcgi_conn.h. Everything goes through APR but the bound on a blocking
 * connect, see bound_connect(), and the look at a waiting byte.
 */
#include "fcgi_conn.h"

#include <assert.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/time.h>

#include <apr_file_info.h>
#include <apr_portable.h>
#include <apr_strings.h>

#include "fcgi_path.h"

/* Addresses of one host name that are tried; more are left alone. */
#define MAX_ADDRESSES 16

/* One that failed before has no more time than this: the others may be back
 * sooner. */
#define FAILED_SHARE apr_time_from_msec(500)

fcgi_conn *fcgi_conn_create(apr_pool_t *pool, fcgi_line *line, int keepable)
{
    fcgi_conn *conn;

    if (keepable
        && apr_pool_create_unmanaged_ex(&pool, NULL, NULL) != APR_SUCCESS) {
        return NULL;
    }
    conn = apr_pcalloc(pool, sizeof(*conn));
    conn->state = FCGI_CONN_NEW;
    conn->pool = pool;
    conn->owns_pool = keepable;
    conn->line = line;
    return conn;
}

void fcgi_conn_move(fcgi_conn *conn, fcgi_conn_state from, fcgi_conn_state to)
{
    assert(conn->state == from);
    conn->state = to;
}

static void fail(fcgi_result *result, fcgi_phase phase, apr_status_t rv,
                 const char *why)
{
    result->outcome = FCGI_OUTCOME_NO_CONNECT;
    result->phase = phase;
    result->rv = rv;
    result->why = why;
}

/*
 * Bounds a blocking connect(). APR's own time limit makes the socket
 * non-blocking, and then Linux answers EAGAIN at once when a unix socket's
 * backlog is full. A blocking connect waits in the listener's queue, first
 * come, first served, and gives EAGAIN after SO_SNDTIMEO.
 */
static apr_status_t bound_connect(apr_socket_t *socket,
                                  apr_interval_time_t timeout)
{
    struct timeval limit;
    apr_os_sock_t fd;
    apr_status_t rv = apr_os_sock_get(&fd, socket);

    limit.tv_sec = (time_t)apr_time_sec(timeout);
    limit.tv_usec = (suseconds_t)apr_time_usec(timeout);
    if (rv == APR_SUCCESS
        && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit))) {
        rv = apr_get_netos_error();
    }
    return rv;
}

/* Says who may use a socket that we may not use. */
static const char *describe_permissions(apr_pool_t *pool, const char *path)
{
    apr_finfo_t info;
    apr_status_t rv =
        apr_stat(&info, path, APR_FINFO_OWNER | APR_FINFO_PROT, pool);

    if (rv != APR_SUCCESS && rv != APR_INCOMPLETE) {
        return apr_psprintf(pool,
                            "permission denied on the way to the socket; we "
                            "run as uid %u, which must be able to search "
                            "every folder of the path",
                            (unsigned int)geteuid());
    }
    return apr_psprintf(pool,
                        "permission denied: the socket belongs to uid %u gid "
                        "%u and has mode 0%03x, we run as uid %u (PHP-FPM: "
                        "set listen.owner; with SELinux see the boolean "
                        "httpd_can_network_connect and the socket's type)",
                        (unsigned int)info.user, (unsigned int)info.group,
                        (unsigned int)info.protection & 0xfff,
                        (unsigned int)geteuid());
}

static const char *explain_path(apr_pool_t *pool, const char *path,
                                apr_status_t rv)
{
    if (APR_STATUS_IS_EACCES(rv)) {
        return describe_permissions(pool, path);
    }
    if (APR_STATUS_IS_EAGAIN(rv) || APR_STATUS_IS_TIMEUP(rv)) {
        return "no place in the socket's backlog";
    }
    if (APR_STATUS_IS_ENOENT(rv)) {
        return "the socket does not exist; is the application running?";
    }
    if (APR_STATUS_IS_EBADPATH(rv)) {
        return "FcgiAllow does not admit where the path leads now";
    }
    return "cannot connect; is the application running?";
}

static apr_status_t try_path(fcgi_conn *conn, apr_sockaddr_t *address,
                             apr_interval_time_t timeout)
{
    apr_status_t rv =
        apr_socket_create(&conn->socket, APR_UNIX, SOCK_STREAM, 0, conn->pool);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = bound_connect(conn->socket, timeout);
    if (rv == APR_SUCCESS) {
        rv = apr_socket_connect(conn->socket, address);
    }
    if (rv != APR_SUCCESS) {
        apr_socket_close(conn->socket);
    }
    return rv;
}

/* Connects to what a path leads to now, and to nothing else, if that may be
 * connected to: whoever owns a link may turn it at any moment. */
static apr_status_t try_admitted(fcgi_conn *conn, const fcgi_address *address,
                                 apr_interval_time_t timeout)
{
    apr_sockaddr_t *held_address;
    fcgi_held held;
    apr_status_t rv = fcgi_path_hold(conn->pool, address->path, &held);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (!fcgi_address_matches(address->admitted, held.real)) {
        rv = APR_EBADPATH;
    }
    if (rv == APR_SUCCESS) {
        rv = apr_sockaddr_info_get(&held_address, held.name, APR_UNIX, 0, 0,
                                   conn->pool);
    }
    if (rv == APR_SUCCESS) {
        rv = try_path(conn, held_address, timeout);
    }
    fcgi_path_let_go(&held);
    return rv;
}

static apr_status_t try_host(fcgi_conn *conn, apr_sockaddr_t *address,
                             apr_interval_time_t timeout)
{
    apr_status_t rv =
        apr_socket_create(&conn->socket, address->family, SOCK_STREAM,
                          APR_PROTO_TCP, conn->pool);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = apr_socket_timeout_set(conn->socket, timeout);
    if (rv == APR_SUCCESS) {
        rv = apr_socket_connect(conn->socket, address);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_socket_opt_set(conn->socket, APR_TCP_NODELAY, 1);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_socket_opt_set(conn->socket, APR_SO_KEEPALIVE, 1);
    }
    if (rv != APR_SUCCESS) {
        apr_socket_close(conn->socket);
    }
    return rv;
}

/* An attempt beside another one, to see whether an address is back. */
typedef struct attempt {
    apr_sockaddr_t *address; /* NULL: none is made */
    apr_socket_t *socket;
} attempt;

/* Begins one, if there is an address for it, and waits for nothing: end_probe()
 * asks what came of it. */
static void begin_probe(attempt *probe, apr_sockaddr_t *first,
                        apr_pool_t *pool)
{
    apr_status_t rv;

    probe->address = fcgi_address_has_failed(first)
                         ? NULL
                         : fcgi_address_to_probe(first->next);
    if (!probe->address) {
        return;
    }
    rv = apr_socket_create(&probe->socket, probe->address->family, SOCK_STREAM,
                           APR_PROTO_TCP, pool);
    if (rv == APR_SUCCESS) {
        rv = apr_socket_timeout_set(probe->socket, 0);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_socket_connect(probe->socket, probe->address);
    }
    if (rv != APR_SUCCESS && !APR_STATUS_IS_EINPROGRESS(rv)) {
        if (probe->socket) {
            apr_socket_close(probe->socket);
        }
        probe->address = NULL;
    }
}

/* The other attempt is over: one that is not back by now may be later. */
static void end_probe(const attempt *probe)
{
    if (probe->address) {
        /* a second connect() says how the first one went */
        fcgi_address_note(probe->address,
                          apr_socket_connect(probe->socket, probe->address)
                              == APR_SUCCESS);
        apr_socket_close(probe->socket);
    }
}

/* Tries one of several addresses, and remembers how that was. */
static apr_status_t try_one(fcgi_conn *conn, apr_sockaddr_t *address,
                            apr_interval_time_t share)
{
    apr_status_t rv;

    if (share > FAILED_SHARE && fcgi_address_has_failed(address)) {
        share = FAILED_SHARE;
    }
    rv = try_host(conn, address, share);
    fcgi_address_note(address, rv == APR_SUCCESS);
    return rv;
}

/* Each address gets an equal share of the time that is left. */
static apr_status_t try_several(fcgi_conn *conn, apr_sockaddr_t *first,
                                apr_interval_time_t timeout)
{
    fcgi_instant deadline = fcgi_clock_now() + timeout;
    apr_sockaddr_t *address;
    int count = 0;
    apr_status_t rv = APR_TIMEUP;

    for (address = first; address && count < MAX_ADDRESSES;
         address = address->next) {
        count++;
    }
    for (address = first; count > 0; address = address->next, count--) {
        apr_interval_time_t share = (deadline - fcgi_clock_now()) / count;

        if (share <= 0) {
            break;
        }
        rv = try_one(conn, address, share);
        if (rv == APR_SUCCESS) {
            break;
        }
    }
    return rv;
}

static apr_status_t try_hosts(fcgi_conn *conn, apr_sockaddr_t *first,
                              apr_interval_time_t timeout)
{
    apr_status_t rv;
    attempt probe = { NULL, NULL };

    if (!first->next) {
        return try_host(conn, first, timeout);
    }
    begin_probe(&probe, first, conn->pool);
    rv = try_several(conn, first, timeout);
    end_probe(&probe);
    return rv;
}

apr_status_t fcgi_conn_open(fcgi_conn *conn, const fcgi_address *address,
                            apr_interval_time_t timeout, apr_pool_t *scratch,
                            fcgi_result *result)
{
    apr_sockaddr_t *first;
    apr_status_t rv = fcgi_address_resolve(address, conn->pool, &first);

    if (rv != APR_SUCCESS) {
        fail(result, FCGI_PHASE_RESOLVE, rv, "the host name does not resolve");
        return rv;
    }
    rv = !address->path      ? try_hosts(conn, first, timeout)
         : address->admitted ? try_admitted(conn, address, timeout)
                             : try_path(conn, first, timeout);
    if (rv != APR_SUCCESS) {
        fcgi_address_doubt(address);
        fail(result, FCGI_PHASE_CONNECT, rv,
             address->path ? explain_path(scratch, address->path, rv)
             : APR_STATUS_IS_TIMEUP(rv)
                 ? "no connection"
                 : "cannot connect; is the application running?");
        return rv;
    }
    rv = apr_socket_timeout_set(conn->socket, 0);
    if (rv != APR_SUCCESS) {
        apr_socket_close(conn->socket);
        fail(result, FCGI_PHASE_CONNECT, rv,
             "the socket cannot be made non-blocking");
        return rv;
    }
    fcgi_conn_move(conn, FCGI_CONN_NEW, FCGI_CONN_IN_USE);
    return APR_SUCCESS;
}

/* Looks whether there is a byte without taking it, for which APR has no way:
 * its apr_socket_atreadeof() does not tell a byte from silence. */
fcgi_conn_sound fcgi_conn_listen(fcgi_conn *conn)
{
    apr_os_sock_t fd;
    ssize_t len;
    char byte;

    if (apr_os_sock_get(&fd, conn->socket) != APR_SUCCESS) {
        return FCGI_CONN_ENDED;
    }
    len = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (len > 0) {
        return FCGI_CONN_STRAY;
    }
    return len < 0 && APR_STATUS_IS_EAGAIN(apr_get_netos_error())
               ? FCGI_CONN_QUIET
               : FCGI_CONN_ENDED;
}

void fcgi_conn_close(fcgi_conn *conn, fcgi_conn_state from)
{
    fcgi_conn_move(conn, from, FCGI_CONN_CLOSED);
    if (from != FCGI_CONN_NEW) {
        apr_socket_close(conn->socket);
    }
    conn->socket = NULL;
    if (conn->owns_pool) {
        apr_pool_destroy(conn->pool);
    }
}
