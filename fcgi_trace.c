/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_trace.c - records in the log; the contract is in fcgi_trace.h. Bytes
 * are shown as httpd shows bytes elsewhere.
 */
#include "fcgi_trace.h"

#include <apr_strings.h>

#include "fcgi_log.h"

APLOG_USE_MODULE(fastcgi_handler);

static void show(request_rec *r, fcgi_trace_way way, fcgi_type type,
                 const void *content, apr_size_t len)
{
    const char *label =
        apr_pstrcat(r->pool, way == FCGI_TRACE_TO ? "to" : "from",
                    " the application: ", fcgi_type_name(type), NULL);

    ap_log_rdata(APLOG_MARK, APLOG_TRACE8, r, label, content, len,
                 AP_LOG_DATA_SHOW_OFFSET);
}

void fcgi_trace_content(request_rec *r, fcgi_trace_way way, fcgi_type type,
                        const void *content, apr_size_t len)
{
    if (APLOG_R_IS_LEVEL(r, APLOG_TRACE8)) {
        show(r, way, type, content, len);
    }
}

void fcgi_trace_body(request_rec *r, apr_bucket_brigade *body)
{
    apr_bucket *bucket;

    if (!APLOG_R_IS_LEVEL(r, APLOG_TRACE8)) {
        return;
    }
    for (bucket = APR_BRIGADE_FIRST(body);
         bucket != APR_BRIGADE_SENTINEL(body);
         bucket = APR_BUCKET_NEXT(bucket)) {
        const char *data;
        apr_size_t len;

        if (apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ) == APR_SUCCESS
            && len) {
            show(r, FCGI_TRACE_TO, FCGI_STDIN, data, len);
        }
    }
}
