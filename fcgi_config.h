/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_config.h - the directives, their defaults, and what the configuration
 * says about a request's handler: which backend it means and which Location
 * set it. Knows no sockets and runs no request.
 */
#ifndef FCGI_CONFIG_H
#define FCGI_CONFIG_H

#include <httpd.h>
#include <http_config.h>

#include "fcgi_backend.h"

/* The module, for its slot in configuration vectors. */
extern module AP_MODULE_DECLARE_DATA fastcgi_handler_module;

/* Every log message starts with a stable id that README.rst explains. */
#define FCGI_LOGNO(number) "FCGI" number ": "

/* When httpd is told to let go what it has for the client. */
typedef enum {
    FCGI_FLUSH_AUTO, /* when the application pauses */
    FCGI_FLUSH_ON,   /* after every piece of the answer */
    FCGI_FLUSH_OFF /* when httpd thinks it is worth a packet, and at the end */
} fcgi_flush;

/* Settings of a directory; -1 is unset. Times in microseconds, 0 is off. */
typedef struct fcgi_dir_config {
    apr_interval_time_t connect_timeout;    /* getting a connection */
    apr_interval_time_t timeout;            /* no byte in any direction */
    apr_interval_time_t first_byte_timeout; /* request sent, no answer */
    apr_interval_time_t total_timeout;      /* the whole exchange */
    apr_off_t max_header_size;              /* bytes of a header block */
    int ignore_client_abort;                /* 0 or 1 */
    int request_buffering;                  /* 0 or 1 */
    apr_off_t buffer_memory;                /* bytes held before a file */
    apr_off_t buffer_max;                   /* bytes held at all */
    const char *buffer_dir;                 /* NULL: unset, the system's */
    int flush;                              /* an fcgi_flush */
    int retry;                              /* 1: Safe, 0: Off */
} fcgi_dir_config;

extern const command_rec fcgi_config_commands[];

void *fcgi_config_create_dir(apr_pool_t *pool, char *dir);
void *fcgi_config_merge_dir(apr_pool_t *pool, void *base, void *add);

/* The settings in force for r, with defaults filled in; in r->pool. */
const fcgi_dir_config *fcgi_config_settings(request_rec *r);

/*
 * A fixups hook, to run right after core's: remembers what SetHandler's
 * expression gives, before other modules change what it looks at.
 */
int fcgi_config_remember(request_rec *r);

/*
 * The backend that r->handler, a handler of ours, means; see
 * fcgi_known_find(). Returns NULL, or a sentence that says what is wrong with
 * the address.
 */
const char *fcgi_config_backend(request_rec *r, const fcgi_backend **backend);

/*
 * The URL path below which r's handler was set: the path of the <Location>
 * that has the SetHandler, without a final slash; "" for "/", for a Location
 * with wildcards, a LocationMatch, and a SetHandler outside of all sections.
 * NULL if the handler came from anywhere else (files, directories,
 * AddHandler, mod_rewrite): then only a regular file is a script.
 */
const char *fcgi_config_location(request_rec *r);

#endif
