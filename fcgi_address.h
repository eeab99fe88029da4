/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_address.h - where an application listens: an address as it is written,
 * what a host name was found to be, and which of it answers. Makes no connection; knows neither
 * requests nor HTTP.
 */
#ifndef FCGI_ADDRESS_H
#define FCGI_ADDRESS_H

#include <apr_network_io.h>
#include <apr_pools.h>
#include <apr_tables.h>

#include "fcgi_clock.h"

/* What a handler name of ours starts with. */
#define FCGI_HANDLER_PREFIX "fcgi:"

/* What a host name was found to be, for all requests of this process. */
typedef struct fcgi_resolved {
    apr_interval_time_t ttl; /* how long that is believed */
    fcgi_instant expires;
    fcgi_instant asked;    /* when the resolver was asked last */
    int is_asked;          /* now, by some thread */
    apr_sockaddr_t *first; /* NULL: nothing yet */
    apr_pool_t *pool;      /* of first */
} fcgi_resolved;

typedef struct fcgi_address {
    const char *name;       /* as messages call it: "fcgi:" and the address */
    const char *path;       /* of a unix socket; NULL for TCP */
    apr_sockaddr_t *socket; /* of that path, never changed; NULL for TCP */
    const char *host; /* TCP: a name or a number, IPv6 without brackets */
    apr_port_t port;  /* TCP: 1 to 65535 */
    fcgi_resolved *resolved; /* NULL: what a name is is not remembered */
    const apr_array_header_t *admitted; /* patterns, one of which must match
                                         * what path is with all links
                                         * followed; NULL: it may be any */
} fcgi_address;

/* True if a handler name is meant for us. handler may be NULL. */
int fcgi_address_is_ours(const char *handler);

/*
 * A hash of a handler's name, for apr_hash_make_custom(), which uses its low
 * bits; *len becomes the name's length.
 */
unsigned int fcgi_address_hash(const char *handler, apr_ssize_t *len);

/*
 * Looks only for what people paste from elsewhere into a handler name of ours:
 * mod_proxy's "/path|fcgi://host", a space before or behind it. Asks nothing
 * of the rest, which may be an expression. Returns NULL, also for a handler
 * that is not ours, or a sentence with the right spelling.
 */
const char *fcgi_address_check_spelling(apr_pool_t *pool, const char *handler);

/*
 * Parses a handler name, "fcgi:" and one of
 *
 *     /path   unix:/path   host:port   [ipv6]:port   //host:port
 *
 * into an address that lives in pool. Two spellings of one address get one
 * name. Returns NULL, or a sentence that says what is wrong and what to write
 * instead; then *address is not set. Looks nothing up.
 */
const char *fcgi_address_parse(apr_pool_t *pool, const char *handler,
                               fcgi_address **address);

/* True if one of patterns, of const char *, matches a path or host:port; a *
 * matches no slash. */
int fcgi_address_matches(const apr_array_header_t *patterns, const char *text);

/* Remembers from now on for ttl microseconds what a host name is. The address
 * and pool live as long as the process, or the configuration. */
void fcgi_address_remember(fcgi_address *address, apr_pool_t *pool,
                           apr_interval_time_t ttl);

/*
 * The socket addresses to try, in order, in pool: those that failed when they
 * were tried last (fcgi_address_note()) come behind all others, and first of
 * them the one that answered last. May wait for the system's
 * resolver; what was found before is used while another thread asks anew, and
 * when there is no answer. That a name does not resolve holds for a quarter of
 * a second. Errors as apr_sockaddr_info_get().
 */
apr_status_t fcgi_address_resolve(const fcgi_address *address,
                                  apr_pool_t *pool, apr_sockaddr_t **first);

/* Tells how one of a name's several addresses was found by who tried it; all
 * requests of this process are to know. */
void fcgi_address_note(const apr_sockaddr_t *tried, int answered);

/* True if it failed when it was tried last. */
int fcgi_address_has_failed(const apr_sockaddr_t *tried);

/* One of those from first on that failed, and was not tried for some seconds:
 * the caller is to try it, beside what it does. NULL: none. */
apr_sockaddr_t *fcgi_address_to_probe(apr_sockaddr_t *first);

/* Nobody answers there: the name is to be looked up again, but not more than
 * once a second. */
void fcgi_address_doubt(const fcgi_address *address);

/* To be called once in each process, before any thread resolves. */
apr_status_t fcgi_address_start(apr_pool_t *pool);

#endif
