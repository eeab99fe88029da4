/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_parked.c - requests that wait without a thread; the contract is in
 * fcgi_parked.h. Read fcgi_parked_process() first, then fcgi_parked_start().
 *
 * Between the handler that returns OK and this file's hook around it all of
 * httpd ends the request, at whatever depth of internal redirects: it
 * discards the body, ends the output stream, sends the bucket that frees the
 * request (EOR), and looks for the next request. None of that must happen yet.
 * Where the request is the error page of an answer that a filter refused, it
 * even sends another one, as it sees that nothing was said. mute() makes all
 * of it believe that there is nothing left to do, and leads what is said all
 * the same nowhere; a filter holds the bucket; and unmute() takes it back as
 * soon as the hook has the word again.
 */
#include "fcgi_parked.h"

#include <ap_mpm.h>
#include <mpm_common.h>
#include <scoreboard.h>
#include <http_config.h>
#include <http_connection.h>
#include <http_core.h>
#include <http_log.h>
#include <http_main.h>
#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>

#include <apr_atomic.h>

#include "fcgi_log.h"

APLOG_USE_MODULE(fastcgi_handler);

#ifdef AP_MPMQ_CAN_WAITIO
#define STATE_WAIT CONN_STATE_ASYNC_WAITIO
#define CAN_WAIT   AP_MPMQ_CAN_WAITIO
#else /* httpd before 2.4.63: nothing is parked, these are not used */
#define STATE_WAIT CONN_STATE_LINGER
#define CAN_WAIT   0
#endif

/* Where httpd's Timeout is less, the MPM would end what is parked before it
 * is looked at. */
#define TIMEOUT_MIN apr_time_from_msec(500)

/* Blocks that a connection has in store, at most, when a request was read and
 * sent on. */
#define FREE_BLOCKS 4

/* What a request of a chain of internal redirects had before it was muted. */
typedef struct voice {
    request_rec *r;
    ap_filter_t *output_filters;
    ap_filter_t *proto_output_filters;
} voice;

/* A connection, once a request of it was parked. */
typedef struct parked_connection {
    fcgi_parkable *parked; /* NULL: none */
    int inside;            /* the hook has called somebody, and will go on */
    apr_interval_time_t wake_within; /* or the MPM gives the request up */
    int is_last; /* httpd refused the request while it read it, and reads
                  * nothing behind it */

    ap_filter_t *holder;      /* the filter that waits for EOR, */
    int is_holding;           /* if it is in its place */
    apr_bucket_brigade *held; /* EOR */

    /* while muted */
    apr_array_header_t *voices; /* of voice; NULL: it is not */
    int eos_was_sent;
    ap_conn_keepalive_e keepalive;
    int aborted; /* also while the MPM waits, which would close it; the
                  * application may be to finish alone */
} parked_connection;

/* Stands for a connection of which no request was parked, while the hook is
 * around it: that costs no memory. Never changed. */
static parked_connection nothing_parked = { .inside = 1 };

static int mpm_can_wait;
static volatile apr_uint32_t shortage_is_logged;
static volatile apr_uint32_t parked_count; /* requests of this child, now */
static ap_filter_rec_t *hold_filter, *mute_filter;

static parked_connection *get_state(const conn_rec *c)
{
    return ap_get_module_config(c->conn_config, &fastcgi_handler_module);
}

static void set_state(conn_rec *c, parked_connection *state)
{
    ap_set_module_config(c->conn_config, &fastcgi_handler_module, state);
}

/* ---- parking ---- */

/* The least Timeout that the MPM may measure this connection by. */
static apr_interval_time_t least_timeout(const request_rec *r)
{
    apr_interval_time_t least = ap_server_conf->timeout;

    if (r->connection->base_server->timeout < least) {
        least = r->connection->base_server->timeout;
    }
    return r->server->timeout < least ? r->server->timeout : least;
}

