/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_spool.c - memory first, then a file without a name; the contract is
 * in fcgi_spool.h. One brigade holds everything in order: buckets of the
 * file, then buckets in memory; spilling turns the latter into the former.
 */
#include "fcgi_spool.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <apr_portable.h>
#include <apr_strings.h>

/* A file bucket's length fits any apr_size_t. */
#define MAX_EXTENT (512 * 1024 * 1024)

/* Pieces of one write. */
#define MAX_PIECES 64

/* As long as more comes, the file grows in these: the kernel has larger pages
 * for them, and fills none in two steps. */
#define WRITE_UNIT (64 * 1024)

/* A bucket costs some hundred bytes itself: smaller ones are copied. */
#define PACK_BELOW 4096

/* A buffer is kept as it is if its buckets leave no more of it unused. */
#define MAY_WASTE(buffer_len) ((buffer_len) / 4)

/* Appended to, whatever its position is. */
#define WRITER_FLAGS                                                          \
    (APR_FOPEN_READ | APR_FOPEN_WRITE | APR_FOPEN_CREATE | APR_FOPEN_EXCL     \
     | APR_FOPEN_APPEND | APR_FOPEN_BINARY)

/*
 * Bytes of the file that are not sent from there are read, in pieces of this
 * size. Mapping them, as is APR's way, would count as the process's memory,
 * and end the process where the file cannot be read any more; and APR maps
 * nothing that begins within a page. With pieces of APR's size, 8000 bytes, an
 * upload of 16 MB over TCP takes a tenth more of httpd's processor time.
 */
#define READ_PIECE (64 * 1024)

/*
 * The same for httpd's output filters. Where httpd may not send from the file,
 * it reads until it has more than FlushMaxThreshold (64 KB) and waits with a
 * thread for a client that does not even take the last of these pieces. So they
 * are small.
 */
#define GIVEN_PIECE (16 * 1024)

/* The system's directory for temporary files, as it was found at the start;
 * NULL: it was not. */
static const char *system_dir;

void fcgi_spool_find_dir(apr_pool_t *pool)
{
    if (apr_temp_dir_get(&system_dir, pool) != APR_SUCCESS) {
        system_dir = NULL;
    }
}

fcgi_spool *fcgi_spool_create(apr_pool_t *pool, apr_bucket_alloc_t *list,
                              const fcgi_spool_limits *limits)
{
    fcgi_spool *spool = apr_pcalloc(pool, sizeof(*spool));

    spool->limits = *limits;
    spool->pool = pool;
    spool->list = list;
    return spool;
}

/* Something is to be held, as most spools never have to. */
static void begin(fcgi_spool *spool)
{
    if (!spool->bb) {
        spool->bb = apr_brigade_create(spool->pool, spool->list);
    }
}

apr_off_t fcgi_spool_room(const fcgi_spool *spool)
{
    const fcgi_spool_limits *limits = &spool->limits;
    apr_off_t memory_len = (apr_off_t)spool->memory_len;
    apr_off_t in_memory = (apr_off_t)limits->memory - memory_len;
    /* what is in memory has to follow what is in the file */
    apr_off_t in_file = limits->max - spool->file_end - memory_len;
    apr_off_t room = in_file > in_memory ? in_file : in_memory;

    if (room > limits->max - spool->len) {
        room = limits->max - spool->len;
    }
    return room > 0 ? room : 0;
}

#ifdef O_TMPFILE
static apr_status_t close_file(void *file)
{
    return apr_file_close(file);
}
#endif

static apr_int32_t reader_flags(const fcgi_spool *spool)
{
    return APR_FOPEN_READ | APR_FOPEN_BINARY
           | (spool->limits.sendfile ? APR_FOPEN_SENDFILE_ENABLED : 0);
}

/* Opens a file once more, through /proc. */
static apr_status_t open_again(const fcgi_spool *spool, apr_os_file_t fd,
                               apr_pool_t *pool, apr_file_t **again)
{
    return apr_file_open(again, apr_psprintf(pool, "/proc/self/fd/%d", fd),
                         reader_flags(spool), APR_FPROT_OS_DEFAULT, pool);
}

