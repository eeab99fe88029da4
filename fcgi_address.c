/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_address.c - the syntax of addresses, and the memory of host names; the
 * contract is in fcgi_address.h. Knows no connection.
 */
#include "fcgi_address.h"

#include <string.h>
#include <strings.h>

#include <sys/un.h>

#include <apr_file_info.h>
#include <apr_fnmatch.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>

/* The longest path a socket address takes, without the final NUL. */
#define MAX_SOCKET_PATH (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

#define EXAMPLES                                                              \
    "write fcgi:/path/to/socket, fcgi:host:port or fcgi:[ipv6]:port"

/* While one thread asks the resolver anew, and after it asked in vain, what
 * was known holds for so long. */
#define ASKING apr_time_from_sec(5)

/* The resolver is not asked for a name more often than that, as long as there
 * is an answer of before. */
#define ASK_EVERY apr_time_from_sec(1)

/* Guards every fcgi_resolved of the process. */
static apr_thread_mutex_t *memory;

int fcgi_address_is_ours(const char *handler)
{
    return handler
           && !strncasecmp(handler, FCGI_HANDLER_PREFIX,
                           sizeof(FCGI_HANDLER_PREFIX) - 1);
}

static const char *parse_path(apr_pool_t *pool, const char *path,
                              fcgi_address *address)
{
    char *clean;

    if (path[0] != '/' || !path[1]) {
        return apr_psprintf(pool,
                            "'%s' is not the absolute path of a socket; "
                            "write fcgi:/path/to/socket",
                            path);
    }
    if (strlen(path) > MAX_SOCKET_PATH) {
        return apr_psprintf(pool,
                            "the socket path '%s' has %" APR_SIZE_T_FMT
                            " bytes, the system takes %" APR_SIZE_T_FMT
                            " at most; use a shorter path",
                            path, strlen(path), MAX_SOCKET_PATH);
    }
    address->path = path;
    if (apr_filepath_merge(&clean, NULL, path, 0, pool) == APR_SUCCESS) {
        address->path = clean; /* without //, /./ and /../ */
    }
    address->name =
        apr_pstrcat(pool, FCGI_HANDLER_PREFIX, address->path, NULL);
    return NULL;
}

static const char *parse_port(apr_pool_t *pool, const char *text,
                              fcgi_address *address)
{
    unsigned int port = 0;
    const char *digit;

    for (digit = text; apr_isdigit(*digit) && port <= 65535; digit++) {
        port = port * 10 + (unsigned int)(*digit - '0');
    }
    if (*digit || port < 1 || port > 65535) {
        return apr_psprintf(pool,
                            "'%s' is not a port; write a number from 1 to "
                            "65535 and nothing behind it",
                            text);
    }
    address->port = (apr_port_t)port;
    return NULL;
}

/* The characters of host names and numeric addresses (RFC 3986, 3.2.2,
 * without escapes), and of IPv6 addresses with a scope between brackets. */
static int is_host(const char *host, int bracketed)
{
    const char *more = bracketed ? ":.%-_" : ".-_";

    if (!*host) {
        return 0;
    }
    while (*host && (apr_isalnum(*host) || strchr(more, *host))) {
        host++;
    }
    return !*host;
}

/* Host names know no upper and lower case (RFC 3986, 6.2.2.1). */
static void lower(char *text)
{
    for (; *text && *text != '%'; text++) {
        *text = (char)apr_tolower(*text);
    }
}

static const char *parse_host(apr_pool_t *pool, const char *text,
                              fcgi_address *address)
{
    int bracketed = text[0] == '[';
    const char *end = strchr(text, bracketed ? ']' : ':');
    const char *problem;
    char *host;

    if (!end || (bracketed && end[1] != ':')) {
        return apr_psprintf(pool,
                            !apr_isalpha(text[0]) || strchr(text, '/')
                                ? "'%s' names no port; " EXAMPLES
                                : "'%s' names no port, and there is no "
                                  "FcgiBackend of that name; " EXAMPLES,
                            text);
    }
    host = apr_pstrmemdup(pool, text + bracketed,
                          (apr_size_t)(end - text) - bracketed);
    if (!is_host(host, bracketed)) {
        return apr_psprintf(pool, "'%s' is not a host; " EXAMPLES, host);
    }
    lower(host);
    address->host = host;
    problem = parse_port(pool, end + 1 + bracketed, address);
    address->name = apr_psprintf(pool,
                                 bracketed ? FCGI_HANDLER_PREFIX "[%s]:%u"
                                           : FCGI_HANDLER_PREFIX "%s:%u",
                                 host, (unsigned int)address->port);
    return problem;
}

