/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * proxy_worker.c - the contract is in proxy_worker.h.
 */
#include "proxy_worker.h"

#include <string.h>

#include <apr_hash.h>
#include <apr_strings.h>
#include <apr_uri.h>

#include <ap_mpm.h>
#include <http_log.h>
#include <util_cfgtree.h>

#include "proxy_url.h"

APLOG_USE_MODULE(proxy_fastcgi);

/* The most that FcgiBackend's keys take. */
#define HIGHEST 65535

/*
 * A member that is passed over is held in error so long into the future, more
 * than choosing another one takes: no retry time is over by then, and nobody
 * takes it for broken; nor for some time after mod_proxy has said so of one.
 */
#define HELD   apr_time_from_sec(1)
#define MOMENT apr_time_from_msec(100)

static const char *address_of_path(apr_pool_t *pool, const char *path)
{
    return apr_pstrcat(pool, "fcgi:", path, NULL);
}

/* ---- all of the configuration ---- */

typedef void visitor(apr_pool_t *pool, server_rec *s, proxy_worker *worker);

/* Visits a worker of the scheme, and not once more for a virtual host that has
 * those of the main server, too: they share what is in s. */
static void visit(apr_hash_t *visited, server_rec *s, proxy_worker *worker,
                  visitor *how)
{
    const apr_ssize_t len = sizeof(void *);

    if (strcmp(worker->s->scheme, "fcgi")
        || apr_hash_get(visited, &worker->s, len)) {
        return;
    }
    apr_hash_set(visited, &worker->s, len, worker);
    how(apr_hash_pool_get(visited), s, worker);
}

static void visit_server(apr_hash_t *visited, server_rec *s, visitor *how)
{
    proxy_server_conf *conf =
        ap_get_module_config(s->module_config, &proxy_module);
    int i, j;

    for (i = 0; i < conf->workers->nelts; i++) {
        visit(visited, s, &APR_ARRAY_IDX(conf->workers, i, proxy_worker), how);
    }
    for (i = 0; i < conf->balancers->nelts; i++) {
        apr_array_header_t *members =
            APR_ARRAY_IDX(conf->balancers, i, proxy_balancer).workers;

        for (j = 0; j < members->nelts; j++) {
            visit(visited, s, APR_ARRAY_IDX(members, j, proxy_worker *), how);
        }
    }
}

static void visit_all(apr_pool_t *pool, server_rec *s, visitor *how)
{
    apr_hash_t *visited = apr_hash_make(pool);

    for (; s; s = s->next) {
        visit_server(visited, s, how);
    }
}

static apr_int64_t at_most(apr_int64_t number, apr_int64_t most)
{
    return number < most ? number : most;
}

static const char *number_key(apr_pool_t *pool, const char *key,
                              apr_int64_t number)
{
    return apr_psprintf(pool, "%s=%" APR_INT64_T_FMT, key,
                        at_most(number, HIGHEST));
}

static const char *time_key(apr_pool_t *pool, const char *key,
                            apr_interval_time_t time)
{
    apr_int64_t msec = apr_time_as_msec(time);

    return apr_psprintf(pool, "%s=%" APR_INT64_T_FMT "ms", key,
                        msec ? msec : 1);
}

/* The time that nothing may move. */
static apr_interval_time_t timeout_of(const proxy_worker *worker,
                                      const proxy_server_conf *conf,
                                      const server_rec *s)
{
    return worker->s->timeout_set && worker->s->timeout ? worker->s->timeout
           : conf->timeout_set                          ? conf->timeout
                                                        : s->timeout;
}

/* max is a child's number, which the threads bound anyhow, and the engine
 * counts for all children together. */
