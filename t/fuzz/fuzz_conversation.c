/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fuzz_conversation.c - whole requests, from their body to what the client has
 * in the end, where an application, a client and time do what the input says,
 * in any order: as a thread waits for them, and without one. What became of
 * each is compared with what a decoder makes of all that was said
 * (decoder.h):
 *
 * - what the client gets is what the application said, byte by byte, and it
 *   takes for whole only what is;
 * - what the application gets is a request, and one that is not safe to repeat
 *   it gets once;
 * - a connection is kept only if nothing is left of it;
 * - nothing waits for a socket but whoever is there for that, nor for ever, nor
 *   in a circle; all that was taken is given back.
 *
 * The world is world.h's; t/fuzz/run builds and runs it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>

#include <httpd.h>
#include <http_log.h>
#include <http_protocol.h>

#include "fcgi_await.h"
#include "fcgi_conclude.h"
#include "t/fuzz/decoder.h"
#include "t/fuzz/world.h"

#define MAX_REQUESTS 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* One request, as the input wants it. */
static struct {
    fcgi_terms terms;
    fcgi_ask *ask;
    char *params;
    apr_size_t params_len;
    fcgi_instant began;
    apr_interval_time_t least_limit;
    int is_safe;
    int has_ended, status; /* what the handler returned */
    int was_abandoned;
} one;

/* ---- what the input wants ---- */

static void choose_settings(void)
{
    fcgi_dir_config *settings = &world.settings;
    int choice = world_byte();

    memset(settings, 0, sizeof(*settings));
    settings->flush = choice % 3;
    settings->park = choice & 4 ? 0 : apr_time_from_msec(100);
    settings->error_override = choice >> 3 & 1;
    world.can_park = choice >> 4 & 3;
    world.condition = choice & 0x40 ? HTTP_NOT_MODIFIED : OK;
    world.condition =
        choice & 0x80 ? HTTP_PRECONDITION_FAILED : world.condition;
    if (world.condition) {
        apr_table_setn(world.r->headers_in, "if-None-Match", "*");
    }
}

static void choose_terms(void)
{
    fcgi_terms *terms = &one.terms;
    int choice = world_byte(), sizes = world_byte();

    memset(terms, 0, sizeof(*terms));
    terms->connect = apr_time_from_msec(300);
    terms->idle = apr_time_from_sec(60);
    terms->first_byte = choice & 1 ? apr_time_from_sec(10) : 0;
    terms->total = choice & 2 ? apr_time_from_sec(15) : 0;
    one.least_limit = terms->first_byte ? terms->first_byte
                      : terms->total    ? terms->total
                                        : terms->idle;
    terms->retry = choice & 4 ? apr_time_from_sec(1) : 0;
    terms->ignore_client_abort = choice >> 3 & 1;
    terms->has_body = choice >> 4 & 1;
    terms->stream_body = choice >> 5 & 1;
    world.client.end_was_read = !terms->has_body;
    terms->flush = (fcgi_flush)world.settings.flush;
    terms->max_header_size = sizes & 1 ? 256 : 64 * 1024;
    terms->spool.memory = (apr_size_t)256 << (sizes >> 1 & 7);
    terms->spool.max = (apr_off_t)4096 << (sizes >> 4 & 7);
    terms->spool.sendfile = sizes >> 7;
    one.params_len = choice & 0x40 ? 70000 : choice & 0x80 ? 0 : 100;
}

static void choose_request(request_rec *r)
{
    static struct ap_logconf loud = { NULL, APLOG_TRACE8 },
                             silent = { NULL, APLOG_ERR };
    int choice = world_byte();

    r->log = choice & 1 ? &loud : &silent;
    one.is_safe = !(choice & 2);
    if (!one.is_safe) {
        r->method = "POST";
        r->method_number = M_POST;
    }
    r->header_only = choice >> 2 & one.is_safe;
    r->proto_num = choice & 8 ? HTTP_VERSION(1, 0) : r->proto_num;
    r->chunked = choice >> 4 & 1;
    r->expecting_100 = choice >> 5 & 1;
    if (choice & 0x80) {
        world.client.room = 100;
    }
    if (choice & 0x40) {
        apr_table_setn(r->headers_in, "Content-Length", "5000");
    }
}

