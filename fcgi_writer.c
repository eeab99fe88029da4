/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_writer.c - records in a brigade; the contract is in fcgi_writer.h.
 * Record headers are small heap buckets between the buckets of the content.
 */
#include "fcgi_writer.h"

#include "fcgi_record.h"

/* Pieces of one gathered write. */
#define MAX_PIECES 32

void fcgi_writer_init(fcgi_writer *writer, apr_pool_t *pool,
                      apr_bucket_alloc_t *list)
{
    writer->bb = apr_brigade_create(pool, list);
    fcgi_writer_restart(writer);
}

void fcgi_writer_restart(fcgi_writer *writer)
{
    apr_brigade_cleanup(writer->bb);
    writer->len = 0;
    writer->sent = 0;
    writer->ended = 0;
}

static void add(fcgi_writer *writer, apr_bucket *bucket)
{
    writer->len += bucket->length;
    APR_BRIGADE_INSERT_TAIL(writer->bb, bucket);
}

static void add_bytes(fcgi_writer *writer, const uint8_t *bytes,
                      apr_size_t len)
{
    add(writer, apr_bucket_heap_create((const char *)bytes, len, NULL,
                                       writer->bb->bucket_alloc));
}

static void add_header(fcgi_writer *writer, fcgi_type type,
                       apr_size_t content_len)
{
    uint8_t header[FCGI_HEADER_LEN];

    fcgi_put_header(header, type, writer->request_id, content_len, 0);
    add_bytes(writer, header, sizeof(header));
}

void fcgi_writer_begin(fcgi_writer *writer, uint16_t request_id, uint8_t flags,
                       const char *params, apr_size_t len)
{
    uint8_t begin[FCGI_BEGIN_REQUEST_LEN];

    writer->request_id = request_id;
    fcgi_put_begin_request(begin, writer->request_id, FCGI_RESPONDER, flags);
    add_bytes(writer, begin, sizeof(begin));
    while (len) {
        apr_size_t part =
            len < FCGI_MAX_CONTENT_LEN ? len : FCGI_MAX_CONTENT_LEN;

        add_header(writer, FCGI_PARAMS, part);
        add(writer, apr_bucket_immortal_create(params, part,
                                               writer->bb->bucket_alloc));
        params += part;
        len -= part;
    }
    add_header(writer, FCGI_PARAMS, 0);
}

/* Brings all of body into memory and adds up how much it is. A bucket without
 * content goes: a record without content would end the stream. */
static apr_status_t read_all(apr_bucket_brigade *body, apr_size_t *total)
{
    apr_bucket *bucket = APR_BRIGADE_FIRST(body);

    *total = 0;
    while (bucket != APR_BRIGADE_SENTINEL(body)) {
        apr_bucket *empty = bucket;
        const char *data;
        apr_size_t len;
        apr_status_t rv = apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ);

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
    apr_status_t rv = read_all(body, &total);

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
    add_header(writer, FCGI_STDIN, 0);
    writer->ended = 1;
}

int fcgi_writer_is_empty(const fcgi_writer *writer)
{
    return APR_BRIGADE_EMPTY(writer->bb);
}

/* Takes n written bytes off the front. */
static void consume(fcgi_writer *writer, apr_size_t n)
{
    writer->len -= n;
    writer->sent += (apr_off_t)n;
    while (n) {
        apr_bucket *bucket = APR_BRIGADE_FIRST(writer->bb);

        if (bucket->length > n) {
            apr_bucket_split(bucket, n);
        }
        n -= bucket->length;
        apr_bucket_delete(bucket);
    }
}

apr_status_t fcgi_writer_send(fcgi_writer *writer, apr_socket_t *socket,
                              int *full)
{
    struct iovec pieces[MAX_PIECES];
    apr_size_t wanted = 0, sent = 0;
    int count = MAX_PIECES, i;
    apr_status_t rv = apr_brigade_to_iovec(writer->bb, pieces, &count);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    for (i = 0; i < count; i++) {
        wanted += pieces[i].iov_len;
    }
    rv = apr_socket_sendv(socket, pieces, count, &sent);
    if (rv == APR_SUCCESS) {
        consume(writer, sent);
        *full = sent < wanted;
    }
    return rv;
}
