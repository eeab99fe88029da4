/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_replace.c - answers for other answers; the contract is in
 * fcgi_replace.h. What is given instead is httpd's own: internal redirects,
 * ErrorDocument, file buckets, so that its ranges, conditions and access
 * rules hold.
 */
#include "fcgi_replace.h"

#include <apr_buckets.h>
#include <apr_file_io.h>
#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>

#include "fcgi_body.h"
#include "fcgi_log.h"
#include "fcgi_path.h"

APLOG_USE_MODULE(fastcgi_handler);

/* What type an answer is to have, for whatever answers in its place. */
#define TYPE_NOTE "fastcgi-handler-type"

/* ---- deciding ---- */

static int is_location_or_type(void *data, const char *name, const char *value)
{
    (void)data;
    (void)value;
    return !ap_cstr_casecmp(name, "Location")
           || !ap_cstr_casecmp(name, "Content-Type");
}

/* Location without Status: a local path with nothing but a Content-Type
 * beside it asks for an internal redirect. */
static fcgi_replacement decide_location(fcgi_head *head)
{
    const char *location = apr_table_get(head->fields, "Location");
    fcgi_replacement result = { FCGI_REPLACE_NOT, NULL, 0 };

    if (!location || head->status) {
        return result;
    }
    if (location[0] == '/' && location[1] != '/'
        && apr_table_do(is_location_or_type, NULL, head->fields, NULL)) {
        result.kind = FCGI_REPLACE_LOCAL;
        result.target = location;
    }
    else {
        head->status = HTTP_MOVED_TEMPORARILY;
    }
    return result;
}

/* True if FcgiErrorOverride names a status; without a list, all errors. */
static int is_overridden(const fcgi_dir_config *conf, int status)
{
    int i;

    if (!conf->error_override || !ap_is_HTTP_ERROR(status)) {
        return 0;
    }
    for (i = 0; conf->error_codes && i < conf->error_codes->nelts; i++) {
        if (APR_ARRAY_IDX(conf->error_codes, i, int) == status) {
            return 1;
        }
    }
    return !conf->error_codes || !conf->error_codes->nelts;
}

/* A file comes in place of the body: what was said of that, and that it was a
 * part, does not hold any more. */
static void forget_body(fcgi_head *head)
{
    static const char *const names[] = { "Content-Encoding", "Content-Range",
                                         "Content-MD5",      "Digest",
                                         "Repr-Digest",      "Content-Digest",
                                         "Accept-Ranges",    NULL };
    int i;

    for (i = 0; names[i]; i++) {
        apr_table_unset(head->fields, names[i]);
    }
    head->content_length = -1;
    if (head->status == HTTP_PARTIAL_CONTENT) {
        head->status = HTTP_OK;
        head->reason = NULL;
    }
}

/* X-Sendfile and X-Accel-Redirect, which the client must not see. */
static fcgi_replacement decide_file(const fcgi_dir_config *conf,
                                    fcgi_head *head)
{
    const char *file = apr_table_get(head->fields, "X-Sendfile");
    const char *url = apr_table_get(head->fields, "X-Accel-Redirect");
    fcgi_replacement result = { FCGI_REPLACE_NOT, NULL, 0 };

    if (!conf->sendfile || !conf->sendfile->nelts) {
        return result;
    }
    apr_table_unset(head->fields, "X-Sendfile");
    apr_table_unset(head->fields, "X-Accel-Redirect");
    if (file) {
        result.kind = FCGI_REPLACE_FILE;
        result.target = file;
        forget_body(head);
    }
    else if (url) {
        result.kind = FCGI_REPLACE_URL;
        result.target = url;
    }
    return result;
}

fcgi_replacement fcgi_replace_decide(request_rec *r, fcgi_head *head)
{
    const fcgi_dir_config *conf = fcgi_config_settings(r);
    fcgi_replacement result = decide_file(conf, head);

    if (result.kind == FCGI_REPLACE_NOT) {
        result = decide_location(head);
    }
    if (result.kind == FCGI_REPLACE_NOT && is_overridden(conf, head->status)
        && !fcgi_body_is_error_page(r)) {
        result.kind = FCGI_REPLACE_ERROR_PAGE;
        result.status = head->status;
    }
    return result;
}

/* ---- doing it ---- */

/* An internal redirect: a new request, a GET, with its own access rules. */
static int redirect(request_rec *r, const char *path)
{
    const char *method = r->method;
    int method_number = r->method_number;
    int is_ours = fcgi_body_is_of(r);
    int status = is_ours && !r->main ? ap_discard_request_body(r) : OK;

    if (status != OK) {
        return status;
    }
    r->method = "GET";
    r->method_number = M_GET;
    if (is_ours) {
        /* never before it is read: httpd reads it by these */
        apr_table_unset(r->headers_in, "Content-Length");
        apr_table_unset(r->headers_in, "Transfer-Encoding");
    }
    ap_internal_redirect(path, r);
    r->method = method; /* for the access log */
    r->method_number = method_number;
    return OK;
}

