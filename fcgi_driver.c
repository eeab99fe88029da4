/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_driver.c - the one place where a thread waits on the network for an
 * exchange. What to wait for is the exchange's word; knows no FastCGI.
 */
#include "fcgi_driver.h"

#include <apr_poll.h>

#include <http_core.h>

#include "fcgi_clock.h"

/* An HTTP/2 stream has no socket of its own to wait on; so often it is
 * looked at: while its body comes (from, doubling, to), and for its end. */
#define BODY_TICK_FIRST apr_time_from_msec(1)
#define BODY_TICK_LAST  apr_time_from_msec(16)
#define END_TICK        apr_time_from_msec(250)

/* A silent client is asked for its body so often all the same:
 * mod_reqtimeout looks at the clock when it is read from. */
#define BODY_CHECK apr_time_from_sec(1)

/* How long to wait at the most, in microseconds; -1: no limit. */
static apr_interval_time_t time_left(const fcgi_exchange *ex)
{
    apr_interval_time_t left;

    if (!ex->wake_at) {
        return -1;
    }
    left = ex->wake_at - fcgi_clock_now();
    /* poll() counts in milliseconds; rounding up avoids empty rounds */
    return left <= 0 ? 0 : left + apr_time_from_msec(1) - 1;
}

static void add(apr_pollfd_t *pfd, apr_socket_t *socket, apr_int16_t events)
{
    pfd->p = NULL;
    pfd->desc_type = APR_POLL_SOCKET;
    pfd->desc.s = socket;
    pfd->reqevents = events;
    pfd->rtnevents = 0;
    pfd->client_data = NULL;
}

/* What poll's answer for the application's socket means, and the client's. */
static int ready_of(const apr_pollfd_t *pfd, int is_client)
{
    const apr_int16_t ended = APR_POLLERR | APR_POLLHUP | APR_POLLNVAL;
    int ready = 0;

    if (pfd->rtnevents & (APR_POLLIN | ended)) {
        ready |= is_client ? FCGI_WANTS_CLIENT : FCGI_WANTS_READ;
    }
    if (pfd->rtnevents & (APR_POLLOUT | ended)) {
        ready |= is_client ? FCGI_WANTS_CLIENT_WRITE : FCGI_WANTS_WRITE;
    }
    if (is_client && pfd->rtnevents & ended) {
        ready |= FCGI_WANTS_CLIENT_END;
    }
    return ready;
}

/* The events to poll for of those two wants. */
static apr_int16_t events_of(int wants, int in, int out)
{
    return (apr_int16_t)((wants & in ? APR_POLLIN : 0)
                         | (wants & out ? APR_POLLOUT : 0));
}

/* After how long to look at the client unasked; 0: when its socket says. */
static apr_interval_time_t client_tick(const fcgi_exchange *ex,
                                       apr_interval_time_t body_tick)
{
    int has_socket = !ex->r->connection->master;

    if (!(ex->wants & FCGI_WANTS_CLIENT)) {
        return 0;
    }
    if (ex->body_done) {
        return has_socket ? 0 : END_TICK;
    }
    return has_socket ? BODY_CHECK : body_tick;
}

/*
 * Waits once for what ex wants, at most tick if that is not 0. A socket of
 * which nothing is wanted is left out: poll() would tell of its end again and
 * again. If only the client's end is wanted there is no event to ask for.
 */
static void wait_once(fcgi_exchange *ex, apr_interval_time_t tick)
{
    conn_rec *c = ex->r->connection;
    apr_int16_t application =
        events_of(ex->wants, FCGI_WANTS_READ, FCGI_WANTS_WRITE);
    apr_int16_t client = events_of(c->master ? 0 : ex->wants,
                                   FCGI_WANTS_CLIENT, FCGI_WANTS_CLIENT_WRITE);
    int has_client =
        client || (!c->master && ex->wants & FCGI_WANTS_CLIENT_END);
    apr_interval_time_t timeout = time_left(ex);
    apr_pollfd_t pfds[2];
    apr_int32_t count = 0, signalled, i;
    apr_status_t rv;

    if (application) {
        add(&pfds[count++], ex->conn->socket, application);
    }
    if (has_client) {
        add(&pfds[count++], ap_get_conn_socket(c), client);
    }
    if (tick && (timeout < 0 || timeout > tick)) {
        timeout = tick;
    }
    rv = apr_poll(pfds, count, &signalled, timeout);
    for (i = 0; rv == APR_SUCCESS && i < count; i++) {
        fcgi_exchange_ready(ex, ready_of(&pfds[i], i || !application));
    }
    if (rv != APR_SUCCESS && !APR_STATUS_IS_TIMEUP(rv)
        && !APR_STATUS_IS_EINTR(rv)) {
        fcgi_exchange_ready(ex, FCGI_WANTS_READ); /* reading tells why */
    }
    if (tick) {
        fcgi_exchange_ready(ex, FCGI_WANTS_CLIENT);
    }
}

fcgi_outcome fcgi_driver_run(fcgi_exchange *ex)
{
    apr_interval_time_t body_tick = BODY_TICK_FIRST;
    fcgi_instant last_moved = ex->last_moved;

    while (fcgi_exchange_step(ex) == FCGI_OUTCOME_PENDING) {
        if (ex->last_moved != last_moved) {
            last_moved = ex->last_moved;
            body_tick = BODY_TICK_FIRST;
        }
        else if (body_tick < BODY_TICK_LAST) {
            body_tick *= 2;
        }
        wait_once(ex, client_tick(ex, body_tick));
    }
    return ex->result.outcome;
}

/* Waits at most left for the client to say something, as its end; once that
 * is known, for a reset. */
static void wait_for_client(fcgi_exchange *ex, apr_interval_time_t left)
{
    apr_socket_t *socket = ap_get_conn_socket(ex->r->connection);
    apr_int32_t signalled;
    apr_pollfd_t pfd;

    add(&pfd, socket, ex->client_ended_at ? 0 : APR_POLLIN);
    if (apr_poll(&pfd, 1, &signalled, left) == APR_SUCCESS) {
        fcgi_exchange_ready(ex, ready_of(&pfd, 1));
    }
}

apr_status_t fcgi_driver_pause(void *exchange, apr_interval_time_t interval)
{
    fcgi_exchange *ex = exchange;
    fcgi_instant now = fcgi_clock_now(), until = now + interval;
    apr_interval_time_t left = interval;

    do {

        if (!ex->r->connection->master && ex->watch_client && ex->body_done
            && !ex->client_gone) {
            wait_for_client(ex, left);
        }
        else if (left) {
            apr_sleep(left < END_TICK ? left : END_TICK);
        }
        if (fcgi_exchange_is_over(ex)) {
            return APR_ECONNABORTED;
        }
        now = fcgi_clock_now();
        left = until - now;
        if (ex->wake_at && time_left(ex) < left) {
            left = time_left(ex);
        }
    } while (now < until);
    return APR_SUCCESS;
}
