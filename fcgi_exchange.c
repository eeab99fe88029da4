/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_exchange.c - one request on one connection; the contract is in
 * fcgi_exchange.h. Read fcgi_exchange_round() first: it reads from the
 * application, takes the client's body and writes to the application; and
 * then fcgi_exchange_settle(), which says what it waits for when nothing moves.
 */
#include "fcgi_exchange.h"

#include <stdlib.h>
#include <string.h>

#include <apr_atomic.h>
#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>

#include "fcgi_log.h"
#include "fcgi_socket.h"
#include "fcgi_trace.h"

APLOG_USE_MODULE(fastcgi_handler);

static int is_urgent(const void *backend)
{
    return fcgi_backend_is_pressed(backend);
}

fcgi_exchange *fcgi_exchange_create(request_rec *r,
                                    const fcgi_backend *backend,
                                    const fcgi_terms *terms,
                                    fcgi_inflow *inflow, fcgi_client *client)
{
    fcgi_exchange *ex = apr_pcalloc(r->pool, sizeof(*ex));

    ex->r = r;
    ex->backend = backend;
    ex->terms = terms;
    ex->inflow = inflow;
    ex->client = client;
    ex->outflow = fcgi_outflow_create(r, backend->name, &terms->spool,
                                      is_urgent, backend);
    ex->response = fcgi_response_create(ex->outflow, terms->max_header_size,
                                        terms->flush);
    fcgi_writer_init(&ex->writer, r->pool, r->connection->bucket_alloc);
    ex->writable = 1;
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
    result->phase = ex->response->state != FCGI_RESPONSE_GATHERING
                        ? FCGI_PHASE_BODY
                    : ex->sent_at || ex->heard ? FCGI_PHASE_HEADERS
                                               : FCGI_PHASE_SEND;
}

static void note_moved(fcgi_exchange *ex)
{
    ex->moved = 1;
    ex->last_moved = fcgi_clock_now();
}

int fcgi_exchange_lose(fcgi_exchange *ex, fcgi_outcome outcome)
{
    int may_finish = ex->terms->ignore_client_abort
                     || (outcome == FCGI_OUTCOME_CLIENT_GONE
                         && fcgi_response_is_delivered(ex->response));

    ex->client->is_watched = 0;
    return !may_finish || !ex->inflow->is_done;
}

/* The answer, or a part of it, was to be given on, for which httpd may have
 * waited for the client. */
static void note_given(fcgi_exchange *ex)
{
    fcgi_outlet *outlet = &ex->outflow->outlet;

    ex->last_moved = fcgi_clock_now();
    if (outlet->state != FCGI_OUTLET_OPEN && !ex->lost) {
        fcgi_outcome outcome = fcgi_response_lost(ex->response);

        ex->lost = 1;
        fcgi_outlet_send_answer(outlet);
        if (fcgi_exchange_lose(ex, outcome)) {
            end(ex, outcome, outlet->rv, ex->response->why);
        }
    }
}

/* ---- to the application ---- */

/* True while a streamed body waits for the part of it that is being written:
 * what comes meanwhile, perhaps byte by byte, goes out as one record. */
static int gathers_body(const fcgi_exchange *ex)
{
    return ex->inflow->is_streamed && ex->inflow->queued
           && !fcgi_writer_is_empty(&ex->writer)
           && fcgi_inflow_left(ex->inflow);
}

/* Makes a part of the body ready to be written, and STDIN's end once there is
 * no more: never before the whole body is known to be here. */
static void queue_body(fcgi_exchange *ex)
{
    fcgi_inflow *inflow = ex->inflow;
    apr_status_t rv = APR_SUCCESS;

    if (ex->writer.ended || ex->write_failed
        || ex->writer.len >= FCGI_INFLOW_AHEAD || gathers_body(ex)) {
        return;
    }
    if (fcgi_inflow_left(inflow)) {
        rv = fcgi_inflow_next(inflow, fcgi_writer_is_empty(&ex->writer));
        if (rv == APR_SUCCESS) {
            fcgi_trace_body(ex->r, inflow->bb);
            rv = fcgi_writer_stdin(&ex->writer, inflow->bb, &inflow->queued);
        }
    }
    if (rv != APR_SUCCESS) { /* of its file, which the disk has lost */
        end(ex, FCGI_OUTCOME_NO_SPACE, rv,
            "the held request body cannot be read");
    }
    else if (inflow->is_done && !fcgi_inflow_left(inflow)) {
        fcgi_trace_content(ex->r, FCGI_TRACE_TO, FCGI_STDIN, "", 0);
        fcgi_writer_end(&ex->writer);
    }
}

