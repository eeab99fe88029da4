/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_config.c - directives, defaults and merging; the contract is in
 * fcgi_config.h. It reads core's per-directory settings, for the section a
 * SetHandler stands in. Which backends there are is fcgi_known.c's.
 */
#include "fcgi_config.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <ap_expr.h>
#include <http_core.h>

#include "fcgi_known.h"

#define UNSET (-1)

static const fcgi_dir_config defaults = {
    .connect_timeout = APR_USEC_PER_SEC * 5,
    .timeout = APR_USEC_PER_SEC * 60,
    .first_byte_timeout = 0,
    .total_timeout = 0,
    .max_header_size = 64 * 1024,
    .ignore_client_abort = 0,
    .request_buffering = 1,
    .buffer_memory = 64 * 1024,
    .buffer_max = 1024 * 1024 * 1024,
    .buffer_dir = NULL,
    .flush = FCGI_FLUSH_AUTO,
    .retry = 1,
};

/* What a request's SetHandler gave, see fcgi_config_remember(). */
typedef struct remembered {
    const ap_expr_info_t *expr;
    const char *value;
} remembered;

void *fcgi_config_create_dir(apr_pool_t *pool, char *dir)
{
    fcgi_dir_config *conf = apr_palloc(pool, sizeof(*conf));

    (void)dir;
    conf->connect_timeout = UNSET;
    conf->timeout = UNSET;
    conf->first_byte_timeout = UNSET;
    conf->total_timeout = UNSET;
    conf->max_header_size = UNSET;
    conf->ignore_client_abort = UNSET;
    conf->request_buffering = UNSET;
    conf->buffer_memory = UNSET;
    conf->buffer_max = UNSET;
    conf->buffer_dir = NULL;
    conf->flush = UNSET;
    conf->retry = UNSET;
    return conf;
}

#define MERGE(field) (add->field == UNSET ? base->field : add->field)

static fcgi_dir_config *merge(apr_pool_t *pool, const fcgi_dir_config *base,
                              const fcgi_dir_config *add)
{
    fcgi_dir_config *conf = apr_palloc(pool, sizeof(*conf));

    conf->connect_timeout = MERGE(connect_timeout);
    conf->timeout = MERGE(timeout);
    conf->first_byte_timeout = MERGE(first_byte_timeout);
    conf->total_timeout = MERGE(total_timeout);
    conf->max_header_size = MERGE(max_header_size);
    conf->ignore_client_abort = MERGE(ignore_client_abort);
    conf->request_buffering = MERGE(request_buffering);
    conf->buffer_memory = MERGE(buffer_memory);
    conf->buffer_max = MERGE(buffer_max);
    conf->buffer_dir = add->buffer_dir ? add->buffer_dir : base->buffer_dir;
    conf->flush = MERGE(flush);
    conf->retry = MERGE(retry);
    return conf;
}

void *fcgi_config_merge_dir(apr_pool_t *pool, void *base, void *add)
{
    return merge(pool, base, add);
}

const fcgi_dir_config *fcgi_config_settings(request_rec *r)
{
    return merge(
        r->pool, &defaults,
        ap_get_module_config(r->per_dir_config, &fastcgi_handler_module));
}

static void *field_at(void *conf, const cmd_parms *cmd)
{
    return (char *)conf + (apr_size_t)cmd->info;
}

/* Sets a time field. httpd's syntax: a number and ms, s (default), min, h. */
static const char *set_limit(cmd_parms *cmd, void *conf, const char *arg)
{
    apr_interval_time_t *field = field_at(conf, cmd);

    if (!apr_isdigit(*arg)
        || ap_timeout_parameter_parse(arg, field, "s") != APR_SUCCESS
        || *field <= 0) {
        return apr_psprintf(cmd->pool,
                            "%s: '%s' is not a time above zero; write a "
                            "number and ms, s, min or h, like 5, 500ms, 2min",
                            cmd->cmd->name, arg);
    }
    return NULL;
}

