/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_config.c - directives, defaults and merging; the contract is in
 * fcgi_config.h. One table has all directives of the module.
 */
#include "fcgi_config.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <ap_expr.h>
#include <http_core.h>

#include "fcgi_allow.h"
#include "fcgi_declare.h"
#include "fcgi_log.h"
#include "fcgi_param.h"
#include "fcgi_stderr.h"

#define UNSET         (-1)
#define DEFAULT_RETRY APR_USEC_PER_SEC

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
    .park = APR_USEC_PER_SEC / 10,
    .retry = DEFAULT_RETRY,
    .script = FCGI_SCRIPT_AUTO,
    .error_override = 0,
    .document_root = "",
    .real_paths = 0,
};

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
    conf->park = UNSET;
    conf->retry = UNSET;
    conf->script = UNSET;
    conf->says_script = NULL;
    conf->error_override = UNSET;
    conf->error_codes = NULL;
    conf->allow = NULL;
    conf->params = NULL;
    conf->sendfile = NULL;
    conf->stderr_rules = NULL;
    conf->document_root = NULL;
    conf->real_paths = UNSET;
    return conf;
}

#define MERGE(field)         (add->field == UNSET ? base->field : add->field)
#define MERGE_POINTER(field) (add->field ? add->field : base->field)

/* Parameters add up: the outer ones first, the inner ones last. */
static const apr_array_header_t *append(apr_pool_t *pool,
                                        const apr_array_header_t *outer,
                                        const apr_array_header_t *inner)
{
    return outer && inner ? apr_array_append(pool, outer, inner)
           : inner        ? inner
                          : outer;
}

/* The section whose FcgiScript holds. */
static const fcgi_dir_config *says_script(const fcgi_dir_config *base,
                                          const fcgi_dir_config *add)
{
    const fcgi_dir_config *one = add->script == UNSET ? base : add;

    return one->says_script ? one->says_script : one;
}

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
    conf->buffer_dir = MERGE_POINTER(buffer_dir);
    conf->flush = MERGE(flush);
    conf->park = MERGE(park);
    conf->retry = MERGE(retry);
    conf->script = MERGE(script);
    conf->says_script = says_script(base, add);
    conf->error_override = MERGE(error_override);
    conf->error_codes = MERGE_POINTER(error_codes);
    conf->allow = MERGE_POINTER(allow);
    conf->params = append(pool, base->params, add->params);
    conf->sendfile = MERGE_POINTER(sendfile);
    conf->stderr_rules = MERGE_POINTER(stderr_rules);
    conf->document_root = MERGE_POINTER(document_root);
    conf->real_paths = MERGE(real_paths);
    return conf;
}

void *fcgi_config_merge_dir(apr_pool_t *pool, void *base, void *add)
{
    return merge(pool, base, add);
}

/* All settings of requests are merged from their server's, last of all those
 * of .htaccess files: none is unset once those are not. */
int fcgi_config_complete(apr_pool_t *pconf, apr_pool_t *plog,
                         apr_pool_t *ptemp, server_rec *s)
{
    (void)plog;
    (void)ptemp;
    for (; s; s = s->next) {
        const fcgi_dir_config *conf =
            ap_get_module_config(s->lookup_defaults, &fastcgi_handler_module);

        ap_set_module_config(s->lookup_defaults, &fastcgi_handler_module,
                             merge(pconf, &defaults, conf));
    }
    return OK;
}

const fcgi_dir_config *fcgi_config_settings(const request_rec *r)
{
    return ap_get_module_config(r->per_dir_config, &fastcgi_handler_module);
}

