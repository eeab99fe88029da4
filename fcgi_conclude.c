/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_conclude.c - outcomes become statuses, log lines and counts; the
 * contract is in fcgi_conclude.h. The policy is one table.
 */
#include "fcgi_conclude.h"

#include <string.h>

#include <http_core.h>
#include <http_protocol.h>
#include <util_filter.h>

#include <apr_strings.h>

#include "fcgi_log.h"
#include "fcgi_notes.h"
#include "fcgi_replace.h"

APLOG_USE_MODULE(fastcgi_handler);

/* Access logs show a client that left as nginx's do; httpd has no status. */
#define STATUS_CLIENT_GONE 499

/* Set in r->notes of an answer that was cut. It is looked for in each request,
 * and a table compares all names that begin alike: no other one does. */
#define CUT_NOTE "cut-by-fastcgi-handler"

/* Set in r->notes of a request that got no connection: the backend. */
#define NO_CONNECTION_NOTE "fastcgi-handler-no-connection"

/* Seconds a client is asked to wait after a 503. */
#define RETRY_AFTER "1"

/* The whole error policy: what each outcome is to the client, as long as no
 * answer was begun (afterwards it is cut), and to the log. */
typedef struct policy {
    int status; /* 0: the exchange's client_status */
    int level;
    const char *id;
} policy;

static const policy policies[FCGI_OUTCOME_COUNT] = {
    [FCGI_OUTCOME_NO_CONNECT] = { HTTP_SERVICE_UNAVAILABLE, APLOG_ERR,
                                  FCGI_LOGNO("01") },
    [FCGI_OUTCOME_NO_PLACE] = { HTTP_SERVICE_UNAVAILABLE, APLOG_ERR,
                                FCGI_LOGNO("18") },
    [FCGI_OUTCOME_TIMED_OUT] = { HTTP_GATEWAY_TIME_OUT, APLOG_ERR,
                                 FCGI_LOGNO("02") },
    [FCGI_OUTCOME_BROKEN] = { HTTP_BAD_GATEWAY, APLOG_ERR, FCGI_LOGNO("03") },
    [FCGI_OUTCOME_MALFORMED] = { HTTP_BAD_GATEWAY, APLOG_ERR,
                                 FCGI_LOGNO("04") },
    [FCGI_OUTCOME_BAD_HEADERS] = { HTTP_BAD_GATEWAY, APLOG_ERR,
                                   FCGI_LOGNO("05") },
    [FCGI_OUTCOME_OVERLOADED] = { HTTP_SERVICE_UNAVAILABLE, APLOG_ERR,
                                  FCGI_LOGNO("06") },
    [FCGI_OUTCOME_UNKNOWN_ROLE] = { HTTP_INTERNAL_SERVER_ERROR, APLOG_ERR,
                                    FCGI_LOGNO("07") },
    [FCGI_OUTCOME_CLIENT_BAD] = { 0, APLOG_INFO, FCGI_LOGNO("08") },
    [FCGI_OUTCOME_NO_SPACE] = { HTTP_INSUFFICIENT_STORAGE, APLOG_ERR,
                                FCGI_LOGNO("16") },
    [FCGI_OUTCOME_CLIENT_GONE] = { STATUS_CLIENT_GONE, APLOG_INFO,
                                   FCGI_LOGNO("09") },
    [FCGI_OUTCOME_REFUSED] = { HTTP_INTERNAL_SERVER_ERROR, APLOG_ERR,
                               FCGI_LOGNO("31") },
};

/* What a failed request's line says at its end: that others share it, and
 * that the application answers somebody else. */
static const char *more_words(const fcgi_ask *ask, apr_uint32_t others)
{
    apr_uint32_t foreign = ask->ex->reader.foreign_records;
    apr_pool_t *pool = ask->r->pool;

    return apr_pstrcat(
        pool,
        foreign ? apr_psprintf(
            pool, "; %u records came with another request's id", foreign)
                : "",
        others ? apr_psprintf(pool,
                              "; %u more requests got no connection since the "
                              "last such line",
                              others)
               : "",
        NULL);
}

/*
 * The one log line of a request that failed. Requests that get no connection
 * share one line a second: there may be thousands while an application is
 * down.
 */
