/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_response.c - STDOUT to an HTTP answer, STDERR to the log; the
 * contract is in fcgi_response.h. The header block is gathered whole, in
 * bounded memory, before anything of it is believed: see gather() and
 * begin(), in this order.
 */
#include "fcgi_response.h"

#include <sys/socket.h>

#include <apr_date.h>
#include <apr_lib.h>
#include <apr_portable.h>
#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>

#include "fcgi_config.h"
#include "fcgi_log.h"

APLOG_USE_MODULE(fastcgi_handler);

/* Slices shorter than this are copied, so that a few bytes that a filter
 * holds back do not hold a whole read buffer. */
#define COPY_BELOW 4096

/* httpd holds less than this back without trying to write it. */
#define CORE_HOLDS 4096

/* Below FlushMaxThreshold (64 KB), above which httpd waits for the client; it
 * may hold CORE_HOLDS bytes already, and headers. */
#define PASS_MAX (56 * 1024)

/* An HTTP/2 stream buffers 32 KB in memory before it waits for the client
 * (H2StreamMaxMemSize), and does not say how far the client is: from 24 KB on
 * it is taken to be behind, and never gets more than 30 KB. What is in a file
 * is passed on to it without waiting. */
#define STREAM_HOLDS (24 * 1024)
#define STREAM_MAX   (30 * 1024)

/* Each piece of a file that a stream gets is an open file until the answer is
 * done. After so many pauses a stream waits for its client. */
#define MAX_FILE_PIECES 16

fcgi_response *fcgi_response_create(request_rec *r, const char *backend,
                                    apr_size_t max_header_size,
                                    fcgi_flush flush,
                                    const fcgi_spool_limits *spool)
{
    fcgi_response *response = apr_pcalloc(r->pool, sizeof(*response));
    apr_bucket_alloc_t *list = r->connection->bucket_alloc;

    response->r = r;
    response->backend = backend;
    response->original_status = r->status;
    fcgi_head_init(&response->head, r->pool, max_header_size);
    fcgi_stderr_init(&response->stderr_lines, r, backend,
                     fcgi_config_settings(r)->stderr_rules);
    response->flush = flush;
    response->bb = apr_brigade_create(r->pool, list);
    response->held = fcgi_spool_create(r->pool, list, spool);
    return response;
}

static fcgi_outcome refuse(fcgi_response *response, const char *why)
{
    response->why = why;
    return FCGI_OUTCOME_BAD_HEADERS;
}

/* ---- beginning the answer ---- */

/* Fields about one connection, which is not the client's (RFC 9110, 7.6.1);
 * the framing towards the client is httpd's. */
static int is_hop_by_hop(const char *name)
{
    static const char *const names[] = { "Connection",        "Keep-Alive",
                                         "Proxy-Connection",  "TE",
                                         "Trailer",           "Upgrade",
                                         "Transfer-Encoding", NULL };
    int i;

    for (i = 0; names[i]; i++) {
        if (!ap_cstr_casecmp(name, names[i])) {
            return 1;
        }
    }
    return 0;
}

static int set_field(void *headers, const char *name, const char *value)
{
    if (fcgi_head_is_single(name)) {
        apr_table_setn(headers, name, value);
    }
    else if (!is_hop_by_hop(name)) {
        apr_table_addn(headers, name, value);
    }
    return 1;
}

/* Sends a 1xx block on (RFC 9110, 15.2) and makes ready for the next. */
static void send_interim(fcgi_response *response)
{
    request_rec *r = response->r;
    apr_table_t *headers = r->headers_out;

    if (!r->main) {
        r->headers_out = apr_table_make(r->pool, 8);
        apr_table_do(set_field, r->headers_out, response->head.fields, NULL);
        r->status = response->head.status;
        r->status_line = response->head.reason;
        ap_send_interim_response(r, 1);
        r->status = response->original_status;
        r->status_line = NULL;
        r->headers_out = headers;
    }
    fcgi_head_restart(&response->head);
}

/* Status, type and length where httpd looks for them. */
static void set_meta(fcgi_response *response)
{
    request_rec *r = response->r;
    const char *type = apr_table_get(response->head.fields, "Content-Type");
    const char *modified =
        apr_table_get(response->head.fields, "Last-Modified");

    if (response->head.status) {
        r->status = response->head.status;
        r->status_line = response->head.reason;
        if (!response->head.reason
            && strncmp(ap_get_status_line(r->status),
                       apr_itoa(r->pool, r->status), 3)) {
            r->status_line = apr_psprintf(r->pool, "%d ", r->status);
        }
    }
    /* These told of the script's file, not of its output. */
    r->content_type = NULL;
    r->content_encoding = NULL;
    if (type) {
        char *lowered = apr_pstrdup(r->pool, type);

        ap_content_type_tolower(lowered);
        ap_set_content_type(r, lowered);
    }
    if (modified) {
        apr_time_t mtime = apr_date_parse_http(modified);

        if (mtime != APR_DATE_BAD) {
            ap_update_mtime(r, mtime);
        }
    }
}

