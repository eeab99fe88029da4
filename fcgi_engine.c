/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_engine.c - requests of another module; the contract is in
 * fcgi_engine.h. Start at fcgi_engine_ask(): the same parts as in
 * fastcgi_handler(), but that nothing is decided about scripts and trust.
 */
#include "fcgi_engine.h"

#include <http_config.h>

#include <apr_strings.h>

#include "fcgi_ask.h"
#include "fcgi_await.h"
#include "fcgi_conclude.h"
#include "fcgi_config.h"
#include "fcgi_declare.h"
#include "fcgi_env.h"
#include "fcgi_known.h"
#include "fcgi_log.h"
#include "fcgi_terms.h"

APLOG_USE_MODULE(fastcgi_handler);

/* What each outcome is to who chose the application. */
static const fcgi_engine_end meanings[FCGI_OUTCOME_COUNT] = {
    [FCGI_OUTCOME_PENDING] = FCGI_ENGINE_NOT_ITS_FAULT,
    [FCGI_OUTCOME_DONE] = FCGI_ENGINE_ANSWERED,
    [FCGI_OUTCOME_NO_CONNECT] = FCGI_ENGINE_NO_CONNECTION,
    [FCGI_OUTCOME_NO_PLACE] = FCGI_ENGINE_BUSY,
    [FCGI_OUTCOME_TIMED_OUT] = FCGI_ENGINE_TIMED_OUT,
    [FCGI_OUTCOME_BROKEN] = FCGI_ENGINE_BROKEN,
    [FCGI_OUTCOME_MALFORMED] = FCGI_ENGINE_BROKEN,
    [FCGI_OUTCOME_BAD_HEADERS] = FCGI_ENGINE_BROKEN,
    [FCGI_OUTCOME_OVERLOADED] = FCGI_ENGINE_BUSY,
    [FCGI_OUTCOME_UNKNOWN_ROLE] = FCGI_ENGINE_BROKEN,
    [FCGI_OUTCOME_CLIENT_BAD] = FCGI_ENGINE_NOT_ITS_FAULT,
    [FCGI_OUTCOME_NO_SPACE] = FCGI_ENGINE_NOT_ITS_FAULT,
    [FCGI_OUTCOME_CLIENT_GONE] = FCGI_ENGINE_NOT_ITS_FAULT,
    [FCGI_OUTCOME_REFUSED] = FCGI_ENGINE_NOT_ITS_FAULT,
};

/* A backlog that is full is somebody's; a descriptor that is missing is
 * missing here. */
static fcgi_engine_end end_of(const fcgi_result *result)
{
    return result->outcome == FCGI_OUTCOME_NO_CONNECT
                   && (APR_STATUS_IS_EAGAIN(result->rv)
                       || APR_STATUS_IS_EMFILE(result->rv)
                       || APR_STATUS_IS_ENFILE(result->rv))
               ? FCGI_ENGINE_BUSY
               : meanings[result->outcome];
}

/* The question's settings hold as if the innermost section had them. */
static void set_settings(request_rec *r, const fcgi_engine_question *question)
{
    fcgi_dir_config *conf = fcgi_config_create_dir(r->pool, NULL);
    ap_conf_vector_t *section = ap_create_request_config(r->pool);

    if (question->timeout) {
        conf->timeout = question->timeout;
    }
    if (question->connect_timeout) {
        conf->connect_timeout = question->connect_timeout;
    }
    if (question->flush) {
        conf->flush = FCGI_FLUSH_ON;
    }
    if (question->error_override) {
        conf->error_override = 1;
        conf->error_codes = question->error_codes
                                ? question->error_codes
                                : apr_array_make(r->pool, 1, sizeof(int));
    }
    ap_set_module_config(section, &fastcgi_handler_module, conf);
    r->per_dir_config =
        ap_merge_per_dir_configs(r->pool, r->per_dir_config, section);
}

/* The backend at the question's address. Returns NULL, or what is wrong. */
static const char *find_backend(request_rec *r, const char *name,
                                const fcgi_backend **backend)
{
    fcgi_address *address = NULL;
    const char *problem =
        fcgi_known_find(r->pool, name, name, backend, &address);

    if (!problem && !*backend) {
        *backend = fcgi_known_make(r->pool, address);
    }
    return problem;
}

static int fail(fcgi_engine_question *question, request_rec *r,
                const char *id_and_why)
{
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "%s", id_and_why);
    question->end = FCGI_ENGINE_NOT_ITS_FAULT;
    return HTTP_INTERNAL_SERVER_ERROR;
}

