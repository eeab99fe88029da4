/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_await.c - the contract is in fcgi_await.h. fcgi_driver.c waits in a
 * thread, fcgi_parked.c without one.
 */
#include "fcgi_await.h"

#include <ap_mpm.h>

#include "fcgi_backend.h"
#include "fcgi_bell.h"
#include "fcgi_clock.h"
#include "fcgi_config.h"
#include "fcgi_driver.h"
#include "fcgi_log.h"
#include "fcgi_outcome.h"
#include "fcgi_parked.h"

APLOG_USE_MODULE(fastcgi_handler);

/* Of this child, for requests; 0: it is not known how many. */
static int threads;

void fcgi_await_child(apr_pool_t *pchild, server_rec *s)
{
    (void)pchild;
    (void)s;
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
}

/* ---- waiting without a thread ---- */

typedef struct parked_ask {
    fcgi_ask *ask;
    fcgi_parkable parkable;
    const fcgi_await_ends *ends;
    void *baton; /* of ends */
} parked_ask;

static void note_ready(void *baton, int ready)
{
    const parked_ask *parked = baton;

    fcgi_ask_ready(parked->ask, ready);
}

/* Its bell wakes it, until there is nothing to be woken. */
static void wake(void *parkable)
{
    fcgi_parked_wake(parkable);
}

static void prepare_to_wait(parked_ask *parked)
{
    fcgi_ask_rest(parked->ask);
    parked->parkable.wait = parked->ask->wait;
    parked->parkable.application = fcgi_ask_socket(parked->ask);
}

static int step(void *baton)
{
    parked_ask *parked = baton;

    if (fcgi_ask_step(parked->ask) == FCGI_OUTCOME_PENDING) {
        prepare_to_wait(parked);
        return 0;
    }
    fcgi_bell_take_down(fcgi_ask_bell(parked->ask));
    return 1;
}

static int finish(void *baton)
{
    const parked_ask *parked = baton;

    return parked->ends->finish(parked->ask, parked->baton);
}

static void abandon(void *baton)
{
    const parked_ask *parked = baton;

    fcgi_bell_take_down(fcgi_ask_bell(parked->ask));
    fcgi_ask_abandon(parked->ask);
    parked->ends->abandon(parked->ask, parked->baton);
}

static void count(void *baton, int is_parked)
{
    const parked_ask *parked = baton;

    fcgi_backend_count_parked(parked->ask->backend, is_parked);
    ap_log_rerror(APLOG_MARK, APLOG_TRACE4, 0, parked->ask->r,
                  is_parked ? "%s: waits without a thread from now on"
                            : "%s: has waited without a thread",
                  parked->ask->backend->name);
}

static const fcgi_parkable_kind of_ask = {
    note_ready, step, finish, abandon, count,
};

/* True if it goes on without this thread. */
static int park(fcgi_ask *ask, const fcgi_await_ends *ends, void *baton)
{
    parked_ask *parked = apr_pcalloc(ask->r->pool, sizeof(*parked));

    parked->ask = ask;
    parked->ends = ends;
    parked->baton = baton;
    fcgi_parked_init(&parked->parkable, &of_ask, parked);
    prepare_to_wait(parked);
    if (!fcgi_parked_start(ask->r, &parked->parkable)) {
        return 0;
    }
    fcgi_bell_hang(fcgi_ask_bell(ask), wake, &parked->parkable);
    return 1;
}

/* ---- the story ---- */

/*
 * So many of the child's threads may wait at a time, for a moment: half of them,
 * so that those who wait for nothing find one. The more requests wait without
 * one the fewer, down to one: a thread that is not idle takes
 * AsyncRequestWorkerFactor from the connections that the child accepts, and
 * those that come would wait behind it.
 */
static apr_uint32_t most_waiting(void)
{
    apr_uint32_t half = (apr_uint32_t)threads / 2;
    apr_uint32_t less =
        threads ? fcgi_parked_count() / (apr_uint32_t)threads : 0;

    return less + 1 < half ? half - less : half > 0;
}

/* Until when this thread may wait; 0: to the end. */
static fcgi_instant wait_until(const fcgi_ask *ask)
{
    const request_rec *r = ask->r;
    apr_interval_time_t limit = fcgi_config_settings(r)->park;

    if (limit == FCGI_PARK_NEVER || !fcgi_parked_may(r)) {
        return 0;
    }
    return ask->started + (fcgi_driver_count() < most_waiting() ? limit : 0);
}

int fcgi_await(fcgi_ask *ask, const fcgi_await_ends *ends, void *baton)
{
    fcgi_instant until = ends ? wait_until(ask) : 0;

    if (!until && !ask->r->connection->master && fcgi_parked_count()) {
        /* what is parked, perhaps in front of it, needs one to go on */
        fcgi_ask_spare_thread(ask, (apr_uint32_t)threads);
    }
    if (fcgi_driver_run(ask, until) != FCGI_OUTCOME_PENDING) {
        return 0;
    }
    if (park(ask, ends, baton)) {
        return 1;
    }
    fcgi_driver_run(ask, 0);
    return 0;
}
