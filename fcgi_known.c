/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_known.c - the register of backends; the contract is in fcgi_known.h.
 */
#include "fcgi_known.h"

#include <apr_hash.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <httpd.h>

#include "fcgi_path.h"

/* A handler of the configuration, as httpd lower-cases it. */
typedef struct known_handler {
    fcgi_known *known;
    int lowered;   /* named where httpd lower-cases: AddHandler, RewriteRule */
    int ambiguous; /* another address differs only in upper and lower case */
} known_handler;

/* All live in pconf, and are only read once the configuration is. */
static apr_hash_t *by_address; /* "fcgi:..." -> fcgi_known */
static apr_hash_t *by_name;    /* FcgiBackend's name -> fcgi_known */
static apr_hash_t *by_handler; /* lower-cased -> known_handler */
static apr_hash_t *by_text;    /* a handler as it is written -> fcgi_known;
                                * all that most requests need */

void fcgi_known_start(apr_pool_t *pconf)
{
    by_address = apr_hash_make(pconf);
    by_name = apr_hash_make(pconf);
    by_handler = apr_hash_make(pconf);
    by_text = apr_hash_make_custom(pconf, fcgi_address_hash);
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
    const char *real =
        address->path ? fcgi_path_real_folder(pool, address->path) : NULL;

    return real ? apr_pstrcat(pool, FCGI_HANDLER_PREFIX, real, NULL)
                : address->name;
}

fcgi_known *fcgi_known_enter(apr_pool_t *pool, fcgi_address *address)
{
    fcgi_known *known = find(by_address, address->name);
    const char *real;

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
        put(by_address, real, known);
    }
    put(by_address, address->name, known);
    return known;
}

static fcgi_known *find_named(apr_pool_t *pool, const char *handler)
{
    const char *name = handler + sizeof(FCGI_HANDLER_PREFIX) - 1;

    return find(by_name, lowered(pool, name));
}

const char *fcgi_known_enter_handler(apr_pool_t *pool, const char *name,
                                     int is_lowered)
{
    const char *key = lowered(pool, name);
    const char *problem;
    known_handler *handler;
    fcgi_known *known = find_named(pool, name);
    fcgi_address *address;

    if (known) {
        put(by_text, name, known);
        return NULL;
    }
    problem = fcgi_address_parse(pool, name, &address);
    if (problem) {
        return problem;
    }
    known = fcgi_known_enter(pool, address);
    put(by_text, name, known);
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

/* A backend's name: what could not be an address. */
static int is_name(const char *text)
{
    const char *c = text;

    while (apr_isalnum(*c) || (*c && strchr("-_.", *c))) {
        c++;
    }
    return apr_isalpha(*text) && !*c;
}

const char *fcgi_known_set_name(apr_pool_t *pool, fcgi_known *known,
                                const char *name)
{
    const char *key = lowered(pool, name);
    const fcgi_known *other = find(by_name, key);

    if (!is_name(name)) {
        return apr_psprintf(pool,
                            "'%s' is not a name; write letters, digits, - _ "
                            "and ., a letter first",
                            name);
    }
    if (other && other != known) {
        return apr_psprintf(pool, "'%s' is the name of %s already", name,
                            other->backend->name);
    }
    put(by_name, key, known);
    known->alias = name;
    return NULL;
}

int fcgi_known_each(int (*visit)(void *baton, fcgi_known *known), void *baton)
{
    apr_pool_t *pool = apr_hash_pool_get(by_address);
    apr_hash_index_t *i;
    int stop = 0;

    for (i = apr_hash_first(pool, by_address); i && !stop;
         i = apr_hash_next(i)) {
        fcgi_known *known = apr_hash_this_val(i);
        const char *name = apr_hash_this_key(i);

        if (!strcmp(name, known->real_name)) { /* once, not for each link */
            stop = visit(baton, known);
        }
    }
    return stop;
}

static int open_account(void *baton, fcgi_known *known)
{
    fcgi_line *line = known->backend->line;

    (void)baton;
    line->account = fcgi_stats_open_configured(known->real_name);
    if (!line->account) {
        return line->limits.max || line->limits.keepalive;
    }
    return line->limits.max && !fcgi_stats_open_line(line->account);
}

apr_status_t fcgi_known_open_accounts(void)
{
    return fcgi_known_each(open_account, NULL) ? APR_ENOMEM : APR_SUCCESS;
}

static int is_kept(void *baton, fcgi_known *known)
{
    (void)baton;
    return known->backend->line->limits.keepalive > 0;
}

int fcgi_known_any_kept(void)
{
    return fcgi_known_each(is_kept, NULL);
}

static int is_limited(void *baton, fcgi_known *known)
{
    (void)baton;
    return known->backend->line->limits.max > 0;
}

int fcgi_known_any_limited(void)
{
    return fcgi_known_each(is_limited, NULL);
}

const fcgi_backend *fcgi_known_named(apr_pool_t *pool, const char *name)
{
    const fcgi_known *known = find(by_name, lowered(pool, name));

    return known ? known->backend : NULL;
}

const fcgi_backend *fcgi_known_at(apr_pool_t *pool, const char *path)
{
    const fcgi_known *known =
        find(by_address, apr_pstrcat(pool, FCGI_HANDLER_PREFIX, path, NULL));

    return known ? known->backend : NULL;
}

const char *fcgi_known_name(const fcgi_backend *backend)
{
    const fcgi_known *known = find(by_address, backend->name);

    return known ? known->alias : NULL;
}

const fcgi_backend *fcgi_known_of_account(const char *name, const char **alias)
{
    const fcgi_known *known = find(by_address, name);

    *alias = known ? known->alias : NULL;
    return known ? known->backend : NULL;
}

/* The one address that such a handler of the configuration means, with upper
 * and lower case or without. */
static const fcgi_known *find_spelled(apr_pool_t *pool, const char *handler)
{
    const known_handler *spelled = find(by_handler, lowered(pool, handler));

    return spelled && !spelled->ambiguous ? spelled->known : NULL;
}

const char *fcgi_known_find(apr_pool_t *pool, const char *handler,
                            const char *exact, const fcgi_backend **backend,
                            fcgi_address **address)
{
    const char *text = exact ? exact : handler;
    const fcgi_known *known = find(by_text, text);

    if (!known) {
        known = find_named(pool, text);
    }
    if (!known && !exact) {
        known = find_spelled(pool, handler);
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
