/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_outflow.c - giving an answer on without waiting; the contract is in
 * fcgi_outflow.h. The two kinds stand together below, each with what it
 * knows of its client; all else is the same for both.
 */
#include "fcgi_outflow.h"

#include <http_core.h>

#include "fcgi_log.h"

APLOG_USE_MODULE(fastcgi_handler);

/* httpd holds less than this back without trying to write it, and a socket
 * that says it has room takes so much. */
#define CORE_HOLDS 4096

/* What httpd may add to what it is given: header fields, frames of chunks and
 * of TLS. */
#define ADDED 4096

/* At least so much is given at once. */
#define GIVE_MIN 1024

/* An HTTP/2 stream buffers 32 KB in memory before it waits for the client
 * (H2StreamMaxMemSize), and does not say how far the client is: from 24 KB on
 * it is taken to be behind, and never gets more than 30 KB. What is in a file
 * is passed on to it without waiting. */
#define STREAM_HOLDS (24 * 1024)
#define STREAM_MAX   (30 * 1024)

/* Each piece of a file that a stream gets is an open file until the answer is
 * done. After so many pauses a stream waits for its client. */
#define MAX_FILE_PIECES 16

/* An application that says nothing for so long has paused: the client gets
 * what there is. And while it goes on in small pieces, at least so often. */
#define PAUSE       apr_time_from_msec(5)
#define FLUSH_EVERY apr_time_from_msec(30)

/* An HTTP/2 stream that gets files in pauses gets few of them: each pause has
 * to be twice as long as the one before, so many times. */
#define PAUSE_DOUBLED 8

/* How long a client may hold the application up, in all, before its answer
 * goes to a file, and by how many bytes of the answer it earns a microsecond
 * more: one that takes dozens of megabytes a second is not behind. */
#define GRACE       apr_time_from_msec(20)
#define GRACE_BYTES 64

/* So often it looks meanwhile whether others wait for the application. */
#define LOOK_UP apr_time_from_msec(5)

typedef struct fcgi_outflow_kind {
    /* True while what is held has to wait for the client. */
    int (*is_behind)(const fcgi_outflow *flow);
    /* How many bytes may be given at once. */
    apr_size_t (*may_give)(const fcgi_outflow *flow);
    /* Bytes were given: what of them does httpd still hold? */
    void (*note_given)(fcgi_outflow *flow);
    /* Everything held is about to be flushed. */
    void (*prepare_flush)(fcgi_outflow *flow);
    /* How long a pause of the application is, before a flush. */
    apr_interval_time_t (*pause)(const fcgi_outflow *flow);
    fcgi_outflow_when (*may_say)(const fcgi_outflow *flow, apr_size_t len);
    int has_socket; /* that tells of room */
} fcgi_outflow_kind;

/* ---- an HTTP/1 connection ---- */

/* httpd tells whether it holds something, not how much. */
static int socket_is_behind(const fcgi_outflow *flow)
{
    apr_size_t half = flow->at_once / 2;

    return flow->awaits_room
           || (fcgi_outlet_holds(&flow->outlet)
               && flow->given >= (half < CORE_HOLDS ? half : CORE_HOLDS));
}

static apr_size_t socket_may_give(const fcgi_outflow *flow)
{
    return flow->at_once;
}

static void socket_note_given(fcgi_outflow *flow)
{
    if (!fcgi_outlet_holds(&flow->outlet)) {
        flow->given = 0;
        flow->delivered_at = fcgi_clock_now();
        fcgi_spool_reclaim(flow->held);
    }
}

static void socket_prepare_flush(fcgi_outflow *flow)
{
    (void)flow;
}

static apr_interval_time_t socket_pause(const fcgi_outflow *flow)
{
    return flow->flush == FCGI_FLUSH_ON ? 0 : PAUSE;
}

static fcgi_outflow_when socket_may_say(const fcgi_outflow *flow,
                                        apr_size_t len)
{
    return len > CORE_HOLDS ? FCGI_OUTFLOW_NEVER
           : flow->has_room ? FCGI_OUTFLOW_NOW
                            : FCGI_OUTFLOW_LATER;
}

static const fcgi_outflow_kind of_socket = {
    socket_is_behind,
    socket_may_give,
    socket_note_given,
    socket_prepare_flush,
    socket_pause,
    socket_may_say,
    1,
};

/* ---- an HTTP/2 stream ---- */

