/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * test_driver.c - a bell that rings while a thread waits is heard by it, and
 * by who goes on if it rings when the thread is about to leave; it waits in
 * reading only where nothing else may happen. What is asked is the test's;
 * t/08-driver.t compiles and runs it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <apr_general.h>

#include <http_core.h>

#include "fcgi_driver.h"
#include "fcgi_socket.h"

/* What has to happen happens within this time. */
#define PATIENCE apr_time_from_sec(20)

static struct {
    apr_pool_t *pool;
    conn_rec connection;
    apr_socket_t *client; /* of nobody */
    request_rec r;
    fcgi_ask ask;
    fcgi_bell bell;
    int steps;
    int ends_at;    /* the step that ends it; 0: none does */
    int rings_at;   /* the step behind which it is rung; 0: none */
    int ring_late;  /* it is rung behind the last step */
    int is_patient; /* it can wait in reading, which here takes no time */
    int asked;      /* how often it was asked whether it can, */
    int reads;      /* and could */
    fcgi_instant until;
} world;

fcgi_outcome fcgi_ask_step(fcgi_ask *ask)
{
    world.steps++;
    ask->wait.said_at = fcgi_clock_now();
    if (world.steps == world.ends_at) {
        ask->result.outcome = FCGI_OUTCOME_DONE;
    }
    if (world.steps == world.rings_at
        || (world.ring_late && fcgi_clock_now() >= world.until)) {
        fcgi_bell_ring(&world.bell);
    }
    return ask->result.outcome;
}

void fcgi_ask_ready(fcgi_ask *ask, int ready)
{
    (void)ask;
    (void)ready;
}

int fcgi_ask_let_read_wait(fcgi_ask *ask)
{
    (void)ask;
    world.asked++;
    world.reads += world.is_patient;
    return world.is_patient;
}

apr_socket_t *fcgi_ask_socket(const fcgi_ask *ask)
{
    (void)ask;
    return NULL;
}

void fcgi_ask_may_wait(fcgi_ask *ask, int may_wait)
{
    (void)ask;
    (void)may_wait;
}

fcgi_bell *fcgi_ask_bell(fcgi_ask *ask)
{
    (void)ask;
    return &world.bell;
}

apr_socket_t *ap_get_conn_socket(conn_rec *c)
{
    (void)c;
    return world.client;
}

static int setup(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    if (apr_pool_create(&world.pool, NULL) != APR_SUCCESS
        || apr_socket_create(&world.client, APR_INET, SOCK_STREAM,
                             APR_PROTO_TCP, world.pool)
               != APR_SUCCESS) {
        return -1;
    }
    world.r.pool = world.pool;
    world.r.connection = &world.connection;
    world.ask.r = &world.r;
    world.ask.wait.wants = FCGI_WANTS_BELL;
    fcgi_bell_init(&world.bell);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(world.pool);
    return 0;
}

static void note_ring(void *baton)
{
    ++*(int *)baton;
}

/* How often it rings for who goes on. */
static int rings_later(void)
{
    int rings = 0;

    fcgi_bell_hang(&world.bell, note_ring, &rings);
    fcgi_bell_take_down(&world.bell);
    return rings;
}

static void run_for(apr_interval_time_t time)
{
    world.until = fcgi_clock_now() + time;
    fcgi_driver_run(&world.ask, world.until);
}

static void a_ring_ends_the_waiting(void **state)
{
    (void)state;
    world.rings_at = 1;
    world.ends_at = 2;
    run_for(PATIENCE);
    assert_true(fcgi_clock_now() < world.until);
    assert_int_equal(world.steps, 2);
    assert_int_equal(rings_later(), 0);
}

static void nothing_rings_for_who_goes_on_if_nothing_rang(void **state)
{
    (void)state;
    run_for(apr_time_from_msec(20));
    assert_int_equal(rings_later(), 0);
}

static void a_ring_behind_the_last_step_is_for_who_goes_on(void **state)
{
    (void)state;
    world.ring_late = 1;
    run_for(apr_time_from_msec(20));
    assert_true(world.steps > 1); /* it waited, and the bell was hung up */
    assert_int_equal(rings_later(), 1);
}

/* ---- waiting in reading ---- */

/* Three steps of what wants to read, and has to wake, or to end, then; 0: at no
 * time. The waits between that are not in reading end at once, as nobody is the
 * client. */
static void run_reading(int is_patient, fcgi_instant wake_at,
                        fcgi_instant until)
{
    world.asked = 0;
    world.reads = 0;
    world.steps = 0;
    world.ends_at = 3;
    world.is_patient = is_patient;
    world.ask.result.outcome = FCGI_OUTCOME_PENDING;
    world.ask.wait.wants = FCGI_WANTS_READ | FCGI_WANTS_CLIENT;
    world.ask.wait.wake_at = wake_at;
    fcgi_driver_run(&world.ask, until);
}

static void it_waits_in_reading_once(void **state)
{
    fcgi_instant later = fcgi_clock_now() + PATIENCE;

    (void)state;
    run_reading(1, 0, 0);
    assert_int_equal(world.reads, 1);
    run_reading(1, later, later);
    assert_int_equal(world.reads, 1);
    run_reading(0, 0, 0);
    assert_int_equal(world.asked, 2); /* before each wait */
    assert_int_equal(world.steps, 3);
}

static void it_does_not_with_less_time_than_that_takes(void **state)
{
    fcgi_instant now = fcgi_clock_now();

    (void)state;
    run_reading(1, now + FCGI_SOCKET_PATIENCE / 2, 0);
    assert_int_equal(world.asked, 0);
    run_reading(1, now + PATIENCE, now + FCGI_SOCKET_PATIENCE / 2);
    assert_int_equal(world.asked, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_ring_ends_the_waiting),
        TEST(nothing_rings_for_who_goes_on_if_nothing_rang),
        TEST(a_ring_behind_the_last_step_is_for_who_goes_on),
        TEST(it_waits_in_reading_once),
        TEST(it_does_not_with_less_time_than_that_takes),
    };

    apr_initialize();
    return cmocka_run_group_tests_name("driver", tests, NULL, NULL);
}
