/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_driver.c - the one place that decides whether and for how long a thread
 * waits on the network for an application. What to wait for is the ask's word;
 * knows no FastCGI.
 */
#include "fcgi_driver.h"

#include <apr_atomic.h>
#include <apr_file_io.h>
#include <apr_poll.h>

#include <http_core.h>

#include "fcgi_clock.h"
#include "fcgi_socket.h"

/* An HTTP/2 stream has no socket of its own to wait on; so often it is
 * looked at: while its body comes (from, doubling, to), and for its end. */
#define BODY_TICK_FIRST apr_time_from_msec(1)
#define BODY_TICK_LAST  apr_time_from_msec(16)
#define END_TICK        apr_time_from_msec(250)

/* Where there is no descriptor left for a bell, so often it looks whether it
 * was called. */
#define NO_BELL_TICK apr_time_from_msec(50)

/* Threads that drive; atomic. */
static apr_uint32_t driving;

typedef struct fcgi_driver {
    fcgi_ask *ask;
    fcgi_instant until;            /* then another driver goes on; 0: never */
    apr_interval_time_t body_tick; /* of an HTTP/2 stream */
    fcgi_instant last_moved;
    int read_waited;     /* see let_read_wait() */
    apr_file_t *bell[2]; /* a pipe, from where it is rung; NULL: none yet */
} fcgi_driver;

/* How long to wait at the most, in microseconds; -1: no limit. */
static apr_interval_time_t time_left(const fcgi_driver *driver)
{
    fcgi_instant when = driver->ask->wait.wake_at;
    apr_interval_time_t left;

    if (driver->until && (!when || driver->until < when)) {
        when = driver->until;
    }
    if (!when) {
        return -1;
    }
    left = when - fcgi_clock_now();
    /* poll() counts in milliseconds; rounding up avoids empty rounds */
    return left <= 0 ? 0 : left + apr_time_from_msec(1) - 1;
}

/* ---- the bell ---- */

/* A pipe that is full has been rung. */
static void ring(void *baton)
{
    const fcgi_driver *driver = baton;
    apr_size_t len = 1;

    apr_file_write(driver->bell[1], "", &len);
}

/* False if there is no descriptor for it: then it looks instead. */
static int hang_bell(fcgi_driver *driver)
{
    fcgi_ask *ask = driver->ask;

    if (!driver->bell[0]) {
        if (apr_file_pipe_create_ex(&driver->bell[0], &driver->bell[1],
                                    APR_FULL_NONBLOCK, ask->r->pool)
            != APR_SUCCESS) {
            driver->bell[0] = NULL;
            return 0;
        }
        fcgi_bell_hang(fcgi_ask_bell(ask), ring, driver);
    }
    return 1;
}

/* True if it was rung: that is said once. */
static int hear_bell(fcgi_driver *driver)
{
    char bytes[16];
    apr_size_t len = sizeof(bytes);

    return apr_file_read(driver->bell[0], bytes, &len) == APR_SUCCESS;
}

/* What rang after the last step is for who goes on with it. */
static void take_down_bell(fcgi_driver *driver)
{
    fcgi_bell *bell = fcgi_ask_bell(driver->ask);

    if (driver->bell[0]) {
        fcgi_bell_take_down(bell);
        if (hear_bell(driver)) {
            fcgi_bell_ring(bell);
        }
        apr_file_close(driver->bell[0]);
        apr_file_close(driver->bell[1]);
    }
}

/* ---- waiting ---- */

static void add(apr_pollfd_t *pfd, apr_socket_t *socket, apr_int16_t events)
{
    pfd->p = NULL;
    pfd->desc_type = APR_POLL_SOCKET;
    pfd->desc.s = socket;
    pfd->reqevents = events;
    pfd->rtnevents = 0;
    pfd->client_data = NULL;
}

static void add_bell(apr_pollfd_t *pfd, apr_file_t *bell)
{
    add(pfd, NULL, APR_POLLIN);
    pfd->desc_type = APR_POLL_FILE;
    pfd->desc.f = bell;
}

/* What poll's answer for the application's socket means, and the client's. */
static int ready_of(const apr_pollfd_t *pfd, int is_client)
{
    const apr_int16_t ended = APR_POLLERR | APR_POLLHUP | APR_POLLNVAL;

    return fcgi_wait_ready(is_client, pfd->rtnevents & APR_POLLIN,
                           pfd->rtnevents & APR_POLLOUT,
                           pfd->rtnevents & ended);
}

/* The events to poll for of those two wants. */
static apr_int16_t events_of(int wants, int in, int out)
{
    return (apr_int16_t)((wants & in ? APR_POLLIN : 0)
                         | (wants & out ? APR_POLLOUT : 0));
}

