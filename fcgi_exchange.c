/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_exchange.c - one request on one connection; the contract is in
 * fcgi_exchange.h. Read fcgi_exchange_step() first: it reads from the
 * application, takes the client's body, writes to the application, until
 * nothing moves, and then says what it waits for.
 */
#include "fcgi_exchange.h"

#include <string.h>

#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>

#include "fcgi_body.h"
#include "fcgi_log.h"
#include "fcgi_trace.h"

APLOG_USE_MODULE(fastcgi_handler);

/* The client's body waits in httpd while more than this is to be written. */
#define OUT_MAX (64 * 1024)

/* Reads of a streamed body in one round of a step: many, for each may give
 * no more than a byte, and what they give goes out as one record. */
#define STREAM_ROUNDS 1024

/* What is held of a streamed body never reaches a file: OUT_MAX, and what
 * one read may give beyond that. */
#define STREAM_MEMORY (4 * OUT_MAX)

/* A client that closed its sending side may wait for its answer, or may have
 * left: it is given up after so long without a byte for it. One that left
 * answers a byte with a reset. */
#define SILENCE apr_time_from_sec(1)

/* So much of a held body is made ready to be written at a time; what is in a
 * file is mapped into memory, not copied. */
#define HELD_PART (512 * 1024)

static int is_urgent(const void *backend)
{
    return fcgi_backend_is_pressed(backend);
}

fcgi_exchange *fcgi_exchange_create(request_rec *r,
                                    const fcgi_backend *backend,
                                    const fcgi_terms *terms)
{
    fcgi_exchange *ex = apr_pcalloc(r->pool, sizeof(*ex));
    apr_bucket_alloc_t *list = r->connection->bucket_alloc;
    fcgi_spool_limits spool = terms->spool;

    ex->r = r;
    ex->backend = backend;
    ex->terms = *terms;
    ex->outflow = fcgi_outflow_create(r, backend->name, &terms->spool,
                                      is_urgent, backend);
    ex->response = fcgi_response_create(ex->outflow, terms->max_header_size,
                                        terms->flush);
    fcgi_writer_init(&ex->writer, r->pool, list);
    ex->body = apr_brigade_create(r->pool, list);
    if (terms->stream_body) {
        spool.memory = STREAM_MEMORY;
        spool.max = APR_INT64_MAX;
    }
    ex->held = fcgi_spool_create(r->pool, list, &spool);
    ex->body_done = !terms->has_body;
    ex->writable = 1;
    ex->client_ready = !ex->body_done;
    ex->watch_client = !terms->ignore_client_abort;
    ex->started = fcgi_clock_now();
    ex->last_moved = ex->started;
    return ex;
}

static int is_pending(const fcgi_exchange *ex)
{
    return ex->result.outcome == FCGI_OUTCOME_PENDING;
}

static void end(fcgi_exchange *ex, fcgi_outcome outcome, apr_status_t rv,
                const char *why)
{
    fcgi_result *result = &ex->result;

    result->outcome = outcome;
    result->rv = rv;
    result->why = why;
    if (ex->response->state != FCGI_RESPONSE_GATHERING) {
        result->phase = FCGI_PHASE_BODY;
    }
    else if (!ex->tries) {
        result->phase = FCGI_PHASE_RECEIVE;
    }
    else {
        result->phase =
            ex->sent_at || ex->heard ? FCGI_PHASE_HEADERS : FCGI_PHASE_SEND;
    }
}

static void note_moved(fcgi_exchange *ex)
{
    ex->moved = 1;
    ex->last_moved = fcgi_clock_now();
}

/* Nobody takes the answer any more. The application may finish alone, if it
 * has all of the request: nothing of its answer is passed on then. */
static void lose(fcgi_exchange *ex, fcgi_outcome outcome, apr_status_t rv,
                 const char *why)
{
    ex->watch_client = 0;
    if (!ex->terms.ignore_client_abort || !ex->body_done) {
        end(ex, outcome, rv, why);
    }
}

static void lose_client(fcgi_exchange *ex, apr_status_t rv, const char *why)
{
    lose(ex, FCGI_OUTCOME_CLIENT_GONE, rv, why);
}

/* The answer, or a part of it, was to be given on, for which httpd may have
 * waited for the client. */
