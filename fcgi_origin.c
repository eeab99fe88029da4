/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_origin.c - where a handler comes from; the contract is in
 * fcgi_origin.h. A SetHandler is an expression that core parsed once: its
 * pointer in the settings that hold for a request is the same as in the
 * section where it was written.
 */
#include "fcgi_origin.h"

#include <apr_fnmatch.h>
#include <apr_strings.h>

#include <ap_expr.h>
#include <http_core.h>
#include <http_request.h>

#include "fcgi_config.h"
#include "fcgi_known.h"
#include "fcgi_log.h"

/* What a request's SetHandler gave, see fcgi_origin_remember(). */
typedef struct remembered {
    const ap_expr_info_t *expr;
    const char *value;
} remembered;

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

int fcgi_origin_remember(request_rec *r)
{
    const ap_expr_info_t *expr = set_handler_of(r->per_dir_config);
    remembered *memory;

    if (expr && fcgi_address_is_ours(r->handler)) {
        memory = apr_palloc(r->pool, sizeof(*memory));
        memory->expr = expr;
        memory->value = evaluate(r, expr);
        ap_set_module_config(r->request_config, &fastcgi_handler_module,
                             memory);
    }
    return DECLINED;
}

/* r->handler as SetHandler has it, before httpd lower-cased it; NULL if
 * r->handler is not from SetHandler. */
static const char *set_handler_value(request_rec *r)
{
    const ap_expr_info_t *expr = set_handler_of(r->per_dir_config);
    const remembered *memory =
        ap_get_module_config(r->request_config, &fastcgi_handler_module);
    const char *value;

    if (!expr) {
        return NULL;
    }
    /* mod_dir puts the settings of an index file into the request */
    value = memory && memory->expr == expr ? memory->value : evaluate(r, expr);
    return value && !strcasecmp(value, r->handler) ? value : NULL;
}

/* Where in a section a SetHandler is looked for, beside <If>. */
typedef enum {
    WITHOUT_FILES,
    WITH_FILES
} depth;

static int section_has(ap_conf_vector_t *section, const ap_expr_info_t *expr,
                       depth files);

static int any_section_has(const apr_array_header_t *sections,
                           const ap_expr_info_t *expr, depth files)
{
    int i;

    for (i = 0; sections && i < sections->nelts; i++) {
        if (section_has(APR_ARRAY_IDX(sections, i, ap_conf_vector_t *), expr,
                        files)) {
            return 1;
        }
    }
    return 0;
}

/* True if this SetHandler stands in a section, or in an <If> inside it, or
 * WITH_FILES in a <Files>. */
static int section_has(ap_conf_vector_t *section, const ap_expr_info_t *expr,
                       depth files)
{
    const core_dir_config *core = ap_get_core_module_config(section);

    return core
           && (core->expr_handler == expr
               || any_section_has(core->sec_if, expr, files)
               || (files == WITH_FILES
                   && any_section_has(core->sec_file, expr, files)));
}

/* True if this SetHandler stands in the server's own configuration, and not
 * in a .htaccess file. */
static int is_servers_own(const request_rec *r, const ap_expr_info_t *expr)
{
    const core_server_config *server =
        ap_get_core_module_config(r->server->module_config);

    return section_has(r->server->lookup_defaults, expr, WITH_FILES)
           || any_section_has(server->sec_dir, expr, WITH_FILES)
           || any_section_has(server->sec_url, expr, WITH_FILES);
}

/* True if FcgiAllow admits an address; what its patterns are matched with is
 * the address's name without "fcgi:". A * does not match a slash. */
static int is_allowed(request_rec *r, const fcgi_address *address)
{
    const apr_array_header_t *allow = fcgi_config_settings(r)->allow;
    const char *text = address->name + sizeof(FCGI_HANDLER_PREFIX) - 1;
    int i;

    for (i = 0; allow && i < allow->nelts; i++) {
        if (apr_fnmatch(APR_ARRAY_IDX(allow, i, const char *), text,
                        APR_FNM_PATHNAME | APR_FNM_PERIOD)
            == APR_SUCCESS) {
            return 1;
        }
    }
    return 0;
}

const char *fcgi_origin_backend(request_rec *r, const fcgi_backend **backend)
{
    const char *exact = set_handler_value(r);
    fcgi_address *address = NULL;
    const char *problem =
        fcgi_known_find(r->pool, r->handler, exact, backend, &address);

    if (problem || *backend) {
        return problem;
    }
    if (!is_allowed(r, address)
        && !(exact && is_servers_own(r, set_handler_of(r->per_dir_config)))) {
        return "refused, as neither the server's own configuration names this "
               "address nor FcgiAllow admits it";
    }
    *backend = fcgi_known_make(r->pool, address);
    return NULL;
}

/* The path of a Location section that holds for r, as a script's name. */
static const char *location_path(request_rec *r, ap_conf_vector_t *section)
{
    const core_dir_config *core = ap_get_core_module_config(section);
    apr_size_t len = strlen(core->d);

    if (core->r || core->d_is_fnmatch) {
        return "";
    }
    while (len && core->d[len - 1] == '/') {
        len--;
    }
    return strncmp(core->d, r->uri, len)
               ? ""
               : apr_pstrmemdup(r->pool, core->d, len);
}

const char *fcgi_origin_location(request_rec *r)
{
    const core_server_config *server =
        ap_get_core_module_config(r->server->module_config);
    const ap_expr_info_t *expr = set_handler_of(r->per_dir_config);
    int i;

    if (!expr || !set_handler_value(r)) {
        return NULL;
    }
    for (i = 0; i < server->sec_url->nelts; i++) {
        ap_conf_vector_t *section =
            APR_ARRAY_IDX(server->sec_url, i, ap_conf_vector_t *);

        if (section_has(section, expr, WITHOUT_FILES)) {
            return location_path(r, section);
        }
    }
    return section_has(r->server->lookup_defaults, expr, WITHOUT_FILES) ? ""
                                                                        : NULL;
}

int fcgi_origin_map(request_rec *r)
{
    ap_conf_vector_t *before = r->per_dir_config;
    const ap_expr_info_t *expr;
    const char *value;
    int is_virtual;

    if (!fcgi_config_any_virtual() || ap_location_walk(r) != OK) {
        return DECLINED;
    }
    expr = set_handler_of(r->per_dir_config);
    value = expr ? evaluate(r, expr) : NULL;
    is_virtual = fcgi_address_is_ours(value)
                 && fcgi_config_settings(r)->script == FCGI_SCRIPT_VIRTUAL;
    r->per_dir_config = before;
    return is_virtual ? OK : DECLINED;
}
