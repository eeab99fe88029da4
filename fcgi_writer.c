/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_writer.c - records in a brigade; the contract is in fcgi_writer.h.
 * Record headers are small heap buckets between the buckets of the content,
 * which are in memory or in a file; but a request whose parameters fit one
 * record lies in one piece.
 */
#include "fcgi_writer.h"

#include <apr_file_io.h>

#include "fcgi_record.h"
#include "fcgi_socket.h"

/* Pieces of one gathered write. */
#define MAX_PIECES 32

void fcgi_writer_init(fcgi_writer *writer, apr_pool_t *pool,
                      apr_bucket_alloc_t *list)
{
    writer->pool = pool;
    writer->list = list;
    writer->bb = NULL;
    writer->sends_files = 0;
    fcgi_writer_restart(writer);
}

void fcgi_writer_restart(fcgi_writer *writer)
{
    if (writer->bb) {
        apr_brigade_cleanup(writer->bb);
    }
    writer->piece_len = 0;
    writer->behind = NULL;
    writer->len = 0;
    writer->sent = 0;
    writer->ended = 0;
}

static void insert(fcgi_writer *writer, apr_bucket *bucket)
{
    APR_BRIGADE_INSERT_TAIL(writer->bb, bucket);
}

/* Makes the piece a part of the brigade, which most requests do not need:
 * one takes 300 instructions. */
static void need_brigade(fcgi_writer *writer)
{
    if (!writer->bb) {
        writer->bb = apr_brigade_create(writer->pool, writer->list);
    }
    if (writer->piece_len) {
        insert(writer,
               apr_bucket_immortal_create((const char *)writer->piece,
                                          writer->piece_len, writer->list));
        writer->piece_len = 0;
    }
    writer->behind = NULL;
}

static void add(fcgi_writer *writer, apr_bucket *bucket)
{
    need_brigade(writer);
    insert(writer, bucket);
    writer->len += bucket->length;
}

static void add_bytes(fcgi_writer *writer, const uint8_t *bytes,
                      apr_size_t len)
{
    add(writer,
        apr_bucket_heap_create((const char *)bytes, len, NULL, writer->list));
}

static void add_header(fcgi_writer *writer, fcgi_type type,
                       apr_size_t content_len)
{
    uint8_t header[FCGI_HEADER_LEN];

    fcgi_put_header(header, type, writer->request_id, content_len, 0);
    add_bytes(writer, header, sizeof(header));
}

/* A request whose parameters fit one record: all of it around them. */
static void begin_in_one_piece(fcgi_writer *writer, uint8_t flags,
                               char *params, apr_size_t len)
{
    uint8_t *first = (uint8_t *)params - FCGI_ROOM_BEFORE_PARAMS;
    uint8_t *to = fcgi_put_begin_request(first, writer->request_id,
                                         FCGI_RESPONDER, flags);

    to = fcgi_put_header(to, FCGI_PARAMS, writer->request_id, len, 0);
    to = fcgi_put_header(to + len, FCGI_PARAMS, writer->request_id, 0, 0);
    writer->piece = first;
    writer->piece_len = (apr_size_t)(to - first);
    writer->len = writer->piece_len;
    writer->behind = to;
}

static void begin_in_pieces(fcgi_writer *writer, uint8_t flags,
                            const char *params, apr_size_t len)
{
    uint8_t begin[FCGI_BEGIN_REQUEST_LEN];

    fcgi_put_begin_request(begin, writer->request_id, FCGI_RESPONDER, flags);
    add_bytes(writer, begin, sizeof(begin));
    while (len) {
        apr_size_t part =
            len < FCGI_MAX_CONTENT_LEN ? len : FCGI_MAX_CONTENT_LEN;

        add_header(writer, FCGI_PARAMS, part);
        add(writer, apr_bucket_immortal_create(params, part, writer->list));
        params += part;
        len -= part;
    }
    add_header(writer, FCGI_PARAMS, 0);
}

void fcgi_writer_begin(fcgi_writer *writer, uint16_t request_id, uint8_t flags,
                       char *params, apr_size_t len)
{
    writer->request_id = request_id;
    if (len && len <= FCGI_MAX_CONTENT_LEN) {
        begin_in_one_piece(writer, flags, params, len);
    }
    else {
        begin_in_pieces(writer, flags, params, len);
    }
}

/* True for bytes that the kernel sends from their file. */
static int is_sent_from_file(const fcgi_writer *writer,
                             const apr_bucket *bucket)
{
#if APR_HAS_SENDFILE
    const apr_bucket_file *in_file = bucket->data;

    return writer->sends_files && APR_BUCKET_IS_FILE(bucket)
           && (apr_file_flags_get(in_file->fd) & APR_FOPEN_SENDFILE_ENABLED);
#else
    (void)writer;
    (void)bucket;
    return 0;
#endif
}

/* Brings all of body into memory that is not sent from a file, and adds up how
 * much it is. A bucket without content goes: a record without content would
 * end the stream. */
static apr_status_t read_all(const fcgi_writer *writer,
                             apr_bucket_brigade *body, apr_size_t *total)
{
    apr_bucket *bucket = APR_BRIGADE_FIRST(body);

    *total = 0;
    while (bucket != APR_BRIGADE_SENTINEL(body)) {
        apr_bucket *empty = bucket;
        const char *data;
        apr_size_t len = bucket->length;
        apr_status_t rv =
            is_sent_from_file(writer, bucket)
                ? APR_SUCCESS
                : apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ);

        if (rv != APR_SUCCESS) {
            return rv;
        }
        *total += len;
        bucket = APR_BUCKET_NEXT(bucket);
        if (!len) {
            apr_bucket_delete(empty);
        }
    }
    return APR_SUCCESS;
}

