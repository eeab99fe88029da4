/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * world_httpd.c - httpd, and the parts of the module that are doubled, in the
 * world of world.h: input and output filters, what waits without a thread, the
 * line and the idle connections. What httpd's core does for the client's
 * socket is done as its own output filter does it, in numbers of bytes.
 */
#include "world.h"

#include <stdlib.h>
#include <string.h>

#include <apr_buckets.h>
#include <apr_strings.h>

#include <ap_mpm.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>

#include "fcgi_idle.h"
#include "fcgi_socket.h"
#include "fcgi_line.h"
#include "fcgi_log.h"
#include "fcgi_stats.h"
#include "t/unit/httpd_doubles.h"

/* What a core server config says; see world_output(). */
#define FLUSH_MIN 4096
#define FLUSH_MAX (64 * 1024)

/* Header fields, as httpd writes them. */
#define HEAD_LEN 300

module AP_MODULE_DECLARE_DATA fastcgi_handler_module = { 0 };
ap_directive_t *ap_conftree;

static core_server_config core_config = { .flush_max_threshold = FLUSH_MAX };
static void *server_configs[AP_CORE_MODULE_INDEX + 1] = {
    [AP_CORE_MODULE_INDEX] = &core_config
};

const fcgi_dir_config *fcgi_config_settings(const request_rec *r)
{
    (void)r;
    return &world.settings;
}

module *ap_find_linked_module(const char *name)
{
    (void)name;
    return NULL;
}

apr_status_t ap_mpm_query(int code, int *result)
{
    (void)code;
    *result = 10;
    return APR_SUCCESS;
}

void *ap_malloc(size_t size)
{
    void *bytes = malloc(size);

    REQUIRE(bytes);
    return bytes;
}

/* ---- the log: whatever is written, it can be read ---- */

void ap_log_rerror_(const char *file, int line, int index, int level,
                    apr_status_t rv, const request_rec *r, const char *fmt,
                    ...)
{
    char text[MAX_STRING_LEN];
    va_list args;

    (void)file;
    (void)line;
    (void)index;
    (void)level;
    (void)rv;
    REQUIRE(r == world.r);
    va_start(args, fmt);
    apr_vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
}

void ap_log_rdata_(const char *file, int line, int index, int level,
                   const request_rec *r, const char *label, const void *data,
                   apr_size_t len, unsigned int flags)
{
    static const void *volatile found;

    (void)file;
    (void)line;
    (void)index;
    (void)level;
    (void)flags;
    REQUIRE(r == world.r && *label);
    found = memrchr(data, '!', len); /* ASan sees whether all is there */
    (void)found;
}

/* ---- the request's body ---- */

static void take_piece(apr_bucket_brigade *bb, apr_size_t len, int is_heap)
{
    world_client *client = &world.client;

    free(client->piece); /* what a transient bucket had */
    client->piece = malloc(len);
    REQUIRE(client->piece);
    memcpy(client->piece, world_bytes() + client->body_read, len);
    client->body_read += len;
    world.waits = 0;
    APR_BRIGADE_INSERT_TAIL(
        bb, is_heap ? apr_bucket_heap_create(client->piece, len, NULL,
                                             bb->bucket_alloc)
                    : apr_bucket_transient_create(client->piece, len,
                                                  bb->bucket_alloc));
}

static apr_status_t read_body(apr_bucket_brigade *bb, apr_off_t most)
{
    static const apr_status_t errors[] = { APR_EOF, APR_TIMEUP,
                                           APR_ECONNRESET };
    world_client *client = &world.client;
    apr_size_t len = client->body_here - client->body_read;

    REQUIRE(!client->end_was_read && most > 0);
    if (len > (apr_size_t)most) {
        len = (apr_size_t)most;
    }
    if (len) {
        take_piece(bb, len, (int)(len & 1));
    }
    if (client->body_read < client->body_here) {
        return APR_SUCCESS;
    }
    if (client->body_ended && client->body_broken) {
        return errors[client->body_broken - 5];
    }
    if (client->body_ended) {
        client->end_was_read = 1;
        APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_eos_create(bb->bucket_alloc));
    }
    return len || client->end_was_read ? APR_SUCCESS : APR_EAGAIN;
}

