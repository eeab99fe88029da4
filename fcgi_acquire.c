/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_acquire.c - getting a connection, step by step; the contract is in
 * fcgi_acquire.h. Start at fcgi_acquire_step(). Who may have one is
 * fcgi_line.c's word, the kept ones are fcgi_idle.c's, making one is
 * fcgi_connect.c's.
 */
#include "fcgi_acquire.h"

#include <string.h>

#include <apr_atomic.h>
#include <apr_strings.h>

#include "fcgi_idle.h"

/* Pauses between attempts to connect: the first, doubling up to the last. */
#define PAUSE_FIRST apr_time_from_msec(5)
#define PAUSE_LAST  apr_time_from_msec(200)

/* And while a backlog is full, of the one of this child that tries. */
#define PAUSE_BACKLOG apr_time_from_msec(5)

/* The attempt at the end of the time has so much of it at least. */
#define LAST_ATTEMPT apr_time_from_msec(10)

/* An application that starts makes its socket first and gives it to us then:
 * so long we may not use it. */
#define NOT_OURS_YET apr_time_from_msec(250)

/* A worker may end after a request, as PHP-FPM's do after pm.max_requests,
 * some milliseconds after it said END_REQUEST. On a connection that was idle
 * for so long that would show. */
#define SETTLED apr_time_from_msec(250)

/* An attempt takes no longer where another application can be asked: TCP says
 * once more, after a second, that it wants a connection. */
#define OTHERS_WAIT apr_time_from_msec(1500)

/* In line, where it was waited for in vain before: idle connections are given
 * up by then. */
#define MOMENT apr_time_from_msec(50)

/* Threads that are held in line, where not all may be; atomic. */
static apr_uint32_t holders;

static void fail(fcgi_acquire *acquire, fcgi_outcome outcome, fcgi_phase phase,
                 const char *why)
{
    acquire->result.outcome = outcome;
    acquire->result.phase = phase;
    acquire->result.rv = APR_SUCCESS;
    acquire->result.why = why;
}

/* Goes to the next state; the time spent in the last one is accounted for. In
 * the first none is. */
static void move(fcgi_acquire *acquire, fcgi_acquire_state to)
{
    fcgi_instant now = acquire->state == FCGI_ACQUIRE_BEGIN ? acquire->since
                                                            : fcgi_clock_now();

    if (acquire->state == FCGI_ACQUIRE_IN_LINE) {
        acquire->waits.queue += now - acquire->since;
        if (acquire->threads) {
            apr_atomic_dec32(&holders);
        }
    }
    else if (acquire->state == FCGI_ACQUIRE_CONNECTING) {
        acquire->waits.connect += now - acquire->since;
    }
    acquire->state = to;
    acquire->since = now;
}

/* ---- the end ---- */

/* Nobody is there any more for whom the permit that was granted is good. */
static void return_grant(fcgi_line *line, fcgi_conn *handed)
{
    if (handed) {
        fcgi_conn_close(handed, FCGI_CONN_IN_USE);
    }
    fcgi_line_free(line);
}

/* Nothing came of the connection that was made. */
static void drop_conn(fcgi_acquire *acquire)
{
    fcgi_conn *conn = acquire->conn;

    if (conn) {
        int had_permit = conn->has_permit;

        fcgi_backend_unpress(conn);
        fcgi_conn_close(conn, FCGI_CONN_NEW);
        if (had_permit) {
            fcgi_line_free(acquire->backend->line);
        }
    }
    acquire->conn = NULL;
}

static void give_up(fcgi_acquire *acquire)
{
    fcgi_backlog_leave(acquire->backend->backlog, &acquire->backlogged);
    drop_conn(acquire);
    move(acquire, FCGI_ACQUIRE_ENDED);
}

