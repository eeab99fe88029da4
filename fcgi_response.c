/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_response.c - STDOUT to an HTTP answer, STDERR to the log; the
 * contract is in fcgi_response.h. The header block is gathered whole, in
 * bounded memory, before anything of it is believed: see gather() and
 * begin(), in this order.
 */
#include "fcgi_response.h"

#include <apr_date.h>
#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>

#include "fcgi_config.h"
#include "fcgi_log.h"

APLOG_USE_MODULE(fastcgi_handler);

fcgi_response *fcgi_response_create(fcgi_outflow *flow,
                                    apr_size_t max_header_size,
                                    fcgi_flush flush)
{
    request_rec *r = flow->outlet.r;
    fcgi_response *response = apr_pcalloc(r->pool, sizeof(*response));

    response->r = r;
    response->backend = flow->backend;
    response->original_status = r->status;
    fcgi_head_init(&response->head, r->pool, max_header_size);
    fcgi_stderr_init(&response->stderr_lines, r, flow->backend,
                     fcgi_config_settings(r)->stderr_rules);
    response->flush = flush;
    response->flow = flow;
    return response;
}

static fcgi_outcome refuse(fcgi_response *response, const char *why)
{
    response->why = why;
    return FCGI_OUTCOME_BAD_HEADERS;
}

/* ---- fields ---- */

/* As core does it for CGI programs: no date that cannot be read, and none in
 * the future (RFC 9110, 8.8.2.1). */
static void set_modified(request_rec *r, const char *date)
{
    apr_time_t mtime = apr_date_parse_http(date);

    if (mtime != APR_DATE_BAD) {
        ap_update_mtime(r, mtime);
        ap_set_last_modified(r);
    }
}

static void set_type(request_rec *r, const char *type)
{
    if (*type) { /* an empty one is PHP's way to say none */
        ap_set_content_type(r, type);
    }
}

/* Where httpd's CGI programs have theirs: those that httpd itself looks at in
 * headers_out, all others in err_headers_out, in which "Header always" finds
 * them. Those about one connection, which is not the client's, go nowhere: the
 * framing towards the client is httpd's. */
static void set_field(request_rec *r, const char *name, const char *value)
{
    switch (fcgi_head_field(name)) {
    case FCGI_FIELD_TYPE:
        set_type(r, value);
        break;
    case FCGI_FIELD_MODIFIED:
        set_modified(r, value);
        break;
    case FCGI_FIELD_SINGLE:
        apr_table_setn(r->headers_out, name, value);
        break;
    case FCGI_FIELD_VARY:
        /* in one line: of several mod_cache_disk knows the first, and
         * variants would take each other's place */
        apr_table_mergen(r->err_headers_out, name, value);
        break;
    case FCGI_FIELD_CONNECTION:
        if (ap_find_token(r->pool, value, "close")) {
            /* not passed on: httpd looks for it here, and then closes the
             * client's connection itself, as scripts expect that work on */
            apr_table_setn(r->headers_out, "Connection", "close");
        }
        break;
    case FCGI_FIELD_HOP:
    case FCGI_FIELD_STATUS: /* these two are not among the fields */
    case FCGI_FIELD_LENGTH:
        break;
    case FCGI_FIELD_OTHER:
        apr_table_addn(r->err_headers_out, name, value);
    }
}

static int add_field(void *fields, const char *name, const char *value)
{
    apr_table_addn(fields, name, value);
    return 1;
}

/* ---- interim responses ---- */

static int set_interim_field(void *fields, const char *name, const char *value)
{
    fcgi_field field = fcgi_head_field(name);

    if (field != FCGI_FIELD_CONNECTION && field != FCGI_FIELD_HOP) {
        apr_table_addn(fields, name, value);
    }
    return 1;
}

/* Sends a 1xx block on (RFC 9110, 15.2), and flushes. httpd takes the fields
 * of one from headers_out alone. */
static void send_interim(request_rec *r, apr_pool_t *pool,
                         const fcgi_interim *interim)
{
    apr_table_t *headers = r->headers_out;
    const char *status_line = r->status_line;
    int status = r->status;

    r->headers_out = apr_table_make(pool, 8);
    apr_table_do(set_interim_field, r->headers_out, interim->fields, NULL);
    r->status = interim->status;
    r->status_line = interim->reason;
    ap_send_interim_response(r, 1);
    r->status = status;
    r->status_line = status_line;
    r->headers_out = headers;
}

