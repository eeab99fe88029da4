/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_origin.c - where a handler comes from; the contract is in
 * fcgi_origin.h. A SetHandler is an expression that core parsed once: its
 * pointer in the settings that hold for a request is the same as in the
 * section where it was written.
 */
#include "fcgi_origin.h"

#include <apr_strings.h>

#include <ap_expr.h>
#include <http_core.h>
#include <http_request.h>

#include "fcgi_address.h"
#include "fcgi_config.h"
#include "fcgi_log.h"

/* Bytes of a path, as APR takes them, with room for what it adds; and of one
 * name in it. */
#define PATH_LIMIT (APR_PATH_MAX - 8)
#define NAME_LIMIT 255

/* Names of a URL that are tried to find what a LocationMatch stands for. */
#define NAMES_MAX 64

/* What is remembered of a request before others change what expressions look
 * at. */
typedef struct remembered {
    const ap_expr_info_t *expr; /* SetHandler's, see fcgi_origin_remember() */
    const char *value;          /* what it gave */
    const char *handler;        /* r's, if that is the same; else NULL */
    const char *walked;         /* r->uri, see fcgi_origin_walked() */
    ap_conf_vector_t *sections; /* what its Locations say */
    int translate_only;         /* its subrequests */
    int is_auto;                /* what can be no file is the application's */
    int is_virtual;             /* there are no files */
} remembered;

static remembered *memory_of(request_rec *r)
{
    remembered *memory =
        ap_get_module_config(r->request_config, &fastcgi_handler_module);

    if (!memory) {
        memory = apr_pcalloc(r->pool, sizeof(*memory));
        ap_set_module_config(r->request_config, &fastcgi_handler_module,
                             memory);
    }
    return memory;
}

/* The SetHandler in force for these settings, or NULL. */
static const ap_expr_info_t *set_handler_of(ap_conf_vector_t *settings)
{
    const core_dir_config *core = ap_get_core_module_config(settings);

    return core ? core->expr_handler : NULL;
}

/* The value of a SetHandler expression for r, with upper and lower case as
 * written; NULL if it has none. */
static const char *evaluate(request_rec *r, const ap_expr_info_t *expr)
{
    const char *error = NULL;
    const char *value = ap_expr_str_exec(r, expr, &error);

    return error ? NULL : value;
}

/* True if httpd made r's handler of the value. */
static int is_handler_of(const request_rec *r, const char *value)
{
    return value && !strcasecmp(value, r->handler);
}

int fcgi_origin_remember(request_rec *r)
{
    const ap_expr_info_t *expr = set_handler_of(r->per_dir_config);
    remembered *memory;

    if (expr && fcgi_address_is_ours(r->handler)) {
        memory = memory_of(r);
        memory->expr = expr;
        memory->value = evaluate(r, expr);
        memory->handler = is_handler_of(r, memory->value) ? r->handler : NULL;
    }
    return DECLINED;
}

const char *fcgi_origin_exact(request_rec *r)
{
    const ap_expr_info_t *expr = set_handler_of(r->per_dir_config);
    const remembered *memory = memory_of(r);
    const char *value;

    if (!expr || !r->handler) {
        return NULL;
    }
    if (memory->expr == expr && memory->handler == r->handler) {
        return memory->value;
    }
    /* mod_dir puts the settings of an index file into the request */
    value = memory->expr == expr ? memory->value : evaluate(r, expr);
    return is_handler_of(r, value) ? value : NULL;
}

/* Where in a section a SetHandler is looked for, beside the section itself. */
enum {
    IN_FILES = 1,
    IN_IF = 2
};

static int section_has(ap_conf_vector_t *section, const ap_expr_info_t *expr,
                       int where);

static int any_section_has(const apr_array_header_t *sections,
                           const ap_expr_info_t *expr, int where)
{
    int i;

    for (i = 0; sections && i < sections->nelts; i++) {
        if (section_has(APR_ARRAY_IDX(sections, i, ap_conf_vector_t *), expr,
                        where)) {
            return 1;
        }
    }
    return 0;
}

/* True if this SetHandler stands in a section, or in a <Files> or an <If>
 * inside it. */
static int section_has(ap_conf_vector_t *section, const ap_expr_info_t *expr,
                       int where)
{
    const core_dir_config *core = ap_get_core_module_config(section);

    return core
           && (core->expr_handler == expr
               || ((where & IN_IF)
                   && any_section_has(core->sec_if, expr, where))
               || ((where & IN_FILES)
                   && any_section_has(core->sec_file, expr, where)));
}

