/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_backend.c - the contract is in fcgi_backend.h. Which of the idle
 * connections is kept, and for how long, is fcgi_idle.c's.
 */
#include "fcgi_backend.h"

#include <apr_atomic.h>
#include <apr_file_info.h>
#include <apr_strings.h>

#include "fcgi_backlog.h"
#include "fcgi_idle.h"

/* An application that says nothing for so long after a new connection was
 * made may have no free worker. */
#define BUSY apr_time_from_msec(5)

fcgi_backend *fcgi_backend_create(apr_pool_t *pool,
                                  const fcgi_address *address)
{
    fcgi_backend *backend = apr_pcalloc(pool, sizeof(*backend));

    backend->address = address;
    backend->name = address->name;
    backend->line = apr_pcalloc(pool, sizeof(*backend->line));
    backend->place = apr_pcalloc(pool, sizeof(*backend->place));
    backend->backlog = apr_pcalloc(pool, sizeof(*backend->backlog));
    fcgi_backlog_init(backend->backlog);
    return backend;
}

int fcgi_backend_failed(const fcgi_backend *backend, apr_uint32_t *others)
{
    return fcgi_stats_failed(backend->line->account, others);
}

/* An answer finds the application there, as a connection does. */
void fcgi_backend_count(const fcgi_backend *backend, const fcgi_ended *ended)
{
    fcgi_account *account = backend->line->account;

    if (!account) {
        return;
    }
    fcgi_tally_add(fcgi_stats_my_tally(account), ended);
    if (ended->outcome == FCGI_OUTCOME_DONE) {
        fcgi_attendance_note(&account->attendance, 1);
    }
}

void fcgi_backend_count_parked(const fcgi_backend *backend, int is_parked)
{
    if (backend->line->account) {
        apr_uint32_t *count =
            &fcgi_stats_my_share(backend->line->account)->parked;

        if (is_parked) {
            apr_atomic_inc32(count);
        }
        else {
            apr_atomic_dec32(count);
        }
    }
}

void fcgi_backend_press(fcgi_conn *conn)
{
    if (!conn->pressing) {
        conn->pressing = 1;
        fcgi_line_press(conn->line);
    }
}

void fcgi_backend_press_in_time(fcgi_conn *conn, fcgi_instant now,
                                fcgi_wait *wait)
{
    fcgi_instant when = conn->used_at + BUSY;

    if (conn->reused || conn->pressing) {
        return;
    }
    if (now < when) {
        fcgi_wait_until(wait, when);
    }
    else {
        fcgi_backend_press(conn);
    }
}

void fcgi_backend_unpress(fcgi_conn *conn)
{
    if (conn->pressing) {
        conn->pressing = 0;
        fcgi_line_unpress(conn->line);
    }
}

int fcgi_backend_is_pressed(const fcgi_backend *backend)
{
    return fcgi_line_is_pressed(backend->line);
}

/* ---- what is too old ---- */

static apr_uint64_t mix(apr_uint64_t sum, apr_uint64_t value)
{
    return (sum ^ value) * APR_UINT64_C(0x100000001b3);
}

/* Looks to which socket the path leads, as a number: from the file's, which is
 * given again when a socket is gone, and when it was made. Nothing there is
 * nothing new. */
static apr_uint64_t look_at(const fcgi_backend *backend, apr_pool_t *pool)
{
    fcgi_place *place = backend->place;
    apr_uint64_t number = APR_UINT64_C(0xcbf29ce484222325);
    apr_finfo_t info;

    if (apr_stat(&info, backend->address->path,
                 APR_FINFO_IDENT | APR_FINFO_MTIME, pool)
        != APR_SUCCESS) {
        return apr_atomic_read64(&place->socket);
    }
    number = mix(number, (apr_uint64_t)info.device);
    number = mix(number, (apr_uint64_t)info.inode);
    number = mix(number, (apr_uint64_t)info.mtime);
    apr_atomic_set64(&place->socket, number);
    return number;
}

/* True if it matters which socket a connection leads to. */
static int tells_sockets(const fcgi_backend *backend)
{
    return backend->address->path && backend->line->limits.keepalive;
}

/* Where the path leads now, at which one thread looks once a second. */
static apr_uint64_t socket_of(const fcgi_backend *backend, apr_pool_t *pool,
                              fcgi_instant now)
{
    fcgi_place *place = backend->place;
    apr_uint32_t second = (apr_uint32_t)apr_time_sec(now) + 1;
    apr_uint32_t looked = apr_atomic_read32(&place->looked);

    return looked != second
                   && apr_atomic_cas32(&place->looked, second, looked)
                          == looked
               ? look_at(backend, pool)
               : apr_atomic_read64(&place->socket);
}

void fcgi_backend_look(const fcgi_backend *backend, fcgi_conn *conn)
{
    if (tells_sockets(backend)) {
        conn->leads_to = look_at(backend, conn->pool);
    }
}

int fcgi_backend_is_outdated(const fcgi_backend *backend,
                             const fcgi_conn *conn, fcgi_instant now)
{
    return (tells_sockets(backend)
            && conn->leads_to != socket_of(backend, conn->pool, now))
           || (backend->lifetime && now - conn->made_at >= backend->lifetime);
}

void fcgi_backend_found(const fcgi_backend *backend, fcgi_conn *conn,
                        apr_status_t rv)
{
    fcgi_account *account = backend->line->account;

    conn->made_at = fcgi_clock_now();
    if (account
        && (rv == APR_SUCCESS || APR_STATUS_IS_ENOENT(rv)
            || APR_STATUS_IS_ECONNREFUSED(rv))) {
        fcgi_attendance_note(&account->attendance, rv == APR_SUCCESS);
    }
}

/* ---- giving back ---- */

/* When a connection that is kept from now on is to be closed. */
static fcgi_instant expiry(const fcgi_backend *backend, const fcgi_conn *conn,
                           fcgi_instant now)
{
    fcgi_instant expires = now + backend->idle_time;
    fcgi_instant end = conn->made_at + backend->lifetime;

    return backend->lifetime && end < expires ? end : expires;
}

const char *fcgi_backend_release(const fcgi_backend *backend, fcgi_conn *conn,
                                 int quiet)
{
    fcgi_line *line = backend->line;
    fcgi_instant now = fcgi_clock_now();

    fcgi_backend_unpress(conn);
    quiet = quiet && conn->keep_asked && fcgi_idle_is_on()
            && !fcgi_backend_is_outdated(backend, conn, now);
    if (quiet && fcgi_line_hand_on(line, conn)) {
        return "handed on";
    }
    if (quiet && fcgi_line_keep(line)) {
        fcgi_idle_put(conn, now, expiry(backend, conn, now));
        return "kept";
    }
    fcgi_conn_close(conn, FCGI_CONN_IN_USE);
    fcgi_line_free(line);
    return "closed";
}