/*
 * Opens dir's file without a name, twice. O_TMPFILE gives one that never has
 * a name, so that nothing is left behind by a crash at any moment; APR has no
 * way to ask for it. Its second handle is opened through /proc.
 */
static apr_status_t open_nameless(fcgi_spool *spool, const char *dir)
{
#ifdef O_TMPFILE
    apr_os_file_t fd =
        open(dir, O_TMPFILE | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
    apr_status_t rv;

    if (fd < 0) {
        return APR_FROM_OS_ERROR(errno);
    }
    rv = open_again(spool, fd, spool->pool, &spool->reader);
    if (rv == APR_SUCCESS) {
        rv = apr_os_file_put(&spool->file, &fd, WRITER_FLAGS, spool->pool);
    }
    if (rv != APR_SUCCESS) {
        close(fd);
        return rv;
    }
    apr_pool_cleanup_register(spool->pool, spool->file, close_file,
                              apr_pool_cleanup_null);
    return APR_SUCCESS;
#else
    (void)spool;
    (void)dir;
    return APR_ENOTIMPL;
#endif
}

/* The same where there is no O_TMPFILE: its name is gone at once. */
static apr_status_t open_unlinked(fcgi_spool *spool, const char *dir)
{
    char *name = apr_pstrcat(spool->pool, dir, "/fcgi-spool.XXXXXX", NULL);
    apr_status_t rv =
        apr_file_mktemp(&spool->file, name, WRITER_FLAGS, spool->pool);

    if (rv == APR_SUCCESS) {
        rv = apr_file_open(&spool->reader, name, reader_flags(spool),
                           APR_FPROT_OS_DEFAULT, spool->pool);
        apr_file_remove(name, spool->pool);
    }
    return rv;
}

static apr_status_t open_in(fcgi_spool *spool, const char *dir)
{
    return open_nameless(spool, dir) == APR_SUCCESS
               ? APR_SUCCESS
               : open_unlinked(spool, dir);
}

/* Makes the file. Its bytes are given away through a handle of its own, whose
 * position no write moves: another thread may read while this one writes. */
static apr_status_t open_file(fcgi_spool *spool)
{
    const char *dir = spool->limits.dir ? spool->limits.dir : system_dir;
    apr_status_t rv = dir ? open_in(spool, dir) : APR_ENOENT;

    if (rv != APR_SUCCESS && !spool->limits.dir) {
        /* it may be another one by now */
        rv = apr_temp_dir_get(&dir, spool->pool);
        if (rv == APR_SUCCESS) {
            rv = open_in(spool, dir);
        }
    }
    if (rv != APR_SUCCESS) {
        spool->file = NULL;
    }
    return rv;
}

static int is_in_file(const apr_bucket *bucket)
{
    return APR_BUCKET_IS_FILE(bucket);
}

/* The buffer of a bucket that has to be kept as a whole, or NULL. */
static const apr_bucket_heap *buffer_of(const apr_bucket *bucket)
{
    return APR_BUCKET_IS_HEAP(bucket) ? bucket->data : NULL;
}

/* True if two buckets of a brigade, or its sentinel, lie in one buffer. */
static int share_buffer(const apr_bucket_brigade *bb, const apr_bucket *bucket,
                        const apr_bucket *other)
{
    return other != APR_BRIGADE_SENTINEL(bb) && buffer_of(other)
           && buffer_of(other) == buffer_of(bucket);
}

/* Lets the spool's file buckets grow by n bytes that were written, in place
 * of the memory before which they stand. */
static void extend(fcgi_spool *spool, apr_bucket *before, apr_size_t n)
{
    apr_bucket *last = APR_BUCKET_PREV(before);

    if (last != APR_BRIGADE_SENTINEL(spool->bb) && is_in_file(last)
        && last->length + n <= MAX_EXTENT
        && last->start + (apr_off_t)last->length == spool->file_end) {
        last->length += n;
    }
    else {
        last = apr_bucket_file_create(spool->file, spool->file_end, n,
                                      spool->pool, spool->list);
        APR_BUCKET_INSERT_BEFORE(before, last);
    }
    spool->file_end += (apr_off_t)n;
}

/*
 * Writes all pieces, which it changes. What APR has for that,
 * apr_file_writev_full(), writes a piece once more from its start of which the
 * system took a part.
 */
static apr_status_t write_all(apr_file_t *file, struct iovec *pieces,
                              apr_size_t count)
{
    apr_size_t written;

    while (count) {
        apr_status_t rv = apr_file_writev(file, pieces, count, &written);

        if (APR_STATUS_IS_EINTR(rv)) {
            continue;
        }
        if (rv != APR_SUCCESS || !written) {
            return rv != APR_SUCCESS ? rv : APR_ENOSPC;
        }
        while (count && written >= pieces->iov_len) {
            written -= pieces->iov_len;
            pieces++;
            count--;
        }
        if (count) {
            pieces->iov_base = (char *)pieces->iov_base + written;
            pieces->iov_len -= written;
        }
    }
    return APR_SUCCESS;
}

/* Writes the first pieces in memory, at most max bytes; they become part of
 * the file. */
static apr_status_t write_pieces(fcgi_spool *spool, apr_bucket *first,
                                 apr_size_t max)
{
    struct iovec pieces[MAX_PIECES];
    apr_bucket *bucket = first;
    apr_size_t wanted = 0;
    int count = 0;
    apr_status_t rv;

    while (count < MAX_PIECES && wanted < max) {
        const char *data;
        apr_size_t len;

        rv = apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ);
        if (rv != APR_SUCCESS) {
            return rv; /* never: it is in memory */
        }
        if (len > max - wanted) {
            len = max - wanted;
            apr_bucket_split(bucket, len);
        }
        pieces[count].iov_base = (void *)data;
        pieces[count++].iov_len = len;
        wanted += len;
        bucket = APR_BUCKET_NEXT(bucket);
    }
    rv = write_all(spool->file, pieces, (apr_size_t)count);
    if (rv != APR_SUCCESS) {
        /* What got there is cut off again; all stays in memory. */
        apr_file_trunc(spool->file, spool->file_end);
        return rv;
    }
    extend(spool, first, wanted);
    spool->memory_len -= wanted;
    while (count--) {
        bucket = APR_BUCKET_NEXT(first);
        apr_bucket_delete(first);
        first = bucket;
    }
    return APR_SUCCESS;
}