/* It has its connection. */
static void get(fcgi_acquire *acquire)
{
    const fcgi_backend *backend = acquire->backend;
    fcgi_conn *conn = acquire->conn;

    move(acquire, FCGI_ACQUIRE_ENDED);
    acquire->result.outcome = FCGI_OUTCOME_DONE;
    conn->used_at = acquire->since;
    conn->reused = conn->requests > 0;
    conn->requests++;
    conn->request_id = (uint16_t)((conn->requests - 1) % 0xffff + 1);
    conn->keep_asked =
        conn->owns_pool && fcgi_idle_is_on()
        && (!backend->requests || conn->requests < backend->requests);
}

/* ---- connecting ---- */

/* How long attempts to connect may take in all, from now on. */
static apr_interval_time_t connect_time(const fcgi_acquire *acquire)
{
    apr_interval_time_t left = acquire->until - fcgi_clock_now();
    apr_interval_time_t time = acquire->once ? LAST_ATTEMPT : acquire->connect;

    if (acquire->has_others && time > OTHERS_WAIT) {
        time = OTHERS_WAIT;
    }
    if (acquire->until && left < time) {
        time = left;
    }
    return time > LAST_ATTEMPT ? time : LAST_ATTEMPT;
}

/* Room in the backlog goes to those of this child first that came first. */
static void wait_in_backlog(fcgi_acquire *acquire)
{
    if (!acquire->backlogged.bell) {
        fcgi_backlog_enter(acquire->backend->backlog, &acquire->backlogged,
                           fcgi_acquire_bell(acquire));
    }
}

/* It has a permit for its own connection. */
static void begin_connecting(fcgi_acquire *acquire)
{
    fcgi_conn *conn = acquire->conn;

    move(acquire, FCGI_ACQUIRE_CONNECTING);
    acquire->was_pressing = conn->pressing;
    acquire->attempts = 0;
    acquire->under_way = 0;
    acquire->tries_at = 0;
    acquire->denied_at = 0;
    acquire->limit = connect_time(acquire);
    acquire->pause = PAUSE_FIRST;
    conn->used_at = acquire->since;
    if (!acquire->may_wait
        && !fcgi_backlog_is_empty(acquire->backend->backlog)) {
        fcgi_backend_press(conn);
        wait_in_backlog(acquire); /* behind those that wait already */
    }
}

/* No descriptor is left for a socket. Requests that wait have them, and give
 * them back. */
static int is_short(apr_status_t rv)
{
    return APR_STATUS_IS_EMFILE(rv) || APR_STATUS_IS_ENFILE(rv);
}

/* True if the application, or a descriptor, may be there in a moment. */
static int may_come(fcgi_acquire *acquire)
{
    const fcgi_result *result = &acquire->result;
    apr_status_t rv = result->rv;

    if (APR_STATUS_IS_EACCES(rv)) {
        fcgi_instant now = fcgi_clock_now();

        acquire->denied_at = acquire->denied_at ? acquire->denied_at : now;
        return now - acquire->denied_at < NOT_OURS_YET;
    }
    acquire->denied_at = 0;
    return result->phase == FCGI_PHASE_RESOLVE || is_short(rv)
           || APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_ECONNREFUSED(rv)
           || APR_STATUS_IS_ECONNRESET(rv) || APR_STATUS_IS_ECONNABORTED(rv)
           || APR_STATUS_IS_EAGAIN(rv) || APR_STATUS_IS_TIMEUP(rv)
           || APR_STATUS_IS_ETIMEDOUT(rv) || APR_STATUS_IS_EHOSTUNREACH(rv)
           || APR_STATUS_IS_ENETUNREACH(rv);
}

/* Says how often and how long it was tried in vain. */
static void say_tried(fcgi_acquire *acquire)
{
    acquire->result.why = apr_psprintf(
        acquire->pool,
        "%s (%d attempt%s, FcgiConnectTimeout %" APR_TIME_T_FMT " ms)",
        acquire->result.why, acquire->attempts,
        acquire->attempts == 1 ? "" : "s", apr_time_as_msec(acquire->connect));
}

/* The time that is kept for the last attempt: none where attempts take
 * none. */
static apr_interval_time_t last_attempt(const fcgi_acquire *acquire)
{
    return acquire->backend->address->path && !acquire->may_wait
               ? 0
               : LAST_ATTEMPT;
}

