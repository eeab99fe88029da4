/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_address.c - the syntax of addresses, and the memory of host names and
 * of what answers; the contract is in fcgi_address.h. Knows no connection.
 */
#include "fcgi_address.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <apr_file_info.h>
#include <apr_fnmatch.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_thread_cond.h>
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

/* A name that did not resolve is not asked for again for so long. Far shorter
 * than FcgiConnectTimeout: its attempts are to see a name that appears. */
#define FAILED_FOR apr_time_from_msec(250)

/* Names of which that is remembered, in this process; the next one takes the
 * oldest one's place. Clients may have a part in names. */
#define FAILED_NAMES 16

/* Addresses of which it is remembered how they were found; the next one takes
 * the oldest one's place. */
#define NOTED_ADDRESSES 32

/* One that failed is tried again so often, beside others. */
#define PROBE_EVERY apr_time_from_sec(5)

/* The longest name of the DNS, with its NUL (RFC 1035, 2.3.4). */
#define MAX_NAME 256

typedef struct failed_name {
    char host[MAX_NAME];
    apr_status_t rv; /* APR_SUCCESS: it resolves now */
    fcgi_instant until;
} failed_name;

/* How one of several addresses was found. */
typedef struct noted_address {
    uint8_t ip[16];
    int len; /* of ip; 0: none noted here */
    apr_port_t port;
    int failed;               /* when it was tried last */
    fcgi_instant tried_at;    /* then */
    fcgi_instant answered_at; /* 0: never */
} noted_address;

static struct {
    apr_thread_mutex_t *mutex;    /* of the rest, and every fcgi_resolved */
    apr_thread_cond_t *has_asked; /* a name of which nothing is known was
                                   * asked for */
    failed_name failed[FAILED_NAMES];
    unsigned int next_failed;
    noted_address noted[NOTED_ADDRESSES];
    unsigned int next_noted;
} memory;

int fcgi_address_is_ours(const char *handler)
{
    /* asked several times of each request: letter by letter is cheaper, and
     * it is ASCII */
    return handler && (handler[0] | 0x20) == 'f' && (handler[1] | 0x20) == 'c'
           && (handler[2] | 0x20) == 'g' && (handler[3] | 0x20) == 'i'
           && handler[4] == ':';
}

/* 2^64 divided by the golden ratio: what is multiplied by it has each of its
 * bits in the upper half. */
#define SPREAD UINT64_C(0x9e3779b97f4a7c15)

/* All begin alike, and sockets of one folder differ behind that. So the end is
 * looked at, and more of it than the name that the sockets of many users have
 * in common, as /home/some/run/php-fpm.sock. */
unsigned int fcgi_address_hash(const char *handler, apr_ssize_t *len)
{
    uint64_t words[4] = { 0, 0, 0, 0 };
    size_t whole = strlen(handler);
    size_t hashed = whole < sizeof(words) ? whole : sizeof(words);
    uint64_t hash = whole;
    int i;

    memcpy(words, handler + whole - hashed, hashed);
    for (i = 0; i < 4; i++) {
        hash = (hash ^ words[i]) * SPREAD;
        hash ^= hash >> 32;
    }
    *len = (apr_ssize_t)whole;
    return (unsigned int)(hash * SPREAD >> 32);
}

/* A path without //, /./ and /../ in it. */
static const char *clean_path(apr_pool_t *pool, const char *path)
{
    char *clean;

    return apr_filepath_merge(&clean, NULL, path, 0, pool) == APR_SUCCESS
               ? clean
               : path;
}

