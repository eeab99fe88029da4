/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * mod_fastcgi_handler.c - a FastCGI gateway as a handler: the story of a
 * request from top to bottom, the hooks, and the one table that turns an
 * outcome into an HTTP status and a log line.
 *
 * Start at fastcgi_handler(). Who does what: fcgi_config (directives),
 * fcgi_known (the backends named there), fcgi_trust (which of them a request
 * means, and whether it may), fcgi_backend (getting a connection),
 * fcgi_env (variables), fcgi_exchange (one request on one connection),
 * fcgi_driver (waiting), fcgi_response (the answer), fcgi_record (the bytes),
 * fcgi_startup (before and after all requests), fcgi_status (what all this
 * looks like from outside).
 */
#include <httpd.h>
#include <http_config.h>
#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mod_status.h>
#include <mpm_common.h>
#include <util_filter.h>

#include <apr_strings.h>

#include "fcgi_backend.h"
#include "fcgi_body.h"
#include "fcgi_clock.h"
#include "fcgi_config.h"
#include "fcgi_conftree.h"
#include "fcgi_declare.h"
#include "fcgi_driver.h"
#include "fcgi_env.h"
#include "fcgi_exchange.h"
#include "fcgi_log.h"
#include "fcgi_origin.h"
#include "fcgi_outcome.h"
#include "fcgi_outflow.h"
#include "fcgi_replace.h"
#include "fcgi_startup.h"
#include "fcgi_status.h"
#include "fcgi_trust.h"
#include "fcgi_untouched.h"

/* Access logs show a client that left as nginx's do; httpd has no status. */
#define STATUS_CLIENT_GONE 499

/* What our notes in r->notes start with. */
#define NOTES "fcgi-"

/* Set in r->notes of an answer that was cut. */
#define CUT_NOTE NOTES "cut"

/* Set in r->notes of a request that got no connection: the backend. */
#define NO_CONNECTION_NOTE NOTES "no-connection"

/* Seconds a client is asked to wait after a 503. */
#define RETRY_AFTER "1"

/* Before a request is sent once more: an application that is being stopped
 * loses its workers first and its socket a moment later. */
