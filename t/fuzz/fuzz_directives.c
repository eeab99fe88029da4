/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fuzz_directives.c - what an administrator, or a .htaccess file, may write:
 * addresses, and every directive of the module.
 *
 * Each line of an input is a byte, the number of a directive ('?': an address
 * alone), and its words, split at bytes of 1. What is refused says why; what is accepted
 * lies in its range, is what a reader of docs/directives.rst would take it
 * for, and means the same when it is read a second time. httpd is doubled
 * here; t/fuzz/run builds and runs it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>

#include <ap_expr.h>
#include <http_core.h>

#include "fcgi_address.h"
#include "fcgi_config.h"
#include "fcgi_declare.h"
#include "fcgi_known.h"
#include "fcgi_log.h"
#include "t/unit/httpd_doubles.h"

#define MAX_WORDS 6
#define MAX_LINES 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

module AP_MODULE_DECLARE_DATA fastcgi_handler_module = { 0 };

static void check(int fact, const char *what, int line)
{
    if (!fact) {
        fprintf(stderr, "line %d: not so: %s\n", line, what);
        abort();
    }
}

#define require(fact) check((fact) != 0, #fact, __LINE__)

/* ---- httpd ---- */

/* A number and h, min, s, ms or us, as docs/directives.rst has it. */
apr_status_t ap_timeout_parameter_parse(const char *text,
                                        apr_interval_time_t *time,
                                        const char *unit)
{
    static const struct {
        const char *name;
        apr_int64_t time;
    } units[] = { { "h", APR_INT64_C(3600000000) },
                  { "min", 60000000 },
                  { "mi", 60000000 },
                  { "s", 1000000 },
                  { "ms", 1000 },
                  { "us", 1 } };
    apr_int64_t number = 0;
    size_t i;

    for (; *text >= '0' && *text <= '9'; text++) {
        if (number > APR_INT64_MAX / 10 - 9) {
            return APR_ERANGE;
        }
        number = number * 10 + *text - '0';
    }
    unit = *text ? text : unit;
    for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (!ap_cstr_casecmp(unit, units[i].name)) {
            if (number > APR_INT64_MAX / units[i].time) {
                return APR_ERANGE;
            }
            *time = number * units[i].time;
            return APR_SUCCESS;
        }
    }
    return APR_EGENERAL;
}

void ap_str_tolower(char *text)
{
    for (; *text; text++) {
        *text = (char)lower(*text);
    }
}

const char *ap_set_flag_slot(cmd_parms *cmd, void *conf, int on)
{
    *(int *)(void *)((char *)conf + (apr_size_t)cmd->info) = on != 0;
    return NULL;
}

char *ap_server_root_relative(apr_pool_t *pool, const char *path)
{
    return strlen(path) > 200 ? NULL : apr_pstrdup(pool, path);
}

int ap_is_directory(apr_pool_t *pool, const char *path)
{
    (void)pool;
    return path[0] == '/';
}

const char *ap_parse_log_level(const char *text, int *level)
{
    *level = APLOG_INFO;
    return strcasecmp(text, "info") ? "it is no level" : NULL;
}

ap_regex_t *ap_pregcomp(apr_pool_t *pool, const char *pattern, int flags)
{
    (void)flags;
    return strchr(pattern, '(') ? NULL : apr_pcalloc(pool, sizeof(ap_regex_t));
}

/* Two of them, by their text. */
ap_expr_info_t *ap_expr_parse_cmd_mi(const cmd_parms *cmd, const char *text,
                                     unsigned int flags, const char **problem,
                                     ap_expr_lookup_fn_t *look_up, int index)
{
    ap_expr_info_t *expr = apr_pcalloc(cmd->pool, sizeof(*expr));

    (void)flags;
    (void)look_up;
    (void)index;
    *problem = strchr(text, '%') ? "it has a %" : NULL;
    return *problem ? NULL : expr;
}

int ap_expr_exec_re(request_rec *r, const ap_expr_info_t *expr,
                    apr_size_t count, ap_regmatch_t *found,
                    const char **source, const char **problem)
{
    (void)r;
    (void)expr;
    (void)count;
    (void)found;
    (void)source;
    (void)problem;
    abort();
}

const char *ap_expr_str_exec_re(request_rec *r, const ap_expr_info_t *expr,
                                apr_size_t count, ap_regmatch_t *found,
                                const char **source, const char **problem)
{
    (void)r;
    (void)expr;
    (void)count;
    (void)found;
    (void)source;
    (void)problem;
    abort();
}

