/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_declare.c - FcgiBackend; the contract is in fcgi_declare.h.
 */
#include "fcgi_declare.h"

#include <limits.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include "fcgi_known.h"
#include "fcgi_log.h"

APLOG_USE_MODULE(fastcgi_handler);

/* What FcgiBackend's keys are. */
typedef enum {
    KEY_MAX,
    KEY_QUEUE,
    KEY_QUEUE_TIMEOUT,
    KEY_KEEPALIVE,
    KEY_IDLE,
    KEY_REQUESTS,
    KEY_LIFETIME,
    KEY_TTL,
    KEY_COUNT
} key_index;

#define UNSET    (-1)
#define HIGHEST  65535
#define SECONDS  APR_USEC_PER_SEC
#define ONE_YEAR (365 * 24 * 3600 * SECONDS)

/* Each key with its default and its range. */
static const struct key {
    const char *name;
    int is_time; /* in microseconds */
    apr_int64_t value, lowest, highest;
} keys[KEY_COUNT] = {
    [KEY_MAX] = { "max", 0, 0, 1, HIGHEST },
    [KEY_QUEUE] = { "queue", 0, 100, 0, FCGI_LINE_MAX },
    [KEY_QUEUE_TIMEOUT] = { "queue-timeout", 1, 10 * SECONDS, 1, ONE_YEAR },
    [KEY_KEEPALIVE] = { "keepalive", 0, 0, 0, HIGHEST },
    [KEY_IDLE] = { "idle", 1, 30 * SECONDS, 1, ONE_YEAR },
    [KEY_REQUESTS] = { "requests", 0, 0, 1, INT_MAX },
    [KEY_LIFETIME] = { "lifetime", 1, 0, 1, ONE_YEAR },
    [KEY_TTL] = { "ttl", 1, 60 * SECONDS, 1, ONE_YEAR },
};

/* What FcgiBackend says of a backend. */
typedef struct fcgi_declared {
    apr_int64_t values[KEY_COUNT]; /* UNSET: not said */
    const char *where[KEY_COUNT];  /* the file and line that says so; NULL:
                                    * another module does */
} fcgi_declared;

static const fcgi_declared nothing_declared = {
    { UNSET, UNSET, UNSET, UNSET, UNSET, UNSET, UNSET, UNSET }, { NULL }
};

static const fcgi_declared *declared_of(const fcgi_known *known)
{
    return known->declared ? known->declared : &nothing_declared;
}

static const char *parse_number(const char *text, apr_int64_t *value)
{
    char *end;

    *value = apr_isdigit(*text) ? apr_strtoi64(text, &end, 10) : UNSET;
    return *value == UNSET || *end ? "a number" : NULL;
}

static const char *parse_time(const char *text, apr_int64_t *value)
{
    apr_interval_time_t time;

    if (!apr_isdigit(*text)
        || ap_timeout_parameter_parse(text, &time, "s") != APR_SUCCESS) {
        return "a time, a number and ms, s, min or h";
    }
    *value = time;
    return NULL;
}

/* Parses key=value. Returns NULL or what is wrong. */
static const char *parse_setting(apr_pool_t *pool, const char *text,
                                 key_index *index, apr_int64_t *value)
{
    const char *equal = strchr(text, '=');
    const char *wanted;
    int key = 0;

    if (!equal) {
        return apr_psprintf(pool, "'%s' is not key=value", text);
    }
    while (key < KEY_COUNT
           && (strlen(keys[key].name) != (apr_size_t)(equal - text)
               || strncasecmp(keys[key].name, text,
                              (apr_size_t)(equal - text)))) {
        key++;
    }
    if (key == KEY_COUNT) {
        return apr_psprintf(pool,
                            "'%s': there is max=, queue=, queue-timeout=, "
                            "keepalive=, idle=, requests=, lifetime= and "
                            "ttl=",
                            text);
    }
    *index = (key_index)key;
    wanted = keys[key].is_time ? parse_time(equal + 1, value)
                               : parse_number(equal + 1, value);
    if (!wanted && (*value < keys[key].lowest || *value > keys[key].highest)) {
        wanted = keys[key].is_time
                     ? "a time above zero"
                     : apr_psprintf(pool,
                                    "a number from %" APR_INT64_T_FMT
                                    " to %" APR_INT64_T_FMT,
                                    keys[key].lowest, keys[key].highest);
    }
    return wanted ? apr_psprintf(pool, "'%s' is not %s", text, wanted) : NULL;
}

