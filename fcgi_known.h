/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_known.h - the register of the backends that the server's configuration
 * names. One address is one backend, however often and wherever it is named.
 * Who enters them: fcgi_conftree (handlers) and fcgi_declare (FcgiBackend).
 * Knows no directive and no request.
 */
#ifndef FCGI_KNOWN_H
#define FCGI_KNOWN_H

#include "fcgi_backend.h"

struct fcgi_declared;

/* A backend of the configuration. */
typedef struct fcgi_known {
    fcgi_backend *backend;
    fcgi_address *address;
    const char *alias;     /* FcgiBackend's last name for it, or NULL */
    const char *real_name; /* of its account: links in its folder followed */
    struct fcgi_declared *declared; /* what FcgiBackend says; NULL: nothing */
} fcgi_known;

/* Forgets all; before a configuration is read. Lives in pconf. */
void fcgi_known_start(apr_pool_t *pconf);

/* ---- while the configuration is read ---- */

/* The backend of an address, entered if there was none. */
fcgi_known *fcgi_known_enter(apr_pool_t *pool, fcgi_address *address);

/*
 * Enters a handler's name, "fcgi:...". is_lowered: it stands where httpd does
 * not keep upper and lower case (AddHandler, RewriteRule). Returns NULL, or
 * what is wrong with its address.
 */
const char *fcgi_known_enter_handler(apr_pool_t *pool, const char *name,
                                     int is_lowered);

/* Gives a backend a name. Returns NULL, or that it is another's. */
const char *fcgi_known_set_name(apr_pool_t *pool, fcgi_known *known,
                                const char *name);

/* Shows each backend once, until visit() returns something else than 0, which
 * is returned. */
int fcgi_known_each(int (*visit)(void *baton, fcgi_known *known), void *baton);

/* Gives every backend its account in the shared memory, with a line where it
 * has a max. APR_ENOMEM: one that has limits got none. */
apr_status_t fcgi_known_open_accounts(void);

/* ---- while requests are served ---- */

/* The backend that FcgiBackend gave that name, in any case of letters; NULL:
 * none. */
const fcgi_backend *fcgi_known_named(apr_pool_t *pool, const char *name);

/* The backend of a unix socket's path without links; NULL: none. */
const fcgi_backend *fcgi_known_at(apr_pool_t *pool, const char *path);

/* The backend whose account has that name, and FcgiBackend's name for it or
 * NULL; NULL if the configuration names none. */
const fcgi_backend *fcgi_known_of_account(const char *name,
                                          const char **alias);

/* FcgiBackend's name for a backend of the configuration, or NULL. */
const char *fcgi_known_name(const fcgi_backend *backend);

/* True if connections to any of them are kept. */
int fcgi_known_any_kept(void);

/* True if connections to any of them have a max, and requests may wait. */
int fcgi_known_any_limited(void);

/*
 * What a handler name means. exact is the name as the configuration spells
 * it; NULL if only the handler is known, which httpd lower-cases on some
 * ways: the spelling is restored then. Sets *backend if the configuration
 * names it; else *backend is NULL, and *address its address, in pool. Returns
 * NULL, or a sentence that says what is wrong.
 */
const char *fcgi_known_find(apr_pool_t *pool, const char *handler,
                            const char *exact, const fcgi_backend **backend,
                            fcgi_address **address);

/* A backend that the configuration does not name, without limits; in pool. */
const fcgi_backend *fcgi_known_make(apr_pool_t *pool,
                                    const fcgi_address *address);

#endif
