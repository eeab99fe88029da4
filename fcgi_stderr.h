/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_stderr.h - the bytes of STDERR, as entries of the error log: a line
 * an entry, however the bytes were cut into records.
 */
#ifndef FCGI_STDERR_H
#define FCGI_STDERR_H

#include <httpd.h>

/* A level for lines that match a pattern. */
typedef struct fcgi_stderr_rule {
    int level;                 /* APLOG_ERR, ... */
    const ap_regex_t *pattern; /* NULL: every line */
} fcgi_stderr_rule;

/* A longer line is logged in pieces of so many bytes. */
#define FCGI_STDERR_LINE 1024

typedef struct fcgi_stderr {
    request_rec *r;
    const char *backend;             /* its name, for the log */
    const apr_array_header_t *rules; /* of fcgi_stderr_rule, or NULL; the
                                      * first that matches says the level,
                                      * APLOG_ERR if none does */
    char *line; /* FCGI_STDERR_LINE + 1 bytes: unfinished; its end may be CR;
                 * NULL: there was none yet, as with most */
    apr_size_t len;
} fcgi_stderr;

void fcgi_stderr_init(fcgi_stderr *output, request_rec *r, const char *backend,
                      const apr_array_header_t *rules);

/* Logs every line that ends in the len bytes at data; keeps the rest. Empty
 * lines are dropped. */
void fcgi_stderr_add(fcgi_stderr *output, const char *data, apr_size_t len);

/* Logs a last line that has no end: no more will come. */
void fcgi_stderr_end(fcgi_stderr *output);

#endif