static void note_given(fcgi_exchange *ex)
{
    ex->last_moved = fcgi_clock_now();
    if (ex->outflow->outlet.state != FCGI_OUTLET_OPEN && !ex->lost) {
        fcgi_outcome outcome = fcgi_response_lost(ex->response);

        ex->lost = 1;
        fcgi_outlet_send_answer(&ex->outflow->outlet);
        lose(ex, outcome, ex->outflow->outlet.rv, ex->response->why);
    }
}

/* ---- to the application ---- */

/* Bytes of the body that are held and not in a record yet. */
static apr_off_t body_left(const fcgi_exchange *ex)
{
    return ex->terms.stream_body ? ex->held->len
                                 : ex->body_len - ex->body_queued;
}

/* The next part of the body. What is streamed goes once; what was held first
 * stays held, for the request may have to be sent again. */
static apr_status_t next_part(fcgi_exchange *ex)
{
    if (fcgi_writer_is_empty(&ex->writer)) {
        fcgi_spool_reclaim(ex->held);
    }
    return ex->terms.stream_body
               ? fcgi_spool_take(ex->held, ex->body, HELD_PART)
               : fcgi_spool_copy(ex->held, ex->body, ex->body_queued,
                                 HELD_PART);
}

/* True while a streamed body waits for the part of it that is being written:
 * what comes meanwhile, perhaps byte by byte, goes out as one record. */
static int gathers_body(const fcgi_exchange *ex)
{
    return ex->terms.stream_body && ex->body_queued
           && !fcgi_writer_is_empty(&ex->writer) && ex->held->len;
}

/* Makes a part of the held body ready to be written, and STDIN's end once
 * there is no more: never before the whole body is known to be here. */
static void queue_body(fcgi_exchange *ex)
{
    apr_status_t rv = APR_SUCCESS;

    if (ex->writer.ended || ex->write_failed || ex->writer.len >= OUT_MAX
        || gathers_body(ex)) {
        return;
    }
    if (body_left(ex)) {
        rv = next_part(ex);
        if (rv == APR_SUCCESS) {
            fcgi_trace_body(ex->r, ex->body);
            rv = fcgi_writer_stdin(&ex->writer, ex->body, &ex->body_queued);
        }
    }
    if (rv != APR_SUCCESS) {
        end(ex, FCGI_OUTCOME_NO_SPACE, rv,
            "the held request body cannot be read");
    }
    else if (ex->body_done && !body_left(ex)) {
        fcgi_trace_content(ex->r, FCGI_TRACE_TO, FCGI_STDIN, "", 0);
        fcgi_writer_end(&ex->writer);
    }
}

static int is_writing(const fcgi_exchange *ex)
{
    return !ex->write_failed && !fcgi_writer_is_empty(&ex->writer);
}

static void write_application(fcgi_exchange *ex)
{
    int full = 0;
    apr_status_t rv;

    if (!ex->writable || !is_writing(ex)) {
        return;
    }
    rv = fcgi_writer_send(&ex->writer, ex->conn->socket, &full);
    if (rv == APR_SUCCESS) {
        note_moved(ex);
        ex->writable = !full;
        if (ex->writer.ended && fcgi_writer_is_empty(&ex->writer)) {
            ex->sent_at = ex->last_moved;
            ap_log_rerror(APLOG_MARK, APLOG_TRACE4, 0, ex->r,
                          "%s: the request is sent, %" APR_OFF_T_FMT " bytes",
                          ex->backend->name, ex->writer.sent);
        }
    }
    else if (APR_STATUS_IS_EAGAIN(rv)) {
        ex->writable = 0;
    }
    else {
        /* It closed its side, perhaps because it has answered already: what
         * it sent decides, or its end. */
        ex->write_failed = 1;
        ex->readable = 1;
        ex->moved = 1;
    }
}

/* ---- from the client ---- */

/*
 * Reads of the body; a subrequest's is here as a whole. Once the application has answered the output filters are
 * out of reach meanwhile: httpd's input filter would end the answer in good
 * order when the body breaks, and that would be a lie.
 */
static apr_status_t get_body(fcgi_exchange *ex, apr_read_type_e block)
{
    request_rec *r = ex->r;
    ap_filter_t *output_filters = r->output_filters;
    apr_status_t rv;

    if (r->main) {
        return fcgi_body_copy_kept(r, ex->body);
    }
    if (ex->response->state != FCGI_RESPONSE_GATHERING) {
        r->output_filters = NULL;
    }
    rv = ap_get_brigade(r->input_filters, ex->body, AP_MODE_READBYTES, block,
                        FCGI_MAX_CONTENT_LEN);
    r->output_filters = output_filters;
    return rv;
}