/* Moves what is in memory to the file, but for the last left bytes. */
static apr_status_t spill_until(fcgi_spool *spool, apr_size_t left)
{
    apr_status_t rv = APR_SUCCESS;

    if (spool->memory_len > left && !spool->file) {
        rv = open_file(spool);
    }
    while (rv == APR_SUCCESS && spool->memory_len > left) {
        apr_bucket *first = APR_BRIGADE_FIRST(spool->bb);

        while (is_in_file(first)) {
            first = APR_BUCKET_NEXT(first);
        }
        rv = write_pieces(spool, first, spool->memory_len - left);
    }
    return rv;
}

apr_status_t fcgi_spool_spill(fcgi_spool *spool)
{
    return spill_until(spool, 0);
}

/* The block that is filled, with room in it; its length says how far. */
static apr_bucket *get_block(fcgi_spool *spool)
{
    apr_bucket_alloc_t *list = spool->list;
    apr_bucket *block;

    if (!spool->block) {
        spool->block = apr_brigade_create(spool->pool, list);
    }
    block = APR_BRIGADE_FIRST(spool->block);
    if (block != APR_BRIGADE_SENTINEL(spool->block)) {
        const apr_bucket_heap *buffer = block->data;

        if (buffer->refcount.refcount == 1) {
            block->length = 0; /* nobody has anything of it any more */
        }
        if (block->length < FCGI_SPOOL_BLOCK_LEN) {
            return block;
        }
        apr_bucket_delete(block);
    }
    block =
        apr_bucket_heap_create(apr_bucket_alloc(FCGI_SPOOL_BLOCK_LEN, list),
                               FCGI_SPOOL_BLOCK_LEN, apr_bucket_free, list);
    block->length = 0;
    APR_BRIGADE_INSERT_HEAD(spool->block, block);
    return block;
}