/* True if this SetHandler stands in the server's own configuration, and not
 * in a .htaccess file. */
static int stands_in_server(const request_rec *r, const ap_expr_info_t *expr,
                            int where)
{
    const core_server_config *server =
        ap_get_core_module_config(r->server->module_config);

    return section_has(r->server->lookup_defaults, expr, where)
           || any_section_has(server->sec_dir, expr, where)
           || any_section_has(server->sec_url, expr, where);
}

int fcgi_origin_is_servers_own(request_rec *r)
{
    return fcgi_origin_exact(r)
           && stands_in_server(r, set_handler_of(r->per_dir_config),
                               IN_FILES | IN_IF);
}

int fcgi_origin_is_fixed(request_rec *r)
{
    return fcgi_origin_exact(r)
           && stands_in_server(r, set_handler_of(r->per_dir_config), IN_FILES);
}

static char *without_slash(char *path)
{
    apr_size_t len = strlen(path);

    while (len && path[len - 1] == '/') {
        path[--len] = '\0';
    }
    return path;
}

/* True if a prefix of a URL ends with a name, or the slash behind one. */
static int ends_with_name(const char *url, apr_size_t len)
{
    return url[len] == '/' || !url[len] || url[len - 1] == '/';
}

/*
 * What a LocationMatch's pattern stands for: the shortest part of the URL, of
 * whole names, that it matches. So ^/(?!static) is the same as <Location />,
 * and /(status|ping) the page that was asked for. "" if a rule has changed
 * the URL since, or more names would have to be tried than a site has.
 */
static const char *matched_path(request_rec *r, const ap_regex_t *pattern)
{
    char *url = apr_pstrdup(r->pool, r->uri);
    apr_size_t whole = strlen(url), len;
    int tries = 2 * NAMES_MAX; /* with the slash and without it */

    for (len = 1; len <= whole && tries; len++) {
        char behind = url[len];

        if (!ends_with_name(url, len)) {
            continue;
        }
        tries--;
        url[len] = '\0';
        if (!ap_regexec(pattern, url, 0, NULL, 0)) {
            return without_slash(url);
        }
        url[len] = behind;
    }
    return "";
}

/* The path of a Location section that holds for r, as a script's name. */
static const char *location_path(request_rec *r, const core_dir_config *core)
{
    const char *path;
    apr_size_t len;

    if (core->r) {
        return matched_path(r, core->r);
    }
    if (core->d_is_fnmatch) {
        return "";
    }
    len = strlen(core->d);
    path = len && core->d[len - 1] == '/'
               ? without_slash(apr_pstrdup(r->pool, core->d))
               : core->d;
    return strncmp(path, r->uri, strlen(path)) ? "" : path;
}

/* The handler that a RewriteRule's H gives, or NULL. */
static const char *forced_handler(const request_rec *r)
{
    return apr_table_get(r->notes, "rewrite-forced-handler");
}

const char *fcgi_origin_handler(const request_rec *r)
{
    const char *forced = forced_handler(r);

    return forced ? forced : r->handler;
}

int fcgi_origin_follow(request_rec *r)
{
    if (fcgi_address_is_ours(forced_handler(r)) && r->filename
        && !strncmp(r->filename, "redirect:", 9)) {
        r->handler = "redirect-handler";
    }
    return DECLINED;
}

/* The Location that says FcgiScript Virtual, if that holds; else NULL. */
static ap_conf_vector_t *find_virtual(request_rec *r)
{
    const core_server_config *server =
        ap_get_core_module_config(r->server->module_config);
    const fcgi_dir_config *conf = fcgi_config_settings(r);
    int i;

    for (i = 0;
         conf->script == FCGI_SCRIPT_VIRTUAL && i < server->sec_url->nelts;
         i++) {
        ap_conf_vector_t *section =
            APR_ARRAY_IDX(server->sec_url, i, ap_conf_vector_t *);

        if (ap_get_module_config(section, &fastcgi_handler_module)
            == (const void *)conf->says_script) {
            return section;
        }
    }
    return NULL;
}

/* The section below whose URL r's handler was set, or the one of what stands
 * outside of all; NULL if it came from elsewhere. A rule that sets it stands
 * nowhere: the Location counts that says that there are no files. */
