/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_ask.c - asking an application; the contract is in fcgi_ask.h. Read
 * fcgi_ask_step() first: a round of the state that it is in, and a look at the
 * client, until nothing moves; then it settles.
 */
#include "fcgi_ask.h"

#include <string.h>

#include "fcgi_log.h"

APLOG_USE_MODULE(fastcgi_handler);

/* Before a request is sent once more: an application that is being stopped
 * loses its workers first and its socket a moment later. */
#define RETRY_PAUSE apr_time_from_msec(20)

/* A silent client is asked for its body so often all the same:
 * mod_reqtimeout looks at the clock when it is read from. */
#define BODY_CHECK apr_time_from_sec(1)

fcgi_ask *fcgi_ask_create(request_rec *r, const fcgi_backend *backend,
                          const fcgi_terms *terms)
{
    fcgi_ask *ask = apr_pcalloc(r->pool, sizeof(*ask));

    ask->r = r;
    ask->backend = backend;
    ask->terms = *terms;
    ask->inflow = fcgi_inflow_create(r, &ask->terms);
    fcgi_client_init(&ask->client, r, terms->ignore_client_abort);
    ask->ex = fcgi_exchange_create(r, backend, &ask->terms, ask->inflow,
                                   &ask->client);
    fcgi_acquire_init(&ask->acquire, backend, r->pool);
    return ask;
}

static int is_pending(const fcgi_ask *ask)
{
    return ask->result.outcome == FCGI_OUTCOME_PENDING;
}

/* Ends it, for a reason that is not the exchange's own. */
static void end(fcgi_ask *ask, fcgi_outcome outcome, apr_status_t rv,
                const char *why)
{
    ask->result.outcome = outcome;
    ask->result.rv = rv;
    ask->result.why = why;
    if (ask->state == FCGI_ASK_EXCHANGING) {
        fcgi_exchange_end(ask->ex, outcome, rv, why);
        ask->result.phase = ask->ex->result.phase;
    }
    else if (ask->state == FCGI_ASK_ACQUIRING) {
        ask->result.phase = fcgi_acquire_phase(&ask->acquire);
        ask->no_connection = 1;
    }
    else {
        ask->result.phase = FCGI_PHASE_SEND;
    }
}

/* ---- the client, and the time ---- */

static void lose_client(fcgi_ask *ask, const char *why)
{
    if (fcgi_exchange_lose(ask->ex, FCGI_OUTCOME_CLIENT_GONE)) {
        end(ask, FCGI_OUTCOME_CLIENT_GONE, APR_SUCCESS, why);
    }
}

/* Ends it if its time is over, or its client is gone for certain. */
static void check(fcgi_ask *ask)
{
    apr_interval_time_t total = ask->terms.total;
    const char *lost = NULL;

    if (total && fcgi_clock_now() >= ask->started + total) {
        end(ask, FCGI_OUTCOME_TIMED_OUT, APR_TIMEUP,
            fcgi_outcome_over(ask->r->pool, "FcgiTotalTimeout", total));
        return;
    }
    if (ask->client.is_watched) {
        lost = fcgi_client_lost(&ask->client, ask->inflow->is_done);
    }
    if (lost && !fcgi_exchange_must_be_sent(ask->ex)) {
        lose_client(ask, lost);
    }
}

static void look_at_client(fcgi_ask *ask)
{
    if (ask->client.is_ready && ask->client.is_watched
        && ask->inflow->is_done) {
        fcgi_client_look(&ask->client);
    }
}

/*
 * Gives up a client that sends no more, after a time in which nothing was
 * delivered to it. While bytes wait for room in its socket it is another
 * matter: whoever left does not leave them there, but resets.
 */
static void check_silence(fcgi_ask *ask)
{
    const fcgi_exchange *ex = ask->ex;
    fcgi_instant delivered = ex->outflow->delivered_at;
    fcgi_instant when = fcgi_client_given_up_at(
        &ask->client, ex->sent_at > delivered ? ex->sent_at : delivered);

    if (!when || fcgi_exchange_must_be_sent(ex)
        || fcgi_outflow_is_behind(ex->outflow)) {
        return;
    }
    if (ask->wait.said_at < when) {
        fcgi_wait_until(&ask->wait, when);
    }
    else {
        lose_client(ask, "the client closed its connection");
    }
}

/* ---- rounds: true if something moved ---- */

static void acquire_again(fcgi_ask *ask)
{
    ask->state = FCGI_ASK_ACQUIRING;
    ask->tries++;
    fcgi_acquire_begin(&ask->acquire);
}

