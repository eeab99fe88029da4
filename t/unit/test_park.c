/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * test_park.c - what fcgi_park.h promises, with socket pairs whose other ends
 * the test has. Whoever polls is poll(), as httpd's MPM would. Knows nothing of
 * httpd; t/08-park.t compiles and runs it.
 */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_portable.h>

#include "fcgi_park.h"

/* What is to happen happens within this time, in milliseconds; what is not is
 * waited for so long. */
#define PATIENCE 20000
#define MOMENT   20

#define ROUNDS 2000

static apr_pool_t *pool;

/* A socket, and the other end's descriptor. */
typedef struct pair {
    apr_socket_t *socket;
    int fd;    /* of socket */
    int other; /* -1: closed */
} pair;

typedef struct scene {
    fcgi_park park;
    pair client, application;
} scene;

static void make_pair(pair *p)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    p->socket = NULL;
    p->fd = fds[0];
    p->other = fds[1];
    assert_int_equal(apr_os_sock_put(&p->socket, &fds[0], pool), APR_SUCCESS);
}

static void make_scene(scene *s)
{
    make_pair(&s->client);
    make_pair(&s->application);
    fcgi_park_init(&s->park);
    assert_int_equal(fcgi_park_open(&s->park), APR_SUCCESS);
}

static void close_pair(pair *p)
{
    close(p->fd);
    if (p->other >= 0) {
        close(p->other);
    }
}

static void end_scene(scene *s)
{
    fcgi_park_close(&s->park);
    close_pair(&s->client);
    close_pair(&s->application);
}

static int descriptor(const pair *p)
{
    apr_os_sock_t fd;

    assert_int_equal(apr_os_sock_get(&fd, p->socket), APR_SUCCESS);
    return fd;
}

static void leave(scene *s, int wants, fcgi_instant wake_at)
{
    fcgi_wait wait = { wants, wake_at, 0 };

    fcgi_park_watch(&s->park, s->client.socket, s->application.socket, &wait);
    fcgi_park_swap_in(&s->park, s->client.socket);
}

/* True if whoever polls the client's socket is told something. */
static int is_told(const scene *s, int timeout)
{
    struct pollfd pfd = { descriptor(&s->client), POLLIN, 0 };

    return poll(&pfd, 1, timeout) == 1;
}

static int come_back(scene *s)
{
    fcgi_park_swap_out(&s->park, s->client.socket);
    assert_int_equal(descriptor(&s->client), s->client.fd);
    return fcgi_park_look(&s->park);
}

static void say(const pair *p)
{
    assert_int_equal(write(p->other, "x", 1), 1);
}

static void each_is_told(void **state)
{
    scene s;

    (void)state;
    make_scene(&s);
    leave(&s, FCGI_WANTS_READ | FCGI_WANTS_CLIENT, 0);
    assert_int_not_equal(descriptor(&s.client), s.client.fd);
    assert_false(is_told(&s, MOMENT));
    say(&s.application);
    assert_true(is_told(&s, PATIENCE));
    assert_int_equal(come_back(&s), FCGI_WANTS_READ);

    leave(&s, FCGI_WANTS_CLIENT, 0); /* of the other one nothing is wanted */
    assert_false(is_told(&s, MOMENT));
    say(&s.client);
    assert_true(is_told(&s, PATIENCE));
    assert_int_equal(come_back(&s), FCGI_WANTS_CLIENT);

    leave(&s, FCGI_WANTS_CLIENT_WRITE, 0);
    assert_true(is_told(&s, PATIENCE));
    assert_int_equal(come_back(&s), FCGI_WANTS_CLIENT_WRITE);
    leave(&s, FCGI_WANTS_WRITE | FCGI_WANTS_READ, 0);
    assert_true(is_told(&s, PATIENCE));
    assert_int_equal(come_back(&s), FCGI_WANTS_WRITE | FCGI_WANTS_READ);
    end_scene(&s);
}

static void an_end_is_told(void **state)
{
    scene s;

    (void)state;
    make_scene(&s);
    leave(&s, FCGI_WANTS_CLIENT_END, 0);
    say(&s.client); /* is not what is wanted */
    assert_false(is_told(&s, MOMENT));
    close(s.client.other);
    s.client.other = -1;
    assert_true(is_told(&s, PATIENCE));
    assert_true(come_back(&s) & FCGI_WANTS_CLIENT_END);

    leave(&s, FCGI_WANTS_READ, 0); /* nobody wants to know of it again */
    assert_false(is_told(&s, MOMENT));
    end_scene(&s);
}

