/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * test_pool_races.c - many threads of one child take connections to three
 * applications, use them, and give them back, while connections expire, are
 * ended by the application, are pressed for, and in the end the child is told
 * to stop. t/06-races.t compiles and runs it under ThreadSanitizer; the
 * application is a thread that echoes bytes. Knows no FastCGI.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <apr_atomic.h>
#include <apr_general.h>
#include <apr_portable.h>
#include <apr_strings.h>

#include "fcgi_acquire.h"
#include "fcgi_backend.h"
#include "fcgi_idle.h"
#include "fcgi_notice.h"

#define BACKENDS    3
#define THREADS     12
#define CONNECTIONS 64

/* How long all goes on, before and after the child is told to stop. */
#define BEFORE_STOP apr_time_from_msec(3500)
#define AFTER_STOP  apr_time_from_msec(500)

/*
 * ThreadSanitizer sees what it has compiled, and libapr it has not: these five
 * take the place of APR's own, so that what they order, and plain accesses to
 * the same words, are seen. APR's mutexes and threads are pthread's, which it
 * knows.
 */
apr_uint32_t apr_atomic_read32(volatile apr_uint32_t *mem)
{
    return __atomic_load_n(mem, __ATOMIC_SEQ_CST);
}

void apr_atomic_set32(volatile apr_uint32_t *mem, apr_uint32_t val)
{
    __atomic_store_n(mem, val, __ATOMIC_SEQ_CST);
}

apr_uint32_t apr_atomic_inc32(volatile apr_uint32_t *mem)
{
    return __atomic_fetch_add(mem, 1, __ATOMIC_SEQ_CST);
}

int apr_atomic_dec32(volatile apr_uint32_t *mem)
{
    return __atomic_sub_fetch(mem, 1, __ATOMIC_SEQ_CST) != 0;
}

apr_uint32_t apr_atomic_cas32(volatile apr_uint32_t *mem, apr_uint32_t with,
                              apr_uint32_t cmp)
{
    __atomic_compare_exchange_n(mem, &cmp, with, 0, __ATOMIC_SEQ_CST,
                                __ATOMIC_SEQ_CST);
    return cmp;
}

/* ---- the application ---- */

/*
 * What a byte asks for: its echo, which ends the request; after that nothing,
 * the end of the connection, or a byte that belongs to no request.
 */
#define QUIET 'q'
#define END   'e'
#define STRAY 's'

struct application {
    pthread_t thread;
    int listener;
    int stop[2];                        /* a pipe; closed: it is to stop */
    struct pollfd fds[CONNECTIONS + 2]; /* the listener, stop, connections */
    nfds_t count;
    int most; /* connections that were open at a time */
    int carried;
    int stayed_open; /* when it stopped */
};

/* False if the other side has closed it, whatever is still to be read. */
static int is_open(int fd)
{
    struct pollfd end = { fd, POLLRDHUP, 0 };

    return poll(&end, 1, 0) == 0;
}

/* Every connection that has not ended by now was open at one moment: that
 * of the last accept. */
static int count_open(const struct application *app)
{
    int open = 0;
    nfds_t i;

    for (i = 2; i < app->count; i++) {
        open += is_open(app->fds[i].fd);
    }
    return open;
}

static void take_connections(struct application *app)
{
    int fd, open;

    while (app->count < CONNECTIONS + 2
           && (fd = accept(app->listener, NULL, NULL)) >= 0) {
        app->fds[app->count++] = (struct pollfd){ fd, POLLIN, 0 };
    }
    open = count_open(app);
    if (open > app->most) {
        app->most = open;
    }
}

/* False if the connection is over. */
static int echo(struct application *app, int fd)
{
    char byte;

    if (recv(fd, &byte, 1, 0) != 1 || send(fd, &byte, 1, MSG_NOSIGNAL) != 1) {
        return 0;
    }
    app->carried++;
    if (byte == STRAY) {
        return send(fd, &byte, 1, MSG_NOSIGNAL) == 1;
    }
    return byte != END;
}

static void *serve(void *data)
{
    struct application *app = data;
    nfds_t i;

    while (!app->fds[1].revents && poll(app->fds, app->count, -1) > 0) {
        if (app->fds[0].revents) {
            take_connections(app);
        }
        for (i = app->count - 1; i >= 2; i--) {
            if (app->fds[i].revents && !echo(app, app->fds[i].fd)) {
                close(app->fds[i].fd);
                app->fds[i] = app->fds[--app->count];
            }
        }
    }
    app->stayed_open = count_open(app);
    return NULL;
}

