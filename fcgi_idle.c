/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_idle.c - the child's idle connections; the contract is in fcgi_idle.h.
 * One ring, newest last, under one mutex. Connections that say something show
 * in the watcher's pollset. That a request of another child waits shows in
 * shared memory, and that child notifies this one (fcgi_line_press()), whose
 * thread of fcgi_notice.c calls fcgi_idle_give_up(): APR's pollset cannot wait
 * for both. While nothing happens no thread wakes.
 */
#include "fcgi_idle.h"

#include <apr_atomic.h>
#include <apr_thread_mutex.h>

#include "fcgi_clock.h"
#include "fcgi_socket.h"
#include "fcgi_thread.h"

/* A connection that is used again sooner is never in the pollset: under load
 * that would be two calls of the system for each request. */
#define WATCH_AFTER apr_time_from_msec(50)

/* No moment will be later. */
#define NEVER ((fcgi_instant)APR_INT64_MAX)

APR_RING_HEAD(fcgi_conn_ring, fcgi_conn);
typedef struct fcgi_conn_ring fcgi_conn_ring;

static struct {
    apr_thread_mutex_t *mutex; /* of ring and look_at */
    fcgi_conn_ring ring;
    fcgi_instant look_at;  /* the watcher looks then; before: if it is woken */
    apr_uint32_t stopping; /* atomic: the child is told to stop */
    apr_uint32_t running;  /* atomic: the thread is not done */
    apr_pollset_t *pollset; /* NULL: nothing is kept in this process */
    const fcgi_idle_hooks *hooks;
} idle;

static int is_stopping(void)
{
    return apr_atomic_read32(&idle.stopping)
           || (idle.hooks->ask_every && idle.hooks->has_to_stop());
}

/* Takes a connection out of the ring. Under the mutex. */
static void unlink_conn(fcgi_conn *conn)
{
    if (conn->is_watched) {
        apr_pollset_remove(idle.pollset, &conn->watched);
        conn->is_watched = 0;
    }
    APR_RING_REMOVE(conn, link);
}

static void close_idle(fcgi_conn *conn)
{
    fcgi_line *line = conn->line;

    fcgi_conn_close(conn, FCGI_CONN_IDLE);
    fcgi_line_drop(line);
}

static void close_all(fcgi_conn_ring *ended)
{
    while (!APR_RING_EMPTY(ended, fcgi_conn, link)) {
        fcgi_conn *conn = APR_RING_FIRST(ended);

        APR_RING_REMOVE(conn, link);
        close_idle(conn);
    }
}

int fcgi_idle_is_quiet(fcgi_conn *conn)
{
    fcgi_socket_sound sound = fcgi_socket_listen(conn->socket);

    if (sound == FCGI_SOCKET_SAYS) {
        idle.hooks->report_stray(conn->line->account->name);
    }
    return sound == FCGI_SOCKET_QUIET;
}

/* Connections of which the pollset says something; it may name some that have
 * left the ring meanwhile. */
typedef struct speakers {
    const apr_pollfd_t *pfds;
    apr_int32_t count;
} speakers;

static int speaks(const fcgi_conn *conn, const speakers *said)
{
    apr_int32_t i = 0;

    while (i < said->count && said->pfds[i].client_data != conn) {
        i++;
    }
    return i < said->count;
}

/* Says of an idle connection whether it is to be closed. */
typedef int judge(fcgi_conn *conn, const void *data);

/* data is what the pollset says. */
static int is_over(fcgi_conn *conn, const void *data)
{
    return is_stopping() || fcgi_clock_now() >= conn->expires
           || (speaks(conn, data) && !fcgi_idle_is_quiet(conn));
}

static int is_pressed(fcgi_conn *conn, const void *data)
{
    (void)data;
    return fcgi_line_is_pressed(conn->line);
}

/* Takes those that are to be closed out of the ring. Under the mutex. */
static void collect(judge *is_to_end, const void *data, fcgi_conn_ring *ended)
{
    fcgi_conn *conn, *next;

    for (conn = APR_RING_FIRST(&idle.ring);
         conn != APR_RING_SENTINEL(&idle.ring, fcgi_conn, link); conn = next) {
        next = APR_RING_NEXT(conn, link);
        if (is_to_end(conn, data)) {
            unlink_conn(conn);
            APR_RING_INSERT_TAIL(ended, conn, fcgi_conn, link);
        }
    }
}