/* Sets a key of a backend. Returns NULL, or that it was said otherwise. */
static const char *set_key(cmd_parms *cmd, fcgi_declared *declared,
                           const char *text)
{
    apr_int64_t value = UNSET;
    key_index key = KEY_COUNT;
    const char *problem = parse_setting(cmd->pool, text, &key, &value);

    if (problem) {
        return problem;
    }
    if (declared->values[key] != UNSET && declared->values[key] != value) {
        return apr_psprintf(cmd->pool,
                            "'%s': %s says otherwise of the same address",
                            text, declared->where[key]);
    }
    declared->values[key] = value;
    declared->where[key] =
        apr_psprintf(cmd->pool, "line %d of %s", cmd->directive->line_num,
                     cmd->directive->filename);
    return NULL;
}

static fcgi_declared *get_declared(apr_pool_t *pool, fcgi_known *known)
{
    if (!known->declared) {
        known->declared =
            apr_pmemdup(pool, &nothing_declared, sizeof(nothing_declared));
    }
    return known->declared;
}

static const char *set_keys(cmd_parms *cmd, fcgi_known *known, int argc,
                            char *const argv[])
{
    fcgi_declared *declared = get_declared(cmd->pool, known);
    const char *problem = NULL;
    int i;

    for (i = 0; i < argc && !problem; i++) {
        problem = set_key(cmd, declared, argv[i]);
    }
    return problem;
}

const char *fcgi_declare_default(apr_pool_t *pool, const char *address,
                                 const char *const *settings)
{
    const char *problem;
    fcgi_address *parsed;
    fcgi_declared *declared;

    problem = fcgi_address_parse(pool, address, &parsed);
    if (problem) {
        return problem;
    }
    declared = get_declared(pool, fcgi_known_enter(pool, parsed));
    for (; *settings && !problem; settings++) {
        apr_int64_t value = UNSET;
        key_index key = KEY_COUNT;

        problem = parse_setting(pool, *settings, &key, &value);
        if (!problem && !declared->where[key]
            && value > declared->values[key]) {
            declared->values[key] = value;
        }
    }
    return problem;
}

static const char *declare(cmd_parms *cmd, int argc, char *const argv[])
{
    int has_name = argc > 1 && !strpbrk(argv[0], "/:");
    const char *problem, *text;
    fcgi_address *address;
    fcgi_known *known;

    if (!argc) {
        return "write [name] address [key=value...]";
    }
    text = fcgi_address_is_ours(argv[has_name])
               ? argv[has_name]
               : apr_pstrcat(cmd->pool, FCGI_HANDLER_PREFIX, argv[has_name],
                             NULL);
    problem = fcgi_address_parse(cmd->pool, text, &address);
    if (!problem) {
        /* so that httpd's lower-cased spelling of it is understood */
        problem = fcgi_known_enter_handler(cmd->pool, text, 0);
    }
    if (problem) {
        return problem;
    }
    known = fcgi_known_enter(cmd->pool, address);
    if (has_name) {
        problem = fcgi_known_set_name(cmd->pool, known, argv[0]);
    }
    return problem ? problem
                   : set_keys(cmd, known, argc - has_name - 1,
                              argv + has_name + 1);
}

const char *fcgi_declare(cmd_parms *cmd, void *conf, int argc,
                         char *const argv[])
{
    const char *problem = declare(cmd, argc, argv);

    (void)conf;
    return problem
               ? apr_pstrcat(cmd->pool, cmd->cmd->name, ": ", problem, NULL)
               : NULL;
}

/* ---- in all ---- */

static apr_int64_t value_of(const fcgi_known *known, key_index key)
{
    apr_int64_t value = declared_of(known)->values[key];

    return value == UNSET ? keys[key].value : value;
}

/* What two keys say together must make sense. Returns NULL, or the file and
 * line of the key that does not. */
