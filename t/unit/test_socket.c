/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * test_socket.c - no call waits but reading where that is asked for, in either
 * mode of the socket. Compiled and run by t/08-socket.t.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <fcntl.h>
#include <sys/socket.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_portable.h>
#include <apr_signal.h>

#include "fcgi_socket.h"

static struct {
    apr_pool_t *pool;
    apr_socket_t *socket;
    int fd;    /* of socket */
    int other; /* the application's end */
} world;

static int setup(void **state)
{
    int fds[2];

    (void)state;
    world.socket = NULL;
    if (apr_pool_create(&world.pool, NULL) != APR_SUCCESS
        || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds)) {
        return -1;
    }
    world.fd = fds[0];
    world.other = fds[1];
    return apr_os_sock_put(&world.socket, &fds[0], world.pool);
}

static int teardown(void **state)
{
    (void)state;
    close(world.fd);
    close(world.other);
    apr_pool_destroy(world.pool);
    return 0;
}

static void set_patient(int patient)
{
    assert_int_equal(fcgi_socket_set_patient(world.socket, patient),
                     APR_SUCCESS);
    assert_int_equal(!(fcntl(world.fd, F_GETFL) & O_NONBLOCK), patient);
}

/* Reads once; returns how many bytes, and how long that took. */
static apr_status_t read_some(int wait, apr_size_t *len,
                              apr_interval_time_t *took)
{
    static char bytes[100];
    apr_time_t from = apr_time_now();
    apr_status_t rv;

    *len = sizeof(bytes);
    rv = fcgi_socket_recv(world.socket, bytes, len, wait);
    *took = apr_time_now() - from;
    return rv;
}

static void say(const char *bytes)
{
    assert_int_equal(write(world.other, bytes, strlen(bytes)), strlen(bytes));
}

static void reading_waits_where_that_is_asked_for(void **state)
{
    apr_interval_time_t took;
    apr_size_t len;
    int patient;

    (void)state;
    for (patient = 0; patient < 2; patient++) {
        set_patient(patient);
        assert_true(APR_STATUS_IS_EAGAIN(read_some(patient, &len, &took)));
        assert_int_equal(len, 0);
        assert_true(!patient || took >= FCGI_SOCKET_PATIENCE);
        assert_true(APR_STATUS_IS_EAGAIN(read_some(0, &len, &took)));
        say("five!");
        assert_int_equal(read_some(patient, &len, &took), APR_SUCCESS);
        assert_int_equal(len, 5);
    }
    set_patient(0);
    assert_true(APR_STATUS_IS_EAGAIN(read_some(1, &len, &took)));
    shutdown(world.other, SHUT_WR);
    assert_int_equal(read_some(0, &len, &took), APR_EOF);
    assert_int_equal(len, 0);
}

/* It would wait for ever: nobody reads. */
static void writing_never_waits(void **state)
{
    static char bytes[1000000];
    struct iovec pieces[2] = { { bytes, sizeof(bytes) },
                               { bytes, sizeof(bytes) } };
    apr_size_t sent;

    (void)state;
    set_patient(1);
    assert_int_equal(fcgi_socket_send(world.socket, pieces, 2, &sent),
                     APR_SUCCESS);
    assert_true(sent > 0 && sent < 2 * sizeof(bytes));
    while (fcgi_socket_send(world.socket, pieces, 2, &sent) == APR_SUCCESS) {
    }
    assert_true(APR_STATUS_IS_EAGAIN(
        fcgi_socket_send(world.socket, pieces, 2, &sent)));
    assert_int_equal(sent, 0);
    close(world.other);
    assert_true(
        APR_STATUS_IS_EPIPE(fcgi_socket_send(world.socket, pieces, 2, &sent)));
    world.other = -1;
}

static void listening_takes_nothing(void **state)
{
    apr_interval_time_t took;
    apr_size_t len;

    (void)state;
    set_patient(1);
    assert_int_equal(fcgi_socket_listen(world.socket), FCGI_SOCKET_QUIET);
    say("x");
    assert_int_equal(fcgi_socket_listen(world.socket), FCGI_SOCKET_SAYS);
    assert_int_equal(read_some(0, &len, &took), APR_SUCCESS);
    assert_int_equal(len, 1);
    shutdown(world.other, SHUT_WR);
    assert_int_equal(fcgi_socket_listen(world.socket), FCGI_SOCKET_ENDED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reading_waits_where_that_is_asked_for),
        TEST(writing_never_waits),
        TEST(listening_takes_nothing),
    };

    apr_initialize();
    apr_signal(SIGPIPE, SIG_IGN); /* as httpd has it */
    return cmocka_run_group_tests_name("socket", tests, NULL, NULL);
}