/* Parameters, with the room that they have around them. */
static void make_params(apr_pool_t *pool)
{
    one.params = apr_palloc(pool, FCGI_ROOM_BEFORE_PARAMS + one.params_len
                                      + FCGI_ROOM_BEHIND_PARAMS);
    one.params += FCGI_ROOM_BEFORE_PARAMS;
    memcpy(one.params, world_bytes() + 1000, one.params_len);
}

/* ---- what must be so ---- */

/* What the client is to get. */
typedef struct verdict {
    decoded_answer said;
    int passes; /* its body is the application's */
    int is_whole;
    size_t body_len; /* of it */
} verdict;

/* True if httpd gives another answer in its place, or none is wanted. */
static int has_no_body(const decoded_answer *said)
{
    const request_rec *r = world.r;

    return r->header_only || said->status == 204 || said->status == 304
           || said->is_local
           || (world.settings.error_override && ap_is_HTTP_ERROR(said->status))
           || (!said->status && world.condition && r->method_number == M_GET);
}

/* FastCGI 1.0, 5.5 and 3.3; RFC 3875, 6.3; and what README.rst says of an
 * answer whose connection is closed. */
static verdict judge(void)
{
    const app_socket *used = world.used;
    const decoded_answer *said;
    verdict result = { 0 };
    int has_length;

    if (!used || !used->said) {
        return result;
    }
    result.said = decode_answer(used->said + used->said_before,
                                used->said_read - used->said_before,
                                used->uses, one.terms.max_header_size);
    said = &result.said;
    result.passes = said->has_head && !has_no_body(said);
    result.body_len = said->body_len;
    has_length = said->length >= 0 && (int64_t)said->body_len >= said->length;
    result.is_whole =
        said->has_head && !said->bad_head && !said->is_malformed
        && (said->is_ended
                ? said->protocol_status == 0
                : used->end_was_seen && (said->stdout_ended || has_length));
    if (result.passes && said->length >= 0) {
        result.is_whole &= has_length;
        result.body_len = has_length ? (size_t)said->length : said->body_len;
    }
    return result;
}

/* Who does not know of the end that an outcome means. */
static int is_from_elsewhere(fcgi_outcome outcome)
{
    return outcome == FCGI_OUTCOME_CLIENT_GONE
           || outcome == FCGI_OUTCOME_CLIENT_BAD
           || outcome == FCGI_OUTCOME_REFUSED
           || outcome == FCGI_OUTCOME_TIMED_OUT;
}

static void check_outcome(const verdict *judged)
{
    fcgi_outcome outcome = one.ask->result.outcome;

    REQUIRE(outcome > FCGI_OUTCOME_PENDING && outcome < FCGI_OUTCOME_COUNT);
    REQUIRE(outcome != FCGI_OUTCOME_DONE || judged->is_whole);
    REQUIRE(outcome == FCGI_OUTCOME_DONE || one.ask->result.why);
    if (judged->is_whole && outcome != FCGI_OUTCOME_DONE) {
        REQUIRE(is_from_elsewhere(outcome));
    }
    if (outcome == FCGI_OUTCOME_TIMED_OUT && world.over_at) {
        /* nothing that happened was missed */
        REQUIRE(world.over_at - one.began
                > one.least_limit - apr_time_from_sec(5));
    }
}

