/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_writer.h - a request's records on their way to the application: put
 * together without copying, and written as the socket takes them. Knows
 * neither where the bytes come from nor when to write.
 */
#ifndef FCGI_WRITER_H
#define FCGI_WRITER_H

#include <stdint.h>

#include <apr_buckets.h>
#include <apr_network_io.h>

typedef struct fcgi_writer {
    apr_pool_t *pool;
    apr_bucket_alloc_t *list;
    uint16_t request_id;    /* of the records */
    const uint8_t *piece;   /* all records not written yet, in one piece, */
    apr_size_t piece_len;   /* if this is not 0 */
    uint8_t *behind;        /* room for a header behind it; else NULL */
    apr_bucket_brigade *bb; /* if it is: they, in order; NULL: none so far */
    apr_size_t len;         /* bytes not written yet */
    apr_off_t sent;         /* bytes written */
    int ended;              /* the record that ends STDIN is among these */
    int sends_files;        /* what is in a file that allows it goes to the
                             * socket, non-blocking then, from there, without
                             * being read */
} fcgi_writer;

/* Prepares a writer that lives in pool. */
void fcgi_writer_init(fcgi_writer *writer, apr_pool_t *pool,
                      apr_bucket_alloc_t *list);

/* Drops all records; the next one is the first again. */
void fcgi_writer_restart(fcgi_writer *writer);

/*
 * Adds BEGIN_REQUEST with those flags (5.1) for a Responder, and len bytes of
 * name-value pairs, left where they are, as a whole PARAMS stream, in as many
 * records as it takes (3.3, 5.2). The room around them (FCGI_ROOM_) is the
 * writer's. All records until the next restart have request_id.
 */
void fcgi_writer_begin(fcgi_writer *writer, uint16_t request_id, uint8_t flags,
                       char *params, apr_size_t len);

/*
 * Moves the data of body into as few STDIN records (5.3) as it takes; body is
 * empty afterwards. Adds to *len how many bytes that were. Errors of reading
 * a bucket: then body is left. With sends_files buckets of a file that has
 * APR_FOPEN_SENDFILE_ENABLED stay as they are.
 */
apr_status_t fcgi_writer_stdin(fcgi_writer *writer, apr_bucket_brigade *body,
                               apr_off_t *len);

/* Adds the record that ends STDIN. */
void fcgi_writer_end(fcgi_writer *writer);

/* True if all that was added is written. */
int fcgi_writer_is_empty(const fcgi_writer *writer);

/*
 * Writes what is in memory, gathered, and, to a non-blocking socket, what is in
 * files, until the socket is full. APR_SUCCESS: something was written, and
 * *full says whether the socket took less than it was offered. Else
 * APR_EAGAIN, or why the socket takes nothing any more.
 */
apr_status_t fcgi_writer_send(fcgi_writer *writer, apr_socket_t *socket,
                              int *full);

#endif