int fcgi_config_lets_park(const server_rec *s)
{
    const fcgi_dir_config *conf =
        ap_get_module_config(s->lookup_defaults, &fastcgi_handler_module);

    return conf->park != FCGI_PARK_NEVER;
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

/* Sets after how long a request gives its thread back: 0 is at once. */
static const char *set_park(cmd_parms *cmd, void *conf, const char *arg)
{
    fcgi_dir_config *dir = conf;

    if (!strcasecmp(arg, "off")) {
        dir->park = FCGI_PARK_NEVER;
        return NULL;
    }
    if (!apr_isdigit(*arg)
        || ap_timeout_parameter_parse(arg, &dir->park, "s") != APR_SUCCESS
        || dir->park < 0) {
        return apr_psprintf(cmd->pool,
                            "%s: '%s' is not a time or Off; write 0, or a "
                            "number and ms, s, min or h, like 100ms",
                            cmd->cmd->name, arg);
    }
    return NULL;
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

/* A field that is one of some words; its value is the word's index. */
typedef struct choice {
    apr_size_t field;
    const char *words[4]; /* up to three, then NULL */
    const char *wanted;   /* for messages */
} choice;

static const choice flush_choice = { APR_OFFSETOF(fcgi_dir_config, flush),
                                     { "Auto", "On", "Off", NULL },
                                     "Auto, On or Off" };
static const choice script_choice = { APR_OFFSETOF(fcgi_dir_config, script),
                                      { "Auto", "File", "Virtual", NULL },
                                      "Auto, File or Virtual" };

static const char *set_choice(cmd_parms *cmd, void *conf, const char *arg)
{
    const choice *among = cmd->info;
    int i = 0;

    while (among->words[i] && strcasecmp(among->words[i], arg)) {
        i++;
    }
    if (!among->words[i]) {
        return apr_psprintf(cmd->pool, "%s: '%s' is not %s", cmd->cmd->name,
                            arg, among->wanted);
    }
    *(int *)(void *)((char *)conf + among->field) = i;
    return NULL;
}

/* Safe, or with a time, or Off. */
static const char *set_retry(cmd_parms *cmd, void *conf, const char *what,
                             const char *within)
{
    apr_interval_time_t *field = field_at(conf, cmd);

    if (!strcasecmp(what, "off")) {
        *field = 0;
        return within ? "FcgiRetry: Off stands alone" : NULL;
    }
    if (strcasecmp(what, "safe")) {
        return apr_psprintf(cmd->pool, "%s: '%s' is not Safe or Off",
                            cmd->cmd->name, what);
    }
    *field = DEFAULT_RETRY;
    return within ? set_limit(cmd, conf, within) : NULL;
}

/* Sets what .htaccess files may name, in place of what the enclosing section
 * says. */
/* What opens something must not depend on a condition: in the request that it
 * looks at a .htaccess file may have had a part. */
static const char *refuse_condition(cmd_parms *cmd)
{
    const ap_directive_t *section = cmd->directive->parent;

    for (; section; section = section->parent) {
        if (!strcasecmp(section->directive, "<If")
            || !strcasecmp(section->directive, "<ElseIf")
            || !strcasecmp(section->directive, "<Else")) {
            return apr_psprintf(cmd->pool,
                                "%s cannot stand in %s>: a .htaccess file "
                                "could have a part in the condition",
                                cmd->cmd->name, section->directive);
        }
    }
    return NULL;
}

static const char *set_allow(cmd_parms *cmd, void *conf, int argc,
                             char *const argv[])
{
    fcgi_dir_config *dir = conf;
    const char *problem = refuse_condition(cmd);

    return problem ? problem : fcgi_allow_parse(cmd, argc, argv, &dir->allow);
}

static const char *add_param(cmd_parms *cmd, void *conf, const char *name,
                             const char *second, const char *third)
{
    fcgi_dir_config *dir = conf;
    apr_array_header_t *params =
        dir->params ? apr_array_copy(cmd->pool, dir->params)
                    : apr_array_make(cmd->pool, 1, sizeof(fcgi_param));

    dir->params = params;
    return fcgi_param_parse(cmd, name, second, third, params);
}

static const char *set_document_root(cmd_parms *cmd, void *conf,
                                     const char *arg)
{
    fcgi_dir_config *dir = conf;
    char *path;

    dir->real_paths = !strcasecmp(arg, "real");
    dir->document_root = "";
    if (dir->real_paths || !strcasecmp(arg, "off")) {
        return NULL;
    }
    if (arg[0] != '/') {
        return apr_psprintf(cmd->pool,
                            "%s: '%s' is not an absolute path, Real or Off",
                            cmd->cmd->name, arg);
    }
    path = apr_pstrdup(cmd->pool, arg);
    while (path[1] && path[strlen(path) - 1] == '/') {
        path[strlen(path) - 1] = '\0';
    }
    dir->document_root = path;
    return NULL;
}

/* Sets On or Off, and the statuses it holds for. */
static const char *set_error_override(cmd_parms *cmd, void *conf, int argc,
                                      char *const argv[])
{
    fcgi_dir_config *dir = conf;
    apr_array_header_t *codes = apr_array_make(cmd->pool, 1, sizeof(int));
    int i;

    if (!argc || (strcasecmp(argv[0], "on") && strcasecmp(argv[0], "off"))
        || (argc > 1 && !strcasecmp(argv[0], "off"))) {
        return apr_psprintf(cmd->pool, "%s: write On, On and statuses, or Off",
                            cmd->cmd->name);
    }
    for (i = 1; i < argc; i++) {
        int code = apr_isdigit(argv[i][0]) && strlen(argv[i]) == 3
                       ? (int)apr_atoi64(argv[i])
                       : 0;

        if (!ap_is_HTTP_ERROR(code)) {
            return apr_psprintf(cmd->pool,
                                "%s: '%s' is not a status from 400 to 599",
                                cmd->cmd->name, argv[i]);
        }
        APR_ARRAY_PUSH(codes, int) = code;
    }
    dir->error_override = !strcasecmp(argv[0], "on");
    dir->error_codes = codes;
    return NULL;
}

static const char *set_sendfile(cmd_parms *cmd, void *conf, int argc,
                                char *const argv[])
{
    fcgi_dir_config *dir = conf;
    apr_array_header_t *folders =
        apr_array_make(cmd->pool, 1, sizeof(const char *));
    const char *problem = refuse_condition(cmd);
    int i;

    if (problem) {
        return problem;
    }
    if (argc != 1 || strcasecmp(argv[0], "off")) {
        for (i = 0; i < argc && argv[i][0] == '/'; i++) {
            APR_ARRAY_PUSH(folders, const char *) =
                apr_pstrdup(cmd->pool, argv[i]);
        }
        if (!argc || i < argc) {
            return apr_psprintf(cmd->pool,
                                "%s: '%s' is not the absolute path of a "
                                "folder; write such paths, or Off",
                                cmd->cmd->name, argc ? argv[i] : "");
        }
    }
    dir->sendfile = folders;
    return NULL;
}

/* Adds a level for lines of stderr. */
static const char *add_stderr_level(cmd_parms *cmd, void *conf,
                                    const char *level, const char *pattern)
{
    fcgi_dir_config *dir = conf;
    fcgi_stderr_rule rule = { APLOG_ERR, NULL };
    apr_array_header_t *rules =
        dir->stderr_rules
            ? apr_array_copy(cmd->pool, dir->stderr_rules)
            : apr_array_make(cmd->pool, 1, sizeof(fcgi_stderr_rule));
    const char *problem = ap_parse_log_level(level, &rule.level);

    if (problem) {
        return apr_psprintf(cmd->pool, "%s: '%s': %s", cmd->cmd->name, level,
                            problem);
    }
    if (pattern) {
        rule.pattern = ap_pregcomp(cmd->pool, pattern, AP_REG_EXTENDED);
        if (!rule.pattern) {
            return apr_psprintf(cmd->pool,
                                "%s: '%s' is not a regular expression",
                                cmd->cmd->name, pattern);
        }
    }
    APR_ARRAY_PUSH(rules, fcgi_stderr_rule) = rule;
    dir->stderr_rules = rules;
    return NULL;
}

#define CHOICE(name)           ((void *)&(name))
#define FIELD(name)            ((void *)APR_OFFSETOF(fcgi_dir_config, name))
#define IN_SERVER_AND_SECTIONS (RSRC_CONF | ACCESS_CONF)

const command_rec fcgi_config_commands[] = {
    AP_INIT_TAKE_ARGV("FcgiBackend", fcgi_declare, NULL, RSRC_CONF,
                      "[name] address [key=value...]: an application, and "
                      "how many connections it gets (max, queue, "
                      "queue-timeout, keepalive, idle, requests, ttl)"),
    AP_INIT_TAKE12("FcgiRetry", set_retry, FIELD(retry),
                   IN_SERVER_AND_SECTIONS,
                   "Safe [time]: a request of a safe method is sent once more "
                   "when the application dies before its answer and within "
                   "that time (default Safe 1s); Off"),
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
    AP_INIT_TAKE1(
        "FcgiBufferMemory", set_memory_size, FIELD(buffer_memory),
        IN_SERVER_AND_SECTIONS,
        "how much of a body or an answer is held in memory before a file is "
        "used (default 64K)"),
    AP_INIT_TAKE1(
        "FcgiBufferMax", set_file_size, FIELD(buffer_max),
        IN_SERVER_AND_SECTIONS,
        "how much of a body or an answer is held at all (default 1G)"),
    AP_INIT_TAKE1("FcgiBufferDir", set_dir, FIELD(buffer_dir),
                  IN_SERVER_AND_SECTIONS,
                  "where bodies are held that are too large for memory "
                  "(default: the system's directory for such files)"),
    AP_INIT_TAKE1("FcgiFlush", set_choice, CHOICE(flush_choice), OR_FILEINFO,
                  "when the client gets a part of an answer: Auto, as soon "
                  "as the application pauses (default); On, each part; Off"),
    AP_INIT_TAKE1("FcgiPark", set_park, NULL, IN_SERVER_AND_SECTIONS,
                  "how long a waiting request holds its thread before it goes "
                  "on waiting without one, where httpd can (default 100ms); "
                  "Off: to its end"),
    AP_INIT_TAKE1("FcgiScript", set_choice, CHOICE(script_choice),
                  IN_SERVER_AND_SECTIONS,
                  "what a script may be: File, a regular file; Virtual, any "
                  "URL below a Location; Auto (default), a regular file, or "
                  "below a Location any URL that is none"),
    AP_INIT_TAKE_ARGV("FcgiAllow", set_allow, NULL, IN_SERVER_AND_SECTIONS,
                      "what .htaccess files may name: patterns of addresses, "
                      "names of FcgiBackend, Configured (all that the "
                      "server's configuration names), or None (default)"),
    AP_INIT_TAKE123("FcgiParam", add_param, NULL, OR_FILEINFO,
                    "NAME value, or !NAME, and then [expr=condition]: a "
                    "variable that is set or taken away after all others are "
                    "made"),
    AP_INIT_TAKE1("FcgiDocumentRoot", set_document_root, NULL,
                  IN_SERVER_AND_SECTIONS,
                  "where the application has DocumentRoot; Real: where it is "
                  "with all links followed; Off (default)"),
    AP_INIT_TAKE_ARGV("FcgiErrorOverride", set_error_override, NULL,
                      OR_FILEINFO,
                      "On: the site's ErrorDocument in place of the "
                      "application's errors, or of some statuses; Off "
                      "(default)"),
    AP_INIT_TAKE_ARGV("FcgiSendfile", set_sendfile, NULL,
                      IN_SERVER_AND_SECTIONS,
                      "folders whose files the application may have sent by "
                      "X-Sendfile, or Off (default)"),
    AP_INIT_TAKE12("FcgiStderrLevel", add_stderr_level, NULL,
                   IN_SERVER_AND_SECTIONS,
                   "the level of the application's stderr in the log "
                   "(default error), or of lines that match a pattern"),
    { NULL, { NULL }, NULL, 0, RAW_ARGS, NULL },
};