/* True if the answer is held for it. */
static int stream_holds(const fcgi_outflow *flow)
{
    return !flow->is_live && flow->file_pieces < MAX_FILE_PIECES;
}

static int stream_is_behind(const fcgi_outflow *flow)
{
    return stream_holds(flow) && flow->given >= STREAM_HOLDS;
}

static apr_size_t stream_may_give(const fcgi_outflow *flow)
{
    return stream_holds(flow) ? STREAM_MAX - flow->given : FCGI_OUTFLOW_PIECE;
}

static void stream_note_given(fcgi_outflow *flow)
{
    (void)flow;
}

/* What a stream would wait for in memory, or get in the wrong order, it gets
 * as a part of a file. */
static void stream_prepare_flush(fcgi_outflow *flow)
{
    const fcgi_spool *held = flow->held;

    if (held->memory_len != (apr_size_t)held->len
        || (stream_holds(flow)
            && (apr_off_t)flow->given + held->len > STREAM_MAX)) {
        fcgi_spool_spill(flow->held);
        flow->file_pieces++;
    }
}

static apr_interval_time_t stream_pause(const fcgi_outflow *flow)
{
    int pauses = stream_holds(flow) ? flow->file_pieces : 0;

    if (!pauses && flow->flush == FCGI_FLUSH_ON) {
        return 0;
    }
    return PAUSE << (pauses < PAUSE_DOUBLED ? pauses : PAUSE_DOUBLED);
}

static fcgi_outflow_when stream_may_say(const fcgi_outflow *flow,
                                        apr_size_t len)
{
    return flow->given + len <= STREAM_HOLDS ? FCGI_OUTFLOW_NOW
                                             : FCGI_OUTFLOW_NEVER;
}

static const fcgi_outflow_kind of_stream = {
    stream_is_behind,
    stream_may_give,
    stream_note_given,
    stream_prepare_flush,
    stream_pause,
    stream_may_say,
    0,
};

int fcgi_outflow_is_behind(const fcgi_outflow *flow)
{
    return flow->outlet.state == FCGI_OUTLET_OPEN
           && flow->kind->is_behind(flow);
}

int fcgi_outflow_gave_all(const fcgi_outflow *flow)
{
    int could_give =
        flow->outlet.state == FCGI_OUTLET_OPEN
        || (flow->outlet.state == FCGI_OUTLET_GONE && !flow->kind->has_socket);

    return could_give && !flow->held->len && !flow->kind->is_behind(flow);
}

/* ---- making ---- */

/* How much httpd takes of us without waiting, by FlushMaxThreshold; it may
 * hold some already. Where that is less than the header fields httpd waits for
 * those alone, and then small pieces would help nobody. */
static apr_size_t at_once(const conn_rec *c)
{
    const core_server_config *core =
        ap_get_core_module_config(c->base_server->module_config);
    apr_size_t threshold = core->flush_max_threshold;
    apr_size_t size = threshold > 2 * (CORE_HOLDS + ADDED)
                          ? threshold - CORE_HOLDS - ADDED
                          : threshold / 2;

    if (size < GIVE_MIN) {
        return GIVE_MIN;
    }
    return size < FCGI_OUTFLOW_PIECE ? size : FCGI_OUTFLOW_PIECE;
}

fcgi_outflow *fcgi_outflow_create(request_rec *r, const char *backend,
                                  const fcgi_spool_limits *limits,
                                  fcgi_outflow_urgent *is_urgent,
                                  const void *baton)
{
    fcgi_outflow *flow = apr_pcalloc(r->pool, sizeof(*flow));
    conn_rec *c = r->connection;

    fcgi_outlet_init(&flow->outlet, r);
    flow->backend = backend;
    flow->kind = c->master ? &of_stream : &of_socket;
    flow->is_urgent = is_urgent;
    flow->baton = baton;
    flow->held = fcgi_spool_create(r->pool, c->bucket_alloc, limits);
    flow->at_once = at_once(c);
    return flow;
}

void fcgi_outflow_begin(fcgi_outflow *flow, fcgi_flush flush, int is_live)
{
    flow->flush = flush;
    flow->is_live = is_live;
    flow->unflushed = 1;
}

/* ---- giving ---- */

/* Nothing more is given; what is held is of no use. */
static int give_up(fcgi_outflow *flow)
{
    flow->unflushed = 0;
    flow->awaits_room = 0;
    apr_brigade_cleanup(flow->outlet.bb);
    fcgi_spool_clear(flow->held);
    return 0;
}

