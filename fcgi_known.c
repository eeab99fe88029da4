/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_known.c - the backends of the configuration; the contract is in
 * fcgi_known.h. Handlers are read from the configuration tree, where they
 * stand as they were written.
 */
#include "fcgi_known.h"

#include <limits.h>

#include <apr_hash.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <util_cfgtree.h>

#include "fcgi_log.h"
#include "fcgi_path.h"

APLOG_USE_MODULE(fastcgi_handler);

/* What FcgiBackend's keys are. */
typedef enum {
    KEY_MAX,
    KEY_QUEUE,
    KEY_QUEUE_TIMEOUT,
    KEY_KEEPALIVE,
    KEY_IDLE,
    KEY_REQUESTS,
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
    [KEY_TTL] = { "ttl", 1, 60 * SECONDS, 1, ONE_YEAR },
};

/* A backend of the configuration, and what FcgiBackend says of it. */
typedef struct known_backend {
    fcgi_backend *backend;
    fcgi_address *address;
    const char *alias;     /* FcgiBackend's last name for it, or NULL */
    const char *real_name; /* of its account, see real_name() */
    apr_int64_t values[KEY_COUNT]; /* UNSET: not said */
    const char *where[KEY_COUNT];  /* the file and line that says so */
} known_backend;

/* A handler of the configuration, as httpd lower-cases it. */
typedef struct known_handler {
    known_backend *known;
    int lowered;   /* named where httpd lower-cases: AddHandler, RewriteRule */
    int ambiguous; /* another address differs only in upper and lower case */
} known_handler;

/* All live in pconf, and are only read once the configuration is. */
static apr_hash_t *by_address; /* "fcgi:..." -> known_backend */
static apr_hash_t *by_name;    /* FcgiBackend's name -> known_backend */
static apr_hash_t *by_handler; /* lower-cased -> known_handler */
static int any_dynamic;        /* a SetHandler has variables */

void fcgi_known_start(apr_pool_t *pconf)
{
    by_address = apr_hash_make(pconf);
    by_name = apr_hash_make(pconf);
    by_handler = apr_hash_make(pconf);
    any_dynamic = 0;
}

int fcgi_known_any_dynamic(void)
{
    return any_dynamic;
}

static void *find(apr_hash_t *hash, const char *key)
{
    return apr_hash_get(hash, key, APR_HASH_KEY_STRING);
}

static void put(apr_hash_t *hash, const char *key, const void *value)
{
    apr_hash_set(hash, key, APR_HASH_KEY_STRING, value);
}

static char *lowered(apr_pool_t *pool, const char *text)
{
    char *copy = apr_pstrdup(pool, text);

    ap_str_tolower(copy);
    return copy;
}

/* An address's name with the links in the socket's folder followed: /var/run
 * and /run are one. The socket itself need not be there. */
static const char *real_name(apr_pool_t *pool, const fcgi_address *address)
{
    const char *slash = address->path ? strrchr(address->path, '/') : NULL;
    const char *folder;

    if (!slash) {
        return address->name;
    }
    folder = fcgi_path_real(
        pool, apr_pstrmemdup(pool, address->path,
                             (apr_size_t)(slash - address->path) + 1));
    return folder ? apr_pstrcat(pool, FCGI_HANDLER_PREFIX, folder,
                                folder[1] ? slash : slash + 1, NULL)
                  : address->name;
}

/* The backend of an address, made if there was none. */
static known_backend *know_address(apr_pool_t *pool, fcgi_address *address)
{
    known_backend *known = find(by_address, address->name);
    const char *real;
    int key;

    if (known) {
        return known;
    }
    real = real_name(pool, address);
    known = find(by_address, real);
    if (!known) {
        known = apr_pcalloc(pool, sizeof(*known));
        known->address = address;
        known->real_name = real;
        known->backend = fcgi_backend_create(pool, address);
        for (key = 0; key < KEY_COUNT; key++) {
            known->values[key] = UNSET;
        }
        put(by_address, real, known);
    }
    put(by_address, address->name, known);
    return known;
}

/* The backend that FcgiBackend named so, or NULL. */
static known_backend *find_named(apr_pool_t *pool, const char *handler)
{
    const char *name = handler + sizeof(FCGI_HANDLER_PREFIX) - 1;

    return find(by_name, lowered(pool, name));
}

/* Remembers a handler of the configuration. Returns NULL or what is wrong
 * with its address. */
static const char *know_handler(apr_pool_t *pool, const char *name,
                                int is_lowered)
{
    const char *key = lowered(pool, name);
    const char *problem;
    known_handler *handler;
    known_backend *known;
    fcgi_address *address;

    if (find_named(pool, name)) {
        return NULL;
    }
    problem = fcgi_address_parse(pool, name, &address);
    if (problem) {
        return problem;
    }
    known = know_address(pool, address);
    handler = find(by_handler, key);
    if (!handler) {
        handler = apr_pcalloc(pool, sizeof(*handler));
        handler->known = known;
        put(by_handler, key, handler);
    }
    else if (handler->known != known) {
        handler->ambiguous = 1;
    }
    handler->lowered |= is_lowered;
    if (address->path && handler->ambiguous && handler->lowered) {
        return apr_psprintf(pool,
                            "'%s' and '%s' differ only in upper and lower "
                            "case, which httpd does not keep for AddHandler "
                            "and RewriteRule; rename one socket",
                            handler->known->backend->name, address->name);
    }
    return NULL;
}