static void refuse_body(fcgi_exchange *ex, apr_status_t rv, int status,
                        const char *why)
{
    ex->result.client_status = status;
    /* httpd's own negative codes say no more than the status */
    end(ex, FCGI_OUTCOME_CLIENT_BAD, rv > 0 ? rv : APR_SUCCESS, why);
}

/* Takes what was read into the spool. */
static void hold_body(fcgi_exchange *ex)
{
    apr_off_t before = ex->held->len;
    apr_bucket *bucket;
    apr_status_t rv;

    for (bucket = APR_BRIGADE_FIRST(ex->body);
         bucket != APR_BRIGADE_SENTINEL(ex->body);
         bucket = APR_BUCKET_NEXT(bucket)) {
        if (APR_BUCKET_IS_EOS(bucket)) {
            ex->body_done = 1;
            ex->client_ready = 0;
        }
    }
    rv = fcgi_spool_add(ex->held, ex->body);
    ex->body_len += ex->held->len - before;
    if (rv == APR_INCOMPLETE) {
        refuse_body(ex, APR_SUCCESS, HTTP_REQUEST_ENTITY_TOO_LARGE,
                    "the request body is larger than FcgiBufferMax");
    }
    else if (rv != APR_SUCCESS) {
        end(ex, FCGI_OUTCOME_NO_SPACE, rv,
            "the request body cannot be held in FcgiBufferDir");
    }
    apr_brigade_cleanup(ex->body);
}

static void read_body(fcgi_exchange *ex, apr_read_type_e block)
{
    apr_status_t rv = get_body(ex, block);

    if (APR_STATUS_IS_EAGAIN(rv)) {
        ex->client_ready = 0;
    }
    else if (rv == APR_SUCCESS && !APR_BRIGADE_EMPTY(ex->body)) {
        note_moved(ex);
        hold_body(ex);
    }
    else if (rv != APR_SUCCESS) {
        refuse_body(ex, rv, ap_map_http_request_error(rv, HTTP_BAD_REQUEST),
                    "the request body is broken, too large or incomplete");
    }
}

static int is_gone(apr_status_t rv)
{
    return APR_STATUS_IS_ECONNRESET(rv) || APR_STATUS_IS_ECONNABORTED(rv)
           || APR_STATUS_IS_EPIPE(rv);
}

/* Safe to do twice (RFC 9110, 9.2.1). */
static int is_safe(const fcgi_exchange *ex)
{
    return ex->r->method_number == M_GET /* and HEAD */
           || ex->r->method_number == M_OPTIONS
           || ex->r->method_number == M_TRACE;
}

/* Whoever sends what is not safe may not wait for what it does: jobs are
 * started so. It is sent, in its turn, if it is all here. */
static int must_be_sent(const fcgi_exchange *ex)
{
    return ex->body_done && !ex->sent_at && !ex->write_failed && !is_safe(ex);
}

/* Ends the exchange if the client is gone for certain. */
static void check_connection(fcgi_exchange *ex)
{
    if (!is_pending(ex) || !ex->watch_client || must_be_sent(ex)) {
        return;
    }
    if (ex->r->connection->aborted) {
        lose_client(ex, APR_SUCCESS, "the client's connection is gone");
    }
    else if (ex->client_gone && ex->body_done) {
        lose_client(ex, APR_SUCCESS, "the client reset its connection");
    }
}

/* The client sends no more, which is not to say that it left. */
static void note_client_end(fcgi_exchange *ex)
{
    ex->client_ended_at = fcgi_clock_now();
}

/* The client's socket has something although the request is here: its end,
 * or the next request. The connection's own filters can tell. */
static void check_client(fcgi_exchange *ex)
{
    conn_rec *c = ex->r->connection;
    int at_eof = 0;
    apr_status_t rv;

    ex->client_ready = 0;
    if (c->master) {
        return; /* HTTP/2: mod_http2 sets c->aborted */
    }
    /* The socket first: mod_reqtimeout refuses to read once the time for the
     * body is over, although the body is here. */
    rv = apr_socket_atreadeof(ap_get_conn_socket(c), &at_eof);
    if (rv == APR_SUCCESS && at_eof) {
        note_client_end(ex);
        return;
    }
    rv = ap_get_brigade(c->input_filters, ex->body, AP_MODE_SPECULATIVE,
                        APR_NONBLOCK_READ, 1);
    if (APR_STATUS_IS_EOF(rv)) {
        note_client_end(ex); /* TLS says so before the socket does */
    }
    else if (is_gone(rv)) {
        ex->client_gone = 1;
        check_connection(ex);
    }
    else if (!APR_STATUS_IS_EAGAIN(rv)
             && (rv != APR_SUCCESS || !APR_BRIGADE_EMPTY(ex->body))) {
        ex->watch_client = 0; /* the next request hides its end */
    }
    apr_brigade_cleanup(ex->body);
}