/* The next connection may get the number of the one before. */
static void another_application(void **state)
{
    scene s;

    (void)state;
    make_scene(&s);
    leave(&s, FCGI_WANTS_READ, 0);
    come_back(&s);
    close_pair(&s.application);
    make_pair(&s.application);
    leave(&s, FCGI_WANTS_READ, 0);
    say(&s.application);
    assert_true(is_told(&s, PATIENCE));
    assert_int_equal(come_back(&s), FCGI_WANTS_READ);
    end_scene(&s);
}

static void deadlines_and_wakers(void **state)
{
    scene s;
    fcgi_instant now;

    (void)state;
    make_scene(&s);
    now = fcgi_clock_now();
    leave(&s, FCGI_WANTS_READ, now + 30 * 1000);
    assert_true(is_told(&s, PATIENCE));
    assert_true(fcgi_clock_now() >= now + 30 * 1000);
    assert_int_equal(come_back(&s), 0);

    leave(&s, FCGI_WANTS_READ, now); /* is over */
    assert_true(is_told(&s, PATIENCE));
    come_back(&s);
    leave(&s, FCGI_WANTS_READ, 0); /* and set no more */
    assert_false(is_told(&s, MOMENT));
    fcgi_park_wake(&s.park);
    assert_true(is_told(&s, PATIENCE));
    come_back(&s);
    leave(&s, FCGI_WANTS_READ, 0);
    assert_false(is_told(&s, MOMENT));
    come_back(&s);

    fcgi_park_wake(&s.park); /* too early, and not lost */
    leave(&s, FCGI_WANTS_READ, now + 3600 * APR_USEC_PER_SEC);
    assert_true(is_told(&s, PATIENCE));
    end_scene(&s);
}

static void woken_before_it_is_open(void **state)
{
    scene s;

    (void)state;
    make_pair(&s.client);
    make_pair(&s.application);
    fcgi_park_init(&s.park);
    fcgi_park_wake(&s.park);
    assert_int_equal(fcgi_park_open(&s.park), APR_SUCCESS);
    leave(&s, FCGI_WANTS_READ, 0);
    assert_true(is_told(&s, PATIENCE));
    come_back(&s);
    end_scene(&s);
}

/* httpd closes what it finds in the socket. */
static void closed_meanwhile(void **state)
{
    scene s;
    char byte;

    (void)state;
    make_scene(&s);
    leave(&s, FCGI_WANTS_READ, 0);
    {
        apr_os_sock_t gone = -1;

        close(descriptor(&s.client));
        apr_os_sock_put(&s.client.socket, &gone, pool);
    }
    fcgi_park_swap_out(&s.park, s.client.socket);
    assert_int_equal(read(s.client.other, &byte, 1), 0); /* it is closed */
    fcgi_park_close(&s.park);
    close(s.client.other);
    close_pair(&s.application);
}

/* What is parked counts its wakings; none may be missed for good. */
typedef struct turns {
    scene s;
    pthread_mutex_t lock;
    int given; /* under lock */
} turns;

static void *give_turns(void *baton)
{
    turns *t = baton;
    int i;

    for (i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&t->lock);
        t->given++;
        pthread_mutex_unlock(&t->lock);
        fcgi_park_wake(&t->s.park);
    }
    return NULL;
}

static int given_so_far(turns *t)
{
    int given;

    pthread_mutex_lock(&t->lock);
    given = t->given;
    pthread_mutex_unlock(&t->lock);
    return given;
}

static void no_waking_is_lost(void **state)
{
    turns t;
    pthread_t giver;

    (void)state;
    make_scene(&t.s);
    t.given = 0;
    pthread_mutex_init(&t.lock, NULL);
    assert_int_equal(pthread_create(&giver, NULL, give_turns, &t), 0);
    while (given_so_far(&t) < ROUNDS) {
        leave(&t.s, FCGI_WANTS_READ, 0);
        assert_true(is_told(&t.s, PATIENCE));
        come_back(&t.s);
    }
    pthread_join(giver, NULL);
    pthread_mutex_destroy(&t.lock);
    end_scene(&t.s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_told),
        cmocka_unit_test(an_end_is_told),
        cmocka_unit_test(another_application),
        cmocka_unit_test(deadlines_and_wakers),
        cmocka_unit_test(woken_before_it_is_open),
        cmocka_unit_test(closed_meanwhile),
        cmocka_unit_test(no_waking_is_lost),
    };
    int failed;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}
