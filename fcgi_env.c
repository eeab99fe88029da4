/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_env.c - the variables of a request; the contract is in fcgi_env.h.
 * Core makes them as for any CGI script (ap_add_common_vars,
 * ap_add_cgi_vars); what is changed afterwards stands in adjust().
 */
#include "fcgi_env.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <http_core.h>
#include <util_script.h>

#include "fcgi_body.h"
#include "fcgi_origin.h"
#include "fcgi_param.h"
#include "fcgi_path.h"
#include "fcgi_record.h"

/* The value of REDIRECT_name, or of REDIRECT_REDIRECT_name and so on. */
static const char *get_redirected(request_rec *r, const char *name)
{
    const request_rec *prev = r->prev;
    const char *value = NULL;

    for (; prev && !value; prev = prev->prev) {
        name = apr_pstrcat(r->pool, "REDIRECT_", name, NULL);
        value = apr_table_get(r->subprocess_env, name);
    }
    return value;
}

/* True if an internal redirect led here from a file that has a handler of
 * mod_actions, which says so in the variable HANDLER. */
static int is_action(const request_rec *r)
{
    const request_rec *asked = r->prev;

    return asked && asked->filename && !fcgi_body_is_error_document(r)
           && apr_table_get(asked->subprocess_env, "HANDLER");
}

/*
 * True if this request runs an Action for the file that PATH_TRANSLATED
 * names: then httpd has looked at that file, its access rules and its handler.
 */
static int runs_action(const request_rec *r)
{
    const request_rec *asked = r->prev;
    const char *translated =
        is_action(r) ? apr_table_get(r->subprocess_env, "PATH_TRANSLATED")
                     : NULL;

    return translated
           && !strcmp(translated,
                      apr_pstrcat(r->pool, asked->filename,
                                  asked->path_info ? asked->path_info : "",
                                  NULL));
}

/* True if a file is a PHP script by its name: .php, .php8, .phtml, .phar. */
static int is_php(const char *path)
{
    const char *name = strrchr(path, '/');
    const char *dot = name ? strrchr(name, '.') : NULL;

    if (dot && !strncasecmp(dot, ".php", 4)) {
        return dot[4 + strspn(dot + 4, "0123456789")] == '\0';
    }
    return dot && (!strcasecmp(dot, ".phtml") || !strcasecmp(dot, ".phar"));
}

/*
 * PHP-FPM takes a script that comes with REDIRECT_URL for the interpreter
 * that an Action names, and drops its PATH_INFO. It does not if it knows that
 * httpd asks, by the prefix that mod_proxy_fcgi puts before SCRIPT_FILENAME;
 * PHP never sees that. Behind the prefix it reads a URL, so that a name with
 * its special characters would become another one.
 */
static void keep_path_info(request_rec *r)
{
    apr_table_t *env = r->subprocess_env;
    const char *script, *path_info;

    if (!apr_table_get(env, "REDIRECT_URL")) {
        return;
    }
    script = apr_table_get(env, "SCRIPT_FILENAME");
    path_info = apr_table_get(env, "PATH_INFO");
    if (!script || *script != '/' || !is_php(script) || !path_info
        || !*path_info) {
        return;
    }
    if (strpbrk(script, "?%")) {
        apr_table_unset(env, "REDIRECT_URL");
    }
    else {
        apr_table_setn(
            env, "SCRIPT_FILENAME",
            apr_pstrcat(r->pool, "proxy:fcgi://localhost", script, NULL));
    }
}

/* CONTENT_LENGTH (RFC 3875, 4.1.2), of what is sent and not of what was said
 * of it, in a field or by others. */
static void set_content_length(request_rec *r, apr_off_t body_len, int others,
                               int is_coded)
{
    apr_table_t *env = r->subprocess_env;

    if (!fcgi_body_is_of(r)) {
        apr_table_unset(env, "CONTENT_LENGTH"); /* another one has it */
    }
    else if (body_len > 0 || (!body_len && is_coded)) {
        apr_table_setn(env, "CONTENT_LENGTH",
                       apr_off_t_toa(r->pool, body_len));
    }
    else if (!body_len) {
        const char *said =
            others || apr_table_get(r->headers_in, "Content-Length")
                ? apr_table_get(env, "CONTENT_LENGTH")
                : NULL;

        if (said && strcmp(said, "0")) {
            apr_table_unset(env, "CONTENT_LENGTH"); /* another one had it */
        }
    }
    else if (r->input_filters != r->proto_input_filters) {
        apr_table_unset(env, "CONTENT_LENGTH"); /* a filter may change it */
    }
}