/* Makes the next len bytes of the block the spool's last ones. */
static void add_from_block(fcgi_spool *spool, apr_bucket *block,
                           apr_size_t len)
{
    apr_bucket *last = APR_BRIGADE_LAST(spool->bb);

    if (share_buffer(spool->bb, block, last)
        && last->start + (apr_off_t)last->length == (apr_off_t)block->length) {
        last->length += len;
    }
    else {
        apr_bucket_copy(block, &last); /* of the bucket, not of the bytes */
        last->start = (apr_off_t)block->length;
        last->length = len;
        APR_BRIGADE_INSERT_TAIL(spool->bb, last);
    }
    block->length += len;
    spool->len += (apr_off_t)len;
    spool->memory_len += len;
}

/* Copies bytes into blocks. */
static void pack(fcgi_spool *spool, const char *data, apr_size_t len)
{
    while (len) {
        apr_bucket *block = get_block(spool);
        const apr_bucket_heap *buffer = block->data;
        apr_size_t part = FCGI_SPOOL_BLOCK_LEN - block->length;

        part = part < len ? part : len;
        memcpy(buffer->base + block->length, data, part);
        add_from_block(spool, block, part);
        data += part;
        len -= part;
    }
}

/* How much of its buffer this bucket and those that follow it use. */
static apr_size_t used_of_buffer(const apr_bucket_brigade *bb,
                                 const apr_bucket *bucket)
{
    const apr_bucket *next = bucket;
    apr_size_t used = 0;

    do {
        used += next->length < PACK_BELOW ? 0 : next->length;
        next = APR_BUCKET_NEXT(next);
    } while (share_buffer(bb, bucket, next));
    return used;
}

/* True if the first bucket of bb would keep much more memory than it has
 * bytes, or is copied in any case. */
static int is_better_packed(const fcgi_spool *spool,
                            const apr_bucket_brigade *bb)
{
    const apr_bucket *bucket = APR_BRIGADE_FIRST(bb);
    const apr_bucket_heap *buffer = buffer_of(bucket);

    if (bucket->length < PACK_BELOW || APR_BUCKET_IS_TRANSIENT(bucket)) {
        return 1;
    }
    return buffer
           && !share_buffer(spool->bb, bucket, APR_BRIGADE_LAST(spool->bb))
           && buffer->alloc_len - used_of_buffer(bb, bucket)
                  > MAY_WASTE(buffer->alloc_len);
}

/* Moves the first bucket of bb to the end of the spool. */
static apr_status_t keep_first(fcgi_spool *spool, apr_bucket_brigade *bb)
{
    apr_bucket *bucket = APR_BRIGADE_FIRST(bb);
    apr_status_t rv = apr_bucket_setaside(bucket, spool->pool);

    if (rv == APR_SUCCESS) {
        APR_BUCKET_REMOVE(bucket);
        APR_BRIGADE_INSERT_TAIL(spool->bb, bucket);
        spool->len += (apr_off_t)bucket->length;
        spool->memory_len += bucket->length;
    }
    return rv;
}

/* Takes the first bucket of bb into memory. */
static apr_status_t add_first(fcgi_spool *spool, apr_bucket_brigade *bb)
{
    apr_bucket *bucket = APR_BRIGADE_FIRST(bb);
    apr_status_t rv = APR_SUCCESS;
    const char *data;
    apr_size_t len = 0;

    if (!APR_BUCKET_IS_METADATA(bucket)) {
        /* brings buckets of unknown length, and files, into memory */
        rv = apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ);
    }
    if (rv == APR_SUCCESS && (apr_off_t)len > fcgi_spool_room(spool)) {
        rv = APR_INCOMPLETE;
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (len && !is_better_packed(spool, bb)) {
        return keep_first(spool, bb);
    }
    if (len) {
        pack(spool, data, len);
    }
    apr_bucket_delete(bucket);
    return APR_SUCCESS;
}