apr_status_t ap_get_brigade(ap_filter_t *filter, apr_bucket_brigade *bb,
                            ap_input_mode_t mode, apr_read_type_e block,
                            apr_off_t most)
{
    (void)filter;
    if (mode == AP_MODE_SPECULATIVE) {
        REQUIRE(block == APR_NONBLOCK_READ);
        if (world.client.has_next_request) {
            APR_BRIGADE_INSERT_TAIL(
                bb, apr_bucket_immortal_create("G", 1, bb->bucket_alloc));
            return APR_SUCCESS;
        }
        return world.client.is_reset      ? APR_ECONNRESET
               : world.client.half_closed ? APR_EOF
                                          : APR_EAGAIN;
    }
    if (block == APR_BLOCK_READ) {
        REQUIRE(world.may_block);
        if (world.client.body_read == world.client.body_here) {
            world.client.body_ended = 1; /* it comes while httpd waits */
        }
    }
    return read_body(bb, most);
}

int ap_map_http_request_error(apr_status_t rv, int status)
{
    return rv == APR_TIMEUP ? HTTP_REQUEST_TIME_OUT
           : rv == APR_EOF  ? status
                            : HTTP_BAD_REQUEST;
}

/* ---- the answer ---- */

/* The core writes what the client's socket takes; and all of it, as far as
 * may_leave bytes, if it has to wait for that. */
static void write_core(apr_size_t may_leave)
{
    world_client *client = &world.client;
    apr_size_t all = client->in_core + client->in_files;
    apr_size_t written = all < client->room ? all : client->room;

    if (all - written > may_leave && client->in_core > may_leave) {
        /* header fields alone are few bytes: for them httpd may wait; of a
         * stream's client nobody knows how far it is; and writing to one that
         * has reset the connection fails at once */
        world.has_blocked |= !world.may_block && client->got_len
                             && !world.connection.master && !client->is_reset;
        written = all;
    }
    client->room -= written < client->room ? written : client->room;
    if (written > client->in_core) {
        client->in_files -= written - client->in_core;
        client->in_core = 0;
    }
    else {
        client->in_core -= written;
    }
    world.waits = written ? 0 : world.waits;
    world.connection.data_in_output_filters =
        client->in_core || client->in_files;
}

static void take_bytes(apr_bucket *bucket)
{
    world_client *client = &world.client;
    int is_file = APR_BUCKET_IS_FILE(bucket);
    const char *data;
    apr_size_t len, fits;

    REQUIRE(!client->has_eos && !client->has_error);
    REQUIRE(apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ)
            == APR_SUCCESS);
    if (!client->got) {
        client->got = malloc(WORLD_BYTES);
        REQUIRE(client->got);
    }
    fits = WORLD_BYTES - client->got_len;
    fits = len < fits ? len : fits;
    memcpy(client->got + client->got_len, data, fits);
    client->got_len += fits;
    client->got_more += len - fits;
    if (is_file) {
        client->in_files += len;
    }
    else {
        client->in_core += len;
    }
}

static void take_bucket(request_rec *r, apr_bucket *bucket)
{
    if (APR_BUCKET_IS_EOS(bucket)) {
        world.client.has_eos = 1;
        r->eos_sent = 1;
    }
    else if (AP_BUCKET_IS_ERROR(bucket)) {
        world.client.has_error = 1;
        r->connection->keepalive = AP_CONN_CLOSE;
    }
    else if (APR_BUCKET_IS_FLUSH(bucket)) {
        write_core(0);
    }
    else if (!APR_BUCKET_IS_METADATA(bucket)) {
        take_bytes(bucket);
        write_core(world.connection.master ? 0 : FLUSH_MAX);
    }
}

/* A filter fails, answers itself, or finds the client gone. */
static apr_status_t fail(request_rec *r)
{
    if (world.client.fails_how == 5) {
        r->connection->aborted = 1;
        return APR_ECONNABORTED;
    }
    if (world.client.fails_how == 6 && !r->sent_bodyct) {
        r->status = HTTP_FORBIDDEN;
        r->eos_sent = 1;
        r->sent_bodyct = 1;
    }
    return APR_EGENERAL;
}

