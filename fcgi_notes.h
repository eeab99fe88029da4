/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_notes.h - what the access log can say of a request, as notes that
 * docs/monitoring.rst lists. Made only where somebody may read them. Knows
 * nothing of how a request ends for its client.
 */
#ifndef FCGI_NOTES_H
#define FCGI_NOTES_H

#include "fcgi_ask.h"

/* A check_config hook: looks whether the configuration names a note anywhere,
 * or there is a module whose programs may ask for any. */
int fcgi_notes_look(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                    server_rec *s);

/* Makes the notes of a request that has ended, after so many microseconds;
 * once for each. */
void fcgi_notes_add(const fcgi_ask *ask, apr_interval_time_t took);

/* Before a client's request r is logged: gives the notes of those to which
 * internal redirects led from there on to the last, whose notes httpd logs. */
void fcgi_notes_pass_on(request_rec *r);

#endif
