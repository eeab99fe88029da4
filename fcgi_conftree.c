/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_conftree.c - the contract is in fcgi_conftree.h.
 */
#include "fcgi_conftree.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <util_cfgtree.h>

#include "fcgi_known.h"
#include "fcgi_log.h"

APLOG_USE_MODULE(fastcgi_handler);

static int any_dynamic; /* a SetHandler has variables */

/* As mod_rewrite reads a flag: without the spaces behind it. */
static char *without_spaces_behind(char *flag)
{
    char *end = flag + strlen(flag);

    while (end > flag && apr_isspace(end[-1])) {
        end--;
    }
    *end = '\0';
    return flag;
}

/* The value of the H= or handler= flag in RewriteRule's "[flags]", or NULL. */
static const char *handler_flag(apr_pool_t *pool, const char *args)
{
    char *flags, *flag, *last;

    ap_getword_conf(pool, &args);
    ap_getword_conf(pool, &args);
    flags = ap_getword_conf(pool, &args);
    if (flags[0] != '[' || flags[strlen(flags) - 1] != ']') {
        return NULL;
    }
    flags[strlen(flags) - 1] = '\0';
    for (flag = apr_strtok(flags + 1, ",", &last); flag;
         flag = apr_strtok(NULL, ",", &last)) {
        char *value = strchr(flag, '=');

        while (*flag == ' ') {
            flag++;
        }
        if (value
            && (!strncasecmp(flag, "H=", 2)
                || !strncasecmp(flag, "handler=", 8))) {
            return without_spaces_behind(value + 1);
        }
    }
    return NULL;
}

/* Checks the names in FcgiAllow: only now all of them are known. */
static const char *check_allowed(apr_pool_t *pool, const char *args)
{
    const char *word = ap_getword_conf(pool, &args);

    for (; *word; word = ap_getword_conf(pool, &args)) {
        if (!strpbrk(word, "/:") && strcasecmp(word, "None")
            && strcasecmp(word, "Configured")
            && !fcgi_known_named(pool, word)) {
            return apr_psprintf(pool,
                                "'%s' is neither the pattern of an absolute "
                                "path nor of host:port, and there is no "
                                "FcgiBackend of that name",
                                word);
        }
    }
    return NULL;
}

/* Checks one directive. Returns NULL or what is wrong with its address. */
static const char *check_directive(apr_pool_t *pool,
                                   const ap_directive_t *directive)
{
    const char *args = directive->args;
    const char *handler, *problem;
    int is_lowered = 1;

    if (!strcasecmp(directive->directive, "SetHandler")) {
        handler = ap_getword_conf(pool, &args);
        is_lowered = 0;
    }
    else if (!strcasecmp(directive->directive, "AddHandler")) {
        handler = ap_getword_conf(pool, &args);
    }
    else if (!strcasecmp(directive->directive, "RewriteRule")) {
        handler = handler_flag(pool, args);
    }
    else {
        return strcasecmp(directive->directive, "FcgiAllow")
                   ? NULL
                   : check_allowed(pool, args);
    }
    problem = handler ? fcgi_address_check_spelling(pool, handler) : NULL;
    if (problem) {
        return problem;
    }
    if (handler && strpbrk(handler, "%$")) {
        any_dynamic |= !is_lowered;
        return NULL; /* known only when a request is here */
    }
    if (!fcgi_address_is_ours(handler)) {
        return NULL;
    }
    return fcgi_known_enter_handler(pool, handler, is_lowered);
}

static int check_tree(apr_pool_t *pool, const ap_directive_t *directive)
{
    int status = OK;

    for (; directive && status == OK; directive = directive->next) {
        const char *problem = check_directive(pool, directive);

        if (problem) {
            ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_EMERG, 0, NULL,
                         FCGI_LOGNO("20") "Syntax error on line %d of %s: "
                                          "%s %s: %s",
                         directive->line_num, directive->filename,
                         directive->directive, directive->args, problem);
            return HTTP_INTERNAL_SERVER_ERROR;
        }
        status = check_tree(pool, directive->first_child);
    }
    return status;
}

int fcgi_conftree_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                        server_rec *s)
{
    (void)plog;
    (void)ptemp;
    (void)s;
    any_dynamic = 0;
    return check_tree(pconf, ap_conftree);
}

int fcgi_conftree_any_dynamic(void)
{
    return any_dynamic;
}
