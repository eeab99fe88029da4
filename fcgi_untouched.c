/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_untouched.c - the contract is in fcgi_untouched.h. The copy goes
 * through httpd's own hooks, in the order of ap_process_request_internal(),
 * but for access control: whether the client may have the URL was decided for
 * the request itself. Of the hooks that act (post_read_request,
 * header_parser, fixups) only those run that make what a handler is made of.
 */
#include "fcgi_untouched.h"

#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>

#include "fcgi_origin.h"

#define CORE     "core.c"
#define REWRITE  "mod_rewrite.c"
#define SETENVIF "mod_setenvif.c"
#define SSL      "mod_ssl.c"

/* In r->notes, which go with the request when mod_dir or mod_negotiation puts
 * another one in its place. Each request has them, and a table compares all
 * names that begin alike: so they do not. */
#define URL_NOTE  "url-for-fastcgi-handler"
#define ARGS_NOTE "args-for-fastcgi-handler"

/* In the connection's notes: what TLS says of the client may be due to a
 * .htaccess file. */
#define SSL_NOTE "fastcgi-handler-ssl"

/* What is kept for all requests that come of one of a client, by redirects
 * and as subrequests; at the first of them. */
typedef struct family {
    const request_rec *last; /* that no .htaccess file had a part in before */
    apr_table_t *headers;    /* its header fields, */
    apr_table_t *env;        /* and variables; NULL: it had none */
    int htaccess;            /* such a file was read since */
    int authenticates;       /* with a directive that may say who a user is */
    int is_copy;             /* fcgi_untouched_make() made the request */
} family;

/* Where a request keeps its family. */
static apr_size_t note_number;

/* Others than the administrator may have a part in requests. Where they may
 * not nothing is kept: that takes 500 instructions of each request, also of
 * one for a file. */
static int others_may;

int fcgi_untouched_start(apr_pool_t *pconf, apr_pool_t *plog,
                         apr_pool_t *ptemp)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    note_number = ap_register_request_note();
    return OK;
}

/* True if a word of AllowOverride, or of Options, opens a part in requests to
 * those who write files of the site: .htaccess files, or pages that set
 * variables for what they include. */
static int is_open(const char *word, int is_override)
{
    return is_override
               ? strcasecmp(word, "None") != 0
               : ap_strcasestr(word, "Includes") || ap_strcasestr(word, "All");
}

/* The words are read as httpd does it, with what Define says. */
static int opens(apr_pool_t *pool, const ap_directive_t *directive)
{
    int is_override = !strncasecmp(directive->directive, "AllowOverride", 13);
    const char *args = directive->args, *word;

    if (!is_override && strcasecmp(directive->directive, "Options")) {
        return 0;
    }
    do {
        word = ap_getword_conf(pool, &args);
    } while (*word && !is_open(word, is_override));
    return *word != '\0';
}

static int any_opens(apr_pool_t *pool, const ap_directive_t *directive)
{
    while (directive && !opens(pool, directive)
           && !any_opens(pool, directive->first_child)) {
        directive = directive->next;
    }
    return directive != NULL;
}

/* mod_perl's sections are not in the tree. */
int fcgi_untouched_prepare(apr_pool_t *pconf, apr_pool_t *plog,
                           apr_pool_t *ptemp, server_rec *s)
{
    (void)pconf;
    (void)plog;
    (void)s;
    others_may =
        any_opens(ptemp, ap_conftree) || ap_find_linked_module("mod_perl.c");
    return OK;
}

static request_rec *first_of(request_rec *r)
{
    while (r->prev || r->main) {
        r = r->prev ? r->prev : r->main;
    }
    return r;
}

static family *family_of(request_rec *r)
{
    request_rec *first = first_of(r);
    void **note = ap_get_request_note(first, note_number);

    if (!*note) {
        *note = apr_pcalloc(first->pool, sizeof(family));
    }
    return *note;
}

/* ---- what is kept ---- */

/* Says of a module whether its directives matter. */
typedef int module_test(const module *m);

static int has_directive(ap_conf_vector_t *section, module_test *matters);

