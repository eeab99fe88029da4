/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * test_spool.c - what fcgi_spool.h promises, against a model: a position in
 * an endless text of which every byte is known. Knows nothing but
 * fcgi_spool.h and APR; t/02-spool.t compiles and runs it.
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <apr_strings.h>

#include "fcgi_spool.h"

#define MEMORY 1000
#define MAX    100000

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
    fcgi_spool_limits limits = { memory, max, dir };

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

/* The next len bytes of the text, in a bucket of its own, into f->bb. */
static void put_text(struct fixture *f, apr_size_t len)
{
    char *bytes = malloc(len + 1);
    apr_size_t i;

    for (i = 0; i < len; i++) {
        bytes[i] = text_at(f->added + (apr_off_t)i);
    }
    f->added += (apr_off_t)len;
    APR_BRIGADE_INSERT_TAIL(f->bb,
                            apr_bucket_heap_create(bytes, len, free, f->list));
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

static apr_off_t give(struct fixture *f, apr_off_t max)
{
    assert_int_equal(fcgi_spool_give(f->spool, f->bb, max), APR_SUCCESS);
    return check_bb(f, f->bb);
}

static void assert_held(struct fixture *f)
{
    apr_off_t len;

    assert_int_equal(f->spool->len, f->added - f->taken);
    apr_brigade_length(f->spool->bb, 1, &len);
    assert_int_equal(len, f->spool->len);
    assert_true((apr_off_t)f->spool->memory_len <= f->spool->len);
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
            assert_int_equal(take(f, MAX), f->added - f->taken);
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
    assert_int_equal(take(f, f->added), f->added - f->taken);
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
    fcgi_spool_limits limits = { MEMORY, MAX, f->dir };

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
    fcgi_spool_limits limits = { MEMORY, MAX, f->dir };
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_spool_gives_nothing),
        TEST(a_file_is_made_beyond_the_memory_limit_only),
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
    };

    apr_initialize();
    return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