static int go_on_acquiring(fcgi_ask *ask)
{
    fcgi_acquire *acquire = &ask->acquire;

    switch (fcgi_acquire_step(acquire)) {
    case FCGI_OUTCOME_PENDING:
        return 0;
    case FCGI_OUTCOME_DONE:
        ap_log_rerror(APLOG_MARK, APLOG_TRACE4, 0, ask->r,
                      "%s: has a %s connection, try %d, after "
                      "%" APR_TIME_T_FMT " us in line and %" APR_TIME_T_FMT
                      " us to connect",
                      ask->backend->name,
                      acquire->conn->reused ? "kept" : "new", ask->tries,
                      acquire->waits.queue, acquire->waits.connect);
        ask->state = FCGI_ASK_EXCHANGING;
        fcgi_exchange_start(ask->ex, acquire->conn, ask->params,
                            ask->params_len);
        return 1;
    default:
        ask->result = acquire->result;
        ask->no_connection = 1;
        return 1;
    }
}

/* What became of the exchange: it goes on, has ended, or it is tried once
 * more, if nothing is lost and nothing done by that; where a worker died, by
 * another application if there is one. */
static void follow(fcgi_ask *ask)
{
    fcgi_exchange *ex = ask->ex;
    fcgi_result result = ex->result;
    int resent = ex->resent;

    if (result.outcome == FCGI_OUTCOME_PENDING) {
        return;
    }
    if (!fcgi_exchange_may_retry(ex)) {
        ask->result = result;
    }
    else if (ask->terms.has_others && ex->resent != resent) {
        ask->result = result;
        ask->may_repeat = 1;
    }
    else {
        ask->state = FCGI_ASK_PAUSING;
        ask->goes_on = fcgi_clock_now() + RETRY_PAUSE;
    }
}

static int go_on_exchanging(fcgi_ask *ask)
{
    int moved = fcgi_exchange_round(ask->ex);

    follow(ask);
    return moved;
}

static int go_on_pausing(fcgi_ask *ask)
{
    if (fcgi_clock_now() < ask->goes_on) {
        return 0;
    }
    ask->acquire.fresh = 1;
    acquire_again(ask);
    return 1;
}

static int go_on(fcgi_ask *ask)
{
    switch (ask->state) {
    case FCGI_ASK_ACQUIRING:
        return go_on_acquiring(ask);
    case FCGI_ASK_EXCHANGING:
        return go_on_exchanging(ask);
    case FCGI_ASK_PAUSING:
        return go_on_pausing(ask);
    case FCGI_ASK_ENDED:
        break;
    }
    return 0;
}

/* ---- waiting ---- */

/* Nothing moves: checks what is left to check, and says what is waited for. */
static void settle(fcgi_ask *ask)
{
    fcgi_instant now = fcgi_clock_now();

    if (ask->state == FCGI_ASK_EXCHANGING) {
        fcgi_exchange_settle(ask->ex, now);
        ask->wait = ask->ex->wait;
        follow(ask);
    }
    else {
        ask->wait = ask->acquire.wait;
        ask->wait.said_at = now;
        if (ask->state == FCGI_ASK_PAUSING) {
            ask->wait.wants = 0;
            ask->wait.wake_at = ask->goes_on;
        }
        if (ask->inflow->is_done) {
            ask->wait.wants |= fcgi_client_wants(&ask->client);
        }
    }
    if (is_pending(ask)) {
        check_silence(ask);
    }
    if (ask->wait.wants & FCGI_WANTS_CLIENT && !ask->inflow->is_done) {
        if (!ask->body_check) {
            ask->body_check = now + BODY_CHECK;
        }
        fcgi_wait_until(&ask->wait, ask->body_check);
    }
    if (ask->terms.total) {
        fcgi_wait_until(&ask->wait, ask->started + ask->terms.total);
    }
}

/* ---- the story ---- */

apr_off_t fcgi_ask_take_body(fcgi_ask *ask)
{
    fcgi_inflow *inflow = ask->inflow;
    int moved, is_right;

    is_right = inflow->is_streamed
                   ? fcgi_inflow_take(inflow, 0, 0, &moved, &ask->result)
                   : fcgi_inflow_take_all(inflow, &ask->result);
    ask->started = fcgi_clock_now();
    if (!is_right) {
        ask->result.phase = FCGI_PHASE_RECEIVE;
        ask->state = FCGI_ASK_ENDED;
    }
    return inflow->is_done ? inflow->len : -1;
}