static void add_max(apr_pool_t *pool, server_rec *s,
                    const proxy_worker *worker, int children, int threads,
                    apr_array_header_t *keys)
{
    const proxy_server_conf *conf =
        ap_get_module_config(s->module_config, &proxy_module);

    if (worker->s->hmax > 0 && worker->s->hmax < threads) {
        APR_ARRAY_PUSH(keys, const char *) =
            number_key(pool, "max", (apr_int64_t)worker->s->hmax * children);
        APR_ARRAY_PUSH(keys, const char *) =
            number_key(pool, "queue", HIGHEST);
        APR_ARRAY_PUSH(keys, const char *) =
            time_key(pool, "queue-timeout",
                     worker->s->acquire_set ? worker->s->acquire
                                            : timeout_of(worker, conf, s));
    }
}

/* Connections are kept only where that is asked for in so many words. */
static void add_reuse(apr_pool_t *pool, const proxy_worker *worker,
                      int children, int threads, apr_array_header_t *keys)
{
    const proxy_worker_shared *said = worker->s;
    apr_int64_t most = said->smax > 0   ? said->smax
                       : said->hmax > 0 ? said->hmax
                                        : threads;

    if (!said->disablereuse_set || said->disablereuse) {
        return;
    }
    APR_ARRAY_PUSH(keys, const char *) =
        number_key(pool, "keepalive", at_most(most, threads) * children);
    if (said->ttl > 0) {
        APR_ARRAY_PUSH(keys, const char *) = time_key(pool, "idle", said->ttl);
    }
}

/* httpd knows addressttl since 2.4.59. */
static void add_ttl(apr_pool_t *pool, const proxy_worker *worker,
                    apr_array_header_t *keys)
{
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 130)
    if (worker->s->address_ttl_set && worker->s->address_ttl > 0) {
        APR_ARRAY_PUSH(keys, const char *) =
            time_key(pool, "ttl", apr_time_from_sec(worker->s->address_ttl));
    }
#else
    (void)pool;
    (void)worker;
    (void)keys;
#endif
}

static void enter(apr_pool_t *pool, server_rec *s, proxy_worker *worker)
{
    APR_OPTIONAL_FN_TYPE(fcgi_engine_enter) *enter_backend =
        APR_RETRIEVE_OPTIONAL_FN(fcgi_engine_enter);
    apr_array_header_t *keys = apr_array_make(pool, 8, sizeof(const char *));
    const char *address =
        *worker->s->uds_path
            ? address_of_path(pool, worker->s->uds_path)
            : proxy_url_address(pool, worker->s->hostname_ex, worker->s->port);
    const char *problem;
    int children = 1, threads = 1;

    if (strchr(address, '$')) {
        return; /* known only when a request is here */
    }
    ap_mpm_query(AP_MPMQ_MAX_DAEMONS, &children);
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    children = children > 0 ? children : 1;
    threads = threads > 0 ? threads : 1;
    add_max(pool, s, worker, children, threads, keys);
    add_reuse(pool, worker, children, threads, keys);
    add_ttl(pool, worker, keys);
    APR_ARRAY_PUSH(keys, const char *) = NULL;
    problem = enter_backend(pool, address, (const char *const *)keys->elts);
    if (problem) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     PROXY_LOGNO("40") "no URL of an application: %s: %s",
                     ap_proxy_worker_name(pool, worker), problem);
    }
}

/* True for "proxy:unix:/path|fcgi:..." and "proxy:fcgi:...". */
static const char *handler_address(apr_pool_t *pool, const char *handler)
{
    apr_uri_t uri;
    const char *bar;

    if (ap_cstr_casecmpn(handler, "proxy:", 6) || strpbrk(handler, "%$")) {
        return NULL;
    }
    handler += 6;
    bar = strchr(handler, '|');
    if (bar && !ap_cstr_casecmpn(handler, "unix:", 5)
        && proxy_url_is_ours(bar + 1)) {
        return address_of_path(
            pool, ap_runtime_dir_relative(
                      pool, apr_pstrmemdup(pool, handler + 5,
                                           (apr_size_t)(bar - handler) - 5)));
    }
    if (!proxy_url_is_ours(handler)
        || apr_uri_parse(pool, handler, &uri) != APR_SUCCESS
        || !uri.hostname) {
        return NULL;
    }
    return proxy_url_address(pool, uri.hostname, uri.port);
}

