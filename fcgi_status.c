/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_status.c - the status to whoever asks; the contract is in
 * fcgi_status.h.
 */
#include "fcgi_status.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mod_core.h>
#include <mod_status.h>

#include "fcgi_log.h"
#include "fcgi_metrics.h"
#include "fcgi_origin.h"
#include "fcgi_page.h"
#include "fcgi_report.h"
#include "fcgi_trust.h"

APLOG_USE_MODULE(fastcgi_handler);

#define STATUS_HANDLER "fcgi-status"

/* Seconds until a browser asks again. */
#define REFRESH     5
#define REFRESH_MAX 86400

/* The value of a part of the query, "" if it has none; NULL: there is no such
 * part. */
static const char *query_part(request_rec *r, const char *name)
{
    char *query = apr_pstrdup(r->pool, r->args ? r->args : "");
    apr_size_t len = strlen(name);
    char *part, *last;

    for (part = apr_strtok(query, "&;", &last); part;
         part = apr_strtok(NULL, "&;", &last)) {
        if (!strncmp(part, name, len) && (!part[len] || part[len] == '=')) {
            return part[len] ? part + len + 1 : "";
        }
    }
    return NULL;
}

static int refresh_of(request_rec *r)
{
    const char *value = query_part(r, "refresh");
    apr_int64_t seconds;
    char *end;

    if (!value || !apr_isdigit(*value)) {
        return REFRESH;
    }
    seconds = apr_strtoi64(value, &end, 10);
    return !*end && seconds <= REFRESH_MAX ? (int)seconds : REFRESH;
}

/* The page brings all it needs with it. */
static void set_fields(request_rec *r)
{
    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
    apr_table_setn(r->headers_out, "X-Content-Type-Options", "nosniff");
    apr_table_setn(r->headers_out, "Content-Security-Policy",
                   "default-src 'none'; style-src 'unsafe-inline'; "
                   "base-uri 'none'; form-action 'none'");
}

static void answer(request_rec *r)
{
    const fcgi_reports *reports = fcgi_report_all(r->pool);

    set_fields(r);
    if (query_part(r, "json")) {
        ap_set_content_type(r, "application/json");
        fcgi_metrics_json(r, reports);
    }
    else if (query_part(r, "prometheus")) {
        ap_set_content_type(r, "text/plain; version=0.0.4; charset=utf-8");
        fcgi_metrics_prometheus(r, reports);
    }
    else {
        ap_set_content_type(r, "text/html; charset=utf-8");
        fcgi_page_whole(r, reports, refresh_of(r));
    }
}

int fcgi_status_handler(request_rec *r)
{
    if (!r->handler || strcmp(r->handler, STATUS_HANDLER)) {
        return DECLINED;
    }
    if (!fcgi_origin_is_servers_own(r) || !fcgi_trust_is_servers_own(r)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      FCGI_LOGNO("13") "handler '%s': refused, as it is not "
                                       "from a SetHandler of the server's "
                                       "own configuration",
                      r->handler);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    ap_allow_standard_methods(r, REPLACE_ALLOW, M_GET, M_OPTIONS, -1);
    switch (r->method_number) {
    case M_GET: /* and HEAD */
        answer(r);
        return OK;
    case M_OPTIONS:
        return ap_send_http_options(r);
    default:
        return HTTP_METHOD_NOT_ALLOWED;
    }
}

int fcgi_status_section(request_rec *r, int flags)
{
    const fcgi_reports *reports = fcgi_report_all(r->pool);

    if (flags & AP_STATUS_SHORT) {
        fcgi_metrics_lines(r, reports);
        return OK;
    }
    ap_rputs("<hr />\n<h2>FastCGI backends</h2>\n", r);
    if (flags & AP_STATUS_NOTABLE) {
        ap_rputs("<pre>", r);
        fcgi_metrics_lines(r, reports);
        ap_rputs("</pre>\n", r);
    }
    else {
        fcgi_page_section(r, reports);
    }
    return OK;
}
