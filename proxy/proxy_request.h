/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * proxy_request.h - what this module knows of a request, from when its URL is
 * made to the end: whoever comes later finds what those before him left.
 * Knows no worker's parameters.
 */
#ifndef PROXY_REQUEST_H
#define PROXY_REQUEST_H

#include <mod_proxy.h>

#include "../fcgi_engine.h"

/* Every log message starts with a stable id that docs/troubleshooting.rst
 * explains. */
#define PROXY_LOGNO(number) "FCGI" number ": "

/* The module, for its slots in configuration vectors, too. */
extern module AP_MODULE_DECLARE_DATA proxy_fastcgi_module;

/* A member that has not answered a request. */
typedef struct proxy_passed {
    proxy_worker *worker;
    int is_broken;         /* it is in error for all others, too */
    apr_time_t held_until; /* the worker's error_time, if it is in error for
                            * this request alone; 0: for what mod_proxy makes
                            * of its status; -1: it is not */
} proxy_passed;

typedef struct proxy_request {
    int is_canonical; /* mod_proxy has asked for one spelling of its URL */
    const char *full_path; /* proxy-fcgi-pathinfo is full: the URL's path, in
                            * which a file is to be found; NULL: it is not */
    int attempts;          /* members that were asked */
    apr_array_header_t *passed; /* of proxy_passed */
    proxy_worker *worker;       /* that is asked */
    int is_chosen;              /* it is the one that mod_proxy chose last */
    char *worker_file;          /* r->filename with its URL */
    char *balancer_file;        /* with the balancer's; NULL: no balancer has
                                 * chosen a member */
    fcgi_engine_question question;
} proxy_request;

/* That of r, made if there was none. */
proxy_request *proxy_request_of(request_rec *r);

#endif
