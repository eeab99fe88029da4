/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_idle.c - the child's idle connections; the contract is in fcgi_idle.h.
 * One ring, newest last, under one mutex. Connections that say something show
 * in the watcher's pollset; that others wait shows only in shared memory, at
 * which the watcher looks all the time.
 */
#include "fcgi_idle.h"

#include <pthread.h>
#include <signal.h>

#include <apr_atomic.h>
#include <apr_thread_mutex.h>
#include <apr_thread_proc.h>

#include "fcgi_clock.h"

/* How often is looked whether another child's request waits; it closes the
 * connections here within that time. Only while there are some, and a while
 * longer. */
#define LOOK_EVERY apr_time_from_msec(5)

#define NEVER ((apr_interval_time_t)-1)

/* It goes on looking for so long when there are none: most likely there will
 * be one again, and need not wake it. */
#define STAY_AWAKE apr_time_from_sec(1)

/* So many milliseconds a child that ends waits for the watcher. */
#define END_ROUNDS 200

APR_RING_HEAD(fcgi_conn_ring, fcgi_conn);
typedef struct fcgi_conn_ring fcgi_conn_ring;

static struct {
    apr_thread_mutex_t *mutex; /* of ring and asleep */
    fcgi_conn_ring ring;
    int asleep;             /* the watcher has to be woken for another */
    apr_uint32_t stopping;  /* atomic: the child is told to stop */
    apr_uint32_t ended;     /* atomic: the watcher is done */
    apr_pollset_t *pollset; /* NULL: nothing is kept in this process */
    const fcgi_idle_hooks *hooks;
} idle;

