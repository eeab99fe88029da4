/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_body.h - whose the body is that a client sent, and what is an error's
 * page, which has none: one rule for all who take it, tell of it, or throw it
 * away. Knows nothing but request_rec.
 */
#ifndef FCGI_BODY_H
#define FCGI_BODY_H

#include <httpd.h>

#include <apr_buckets.h>

/*
 * True if r is the page for a request that was refused or failed, or what that
 * page led to: such a page has the status of that request from its beginning,
 * and what it says is no reason for another page.
 */
int fcgi_body_is_error_page(const request_rec *r);

/* The same, for such a page alone: r->prev is what was refused or failed. */
int fcgi_body_is_error_document(const request_rec *r);

/*
 * True if the client's body is r's: that of the main request, and of what it
 * leads to by its own choice or a rewrite rule's (an internal redirect), if
 * nobody has taken it before. A subrequest has a copy of what mod_request kept
 * of it (KeptBodySize), if it is of the same method; else none. Nor has the
 * page for a request that was refused or failed, nor what that includes: it is
 * asked for by GET, whatever the client sent, and httpd throws the body away
 * afterwards, or closes.
 */
int fcgi_body_is_of(const request_rec *r);

/*
 * True if no byte of a body will come, so that none has to be asked for: over
 * HTTP/1 no field announces one (RFC 9112, 6.3), and there is no filter that
 * could make one. Over HTTP/2 a body needs no field.
 */
int fcgi_body_is_empty(const request_rec *r);

/*
 * True if mod_request keeps r's body while it is read. It must be waited for
 * then: that filter loses what it has, and its way, where a read says that
 * nothing is here yet.
 */
int fcgi_body_is_kept(const request_rec *r);

/* Adds the body of a subrequest that has one, whole and with its EOS, to a
 * brigade of its connection. */
apr_status_t fcgi_body_copy_kept(const request_rec *r, apr_bucket_brigade *to);

#endif
