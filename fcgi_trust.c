/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_trust.c - who may send a request where; the contract is in
 * fcgi_trust.h.
 *
 * THE RULE: an author of .htaccess files does not make httpd connect to an
 * address that the server's own configuration did not give to that very
 * request, unless FcgiAllow admits it. That it is named elsewhere, by another
 * virtual host or by FcgiBackend, permits nothing.
 *
 * The people, and what each may change:
 *
 * The administrator: the server's own files. All of it is trusted.
 *
 * The author of .htaccess files, with AllowOverride All, who owns his folder
 * and all links in it, and the code that runs in his own pool:
 *
 *   what               by                      takes effect in
 *   the handler        SetHandler, AddHandler, type_checker, fixups
 *                      AddType, RewriteRule [H], in sections, too
 *   variables          <FilesMatch "(?<n>)">   map_to_storage
 *                      SetEnvIf, BrowserMatch  header_parser
 *                      SetEnv, RewriteRule [E] fixups
 *                      <!--#set -->            an output filter: subrequests
 *   header fields      RequestHeader           fixups: after a redirect, and
 *                                              in subrequests
 *   the user           AuthUserFile and so on  check_user_id
 *   the URL            RewriteRule, Redirect,  a redirect or a subrequest,
 *                      ErrorDocument, Action,  which begins again: the
 *                      DirectoryIndex,         server's own <If>, SetEnvIf
 *                      FallbackResource, SSI   and rules look at all above
 *   where a path leads links                   connect()
 *
 *   What of ours reads it: r->handler and SetHandler's expression here;
 *   variables and fields in fcgi_env and fcgi_param; a socket's path in
 *   fcgi_conn. A hard link to another's socket is the file system's business
 *   (fs.protected_hardlinks).
 *
 * A client: the URL, the method, header fields, a user whose password he has.
 * Where that leads him is as the administrator says.
 *
 * So, from the cheapest on:
 * - nobody else had a part in the request (fcgi_untouched_is()): it is the
 *   server's own;
 * - its SetHandler has no variables, and stands in a section of the server's
 *   own files that asks for nothing but the URL or the file: the same;
 * - else httpd is asked what the request would get without any .htaccess file
 *   (fcgi_untouched), and that must be the same address;
 * - or FcgiAllow admits it (fcgi_allow).
 */
#include "fcgi_trust.h"

#include "fcgi_allow.h"
#include "fcgi_config.h"
#include "fcgi_conftree.h"
#include "fcgi_known.h"
#include "fcgi_origin.h"
#include "fcgi_untouched.h"

/* What a request's handler means. */
typedef struct target {
    const fcgi_backend *backend; /* NULL: the configuration names none */
    fcgi_address *address;       /* NULL: it does */
    const char *name;            /* of the address */
} target;

static const char *find_target(request_rec *r, const char *handler,
                               target *found)
{
    const char *problem;

    found->backend = NULL;
    found->address = NULL;
    problem = fcgi_known_find(r->pool, handler, fcgi_origin_exact(r),
                              &found->backend, &found->address);
    if (!problem) {
        found->name =
            found->backend ? found->backend->name : found->address->name;
    }
    return problem;
}

static int have_same_target(request_rec *one, request_rec *other)
{
    /* where httpd finds no handler, it takes the type */
    const char *handler =
        other->handler ? other->handler : other->content_type;
    target of_one, of_other;

    if (!handler || !fcgi_address_is_ours(one->handler)) {
        return handler && !strcmp(handler, one->handler);
    }
    return fcgi_address_is_ours(handler)
           && !find_target(one, one->handler, &of_one)
           && !find_target(other, handler, &of_other)
           && !strcmp(of_one.name, of_other.name);
}

/* Asks httpd what it would give r without any .htaccess file. */
static int is_given_untouched(request_rec *r)
{
    request_rec *untouched;
    apr_pool_t *pool;
    int is_same;

    if (apr_pool_create(&pool, r->pool) != APR_SUCCESS) {
        return 0;
    }
    untouched = fcgi_untouched_make(r, pool);
    is_same = untouched && have_same_target(r, untouched);
    apr_pool_destroy(pool);
    return is_same;
}

int fcgi_trust_is_servers_own(request_rec *r)
{
    return fcgi_untouched_is(r)
           || (!fcgi_conftree_any_dynamic() && fcgi_origin_is_fixed(r))
           || is_given_untouched(r);
}

const char *fcgi_trust_backend(request_rec *r, const fcgi_backend **backend)
{
    target found;
    const char *problem = find_target(r, r->handler, &found);

    *backend = found.backend;
    if (problem) {
        return problem;
    }
    if (!fcgi_trust_is_servers_own(r)) {
        return fcgi_allow_admit(r->pool, fcgi_config_settings(r)->allow,
                                found.address, backend);
    }
    if (!*backend) {
        *backend = fcgi_known_make(r->pool, found.address);
    }
    return NULL;
}
