/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * test_connect.c - what fcgi_conn_open() and fcgi_connect.h promise: nothing
 * is waited for that need not be, each address has its time, and no
 * descriptor is left behind, on whatever way. The clock is the test's;
 * t/08-connect.t compiles and runs it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
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
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_portable.h>
#include <apr_strings.h>

#include "fcgi_conn.h"

/* What has to happen happens within this time, in milliseconds, or never. */
#define PATIENCE 20000

/* The time of an attempt, by the test's clock. */
#define LIMIT apr_time_from_sec(6)

/* So long nobody waits: each test is over by its alarm, see setup(). */
#define LONG apr_time_from_sec(3600)

#define MAX_SOCKETS 64

static struct {
    apr_pool_t *pool;
    fcgi_line line;
    fcgi_conn *conn; /* the one that is tried */
    fcgi_result result;
    char dir[64];
    int sockets[MAX_SOCKETS]; /* the application's, and who waits there */
    int socket_count;
    int descriptors; /* open before the test */
} world;

/* ---- the clock ---- */

static fcgi_instant now = 1000000;

fcgi_instant fcgi_clock_now(void)
{
    return now;
}

/* ---- the world ---- */

static int count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;

    assert_non_null(dir);
    while (readdir(dir)) {
        count++;
    }
    closedir(dir);
    return count;
}

static int setup(void **state)
{
    (void)state;
    alarm(PATIENCE / 1000);
    memset(&world, 0, sizeof(world));
    apr_pool_create(&world.pool, NULL);
    strcpy(world.dir, "/tmp/fcgi-connect-XXXXXX");
    assert_non_null(mkdtemp(world.dir));
    world.descriptors = count_descriptors();
    world.conn = fcgi_conn_create(world.pool, &world.line, 0);
    return 0;
}

static void close_own_sockets(void)
{
    while (world.socket_count > 0) {
        close(world.sockets[--world.socket_count]);
    }
}

/* Before the pool goes, which closes what was forgotten. */
static int teardown(void **state)
{
    char command[128];
    int left;

    (void)state;
    if (world.conn->state != FCGI_CONN_CLOSED) {
        fcgi_conn_close(world.conn, world.conn->state);
    }
    close_own_sockets();
    left = count_descriptors() - world.descriptors;
    if (left) {
        print_error("%d descriptors are left\n", left);
    }
    apr_pool_destroy(world.pool);
    snprintf(command, sizeof(command), "rm -rf '%s'", world.dir);
    return system(command) || left ? -1 : 0;
}

static int keep_socket(int fd)
{
    assert_true(fd >= 0);
    assert_true(world.socket_count < MAX_SOCKETS);
    world.sockets[world.socket_count++] = fd;
    return fd;
}

static const char *path_of(const char *name)
{
    return apr_pstrcat(world.pool, world.dir, "/", name, NULL);
}

/* Connects without waiting; false if there is no room. */
static int fill_one(const struct sockaddr *address, socklen_t len)
{
    int fd = keep_socket(
        socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0));

    return connect(fd, address, len) == 0 || connect(fd, address, len) == 0
           || errno == EISCONN;
}

/* ---- applications ---- */

static struct sockaddr_un unix_address(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    assert_true(strlen(path) < sizeof(address.sun_path));
    strcpy(address.sun_path, path);
    return address;
}

/* Listens at a path; with full, its backlog has no room left. */
static int listen_at(const char *path, int full)
{
    struct sockaddr_un address = unix_address(path);
    int fd = keep_socket(socket(AF_UNIX, SOCK_STREAM, 0));

    assert_int_equal(
        bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, full ? 0 : 16), 0);
    while (full
           && fill_one((const struct sockaddr *)&address, sizeof(address))) {
    }
    return fd;
}

typedef enum {
    LIVE,   /* takes connections */
    SILENT, /* its backlog is full: it says nothing */
    CLOSED  /* refuses them */
} manner;

struct host {
    apr_sockaddr_t *address;
    int fd;
};

