/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * mod_fastcgi_handler.c - a FastCGI gateway as a handler: the story of a
 * request from top to bottom, and the hooks.
 *
 * Start at fastcgi_handler(). Who does what: fcgi_config (directives),
 * fcgi_known (the backends named there), fcgi_trust (which of them a request
 * means, and whether it may), fcgi_script (what of it is the script), fcgi_env
 * (variables), fcgi_ask (asking the application, step by step), fcgi_await
 * (waiting, in a thread or without one), fcgi_conclude (what the end is to the
 * client), fcgi_engine (requests that another module has), fcgi_startup
 * (before and after all requests), fcgi_status (what all this looks like from
 * outside).
 */
#include <httpd.h>
#include <http_config.h>
#include <http_connection.h>
#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mod_status.h>
#include <mpm_common.h>
#include <util_filter.h>

#include <apr_strings.h>

#include "fcgi_ask.h"
#include "fcgi_await.h"
#include "fcgi_backend.h"
#include "fcgi_conclude.h"
#include "fcgi_config.h"
#include "fcgi_conftree.h"
#include "fcgi_declare.h"
#include "fcgi_engine.h"
#include "fcgi_env.h"
#include "fcgi_log.h"
#include "fcgi_notes.h"
#include "fcgi_origin.h"
#include "fcgi_outcome.h"
#include "fcgi_parked.h"
#include "fcgi_script.h"
#include "fcgi_startup.h"
#include "fcgi_status.h"
#include "fcgi_terms.h"
#include "fcgi_trust.h"
#include "fcgi_untouched.h"

/* Takes the body and encodes the variables; 0 if that ended it, and then
 * *status is set if it was not the client's fault. */
static int get_ready(fcgi_ask *ask, const char *location, int *status)
{
    apr_off_t body_len = fcgi_ask_take_body(ask);
    fcgi_params params;

    if (ask->result.outcome != FCGI_OUTCOME_PENDING) {
        return 0;
    }
    if (!fcgi_env_encode(ask->r, location, body_len, &params)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, ask->r,
                      FCGI_LOGNO("15") "%s: a variable is too long for "
                                       "FastCGI",
                      ask->backend->name);
        *status = HTTP_INTERNAL_SERVER_ERROR;
        return 0;
    }
    ap_log_rerror(APLOG_MARK, APLOG_TRACE4, 0, ask->r,
                  "%s: to be asked for %s, with %" APR_SIZE_T_FMT
                  " bytes of variables and a body of %" APR_OFF_T_FMT
                  " bytes%s",
                  ask->backend->name, ask->r->uri, params.len,
                  ask->inflow->len, body_len < 0 ? " so far" : "");
    fcgi_ask_begin(ask, params.bytes, params.len,
                   fcgi_conclude_was_in_vain(ask->r, ask->backend));
    return 1;
}

/* ---- the story ---- */

static int finish(fcgi_ask *ask, void *baton)
{
    (void)baton;
    return fcgi_conclude(ask);
}

static void abandon(fcgi_ask *ask, void *baton)
{
    (void)baton;
    fcgi_conclude_abandoned(ask);
}

static const fcgi_await_ends ends = { finish, abandon };

static fcgi_ask *create_ask(request_rec *r, const fcgi_backend *backend)
{
    fcgi_terms terms;

    fcgi_terms_init(&terms, r);
    return fcgi_ask_create(r, backend, &terms);
}

/* CONNECT asks for a tunnel to a host (RFC 9110, 9.3.6), which no application
 * is. It has no URL; httpd has put / in its place. */
static int refuse_tunnel(request_rec *r)
{
    ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                  FCGI_LOGNO("32") "handler '%s': not asked for CONNECT %s",
                  r->handler, r->unparsed_uri);
    return HTTP_METHOD_NOT_ALLOWED;
}

static int refuse_address(request_rec *r, const char *why)
{
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                  FCGI_LOGNO("13") "handler '%s': %s", r->handler, why);
    return HTTP_INTERNAL_SERVER_ERROR;
}

/* A handler that is not ours. One that is but for a space before it would be
 * nobody's, and the source would go to the client. */
static int leave_alone(request_rec *r)
{
    const char *why =
        r->handler ? fcgi_address_check_spelling(r->pool, r->handler) : NULL;

    return why ? refuse_address(r, why) : DECLINED;
}

static int fastcgi_handler(request_rec *r)
{
    const fcgi_backend *backend;
    const char *location, *why;
    fcgi_ask *ask;
    int status = OK;

    if (!fcgi_address_is_ours(r->handler)) {
        return leave_alone(r);
    }
    if (r->method_number == M_CONNECT) {
        return refuse_tunnel(r);
    }
    why = fcgi_trust_backend(r, &backend);
    if (why) {
        return refuse_address(r, why);
    }
    status = fcgi_script_map(r, (fcgi_script)fcgi_config_settings(r)->script,
                             &location, &why);
    if (status != OK) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      FCGI_LOGNO("14") "%s: not asked for %s: %s",
                      backend->name, r->filename ? r->filename : r->uri, why);
        return status;
    }
    ask = create_ask(r, backend);
    if (get_ready(ask, location, &status) && fcgi_await(ask, &ends, NULL)) {
        return OK; /* nothing is said yet */
    }
    return status == OK ? fcgi_conclude(ask) : status;
}

/*
 * Where httpd finds no file other modules look for another one: mod_dir for
 * its FallbackResource, mod_negotiation and mod_speling for one of a similar
 * name. Where FcgiScript says that there are no files, none is to be found:
 * while they look, it is not said what there is.
 */
