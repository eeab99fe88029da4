/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * proxy_url.h - the scheme fcgi of mod_proxy's URLs: one spelling for each,
 * which SCRIPT_FILENAME shows, and what proxy-fcgi-pathinfo makes of its path.
 * Knows no worker and no variables of the application.
 */
#ifndef PROXY_URL_H
#define PROXY_URL_H

#include <mod_proxy.h>

/* True if a URL has that scheme. */
int proxy_url_is_ours(const char *url);

/* A canon_handler hook: sets r->filename, and for some values of the variable
 * proxy-fcgi-pathinfo r->path_info. */
int proxy_url_canon(request_rec *r, char *url);

/* What that says to the path of a URL: OK, or the status of one that the
 * application would not read as it is. Before httpd 2.4.62 nobody asks it about
 * a SetHandler's. */
int proxy_url_check(request_rec *r, const char *url);

/* The address of a host and a port as a handler's name of mod_fastcgi_handler,
 * port 0 is the scheme's own. In pool. */
const char *proxy_url_address(apr_pool_t *pool, const char *host,
                              apr_port_t port);

#endif