/* What is held cannot be kept or given. */
static int fail(fcgi_outflow *flow, apr_status_t rv)
{
    flow->outlet.state = FCGI_OUTLET_FAILED;
    flow->outlet.rv = rv;
    return give_up(flow);
}

/* Gives the brigade on as it is. */
static int give(fcgi_outflow *flow)
{
    apr_off_t len = 0;

    flow->has_room = 0; /* what was known of it is old */
    apr_brigade_length(flow->outlet.bb, 0, &len);
    if (!fcgi_outlet_give(&flow->outlet)) {
        return give_up(flow);
    }
    flow->given += (apr_size_t)len;
    flow->kind->note_given(flow);
    return 1;
}

/* Something was taken into the spool, for which there was room. A file that
 * cannot be written is not the answer's end: memory has to do, and then the
 * application waits. */
static int note_held(fcgi_outflow *flow, apr_status_t rv)
{
    flow->unflushed = 1;
    if (rv == APR_INCOMPLETE) {
        return fail(flow, rv); /* never, but not in silence either */
    }
    if (rv != APR_SUCCESS && !flow->no_file) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, rv, flow->outlet.r,
                      FCGI_LOGNO("17") "%s: no temporary file for an answer "
                                       "that the client takes slowly; the "
                                       "application waits (FcgiBufferDir)",
                      flow->backend);
        flow->no_file = 1;
    }
    return 1;
}

/* Takes the brigade into the spool, which has room for it: what is done where
 * this fails is never reached. */
static int hold(fcgi_outflow *flow)
{
    while (flow->outlet.state == FCGI_OUTLET_OPEN
           && !APR_BRIGADE_EMPTY(flow->outlet.bb)) {
        note_held(flow, fcgi_spool_add(flow->held, flow->outlet.bb));
    }
    return flow->outlet.state == FCGI_OUTLET_OPEN;
}

static apr_bucket *slice(apr_bucket *buffer, const char *data, apr_size_t len)
{
    const apr_bucket_heap *heap = buffer->data;
    apr_bucket *piece;

    apr_bucket_copy(buffer, &piece);
    piece->start = data - heap->base;
    piece->length = len;
    return piece;
}

void fcgi_outflow_take(fcgi_outflow *flow, apr_bucket *buffer,
                       const char *data, apr_size_t len)
{
    if (flow->outlet.state != FCGI_OUTLET_OPEN || !len) {
        return;
    }
    flow->total += (apr_off_t)len;
    if (len >= FCGI_OUTFLOW_COPY_BELOW) {
        APR_BRIGADE_INSERT_TAIL(flow->outlet.bb, slice(buffer, data, len));
    }
    else if (APR_BRIGADE_EMPTY(flow->outlet.bb) && !flow->held->len) {
        /* perhaps all there is: a bucket of its own, without the spool */
        APR_BRIGADE_INSERT_TAIL(
            flow->outlet.bb,
            apr_bucket_heap_create(data, len, NULL,
                                   flow->outlet.bb->bucket_alloc));
    }
    else if (hold(flow)) { /* what came before it */
        note_held(flow, fcgi_spool_write(flow->held, data, len));
    }
}

/* Moves so much of what is held to the brigade. */
static int fetch(fcgi_outflow *flow, apr_off_t len)
{
    apr_status_t rv = fcgi_spool_give(flow->held, flow->outlet.bb, len);

    return rv == APR_SUCCESS || fail(flow, rv);
}

/* True if what is read next would have to go to a file. Nobody knows that of
 * an HTTP/2 stream. */
static int needs_file(const fcgi_outflow *flow)
{
    return flow->kind->has_socket && fcgi_outflow_is_behind(flow)
           && flow->held->memory_len + FCGI_OUTFLOW_PIECE
                  > flow->held->limits.memory;
}

/* Something was given or flushed, or not: since when does what wait? */
static int note(fcgi_outflow *flow)
{
    if (!flow->unflushed) {
        flow->unflushed_since = 0;
    }
    else if (!flow->unflushed_since) {
        flow->unflushed_since = fcgi_clock_now();
    }
    if (flow->held_up_since && !needs_file(flow)) {
        flow->held_up += fcgi_clock_now() - flow->held_up_since;
        flow->held_up_since = 0;
    }
    return flow->outlet.state == FCGI_OUTLET_OPEN;
}