/* A path as the application sees it, if it lies below root; real is where the
 * application has root. */
static const char *moved(apr_pool_t *pool, const char *path, const char *root,
                         const char *real)
{
    apr_size_t len = strlen(root);

    while (len && root[len - 1] == '/') {
        len--;
    }
    if (strncmp(path, root, len) || (path[len] && path[len] != '/')) {
        return path;
    }
    return !path[len] ? real
                      : apr_pstrcat(pool, strcmp(real, "/") ? real : "",
                                    path + len, NULL);
}

/* Sets a variable to the path without links that path means, if it is there. */
static void set_real_path(request_rec *r, const char *name, const char *path)
{
    const char *real = fcgi_path_real(r->pool, path);

    if (real) {
        apr_table_setn(r->subprocess_env, name, real);
    }
}

/* FcgiDocumentRoot: paths as the application has them. */
static void move_document_root(request_rec *r, const fcgi_dir_config *conf)
{
    static const char *const names[] = { "SCRIPT_FILENAME", "DOCUMENT_ROOT",
                                         "CONTEXT_DOCUMENT_ROOT",
                                         "PATH_TRANSLATED", NULL };
    const char *root = ap_document_root(r);
    const char *context = ap_context_document_root(r);
    const char *real =
        conf->real_paths ? fcgi_path_real(r->pool, root) : conf->document_root;
    int i;

    for (i = 0; real && *real && names[i]; i++) {
        const char *path = apr_table_get(r->subprocess_env, names[i]);

        if (path) {
            apr_table_setn(r->subprocess_env, names[i],
                           moved(r->pool, path, root, real));
        }
    }
    if (conf->real_paths) {
        set_real_path(r, "SCRIPT_FILENAME", r->filename);
        if (strcmp(context, root)) { /* an Alias */
            set_real_path(r, "CONTEXT_DOCUMENT_ROOT", context);
        }
    }
}

/* Takes away what an application must not see: a PATH_TRANSLATED of others
 * PHP-FPM would run in place of SCRIPT_FILENAME, if there is a REDIRECT_URL,
 * or always with cgi.fix_pathinfo=0. The transfer coding is undone here (RFC
 * 9112, 6.1), and a length is sent once, as CONTENT_LENGTH. */
static void hide_names(request_rec *r, int others, int is_coded)
{
    apr_table_t *env = r->subprocess_env;

    if ((others || is_action(r)) && !runs_action(r)) {
        apr_table_unset(env, "PATH_TRANSLATED");
    }
    if (others || is_coded) {
        apr_table_unset(env, "HTTP_TRANSFER_ENCODING");
    }
    if (others) {
        apr_table_unset(env, "HTTP_CONTENT_LENGTH");
    }
}

/* The late changes to core's variables; with others not all are core's. */
static void adjust(request_rec *r, apr_off_t body_len, int others)
{
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);
    const fcgi_dir_config *conf = fcgi_config_settings(r);
    apr_table_t *env = r->subprocess_env;
    int is_coded = apr_table_get(r->headers_in, "Transfer-Encoding") != NULL;
    const char *authorization;

    hide_names(r, others, is_coded);
    set_content_length(r, body_len, others, is_coded);

    /* What a SetEnvIf or RewriteRule recipe set before an internal redirect
     * is meant for the script behind it, unless CGIPassAuth says no. */
    authorization = get_redirected(r, "HTTP_AUTHORIZATION");
    if (authorization && core->cgi_pass_auth != AP_CGI_PASS_AUTH_OFF
        && !apr_table_get(env, "HTTP_AUTHORIZATION")) {
        apr_table_setn(env, "HTTP_AUTHORIZATION", authorization);
    }
    move_document_root(r, conf);
    fcgi_param_apply(r, conf->params);
    /* else nobody has set the REDIRECT_URL that it is about */
    if (r->prev || others || conf->params) {
        keep_path_info(r);
    }
}

static int has_lower_case(const char *name)
{
    while (*name && !apr_islower(*name)) {
        name++;
    }
    return *name != '\0';
}

/*
 * Takes away the variables whose names have lower case, as apr_table_entry_t,
 * while core makes its own: a table knows one name in any case and keeps the
 * first spelling, so that SetEnv remote_user would leave no REMOTE_USER.
 */
