/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * test_spool.c - what fcgi_spool.h promises, against a model: a position in
 * an endless text of which every byte is known. Knows nothing but
 * fcgi_spool.h and APR; t/02-spool.t compiles and runs it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <apr_strings.h>

#include "fcgi_spool.h"

#define MEMORY 1000
#define MAX    100000
#define BLOCK  FCGI_SPOOL_BLOCK_LEN

struct fixture {
    apr_pool_t *pool;
    apr_bucket_alloc_t *list;
    fcgi_spool *spool;
    apr_bucket_brigade *bb; /* what goes in or came out */
    apr_off_t added;        /* where the text goes on */
    apr_off_t taken;        /* where what comes out has to go on */
    char dir[32];
    struct timespec dir_changed;
};

/* The byte of the text at that position. */
static char text_at(apr_off_t at)
{
    uint32_t mixed = (uint32_t)(at / 4) * 2654435761u;

    return (char)(mixed >> (8 * (at % 4)));
}

static int count_files(const char *dir)
{
    DIR *handle = opendir(dir);
    struct dirent *entry;
    int count = 0;

    assert_non_null(handle);
    while ((entry = readdir(handle))) {
        count += entry->d_name[0] != '.';
    }
    closedir(handle);
    return count;
}

static int count_open_files(void)
{
    return count_files("/proc/self/fd");
}

static void start_with(struct fixture *f, apr_size_t memory, apr_off_t max,
                       const char *dir)
{
    fcgi_spool_limits limits = { memory, max, dir, 0 };

    f->spool = fcgi_spool_create(f->pool, f->list, &limits);
    f->added = f->taken = 0;
}

static void start(struct fixture *f, apr_size_t memory, apr_off_t max)
{
    start_with(f, memory, max, f->dir);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct stat info;

    apr_pool_create(&f->pool, NULL);
    f->list = apr_bucket_alloc_create(f->pool);
    f->bb = apr_brigade_create(f->pool, f->list);
    strcpy(f->dir, "/tmp/fcgi-spool-test-XXXXXX");
    if (!mkdtemp(f->dir) || stat(f->dir, &info)) {
        return -1;
    }
    f->dir_changed = info.st_mtim;
    start(f, MEMORY, MAX);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    apr_pool_destroy(f->pool);
    rmdir(f->dir);
    free(f);
    return 0;
}

/* Writes the next len bytes of the text. */
static void write_text(struct fixture *f, char *bytes, apr_size_t len)
{
    apr_size_t i;

    for (i = 0; i < len; i++) {
        bytes[i] = text_at(f->added + (apr_off_t)i);
    }
    f->added += (apr_off_t)len;
}

static int buffers; /* that were made by put_buffer() and are not freed */
static apr_size_t largest_buffer; /* of them, in a test that sets it */

static void free_buffer(void *buffer)
{
    buffers--;
    free(buffer);
}

/* The next len bytes of the text into f->bb, in a bucket that keeps a buffer
 * of buffer_len bytes, as one that a socket was read into. */
static apr_bucket *put_buffer(struct fixture *f, apr_size_t len,
                              apr_size_t buffer_len)
{
    char *bytes = malloc(buffer_len + 1);
    apr_bucket *bucket;

    write_text(f, bytes, len);
    bucket = apr_bucket_heap_create(bytes, buffer_len, free_buffer, f->list);
    bucket->length = len;
    buffers++;
    APR_BRIGADE_INSERT_TAIL(f->bb, bucket);
    return bucket;
}

/* The same in a bucket of its own. */
static void put_text(struct fixture *f, apr_size_t len)
{
    put_buffer(f, len, len);
}

static apr_status_t add(struct fixture *f, apr_size_t len)
{
    put_text(f, len);
    return fcgi_spool_add(f->spool, f->bb);
}

static void assert_is_next(struct fixture *f, const char *data, apr_size_t len)
{
    apr_size_t i;

    for (i = 0; i < len; i++) {
        if (data[i] != text_at(f->taken + (apr_off_t)i)) {
            fail_msg("byte %ld is wrong", (long)(f->taken + (apr_off_t)i));
        }
    }
    f->taken += (apr_off_t)len;
}

/* Reads and drops what is in bb; returns how much it was. */
static apr_off_t check_bb(struct fixture *f, apr_bucket_brigade *bb)
{
    apr_off_t before = f->taken;

    while (!APR_BRIGADE_EMPTY(bb)) {
        apr_bucket *bucket = APR_BRIGADE_FIRST(bb);
        const char *data;
        apr_size_t len;

        assert_int_equal(apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ),
                         APR_SUCCESS);
        assert_is_next(f, data, len);
        apr_bucket_delete(bucket);
    }
    return f->taken - before;
}

static apr_off_t take(struct fixture *f, apr_off_t max)
{
    assert_int_equal(fcgi_spool_take(f->spool, f->bb, max), APR_SUCCESS);
    return check_bb(f, f->bb);
}

/* Takes all there is. What that is stands before it is taken: compilers are
 * free in the order of a call's arguments. */
static void take_all(struct fixture *f)
{
    apr_off_t held = f->added - f->taken;

    assert_int_equal(take(f, f->added), held);
}

static apr_off_t give(struct fixture *f, apr_off_t max)
{
    assert_int_equal(fcgi_spool_give(f->spool, f->bb, max), APR_SUCCESS);
    return check_bb(f, f->bb);
}