/* Gives what is held, piece by piece, as long as the client follows. */
static int give_held(fcgi_outflow *flow)
{
    while (flow->outlet.state == FCGI_OUTLET_OPEN && flow->held->len
           && !fcgi_outflow_is_behind(flow)) {
        if (fetch(flow, (apr_off_t)flow->kind->may_give(flow))) {
            give(flow);
        }
    }
    return note(flow);
}

int fcgi_outflow_pass(fcgi_outflow *flow)
{
    return hold(flow) && give_held(flow);
}

int fcgi_outflow_resume(fcgi_outflow *flow)
{
    flow->has_room = 0;
    if (flow->kind->has_socket && fcgi_outlet_holds(&flow->outlet)) {
        if (!fcgi_outlet_write(&flow->outlet)) {
            return give_up(flow);
        }
        flow->kind->note_given(flow);
    }
    return give_held(flow);
}

/* ---- how much may be read ---- */

/* How long the client may hold the application up still: not at all if others
 * wait for it. */
static apr_interval_time_t grace_left(const fcgi_outflow *flow)
{
    apr_interval_time_t used = flow->held_up;

    if (flow->is_urgent(flow->baton)) {
        return 0;
    }
    if (flow->held_up_since) {
        used += fcgi_clock_now() - flow->held_up_since;
    }
    return GRACE + flow->total / GRACE_BYTES - used;
}

/* How many more bytes can be held now. */
static apr_off_t spool_room(const fcgi_outflow *flow)
{
    const fcgi_spool *held = flow->held;

    if (!flow->no_file) {
        return fcgi_spool_room(held);
    }
    return held->memory_len < held->limits.memory
               ? (apr_off_t)(held->limits.memory - held->memory_len)
               : 0;
}

apr_size_t fcgi_outflow_room(const fcgi_outflow *flow)
{
    apr_off_t room;

    if (needs_file(flow) && grace_left(flow) > 0) {
        return 0;
    }
    room = spool_room(flow);
    return room < FCGI_OUTFLOW_PIECE ? (apr_size_t)(room > 0 ? room : 0)
                                     : FCGI_OUTFLOW_PIECE;
}

/* ---- flushing, and what is waited for ---- */

static void wake_by(fcgi_outflow_wait *wait, fcgi_instant when)
{
    if (!wait->wake_at || when < wait->wake_at) {
        wait->wake_at = when;
    }
}

/* When what httpd has for the client is to be flushed; 0: not at all. */
static fcgi_instant flush_time(const fcgi_outflow *flow)
{
    apr_interval_time_t pause;
    fcgi_instant paused, latest;

    if (!flow->unflushed) {
        return 0;
    }
    if (!fcgi_outflow_room(flow)) {
        return flow->taken_at; /* nothing more comes before it is given on */
    }
    if (flow->flush == FCGI_FLUSH_OFF) {
        return 0;
    }
    pause = flow->kind->pause(flow);
    paused = flow->taken_at + pause;
    latest =
        flow->unflushed_since + (pause > FLUSH_EVERY ? pause : FLUSH_EVERY);
    return paused < latest ? paused : latest;
}

/* Gives on all that is held, and a flush. */
static int flush(fcgi_outflow *flow)
{
    if (!hold(flow)) {
        return 0;
    }
    flow->kind->prepare_flush(flow);
    if (!fetch(flow, flow->held->len)) {
        return 0;
    }
    fcgi_outlet_add_flush(&flow->outlet);
    flow->unflushed = 0;
    return give(flow);
}

/*
 * Flushes when it is time to. A client that is behind gets what there is
 * anyway; to any other the flush goes when its socket has room, and so waits
 * for nobody.
 */
static void flush_in_pause(fcgi_outflow *flow, fcgi_outflow_wait *wait)
{
    int has_socket = flow->kind->has_socket;
    fcgi_instant when = flush_time(flow);

    if (!when || (has_socket && fcgi_outflow_is_behind(flow))) {
        return;
    }
    if (fcgi_clock_now() < when) {
        wake_by(wait, when);
    }
    else if (has_socket && !flow->has_room) {
        wait->for_room = 1;
    }
    else {
        flush(flow);
        note(flow);
    }
}