static ap_conf_vector_t *find_location(request_rec *r)
{
    const core_server_config *server =
        ap_get_core_module_config(r->server->module_config);
    const ap_expr_info_t *expr = set_handler_of(r->per_dir_config);
    int i;

    if (!expr || !fcgi_origin_exact(r)) {
        return forced_handler(r) ? find_virtual(r) : NULL;
    }
    for (i = 0; i < server->sec_url->nelts; i++) {
        ap_conf_vector_t *section =
            APR_ARRAY_IDX(server->sec_url, i, ap_conf_vector_t *);

        if (section_has(section, expr, IN_IF)) {
            return section;
        }
    }
    return section_has(r->server->lookup_defaults, expr, IN_IF)
               ? r->server->lookup_defaults
               : NULL;
}

fcgi_location fcgi_origin_location(request_rec *r)
{
    fcgi_location location = { NULL, 0 };
    ap_conf_vector_t *section = find_location(r);
    const core_dir_config *core =
        section ? ap_get_core_module_config(section) : NULL;

    if (section == r->server->lookup_defaults) {
        location.path = "";
    }
    else if (core) {
        location.path = location_path(r, core);
        location.is_pattern = core->r != NULL;
    }
    return location;
}

int fcgi_origin_is_below_location(request_rec *r)
{
    return find_location(r) != NULL;
}

/* True if this SetHandler stands in an <If> of one of these sections. */
static int any_if_has(const apr_array_header_t *sections,
                      const ap_expr_info_t *expr)
{
    int i;

    for (i = 0; sections && i < sections->nelts; i++) {
        const core_dir_config *core = ap_get_core_module_config(
            APR_ARRAY_IDX(sections, i, ap_conf_vector_t *));

        if (core
            && (any_section_has(core->sec_if, expr, IN_FILES | IN_IF)
                || any_if_has(core->sec_file, expr))) {
            return 1;
        }
    }
    return 0;
}

fcgi_origin_kind fcgi_origin_of(request_rec *r)
{
    const core_server_config *server =
        ap_get_core_module_config(r->server->module_config);
    const core_dir_config *outer =
        ap_get_core_module_config(r->server->lookup_defaults);
    const ap_expr_info_t *expr = set_handler_of(r->per_dir_config);

    if (!fcgi_origin_exact(r)) {
        return forced_handler(r) ? FCGI_ORIGIN_URL : FCGI_ORIGIN_NAME;
    }
    if (find_location(r)
        || any_section_has(outer->sec_if, expr, IN_FILES | IN_IF)
        || any_if_has(outer->sec_file, expr)
        || any_if_has(server->sec_dir, expr)
        || !fcgi_origin_is_servers_own(r)) {
        return FCGI_ORIGIN_URL;
    }
    return FCGI_ORIGIN_FILE;
}

void fcgi_origin_translate_only(request_rec *r, int only)
{
    memory_of(r)->translate_only = only;
}

/* ---- what of a URL is a file ---- */

/* What FcgiScript says if these settings, of r's Locations, make it ours. */
static int script_of_sections(request_rec *r)
{
    const ap_expr_info_t *expr = set_handler_of(r->per_dir_config);
    const char *forced = forced_handler(r);

    if (forced) {
        return fcgi_address_is_ours(forced) && find_virtual(r)
                   ? FCGI_SCRIPT_VIRTUAL
                   : FCGI_SCRIPT_FILE;
    }
    return expr && fcgi_address_is_ours(evaluate(r, expr))
               ? fcgi_config_settings(r)->script
               : FCGI_SCRIPT_FILE;
}

/* httpd has looked at the Locations, and only at them if there is no <If>. */
int fcgi_origin_walked(request_rec *r)
{
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);
    remembered *memory;

    if (!core->sec_if) {
        memory = memory_of(r);
        memory->walked = r->uri;
        memory->sections = r->per_dir_config;
    }
    return DECLINED;
}

/* Gives r the settings of its Locations; once more only if the URL is another
 * one since: that saves 300 instructions. */
static int walk_locations(request_rec *r)
{
    const remembered *memory = memory_of(r);

    r->per_dir_config = r->server->lookup_defaults;
    if (memory->walked != r->uri) {
        return ap_location_walk(r);
    }
    r->per_dir_config = memory->sections;
    return OK;
}

/* What FcgiScript says of r's URL if a Location's SetHandler, or one outside
 * of all sections, makes it ours, or a rule of the server; else File: then all
 * is as in httpd. */