#define RETRY_PAUSE apr_time_from_msec(20)

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
static const char *more_words(const fcgi_exchange *ex, apr_uint32_t others)
{
    apr_uint32_t foreign = ex->reader.foreign_records;
    apr_pool_t *pool = ex->r->pool;

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
static void log_failure(const fcgi_exchange *ex, const policy *how,
                        apr_interval_time_t took)
{
    const fcgi_result *result = &ex->result;
    int level = how->level;
    apr_uint32_t others = 0;

    if ((result->outcome == FCGI_OUTCOME_NO_CONNECT
         || result->outcome == FCGI_OUTCOME_NO_PLACE)
        && !fcgi_backend_failed(ex->backend, &others)) {
        level = APLOG_DEBUG;
    }
    if (ex->outflow->outlet.state == FCGI_OUTLET_ANSWERED) {
        level = APLOG_INFO; /* who answers instead says why */
    }
    ap_log_rerror(APLOG_MARK, level, result->rv, ex->r,
                  "%s%s: %s in phase %s: %s (after %" APR_TIME_T_FMT
                  " ms, %" APR_OFF_T_FMT " bytes to and %" APR_OFF_T_FMT
                  " bytes from the application, try %d, %s%s)",
                  how->id, ex->backend->name,
                  fcgi_outcome_name(result->outcome),
                  fcgi_phase_name(result->phase), result->why,
                  apr_time_as_msec(took), fcgi_exchange_sent(ex), ex->bytes_in,
                  ex->tries, ex->r->filename ? ex->r->filename : ex->r->uri,
                  more_words(ex, others));
}

static void set_note(request_rec *r, const char *name, apr_int64_t number)
{
    apr_table_setn(r->notes, name,
                   apr_psprintf(r->pool, "%" APR_INT64_T_FMT, number));
}

/* For the access log; docs/monitoring.rst lists them. Times are in
 * microseconds. */
static void set_notes(const fcgi_exchange *ex, apr_interval_time_t took)
{
    request_rec *r = ex->r;

    apr_table_setn(r->notes, "fcgi-backend", ex->backend->name);
    apr_table_setn(r->notes, "fcgi-reused", ex->on_reused ? "1" : "0");
    set_note(r, "fcgi-tries", ex->tries);
    set_note(r, "fcgi-queue", ex->waits.queue);
    set_note(r, "fcgi-connect", ex->waits.connect);
    set_note(r, "fcgi-total", took);
    set_note(r, "fcgi-bytes-out", fcgi_exchange_sent(ex));
    set_note(r, "fcgi-bytes-in", ex->bytes_in);
    if (ex->first_byte_at) {
        set_note(r, "fcgi-first-byte", ex->first_byte_at - ex->started);
    }
    if (ex->result.outcome == FCGI_OUTCOME_DONE && !ex->unended) {
        set_note(r, "fcgi-app-status", ex->app_status);
    }
}

/* For the backend's account. */
static void count(const fcgi_exchange *ex, apr_interval_time_t took)
{
    apr_interval_time_t no_time = -1;
    fcgi_ended ended = { 0 };

    ended.outcome = ex->result.outcome;
    ended.starts = ex->starts;
    ended.on_reused = ex->on_reused;
    ended.bytes_sent = fcgi_exchange_sent(ex);
    ended.bytes_received = ex->bytes_in;
    ended.spans[FCGI_SPAN_WAIT] =
        ex->tries ? ex->waits.queue + ex->waits.connect : no_time;
    ended.spans[FCGI_SPAN_FIRST_BYTE] =
        ex->first_byte_at ? ex->first_byte_at - ex->started : no_time;
    ended.spans[FCGI_SPAN_TOTAL] = ex->tries ? took : no_time;
    fcgi_backend_count(ex->backend, &ended);
}

/* Cuts an answer that was begun, and remembers that for the access log. */
static void cut(fcgi_exchange *ex)
{
    request_rec *r = ex->r;

    fcgi_outflow_cut(ex->outflow);
    if (ex->outflow->outlet.state == FCGI_OUTLET_ANSWERED) {
        return; /* while it was given what there was */
    }
    for (; r; r = r->prev ? r->prev : r->main) {
        apr_table_setn(r->notes, CUT_NOTE, "1");
    }
}

/* Nobody is there: whatever httpd still says must not look like an answer. */
static int conclude_gone(fcgi_exchange *ex)
{
    request_rec *r = ex->r;

    if (!fcgi_response_is_begun(ex->response)
        && !fcgi_outlet_is_out(&ex->outflow->outlet)) {
        r->status = STATUS_CLIENT_GONE;
    }
    r->connection->keepalive = AP_CONN_CLOSE;
    r->connection->aborted = 1;
    return OK;
}

/* The outcome is an error, and no answer was begun. */
static int conclude_failed(fcgi_exchange *ex, int status)
{
    fcgi_response_withdraw(ex->response);
    if (status == HTTP_SERVICE_UNAVAILABLE) {
        apr_table_setn(ex->r->err_headers_out, "Retry-After", RETRY_AFTER);
    }
    return status;
}

/* An output filter refused the answer; what became of the application does
 * not matter to the client. */
static int conclude_refused(fcgi_exchange *ex)
{
    if (ex->outflow->outlet.state == FCGI_OUTLET_ANSWERED) {
        return AP_FILTER_ERROR; /* nothing is left to say */
    }
    if (!fcgi_outlet_is_out(&ex->outflow->outlet)) {
        return conclude_failed(ex, policies[FCGI_OUTCOME_REFUSED].status);
    }
    cut(ex);
    return AP_FILTER_ERROR;
}

/* There is no whole answer of the application's. */
static int conclude_undone(fcgi_exchange *ex)
{
    fcgi_outcome outcome = ex->result.outcome;
    fcgi_outlet_state state = ex->outflow->outlet.state;
    int status = policies[outcome].status;

    if (state == FCGI_OUTLET_ANSWERED || state == FCGI_OUTLET_FAILED) {
        return conclude_refused(ex);
    }
    if (ex->r->connection->aborted || outcome == FCGI_OUTCOME_CLIENT_GONE) {
        return conclude_gone(ex);
    }
    if (fcgi_response_is_begun(ex->response)) {
        cut(ex);
        return OK;
    }
    return conclude_failed(ex, status ? status : ex->result.client_status);
}

/* What was strange about a complete answer. */
static void tell_oddities(const fcgi_exchange *ex)
{
    const fcgi_response *response = ex->response;
    request_rec *r = ex->r;

    if (response->too_long) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                      FCGI_LOGNO("11") "%s: the answer is longer than its "
                                       "Content-Length %" APR_OFF_T_FMT
                                       "; the rest is dropped",
                      response->backend, response->head.content_length);
    }
    if (ex->stray) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                      FCGI_LOGNO("19") "%s: bytes came on a connection that "
                                       "carried no request; it is closed",
                      response->backend);
    }
    if (ex->app_status) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      FCGI_LOGNO("12") "%s: the application ended with "
                                       "status %u",
                      response->backend, ex->app_status);
    }
    if (ex->unended) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      FCGI_LOGNO("34") "%s: the application closed the "
                                       "connection without END_REQUEST; its "
                                       "answer is whole",
                      response->backend);
    }
}

