/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * test_acquire.c - whoever waits for a connection always says what for, or
 * until when, however long a thread that asks is held up between two looks at
 * the clock. The clock is the test's; t/08-acquire.t compiles and runs it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "fcgi_acquire.h"

/* Trying, by the test's clock. */
#define LIMIT apr_time_from_msec(300)

/* More steps than that nobody needs. */
#define MAX_STEPS 100000

/* Connections that fill a backlog. */
#define FULL 16

static struct {
    apr_pool_t *pool;
    fcgi_backend *backend;
    char dir[64];
    char path[80];
    int sockets[FULL + 1]; /* who listens, and who waits there */
    int count;
} world;

/* Each look at the clock takes so long. */
static fcgi_instant now;
static apr_interval_time_t look;

fcgi_instant fcgi_clock_now(void)
{
    now += look;
    return now;
}

int fcgi_clock_wait(sem_t *semaphore, apr_interval_time_t at_most)
{
    (void)at_most;
    return sem_trywait(semaphore) == 0;
}

static int setup(void **state)
{
    fcgi_address *address;

    (void)state;
    memset(&world, 0, sizeof(world));
    strcpy(world.dir, "/tmp/acquire-XXXXXX");
    if (apr_pool_create(&world.pool, NULL) || !mkdtemp(world.dir)) {
        return -1;
    }
    snprintf(world.path, sizeof(world.path), "%s/socket", world.dir);
    if (fcgi_address_parse(world.pool,
                           apr_pstrcat(world.pool, "fcgi:", world.path, NULL),
                           &address)) {
        return -1;
    }
    world.backend = fcgi_backend_create(world.pool, address);
    now = 1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    while (world.count) {
        close(world.sockets[--world.count]);
    }
    unlink(world.path);
    apr_pool_destroy(world.pool);
    return rmdir(world.dir);
}

static void name_it(struct sockaddr_un *name)
{
    memset(name, 0, sizeof(*name));
    name->sun_family = AF_UNIX;
    strcpy(name->sun_path, world.path);
}

static int make_socket(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    assert_true(fd >= 0);
    world.sockets[world.count++] = fd;
    return fd;
}

/* Somebody listens, and has no room. */
static void fill_backlog(void)
{
    struct sockaddr_un name;

    name_it(&name);
    assert_int_equal(
        bind(make_socket(), (struct sockaddr *)&name, sizeof(name)), 0);
    assert_int_equal(listen(world.sockets[0], 0), 0);
    while (!connect(make_socket(), (struct sockaddr *)&name, sizeof(name))) {
        assert_true(world.count < FULL);
    }
}

/* Steps until there is an outcome; each step before says when the next is. */
static fcgi_outcome step_to_the_end(fcgi_acquire *acquire)
{
    fcgi_outcome outcome = fcgi_acquire_step(acquire);
    int steps = 0;

    for (; outcome == FCGI_OUTCOME_PENDING; steps++) {
        assert_true(steps < MAX_STEPS);
        assert_true(acquire->wait.wake_at > 0);
        if (acquire->wait.wake_at > now) {
            now = acquire->wait.wake_at;
        }
        outcome = fcgi_acquire_step(acquire);
    }
    return outcome;
}

static void try_with_looks_of(apr_interval_time_t time)
{
    fcgi_acquire acquire;

    look = time;
    fcgi_acquire_init(&acquire, world.backend, world.pool);
    acquire.connect = LIMIT;
    fcgi_acquire_begin(&acquire);
    assert_int_equal(step_to_the_end(&acquire), FCGI_OUTCOME_NO_CONNECT);
    assert_true(fcgi_backlog_is_empty(world.backend->backlog));
}

static void try_with_all_looks(void)
{
    apr_interval_time_t time;

    for (time = 0; time < LIMIT; time = time * 5 / 4 + 1) {
        try_with_looks_of(time);
    }
}