/* Sets a time field that can also be off. */
static const char *set_limit_or_off(cmd_parms *cmd, void *conf,
                                    const char *arg)
{
    if (!strcasecmp(arg, "off")) {
        *(apr_interval_time_t *)field_at(conf, cmd) = 0;
        return NULL;
    }
    return set_limit(cmd, conf, arg);
}

/* Reads a size: bytes, or with K, M or G. Returns -1 if it is none. */
static apr_off_t parse_size(const char *arg)
{
    static const char units[] = "KMG";
    const char *unit;
    apr_off_t size;
    char *end;

    if (!apr_isdigit(*arg)
        || apr_strtoff(&size, arg, &end, 10) != APR_SUCCESS) {
        return -1;
    }
    if (*end) {
        unit = strchr(units, apr_toupper(*end));
        if (!unit || end[1]) {
            return -1;
        }
        for (; unit >= units; unit--) {
            if (size > APR_INT64_MAX / 1024) {
                return -1;
            }
            size *= 1024;
        }
    }
    return size;
}

static const char *set_size_up_to(cmd_parms *cmd, void *conf, const char *arg,
                                  apr_off_t highest)
{
    const apr_off_t lowest = 256;
    apr_off_t size = parse_size(arg);

    if (size < lowest || size > highest) {
        return apr_psprintf(cmd->pool,
                            "%s: '%s' is not a size from %" APR_OFF_T_FMT
                            " bytes to %" APR_OFF_T_FMT "M; write a number, "
                            "alone or with K, M or G, like 64K",
                            cmd->cmd->name, arg, lowest,
                            highest / (1024 * 1024));
    }
    *(apr_off_t *)field_at(conf, cmd) = size;
    return NULL;
}

/* Sets a field for bytes in memory. */
static const char *set_memory_size(cmd_parms *cmd, void *conf, const char *arg)
{
    return set_size_up_to(cmd, conf, arg, (apr_off_t)1024 * 1024 * 1024);
}

/* Sets a field for bytes in a file. */
static const char *set_file_size(cmd_parms *cmd, void *conf, const char *arg)
{
    return set_size_up_to(cmd, conf, arg,
                          (apr_off_t)1024 * 1024 * 1024 * 1024 * 1024);
}

static const char *set_dir(cmd_parms *cmd, void *conf, const char *arg)
{
    const char **field = field_at(conf, cmd);

    *field = ap_server_root_relative(cmd->pool, arg);
    if (!*field || !ap_is_directory(cmd->pool, *field)) {
        return apr_psprintf(cmd->pool,
                            "%s: '%s' is not a directory; make it, writable "
                            "for httpd's user",
                            cmd->cmd->name, arg);
    }
    return NULL;
}

static const char *set_flush(cmd_parms *cmd, void *conf, const char *arg)
{
    int *field = field_at(conf, cmd);

    if (!strcasecmp(arg, "auto")) {
        *field = FCGI_FLUSH_AUTO;
    }
    else if (!strcasecmp(arg, "on")) {
        *field = FCGI_FLUSH_ON;
    }
    else if (!strcasecmp(arg, "off")) {
        *field = FCGI_FLUSH_OFF;
    }
    else {
        return apr_psprintf(cmd->pool, "%s: '%s' is not Auto, On or Off",
                            cmd->cmd->name, arg);
    }
    return NULL;
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

int fcgi_config_remember(request_rec *r)
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

const char *fcgi_config_backend(request_rec *r, const fcgi_backend **backend)
{
    return fcgi_known_find(r->pool, r->handler, set_handler_value(r), backend);
}

/* True if this SetHandler stands in a section or in an <If> inside it. */
static int section_has(ap_conf_vector_t *section, const ap_expr_info_t *expr)
{
    const core_dir_config *core = ap_get_core_module_config(section);
    int i;

    if (!core) {
        return 0;
    }
    if (core->expr_handler == expr) {
        return 1;
    }
    for (i = 0; core->sec_if && i < core->sec_if->nelts; i++) {
        if (section_has(APR_ARRAY_IDX(core->sec_if, i, ap_conf_vector_t *),
                        expr)) {
            return 1;
        }
    }
    return 0;
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

const char *fcgi_config_location(request_rec *r)
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

        if (section_has(section, expr)) {
            return location_path(r, section);
        }
    }
    return section_has(r->server->lookup_defaults, expr) ? "" : NULL;
}

