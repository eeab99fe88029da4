/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_allow.c - FcgiAllow; the contract is in fcgi_allow.h.
 */
#include "fcgi_allow.h"

#include <apr_strings.h>

#include "fcgi_known.h"
#include "fcgi_path.h"

/* ---- the directive ---- */

/* A pattern as addresses are named: host names in lower case, and the
 * brackets of an IPv6 address are no set of characters. */
static const char *normal_pattern(apr_pool_t *pool, const char *text)
{
    const char *end;
    char *copy;

    if (fcgi_address_is_ours(text)) {
        text += sizeof(FCGI_HANDLER_PREFIX) - 1;
    }
    if (!strncasecmp(text, "unix:", 5)) {
        text += 5;
    }
    else if (!strncmp(text, "//", 2)) {
        text += 2;
    }
    copy = apr_pstrdup(pool, text);
    if (text[0] != '/') {
        ap_str_tolower(copy);
    }
    end = copy[0] == '[' ? strstr(copy, "]:") : NULL;
    return end ? apr_psprintf(pool, "\\[%.*s\\%s", (int)(end - copy - 1),
                              copy + 1, end)
               : copy;
}

const char *fcgi_allow_parse(cmd_parms *cmd, int argc, char *const argv[],
                             const fcgi_allow **allow)
{
    fcgi_allow *parsed = apr_pcalloc(cmd->pool, sizeof(*parsed));
    int i;

    parsed->patterns = apr_array_make(cmd->pool, argc, sizeof(const char *));
    parsed->names = apr_array_make(cmd->pool, argc, sizeof(const char *));
    for (i = 0; i < argc; i++) {
        const char *word = normal_pattern(cmd->pool, argv[i]);

        if (word[0] == '/' || strchr(word, ':')) {
            APR_ARRAY_PUSH(parsed->patterns, const char *) = word;
        }
        else if (!strcmp(word, "configured")) {
            parsed->configured = 1;
        }
        else if (strchr(word, '/')) {
            return apr_psprintf(cmd->pool,
                                "%s: '%s' is not the pattern of an absolute "
                                "path",
                                cmd->cmd->name, argv[i]);
        }
        else if (strcmp(word, "none")) { /* fcgi_conftree looks for it */
            APR_ARRAY_PUSH(parsed->names, const char *) = word;
        }
        else if (argc > 1) {
            return apr_psprintf(cmd->pool, "%s: None stands alone",
                                cmd->cmd->name);
        }
    }
    *allow = parsed;
    return argc ? NULL
                : apr_psprintf(cmd->pool,
                               "%s: write patterns of addresses, like "
                               "/run/php/*.sock or 127.0.0.1:*, names of "
                               "FcgiBackend, Configured, or None",
                               cmd->cmd->name);
}

/* ---- whether it admits ---- */

/* An address as patterns have it. */
static const char *text_of(const fcgi_address *address)
{
    return address->name + sizeof(FCGI_HANDLER_PREFIX) - 1;
}

/* True if a backend of the configuration is admitted by its name, or as all
 * are: then its address is followed as the administrator wrote it. */
static int admits_by_name(apr_pool_t *pool, const fcgi_allow *allow,
                          const fcgi_backend *backend)
{
    int i;

    for (i = 0; i < allow->names->nelts; i++) {
        if (fcgi_known_named(pool,
                             APR_ARRAY_IDX(allow->names, i, const char *))
            == backend) {
            return 1;
        }
    }
    return allow->configured;
}

/* The same backend, at an address that is compared once more when it is
 * connected to. */
static const fcgi_backend *admitted_by(apr_pool_t *pool,
                                       const fcgi_allow *allow,
                                       const fcgi_backend *backend)
{
    fcgi_backend *copy = apr_pmemdup(pool, backend, sizeof(*backend));
    fcgi_address *address =
        apr_pmemdup(pool, backend->address, sizeof(*backend->address));

    address->admitted = allow->patterns;
    copy->address = address;
    return copy;
}

/* The path of a unix socket with all links followed, so far as it is there;
 * whether that is still true is looked at again when it is connected to. */
static const char *real_path(apr_pool_t *pool, const char *path)
{
    const char *real = fcgi_path_real(pool, path);

    return real ? real : fcgi_path_real_folder(pool, path);
}

/* An address as a pattern that matches nothing else. */
static const char *quote(apr_pool_t *pool, const char *address)
{
    char *quoted = apr_palloc(pool, 2 * strlen(address) + 1), *to = quoted;

    for (; *address; address++) {
        if (strchr("*?\\", *address) || (*address == '[' && to != quoted)) {
            *to++ = '\\';
        }
        *to++ = *address;
    }
    *to = '\0';
    return quoted;
}

/* What to write to admit an address. */
static const char *refuse(apr_pool_t *pool, const char *name,
                          const char *address, const char *real)
{
    const char *is =
        real && strcmp(real, address)
            ? apr_psprintf(pool, ", which is %s with all links followed", real)
            : "";

    if (real && !name) {
        address = real;
    }
    return apr_psprintf(pool,
                        "refused, as the server's own configuration does not "
                        "give this request that address%s; \"FcgiAllow %s\" "
                        "would admit it",
                        is, name ? name : quote(pool, address));
}

const char *fcgi_allow_admit(apr_pool_t *pool, const fcgi_allow *allow,
                             fcgi_address *address,
                             const fcgi_backend **backend)
{
    const fcgi_address *to = *backend ? (*backend)->address : address;
    const char *real = to->path ? real_path(pool, to->path) : NULL;

    if (!*backend && real) {
        *backend = fcgi_known_at(pool, real);
    }
    if (*backend && allow && admits_by_name(pool, allow, *backend)) {
        return NULL;
    }
    if (!allow
        || !fcgi_address_matches(allow->patterns, real ? real : text_of(to))) {
        return refuse(pool, *backend ? fcgi_known_name(*backend) : NULL,
                      text_of(to), real);
    }
    if (!*backend) {
        *backend = fcgi_known_make(pool, address);
    }
    *backend = admitted_by(pool, allow, *backend);
    return NULL;
}
