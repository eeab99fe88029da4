/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_conftree.h - the handlers of ours in the server's configuration, read
 * from httpd's tree of directives, where they stand as they were written.
 * Enters their addresses into fcgi_known. Knows no request.
 */
#ifndef FCGI_CONFTREE_H
#define FCGI_CONFTREE_H

#include <httpd.h>
#include <http_config.h>

/*
 * A check_config hook: looks at every handler. Returns OK, or logs file, line
 * and what to write instead, and returns HTTP_INTERNAL_SERVER_ERROR.
 */
int fcgi_conftree_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                        server_rec *s);

/* True if a SetHandler's value is known only when a request is here. */
int fcgi_conftree_any_dynamic(void);

#endif