void ap_log_rerror_(const char *file, int line, int index, int level,
                    apr_status_t rv, const request_rec *r, const char *fmt,
                    ...)
{
    (void)file;
    (void)line;
    (void)index;
    (void)level;
    (void)rv;
    (void)r;
    (void)fmt;
    abort();
}

void ap_log_error_(const char *file, int line, int index, int level,
                   apr_status_t rv, const server_rec *s, const char *fmt, ...)
{
    char text[MAX_STRING_LEN];
    va_list args;

    (void)file;
    (void)line;
    (void)index;
    (void)level;
    (void)rv;
    (void)s;
    va_start(args, fmt);
    apr_vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    require(!strncmp(text, "FCGI", 4));
}

/* ---- the module's own that are of no account here ---- */

fcgi_instant fcgi_clock_now(void)
{
    return 1;
}

fcgi_backend *fcgi_backend_create(apr_pool_t *pool,
                                  const fcgi_address *address)
{
    fcgi_backend *backend = apr_pcalloc(pool, sizeof(*backend));

    backend->address = address;
    backend->name = address->name;
    backend->line = apr_pcalloc(pool, sizeof(*backend->line));
    return backend;
}

fcgi_account *fcgi_stats_open_configured(const char *name)
{
    (void)name;
    abort();
}

fcgi_account *fcgi_stats_open_spare(const char *name)
{
    (void)name;
    return NULL;
}

int fcgi_stats_open_line(fcgi_account *account)
{
    (void)account;
    abort();
}

/* ---- addresses ---- */

static int is_port(const char *text)
{
    size_t len = strspn(text, "0123456789");

    return len && !text[len] && strtoul(text, NULL, 10) >= 1
           && strtoul(text, NULL, 10) <= 65535;
}

/* Looks at the name that an address was given, which people read and write. */
static void check_address(apr_pool_t *pool, const fcgi_address *address)
{
    const char *name = address->name;
    fcgi_address *again = NULL;

    require(!strncmp(name, "fcgi:", 5));
    require(!address->path != !address->host);
    if (address->path) {
        require(address->path[0] == '/' && strlen(address->path) < 108);
        require(address->socket != NULL);
        require(!strstr(address->path, "/../")
                && !strstr(address->path, "//"));
    }
    else {
        require(*address->host && address->port > 0);
        require(!strpbrk(address->host, "/ []|"));
        require(is_port(strrchr(name, ':') + 1));
    }
    require(!fcgi_address_parse(pool, name, &again));
    require(!strcmp(again->name, name) && again->port == address->port);
}

static void try_address(apr_pool_t *pool, const char *text)
{
    const char *handler = apr_pstrcat(pool, "fcgi:", text, NULL);
    fcgi_address *address = NULL;
    const char *problem = fcgi_address_parse(pool, handler, &address);

    require(!problem == (address != NULL));
    require(!problem || *problem);
    if (address) {
        require(!fcgi_address_check_spelling(pool, handler));
        check_address(pool, address);
    }
    fcgi_address_check_spelling(pool, text);
}

/* ---- directives ---- */

/* A size as docs/directives.rst has it, or -1. */
static double size_of(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    const char *unit = text + digits;
    double size = digits ? strtod(text, NULL) : -1;

    return !digits || (*unit && unit[1]) ? -1
           : !*unit                      ? size
           : strchr("kK", *unit)         ? size * 1024
           : strchr("mM", *unit)         ? size * 1024 * 1024
           : strchr("gG", *unit)         ? size * 1024 * 1024 * 1024
                                         : -1;
}

/* What a directive said is in its range, and is what it said. */
static void check_settings(const fcgi_dir_config *conf, const char *name,
                           const char *word)
{
    const double sized = size_of(word);

    if (!strcmp(name, "FcgiMaxHeaderSize")) {
        require((double)conf->max_header_size == sized);
        require(sized >= 256 && sized <= 1024.0 * 1024 * 1024);
    }
    if (!strcmp(name, "FcgiBufferMemory")) {
        require((double)conf->buffer_memory == sized);
        require(sized >= 256 && sized <= 1024.0 * 1024 * 1024);
    }
    if (!strcmp(name, "FcgiBufferMax")) {
        require((double)conf->buffer_max == sized && sized >= 256);
    }
    require(conf->connect_timeout == -1 || conf->connect_timeout > 0);
    require(conf->timeout == -1 || conf->timeout > 0);
    require(conf->first_byte_timeout >= -1 && conf->total_timeout >= -1);
    require(conf->park >= -1 && conf->retry >= -1);
    require(conf->flush >= -1 && conf->flush <= FCGI_FLUSH_OFF);
    require(conf->script >= -1 && conf->script <= FCGI_SCRIPT_VIRTUAL);
}

