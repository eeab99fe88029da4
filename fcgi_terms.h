/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_terms.h - how an application is to be asked: the directives of a
 * request, in the words of those that do it.
 */
#ifndef FCGI_TERMS_H
#define FCGI_TERMS_H

#include "fcgi_config.h"
#include "fcgi_spool.h"

/* Times in microseconds; 0 is off. */
typedef struct fcgi_terms {
    apr_interval_time_t connect;    /* getting a connection */
    apr_interval_time_t idle;       /* no byte moved in any direction */
    apr_interval_time_t first_byte; /* from the request's last byte */
    apr_interval_time_t total;      /* from when the body is held */
    int ignore_client_abort;        /* the application may finish alone */
    int has_body;                   /* the client's body is this request's */
    int stream_body;                /* do not hold the request's body first */
    fcgi_flush flush;               /* when the client gets what there is */
    apr_size_t max_header_size;     /* of the answer, in bytes */
    fcgi_spool_limits spool;        /* of the body held, and of the answer */
    apr_interval_time_t retry;      /* since a safe request was sent; if its
                                     * worker dies later it is not sent again */
    int has_others;                 /* another application can be asked in
                                     * place of this one, and is, rather than
                                     * that this one is waited for */
} fcgi_terms;

/* What the directives say for r; has_others is 0. */
void fcgi_terms_init(fcgi_terms *terms, const request_rec *r);

#endif