static const char *parse_path(apr_pool_t *pool, const char *path,
                              fcgi_address *address)
{
    const char *clean = clean_path(pool, path);

    if (path[0] != '/' || !clean[1]) { /* the root is no socket */
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
    address->path = clean;
    address->name =
        apr_pstrcat(pool, FCGI_HANDLER_PREFIX, address->path, NULL);
    if (apr_sockaddr_info_get(&address->socket, address->path, APR_UNIX, 0, 0,
                              pool)
        != APR_SUCCESS) {
        return "this system's APR knows no unix sockets";
    }
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

/* An address of numbers is known by one spelling, whichever was written (RFC
 * 5952; of IPv4 what getaddrinfo() takes, as 127.1). Others stay as they are. */
static const char *one_spelling(apr_pool_t *pool, const char *host,
                                int is_ipv6)
{
    char text[INET6_ADDRSTRLEN];
    const char *scope = strchr(host, '%');
    struct in6_addr ip6;
    struct in_addr ip4;

    if (!is_ipv6) {
        return inet_aton(host, &ip4)
                       && inet_ntop(AF_INET, &ip4, text, sizeof(text))
                   ? apr_pstrdup(pool, text)
                   : host;
    }
    if (!scope) {
        scope = host + strlen(host);
    }
    return inet_pton(AF_INET6,
                     apr_pstrmemdup(pool, host, (apr_size_t)(scope - host)),
                     &ip6)
                       == 1
                   && inet_ntop(AF_INET6, &ip6, text, sizeof(text))
               ? apr_pstrcat(pool, text, scope, NULL)
               : host;
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
    address->host = one_spelling(pool, host, bracketed);
    problem = parse_port(pool, end + 1 + bracketed, address);
    address->name = apr_psprintf(pool,
                                 bracketed ? FCGI_HANDLER_PREFIX "[%s]:%u"
                                           : FCGI_HANDLER_PREFIX "%s:%u",
                                 address->host, (unsigned int)address->port);
    return problem;
}

static const char *skip_spaces(const char *text)
{
    while (apr_isspace(*text)) {
        text++;
    }
    return text;
}

/* Where mod_proxy's "|scheme:" behind a unix socket begins, or NULL. */
static const char *find_proxy_part(const char *text)
{
    const char *bar = text, *end;

    while ((bar = strchr(bar, '|'))) {
        const char *scheme = skip_spaces(bar + 1);

        for (end = scheme; apr_isalpha(*end); end++) {
        }
        if (end > scheme && *end == ':') {
            return bar;
        }
        bar++;
    }
    return NULL;
}

/* What was meant by text, up to end. */
static const char *right_spelling(apr_pool_t *pool, const char *text,
                                  const char *end)
{
    static const char *const before[] = { FCGI_HANDLER_PREFIX, "proxy:", "//",
                                          "unix:" };
    apr_size_t i;

    for (i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
        apr_size_t len = strlen(before[i]);

        text = skip_spaces(text);
        if (!strncasecmp(text, before[i], len)) {
            text = skip_spaces(text + len);
        }
    }
    while (end > text && apr_isspace(end[-1])) {
        end--;
    }
    return apr_psprintf(pool, FCGI_HANDLER_PREFIX "%.*s",
                        end > text ? (int)(end - text) : 0, text);
}

const char *fcgi_address_check_spelling(apr_pool_t *pool, const char *handler)
{
    const char *text = skip_spaces(handler);
    const char *proxy_part, *end;

    if (!fcgi_address_is_ours(text)) {
        return NULL;
    }
    proxy_part = find_proxy_part(text);
    if (proxy_part) {
        return apr_psprintf(pool, "'%s' is written as for mod_proxy; write %s",
                            handler, right_spelling(pool, text, proxy_part));
    }
    end = text + strlen(text);
    if (text == handler && !apr_isspace(end[-1])
        && !apr_isspace(text[sizeof(FCGI_HANDLER_PREFIX) - 1])) {
        return NULL;
    }
    return apr_psprintf(pool, "'%s' begins or ends with a space; write %s",
                        handler, right_spelling(pool, text, end));
}

const char *fcgi_address_parse(apr_pool_t *pool, const char *handler,
                               fcgi_address **address)
{
    const char *text = handler + sizeof(FCGI_HANDLER_PREFIX) - 1;
    fcgi_address *parsed = apr_pcalloc(pool, sizeof(*parsed));
    const char *problem = fcgi_address_check_spelling(pool, handler);

    if (problem) {
        return problem;
    }
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
    return apr_sockaddr_info_get(first, address->host, APR_UNSPEC,
                                 address->port, 0, pool);
}

/* Under the mutex, as the next two. */
static failed_name *find_failed(const char *host)
{
    int i;

    for (i = 0; i < FAILED_NAMES; i++) {
        if (!strcmp(memory.failed[i].host, host)) {
            return &memory.failed[i];
        }
    }
    return NULL;
}

/* The failure of a moment ago, or APR_SUCCESS: the caller has to ask, and
 * others believe in it meanwhile. */
static apr_status_t recall_failure(const char *host, fcgi_instant now)
{
    failed_name *name = find_failed(host);

    if (!name || name->rv == APR_SUCCESS) {
        return APR_SUCCESS;
    }
    if (now < name->until) {
        return name->rv;
    }
    name->until = now + ASKING;
    return APR_SUCCESS;
}

/* Remembers how asking went. */
static void note_answer(const char *host, apr_status_t rv)
{
    failed_name *name = find_failed(host);

    if (!name && rv != APR_SUCCESS && strlen(host) < MAX_NAME) {
        name = &memory.failed[memory.next_failed++ % FAILED_NAMES];
        apr_cpystrn(name->host, host, MAX_NAME);
    }
    if (name) {
        name->rv = rv;
        name->until = fcgi_clock_now() + FAILED_FOR;
    }
}

/* What is remembered, copied to pool; *first is NULL if that is nothing, or
 * too old. Then the caller has to ask. Waits for another that asks, if nothing
 * is known. */
static apr_status_t recall(const fcgi_address *address, apr_pool_t *pool,
                           apr_sockaddr_t **first)
{
    fcgi_resolved *resolved = address->resolved;
    apr_status_t rv = APR_SUCCESS;
    fcgi_instant now;

    *first = NULL;
    apr_thread_mutex_lock(memory.mutex);
    while (resolved && !resolved->first && resolved->is_asked) {
        apr_thread_cond_wait(memory.has_asked, memory.mutex);
    }
    now = fcgi_clock_now();
    if (!resolved || !resolved->first) {
        rv = recall_failure(address->host, now);
    }
    else if (now < resolved->expires) {
        rv = apr_sockaddr_info_copy(first, resolved->first, pool);
    }
    if (resolved && rv == APR_SUCCESS && !*first) {
        resolved->expires = now + ASKING;
        resolved->asked = now;
        resolved->is_asked = 1;
    }
    apr_thread_mutex_unlock(memory.mutex);
    return rv;
}

/* Takes an answer of the resolver over, with its pool. Under the mutex.
 * Returns the pool of the one before, or NULL. */
static apr_pool_t *learn(fcgi_resolved *resolved, apr_pool_t *own,
                         apr_sockaddr_t *found)
{
    apr_pool_t *old = resolved->pool;

    resolved->pool = own;
    resolved->first = found;
    resolved->expires = fcgi_clock_now() + resolved->ttl;
    return old;
}

/* Asks the resolver; without an answer what was known still holds. */
static apr_status_t ask(const fcgi_address *address, apr_pool_t *pool,
                        apr_sockaddr_t **first)
{
    fcgi_resolved *resolved = address->resolved;
    apr_pool_t *own, *unused = NULL;
    apr_sockaddr_t *found = NULL;
    apr_status_t rv = apr_pool_create_unmanaged_ex(&own, NULL, NULL);

    if (rv == APR_SUCCESS) {
        rv = look_up(address, own, &found);
        unused = own;
    }
    apr_thread_mutex_lock(memory.mutex);
    if (rv == APR_SUCCESS) {
        unused = learn(resolved, own, found);
    }
    else {
        resolved->expires = fcgi_clock_now() + ASKING;
    }
    if (resolved->first) {
        rv = apr_sockaddr_info_copy(first, resolved->first, pool);
    }
    note_answer(address->host, rv);
    resolved->is_asked = 0;
    apr_thread_cond_broadcast(memory.has_asked);
    apr_thread_mutex_unlock(memory.mutex);
    if (unused) {
        apr_pool_destroy(unused);
    }
    return rv;
}

/* The same for a name of which no answer is remembered. */
static apr_status_t ask_each_time(const fcgi_address *address,
                                  apr_pool_t *pool, apr_sockaddr_t **first)
{
    apr_status_t rv = look_up(address, pool, first);

    apr_thread_mutex_lock(memory.mutex);
    note_answer(address->host, rv);
    apr_thread_mutex_unlock(memory.mutex);
    return rv;
}

/* ---- which answers ---- */

/* Under the mutex, as the next one. */
static noted_address *find_noted(const apr_sockaddr_t *address)
{
    int i;

    for (i = 0; i < NOTED_ADDRESSES; i++) {
        noted_address *noted = &memory.noted[i];

        if (noted->len && noted->len == address->ipaddr_len
            && noted->port == address->port
            && !memcmp(noted->ip, address->ipaddr_ptr, (size_t)noted->len)) {
            return noted;
        }
    }
    return NULL;
}

static int has_failed(const noted_address *noted)
{
    return noted && noted->failed;
}

void fcgi_address_note(const apr_sockaddr_t *tried, int answered)
{
    noted_address *noted;

    if (tried->ipaddr_len > (int)sizeof(noted->ip)) {
        return;
    }
    apr_thread_mutex_lock(memory.mutex);
    noted = find_noted(tried);
    if (!noted) {
        noted = &memory.noted[memory.next_noted++ % NOTED_ADDRESSES];
        noted->len = tried->ipaddr_len;
        noted->port = tried->port;
        noted->answered_at = 0;
        memcpy(noted->ip, tried->ipaddr_ptr, (size_t)noted->len);
    }
    noted->failed = !answered;
    noted->tried_at = fcgi_clock_now();
    if (answered) {
        noted->answered_at = noted->tried_at;
    }
    apr_thread_mutex_unlock(memory.mutex);
}

int fcgi_address_has_failed(const apr_sockaddr_t *tried)
{
    int failed;

    apr_thread_mutex_lock(memory.mutex);
    failed = has_failed(find_noted(tried));
    apr_thread_mutex_unlock(memory.mutex);
    return failed;
}

apr_sockaddr_t *fcgi_address_to_probe(apr_sockaddr_t *first)
{
    fcgi_instant now = fcgi_clock_now();
    noted_address *noted = NULL;

    apr_thread_mutex_lock(memory.mutex);
    for (; first; first = first->next) {
        noted = find_noted(first);
        if (has_failed(noted) && noted->tried_at + PROBE_EVERY <= now) {
            noted->tried_at = now; /* nobody else does */
            break;
        }
    }
    apr_thread_mutex_unlock(memory.mutex);
    return first;
}

/* Is a to be tried after b, which stands behind it? Under the mutex. */
static int is_worse(const apr_sockaddr_t *a, const apr_sockaddr_t *b)
{
    const noted_address *noted_a = find_noted(a), *noted_b = find_noted(b);

    return has_failed(noted_a)
           && (!has_failed(noted_b)
               || noted_a->answered_at < noted_b->answered_at);
}

/* Puts those that failed behind the others. */
static apr_sockaddr_t *order(apr_sockaddr_t *first)
{
    apr_sockaddr_t *ordered = NULL, *next;

    if (!first->next) {
        return first;
    }
    apr_thread_mutex_lock(memory.mutex);
    for (; first; first = next) {
        apr_sockaddr_t **place = &ordered;

        next = first->next;
        while (*place && !is_worse(*place, first)) {
            place = &(*place)->next;
        }
        first->next = *place;
        *place = first;
    }
    apr_thread_mutex_unlock(memory.mutex);
    return ordered;
}

/* ---- the story ---- */

apr_status_t fcgi_address_resolve(const fcgi_address *address,
                                  apr_pool_t *pool, apr_sockaddr_t **first)
{
    apr_status_t rv;

    if (address->path) {
        *first = address->socket;
        return APR_SUCCESS;
    }
    rv = recall(address, pool, first);
    if (rv == APR_SUCCESS && !*first) {
        rv = address->resolved ? ask(address, pool, first)
                               : ask_each_time(address, pool, first);
    }
    if (rv == APR_SUCCESS && *first) {
        *first = order(*first);
    }
    return rv;
}

void fcgi_address_doubt(const fcgi_address *address)
{
    fcgi_resolved *resolved = address->resolved;

    if (resolved) {
        apr_thread_mutex_lock(memory.mutex);
        if (resolved->expires > resolved->asked + ASK_EVERY) {
            resolved->expires = resolved->asked + ASK_EVERY;
        }
        apr_thread_mutex_unlock(memory.mutex);
    }
}

apr_status_t fcgi_address_start(apr_pool_t *pool)
{
    apr_status_t rv =
        apr_thread_mutex_create(&memory.mutex, APR_THREAD_MUTEX_DEFAULT, pool);

    return rv == APR_SUCCESS ? apr_thread_cond_create(&memory.has_asked, pool)
                             : rv;
}