static void check_answer(const verdict *judged)
{
    const world_client *client = &world.client;
    int is_told = client->has_eos && !client->has_error
                  && !world.connection.aborted && !client->was_reset;

    REQUIRE(!client->got_more);
    if (one.status > 0) { /* httpd's own error page */
        REQUIRE(!client->got_len && !client->has_eos && !client->has_error);
        return;
    }
    if (!judged->passes) {
        REQUIRE(!client->got_len);
    }
    else {
        REQUIRE(client->got_len <= judged->body_len);
        REQUIRE(!client->got_len
                || !memcmp(client->got, judged->said.body, client->got_len));
    }
    if (is_told && !world.is_redirected) {
        REQUIRE(judged->is_whole);
        REQUIRE(!judged->passes || client->got_len == judged->body_len);
        REQUIRE(world.r->status
                == (judged->said.status ? judged->said.status
                    : world.condition && !judged->passes
                            && world.r->method_number == M_GET
                        ? world.condition
                        : HTTP_OK));
    }
}

static decoded_request request_on(const app_socket *used)
{
    expected_request expected;

    expected.id = used->uses;
    expected.params = (const uint8_t *)one.params;
    expected.params_len = one.params_len;
    expected.body = world_bytes();
    expected.body_len = world.client.body_read;
    expected.body_done = world.client.end_was_read || !one.terms.has_body;
    return decode_request(used->heard + used->heard_before,
                          used->heard_len - used->heard_before, &expected);
}

static void check_requests(void)
{
    int count = 0, i;

    for (i = 0; i < world.socket_count; i++) {
        const app_socket *used = &world.sockets[i];

        if (used->heard_len > used->heard_before) {
            count++;
            REQUIRE(request_on(used) != REQUEST_WRONG);
        }
    }
    REQUIRE(count <= (one.is_safe && one.terms.retry ? 2 : 1));
}

/* What stays idle has nothing of a request any more. */
static void check_kept(const verdict *judged)
{
    int i;

    for (i = 0; i < world.idle_count; i++) {
        const app_socket *kept = world_socket_of(world.idle[i]);

        if (kept->is_used) {
            REQUIRE(kept == world.used);
            REQUIRE(request_on(kept) == REQUEST_WHOLE);
            REQUIRE(judged->is_whole || judged->said.is_ended);
            REQUIRE(judged->said.used + judged->said.rest
                    == kept->said_read - kept->said_before);
        }
    }
}

static void tell(const verdict *judged)
{
    const fcgi_ask *asked = one.ask;
    const world_client *client = &world.client;

    fprintf(stderr,
            "ended: %s in phase %s (%s), handler %d, status %d, response in "
            "state %d, outlet in state %d; said: whole %d, body of %lu; got: "
            "%lu, end %d, error %d, aborted %d\n",
            fcgi_outcome_name(asked->result.outcome),
            fcgi_phase_name(asked->result.phase), asked->result.why,
            one.status, world.r->status, asked->ex->response->state,
            asked->ex->outflow->outlet.state, judged->is_whole,
            (unsigned long)judged->body_len, (unsigned long)client->got_len,
            client->has_eos, client->has_error, world.connection.aborted);
}

static void check(void)
{
    verdict judged = judge();

    if (world.tells) {
        tell(&judged);
    }
    REQUIRE(!world.has_blocked);
    REQUIRE(!world.in_line);
    check_outcome(&judged);
    check_answer(&judged);
    check_requests();
    check_kept(&judged);
}

/* ---- the story of a request ---- */

/* As httpd does when a handler has returned. */
static void end_request(int status)
{
    request_rec *r = world.r;

    one.status = status;
    one.has_ended = 1;
    world.may_block = 1;
    if (status == OK && !r->eos_sent) {
        apr_bucket_brigade *bb = apr_brigade_create(r->pool, world.list);

        APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_eos_create(world.list));
        world_output(r, bb);
        apr_brigade_destroy(bb);
    }
}

static int finish(fcgi_ask *ask, void *baton)
{
    (void)baton;
    return fcgi_conclude(ask);
}

static void abandon(fcgi_ask *ask, void *baton)
{
    (void)baton;
    fcgi_conclude_abandoned(ask);
    one.was_abandoned = 1;
}