int fcgi_parked_may(const request_rec *r)
{
    const conn_rec *c = r->connection;
    const parked_connection *state;

    if (!mpm_can_wait || r->main || c->master || !c->cs
        || c->clogging_input_filters) {
        return 0;
    }
    state = get_state(c);
    return state && state->inside && !state->parked
           && least_timeout(r) >= TIMEOUT_MIN;
}

/* What is said leads nowhere. */
static apr_status_t swallow(ap_filter_t *f, apr_bucket_brigade *bb)
{
    (void)f;
    apr_brigade_cleanup(bb);
    return APR_SUCCESS;
}

/* A chain of filters that is only that one. It is of no request, so that no
 * end of a stream is noted either. */
static ap_filter_t *create_mute(const request_rec *r)
{
    ap_filter_t *f = apr_pcalloc(r->pool, sizeof(*f));

    f->frec = mute_filter;
    f->c = r->connection;
    return f;
}

/* Nothing is to be said or read now. */
static void mute(parked_connection *state)
{
    request_rec *r = state->parked->r;
    conn_rec *c = r->connection;
    ap_filter_t *nowhere = create_mute(r);

    state->voices = apr_array_make(r->pool, 2, sizeof(voice));
    state->eos_was_sent = r->eos_sent;
    state->keepalive = c->keepalive;
    state->aborted = c->aborted != 0;
    for (; r; r = r->prev) {
        voice *had = apr_array_push(state->voices);

        had->r = r;
        had->output_filters = r->output_filters;
        had->proto_output_filters = r->proto_output_filters;
        r->output_filters = nowhere;
        r->proto_output_filters = nowhere;
        r->eos_sent = 1;
    }
    c->keepalive = AP_CONN_CLOSE;
    c->aborted = 0;
}

static void unmute(parked_connection *state)
{
    conn_rec *c = state->parked->r->connection;
    int i;

    for (i = 0; state->voices && i < state->voices->nelts; i++) {
        const voice *had = &APR_ARRAY_IDX(state->voices, i, voice);

        had->r->output_filters = had->output_filters;
        had->r->proto_output_filters = had->proto_output_filters;
        had->r->eos_sent = state->eos_was_sent;
    }
    if (state->voices) {
        c->keepalive = state->keepalive;
        c->aborted = state->aborted != 0;
    }
    state->voices = NULL;
}

/* Holds the bucket that ends the request; all else goes on. */
static apr_status_t hold(ap_filter_t *f, apr_bucket_brigade *bb)
{
    parked_connection *state = f->ctx;
    apr_bucket *bucket = APR_BRIGADE_FIRST(bb), *next;

    for (; bucket != APR_BRIGADE_SENTINEL(bb); bucket = next) {
        next = APR_BUCKET_NEXT(bucket);
        if (AP_BUCKET_IS_EOR(bucket)) {
            APR_BUCKET_REMOVE(bucket);
            APR_BRIGADE_INSERT_TAIL(state->held, bucket);
        }
    }
    return APR_BRIGADE_EMPTY(bb) ? APR_SUCCESS : ap_pass_brigade(f->next, bb);
}

/* Before all others of the connection, also those of the same type: they
 * would take the request for ended, as mod_reqtimeout does. */
static void start_holding(conn_rec *c, parked_connection *state)
{
    state->holder->next = c->output_filters;
    c->output_filters = state->holder;
    state->is_holding = 1;
}

static void stop_holding(parked_connection *state)
{
    if (state->is_holding) {
        ap_remove_output_filter(state->holder);
        state->is_holding = 0;
    }
}

/* What a connection has freed APR keeps for it, as it may need that soon again:
 * no more than that from now on. */
static void keep_free_memory(const conn_rec *c, apr_size_t len)
{
    apr_allocator_t *allocator = apr_pool_allocator_get(c->pool);

    if (allocator) {
        apr_allocator_max_free_set(allocator, len);
    }
}

