/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_status.h - who may see what the backends do, and in what form: the
 * handler fcgi-status, and a section of mod_status. Knows what a request
 * wants; fcgi_report.c gathers, fcgi_page.c and fcgi_metrics.c write.
 */
#ifndef FCGI_STATUS_H
#define FCGI_STATUS_H

#include <httpd.h>

/*
 * A handler hook for "SetHandler fcgi-status" of the server's own
 * configuration: a page; with ?json and ?prometheus for programs; with
 * ?refresh=N anew every N seconds, 0: not. GET and HEAD only.
 */
int fcgi_status_handler(request_rec *r);

/* mod_status's hook; flags are its AP_STATUS_ ones. */
int fcgi_status_section(request_rec *r, int flags);

#endif