static int script_of_url(request_rec *r)
{
    ap_conf_vector_t *before = r->per_dir_config;
    int script = FCGI_SCRIPT_FILE;

    if (r->method_number == M_TRACE || r->uri[0] != '/') {
        return script; /* TRACE and OPTIONS * are core's */
    }
    if (walk_locations(r) == OK) {
        script = script_of_sections(r);
    }
    r->per_dir_config = before;
    return script;
}

static int is_translation(request_rec *r)
{
    return r->main && memory_of(r->main)->translate_only;
}

int fcgi_origin_translate(request_rec *r)
{
    const char *root = ap_document_root(r);

    if (strlen(root) + strlen(r->uri) < PATH_LIMIT || r->uri[0] != '/'
        || strstr(r->uri, "/../") /* core refuses it */
        || (!is_translation(r) && script_of_url(r) == FCGI_SCRIPT_FILE)) {
        return DECLINED;
    }
    r->filename = apr_pstrcat(r->pool, root, r->uri, NULL);
    r->canonical_filename = r->filename;
    return OK;
}

/* The bytes of a path, longer than a path may be, that core can look at. A
 * name is not cut in two, as another file may have the first half's: but for
 * one that no file can have. */
static apr_size_t cut_of(const char *path)
{
    apr_size_t cut = PATH_LIMIT;

    while (path[cut] != '/' && PATH_LIMIT - cut <= NAME_LIMIT) {
        cut--;
    }
    return path[cut] == '/' ? cut : PATH_LIMIT;
}

/* Core's hook for a path longer than it takes. */
static int map_long(request_rec *r)
{
    apr_size_t cut = cut_of(r->filename);
    const char *rest = apr_pstrdup(r->pool, r->filename + cut);
    int status;

    r->filename = apr_pstrmemdup(r->pool, r->filename, cut);
    status = ap_directory_walk(r);
    if (status == OK) {
        status = ap_file_walk(r);
    }
    r->path_info =
        apr_pstrcat(r->pool, r->path_info ? r->path_info : "", rest, NULL);
    return status;
}

int fcgi_origin_map(request_rec *r)
{
    if (is_translation(r)) {
        return DONE;
    }
    if (r->proxyreq) {
        return DECLINED; /* mod_proxy asks its own rules of access */
    }
    switch (script_of_url(r)) {
    case FCGI_SCRIPT_VIRTUAL:
        memory_of(r)->is_virtual = 1;
        return OK;
    case FCGI_SCRIPT_AUTO:
        memory_of(r)->is_auto = 1;
        if (r->filename && strlen(r->filename) >= PATH_LIMIT) {
            return map_long(r);
        }
        break;
    }
    return DECLINED;
}

/* True if there is something that can be a part of a script's path. */
static int is_there(apr_status_t rv, const apr_finfo_t *info)
{
    return (rv == APR_SUCCESS || rv == APR_INCOMPLETE)
           && (info->filetype == APR_REG || info->filetype == APR_DIR
               || info->filetype == APR_LNK);
}

int fcgi_origin_is_virtual(const request_rec *r)
{
    const remembered *memory =
        ap_get_module_config(r->request_config, &fastcgi_handler_module);

    return memory && memory->is_virtual;
}

static int is_auto(const request_rec *r)
{
    const remembered *memory =
        ap_get_module_config(r->request_config, &fastcgi_handler_module);

    return memory && memory->is_auto;
}

apr_status_t fcgi_origin_stat(apr_finfo_t *info, request_rec *r,
                              apr_int32_t wanted)
{
    apr_finfo_t target;
    apr_status_t rv;

    if (!is_auto(r)) {
        return AP_DECLINED;
    }
    rv = apr_stat(info, r->filename, wanted, r->pool);
    if (!is_there(rv, info)) {
        return APR_ENOENT;
    }
    if (info->filetype == APR_LNK) {
        apr_status_t leads =
            apr_stat(&target, r->filename, APR_FINFO_TYPE, r->pool);

        return is_there(leads, &target) ? rv : APR_ENOENT;
    }
    return rv;
}

apr_status_t fcgi_origin_open_htaccess(request_rec *r, const char *dir,
                                       const char *name,
                                       ap_configfile_t **file,
                                       const char **path)
{
    apr_finfo_t info;

    (void)name;
    (void)file;
    (void)path;
    return is_auto(r) && r->finfo.filetype != APR_REG
                   && APR_STATUS_IS_EACCES(
                       apr_stat(&info, ap_make_full_path(r->pool, dir, "."),
                                APR_FINFO_TYPE, r->pool))
               ? APR_ENOENT
               : AP_DECLINED;
}