/* How much memory what is held keeps in truth: each buffer once. */
static apr_size_t memory_of(const fcgi_spool *spool)
{
    const apr_bucket *bucket, *before;
    apr_size_t sum = 0;

    if (!spool->bb) {
        return 0;
    }
    for (bucket = APR_BRIGADE_FIRST(spool->bb);
         bucket != APR_BRIGADE_SENTINEL(spool->bb);
         bucket = APR_BUCKET_NEXT(bucket)) {
        if (!APR_BUCKET_IS_HEAP(bucket)) {
            continue;
        }
        before = APR_BRIGADE_FIRST(spool->bb);
        while (before != bucket && before->data != bucket->data) {
            before = APR_BUCKET_NEXT(before);
        }
        if (before == bucket) {
            sum += ((const apr_bucket_heap *)bucket->data)->alloc_len;
        }
    }
    return sum;
}

static void assert_held(struct fixture *f)
{
    apr_off_t len = 0;

    assert_int_equal(f->spool->len, f->added - f->taken);
    if (f->spool->bb) {
        apr_brigade_length(f->spool->bb, 1, &len);
    }
    assert_int_equal(len, f->spool->len);
    assert_true((apr_off_t)f->spool->memory_len <= f->spool->len);
    assert_true(memory_of(f->spool)
                <= f->spool->memory_len / 3 * 4 + largest_buffer + 2 * BLOCK);
}

/* ---- the tests ---------------------------------------------------------- */

static void an_empty_spool_gives_nothing(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(take(f, 100), 0);
    assert_int_equal(give(f, 100), 0);
    assert_int_equal(fcgi_spool_spill(f->spool), APR_SUCCESS);
    fcgi_spool_reclaim(f->spool);
    fcgi_spool_clear(f->spool);
    assert_int_equal(fcgi_spool_add(f->spool, f->bb), APR_SUCCESS);
    assert_null(f->spool->file);
    assert_held(f);
}

static void a_file_is_made_beyond_the_memory_limit_only(void **state)
{
    struct fixture *f = *state;
    int open_files = count_open_files();

    assert_int_equal(add(f, MEMORY / 2), APR_SUCCESS);
    assert_int_equal(add(f, MEMORY / 2), APR_SUCCESS);
    assert_null(f->spool->file);
    assert_int_equal(count_open_files(), open_files);
    assert_int_equal(f->spool->memory_len, MEMORY);

    assert_int_equal(add(f, 1), APR_SUCCESS);
    assert_non_null(f->spool->file);
    /* one handle to write and one to give away */
    assert_int_equal(count_open_files(), open_files + 2);
    assert_int_equal(f->spool->memory_len, 0);
    assert_held(f);
    assert_int_equal(take(f, MAX), MEMORY + 1);
}

/* Pages of the file that are written in two parts cost twice. */
static void a_file_grows_by_whole_pages(void **state)
{
    const apr_off_t unit = 65536;
    struct fixture *f = *state;
    int i;

    start(f, (apr_size_t)unit, 10 * 1024 * 1024);
    for (i = 0; i < 400; i++) {
        assert_int_equal(add(f, i % 3 ? 8000 : 4711), APR_SUCCESS);
        assert_int_equal(f->spool->file_end % unit, 0);
        assert_true(f->spool->memory_len <= (apr_size_t)unit);
    }
    assert_held(f);
    assert_int_equal(fcgi_spool_spill(f->spool), APR_SUCCESS);
    assert_int_equal(f->spool->file_end, f->added);
    do { /* and again after an end anywhere */
        assert_int_equal(add(f, 8000), APR_SUCCESS);
    } while (f->spool->file_end % unit);
    assert_true(f->spool->memory_len <= (apr_size_t)unit);
    assert_held(f);
    assert_int_equal(take(f, f->added), f->added);
}

static void memory_is_used_again_after_it_was_taken(void **state)
{
    struct fixture *f = *state;
    int i;

    for (i = 0; i < 100; i++) {
        assert_int_equal(add(f, MEMORY), APR_SUCCESS);
        assert_int_equal(take(f, MEMORY), MEMORY);
    }
    assert_null(f->spool->file);
}

static void order_is_kept_from_memory_to_file_to_memory(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(add(f, 900), APR_SUCCESS);
    assert_int_equal(add(f, 900), APR_SUCCESS); /* both to the file */
    assert_int_equal(add(f, 900), APR_SUCCESS); /* in memory behind it */
    assert_int_equal(f->spool->memory_len, 900);
    assert_int_equal(take(f, 2000), 2000);
    assert_int_equal(add(f, 900), APR_SUCCESS); /* to the file again */
    assert_held(f);
    assert_int_equal(take(f, MAX), 1600);
    assert_held(f);
}

static void any_split_gives_the_same_bytes(void **state)
{
    struct fixture *f = *state;
    apr_off_t at;

    for (at = 0; at <= 2600; at++) {
        start(f, MEMORY, MAX);
        assert_int_equal(add(f, 1100), APR_SUCCESS);
        assert_int_equal(add(f, 700), APR_SUCCESS);
        assert_int_equal(add(f, 800), APR_SUCCESS);
        assert_int_equal(take(f, at), at);
        assert_held(f);
        assert_int_equal(give(f, MAX), 2600 - at);
        assert_held(f);
        apr_file_close(f->spool->file);
        apr_pool_cleanup_kill(f->pool, f->spool->file,
                              (apr_status_t(*)(void *))apr_file_close);
    }
}

static void many_pieces_go_to_the_file_in_order(void **state)
{
    struct fixture *f = *state;
    int i;

    for (i = 0; i < 500; i++) { /* more than one gathered write */
        put_text(f, (apr_size_t)(i % 7) + 1);
    }
    assert_int_equal(fcgi_spool_add(f->spool, f->bb), APR_SUCCESS);
    assert_int_equal(fcgi_spool_spill(f->spool), APR_SUCCESS);
    assert_int_equal(f->spool->memory_len, 0);
    assert_int_equal(f->spool->file_end, f->added);
    assert_int_equal(take(f, MAX), f->added);
}