static void start_application(struct application *app, int listener)
{
    assert_true(listener >= 0);
    assert_int_equal(listen(listener, 128), 0);
    assert_int_equal(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(pipe(app->stop), 0);
    app->listener = listener;
    app->fds[0] = (struct pollfd){ listener, POLLIN, 0 };
    app->fds[1] = (struct pollfd){ app->stop[0], POLLIN, 0 };
    app->count = 2;
    assert_int_equal(pthread_create(&app->thread, NULL, serve, app), 0);
}

static void stop_application(struct application *app)
{
    nfds_t i;

    close(app->stop[1]);
    pthread_join(app->thread, NULL);
    close(app->stop[0]);
    close(app->listener);
    for (i = 2; i < app->count; i++) {
        close(app->fds[i].fd);
    }
}

/* ---- what the threads do ---- */

/* How often something happened, in all threads. */
struct counts {
    apr_uint32_t served, again, refused, gone, ended, wrong, strays;
};

static struct counts counts;
static apr_uint32_t is_over; /* the threads are to end */

static void count(apr_uint32_t *what)
{
    apr_atomic_inc32(what);
}

static void report_stray(const char *backend)
{
    count(*backend ? &counts.strays : &counts.wrong);
}

static int has_to_stop(void)
{
    return 0;
}

static const fcgi_idle_hooks hooks = { has_to_stop, 0, report_stray };

struct client {
    pthread_t thread;
    fcgi_backend **backends;
    apr_pool_t *pool;
    unsigned int seed;
    int leaves; /* this time, while it waits */
};

/* One chance in so many. */
static int perhaps(struct client *client, int chances)
{
    return rand_r(&client->seed) % chances == 0;
}

static void sleep_for(apr_interval_time_t time)
{
    struct timespec left = { 0, (long)time * 1000 };

    while (nanosleep(&left, &left) && errno == EINTR) {
    }
}

/* ---- getting a connection, as a thread that waits ---- */

/* What is done each time that it waits. */
typedef apr_status_t at_wait(void *baton);

static void post(void *called)
{
    sem_post(called);
}

/* Until the bell rings, or it is time; 50 ms at most. */
static void wait_for(const fcgi_acquire *acquire, sem_t *called)
{
    apr_interval_time_t left = apr_time_from_msec(50);
    fcgi_instant now = fcgi_clock_now(), wake_at = acquire->wait.wake_at;

    if (wake_at && wake_at - now < left) {
        left = wake_at > now ? wake_at - now : 0;
    }
    fcgi_clock_wait(called, left);
}

/* Steps until it has ended, or the client has left, as tells at. */
static fcgi_conn *acquire_patiently(fcgi_acquire *acquire, at_wait *at,
                                    void *baton, fcgi_outcome *outcome)
{
    sem_t called;

    assert_int_equal(sem_init(&called, 0, 0), 0);
    fcgi_bell_hang(fcgi_acquire_bell(acquire), post, &called);
    fcgi_acquire_begin(acquire);
    *outcome = fcgi_acquire_step(acquire);
    while (*outcome == FCGI_OUTCOME_PENDING) {
        if (at(baton) != APR_SUCCESS) {
            fcgi_acquire_cancel(acquire);
            *outcome = FCGI_OUTCOME_CLIENT_GONE;
            break;
        }
        wait_for(acquire, &called);
        *outcome = fcgi_acquire_step(acquire);
    }
    fcgi_bell_take_down(fcgi_acquire_bell(acquire));
    sem_destroy(&called);
    return *outcome == FCGI_OUTCOME_DONE ? acquire->conn : NULL;
}

static apr_status_t leave_or_wait(void *baton)
{
    const struct client *client = baton;

    return client->leaves ? APR_EOF : APR_SUCCESS;
}

static int wait_readable(int fd)
{
    struct pollfd ready = { fd, POLLIN, 0 };

    return poll(&ready, 1, 20000) == 1;
}

/* Writes a byte and waits for its echo; says that it waits, as the exchange
 * does. A byte that belongs to no request is left there. False if the
 * connection has ended. */
static int use_connection(struct client *client, fcgi_conn *conn, char byte)
{
    fcgi_wait wait = { 0, 0, 0 };
    apr_os_sock_t fd;
    char back = 0;

    if (apr_os_sock_get(&fd, conn->socket) != APR_SUCCESS
        || send(fd, &byte, 1, MSG_NOSIGNAL) != 1) {
        return 0;
    }
    fcgi_backend_press_in_time(conn, 0, &wait);
    if (wait.wake_at && perhaps(client, 4)) {
        fcgi_backend_press(conn);
    }
    if (!wait_readable(fd) || recv(fd, &back, 1, 0) != 1) {
        return 0;
    }
    if (back != byte) {
        count(&counts.wrong);
    }
    if (perhaps(client, 2)) {
        fcgi_backend_unpress(conn);
    }
    if (perhaps(client, 3)) {
        sleep_for(rand_r(&client->seed) % 3000);
    }
    else if (perhaps(client, 60)) {
        sleep_for(apr_time_from_msec(90)); /* those in line look up */
    }
    return byte != STRAY || wait_readable(fd);
}

/* One request to its end. */
static void request_once(struct client *client, const fcgi_backend *backend)
{
    static const char bytes[] = { QUIET, QUIET, QUIET, QUIET, END, STRAY };
    fcgi_acquire acquire;
    fcgi_outcome outcome;
    char byte = bytes[(size_t)rand_r(&client->seed) % sizeof(bytes)];
    fcgi_conn *conn;
    int used;

    fcgi_acquire_init(&acquire, backend, client->pool);
    acquire.connect = apr_time_from_sec(5);
    acquire.fresh = perhaps(client, 10);
    acquire.once = perhaps(client, 30);
    acquire.may_wait = perhaps(client, 2);
    client->leaves = perhaps(client, 20);
    conn = acquire_patiently(&acquire, leave_or_wait, client, &outcome);
    if (!conn) {
        count(outcome == FCGI_OUTCOME_NO_PLACE      ? &counts.refused
              : outcome == FCGI_OUTCOME_CLIENT_GONE ? &counts.gone
                                                    : &counts.wrong);
        return;
    }
    used = use_connection(client, conn, byte);
    count(used ? &counts.served : &counts.ended);
    if (conn->reused) {
        count(&counts.again);
    }
    fcgi_backend_release(backend, conn, used && !perhaps(client, 10));
}

static void *run_client(void *data)
{
    struct client *client = data;

    while (!apr_atomic_read32(&is_over)) {
        request_once(client,
                     client->backends[rand_r(&client->seed) % BACKENDS]);
        apr_pool_clear(client->pool);
        if (perhaps(client, 20)) {
            sleep_for(rand_r(&client->seed) % 10000);
        }
    }
    return NULL;
}

/* ---- all together ---- */

static int bind_path(const char *path)
{
    struct sockaddr_un address = { 0 };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    address.sun_family = AF_UNIX;
    apr_cpystrn(address.sun_path, path, sizeof(address.sun_path));
    return bind(fd, (struct sockaddr *)&address, sizeof(address)) ? -1 : fd;
}

static int bind_port(int *port)
{
    struct sockaddr_in address = { 0 };
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&address, len)
        || getsockname(fd, (struct sockaddr *)&address, &len)) {
        return -1;
    }
    *port = ntohs(address.sin_port);
    return fd;
}

