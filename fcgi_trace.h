/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_trace.h - the records of a request in the log, for who looks closely:
 * "LogLevel fastcgi_handler:trace8". At any other level nothing happens. The
 * story of a request, at trace4, is told by those who make it.
 */
#ifndef FCGI_TRACE_H
#define FCGI_TRACE_H

#include <httpd.h>
#include <apr_buckets.h>

#include "fcgi_record.h"

/* Which way a record goes. */
typedef enum {
    FCGI_TRACE_TO,  /* to the application */
    FCGI_TRACE_FROM /* from it */
} fcgi_trace_way;

/* Shows len bytes of a record's content, or of several records in a row. */
void fcgi_trace_content(request_rec *r, fcgi_trace_way way, fcgi_type type,
                        const void *content, apr_size_t len);

/* Shows a body that becomes STDIN records; reads it, but takes nothing. */
void fcgi_trace_body(request_rec *r, apr_bucket_brigade *body);

#endif