/* Calls what a directive calls, if httpd would with so many words. */
static const char *call(cmd_parms *cmd, void *conf, int count, char **words)
{
    const command_rec *directive = cmd->cmd;

    switch (directive->args_how) {
    case TAKE_ARGV:
        return directive->AP_TAKE_ARGV(cmd, conf, count, words);
    case FLAG:
        return count != 1 ? "one word"
                          : directive->AP_FLAG(cmd, conf,
                                               !strcasecmp(words[0], "on"));
    case TAKE1:
        return count != 1 ? "one word"
                          : directive->AP_TAKE1(cmd, conf, words[0]);
    case TAKE12:
        return count < 1 || count > 2
                   ? "one word or two"
                   : directive->AP_TAKE2(cmd, conf, words[0], words[1]);
    case TAKE123:
        return count < 1 || count > 3
                   ? "one to three words"
                   : directive->AP_TAKE3(cmd, conf, words[0], words[1],
                                         count > 1 ? words[2] : NULL);
    default:
        abort();
    }
}

static const command_rec *directive_at(int number)
{
    int count = 0;

    while (fcgi_config_commands[count].name) {
        count++;
    }
    return &fcgi_config_commands[number % count];
}

/* A directive of a file's line. What is refused ends the reading, as httpd
 * does; else it is accepted once more, for a file may be read twice. */
static int try_directive(apr_pool_t *pool, fcgi_dir_config *conf, int number,
                         char **words)
{
    ap_directive_t section = { .directive = "<If" };
    ap_directive_t directive = { .filename = "httpd.conf", .line_num = 1 };
    cmd_parms cmd = { .pool = pool, .directive = &directive };
    const char *problem;
    int count = 0;

    directive.parent = number & 0x40 ? &section : NULL;
    cmd.temp_pool = number & 0x80 ? pool : NULL;
    cmd.cmd = directive_at(number & 0x3f);
    cmd.info = cmd.cmd->cmd_data;
    while (words[count]) {
        count++;
    }
    problem = call(&cmd, conf, count, words);
    require(!problem || *problem);
    if (problem) {
        return 0;
    }
    check_settings(conf, cmd.cmd->name, count ? words[0] : "");
    require(!call(&cmd, conf, count, words));
    return 1;
}

/* ---- a file ---- */

/* Cuts text at each byte that is separator. Ends with NULL. */
static void split(char *text, char separator, char **parts, int most)
{
    int count = 0;

    while (text && count < most) {
        parts[count++] = text;
        text = strchr(text, separator);
        if (text) {
            *text++ = '\0';
        }
    }
    parts[count] = NULL;
}

static void check_backends(apr_pool_t *pool)
{
    if (fcgi_declare_complete(pool, pool, pool, NULL) == OK) {
        fcgi_declare_log(NULL);
    }
}

static int check_known(void *baton, fcgi_known *known)
{
    const fcgi_backend *found = NULL;
    fcgi_address *address = NULL;

    require(!fcgi_known_find(baton, known->backend->name, known->backend->name,
                             &found, &address));
    require(found == known->backend);
    require(!known->alias
            || fcgi_known_named(baton, known->alias) == known->backend);
    return 0;
}

static void read_file(apr_pool_t *pool, char *text)
{
    fcgi_dir_config *conf = fcgi_config_create_dir(pool, NULL);
    char *lines[MAX_LINES + 1], *words[MAX_WORDS + 1];
    int is_right = 1, i;

    split(text, '\n', lines, MAX_LINES);
    for (i = 0; lines[i] && is_right; i++) {
        int number = (unsigned char)lines[i][0];

        if (!number) {
            continue;
        }
        split(lines[i] + 1, 1, words, MAX_WORDS);
        if (number == '?') {
            try_address(pool, lines[i] + 1);
        }
        else {
            is_right = try_directive(pool, conf, number, words);
        }
    }
    if (is_right) {
        fcgi_known_each(check_known, pool);
        check_backends(pool);
        fcgi_config_merge_dir(pool, conf, fcgi_config_create_dir(pool, NULL));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static apr_pool_t *process;
    apr_pool_t *pool;

    if (!process) {
        require(apr_initialize() == APR_SUCCESS);
        require(apr_pool_create(&process, NULL) == APR_SUCCESS);
        require(fcgi_address_start(process) == APR_SUCCESS);
    }
    require(apr_pool_create(&pool, process) == APR_SUCCESS);
    fcgi_known_start(pool);
    read_file(pool, apr_pstrmemdup(pool, (const char *)data, len));
    apr_pool_destroy(pool);
    return 0;
}
