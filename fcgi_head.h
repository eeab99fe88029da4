/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_head.h - the header block of an application's answer (RFC 3875,
 * section 6.3): gathered in bounded memory however it is cut, and believed
 * only once it is whole. Knows neither requests nor FastCGI.
 */
#ifndef FCGI_HEAD_H
#define FCGI_HEAD_H

#include <apr_pools.h>
#include <apr_tables.h>

typedef enum {
    FCGI_HEAD_MORE,  /* the blank line is not here yet */
    FCGI_HEAD_WHOLE, /* the parsed fields are valid */
    FCGI_HEAD_BAD    /* why says what is wrong; final */
} fcgi_head_state;

/* Fields that are not just passed on. */
typedef enum {
    FCGI_FIELD_OTHER,
    FCGI_FIELD_STATUS,
    FCGI_FIELD_LENGTH,
    FCGI_FIELD_TYPE, /* of this and the next two only the last one counts */
    FCGI_FIELD_MODIFIED,
    FCGI_FIELD_SINGLE, /* all others of which that is so */
    FCGI_FIELD_VARY,
    FCGI_FIELD_CONNECTION,
    FCGI_FIELD_HOP /* all others about one connection (RFC 9110, 7.6.1) */
} fcgi_field;

typedef struct fcgi_head {
    apr_pool_t *pool;
    apr_pool_t *block_pool; /* of what is parsed: pool for the first block, one
                             * that is cleared for those after it */
    apr_size_t max; /* bytes a block may have, the blank line included */

    /* gathered */
    char *bytes; /* in pool */
    apr_size_t len;
    apr_size_t size;     /* allocated; at most twice max */
    apr_size_t line_len; /* bytes in the last line */
    int line_cr;         /* its last byte is CR */

    /* parsed; all lives until the next block */
    apr_table_t *fields;      /* all but Status and Content-Length */
    int status;               /* 100 to 999; 0: none was sent */
    const char *reason;       /* "NNN text"; NULL: no text was sent */
    apr_off_t content_length; /* -1: none was sent that counts */
    const char *bad_length;   /* the value for which Content-Length does not
                               * count; NULL: there is none */

    const char *why; /* FCGI_HEAD_BAD: a phrase for the log, in pool */
} fcgi_head;

/* Prepares head for a block of at most max bytes. */
void fcgi_head_init(fcgi_head *head, apr_pool_t *pool, apr_size_t max);

/*
 * Takes bytes of the block from the len bytes at data: up to its end, or all;
 * *taken says how many. Lines end with LF or CRLF. A block is bad if it is
 * larger than max, or has a NUL, a control character, a line that is no field,
 * an invalid name or Status. An empty one is whole. A Content-Length that
 * cannot be read, or contradicts another, does not count: FastCGI says where
 * an answer ends.
 */
fcgi_head_state fcgi_head_add(fcgi_head *head, const char *data,
                              apr_size_t len, apr_size_t *taken);

/* Forgets the block, for another one. */
void fcgi_head_restart(fcgi_head *head);

/* What a field's name means to a gateway. */
fcgi_field fcgi_head_field(const char *name);

/* True for fields of which only the last one counts. */
int fcgi_head_is_single(fcgi_field field);

#endif