/* ---- FcgiBackend ---- */

/* A backend's name: what could not be an address. */
static int is_name(const char *text)
{
    const char *c = text;

    while (apr_isalnum(*c) || (*c && strchr("-_.", *c))) {
        c++;
    }
    return apr_isalpha(*text) && !*c;
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
                            "keepalive=, idle=, requests= and ttl=",
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
static const char *set_key(cmd_parms *cmd, known_backend *known,
                           const char *text)
{
    apr_int64_t value = UNSET;
    key_index key = KEY_COUNT;
    const char *problem = parse_setting(cmd->pool, text, &key, &value);

    if (problem) {
        return problem;
    }
    if (known->values[key] != UNSET && known->values[key] != value) {
        return apr_psprintf(cmd->pool,
                            "'%s': %s says otherwise of the same address",
                            text, known->where[key]);
    }
    known->values[key] = value;
    known->where[key] =
        apr_psprintf(cmd->pool, "line %d of %s", cmd->directive->line_num,
                     cmd->directive->filename);
    return NULL;
}

static const char *set_name(cmd_parms *cmd, known_backend *known,
                            const char *name)
{
    const char *key = lowered(cmd->pool, name);
    const known_backend *other = find(by_name, key);

    if (!is_name(name)) {
        return apr_psprintf(cmd->pool,
                            "'%s' is not a name; write letters, digits, - _ "
                            "and ., a letter first",
                            name);
    }
    if (other && other != known) {
        return apr_psprintf(cmd->pool, "'%s' is the name of %s already", name,
                            other->backend->name);
    }
    put(by_name, key, known);
    known->alias = name;
    return NULL;
}

static const char *declare(cmd_parms *cmd, int argc, char *const argv[])
{
    int has_name = argc > 1 && !strpbrk(argv[0], "/:");
    const char *problem, *text;
    fcgi_address *address;
    known_backend *known;
    int i;

    if (!argc) {
        return "write [name] address [key=value...]";
    }
    text = fcgi_address_is_ours(argv[has_name])
               ? argv[has_name]
               : apr_pstrcat(cmd->pool, FCGI_HANDLER_PREFIX, argv[has_name],
                             NULL);
    problem = fcgi_address_parse(cmd->pool, text, &address);
    if (!problem) {
        problem = know_handler(cmd->pool, text, 0); /* for .htaccess files */
    }
    if (problem) {
        return problem;
    }
    known = know_address(cmd->pool, address);
    if (has_name) {
        problem = set_name(cmd, known, argv[0]);
    }
    for (i = has_name + 1; i < argc && !problem; i++) {
        problem = set_key(cmd, known, argv[i]);
    }
    return problem;
}

const char *fcgi_known_declare(cmd_parms *cmd, void *conf, int argc,
                               char *const argv[])
{
    const char *problem = declare(cmd, argc, argv);

    (void)conf;
    return problem
               ? apr_pstrcat(cmd->pool, cmd->cmd->name, ": ", problem, NULL)
               : NULL;
}

/* ---- the check of the configuration ---- */

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
            return value + 1;
        }
    }
    return NULL;
}

/* Checks one directive. Returns NULL or what is wrong with its address. */
static const char *check_directive(apr_pool_t *pool,
                                   const ap_directive_t *directive)
{
    const char *args = directive->args;
    const char *handler;
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
        return NULL;
    }
    if (handler && strpbrk(handler, "%$")) {
        any_dynamic |= !is_lowered;
        return NULL; /* known only when a request is here */
    }
    if (!fcgi_address_is_ours(handler)) {
        return NULL;
    }
    return know_handler(pool, handler, is_lowered);
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

static apr_int64_t value_of(const known_backend *known, key_index key)
{
    return known->values[key] == UNSET ? keys[key].value : known->values[key];
}

/* What two keys say together must make sense. Returns NULL, or the key that
 * does not, with *problem set. */
static const char *check_together(const known_backend *known)
{
    if (known->values[KEY_MAX] == UNSET) {
        return known->values[KEY_QUEUE] != UNSET ? known->where[KEY_QUEUE]
               : known->values[KEY_QUEUE_TIMEOUT] != UNSET
                   ? known->where[KEY_QUEUE_TIMEOUT]
                   : NULL;
    }
    return known->values[KEY_KEEPALIVE] > known->values[KEY_MAX]
               ? known->where[KEY_KEEPALIVE]
               : NULL;
}

