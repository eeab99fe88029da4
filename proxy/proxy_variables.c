/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * proxy_variables.c - the contract is in proxy_variables.h. Start at
 * proxy_variables_add().
 */
#include "proxy_variables.h"

#include <string.h>

#include <apr_strings.h>

#include <ap_expr.h>
#include <http_core.h>
#include <http_log.h>
#include <http_request.h>
#include <util_script.h>

#include "proxy_request.h"

APLOG_USE_MODULE(proxy_fastcgi);

/* What mod_proxy puts before the URL in r->filename. */
#define OF_FCGI     "proxy:fcgi://"
#define OF_BALANCER "proxy:balancer://"

typedef struct rule {
    const ap_expr_info_t *condition;
    const char *name;
    const ap_expr_info_t *value; /* NULL: the variable is taken away */
} rule;

typedef struct settings {
    int is_generic; /* -1: unset */
    apr_array_header_t *rules;
} settings;

/* ---- directives ---- */

void *proxy_variables_create_dir(apr_pool_t *pool, char *dir)
{
    settings *made = apr_palloc(pool, sizeof(*made));

    (void)dir;
    made->is_generic = -1;
    made->rules = apr_array_make(pool, 1, sizeof(rule));
    return made;
}

void *proxy_variables_merge_dir(apr_pool_t *pool, void *base, void *add)
{
    const settings *outer = base, *inner = add;
    settings *merged = apr_palloc(pool, sizeof(*merged));

    merged->is_generic =
        inner->is_generic == -1 ? outer->is_generic : inner->is_generic;
    merged->rules = apr_array_append(pool, outer->rules, inner->rules);
    return merged;
}

static const char *set_type(cmd_parms *cmd, void *conf, const char *type)
{
    settings *dir = conf;

    if (strcasecmp(type, "FPM") && strcasecmp(type, "GENERIC")) {
        return apr_psprintf(cmd->pool, "%s: '%s' is not FPM or GENERIC",
                            cmd->cmd->name, type);
    }
    dir->is_generic = !strcasecmp(type, "GENERIC");
    return NULL;
}

static const char *parse(cmd_parms *cmd, const char *text, int flags,
                         const ap_expr_info_t **expression)
{
    const char *problem;

    *expression = ap_expr_parse_cmd(cmd, text, flags, &problem, NULL);
    return problem ? apr_psprintf(cmd->pool, "%s: '%s': %s", cmd->cmd->name,
                                  text, problem)
                   : NULL;
}

static const char *add_rule(cmd_parms *cmd, void *conf, const char *condition,
                            const char *name, const char *value)
{
    settings *dir = conf;
    int takes_away = name[0] == '!';
    rule made = { NULL, name + takes_away, NULL };
    const char *problem = parse(cmd, condition, 0, &made.condition);

    if (!problem && takes_away && (value || !*made.name)) {
        problem = apr_psprintf(cmd->pool,
                               "%s: write !NAME, and no value, to take a "
                               "variable away",
                               cmd->cmd->name);
    }
    if (!problem && !takes_away) {
        problem = parse(cmd, value ? value : "", AP_EXPR_FLAG_STRING_RESULT,
                        &made.value);
    }
    if (!problem) {
        APR_ARRAY_PUSH(dir->rules, rule) = made;
    }
    return problem;
}

const command_rec proxy_variables_commands[] = {
    AP_INIT_TAKE1("ProxyFCGIBackendType", set_type, NULL, OR_FILEINFO,
                  "FPM (default) or GENERIC: what SCRIPT_FILENAME is"),
    AP_INIT_TAKE23("ProxyFCGISetEnvIf", add_rule, NULL, OR_FILEINFO,
                   "condition NAME [value], or condition !NAME: a variable "
                   "that is set or taken away"),
    { NULL, { NULL }, NULL, 0, RAW_ARGS, NULL },
};

static const settings *settings_of(const request_rec *r)
{
    return ap_get_module_config(r->per_dir_config, &proxy_fastcgi_module);
}

int proxy_variables_are_generic(const request_rec *r)
{
    return settings_of(r)->is_generic == 1;
}

/* ---- where the script is ---- */

/* As core finds a file at a path, whose rest is PATH_INFO. */
static int walk(request_rec *r, const char *path, int is_url)
{
    r->uri = apr_pstrdup(r->pool, path);
    r->filename = r->canonical_filename = r->uri;
    r->path_info = NULL;
    r->finfo.filetype = APR_NOFILE;
    if (is_url && ap_core_translate(r) != OK) {
        return 0;
    }
    ap_directory_walk(r);
    return r->finfo.filetype == APR_REG;
}