fcgi_outflow_wait fcgi_outflow_settle(fcgi_outflow *flow)
{
    fcgi_outflow_wait wait = { 0, 0 };

    if (flow->outlet.state != FCGI_OUTLET_OPEN) {
        return wait;
    }
    if (flow->kind->has_socket && fcgi_outflow_is_behind(flow)) {
        wait.for_room = 1;
    }
    flush_in_pause(flow, &wait);
    if (!fcgi_outflow_room(flow) && spool_room(flow) > 0) {
        /* there is room, so it was grace that said no; it may be over now */
        apr_interval_time_t left = grace_left(flow);
        fcgi_instant now = fcgi_clock_now();

        if (!flow->held_up_since) {
            flow->held_up_since = now;
        }
        wake_by(&wait, now + (left < LOOK_UP ? left : LOOK_UP));
    }
    return wait;
}

/* ---- past the answer ---- */

fcgi_outflow_when fcgi_outflow_may_say(fcgi_outflow *flow, apr_size_t len)
{
    fcgi_outflow_when when = flow->outlet.state == FCGI_OUTLET_OPEN
                                 ? flow->kind->may_say(flow, len)
                                 : FCGI_OUTFLOW_NEVER;

    flow->awaits_room |= when == FCGI_OUTFLOW_LATER;
    return when;
}

void fcgi_outflow_said(fcgi_outflow *flow, apr_size_t len)
{
    flow->awaits_room = 0;
    flow->has_room = 0;
    flow->given += flow->kind->has_socket ? 0 : len;
    if (len) {
        flow->delivered_at = fcgi_clock_now();
    }
}

/* ---- the end ---- */

/* True if all that is left is one small bucket in the brigade, which httpd
 * takes without waiting. */
static int is_ready(const fcgi_outflow *flow)
{
    const apr_bucket_brigade *bb = flow->outlet.bb;
    const apr_bucket *first = APR_BRIGADE_FIRST(bb);

    return !flow->held->len && first != APR_BRIGADE_SENTINEL(bb)
           && first == APR_BRIGADE_LAST(bb)
           && first->length < FCGI_OUTFLOW_COPY_BELOW
           && flow->given + first->length <= flow->at_once;
}

/* True if httpd takes all that is in memory without waiting. */
static int fits(const fcgi_outflow *flow)
{
    return flow->given + flow->held->memory_len <= flow->at_once;
}

int fcgi_outflow_may_end(fcgi_outflow *flow)
{
    if (!flow->kind->has_socket || is_ready(flow) || !hold(flow)
        || fits(flow)) {
        return 1;
    }
    note_held(flow, fcgi_spool_spill(flow->held));
    return fits(flow) || !give_held(flow) || fits(flow);
}

/*
 * Puts all that is held into the brigade, for the last time. To a client that
 * is behind most of it goes as part of a file, so that the event MPM sends it
 * without a thread; the application is done in any case.
 */
static int fetch_rest(fcgi_outflow *flow)
{
    fcgi_spool *held = flow->held;

    if (is_ready(flow)) {
        return 1;
    }
    if (!hold(flow)) {
        return 0;
    }
    if (!fits(flow)) {
        fcgi_spool_spill(held); /* if it cannot, httpd waits */
    }
    return fetch(flow, held->len);
}

int fcgi_outflow_end(fcgi_outflow *flow, int flush)
{
    if (flow->outlet.state != FCGI_OUTLET_OPEN || !fetch_rest(flow)) {
        return 0; /* and no end: it has to be cut */
    }
    fcgi_outlet_add_eos(&flow->outlet);
    if (!give(flow)) {
        return 0;
    }
    if (flush) {
        fcgi_outlet_flush_connection(&flow->outlet);
    }
    return 1;
}

/* Sends the header fields, and nothing of what is held: for that httpd might
 * wait. */
static int send_headers(fcgi_outflow *flow)
{
    if (!hold(flow)) {
        return 0;
    }
    fcgi_outlet_add_flush(&flow->outlet);
    return give(flow);
}

/* The flush goes ahead alone: a brigade of just EOS would make httpd say
 * "Content-Length: 0" of a body it never saw, as an answer to HEAD or a 304
 * may have one. */
int fcgi_outflow_end_headers(fcgi_outflow *flow)
{
    if (!send_headers(flow)) {
        return 0;
    }
    fcgi_outlet_add_eos(&flow->outlet);
    return give(flow);
}

void fcgi_outflow_cut(fcgi_outflow *flow)
{
    if (flow->outlet.state == FCGI_OUTLET_OPEN
        && (flow->outlet.was_used || send_headers(flow))) {
        if (!fcgi_outflow_may_end(flow)) {
            fcgi_spool_clear(flow->held);
        }
        fetch_rest(flow);
    }
    fcgi_outlet_cut(&flow->outlet);
}