/* Gives what httpd is to give in place of a complete answer, if it is to. */
static int perform(fcgi_exchange *ex)
{
    fcgi_response *response = ex->response;

    if (response->replaced.kind != FCGI_REPLACE_NOT) {
        int status =
            fcgi_replace_perform(&ex->outflow->outlet, &response->replaced,
                                 response->head.fields, response->backend);

        if (status != OK && ex->outflow->outlet.state == FCGI_OUTLET_OPEN) {
            fcgi_response_withdraw(response);
        }
        return status;
    }
    if (response->condition == HTTP_NOT_MODIFIED) {
        /* not as an error: mod_cache asked, perhaps, and listens */
        ex->r->status = response->condition;
        return OK;
    }
    if (response->condition) {
        fcgi_response_withdraw(ex->response);
    }
    return response->condition ? response->condition : OK;
}

/* The application's answer is complete. */
static int conclude_done(fcgi_exchange *ex)
{
    fcgi_outlet *outlet = &ex->outflow->outlet;
    int status = OK;

    tell_oddities(ex);
    if (outlet->state == FCGI_OUTLET_OPEN) {
        status = perform(ex);
    }
    if (outlet->state == FCGI_OUTLET_OPEN) {
        return status;
    }
    if (outlet->state == FCGI_OUTLET_GONE && fcgi_outlet_is_out(outlet)) {
        return conclude_gone(ex); /* perhaps with all of it, see
                                   * fcgi_response_finish() */
    }
    ex->result.outcome = fcgi_response_lost(ex->response);
    ex->result.rv = outlet->rv;
    ex->result.why = ex->response->why;
    return OK;
}

/* Outcome -> what the handler returns. */
static int conclude(fcgi_exchange *ex)
{
    apr_interval_time_t took = fcgi_clock_now() - ex->started;
    int status = OK;

    ap_log_rerror(APLOG_MARK, APLOG_TRACE4, 0, ex->r,
                  "%s: %s, after %" APR_TIME_T_FMT " us, %" APR_OFF_T_FMT
                  " bytes to and %" APR_OFF_T_FMT
                  " bytes from the application",
                  ex->backend->name, fcgi_outcome_name(ex->result.outcome),
                  took, fcgi_exchange_sent(ex), ex->bytes_in);
    if (ex->result.outcome == FCGI_OUTCOME_DONE) {
        status = conclude_done(ex);
    }
    if (ex->result.outcome != FCGI_OUTCOME_DONE) {
        log_failure(ex, &policies[ex->result.outcome], took);
        status = conclude_undone(ex);
    }
    set_notes(ex, took);
    count(ex, took);
    return status;
}

/* Takes the body and encodes the variables; 0 if that ended the exchange, and
 * then *status is set if it was not the client's fault. */
static int get_ready(fcgi_exchange *ex, const char *location,
                     fcgi_params *params, int *status)
{
    apr_off_t body_len = fcgi_exchange_take_body(ex);

    if (ex->result.outcome != FCGI_OUTCOME_PENDING) {
        return 0;
    }
    if (!fcgi_env_encode(ex->r, location, body_len, params)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, ex->r,
                      FCGI_LOGNO("15") "%s: a variable is too long for "
                                       "FastCGI",
                      ex->backend->name);
        *status = HTTP_INTERNAL_SERVER_ERROR;
        return 0;
    }
    ap_log_rerror(APLOG_MARK, APLOG_TRACE4, 0, ex->r,
                  "%s: to be asked for %s, with %" APR_SIZE_T_FMT
                  " bytes of variables and a body of %" APR_OFF_T_FMT
                  " bytes%s",
                  ex->backend->name, ex->r->uri, params->len, ex->body_len,
                  body_len < 0 ? " so far" : "");
    return 1;
}

/* True if this is the error page of a request that got no connection to the
 * same backend: it need not be waited for a second time. */