/* Takes what is here of a body that is streamed. A filter may give nothing
 * although there is more; how often in a row is bounded. */
static void stream_body(fcgi_exchange *ex)
{
    int rounds = STREAM_ROUNDS;

    while (is_pending(ex) && ex->client_ready && !ex->body_done
           && !ex->write_failed && rounds--
           && ex->held->len + (apr_off_t)ex->writer.len < OUT_MAX) {
        read_body(ex, APR_NONBLOCK_READ);
    }
}

/* Tells a client that waits for it to send its body (RFC 9110, 10.1.1);
 * reading without waiting does not. */
static void send_continue(request_rec *r)
{
    int status = r->status;
    const char *status_line = r->status_line;

    if (r->expecting_100) {
        r->status = HTTP_CONTINUE;
        r->status_line = NULL;
        ap_send_interim_response(r, 0);
        r->status = status;
        r->status_line = status_line;
    }
}

/* ---- from the application ---- */

/*
 * Ends the use of a connection after END_REQUEST, behind which len bytes were
 * read. It is quiet if these are the record's padding and the request is
 * wholly written.
 */
static void let_go(fcgi_exchange *ex, const char *data, apr_size_t len)
{
    const fcgi_reader *reader = &ex->reader;
    const char *fate;
    apr_size_t used;
    fcgi_event event =
        fcgi_reader_next(&ex->reader, (const uint8_t *)data, len, &used);
    int only_padding =
        event == FCGI_EVENT_MORE && !reader->foreign_records
        && (reader->padding_left || fcgi_reader_at_boundary(reader));

    ex->stray = ex->conn->keep_asked && !only_padding;
    fate = fcgi_backend_release(ex->backend, ex->conn,
                                only_padding && fcgi_reader_at_boundary(reader)
                                    && ex->writer.ended
                                    && fcgi_writer_is_empty(&ex->writer));
    ex->conn = NULL;
    ap_log_rerror(APLOG_MARK, APLOG_TRACE4, 0, ex->r,
                  "%s: the application is done; the connection is %s",
                  ex->backend->name, fate);
}

/* END_REQUEST is here, and len bytes at data behind it. */
static void end_request(fcgi_exchange *ex, const char *data, apr_size_t len)
{
    uint8_t status = ex->reader.protocol_status;
    const char *name = fcgi_protocol_status_name(status);
    const char *why =
        apr_pstrcat(ex->r->pool, "the application says ", name, NULL);
    fcgi_outcome outcome;

    ex->app_status = ex->reader.app_status;
    ap_log_rerror(APLOG_MARK, APLOG_TRACE8, 0, ex->r,
                  "from the application: FCGI_END_REQUEST, application "
                  "status %u, protocol status %d, %s",
                  ex->app_status, status, name);
    switch (status) {
    case FCGI_REQUEST_COMPLETE:
        let_go(ex, data, len);
        outcome = fcgi_response_finish(ex->response, !ex->body_done);
        why = ex->response->why;
        break;
    case FCGI_OVERLOADED:
    case FCGI_CANT_MPX_CONN:
        outcome = FCGI_OUTCOME_OVERLOADED;
        break;
    case FCGI_UNKNOWN_ROLE:
        outcome = FCGI_OUTCOME_UNKNOWN_ROLE;
        break;
    default:
        outcome = FCGI_OUTCOME_MALFORMED;
        why = apr_psprintf(ex->r->pool, "unknown protocol status %d", status);
    }
    end(ex, outcome, ex->outflow->outlet.rv, why);
}

/* A part of the answer is here, and nothing else is one: not STDERR, not an
 * empty record, nor one of management or of another request. */
static void note_answer(fcgi_exchange *ex)
{
    ex->stdout_ended = 0; /* it was not the end */
    if (!ex->first_byte_at) {
        ex->first_byte_at = ex->last_moved;
        ap_log_rerror(APLOG_MARK, APLOG_TRACE4, 0, ex->r,
                      "%s: the answer begins, after %" APR_TIME_T_FMT " us",
                      ex->backend->name, ex->first_byte_at - ex->started);
    }
}