/* Writes if too much is in memory: so much that the file ends at a multiple of
 * WRITE_UNIT, if the rest fits. */
static apr_status_t spill_over(fcgi_spool *spool)
{
    apr_size_t memory = spool->limits.memory;
    apr_off_t end = spool->file_end + (apr_off_t)spool->memory_len;
    apr_size_t rest = (apr_size_t)(end % WRITE_UNIT);

    if (spool->memory_len <= memory) {
        return APR_SUCCESS;
    }
    return spill_until(spool, rest <= memory ? rest : 0);
}

apr_status_t fcgi_spool_add(fcgi_spool *spool, apr_bucket_brigade *bb)
{
    apr_status_t spilled = APR_SUCCESS;

    begin(spool);
    while (!APR_BRIGADE_EMPTY(bb)) {
        apr_status_t rv = add_first(spool, bb);

        if (rv != APR_SUCCESS) {
            return rv;
        }
        if (spilled == APR_SUCCESS) {
            spilled = spill_over(spool);
        }
    }
    return spilled;
}

apr_status_t fcgi_spool_write(fcgi_spool *spool, const char *data,
                              apr_size_t len)
{
    if ((apr_off_t)len > fcgi_spool_room(spool)) {
        return APR_INCOMPLETE;
    }
    begin(spool);
    pack(spool, data, len);
    return spill_over(spool);
}

/*
 * One more handle of the file, to be given away. It is opened, for a duplicate
 * shares its position with others that other threads read, and httpd may
 * start a program before it can be told to close it; where there is no /proc,
 * a duplicate has to do.
 */
static apr_status_t open_given(fcgi_spool *spool, apr_file_t **file)
{
    apr_os_file_t fd;
    apr_status_t rv = apr_os_file_get(&fd, spool->reader);

    if (rv == APR_SUCCESS
        && open_again(spool, fd, spool->given, file) == APR_SUCCESS) {
        return APR_SUCCESS;
    }
    rv = apr_file_dup(file, spool->reader, spool->given);
    if (rv == APR_SUCCESS) {
        rv = apr_os_file_get(&fd, *file);
    }
    if (rv == APR_SUCCESS && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        rv = APR_FROM_OS_ERROR(errno); /* never: it is open */
    }
    return rv;
}

/* Bytes of the spool's file, as a bucket that reads in the pool of what was
 * given away; own asks for a handle of its own. */
