/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_body.h - whose the body is that a client sent: one rule for all who
 * take it, tell of it, or throw it away. Knows nothing but request_rec.
 */
#ifndef FCGI_BODY_H
#define FCGI_BODY_H

#include <httpd.h>

/*
 * True if the client's body is r's: that of the main request, and of what it
 * leads to by its own choice or a rewrite rule's (an internal redirect), if
 * nobody has taken it before. A subrequest has none. Nor has the page for a
 * request that was refused or failed: it is asked for by GET, whatever the
 * client sent, and httpd throws the body away afterwards, or closes.
 */
int fcgi_body_is_of(const request_rec *r);

#endif