static int was_in_vain(const fcgi_exchange *ex)
{
    const request_rec *r = ex->r->prev;
    const char *name = NULL;

    while (r && !name) {
        name = apr_table_get(r->notes, NO_CONNECTION_NOTE);
        r = r->prev;
    }
    return name && !strcmp(name, ex->backend->name);
}

/* Asks the application; again, if nothing is lost and nothing done by that. */
static void ask(fcgi_exchange *ex, const fcgi_params *params)
{
    fcgi_patience patience = { 0 };

    patience.connect = ex->terms.connect;
    patience.until = ex->terms.total ? ex->started + ex->terms.total : 0;
    patience.unrepeatable = !fcgi_exchange_is_repeatable(ex);
    patience.once = was_in_vain(ex);
    patience.pause = fcgi_driver_pause;
    patience.baton = ex;
    do {
        fcgi_result result = { 0 };
        fcgi_conn *conn =
            fcgi_backend_acquire(ex->backend, ex->r->pool, &patience, &result);

        ex->tries++;
        ex->waits = patience.waits;
        if (!conn) {
            if (fcgi_exchange_is_over(ex)) {
                ex->result.phase = result.phase;
            }
            else {
                ex->result = result;
            }
            apr_table_setn(ex->r->notes, NO_CONNECTION_NOTE,
                           ex->backend->name);
            return;
        }
        ap_log_rerror(APLOG_MARK, APLOG_TRACE4, 0, ex->r,
                      "%s: has a %s connection, try %d, after "
                      "%" APR_TIME_T_FMT " us in line and %" APR_TIME_T_FMT
                      " us to connect",
                      ex->backend->name, conn->reused ? "kept" : "new",
                      ex->tries, ex->waits.queue, ex->waits.connect);
        fcgi_exchange_start(ex, conn, params->bytes, params->len);
        fcgi_driver_run(ex);
        patience.fresh = 1;
    } while (fcgi_exchange_may_retry(ex)
             && fcgi_driver_pause(ex, RETRY_PAUSE) == APR_SUCCESS);
}

static fcgi_exchange *create_exchange(request_rec *r,
                                      const fcgi_backend *backend)
{
    const fcgi_dir_config *conf = fcgi_config_settings(r);
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);
    fcgi_terms terms;

    terms.connect = conf->connect_timeout;
    terms.idle = conf->timeout;
    terms.first_byte = conf->first_byte_timeout;
    terms.total = conf->total_timeout;
    terms.ignore_client_abort = conf->ignore_client_abort;
    terms.has_body = fcgi_body_is_of(r);
    terms.stream_body = !conf->request_buffering && !fcgi_body_is_kept(r);
    terms.flush = (fcgi_flush)conf->flush;
    terms.retry = conf->retry;
    terms.max_header_size = (apr_size_t)conf->max_header_size;
    terms.spool.memory = (apr_size_t)conf->buffer_memory;
    terms.spool.max = conf->buffer_max;
    terms.spool.dir = conf->buffer_dir;
    /* Where nothing is said httpd sends no file of the site so, as that may
     * lie anywhere; ours lies where the system's temporary files do. */
    terms.spool.sendfile = core->enable_sendfile != ENABLE_SENDFILE_OFF;
    return fcgi_exchange_create(r, backend, &terms);
}

/* CONNECT asks for a tunnel to a host (RFC 9110, 9.3.6), which no application
 * is. It has no URL; httpd has put / in its place. */
static int refuse_tunnel(request_rec *r)
{
    ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                  FCGI_LOGNO("32") "handler '%s': not asked for CONNECT %s",
                  r->handler, r->unparsed_uri);
    return HTTP_METHOD_NOT_ALLOWED;
}

static int fastcgi_handler(request_rec *r)
{
    const fcgi_backend *backend;
    const char *location, *why;
    fcgi_params params;
    fcgi_exchange *ex;
    int status = OK;

    if (!fcgi_address_is_ours(r->handler)) {
        return DECLINED;
    }
    if (r->method_number == M_CONNECT) {
        return refuse_tunnel(r);
    }
    why = fcgi_trust_backend(r, &backend);
    if (why) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      FCGI_LOGNO("13") "handler '%s': %s", r->handler, why);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    status = fcgi_env_map(r, (fcgi_script)fcgi_config_settings(r)->script,
                          &location, &why);
    if (status != OK) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      FCGI_LOGNO("14") "%s: not asked for %s: %s",
                      backend->name, r->filename ? r->filename : r->uri, why);
        return status;
    }
    ex = create_exchange(r, backend);
    if (get_ready(ex, location, &params, &status)) {
        ask(ex, &params);
    }
    return status == OK ? conclude(ex) : status;
}