static const apr_array_header_t *take_lower_case(request_rec *r)
{
    const apr_array_header_t *all = apr_table_elts(r->subprocess_env);
    apr_array_header_t *taken =
        apr_array_make(r->pool, 1, sizeof(apr_table_entry_t));
    int i;

    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *pair =
            &APR_ARRAY_IDX(all, i, const apr_table_entry_t);

        if (has_lower_case(pair->key)) {
            APR_ARRAY_PUSH(taken, apr_table_entry_t) = *pair;
        }
    }
    for (i = 0; i < taken->nelts; i++) {
        apr_table_unset(r->subprocess_env,
                        APR_ARRAY_IDX(taken, i, apr_table_entry_t).key);
    }
    return taken;
}

/* So many header fields are compared, each with each, and variables of the
 * connection, many of which have one checksum; more are sorted. */
#define FIELDS_COMPARED    64
#define VARIABLES_COMPARED 12

/* True if two have one name, or there are more than so many. The checksum, by
 * which APR finds names, is cheaper to compare. */
static int may_be_twice(const apr_array_header_t *pairs, int most)
{
    const apr_table_entry_t *first = (const apr_table_entry_t *)pairs->elts;
    const apr_table_entry_t *last = first + pairs->nelts, *a, *b;

    if (pairs->nelts > most) {
        return 1;
    }
    for (a = first; a < last; a++) {
        for (b = first; b < a; b++) {
            if (a->key_checksum == b->key_checksum
                && !strcasecmp(a->key, b->key)) {
                return 1;
            }
        }
    }
    return 0;
}

/* True of the names that mod_http2 and mod_ssl have: none is core's. */
static int is_of_connection(const char *name)
{
    return (!strncmp(name, "H2", 2) || !strncmp(name, "SSL_", 4)
            || !strcmp(name, "HTTP2") || !strcmp(name, "HTTPS"))
           && !has_lower_case(name);
}

/*
 * Takes away all variables, as apr_table_entry_t, while core makes its own, if
 * they are mod_http2's and mod_ssl's and no others; else NULL. Where there are
 * any core makes its own aside, APR sorts both and merges them, and each name
 * has to be looked for here: 9 000 instructions over HTTP/2. Of two with one
 * name the last one holds, as where APR merges.
 */
static const apr_array_header_t *take_of_connection(request_rec *r)
{
    const apr_array_header_t *all = apr_table_elts(r->subprocess_env);
    int i = 0;

    while (i < all->nelts
           && is_of_connection(APR_ARRAY_IDX(all, i, apr_table_entry_t).key)) {
        i++;
    }
    if (i < all->nelts) {
        return NULL;
    }
    if (may_be_twice(all, VARIABLES_COMPARED)) {
        apr_table_compress(r->subprocess_env, APR_OVERLAP_TABLES_SET);
    }
    all = apr_array_copy(r->pool, all);
    apr_table_clear(r->subprocess_env);
    return all;
}

static void give_back(request_rec *r, const apr_array_header_t *taken)
{
    int i;

    for (i = 0; i < taken->nelts; i++) {
        const apr_table_entry_t *pair =
            &APR_ARRAY_IDX(taken, i, const apr_table_entry_t);

        apr_table_addn(r->subprocess_env, pair->key, pair->val);
    }
}

/* Sets a variable whose name nobody has, in any case. */
static void set_if_new(request_rec *r, const char *name, const char *value)
{
    if (!apr_table_get(r->subprocess_env, name)) {
        apr_table_setn(r->subprocess_env, name, value);
    }
}

/* SCRIPT_NAME and PATH_INFO, as core has them, or for a script that is no
 * file. */
static void set_script_name(request_rec *r, const char *location)
{
    apr_table_t *env = r->subprocess_env;
    const char *rest = r->path_info;

    if (location) {
        apr_table_setn(env, "SCRIPT_NAME", location);
        apr_table_setn(env, "PATH_INFO", rest);
    }
    else if (rest && *rest) {
        if (strcmp(r->protocol, "INCLUDED")) {
            apr_table_setn(
                env, "SCRIPT_NAME",
                apr_pstrndup(r->pool, r->uri,
                             (apr_size_t)ap_find_path_info(r->uri, rest)));
        }
        apr_table_setn(env, "PATH_INFO", rest);
    }
}

/*
 * Those of core's variables that say what is asked for, in a table of their
 * own. PATH_TRANSLATED, for which core asks httpd for one more URL, is only
 * made where it may be sent; and as a translation (RFC 3875, 4.1.6), without
 * the look for a file.
 */
