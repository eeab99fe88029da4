/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_declare.h - FcgiBackend [name] address [key=value...]: its keys, their
 * ranges and defaults, and what they are in all. Knows no request.
 */
#ifndef FCGI_DECLARE_H
#define FCGI_DECLARE_H

#include <httpd.h>
#include <http_config.h>

/* The directive. */
const char *fcgi_declare(cmd_parms *cmd, void *conf, int argc,
                         char *const argv[]);

/*
 * What another module's configuration says of the backend at address, a
 * handler's name: keys as in FcgiBackend, which has the last word. Where they
 * are said several times for one backend the largest numbers hold. For the
 * time before fcgi_declare_complete(). Returns NULL, or what is wrong.
 */
const char *fcgi_declare_default(apr_pool_t *pool, const char *address,
                                 const char *const *settings);

/*
 * A check_config hook, for when all backends are known: gives each its limits
 * and times. Returns OK, or logs file, line and what contradicts itself, and
 * returns HTTP_INTERNAL_SERVER_ERROR.
 */
int fcgi_declare_complete(apr_pool_t *pconf, apr_pool_t *plog,
                          apr_pool_t *ptemp, server_rec *s);

/* Writes a line for each backend to the log, with what was understood. */
void fcgi_declare_log(server_rec *s);

#endif
