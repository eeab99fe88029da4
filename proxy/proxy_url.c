/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * proxy_url.c - the contract is in proxy_url.h. What PHP-FPM gets to see of it
 * is that of mod_proxy_fcgi, which a test compares.
 */
#include "proxy_url.h"

#include <string.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include <http_core.h>
#include <http_log.h>

#include "proxy_request.h"
#include "proxy_variables.h"

APLOG_USE_MODULE(proxy_fastcgi);

#define SCHEME "fcgi"

int proxy_url_is_ours(const char *url)
{
    return !ap_cstr_casecmpn(url, SCHEME ":", sizeof(SCHEME));
}

/* The host as a URL has it. */
static const char *bracketed(apr_pool_t *pool, const char *host)
{
    return strchr(host, ':') ? apr_pstrcat(pool, "[", host, "]", NULL) : host;
}

const char *proxy_url_address(apr_pool_t *pool, const char *host,
                              apr_port_t port)
{
    return apr_psprintf(
        pool, "fcgi:%s:%u", bracketed(pool, host),
        (unsigned)(port ? port : ap_proxy_port_of_scheme(SCHEME)));
}

/* The path of a SetHandler is a file's, and no URL's; mod_proxy has a note
 * for that since httpd 2.4.63. */
static int comes_from_handler(const request_rec *r)
{
    return apr_table_get(r->notes, "proxy-sethandler")
           || (r->handler && !strncmp(r->handler, "proxy:", 6));
}

/* What follows the host, without its first slash; NULL: it cannot be read. */
static const char *canon_path(request_rec *r, const char *path)
{
    const core_dir_config *core;
    int keeps_slashes;

    if (comes_from_handler(r) || apr_table_get(r->notes, "proxy-nocanon")
        || apr_table_get(r->notes, "proxy-noencode")) {
        return path;
    }
    core = ap_get_core_module_config(r->per_dir_config);
    keeps_slashes =
        core->allow_encoded_slashes && !core->decode_encoded_slashes;
#ifdef PROXY_CANONENC_NOENCODEDSLASHENCODING
    return ap_proxy_canonenc_ex(
        r->pool, path, (int)strlen(path), enc_path,
        keeps_slashes ? PROXY_CANONENC_NOENCODEDSLASHENCODING : 0,
        r->proxyreq);
#else
    (void)keeps_slashes;
    return ap_proxy_canonenc(r->pool, path, (int)strlen(path), enc_path, 0,
                             r->proxyreq);
#endif
}

/* True if the application would not read all of a path, or a log not show it:
 * PHP-FPM takes what follows a ? for a query. */
static int is_odd(const request_rec *r, const char *path)
{
    int ends_at_query = !proxy_variables_are_generic(r);

    while (*path && !apr_iscntrl(*path) && !(ends_at_query && *path == '?')) {
        path++;
    }
    return *path != '\0';
}

static int refuse_odd(request_rec *r, const char *path)
{
    if (!is_odd(r, path)) {
        return OK;
    }
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                  PROXY_LOGNO("40") "not asked for a path that has control "
                                    "characters or a ?: %s",
                  path);
    return HTTP_FORBIDDEN;
}

static void set_path_info(request_rec *r, const char *text, int is_encoded)
{
    r->path_info = apr_pstrdup(r->pool, text);
    if (is_encoded) {
        ap_unescape_url_keep2f(r->path_info, 0);
    }
}

/* PATH_INFO is what follows the first slash behind that dot. */
static void split_behind(request_rec *r, const char *dot)
{
    const char *slash = dot ? strchr(dot, '/') : NULL;

    if (slash) {
        set_path_info(r, slash, 1);
    }
}

/* What the variable proxy-fcgi-pathinfo asks for. given is the path before it
 * was encoded. */
static void divide(request_rec *r, const char *path, const char *given)
{
    const char *how = apr_table_get(r->subprocess_env, "proxy-fcgi-pathinfo");

    proxy_request_of(r)->full_path = NULL;
    if (!how) {
        return;
    }
    if (!strcasecmp(how, "full")) {
        proxy_request_of(r)->full_path =
            apr_pstrcat(r->pool, "/", given, NULL);
    }
    else if (!strcasecmp(how, "first-dot")) {
        split_behind(r, strchr(path, '.'));
    }
    else if (!strcasecmp(how, "last-dot")) {
        split_behind(r, strrchr(path, '.'));
    }
    else {
        set_path_info(r, apr_pstrcat(r->pool, "/", path, NULL),
                      !strcasecmp(how, "unescape"));
    }
}

int proxy_url_canon(request_rec *r, char *url)
{
    apr_port_t port = ap_proxy_port_of_scheme(SCHEME), own_port = port;
    const char *problem, *path;
    char *host;

    proxy_request_of(r)->is_canonical = 1; /* a balancer's, too */
    if (!proxy_url_is_ours(url)) {
        return DECLINED;
    }
    url += sizeof(SCHEME);
    problem = ap_proxy_canon_netloc(r->pool, &url, NULL, NULL, &host, &port);
    if (problem) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      PROXY_LOGNO("40") "no URL of an application: %s: %s",
                      url, problem);
        return HTTP_BAD_REQUEST;
    }
    path = canon_path(r, url);
    if (!path) {
        return HTTP_BAD_REQUEST;
    }
    if (refuse_odd(r, path) != OK) {
        return HTTP_FORBIDDEN;
    }
    r->filename = apr_psprintf(
        r->pool, "proxy:" SCHEME "://%s%s/%s", bracketed(r->pool, host),
        port == own_port ? "" : apr_psprintf(r->pool, ":%u", (unsigned)port),
        path);
    divide(r, path, url);
    return OK;
}

int proxy_url_check(request_rec *r, const char *url)
{
    if (proxy_request_of(r)->is_canonical || !comes_from_handler(r)) {
        return OK;
    }
    return refuse_odd(r, url + sizeof(SCHEME));
}