/* A SetHandler has no worker where no section makes one. */
static void enter_handlers(apr_pool_t *pool, const ap_directive_t *directive)
{
    APR_OPTIONAL_FN_TYPE(fcgi_engine_enter) *enter_backend =
        APR_RETRIEVE_OPTIONAL_FN(fcgi_engine_enter);
    static const char *const no_keys[] = { NULL };

    for (; directive; directive = directive->next) {
        const char *args = directive->args, *address = NULL;

        if (!strcasecmp(directive->directive, "SetHandler")) {
            address = handler_address(pool, ap_getword_conf(pool, &args));
        }
        if (address) {
            enter_backend(pool, address, no_keys);
        }
        enter_handlers(pool, directive->first_child);
    }
}

void proxy_worker_enter_all(apr_pool_t *pool, server_rec *s)
{
    enter_handlers(pool, ap_conftree);
    visit_all(pool, s, enter);
}

/* ---- what means nothing ---- */

/* The parameters of a worker that mean nothing here; "" if there are none. */
static const char *useless(apr_pool_t *pool, const proxy_worker_shared *said)
{
    return apr_pstrcat(
        pool, said->ping_timeout_set ? " ping" : "",
        said->io_buffer_size_set ? " iobuffersize" : "",
        said->recv_buffer_size_set ? " receivebuffersize" : "",
        said->response_field_size_set ? " responsefieldsize" : "",
        said->keepalive_set ? " keepalive" : "", said->min > 0 ? " min" : "",
        *said->secret ? " secret" : "", *said->upgrade ? " upgrade" : "",
        NULL);
}

static void log_useless(apr_pool_t *pool, server_rec *s, proxy_worker *worker)
{
    const char *names = useless(pool, worker->s);

    if (*names) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, s,
                     PROXY_LOGNO("42") "%s: of no meaning for FastCGI:%s",
                     ap_proxy_worker_name(pool, worker), names);
    }
}

/* True if a ProxyRemote is for FastCGI, too. */
static int is_for_us(const struct proxy_remote *remote)
{
    return remote->use_regex
               ? !ap_regexec(remote->regexp, "fcgi://localhost", 0, NULL, 0)
               : !strcmp(remote->scheme, "*")
                     || !ap_cstr_casecmpn(remote->scheme, "fcgi", 4);
}

/* The directives of a server that mean nothing here; "" if there are none. */
static const char *useless_directives(const server_rec *s)
{
    const proxy_server_conf *conf =
        ap_get_module_config(s->module_config, &proxy_module);
    const struct proxy_remote *remotes =
        (const struct proxy_remote *)conf->proxies->elts;
    int i, has_remote = 0;

    for (i = 0; i < conf->proxies->nelts; i++) {
        has_remote |= is_for_us(&remotes[i]);
    }
    return conf->source_address ? has_remote
                                      ? " ProxySourceAddress ProxyRemote"
                                      : " ProxySourceAddress"
           : has_remote         ? " ProxyRemote"
                                : "";
}

/* A virtual host that only has those of the main server says nothing. */
static void log_directives(const server_rec *main_server)
{
    const char *common = useless_directives(main_server);
    const server_rec *s;

    for (s = main_server; s; s = s->next) {
        const char *names = useless_directives(s);

        if (*names && (s == main_server || strcmp(names, common))) {
            ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, s,
                         PROXY_LOGNO("45") "of no meaning for FastCGI, whose "
                                           "applications are asked from any "
                                           "address and by no other "
                                           "proxy:%s",
                         names);
        }
    }
}

void proxy_worker_log_all(server_rec *s)
{
    apr_pool_t *pool;

    log_directives(s);
    if (apr_pool_create(&pool, NULL) == APR_SUCCESS) {
        visit_all(pool, s, log_useless);
        apr_pool_destroy(pool);
    }
}

/* ---- a request ---- */

/* True if a member is in error because it did not answer, and not only while
 * some request has another one chosen. */