static fcgi_backend *make_backend(apr_pool_t *pool, const char *handler,
                                  fcgi_limits limits)
{
    fcgi_address *address;
    fcgi_backend *backend;

    assert_null(fcgi_address_parse(pool, handler, &address));
    /* a memory so short that it is used and renewed all the time */
    fcgi_address_remember(address, pool, apr_time_from_msec(2));
    backend = fcgi_backend_create(pool, address);
    backend->queue_timeout = apr_time_from_msec(300);
    backend->idle_time = apr_time_from_msec(15);
    backend->requests = 20;
    backend->line->limits = limits;
    backend->line->account = fcgi_stats_open_configured(backend->name);
    assert_non_null(backend->line->account);
    assert_true(!limits.max || fcgi_stats_open_line(backend->line->account));
    return backend;
}

/* The memory outlives the child, to be looked at. */
static void become_a_child(apr_pool_t *pool, apr_pool_t *pchild)
{
    static fcgi_stats stats;
    apr_global_mutex_t *lock;

    assert_int_equal(
        apr_global_mutex_create(&lock, NULL, APR_LOCK_DEFAULT, pool),
        APR_SUCCESS);
    assert_int_equal(fcgi_stats_create(&stats, pool, lock, 2), APR_SUCCESS);
    assert_int_equal(fcgi_stats_join(), APR_SUCCESS);
    assert_int_equal(fcgi_address_start(pchild), APR_SUCCESS);
    assert_int_equal(fcgi_idle_start(pchild, &hooks), APR_SUCCESS);
    assert_int_equal(fcgi_notice_start(pchild), APR_SUCCESS);
}