static struct host start_host(const char *ip, manner how)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t len = sizeof(address);
    struct host host;

    assert_int_equal(inet_pton(AF_INET, ip, &address.sin_addr), 1);
    host.fd = keep_socket(socket(AF_INET, SOCK_STREAM, 0));
    assert_int_equal(bind(host.fd, (const struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(host.fd, (struct sockaddr *)&address, &len),
                     0);
    if (how != CLOSED) {
        assert_int_equal(listen(host.fd, how == SILENT ? 0 : 16), 0);
    }
    while (how == SILENT && fill_one((const struct sockaddr *)&address, len)) {
    }
    assert_int_equal(apr_sockaddr_info_get(&host.address, ip, APR_INET,
                                           ntohs(address.sin_port), 0,
                                           world.pool),
                     APR_SUCCESS);
    return host;
}

/* ---- addresses ---- */

static fcgi_address *at_path(const char *path)
{
    fcgi_address *address = apr_pcalloc(world.pool, sizeof(*address));

    address->name = address->path = path;
    assert_int_equal(apr_sockaddr_info_get(&address->socket, path, APR_UNIX, 0,
                                           0, world.pool),
                     APR_SUCCESS);
    return address;
}

/* A host name that was found to be these, up to count. */
static fcgi_address *at_hosts(const struct host *hosts, int count)
{
    fcgi_address *address = apr_pcalloc(world.pool, sizeof(*address));
    fcgi_resolved *resolved = apr_pcalloc(world.pool, sizeof(*resolved));
    int i;

    for (i = 0; i < count; i++) {
        hosts[i].address->next = i + 1 < count ? hosts[i + 1].address : NULL;
    }
    resolved->first = hosts[0].address;
    resolved->asked = now;
    resolved->expires = now + apr_time_from_sec(3600);
    address->name = "fcgi:many.test";
    address->host = "many.test";
    address->port = hosts[0].address->port;
    address->resolved = resolved;
    return address;
}

/* ---- the connection ---- */

static apr_status_t open_conn(const fcgi_address *address, fcgi_instant until,
                              int may_wait)
{
    return fcgi_conn_open(world.conn, address, until, may_wait, world.pool,
                          &world.result);
}

static int descriptor_of(const fcgi_conn *conn)
{
    apr_os_sock_t fd = -1;

    assert_non_null(conn->socket);
    assert_int_equal(apr_os_sock_get(&fd, conn->socket), APR_SUCCESS);
    return fd;
}

/* It is under way, and says what for. */
static void check_under_way(apr_status_t rv, fcgi_instant wake_at)
{
    assert_int_equal(rv, APR_EINPROGRESS);
    assert_int_equal(world.conn->state, FCGI_CONN_NEW);
    assert_non_null(world.conn->socket);
    assert_int_equal(world.conn->wake_at, wake_at);
}

/* Waits until its socket says something. */
static void await_socket(void)
{
    struct pollfd pfd = { descriptor_of(world.conn), POLLOUT, 0 };

    assert_int_equal(poll(&pfd, 1, PATIENCE), 1);
}

static void check_in_use(apr_status_t rv)
{
    apr_size_t len = 1;
    char byte;

    assert_int_equal(rv, APR_SUCCESS);
    assert_int_equal(world.conn->state, FCGI_CONN_IN_USE);
    assert_int_equal(world.conn->wake_at, 0);
    assert_true(fcntl(descriptor_of(world.conn), F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(descriptor_of(world.conn), F_GETFD) & FD_CLOEXEC);
    assert_true(APR_STATUS_IS_EAGAIN(
        apr_socket_recv(world.conn->socket, &byte, &len)));
}

/* It is to no other than this host. */
static void check_peer(const struct host *host)
{
    struct sockaddr_in peer;
    socklen_t len = sizeof(peer);

    assert_int_equal(
        getpeername(descriptor_of(world.conn), (struct sockaddr *)&peer, &len),
        0);
    assert_int_equal(ntohs(peer.sin_port), host->address->port);
}

/* It failed for this reason, and as if nothing had been tried. */
static void check_failed(apr_status_t rv, apr_status_t expected)
{
    assert_int_equal(rv, expected);
    assert_int_equal(world.conn->state, FCGI_CONN_NEW);
    assert_null(world.conn->socket);
    assert_int_equal(world.conn->wake_at, 0);
    assert_int_equal(world.result.outcome, FCGI_OUTCOME_NO_CONNECT);
    assert_int_equal(world.result.phase, FCGI_PHASE_CONNECT);
    assert_int_equal(world.result.rv, expected);
    assert_non_null(world.result.why);
}

/* ---- unix sockets ---- */

static void a_unix_socket_with_room_is_connected_to_at_once(void **state)
{
    int may_wait;

    (void)state;
    listen_at(path_of("a.sock"), 0);
    for (may_wait = 0; may_wait <= 1; may_wait++) {
        check_in_use(
            open_conn(at_path(path_of("a.sock")), now + LIMIT, may_wait));
        fcgi_conn_close(world.conn, FCGI_CONN_IN_USE);
        world.conn = fcgi_conn_create(world.pool, &world.line, 1);
        assert_non_null(world.conn);
    }
}

static void a_full_backlog_is_told_to_who_may_not_wait(void **state)
{
    (void)state;
    listen_at(path_of("a.sock"), 1);
    check_failed(open_conn(at_path(path_of("a.sock")), now + LONG, 0), EAGAIN);
}

static void a_full_backlog_is_waited_for_until_the_end(void **state)
{
    fcgi_instant soon = now + apr_time_from_msec(30);

    (void)state;
    listen_at(path_of("a.sock"), 1);
    check_failed(open_conn(at_path(path_of("a.sock")), soon, 1), EAGAIN);
    check_failed(open_conn(at_path(path_of("a.sock")), now, 1), EAGAIN);
    check_failed(open_conn(at_path(path_of("a.sock")), now - 1, 1), EAGAIN);
}

static apr_status_t note_freed(void *freed)
{
    *(int *)freed = 1;
    return APR_SUCCESS;
}

/* Of hundreds of attempts only the last one takes memory. */
static void an_attempt_takes_the_memory_of_the_one_before(void **state)
{
    const fcgi_address *address = at_path(path_of("a.sock"));
    int i;

    (void)state;
    listen_at(path_of("a.sock"), 1);
    check_failed(open_conn(address, now + LONG, 0), EAGAIN);
    for (i = 0; i < 3; i++) {
        int freed = 0;

        apr_pool_cleanup_register(world.conn->connecting.pool, &freed,
                                  note_freed, apr_pool_cleanup_null);
        check_failed(open_conn(address, now + LONG, 0), EAGAIN);
        assert_true(freed);
    }
}

/* What accepts as soon as a thread sleeps. */
struct acceptor {
    pthread_t thread;
    int listener;
    long sleeper;
    int slept;
};

/* Whether the thread with this number sleeps. */
static int is_asleep(long thread)
{
    char path[64], text[512], state = '?';
    const char *end;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/task/%ld/stat", thread);
    file = fopen(path, "r");
    if (file) {
        text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
        end = strrchr(text, ')');
        state = end ? end[2] : '?';
        fclose(file);
    }
    return state == 'S';
}

static void *accept_later(void *data)
{
    struct acceptor *acceptor = data;
    struct timespec moment = { 0, 1000000 };
    int left = PATIENCE;

    while (!acceptor->slept && left-- > 0) {
        nanosleep(&moment, NULL);
        acceptor->slept = is_asleep(acceptor->sleeper);
    }
    close(accept(acceptor->listener, NULL, NULL));
    return NULL;
}

static void who_may_wait_comes_in_when_there_is_room(void **state)
{
    struct acceptor acceptor = { .sleeper = syscall(SYS_gettid) };
    apr_status_t rv;

    (void)state;
    acceptor.listener = listen_at(path_of("a.sock"), 1);
    assert_int_equal(
        pthread_create(&acceptor.thread, NULL, accept_later, &acceptor), 0);
    rv = open_conn(at_path(path_of("a.sock")),
                   now + apr_time_from_msec(PATIENCE), 1);
    pthread_join(acceptor.thread, NULL);
    assert_true(acceptor.slept);
    check_in_use(rv);
}

static void no_socket_and_no_listener_are_told_apart(void **state)
{
    int may_wait;

    (void)state;
    close(listen_at(path_of("left.sock"), 0));
    world.socket_count--;
    for (may_wait = 0; may_wait <= 1; may_wait++) {
        check_failed(
            open_conn(at_path(path_of("no.sock")), now + LIMIT, may_wait),
            ENOENT);
        check_failed(
            open_conn(at_path(path_of("left.sock")), now + LIMIT, may_wait),
            ECONNREFUSED);
    }
}

/* A link to name in the world's folder, where only yes.sock is admitted. */
static fcgi_address *at_link_to(const char *name)
{
    apr_array_header_t *admitted =
        apr_array_make(world.pool, 1, sizeof(const char *));
    fcgi_address *address = at_path(path_of("link"));

    APR_ARRAY_PUSH(admitted, const char *) = path_of("yes.sock");
    address->admitted = admitted;
    unlink(address->path);
    assert_int_equal(symlink(path_of(name), address->path), 0);
    return address;
}

static void only_what_is_admitted_is_connected_to(void **state)
{
    int may_wait, full;

    (void)state;
    listen_at(path_of("no.sock"), 0);
    for (full = 0; full <= 1; full++) {
        unlink(path_of("yes.sock"));
        listen_at(path_of("yes.sock"), full);
        for (may_wait = 0; may_wait <= 1; may_wait++) {
            fcgi_instant until =
                now + (may_wait ? apr_time_from_msec(30) : LONG);
            apr_status_t rv;

            check_failed(open_conn(at_link_to("no.sock"), until, may_wait),
                         APR_EBADPATH);
            check_failed(open_conn(at_link_to("none.sock"), until, may_wait),
                         ENOENT);
            rv = open_conn(at_link_to("yes.sock"), until, may_wait);
            if (full) {
                check_failed(rv, EAGAIN);
                continue;
            }
            check_in_use(rv);
            fcgi_conn_close(world.conn, FCGI_CONN_IN_USE);
            world.conn = fcgi_conn_create(world.pool, &world.line, 0);
        }
    }
}

/* ---- hosts ---- */

static void a_host_that_answers_is_connected_to(void **state)
{
    struct host live = start_host("127.0.0.1", LIVE);
    int no_delay = 0, keepalive = 0;
    socklen_t len = sizeof(int);
    apr_status_t rv;

    (void)state;
    while ((rv = open_conn(at_hosts(&live, 1), now + LIMIT, 0))
           == APR_EINPROGRESS) {
        await_socket();
    }
    check_in_use(rv);
    check_peer(&live);
    assert_int_equal(getsockopt(descriptor_of(world.conn), IPPROTO_TCP,
                                TCP_NODELAY, &no_delay, &len),
                     0);
    assert_int_equal(getsockopt(descriptor_of(world.conn), SOL_SOCKET,
                                SO_KEEPALIVE, &keepalive, &len),
                     0);
    assert_true(no_delay);
    assert_true(keepalive);
}

static void a_silent_host_is_under_way_until_the_end(void **state)
{
    struct host silent = start_host("127.0.0.1", SILENT);
    fcgi_address *address = at_hosts(&silent, 1);
    fcgi_instant until = now + LIMIT;
    int fd;

    (void)state;
    check_under_way(open_conn(address, until, 1), until);
    fd = descriptor_of(world.conn);
    check_under_way(open_conn(address, until, 1), until);
    now = until - 1;
    check_under_way(open_conn(address, until, 1), until);
    assert_int_equal(descriptor_of(world.conn), fd);
    now = until;
    check_failed(open_conn(address, until, 1), APR_TIMEUP);

    /* and another attempt is possible, which is given up */
    check_under_way(open_conn(at_hosts(&silent, 1), now + LIMIT, 0),
                    now + LIMIT);
    fcgi_conn_close(world.conn, FCGI_CONN_NEW);
}

/* The resolver may have taken all the time that there was. */
static void no_time_left_is_a_moment(void **state)
{
    struct host silent = start_host("127.0.0.1", SILENT);
    const fcgi_address *address = at_hosts(&silent, 1);
    fcgi_instant until = now - LIMIT, end = now + apr_time_from_msec(10);

    (void)state;
    check_under_way(open_conn(address, until, 1), end);
    now = end;
    check_failed(open_conn(address, until, 1), APR_TIMEUP);
}

/* The kernel's own time: it tries again after a second. */
static void one_that_comes_late_is_connected_to(void **state)
{
    struct host silent = start_host("127.0.0.1", SILENT);
    fcgi_address *address = at_hosts(&silent, 1);
    fcgi_instant until = now + LIMIT;
    apr_status_t rv;

    (void)state;
    check_under_way(open_conn(address, until, 0), until);
    keep_socket(accept(silent.fd, NULL, NULL));
    while ((rv = open_conn(address, until, 0)) == APR_EINPROGRESS) {
        await_socket();
    }
    check_in_use(rv);
    check_peer(&silent);
}

static void each_of_several_has_its_share(void **state)
{
    struct host hosts[3];
    fcgi_instant begin = now, until = now + LIMIT;
    fcgi_address *address;
    apr_status_t rv;
    int i;

    (void)state;
    hosts[0] = start_host("127.0.0.2", SILENT);
    hosts[1] = start_host("127.0.0.3", SILENT);
    hosts[2] = start_host("127.0.0.1", LIVE);
    address = at_hosts(hosts, 3);
    check_under_way(open_conn(address, until, 1), begin + LIMIT / 3);
    now += LIMIT / 3 - 1;
    check_under_way(open_conn(address, until, 1), begin + LIMIT / 3);
    now++;
    check_under_way(open_conn(address, until, 1), begin + 2 * (LIMIT / 3));
    now += LIMIT / 3;
    while ((rv = open_conn(address, until, 1)) == APR_EINPROGRESS) {
        await_socket();
    }
    check_in_use(rv);
    check_peer(&hosts[2]);
    for (i = 0; i < 3; i++) {
        assert_int_equal(fcgi_address_has_failed(hosts[i].address), i < 2);
    }
}

static void one_that_refuses_costs_no_time(void **state)
{
    struct host hosts[2];
    fcgi_address *address;
    apr_status_t rv;

    (void)state;
    hosts[0] = start_host("127.0.0.2", CLOSED);
    hosts[1] = start_host("127.0.0.1", LIVE);
    address = at_hosts(hosts, 2);
    while ((rv = open_conn(address, now + LIMIT, 0)) == APR_EINPROGRESS) {
        await_socket();
    }
    check_in_use(rv);
    check_peer(&hosts[1]);
    assert_true(fcgi_address_has_failed(hosts[0].address));
    assert_false(fcgi_address_has_failed(hosts[1].address));
}

/* The kernel asks again after a second, and is refused. */
static void one_that_refuses_late_costs_no_more_time(void **state)
{
    struct host hosts[2];
    fcgi_instant until = now + LIMIT;
    fcgi_address *address;
    apr_status_t rv;

    (void)state;
    hosts[0] = start_host("127.0.0.2", SILENT);
    hosts[1] = start_host("127.0.0.1", LIVE);
    address = at_hosts(hosts, 2);
    check_under_way(open_conn(address, until, 0), now + LIMIT / 2);
    shutdown(hosts[0].fd, SHUT_RDWR);
    while ((rv = open_conn(address, until, 0)) == APR_EINPROGRESS) {
        await_socket();
    }
    check_in_use(rv);
    check_peer(&hosts[1]);
}

static void all_fail(void **state)
{
    struct host hosts[3];
    fcgi_instant until = now + LIMIT;
    fcgi_address *address;

    (void)state;
    hosts[0] = start_host("127.0.0.2", CLOSED);
    hosts[1] = start_host("127.0.0.3", SILENT);
    hosts[2] = start_host("127.0.0.1", CLOSED);
    address = at_hosts(hosts, 3);
    check_under_way(open_conn(address, until, 0), now + LIMIT / 2);
    now += LIMIT / 2;
    check_failed(open_conn(address, until, 0), ECONNREFUSED);
}

static void one_that_failed_has_less_time(void **state)
{
    struct host hosts[2];
    fcgi_instant begin = now, until = now + LIMIT;
    fcgi_address *address;

    (void)state;
    hosts[0] = start_host("127.0.0.2", SILENT);
    hosts[1] = start_host("127.0.0.3", SILENT);
    address = at_hosts(hosts, 2);
    fcgi_address_note(hosts[0].address, 0);
    fcgi_address_note(hosts[1].address, 0);
    check_under_way(open_conn(address, until, 0),
                    begin + apr_time_from_msec(500));
    now += apr_time_from_msec(500);
    check_under_way(open_conn(address, until, 0),
                    begin + apr_time_from_msec(1000));
    now += apr_time_from_msec(500);
    check_failed(open_conn(address, until, 0), APR_TIMEUP);
}

/* One that is silent, and one behind it that failed some time ago. */
static fcgi_address *with_one_to_probe(struct host *hosts, manner how)
{
    hosts[0] = start_host("127.0.0.2", SILENT);
    hosts[1] = start_host("127.0.0.3", how);
    fcgi_address_note(hosts[1].address, 0);
    now += apr_time_from_sec(60);
    return at_hosts(hosts, 2);
}

static void one_that_failed_is_probed_and_closed(void **state)
{
    struct host hosts[2];
    fcgi_address *address = with_one_to_probe(hosts, SILENT);
    int before = count_descriptors();

    (void)state;
    check_under_way(open_conn(address, now + LIMIT, 0), now + LIMIT / 2);
    assert_int_equal(count_descriptors(), before + 2);
    fcgi_conn_close(world.conn, FCGI_CONN_NEW);
    assert_int_equal(count_descriptors(), before);
    assert_true(fcgi_address_has_failed(hosts[1].address));
    assert_false(fcgi_address_has_failed(hosts[0].address));
}

static void a_probe_sees_that_one_is_back(void **state)
{
    struct host hosts[2];
    fcgi_address *address = with_one_to_probe(hosts, LIVE);

    (void)state;
    check_under_way(open_conn(address, now + LIMIT, 0), now + LIMIT / 2);
    assert_true(fcgi_address_has_failed(hosts[1].address));
    fcgi_conn_close(world.conn, FCGI_CONN_NEW);
    assert_false(fcgi_address_has_failed(hosts[1].address));
}

static void a_probe_ends_with_the_attempt(void **state)
{
    struct host hosts[2];
    fcgi_instant until = now + apr_time_from_sec(60) + LIMIT;
    fcgi_address *address = with_one_to_probe(hosts, SILENT);
    int before = count_descriptors();

    (void)state;
    check_under_way(open_conn(address, until, 0), now + LIMIT / 2);
    now += LIMIT / 2;
    check_under_way(open_conn(address, until, 0),
                    now + apr_time_from_msec(500));
    now += apr_time_from_msec(500);
    check_failed(open_conn(address, until, 0), APR_TIMEUP);
    assert_int_equal(count_descriptors(), before);
}

/* ---- descriptors ---- */

/* Lets as many more be opened; -1: no limit. Returns the one before. */
static rlim_t allow_more(int more)
{
    struct rlimit limit;
    int probe = dup(0);
    rlim_t before;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    before = limit.rlim_cur;
    limit.rlim_cur = more < 0 ? limit.rlim_max : (rlim_t)(probe + more);
    close(probe);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return before;
}

static void restore(rlim_t before)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = before;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void no_descriptors_are_no_crash(void **state)
{
    struct host hosts[2];
    fcgi_address *address = with_one_to_probe(hosts, SILENT);
    fcgi_instant until = now + LIMIT;
    apr_status_t at_socket, at_link, at_host, at_two, beside;
    fcgi_address *link;
    rlim_t before;

    (void)state;
    listen_at(path_of("yes.sock"), 0);
    link = at_link_to("yes.sock");
    before = allow_more(0);
    at_socket = open_conn(at_path(path_of("yes.sock")), until, 1);
    at_link = open_conn(link, until, 0);
    at_host = open_conn(at_hosts(hosts, 1), until, 0);
    address = at_hosts(hosts, 2);
    at_two = open_conn(address, until, 0);
    restore(before);
    assert_int_equal(at_socket, EMFILE);
    assert_int_equal(at_link, EMFILE);
    assert_int_equal(at_host, EMFILE);
    check_failed(at_two, EMFILE);

    before = allow_more(1); /* the path is held, or the probe begun: no more */
    at_link = open_conn(link, until, 1);
    now += apr_time_from_sec(60);
    fcgi_address_note(hosts[0].address, 1);
    beside = open_conn(at_hosts(hosts, 2), now + LIMIT, 0);
    restore(before);
    assert_int_equal(at_link, EMFILE);
    check_failed(beside, EMFILE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_unix_socket_with_room_is_connected_to_at_once),
        TEST(a_full_backlog_is_told_to_who_may_not_wait),
        TEST(an_attempt_takes_the_memory_of_the_one_before),
        TEST(a_full_backlog_is_waited_for_until_the_end),
        TEST(who_may_wait_comes_in_when_there_is_room),
        TEST(no_socket_and_no_listener_are_told_apart),
        TEST(only_what_is_admitted_is_connected_to),
        TEST(a_host_that_answers_is_connected_to),
        TEST(a_silent_host_is_under_way_until_the_end),
        TEST(no_time_left_is_a_moment),
        TEST(one_that_comes_late_is_connected_to),
        TEST(each_of_several_has_its_share),
        TEST(one_that_refuses_costs_no_time),
        TEST(one_that_refuses_late_costs_no_more_time),
        TEST(all_fail),
        TEST(one_that_failed_has_less_time),
        TEST(one_that_failed_is_probed_and_closed),
        TEST(a_probe_sees_that_one_is_back),
        TEST(a_probe_ends_with_the_attempt),
        TEST(no_descriptors_are_no_crash),
    };
    apr_pool_t *pool;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    if (fcgi_address_start(pool) != APR_SUCCESS) {
        return 1;
    }
    return cmocka_run_group_tests_name("connect", tests, NULL, NULL);
}