static void take_content(fcgi_exchange *ex)
{
    const char *content = (const char *)ex->reader.content;

    fcgi_trace_content(ex->r, FCGI_TRACE_FROM, (fcgi_type)ex->reader.type,
                       content, ex->reader.content_len);
    if (ex->reader.type == FCGI_STDERR) {
        fcgi_stderr_add(&ex->response->stderr_lines, content,
                        ex->reader.content_len);
        return;
    }
    note_answer(ex);
    if (fcgi_response_stdout(ex->response, ex->buffer, content,
                             ex->reader.content_len)
        != FCGI_OUTCOME_PENDING) {
        end(ex, FCGI_OUTCOME_BAD_HEADERS, APR_SUCCESS, ex->response->why);
    }
}

/* True if the connection carried a request of that id before this one; ids go
 * up, and begin again. */
static int carried_before(const fcgi_conn *conn, uint16_t id)
{
    return id < conn->request_id || conn->requests > 0xffff;
}

/*
 * STDOUT or END_REQUEST of another request. On a kept connection STDOUT may
 * come late, for a request before, and does no harm. All else, on a
 * connection that carries one request at a time, is the answer of an
 * application that takes ours for another: it would be waited for in vain.
 */
static void take_foreign(fcgi_exchange *ex)
{
    const fcgi_reader *reader = &ex->reader;

    if (reader->type == FCGI_STDOUT
        && carried_before(ex->conn, reader->foreign_id)) {
        return;
    }
    end(ex, FCGI_OUTCOME_MALFORMED, APR_SUCCESS,
        apr_psprintf(ex->r->pool,
                     "%s for request %d on a connection that has only "
                     "request %d",
                     fcgi_type_name((fcgi_type)reader->type),
                     reader->foreign_id, ex->conn->request_id));
}

/* Takes len bytes of records at data, which lie in ex->buffer. */
static void take_records(fcgi_exchange *ex, const char *data, apr_size_t len)
{
    apr_size_t used;

    while (is_pending(ex)) {
        fcgi_event event =
            fcgi_reader_next(&ex->reader, (const uint8_t *)data, len, &used);

        data += used;
        len -= used;
        switch (event) {
        case FCGI_EVENT_MORE:
            return;
        case FCGI_EVENT_CONTENT:
            take_content(ex);
            break;
        case FCGI_EVENT_STREAM_END:
            ex->stdout_ended |= ex->reader.type == FCGI_STDOUT;
            fcgi_trace_content(ex->r, FCGI_TRACE_FROM,
                               (fcgi_type)ex->reader.type, "", 0);
            break;
        case FCGI_EVENT_END_REQUEST:
            end_request(ex, data, len);
            break;
        case FCGI_EVENT_FOREIGN:
            take_foreign(ex);
            break;
        case FCGI_EVENT_BAD_VERSION:
            end(ex, FCGI_OUTCOME_MALFORMED, APR_SUCCESS,
                apr_psprintf(ex->r->pool, "a record of version %d",
                             ex->reader.bad_version));
            break;
        case FCGI_EVENT_BAD_LENGTH:
            end(ex, FCGI_OUTCOME_MALFORMED, APR_SUCCESS,
                "an END_REQUEST record that is too short");
            break;
        }
    }
}

/* A buffer to read into: the last one, unless pieces of it are in use. */
static char *get_buffer(fcgi_exchange *ex)
{
    apr_bucket_alloc_t *list = ex->r->connection->bucket_alloc;
    apr_bucket_heap *heap;

    if (ex->buffer) {
        heap = ex->buffer->data;
        if (heap->refcount.refcount == 1) {
            return heap->base;
        }
        apr_bucket_destroy(ex->buffer);
    }
    ex->buffer =
        apr_bucket_heap_create(apr_bucket_alloc(FCGI_OUTFLOW_PIECE, list),
                               FCGI_OUTFLOW_PIECE, apr_bucket_free, list);
    heap = ex->buffer->data;
    return heap->base;
}

/* The client's socket takes bytes: the next part of what it has to get. */
static void resume_client(fcgi_exchange *ex)
{
    if (fcgi_outflow_is_behind(ex->outflow) && ex->outflow->has_room) {
        fcgi_response_resume(ex->response);
        note_given(ex);
        ex->moved = 1;
    }
}