/* A parked connection is to keep none. There is no call for what it has so
 * far; but what is taken and freed now is free for others. */
static void give_back_free_memory(const conn_rec *c)
{
    apr_allocator_t *allocator = apr_pool_allocator_get(c->pool);
    apr_memnode_t *nodes[FREE_BLOCKS];
    int i;

    keep_free_memory(c, 1); /* 0 would be any number */
    for (i = 0; allocator && i < FREE_BLOCKS; i++) {
        nodes[i] = apr_allocator_alloc(allocator, 1);
    }
    while (allocator && i-- > 0) {
        if (nodes[i]) {
            apr_allocator_free(allocator, nodes[i]);
        }
    }
}

/* ---- the end of what is parked ---- */

/* It is parked no more. */
static fcgi_parkable *take(conn_rec *c, parked_connection *state)
{
    fcgi_parkable *parkable = state->parked;

    state->parked = NULL;
    fcgi_park_swap_out(&parkable->park, ap_get_conn_socket(c));
    keep_free_memory(c, ap_max_mem_free);
    apr_atomic_dec32(&parked_count);
    parkable->kind->count(parkable->baton, 0);
    return parkable;
}

/* The client's connection goes; nobody is told. */
static void abandon(conn_rec *c, parked_connection *state)
{
    fcgi_parkable *parkable = take(c, state);

    state->voices = NULL; /* it is muted for ever, if it is */
    c->keepalive = AP_CONN_CLOSE;
    c->aborted = 1;
    parkable->r->handler = parkable->handler;
    parkable->kind->abandon(parkable->baton);
    fcgi_park_close(&parkable->park); /* until now it may have been woken */
}

/* As httpd does after a handler: the request is logged, and its pool goes. */
static void end_request(conn_rec *c, parked_connection *state)
{
    int has_more;

    stop_holding(state);
    ap_pass_brigade(c->output_filters, state->held);
    apr_brigade_cleanup(state->held);
    if (state->is_last) {
        c->keepalive = AP_CONN_CLOSE;
    }
    has_more = ap_check_pipeline(c, state->held, DEFAULT_LIMIT_BLANK_LINES)
               == APR_SUCCESS;
#if AP_MODULE_MAGIC_AT_LEAST(20180720, 1)
    (void)has_more; /* httpd's trunk asks its filters */
#else
    c->data_in_input_filters = has_more;
#endif
    apr_brigade_cleanup(state->held);
    c->cs->state =
        c->aborted ? CONN_STATE_LINGER : CONN_STATE_WRITE_COMPLETION;
    c->cs->sense = CONN_SENSE_DEFAULT;
}

/* The connection's pool goes, or is used for another connection. */
static apr_status_t before_pool_goes(void *connection)
{
    conn_rec *c = connection;
    parked_connection *state = get_state(c);

    if (state && state->parked) {
        abandon(c, state);
    }
    return APR_SUCCESS;
}

/* The request's pool went by another way than by the bucket that is held,
 * which no module should do. */
static apr_status_t before_request_goes(void *request)
{
    request_rec *r = request;
    parked_connection *state = get_state(r->connection);

    if (state && state->parked && state->parked->r->pool == r->pool) {
        abandon(r->connection, state);
    }
    return APR_SUCCESS;
}

int fcgi_parked_close(conn_rec *c)
{
    parked_connection *state = c->master ? NULL : get_state(c);

    if (state && state->parked) {
        abandon(c, state);
        end_request(c, state);
    }
    return OK;
}

/* ---- starting ---- */

static parked_connection *create_state(conn_rec *c)
{
    parked_connection *state = apr_pcalloc(c->pool, sizeof(*state));

    state->inside = 1;
    state->holder = ap_add_output_filter_handle(hold_filter, state, NULL, c);
    ap_remove_output_filter(state->holder); /* until it holds */
    state->held = apr_brigade_create(c->pool, c->bucket_alloc);
    apr_pool_pre_cleanup_register(c->pool, c, before_pool_goes);
    set_state(c, state);
    return state;
}