static void start_clients(struct client *clients, fcgi_backend **backends)
{
    int i;

    for (i = 0; i < THREADS; i++) {
        clients[i].backends = backends;
        clients[i].seed = (unsigned int)i + 1;
        assert_int_equal(
            apr_pool_create_unmanaged_ex(&clients[i].pool, NULL, NULL),
            APR_SUCCESS);
        assert_int_equal(
            pthread_create(&clients[i].thread, NULL, run_client, &clients[i]),
            0);
    }
}

static void join_clients(struct client *clients)
{
    int i;

    apr_atomic_set32(&is_over, 1);
    for (i = 0; i < THREADS; i++) {
        pthread_join(clients[i].thread, NULL);
        apr_pool_destroy(clients[i].pool);
    }
}

/* Another request of the child waits, now and then. */
static void press_for(fcgi_backend **backends, apr_interval_time_t time)
{
    fcgi_instant until = fcgi_clock_now() + time;
    int i;

    for (i = 0; fcgi_clock_now() < until; i++) {
        fcgi_line *line = backends[i % BACKENDS]->line;

        sleep_for(apr_time_from_msec(30));
        fcgi_line_press(line);
        sleep_for(apr_time_from_msec(1 + i % 12));
        fcgi_line_unpress(line);
    }
}

static void assert_nothing_left(const fcgi_backend *backend)
{
    fcgi_account *account = backend->line->account;
    fcgi_share sum = fcgi_stats_sum(account);

    assert_int_equal(sum.in_use, 0);
    assert_int_equal(sum.idle, 0);
    assert_int_equal(sum.pressing, 0);
    assert_int_equal(backend->line->waiting, 0);
    if (account->line) {
        assert_int_equal(account->line->waiting, 0);
        assert_int_equal(account->line->granted, 0);
        assert_int_equal(account->line->stands[0].count, 0);
    }
}

static void assert_all_happened(void)
{
    print_message("# %u served, %u of them again, %u refused, %u gone, "
                  "%u ended, %u strays\n",
                  counts.served, counts.again, counts.refused, counts.gone,
                  counts.ended, counts.strays);
    assert_int_equal(counts.wrong, 0);
    assert_true(counts.served > 200);
    assert_true(counts.again > 20);
    assert_true(counts.refused > 0);
    assert_true(counts.gone > 0);
    assert_true(counts.strays > 0);
}

/* The child and its applications, from the first test to the last. */
static struct world {
    char dir[32];
    apr_pool_t *pool;
    apr_pool_t *pchild;
    struct application apps[BACKENDS];
    fcgi_backend *backends[BACKENDS];
} world;

static const fcgi_limits limits[BACKENDS] = { { 3, 4, 2 },
                                              { 2, 100, 2 },
                                              { 0, 0, 3 } };

static int make_world(void **state)
{
    struct world *w = &world;
    char *first, *second;
    int port = 0;

    (void)state;
    strcpy(w->dir, "/tmp/fcgi-races-XXXXXX");
    assert_int_equal(apr_pool_create(&w->pool, NULL), APR_SUCCESS);
    assert_int_equal(apr_pool_create(&w->pchild, w->pool), APR_SUCCESS);
    assert_non_null(mkdtemp(w->dir));
    first = apr_pstrcat(w->pool, w->dir, "/first", NULL);
    second = apr_pstrcat(w->pool, w->dir, "/second", NULL);
    become_a_child(w->pool, w->pchild);
    start_application(&w->apps[0], bind_path(first));
    start_application(&w->apps[1], bind_port(&port));
    start_application(&w->apps[2], bind_path(second));
    w->backends[0] = make_backend(
        w->pool, apr_pstrcat(w->pool, "fcgi:", first, NULL), limits[0]);
    w->backends[1] = make_backend(
        w->pool, apr_psprintf(w->pool, "fcgi:localhost:%d", port), limits[1]);
    w->backends[2] = make_backend(
        w->pool, apr_pstrcat(w->pool, "fcgi:", second, NULL), limits[2]);
    return 0;
}

