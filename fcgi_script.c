/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_script.c - what of a request is the script; the contract is in
 * fcgi_script.h.
 */
#include "fcgi_script.h"

#include <apr_strings.h>

#include <http_core.h>
#include <http_request.h>

#include "fcgi_address.h"
#include "fcgi_origin.h"

/* A script that is no file: the Location's path. Where a pattern stands for it
 * the path is the client's, and would lead PHP, which may know more folders
 * than httpd, to files that httpd has not looked at. */
static int map_virtual(request_rec *r, const fcgi_location *location)
{
    r->path_info = r->uri + strlen(location->path);
    r->filename =
        apr_pstrcat(r->pool, ap_document_root(r),
                    location->is_pattern ? "" : location->path, NULL);
    return OK;
}

/* True if the file's name has our handler, without what follows it. */
static int name_is_script(request_rec *r)
{
    const char *handler = r->handler, *type = r->content_type;
    char *path_info = r->path_info;
    int is_script;

    r->path_info = apr_pstrdup(r->pool, "");
    r->handler = NULL;
    ap_run_type_checker(r);
    is_script = r->handler && !strcasecmp(r->handler, handler);
    r->handler = handler;
    r->content_type = type;
    r->path_info = path_info;
    return is_script;
}

/* True if a URL path ends with the file's own name: it was asked for, and is
 * not what a rewrite rule put in its place. */
static int names_file(const request_rec *r, const char *uri)
{
    const char *asked = strrchr(uri, '/'), *file = strrchr(r->filename, '/');

    return asked && file && !strcmp(asked, file);
}

/* True if the URL up to the file has a handler of ours: this one's, or another
 * application's, where an <If> or a Location chooses among several. */
static int url_is_script(request_rec *r)
{
    char *uri = apr_pstrdup(r->pool, r->uri);
    apr_size_t rest = strlen(r->path_info), len;
    request_rec *script;
    int is_script;

    ap_no2slash(uri); /* as in path_info */
    len = strlen(uri);
    if (rest > len || strcmp(uri + len - rest, r->path_info)) {
        return 1;
    }
    uri[len - rest] = '\0';
    if (!fcgi_origin_is_below_location(r) && !names_file(r, uri)) {
        return 1;
    }
    uri = ap_os_escape_path(r->pool, uri, 1);
    if (r->args) {
        uri = apr_pstrcat(r->pool, uri, "?", r->args, NULL);
    }
    script = ap_sub_req_method_uri(r->method, uri, r, NULL);
    is_script = fcgi_address_is_ours(script->handler);
    ap_destroy_sub_req(script);
    return is_script;
}

/*
 * True if the file is a script without what follows its name. A handler may
 * hold for a URL only because of that: /photo.jpg/x.php must not make a
 * script of photo.jpg where only .php is one.
 */
static int is_script_itself(request_rec *r)
{
    switch (fcgi_origin_of(r)) {
    case FCGI_ORIGIN_URL:
        return url_is_script(r);
    case FCGI_ORIGIN_NAME:
        return name_is_script(r);
    case FCGI_ORIGIN_FILE:
        break;
    }
    return 1;
}

static int map_file(request_rec *r, const char **why)
{
    if (r->finfo.filetype != APR_REG) {
        *why = "there is no such file";
        return HTTP_NOT_FOUND;
    }
    if (!r->path_info || !*r->path_info) {
        return OK;
    }
    if (r->used_path_info == AP_REQ_REJECT_PATH_INFO) {
        *why = "AcceptPathInfo Off refuses what follows the script's name";
        return HTTP_NOT_FOUND;
    }
    if (!is_script_itself(r)) {
        *why = "the file itself is no script";
        return HTTP_NOT_FOUND;
    }
    return OK;
}

int fcgi_script_map(request_rec *r, fcgi_script mode, const char **location,
                    const char **why)
{
    int is_file =
        mode == FCGI_SCRIPT_FILE
        || (mode == FCGI_SCRIPT_AUTO && r->finfo.filetype == APR_REG);
    fcgi_location found = { NULL, 0 };
    int status;

    if (!is_file) {
        found = fcgi_origin_location(r);
    }
    *location = found.path;
    status = found.path ? map_virtual(r, &found) : map_file(r, why);
    if (status == OK && r->path_info && strpbrk(r->path_info, "\r\n")) {
        /* CVE-2019-11043: PHP-FPM counted wrongly where regular expressions
         * stop at a line end; no application needs one in a path. */
        *why = "there is a line end in PATH_INFO";
        status = HTTP_NOT_FOUND;
    }
    return status;
}
