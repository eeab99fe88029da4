/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_allow.h - FcgiAllow: what .htaccess files may name beside what the
 * server's own configuration gives their requests. Knows no request.
 */
#ifndef FCGI_ALLOW_H
#define FCGI_ALLOW_H

#include <httpd.h>
#include <http_config.h>

#include "fcgi_backend.h"

typedef struct fcgi_allow {
    apr_array_header_t *patterns; /* of const char *: of addresses */
    apr_array_header_t *names;    /* of const char *: FcgiBackend's */
    int configured;               /* all backends of the configuration */
} fcgi_allow;

/* Parses the words of FcgiAllow. Returns NULL with *allow set, in cmd->pool,
 * or what is wrong. */
const char *fcgi_allow_parse(cmd_parms *cmd, int argc, char *const argv[],
                             const fcgi_allow **allow);

/*
 * Whether FcgiAllow admits a backend. *backend is one of the configuration;
 * or NULL, and then address is what the handler says. A unix socket is
 * compared as what it is with all links followed; if that is a backend of the
 * configuration it is taken, with its limits. allow may be NULL: nothing.
 *
 * Returns NULL with *backend set, in pool; or a sentence that says what to
 * write to admit it.
 */
const char *fcgi_allow_admit(apr_pool_t *pool, const fcgi_allow *allow,
                             fcgi_address *address,
                             const fcgi_backend **backend);

#endif
