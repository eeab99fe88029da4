/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_backend.c - addresses and connections; the contract is in
 * fcgi_backend.h. Knows no request. Everything goes through APR but the
 * bound on a blocking connect, see bound_connect().
 */
#include "fcgi_backend.h"

#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <apr_file_info.h>
#include <apr_lib.h>
#include <apr_portable.h>
#include <apr_strings.h>

/* The longest path a socket address takes, without the final NUL. */
#define MAX_SOCKET_PATH (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

/* Addresses of one host name that are tried; more are left alone. */
#define MAX_ADDRESSES 16

#define EXAMPLES                                                              \
    "write fcgi:/path/to/socket, fcgi:host:port or fcgi:[ipv6]:port"

int fcgi_backend_is_ours(const char *handler)
{
    return handler
           && !strncasecmp(handler, FCGI_HANDLER_PREFIX,
                           sizeof(FCGI_HANDLER_PREFIX) - 1);
}

static const char *parse_path(apr_pool_t *pool, const char *path,
                              fcgi_backend *backend)
{
    if (path[0] != '/' || !path[1]) {
        return apr_psprintf(pool,
                            "'%s' is not the absolute path of a socket; "
                            "write fcgi:/path/to/socket",
                            path);
    }
    if (strlen(path) > MAX_SOCKET_PATH) {
        return apr_psprintf(pool,
                            "the socket path '%s' has %" APR_SIZE_T_FMT
                            " bytes, the system takes %" APR_SIZE_T_FMT
                            " at most; use a shorter path",
                            path, strlen(path), MAX_SOCKET_PATH);
    }
    backend->path = path;
    return NULL;
}

static const char *parse_port(apr_pool_t *pool, const char *text,
                              fcgi_backend *backend)
{
    unsigned int port = 0;
    const char *digit;

    for (digit = text; apr_isdigit(*digit) && port <= 65535; digit++) {
        port = port * 10 + (unsigned int)(*digit - '0');
    }
    if (*digit || port < 1 || port > 65535) {
        return apr_psprintf(pool,
                            "'%s' is not a port; write a number from 1 to "
                            "65535 and nothing behind it",
                            text);
    }
    backend->port = (apr_port_t)port;
    return NULL;
}

/* The characters of host names and numeric addresses (RFC 3986, 3.2.2,
 * without escapes), and of IPv6 addresses with a scope between brackets. */
static int is_host(const char *host, int bracketed)
{
    const char *more = bracketed ? ":.%-_" : ".-_";

    if (!*host) {
        return 0;
    }
    while (*host && (apr_isalnum(*host) || strchr(more, *host))) {
        host++;
    }
    return !*host;
}

static const char *parse_host(apr_pool_t *pool, const char *text,
                              fcgi_backend *backend)
{
    int bracketed = text[0] == '[';
    const char *end = strchr(text, bracketed ? ']' : ':');

    if (!end || (bracketed && end[1] != ':')) {
        return apr_psprintf(pool, "'%s' names no port; " EXAMPLES, text);
    }
    backend->host = apr_pstrmemdup(pool, text + bracketed,
                                   (apr_size_t)(end - text) - bracketed);
    if (!is_host(backend->host, bracketed)) {
        return apr_psprintf(pool, "'%s' is not a host; " EXAMPLES,
                            backend->host);
    }
    return parse_port(pool, end + 1 + bracketed, backend);
}

const char *fcgi_backend_parse(apr_pool_t *pool, const char *handler,
                               fcgi_backend **backend)
{
    const char *address = handler + sizeof(FCGI_HANDLER_PREFIX) - 1;
    fcgi_backend *parsed = apr_pcalloc(pool, sizeof(*parsed));
    const char *problem;

    if (!strncmp(address, "//", 2)) {
        address += 2;
    }
    if (!*address) {
        problem = "the address is empty; " EXAMPLES;
    }
    else if (!strncasecmp(address, "unix:", 5)) {
        problem = parse_path(pool, address + 5, parsed);
    }
    else if (address[0] == '/') {
        problem = parse_path(pool, address, parsed);
    }
    else if (strstr(address, "://")) {
        problem = apr_psprintf(pool, "'%s' has an unknown scheme; " EXAMPLES,
                               address);
    }
    else {
        problem = parse_host(pool, address, parsed);
    }
    if (!problem) {
        parsed->name =
            apr_pstrcat(pool, FCGI_HANDLER_PREFIX,
                        parsed->path ? parsed->path : address, NULL);
        *backend = parsed;
    }
    return problem;
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
                                apr_status_t rv, apr_interval_time_t timeout)
{
    if (APR_STATUS_IS_EACCES(rv)) {
        return describe_permissions(pool, path);
    }
    if (APR_STATUS_IS_EAGAIN(rv) || APR_STATUS_IS_TIMEUP(rv)) {
        return apr_psprintf(pool,
                            "no place in the socket's backlog within "
                            "FcgiConnectTimeout %" APR_TIME_T_FMT " ms",
                            apr_time_as_msec(timeout));
    }
    if (APR_STATUS_IS_ENOENT(rv)) {
        return "the socket does not exist; is the application running?";
    }
    return "cannot connect; is the application running?";
}