/* Moves len bytes of body, however many buckets that are, into a record. */
static apr_status_t add_stdin(fcgi_writer *writer, apr_bucket_brigade *body,
                              apr_size_t len)
{
    apr_bucket *end;
    apr_status_t rv = apr_brigade_partition(body, (apr_off_t)len, &end);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    add_header(writer, FCGI_STDIN, len);
    while (APR_BRIGADE_FIRST(body) != end) {
        apr_bucket *bucket = APR_BRIGADE_FIRST(body);

        APR_BUCKET_REMOVE(bucket);
        add(writer, bucket);
    }
    return APR_SUCCESS;
}

apr_status_t fcgi_writer_stdin(fcgi_writer *writer, apr_bucket_brigade *body,
                               apr_off_t *len)
{
    apr_size_t total;
    apr_status_t rv = read_all(writer, body, &total);

    while (rv == APR_SUCCESS && total) {
        apr_size_t part =
            total < FCGI_MAX_CONTENT_LEN ? total : FCGI_MAX_CONTENT_LEN;

        rv = add_stdin(writer, body, part);
        *len += (apr_off_t)part;
        total -= part;
    }
    return rv;
}

void fcgi_writer_end(fcgi_writer *writer)
{
    if (writer->behind) {
        fcgi_put_header(writer->behind, FCGI_STDIN, writer->request_id, 0, 0);
        writer->piece_len += FCGI_HEADER_LEN;
        writer->len += FCGI_HEADER_LEN;
        writer->behind = NULL;
    }
    else {
        add_header(writer, FCGI_STDIN, 0);
    }
    writer->ended = 1;
}

int fcgi_writer_is_empty(const fcgi_writer *writer)
{
    return !writer->len;
}

static void note_sent(fcgi_writer *writer, apr_size_t n)
{
    writer->len -= n;
    writer->sent += (apr_off_t)n;
}

/* Takes n written bytes off the front of the brigade. */
static void consume(fcgi_writer *writer, apr_size_t n)
{
    note_sent(writer, n);
    while (n) {
        apr_bucket *bucket = APR_BRIGADE_FIRST(writer->bb);

        if (bucket->length > n) {
            apr_bucket_split(bucket, n);
        }
        n -= bucket->length;
        apr_bucket_delete(bucket);
    }
}

static apr_status_t send_piece(fcgi_writer *writer, apr_socket_t *socket,
                               int *full)
{
    struct iovec piece = { (void *)writer->piece, writer->piece_len };
    apr_size_t sent = 0;
    apr_status_t rv = fcgi_socket_send(socket, &piece, 1, &sent);

    *full = sent < writer->piece_len;
    writer->piece += sent;
    writer->piece_len -= sent;
    writer->behind = NULL;
    note_sent(writer, sent);
    return rv;
}

/* One gathered write of what is in memory, up to the first file. */
static apr_status_t send_memory(fcgi_writer *writer, apr_socket_t *socket,
                                int *full)
{
    struct iovec pieces[MAX_PIECES];
    apr_bucket *bucket = APR_BRIGADE_FIRST(writer->bb);
    apr_size_t wanted = 0, sent = 0;
    int count = 0;
    apr_status_t rv;

    while (count < MAX_PIECES && bucket != APR_BRIGADE_SENTINEL(writer->bb)
           && !is_sent_from_file(writer, bucket)) {
        const char *data;
        apr_size_t len;

        rv = apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ);
        if (rv != APR_SUCCESS) {
            return rv;
        }
        pieces[count].iov_base = (void *)data;
        pieces[count++].iov_len = len;
        wanted += len;
        bucket = APR_BUCKET_NEXT(bucket);
    }
    rv = fcgi_socket_send(socket, pieces, count, &sent);
    consume(writer, sent);
    *full = sent < wanted;
    return rv;
}

/* Sends from the file that is first. */
static apr_status_t send_file(fcgi_writer *writer, apr_socket_t *socket,
                              int *full)
{
#if APR_HAS_SENDFILE
    apr_bucket *bucket = APR_BRIGADE_FIRST(writer->bb);
    const apr_bucket_file *in_file = bucket->data;
    apr_off_t start = bucket->start;
    apr_size_t wanted = bucket->length, sent = wanted;
    apr_status_t rv =
        apr_socket_sendfile(socket, in_file->fd, NULL, &start, &sent, 0);

    if (rv == APR_EINVAL || rv == APR_ENOTIMPL) {
        /* not from such a file, or not to such a socket */
        const char *data;

        return apr_bucket_read(bucket, &data, &sent, APR_BLOCK_READ);
    }
    consume(writer, sent);
    *full = sent < wanted;
    return rv;
#else
    return send_memory(writer, socket, full);
#endif
}

apr_status_t fcgi_writer_send(fcgi_writer *writer, apr_socket_t *socket,
                              int *full)
{
    apr_off_t before = writer->sent;
    apr_status_t rv = APR_SUCCESS;

    *full = 0;
    while (rv == APR_SUCCESS && !*full && !fcgi_writer_is_empty(writer)) {
        rv = writer->piece_len ? send_piece(writer, socket, full)
             : is_sent_from_file(writer, APR_BRIGADE_FIRST(writer->bb))
                 ? send_file(writer, socket, full)
                 : send_memory(writer, socket, full);
    }
    if (APR_STATUS_IS_EAGAIN(rv) && writer->sent > before) {
        *full = 1;
        rv = APR_SUCCESS;
    }
    return rv;
}