/* Sends the 1xx blocks that are held, as far as that waits for nobody, or all
 * that may be sent at all. Returns 0 if some are left. */
static int send_interims(fcgi_response *response, int may_wait)
{
    int i;

    if (!response->interims_held) {
        return 1; /* as most have none */
    }
    for (i = 0; i < response->interims_held; i++) {
        const fcgi_interim *interim = &response->interims[i];
        fcgi_outflow_when when =
            fcgi_outflow_may_say(response->flow, interim->len);

        if (when == FCGI_OUTFLOW_LATER && !may_wait) {
            break;
        }
        if (when != FCGI_OUTFLOW_NEVER) {
            send_interim(response->r, response->interim_pool, interim);
        }
        fcgi_outflow_said(response->flow,
                          when == FCGI_OUTFLOW_NEVER ? 0 : interim->len);
    }
    response->interims_held -= i;
    memmove(response->interims, response->interims + i,
            (apr_size_t)response->interims_held * sizeof(fcgi_interim));
    if (!response->interims_held) {
        apr_pool_clear(response->interim_pool);
    }
    return !response->interims_held;
}

/* Holds the gathered 1xx block, as a copy, and makes ready for the next. Only
 * a main request's client of HTTP/1.1 gets one (RFC 9110, 15.2). */
static void take_interim(fcgi_response *response)
{
    fcgi_head *head = &response->head;
    request_rec *r = response->r;

    if (!r->main && r->proto_num >= HTTP_VERSION(1, 1)
        && response->interims_held < FCGI_INTERIMS) {
        fcgi_interim *interim;

        if (!response->interim_pool) {
            apr_pool_create(&response->interim_pool, r->pool);
            response->interims =
                apr_palloc(r->pool, FCGI_INTERIMS * sizeof(fcgi_interim));
        }
        interim = &response->interims[response->interims_held++];
        interim->status = head->status;
        interim->reason = apr_pstrdup(response->interim_pool, head->reason);
        interim->fields =
            apr_table_clone(response->interim_pool, head->fields);
        interim->len = head->len;
    }
    fcgi_head_restart(head);
}

/* ---- the answer's head ---- */

static void set_status(fcgi_response *response)
{
    request_rec *r = response->r;

    if (response->head.status) {
        r->status = response->head.status;
        r->status_line = response->head.reason;
        if (!response->head.reason
            && strncmp(ap_get_status_line(r->status),
                       apr_itoa(r->pool, r->status), 3)) {
            r->status_line = apr_psprintf(r->pool, "%d ", r->status);
        }
    }
}

/* Status and fields. What stood among the fields for errors before is
 * remembered, for an answer may have to be taken back. */
static void set_head(fcgi_response *response)
{
    request_rec *r = response->r;
    const apr_array_header_t *fields = apr_table_elts(response->head.fields);
    int i;

    response->is_said = 1;
    if (!apr_is_empty_table(r->err_headers_out)) {
        response->fields_before = apr_table_copy(r->pool, r->err_headers_out);
    }
    set_status(response);
    /* These told of the script's file, not of its output. */
    r->content_type = NULL;
    r->content_encoding = NULL;
    for (i = 0; i < fields->nelts; i++) {
        const apr_table_entry_t *field =
            &APR_ARRAY_IDX(fields, i, const apr_table_entry_t);

        set_field(r, field->key, field->val);
    }
}

/* Event streams, and answers that ask for it, are flushed in any case. */
static void begin_flow(fcgi_response *response)
{
    const char *type = response->r->content_type;
    const char *buffering =
        apr_table_get(response->head.fields, "X-Accel-Buffering");
    fcgi_flush flush = response->flush;
    int is_live = flush == FCGI_FLUSH_ON
                  || (type && !strncasecmp(type, "text/event-stream", 17))
                  || (buffering && !strcasecmp(buffering, "no"));

    fcgi_outflow_begin(
        response->flow,
        is_live && flush == FCGI_FLUSH_OFF ? FCGI_FLUSH_AUTO : flush, is_live);
}

/* True if the client asks under a condition (RFC 9110, 13.1), as most do not:
 * httpd looks for each of the five. */