static apr_status_t connect_path(fcgi_conn *conn, apr_pool_t *pool,
                                 apr_interval_time_t timeout,
                                 fcgi_result *result)
{
    const char *path = conn->backend->path;
    apr_sockaddr_t *address;
    apr_status_t rv;

    rv = apr_sockaddr_info_get(&address, path, APR_UNIX, 0, 0, pool);
    if (rv == APR_SUCCESS) {
        rv = apr_socket_create(&conn->socket, APR_UNIX, SOCK_STREAM, 0, pool);
    }
    if (rv == APR_SUCCESS) {
        rv = bound_connect(conn->socket, timeout);
        if (rv == APR_SUCCESS) {
            rv = apr_socket_connect(conn->socket, address);
        }
        if (rv != APR_SUCCESS) {
            apr_socket_close(conn->socket);
        }
    }
    if (rv != APR_SUCCESS) {
        fail(result, FCGI_PHASE_CONNECT, rv,
             explain_path(pool, path, rv, timeout));
    }
    return rv;
}

static apr_status_t connect_address(fcgi_conn *conn, apr_pool_t *pool,
                                    apr_sockaddr_t *address,
                                    apr_interval_time_t timeout)
{
    apr_status_t rv = apr_socket_create(&conn->socket, address->family,
                                        SOCK_STREAM, APR_PROTO_TCP, pool);

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

/* Each address gets an equal share of the time that is left. */
static apr_status_t connect_host(fcgi_conn *conn, apr_pool_t *pool,
                                 apr_interval_time_t timeout,
                                 fcgi_result *result)
{
    apr_time_t deadline = apr_time_now() + timeout;
    apr_sockaddr_t *first, *address;
    int count = 0;
    apr_status_t rv;

    rv = apr_sockaddr_info_get(&first, conn->backend->host, APR_UNSPEC,
                               conn->backend->port, 0, pool);
    if (rv != APR_SUCCESS) {
        fail(result, FCGI_PHASE_RESOLVE, rv, "the host name does not resolve");
        return rv;
    }
    for (address = first; address && count < MAX_ADDRESSES;
         address = address->next) {
        count++;
    }
    for (address = first, rv = APR_TIMEUP; count > 0;
         address = address->next, count--) {
        apr_interval_time_t share = (deadline - apr_time_now()) / count;

        if (share <= 0) {
            break;
        }
        rv = connect_address(conn, pool, address, share);
        if (rv == APR_SUCCESS) {
            return rv;
        }
    }
    fail(result, FCGI_PHASE_CONNECT, rv,
         APR_STATUS_IS_TIMEUP(rv)
             ? apr_psprintf(pool,
                            "no connection within FcgiConnectTimeout "
                            "%" APR_TIME_T_FMT " ms",
                            apr_time_as_msec(timeout))
             : "cannot connect; is the application running?");
    return rv;
}

fcgi_conn *fcgi_backend_acquire(const fcgi_backend *backend, apr_pool_t *pool,
                                apr_interval_time_t timeout,
                                fcgi_result *result)
{
    fcgi_conn *conn = apr_pcalloc(pool, sizeof(*conn));
    apr_status_t rv;

    conn->backend = backend;
    rv = backend->path ? connect_path(conn, pool, timeout, result)
                       : connect_host(conn, pool, timeout, result);
    if (rv != APR_SUCCESS) {
        return NULL;
    }
    rv = apr_socket_timeout_set(conn->socket, 0);
    if (rv != APR_SUCCESS) {
        apr_socket_close(conn->socket);
        fail(result, FCGI_PHASE_CONNECT, rv,
             "the socket cannot be made non-blocking");
        return NULL;
    }
    return conn;
}

void fcgi_backend_release(fcgi_conn *conn)
{
    apr_socket_close(conn->socket);
    conn->socket = NULL;
}
