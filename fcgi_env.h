/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_env.h - from a request to the variables an application sees: core's CGI
 * variables, and their bytes in FCGI_PARAMS. Knows no sockets and no
 * responses.
 */
#ifndef FCGI_ENV_H
#define FCGI_ENV_H

#include <httpd.h>

#include "fcgi_config.h"

/* Name-value pairs (FastCGI 1.0, 3.4), the content of a PARAMS stream. */
typedef struct fcgi_params {
    char *bytes; /* in r->pool, with room before and behind (FCGI_ROOM_) */
    apr_size_t len;
} fcgi_params;

/*
 * Makes the variables in r->subprocess_env and their bytes. location is
 * fcgi_script_map()'s. body_len is the length of the request body in bytes, -1
 * if not known: then CONTENT_LENGTH is the header's, or missing (RFC 3875,
 * 4.1.2). Returns 0 if a variable is too long for the protocol (2 GB); the
 * request must fail then, nothing is left out.
 */
int fcgi_env_encode(request_rec *r, const char *location, apr_off_t body_len,
                    fcgi_params *params);

/* The same of variables that somebody else has made in r->subprocess_env: all
 * of them, as they are, with what FcgiParam says. */
int fcgi_env_encode_as_is(request_rec *r, fcgi_params *params);

#endif