/* Sets the time of the next attempt, or gives up if there is no sense in
 * one. */
static void pause_or_give_up(fcgi_acquire *acquire)
{
    apr_interval_time_t tried = fcgi_clock_now() - acquire->since;
    apr_interval_time_t left = acquire->limit - tried - last_attempt(acquire);
    apr_interval_time_t pause = acquire->pause;

    acquire->attempts++;
    if (left <= 0 || !may_come(acquire)
        || (acquire->has_others && !is_short(acquire->result.rv))) {
        say_tried(acquire);
        give_up(acquire);
        return;
    }
    fcgi_backend_press(acquire->conn);
    if (APR_STATUS_IS_EAGAIN(acquire->result.rv)) {
        wait_in_backlog(acquire);
        pause = PAUSE_BACKLOG;
    }
    else {
        fcgi_backlog_leave(acquire->backend->backlog, &acquire->backlogged);
        acquire->pause = pause * 2 < PAUSE_LAST ? pause * 2 : PAUSE_LAST;
    }
    acquire->tries_at = acquire->since + tried + (pause < left ? pause : left);
}

/* When the attempt that is made, or begins now, has to end. */
static fcgi_instant attempt_until(const fcgi_acquire *acquire)
{
    fcgi_instant end = acquire->since + acquire->limit;
    fcgi_instant least =
        (acquire->tries_at ? acquire->tries_at : acquire->since)
        + LAST_ATTEMPT;

    return end > least ? end : least;
}

/* True if an attempt is not due: it waits, and wait says for what. */
static int is_early(fcgi_acquire *acquire)
{
    fcgi_instant end = acquire->since + acquire->limit - last_attempt(acquire);

    if (acquire->under_way) {
        return 0;
    }
    if (acquire->backlogged.bell
        && !fcgi_backlog_is_first(acquire->backend->backlog,
                                  &acquire->backlogged)
        && fcgi_clock_now() < end) {
        acquire->wait.wants = FCGI_WANTS_BELL;
        fcgi_wait_until(&acquire->wait, end);
        return 1;
    }
    if (acquire->tries_at && fcgi_clock_now() < acquire->tries_at) {
        fcgi_wait_until(&acquire->wait, acquire->tries_at);
        return 1;
    }
    return 0;
}

static apr_status_t open_conn(fcgi_acquire *acquire, int may_wait)
{
    return fcgi_conn_open(acquire->conn, acquire->backend->address,
                          attempt_until(acquire), may_wait, acquire->pool,
                          &acquire->result);
}

/* One attempt to connect, or a look at the one that is under way. Most backlogs
 * have room: so it comes without waiting first, which needs fewer system calls,
 * and no sooner than who may wait would. Who is let in at once presses nobody:
 * under load there is always one that connects, and no connection would be
 * kept. */
static apr_status_t try_to_connect(fcgi_acquire *acquire)
{
    const fcgi_backend *backend = acquire->backend;
    apr_status_t rv;

    if (!acquire->under_way) {
        fcgi_backend_look(backend, acquire->conn);
    }
    rv = open_conn(acquire, 0);
    if (APR_STATUS_IS_EAGAIN(rv) && acquire->may_wait
        && backend->address->path) {
        fcgi_backend_press(acquire->conn);
        rv = open_conn(acquire, 1);
    }
    acquire->under_way = APR_STATUS_IS_EINPROGRESS(rv);
    if (!acquire->under_way) {
        fcgi_backend_found(backend, acquire->conn, rv);
    }
    return rv;
}