static void metadata_is_dropped_and_other_buckets_are_read(void **state)
{
    struct fixture *f = *state;
    char transient[50];
    apr_size_t i;
    apr_bucket *eos = apr_bucket_eos_create(f->list);

    put_text(f, 10);
    APR_BRIGADE_INSERT_TAIL(f->bb, apr_bucket_flush_create(f->list));
    for (i = 0; i < sizeof(transient); i++) {
        transient[i] = text_at(f->added + (apr_off_t)i);
    }
    f->added += (apr_off_t)sizeof(transient);
    APR_BRIGADE_INSERT_TAIL(f->bb, apr_bucket_transient_create(
                                       transient, sizeof(transient), f->list));
    APR_BRIGADE_INSERT_TAIL(f->bb, eos);
    assert_int_equal(fcgi_spool_add(f->spool, f->bb), APR_SUCCESS);
    assert_true(APR_BRIGADE_EMPTY(f->bb));
    memset(transient, 0, sizeof(transient)); /* it was ours alone */
    assert_held(f);
    assert_int_equal(take(f, MAX), 60);
}

static void the_bound_is_kept(void **state)
{
    struct fixture *f = *state;
    apr_off_t room;

    start(f, MEMORY, 5000);
    assert_int_equal(fcgi_spool_room(f->spool), 5000);
    assert_int_equal(add(f, 4000), APR_SUCCESS);
    assert_int_equal(fcgi_spool_room(f->spool), 1000);
    assert_int_equal(add(f, 1001), APR_INCOMPLETE);
    assert_false(APR_BRIGADE_EMPTY(f->bb)); /* the rest is left */
    apr_brigade_cleanup(f->bb);
    f->added -= 1001;
    assert_held(f);
    assert_int_equal(add(f, 1000), APR_SUCCESS);
    assert_int_equal(add(f, 1), APR_INCOMPLETE);
    apr_brigade_cleanup(f->bb);
    f->added--;
    assert_true(fcgi_spool_room(f->spool) <= 0);
    assert_int_equal(take(f, MAX), 5000);
    fcgi_spool_reclaim(f->spool);
    room = fcgi_spool_room(f->spool);
    assert_int_equal(room, 5000);
}

/* However it is filled and drained, the file never exceeds the bound, and
 * what there is said to be room for is taken. */
static void the_file_never_exceeds_the_bound(void **state)
{
    struct fixture *f = *state;
    int round;

    srand(7);
    for (round = 0; round < 3000; round++) {
        apr_off_t room;

        if (round % 300 == 0) {
            take_all(f);
            start(f, MEMORY, 20000);
        }
        room = fcgi_spool_room(f->spool);
        if (room > 0) {
            apr_off_t len = 1 + rand() % (room > 3000 ? 3000 : room);

            while (len > 400) { /* several buckets, as records come */
                put_text(f, 400);
                len -= 400;
            }
            put_text(f, (apr_size_t)len);
            assert_int_equal(fcgi_spool_add(f->spool, f->bb), APR_SUCCESS);
        }
        assert_true(f->spool->file_end <= 20000);
        assert_true(f->spool->len <= 20000);
        take(f, rand() % 2500);
        if (rand() % 50 == 0) {
            take(f, MAX);
            fcgi_spool_reclaim(f->spool);
        }
        assert_held(f);
    }
}

static void random_adds_and_takes_agree_with_the_model(void **state)
{
    struct fixture *f = *state;
    int round;

    srand(42);
    start(f, MEMORY, (apr_off_t)1 << 40);
    for (round = 0; round < 20000; round++) {
        switch (rand() % 8) {
        case 0:
        case 1:
        case 2:
            put_text(f, (apr_size_t)(rand() % 700));
            put_text(f, (apr_size_t)(rand() % 700));
            assert_int_equal(fcgi_spool_add(f->spool, f->bb), APR_SUCCESS);
            break;
        case 3:
        case 4:
            take(f, rand() % 1500);
            break;
        case 5:
            give(f, rand() % 1500);
            break;
        case 6:
            assert_int_equal(fcgi_spool_spill(f->spool), APR_SUCCESS);
            assert_int_equal(f->spool->memory_len, 0);
            break;
        case 7:
            fcgi_spool_reclaim(f->spool); /* nothing taken is in use */
            break;
        }
        assert_held(f);
        assert_true(f->spool->memory_len <= MEMORY);
    }
    take_all(f);
}

static void nothing_is_ever_visible_in_the_directory(void **state)
{
    struct fixture *f = *state;
    struct stat info;
    int i;

    for (i = 0; i < 20; i++) {
        assert_int_equal(add(f, 3000), APR_SUCCESS);
        assert_int_equal(count_files(f->dir), 0);
        take(f, 2500);
    }
    assert_int_equal(stat(f->dir, &info), 0);
#ifdef O_TMPFILE
    /* no name came and went */
    assert_int_equal(info.st_mtim.tv_sec, f->dir_changed.tv_sec);
    assert_int_equal(info.st_mtim.tv_nsec, f->dir_changed.tv_nsec);
#endif
}

static void the_file_goes_with_the_pool(void **state)
{
    struct fixture *f = *state;
    int open_files = count_open_files();
    apr_pool_t *pool;
    fcgi_spool_limits limits = { MEMORY, MAX, f->dir, 0 };

    apr_pool_create(&pool, f->pool);
    f->spool = fcgi_spool_create(pool, f->list, &limits);
    assert_int_equal(add(f, 3000), APR_SUCCESS);
    give(f, 1000);
    assert_true(count_open_files() > open_files);
    fcgi_spool_clear(f->spool);
    apr_pool_destroy(pool);
    assert_int_equal(count_open_files(), open_files);
}

