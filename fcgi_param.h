/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_param.h - FcgiParam: variables that are set or taken away after all
 * others are made. Knows neither records nor sockets.
 */
#ifndef FCGI_PARAM_H
#define FCGI_PARAM_H

#include <httpd.h>
#include <ap_expr.h>
#include <http_config.h>

typedef struct fcgi_param {
    const char *name;
    const ap_expr_info_t *value;     /* NULL: the variable is taken away */
    const ap_expr_info_t *condition; /* NULL: always */
    int in_htaccess;                 /* it stands in a .htaccess file */
} fcgi_param;

/* True for a variable's name as CGI has it (RFC 3875, 4.1): letters, digits and
 * underscores, and no digit first; also for an empty one. */
int fcgi_param_is_name(const char *text);

/*
 * Parses the words of FcgiParam: NAME value [expr=condition], or !NAME
 * [expr=condition]; a missing word is NULL. Adds to params, an array of
 * fcgi_param. Returns NULL, or what is wrong: a condition in the value's place,
 * too, which is a forgotten value.
 */
const char *fcgi_param_parse(cmd_parms *cmd, const char *name,
                             const char *second, const char *third,
                             apr_array_header_t *params);

/*
 * Does what params say to r->subprocess_env: first those of .htaccess files,
 * so that the server's own have the last word in whatever section either
 * stands, and each in their order. A variable whose expression fails is left
 * as it is, and a line in the log says so.
 */
void fcgi_param_apply(request_rec *r, const apr_array_header_t *params);

#endif