static int is_broken(const proxy_worker *worker)
{
    return worker->s->status & PROXY_WORKER_IN_ERROR
           && worker->s->error_time + MOMENT <= apr_time_now();
}

int proxy_worker_is_switched_on(const proxy_worker *worker)
{
    unsigned reasons =
        PROXY_WORKER_NOT_USABLE_BITMAP & ~(unsigned)PROXY_WORKER_IN_ERROR;

    return PROXY_WORKER_IS_INITIALIZED(worker)
           && !(worker->s->status & reasons);
}

int proxy_worker_is_usable(proxy_worker *worker, server_rec *s)
{
    APR_OPTIONAL_FN_TYPE(ap_proxy_retry_worker) *retry =
        APR_RETRIEVE_OPTIONAL_FN(ap_proxy_retry_worker);

    if (is_broken(worker) && retry) {
        retry("FCGI", worker, s);
    }
    return proxy_worker_is_switched_on(worker) && !is_broken(worker);
}

/* True if mod_proxy may take that member: it is well, or held for a moment, or
 * its retry time is over, which mod_proxy measures by the time of day. */
static int may_be_asked(const proxy_worker *worker)
{
    apr_time_t now = apr_time_now(), since = worker->s->error_time;

    return proxy_worker_is_switched_on(worker)
           && !(worker->s->status & PROXY_WORKER_DRAIN)
           && (!(worker->s->status & PROXY_WORKER_IN_ERROR) || since > now
               || since + worker->s->retry < now);
}

static int was_passed(const proxy_request *request, const proxy_worker *worker)
{
    int i;

    for (i = 0; i < request->passed->nelts; i++) {
        if (APR_ARRAY_IDX(request->passed, i, proxy_passed).worker == worker) {
            return 1;
        }
    }
    return 0;
}

/* True if all have been asked that may be. Where requests pass over a member at
 * the same time one of them may get it once more, which does not count. */
static int is_last_attempt(const proxy_request *request,
                           const proxy_balancer *balancer)
{
    int most = balancer->s->max_attempts;

    return request->attempts > most || request->passed->nelts > 2 * most;
}

/* True if mod_proxy would take another member of that balancer if this one
 * does not answer. */
static int has_others(const request_rec *r, const proxy_request *request,
                      const proxy_worker *worker)
{
    const proxy_balancer *balancer = worker->balancer;
    int i, others = 0;

    if (!balancer || (worker->s->status & PROXY_WORKER_IGNORE_ERRORS)
        || is_last_attempt(request, balancer)
        || (balancer->s->sticky_force
            && apr_table_get(r->notes, "session-route"))) {
        return 0;
    }
    for (i = 0; i < balancer->workers->nelts; i++) {
        const proxy_worker *other =
            APR_ARRAY_IDX(balancer->workers, i, proxy_worker *);

        others += other != worker && !was_passed(request, other)
                  && may_be_asked(other);
    }
    return others > 0;
}

/* By ProxyBlock. */
static int is_blocked(request_rec *r, proxy_server_conf *conf,
                      const char *hostname)
{
#if AP_MODULE_MAGIC_AT_LEAST(20120724, 0) /* httpd's trunk */
    return ap_proxy_checkproxyblock(r, conf, hostname, NULL) != OK;
#else
    return ap_proxy_checkproxyblock2(r, conf, hostname, NULL) != OK;
#endif
}

/* True if this is the error page of a request that no member of that balancer
 * was there for. */
static int was_in_vain(const request_rec *r, const proxy_balancer *balancer)
{
    for (r = r->prev; balancer && r; r = r->prev) {
        const proxy_request *before =
            ap_get_module_config(r->request_config, &proxy_fastcgi_module);

        if (before && before->worker && before->worker->balancer == balancer
            && before->question.end == FCGI_ENGINE_NO_CONNECTION) {
            return 1;
        }
    }
    return 0;
}

