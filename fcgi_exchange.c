/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_exchange.c - one request on one connection; the contract is in
 * fcgi_exchange.h. Read fcgi_exchange_step() first: it reads from the
 * application, takes the client's body, writes to the application, until
 * nothing moves, and then says what it waits for.
 */
#include "fcgi_exchange.h"

#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>
#include <util_filter.h>

#define REQUEST_ID 1 /* a connection carries one request at a time */

/* A read takes so much; a little less than 64 KB, so that the allocator's
 * own header fits the same pages. */
#define READ_SIZE (64 * 1024 - 128)

/* The client's body waits in httpd while more than this is to be written. */
#define OUT_MAX (64 * 1024)

/* Pieces of one gathered write. */
#define MAX_PIECES 32

/* An application that says nothing for so long has paused: the client gets
 * what there is. And while it goes on in small pieces, at least so often. */
#define PAUSE       apr_time_from_msec(5)
#define FLUSH_EVERY apr_time_from_msec(30)

fcgi_exchange *fcgi_exchange_create(request_rec *r,
                                    const fcgi_backend *backend,
                                    const fcgi_limits *limits,
                                    apr_size_t max_header_size)
{
    fcgi_exchange *ex = apr_pcalloc(r->pool, sizeof(*ex));
    apr_bucket_alloc_t *list = r->connection->bucket_alloc;

    ex->r = r;
    ex->limits = *limits;
    ex->response = fcgi_response_create(r, backend->name, max_header_size);
    fcgi_reader_init(&ex->reader, REQUEST_ID);
    ex->out = apr_brigade_create(r->pool, list);
    ex->body = apr_brigade_create(r->pool, list);
    ex->body_done = r->main != NULL; /* a subrequest has none of its own */
    ex->writable = 1;
    ex->client_ready = !ex->body_done;
    ex->watch_client = !limits->ignore_client_abort;
    ex->started = apr_time_now();
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
    else {
        result->phase =
            ex->sent_at || ex->bytes_in ? FCGI_PHASE_HEADERS : FCGI_PHASE_SEND;
    }
}

static void note_moved(fcgi_exchange *ex)
{
    ex->moved = 1;
    ex->last_moved = apr_time_now();
}

/* The client has gone, or its filters refuse the answer. */
static void lose_client(fcgi_exchange *ex, apr_status_t rv, const char *why)
{
    ex->watch_client = 0;
    if (ex->limits.ignore_client_abort && ex->body_done) {
        fcgi_response_drop(ex->response);
    }
    else {
        end(ex, FCGI_OUTCOME_CLIENT_GONE, rv, why);
    }
}

/* ---- to the application ---- */

static void add_record_header(fcgi_exchange *ex, apr_bucket_brigade *bb,
                              fcgi_type type, apr_size_t content_len)
{
    uint8_t header[FCGI_HEADER_LEN];

    fcgi_put_header(header, type, REQUEST_ID, content_len, 0);
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_heap_create((const char *)header,
                                                       sizeof(header), NULL,
                                                       bb->bucket_alloc));
    ex->out_len += sizeof(header);
}

/* Adds the PARAMS stream, in as many records as it takes (3.3, 5.2). */
static void add_params(fcgi_exchange *ex, apr_bucket_brigade *bb,
                       const char *params, apr_size_t len)
{
    while (len) {
        apr_size_t part =
            len < FCGI_MAX_CONTENT_LEN ? len : FCGI_MAX_CONTENT_LEN;

        add_record_header(ex, bb, FCGI_PARAMS, part);
        APR_BRIGADE_INSERT_TAIL(
            bb, apr_bucket_immortal_create(params, part, bb->bucket_alloc));
        ex->out_len += part;
        params += part;
        len -= part;
    }
    add_record_header(ex, bb, FCGI_PARAMS, 0);
}

/* Adds a bucket of the client's body as STDIN records. */
static apr_status_t add_body_bucket(fcgi_exchange *ex, apr_bucket *bucket)
{
    const char *data;
    apr_size_t len;
    apr_status_t rv = apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ);

    while (rv == APR_SUCCESS && len) {
        apr_bucket *rest = NULL;

        if (len > FCGI_MAX_CONTENT_LEN) {
            rv = apr_bucket_split(bucket, FCGI_MAX_CONTENT_LEN);
            rest = APR_BUCKET_NEXT(bucket);
        }
        APR_BUCKET_REMOVE(bucket);
        add_record_header(ex, ex->out, FCGI_STDIN, bucket->length);
        APR_BRIGADE_INSERT_TAIL(ex->out, bucket);
        ex->out_len += bucket->length;
        ex->body_len += (apr_off_t)bucket->length;
        len -= bucket->length;
        if (rv == APR_SUCCESS) {
            rv = apr_bucket_setaside(bucket, ex->r->pool);
        }
        bucket = rest;
    }
    return rv;
}