/* The first time, takes the body. The next time it is here. */
static void prepare(request_rec *r, fcgi_engine_question *question,
                    const fcgi_backend *backend)
{
    fcgi_terms terms;

    fcgi_terms_init(&terms, r);
    terms.has_others = question->has_others;
    if (question->ask) {
        fcgi_ask_move(question->ask, backend, &terms);
    }
    else {
        question->ask = fcgi_ask_create(r, backend, &terms);
        fcgi_ask_take_body(question->ask);
    }
}

/* What is done to r for this application is not to hold for the next one. */
static void keep_request(request_rec *r, fcgi_engine_question *question)
{
    question->sections = r->per_dir_config;
    question->env = r->subprocess_env;
    if (question->has_others) {
        r->subprocess_env = apr_table_copy(r->pool, question->env);
    }
}

static void restore_request(request_rec *r,
                            const fcgi_engine_question *question)
{
    r->per_dir_config = question->sections;
    r->subprocess_env = question->env;
}

/* It is over: what it was for who chose the application. */
static int conclude(fcgi_engine_question *question)
{
    fcgi_ask *ask = question->ask;
    int status = HTTP_SERVICE_UNAVAILABLE;

    question->may_move = fcgi_ask_may_move(ask);
    if (question->may_move && question->has_others) {
        fcgi_conclude_moved(ask);
        restore_request(ask->r, question);
    }
    else {
        status = fcgi_conclude(ask);
    }
    question->end = end_of(&ask->result);
    question->sent = fcgi_exchange_sent(ask->ex);
    question->received = ask->ex->bytes_in;
    return status;
}

static int finish(fcgi_ask *ask, void *baton)
{
    fcgi_engine_question *question = baton;
    int status = conclude(question);

    question->is_parked = 0;
    return question->ended(ask->r, status);
}

static void abandon(fcgi_ask *ask, void *baton)
{
    fcgi_engine_question *question = baton;

    fcgi_conclude_abandoned(ask);
    question->end = FCGI_ENGINE_NOT_ITS_FAULT;
    question->sent = fcgi_exchange_sent(ask->ex);
    question->received = ask->ex->bytes_in;
    question->is_parked = question->may_move = 0;
    question->ended(ask->r, OK);
}

static const fcgi_await_ends ends = { finish, abandon };

static apr_off_t body_len(const fcgi_ask *ask)
{
    if (!ask->terms.has_body) {
        return FCGI_ENGINE_NO_BODY;
    }
    return ask->inflow->is_done ? ask->inflow->len : -1;
}

/* What is ready is asked, to its end or until it goes on alone. */
static int ask_it(request_rec *r, fcgi_engine_question *question)
{
    fcgi_ask *ask = question->ask;
    fcgi_params params;
    int status = question->add_variables(r, body_len(ask));

    if (status != OK) {
        question->end = FCGI_ENGINE_NOT_ITS_FAULT;
        return status;
    }
    if (!fcgi_env_encode_as_is(r, &params)) {
        return fail(question, r,
                    FCGI_LOGNO("15") "a variable is too long for FastCGI");
    }
    fcgi_ask_begin(ask, params.bytes, params.len,
                   question->was_in_vain
                       || fcgi_conclude_was_in_vain(r, ask->backend));
    question->is_parked =
        fcgi_await(ask, question->may_park ? &ends : NULL, question);
    return OK;
}

static int fcgi_engine_ask(request_rec *r, fcgi_engine_question *question)
{
    const fcgi_backend *backend;
    const char *problem = find_backend(r, question->address, &backend);
    int status = OK;

    question->is_parked = question->may_move = 0;
    question->sent = question->received = 0;
    if (problem) {
        return fail(question, r,
                    apr_psprintf(r->pool, FCGI_LOGNO("13") "'%s': %s",
                                 question->address, problem));
    }
    keep_request(r, question);
    set_settings(r, question);
    prepare(r, question, backend);
    if (question->ask->result.outcome == FCGI_OUTCOME_PENDING) {
        status = ask_it(r, question);
    }
    return status != OK || question->is_parked ? status : conclude(question);
}

static const char *fcgi_engine_enter(apr_pool_t *pool, const char *address,
                                     const char *const *settings)
{
    return fcgi_declare_default(pool, address, settings);
}

void fcgi_engine_offer(void)
{
    APR_REGISTER_OPTIONAL_FN(fcgi_engine_ask);
    APR_REGISTER_OPTIONAL_FN(fcgi_engine_enter);
}