apr_status_t world_output(request_rec *r, apr_bucket_brigade *bb)
{
    world_client *client = &world.client;
    apr_bucket *bucket;

    if (r->connection->aborted) {
        return APR_ECONNABORTED;
    }
    if (++client->passes == client->fails_at && client->fails_how) {
        return fail(r);
    }
    if (!r->sent_bodyct) {
        r->sent_bodyct = 1;
        client->in_core += HEAD_LEN;
        r->connection->data_in_output_filters = 1;
    }
    for (bucket = APR_BRIGADE_FIRST(bb); bucket != APR_BRIGADE_SENTINEL(bb);
         bucket = APR_BUCKET_NEXT(bucket)) {
        take_bucket(r, bucket);
    }
    if (client->in_core + client->in_files >= FLUSH_MIN) {
        write_core(FLUSH_MAX);
    }
    if (r->connection->master) { /* nobody knows how far its client is */
        client->in_core = 0;
        client->in_files = 0;
        r->connection->data_in_output_filters = 0;
    }
    return APR_SUCCESS;
}

static apr_status_t write_held(ap_filter_t *filter, apr_bucket_brigade *bb)
{
    REQUIRE(!bb && filter == world.connection.output_filters);
    if (world.connection.aborted || world.client.is_reset
        || world.client.write_fails) {
        world.connection.aborted = 1;
        return APR_ECONNABORTED;
    }
    write_core((apr_size_t)-1);
    return APR_SUCCESS;
}

apr_status_t ap_pass_brigade(ap_filter_t *filter, apr_bucket_brigade *bb)
{
    if (filter == world.connection.output_filters) {
        return APR_SUCCESS; /* a flush behind the answer's end */
    }
    REQUIRE(filter && filter->r == world.r);
    if (!APR_BRIGADE_EMPTY(bb) && APR_BUCKET_IS_EOS(APR_BRIGADE_LAST(bb))) {
        world.r->eos_sent = 1; /* whatever the filters do with it */
    }
    return world_output(world.r, bb);
}

void ap_send_interim_response(request_rec *r, int send_headers)
{
    (void)send_headers;
    REQUIRE(r->status >= 100 && r->status < 200 && !r->sent_bodyct);
    world.client.in_core += HEAD_LEN;
    world.waits = 0;
    if (world.client.room < HEAD_LEN) {
        world.client.room = HEAD_LEN; /* may be waited for at the end */
    }
    write_core(0);
}

static apr_status_t read_error(apr_bucket *bucket, const char **data,
                               apr_size_t *len, apr_read_type_e block)
{
    (void)bucket;
    (void)block;
    *data = NULL;
    *len = 0;
    return APR_SUCCESS;
}

const apr_bucket_type_t ap_bucket_type_error = { "ERROR",
                                                 5,
                                                 APR_BUCKET_METADATA,
                                                 apr_bucket_destroy_noop,
                                                 read_error,
                                                 apr_bucket_setaside_notimpl,
                                                 apr_bucket_split_notimpl,
                                                 apr_bucket_copy_notimpl };

apr_bucket *ap_bucket_error_create(int error, const char *buf, apr_pool_t *p,
                                   apr_bucket_alloc_t *list)
{
    apr_bucket *bucket = apr_bucket_alloc(sizeof(*bucket), list);

    (void)error;
    (void)buf;
    (void)p;
    memset(bucket, 0, sizeof(*bucket));
    APR_BUCKET_INIT(bucket);
    bucket->free = apr_bucket_free;
    bucket->list = list;
    bucket->type = &ap_bucket_type_error;
    return bucket;
}

/* ---- header fields ---- */

const char *ap_get_status_line(int status)
{
    return status == 200   ? "200 OK"
           : status == 302 ? "302 Found"
           : status == 404 ? "404 Not Found"
                           : "500 Internal Server Error";
}

void ap_set_content_type(request_rec *r, const char *type)
{
    r->content_type = type;
}

void ap_set_content_length(request_rec *r, apr_off_t len)
{
    r->clength = len;
    apr_table_setn(r->headers_out, "Content-Length",
                   apr_off_t_toa(r->pool, len));
}

