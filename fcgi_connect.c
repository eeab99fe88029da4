/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_connect.c - making a connection; the contract is in fcgi_connect.h.
 * Start at fcgi_connect_step(). Everything goes through APR but the bound on
 * a blocking connect, see bound_connect().
 */
#include "fcgi_connect.h"

#include <errno.h>
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

/* The resolver may have taken all of the time: so much is left all the same.
 */
#define TIME_MIN apr_time_from_msec(10)

static void fail(fcgi_result *result, fcgi_phase phase, apr_status_t rv,
                 const char *why)
{
    result->outcome = FCGI_OUTCOME_NO_CONNECT;
    result->phase = phase;
    result->rv = rv;
    result->why = why;
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

static const char *explain(apr_status_t rv)
{
    if (APR_STATUS_IS_EMFILE(rv) || APR_STATUS_IS_ENFILE(rv)) {
        return "no descriptor is left; raise the limit of open files";
    }
    return APR_STATUS_IS_TIMEUP(rv)
               ? "no connection"
               : "cannot connect; is the application running?";
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
    return explain(rv);
}

/* ---- sockets ---- */

/*
 * A socket that never waits. Where the system makes one at once, APR is not
 * told, for it would say so to the system once more: of a socket without a
 * time limit it asks nothing but system calls, which do not wait.
 */
static apr_status_t create_socket(apr_socket_t **socket,
                                  const apr_sockaddr_t *address,
                                  apr_pool_t *pool)
{
    int protocol = address->family == APR_UNIX ? 0 : APR_PROTO_TCP;
    apr_status_t rv;

#ifdef SOCK_NONBLOCK
    rv = apr_socket_create(socket, address->family,
                           SOCK_STREAM | SOCK_NONBLOCK, protocol, pool);
#else
    rv = apr_socket_create(socket, address->family, SOCK_STREAM, protocol,
                           pool);
    if (rv == APR_SUCCESS) {
        rv = apr_socket_timeout_set(*socket, 0);
        if (rv != APR_SUCCESS) {
            apr_socket_close(*socket);
        }
    }
#endif
    if (rv != APR_SUCCESS) {
        *socket = NULL;
    }
    return rv;
}

static void close_socket(apr_socket_t **socket)
{
    if (*socket) {
        apr_socket_close(*socket);
        *socket = NULL;
    }
}

/* Begins to connect, or says how that goes: to ask again is to connect
 * again. */
static apr_status_t ask_socket(apr_socket_t *socket, apr_sockaddr_t *address)
{
    apr_status_t rv = apr_socket_connect(socket, address);

    return rv == EALREADY ? APR_EINPROGRESS : rv;
}

/* ---- unix sockets ---- */

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

/* Connects, and waits in the backlog if it is full. */
static apr_status_t wait_in_backlog(fcgi_connecting *connecting,
                                    apr_sockaddr_t *address,
                                    apr_interval_time_t timeout)
{
    apr_status_t rv = apr_socket_create(&connecting->socket, APR_UNIX,
                                        SOCK_STREAM, 0, connecting->pool);

    if (rv != APR_SUCCESS) {
        connecting->socket = NULL;
        return rv;
    }
    rv = bound_connect(connecting->socket, timeout);
    if (rv == APR_SUCCESS) {
        rv = apr_socket_connect(connecting->socket, address);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_socket_timeout_set(connecting->socket, 0);
    }
    if (rv != APR_SUCCESS) {
        close_socket(&connecting->socket);
    }
    return rv;
}

static apr_status_t try_path(fcgi_connecting *connecting,
                             apr_sockaddr_t *address,
                             apr_interval_time_t timeout)
{
    apr_status_t rv;

    if (timeout > 0) {
        return wait_in_backlog(connecting, address, timeout);
    }
    rv = create_socket(&connecting->socket, address, connecting->pool);
    if (rv == APR_SUCCESS) {
        rv = ask_socket(connecting->socket, address);
    }
    if (rv != APR_SUCCESS) {
        close_socket(&connecting->socket);
    }
    if (APR_STATUS_IS_EINPROGRESS(rv)) {
        rv = APR_EAGAIN; /* no system here says so; it would mean the same */
    }
    return rv;
}

/* Connects to what a path leads to now, and to nothing else, if that may be
 * connected to: whoever owns a link may turn it at any moment. */
static apr_status_t try_admitted(fcgi_connecting *connecting,
                                 const fcgi_address *address,
                                 apr_interval_time_t timeout)
{
    apr_sockaddr_t *held_address;
    fcgi_held held;
    apr_status_t rv = fcgi_path_hold(connecting->pool, address->path, &held);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (!fcgi_address_matches(address->admitted, held.real)) {
        rv = APR_EBADPATH;
    }
    if (rv == APR_SUCCESS) {
        rv = apr_sockaddr_info_get(&held_address, held.name, APR_UNIX, 0, 0,
                                   connecting->pool);
    }
    if (rv == APR_SUCCESS) {
        rv = try_path(connecting, held_address, timeout);
    }
    fcgi_path_let_go(&held);
    return rv;
}

/* ---- hosts ---- */

/* Begins an attempt beside the others, to see whether an address is back, if
 * there is one for it. end_probe() asks what came of it. */
static void begin_probe(fcgi_connecting *connecting)
{
    apr_sockaddr_t *first = connecting->tried;
    apr_status_t rv;

    connecting->probed = fcgi_address_has_failed(first)
                             ? NULL
                             : fcgi_address_to_probe(first->next);
    if (!connecting->probed) {
        return;
    }
    rv = create_socket(&connecting->probe, connecting->probed,
                       connecting->pool);
    if (rv == APR_SUCCESS) {
        rv = ask_socket(connecting->probe, connecting->probed);
    }
    if (rv != APR_SUCCESS && !APR_STATUS_IS_EINPROGRESS(rv)) {
        close_socket(&connecting->probe);
    }
}

/* The other attempts are over: one that is not back by now may be later. */
static void end_probe(fcgi_connecting *connecting)
{
    if (connecting->probe) {
        fcgi_address_note(connecting->probed,
                          ask_socket(connecting->probe, connecting->probed)
                              == APR_SUCCESS);
        close_socket(&connecting->probe);
    }
}

/* An equal share of the time that is left for each address that is left. */
static apr_interval_time_t share_time(const fcgi_connecting *connecting,
                                      fcgi_instant until)
{
    apr_interval_time_t share = (until - fcgi_clock_now()) / connecting->left;

    return connecting->is_one_of_several && share > FAILED_SHARE
                   && fcgi_address_has_failed(connecting->tried)
               ? FAILED_SHARE
               : share;
}

/* Begins with an address. It is asked at once how that goes: on this machine
 * a connection is made by now, though the first answer does not say so. */
static apr_status_t begin_one(fcgi_connecting *connecting)
{
    apr_status_t rv = create_socket(&connecting->socket, connecting->tried,
                                    connecting->pool);

    if (rv == APR_SUCCESS) {
        rv = ask_socket(connecting->socket, connecting->tried);
    }
    if (APR_STATUS_IS_EINPROGRESS(rv)) {
        rv = ask_socket(connecting->socket, connecting->tried);
    }
    return rv;
}

/* What has come of an address that said rv: it is still under way, or it is
 * over, well or not, and that is remembered. */
static apr_status_t judge_one(fcgi_connecting *connecting, apr_status_t rv)
{
    if (APR_STATUS_IS_EINPROGRESS(rv)) {
        if (fcgi_clock_now() < connecting->wake_at) {
            return rv;
        }
        rv = APR_TIMEUP;
    }
    if (rv == APR_SUCCESS) {
        rv = apr_socket_opt_set(connecting->socket, APR_TCP_NODELAY, 1);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_socket_opt_set(connecting->socket, APR_SO_KEEPALIVE, 1);
    }
    if (rv != APR_SUCCESS) {
        close_socket(&connecting->socket);
    }
    if (connecting->is_one_of_several) {
        fcgi_address_note(connecting->tried, rv == APR_SUCCESS);
    }
    return rv;
}

/* Goes on with the present address, and then with each of those behind it, as
 * far as it gets without waiting. */
static apr_status_t go_on(fcgi_connecting *connecting, fcgi_instant until)
{
    apr_status_t rv = APR_TIMEUP;

    while (connecting->left) {
        if (connecting->socket) {
            rv = ask_socket(connecting->socket, connecting->tried);
        }
        else {
            apr_interval_time_t share = share_time(connecting, until);

            if (share <= 0) {
                break;
            }
            connecting->wake_at = fcgi_clock_now() + share;
            rv = begin_one(connecting);
        }
        rv = judge_one(connecting, rv);
        if (rv == APR_SUCCESS || APR_STATUS_IS_EINPROGRESS(rv)) {
            break;
        }
        connecting->left--;
        connecting->tried = connecting->tried->next;
    }
    return rv;
}

static apr_status_t try_hosts(fcgi_connecting *connecting, fcgi_instant until)
{
    apr_sockaddr_t *address;

    if (!connecting->left) {
        fcgi_instant least = fcgi_clock_now() + TIME_MIN;

        until = until > least ? until : least;
        for (address = connecting->tried;
             address && connecting->left < MAX_ADDRESSES;
             address = address->next) {
            connecting->left++;
        }
        connecting->is_one_of_several = connecting->left > 1;
        if (connecting->is_one_of_several) {
            begin_probe(connecting);
        }
    }
    return go_on(connecting, until);
}

/* ---- the story ---- */

/* None is under way any more. */
static void end(fcgi_connecting *connecting)
{
    end_probe(connecting);
    connecting->left = 0;
    connecting->wake_at = 0;
}

apr_status_t fcgi_connect_step(fcgi_connecting *connecting,
                               const fcgi_address *address, fcgi_instant until,
                               int may_wait, apr_pool_t *scratch,
                               fcgi_result *result)
{
    apr_interval_time_t wait = may_wait ? until - fcgi_clock_now() : 0;
    apr_status_t rv;

    if (!connecting->left) {
        rv = fcgi_address_resolve(address, connecting->pool,
                                  &connecting->tried);
        if (rv != APR_SUCCESS) {
            fail(result, FCGI_PHASE_RESOLVE, rv,
                 "the host name does not resolve");
            return rv;
        }
    }
    rv = !address->path      ? try_hosts(connecting, until)
         : address->admitted ? try_admitted(connecting, address, wait)
                             : try_path(connecting, connecting->tried, wait);
    if (APR_STATUS_IS_EINPROGRESS(rv)) {
        return rv;
    }
    end(connecting);
    if (rv != APR_SUCCESS) {
        fcgi_address_doubt(address);
        fail(result, FCGI_PHASE_CONNECT, rv,
             address->path ? explain_path(scratch, address->path, rv)
                           : explain(rv));
    }
    return rv;
}

void fcgi_connect_give_up(fcgi_connecting *connecting)
{
    end(connecting);
    close_socket(&connecting->socket);
}