/* The application closed the connection, without END_REQUEST. */
static void take_close(fcgi_exchange *ex, apr_status_t rv)
{
    fcgi_outcome outcome;

    if (!fcgi_response_is_whole(ex->response, ex->stdout_ended)) {
        end(ex, FCGI_OUTCOME_BROKEN, APR_STATUS_IS_EOF(rv) ? APR_SUCCESS : rv,
            "the application closed the connection before its answer was "
            "complete");
        return;
    }
    ex->unended = 1;
    fcgi_backend_release(ex->backend, ex->conn, 0);
    ex->conn = NULL;
    outcome = fcgi_response_finish(ex->response, !ex->body_done);
    end(ex, outcome, APR_SUCCESS, ex->response->why);
}

static void read_application(fcgi_exchange *ex)
{
    apr_size_t size = ex->readable ? fcgi_outflow_room(ex->outflow) : 0;
    apr_size_t len = size;
    apr_status_t rv;
    char *data;

    if (!size) {
        return;
    }
    data = get_buffer(ex);
    rv = apr_socket_recv(ex->conn->socket, data, &len);
    if (APR_STATUS_IS_EAGAIN(rv)) {
        ex->readable = 0;
    }
    else if (rv != APR_SUCCESS || !len) {
        take_close(ex, rv);
    }
    else {
        note_moved(ex);
        ex->outflow->taken_at = ex->last_moved;
        ex->heard = 1;
        ex->bytes_in += (apr_off_t)len;
        fcgi_backend_unpress(ex->conn);
        ex->readable = len == size;
        take_records(ex, data, len);
        if (is_pending(ex)) {
            fcgi_response_pass(ex->response);
            note_given(ex);
        }
    }
}

/* ---- waiting ---- */

static void wake_by(fcgi_exchange *ex, fcgi_instant when)
{
    if (!ex->wake_at || when < ex->wake_at) {
        ex->wake_at = when;
    }
}

/* Ends the exchange if a limit is over, else wakes when it will be. */
static void check_limit(fcgi_exchange *ex, fcgi_instant since,
                        apr_interval_time_t limit, const char *name)
{
    if (!limit || !is_pending(ex)) {
        return;
    }
    if (fcgi_clock_now() < since + limit) {
        wake_by(ex, since + limit);
    }
    else {
        end(ex, FCGI_OUTCOME_TIMED_OUT, APR_TIMEUP,
            apr_psprintf(ex->r->pool, "%s %" APR_TIME_T_FMT " ms is over",
                         name, apr_time_as_msec(limit)));
    }
}

/* No byte moved for too long, and it is the client's body that is missing, or
 * the client that does not take its answer: that is the client's fault. */
static void blame_client(fcgi_exchange *ex)
{
    if (ex->result.outcome != FCGI_OUTCOME_TIMED_OUT) {
        return;
    }
    if (!ex->body_done && !ex->write_failed
        && fcgi_writer_is_empty(&ex->writer)) {
        ex->result.outcome = FCGI_OUTCOME_CLIENT_BAD;
        ex->result.client_status = HTTP_REQUEST_TIME_OUT;
    }
    else if (!fcgi_outflow_room(ex->outflow)) {
        ex->result.outcome = FCGI_OUTCOME_CLIENT_GONE;
    }
}

/* True while the end of the client's connection would say something new. */
static int watches_client(const fcgi_exchange *ex)
{
    return ex->body_done && ex->watch_client && !ex->client_gone;
}

static int wants_client(const fcgi_exchange *ex)
{
    if (ex->write_failed && !ex->body_done) {
        return 0; /* its body, which nobody wants, hides its end */
    }
    return ex->body_done ? watches_client(ex) && !ex->client_ended_at
                         : ex->held->len + (apr_off_t)ex->writer.len < OUT_MAX;
}

/*
 * Gives up a client that sends no more, after a time in which nothing was
 * delivered to it. While bytes wait for room in its socket it is another
 * matter: whoever left does not leave them there, but resets.
 */
static void check_silence(fcgi_exchange *ex)
{
    fcgi_instant since = ex->client_ended_at;

    if (!since || !ex->watch_client || !is_pending(ex) || must_be_sent(ex)
        || fcgi_outflow_is_behind(ex->outflow)) {
        return;
    }
    if (since < ex->sent_at) {
        since = ex->sent_at; /* there was nothing to be delivered before */
    }
    if (since < ex->outflow->delivered_at) {
        since = ex->outflow->delivered_at;
    }
    if (fcgi_clock_now() < since + SILENCE) {
        wake_by(ex, since + SILENCE);
    }
    else {
        lose_client(ex, APR_SUCCESS, "the client closed its connection");
    }
}