static int hide_none(request_rec *r)
{
    if (r->finfo.filetype == APR_NOFILE && fcgi_origin_is_virtual(r)) {
        r->finfo.filetype = APR_UNKFILE;
    }
    return DECLINED;
}

/*
 * A folder of the same name does not hide a URL of an application below a
 * Location: without this, mod_dir would redirect /admin to /admin/, and put
 * an index file that exists in the place of /.
 */
static int hide_folder(request_rec *r)
{
    int script = fcgi_config_settings(r)->script;

    hide_none(r); /* most that are no folder */
    if ((r->finfo.filetype == APR_DIR
         || (r->finfo.filetype == APR_NOFILE && script == FCGI_SCRIPT_VIRTUAL))
        && fcgi_address_is_ours(fcgi_origin_handler(r))
        && script != FCGI_SCRIPT_FILE && fcgi_origin_is_below_location(r)) {
        r->finfo.filetype = APR_UNKFILE;
    }
    return DECLINED;
}

/* Behind those modules: for all others there is no file. */
static int show_none(request_rec *r)
{
    if (r->finfo.filetype == APR_UNKFILE) {
        r->finfo.filetype = APR_NOFILE;
    }
    return DECLINED;
}

/* Who answers requests, ours and those of another module. */
static void register_handlers(void)
{
    ap_hook_handler(fastcgi_handler, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(fcgi_status_handler, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ap, status_hook, fcgi_status_section, NULL, NULL,
                      APR_HOOK_MIDDLE);
    fcgi_engine_offer();
}

/* When it is read, also for configtest. */
static void look_at_configuration(void)
{
    ap_hook_check_config(fcgi_conftree_check, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_check_config(fcgi_notes_look, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(fcgi_untouched_prepare, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(fcgi_declare_complete, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(fcgi_config_complete, NULL, NULL, APR_HOOK_MIDDLE);
}

static void register_hooks(apr_pool_t *pool)
{
    static const char *const after_core[] = { "core.c", NULL };
    static const char *const after_negotiation[] = { "mod_negotiation.c",
                                                     NULL };

    (void)pool;
    register_handlers();
    ap_hook_pre_config(fcgi_startup_begin, NULL, NULL, APR_HOOK_MIDDLE);
    look_at_configuration();
    ap_hook_post_config(fcgi_startup_open, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(fcgi_startup_child, NULL, NULL, APR_HOOK_MIDDLE);
    /* before core looks for a file */
    ap_hook_translate_name(fcgi_origin_walked, NULL, NULL,
                           APR_HOOK_REALLY_FIRST);
    ap_hook_translate_name(fcgi_origin_translate, NULL, NULL, APR_HOOK_LAST);
    ap_hook_map_to_storage(fcgi_origin_map, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_dirwalk_stat(fcgi_origin_stat, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_open_htaccess(fcgi_origin_open_htaccess, NULL, NULL,
                          APR_HOOK_MIDDLE);
    /* what a request is before .htaccess files have a part in it: when all is
     * known of the client, before rules change the URL, after the walks */
    ap_hook_pre_config(fcgi_untouched_start, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_read_request(fcgi_untouched_save, NULL, NULL,
                              APR_HOOK_REALLY_LAST);
    ap_hook_translate_name(fcgi_untouched_save_url, NULL, NULL,
                           APR_HOOK_REALLY_FIRST);
    ap_hook_post_perdir_config(fcgi_untouched_look, NULL, NULL,
                               APR_HOOK_REALLY_FIRST);
    ap_hook_open_htaccess(fcgi_untouched_open_htaccess, NULL, NULL,
                          APR_HOOK_FIRST);
    ap_hook_dirwalk_stat(fcgi_untouched_stat, NULL, NULL, APR_HOOK_FIRST);
    /* around all that deals with a connection */
    fcgi_parked_register();
    ap_hook_child_init(fcgi_parked_child, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(fcgi_await_child, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_process_connection(fcgi_parked_process, NULL, NULL,
                               APR_HOOK_REALLY_FIRST);
    ap_hook_pre_close_connection(fcgi_parked_close, NULL, NULL,
                                 APR_HOOK_MIDDLE);
    ap_hook_child_stopping(fcgi_startup_stop_child, NULL, NULL,
                           APR_HOOK_MIDDLE);
    /* after core, before any other module changes what expressions see */
    ap_hook_fixups(fcgi_origin_remember, after_core, NULL,
                   APR_HOOK_REALLY_FIRST);
    /* around mod_negotiation, then around mod_speling and mod_dir, which come
     * last */
    ap_hook_type_checker(hide_none, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_type_checker(show_none, after_negotiation, NULL, APR_HOOK_FIRST);
    ap_hook_fixups(hide_folder, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_fixups(show_none, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_fixups(fcgi_origin_follow, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_fixups(fcgi_replace_keep_type, NULL, NULL, APR_HOOK_LAST);
    /* before the access log is written */
    ap_hook_log_transaction(fcgi_conclude_log, NULL, NULL, APR_HOOK_FIRST);
}

AP_DECLARE_MODULE(fastcgi_handler) = {
    STANDARD20_MODULE_STUFF,
    fcgi_config_create_dir, /* settings of a directory */
    fcgi_config_merge_dir,
    NULL, /* none of a server */
    NULL,
    fcgi_config_commands,
    register_hooks,
    AP_MODULE_FLAG_NONE,
};
