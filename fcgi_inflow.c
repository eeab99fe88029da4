/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_inflow.c - the contract is in fcgi_inflow.h.
 */
#include "fcgi_inflow.h"

#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>

#include "fcgi_body.h"

/* So much is asked of httpd at a time. */
#define READ_MAX 65535

/* Reads of a streamed body in a row: many, for each may give no more than a
 * byte, and what they give goes out as one record. */
#define STREAM_ROUNDS 1024

/* What is held of a streamed body never reaches a file: FCGI_INFLOW_AHEAD, and
 * what one read may give beyond that. */
#define STREAM_MEMORY (4 * FCGI_INFLOW_AHEAD)

/* So much of the body is made ready to be written at a time, in whole records:
 * each time the spool is walked through from its start. */
#define PART (8 * 65535)

/* Of a body in a file, which is few buckets, but may have to be read: one
 * record, of whole pages, so that sendfile() has none to split. */
#define PART_OF_FILE (60 * 1024)

fcgi_inflow *fcgi_inflow_create(request_rec *r, const fcgi_terms *terms)
{
    fcgi_inflow *inflow = apr_pcalloc(r->pool, sizeof(*inflow));

    inflow->r = r;
    inflow->is_streamed = terms->stream_body;
    inflow->limits = terms->spool;
    inflow->is_done = !terms->has_body || fcgi_body_is_empty(r);
    if (!inflow->is_done) {
        inflow->bb = apr_brigade_create(r->pool, r->connection->bucket_alloc);
        inflow->is_ready = 1;
    }
    return inflow;
}

/* ---- from the client ---- */

static int fail(fcgi_result *result, fcgi_outcome outcome, apr_status_t rv,
                const char *why)
{
    result->outcome = outcome;
    result->rv = rv;
    result->why = why;
    return 0;
}

static int refuse(fcgi_result *result, apr_status_t rv, int status,
                  const char *why)
{
    result->client_status = status;
    /* httpd's own negative codes say no more than the status */
    return fail(result, FCGI_OUTCOME_CLIENT_BAD, rv > 0 ? rv : APR_SUCCESS,
                why);
}

static int refuse_large(fcgi_result *result)
{
    return refuse(result, APR_SUCCESS, HTTP_REQUEST_ENTITY_TOO_LARGE,
                  "the request body is larger than FcgiBufferMax");
}

/* Reads of the body; a subrequest's is here as a whole. Of an error in it
 * httpd's filter gives the page at once: where that waits without a thread,
 * r->output_filters are others from then on. */
static apr_status_t get_body(fcgi_inflow *inflow, apr_read_type_e block,
                             int is_answered)
{
    request_rec *r = inflow->r;
    ap_filter_t *output_filters = r->output_filters;
    apr_status_t rv;

    if (r->main) {
        return fcgi_body_copy_kept(r, inflow->bb);
    }
    if (is_answered) {
        r->output_filters = NULL;
    }
    rv = ap_get_brigade(r->input_filters, inflow->bb, AP_MODE_READBYTES, block,
                        READ_MAX);
    if (is_answered) {
        r->output_filters = output_filters;
    }
    return rv;
}

/* Bytes in the spool. */
static apr_off_t held_len(const fcgi_inflow *inflow)
{
    return inflow->held ? inflow->held->len : 0;
}

/* The spool, which a request without a body never needs. */
static fcgi_spool *get_spool(fcgi_inflow *inflow)
{
    fcgi_spool_limits limits = inflow->limits;

    if (!inflow->held) {
        if (inflow->is_streamed) {
            limits.memory = STREAM_MEMORY;
            limits.max = APR_INT64_MAX;
        }
        inflow->held = fcgi_spool_create(
            inflow->r->pool, inflow->r->connection->bucket_alloc, &limits);
    }
    return inflow->held;
}

/* Notes whether the end of the body was read; false if there is nothing but
 * that. */
static int look_for_end(fcgi_inflow *inflow)
{
    int is_more = 0;
    apr_bucket *bucket;

    for (bucket = APR_BRIGADE_FIRST(inflow->bb);
         bucket != APR_BRIGADE_SENTINEL(inflow->bb);
         bucket = APR_BUCKET_NEXT(bucket)) {
        if (APR_BUCKET_IS_EOS(bucket)) {
            inflow->is_done = 1;
        }
        else {
            is_more = 1;
        }
    }
    return is_more;
}