/* What httpd does with a file bucket that cannot be sent yet. */
static void what_was_given_survives_setaside_and_the_spool(void **state)
{
    struct fixture *f = *state;
    apr_pool_t *spool_pool, *other;
    fcgi_spool_limits limits = { MEMORY, MAX, f->dir, 0 };
    apr_bucket *bucket;

    apr_pool_create(&spool_pool, NULL);
    apr_pool_create(&other, NULL);
    f->spool = fcgi_spool_create(spool_pool, f->list, &limits);
    assert_int_equal(add(f, 3000), APR_SUCCESS);
    assert_int_equal(add(f, 500), APR_SUCCESS);
    assert_int_equal(fcgi_spool_give(f->spool, f->bb, 3500), APR_SUCCESS);
    assert_true(APR_BUCKET_IS_FILE(APR_BRIGADE_FIRST(f->bb)));
    for (bucket = APR_BRIGADE_FIRST(f->bb);
         bucket != APR_BRIGADE_SENTINEL(f->bb);
         bucket = APR_BUCKET_NEXT(bucket)) {
        assert_int_equal(apr_bucket_setaside(bucket, other), APR_SUCCESS);
    }
    apr_pool_destroy(spool_pool);
    assert_int_equal(check_bb(f, f->bb), 3500);
    apr_pool_destroy(other);
}

static void the_spool_goes_on_when_what_was_given_is_set_aside(void **state)
{
    struct fixture *f = *state;
    apr_bucket_brigade *given = apr_brigade_create(f->pool, f->list);
    apr_pool_t *other;
    apr_bucket *bucket;

    apr_pool_create(&other, NULL);
    assert_int_equal(add(f, 3000), APR_SUCCESS);
    assert_int_equal(fcgi_spool_give(f->spool, given, 1500), APR_SUCCESS);
    bucket = APR_BRIGADE_FIRST(given);
    assert_int_equal(apr_bucket_setaside(bucket, other), APR_SUCCESS);
    assert_int_equal(check_bb(f, given), 1500);
    apr_pool_destroy(other);
    assert_int_equal(add(f, 3000), APR_SUCCESS);
    assert_int_equal(f->spool->memory_len, 0);
    assert_int_equal(take(f, MAX), 4500);
}

static void what_was_given_stays_right_while_more_is_added(void **state)
{
    struct fixture *f = *state;
    apr_bucket_brigade *given = apr_brigade_create(f->pool, f->list);
    int i;

    assert_int_equal(add(f, 3000), APR_SUCCESS);
    assert_int_equal(fcgi_spool_give(f->spool, given, 1500), APR_SUCCESS);
    for (i = 0; i < 5; i++) {
        assert_int_equal(add(f, 2000), APR_SUCCESS);
        assert_int_equal(fcgi_spool_give(f->spool, given, 900), APR_SUCCESS);
    }
    assert_int_equal(check_bb(f, given), 1500 + 5 * 900);
    assert_int_equal(take(f, MAX), f->added - 1500 - 5 * 900);
}

static void reclaim_starts_the_file_again(void **state)
{
    struct fixture *f = *state;
    apr_finfo_t info;
    int open_files, i;

    assert_int_equal(add(f, 5000), APR_SUCCESS);
    open_files = count_open_files();
    for (i = 0; i < 50; i++) { /* 50 * 5000 is more than MAX */
        assert_int_equal(give(f, MAX), 5000);
        fcgi_spool_reclaim(f->spool);
        assert_int_equal(f->spool->file_end, 0);
        assert_int_equal(fcgi_spool_room(f->spool), MAX);
        assert_int_equal(
            apr_file_info_get(&info, APR_FINFO_SIZE, f->spool->file),
            APR_SUCCESS);
        assert_int_equal(info.size, 0);
        assert_int_equal(add(f, 5000), APR_SUCCESS);
        assert_int_equal(count_open_files(), open_files);
    }
    assert_int_equal(take(f, MAX), 5000);
}

static void reclaim_keeps_what_is_still_held(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(add(f, 5000), APR_SUCCESS);
    assert_int_equal(give(f, 2000), 2000);
    fcgi_spool_reclaim(f->spool);
    assert_held(f);
    assert_int_equal(add(f, 3000), APR_SUCCESS);
    assert_int_equal(take(f, MAX), 6000);
    fcgi_spool_reclaim(f->spool);
    assert_int_equal(add(f, 100), APR_SUCCESS); /* in memory */
    fcgi_spool_reclaim(f->spool);
    assert_int_equal(take(f, MAX), 100);
}

static void clear_drops_everything(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(add(f, 3000), APR_SUCCESS);
    assert_int_equal(add(f, 500), APR_SUCCESS);
    fcgi_spool_clear(f->spool);
    f->taken = f->added;
    assert_held(f);
    assert_int_equal(take(f, MAX), 0);
    fcgi_spool_reclaim(f->spool);
    assert_int_equal(fcgi_spool_room(f->spool), MAX);
    assert_int_equal(add(f, 3000), APR_SUCCESS);
    assert_int_equal(take(f, MAX), 3000);
}

static void a_missing_directory_leaves_all_in_memory(void **state)
{
    struct fixture *f = *state;
    apr_status_t rv;

    start_with(f, MEMORY, MAX, "/tmp/fcgi-spool-test-is-not-here");
    assert_int_equal(add(f, MEMORY), APR_SUCCESS);
    rv = add(f, 1);
    assert_true(APR_STATUS_IS_ENOENT(rv));
    assert_true(APR_BRIGADE_EMPTY(f->bb));
    assert_int_equal(f->spool->memory_len, MEMORY + 1);
    rv = fcgi_spool_spill(f->spool);
    assert_true(APR_STATUS_IS_ENOENT(rv));
    assert_held(f);
    assert_int_equal(take(f, 700), 700);
    assert_int_equal(add(f, 100), APR_SUCCESS);
    assert_int_equal(take(f, MAX), MEMORY + 1 - 700 + 100);
}