static int keep_field(void *fields, const char *name, const char *value)
{
    apr_table_addn(fields, name, value);
    return 1;
}

/* Fields of the application's that hold for the other answer, too. */
static void keep_fields(request_rec *r, const apr_table_t *fields,
                        const char *const *names)
{
    for (; *names; names++) {
        apr_table_do(keep_field, r->err_headers_out, fields, *names, NULL);
    }
}

/* The methods of the application's Allow field, for httpd's own, which its
 * own pages have; other pages get the application's. */
static void keep_allow(request_rec *r, const apr_table_t *fields)
{
    const char *allow = apr_table_get(fields, "Allow");
    char *method, *last;

    if (!allow) {
        return;
    }
    ap_clear_method_list(r->allowed_methods);
    for (method = apr_strtok(apr_pstrdup(r->pool, allow), ", ", &last); method;
         method = apr_strtok(NULL, ", ", &last)) {
        ap_method_list_add(r->allowed_methods, method);
    }
    r->allowed = r->allowed_methods->method_mask;
}

/* True if path lies in a folder; all links in path are followed. */
static int is_below(apr_pool_t *pool, const char *path, const char *folder)
{
    const char *real = fcgi_path_real(pool, folder);
    apr_size_t len = real ? strlen(real) : 0;

    return real && !strncmp(path, real, len)
           && (path[len] == '/' || !strcmp(real, "/"));
}

/* The script's path. Where another module has chosen the application, that is
 * in what it made of the name: "proxy:fcgi://host/path". */
static const char *script_of(const request_rec *r)
{
    const char *name = r->filename;

    if (name && !strncmp(name, "proxy:", 6)) {
        name = strstr(name, "fcgi://");
        name = name ? strchr(name + 7, '/') : NULL;
    }
    return name && name[0] == '/' ? name : NULL;
}

/* What path is called from the root on: a relative one is below the script's
 * folder. NULL if it is not. */
static const char *make_absolute(request_rec *r, const char *path)
{
    const char *script = script_of(r);
    char *absolute;

    if (path[0] == '/') {
        return path;
    }
    return script
                   && apr_filepath_merge(
                          &absolute, ap_make_dirstr_parent(r->pool, script),
                          path, APR_FILEPATH_SECUREROOT, r->pool)
                          == APR_SUCCESS
               ? absolute
               : NULL;
}

/* The file at path, with all links followed; NULL if there is none, or if it
 * lies in no folder that FcgiSendfile names. */
static const char *find_at(request_rec *r, const char *path)
{
    const apr_array_header_t *folders = fcgi_config_settings(r)->sendfile;
    const char *absolute = make_absolute(r, path);
    const char *real = absolute ? fcgi_path_real(r->pool, absolute) : NULL;
    int i;

    for (i = 0; real && i < folders->nelts; i++) {
        if (is_below(r->pool, real, APR_ARRAY_IDX(folders, i, const char *))) {
            return real;
        }
    }
    return NULL;
}

/* The file that name means as it is, or as a URL would have it: applications
 * written for mod_xsendfile encode it. NULL as find_at(). */
static const char *find_file(request_rec *r, const char *name)
{
    const char *path = find_at(r, name);
    char *decoded = apr_pstrdup(r->pool, name);

    if (!path && strchr(name, '%') && ap_unescape_url(decoded) == OK) {
        path = find_at(r, decoded);
    }
    return path;
}

/* Opens a regular file; *info is what it is. The owner of the folder may put
 * another into its place at any moment: what is asked is the open one. */
static apr_status_t open_file(request_rec *r, const char *path,
                              apr_file_t **file, apr_finfo_t *info)
{
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);
    apr_int32_t sendfile = core->enable_sendfile == ENABLE_SENDFILE_ON
                               ? APR_FOPEN_SENDFILE_ENABLED
                               : 0;
    apr_status_t rv =
        path ? fcgi_path_open(file, path, sendfile, r->pool) : APR_ENOENT;

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = apr_file_info_get(info, APR_FINFO_NORM, *file);
    if (rv != APR_SUCCESS && !APR_STATUS_IS_INCOMPLETE(rv)) {
        return rv;
    }
    return info->filetype == APR_REG ? APR_SUCCESS : APR_ENOENT;
}