/* Event streams, and answers that ask for it, are flushed in any case. */
static void decide_flush(fcgi_response *response)
{
    const char *type = apr_table_get(response->head.fields, "Content-Type");
    const char *buffering =
        apr_table_get(response->head.fields, "X-Accel-Buffering");

    response->is_live =
        response->flush == FCGI_FLUSH_ON
        || (type && !strncasecmp(type, "text/event-stream", 17))
        || (buffering && !strcasecmp(buffering, "no"));
    if (response->is_live && response->flush == FCGI_FLUSH_OFF) {
        response->flush = FCGI_FLUSH_AUTO;
    }
}

/* Makes the parsed block the answer's. */
static void begin(fcgi_response *response)
{
    request_rec *r = response->r;

    response->replaced = fcgi_replace_decide(r, &response->head);
    if (response->replaced.kind == FCGI_REPLACE_LOCAL) {
        response->state = FCGI_RESPONSE_DROPPING;
        return;
    }
    if (response->replaced.kind != FCGI_REPLACE_ERROR_PAGE) {
        set_meta(response);
    }
    decide_flush(response);
    apr_table_unset(response->head.fields, "Content-Type");
    apr_table_do(set_field, r->headers_out, response->head.fields, NULL);
    if (response->replaced.kind != FCGI_REPLACE_NOT) {
        response->state = FCGI_RESPONSE_DROPPING;
        return;
    }
    if (response->head.content_length >= 0) {
        ap_set_content_length(r, response->head.content_length);
    }
    if (!response->head.status && r->method_number == M_GET) {
        int condition = ap_meets_conditions(r);

        response->condition = condition == OK ? 0 : condition;
    }
    response->state = r->header_only || AP_STATUS_IS_HEADER_ONLY(r->status)
                              || response->condition
                          ? FCGI_RESPONSE_DROPPING
                          : FCGI_RESPONSE_PASSING;
    response->begun = response->state == FCGI_RESPONSE_PASSING;
    response->unflushed = response->begun;
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
        begin(response);
    }
    else if (++response->interim_count > FCGI_MAX_INTERIM) {
        return refuse(response, "1xx blocks without end");
    }
    else {
        send_interim(response);
    }
    return FCGI_OUTCOME_PENDING;
}

/* ---- the body ---- */

static apr_bucket *slice(apr_bucket *buffer, const char *data, apr_size_t len)
{
    const apr_bucket_heap *heap = buffer->data;
    apr_bucket *piece;

    apr_bucket_copy(buffer, &piece);
    piece->start = data - heap->base;
    piece->length = len;
    return piece;
}

/* What holding bytes came to. A file that cannot be written is not the
 * answer's end: memory has to do, and then the application waits. */
static void note_held(fcgi_response *response, apr_status_t rv)
{
    response->unflushed = 1;
    if (rv == APR_INCOMPLETE) {
        apr_brigade_cleanup(response->bb); /* never lost in silence */
        response->filters_failed = 1;
    }
    else if (rv != APR_SUCCESS && !response->no_file) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, rv, response->r,
                      FCGI_LOGNO("17") "%s: no temporary file for an answer "
                                       "that the client takes slowly; the "
                                       "application waits (FcgiBufferDir)",
                      response->backend);
        response->no_file = 1;
    }
}

/* Takes the brigade into the spool, for which fcgi_response_room() left
 * room. */
static void hold(fcgi_response *response)
{
    while (!APR_BRIGADE_EMPTY(response->bb)) {
        note_held(response, fcgi_spool_add(response->held, response->bb));
    }
}