static apr_status_t add_body(fcgi_exchange *ex)
{
    apr_status_t rv = APR_SUCCESS;

    while (rv == APR_SUCCESS && !APR_BRIGADE_EMPTY(ex->body)) {
        apr_bucket *bucket = APR_BRIGADE_FIRST(ex->body);

        if (APR_BUCKET_IS_EOS(bucket)) {
            ex->body_done = 1;
            ex->client_ready = 0;
            add_record_header(ex, ex->out, FCGI_STDIN, 0);
            apr_brigade_cleanup(ex->body);
        }
        else if (APR_BUCKET_IS_METADATA(bucket) || !bucket->length) {
            apr_bucket_delete(bucket);
        }
        else {
            rv = add_body_bucket(ex, bucket);
        }
    }
    return rv;
}

/* Takes n written bytes off the front of out. */
static void consume(fcgi_exchange *ex, apr_size_t n)
{
    ex->out_len -= n;
    ex->bytes_out += (apr_off_t)n;
    while (n) {
        apr_bucket *bucket = APR_BRIGADE_FIRST(ex->out);

        if (bucket->length > n) {
            apr_bucket_split(bucket, n);
        }
        n -= bucket->length;
        apr_bucket_delete(bucket);
    }
    if (ex->body_done && APR_BRIGADE_EMPTY(ex->out)) {
        ex->sent_at = ex->last_moved;
    }
}

/* One gathered write of what out begins with. */
static apr_status_t send_pieces(fcgi_exchange *ex, apr_size_t *sent,
                                apr_size_t *wanted)
{
    struct iovec pieces[MAX_PIECES];
    apr_bucket *bucket = APR_BRIGADE_FIRST(ex->out);
    int count = 0;

    *wanted = 0;
    while (count < MAX_PIECES && bucket != APR_BRIGADE_SENTINEL(ex->out)) {
        const char *data;
        apr_size_t len;
        apr_status_t rv = apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ);

        if (rv != APR_SUCCESS) {
            return rv;
        }
        pieces[count].iov_base = (void *)data;
        pieces[count++].iov_len = len;
        *wanted += len;
        bucket = APR_BUCKET_NEXT(bucket);
    }
    return apr_socket_sendv(ex->conn->socket, pieces, count, sent);
}

static void write_application(fcgi_exchange *ex)
{
    apr_size_t sent = 0, wanted = 0;
    apr_status_t rv;

    if (!ex->writable || APR_BRIGADE_EMPTY(ex->out)) {
        return;
    }
    rv = send_pieces(ex, &sent, &wanted);
    if (rv == APR_SUCCESS) {
        note_moved(ex);
        consume(ex, sent);
        ex->writable = sent == wanted;
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
        ex->out_len = 0;
        apr_brigade_cleanup(ex->out);
    }
}

/* ---- from the client ---- */

/*
 * Reads of the body without waiting. Once the answer was begun the output
 * filters are out of reach meanwhile: httpd's input filter would end the
 * answer in good order when the body breaks, and that would be a lie.
 */
static apr_status_t get_body(fcgi_exchange *ex)
{
    request_rec *r = ex->r;
    ap_filter_t *output_filters = r->output_filters;
    apr_status_t rv;

    if (fcgi_response_begun(ex->response)) {
        r->output_filters = NULL;
    }
    rv = ap_get_brigade(r->input_filters, ex->body, AP_MODE_READBYTES,
                        APR_NONBLOCK_READ, FCGI_MAX_CONTENT_LEN);
    r->output_filters = output_filters;
    return rv;
}

static void read_body(fcgi_exchange *ex)
{
    apr_status_t rv = get_body(ex);

    if (APR_STATUS_IS_EAGAIN(rv)
        || (rv == APR_SUCCESS && APR_BRIGADE_EMPTY(ex->body))) {
        ex->client_ready = 0;
        return;
    }
    if (rv == APR_SUCCESS) {
        note_moved(ex);
        rv = add_body(ex);
    }
    if (rv != APR_SUCCESS) {
        ex->result.client_status =
            ap_map_http_request_error(rv, HTTP_BAD_REQUEST);
        end(ex, FCGI_OUTCOME_CLIENT_BAD, rv,
            "the request body is broken, too large or incomplete");
    }
}

static int is_gone(apr_status_t rv)
{
    return APR_STATUS_IS_EOF(rv) || APR_STATUS_IS_ECONNRESET(rv)
           || APR_STATUS_IS_ECONNABORTED(rv) || APR_STATUS_IS_EPIPE(rv);
}