static int is_writing(const fcgi_exchange *ex)
{
    return !ex->write_failed && !fcgi_writer_is_empty(&ex->writer);
}

/* True if an application that closes its connection makes writing fail so. */
static int says_closed(apr_status_t rv)
{
    return APR_STATUS_IS_EPIPE(rv) || APR_STATUS_IS_ECONNRESET(rv)
           || APR_STATUS_IS_ECONNABORTED(rv) || APR_STATUS_IS_ETIMEDOUT(rv)
           || APR_STATUS_IS_EHOSTUNREACH(rv) || APR_STATUS_IS_ENETUNREACH(rv)
           || rv == ENOTCONN;
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
    else if (!says_closed(rv)) {
        /* it waits for the rest, as long as it is waited for here */
        end(ex, FCGI_OUTCOME_BROKEN, rv, "the request cannot be written");
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

/* Takes what is here of a body that is streamed. */
static void take_body(fcgi_exchange *ex)
{
    fcgi_result failed = { 0 };
    int moved = 0;

    if (ex->inflow->is_done || ex->write_failed) {
        return;
    }
    if (!fcgi_inflow_take(ex->inflow, ex->writer.len,
                          ex->response->state != FCGI_RESPONSE_GATHERING,
                          &moved, &failed)) {
        ex->result.client_status = failed.client_status;
        end(ex, failed.outcome, failed.rv, failed.why);
    }
    if (moved) {
        note_moved(ex);
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
    uint32_t ignored = reader->ignored_records;
    fcgi_event event =
        fcgi_reader_next(&ex->reader, (const uint8_t *)data, len, &used);
    int only_padding =
        event == FCGI_EVENT_MORE && !reader->foreign_records
        && reader->ignored_records == ignored
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

/* The application is done. Its answer ends as soon as no thread has to wait for
 * the client. */
static void end_answer(fcgi_exchange *ex)
{
    fcgi_outcome outcome;

    ex->is_over = !fcgi_outflow_may_end(ex->outflow);
    if (!ex->is_over) {
        outcome = fcgi_response_finish(ex->response, !ex->inflow->is_done);
        end(ex, outcome, ex->outflow->outlet.rv, ex->response->why);
    }
}

static const char *application_says(const fcgi_exchange *ex, const char *what)
{
    return apr_pstrcat(ex->r->pool, "the application says ", what, NULL);
}

/* END_REQUEST is here, and len bytes at data behind it. */
static void end_request(fcgi_exchange *ex, const char *data, apr_size_t len)
{
    uint8_t status = ex->reader.protocol_status;
    const char *name = fcgi_protocol_status_name(status), *why;
    fcgi_outcome outcome;

    ex->app_status = ex->reader.app_status;
    ap_log_rerror(APLOG_MARK, APLOG_TRACE8, 0, ex->r,
                  "from the application: FCGI_END_REQUEST, application "
                  "status %u, protocol status %d, %s",
                  ex->app_status, status, name);
    switch (status) {
    case FCGI_REQUEST_COMPLETE:
        let_go(ex, data, len);
        end_answer(ex);
        return;
    case FCGI_OVERLOADED:
    case FCGI_CANT_MPX_CONN:
        outcome = FCGI_OUTCOME_OVERLOADED;
        why = application_says(ex, name);
        break;
    case FCGI_UNKNOWN_ROLE:
        outcome = FCGI_OUTCOME_UNKNOWN_ROLE;
        why = application_says(ex, name);
        break;
    default:
        outcome = FCGI_OUTCOME_MALFORMED;
        why = apr_psprintf(ex->r->pool, "unknown protocol status %d", status);
    }
    end(ex, outcome, APR_SUCCESS, why);
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
                      ex->backend->name, ex->first_byte_at - ex->begun_at);
    }
}

/* A buffer that nobody reads into. Making one for each request would take 400
 * instructions more, and the pages of memory that go in between. */
static volatile void *spare;

/* A cast, as the pointer itself is what is volatile for APR 2. */
static void *swap_spare(void *bytes)
{
    return apr_atomic_xchgptr((void *)&spare, bytes);
}

static void give_back(void *bytes)
{
    free(swap_spare(bytes));
}

/* The most that is copied, wherever it lies. */
#define COPIED (FCGI_OUTFLOW_COPY_BELOW - 1)

/* The buffer as a bucket, of which pieces can be made; NULL for so little that it
 * is copied. */
static apr_bucket *get_bucket(fcgi_exchange *ex, apr_size_t len)
{
    if (len <= COPIED) {
        return NULL;
    }
    if (!ex->buffer) {
        ex->buffer =
            apr_bucket_heap_create(ex->bytes, FCGI_OUTFLOW_PIECE, give_back,
                                   ex->r->connection->bucket_alloc);
    }
    return ex->buffer;
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
    if (fcgi_response_stdout(ex->response,
                             get_bucket(ex, ex->reader.content_len), content,
                             ex->reader.content_len)
        != FCGI_OUTCOME_PENDING) {
        end(ex, FCGI_OUTCOME_BAD_HEADERS, APR_SUCCESS, ex->response->why);
    }
}

/* True if the connection carried a request of that id before this one; ids go
 * up, and begin again. */
static int carried_before(const fcgi_conn *conn, uint16_t id)
{
    return id && (id < conn->request_id || conn->requests > 0xffff);
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

/* Takes len bytes of records at data. It lies in ex->bytes if it is more than is
 * copied. */
static void take_records(fcgi_exchange *ex, const char *data, apr_size_t len)
{
    apr_size_t used;

    while (is_pending(ex) && !ex->is_over) {
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

static void drop_buffer(fcgi_exchange *ex)
{
    if (ex->buffer) {
        apr_bucket_destroy(ex->buffer);
    }
    else if (ex->bytes) {
        give_back(ex->bytes);
    }
    ex->buffer = NULL;
    ex->bytes = NULL;
}

/* A buffer to read into: the last one, unless pieces of it are in use. Not the
 * bucket allocator's, which would keep its memory for the connection: ten
 * thousands may wait. */
static char *get_buffer(fcgi_exchange *ex)
{
    const apr_bucket_heap *heap = ex->buffer ? ex->buffer->data : NULL;

    if (heap && heap->refcount.refcount > 1) {
        drop_buffer(ex);
    }
    if (!ex->bytes) {
        ex->bytes = swap_spare(NULL);
    }
    if (!ex->bytes) {
        ex->bytes = ap_malloc(FCGI_OUTFLOW_PIECE);
    }
    return ex->bytes;
}

/* The client's socket takes bytes: the next part of what it has to get. */
static void resume_client(fcgi_exchange *ex)
{
    if (ex->outflow->has_room && fcgi_outflow_is_behind(ex->outflow)) {
        fcgi_response_resume(ex->response);
        note_given(ex);
        ex->moved = 1;
    }
}

/* The application closed the connection, without END_REQUEST. */
static void take_close(fcgi_exchange *ex, apr_status_t rv)
{
    if (!fcgi_response_is_whole(ex->response, ex->stdout_ended)) {
        end(ex, FCGI_OUTCOME_BROKEN, APR_STATUS_IS_EOF(rv) ? APR_SUCCESS : rv,
            "the application closed the connection before its answer was "
            "complete");
        return;
    }
    ex->unended = 1;
    fcgi_backend_release(ex->backend, ex->conn, 0);
    ex->conn = NULL;
    end_answer(ex);
}

/* Takes what was read, or why nothing was. size is how much there was room for. */
static void take_bytes(fcgi_exchange *ex, const char *data, apr_size_t len,
                       apr_size_t size, apr_status_t rv)
{
    if (APR_STATUS_IS_EAGAIN(rv)) {
        ex->readable = 0;
    }
    else if (rv != APR_SUCCESS) {
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

/* Waits in reading. What comes is no more than is copied anyway: threads that
 * wait need no buffers for that. */
static void wait_and_read(fcgi_exchange *ex)
{
    char data[COPIED];
    apr_size_t len = sizeof(data);
    apr_status_t rv = fcgi_socket_recv(ex->conn->socket, data, &len, 1);

    take_bytes(ex, data, len, sizeof(data), rv);
}

static void read_application(fcgi_exchange *ex)
{
    apr_size_t size = ex->readable ? fcgi_outflow_room(ex->outflow) : 0;
    apr_size_t len = size;
    apr_status_t rv;
    char *data;

    if (size) {
        data = get_buffer(ex);
        rv = fcgi_socket_recv(ex->conn->socket, data, &len, 0);
        take_bytes(ex, data, len, size, rv);
    }
}

/* ---- waiting ---- */

/* Ends the exchange if a limit is over, else wakes when it will be. */
static void check_limit(fcgi_exchange *ex, fcgi_instant since,
                        apr_interval_time_t limit, const char *name)
{
    if (!limit || !is_pending(ex)) {
        return;
    }
    if (ex->wait.said_at < since + limit) {
        fcgi_wait_until(&ex->wait, since + limit);
    }
    else {
        end(ex, FCGI_OUTCOME_TIMED_OUT, APR_TIMEUP,
            fcgi_outcome_over(ex->r->pool, name, limit));
    }
}

/* No byte moved for too long, and it is the client's body that is missing, or
 * the client that does not take its answer: that is the client's fault. */
static void blame_client(fcgi_exchange *ex)
{
    if (ex->result.outcome != FCGI_OUTCOME_TIMED_OUT) {
        return;
    }
    if (!ex->is_over && !ex->inflow->is_done && !ex->write_failed
        && fcgi_writer_is_empty(&ex->writer)) {
        ex->result.outcome = FCGI_OUTCOME_CLIENT_BAD;
        ex->result.client_status = HTTP_REQUEST_TIME_OUT;
    }
    else if (ex->is_over || !fcgi_outflow_room(ex->outflow)) {
        ex->result.outcome = FCGI_OUTCOME_CLIENT_GONE;
    }
}

/* What is wanted of the client (FCGI_WANTS_). */
static int client_wants(const fcgi_exchange *ex)
{
    if (ex->inflow->is_done) {
        return fcgi_client_wants(ex->client);
    }
    /* a body that nobody wants hides the client's end */
    return !ex->write_failed && fcgi_inflow_wants(ex->inflow, ex->writer.len)
               ? FCGI_WANTS_CLIENT
               : 0;
}

/* Has the application been busy with others for so long that idle connections
 * to it have to be given up? */
static void press(fcgi_exchange *ex)
{
    if (!ex->heard) {
        fcgi_backend_press_in_time(ex->conn, ex->wait.said_at, &ex->wait);
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
    ex->wait.wants = wait.for_room ? FCGI_WANTS_CLIENT_WRITE : 0;
    ex->wait.wake_at = wait.wake_at;
}

/* ---- the story ---- */

void fcgi_exchange_start(fcgi_exchange *ex, fcgi_conn *conn, char *params,
                         apr_size_t len)
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
    /* over TCP it is the application that pays for it */
    ex->writer.sends_files =
        ex->backend->address->path != NULL
        && (!ex->inflow->is_done || fcgi_inflow_left(ex->inflow));
    if (conn->reused) { /* it takes three calls, and saves one each time */
        fcgi_conn_be_patient(conn, !ex->writer.sends_files);
    }
    ex->writer.sends_files &= !conn->is_patient;
    fcgi_writer_begin(&ex->writer, conn->request_id,
                      conn->keep_asked ? FCGI_KEEP_CONN : 0, params, len);
    ex->begun_at = conn->used_at;
    ex->last_moved = ex->begun_at;
    if (!ex->inflow->is_done) {
        send_continue(ex->r);
    }
}

/* Forgets a connection that broke; what was taken from the client stays. */
static void start_over(fcgi_exchange *ex)
{
    memset(&ex->result, 0, sizeof(ex->result));
    ex->sent_before += ex->writer.sent;
    ex->on_reused = 0;
    fcgi_writer_restart(&ex->writer);
    ex->inflow->queued = 0;
    ex->write_failed = 0;
    ex->readable = 0;
    ex->writable = 1;
    ex->sent_at = 0;
}

static int died_young(const fcgi_exchange *ex)
{
    fcgi_instant since = ex->sent_at ? ex->sent_at : ex->begun_at;

    return fcgi_clock_now() - since < ex->terms->retry;
}

/* Safe to do twice (RFC 9110, 9.2.1). */
static int is_safe(const fcgi_exchange *ex)
{
    return ex->r->method_number == M_GET /* and HEAD */
           || ex->r->method_number == M_OPTIONS
           || ex->r->method_number == M_TRACE;
}

int fcgi_exchange_must_be_sent(const fcgi_exchange *ex)
{
    return ex->inflow->is_done && !ex->sent_at && !ex->write_failed
           && !ex->is_over && !is_safe(ex);
}

int fcgi_exchange_is_repeatable(const fcgi_exchange *ex)
{
    return is_safe(ex) && fcgi_inflow_is_held(ex->inflow) && ex->terms->retry
           && !ex->resent;
}

int fcgi_exchange_may_retry(fcgi_exchange *ex)
{
    if (ex->result.outcome != FCGI_OUTCOME_BROKEN || ex->first_byte_at
        || !fcgi_inflow_is_held(ex->inflow)) {
        return 0;
    }
    if (ex->writer.sent) {
        if (!fcgi_exchange_is_repeatable(ex) || !died_young(ex)) {
            return 0;
        }
        ex->resent = 1;
    }
    else if (!ex->on_reused) {
        /* nobody has seen a byte of it; but there may be somebody who takes
         * connections only to close them */
        if (ex->resent) {
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

/*
 * Closes the connection of an exchange that did not reach END_REQUEST. The
 * application is told so (5.4) where that can be said between two records.
 */
static void abandon(fcgi_exchange *ex)
{
    uint8_t header[FCGI_HEADER_LEN];
    struct iovec piece = { header, sizeof(header) };
    apr_size_t sent;

    if (ex->result.outcome != FCGI_OUTCOME_BROKEN && !ex->write_failed
        && fcgi_writer_is_empty(&ex->writer)) {
        fcgi_put_header(header, FCGI_ABORT_REQUEST, ex->conn->request_id, 0,
                        0);
        fcgi_trace_content(ex->r, FCGI_TRACE_TO, FCGI_ABORT_REQUEST, "", 0);
        fcgi_socket_send(ex->conn->socket, &piece, 1, &sent);
    }
    fcgi_backend_release(ex->backend, ex->conn, 0);
    ex->conn = NULL;
}

/* It has ended, in whatever way. */
static void finish(fcgi_exchange *ex)
{
    fcgi_stderr_end(&ex->response->stderr_lines);
    if (ex->conn) {
        abandon(ex);
    }
    drop_buffer(ex);
}

void fcgi_exchange_end(fcgi_exchange *ex, fcgi_outcome outcome,
                       apr_status_t rv, const char *why)
{
    end(ex, outcome, rv, why);
    finish(ex);
}

/* With the application: reads and writes what goes. */
static void converse(fcgi_exchange *ex)
{
    if (ex->read_waits) {
        ex->read_waits = 0;
        wait_and_read(ex);
    }
    else {
        read_application(ex);
    }
    if (is_pending(ex) && !ex->is_over) {
        take_body(ex);
    }
    if (is_pending(ex) && !ex->is_over) {
        queue_body(ex);
    }
    if (is_pending(ex) && !ex->is_over) {
        write_application(ex);
    }
}

/* True if another round could do nothing: all is written, and what there was
 * of the answer is read and given on. */
static int only_waits(const fcgi_exchange *ex)
{
    return !ex->is_over && !ex->readable && ex->inflow->is_done
           && ex->writer.ended && fcgi_writer_is_empty(&ex->writer)
           && !fcgi_outflow_is_behind(ex->outflow);
}

int fcgi_exchange_round(fcgi_exchange *ex)
{
    ex->moved = 0;
    if (!ex->is_over) {
        converse(ex);
    }
    if (is_pending(ex)) {
        resume_client(ex);
    }
    if (is_pending(ex) && ex->is_over) {
        end_answer(ex);
    }
    if (!is_pending(ex)) {
        finish(ex);
    }
    return ex->moved && !only_waits(ex);
}

void fcgi_exchange_settle(fcgi_exchange *ex, fcgi_instant now)
{
    ex->wait.said_at = now;
    settle_client(ex);
    check_limit(ex, ex->last_moved, ex->terms->idle, "FcgiTimeout");
    blame_client(ex);
    if (ex->sent_at && !ex->first_byte_at) {
        check_limit(ex, ex->sent_at, ex->terms->first_byte,
                    "FcgiFirstByteTimeout");
    }
    if (!is_pending(ex)) {
        finish(ex);
        return;
    }
    if (ex->is_over) {
        ex->wait.wants |=
            ex->inflow->is_done ? fcgi_client_wants(ex->client) : 0;
        return;
    }
    press(ex);
    ex->wait.wants |= (is_writing(ex) ? FCGI_WANTS_WRITE : 0)
                      | client_wants(ex)
                      | (fcgi_outflow_room(ex->outflow) ? FCGI_WANTS_READ : 0);
}

void fcgi_exchange_rest(fcgi_exchange *ex)
{
    fcgi_inflow_rest(ex->inflow);
    fcgi_spool_shrink(ex->outflow->held);
    drop_buffer(ex);
}

int fcgi_exchange_let_read_wait(fcgi_exchange *ex)
{
    ex->read_waits = ex->conn && ex->conn->is_patient && only_waits(ex)
                     && fcgi_outflow_room(ex->outflow) >= COPIED;
    return ex->read_waits;
}

void fcgi_exchange_ready(fcgi_exchange *ex, int ready)
{
    ex->readable |= ready & FCGI_WANTS_READ;
    ex->writable |= ready & FCGI_WANTS_WRITE;
    ex->outflow->has_room |= ready & FCGI_WANTS_CLIENT_WRITE;
}
