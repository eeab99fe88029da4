/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_body.c - the contract is in fcgi_body.h.
 */
#include "fcgi_body.h"

#include <http_config.h>
#include <mod_request.h>
#include <util_filter.h>

/* What is kept for a subrequest, whole; NULL if there is nothing. A redirected
 * subrequest has no field of its own for it. One by another method, as what a
 * local redirect leads to, is not asked with the form. */
static apr_bucket_brigade *kept_for(const request_rec *r)
{
    const request_rec *page = r->main;
    apr_bucket_brigade *kept = page->kept_body;

    return kept && !strcmp(r->method, page->method) && !APR_BRIGADE_EMPTY(kept)
                   && APR_BUCKET_IS_EOS(APR_BRIGADE_LAST(kept))
               ? kept
               : NULL;
}

int fcgi_body_is_error_page(const request_rec *r)
{
    const request_rec *asked = r->prev;

    while (asked && ap_is_HTTP_SUCCESS(asked->status)) {
        asked = asked->prev;
    }
    return asked != NULL;
}

int fcgi_body_is_error_document(const request_rec *r)
{
    return fcgi_body_is_error_page(r) && !fcgi_body_is_error_page(r->prev);
}

int fcgi_body_is_of(const request_rec *r)
{
    const request_rec *page;

    for (page = r->main; page; page = page->main) {
        if (fcgi_body_is_error_page(page)) {
            return 0;
        }
    }
    return !fcgi_body_is_error_page(r) && (!r->main || kept_for(r));
}

int fcgi_body_is_empty(const request_rec *r)
{
    return !r->main && !r->connection->master
           && r->input_filters == r->proto_input_filters
           && !apr_table_get(r->headers_in, "Content-Length")
           && !apr_table_get(r->headers_in, "Transfer-Encoding");
}

int fcgi_body_is_kept(const request_rec *r)
{
    const ap_filter_t *filter = r->input_filters;

    while (filter && ap_cstr_casecmp(filter->frec->name, KEEP_BODY_FILTER)) {
        filter = filter->next;
    }
    return filter != NULL;
}

apr_status_t fcgi_body_copy_kept(const request_rec *r, apr_bucket_brigade *to)
{
    apr_bucket_brigade *kept = kept_for(r);
    apr_bucket *from, *copy;
    apr_status_t rv = kept ? APR_SUCCESS : APR_EOF;

    for (from = kept ? APR_BRIGADE_FIRST(kept) : NULL;
         rv == APR_SUCCESS && from != APR_BRIGADE_SENTINEL(kept);
         from = APR_BUCKET_NEXT(from)) {
        rv = apr_bucket_copy(from, &copy);
        if (rv == APR_SUCCESS) {
            APR_BRIGADE_INSERT_TAIL(to, copy);
        }
    }
    return rv;
}