static const char *set_retry(cmd_parms *cmd, void *conf, const char *arg)
{
    int *field = field_at(conf, cmd);

    if (strcasecmp(arg, "safe") && strcasecmp(arg, "off")) {
        return apr_psprintf(cmd->pool, "%s: '%s' is not Safe or Off",
                            cmd->cmd->name, arg);
    }
    *field = strcasecmp(arg, "off") != 0;
    return NULL;
}

#define FIELD(name)            ((void *)APR_OFFSETOF(fcgi_dir_config, name))
#define IN_SERVER_AND_SECTIONS (RSRC_CONF | ACCESS_CONF)

const command_rec fcgi_config_commands[] = {
    AP_INIT_TAKE_ARGV("FcgiBackend", fcgi_known_declare, NULL, RSRC_CONF,
                      "[name] address [key=value...]: an application, and "
                      "how many connections it gets (max, queue, "
                      "queue-timeout, keepalive, idle, requests, ttl)"),
    AP_INIT_TAKE1("FcgiRetry", set_retry, FIELD(retry), IN_SERVER_AND_SECTIONS,
                  "Safe: a request of a safe method is sent once more when "
                  "the application dies before its answer (default); Off"),
    AP_INIT_TAKE1("FcgiConnectTimeout", set_limit, FIELD(connect_timeout),
                  IN_SERVER_AND_SECTIONS,
                  "how long to try to get a connection (default 5s)"),
    AP_INIT_TAKE1("FcgiTimeout", set_limit, FIELD(timeout),
                  IN_SERVER_AND_SECTIONS,
                  "how long no byte may move in either direction "
                  "(default 60s)"),
    AP_INIT_TAKE1("FcgiFirstByteTimeout", set_limit_or_off,
                  FIELD(first_byte_timeout), IN_SERVER_AND_SECTIONS,
                  "how long to wait for the first byte of the answer, or off "
                  "(default)"),
    AP_INIT_TAKE1("FcgiTotalTimeout", set_limit_or_off, FIELD(total_timeout),
                  IN_SERVER_AND_SECTIONS,
                  "how long a whole exchange may take, or off (default)"),
    AP_INIT_TAKE1("FcgiMaxHeaderSize", set_memory_size, FIELD(max_header_size),
                  IN_SERVER_AND_SECTIONS,
                  "the largest header block an application may answer with "
                  "(default 64K)"),
    AP_INIT_FLAG("FcgiIgnoreClientAbort", ap_set_flag_slot,
                 FIELD(ignore_client_abort), OR_FILEINFO,
                 "On: the application may finish when the client has gone "
                 "(default Off)"),
    AP_INIT_FLAG("FcgiRequestBuffering", ap_set_flag_slot,
                 FIELD(request_buffering), IN_SERVER_AND_SECTIONS,
                 "On: a request's body is here before the application is "
                 "asked (default); Off: it is streamed"),
    AP_INIT_TAKE1("FcgiBufferMemory", set_memory_size, FIELD(buffer_memory),
                  IN_SERVER_AND_SECTIONS,
                  "how much of a body is held in memory before a file is "
                  "used (default 64K)"),
    AP_INIT_TAKE1("FcgiBufferMax", set_file_size, FIELD(buffer_max),
                  IN_SERVER_AND_SECTIONS,
                  "how much of a body is held at all (default 1G)"),
    AP_INIT_TAKE1("FcgiBufferDir", set_dir, FIELD(buffer_dir),
                  IN_SERVER_AND_SECTIONS,
                  "where bodies are held that are too large for memory "
                  "(default: the system's directory for such files)"),
    AP_INIT_TAKE1("FcgiFlush", set_flush, FIELD(flush), OR_FILEINFO,
                  "when the client gets a part of an answer: Auto, as soon "
                  "as the application pauses (default); On, each part; Off"),
    { NULL, { NULL }, NULL, 0, RAW_ARGS, NULL },
};