void fcgi_ask_begin(fcgi_ask *ask, char *params, apr_size_t len, int once)
{
    fcgi_acquire *acquire = &ask->acquire;

    ask->params = params;
    ask->params_len = len;
    acquire->connect = ask->terms.connect;
    acquire->until = ask->terms.total ? ask->started + ask->terms.total : 0;
    acquire->unrepeatable = !fcgi_exchange_is_repeatable(ask->ex);
    acquire->once = once;
    acquire->has_others = ask->terms.has_others;
    acquire_again(ask);
}

fcgi_outcome fcgi_ask_step(fcgi_ask *ask)
{
    int moved = 1;

    if (ask->body_check && fcgi_clock_now() >= ask->body_check) {
        ask->inflow->is_ready = 1;
        ask->body_check = 0;
    }
    if (is_pending(ask)) {
        check(ask);
    }
    while (is_pending(ask) && moved) {
        moved = go_on(ask);
        if (is_pending(ask)) {
            look_at_client(ask);
            check(ask); /* also of what had to be sent, and is now */
        }
    }
    if (is_pending(ask)) {
        settle(ask);
    }
    if (!is_pending(ask) && ask->state != FCGI_ASK_ENDED) {
        if (ask->state == FCGI_ASK_ACQUIRING) {
            fcgi_acquire_cancel(&ask->acquire);
        }
        ask->state = FCGI_ASK_ENDED;
    }
    return ask->result.outcome;
}

void fcgi_ask_ready(fcgi_ask *ask, int ready)
{
    fcgi_exchange_ready(ask->ex, ready);
    if (ready & FCGI_WANTS_CLIENT) {
        if (ask->inflow->is_done) {
            ask->client.is_ready = 1;
        }
        else {
            ask->inflow->is_ready = 1;
        }
    }
    ask->client.is_gone |= ready & FCGI_WANTS_CLIENT_END;
}

int fcgi_ask_let_read_wait(fcgi_ask *ask)
{
    return ask->state == FCGI_ASK_EXCHANGING
           && fcgi_exchange_let_read_wait(ask->ex);
}

apr_socket_t *fcgi_ask_socket(const fcgi_ask *ask)
{
    const fcgi_conn *conn = ask->state == FCGI_ASK_EXCHANGING ? ask->ex->conn
                            : ask->state == FCGI_ASK_ACQUIRING
                                ? ask->acquire.conn
                                : NULL;

    return conn && ask->wait.wants & (FCGI_WANTS_READ | FCGI_WANTS_WRITE)
               ? conn->socket
               : NULL;
}

void fcgi_ask_may_wait(fcgi_ask *ask, int may_wait)
{
    ask->acquire.may_wait = may_wait;
}

void fcgi_ask_spare_thread(fcgi_ask *ask, apr_uint32_t threads)
{
    ask->acquire.threads = threads;
}

fcgi_bell *fcgi_ask_bell(fcgi_ask *ask)
{
    return fcgi_acquire_bell(&ask->acquire);
}

void fcgi_ask_rest(fcgi_ask *ask)
{
    fcgi_exchange_rest(ask->ex);
}

void fcgi_ask_abandon(fcgi_ask *ask)
{
    ask->client.is_watched = 0;
    if (is_pending(ask)) {
        end(ask, FCGI_OUTCOME_CLIENT_GONE, APR_SUCCESS,
            "httpd closes the client's connection");
    }
    fcgi_ask_step(ask);
}

/* ---- to another application ---- */

int fcgi_ask_may_move(const fcgi_ask *ask)
{
    switch (ask->result.outcome) {
    case FCGI_OUTCOME_NO_CONNECT:
    case FCGI_OUTCOME_NO_PLACE:
        return fcgi_inflow_is_held(ask->inflow) || !ask->inflow->queued;
    case FCGI_OUTCOME_OVERLOADED:
        return fcgi_inflow_is_held(ask->inflow) && !ask->ex->first_byte_at;
    default:
        return ask->may_repeat;
    }
}

void fcgi_ask_move(fcgi_ask *ask, const fcgi_backend *backend,
                   const fcgi_terms *terms)
{
    int resent = ask->ex->resent;

    ask->backend = backend;
    ask->terms = *terms;
    ask->inflow->queued = 0;
    ask->ex = fcgi_exchange_create(ask->r, backend, &ask->terms, ask->inflow,
                                   &ask->client);
    ask->ex->resent = resent;
    fcgi_acquire_init(&ask->acquire, backend, ask->r->pool);
    memset(&ask->result, 0, sizeof(ask->result));
    ask->no_connection = 0;
    ask->may_repeat = 0;
}