static int end_world(void **state)
{
    struct world *w = &world;

    (void)state;
    unlink(w->backends[0]->address->path);
    unlink(w->backends[2]->address->path);
    rmdir(w->dir);
    apr_pool_destroy(w->pool);
    return 0;
}

/* ---- what one thread sees ---- */

/* A backend of its own at the last application; kept connections stay. */
static fcgi_backend *make_patient(const char *name, apr_uint32_t max)
{
    fcgi_limits own = { max, 10, 2 };
    fcgi_backend *backend = make_backend(
        world.pool,
        apr_pstrcat(world.pool, "fcgi:", world.dir, "/", name, NULL), own);

    backend->address = world.backends[2]->address;
    backend->idle_time = apr_time_from_sec(600);
    return backend;
}

/* What a client does while it waits in line. */
struct waiter {
    fcgi_backend *backend;
    fcgi_conn *other; /* is given back */
    int quiet;        /* so that it is handed on */
    apr_status_t then;
};

static apr_status_t give_back_other(void *baton)
{
    struct waiter *waiter = baton;

    sleep_for(apr_time_from_msec(30)); /* its time in line may be over */
    if (waiter->other) {
        fcgi_backend_release(waiter->backend, waiter->other, waiter->quiet);
        waiter->other = NULL;
    }
    return waiter->then;
}

static fcgi_conn *acquire(struct waiter *waiter, fcgi_outcome *outcome)
{
    fcgi_acquire acquire;

    fcgi_acquire_init(&acquire, waiter->backend, world.pool);
    acquire.connect = apr_time_from_msec(50);
    return acquire_patiently(&acquire, give_back_other, waiter, outcome);
}

static fcgi_conn *must_acquire(fcgi_backend *backend)
{
    struct waiter waiter = { backend, NULL, 0, APR_SUCCESS };
    fcgi_outcome outcome;
    fcgi_conn *conn = acquire(&waiter, &outcome);

    assert_non_null(conn);
    return conn;
}

static void assert_shares(const fcgi_backend *backend, apr_uint32_t in_use,
                          apr_uint32_t idle, apr_uint32_t pressing)
{
    fcgi_share sum = fcgi_stats_sum(backend->line->account);

    assert_int_equal(sum.in_use, in_use);
    assert_int_equal(sum.idle, idle);
    assert_int_equal(sum.pressing, pressing);
}

/* Waits until they are all closed. */
static void assert_idle_end(const fcgi_backend *backend)
{
    fcgi_instant deadline = fcgi_clock_now() + apr_time_from_sec(20);

    while (fcgi_stats_sum(backend->line->account).idle) {
        assert_true(fcgi_clock_now() < deadline);
        sleep_for(apr_time_from_msec(1));
    }
}

static void a_kept_connection_is_used_again_and_again(void **state)
{
    fcgi_backend *backend = make_patient("again", 2);
    fcgi_conn *conn = must_acquire(backend), *first = conn;
    apr_uint32_t i;

    (void)state;
    for (i = 1; i < 10; i++) {
        assert_shares(backend, 1, 0, 0); /* and nothing presses */
        fcgi_backend_release(backend, conn, 1);
        assert_shares(backend, 0, 1, 0);
        conn = must_acquire(backend);
        assert_ptr_equal(conn, first);
        assert_int_equal(conn->requests, i + 1);
    }
    fcgi_backend_release(backend, conn, 0);
    assert_nothing_left(backend);
}

/* Under load there is always one that connects: if it pressed, no connection
 * would be kept. */
static void one_that_is_let_in_at_once_does_not_press(void **state)
{
    fcgi_backend *backend = make_patient("at once", 2);
    apr_uint32_t *presses = &backend->line->account->presses;
    fcgi_conn *conn = must_acquire(backend);

    (void)state;
    assert_int_equal(*presses, 0);
    fcgi_line_press(backend->line); /* which would have been seen */
    fcgi_line_unpress(backend->line);
    assert_int_equal(*presses, 1);
    fcgi_backend_release(backend, conn, 0);
    assert_nothing_left(backend);
}