static void take_piece(fcgi_response *response, apr_bucket *buffer,
                       const char *data, apr_size_t len)
{
    if (response->state == FCGI_RESPONSE_DROPPING) {
        return;
    }
    if (response->head.content_length >= 0
        && response->body_len + (apr_off_t)len
               > response->head.content_length) {
        len = (apr_size_t)(response->head.content_length - response->body_len);
        response->too_long = 1;
    }
    response->body_len += (apr_off_t)len;
    if (len >= COPY_BELOW) {
        APR_BRIGADE_INSERT_TAIL(response->bb, slice(buffer, data, len));
    }
    else if (len) {
        hold(response); /* what came before it */
        note_held(response, fcgi_spool_write(response->held, data, len));
    }
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

static void add_flush(fcgi_response *response)
{
    APR_BRIGADE_INSERT_TAIL(
        response->bb,
        apr_bucket_flush_create(response->r->connection->bucket_alloc));
}

static void add_eos(fcgi_response *response)
{
    APR_BRIGADE_INSERT_TAIL(
        response->bb,
        apr_bucket_eos_create(response->r->connection->bucket_alloc));
}

/* Passes the brigade on as it is. */
static int pass(fcgi_response *response)
{
    request_rec *r = response->r;
    conn_rec *c = r->connection;
    int is_first = !response->passed_any;
    apr_off_t len = 0;
    apr_status_t rv;

    apr_brigade_length(response->bb, 0, &len);
    response->passed_any = 1;
    rv = ap_pass_brigade(r->output_filters, response->bb);
    apr_brigade_cleanup(response->bb);
    if (rv != APR_SUCCESS || c->aborted) {
        response->filters_failed = 1;
        if (rv == AP_FILTER_ERROR && is_first && !c->aborted) {
            response->begun = 0; /* a filter has answered, as 416 is */
            response->state = FCGI_RESPONSE_DROPPING;
        }
        return 0;
    }
    response->given += (apr_size_t)len;
    if (!c->master && !c->data_in_output_filters) {
        response->given = 0;
        fcgi_spool_reclaim(response->held);
    }
    return 1;
}

/* True if the answer is held for an HTTP/2 stream of which nobody knows where
 * its client is. */
static int holds_stream(const fcgi_response *response)
{
    return response->r->connection->master && !response->is_live
           && response->file_pieces < MAX_FILE_PIECES;
}

int fcgi_response_is_behind(const fcgi_response *response)
{
    const conn_rec *c = response->r->connection;

    if (c->master) {
        return holds_stream(response) && response->given >= STREAM_HOLDS;
    }
    return c->data_in_output_filters && response->given >= CORE_HOLDS;
}

/* How much may be passed on at once to a client that follows. */
static apr_off_t pass_size(const fcgi_response *response)
{
    return holds_stream(response) ? (apr_off_t)(STREAM_MAX - response->given)
                                  : PASS_MAX;
}

/* Passes on what is held, piece by piece, as long as the client follows. */
static int pass_held(fcgi_response *response)
{
    while (response->held->len && !fcgi_response_is_behind(response)) {
        if (fcgi_spool_give(response->held, response->bb, pass_size(response))
                != APR_SUCCESS
            || !pass(response)) {
            response->filters_failed = 1;
            return 0;
        }
    }
    return 1;
}

int fcgi_response_pass(fcgi_response *response)
{
    if (response->state != FCGI_RESPONSE_PASSING) {
        return 1;
    }
    hold(response);
    return pass_held(response);
}

int fcgi_response_resume(fcgi_response *response)
{
    conn_rec *c = response->r->connection;
    ap_filter_t *filter = c->output_filters;

    if (c->data_in_output_filters && !c->master) {
        /* As the event MPM does: the last filter writes what it holds,
         * without waiting. */
        while (filter->next) {
            filter = filter->next;
        }
        if (filter->frec->filter_func.out_func(filter, NULL) != APR_SUCCESS
            || c->aborted) {
            response->filters_failed = 1;
            return 0;
        }
        if (!c->data_in_output_filters) {
            response->given = 0;
            fcgi_spool_reclaim(response->held);
        }
    }
    return pass_held(response);
}

/* True if a stream would wait for what is held in memory, or get it in the
 * wrong order. */
static int must_spill(const fcgi_response *response)
{
    const fcgi_spool *held = response->held;

    return held->memory_len != (apr_size_t)held->len
           || (holds_stream(response)
               && (apr_off_t)response->given + held->len > STREAM_MAX);
}

int fcgi_response_pauses(const fcgi_response *response)
{
    return holds_stream(response) ? response->file_pieces : 0;
}

int fcgi_response_flush(fcgi_response *response)
{
    const request_rec *r = response->r;
    fcgi_spool *held = response->held;

    if (response->state != FCGI_RESPONSE_PASSING) {
        return 1;
    }
    hold(response);
    if (r->connection->master && must_spill(response)) {
        fcgi_spool_spill(held);
        response->file_pieces++;
    }
    if (fcgi_spool_give(held, response->bb, held->len) != APR_SUCCESS) {
        response->filters_failed = 1;
        return 0;
    }
    add_flush(response);
    response->unflushed = 0;
    return pass(response);
}

apr_off_t fcgi_response_room(const fcgi_response *response)
{
    const fcgi_spool *held = response->held;

    if (!response->no_file) {
        return fcgi_spool_room(held);
    }
    return held->memory_len < held->limits.memory
               ? (apr_off_t)(held->limits.memory - held->memory_len)
               : 0;
}

int fcgi_response_needs_file(const fcgi_response *response, apr_size_t len)
{
    const fcgi_spool *held = response->held;

    return fcgi_response_is_behind(response)
           && held->memory_len + len > held->limits.memory;
}

void fcgi_response_drop(fcgi_response *response)
{
    response->state = FCGI_RESPONSE_DROPPING;
    response->unflushed = 0;
    apr_brigade_cleanup(response->bb);
    fcgi_spool_clear(response->held);
}

void fcgi_response_withdraw(fcgi_response *response)
{
    request_rec *r = response->r;

    if (response->state == FCGI_RESPONSE_DROPPING && !response->begun) {
        r->status = response->original_status;
        r->status_line = NULL;
        apr_table_clear(r->headers_out);
    }
}

/* Ends an answer without a body. The flush goes ahead alone: a brigade of
 * just EOS would make httpd say "Content-Length: 0" of a body it never saw,
 * as an answer to HEAD or a 304 may have one. */
static int pass_headers_only(fcgi_response *response)
{
    add_flush(response);
    if (!pass(response)) {
        return 0;
    }
    add_eos(response);
    return pass(response);
}

/*
 * Puts all that is held into the brigade, for the last pass. To a client that
 * is behind most of it goes as part of a file, so that the event MPM sends it
 * without a thread; the application is done in any case.
 */
static void give_rest(fcgi_response *response)
{
    fcgi_spool *held = response->held;

    hold(response);
    if (response->given + held->memory_len > PASS_MAX) {
        fcgi_spool_spill(held); /* if it cannot, httpd waits */
    }
    if (fcgi_spool_give(held, response->bb, held->len) != APR_SUCCESS) {
        response->filters_failed = 1;
    }
}

/* Flushes what is behind the request's own filters: those are done at EOS, and
 * what ends a chunked body comes from them. */
static void flush_connection(fcgi_response *response)
{
    add_flush(response);
    ap_pass_brigade(response->r->connection->output_filters, response->bb);
    apr_brigade_cleanup(response->bb);
}

fcgi_outcome fcgi_response_finish(fcgi_response *response, int flush)
{
    if (response->state == FCGI_RESPONSE_GATHERING) {
        return refuse(response, response->head.len
                                    ? "the header block is cut off"
                                    : "no header at all");
    }
    if (response->replaced.kind != FCGI_REPLACE_NOT || response->condition) {
        return FCGI_OUTCOME_DONE;
    }
    if (response->state == FCGI_RESPONSE_DROPPING) {
        pass_headers_only(response);
        return FCGI_OUTCOME_DONE;
    }
    if (response->body_len < response->head.content_length) {
        response->why = apr_psprintf(
            response->r->pool,
            "the answer has %" APR_OFF_T_FMT " bytes, its Content-Length says "
            "%" APR_OFF_T_FMT,
            response->body_len, response->head.content_length);
        return FCGI_OUTCOME_BROKEN;
    }
    give_rest(response);
    if (response->filters_failed) {
        return FCGI_OUTCOME_DONE; /* and no end: it has to be cut */
    }
    add_eos(response);
    if (pass(response) && flush) {
        flush_connection(response);
    }
    return FCGI_OUTCOME_DONE;
}

/* ---- cutting ---- */

/*
 * Makes the close of the client's connection a reset. Nothing else shows a
 * cut where the answer's end is the connection's end (HTTP/1.0 without a
 * length). APR sets SO_LINGER with a time of its own only, so this goes to
 * the descriptor.
 */
static void reset_client(conn_rec *c)
{
    static const struct linger at_once = { 1, 0 };
    apr_os_sock_t fd;

    if (apr_os_sock_get(&fd, ap_get_conn_socket(c)) == APR_SUCCESS) {
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    }
    c->aborted = 1;
}

static int ends_with_connection(const request_rec *r)
{
    return !r->connection->master && !r->chunked
           && !apr_table_get(r->headers_out, "Content-Length");
}

/* Closes what the answer was begun on, in a way that shows that it is not
 * whole. */
static void break_off(request_rec *r)
{
    while (r->main) {
        r = r->main;
    }
    r->connection->keepalive = AP_CONN_CLOSE;
    if (r->sent_bodyct && ends_with_connection(r)) {
        reset_client(r->connection);
    }
}

void fcgi_response_cut(fcgi_response *response)
{
    request_rec *r = response->r;
    apr_bucket_alloc_t *list = r->connection->bucket_alloc;
    request_rec *including;

    for (including = r; including; including = including->main) {
        including->no_cache = 1;
    }
    /* The headers must be out before the end: else httpd would count the
     * bytes there are and call them the whole answer. */
    if (!response->filters_failed
        && (response->passed_any || fcgi_response_flush(response))) {
        give_rest(response);
        APR_BRIGADE_INSERT_TAIL(
            response->bb,
            ap_bucket_error_create(HTTP_BAD_GATEWAY, NULL, r->pool, list));
        add_eos(response);
        pass(response);
    }
    break_off(r);
}
