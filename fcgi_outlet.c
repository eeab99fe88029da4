/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_outlet.c - giving buckets to httpd; the contract is in fcgi_outlet.h.
 */
#include "fcgi_outlet.h"

#include <sys/socket.h>

#include <apr_portable.h>

#include <http_core.h>
#include <http_protocol.h>
#include <mpm_common.h>
#include <util_filter.h>

void fcgi_outlet_init(fcgi_outlet *outlet, request_rec *r)
{
    outlet->r = r;
    outlet->state = FCGI_OUTLET_OPEN;
    outlet->bb = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    outlet->was_used = 0;
    outlet->rv = APR_SUCCESS;
}

static void add(fcgi_outlet *outlet, apr_bucket *bucket)
{
    APR_BRIGADE_INSERT_TAIL(outlet->bb, bucket);
}

void fcgi_outlet_add_flush(fcgi_outlet *outlet)
{
    add(outlet, apr_bucket_flush_create(outlet->r->connection->bucket_alloc));
}

void fcgi_outlet_add_eos(fcgi_outlet *outlet)
{
    add(outlet, apr_bucket_eos_create(outlet->r->connection->bucket_alloc));
}

/* ---- giving ---- */

static const request_rec *outermost(const request_rec *r)
{
    while (r->main) {
        r = r->main;
    }
    return r;
}

int fcgi_outlet_is_out(const fcgi_outlet *outlet)
{
    return outermost(outlet->r)->sent_bodyct != 0;
}

/* What changes when httpd answers otherwise: ap_die() redirects to an
 * ErrorDocument, or sets the status and sends the fields for errors in place
 * of the others. */
typedef struct answer_marks {
    int is_out;
    int status;
    const apr_table_t *error_fields;
    const request_rec *next;
} answer_marks;

/* It is the outermost request that is answered, also where a page includes
 * this one. */
static answer_marks marks_of(const fcgi_outlet *outlet)
{
    const request_rec *r = outermost(outlet->r);
    answer_marks marks = { fcgi_outlet_is_out(outlet), r->status,
                           r->err_headers_out, r->next };

    return marks;
}

/* A filter took no more. Had nothing been said before, and has something now,
 * then it or httpd answered in place of the application; what it passed on of
 * the application's own answer would have left these marks alone. */
static fcgi_outlet_state why_failed(const fcgi_outlet *outlet,
                                    const answer_marks *before)
{
    const request_rec *r = outermost(outlet->r);

    if (!before->is_out && r->eos_sent
        && (r->next != before->next
            || r->err_headers_out != before->error_fields
            || (r->status != before->status && ap_is_HTTP_ERROR(r->status)))) {
        return FCGI_OUTLET_ANSWERED; /* and then its client may have left */
    }
    return r->connection->aborted ? FCGI_OUTLET_GONE : FCGI_OUTLET_FAILED;
}

int fcgi_outlet_give(fcgi_outlet *outlet)
{
    request_rec *r = outlet->r;
    answer_marks before = marks_of(outlet);
    apr_status_t rv;

    outlet->was_used = 1;
    rv = ap_pass_brigade(r->output_filters, outlet->bb);
    apr_brigade_cleanup(outlet->bb);
    if (rv != APR_SUCCESS || r->connection->aborted) {
        outlet->state = why_failed(outlet, &before);
    }
    return outlet->state == FCGI_OUTLET_OPEN;
}

/* Both as the event MPM does: filters write, without waiting. */
#if AP_MODULE_MAGIC_AT_LEAST(20180720, 1) /* httpd's trunk: any of them */

int fcgi_outlet_holds(const fcgi_outlet *outlet)
{
    return ap_filter_should_yield(outlet->r->connection->output_filters);
}

static int write_held(conn_rec *c)
{
    int pending = ap_run_output_pending(c);

    return (pending == OK || pending == DECLINED) && !c->aborted;
}

#else /* httpd 2.4: only the last */

int fcgi_outlet_holds(const fcgi_outlet *outlet)
{
    return outlet->r->connection->data_in_output_filters;
}

static int write_held(conn_rec *c)
{
    ap_filter_t *filter = c->output_filters;

    while (filter->next) {
        filter = filter->next;
    }
    return filter->frec->filter_func.out_func(filter, NULL) == APR_SUCCESS
           && !c->aborted;
}

#endif

int fcgi_outlet_write(fcgi_outlet *outlet)
{
    if (!write_held(outlet->r->connection)) {
        outlet->state = FCGI_OUTLET_GONE;
    }
    return outlet->state == FCGI_OUTLET_OPEN;
}

void fcgi_outlet_send_answer(fcgi_outlet *outlet)
{
    conn_rec *c = outlet->r->connection;

    if (outlet->state == FCGI_OUTLET_ANSWERED && !c->master) {
        write_held(c);
    }
}

void fcgi_outlet_flush_connection(fcgi_outlet *outlet)
{
    fcgi_outlet_add_flush(outlet);
    ap_pass_brigade(outlet->r->connection->output_filters, outlet->bb);
    apr_brigade_cleanup(outlet->bb);
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
    r->connection->keepalive = AP_CONN_CLOSE;
    if (r->sent_bodyct && ends_with_connection(r)) {
        reset_client(r->connection);
    }
}

/* The bucket at which httpd ends an answer without calling it whole. */
static void give_error(fcgi_outlet *outlet)
{
    request_rec *r = outlet->r;

    add(outlet, ap_bucket_error_create(HTTP_BAD_GATEWAY, NULL, r->pool,
                                       r->connection->bucket_alloc));
    fcgi_outlet_add_eos(outlet);
    ap_pass_brigade(r->output_filters, outlet->bb);
    apr_brigade_cleanup(outlet->bb);
}

void fcgi_outlet_cut(fcgi_outlet *outlet)
{
    request_rec *r = outlet->r, *outer = r;

    if (outlet->state == FCGI_OUTLET_ANSWERED) {
        return;
    }
    r->no_cache = 1;
    while (outer->main) {
        outer = outer->main;
        outer->no_cache = 1;
    }
    if (outlet->state == FCGI_OUTLET_FAILED) {
        /* past the filters that failed; else another request of the chain
         * would end the answer in good order */
        r->output_filters = r->proto_output_filters;
        apr_brigade_cleanup(outlet->bb);
    }
    if (outlet->state == FCGI_OUTLET_OPEN
        || outlet->state == FCGI_OUTLET_FAILED) {
        give_error(outlet);
    }
    break_off(outer);
}