static apr_table_t *make_cgi_vars(request_rec *r, const char *location)
{
    apr_table_t *env = r->subprocess_env, *made = apr_table_make(r->pool, 10);
    char *path_info = r->path_info;

    r->subprocess_env = made;
    if (!is_action(r)) {
        r->path_info = NULL;
    }
    fcgi_origin_translate_only(r, 1);
    ap_add_cgi_vars(r);
    fcgi_origin_translate_only(r, 0);
    r->path_info = path_info;
    set_script_name(r, location);
    r->subprocess_env = env;
    return made;
}

/* Core's variables of any request. Of header fields with one name, which
 * mod_headers or MergeTrailers can make, the last one counts, as where core
 * merges: a variable has one value. */
static void add_common_vars(request_rec *r)
{
    apr_table_t *headers = r->headers_in;
    const apr_array_header_t *fields = apr_table_elts(headers);

    if (may_be_twice(fields, FIELDS_COMPARED)) {
        r->headers_in = apr_table_copy(r->pool, headers);
        apr_table_compress(r->headers_in, APR_OVERLAP_TABLES_SET);
    }
    ap_add_common_vars(r);
    r->headers_in = headers;
}

/* Core's variables, beside those of SetEnv and the like. Where there are none
 * of these nothing has to be looked for. */
static void add_cgi_vars(request_rec *r, const char *location, int others)
{
    apr_table_t *env = r->subprocess_env;
    const apr_array_header_t *lower_case = others ? take_lower_case(r) : NULL;
    const apr_array_header_t *made;
    int i;

    add_common_vars(r);
    made = apr_table_elts(make_cgi_vars(r, location));
    for (i = 0; i < made->nelts; i++) {
        const apr_table_entry_t *pair =
            &APR_ARRAY_IDX(made, i, const apr_table_entry_t);

        if (others) {
            apr_table_setn(env, pair->key, pair->val);
        }
        else {
            apr_table_addn(env, pair->key, pair->val);
        }
    }
    for (i = 0; lower_case && i < lower_case->nelts; i++) {
        const apr_table_entry_t *pair =
            &APR_ARRAY_IDX(lower_case, i, const apr_table_entry_t);

        set_if_new(r, pair->key, pair->val);
    }
}

/* Such a name made of another, as core does it for CGI scripts. */
static const char *clean_name(apr_pool_t *pool, const char *name)
{
    char *clean = apr_pstrdup(pool, name), *to;

    for (to = clean; *to; to++) {
        if (!apr_isalnum(*to) || (to == clean && apr_isdigit(*to))) {
            *to = '_';
        }
    }
    return clean;
}

/*
 * Gives variables with odd names (SetEnv no-gzip) clean ones, before
 * parameters are looked at: so none gets past them by its spelling. Whatever
 * has the clean name already is not replaced. Returns the odd ones, as
 * apr_table_entry_t; they stay where they are, as httpd itself reads them,
 * and are not sent.
 */
static const apr_array_header_t *clean_names(request_rec *r)
{
    const apr_array_header_t *all = apr_table_elts(r->subprocess_env);
    apr_array_header_t *odd =
        apr_array_make(r->pool, 1, sizeof(apr_table_entry_t));
    int i;

    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *pair =
            &APR_ARRAY_IDX(all, i, const apr_table_entry_t);

        if (!fcgi_param_is_name(pair->key)) {
            APR_ARRAY_PUSH(odd, apr_table_entry_t) = *pair;
        }
    }
    for (i = 0; i < odd->nelts; i++) {
        const apr_table_entry_t *pair =
            &APR_ARRAY_IDX(odd, i, const apr_table_entry_t);

        set_if_new(r, clean_name(r->pool, pair->key), pair->val);
    }
    return odd;
}

static int is_among(const apr_array_header_t *odd, const char *key)
{
    int i = 0;

    while (i < odd->nelts
           && APR_ARRAY_IDX(odd, i, const apr_table_entry_t).key != key) {
        i++;
    }
    return i < odd->nelts;
}

/* True if others than core have made a variable so far, and of an odd name. */
static int any_odd(const apr_array_header_t *others)
{
    int i = 0;

    while (i < others->nelts
           && fcgi_param_is_name(
               APR_ARRAY_IDX(others, i, const apr_table_entry_t).key)) {
        i++;
    }
    return i < others->nelts;
}