/* What httpd's own handler of files says of one. */
static void set_file_fields(request_rec *r, const apr_finfo_t *info)
{
    r->finfo = *info;
    ap_update_mtime(r, info->mtime);
    if (!apr_table_get(r->headers_out, "Last-Modified")) {
        ap_set_last_modified(r);
    }
    if (!apr_table_get(r->headers_out, "ETag")) {
        ap_set_etag(r);
    }
    apr_table_setn(r->headers_out, "Accept-Ranges", "bytes");
    ap_set_content_length(r, info->size);
}

/* A type for a file of which the application says none, by its name. */
static void set_file_type(request_rec *r, const char *path)
{
    const char *handler = r->handler;

    r->filename = apr_pstrdup(r->pool, path);
    r->path_info = NULL;
    ap_run_type_checker(r);
    r->handler = handler;
}

static int send_file(fcgi_outlet *outlet, const fcgi_replacement *replacement,
                     const char *backend)
{
    request_rec *r = outlet->r;
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);
    const char *asked = replacement->target;
    const char *path = find_file(r, asked);
    apr_finfo_t info;
    apr_file_t *file;
    apr_status_t rv = open_file(r, path, &file, &info);
    int condition;

    if (rv != APR_SUCCESS) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, path ? rv : 0, r,
                      FCGI_LOGNO("25") "%s: X-Sendfile names '%s', which is "
                                       "no regular file that can be read "
                                       "below a folder of FcgiSendfile",
                      backend, asked);
        return HTTP_NOT_FOUND;
    }
    set_file_fields(r, &info);
    if (!r->content_type) {
        set_file_type(r, path);
    }
    condition = r->status == HTTP_OK ? ap_meets_conditions(r) : OK;
    if (condition == HTTP_NOT_MODIFIED) {
        r->status = condition; /* as in conclude_done() */
        return OK;
    }
    if (condition != OK) {
        return condition;
    }
    if (info.size) {
        apr_bucket *bucket =
            apr_brigade_insert_file(outlet->bb, file, 0, info.size, r->pool);

        if (core->enable_mmap == ENABLE_MMAP_OFF) {
            apr_bucket_file_enable_mmap(bucket, 0);
        }
    }
    fcgi_outlet_add_eos(outlet);
    return fcgi_outlet_give(outlet) ? OK : AP_FILTER_ERROR;
}

/* True if httpd takes it for a path of its own: not 100%.txt. */
static int is_local_path(apr_pool_t *pool, const char *target)
{
    char *path = apr_pstrmemdup(pool, target, strcspn(target, "?"));

    return path[0] == '/' && ap_unescape_url(path) != HTTP_BAD_REQUEST;
}

/* X-Accel-Redirect: as RFC 3875, 6.2.2, keeping some fields. */
static int send_url(request_rec *r, const fcgi_replacement *replacement,
                    const apr_table_t *fields, const char *backend)
{
    static const char *const kept[] = { "Set-Cookie", "Cache-Control",
                                        "Expires", "Content-Disposition",
                                        NULL };
    const char *type = apr_table_get(fields, "Content-Type");

    if (!is_local_path(r->pool, replacement->target)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      FCGI_LOGNO("25") "%s: X-Accel-Redirect names '%s', "
                                       "which is no path of this server",
                      backend, replacement->target);
        return HTTP_NOT_FOUND;
    }
    keep_fields(r, fields, kept);
    if (type && *type) {
        apr_table_setn(r->notes, TYPE_NOTE, type);
    }
    return redirect(r, replacement->target);
}

int fcgi_replace_keep_type(request_rec *r)
{
    const char *type = r->prev && !fcgi_body_is_error_document(r)
                           ? apr_table_get(r->prev->notes, TYPE_NOTE)
                           : NULL;

    if (type) {
        ap_set_content_type(r, type);
        if (!r->handler) {
            /* before 2.4.60 httpd takes the type for its name */
            r->handler = AP_DEFAULT_HANDLER_NAME;
        }
    }
    return DECLINED;
}

int fcgi_replace_perform(fcgi_outlet *outlet,
                         const fcgi_replacement *replacement,
                         const apr_table_t *fields, const char *backend)
{
    request_rec *r = outlet->r;
    static const char *const of_page[] = { "WWW-Authenticate", "Retry-After",
                                           "Allow", "Set-Cookie", NULL };

    switch (replacement->kind) {
    case FCGI_REPLACE_LOCAL:
        return redirect(r, replacement->target);
    case FCGI_REPLACE_URL:
        return send_url(r, replacement, fields, backend);
    case FCGI_REPLACE_ERROR_PAGE:
        keep_allow(r, fields);
        keep_fields(r, fields, of_page);
        return replacement->status;
    case FCGI_REPLACE_FILE:
        return send_file(outlet, replacement, backend);
    case FCGI_REPLACE_NOT:
        break;
    }
    return OK;
}