/* Puts a connection into the pollset; false if that cannot be done. Under the
 * mutex. */
static int watch_conn(fcgi_conn *conn)
{
    conn->watched.p = conn->pool;
    conn->watched.desc_type = APR_POLL_SOCKET;
    conn->watched.reqevents = APR_POLLIN;
    conn->watched.rtnevents = 0;
    conn->watched.desc.s = conn->socket;
    conn->watched.client_data = conn;
    conn->is_watched =
        apr_pollset_add(idle.pollset, &conn->watched) == APR_SUCCESS;
    return conn->is_watched;
}

/* data is this moment. */
static int cannot_be_watched(fcgi_conn *conn, const void *data)
{
    const fcgi_instant *now = data;

    return !conn->is_watched && conn->watch_from <= *now && !watch_conn(conn);
}

/* When the watcher has to look at a connection if nothing happens to it. */
static fcgi_instant look_time(const fcgi_conn *conn)
{
    return conn->is_watched || conn->expires < conn->watch_from
               ? conn->expires
               : conn->watch_from;
}

/* When the watcher has to look next if nothing happens. Under the mutex. */
static fcgi_instant next_look(fcgi_instant now)
{
    fcgi_instant next = NEVER;
    const fcgi_conn *conn;

    for (conn = APR_RING_FIRST(&idle.ring);
         conn != APR_RING_SENTINEL(&idle.ring, fcgi_conn, link);
         conn = APR_RING_NEXT(conn, link)) {
        if (look_time(conn) < next) {
            next = look_time(conn);
        }
    }
    if (next != NEVER && idle.hooks->ask_every
        && next > now + idle.hooks->ask_every) {
        next = now + idle.hooks->ask_every;
    }
    return next;
}

/* Closes all that are over, and sees to it that the others are watched.
 * Returns when to look again. */
static fcgi_instant look(const speakers *said)
{
    fcgi_instant now = fcgi_clock_now(), next;
    fcgi_conn_ring ended;

    APR_RING_INIT(&ended, fcgi_conn, link);
    apr_thread_mutex_lock(idle.mutex);
    collect(is_over, said, &ended);
    collect(cannot_be_watched, &now, &ended);
    next = idle.look_at = next_look(now);
    apr_thread_mutex_unlock(idle.mutex);
    close_all(&ended);
    return next;
}

/* For the pollset, which counts milliseconds: not a moment too early. */
static apr_interval_time_t time_until(fcgi_instant instant)
{
    fcgi_instant now = fcgi_clock_now();

    if (instant == NEVER) {
        return -1;
    }
    return instant > now ? instant - now + apr_time_from_msec(1) - 1 : 0;
}

/* The watcher. */
static void *APR_THREAD_FUNC watch(apr_thread_t *thread, void *data)
{
    speakers said = { NULL, 0 };

    (void)data;
    (void)thread;
    while (!is_stopping()) {
        fcgi_instant next = look(&said);

        said.count = 0;
        apr_pollset_poll(idle.pollset, time_until(next), &said.count,
                         &said.pfds);
    }
    said.count = 0;
    look(&said); /* now all are over */
    apr_atomic_dec32(&idle.running);
    return NULL;
}

void fcgi_idle_give_up(void)
{
    fcgi_conn_ring ended;

    if (!idle.pollset) {
        return;
    }
    APR_RING_INIT(&ended, fcgi_conn, link);
    apr_thread_mutex_lock(idle.mutex);
    collect(is_pressed, NULL, &ended);
    apr_thread_mutex_unlock(idle.mutex);
    close_all(&ended);
}

/* Before the child's pool goes. */
static apr_status_t end_thread(void *data)
{
    (void)data;
    fcgi_idle_stop();
    fcgi_thread_wait(&idle.running);
    return APR_SUCCESS;
}