static int any_has_directive(const apr_array_header_t *sections,
                             module_test *matters)
{
    int i;

    for (i = 0; sections && i < sections->nelts; i++) {
        if (has_directive(APR_ARRAY_IDX(sections, i, ap_conf_vector_t *),
                          matters)) {
            return 1;
        }
    }
    return 0;
}

/* True if a module that matters has settings in a section of a .htaccess file:
 * only the modules of directives that stand there have any. Core's own never
 * matter, but its sections may. */
static int has_directive(ap_conf_vector_t *section, module_test *matters)
{
    const core_dir_config *core = ap_get_core_module_config(section);
    const module *m;

    for (m = ap_top_module; m; m = m->next) {
        if (strcmp(m->name, CORE) && ap_get_module_config(section, m)
            && matters(m)) {
            return 1;
        }
    }
    return core
           && (any_has_directive(core->sec_file, matters)
               || any_has_directive(core->sec_if, matters));
}

/* True if a module may say who a user is: AllowOverride AuthConfig opens a
 * directive of its, or it is asked who he is. */
static int may_authenticate(const module *m)
{
    const apr_array_header_t *links = ap_hook_get_check_user_id();
    const command_rec *command = m->cmds;
    int i;

    while (command && command->name && !(command->req_override & OR_AUTHCFG)) {
        command++;
    }
    if (command && command->name) {
        return 1;
    }
    for (i = 0; links && i < links->nelts; i++) {
        if (!strcmp(APR_ARRAY_IDX(links, i, ap_LINK_check_user_id_t).szName,
                    m->name)) {
            return 1;
        }
    }
    return 0;
}

/* mod_ssl's SSLVerifyClient and its kin change what the connection is taken
 * for, also by requests that come later. */
static int is_ssl(const module *m)
{
    return !strcmp(m->name, SSL);
}

/* Where it is kept that a .htaccess file changed the connection. */
static apr_table_t *connection_notes(const request_rec *r)
{
    conn_rec *c = r->connection;

    return (c->master ? c->master : c)->notes;
}

int fcgi_untouched_look(request_rec *r)
{
    const struct htaccess_result *file = r->htaccess;
    family *all;

    if (others_may
        && !apr_table_get(r->notes, URL_NOTE)) { /* it began with a file */
        apr_table_setn(r->notes, URL_NOTE, r->uri);
    }
    if (!file) {
        return DECLINED;
    }
    all = family_of(r);
    for (; file; file = file->next) {
        if (file->htaccess) {
            all->htaccess = 1;
            all->authenticates |=
                has_directive(file->htaccess, may_authenticate);
            if (has_directive(file->htaccess, is_ssl)) {
                apr_table_setn(connection_notes(r), SSL_NOTE, "1");
            }
        }
    }
    return DECLINED;
}

int fcgi_untouched_save(request_rec *r)
{
    const struct htaccess_result *file = r->htaccess; /* of those before */
    family *all;

    if (!others_may && !file) {
        return DECLINED;
    }
    all = family_of(r);
    for (; file; file = file->next) {
        all->htaccess |= file->htaccess != NULL;
    }
    if (!all->htaccess && !r->main) {
        all->last = r;
        all->headers = apr_table_copy(r->pool, r->headers_in);
        all->env = apr_is_empty_table(r->subprocess_env)
                       ? NULL
                       : apr_table_copy(r->pool, r->subprocess_env);
    }
    return DECLINED;
}

int fcgi_untouched_save_url(request_rec *r)
{
    if (!others_may) {
        return DECLINED;
    }
    apr_table_setn(r->notes, URL_NOTE, r->uri);
    if (r->args) {
        apr_table_setn(r->notes, ARGS_NOTE, r->args);
    }
    return DECLINED;
}

int fcgi_untouched_is(request_rec *r)
{
    void **note = ap_get_request_note(first_of(r), note_number);
    const family *all = *note;

    return !(r->main && others_may) && !(all && all->htaccess)
           && !apr_table_get(connection_notes(r), SSL_NOTE);
}