/* A file that may not grow stands for a disk that is full. */
static void a_full_disk_leaves_the_rest_in_memory(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, small;
    apr_finfo_t info;
    apr_status_t rv;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 5000;
    assert_int_equal(add(f, 3000), APR_SUCCESS);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    rv = add(f, 4000); /* the file takes a half of it */
    assert_int_equal(rv, EFBIG);
    assert_int_equal(f->spool->memory_len, 4000);
    assert_int_equal(f->spool->file_end, 3000);
    assert_held(f);
    assert_int_equal(apr_file_info_get(&info, APR_FINFO_SIZE, f->spool->file),
                     APR_SUCCESS);
    assert_int_equal(info.size, 3000);
    assert_int_equal(take(f, 3500), 3500);
    rv = add(f, 10);
    assert_int_equal(rv, EFBIG);

    /* there is space again */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(add(f, 2000), APR_SUCCESS);
    assert_int_equal(f->spool->memory_len, 0);
    assert_held(f);
    assert_int_equal(take(f, MAX), 3500 + 10 + 2000);
}

static void a_spool_without_a_directory_uses_the_systems(void **state)
{
    struct fixture *f = *state;

    start_with(f, MEMORY, MAX, NULL);
    assert_int_equal(add(f, 3000), APR_SUCCESS);
    assert_int_equal(f->spool->memory_len, 0);
    assert_int_equal(take(f, MAX), 3000);
}

#define MANY_FILES 1000

/* Adds and gives, so that all handles of a spool in dir are open; returns how
 * many of these a program would inherit, or -1 if something fails. */
static int count_inherited(struct fixture *f, const char *dir)
{
    char was_open[MANY_FILES];
    int fd, handles = 0, inherited = 0;

    for (fd = 0; fd < MANY_FILES; fd++) {
        was_open[fd] = fcntl(fd, F_GETFD) >= 0;
    }
    start_with(f, MEMORY, MAX, dir);
    put_text(f, 3000);
    if (fcgi_spool_add(f->spool, f->bb) != APR_SUCCESS
        || fcgi_spool_give(f->spool, f->bb, 2000) != APR_SUCCESS) {
        return -1;
    }
    for (fd = 0; fd < MANY_FILES; fd++) {
        int flags = was_open[fd] ? -1 : fcntl(fd, F_GETFD);

        handles += flags >= 0;
        inherited += flags >= 0 && !(flags & FD_CLOEXEC);
    }
    return check_bb(f, f->bb) == 2000 && handles == 3 ? inherited : -1;
}

static void a_program_inherits_nothing(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(count_inherited(f, f->dir), 0);
}

/* A process that sees nothing but its directory: the file has a name for a
 * moment, and what is given are duplicates. */