static apr_status_t lend(fcgi_spool *spool, apr_off_t start, apr_size_t len,
                         int own, apr_bucket **lent)
{
    apr_file_t *file = spool->reader;
    apr_status_t rv = APR_SUCCESS;

    if (!spool->given) {
        apr_pool_create(&spool->given, spool->pool);
    }
    if (own) {
        rv = open_given(spool, &file);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    *lent =
        apr_bucket_file_create(file, start, len, spool->given, spool->list);
    apr_bucket_file_enable_mmap(*lent, 0);
    apr_bucket_file_set_buf_size(*lent, own ? GIVEN_PIECE : READ_PIECE);
    return APR_SUCCESS;
}

/* Moves the first bucket, or max bytes of it, to the end of bb. */
static apr_status_t move_first(fcgi_spool *spool, apr_bucket_brigade *bb,
                               apr_off_t max, int own)
{
    apr_bucket *bucket = APR_BRIGADE_FIRST(spool->bb);
    apr_bucket *moved = bucket;

    if ((apr_off_t)bucket->length > max) {
        apr_bucket_split(bucket, (apr_size_t)max);
    }
    if (is_in_file(bucket)) {
        apr_status_t rv =
            lend(spool, bucket->start, bucket->length, own, &moved);

        if (rv != APR_SUCCESS) {
            return rv;
        }
    }
    else {
        spool->memory_len -= bucket->length;
    }
    spool->len -= (apr_off_t)bucket->length;
    APR_BUCKET_REMOVE(bucket);
    if (moved != bucket) {
        apr_bucket_destroy(bucket);
    }
    APR_BRIGADE_INSERT_TAIL(bb, moved);
    return APR_SUCCESS;
}

static apr_status_t move(fcgi_spool *spool, apr_bucket_brigade *bb,
                         apr_off_t max, int own)
{
    apr_off_t end = max < spool->len ? spool->len - max : 0;
    apr_status_t rv = APR_SUCCESS;

    while (rv == APR_SUCCESS && spool->len > end) {
        rv = move_first(spool, bb, spool->len - end, own);
    }
    return rv;
}

apr_status_t fcgi_spool_take(fcgi_spool *spool, apr_bucket_brigade *bb,
                             apr_off_t max)
{
    return move(spool, bb, max, 0);
}

apr_status_t fcgi_spool_give(fcgi_spool *spool, apr_bucket_brigade *bb,
                             apr_off_t max)
{
    return move(spool, bb, max, 1);
}

/* A copy of len bytes of a bucket, from start in it. */
static apr_status_t copy_part(fcgi_spool *spool, apr_bucket *bucket,
                              apr_size_t start, apr_size_t len,
                              apr_bucket **copy)
{
    apr_status_t rv;

    if (is_in_file(bucket)) {
        return lend(spool, bucket->start + (apr_off_t)start, len, 0, copy);
    }
    rv = apr_bucket_copy(bucket, copy);
    if (rv == APR_SUCCESS) {
        (*copy)->start += (apr_off_t)start; /* as apr_bucket_split() does */
        (*copy)->length = len;
    }
    return rv;
}

apr_status_t fcgi_spool_copy(fcgi_spool *spool, apr_bucket_brigade *bb,
                             apr_off_t from, apr_off_t max)
{
    apr_bucket *bucket, *copy;

    if (!spool->len) {
        return APR_SUCCESS;
    }
    for (bucket = APR_BRIGADE_FIRST(spool->bb);
         max > 0 && bucket != APR_BRIGADE_SENTINEL(spool->bb);
         bucket = APR_BUCKET_NEXT(bucket)) {
        apr_off_t len = (apr_off_t)bucket->length - from;

        if (len > 0) {
            apr_status_t rv;

            len = len < max ? len : max;
            rv = copy_part(spool, bucket, (apr_size_t)from, (apr_size_t)len,
                           &copy);
            if (rv != APR_SUCCESS) {
                return rv; /* never, of memory or the spool's own handle */
            }
            APR_BRIGADE_INSERT_TAIL(bb, copy);
            max -= len;
        }
        from = len > 0 ? 0 : from - (apr_off_t)bucket->length;
    }
    return APR_SUCCESS;
}

void fcgi_spool_clear(fcgi_spool *spool)
{
    if (spool->bb) {
        apr_brigade_cleanup(spool->bb);
    }
    if (spool->block) {
        apr_brigade_cleanup(spool->block);
    }
    spool->len = 0;
    spool->memory_len = 0;
}

void fcgi_spool_shrink(fcgi_spool *spool)
{
    apr_bucket *block;

    if (!spool->block) {
        return;
    }
    block = APR_BRIGADE_FIRST(spool->block);
    if (block != APR_BRIGADE_SENTINEL(spool->block)
        && ((const apr_bucket_heap *)block->data)->refcount.refcount == 1) {
        apr_bucket_delete(block);
    }
}

void fcgi_spool_reclaim(fcgi_spool *spool)
{
    if (spool->given) {
        apr_pool_clear(spool->given);
    }
    if (spool->file_end && !spool->len
        && apr_file_trunc(spool->file, 0) == APR_SUCCESS) {
        spool->file_end = 0;
    }
}
