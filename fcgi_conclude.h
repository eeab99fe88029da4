/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_conclude.h - what the end of a request is to the client and to people:
 * the one place where an outcome becomes an HTTP status, a log line, notes for
 * the access log, and a count.
 */
#ifndef FCGI_CONCLUDE_H
#define FCGI_CONCLUDE_H

#include <httpd.h>

#include "fcgi_ask.h"

/* Ends an answer, or says what httpd is to answer, for what has ended. Returns
 * what a handler does: OK or a status. */
int fcgi_conclude(fcgi_ask *ask);

/* The same for one whose client's connection is closed, to which nothing can
 * be said. */
void fcgi_conclude_abandoned(fcgi_ask *ask);

/* Another application is asked in place of that one: nothing is said to the
 * client. */
void fcgi_conclude_moved(const fcgi_ask *ask);

/* True if r is the error page of a request that got no connection to the same
 * backend: it need not be waited for a second time. */
int fcgi_conclude_was_in_vain(const request_rec *r,
                              const fcgi_backend *backend);

/*
 * A log_transaction hook, before the access log is written. Its %X says of a
 * cut answer what it says of one that the client cut; all that httpd could
 * send has left. It looks at the notes of the last of several internal
 * redirects: those of the last that asked an application are put there.
 */
int fcgi_conclude_log(request_rec *r);

#endif