static void log_shortage(const request_rec *r, apr_status_t rv)
{
    if (!apr_atomic_xchg32(&shortage_is_logged, 1)) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, rv, r,
                      FCGI_LOGNO("35") "no descriptors for a request that "
                                       "waits without a thread: it, and "
                                       "others, hold their threads; raise "
                                       "the limit of open files");
    }
}

/*
 * False if nobody may poll for this connection. The MPM of a child that ends
 * does until it counts no connection; it counts one when a worker takes it,
 * which may be after that. What was parked before is counted: while there is
 * any it polls, and will as long as this connection, which is counted by now,
 * is there. Where such requests may still be parked threads stay free for
 * them: else those that came last would hold all threads, in line behind
 * others that need one to go on.
 */
static int is_polled_for(void)
{
    int state;

    return ap_mpm_query(AP_MPMQ_MPM_STATE, &state) != APR_SUCCESS
           || state != AP_MPMQ_STOPPING || apr_atomic_read32(&parked_count);
}

apr_uint32_t fcgi_parked_count(void)
{
    return apr_atomic_read32(&parked_count);
}

/*
 * The request's id in the logs. httpd makes it of the time at which the request
 * was read, and of the thread that logs its first line. Once parked that may be
 * one thread for many, and two that were read in the same microsecond would
 * have one id.
 */
static void make_log_id(request_rec *r)
{
    if (!r->log_id) {
        ap_run_generate_log_id(r->connection, r, &r->log_id);
    }
}

int fcgi_parked_start(request_rec *r, fcgi_parkable *parkable)
{
    conn_rec *c = r->connection;
    parked_connection *state = get_state(c);
    apr_status_t rv;

    if (state->parked /* by now: an error page of r's, see mute() */
        || !is_polled_for()) {
        return 0;
    }
    rv = fcgi_park_open(&parkable->park);
    if (rv != APR_SUCCESS) {
        log_shortage(r, rv);
        return 0;
    }
    if (state == &nothing_parked) {
        state = create_state(c);
    }
    parkable->r = r;
    parkable->handler = r->handler;
    state->parked = parkable;
    state->wake_within = least_timeout(r) / 2;
    if (APR_BRIGADE_EMPTY(state->held) && !state->is_holding) {
        start_holding(c, state);
    }
    make_log_id(r);
    give_back_free_memory(c);
    mute(state);
    apr_pool_pre_cleanup_register(r->pool, r, before_request_goes);
    apr_atomic_inc32(&parked_count);
    parkable->kind->count(parkable->baton, 1);
    return 1;
}

void fcgi_parked_init(fcgi_parkable *parkable, const fcgi_parkable_kind *kind,
                      void *baton)
{
    parkable->kind = kind;
    parkable->baton = baton;
    parkable->wait.wants = 0;
    parkable->wait.wake_at = 0;
    parkable->application = NULL;
    parkable->r = NULL;
    parkable->handler = NULL;
    fcgi_park_init(&parkable->park);
}

void fcgi_parked_wake(fcgi_parkable *parkable)
{
    fcgi_park_wake(&parkable->park);
}

/* ---- going on ---- */

/* The thread leaves; the MPM waits. */
static int leave(conn_rec *c, parked_connection *state)
{
    fcgi_parkable *parkable = state->parked;
    fcgi_wait wait = parkable->wait;
    fcgi_instant latest = fcgi_clock_now() + state->wake_within;

    if (!wait.wake_at || wait.wake_at > latest) {
        wait.wake_at = latest;
    }
    fcgi_park_watch(&parkable->park, ap_get_conn_socket(c),
                    parkable->application, &wait);
    fcgi_park_swap_in(&parkable->park, ap_get_conn_socket(c));
    state->aborted = c->aborted != 0;
    c->aborted = 0;
    c->cs->state = STATE_WAIT;
    c->cs->sense = CONN_SENSE_WANT_READ;
    return OK;
}