static void a_program_inherits_nothing_without_proc_either(void **state)
{
    struct fixture *f = *state;
    int status;
    pid_t pid;

    if (geteuid() != 0) {
        return; /* chroot() is for root */
    }
    pid = fork();
    if (!pid) {
        _exit(chroot(f->dir) || chdir("/") ? 100 : count_inherited(f, "/"));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(count_files(f->dir), 0);
}

/* A process that sees nothing at all, and can make nothing: its root is gone.
 * Returns 0 if all is held in memory then. */
static int hold_without_directory(struct fixture *f)
{
    char dir[] = "/tmp/fcgi-spool-test-XXXXXX";

    if (!mkdtemp(dir) || chdir(dir) || rmdir(dir) || chroot(".")) {
        return 100;
    }
    fcgi_spool_find_dir(f->pool);
    start_with(f, MEMORY, MAX, NULL);
    if (add(f, 3000) == APR_SUCCESS || f->spool->memory_len != 3000) {
        return 1;
    }
    return fcgi_spool_give(f->spool, f->bb, MAX) != APR_SUCCESS
           || check_bb(f, f->bb) != 3000;
}

static void without_any_directory_all_stays_in_memory(void **state)
{
    int status;
    pid_t pid;

    if (geteuid() != 0) {
        return; /* chroot() is for root */
    }
    pid = fork();
    if (!pid) {
        _exit(hold_without_directory(*state));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Gives while the process may open no more files. */
static apr_status_t give_without_descriptors(struct fixture *f)
{
    struct rlimit before, small;
    apr_status_t rv;
    int next = dup(0); /* the descriptor that would be the next */

    assert_true(next >= 0 && !close(next));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    small = before;
    small.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    rv = fcgi_spool_give(f->spool, f->bb, 1000);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    return rv;
}

static void without_descriptors_what_is_held_stays(void **state)
{
    struct fixture *f = *state;
    apr_status_t rv;

    assert_int_equal(add(f, 3000), APR_SUCCESS);
    rv = give_without_descriptors(f);
    assert_int_equal(rv, EMFILE);
    assert_true(APR_BRIGADE_EMPTY(f->bb));
    assert_held(f);
    assert_int_equal(give(f, MAX), 3000);
}

/* Another thread reads what was given, while this one reads, too. */
static void what_was_given_has_positions_of_its_own(void **state)
{
    struct fixture *f = *state;
    apr_off_t at = 0;
    apr_file_t *first, *second;

    assert_int_equal(add(f, 3000), APR_SUCCESS);
    assert_int_equal(fcgi_spool_give(f->spool, f->bb, 1000), APR_SUCCESS);
    assert_int_equal(fcgi_spool_give(f->spool, f->bb, 1000), APR_SUCCESS);
    first = ((apr_bucket_file *)APR_BRIGADE_FIRST(f->bb)->data)->fd;
    second = ((apr_bucket_file *)APR_BRIGADE_LAST(f->bb)->data)->fd;
    assert_ptr_not_equal(first, second);
    at = 500;
    assert_int_equal(apr_file_seek(first, APR_SET, &at), APR_SUCCESS);
    at = 0;
    assert_int_equal(apr_file_seek(second, APR_CUR, &at), APR_SUCCESS);
    assert_int_equal(at, 0);
    assert_int_equal(check_bb(f, f->bb), 2000);
}

static void the_file_is_sent_as_it_is_if_that_is_allowed(void **state)
{
    struct fixture *f = *state;
    int sendfile;

    for (sendfile = 0; sendfile < 2; sendfile++) {
        apr_file_t *file;

        start(f, MEMORY, MAX);
        f->spool->limits.sendfile = sendfile;
        assert_int_equal(add(f, 3000), APR_SUCCESS);
        assert_int_equal(fcgi_spool_give(f->spool, f->bb, MAX), APR_SUCCESS);
        file = ((apr_bucket_file *)APR_BRIGADE_FIRST(f->bb)->data)->fd;
        assert_int_equal(
            !!(apr_file_flags_get(file) & APR_FOPEN_SENDFILE_ENABLED),
            sendfile);
        assert_int_equal(check_bb(f, f->bb), 3000);
    }
}

/* ---- small pieces ------------------------------------------------------- */

/* As a body comes that has a byte in each segment. */
static void a_byte_keeps_no_buffer(void **state)
{
    struct fixture *f = *state;
    int i;

    start(f, 8 * BLOCK, 10 * MAX);
    for (i = 0; i < 8 * BLOCK; i++) {
        put_buffer(f, 1, BLOCK);
        assert_int_equal(fcgi_spool_add(f->spool, f->bb), APR_SUCCESS);
        assert_int_equal(buffers, 0);
    }
    assert_null(f->spool->file);
    assert_int_equal(memory_of(f->spool), 8 * BLOCK);
    assert_held(f);
    assert_int_equal(take(f, MAX), 8 * BLOCK);
}

static int count_buckets(const struct fixture *f)
{
    const apr_bucket *bucket;
    int count = 0;

    for (bucket = APR_BRIGADE_FIRST(f->spool->bb);
         bucket != APR_BRIGADE_SENTINEL(f->spool->bb);
         bucket = APR_BUCKET_NEXT(bucket)) {
        count++;
    }
    return count;
}

/* A bucket itself is larger than a few bytes, whatever these keep. */
static void bytes_do_not_keep_a_bucket_each(void **state)
{
    struct fixture *f = *state;
    apr_bucket *bucket;

    start(f, MAX, MAX);
    bucket = put_buffer(f, 2 * BLOCK, 2 * BLOCK);
    apr_bucket_split(bucket, 2 * BLOCK - 1000);
    while ((bucket = APR_BUCKET_NEXT(bucket))->length > 1) {
        apr_bucket_split(bucket, 1);
    }
    while (f->added < 3 * BLOCK) {
        put_buffer(f, 1, 1);
    }
    assert_int_equal(fcgi_spool_add(f->spool, f->bb), APR_SUCCESS);
    assert_true(count_buckets(f) <= 4);
    assert_held(f);
    assert_int_equal(take(f, MAX), 3 * BLOCK);
}

static void what_is_well_used_stays_where_it_is(void **state)
{
    struct fixture *f = *state;
    const char *data;
    apr_size_t len;
    apr_bucket *bucket;

    start(f, 100000, MAX);
    bucket = put_buffer(f, 50000, 56000); /* three records in one read */
    apr_bucket_split(bucket, 20000);
    apr_bucket_split(APR_BUCKET_NEXT(bucket), 20000);
    apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ);
    assert_int_equal(fcgi_spool_add(f->spool, f->bb), APR_SUCCESS);
    assert_int_equal(f->spool->memory_len, 50000);
    assert_int_equal(memory_of(f->spool), 56000);
    bucket = APR_BRIGADE_FIRST(f->spool->bb);
    assert_ptr_equal(((apr_bucket_heap *)bucket->data)->base, data);

    assert_int_equal(take(f, 49999), 49999);
    assert_int_equal(memory_of(f->spool), 56000);
    assert_int_equal(take(f, 1), 1);
    assert_int_equal(buffers, 0);
}

static void what_is_badly_used_is_copied(void **state)
{
    struct fixture *f = *state;
    apr_bucket *bucket;

    start(f, MAX, MAX);
    put_buffer(f, 5000, 56000);
    assert_int_equal(fcgi_spool_add(f->spool, f->bb), APR_SUCCESS);
    assert_int_equal(buffers, 0);
    assert_int_equal(memory_of(f->spool), BLOCK);

    bucket = put_buffer(f, 56000, 56000); /* of which all but 5000 is copied */
    apr_bucket_split(bucket, 5000);
    while ((bucket = APR_BUCKET_NEXT(bucket))->length > 1000) {
        apr_bucket_split(bucket, 1000);
    }
    assert_int_equal(fcgi_spool_add(f->spool, f->bb), APR_SUCCESS);
    assert_int_equal(buffers, 0);
    assert_int_equal(memory_of(f->spool), 8 * BLOCK);
    assert_held(f);
    assert_int_equal(take(f, MAX), 61000);
}

static void random_pieces_agree_with_the_model(void **state)
{
    static const apr_size_t sizes[] = { 1, 20, 4000, 9000, 30000 };
    struct fixture *f = *state;
    int round;

    srand(66);
    largest_buffer = 39000;
    start(f, 40000, (apr_off_t)1 << 40);
    for (round = 0; round < 1000; round++) {
        apr_size_t max = sizes[rand() % 5];
        int count = rand() % 20;

        while (count--) {
            apr_size_t len = 1 + (apr_size_t)rand() % max;
            apr_size_t unused = rand() % 2 ? (apr_size_t)rand() % 9000 : 0;

            apr_bucket_split(put_buffer(f, len, len + unused),
                             (apr_size_t)rand() % len);
        }
        assert_int_equal(fcgi_spool_add(f->spool, f->bb), APR_SUCCESS);
        assert_true(f->spool->memory_len <= 40000);
        assert_held(f);
        if (rand() % 2) {
            take(f, rand() % (int)max);
        }
        else {
            give(f, rand() % 60000);
        }
        assert_held(f);
        if (rand() % 20 == 0) {
            assert_int_equal(fcgi_spool_spill(f->spool), APR_SUCCESS);
            fcgi_spool_reclaim(f->spool);
            assert_held(f);
        }
    }
    take_all(f);
    assert_held(f);
    assert_int_equal(buffers, 0);
    largest_buffer = 0;
}

static void a_block_is_used_again(void **state)
{
    struct fixture *f = *state;
    const apr_bucket *block;
    const void *data;
    int i;

    assert_int_equal(add(f, 1), APR_SUCCESS);
    block = APR_BRIGADE_FIRST(f->spool->block);
    data = ((const apr_bucket_heap *)block->data)->base;
    for (i = 0; i < 10 * BLOCK; i++) {
        assert_int_equal(take(f, 1), 1);
        assert_int_equal(add(f, 1), APR_SUCCESS);
        block = APR_BRIGADE_FIRST(f->spool->block);
        assert_ptr_equal(((const apr_bucket_heap *)block->data)->base, data);
    }
}

/* What was taken of a block stays as it is while the block is filled. */
static void what_was_taken_of_a_block_is_not_touched(void **state)
{
    struct fixture *f = *state;
    apr_bucket_brigade *taken = apr_brigade_create(f->pool, f->list);
    int i;

    for (i = 0; i < 3 * BLOCK; i++) {
        assert_int_equal(add(f, 1), APR_SUCCESS);
        if (i % 100 == 99) {
            assert_int_equal(fcgi_spool_take(f->spool, taken, 100),
                             APR_SUCCESS);
        }
    }
    fcgi_spool_clear(f->spool);
    assert_int_equal(check_bb(f, taken), 3 * BLOCK);
}

/* The text begins with a byte that is added after what follows it. */
static void a_part_of_a_block_can_come_back(void **state)
{
    struct fixture *f = *state;
    apr_bucket_brigade *taken = apr_brigade_create(f->pool, f->list);

    start(f, 2 * BLOCK, MAX);
    f->added = 1;
    put_buffer(f, 6500, MAX);
    assert_int_equal(fcgi_spool_add(f->spool, f->bb), APR_SUCCESS);
    assert_int_equal(fcgi_spool_take(f->spool, taken, MAX), APR_SUCCESS);
    f->added = 0;
    assert_int_equal(add(f, 1), APR_SUCCESS);
    f->added += 6500;
    assert_int_equal(fcgi_spool_add(f->spool, taken), APR_SUCCESS);
    assert_int_equal(add(f, 1), APR_SUCCESS);
    assert_held(f);
    assert_int_equal(take(f, MAX), 6502);
}

static void fill_blocks(struct fixture *f, int len)
{
    start(f, 4 * BLOCK, 10 * MAX);
    while (len--) {
        put_buffer(f, 1, 10);
    }
    assert_int_equal(fcgi_spool_add(f->spool, f->bb), APR_SUCCESS);
}

static void copies_begin_anywhere_in_a_block(void **state)
{
    struct fixture *f = *state;
    int len = 2 * BLOCK + 700, from, max;

    fill_blocks(f, len);
    for (from = 0; from < len; from += 97) {
        for (max = 1; max < len; max += 1999) {
            int left = len - from;

            f->taken = from;
            assert_int_equal(fcgi_spool_copy(f->spool, f->bb, from, max),
                             APR_SUCCESS);
            assert_int_equal(check_bb(f, f->bb), max < left ? max : left);
        }
    }
    f->taken = 0;
    assert_held(f);
    assert_int_equal(take(f, MAX), len);
}

static void any_split_of_blocks_gives_the_same_bytes(void **state)
{
    struct fixture *f = *state;
    int len = 2 * BLOCK + 700, at;

    for (at = 0; at <= len; at += 193) {
        fill_blocks(f, len);
        assert_int_equal(take(f, at), at);
        assert_held(f);
        assert_int_equal(give(f, MAX), len - at);
        assert_held(f);
    }
}

static void a_block_that_was_begun_goes_to_the_file(void **state)
{
    struct fixture *f = *state;
    int len = BLOCK + 700, at;

    for (at = 0; at < len; at += 1100) {
        fill_blocks(f, len);
        assert_int_equal(take(f, at), at);
        assert_int_equal(fcgi_spool_spill(f->spool), APR_SUCCESS);
        assert_int_equal(f->spool->memory_len, 0);
        assert_int_equal(f->spool->file_end, len - at);
        assert_int_equal(add(f, 300), APR_SUCCESS); /* on in memory */
        assert_held(f);
        assert_int_equal(f->spool->memory_len, 300);
        assert_int_equal(take(f, MAX), len - at + 300);
        apr_file_close(f->spool->file);
        apr_pool_cleanup_kill(f->pool, f->spool->file,
                              (apr_status_t(*)(void *))apr_file_close);
    }
}

static void without_a_file_small_pieces_stay_small(void **state)
{
    struct fixture *f = *state;
    apr_status_t rv = APR_SUCCESS;
    int i;

    start_with(f, MEMORY, MAX, "/tmp/fcgi-spool-test-is-not-here");
    for (i = 0; i < 3 * BLOCK; i++) {
        put_buffer(f, 1, BLOCK);
        rv = fcgi_spool_add(f->spool, f->bb);
        assert_int_equal(APR_STATUS_IS_ENOENT(rv), i >= MEMORY);
    }
    assert_int_equal(buffers, 0);
    assert_int_equal(memory_of(f->spool), 3 * BLOCK);
    assert_held(f);
    assert_int_equal(take(f, MAX), 3 * BLOCK);
}

static void bytes_are_written_whole_or_not_at_all(void **state)
{
    struct fixture *f = *state;
    char text[3 * MEMORY];

    start(f, MEMORY, 4 * MEMORY);
    write_text(f, text, 3 * MEMORY);
    assert_int_equal(fcgi_spool_write(f->spool, text, MEMORY), APR_SUCCESS);
    assert_null(f->spool->file);
    assert_int_equal(fcgi_spool_write(f->spool, text + MEMORY, 2 * MEMORY),
                     APR_SUCCESS);
    assert_int_equal(f->spool->file_end, 3 * MEMORY);
    assert_int_equal(fcgi_spool_write(f->spool, text, MEMORY + 1),
                     APR_INCOMPLETE);
    memset(text, 0, sizeof(text));
    assert_held(f);
    assert_int_equal(take(f, MAX), 3 * MEMORY);
}

/* The same as the_file_never_exceeds_the_bound(), with reads as they come from
 * an application: pieces of a large buffer, some of them small. */
static void what_there_is_room_for_is_taken_in_any_pieces(void **state)
{
    struct fixture *f = *state;
    int round;

    srand(12);
    largest_buffer = 57344;
    start(f, 65536, 200000);
    for (round = 0; round < 2000; round++) {
        apr_off_t room = fcgi_spool_room(f->spool);

        if (room > 0) {
            apr_size_t len = room < 57344 ? (apr_size_t)room : 57344;
            apr_bucket *bucket;

            if (rand() % 2) {
                len = 1 + (apr_size_t)rand() % len;
            }
            bucket = put_buffer(f, len, 57344);
            while (bucket->length > 1) {
                apr_size_t at = rand() % 2 ? 9000 : 2000;

                at = 1 + (apr_size_t)rand() % at;
                if (at >= bucket->length) {
                    break;
                }
                apr_bucket_split(bucket, at);
                bucket = APR_BUCKET_NEXT(bucket);
            }
            assert_int_equal(fcgi_spool_add(f->spool, f->bb), APR_SUCCESS);
        }
        assert_true(f->spool->file_end <= 200000);
        assert_held(f);
        take(f, rand() % 40000);
        if (rand() % 100 == 0) {
            take(f, MAX * 10);
            fcgi_spool_reclaim(f->spool);
        }
    }
    largest_buffer = 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_spool_gives_nothing),
        TEST(a_file_is_made_beyond_the_memory_limit_only),
        TEST(a_file_grows_by_whole_pages),
        TEST(memory_is_used_again_after_it_was_taken),
        TEST(order_is_kept_from_memory_to_file_to_memory),
        TEST(any_split_gives_the_same_bytes),
        TEST(many_pieces_go_to_the_file_in_order),
        TEST(metadata_is_dropped_and_other_buckets_are_read),
        TEST(the_bound_is_kept),
        TEST(the_file_never_exceeds_the_bound),
        TEST(random_adds_and_takes_agree_with_the_model),
        TEST(nothing_is_ever_visible_in_the_directory),
        TEST(the_file_goes_with_the_pool),
        TEST(what_was_given_survives_setaside_and_the_spool),
        TEST(the_spool_goes_on_when_what_was_given_is_set_aside),
        TEST(what_was_given_stays_right_while_more_is_added),
        TEST(reclaim_starts_the_file_again),
        TEST(reclaim_keeps_what_is_still_held),
        TEST(clear_drops_everything),
        TEST(a_missing_directory_leaves_all_in_memory),
        TEST(a_full_disk_leaves_the_rest_in_memory),
        TEST(a_spool_without_a_directory_uses_the_systems),
        TEST(a_program_inherits_nothing),
        TEST(a_program_inherits_nothing_without_proc_either),
        TEST(without_any_directory_all_stays_in_memory),
        TEST(without_descriptors_what_is_held_stays),
        TEST(what_was_given_has_positions_of_its_own),
        TEST(the_file_is_sent_as_it_is_if_that_is_allowed),
        TEST(a_byte_keeps_no_buffer),
        TEST(bytes_do_not_keep_a_bucket_each),
        TEST(a_part_of_a_block_can_come_back),
        TEST(what_is_well_used_stays_where_it_is),
        TEST(what_is_badly_used_is_copied),
        TEST(random_pieces_agree_with_the_model),
        TEST(a_block_is_used_again),
        TEST(what_was_taken_of_a_block_is_not_touched),
        TEST(copies_begin_anywhere_in_a_block),
        TEST(any_split_of_blocks_gives_the_same_bytes),
        TEST(a_block_that_was_begun_goes_to_the_file),
        TEST(without_a_file_small_pieces_stay_small),
        TEST(bytes_are_written_whole_or_not_at_all),
        TEST(what_there_is_room_for_is_taken_in_any_pieces),
    };

    apr_initialize();
    return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