static void an_application_that_is_not_there_is_tried_to_the_end(void **state)
{
    (void)state;
    try_with_all_looks();
}

static void a_full_backlog_is_tried_to_the_end(void **state)
{
    (void)state;
    fill_backlog();
    try_with_all_looks();
}

/* Two of them: one is the first, the other waits to be called, or for the
 * end. */
static void behind_another_it_ends_too(void **state)
{
    fcgi_backlogged first = { 0 };
    fcgi_bell bell;

    (void)state;
    fill_backlog();
    fcgi_bell_init(&bell);
    fcgi_backlog_enter(world.backend->backlog, &first, &bell);
    for (look = 0; look < LIMIT; look = look * 5 / 4 + 1) {
        fcgi_acquire acquire;

        fcgi_acquire_init(&acquire, world.backend, world.pool);
        acquire.connect = LIMIT;
        fcgi_acquire_begin(&acquire);
        assert_int_equal(step_to_the_end(&acquire), FCGI_OUTCOME_NO_CONNECT);
    }
    fcgi_backlog_leave(world.backend->backlog, &first);
    assert_true(fcgi_backlog_is_empty(world.backend->backlog));
}

/* A port where somebody listens, and has no room for one more. */
static unsigned int fill_port(void)
{
    struct sockaddr_in name = { .sin_family = AF_INET };
    socklen_t len = sizeof(name);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    world.sockets[world.count++] = fd;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, len), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &len), 0);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    world.sockets[world.count++] = fd;
    assert_int_equal(connect(fd, (struct sockaddr *)&name, len), 0);
    return ntohs(name.sin_port);
}

/* Idle connections are given up for it in time: 5 ms. */
static void one_that_is_not_let_in_presses_in_time(void **state)
{
    fcgi_acquire acquire;
    fcgi_instant from;

    (void)state;
    look = 0;
    assert_null(fcgi_address_parse(
        world.pool, apr_psprintf(world.pool, "fcgi:127.0.0.1:%u", fill_port()),
        (fcgi_address **)&world.backend->address));
    fcgi_acquire_init(&acquire, world.backend, world.pool);
    acquire.connect = LIMIT;
    from = now;
    fcgi_acquire_begin(&acquire);
    assert_int_equal(fcgi_acquire_step(&acquire), FCGI_OUTCOME_PENDING);
    assert_false(acquire.conn->pressing);
    assert_int_equal(acquire.wait.wants, FCGI_WANTS_WRITE);
    assert_int_equal(acquire.wait.wake_at, from + apr_time_from_msec(5));
    now = acquire.wait.wake_at;
    assert_int_equal(fcgi_acquire_step(&acquire), FCGI_OUTCOME_PENDING);
    assert_true(acquire.conn->pressing);
    assert_int_equal(step_to_the_end(&acquire), FCGI_OUTCOME_NO_CONNECT);
}

static void one_that_finds_no_room_presses_at_once(void **state)
{
    fcgi_acquire acquire;

    (void)state;
    look = 0;
    fill_backlog();
    fcgi_acquire_init(&acquire, world.backend, world.pool);
    acquire.connect = LIMIT;
    fcgi_acquire_begin(&acquire);
    assert_int_equal(fcgi_acquire_step(&acquire), FCGI_OUTCOME_PENDING);
    assert_true(acquire.conn->pressing);
    assert_int_equal(step_to_the_end(&acquire), FCGI_OUTCOME_NO_CONNECT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_application_that_is_not_there_is_tried_to_the_end),
        TEST(a_full_backlog_is_tried_to_the_end),
        TEST(behind_another_it_ends_too),
        TEST(one_that_is_not_let_in_presses_in_time),
        TEST(one_that_finds_no_room_presses_at_once),
    };
    apr_pool_t *pool;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    if (fcgi_address_start(pool) != APR_SUCCESS) {
        return 1;
    }
    return cmocka_run_group_tests_name("acquire", tests, NULL, NULL);
}
