/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_trust.h - may this request go to the address that its handler names?
 * The threat model is at the top of fcgi_trust.c. Knows no connection.
 */
#ifndef FCGI_TRUST_H
#define FCGI_TRUST_H

#include <httpd.h>

#include "fcgi_backend.h"

/*
 * The backend that r->handler, a handler of ours, means. Refused if the
 * server's own configuration does not give it to this very request, and
 * FcgiAllow does not admit it. Returns NULL, or a sentence that says what is
 * wrong.
 */
const char *fcgi_trust_backend(request_rec *r, const fcgi_backend **backend);

/* True if the server's own configuration gives r->handler, of ours or not, to
 * this very request, without any .htaccess file. */
int fcgi_trust_is_servers_own(request_rec *r);

#endif
