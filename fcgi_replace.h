/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_replace.h - answers in whose place httpd is to give another: a local
 * redirect, an error page of the site, a file, another URL. Decided when the
 * application's header block is here, done when the application is done, so
 * that its worker is free.
 */
#ifndef FCGI_REPLACE_H
#define FCGI_REPLACE_H

#include <httpd.h>

#include "fcgi_config.h"
#include "fcgi_head.h"
#include "fcgi_outlet.h"

typedef enum {
    FCGI_REPLACE_NOT,        /* the application's answer is the answer */
    FCGI_REPLACE_LOCAL,      /* by the answer of a path (RFC 3875, 6.2.2) */
    FCGI_REPLACE_URL,        /* the same, keeping some fields */
    FCGI_REPLACE_ERROR_PAGE, /* by the ErrorDocument for its status */
    FCGI_REPLACE_FILE        /* its body by a file's content */
} fcgi_replace_kind;

typedef struct fcgi_replacement {
    fcgi_replace_kind kind;
    const char *target; /* LOCAL: a URL path; URL, FILE: what is to be one, or
                         * a file's path */
    int status;         /* ERROR_PAGE: the application's */
} fcgi_replacement;

/*
 * What a header block asks for, as far as the settings allow. Takes the
 * fields that only httpd is meant to see out of head, and for FILE its
 * length. Location with other fields and without a Status is no replacement
 * but a redirect for the client (RFC 3875, 6.2.3): head->status is set.
 */
fcgi_replacement fcgi_replace_decide(request_rec *r, fcgi_head *head);

/*
 * Gives the other answer, with those of the application's fields that hold
 * for it, too; for FILE all of them are set in the request already, and to be
 * taken back if this returns an error. Returns what the handler is to return,
 * but look at the outlet's state: a file may not be given whole. backend
 * names the application in log lines.
 */
int fcgi_replace_perform(fcgi_outlet *outlet,
                         const fcgi_replacement *replacement,
                         const apr_table_t *fields, const char *backend);

/* A fixups hook, after all that know a file's type by its name: what
 * X-Accel-Redirect led to has the type that the application said, unless it is
 * another application, which says its own. */
int fcgi_replace_keep_type(request_rec *r);

#endif
