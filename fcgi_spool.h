/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_spool.h - bytes held for later, in order: in memory first, then in an
 * unlinked temporary file, up to a stated end. Used for request bodies and
 * for answers; knows neither FastCGI nor sockets.
 *
 * However small the pieces are in which they come, a byte costs about a byte:
 * what would keep much more memory than it has bytes is copied into blocks of
 * the spool's own; a buffer of which three quarters are in use stays where it
 * is. So what is held in memory keeps at most a third more than
 * limits.memory, and what is not in use of the first buffer or block, as it
 * was taken already, and of the last block, as it is free still.
 */
#ifndef FCGI_SPOOL_H
#define FCGI_SPOOL_H

#include <apr_buckets.h>
#include <apr_file_io.h>

#define FCGI_SPOOL_BLOCK_LEN 8000

typedef struct fcgi_spool_limits {
    apr_size_t memory; /* bytes held in memory before a file is used */
    apr_off_t max;     /* bytes held at all */
    const char *dir;   /* where the file is made; NULL: the system's */
    int sendfile;      /* httpd may send from the file without reading it */
} fcgi_spool_limits;

typedef struct fcgi_spool {
    fcgi_spool_limits limits;
    apr_pool_t *pool;         /* of the spool and its file */
    apr_bucket_alloc_t *list; /* of the brigade's buckets */
    apr_bucket_brigade *bb;   /* what is held: file buckets, then memory; NULL:
                             * nothing ever was */
    apr_off_t len;            /* bytes held */
    apr_size_t memory_len;    /* of these, in memory */
    apr_bucket_brigade *block; /* the one that is filled; or empty, or NULL */
    apr_file_t *file;          /* NULL: none was needed yet */
    apr_file_t *reader;        /* the same file, for what is given away */
    apr_off_t file_end;        /* bytes written to the file */
    apr_pool_t *given; /* of the file buckets that were taken or given */
} fcgi_spool;

/* To be called when a process starts, with a pool that lives as long: looks for
 * the system's directory, for which APR makes a file, writes to it and removes
 * it. Otherwise each spool that needs a file there does so. */
void fcgi_spool_find_dir(apr_pool_t *pool);

/* Makes an empty spool that lives in pool; no file is made yet. */
fcgi_spool *fcgi_spool_create(apr_pool_t *pool, apr_bucket_alloc_t *list,
                              const fcgi_spool_limits *limits);

/*
 * Takes the data buckets of bb to the end of the spool; bb is empty
 * afterwards, its metadata buckets are dropped. Writes to the file once more
 * than limits.memory is held in memory: some of it, or all. Returns
 * APR_SUCCESS; APR_INCOMPLETE if that would exceed limits.max (the rest of bb
 * is left); or why the file cannot be made or written, as APR_ENOSPC: then
 * all is held in memory.
 */
apr_status_t fcgi_spool_add(fcgi_spool *spool, apr_bucket_brigade *bb);

/* Takes a copy of len bytes at data to the end of the spool, all of them or
 * none. Returns as fcgi_spool_add(). */
apr_status_t fcgi_spool_write(fcgi_spool *spool, const char *data,
                              apr_size_t len);

/* Moves what is in memory to the file. Errors as fcgi_spool_add(). */
apr_status_t fcgi_spool_spill(fcgi_spool *spool);

/* How many bytes may still be added before limits.max. */
apr_off_t fcgi_spool_room(const fcgi_spool *spool);

/* Moves at most max bytes from the front of the spool to the end of bb. What
 * is in the file comes as file buckets, to be read and destroyed before the
 * spool is reclaimed. */
apr_status_t fcgi_spool_take(fcgi_spool *spool, apr_bucket_brigade *bb,
                             apr_off_t max);

/* Adds at most max bytes from position from of what is held to the end of bb;
 * they stay held. The same holds for what is in the file. */
apr_status_t fcgi_spool_copy(fcgi_spool *spool, apr_bucket_brigade *bb,
                             apr_off_t from, apr_off_t max);

/* As fcgi_spool_take(), for httpd's output filters: the file buckets have
 * handles of their own, which a filter may set aside in its own pool, and
 * read in its own thread. As all handles of the spool, they are closed in
 * programs that httpd starts. */
apr_status_t fcgi_spool_give(fcgi_spool *spool, apr_bucket_brigade *bb,
                             apr_off_t max);

/* Drops all that is held. */
void fcgi_spool_clear(fcgi_spool *spool);

/* It will not be used for long: a block of which nobody has anything goes. */
void fcgi_spool_shrink(fcgi_spool *spool);

/* None of what was taken or given is in use any more: frees what that cost
 * and, when the spool is empty, starts the file again at its beginning. */
void fcgi_spool_reclaim(fcgi_spool *spool);

#endif
