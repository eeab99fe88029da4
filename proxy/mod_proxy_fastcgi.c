/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * mod_proxy_fastcgi.c - mod_proxy's scheme fcgi on the engine of
 * mod_fastcgi_handler: a request that mod_proxy leads to an application, alone
 * or one of a balancer's members, is asked as any request of that module's.
 * This folder is the only place that knows mod_proxy.
 *
 * Start at ask(). Who does what: proxy_url (URLs), proxy_variables (what the
 * application is told), proxy_worker (parameters and members), proxy_balanced
 * (members of requests that wait without a thread), proxy_request (what is
 * known of a request); fcgi_engine.h, in the folder above, is all
 * that is known of the engine.
 */
#include <httpd.h>
#include <http_config.h>
#include <http_log.h>

#include "proxy_balanced.h"
#include "proxy_request.h"
#include "proxy_url.h"
#include "proxy_variables.h"
#include "proxy_worker.h"

static APR_OPTIONAL_FN_TYPE(fcgi_engine_ask) * ask_engine;

/* An attempt is over of which mod_proxy knows nothing: it went on without its
 * thread, or was made when mod_proxy had given up. */
static int end_attempt(request_rec *r, int status)
{
    proxy_request *request = proxy_request_of(r);

    proxy_worker_conclude(r, request->worker, &request->question, status);
    return request->worker->balancer ? proxy_balanced_end(r, status) : status;
}

/*
 * A scheme_handler hook. Another proxy, which ProxyRemote may name, speaks no
 * FastCGI. What went on without this thread is not over when this returns OK:
 * then mod_proxy has nothing to look at, and proxy_balanced does its part.
 */
static int ask(request_rec *r, proxy_worker *worker, proxy_server_conf *conf,
               char *url, const char *proxy, apr_port_t proxy_port)
{
    proxy_request *request = proxy_request_of(r);
    fcgi_engine_question *question = &request->question;
    int status;

    (void)proxy_port;
    if (!proxy_url_is_ours(url) || proxy) {
        return DECLINED;
    }
    if (!proxy_worker_is_usable(worker, r->server)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      PROXY_LOGNO("44") "%s: not asked: mod_proxy has it "
                                        "switched off, or in error",
                      ap_proxy_worker_name(r->pool, worker));
        return HTTP_SERVICE_UNAVAILABLE;
    }
    status = proxy_url_check(r, url);
    if (status == OK) {
        status = proxy_worker_set_question(r, worker, conf, url, question);
    }
    if (status != OK) {
        return status;
    }
    proxy_worker_forgive(r);
    request->worker = worker;
    request->is_chosen = 1;
    request->worker_file = r->filename;
    question->add_variables = proxy_variables_add;
    question->may_park = 1;
    question->ended = end_attempt;
    status = ask_engine(r, question);
    if (!question->is_parked) {
        proxy_worker_conclude(r, worker, question, status);
        proxy_balanced_limit(r, status);
    }
    return status;
}

/* A post_request hook, before the balancer's, which looks at the status: it is
 * not called while there is none. */
static int end_balanced(proxy_worker *worker, proxy_balancer *balancer,
                        request_rec *r, proxy_server_conf *conf)
{
    (void)worker;
    (void)balancer;
    (void)conf;
    proxy_worker_forgive(r);
    return proxy_request_of(r)->question.is_parked ? OK : DECLINED;
}

/* The member is the last one, and is asked again. */
static int ask_last(request_rec *r)
{
    fcgi_engine_question *question = proxy_balanced_return(r);
    int status = ask_engine(r, question);

    return question->is_parked ? status : end_attempt(r, status);
}

/* A request_status hook: where no member was left the other is not called.
 * Perhaps mod_proxy gave up too early. */
static int end_request(int *status, request_rec *r)
{
    proxy_worker_forgive(r);
    if (*status == HTTP_SERVICE_UNAVAILABLE && proxy_balanced_is_left(r)) {
        *status = proxy_request_of(r)->is_chosen ? proxy_balanced_go_on(r)
                                                 : ask_last(r);
    }
    return OK;
}

/* A check_config hook, when the MPM's numbers are known, and before the engine
 * completes its backends. */
static int check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                 server_rec *s)
{
    (void)plog;
    (void)ptemp;
    ask_engine = APR_RETRIEVE_OPTIONAL_FN(fcgi_engine_ask);
    if (!ask_engine || !APR_RETRIEVE_OPTIONAL_FN(fcgi_engine_enter)) {
        ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_EMERG, 0, NULL,
                     PROXY_LOGNO("43") "proxy_fastcgi_module needs "
                                       "fastcgi_handler_module, of the same "
                                       "release: load that, too");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    proxy_worker_enter_all(pconf, s);
    return OK;
}

static int tell(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                server_rec *s)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    if (ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_CREATE_PRE_CONFIG) {
        proxy_worker_log_all(s);
    }
    return OK;
}

static void register_hooks(apr_pool_t *pool)
{
    static const char *const before_fcgi[] = { "mod_proxy_fcgi.c", NULL };
    static const char *const before_balancer[] = { "mod_proxy_balancer.c",
                                                   NULL };
    static const char *const after_mpm[] = { "event.c", "worker.c",
                                             "prefork.c", NULL };
    static const char *const before_engine[] = { "mod_fastcgi_handler.c",
                                                 NULL };

    (void)pool;
    ap_hook_check_config(check, after_mpm, before_engine, APR_HOOK_MIDDLE);
    ap_hook_post_config(tell, NULL, NULL, APR_HOOK_MIDDLE);
    proxy_hook_canon_handler(proxy_url_canon, NULL, before_fcgi,
                             APR_HOOK_REALLY_FIRST);
    proxy_hook_scheme_handler(ask, NULL, before_fcgi, APR_HOOK_REALLY_FIRST);
    proxy_hook_pre_request(proxy_balanced_begin, NULL, before_balancer,
                           APR_HOOK_REALLY_FIRST);
    proxy_hook_post_request(end_balanced, NULL, before_balancer,
                            APR_HOOK_REALLY_FIRST);
    APR_OPTIONAL_HOOK(proxy, request_status, end_request, NULL, NULL,
                      APR_HOOK_REALLY_FIRST);
}

AP_DECLARE_MODULE(proxy_fastcgi) = {
    STANDARD20_MODULE_STUFF,
    proxy_variables_create_dir, /* settings of a directory */
    proxy_variables_merge_dir,
    NULL, /* none of a server */
    NULL,
    proxy_variables_commands,
    register_hooks,
    AP_MODULE_FLAG_NONE,
};