/* All variables but the odd ones. */
static const apr_array_header_t *without_odd_names(
    request_rec *r, const apr_array_header_t *odd)
{
    const apr_array_header_t *all = apr_table_elts(r->subprocess_env);
    apr_array_header_t *rest;
    int i;

    rest = apr_array_make(r->pool, all->nelts, sizeof(apr_table_entry_t));
    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *pair =
            &APR_ARRAY_IDX(all, i, const apr_table_entry_t);

        if (!is_among(odd, pair->key)) {
            APR_ARRAY_PUSH(rest, apr_table_entry_t) = *pair;
        }
    }
    return rest;
}

/* httpd has variables without a value: REDIRECT_REQUEST_METHOD, on the error
 * page for a request line that it could not read. For CGI they are empty. */
static const char *value_of(const apr_table_entry_t *pair)
{
    return pair->val ? pair->val : "";
}

/* Most requests fit, with the room before and behind. */
#define FIRST_SIZE 2048

/* Bytes that grow, in a pool. */
typedef struct growing {
    apr_pool_t *pool;
    uint8_t *bytes;
    uint8_t *end; /* behind what may be written */
} growing;

/* Makes room for so many bytes at to and returns where that is now; NULL if
 * there is none. */
static uint8_t *grow(growing *params, uint8_t *to, apr_size_t more)
{
    apr_size_t len = (apr_size_t)(to - params->bytes);
    apr_size_t size = 2 * len + more + FIRST_SIZE;
    uint8_t *bytes;

    if (size < more) {
        return NULL;
    }
    bytes = apr_palloc(params->pool, size);
    if (len) {
        memcpy(bytes, params->bytes, len);
    }
    params->bytes = bytes;
    params->end = bytes + size - FCGI_ROOM_BEHIND_PARAMS;
    return bytes + len;
}

/* Encodes all pairs, behind the room for what comes before; NULL if one is too
 * long. Returns where they end. */
static uint8_t *put_pairs(growing *params, const apr_array_header_t *pairs)
{
    const apr_table_entry_t *pair = (const apr_table_entry_t *)pairs->elts;
    const apr_table_entry_t *last = pair + pairs->nelts;
    uint8_t *to = grow(params, params->bytes, 0);

    for (to += FCGI_ROOM_BEFORE_PARAMS; pair < last; pair++) {
        const char *value = value_of(pair);
        apr_size_t name_len = strlen(pair->key), value_len = strlen(value);
        apr_size_t size = fcgi_pair_size(name_len, value_len);

        if (!size) {
            return NULL;
        }
        if ((apr_size_t)(params->end - to) < size) {
            to = grow(params, to, size);
            if (!to) {
                return NULL;
            }
        }
        to = fcgi_put_pair(to, pair->key, name_len, value, value_len);
    }
    return to;
}

/* Encodes all pairs; 0 if one is too long. */
static int encode(apr_pool_t *pool, const apr_array_header_t *pairs,
                  fcgi_params *params)
{
    growing encoded = { pool, NULL, NULL };
    const uint8_t *end = put_pairs(&encoded, pairs);

    if (!end) {
        return 0;
    }
    params->bytes = (char *)encoded.bytes + FCGI_ROOM_BEFORE_PARAMS;
    params->len = (apr_size_t)(end - encoded.bytes) - FCGI_ROOM_BEFORE_PARAMS;
    return 1;
}

int fcgi_env_encode(request_rec *r, const char *location, apr_off_t body_len,
                    fcgi_params *params)
{
    const apr_array_header_t *all = apr_table_elts(r->subprocess_env);
    const apr_array_header_t *odd = NULL, *taken = NULL;
    int is_odd = 0, others = 0;

    if (all->nelts) {
        is_odd = any_odd(all);
        taken = is_odd ? NULL : take_of_connection(r);
        others = !taken;
    }
    add_cgi_vars(r, location, others);
    if (taken) {
        give_back(r, taken);
    }
    if (is_odd) {
        odd = clean_names(r);
    }
    adjust(r, body_len, others);
    all = apr_table_elts(r->subprocess_env);
    return encode(r->pool, odd ? without_odd_names(r, odd) : all, params);
}

int fcgi_env_encode_as_is(request_rec *r, fcgi_params *params)
{
    fcgi_param_apply(r, fcgi_config_settings(r)->params);
    return encode(r->pool, apr_table_elts(r->subprocess_env), params);
}