/* Has the application been busy with others for so long that idle connections
 * to it have to be given up? */
static void press(fcgi_exchange *ex)
{
    fcgi_instant when = fcgi_backend_press_time(ex->conn);

    if (!when || ex->heard) {
        return;
    }
    if (fcgi_clock_now() < when) {
        wake_by(ex, when);
    }
    else {
        fcgi_backend_press(ex->conn);
    }
}

/* Lets the client have what is due. */
static void settle_client(fcgi_exchange *ex)
{
    int unflushed = ex->outflow->unflushed;
    fcgi_outflow_wait wait = fcgi_outflow_settle(ex->outflow);

    if (unflushed != ex->outflow->unflushed) {
        note_given(ex);
    }
    ex->wants = wait.for_room ? FCGI_WANTS_CLIENT_WRITE : 0;
    ex->wake_at = wait.wake_at;
}

/* Nothing moves: checks the limits and says what it waits for. */
static void wait_or_give_up(fcgi_exchange *ex)
{
    settle_client(ex);
    check_limit(ex, ex->last_moved, ex->terms.idle, "FcgiTimeout");
    blame_client(ex);
    if (ex->sent_at && !ex->first_byte_at) {
        check_limit(ex, ex->sent_at, ex->terms.first_byte,
                    "FcgiFirstByteTimeout");
    }
    check_limit(ex, ex->started, ex->terms.total, "FcgiTotalTimeout");
    check_silence(ex);
    press(ex);
    ex->wants |= (is_writing(ex) ? FCGI_WANTS_WRITE : 0)
                 | (wants_client(ex) ? FCGI_WANTS_CLIENT : 0)
                 | (watches_client(ex) ? FCGI_WANTS_CLIENT_END : 0)
                 | (fcgi_outflow_room(ex->outflow) ? FCGI_WANTS_READ : 0);
}

/* ---- the story ---- */

/* True if the client says that its body will not fit the spool; it need not
 * send it then. */
static int is_declared_too_large(const fcgi_exchange *ex)
{
    const char *said = apr_table_get(ex->r->headers_in, "Content-Length");
    apr_off_t len;

    return said && !ex->body_done && ap_parse_strict_length(&len, said)
           && len > ex->terms.spool.max;
}

static void buffer_body(fcgi_exchange *ex)
{
    if (is_declared_too_large(ex)) {
        refuse_body(ex, APR_SUCCESS, HTTP_REQUEST_ENTITY_TOO_LARGE,
                    "the request body is larger than FcgiBufferMax");
    }
    while (is_pending(ex) && !ex->body_done) {
        read_body(ex, APR_BLOCK_READ);
    }
}

apr_off_t fcgi_exchange_take_body(fcgi_exchange *ex)
{
    if (ex->terms.stream_body) {
        stream_body(ex);
    }
    else {
        buffer_body(ex);
    }
    ex->started = fcgi_clock_now();
    return ex->body_done ? ex->body_len : -1;
}

void fcgi_exchange_start(fcgi_exchange *ex, fcgi_conn *conn,
                         const char *params, apr_size_t len)
{
    ex->conn = conn;
    ex->on_reused = conn->reused;
    ex->stdout_ended = 0;
    ex->heard = 0;
    ex->starts++;
    ap_log_rerror(APLOG_MARK, APLOG_TRACE8, 0, ex->r,
                  "to the application: FCGI_BEGIN_REQUEST, responder, "
                  "flags %d",
                  conn->keep_asked ? FCGI_KEEP_CONN : 0);
    fcgi_trace_content(ex->r, FCGI_TRACE_TO, FCGI_PARAMS, params, len);
    fcgi_reader_init(&ex->reader, conn->request_id);
    fcgi_writer_begin(&ex->writer, conn->request_id,
                      conn->keep_asked ? FCGI_KEEP_CONN : 0, params, len);
    ex->begun_at = fcgi_clock_now();
    ex->last_moved = ex->begun_at;
    if (!ex->body_done) {
        send_continue(ex->r);
    }
}

/*
 * Closes the connection of an exchange that did not reach END_REQUEST. The
 * application is told so (5.4) where that can be said between two records.
 */
