/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_param.c - FcgiParam; the contract is in fcgi_param.h. The expressions
 * are httpd's (ap_expr).
 */
#include "fcgi_param.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include "fcgi_log.h"

APLOG_USE_MODULE(fastcgi_handler);

#define CONDITION "expr="

int fcgi_param_is_name(const char *text)
{
    if (apr_isdigit(*text)) {
        return 0;
    }
    while (apr_isalnum(*text) || *text == '_') {
        text++;
    }
    return !*text;
}

/* Only then a directive's memory lasts no longer than its reading. */
static int is_in_htaccess(const cmd_parms *cmd)
{
    return cmd->pool == cmd->temp_pool;
}

/* Parses an expression. In a .htaccess file it must not reach what a request
 * could not. What the application says of Vary is its own affair. */
static const char *parse_expr(cmd_parms *cmd, const char *text,
                              unsigned int flags, const ap_expr_info_t **expr)
{
    const char *error = NULL;

    flags |= AP_EXPR_FLAG_DONT_VARY;
    if (is_in_htaccess(cmd)) {
        flags |= AP_EXPR_FLAG_RESTRICTED;
#ifdef AP_EXPR_FLAG_RESTRICTED_FILE_FUNC
        flags |= AP_EXPR_FLAG_RESTRICTED_FILE_FUNC;
#endif
    }
    *expr = ap_expr_parse_cmd(cmd, text, flags, &error, NULL);
    return error ? apr_psprintf(cmd->pool, "'%s' is not an expression: %s",
                                text, error)
                 : NULL;
}

static int is_condition(const char *text)
{
    return text && !strncasecmp(text, CONDITION, sizeof(CONDITION) - 1);
}

static const char *parse(cmd_parms *cmd, fcgi_param *param, const char *value,
                         const char *condition)
{
    const char *problem = NULL;

    if (!param->name[0] || !fcgi_param_is_name(param->name)) {
        return apr_psprintf(cmd->pool,
                            "'%s' is not the name of a variable; write "
                            "letters, digits and _",
                            param->name);
    }
    if (value) {
        problem =
            parse_expr(cmd, value, AP_EXPR_FLAG_STRING_RESULT, &param->value);
    }
    if (condition && !problem) {
        problem = parse_expr(cmd, condition + sizeof(CONDITION) - 1, 0,
                             &param->condition);
    }
    return problem;
}

const char *fcgi_param_parse(cmd_parms *cmd, const char *name,
                             const char *second, const char *third,
                             apr_array_header_t *params)
{
    fcgi_param *param = apr_array_push(params);
    int unset = name[0] == '!';
    const char *value = unset ? NULL : second;
    const char *condition = unset ? second : third;
    const char *problem = NULL;

    param->name = apr_pstrdup(cmd->pool, name + unset);
    param->value = NULL;
    param->condition = NULL;
    param->in_htaccess = is_in_htaccess(cmd);
    if ((condition && !is_condition(condition)) || (unset && third)
        || (!unset && !value)) {
        problem = "write NAME value, or !NAME, and then expr=condition if it "
                  "is not for all requests";
    }
    else if (!condition && is_condition(value)) {
        problem = "there is a condition and no value; an empty one is "
                  "written \"\"";
    }
    else {
        problem = parse(cmd, param, value, condition);
    }
    return problem
               ? apr_pstrcat(cmd->pool, cmd->cmd->name, ": ", problem, NULL)
               : NULL;
}

static void apply(request_rec *r, const fcgi_param *param)
{
    ap_regmatch_t found[AP_MAX_REG_MATCH]; /* by the condition: $0 to $9 */
    const char *searched = NULL;           /* where; NULL: nothing found */
    const char *error = NULL;
    const char *value = NULL;

    if (param->condition
        && ap_expr_exec_re(r, param->condition, AP_MAX_REG_MATCH, found,
                           &searched, &error)
               <= 0
        && !error) {
        return;
    }
    if (param->value && !error) {
        value = ap_expr_str_exec_re(r, param->value, AP_MAX_REG_MATCH, found,
                                    &searched, &error);
    }
    if (error && !param->in_htaccess) {
        /* not what a .htaccess file says, in place of what is not known */
        apr_table_unset(r->subprocess_env, param->name);
    }
    if (error) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      FCGI_LOGNO("24") "FcgiParam %s: the expression fails: "
                                       "%s",
                      param->name, error);
    }
    else {
        /* a table keeps the spelling of what it had: SetEnv php_value would
         * make that of PHP_VALUE */
        apr_table_unset(r->subprocess_env, param->name);
        if (param->value) {
            apr_table_setn(r->subprocess_env, param->name, value);
        }
    }
}

static void apply_of(request_rec *r, const apr_array_header_t *params,
                     int in_htaccess)
{
    int i;

    for (i = 0; i < params->nelts; i++) {
        const fcgi_param *param = &APR_ARRAY_IDX(params, i, const fcgi_param);

        if (param->in_htaccess == in_htaccess) {
            apply(r, param);
        }
    }
}

void fcgi_param_apply(request_rec *r, const apr_array_header_t *params)
{
    if (params) {
        apply_of(r, params, 1);
        apply_of(r, params, 0);
    }
}