/* After how long to look at an HTTP/2 stream's client; 0: a socket says when. */
static apr_interval_time_t client_tick(fcgi_driver *driver)
{
    const fcgi_ask *ask = driver->ask;

    if (!ask->r->connection->master
        || !(ask->wait.wants & FCGI_WANTS_CLIENT)) {
        return 0;
    }
    if (ask->inflow->is_done) {
        return END_TICK;
    }
    if (ask->ex->last_moved != driver->last_moved) {
        driver->last_moved = ask->ex->last_moved;
        driver->body_tick = BODY_TICK_FIRST;
    }
    else if (driver->body_tick < BODY_TICK_LAST) {
        driver->body_tick *= 2;
    }
    return driver->body_tick;
}

/* So long it waits. With tick the client is looked at then. */
static apr_interval_time_t timeout_of(const fcgi_driver *driver,
                                      apr_interval_time_t tick)
{
    apr_interval_time_t timeout = time_left(driver);

    return tick && (timeout < 0 || timeout > tick) ? tick : timeout;
}

/*
 * True if the next step waits, in reading: a quick answer needs one system call
 * less so, one that is not quick one more. Whether the client has left is seen a
 * moment later. Once in a run, as no more is read so than the begin of an answer.
 */
static int let_read_wait(fcgi_driver *driver)
{
    apr_interval_time_t left;

    if (driver->read_waited) {
        return 0;
    }
    left = time_left(driver);
    driver->read_waited = (left < 0 || left >= FCGI_SOCKET_PATIENCE)
                          && fcgi_ask_let_read_wait(driver->ask);
    return driver->read_waited;
}

/*
 * Waits once for what the ask wants. A socket of which nothing is wanted is
 * left out: poll() would tell of its end again and again. If only the client's
 * end is wanted there is no event to ask for.
 */
static void wait_once(fcgi_driver *driver)
{
    fcgi_ask *ask = driver->ask;
    conn_rec *c = ask->r->connection;
    int wants = ask->wait.wants;
    apr_interval_time_t tick = client_tick(driver);
    apr_socket_t *application = fcgi_ask_socket(ask);
    apr_pollfd_t pfds[3];
    apr_int32_t count = 0, signalled, i;
    apr_status_t rv;

    if (application) {
        add(&pfds[count++], application,
            events_of(wants, FCGI_WANTS_READ, FCGI_WANTS_WRITE));
    }
    if (!c->master
        && wants
               & (FCGI_WANTS_CLIENT | FCGI_WANTS_CLIENT_WRITE
                  | FCGI_WANTS_CLIENT_END)) {
        add(&pfds[count++], ap_get_conn_socket(c),
            events_of(wants, FCGI_WANTS_CLIENT, FCGI_WANTS_CLIENT_WRITE));
    }
    if (wants & FCGI_WANTS_BELL) {
        if (hang_bell(driver)) {
            add_bell(&pfds[count++], driver->bell[0]);
        }
        else {
            tick = NO_BELL_TICK;
        }
    }
    rv = apr_poll(pfds, count, &signalled, timeout_of(driver, tick));
    for (i = 0; rv == APR_SUCCESS && i < count; i++) {
        if (pfds[i].desc_type == APR_POLL_FILE) {
            hear_bell(driver);
        }
        else {
            fcgi_ask_ready(ask, ready_of(&pfds[i], i || !application));
        }
    }
    if (rv != APR_SUCCESS && !APR_STATUS_IS_TIMEUP(rv)
        && !APR_STATUS_IS_EINTR(rv)) {
        fcgi_ask_ready(ask, FCGI_WANTS_READ); /* reading tells why */
    }
    if (tick) {
        fcgi_ask_ready(ask, FCGI_WANTS_CLIENT);
    }
}

/* ---- the story ---- */

fcgi_outcome fcgi_driver_run(fcgi_ask *ask, fcgi_instant until)
{
    fcgi_driver driver = { ask, until, BODY_TICK_FIRST, 0, 0, { NULL, NULL } };

    apr_atomic_inc32(&driving);
    fcgi_ask_may_wait(ask, !until);
    while (fcgi_ask_step(ask) == FCGI_OUTCOME_PENDING
           && (!until || ask->wait.said_at < until)) {
        if (!let_read_wait(&driver)) {
            wait_once(&driver);
        }
    }
    take_down_bell(&driver);
    apr_atomic_dec32(&driving);
    return ask->result.outcome;
}

apr_uint32_t fcgi_driver_count(void)
{
    return apr_atomic_read32(&driving);
}