/* ---- the copy ---- */

static int is_copy(request_rec *r)
{
    for (; r; r = r->main) {
        void **note = ap_get_request_note(r, note_number);
        const family *all = *note;

        if (all && all->is_copy) {
            return 1;
        }
    }
    return 0;
}

apr_status_t fcgi_untouched_open_htaccess(request_rec *r, const char *dir,
                                          const char *name,
                                          ap_configfile_t **file,
                                          const char **path)
{
    (void)dir;
    (void)name;
    (void)file;
    (void)path;
    return is_copy(r) ? APR_ENOENT : AP_DECLINED;
}

apr_status_t fcgi_untouched_stat(apr_finfo_t *info, request_rec *r,
                                 apr_int32_t wanted)
{
    apr_status_t rv;

    if (!is_copy(r)) {
        return AP_DECLINED;
    }
    wanted &= ~APR_FINFO_LINK;
    rv = fcgi_origin_stat(info, r, wanted);
    return rv == AP_DECLINED ? apr_stat(info, r->filename, wanted, r->pool)
                             : rv;
}

static int rename_into(void *to, const char *name, const char *value)
{
    apr_table_t *table = to;

    apr_table_addn(
        table,
        apr_pstrcat(apr_table_elts(table)->pool, "REDIRECT_", name, NULL),
        value);
    return 1;
}

/* The variables r would have when it begins; NULL: not known. */
static apr_table_t *make_env(const request_rec *r, const family *all,
                             apr_pool_t *pool)
{
    apr_table_t *before, *env;

    if (r == all->last) {
        return all->env ? apr_table_copy(pool, all->env)
                        : apr_table_make(pool, 1);
    }
    if (!r->prev) {
        return r->main ? make_env(r->main, all, pool) : NULL;
    }
    before = make_env(r->prev, all, pool);
    if (!before) {
        return NULL;
    }
    env = apr_table_make(pool, apr_table_elts(before)->nelts + 1);
    apr_table_do(rename_into, env, before, NULL);
    apr_table_setn(env, "REDIRECT_STATUS", apr_itoa(pool, r->prev->status));
    return env;
}

/* Makes the copy's parts that hooks write to. */
static void detach(request_rec *copy)
{
    apr_pool_t *pool = copy->pool;

    copy->request_config = ap_create_request_config(pool);
    copy->allowed_methods = ap_make_method_list(pool, 2);
    copy->headers_out = apr_table_make(pool, 5);
    copy->err_headers_out = apr_table_make(pool, 5);
    copy->trailers_out = apr_table_make(pool, 5);
    copy->notes = apr_table_make(pool, 5);
    /* so that a filter that is added is nobody else's, as in a subrequest
     * that is only looked up */
    copy->input_filters = copy->proto_input_filters;
    copy->output_filters = copy->proto_output_filters;
}

/* Takes away what httpd found out about a request. */
static void forget(request_rec *copy)
{
    copy->next = NULL;
    copy->status = HTTP_OK;
    copy->status_line = NULL;
    copy->proxyreq = PROXYREQ_NONE;
    copy->content_type = NULL;
    copy->handler = NULL;
    copy->content_encoding = NULL;
    copy->content_languages = NULL;
    copy->vlist_validator = NULL;
    copy->canonical_filename = NULL;
    copy->used_path_info = AP_REQ_DEFAULT_PATH_INFO;
    copy->htaccess = NULL;
    copy->per_dir_config = copy->server->lookup_defaults;
    memset(&copy->finfo, 0, sizeof(copy->finfo));
}

/* The URL that r had before rewrite rules changed it; "": it has none, but a
 * file. */
static void restore_url(request_rec *copy, const request_rec *r)
{
    const char *url = apr_table_get(r->notes, URL_NOTE);
    const char *args = apr_table_get(r->notes, ARGS_NOTE);

    copy->uri = apr_pstrdup(copy->pool, url ? url : r->uri);
    copy->args = args ? apr_pstrdup(copy->pool, args) : NULL;
    if (copy->uri[0] == '/') {
        copy->filename = NULL;
        copy->path_info = NULL;
    }
}