static void an_answer_finds_the_application_there(void **state)
{
    fcgi_backend *backend = make_patient("back", 2);
    fcgi_account *account = backend->line->account;
    fcgi_ended ended = { .outcome = FCGI_OUTCOME_NO_CONNECT,
                         .spans = { -1, -1, -1 } };

    (void)state;
    fcgi_attendance_note(&account->attendance, 0);
    fcgi_backend_count(backend, &ended);
    assert_int_equal(account->attendance.gone, 1);
    ended.outcome = FCGI_OUTCOME_DONE;
    fcgi_backend_count(backend, &ended);
    assert_int_equal(account->attendance.gone, 0);
    assert_int_equal(account->attendance.returns, 1);
}

static void an_idle_connection_ends_when_any_request_waits(void **state)
{
    fcgi_backend *backend = make_patient("pressed", 2);

    (void)state;
    fcgi_backend_release(backend, must_acquire(backend), 1);
    assert_shares(backend, 0, 1, 0);
    fcgi_line_press(backend->line);
    assert_idle_end(backend);
    fcgi_line_unpress(backend->line);
    assert_nothing_left(backend);
}

/* The listener has looked while the connection was counted, and in no ring. */
static void a_connection_on_its_way_to_idle_ends_when_any_request_waits(
    void **state)
{
    fcgi_backend *backend = make_patient("on its way", 2);
    fcgi_conn *conn = must_acquire(backend);

    (void)state;
    assert_true(fcgi_line_keep(backend->line));
    fcgi_line_press(backend->line);
    sleep_for(apr_time_from_msec(50));
    assert_shares(backend, 0, 1, 1);
    fcgi_idle_put(conn, fcgi_clock_now(),
                  fcgi_clock_now() + backend->idle_time);
    assert_idle_end(backend);
    fcgi_line_unpress(backend->line);
    assert_nothing_left(backend);
}

static void an_idle_connection_ends_when_its_time_is_over(void **state)
{
    fcgi_backend *backend = make_patient("expired", 2);

    (void)state;
    backend->idle_time = apr_time_from_msec(10);
    fcgi_backend_release(backend, must_acquire(backend), 1);
    assert_idle_end(backend);
    assert_nothing_left(backend);
}

static void a_connection_that_is_not_made_has_no_permit(void **state)
{
    fcgi_backend *backend = make_patient("missing", 2);
    struct waiter waiter = { backend, NULL, 0, APR_SUCCESS };
    fcgi_address *nowhere;
    fcgi_outcome outcome;

    (void)state;
    assert_null(fcgi_address_parse(world.pool, backend->name, &nowhere));
    backend->address = nowhere;
    assert_null(acquire(&waiter, &outcome));
    assert_int_equal(outcome, FCGI_OUTCOME_NO_CONNECT);
    assert_nothing_left(backend);
}

/* Its permit comes, with a connection or without, when its client has gone. */
static void a_grant_without_a_client_is_given_back(void **state)
{
    fcgi_backend *backend = make_patient("gone", 1);
    struct waiter waiter = { backend, NULL, 0, APR_EOF };
    fcgi_outcome outcome;

    (void)state;
    for (waiter.quiet = 0; waiter.quiet < 2; waiter.quiet++) {
        waiter.other = must_acquire(backend);
        assert_null(acquire(&waiter, &outcome));
        assert_int_equal(outcome, FCGI_OUTCOME_CLIENT_GONE);
        assert_null(waiter.other);
        assert_nothing_left(backend);
    }
}

/* Its permit comes as its time is over: in time. */
static void a_grant_at_the_last_moment_is_taken(void **state)
{
    fcgi_backend *backend = make_patient("last", 1);
    struct waiter waiter = { backend, NULL, 0, APR_SUCCESS };
    fcgi_outcome outcome;
    fcgi_conn *other, *conn;

    (void)state;
    backend->queue_timeout = apr_time_from_msec(20);
    for (waiter.quiet = 0; waiter.quiet < 2; waiter.quiet++) {
        other = waiter.other = must_acquire(backend);
        conn = acquire(&waiter, &outcome);
        assert_non_null(conn);
        assert_int_equal(conn->requests, 1 + waiter.quiet);
        assert_true(!waiter.quiet || conn == other);
        fcgi_backend_unpress(conn);
        assert_shares(backend, 1, 0, 0);
        fcgi_backend_release(backend, conn, 0);
        assert_nothing_left(backend);
    }
}