/* proxy-fcgi-pathinfo is full: the longest part of the path that is a file is
 * the script, as a path of the system or below DocumentRoot. */
static int find_script(request_rec *r, const char *path)
{
    char *uri = r->uri, *filename = r->filename, *path_info = r->path_info;
    char *canonical = r->canonical_filename;
    apr_filetype_e type = r->finfo.filetype;
    int proxyreq = r->proxyreq, is_found;

    r->proxyreq = PROXYREQ_NONE;
    is_found = walk(r, path, 0) || walk(r, path, 1);
    r->proxyreq = proxyreq;
    r->uri = uri;
    if (!is_found) {
        r->filename = filename;
        r->canonical_filename = canonical;
        r->path_info = path_info;
        r->finfo.filetype = type;
    }
    return is_found;
}

/* Cuts a query off that the variables have as well. */
static void drop_query(const request_rec *r, char *path)
{
    char *query = r->args && *r->args ? strchr(path, '?') : NULL;

    if (query && !strcmp(query + 1, r->args)) {
        *query = '\0';
    }
}

/* The URL's path in place of the URL, where the application wants that. */
static void shorten(request_rec *r)
{
    const char *url = NULL;
    char *path;

    if (!strncmp(r->filename, OF_BALANCER, sizeof(OF_BALANCER) - 1)) {
        url = r->filename + sizeof(OF_BALANCER) - 1;
    }
    else if (proxy_variables_are_generic(r)
             && !strncmp(r->filename, OF_FCGI, sizeof(OF_FCGI) - 1)) {
        url = r->filename + sizeof(OF_FCGI) - 1;
    }
    if (!url) {
        return;
    }
    path = strchr(url, '/');
    path = path ? apr_pstrdup(r->pool, path) : NULL;
    if (path && proxy_variables_are_generic(r)) {
        drop_query(r, path);
    }
    r->filename = path;
}

/* ---- the story ---- */

/* CONTENT_LENGTH is made of this. The body was read: httpd does not need these
 * fields any more, by which it would find the body's end. */
static void set_length(request_rec *r, apr_off_t body_len)
{
    if (body_len > 0
        || (!body_len
            && (apr_table_get(r->headers_in, "Content-Length")
                || apr_table_get(r->headers_in, "Transfer-Encoding")))) {
        apr_table_setn(r->headers_in, "Content-Length",
                       apr_off_t_toa(r->pool, body_len));
        apr_table_unset(r->headers_in, "Transfer-Encoding");
    }
}

/* Does what a rule says. False if its condition cannot be asked. */
static int apply(request_rec *r, const rule *applied)
{
    ap_regmatch_t found[AP_MAX_REG_MATCH];
    const char *source = NULL, *problem = NULL, *value;
    int is_true = ap_expr_exec_re(r, applied->condition, AP_MAX_REG_MATCH,
                                  found, &source, &problem);

    if (is_true > 0 && !applied->value) {
        apr_table_unset(r->subprocess_env, applied->name);
    }
    else if (is_true > 0) {
        value = ap_expr_str_exec_re(r, applied->value, AP_MAX_REG_MATCH, found,
                                    &source, &problem);
        if (!problem) {
            apr_table_setn(r->subprocess_env, applied->name, value);
        }
    }
    if (problem) {
        ap_log_rerror(APLOG_MARK, is_true < 0 ? APLOG_ERR : APLOG_INFO, 0, r,
                      PROXY_LOGNO("41") "ProxyFCGISetEnvIf %s: %s",
                      applied->name, problem);
    }
    return is_true >= 0;
}

static int apply_rules(request_rec *r)
{
    const apr_array_header_t *rules = settings_of(r)->rules;
    int i, is_right = 1;

    for (i = 0; i < rules->nelts && is_right; i++) {
        is_right = apply(r, &APR_ARRAY_IDX(rules, i, rule));
    }
    return is_right;
}

int proxy_variables_add(request_rec *r, apr_off_t body_len)
{
    const char *full_path = proxy_request_of(r)->full_path;
    char *filename = r->filename;

    set_length(r, body_len);
    if (!full_path || !find_script(r, full_path)) {
        shorten(r);
    }
    ap_add_common_vars(r);
    ap_add_cgi_vars(r);
    if (body_len == FCGI_ENGINE_NO_BODY) {
        apr_table_unset(r->subprocess_env, "CONTENT_LENGTH");
    }
    r->filename = filename;
    return apply_rules(r) ? OK : HTTP_INTERNAL_SERVER_ERROR;
}
