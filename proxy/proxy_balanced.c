/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * proxy_balanced.c - the contract is in proxy_balanced.h. Another attempt is
 * mod_proxy's own handler once more, which chooses a member as it does for a
 * request that begins: those that failed are in error by then.
 */
#include "proxy_balanced.h"

#include <apr_strings.h>

#include <http_config.h>

#include "proxy_worker.h"

int proxy_balanced_begin(proxy_worker **worker, proxy_balancer **balancer,
                         request_rec *r, proxy_server_conf *conf, char **url)
{
    (void)worker;
    (void)conf;
    if (!*balancer
        && !ap_cstr_casecmpn(*url, BALANCER_PREFIX,
                             sizeof(BALANCER_PREFIX) - 1)) {
        proxy_request_of(r)->balancer_file = r->filename;
    }
    proxy_request_of(r)->is_chosen = 0;
    proxy_worker_pass_over(r);
    return DECLINED;
}

/* As mod_proxy does with a member that gave a 503. */
static void hold_in_error(proxy_worker *worker)
{
    if (!(worker->s->status & PROXY_WORKER_IGNORE_ERRORS)) {
        worker->s->status |= PROXY_WORKER_IN_ERROR;
        worker->s->error_time = apr_time_now();
    }
}

/* True if mod_proxy would ask another member for that status, which is not the
 * application's own. */
static int is_asked_again(const request_rec *r, int status)
{
    return status == HTTP_SERVICE_UNAVAILABLE
           && !apr_table_get(r->notes, "proxy-error-override");
}

/* True if what became of the question is another member's to mend. */
static int is_for_another(const fcgi_engine_question *question)
{
    return question->has_others && question->may_move;
}

void proxy_balanced_limit(request_rec *r, int status)
{
    const proxy_request *request = proxy_request_of(r);

    if (request->worker->balancer && is_asked_again(r, status)
        && !is_for_another(&request->question)) {
        hold_in_error(request->worker);
        apr_table_setn(r->notes, "proxy-error-override", "1");
    }
}

/* mod_proxy has counted this proxy already, and will do so again. */
static void restore_max_forwards(request_rec *r)
{
    const char *hops = apr_table_get(r->headers_in, "Max-Forwards");

    if (hops) {
        apr_table_setn(r->headers_in, "Max-Forwards",
                       apr_psprintf(r->pool, "%" APR_INT64_T_FMT,
                                    apr_strtoi64(hops, NULL, 10) + 1));
    }
}

int proxy_balanced_go_on(request_rec *r)
{
    const proxy_request *request = proxy_request_of(r);
    int status;

    hold_in_error(request->worker);
    r->filename = request->balancer_file;
    restore_max_forwards(r);
    status = ap_run_handler(r);
    return status == DECLINED ? HTTP_SERVICE_UNAVAILABLE : status;
}

int proxy_balanced_is_left(request_rec *r)
{
    const proxy_request *request = proxy_request_of(r);

    return !request->question.is_parked && is_for_another(&request->question)
           && proxy_worker_is_switched_on(request->worker);
}

fcgi_engine_question *proxy_balanced_return(request_rec *r)
{
    proxy_request *request = proxy_request_of(r);

    request->worker->s->status &= ~(unsigned)PROXY_WORKER_IN_ERROR;
    request->question.has_others = 0;
    r->filename = request->worker_file;
    return &request->question;
}

/* The balancer looks at a status that the client may not get. */
static void call_balancer(request_rec *r, proxy_worker *worker, int status)
{
    proxy_server_conf *conf =
        ap_get_module_config(r->server->module_config, &proxy_module);
    int status_before = r->status;

    if (status != OK && status != DONE) {
        r->status = status;
    }
    ap_proxy_post_request(worker, worker->balancer, r, conf);
    if (r->status == status) {
        r->status = status_before;
    }
}

int proxy_balanced_end(request_rec *r, int status)
{
    proxy_request *request = proxy_request_of(r);

    if (is_for_another(&request->question)) {
        return proxy_balanced_go_on(r);
    }
    if (r->connection->aborted
        && request->question.end == FCGI_ENGINE_NOT_ITS_FAULT) {
        /* The client's doing; and the child, with the balancer's lock, may be on
         * its way down. */
        proxy_worker_forgive(r);
        return status;
    }
    if (is_asked_again(r, status)) {
        hold_in_error(request->worker);
    }
    call_balancer(r, request->worker, status);
    return status;
}