static void step_connecting(fcgi_acquire *acquire)
{
    apr_status_t rv;

    if (is_early(acquire)) {
        return;
    }
    rv = try_to_connect(acquire);
    if (rv == APR_SUCCESS) {
        if (!acquire->was_pressing) {
            fcgi_backend_unpress(acquire->conn); /* a worker may be at it */
        }
        fcgi_backlog_leave(acquire->backend->backlog, &acquire->backlogged);
        get(acquire);
    }
    else if (APR_STATUS_IS_EINPROGRESS(rv)) {
        acquire->wait.wants = FCGI_WANTS_WRITE;
        fcgi_wait_until(&acquire->wait, acquire->conn->wake_at);
        fcgi_backend_press_in_time(acquire->conn, fcgi_clock_now(),
                                   &acquire->wait);
    }
    else {
        pause_or_give_up(acquire);
        if (acquire->state == FCGI_ACQUIRE_CONNECTING && !is_early(acquire)) {
            /* the pause was over before it was looked at */
            fcgi_wait_until(&acquire->wait, acquire->tries_at);
        }
    }
}

/* ---- in line ---- */

/* True if a connection that was used just now is not for that request. */
static int wants_new(const fcgi_acquire *acquire)
{
    return acquire->fresh || acquire->unrepeatable;
}

/* A permit was granted. A connection that was handed on replaces the new one,
 * or leaves its permit to it. */
static void use_grant(fcgi_acquire *acquire, fcgi_conn *handed, int is_new)
{
    if (handed && (is_new || !fcgi_idle_is_quiet(handed))) {
        fcgi_conn_close(handed, FCGI_CONN_IN_USE);
        handed = NULL;
    }
    if (handed) {
        drop_conn(acquire);
        acquire->conn = handed;
        handed->has_permit = 1;
        get(acquire);
    }
    else {
        acquire->conn->has_permit = 1;
        begin_connecting(acquire);
    }
}

/* Why waiting in line is over; NULL: it is not yet. */
static const char *line_is_over(fcgi_acquire *acquire)
{
    apr_interval_time_t limit =
        acquire->once && MOMENT < acquire->backend->queue_timeout
            ? MOMENT
            : acquire->backend->queue_timeout;
    fcgi_instant end = acquire->since + limit;

    if (fcgi_clock_now() >= end) {
        return "its turn did not come within queue-timeout";
    }
    acquire->wait.wants = FCGI_WANTS_BELL;
    fcgi_wait_until(&acquire->wait, end);
    return NULL;
}

static void step_in_line(fcgi_acquire *acquire)
{
    fcgi_line *line = acquire->backend->line;
    void *handed = NULL;
    fcgi_line_state state = fcgi_line_look(line, &acquire->waiting, &handed);
    const char *why = NULL;

    if (state == FCGI_LINE_WAITING) {
        why = line_is_over(acquire);
        if (why) {
            state = fcgi_line_leave(line, &acquire->waiting, &handed);
        }
    }
    if (state == FCGI_LINE_PERMIT) {
        use_grant(acquire, handed, wants_new(acquire));
    }
    else if (why) {
        fail(acquire, FCGI_OUTCOME_NO_PLACE, FCGI_PHASE_QUEUE, why);
        give_up(acquire);
    }
}

/* It stands in line, if that does not hold one thread too many: those in front
 * of it may need one to go on, and httpd takes new connections while it has
 * another. */
static void stand_in_line(fcgi_acquire *acquire)
{
    fcgi_backend_press(acquire->conn);
    move(acquire, FCGI_ACQUIRE_IN_LINE);
    if (acquire->threads
        && apr_atomic_inc32(&holders) + 2 >= acquire->threads) {
        fail(acquire, FCGI_OUTCOME_NO_PLACE, FCGI_PHASE_QUEUE,
             "all threads but two wait in line");
        fcgi_acquire_cancel(acquire);
    }
}

/* Gets a permit, or a place in the line. */
static void enter_line(fcgi_acquire *acquire)
{
    switch (fcgi_line_enter(acquire->backend->line, &acquire->waiting)) {
    case FCGI_LINE_PERMIT:
        use_grant(acquire, NULL, 1);
        break;
    case FCGI_LINE_WAITING:
        stand_in_line(acquire);
        break;
    case FCGI_LINE_FULL:
        fail(acquire, FCGI_OUTCOME_NO_PLACE, FCGI_PHASE_QUEUE,
             "max connections are in use and the line is full");
        give_up(acquire);
    }
}

/* ---- the story ---- */