void ap_update_mtime(request_rec *r, apr_time_t time)
{
    r->mtime = time;
}

void ap_set_last_modified(request_rec *r)
{
    apr_table_setn(r->headers_out, "Last-Modified", "then");
}

int ap_meets_conditions(request_rec *r)
{
    (void)r;
    return world.condition;
}

int ap_find_token(apr_pool_t *pool, const char *line, const char *token)
{
    (void)pool;
    return strstr(line, token) != NULL;
}

/* ---- what gives another answer ---- */

void ap_internal_redirect(const char *path, request_rec *r)
{
    REQUIRE(*path);
    world.is_redirected = 1;
    r->eos_sent = 1;
}

int ap_discard_request_body(request_rec *r)
{
    (void)r;
    return OK;
}

void ap_method_list_add(ap_method_list_t *list, const char *method)
{
    (void)list;
    REQUIRE(*method);
}

void ap_clear_method_list(ap_method_list_t *list)
{
    (void)list;
}

/* No input has a folder whose files may be sent, nor patterns. */
void ap_set_etag(request_rec *r)
{
    (void)r;
    abort();
}

int ap_run_type_checker(request_rec *r)
{
    (void)r;
    abort();
}

int ap_unescape_url(char *url)
{
    (void)url;
    abort();
}

char *ap_make_dirstr_parent(apr_pool_t *pool, const char *path)
{
    (void)pool;
    (void)path;
    abort();
}

int ap_regexec(const ap_regex_t *regex, const char *text, apr_size_t count,
               ap_regmatch_t *found, int flags)
{
    (void)regex;
    (void)text;
    (void)count;
    (void)found;
    (void)flags;
    abort();
}

char *ap_strcasestr(const char *text, const char *part)
{
    (void)text;
    (void)part;
    abort();
}

/* ---- the line ---- */

fcgi_line_state fcgi_line_enter(fcgi_line *line, fcgi_waiting *waiting)
{
    (void)line;
    if (world.is_limited && !world.is_over) {
        int how = world_byte() & 3;

        if (how == 3) {
            return FCGI_LINE_FULL;
        }
        if (how) {
            REQUIRE(!world.in_line);
            world.in_line = waiting;
            world.is_granted = 0;
            return FCGI_LINE_WAITING;
        }
    }
    world.permits++;
    return FCGI_LINE_PERMIT;
}

static void leave_line(void)
{
    world.in_line = NULL;
    world.is_granted = 0;
    world.permits++;
}

fcgi_line_state fcgi_line_look(fcgi_line *line, fcgi_waiting *waiting,
                               void **conn)
{
    (void)line;
    REQUIRE(world.in_line == waiting);
    *conn = NULL;
    if (!world.is_granted) {
        return FCGI_LINE_WAITING;
    }
    leave_line();
    return FCGI_LINE_PERMIT;
}

fcgi_line_state fcgi_line_leave(fcgi_line *line, fcgi_waiting *waiting,
                                void **conn)
{
    fcgi_line_state state = fcgi_line_look(line, waiting, conn);

    world.in_line = NULL;
    return state;
}

void fcgi_line_free(fcgi_line *line)
{
    (void)line;
    REQUIRE(world.permits-- > 0);
}

int fcgi_line_hand_on(fcgi_line *line, void *conn)
{
    (void)line;
    (void)conn;
    return 0;
}

int fcgi_line_keep(fcgi_line *line)
{
    (void)line;
    return world.keeps && !world.is_pressed
           && world.idle_count < WORLD_SOCKETS;
}

void fcgi_line_press(fcgi_line *line)
{
    (void)line;
    world.pressing++;
}

void fcgi_line_unpress(fcgi_line *line)
{
    (void)line;
    REQUIRE(world.pressing-- > 0);
}

int fcgi_line_is_pressed(fcgi_line *line)
{
    (void)line;
    return world.is_pressed;
}

int fcgi_stats_failed(fcgi_account *account, apr_uint32_t *others)
{
    (void)account;
    *others = 0;
    return 1;
}