apr_status_t fcgi_idle_start(apr_pool_t *child, const fcgi_idle_hooks *hooks)
{
    const apr_uint32_t sockets = 64; /* where poll is not Linux's */
    apr_pool_t *pool;
    apr_status_t rv = apr_pool_create_unmanaged_ex(&pool, NULL, NULL);

    if (rv != APR_SUCCESS) {
        return rv;
    }

    APR_RING_INIT(&idle.ring, fcgi_conn, link);
    idle.look_at = NEVER;
    idle.hooks = hooks;
    rv = apr_thread_mutex_create(&idle.mutex, APR_THREAD_MUTEX_DEFAULT, pool);
    if (rv == APR_SUCCESS) {
        rv = apr_pollset_create(&idle.pollset, sockets, pool,
                                APR_POLLSET_THREADSAFE | APR_POLLSET_WAKEABLE);
    }
    if (rv == APR_SUCCESS) {
        rv = fcgi_thread_start(watch, &idle.running, pool);
    }
    if (rv != APR_SUCCESS) {
        idle.pollset = NULL;
        return rv;
    }
    apr_pool_pre_cleanup_register(child, NULL, end_thread);
    return APR_SUCCESS;
}

int fcgi_idle_is_on(void)
{
    return idle.pollset && !is_stopping();
}

/* The watcher closes them: this may run in a signal's handler. */
void fcgi_idle_stop(void)
{
    if (idle.pollset) {
        apr_atomic_set32(&idle.stopping, 1);
        apr_pollset_wakeup(idle.pollset);
    }
}

/* Puts a connection into the ring; true if the watcher has to be woken, which
 * would look too late. */
static int link_conn(fcgi_conn *conn)
{
    fcgi_instant next = look_time(conn);
    int too_late = next < idle.look_at;

    APR_RING_INSERT_TAIL(&idle.ring, conn, fcgi_conn, link);
    if (too_late) {
        idle.look_at = next;
    }
    return too_late;
}

/* A request that began to wait while the connection was on its way to the ring
 * may have looked for it there in vain: so this looks for the request last of
 * all, see fcgi_line_press(). */
void fcgi_idle_put(fcgi_conn *conn, fcgi_instant now, fcgi_instant expires)
{
    fcgi_line *line = conn->line;
    int wake = 0, stopping;

    fcgi_conn_move(conn, FCGI_CONN_IN_USE, FCGI_CONN_IDLE);
    conn->expires = expires;
    conn->idle_since = now;
    conn->watch_from = now + WATCH_AFTER;
    apr_thread_mutex_lock(idle.mutex);
    stopping = is_stopping();
    if (!stopping) {
        wake = link_conn(conn);
    }
    apr_thread_mutex_unlock(idle.mutex);
    if (stopping) {
        close_idle(conn);
        return;
    }
    if (wake) {
        apr_pollset_wakeup(idle.pollset);
    }
    if (fcgi_line_is_pressed(line)) {
        fcgi_idle_give_up();
    }
}

/* The newest of that line that has been idle for age, taken out of the ring,
 * or NULL. */
static fcgi_conn *take_newest(const fcgi_line *line, apr_interval_time_t age)
{
    fcgi_instant before = age ? fcgi_clock_now() - age : NEVER;
    fcgi_conn *conn;

    apr_thread_mutex_lock(idle.mutex);
    conn = APR_RING_LAST(&idle.ring);
    while (conn != APR_RING_SENTINEL(&idle.ring, fcgi_conn, link)
           && (conn->line != line || conn->idle_since > before)) {
        conn = APR_RING_PREV(conn, link);
    }
    if (conn == APR_RING_SENTINEL(&idle.ring, fcgi_conn, link)) {
        conn = NULL;
    }
    else {
        unlink_conn(conn);
    }
    apr_thread_mutex_unlock(idle.mutex);
    return conn;
}

fcgi_conn *fcgi_idle_take(fcgi_line *line, apr_interval_time_t age)
{
    fcgi_conn *conn = idle.pollset ? take_newest(line, age) : NULL;

    while (conn) {
        if (fcgi_idle_is_quiet(conn) && fcgi_line_reuse(line)) {
            fcgi_conn_move(conn, FCGI_CONN_IDLE, FCGI_CONN_IN_USE);
            return conn;
        }
        close_idle(conn);
        conn = take_newest(line, age);
    }
    return NULL;
}
