/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * answer.c - the least that a handler of httpd can do, for the benchmark of
 * instructions: 13 bytes from memory, for URLs that are no files. A gateway's
 * own work is what it takes beyond that.
 *
 *     apxs -c answer.c
 */
#include <httpd.h>
#include <http_config.h>
#include <http_protocol.h>
#include <util_filter.h>

#define HANDLER "bench-answer"

/* No file is looked for below /answer, as FcgiScript Virtual has it. */
static int map(request_rec *r)
{
    return strncmp(r->uri, "/answer/", 8) ? DECLINED : OK;
}

static int answer(request_rec *r)
{
    static const char bytes[] = "ok 0\nxxxxxxxx";
    apr_bucket_alloc_t *list = r->connection->bucket_alloc;
    apr_bucket_brigade *bb;

    if (!r->handler || strcmp(r->handler, HANDLER)) {
        return DECLINED;
    }
    ap_set_content_type(r, "text/plain");
    bb = apr_brigade_create(r->pool, list);
    APR_BRIGADE_INSERT_TAIL(
        bb, apr_bucket_immortal_create(bytes, sizeof(bytes) - 1, list));
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_eos_create(list));
    return ap_pass_brigade(r->output_filters, bb) == APR_SUCCESS
               ? OK
               : AP_FILTER_ERROR;
}

static void register_hooks(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_map_to_storage(map, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_handler(answer, NULL, NULL, APR_HOOK_MIDDLE);
}

AP_DECLARE_MODULE(bench_answer) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks,
    AP_MODULE_FLAG_NONE,
};