static void apply(apr_pool_t *pool, known_backend *known)
{
    fcgi_backend *backend = known->backend;
    fcgi_limits *limits = &backend->line->limits;

    limits->max = (apr_uint32_t)value_of(known, KEY_MAX);
    limits->queue = (apr_uint32_t)value_of(known, KEY_QUEUE);
    limits->keepalive = (apr_uint32_t)value_of(known, KEY_KEEPALIVE);
    backend->queue_timeout = value_of(known, KEY_QUEUE_TIMEOUT);
    backend->idle_time = value_of(known, KEY_IDLE);
    backend->requests = (apr_uint32_t)value_of(known, KEY_REQUESTS);
    fcgi_address_remember(known->address, pool, value_of(known, KEY_TTL));
    if (limits->max) {
        backend->line->handed =
            apr_pcalloc(pool, FCGI_LINE_MAX * sizeof(void *));
    }
}

/* What FcgiBackend said of each, in all. */
static int apply_all(apr_pool_t *pool)
{
    apr_hash_index_t *i;

    for (i = apr_hash_first(pool, by_address); i; i = apr_hash_next(i)) {
        known_backend *known = apr_hash_this_val(i);
        const char *where = check_together(known);

        if (where) {
            ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_EMERG, 0, NULL,
                         FCGI_LOGNO("20") "Syntax error on %s: FcgiBackend: "
                                          "%s",
                         where,
                         known->values[KEY_MAX] == UNSET
                             ? "queue= and queue-timeout= need a max="
                             : "keepalive= is more than max=");
            return HTTP_INTERNAL_SERVER_ERROR;
        }
        apply(pool, known);
    }
    return OK;
}

int fcgi_known_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                     server_rec *s)
{
    int status = check_tree(pconf, ap_conftree);

    (void)plog;
    (void)ptemp;
    (void)s;
    return status == OK ? apply_all(pconf) : status;
}

apr_status_t fcgi_known_open_accounts(void)
{
    apr_pool_t *pool = apr_hash_pool_get(by_address);
    apr_hash_index_t *i;

    for (i = apr_hash_first(pool, by_address); i; i = apr_hash_next(i)) {
        const known_backend *known = apr_hash_this_val(i);
        fcgi_line *line = known->backend->line;

        line->account = fcgi_stats_open_configured(known->real_name);
        if (!line->account && (line->limits.max || line->limits.keepalive)) {
            return APR_ENOMEM;
        }
    }
    return APR_SUCCESS;
}

/* Adds key=value to a line; nothing for a number without limit. */
static const char *add_key(apr_pool_t *pool, const char *line,
                           const known_backend *known, key_index key)
{
    apr_int64_t value = value_of(known, key);

    if (!value && key == KEY_REQUESTS) {
        return line;
    }
    return apr_psprintf(pool, "%s %s=%" APR_INT64_T_FMT "%s", line,
                        keys[key].name,
                        keys[key].is_time ? apr_time_as_msec(value) : value,
                        keys[key].is_time ? "ms" : "");
}

/* A backend with the keys that mean something for it. */
static const char *describe(apr_pool_t *pool, const known_backend *known)
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
    }
    return known->address->host ? add_key(pool, line, known, KEY_TTL) : line;
}

void fcgi_known_log(server_rec *s)
{
    apr_pool_t *pool = apr_hash_pool_get(by_address);
    apr_hash_index_t *i;

    for (i = apr_hash_first(pool, by_address); i; i = apr_hash_next(i)) {
        const known_backend *known = apr_hash_this_val(i);
        const char *name = apr_hash_this_key(i);

        if (!strcmp(name, known->real_name)) { /* once, not for each link */
            ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, s,
                         FCGI_LOGNO("26") "backend %s", describe(pool, known));
        }
    }
}

int fcgi_known_any_kept(void)
{
    apr_pool_t *pool = apr_hash_pool_get(by_address);
    apr_hash_index_t *i;
    int kept = 0;

    for (i = apr_hash_first(pool, by_address); i; i = apr_hash_next(i)) {
        const known_backend *known = apr_hash_this_val(i);

        kept |= known->backend->line->limits.keepalive > 0;
    }
    return kept;
}

/* ---- while requests are served ---- */

const fcgi_backend *fcgi_known_of_account(const char *name, const char **alias)
{
    const known_backend *known = find(by_address, name);

    *alias = known ? known->alias : NULL;
    return known ? known->backend : NULL;
}

const char *fcgi_known_find(apr_pool_t *pool, const char *handler,
                            const char *exact, const fcgi_backend **backend,
                            fcgi_address **address)
{
    const char *text = exact ? exact : handler;
    const known_backend *known = find_named(pool, text);
    const known_handler *spelled = find(by_handler, lowered(pool, handler));

    if (!known && spelled && !spelled->ambiguous && !exact) {
        known = spelled->known;
    }
    if (!known) {
        const char *problem = fcgi_address_parse(pool, text, address);

        if (problem) {
            return problem;
        }
        known = find(by_address, (*address)->name);
        if (!known) {
            known = find(by_address, real_name(pool, *address));
        }
    }
    *backend = known ? known->backend : NULL;
    return NULL;
}

const fcgi_backend *fcgi_known_make(apr_pool_t *pool,
                                    const fcgi_address *address)
{
    fcgi_backend *backend = fcgi_backend_create(pool, address);

    backend->line->account = fcgi_stats_open_spare(real_name(pool, address));
    return backend;
}