static const fcgi_await_ends ends = { finish, abandon };

static void abandon_parked(fcgi_parkable *parkable)
{
    world.parked = NULL;
    parkable->kind->count(parkable->baton, 0);
    world.connection.aborted = 1;
    parkable->kind->abandon(parkable->baton);
    end_request(OK);
}

/* As fcgi_parked.c has it; some readiness is told that is none. */
static void wait_without_thread(void)
{
    while (world.parked) {
        fcgi_parkable *parkable = world.parked;
        int ready = world_wait(parkable->wait.wants, parkable->application,
                               parkable->wait.wake_at);

        if (world.is_abandoned) {
            abandon_parked(parkable);
            return;
        }
        parkable->kind->ready(parkable->baton, ready);
        if (parkable->kind->step(parkable->baton)) {
            world.parked = NULL;
            parkable->kind->count(parkable->baton, 0);
            end_request(parkable->kind->finish(parkable->baton));
        }
    }
}

static void ask(const fcgi_backend *backend)
{
    one.ask = fcgi_ask_create(world.r, backend, &one.terms);
    world.may_block = 1;
    fcgi_ask_take_body(one.ask);
    world.may_block = 0;
    one.began = world.now;
    if (one.ask->result.outcome == FCGI_OUTCOME_PENDING) {
        make_params(world.r->pool);
        fcgi_ask_begin(one.ask, one.params, one.params_len, 0);
        if (fcgi_await(one.ask, world.can_park ? &ends : NULL, NULL)) {
            wait_without_thread();
        }
    }
    if (!one.has_ended) {
        end_request(fcgi_conclude(one.ask));
    }
}

static void run_request(const fcgi_backend *backend)
{
    apr_pool_t *pool;

    REQUIRE(apr_pool_create(&pool, world.pool) == APR_SUCCESS);
    memset(&one, 0, sizeof(one));
    world_next();
    choose_request(world_request(pool));
    choose_settings();
    choose_terms();
    ask(backend);
    check();
    apr_pool_destroy(pool);
}

/* ---- all of an input ---- */

static fcgi_backend *make_backend(apr_pool_t *pool)
{
    static fcgi_address address = { .name = "fcgi:/nowhere/at/all",
                                    .path = "/nowhere/at/all" };
    fcgi_backend *backend = fcgi_backend_create(pool, &address);
    int choice = world_byte();

    world.keeps = choice & 1;
    world.is_limited = choice >> 1 & 1;
    world.look = choice & 4 ? 1 : choice & 8 ? 1000 : 0;
    world.connection.master = choice & 16 ? &world.connection : NULL;
    backend->line->limits.keepalive = choice & 1 ? 10 : 0;
    backend->queue_timeout = apr_time_from_sec(2);
    backend->idle_time = apr_time_from_sec(100);
    backend->requests = choice & 32 ? 2 : 0;
    return backend;
}

static void close_idle(fcgi_backend *backend)
{
    while (world.idle_count) {
        fcgi_conn_close(world.idle[--world.idle_count], FCGI_CONN_IDLE);
        fcgi_line_free(backend->line);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static apr_pool_t *process;
    fcgi_backend *backend;
    apr_pool_t *pool;
    int i;

    if (!process) {
        REQUIRE(apr_initialize() == APR_SUCCESS);
        REQUIRE(apr_pool_create(&process, NULL) == APR_SUCCESS);
        fcgi_spool_find_dir(process);
    }
    REQUIRE(apr_pool_create(&pool, NULL) == APR_SUCCESS);
    world_begin(data, len);
    world_connect(pool);
    backend = make_backend(pool);
    for (i = 0; i < MAX_REQUESTS && !world.is_over && !world.connection.aborted
                && !world.client.has_error;
         i++) {
        run_request(backend);
    }
    close_idle(backend);
    apr_pool_destroy(pool);
    world_end();
    return 0;
}
