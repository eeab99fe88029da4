/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_backend.c - getting and giving back connections; the contract is in
 * fcgi_backend.h. Start at fcgi_backend_acquire(). Who may have one is
 * fcgi_line.c's word, the kept ones are fcgi_idle.c's, making one is
 * fcgi_conn.c's.
 */
#include "fcgi_backend.h"

#include <apr_atomic.h>
#include <apr_file_info.h>
#include <apr_strings.h>

#include "fcgi_idle.h"

/* Pauses between attempts to connect: the first, doubling up to the last. */
#define PAUSE_FIRST apr_time_from_msec(5)
#define PAUSE_LAST  apr_time_from_msec(200)

/* The attempt at the end of the time has so much of it at least. */
#define LAST_ATTEMPT apr_time_from_msec(10)

/* An application that starts makes its socket first and gives it to us then:
 * so long we may not use it. */
#define NOT_OURS_YET apr_time_from_msec(250)

/* An application that says nothing for so long after a new connection was
 * made may have no free worker. */
#define BUSY apr_time_from_msec(5)

/* A worker may end after a request, as PHP-FPM's do after pm.max_requests,
 * some milliseconds after it said END_REQUEST. On a connection that was idle
 * for so long that would show. */
#define SETTLED apr_time_from_msec(250)

/* How often one that waits in line looks whether its client is there. */
#define LOOK_UP apr_time_from_msec(50)

fcgi_backend *fcgi_backend_create(apr_pool_t *pool,
                                  const fcgi_address *address)
{
    fcgi_backend *backend = apr_pcalloc(pool, sizeof(*backend));

    backend->address = address;
    backend->name = address->name;
    backend->line = apr_pcalloc(pool, sizeof(*backend->line));
    backend->place = apr_pcalloc(pool, sizeof(*backend->place));
    return backend;
}

int fcgi_backend_failed(const fcgi_backend *backend, apr_uint32_t *others)
{
    return fcgi_stats_failed(backend->line->account, others);
}

void fcgi_backend_count(const fcgi_backend *backend, const fcgi_ended *ended)
{
    if (backend->line->account) {
        fcgi_tally_add(&backend->line->account->tally, ended);
    }
}

static void fail(fcgi_result *result, fcgi_outcome outcome, fcgi_phase phase,
                 const char *why)
{
    result->outcome = outcome;
    result->phase = phase;
    result->rv = APR_SUCCESS;
    result->why = why;
}

fcgi_instant fcgi_backend_press_time(const fcgi_conn *conn)
{
    return !conn->reused && !conn->pressing ? conn->used_at + BUSY : 0;
}