/* One that was kept, idle for age at least, or NULL. */
static fcgi_conn *take_kept(const fcgi_acquire *acquire,
                            apr_interval_time_t age)
{
    const fcgi_backend *backend = acquire->backend;

    return backend->line->limits.keepalive && !acquire->fresh
               ? fcgi_idle_take(backend->line, age)
               : NULL;
}

/*
 * Makes a connection, with the permit of the kept one that it replaces, if
 * that is not NULL. A request for which the kept ones were used too recently
 * replaces one, whose worker is free by that.
 */
static void make_conn(fcgi_acquire *acquire, fcgi_conn *replaced)
{
    fcgi_line *line = acquire->backend->line;
    int keepable = line->limits.keepalive > 0 && fcgi_idle_is_on();

    acquire->conn = fcgi_conn_create(acquire->pool, line, keepable);
    if (!replaced && acquire->unrepeatable) {
        replaced = take_kept(acquire, 0);
    }
    if (!acquire->conn) {
        if (replaced) {
            return_grant(line, replaced);
        }
        fail(acquire, FCGI_OUTCOME_NO_PLACE, FCGI_PHASE_QUEUE,
             "out of memory");
        give_up(acquire);
    }
    else if (replaced) {
        use_grant(acquire, replaced, 1);
    }
    else {
        enter_line(acquire);
    }
}

void fcgi_acquire_init(fcgi_acquire *acquire, const fcgi_backend *backend,
                       apr_pool_t *pool)
{
    memset(acquire, 0, sizeof(*acquire));
    acquire->backend = backend;
    acquire->pool = pool;
    acquire->state = FCGI_ACQUIRE_ENDED;
    fcgi_bell_init(&acquire->waiting.bell);
}

void fcgi_acquire_begin(fcgi_acquire *acquire)
{
    memset(&acquire->result, 0, sizeof(acquire->result));
    acquire->conn = NULL;
    acquire->state = FCGI_ACQUIRE_BEGIN;
    acquire->since = fcgi_clock_now();
}

static void step_begin(fcgi_acquire *acquire)
{
    fcgi_conn *kept = take_kept(acquire, acquire->unrepeatable ? SETTLED : 0);

    if (kept
        && !fcgi_backend_is_outdated(acquire->backend, kept, acquire->since)) {
        acquire->conn = kept;
        get(acquire);
    }
    else {
        make_conn(acquire, kept);
    }
}

fcgi_outcome fcgi_acquire_step(fcgi_acquire *acquire)
{
    fcgi_acquire_state before;

    acquire->wait.wants = 0;
    acquire->wait.wake_at = 0;
    do {
        before = acquire->state;
        switch (before) {
        case FCGI_ACQUIRE_BEGIN:
            step_begin(acquire);
            break;
        case FCGI_ACQUIRE_IN_LINE:
            step_in_line(acquire);
            break;
        case FCGI_ACQUIRE_CONNECTING:
            step_connecting(acquire);
            break;
        case FCGI_ACQUIRE_ENDED:
            break;
        }
    } while (acquire->state != before);
    return acquire->state == FCGI_ACQUIRE_ENDED ? acquire->result.outcome
                                                : FCGI_OUTCOME_PENDING;
}

void fcgi_acquire_cancel(fcgi_acquire *acquire)
{
    void *handed = NULL;

    if (acquire->state == FCGI_ACQUIRE_IN_LINE
        && fcgi_line_leave(acquire->backend->line, &acquire->waiting, &handed)
               == FCGI_LINE_PERMIT) {
        return_grant(acquire->backend->line, handed);
    }
    if (acquire->state != FCGI_ACQUIRE_ENDED) {
        give_up(acquire);
    }
}

fcgi_phase fcgi_acquire_phase(const fcgi_acquire *acquire)
{
    return acquire->state == FCGI_ACQUIRE_CONNECTING ? FCGI_PHASE_CONNECT
                                                     : FCGI_PHASE_QUEUE;
}

fcgi_bell *fcgi_acquire_bell(fcgi_acquire *acquire)
{
    return &acquire->waiting.bell;
}
