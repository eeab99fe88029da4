/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_startup.h - from a read configuration to children that serve: the
 * shared memory, and what each child starts and stops.
 */
#ifndef FCGI_STARTUP_H
#define FCGI_STARTUP_H

#include <httpd.h>

/* A pre_config hook: before a configuration is read. */
int fcgi_startup_begin(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp);

/* A post_config hook: the shared memory, new or from before a restart. */
int fcgi_startup_open(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                      server_rec *s);

/* A child_init hook. */
void fcgi_startup_child(apr_pool_t *pchild, server_rec *s);

/* A child_stopping hook: kept connections are closed at once. (prefork calls
 * it late; there they are within a second.) */
void fcgi_startup_stop_child(apr_pool_t *pchild, int graceful);

#endif