static int has_condition(const request_rec *r)
{
    const apr_array_header_t *fields = apr_table_elts(r->headers_in);
    int i;

    for (i = 0; i < fields->nelts; i++) {
        const char *name = APR_ARRAY_IDX(fields, i, apr_table_entry_t).key;

        if ((*name == 'I' || *name == 'i') /* as few names begin */
            && !strncasecmp(name, "If-", 3)) {
            return 1;
        }
    }
    return 0;
}

/* Makes the parsed block the answer's. */
static void begin(fcgi_response *response)
{
    request_rec *r = response->r;

    response->promised = response->head.content_length;
    response->replaced = fcgi_replace_decide(r, &response->head);
    response->state = FCGI_RESPONSE_REPLACED;
    if (response->replaced.kind == FCGI_REPLACE_NOT
        || response->replaced.kind == FCGI_REPLACE_FILE) {
        set_head(response);
    }
    if (response->replaced.kind != FCGI_REPLACE_NOT) {
        return;
    }
    if (response->head.content_length >= 0) {
        ap_set_content_length(r, response->head.content_length);
    }
    if (!response->head.status && r->method_number == M_GET
        && has_condition(r)) {
        int condition = ap_meets_conditions(r);

        response->condition = condition == OK ? 0 : condition;
    }
    response->state = FCGI_RESPONSE_BODILESS;
    if (!r->header_only && !AP_STATUS_IS_HEADER_ONLY(r->status)
        && !response->condition) {
        response->state = FCGI_RESPONSE_PASSING;
        begin_flow(response);
    }
}

static void warn_of_length(const fcgi_response *response)
{
    if (response->head.bad_length) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, response->r,
                      FCGI_LOGNO("33") "%s: Content-Length '%.80s' cannot be "
                                       "read, or contradicts another; it is "
                                       "dropped",
                      response->backend, response->head.bad_length);
    }
}

/* Takes bytes of header blocks from data; *taken says how many. */
static fcgi_outcome gather(fcgi_response *response, const char *data,
                           apr_size_t len, apr_size_t *taken)
{
    fcgi_head *head = &response->head;

    switch (fcgi_head_add(head, data, len, taken)) {
    case FCGI_HEAD_MORE:
        return FCGI_OUTCOME_PENDING;
    case FCGI_HEAD_BAD:
        return refuse(response, head->why);
    case FCGI_HEAD_WHOLE:
        break;
    }
    if (head->status == HTTP_SWITCHING_PROTOCOLS) {
        return refuse(response, "status 101, but protocols are not switched");
    }
    ap_log_rerror(APLOG_MARK, APLOG_TRACE4, 0, response->r,
                  "%s: a header block is here: %s, %d fields, Content-Length "
                  "%" APR_OFF_T_FMT,
                  response->backend,
                  head->status ? apr_itoa(response->r->pool, head->status)
                               : "no Status",
                  apr_table_elts(head->fields)->nelts, head->content_length);
    if (!ap_is_HTTP_INFO(head->status)) {
        warn_of_length(response);
        begin(response);
    }
    else if (++response->interim_count > FCGI_MAX_INTERIM) {
        return refuse(response, "1xx blocks without end");
    }
    else {
        take_interim(response);
    }
    return FCGI_OUTCOME_PENDING;
}

/* ---- the body ---- */

static void take_piece(fcgi_response *response, apr_bucket *buffer,
                       const char *data, apr_size_t len)
{
    apr_off_t whole = response->head.content_length;
    apr_off_t taken = response->flow->total;

    response->received += (apr_off_t)len;
    if (response->state != FCGI_RESPONSE_PASSING) {
        return;
    }
    if (whole >= 0 && taken + (apr_off_t)len > whole) {
        len = (apr_size_t)(whole - taken);
        response->too_long = 1;
    }
    fcgi_outflow_take(response->flow, buffer, data, len);
}

fcgi_outcome fcgi_response_stdout(fcgi_response *response, apr_bucket *buffer,
                                  const char *data, apr_size_t len)
{
    while (len && response->state == FCGI_RESPONSE_GATHERING) {
        apr_size_t taken;
        fcgi_outcome outcome = gather(response, data, len, &taken);

        if (outcome != FCGI_OUTCOME_PENDING) {
            return outcome;
        }
        data += taken;
        len -= taken;
    }
    if (len) {
        take_piece(response, buffer, data, len);
    }
    return FCGI_OUTCOME_PENDING;
}