void fcgi_backend_press(fcgi_conn *conn)
{
    if (!conn->pressing) {
        conn->pressing = 1;
        fcgi_line_press(conn->line);
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
static apr_uint64_t socket_of(const fcgi_backend *backend, apr_pool_t *pool)
{
    fcgi_place *place = backend->place;
    apr_uint32_t second = (apr_uint32_t)apr_time_sec(fcgi_clock_now()) + 1;
    apr_uint32_t looked = apr_atomic_read32(&place->looked);

    return looked != second
                   && apr_atomic_cas32(&place->looked, second, looked)
                          == looked
               ? look_at(backend, pool)
               : apr_atomic_read64(&place->socket);
}

/* True if a connection is to carry no other request: a release of the
 * application may have taken the place of the one that it leads to. */
static int is_outdated(const fcgi_backend *backend, const fcgi_conn *conn)
{
    return (tells_sockets(backend)
            && conn->leads_to != socket_of(backend, conn->pool))
           || (backend->lifetime
               && fcgi_clock_now() - conn->made_at >= backend->lifetime);
}

/* ---- in line ---- */

/* True if a connection that was used just now is not for that request. */
static int wants_new(const fcgi_patience *patience)
{
    return patience->fresh || patience->unrepeatable;
}

/* A permit was granted. A connection that was handed on replaces the new one,
 * or leaves its permit to it. */
static fcgi_conn *use_grant(fcgi_conn *conn, fcgi_conn *handed, int is_new)
{
    if (handed && (is_new || !fcgi_idle_is_quiet(handed))) {
        fcgi_conn_close(handed, FCGI_CONN_IN_USE);
        handed = NULL;
    }
    if (handed) {
        fcgi_backend_unpress(conn);
        fcgi_conn_close(conn, FCGI_CONN_NEW);
        conn = handed;
    }
    conn->has_permit = 1;
    return conn;
}

/* Nobody is there any more for whom the permit that was granted is good. */
static void return_grant(fcgi_line *line, fcgi_conn *handed)
{
    if (handed) {
        fcgi_conn_close(handed, FCGI_CONN_IN_USE);
    }
    fcgi_line_free(line);
}

/* Why waiting in line is over; PENDING: it is not. */
static fcgi_outcome look_up(const fcgi_backend *backend, fcgi_instant since,
                            const fcgi_patience *patience)
{
    if (patience->pause(patience->baton, 0) != APR_SUCCESS) {
        return FCGI_OUTCOME_CLIENT_GONE;
    }
    return !patience->once && fcgi_clock_now() - since < backend->queue_timeout
               ? FCGI_OUTCOME_PENDING
               : FCGI_OUTCOME_NO_PLACE;
}

/* Waits in a slot of the line; NULL with *result set if it does not get on. */
static fcgi_conn *wait_in_line(const fcgi_backend *backend, fcgi_conn *conn,
                               apr_uint32_t slot,
                               const fcgi_patience *patience,
                               fcgi_result *result)
{
    fcgi_outcome outcome = FCGI_OUTCOME_PENDING;
    fcgi_line_state state = FCGI_LINE_WAITING;
    fcgi_instant since = fcgi_clock_now();
    void *handed = NULL;

    while (state == FCGI_LINE_WAITING && outcome == FCGI_OUTCOME_PENDING) {
        state = fcgi_line_wait(backend->line, slot, LOOK_UP, &handed);
        outcome = look_up(backend, since, patience);
    }
    if (state == FCGI_LINE_WAITING) {
        state = fcgi_line_leave(backend->line, slot, &handed);
    }
    if (state == FCGI_LINE_PERMIT) {
        if (outcome != FCGI_OUTCOME_CLIENT_GONE) {
            return use_grant(conn, handed, wants_new(patience));
        }
        return_grant(backend->line, handed);
    }
    fail(result, outcome, FCGI_PHASE_QUEUE,
         outcome == FCGI_OUTCOME_NO_PLACE
             ? "its turn did not come within queue-timeout"
             : "the client closed its connection");
    return NULL;
}

/* Gets conn a permit, or another connection that has one. NULL with *result
 * set: none. */
static fcgi_conn *get_permit(const fcgi_backend *backend, fcgi_conn *conn,
                             const fcgi_patience *patience,
                             fcgi_result *result)
{
    apr_uint32_t slot;

    switch (fcgi_line_enter(backend->line, &slot)) {
    case FCGI_LINE_PERMIT:
        conn->has_permit = 1;
        return conn;
    case FCGI_LINE_WAITING:
        fcgi_backend_press(conn);
        return wait_in_line(backend, conn, slot, patience, result);
    case FCGI_LINE_FULL:
        break;
    }
    fail(result, FCGI_OUTCOME_NO_PLACE, FCGI_PHASE_QUEUE,
         "max connections are in use and the line is full");
    return NULL;
}

/* ---- connecting ---- */

/* True if the application may be there in a moment. */
static int may_come(const fcgi_result *result, apr_interval_time_t tried)
{
    apr_status_t rv = result->rv;

    if (APR_STATUS_IS_EACCES(rv)) {
        return tried < NOT_OURS_YET;
    }
    return result->phase == FCGI_PHASE_RESOLVE || APR_STATUS_IS_ENOENT(rv)
           || APR_STATUS_IS_ECONNREFUSED(rv) || APR_STATUS_IS_ECONNRESET(rv)
           || APR_STATUS_IS_ECONNABORTED(rv) || APR_STATUS_IS_EAGAIN(rv)
           || APR_STATUS_IS_TIMEUP(rv) || APR_STATUS_IS_ETIMEDOUT(rv)
           || APR_STATUS_IS_EHOSTUNREACH(rv) || APR_STATUS_IS_ENETUNREACH(rv);
}

/* Says how often and how long it was tried in vain. */
static void say_tried(fcgi_result *result, apr_pool_t *pool, int attempts,
                      const fcgi_patience *patience)
{
    result->why = apr_psprintf(
        pool, "%s (%d attempt%s, FcgiConnectTimeout %" APR_TIME_T_FMT " ms)",
        result->why, attempts, attempts == 1 ? "" : "s",
        apr_time_as_msec(patience->connect));
}

/* How long attempts to connect may take in all, from now on. */
static apr_interval_time_t connect_time(const fcgi_patience *patience)
{
    apr_interval_time_t left = patience->until - fcgi_clock_now();
    apr_interval_time_t time =
        patience->once ? LAST_ATTEMPT : patience->connect;

    if (patience->until && left < time) {
        time = left;
    }
    return time > LAST_ATTEMPT ? time : LAST_ATTEMPT;
}

/* Pauses before the next attempt. False with *result set: there is no sense
 * in one. */
static int may_try_again(const fcgi_patience *patience,
                         apr_interval_time_t tried, apr_interval_time_t left,
                         apr_interval_time_t pause, fcgi_result *result)
{
    if (left <= LAST_ATTEMPT || !may_come(result, tried)) {
        return 0;
    }
    if (patience->pause(patience->baton,
                        pause < left ? pause : left - LAST_ATTEMPT)
        != APR_SUCCESS) {
        fail(result, FCGI_OUTCOME_CLIENT_GONE, FCGI_PHASE_CONNECT,
             "the client closed its connection");
        return 0;
    }
    return 1;
}

/* One attempt to connect. */
static apr_status_t try_to_connect(const fcgi_backend *backend,
                                   fcgi_conn *conn,
                                   apr_interval_time_t timeout,
                                   apr_pool_t *pool, fcgi_result *result)
{
    fcgi_account *account = backend->line->account;
    apr_status_t rv;

    if (tells_sockets(backend)) {
        /* before connecting: it may be taken for an old one, never an old one
         * for new */
        conn->leads_to = look_at(backend, pool);
    }
    rv = fcgi_conn_open(conn, backend->address, timeout, pool, result);
    conn->made_at = fcgi_clock_now();
    if (account
        && (rv == APR_SUCCESS || APR_STATUS_IS_ENOENT(rv)
            || APR_STATUS_IS_ECONNREFUSED(rv))) {
        fcgi_tally_found(&account->tally, rv == APR_SUCCESS);
    }
    return rv;
}

/* Connects, trying again until patience is over; false with *result set. */
static int connect_conn(const fcgi_backend *backend, fcgi_conn *conn,
                        apr_pool_t *pool, const fcgi_patience *patience,
                        fcgi_result *result)
{
    apr_interval_time_t limit = connect_time(patience);
    apr_interval_time_t pause = PAUSE_FIRST, tried = 0;
    fcgi_instant since = fcgi_clock_now();
    int attempts = 0;

    while (try_to_connect(backend, conn, limit - tried, pool, result)
           != APR_SUCCESS) {
        attempts++;
        tried = fcgi_clock_now() - since;
        if (!may_try_again(patience, tried, limit - tried, pause, result)) {
            say_tried(result, pool, attempts, patience);
            return 0;
        }
        pause = pause * 2 < PAUSE_LAST ? pause * 2 : PAUSE_LAST;
        tried = fcgi_clock_now() - since;
        if (tried > limit - LAST_ATTEMPT) {
            tried = limit - LAST_ATTEMPT;
        }
    }
    result->outcome = FCGI_OUTCOME_PENDING;
    return 1;
}

/* ---- the story ---- */

/* Nothing came of it. */
static void give_up(fcgi_conn *conn)
{
    fcgi_line *line = conn->line;
    int had_permit = conn->has_permit;

    fcgi_backend_unpress(conn);
    fcgi_conn_close(conn, FCGI_CONN_NEW);
    if (had_permit) {
        fcgi_line_free(line);
    }
}

/* Connects a connection that has its permit; 0 with *result set. */
static int connect_pressing(const fcgi_backend *backend, fcgi_conn *conn,
                            apr_pool_t *pool, fcgi_patience *patience,
                            fcgi_result *result)
{
    fcgi_instant since = fcgi_clock_now();
    int waited = conn->pressing, connected;

    fcgi_backend_press(conn);
    connected = connect_conn(backend, conn, pool, patience, result);
    if (connected && !waited) {
        fcgi_backend_unpress(conn); /* a worker may be at it already */
    }
    patience->waits.connect += fcgi_clock_now() - since;
    return connected;
}

/* One that was kept, idle for age at least, or NULL. */
static fcgi_conn *take_kept(const fcgi_backend *backend,
                            const fcgi_patience *patience,
                            apr_interval_time_t age)
{
    return backend->line->limits.keepalive && !patience->fresh
               ? fcgi_idle_take(backend->line, age)
               : NULL;
}

/*
 * A connection with its permit: handed on, or new, with the permit of the kept
 * one that it replaces, if that is not NULL. A request for which the kept ones
 * were used too recently replaces one, whose worker is free by that. NULL with
 * *result set.
 */
static fcgi_conn *make_conn(const fcgi_backend *backend, apr_pool_t *pool,
                            fcgi_patience *patience, fcgi_conn *replaced,
                            fcgi_result *result)
{
    int keepable = backend->line->limits.keepalive > 0 && fcgi_idle_is_on();
    fcgi_conn *made = fcgi_conn_create(pool, backend->line, keepable);
    fcgi_instant since = fcgi_clock_now();
    fcgi_conn *conn;

    if (!replaced && patience->unrepeatable) {
        replaced = take_kept(backend, patience, 0);
    }
    if (!made) {
        if (replaced) {
            return_grant(backend->line, replaced);
        }
        fail(result, FCGI_OUTCOME_NO_PLACE, FCGI_PHASE_QUEUE, "out of memory");
        return NULL;
    }
    conn = replaced ? use_grant(made, replaced, 1)
                    : get_permit(backend, made, patience, result);
    patience->waits.queue += fcgi_clock_now() - since;
    if (!conn) {
        give_up(made);
    }
    else if (conn == made
             && !connect_pressing(backend, conn, pool, patience, result)) {
        give_up(conn);
        conn = NULL;
    }
    return conn;
}

fcgi_conn *fcgi_backend_acquire(const fcgi_backend *backend, apr_pool_t *pool,
                                fcgi_patience *patience, fcgi_result *result)
{
    fcgi_conn *kept =
        take_kept(backend, patience, patience->unrepeatable ? SETTLED : 0);
    fcgi_conn *conn = kept;

    if (!kept || is_outdated(backend, kept)) {
        conn = make_conn(backend, pool, patience, kept, result);
    }
    if (conn) {
        conn->used_at = fcgi_clock_now();
        conn->reused = conn->requests > 0;
        conn->requests++;
        conn->request_id = (uint16_t)((conn->requests - 1) % 0xffff + 1);
        conn->keep_asked =
            conn->owns_pool && fcgi_idle_is_on()
            && (!backend->requests || conn->requests < backend->requests);
    }
    return conn;
}

/* When a connection that is kept from now on is to be closed. */
static fcgi_instant expiry(const fcgi_backend *backend, const fcgi_conn *conn)
{
    fcgi_instant expires = fcgi_clock_now() + backend->idle_time;
    fcgi_instant end = conn->made_at + backend->lifetime;

    return backend->lifetime && end < expires ? end : expires;
}

const char *fcgi_backend_release(const fcgi_backend *backend, fcgi_conn *conn,
                                 int quiet)
{
    fcgi_line *line = backend->line;

    fcgi_backend_unpress(conn);
    quiet = quiet && conn->keep_asked && fcgi_idle_is_on()
            && !is_outdated(backend, conn);
    if (quiet && fcgi_line_hand_on(line, conn)) {
        return "handed on";
    }
    if (quiet && fcgi_line_keep(line)) {
        fcgi_idle_put(conn, expiry(backend, conn));
        return "kept";
    }
    fcgi_conn_close(conn, FCGI_CONN_IN_USE);
    fcgi_line_free(line);
    return "closed";
}