static void abandon(fcgi_exchange *ex)
{
    uint8_t header[FCGI_HEADER_LEN];
    apr_size_t len = sizeof(header);

    if (ex->result.outcome != FCGI_OUTCOME_BROKEN && !ex->write_failed
        && fcgi_writer_is_empty(&ex->writer)) {
        fcgi_put_header(header, FCGI_ABORT_REQUEST, ex->conn->request_id, 0,
                        0);
        fcgi_trace_content(ex->r, FCGI_TRACE_TO, FCGI_ABORT_REQUEST, "", 0);
        apr_socket_send(ex->conn->socket, (const char *)header, &len);
    }
    fcgi_backend_release(ex->backend, ex->conn, 0);
    ex->conn = NULL;
}

/* Forgets a connection that broke; what was taken from the client stays. */
static void start_over(fcgi_exchange *ex)
{
    memset(&ex->result, 0, sizeof(ex->result));
    ex->sent_before += ex->writer.sent;
    ex->on_reused = 0;
    fcgi_writer_restart(&ex->writer);
    ex->body_queued = 0;
    ex->write_failed = 0;
    ex->readable = 0;
    ex->writable = 1;
    ex->sent_at = 0;
}

static int died_young(const fcgi_exchange *ex)
{
    fcgi_instant since = ex->sent_at ? ex->sent_at : ex->begun_at;

    return fcgi_clock_now() - since < ex->terms.retry;
}

/* What was sent of a streamed body is not held any more. */
static int is_held(const fcgi_exchange *ex)
{
    return !ex->terms.stream_body || (!ex->body_len && ex->body_done);
}

int fcgi_exchange_is_repeatable(const fcgi_exchange *ex)
{
    return is_safe(ex) && is_held(ex) && ex->terms.retry && !ex->resent;
}

int fcgi_exchange_may_retry(fcgi_exchange *ex)
{
    if (ex->result.outcome != FCGI_OUTCOME_BROKEN || ex->first_byte_at
        || !is_held(ex)) {
        return 0;
    }
    if (!ex->on_reused || ex->writer.sent) {
        if (!fcgi_exchange_is_repeatable(ex) || !died_young(ex)) {
            return 0;
        }
        ex->resent = 1;
    }
    start_over(ex);
    return 1;
}

apr_off_t fcgi_exchange_sent(const fcgi_exchange *ex)
{
    return ex->sent_before + ex->writer.sent;
}

int fcgi_exchange_is_over(fcgi_exchange *ex)
{
    ex->wake_at = 0;
    check_limit(ex, ex->started, ex->terms.total, "FcgiTotalTimeout");
    check_connection(ex);
    if (is_pending(ex) && ex->client_ready && ex->body_done
        && ex->watch_client) {
        check_client(ex);
    }
    check_silence(ex);
    return !is_pending(ex);
}

fcgi_outcome fcgi_exchange_step(fcgi_exchange *ex)
{
    do {
        ex->moved = 0;
        check_limit(ex, ex->started, ex->terms.total, "FcgiTotalTimeout");
        check_connection(ex);
        if (is_pending(ex)) {
            read_application(ex);
        }
        stream_body(ex);
        if (is_pending(ex) && ex->body_done && ex->client_ready
            && ex->watch_client) {
            check_client(ex);
        }
        if (is_pending(ex)) {
            queue_body(ex);
        }
        if (is_pending(ex)) {
            write_application(ex);
        }
        if (is_pending(ex)) {
            resume_client(ex);
        }
    } while (is_pending(ex) && ex->moved);
    if (is_pending(ex)) {
        wait_or_give_up(ex);
    }
    if (!is_pending(ex)) {
        fcgi_stderr_end(&ex->response->stderr_lines);
        if (ex->conn) {
            abandon(ex);
        }
        if (ex->buffer) {
            apr_bucket_destroy(ex->buffer);
            ex->buffer = NULL;
        }
    }
    return ex->result.outcome;
}

void fcgi_exchange_ready(fcgi_exchange *ex, int ready)
{
    ex->readable |= ready & FCGI_WANTS_READ;
    ex->writable |= ready & FCGI_WANTS_WRITE;
    ex->client_ready |= ready & FCGI_WANTS_CLIENT;
    ex->client_gone |= ready & FCGI_WANTS_CLIENT_END;
    ex->outflow->has_room |= ready & FCGI_WANTS_CLIENT_WRITE;
}