static void log_failure(const fcgi_ask *ask, const policy *how,
                        apr_interval_time_t took)
{
    const fcgi_result *result = &ask->result;
    int level = how->level;
    apr_uint32_t others = 0;

    if ((result->outcome == FCGI_OUTCOME_NO_CONNECT
         || result->outcome == FCGI_OUTCOME_NO_PLACE)
        && !fcgi_backend_failed(ask->backend, &others)) {
        level = APLOG_DEBUG;
    }
    if (ask->ex->outflow->outlet.state == FCGI_OUTLET_ANSWERED) {
        level = APLOG_INFO; /* who answers instead says why */
    }
    ap_log_rerror(
        APLOG_MARK, level, result->rv, ask->r,
        "%s%s: %s in phase %s: %s (after %" APR_TIME_T_FMT
        " ms, %" APR_OFF_T_FMT " bytes to and %" APR_OFF_T_FMT
        " bytes from the application, try %d, %s%s)",
        how->id, ask->backend->name, fcgi_outcome_name(result->outcome),
        fcgi_phase_name(result->phase), result->why, apr_time_as_msec(took),
        fcgi_exchange_sent(ask->ex), ask->ex->bytes_in, ask->tries,
        ask->r->filename ? ask->r->filename : ask->r->uri,
        more_words(ask, others));
}

/* For the backend's account. */
static void count(const fcgi_ask *ask, apr_interval_time_t took)
{
    apr_interval_time_t no_time = -1;
    fcgi_ended ended = { 0 };

    ended.at = ask->started + took;
    ended.outcome = ask->result.outcome;
    ended.starts = ask->ex->starts;
    ended.on_reused = ask->ex->on_reused;
    ended.bytes_sent = fcgi_exchange_sent(ask->ex);
    ended.bytes_received = ask->ex->bytes_in;
    ended.spans[FCGI_SPAN_WAIT] =
        ask->tries ? ask->acquire.waits.queue + ask->acquire.waits.connect
                   : no_time;
    ended.spans[FCGI_SPAN_FIRST_BYTE] =
        ask->ex->first_byte_at ? ask->ex->first_byte_at - ask->started
                               : no_time;
    ended.spans[FCGI_SPAN_TOTAL] = ask->tries ? took : no_time;
    fcgi_backend_count(ask->backend, &ended);
}

/* Cuts an answer that was begun, and remembers that for the access log. */
static void cut(fcgi_ask *ask)
{
    request_rec *r = ask->r;

    fcgi_outflow_cut(ask->ex->outflow);
    if (ask->ex->outflow->outlet.state == FCGI_OUTLET_ANSWERED) {
        return; /* while it was given what there was */
    }
    for (; r; r = r->prev ? r->prev : r->main) {
        apr_table_setn(r->notes, CUT_NOTE, "1");
    }
}

/* Nobody is there: whatever httpd still says must not look like an answer. */
static int conclude_gone(fcgi_ask *ask)
{
    request_rec *r = ask->r;

    if (!fcgi_response_is_begun(ask->ex->response)
        && !fcgi_outlet_is_out(&ask->ex->outflow->outlet)) {
        r->status = STATUS_CLIENT_GONE;
    }
    r->connection->keepalive = AP_CONN_CLOSE;
    r->connection->aborted = 1;
    return OK;
}

/* The outcome is an error, and no answer was begun. */
static int conclude_failed(fcgi_ask *ask, int status)
{
    fcgi_response_withdraw(ask->ex->response);
    if (status == HTTP_SERVICE_UNAVAILABLE) {
        apr_table_setn(ask->r->err_headers_out, "Retry-After", RETRY_AFTER);
    }
    return status;
}

/* An output filter refused the answer; what became of the application does
 * not matter to the client. */
static int conclude_refused(fcgi_ask *ask)
{
    if (ask->ex->outflow->outlet.state == FCGI_OUTLET_ANSWERED) {
        return AP_FILTER_ERROR; /* nothing is left to say */
    }
    if (!fcgi_outlet_is_out(&ask->ex->outflow->outlet)) {
        return conclude_failed(ask, policies[FCGI_OUTCOME_REFUSED].status);
    }
    cut(ask);
    return AP_FILTER_ERROR;
}

/* There is no whole answer of the application's. */
static int conclude_undone(fcgi_ask *ask)
{
    fcgi_outcome outcome = ask->result.outcome;
    fcgi_outlet_state state = ask->ex->outflow->outlet.state;
    int status = policies[outcome].status;

    if (state == FCGI_OUTLET_ANSWERED || state == FCGI_OUTLET_FAILED) {
        return conclude_refused(ask);
    }
    if (ask->r->connection->aborted || outcome == FCGI_OUTCOME_CLIENT_GONE) {
        return conclude_gone(ask);
    }
    if (fcgi_response_is_begun(ask->ex->response)) {
        cut(ask);
        return OK;
    }
    return conclude_failed(ask, status ? status : ask->result.client_status);
}

