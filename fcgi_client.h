/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_client.h - is the client still there? What its socket says beside the
 * request: its end, a reset, silence. Waits for nothing; knows neither
 * FastCGI nor what is done for it.
 */
#ifndef FCGI_CLIENT_H
#define FCGI_CLIENT_H

#include <httpd.h>
#include <apr_buckets.h>

#include "fcgi_clock.h"

typedef struct fcgi_client {
    request_rec *r;
    apr_bucket_brigade *scratch; /* NULL: it was not looked at yet */
    int is_watched;              /* its going away would show, and matters */
    int is_ready;          /* its socket has something: to be looked at */
    int is_gone;           /* its connection is reset, or failed */
    fcgi_instant ended_at; /* it sends no more since; 0: it may */
} fcgi_client;

/* The client of r. With ignore its going away does not matter. */
void fcgi_client_init(fcgi_client *client, request_rec *r, int ignore);

/*
 * Its socket has something although the request is here: its end, or the next
 * request, which hides its end. The connection's own filters can tell.
 */
void fcgi_client_look(fcgi_client *client);

/* A phrase if the client is gone for certain, else NULL. While its body is
 * not here, only httpd can tell. */
const char *fcgi_client_lost(const fcgi_client *client, int body_done);

/* A client that sends no more may wait for its answer, or may have left: when
 * it is given up, if the last byte for it was delivered at since, or there was
 * none to deliver before. 0: never. */
fcgi_instant fcgi_client_given_up_at(const fcgi_client *client,
                                     fcgi_instant since);

/* What is wanted of it (FCGI_WANTS_), once its body is here. */
int fcgi_client_wants(const fcgi_client *client);

#endif
