/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_known.h - the backends that the server's configuration names: by
 * FcgiBackend, and by each SetHandler, AddHandler and RewriteRule. One address
 * is one backend, however often and wherever it is named. Knows no request.
 */
#ifndef FCGI_KNOWN_H
#define FCGI_KNOWN_H

#include <httpd.h>
#include <http_config.h>

#include "fcgi_backend.h"

/* Forgets all; before a configuration is read. Lives in pconf. */
void fcgi_known_start(apr_pool_t *pconf);

/* The directive FcgiBackend [name] address [key=value...]. */
const char *fcgi_known_declare(cmd_parms *cmd, void *conf, int argc,
                               char *const argv[]);

/*
 * A check_config hook: looks at every handler of ours in the configuration
 * and remembers its address. Returns OK, or logs file, line and what to write
 * instead, and returns HTTP_INTERNAL_SERVER_ERROR.
 */
int fcgi_known_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                     server_rec *s);

/* Gives every backend its account in the shared memory. APR_ENOMEM: one that
 * has limits got none. */
apr_status_t fcgi_known_open_accounts(void);

/* Writes a line for each backend to the log, with what was understood. */
void fcgi_known_log(server_rec *s);

/* The backend whose account has that name, and FcgiBackend's name for it or
 * NULL; NULL if the configuration names none. */
const fcgi_backend *fcgi_known_of_account(const char *name,
                                          const char **alias);

/* True if a SetHandler's address is known only when a request is here. */
int fcgi_known_any_dynamic(void);

/* True if connections to any of them are kept. */
int fcgi_known_any_kept(void);

/*
 * What a handler name means. exact is the name as the configuration spells
 * it; NULL if only the handler is known, which httpd lower-cases on some
 * ways: the spelling is restored then. Sets *backend if the configuration
 * names it; else *backend is NULL, and *address its address, in pool. Returns
 * NULL, or a sentence that says what is wrong.
 */
const char *fcgi_known_find(apr_pool_t *pool, const char *handler,
                            const char *exact, const fcgi_backend **backend,
                            fcgi_address **address);

/* A backend that the configuration does not name, without limits; in pool. */
const fcgi_backend *fcgi_known_make(apr_pool_t *pool,
                                    const fcgi_address *address);

#endif