/* A child that is told to stop keeps nothing, whoever asked before. */
static void assert_stop_ends_all(fcgi_backend *backend, fcgi_conn *late)
{
    assert_idle_end(backend);
    assert_true(fcgi_line_keep(backend->line));
    fcgi_idle_put(late, fcgi_clock_now(),
                  fcgi_clock_now() + backend->idle_time);
    assert_nothing_left(backend);
}

/* ---- all of them ---- */

static void threads_share_connections_without_a_race(void **state)
{
    static struct client clients[THREADS];
    fcgi_backend *kept = make_patient("kept", 2);
    fcgi_conn *late;
    int i;

    (void)state;
    start_clients(clients, world.backends);
    press_for(world.backends, BEFORE_STOP);
    late = must_acquire(kept);
    fcgi_backend_release(kept, must_acquire(kept), 1);
    assert_shares(kept, 1, 1, 0);
    fcgi_idle_stop();
    assert_stop_ends_all(kept, late);
    press_for(world.backends, AFTER_STOP);
    join_clients(clients);
    apr_pool_destroy(world.pchild); /* the watcher ends before it */

    assert_nothing_left(kept);
    for (i = 0; i < BACKENDS; i++) {
        struct application *app = &world.apps[i];

        stop_application(app);
        print_message("# %d carried, %d at a time\n", app->carried, app->most);
        assert_int_equal(app->stayed_open, 0);
        assert_true(app->carried > 20);
        assert_true(!limits[i].max || app->most == (int)limits[i].max);
        assert_nothing_left(world.backends[i]);
    }
    assert_all_happened();
}

static int count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = 0;

    while (tasks && readdir(tasks)) {
        count++;
    }
    closedir(tasks);
    return count;
}

/* Threads with nothing to do end, too, the watcher when the child is told to
 * stop, and who hears notices with the child: in a process of its own, as one
 * can be told to stop only once. Returns how it ended. */
static int stop_with_nothing_kept(void)
{
    apr_pool_t *pool, *pchild;
    int before, status = -1;
    pid_t pid = fork();

    if (pid) {
        return waitpid(pid, &status, 0) == pid ? status : -1;
    }
    alarm(20);
    if (apr_pool_create(&pool, NULL) || apr_pool_create(&pchild, pool)) {
        _exit(1);
    }
    become_a_child(pool, pchild);
    sleep_for(apr_time_from_msec(100)); /* most likely they sleep */
    before = count_threads();
    fcgi_idle_stop();
    while (count_threads() > before - 1) {
        sleep_for(apr_time_from_msec(1));
    }
    apr_pool_destroy(pchild);
    while (count_threads() > before - 2) {
        sleep_for(apr_time_from_msec(1));
    }
    _exit(0);
}

static int stop_status;

static void a_watcher_with_nothing_to_watch_ends(void **state)
{
    (void)state;
    assert_int_equal(stop_status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_watcher_with_nothing_to_watch_ends),
        cmocka_unit_test(a_kept_connection_is_used_again_and_again),
        cmocka_unit_test(one_that_is_let_in_at_once_does_not_press),
        cmocka_unit_test(an_answer_finds_the_application_there),
        cmocka_unit_test(an_idle_connection_ends_when_any_request_waits),
        cmocka_unit_test(
            a_connection_on_its_way_to_idle_ends_when_any_request_waits),
        cmocka_unit_test(an_idle_connection_ends_when_its_time_is_over),
        cmocka_unit_test(a_connection_that_is_not_made_has_no_permit),
        cmocka_unit_test(a_grant_without_a_client_is_given_back),
        cmocka_unit_test(a_grant_at_the_last_moment_is_taken),
        cmocka_unit_test(threads_share_connections_without_a_race),
    };

    apr_initialize();
    stop_status = stop_with_nothing_kept(); /* before there are threads */
    return cmocka_run_group_tests_name("races", tests, make_world, end_world);
}
