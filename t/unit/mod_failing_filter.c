/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * mod_failing_filter.c - an output filter for tests that fails at a byte of
 * the answer's body, as the request's field X-Filter asks for:
 *
 *     X-Filter: pass 100 fail     passes 100 bytes on and then fails
 *     X-Filter: hold 100 error    passes nothing on, and then says that
 *                                 httpd is to answer with 403 instead
 *
 * Error pages pass it by.
 */
#include <stdio.h>
#include <string.h>

#include <httpd.h>
#include <http_config.h>
#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>

typedef struct orders {
    int holds;
    int says_error;
    apr_off_t left; /* bytes to go */
    apr_bucket_brigade *held;
} orders;

static orders *orders_of(request_rec *r)
{
    const char *text = apr_table_get(r->headers_in, "X-Filter");
    orders *made = apr_pcalloc(r->pool, sizeof(*made));
    char how[8], what[8];
    long at;

    if (!text || sscanf(text, "%7s %ld %7s", how, &at, what) != 3
        || (r->prev && ap_is_HTTP_ERROR(r->prev->status))) {
        return NULL;
    }
    made->holds = !strcmp(how, "hold");
    made->says_error = !strcmp(what, "error");
    made->left = at;
    made->held = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    return made;
}

/* Fails; first it may ask for another answer, as mod_security does. */
static apr_status_t fail(ap_filter_t *f, apr_bucket_brigade *bb)
{
    const orders *asked = f->ctx;
    request_rec *r = f->r;
    apr_bucket_alloc_t *list = r->connection->bucket_alloc;

    apr_brigade_cleanup(bb);
    if (asked->says_error) {
        APR_BRIGADE_INSERT_TAIL(
            bb, ap_bucket_error_create(HTTP_FORBIDDEN, NULL, r->pool, list));
        APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_eos_create(list));
        ap_pass_brigade(f->next, bb);
    }
    return APR_EGENERAL;
}

static apr_status_t pass(ap_filter_t *f, apr_bucket_brigade *bb)
{
    orders *asked = f->ctx;

    return asked->holds ? ap_save_brigade(f, &asked->held, &bb, f->r->pool)
                        : ap_pass_brigade(f->next, bb);
}

static apr_status_t filter(ap_filter_t *f, apr_bucket_brigade *bb)
{
    orders *asked = f->ctx ? f->ctx : (f->ctx = orders_of(f->r));
    apr_bucket *at;
    apr_off_t len = 0;

    if (!asked) {
        ap_remove_output_filter(f);
        return ap_pass_brigade(f->next, bb);
    }
    apr_brigade_length(bb, 1, &len);
    if (len < asked->left) {
        asked->left -= len;
        return pass(f, bb);
    }
    apr_brigade_partition(bb, asked->left, &at);
    if (asked->left && !asked->holds) {
        apr_bucket_brigade *rest = apr_brigade_split(bb, at);
        apr_status_t rv = ap_pass_brigade(f->next, bb);

        if (rv != APR_SUCCESS) {
            return rv;
        }
        bb = rest;
    }
    return fail(f, bb);
}

static void register_hooks(apr_pool_t *pool)
{
    (void)pool;
    ap_register_output_filter("FAILING", filter, NULL, AP_FTYPE_RESOURCE);
}

AP_DECLARE_MODULE(failing_filter) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks,
    AP_MODULE_FLAG_NONE
};