static const char *check_together(const fcgi_declared *declared)
{
    if (declared->values[KEY_MAX] == UNSET) {
        return declared->values[KEY_QUEUE] != UNSET
                   ? declared->where[KEY_QUEUE]
               : declared->values[KEY_QUEUE_TIMEOUT] != UNSET
                   ? declared->where[KEY_QUEUE_TIMEOUT]
                   : NULL;
    }
    return declared->values[KEY_KEEPALIVE] > declared->values[KEY_MAX]
                   && declared->where[KEY_MAX]
               ? declared->where[KEY_KEEPALIVE]
               : NULL;
}

static void apply(apr_pool_t *pool, fcgi_known *known)
{
    fcgi_backend *backend = known->backend;
    fcgi_limits *limits = &backend->line->limits;

    limits->max = (apr_uint32_t)value_of(known, KEY_MAX);
    limits->queue = (apr_uint32_t)value_of(known, KEY_QUEUE);
    limits->keepalive = (apr_uint32_t)value_of(known, KEY_KEEPALIVE);
    if (limits->max && limits->keepalive > limits->max) {
        limits->keepalive = limits->max; /* not both are FcgiBackend's */
    }
    backend->queue_timeout = value_of(known, KEY_QUEUE_TIMEOUT);
    backend->idle_time = value_of(known, KEY_IDLE);
    backend->requests = (apr_uint32_t)value_of(known, KEY_REQUESTS);
    backend->lifetime = value_of(known, KEY_LIFETIME);
    fcgi_address_remember(known->address, pool, value_of(known, KEY_TTL));
}

static int complete(void *pool, fcgi_known *known)
{
    const char *where = check_together(declared_of(known));

    if (where) {
        ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_EMERG, 0, NULL,
                     FCGI_LOGNO("20") "Syntax error on %s: FcgiBackend: %s",
                     where,
                     declared_of(known)->values[KEY_MAX] == UNSET
                         ? "queue= and queue-timeout= need a max="
                         : "keepalive= is more than max=");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    apply(pool, known);
    return OK;
}

int fcgi_declare_complete(apr_pool_t *pconf, apr_pool_t *plog,
                          apr_pool_t *ptemp, server_rec *s)
{
    (void)plog;
    (void)ptemp;
    (void)s;
    return fcgi_known_each(complete, pconf);
}

/* Adds key=value to a line; nothing for what has no limit. */
static const char *add_key(apr_pool_t *pool, const char *line,
                           const fcgi_known *known, key_index key)
{
    apr_int64_t value = value_of(known, key);

    if (!value && (key == KEY_REQUESTS || key == KEY_LIFETIME)) {
        return line;
    }
    return apr_psprintf(pool, "%s %s=%" APR_INT64_T_FMT "%s", line,
                        keys[key].name,
                        keys[key].is_time ? apr_time_as_msec(value) : value,
                        keys[key].is_time ? "ms" : "");
}

/* A backend with the keys that mean something for it. */
static const char *describe(apr_pool_t *pool, const fcgi_known *known)
{
    const fcgi_limits *limits = &known->backend->line->limits;
    const char *line = known->backend->name;

    if (known->alias) {
        line = apr_pstrcat(pool, line, " named ", known->alias, NULL);
    }
    if (limits->max) {
        line = add_key(pool, line, known, KEY_MAX);
        line = add_key(pool, line, known, KEY_QUEUE);
        line = add_key(pool, line, known, KEY_QUEUE_TIMEOUT);
    }
    if (limits->keepalive) {
        line = add_key(pool, line, known, KEY_KEEPALIVE);
        line = add_key(pool, line, known, KEY_IDLE);
        line = add_key(pool, line, known, KEY_REQUESTS);
        line = add_key(pool, line, known, KEY_LIFETIME);
    }
    return known->address->host ? add_key(pool, line, known, KEY_TTL) : line;
}

static int write_line(void *s, fcgi_known *known)
{
    apr_pool_t *pool;

    if (apr_pool_create(&pool, NULL) == APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, (server_rec *)s,
                     FCGI_LOGNO("26") "backend %s", describe(pool, known));
        apr_pool_destroy(pool);
    }
    return 0;
}

void fcgi_declare_log(server_rec *s)
{
    fcgi_known_each(write_line, s);
}
