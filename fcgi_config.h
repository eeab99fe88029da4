/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_config.h - the directives of a directory, their defaults and merging.
 * Knows no sockets and runs no request; FcgiBackend is fcgi_declare's.
 */
#ifndef FCGI_CONFIG_H
#define FCGI_CONFIG_H

#include <httpd.h>
#include <http_config.h>

/* When httpd is told to let go what it has for the client. */
typedef enum {
    FCGI_FLUSH_AUTO, /* when the application pauses */
    FCGI_FLUSH_ON,   /* after every piece of the answer */
    FCGI_FLUSH_OFF /* when httpd thinks it is worth a packet, and at the end */
} fcgi_flush;

/* What a script may be. */
typedef enum {
    FCGI_SCRIPT_AUTO,   /* a file; below a Location anything, without one */
    FCGI_SCRIPT_FILE,   /* a regular file */
    FCGI_SCRIPT_VIRTUAL /* below a Location anything, and no file */
} fcgi_script;

#define FCGI_PARK_NEVER APR_INT64_MAX

/* Settings of a directory; -1 is unset, as long as they are not merged with
 * their server's. Times in microseconds, 0 is off. */
typedef struct fcgi_dir_config {
    apr_interval_time_t connect_timeout;       /* getting a connection */
    apr_interval_time_t timeout;               /* no byte in any direction */
    apr_interval_time_t first_byte_timeout;    /* request sent, no answer */
    apr_interval_time_t total_timeout;         /* the whole exchange */
    apr_off_t max_header_size;                 /* bytes of a header block */
    int ignore_client_abort;                   /* 0 or 1 */
    int request_buffering;                     /* 0 or 1 */
    apr_off_t buffer_memory;                   /* bytes held before a file */
    apr_off_t buffer_max;                      /* bytes held at all */
    const char *buffer_dir;                    /* NULL: unset, the system's */
    int flush;                                 /* an fcgi_flush */
    apr_interval_time_t park;                  /* that a waiting request keeps
                                                * its thread; 0 is at once,
                                                * FCGI_PARK_NEVER */
    apr_interval_time_t retry;                 /* up to which a worker died
                                                * young, and a safe request is
                                                * sent again */
    int script;                                /* an fcgi_script, */
    const struct fcgi_dir_config *says_script; /* of this section; NULL: of
                                                * these settings, if set */
    int error_override;                        /* 0 or 1 */

    /* NULL: unset */
    const apr_array_header_t *error_codes;  /* of int; empty: all errors */
    const struct fcgi_allow *allow;         /* what .htaccess may name */
    const apr_array_header_t *params;       /* of fcgi_param */
    const apr_array_header_t *sendfile;     /* of const char *: folders */
    const apr_array_header_t *stderr_rules; /* of fcgi_stderr_rule */
    const char *document_root;              /* "": httpd's own */
    int real_paths; /* 1: all links followed; with document_root */
} fcgi_dir_config;

extern const command_rec fcgi_config_commands[];

void *fcgi_config_create_dir(apr_pool_t *pool, char *dir);
void *fcgi_config_merge_dir(apr_pool_t *pool, void *base, void *add);

/* A check_config hook: fills the defaults in. */
int fcgi_config_complete(apr_pool_t *pconf, apr_pool_t *plog,
                         apr_pool_t *ptemp, server_rec *s);

/* The settings in force for r; nothing in them is unset but for what may be
 * NULL. */
const fcgi_dir_config *fcgi_config_settings(const request_rec *r);

/* True if requests of this server that are in no section with other settings
 * may wait without a thread. */
int fcgi_config_lets_park(const server_rec *s);

#endif