/* The client's socket has something although the request is here: its end,
 * or the next request. The connection's own filters can tell. */
static void check_client(fcgi_exchange *ex)
{
    conn_rec *c = ex->r->connection;
    apr_status_t rv;

    ex->client_ready = 0;
    if (c->master) {
        return; /* HTTP/2: mod_http2 sets c->aborted */
    }
    rv = ap_get_brigade(c->input_filters, ex->body, AP_MODE_SPECULATIVE,
                        APR_NONBLOCK_READ, 1);
    if (is_gone(rv)) {
        lose_client(ex, rv, "the client closed its connection");
    }
    else if (rv == APR_SUCCESS && !APR_BRIGADE_EMPTY(ex->body)) {
        ex->watch_client = 0; /* the next request hides its end */
    }
    else if (rv != APR_SUCCESS && !APR_STATUS_IS_EAGAIN(rv)) {
        ex->watch_client = 0;
    }
    apr_brigade_cleanup(ex->body);
}

static void take_body(fcgi_exchange *ex)
{
    while (is_pending(ex) && ex->client_ready && !ex->body_done
           && !ex->write_failed && ex->out_len < OUT_MAX) {
        read_body(ex);
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

static void end_request(fcgi_exchange *ex)
{
    uint8_t status = ex->reader.protocol_status;
    const char *name = fcgi_protocol_status_name(status);
    const char *why =
        apr_pstrcat(ex->r->pool, "the application says ", name, NULL);
    fcgi_outcome outcome;

    ex->app_status = ex->reader.app_status;
    switch (status) {
    case FCGI_REQUEST_COMPLETE:
        fcgi_backend_release(ex->conn);
        ex->conn = NULL;
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
    end(ex, outcome, APR_SUCCESS, why);
}

static void take_content(fcgi_exchange *ex)
{
    const char *content = (const char *)ex->reader.content;

    if (ex->reader.type == FCGI_STDERR) {
        fcgi_response_stderr(ex->response, content, ex->reader.content_len);
    }
    else if (fcgi_response_stdout(ex->response, ex->buffer, content,
                                  ex->reader.content_len)
             != FCGI_OUTCOME_PENDING) {
        end(ex, FCGI_OUTCOME_BAD_HEADERS, APR_SUCCESS, ex->response->why);
    }
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
            break;
        case FCGI_EVENT_END_REQUEST:
            end_request(ex);
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
    ex->buffer = apr_bucket_heap_create(apr_bucket_alloc(READ_SIZE, list),
                                        READ_SIZE, apr_bucket_free, list);
    heap = ex->buffer->data;
    return heap->base;
}

/* Gives httpd what was read, and remembers since when it may hold it. */
static void pass_on(fcgi_exchange *ex, int flush)
{
    if (!fcgi_response_pass(ex->response, flush)) {
        lose_client(ex, APR_SUCCESS, "the client takes no more");
    }
    ex->last_moved = apr_time_now(); /* that may have waited for the client */
    if (!ex->response->unflushed) {
        ex->unflushed_since = 0;
    }
    else if (!ex->unflushed_since) {
        ex->unflushed_since = ex->last_read;
    }
}

static void read_application(fcgi_exchange *ex)
{
    apr_size_t len = READ_SIZE;
    apr_status_t rv;
    char *data;

    if (!ex->readable) {
        return;
    }
    data = get_buffer(ex);
    rv = apr_socket_recv(ex->conn->socket, data, &len);
    if (APR_STATUS_IS_EAGAIN(rv)) {
        ex->readable = 0;
    }
    else if (rv != APR_SUCCESS || !len) {
        end(ex, FCGI_OUTCOME_BROKEN, APR_STATUS_IS_EOF(rv) ? APR_SUCCESS : rv,
            "the application closed the connection before its answer was "
            "complete");
    }
    else {
        note_moved(ex);
        ex->last_read = ex->last_moved;
        ex->bytes_in += (apr_off_t)len;
        ex->readable = len == READ_SIZE;
        take_records(ex, data, len);
        if (is_pending(ex)) {
            pass_on(ex, 0);
        }
    }
}

/* ---- waiting ---- */

static void wake_by(fcgi_exchange *ex, apr_time_t when)
{
    if (!ex->wake_at || when < ex->wake_at) {
        ex->wake_at = when;
    }
}

/* Ends the exchange if a limit is over, else wakes when it will be. */
static void check_limit(fcgi_exchange *ex, apr_time_t since,
                        apr_interval_time_t limit, const char *name)
{
    if (!limit || !is_pending(ex)) {
        return;
    }
    if (apr_time_now() < since + limit) {
        wake_by(ex, since + limit);
    }
    else {
        end(ex, FCGI_OUTCOME_TIMED_OUT, APR_TIMEUP,
            apr_psprintf(ex->r->pool, "%s %" APR_TIME_T_FMT " ms is over",
                         name, apr_time_as_msec(limit)));
    }
}

/* No byte moved for too long, and it is the client's body that is missing:
 * that is the client's fault. */
static void blame_client(fcgi_exchange *ex)
{
    if (ex->result.outcome == FCGI_OUTCOME_TIMED_OUT && !ex->body_done
        && !ex->write_failed && !ex->out_len) {
        ex->result.outcome = FCGI_OUTCOME_CLIENT_BAD;
        ex->result.client_status = HTTP_REQUEST_TIME_OUT;
    }
}

/* Flushes when the application has paused, see PAUSE and FLUSH_EVERY. */
static void flush_in_pause(fcgi_exchange *ex)
{
    apr_time_t when = ex->last_read + PAUSE;

    if (!ex->response->unflushed) {
        return;
    }
    if (when > ex->unflushed_since + FLUSH_EVERY) {
        when = ex->unflushed_since + FLUSH_EVERY;
    }
    if (apr_time_now() >= when) {
        pass_on(ex, 1);
    }
    else {
        wake_by(ex, when);
    }
}

static int wants_client(const fcgi_exchange *ex)
{
    if (ex->write_failed && !ex->body_done) {
        return 0; /* its body, which nobody wants, hides its end */
    }
    return ex->body_done ? ex->watch_client : ex->out_len < OUT_MAX;
}

/* Nothing moves: checks the limits and says what it waits for. */
static void wait_or_give_up(fcgi_exchange *ex)
{
    ex->wake_at = 0;
    flush_in_pause(ex);
    check_limit(ex, ex->last_moved, ex->limits.idle, "FcgiTimeout");
    blame_client(ex);
    if (ex->sent_at && !ex->bytes_in) {
        check_limit(ex, ex->sent_at, ex->limits.first_byte,
                    "FcgiFirstByteTimeout");
    }
    check_limit(ex, ex->started, ex->limits.total, "FcgiTotalTimeout");
    ex->wants = FCGI_WANTS_READ
                | (APR_BRIGADE_EMPTY(ex->out) ? 0 : FCGI_WANTS_WRITE)
                | (wants_client(ex) ? FCGI_WANTS_CLIENT : 0);
}

/* ---- the story ---- */

apr_off_t fcgi_exchange_prefetch(fcgi_exchange *ex)
{
    take_body(ex);
    return ex->body_done ? ex->body_len : -1;
}

void fcgi_exchange_start(fcgi_exchange *ex, fcgi_conn *conn,
                         const char *params, apr_size_t len)
{
    apr_bucket_alloc_t *list = ex->r->connection->bucket_alloc;
    apr_bucket_brigade *head = apr_brigade_create(ex->r->pool, list);
    uint8_t begin[FCGI_BEGIN_REQUEST_LEN];

    ex->conn = conn;
    fcgi_put_begin_request(begin, REQUEST_ID, FCGI_RESPONDER, 0);
    APR_BRIGADE_INSERT_TAIL(head,
                            apr_bucket_heap_create((const char *)begin,
                                                   sizeof(begin), NULL, list));
    ex->out_len += sizeof(begin);
    add_params(ex, head, params, len);
    if (ex->r->main) {
        add_record_header(ex, head, FCGI_STDIN, 0);
    }
    APR_BRIGADE_PREPEND(ex->out, head);
    ex->last_moved = apr_time_now();
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
        && APR_BRIGADE_EMPTY(ex->out)) {
        fcgi_put_header(header, FCGI_ABORT_REQUEST, REQUEST_ID, 0, 0);
        apr_socket_send(ex->conn->socket, (const char *)header, &len);
    }
    fcgi_backend_release(ex->conn);
    ex->conn = NULL;
}

fcgi_outcome fcgi_exchange_step(fcgi_exchange *ex)
{
    do {
        ex->moved = 0;
        if (ex->r->connection->aborted && ex->watch_client) {
            lose_client(ex, APR_SUCCESS, "the client's connection is gone");
        }
        if (is_pending(ex)) {
            read_application(ex);
        }
        take_body(ex);
        if (is_pending(ex) && ex->body_done && ex->client_ready
            && ex->watch_client) {
            check_client(ex);
        }
        if (is_pending(ex)) {
            write_application(ex);
        }
    } while (is_pending(ex) && ex->moved);
    if (is_pending(ex)) {
        wait_or_give_up(ex);
    }
    if (!is_pending(ex)) {
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
}