/* As httpd ends a request by what its handler returned. The first of a chain
 * of internal redirects gets its error page whatever its status is by now. */
static void end_by(request_rec *r, int status)
{
    int before = r->status;

    if (!r->prev && status != OK && status != DONE) {
        r->status = HTTP_OK;
    }
    ap_die(status, r);
    if (status == AP_FILTER_ERROR && r->status == HTTP_OK) {
        r->status = before; /* nothing was left to say */
    }
}

/* What is parked is over. The requests that led to it end behind it, as they
 * do when a handler returns. */
static void finish(conn_rec *c, parked_connection *state)
{
    fcgi_parkable *parkable = take(c, state);
    request_rec *r = parkable->r;

    fcgi_park_close(&parkable->park);
    end_by(r, parkable->kind->finish(parkable->baton));
    for (r = r->prev; r && !state->parked; r = r->prev) {
        ap_finalize_request_protocol(r);
    }
    if (!state->parked) {
        end_request(c, state);
    }
}

static int resume(conn_rec *c, parked_connection *state)
{
    fcgi_parkable *parkable = state->parked;
    int ready;

    fcgi_park_swap_out(&parkable->park, ap_get_conn_socket(c));
    ready = fcgi_park_look(&parkable->park);
    c->aborted = state->aborted != 0;
    state->inside = 1;
    ap_update_child_status(c->sbh, SERVER_BUSY_WRITE, parkable->r);
    parkable->r->handler = parkable->handler;
    parkable->kind->ready(parkable->baton, ready);
    if (parkable->kind->step(parkable->baton)) {
        finish(c, state);
    }
    state->inside = 0;
    if (!state->parked) {
        return OK;
    }
    unmute(state); /* another one, perhaps */
    return leave(c, state);
}

/* Others had the connection, and a request of it was parked meanwhile. What is
 * parked may be the error page of a request that could not be read. */
static int leave_others(conn_rec *c, parked_connection *state, int status)
{
    int is_written = c->cs->state == CONN_STATE_WRITE_COMPLETION;

    state->is_last = c->cs->state == CONN_STATE_LINGER && !c->aborted;
    stop_holding(state);
    unmute(state);
    if (status == OK && (is_written || state->is_last)
        && !APR_BRIGADE_EMPTY(state->held)) {
        return leave(c, state);
    }
    abandon(c, state);
    end_request(c, state);
    return status;
}

static int run_others(conn_rec *c, parked_connection *state)
{
    int status;

    if (state) {
        state->inside = 1;
    }
    else {
        set_state(c, &nothing_parked);
    }
    status = ap_run_process_connection(c);
    state = get_state(c);
    if (state == &nothing_parked) {
        set_state(c, NULL);
        return status;
    }
    state->inside = 0;
    return state->parked ? leave_others(c, state, status) : status;
}

int fcgi_parked_process(conn_rec *c)
{
    parked_connection *state;

    if (!mpm_can_wait || c->master) {
        return DECLINED;
    }
    state = get_state(c);
    if (state && state->inside) {
        return DECLINED; /* called by run_others() */
    }
    return state && state->parked ? resume(c, state) : run_others(c, state);
}

void fcgi_parked_child(apr_pool_t *pchild, server_rec *s)
{
    int can = 0;

    (void)pchild;
    (void)s;
    mpm_can_wait = CAN_WAIT && fcgi_park_is_possible()
                   && ap_mpm_query(CAN_WAIT, &can) == APR_SUCCESS && can;
}

void fcgi_parked_register(void)
{
    hold_filter = ap_register_output_filter("FCGI_PARKED", hold, NULL,
                                            AP_FTYPE_CONNECTION);
    mute_filter = ap_register_output_filter("FCGI_PARKED_MUTE", swallow, NULL,
                                            AP_FTYPE_RESOURCE);
}