fcgi_share *fcgi_stats_my_share(fcgi_account *account)
{
    (void)account;
    abort();
}

fcgi_tally *fcgi_stats_my_tally(fcgi_account *account)
{
    (void)account;
    abort();
}

/* ---- idle connections ---- */

int fcgi_idle_is_on(void)
{
    return world.keeps;
}

int fcgi_idle_is_quiet(fcgi_conn *conn)
{
    return fcgi_socket_listen(conn->socket) == FCGI_SOCKET_QUIET;
}

void fcgi_idle_put(fcgi_conn *conn, fcgi_instant now, fcgi_instant expires)
{
    REQUIRE(expires > now);
    fcgi_conn_move(conn, FCGI_CONN_IN_USE, FCGI_CONN_IDLE);
    conn->idle_since = now;
    world.idle[world.idle_count++] = conn;
}

fcgi_conn *fcgi_idle_take(fcgi_line *line, apr_interval_time_t age)
{
    while (world.idle_count) {
        fcgi_conn *conn = world.idle[world.idle_count - 1];

        if (fcgi_clock_now() - conn->idle_since < age) {
            return NULL;
        }
        world.idle_count--;
        if (fcgi_idle_is_quiet(conn)) {
            fcgi_conn_move(conn, FCGI_CONN_IDLE, FCGI_CONN_IN_USE);
            return conn;
        }
        fcgi_conn_close(conn, FCGI_CONN_IDLE);
        fcgi_line_free(line);
    }
    return NULL;
}

/* ---- waiting without a thread ---- */

void fcgi_parked_init(fcgi_parkable *parkable, const fcgi_parkable_kind *kind,
                      void *baton)
{
    memset(parkable, 0, sizeof(*parkable));
    parkable->kind = kind;
    parkable->baton = baton;
}

int fcgi_parked_may(const request_rec *r)
{
    return world.can_park && !r->connection->master;
}

apr_uint32_t fcgi_parked_count(void)
{
    return world.parked != NULL;
}

int fcgi_parked_start(request_rec *r, fcgi_parkable *parkable)
{
    REQUIRE(world.can_park && r == world.r && !world.parked);
    if (world.can_park == 2) {
        return 0; /* no descriptors */
    }
    world.parked = parkable;
    parkable->kind->count(parkable->baton, 1);
    return 1;
}

void fcgi_parked_wake(fcgi_parkable *parkable)
{
    REQUIRE(!world.parked || parkable == world.parked);
    world.is_woken = 1;
}

/* ---- a connection of httpd's ---- */

static ap_filter_rec_t core_record = {
    .name = "core", .filter_func = { .out_func = write_held }
};
static ap_filter_rec_t resource_record = { .name = "resource" };
static ap_filter_t core_filter, resource_filter;

void world_connect(apr_pool_t *pool)
{
    conn_rec *c = &world.connection;

    world.server.module_config = (ap_conf_vector_t *)server_configs;
    core_filter.frec = &core_record;
    core_filter.c = c;
    world.pool = pool;
    world.list = apr_bucket_alloc_create(pool);
    c->pool = pool;
    c->bucket_alloc = world.list;
    c->base_server = &world.server;
    c->output_filters = &core_filter;
}

request_rec *world_request(apr_pool_t *pool)
{
    request_rec *r = apr_pcalloc(pool, sizeof(*r));

    resource_filter.frec = &resource_record;
    resource_filter.r = r;
    resource_filter.c = &world.connection;
    r->pool = pool;
    r->connection = &world.connection;
    r->server = &world.server;
    r->headers_in = apr_table_make(pool, 5);
    r->headers_out = apr_table_make(pool, 5);
    r->err_headers_out = apr_table_make(pool, 5);
    r->subprocess_env = apr_table_make(pool, 5);
    r->notes = apr_table_make(pool, 5);
    r->input_filters = &resource_filter;
    r->output_filters = &resource_filter;
    r->proto_output_filters = &resource_filter;
    r->method = "GET";
    r->method_number = M_GET;
    r->proto_num = HTTP_VERSION(1, 1);
    r->status = HTTP_OK;
    r->uri = apr_pstrdup(pool, "/script");
    world.r = r;
    return r;
}