const char *fcgi_address_parse(apr_pool_t *pool, const char *handler,
                               fcgi_address **address)
{
    const char *text = handler + sizeof(FCGI_HANDLER_PREFIX) - 1;
    fcgi_address *parsed = apr_pcalloc(pool, sizeof(*parsed));
    const char *problem;

    if (!strncmp(text, "//", 2)) {
        text += 2;
    }
    if (!*text) {
        problem = "the address is empty; " EXAMPLES;
    }
    else if (!strncasecmp(text, "unix:", 5)) {
        problem = parse_path(pool, text + 5, parsed);
    }
    else if (text[0] == '/') {
        problem = parse_path(pool, text, parsed);
    }
    else if (strstr(text, "://")) {
        problem =
            apr_psprintf(pool, "'%s' has an unknown scheme; " EXAMPLES, text);
    }
    else {
        problem = parse_host(pool, text, parsed);
    }
    if (!problem) {
        *address = parsed;
    }
    return problem;
}

int fcgi_address_matches(const apr_array_header_t *patterns, const char *text)
{
    int i;

    for (i = 0; i < patterns->nelts; i++) {
        if (apr_fnmatch(APR_ARRAY_IDX(patterns, i, const char *), text,
                        APR_FNM_PATHNAME | APR_FNM_PERIOD)
            == APR_SUCCESS) {
            return 1;
        }
    }
    return 0;
}

void fcgi_address_remember(fcgi_address *address, apr_pool_t *pool,
                           apr_interval_time_t ttl)
{
    if (address->host) {
        address->resolved = apr_pcalloc(pool, sizeof(*address->resolved));
        address->resolved->ttl = ttl;
    }
}

static apr_status_t look_up(const fcgi_address *address, apr_pool_t *pool,
                            apr_sockaddr_t **first)
{
    if (address->path) {
        return apr_sockaddr_info_get(first, address->path, APR_UNIX, 0, 0,
                                     pool);
    }
    return apr_sockaddr_info_get(first, address->host, APR_UNSPEC,
                                 address->port, 0, pool);
}

/* What is remembered, copied to pool; *first is NULL if that is nothing, or
 * too old. Then the caller has to ask. */
static apr_status_t recall(fcgi_resolved *resolved, apr_pool_t *pool,
                           apr_sockaddr_t **first)
{
    fcgi_instant now = fcgi_clock_now();
    apr_status_t rv = APR_SUCCESS;

    *first = NULL;
    apr_thread_mutex_lock(memory);
    if (resolved->first && now < resolved->expires) {
        rv = apr_sockaddr_info_copy(first, resolved->first, pool);
    }
    else {
        resolved->expires = now + ASKING;
        resolved->asked = now;
    }
    apr_thread_mutex_unlock(memory);
    return rv;
}

/* Takes an answer of the resolver over, with its pool. */
static void learn(fcgi_resolved *resolved, apr_pool_t *own,
                  apr_sockaddr_t *found)
{
    apr_pool_t *old;

    apr_thread_mutex_lock(memory);
    old = resolved->pool;
    resolved->pool = own;
    resolved->first = found;
    resolved->expires = fcgi_clock_now() + resolved->ttl;
    apr_thread_mutex_unlock(memory);
    if (old) {
        apr_pool_destroy(old);
    }
}

/* Asks the resolver; without an answer what was known still holds. */
static apr_status_t ask(const fcgi_address *address, apr_pool_t *pool,
                        apr_sockaddr_t **first)
{
    fcgi_resolved *resolved = address->resolved;
    apr_sockaddr_t *found;
    apr_pool_t *own;
    apr_status_t rv = apr_pool_create_unmanaged_ex(&own, NULL, NULL);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = look_up(address, own, &found);
    if (rv == APR_SUCCESS) {
        rv = apr_sockaddr_info_copy(first, found, pool);
        learn(resolved, own, found);
        return rv;
    }
    apr_pool_destroy(own);
    apr_thread_mutex_lock(memory);
    if (resolved->first) {
        rv = apr_sockaddr_info_copy(first, resolved->first, pool);
    }
    resolved->expires = fcgi_clock_now() + ASKING;
    apr_thread_mutex_unlock(memory);
    return rv;
}

apr_status_t fcgi_address_resolve(const fcgi_address *address,
                                  apr_pool_t *pool, apr_sockaddr_t **first)
{
    apr_status_t rv;

    if (!address->resolved) {
        return look_up(address, pool, first);
    }
    rv = recall(address->resolved, pool, first);
    return rv != APR_SUCCESS || *first ? rv : ask(address, pool, first);
}

void fcgi_address_doubt(const fcgi_address *address)
{
    fcgi_resolved *resolved = address->resolved;

    if (resolved) {
        apr_thread_mutex_lock(memory);
        if (resolved->expires > resolved->asked + ASK_EVERY) {
            resolved->expires = resolved->asked + ASK_EVERY;
        }
        apr_thread_mutex_unlock(memory);
    }
}

apr_status_t fcgi_address_start(apr_pool_t *pool)
{
    return apr_thread_mutex_create(&memory, APR_THREAD_MUTEX_DEFAULT, pool);
}