/* What was strange about a complete answer. */
static void tell_oddities(const fcgi_ask *ask)
{
    const fcgi_response *response = ask->ex->response;
    request_rec *r = ask->r;

    if (response->too_long) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                      FCGI_LOGNO("11") "%s: the answer is longer than its "
                                       "Content-Length %" APR_OFF_T_FMT
                                       "; the rest is dropped",
                      response->backend, response->head.content_length);
    }
    if (ask->ex->stray) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                      FCGI_LOGNO("19") "%s: bytes came on a connection that "
                                       "carried no request; it is closed",
                      response->backend);
    }
    if (ask->ex->app_status) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      FCGI_LOGNO("12") "%s: the application ended with "
                                       "status %u",
                      response->backend, ask->ex->app_status);
    }
    if (ask->ex->unended) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      FCGI_LOGNO("34") "%s: the application closed the "
                                       "connection without END_REQUEST; its "
                                       "answer is whole",
                      response->backend);
    }
}

/* Gives what httpd is to give in place of a complete answer, if it is to. */
static int perform(fcgi_ask *ask)
{
    fcgi_response *response = ask->ex->response;

    if (response->replaced.kind != FCGI_REPLACE_NOT) {
        int status = fcgi_replace_perform(
            &ask->ex->outflow->outlet, &response->replaced,
            response->head.fields, response->backend);

        if (status != OK
            && ask->ex->outflow->outlet.state == FCGI_OUTLET_OPEN) {
            fcgi_response_withdraw(response);
        }
        return status;
    }
    if (response->condition == HTTP_NOT_MODIFIED) {
        /* not as an error: mod_cache asked, perhaps, and listens */
        ask->r->status = response->condition;
        return OK;
    }
    if (response->condition) {
        fcgi_response_withdraw(ask->ex->response);
    }
    return response->condition ? response->condition : OK;
}

/* The application's answer is complete. */
static int conclude_done(fcgi_ask *ask)
{
    fcgi_outlet *outlet = &ask->ex->outflow->outlet;
    int status = OK;

    tell_oddities(ask);
    if (outlet->state == FCGI_OUTLET_OPEN) {
        status = perform(ask);
    }
    if (outlet->state == FCGI_OUTLET_OPEN) {
        return status;
    }
    if (outlet->state == FCGI_OUTLET_GONE && fcgi_outlet_is_out(outlet)) {
        return conclude_gone(ask); /* perhaps with all of it, see
                                   * fcgi_response_finish() */
    }
    ask->result.outcome = fcgi_response_lost(ask->ex->response);
    ask->result.rv = outlet->rv;
    ask->result.why = ask->ex->response->why;
    return OK;
}

int fcgi_conclude(fcgi_ask *ask)
{
    apr_interval_time_t took = fcgi_clock_now() - ask->started;
    int status = OK;

    ap_log_rerror(APLOG_MARK, APLOG_TRACE4, 0, ask->r,
                  "%s: %s, after %" APR_TIME_T_FMT " us, %" APR_OFF_T_FMT
                  " bytes to and %" APR_OFF_T_FMT
                  " bytes from the application",
                  ask->backend->name, fcgi_outcome_name(ask->result.outcome),
                  took, fcgi_exchange_sent(ask->ex), ask->ex->bytes_in);
    if (ask->result.outcome == FCGI_OUTCOME_DONE) {
        status = conclude_done(ask);
    }
    if (ask->result.outcome != FCGI_OUTCOME_DONE) {
        log_failure(ask, &policies[ask->result.outcome], took);
        status = conclude_undone(ask);
    }
    if (ask->no_connection) {
        apr_table_setn(ask->r->notes, NO_CONNECTION_NOTE, ask->backend->name);
    }
    fcgi_notes_add(ask, took);
    count(ask, took);
    return status;
}

void fcgi_conclude_moved(const fcgi_ask *ask)
{
    apr_interval_time_t took = fcgi_clock_now() - ask->started;
    policy how = policies[ask->result.outcome];

    how.level = APLOG_WARNING;
    log_failure(ask, &how, took);
    count(ask, took);
}

void fcgi_conclude_abandoned(fcgi_ask *ask)
{
    apr_interval_time_t took = fcgi_clock_now() - ask->started;

    log_failure(ask, &policies[ask->result.outcome], took);
    conclude_gone(ask);
    fcgi_notes_add(ask, took);
    count(ask, took);
}

int fcgi_conclude_was_in_vain(const request_rec *r,
                              const fcgi_backend *backend)
{
    const char *name = NULL;

    for (r = r->prev; r && !name; r = r->prev) {
        name = apr_table_get(r->notes, NO_CONNECTION_NOTE);
    }
    return name && !strcmp(name, backend->name);
}

int fcgi_conclude_log(request_rec *r)
{
    if (apr_table_get(r->notes, CUT_NOTE)) {
        r->connection->aborted = 1;
    }
    fcgi_notes_pass_on(r);
    return DECLINED;
}