static int is_stopping(void)
{
    return apr_atomic_read32(&idle.stopping) || idle.hooks->has_to_stop();
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
    fcgi_conn_sound sound = fcgi_conn_listen(conn);

    if (sound == FCGI_CONN_STRAY) {
        idle.hooks->report_stray(conn->line->account->name);
    }
    return sound == FCGI_CONN_QUIET;
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

/* True if an idle connection is to be closed. */
static int is_over(fcgi_conn *conn, fcgi_instant now, const speakers *said)
{
    return is_stopping() || now >= conn->expires
           || (speaks(conn, said) && !fcgi_idle_is_quiet(conn))
           || fcgi_line_is_pressed(conn->line);
}

/* Puts a connection into the pollset; false if that cannot be done. Under the
 * mutex. Only the watcher does, so that a connection that is used again at
 * once never is in it. */
static int watch_conn(fcgi_conn *conn)
{
    if (!conn->is_watched) {
        conn->watched.p = conn->pool;
        conn->watched.desc_type = APR_POLL_SOCKET;
        conn->watched.reqevents = APR_POLLIN;
        conn->watched.rtnevents = 0;
        conn->watched.desc.s = conn->socket;
        conn->watched.client_data = conn;
        conn->is_watched =
            apr_pollset_add(idle.pollset, &conn->watched) == APR_SUCCESS;
    }
    return conn->is_watched;
}

/* Closes all that are over, and watches the others; or, if line is given, all
 * of that line. Returns true if any are left. */
static int collect(const fcgi_line *line, const speakers *said)
{
    fcgi_instant now = fcgi_clock_now();
    fcgi_conn *conn, *next;
    fcgi_conn_ring ended;
    int left;

    APR_RING_INIT(&ended, fcgi_conn, link);
    apr_thread_mutex_lock(idle.mutex);
    for (conn = APR_RING_FIRST(&idle.ring);
         conn != APR_RING_SENTINEL(&idle.ring, fcgi_conn, link); conn = next) {
        next = APR_RING_NEXT(conn, link);
        if (line ? conn->line == line
                 : is_over(conn, now, said) || !watch_conn(conn)) {
            unlink_conn(conn);
            APR_RING_INSERT_TAIL(&ended, conn, fcgi_conn, link);
        }
    }
    left = !APR_RING_EMPTY(&idle.ring, fcgi_conn, link);
    apr_thread_mutex_unlock(idle.mutex);
    close_all(&ended);
    return left;
}

/* True if the watcher may sleep now: until it is woken. */
static int fall_asleep(void)
{
    int asleep;

    apr_thread_mutex_lock(idle.mutex);
    asleep = APR_RING_EMPTY(&idle.ring, fcgi_conn, link);
    idle.asleep = asleep;
    apr_thread_mutex_unlock(idle.mutex);
    return asleep;
}

/* The watcher: sleeps while there is nothing to watch. */
static void *APR_THREAD_FUNC watch(apr_thread_t *thread, void *data)
{
    speakers said = { NULL, 0 };
    fcgi_instant last_seen = 0;

    (void)data;
    while (!is_stopping()) {
        fcgi_instant now = fcgi_clock_now();
        int may_sleep;

        if (collect(NULL, &said)) {
            last_seen = now;
        }
        may_sleep = now >= last_seen + STAY_AWAKE && fall_asleep();
        said.count = 0;
        apr_pollset_poll(idle.pollset, may_sleep ? NEVER : LOOK_EVERY,
                         &said.count, &said.pfds);
        if (may_sleep) {
            last_seen = fcgi_clock_now(); /* it was woken for one */
        }
    }
    collect(NULL, &said); /* now all are over */
    apr_atomic_set32(&idle.ended, 1);
    (void)thread;
    return NULL;
}

/*
 * Before the child's pool goes. prefork's children end in a signal's handler:
 * the thread that was interrupted may hold what the watcher waits for, and
 * then it is not waited for. Nothing that the watcher uses is ever freed.
 */
static apr_status_t end_watch(void *data)
{
    int rounds = END_ROUNDS;

    (void)data;
    fcgi_idle_stop();
    while (!apr_atomic_read32(&idle.ended) && rounds--) {
        apr_sleep(apr_time_from_msec(1));
    }
    return APR_SUCCESS;
}

/* Starts the thread without a signal to handle: they are the MPM's. */
static apr_status_t start_thread(apr_pool_t *pool)
{
    apr_threadattr_t *detached;
    apr_thread_t *thread;
    sigset_t all, before;
    apr_status_t rv = apr_threadattr_create(&detached, pool);

    if (rv == APR_SUCCESS) {
        rv = apr_threadattr_detach_set(detached, 1);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rv = apr_thread_create(&thread, detached, watch, NULL, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rv;
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
    idle.hooks = hooks;
    rv = apr_thread_mutex_create(&idle.mutex, APR_THREAD_MUTEX_DEFAULT, pool);
    if (rv == APR_SUCCESS) {
        rv = apr_pollset_create(&idle.pollset, sockets, pool,
                                APR_POLLSET_THREADSAFE | APR_POLLSET_WAKEABLE);
    }
    if (rv == APR_SUCCESS) {
        rv = start_thread(pool);
    }
    if (rv != APR_SUCCESS) {
        idle.pollset = NULL;
        return rv;
    }
    apr_pool_pre_cleanup_register(child, NULL, end_watch);
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

void fcgi_idle_put(fcgi_conn *conn, fcgi_instant expires)
{
    int asleep = 0, stopping;

    fcgi_conn_move(conn, FCGI_CONN_IN_USE, FCGI_CONN_IDLE);
    conn->expires = expires;
    apr_thread_mutex_lock(idle.mutex);
    stopping = is_stopping();
    if (!stopping) {
        asleep = idle.asleep;
        idle.asleep = 0;
        APR_RING_INSERT_TAIL(&idle.ring, conn, fcgi_conn, link);
    }
    apr_thread_mutex_unlock(idle.mutex);
    if (stopping) {
        close_idle(conn);
    }
    else if (asleep) {
        apr_pollset_wakeup(idle.pollset);
    }
}

/* The newest of that line, taken out of the ring, or NULL. */
static fcgi_conn *take_newest(const fcgi_line *line)
{
    fcgi_conn *conn;

    apr_thread_mutex_lock(idle.mutex);
    conn = APR_RING_LAST(&idle.ring);
    while (conn != APR_RING_SENTINEL(&idle.ring, fcgi_conn, link)
           && conn->line != line) {
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

fcgi_conn *fcgi_idle_take(fcgi_line *line)
{
    fcgi_conn *conn = idle.pollset ? take_newest(line) : NULL;

    while (conn) {
        if (fcgi_idle_is_quiet(conn) && fcgi_line_reuse(line)) {
            fcgi_conn_move(conn, FCGI_CONN_IDLE, FCGI_CONN_IN_USE);
            return conn;
        }
        close_idle(conn);
        conn = take_newest(line);
    }
    return NULL;
}

void fcgi_idle_give_up(fcgi_line *line)
{
    const speakers nobody = { NULL, 0 };

    if (idle.pollset) {
        collect(line, &nobody);
    }
}