/* Lets each module make what it keeps for a request; prev, so that mod_http
 * does not take the copy for a new one, which needs filters. */
static void create(request_rec *copy, request_rec *prev)
{
    family *own = apr_pcalloc(copy->pool, sizeof(*own));
    void **note;

    copy->prev = prev;
    ap_run_create_request(copy);
    copy->prev = NULL;
    own->is_copy = 1;
    note = ap_get_request_note(copy, note_number);
    *note = own;
}

static request_rec *strip(request_rec *r, const family *all, apr_pool_t *pool)
{
    request_rec *copy = apr_pmemdup(pool, r, sizeof(*r));

    copy->pool = pool;
    copy->main = r->main ? strip(r->main, all, pool) : NULL;
    detach(copy);
    forget(copy);
    restore_url(copy, r);
    copy->headers_in = apr_table_copy(pool, all->headers);
    copy->subprocess_env = make_env(r, all, pool);
    copy->user = all->authenticates ? NULL : all->last->user;
    copy->ap_auth_type = all->authenticates ? NULL : all->last->ap_auth_type;
    /* mod_remoteip's, from a header field */
    copy->useragent_ip = all->last->useragent_ip;
    copy->useragent_addr = all->last->useragent_addr;
    create(copy, r);
    return copy;
}

/* Runs what one module has in a hook; false if that refuses the request. */
#define HOOK_OF_MODULE(hook)                                                  \
    static int hook##_of(request_rec *r, const char *module)                  \
    {                                                                         \
        const apr_array_header_t *links = ap_hook_get_##hook();               \
        int i;                                                                \
                                                                              \
        for (i = 0; links && i < links->nelts; i++) {                         \
            const ap_LINK_##hook##_t *link =                                  \
                &APR_ARRAY_IDX(links, i, ap_LINK_##hook##_t);                 \
            int status;                                                       \
                                                                              \
            if (strcmp(link->szName, module)) {                               \
                continue;                                                     \
            }                                                                 \
            status = link->pFunc(r);                                          \
            if (status != OK && status != DECLINED) {                         \
                return 0;                                                     \
            }                                                                 \
        }                                                                     \
        return 1;                                                             \
    }

HOOK_OF_MODULE(post_read_request)
HOOK_OF_MODULE(header_parser)
HOOK_OF_MODULE(fixups)

static int is_fine(int status)
{
    return status == OK || status == DECLINED;
}

static int walk_sections(request_rec *copy)
{
    return ap_location_walk(copy) == OK && ap_if_walk(copy) == OK;
}

/* URL -> file, and the settings that hold for both. */
static int map(request_rec *copy)
{
    if (copy->uri[0] == '/'
        && (!walk_sections(copy) || !is_fine(ap_run_translate_name(copy)))) {
        return 0;
    }
    copy->per_dir_config = copy->server->lookup_defaults;
    return is_fine(ap_run_map_to_storage(copy)) && walk_sections(copy);
}

/* Settings -> handler. */
static int find_handler(request_rec *copy)
{
    if (!is_fine(ap_run_type_checker(copy)) || !fixups_of(copy, CORE)) {
        return 0;
    }
    fcgi_origin_remember(copy);
    return fixups_of(copy, REWRITE);
}

request_rec *fcgi_untouched_make(request_rec *r, apr_pool_t *pool)
{
    const family *all = family_of(r);
    request_rec *copy;

    /* TRACE would be answered */
    if (!all->last || r->method_number == M_TRACE
        || apr_table_get(connection_notes(r), SSL_NOTE)) {
        return NULL;
    }
    copy = strip(r, all, pool);
    if (!copy->subprocess_env) {
        return NULL;
    }
    /* mod_setenvif's first call is for the server, its second for sections;
     * a subrequest has them of the page */
    return ((r->main && !r->prev) || post_read_request_of(copy, SETENVIF))
                   && map(copy)
                   && (r->main || header_parser_of(copy, SETENVIF))
                   && find_handler(copy)
               ? copy
               : NULL;
}