/* Takes what was read into the spool. */
static int hold(fcgi_inflow *inflow, fcgi_result *result)
{
    apr_off_t before = held_len(inflow);
    apr_status_t rv;

    if (!look_for_end(inflow)) {
        apr_brigade_cleanup(inflow->bb);
        return 1;
    }
    rv = fcgi_spool_add(get_spool(inflow), inflow->bb);
    inflow->len += inflow->held->len - before;
    apr_brigade_cleanup(inflow->bb);
    if (rv == APR_INCOMPLETE) {
        return refuse_large(result);
    }
    return rv == APR_SUCCESS
           || fail(result, FCGI_OUTCOME_NO_SPACE, rv,
                   "the request body cannot be held in FcgiBufferDir");
}

/* Reads once. Sets *moved if something came. */
static int read_body(fcgi_inflow *inflow, apr_read_type_e block,
                     int is_answered, int *moved, fcgi_result *result)
{
    apr_status_t rv = get_body(inflow, block, is_answered);

    if (APR_STATUS_IS_EAGAIN(rv)) {
        inflow->is_ready = 0;
    }
    else if (rv != APR_SUCCESS) {
        return refuse(result, rv,
                      ap_map_http_request_error(rv, HTTP_BAD_REQUEST),
                      "the request body is broken, too large or incomplete");
    }
    else if (!APR_BRIGADE_EMPTY(inflow->bb)) {
        *moved = 1;
        return hold(inflow, result);
    }
    return 1;
}

/* True if the client says that its body will not fit; it need not send it
 * then. */
static int is_declared_too_large(const fcgi_inflow *inflow)
{
    const char *said = apr_table_get(inflow->r->headers_in, "Content-Length");
    apr_off_t len;

    return said && ap_parse_strict_length(&len, said)
           && len > inflow->limits.max;
}

int fcgi_inflow_take_all(fcgi_inflow *inflow, fcgi_result *result)
{
    int moved, is_right = 1;

    if (!inflow->is_done && is_declared_too_large(inflow)) {
        return refuse_large(result);
    }
    while (is_right && !inflow->is_done) {
        is_right = read_body(inflow, APR_BLOCK_READ, 0, &moved, result);
    }
    return is_right;
}

int fcgi_inflow_wants(const fcgi_inflow *inflow, apr_size_t ahead)
{
    return !inflow->is_done
           && held_len(inflow) + (apr_off_t)ahead < FCGI_INFLOW_AHEAD;
}

/* A filter may give nothing although there is more; how often in a row is
 * bounded. */
int fcgi_inflow_take(fcgi_inflow *inflow, apr_size_t ahead, int is_answered,
                     int *moved, fcgi_result *result)
{
    int rounds = STREAM_ROUNDS, is_right = 1;

    while (is_right && inflow->is_ready && rounds--
           && fcgi_inflow_wants(inflow, ahead)) {
        is_right =
            read_body(inflow, APR_NONBLOCK_READ, is_answered, moved, result);
    }
    return is_right;
}

/* ---- to the application ---- */

apr_off_t fcgi_inflow_left(const fcgi_inflow *inflow)
{
    return inflow->is_streamed ? held_len(inflow)
                               : inflow->len - inflow->queued;
}

apr_status_t fcgi_inflow_next(fcgi_inflow *inflow, int all_sent)
{
    apr_off_t part = inflow->held->file ? PART_OF_FILE : PART;

    if (all_sent) {
        fcgi_spool_reclaim(inflow->held);
    }
    return inflow->is_streamed
               ? fcgi_spool_take(inflow->held, inflow->bb, part)
               : fcgi_spool_copy(inflow->held, inflow->bb, inflow->queued,
                                 part);
}

void fcgi_inflow_rest(fcgi_inflow *inflow)
{
    if (inflow->held) {
        fcgi_spool_shrink(inflow->held);
    }
}

int fcgi_inflow_is_held(const fcgi_inflow *inflow)
{
    return !inflow->is_streamed || (!inflow->len && inflow->is_done);
}