int proxy_worker_set_question(request_rec *r, proxy_worker *worker,
                              proxy_server_conf *conf, const char *url,
                              fcgi_engine_question *question)
{
    proxy_request *request = proxy_request_of(r);
    proxy_dir_conf *dir =
        ap_get_module_config(r->per_dir_config, &proxy_module);
    const char *path = *worker->s->uds_path
                           ? worker->s->uds_path
                           : apr_table_get(r->notes, "uds_path");
    apr_uri_t uri;

    if (apr_uri_parse(r->pool, url, &uri) != APR_SUCCESS || !uri.hostname) {
        return HTTP_BAD_REQUEST;
    }
    if (is_blocked(r, conf, uri.hostname)) {
        return HTTP_FORBIDDEN;
    }
    question->address =
        path ? address_of_path(r->pool, path)
             : proxy_url_address(r->pool, uri.hostname, uri.port);
    question->timeout = timeout_of(worker, conf, r->server);
    question->connect_timeout =
        worker->s->conn_timeout_set ? worker->s->conn_timeout : 0;
    question->flush = worker->s->flush_packets == flush_on;
    question->error_override = dir->error_override;
    question->error_codes = dir->error_override_codes;
    request->attempts += !was_passed(request, worker);
    question->has_others = has_others(r, request, worker);
    question->was_in_vain = was_in_vain(r, worker->balancer);
    return OK;
}

/* True if mod_proxy takes a member for broken for that status. */
static int is_blamed(int status)
{
    return status == HTTP_SERVICE_UNAVAILABLE
           || status == HTTP_INTERNAL_SERVER_ERROR;
}

void proxy_worker_conclude(request_rec *r, proxy_worker *worker,
                           const fcgi_engine_question *question, int status)
{
    worker->s->transferred += question->sent;
    worker->s->read += question->received;
    if (question->end == FCGI_ENGINE_TIMED_OUT) {
        apr_table_setn(r->notes, "proxy_timedout", "1");
    }
    if (question->end == FCGI_ENGINE_ANSWERED && status != OK) {
        /* the application's own word: no reason to ask another one */
        apr_table_setn(r->notes, "proxy-error-override", "1");
    }
    else if (worker->balancer && is_blamed(status)) {
        proxy_passed *passed = apr_array_push(proxy_request_of(r)->passed);

        passed->worker = worker;
        passed->is_broken =
            question->end == FCGI_ENGINE_NO_CONNECTION || is_broken(worker);
        passed->held_until = 0;
    }
}

/* Others may have found out meanwhile. */
static void look_again(proxy_passed *passed)
{
    if (is_broken(passed->worker)) {
        passed->is_broken = 1;
    }
    else if (!(passed->worker->s->status & PROXY_WORKER_IN_ERROR)) {
        passed->is_broken = 0;
    }
}

void proxy_worker_pass_over(request_rec *r)
{
    const apr_array_header_t *all = proxy_request_of(r)->passed;
    int i;

    for (i = 0; i < all->nelts; i++) {
        proxy_passed *passed = &APR_ARRAY_IDX(all, i, proxy_passed);

        if (passed->held_until) {
            look_again(passed);
        }
        passed->held_until = apr_time_now() + HELD;
        passed->worker->s->error_time = passed->held_until;
        passed->worker->s->status |= PROXY_WORKER_IN_ERROR;
    }
}

/* True if a member is in error by this request. */
static int is_ours(const proxy_passed *passed)
{
    apr_time_t time = passed->worker->s->error_time;

    return passed->held_until ? passed->held_until == time
                              : time <= apr_time_now();
}

void proxy_worker_forgive(request_rec *r)
{
    const apr_array_header_t *all = proxy_request_of(r)->passed;
    int i;

    for (i = 0; i < all->nelts; i++) {
        proxy_passed *passed = &APR_ARRAY_IDX(all, i, proxy_passed);
        proxy_worker_shared *state = passed->worker->s;

        if (is_ours(passed) && passed->is_broken) {
            state->error_time = apr_time_now();
        }
        else if (is_ours(passed)) {
            state->status &= ~(unsigned)PROXY_WORKER_IN_ERROR;
        }
        passed->held_until = -1;
    }
}