/* ---- passing on ---- */

/* A 1xx block that waits for room goes before all else. */
void fcgi_response_pass(fcgi_response *response)
{
    send_interims(response, 0);
    if (response->state == FCGI_RESPONSE_PASSING) {
        fcgi_outflow_pass(response->flow);
    }
}

void fcgi_response_resume(fcgi_response *response)
{
    send_interims(response, 0);
    fcgi_outflow_resume(response->flow);
}

/* ---- the end ---- */

int fcgi_response_is_begun(const fcgi_response *response)
{
    return response->state == FCGI_RESPONSE_PASSING
           || (response->state == FCGI_RESPONSE_BODILESS
               && fcgi_outlet_is_out(&response->flow->outlet));
}

void fcgi_response_withdraw(fcgi_response *response)
{
    request_rec *r = response->r;

    if (response->is_said) {
        r->status = response->original_status;
        r->status_line = NULL;
        apr_table_clear(r->headers_out);
        /* in place: requests of one chain of redirects share the table */
        apr_table_clear(r->err_headers_out);
        if (response->fields_before) {
            apr_table_do(add_field, r->err_headers_out,
                         response->fields_before, NULL);
        }
        response->is_said = 0;
    }
}

fcgi_outcome fcgi_response_lost(fcgi_response *response)
{
    switch (response->flow->outlet.state) {
    case FCGI_OUTLET_ANSWERED:
        response->why = "an output filter answered in place of the "
                        "application";
        return FCGI_OUTCOME_REFUSED;
    case FCGI_OUTLET_FAILED:
        response->why =
            response->flow->outlet.rv == APR_SUCCESS
                ? "an output filter failed, and httpd takes no more of the "
                  "answer"
                : "what is held of the answer cannot be given on";
        return FCGI_OUTCOME_REFUSED;
    case FCGI_OUTLET_OPEN:
    case FCGI_OUTLET_GONE:
        break;
    }
    response->why = "the client takes no more";
    return FCGI_OUTCOME_CLIENT_GONE;
}

/* Ends an answer of which all is here. Returns 0 if flow took no more. */
static int end_flow(fcgi_response *response, int flush)
{
    send_interims(response, 1);
    if (response->state == FCGI_RESPONSE_REPLACED || response->condition) {
        return 1; /* what httpd gives instead comes now */
    }
    return response->state == FCGI_RESPONSE_BODILESS
               ? fcgi_outflow_end_headers(response->flow)
               : fcgi_outflow_end(response->flow, flush);
}

int fcgi_response_is_whole(const fcgi_response *response, int stdout_ended)
{
    apr_off_t promised = response->promised;

    return response->state != FCGI_RESPONSE_GATHERING
           && (stdout_ended
               || (promised >= 0 && response->received >= promised));
}

int fcgi_response_is_delivered(const fcgi_response *response)
{
    const request_rec *r = response->r;

    return response->state == FCGI_RESPONSE_PASSING && !r->main
           && fcgi_response_is_whole(response, 0)
           && apr_table_get(r->headers_out, "Content-Length")
           && fcgi_outflow_gave_all(response->flow);
}

fcgi_outcome fcgi_response_finish(fcgi_response *response, int flush)
{
    apr_off_t whole = response->head.content_length;
    apr_off_t taken = response->flow->total;

    if (response->flow->outlet.state != FCGI_OUTLET_OPEN) {
        return fcgi_response_is_delivered(response)
                   ? FCGI_OUTCOME_DONE
                   : fcgi_response_lost(response);
    }
    if (response->state == FCGI_RESPONSE_GATHERING) {
        return refuse(response, response->head.len
                                    ? "the header block is cut off"
                                    : "no header at all");
    }
    if (response->state == FCGI_RESPONSE_PASSING && taken < whole) {
        response->why = apr_psprintf(response->r->pool,
                                     "the answer has %" APR_OFF_T_FMT
                                     " bytes, its Content-Length says "
                                     "%" APR_OFF_T_FMT,
                                     taken, whole);
        return FCGI_OUTCOME_BROKEN;
    }
    if (end_flow(response, flush)
        || response->flow->outlet.state == FCGI_OUTLET_GONE) {
        return FCGI_OUTCOME_DONE; /* all of it was given; an HTTP/2 stream is
                                   * gone as soon as its client has it */
    }
    return fcgi_response_lost(response);
}
