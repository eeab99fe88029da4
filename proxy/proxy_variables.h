/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * proxy_variables.h - the variables of a request that comes by mod_proxy, as
 * PHP-FPM expects them from there, and the directives that change them:
 * ProxyFCGIBackendType and ProxyFCGISetEnvIf. Knows no worker.
 */
#ifndef PROXY_VARIABLES_H
#define PROXY_VARIABLES_H

#include <httpd.h>
#include <http_config.h>

extern const command_rec proxy_variables_commands[];

void *proxy_variables_create_dir(apr_pool_t *pool, char *dir);
void *proxy_variables_merge_dir(apr_pool_t *pool, void *base, void *add);

/* True for ProxyFCGIBackendType GENERIC: SCRIPT_FILENAME is a path. Else it is
 * a URL, by which PHP-FPM knows that mod_proxy asks. */
int proxy_variables_are_generic(const request_rec *r);

/*
 * Makes all variables in r->subprocess_env. body_len is the body's length in
 * bytes, -1 if it is not known: then it is what the client said of it, if it
 * did; or FCGI_ENGINE_NO_BODY. Returns OK, or the status to end with.
 */
int proxy_variables_add(request_rec *r, apr_off_t body_len);

#endif