/*
 * A folder of the same name does not hide a URL of an application below a
 * Location: without this, mod_dir would redirect /admin to /admin/, and put
 * an index file that exists in the place of /.
 */
static int hide_folder(request_rec *r)
{
    if (r->finfo.filetype == APR_DIR && fcgi_address_is_ours(r->handler)
        && fcgi_config_settings(r)->script != FCGI_SCRIPT_FILE
        && fcgi_origin_location(r)) {
        r->finfo.filetype = APR_NOFILE;
    }
    return DECLINED;
}

static int copy_note(void *to, const char *name, const char *value)
{
    if (!strncmp(name, NOTES, sizeof(NOTES) - 1)) {
        apr_table_setn(to, name, value);
    }
    return 1;
}

/*
 * Before the access log is written. Its %X says of a cut answer what it says
 * of one that the client cut; all that httpd could send has left. It looks at
 * the notes of the last of several internal redirects: those of the last that
 * asked an application are put there.
 */
static int finish_log(request_rec *r)
{
    request_rec *asked = NULL, *last = r;

    if (apr_table_get(r->notes, CUT_NOTE)) {
        r->connection->aborted = 1;
    }
    for (; last; last = last->next) {
        if (apr_table_get(last->notes, NOTES "backend")) {
            asked = last;
        }
        else if (asked && !last->next) {
            apr_table_do(copy_note, last->notes, asked->notes, NULL);
        }
    }
    return DECLINED;
}

static void register_hooks(apr_pool_t *pool)
{
    static const char *const after_core[] = { "core.c", NULL };

    (void)pool;
    ap_hook_pre_config(fcgi_startup_begin, NULL, NULL, APR_HOOK_MIDDLE);
    /* when the configuration is read, also for configtest */
    ap_hook_check_config(fcgi_conftree_check, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_check_config(fcgi_declare_complete, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(fcgi_config_complete, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(fcgi_startup_open, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(fcgi_startup_child, NULL, NULL, APR_HOOK_MIDDLE);
    /* before core looks for a file */
    ap_hook_translate_name(fcgi_origin_translate, NULL, NULL, APR_HOOK_LAST);
    ap_hook_map_to_storage(fcgi_origin_map, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_dirwalk_stat(fcgi_origin_stat, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_open_htaccess(fcgi_origin_open_htaccess, NULL, NULL,
                          APR_HOOK_MIDDLE);
    /* what a request is before .htaccess files have a part in it: when all is
     * known of the client, before rules change the URL, after the walks */
    ap_hook_pre_config(fcgi_untouched_start, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_read_request(fcgi_untouched_save, NULL, NULL,
                              APR_HOOK_REALLY_LAST);
    ap_hook_translate_name(fcgi_untouched_save_url, NULL, NULL,
                           APR_HOOK_REALLY_FIRST);
    ap_hook_post_perdir_config(fcgi_untouched_look, NULL, NULL,
                               APR_HOOK_REALLY_FIRST);
    ap_hook_open_htaccess(fcgi_untouched_open_htaccess, NULL, NULL,
                          APR_HOOK_FIRST);
    ap_hook_dirwalk_stat(fcgi_untouched_stat, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_child_stopping(fcgi_startup_stop_child, NULL, NULL,
                           APR_HOOK_MIDDLE);
    /* after core, before any other module changes what expressions see */
    ap_hook_fixups(fcgi_origin_remember, after_core, NULL,
                   APR_HOOK_REALLY_FIRST);
    /* before mod_dir, which comes last */
    ap_hook_fixups(hide_folder, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(fastcgi_handler, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(fcgi_status_handler, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ap, status_hook, fcgi_status_section, NULL, NULL,
                      APR_HOOK_MIDDLE);
    /* before the access log is written */
    ap_hook_log_transaction(finish_log, NULL, NULL, APR_HOOK_FIRST);
}

AP_DECLARE_MODULE(fastcgi_handler) = {
    STANDARD20_MODULE_STUFF,
    fcgi_config_create_dir, /* settings of a directory */
    fcgi_config_merge_dir,
    NULL, /* none of a server */
    NULL,
    fcgi_config_commands,
    register_hooks,
    AP_MODULE_FLAG_NONE,
};
