/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * world.c - the contract is in world.h: the input's bytes, what they do, time,
 * and the application's and the client's sockets. httpd's doubles are in
 * world_httpd.c.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/socket.h>

#include <apr_poll.h>
#include <apr_portable.h>

#include "fcgi_idle.h"
#include "fcgi_socket.h"
#include "fcgi_record.h"

/* Steps in which nothing may have happened before time passes. */
#define MAX_WAITS 2000

/* Descriptors that no process has. */
#define NO_FD 100000

world_type world;

static char client_socket;

void world_require(int fact, const char *what, int line)
{
    if (!fact) {
        fprintf(stderr, "line %d: not so: %s\n", line, what);
        abort();
    }
}

/* ---- the input ---- */

uint8_t world_byte(void)
{
    if (!world.left) {
        world.is_over = 1;
        return 0;
    }
    world.left--;
    return *world.data++;
}

const uint8_t *world_bytes(void)
{
    static uint8_t bytes[WORLD_BYTES];
    static size_t made;

    for (; made < sizeof(bytes); made++) {
        bytes[made] = (uint8_t)(made * 7 + made / 256);
    }
    return bytes;
}

/* ---- time ---- */

fcgi_instant fcgi_clock_now(void)
{
    world.now += world.look;
    return world.now;
}

static void pass_time(apr_interval_time_t time)
{
    world.now += time;
    world.waits = 0;
}

/* ---- the application ---- */

static app_socket *latest(void)
{
    return world.socket_count ? &world.sockets[world.socket_count - 1] : NULL;
}

static void say(app_socket *one, const void *bytes, size_t len)
{
    if (!one->said) {
        one->said = malloc(WORLD_BYTES);
        REQUIRE(one->said);
    }
    if (!one->is_closed && len <= WORLD_BYTES - one->said_len) {
        memcpy(one->said + one->said_len, bytes, len);
        one->said_len += len;
    }
}

static void say_header(app_socket *one, unsigned int type, unsigned int id,
                       size_t len, size_t padding)
{
    const uint8_t header[] = {
        1,
        (uint8_t)type,
        (uint8_t)(id >> 8),
        (uint8_t)id,
        (uint8_t)(len >> 8),
        (uint8_t)len,
        (uint8_t)padding,
        0,
    };

    say(one, header, sizeof(header));
}

/* The id of the request that it was asked last: of the first record that it
 * heard. */
static unsigned int asked_id(const app_socket *one)
{
    size_t at = one->heard_before;

    return one->heard_len >= at + 4
               ? one->heard[at + 2] * 256u + one->heard[at + 3]
               : 1;
}

/* Bytes of the input, as they are. */
static void say_input(app_socket *one, size_t len)
{
    len = len < world.left ? len : world.left;
    say(one, world.data, len);
    world.data += len;
    world.left -= len;
}

static const uint8_t zeros[FCGI_MAX_PADDING_LEN];

static void say_record(app_socket *one, unsigned int type, int arg)
{
    size_t len = world_byte();
    size_t padding = arg * 3u;

    len = len < world.left ? len : world.left;
    say_header(one, type, asked_id(one), len, padding);
    say_input(one, len);
    say(one, zeros, padding);
}

static void say_end(app_socket *one, int arg)
{
    uint8_t body[8] = { 0 };

    body[4] = (uint8_t)(arg & 3);
    say_header(one, FCGI_END_REQUEST, asked_id(one), sizeof(body),
               arg & 4 ? 8 : 0);
    say(one, body, sizeof(body));
    say(one, zeros, arg & 4 ? 8 : 0);
}

/* Records that say nothing, or are not for this request. */
static void say_odd(app_socket *one, int arg)
{
    static const uint8_t types[] = { FCGI_STDOUT,
                                     FCGI_STDERR,
                                     FCGI_STDOUT,
                                     FCGI_STDERR,
                                     FCGI_GET_VALUES_RESULT,
                                     FCGI_DATA,
                                     FCGI_STDOUT,
                                     99 };
    unsigned int id = asked_id(one);

    if (arg < 2) {
        say_header(one, types[arg], id, 0, 0);
    }
    else {
        id = arg == 2 ? id + 1 : arg == 4 ? 0 : arg == 6 ? id - 1 : id;
        say_header(one, types[arg], id, 4, 4);
        say(one, "strange!", 8);
    }
}

static void say_much(app_socket *one, int arg)
{
    size_t len = (size_t)(arg + 1) * 4096;

    say_header(one, FCGI_STDOUT, asked_id(one), len, 0);
    say(one, world_bytes() + one->said_len % 4096, len);
}

/* ---- what the input's bytes do ---- */

static void let_application(int what, int arg)
{
    app_socket *one = latest();

    if (!one) {
        return;
    }
    switch (what) {
    case 0:
        say_input(one, world_byte());
        break;
    case 1:
        say_record(one, FCGI_STDOUT, arg);
        break;
    case 2:
        say_record(one, FCGI_STDERR, arg);
        break;
    case 3:
        say_end(one, arg);
        break;
    case 4:
        say_odd(one, arg);
        break;
    case 5:
        say_much(one, arg);
        break;
    case 6:
        one->is_closed = 1;
        one->is_reset = arg & 1;
        break;
    case 7:
        one->room += (size_t)1 << (2 * arg + 1);
        break;
    }
}

static void let_client(int what, int arg)
{
    world_client *client = &world.client;

    switch (what) {
    case 8:
        if (!client->body_ended && client->body_here < WORLD_BYTES / 2) {
            client->body_here += (apr_size_t)1 << (2 * arg);
        }
        break;
    case 9:
        client->body_ended = 1;
        client->body_broken = arg > 4 ? arg : 0;
        break;
    case 10:
        client->room += (apr_size_t)64 << (2 * arg);
        break;
    case 11:
        client->write_fails |= arg == 0;
        client->half_closed |= arg == 1;
        client->is_reset |= arg == 2;
        client->has_next_request |= arg == 3;
        world.connection.aborted |= arg == 4;
        client->fails_at = arg > 4 ? client->passes + 1 : client->fails_at;
        client->fails_how = arg;
        break;
    }
}

static void let_others(int what, int arg)
{
    switch (what) {
    case 12:
        pass_time(apr_time_from_msec(1) << (2 * arg));
        break;
    case 13:
        world.is_pressed = arg & 1;
        if (arg & 2 && world.in_line) {
            world.is_granted = 1;
            fcgi_bell_ring(&world.in_line->bell);
        }
        break;
    case 14:
        world.is_woken = 1;
        world.is_abandoned |= arg == 7 && world.parked;
        break;
    case 15:
        world.read_max = (size_t)1 << (2 * arg + 4);
        world.has_no_files ^= arg == 7;
        break;
    }
}

/* One thing, or several, if the first bit of each but the last says so. */
static void happen(void)
{
    int more = 1;

    while (more && world.left) {
        uint8_t op = world_byte();
        int what = op & 15, arg = op >> 4 & 7;

        let_application(what, arg);
        let_client(what, arg);
        let_others(what, arg);
        more = op & 0x80;
    }
    if (!world.left) {
        world.is_over = 1;
    }
}

/* The input is read: the application ends what it has to say, the client takes
 * all and has sent all, and whoever waits in line gets his turn. */
static void come_to_an_end(void)
{
    int i;

    world.over_at = world.over_at ? world.over_at : world.now;
    world.look = 0;
    world.read_max = WORLD_BYTES;
    for (i = 0; i < world.socket_count; i++) {
        world.sockets[i].is_closed = 1;
        world.sockets[i].room = WORLD_BYTES;
    }
    world.client.room = 64 * WORLD_BYTES;
    world.client.body_ended = 1;
    if (world.in_line && !world.is_granted) {
        world.is_granted = 1;
        fcgi_bell_ring(&world.in_line->bell);
    }
}

/* ---- waiting ---- */

static int application_is_ready(const app_socket *one)
{
    int ended = one->is_closed;
    int in = one->said_read < one->said_len;

    return fcgi_wait_ready(0, in, one->room > 0, ended);
}

/* What the client's socket says; a writable one has room for a few packets. */
static int client_is_ready(const world_client *client)
{
    int has_body = client->body_read < client->body_here || client->body_ended;
    int in = (has_body && !client->end_was_read) || client->half_closed
             || client->has_next_request;

    return fcgi_wait_ready(1, in, client->room >= 16 * 1024, client->is_reset);
}

static int ready_now(int wants, const apr_socket_t *application)
{
    int ready = 0;

    if (application) {
        const app_socket *one = (const app_socket *)application;

        ready |= application_is_ready(one) & (one->is_closed ? ~0 : wants);
    }
    if (wants
        & (FCGI_WANTS_CLIENT | FCGI_WANTS_CLIENT_WRITE
           | FCGI_WANTS_CLIENT_END)) {
        ready |= client_is_ready(&world.client)
                 & (world.client.is_reset ? ~0 : wants);
    }
    return ready; /* of a socket that has failed all, else what was wanted */
}

int world_wait(int wants, apr_socket_t *application, fcgi_instant wake_at)
{
    int ready;

    REQUIRE(world.waits++ < MAX_WAITS); /* else it spins */
    happen();
    if (world.is_over) {
        come_to_an_end();
    }
    if (world.tells) {
        fprintf(stderr, "at %ld ms waits for %d until %ld ms, ready %d%s\n",
                (long)apr_time_as_msec(world.now), wants,
                (long)apr_time_as_msec(wake_at), ready_now(wants, application),
                world.is_over ? ", at the end" : "");
    }
    ready = ready_now(wants, application);
    if (ready || world.is_woken || world.is_abandoned
        || (wants & FCGI_WANTS_BELL && world.is_granted)) {
        world.is_woken = 0;
        return ready;
    }
    if (world.is_over || world_byte() & 1) {
        REQUIRE(wake_at || !world.is_over); /* else it waits for ever */
        if (wake_at > world.now) {
            pass_time(wake_at - world.now);
        }
    }
    return 0;
}

/* ---- the sockets, as the module sees them ---- */

app_socket *world_socket_of(const fcgi_conn *conn)
{
    return (app_socket *)conn->socket;
}

static app_socket *application_of(apr_socket_t *socket)
{
    app_socket *one = (app_socket *)socket;

    REQUIRE(one >= world.sockets && one < world.sockets + world.socket_count);
    REQUIRE(one->is_open);
    return one;
}

/* The same, for what a request does there. */
static app_socket *use(apr_socket_t *socket)
{
    app_socket *one = application_of(socket);

    one->uses += !one->is_used;
    one->is_used = 1;
    world.used = one;
    return one;
}

fcgi_socket_sound fcgi_socket_listen(apr_socket_t *socket)
{
    const app_socket *one;

    if ((char *)socket == &client_socket) {
        return world.client.has_next_request ? FCGI_SOCKET_SAYS
                                             : FCGI_SOCKET_QUIET;
    }
    one = application_of(socket);
    return one->said_read < one->said_len ? FCGI_SOCKET_SAYS
           : one->is_closed               ? FCGI_SOCKET_ENDED
                                          : FCGI_SOCKET_QUIET;
}

apr_status_t fcgi_socket_set_patient(apr_socket_t *socket, int patient)
{
    application_of(socket)->is_patient = patient;
    return APR_SUCCESS;
}

apr_status_t fcgi_socket_recv(apr_socket_t *socket, char *data,
                              apr_size_t *len, int wait)
{
    app_socket *one = use(socket);
    size_t wanted = *len, there;

    if (wait) {
        REQUIRE(one->is_patient);
        world_wait(FCGI_WANTS_READ, socket, world.now + FCGI_SOCKET_PATIENCE);
        use(socket);
    }
    there = one->said_len - one->said_read;
    *len = 0;
    if (one->is_reset) {
        one->end_was_seen = 1;
        return APR_ECONNRESET;
    }
    if (!there) {
        one->end_was_seen |= one->is_closed;
        return one->is_closed ? APR_EOF : APR_EAGAIN;
    }
    there = there < wanted ? there : wanted;
    there = there < world.read_max ? there : world.read_max;
    memcpy(data, one->said + one->said_read, there);
    one->said_read += there;
    world.waits = 0;
    *len = there;
    return APR_SUCCESS;
}

/* Takes what there is room for. */
static apr_status_t hear(app_socket *one, const char *buf, apr_size_t *len)
{
    size_t wanted = *len;

    *len = 0;
    if (one->is_closed) {
        return APR_EPIPE;
    }
    if (!one->heard) {
        one->heard = malloc(WORLD_BYTES);
        REQUIRE(one->heard);
    }
    REQUIRE(wanted <= WORLD_BYTES - one->heard_len);
    wanted = wanted < one->room ? wanted : one->room;
    if (!wanted) {
        return APR_EAGAIN;
    }
    memcpy(one->heard + one->heard_len, buf, wanted);
    one->heard_len += wanted;
    one->room -= wanted;
    world.waits = 0;
    *len = wanted;
    return APR_SUCCESS;
}

apr_status_t fcgi_socket_send(apr_socket_t *socket, struct iovec *pieces,
                              int count, apr_size_t *len)
{
    app_socket *one = use(socket);
    apr_status_t rv = APR_SUCCESS;
    apr_size_t sent = 0;
    int i;

    for (i = 0; rv == APR_SUCCESS && i < count; i++) {
        apr_size_t part = pieces[i].iov_len;

        rv = hear(one, pieces[i].iov_base, &part);
        sent += part;
        if (part < pieces[i].iov_len) {
            break;
        }
    }
    *len = sent;
    return sent ? APR_SUCCESS : rv;
}

apr_status_t __wrap_apr_socket_sendfile(apr_socket_t *socket, apr_file_t *file,
                                        void *around, apr_off_t *start,
                                        apr_size_t *len, apr_int32_t flags);
apr_status_t __wrap_apr_socket_sendfile(apr_socket_t *socket, apr_file_t *file,
                                        void *around, apr_off_t *start,
                                        apr_size_t *len, apr_int32_t flags)
{
    char bytes[4096];
    apr_size_t part = *len < sizeof(bytes) ? *len : sizeof(bytes);

    (void)around;
    (void)flags;
    REQUIRE(!application_of(socket)->is_patient); /* it would wait there */
    REQUIRE(apr_file_seek(file, APR_SET, start) == APR_SUCCESS);
    REQUIRE(apr_file_read_full(file, bytes, part, NULL) == APR_SUCCESS);
    *len = part;
    return hear(use(socket), bytes, len);
}

apr_status_t __wrap_apr_socket_close(apr_socket_t *socket);
apr_status_t __wrap_apr_socket_close(apr_socket_t *socket)
{
    application_of(socket)->is_open = 0;
    return APR_SUCCESS;
}

apr_status_t __wrap_apr_os_sock_get(apr_os_sock_t *fd, apr_socket_t *socket);
apr_status_t __wrap_apr_os_sock_get(apr_os_sock_t *fd, apr_socket_t *socket)
{
    REQUIRE((char *)socket == &client_socket);
    *fd = NO_FD;
    return APR_SUCCESS;
}

/* The only option that is ever set: the client's connection ends by a reset. */
int __wrap_setsockopt(int fd, int level, int name, const void *value,
                      socklen_t len);
int __wrap_setsockopt(int fd, int level, int name, const void *value,
                      socklen_t len)
{
    (void)value;
    (void)len;
    REQUIRE(fd == NO_FD && level == SOL_SOCKET && name == SO_LINGER);
    world.client.was_reset = 1;
    return 0;
}

apr_status_t __wrap_apr_socket_atreadeof(apr_socket_t *socket, int *at_eof);
apr_status_t __wrap_apr_socket_atreadeof(apr_socket_t *socket, int *at_eof)
{
    REQUIRE((char *)socket == &client_socket);
    *at_eof = world.client.half_closed;
    return APR_SUCCESS;
}

apr_socket_t *ap_get_conn_socket(conn_rec *c)
{
    REQUIRE(c == &world.connection);
    return (apr_socket_t *)(void *)&client_socket;
}

/* ---- files, of which there may be no more ---- */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, mode_t mode);
int __wrap_open(const char *path, int flags, mode_t mode)
{
    errno = EMFILE;
    return world.has_no_files ? -1 : __real_open(path, flags, mode);
}

apr_status_t __real_apr_file_open(apr_file_t **file, const char *path,
                                  apr_int32_t flags, apr_fileperms_t mode,
                                  apr_pool_t *pool);
apr_status_t __wrap_apr_file_open(apr_file_t **file, const char *path,
                                  apr_int32_t flags, apr_fileperms_t mode,
                                  apr_pool_t *pool);
apr_status_t __wrap_apr_file_open(apr_file_t **file, const char *path,
                                  apr_int32_t flags, apr_fileperms_t mode,
                                  apr_pool_t *pool)
{
    return world.has_no_files
               ? EMFILE
               : __real_apr_file_open(file, path, flags, mode, pool);
}

apr_status_t __wrap_apr_file_mktemp(apr_file_t **file, char *path,
                                    apr_int32_t flags, apr_pool_t *pool);
apr_status_t __wrap_apr_file_mktemp(apr_file_t **file, char *path,
                                    apr_int32_t flags, apr_pool_t *pool)
{
    (void)file;
    (void)path;
    (void)flags;
    (void)pool;
    return EMFILE; /* only where there is no O_TMPFILE */
}

apr_status_t __wrap_apr_file_dup(apr_file_t **copy, apr_file_t *file,
                                 apr_pool_t *pool);
apr_status_t __wrap_apr_file_dup(apr_file_t **copy, apr_file_t *file,
                                 apr_pool_t *pool)
{
    (void)copy;
    (void)file;
    (void)pool;
    return EMFILE; /* only where there is no /proc */
}

/* ---- the thread's driver ---- */

static int wants_of(const apr_pollfd_t *pfd)
{
    int is_client = (char *)pfd->desc.s == &client_socket;
    int wants = 0;

    if (pfd->desc_type == APR_POLL_FILE) {
        return FCGI_WANTS_BELL;
    }
    if (pfd->reqevents & APR_POLLIN) {
        wants |= is_client ? FCGI_WANTS_CLIENT : FCGI_WANTS_READ;
    }
    if (pfd->reqevents & APR_POLLOUT) {
        wants |= is_client ? FCGI_WANTS_CLIENT_WRITE : FCGI_WANTS_WRITE;
    }
    return wants | (is_client ? FCGI_WANTS_CLIENT_END : 0);
}

static void answer(apr_pollfd_t *pfd, int ready)
{
    int wants = wants_of(pfd) & ready;
    int is_client = (char *)pfd->desc.s == &client_socket;

    pfd->rtnevents = 0;
    if (pfd->desc_type == APR_POLL_FILE) {
        return;
    }
    if (!is_client && application_of(pfd->desc.s)->is_closed) {
        pfd->rtnevents |= APR_POLLHUP;
    }
    if (wants & (FCGI_WANTS_READ | FCGI_WANTS_CLIENT)) {
        pfd->rtnevents |= APR_POLLIN;
    }
    if (wants & (FCGI_WANTS_WRITE | FCGI_WANTS_CLIENT_WRITE)) {
        pfd->rtnevents |= APR_POLLOUT;
    }
    if (wants & FCGI_WANTS_CLIENT_END) {
        pfd->rtnevents |= APR_POLLHUP;
    }
}

apr_status_t __wrap_apr_poll(apr_pollfd_t *pfds, apr_int32_t count,
                             apr_int32_t *signalled,
                             apr_interval_time_t timeout);
apr_status_t __wrap_apr_poll(apr_pollfd_t *pfds, apr_int32_t count,
                             apr_int32_t *signalled,
                             apr_interval_time_t timeout)
{
    apr_socket_t *application = NULL;
    int wants = 0, ready, i;

    for (i = 0; i < count; i++) {
        wants |= wants_of(&pfds[i]);
        if (pfds[i].desc_type == APR_POLL_SOCKET
            && (char *)pfds[i].desc.s != &client_socket) {
            application = (apr_socket_t *)application_of(pfds[i].desc.s);
        }
    }
    ready = world_wait(wants, application,
                       timeout < 0 ? 0 : world.now + timeout + 1);
    for (i = 0; i < count; i++) {
        answer(&pfds[i], ready);
    }
    *signalled = ready != 0;
    return ready ? APR_SUCCESS : APR_TIMEUP;
}

/* ---- making connections ---- */

static apr_status_t refuse(fcgi_connecting *connecting, fcgi_result *result,
                           apr_status_t rv)
{
    if (connecting->socket) {
        application_of(connecting->socket)->is_open = 0;
    }
    connecting->socket = NULL;
    connecting->wake_at = 0;
    result->outcome = FCGI_OUTCOME_NO_CONNECT;
    result->phase = FCGI_PHASE_CONNECT;
    result->rv = rv;
    result->why = "as the input says";
    return rv;
}

apr_status_t fcgi_connect_step(fcgi_connecting *connecting,
                               const fcgi_address *address, fcgi_instant until,
                               int may_wait, apr_pool_t *scratch,
                               fcgi_result *result)
{
    static const apr_status_t errors[] = { APR_ECONNREFUSED, APR_ENOENT,
                                           APR_EAGAIN,       APR_TIMEUP,
                                           APR_EACCES,       EMFILE };
    int how = world_byte() & 15;

    (void)address;
    (void)may_wait;
    (void)scratch;
    if (how > 9) {
        return refuse(connecting, result, errors[how - 10]);
    }
    if (!connecting->socket && world.socket_count < WORLD_SOCKETS) {
        world.sockets[world.socket_count].is_open = 1;
        world.sockets[world.socket_count].room = 64 * 1024;
        connecting->socket =
            (apr_socket_t *)&world.sockets[world.socket_count++];
    }
    if (!connecting->socket) {
        return refuse(connecting, result, APR_ECONNREFUSED);
    }
    connecting->wake_at = how == 9 ? until : 0;
    if (how == 9 && world.now >= until) {
        return refuse(connecting, result, APR_TIMEUP);
    }
    return how == 9 ? APR_EINPROGRESS : APR_SUCCESS;
}

void fcgi_connect_give_up(fcgi_connecting *connecting)
{
    if (connecting->socket) {
        application_of(connecting->socket)->is_open = 0;
    }
    connecting->socket = NULL;
}

/* ---- the beginning and the end ---- */

void world_begin(const uint8_t *data, size_t len)
{
    memset(&world, 0, sizeof(world));
    world.data = data;
    world.left = len;
    world.now = apr_time_from_sec(1000);
    world.read_max = WORLD_BYTES;
    world.tells = getenv("FUZZ_TELL") != NULL;
}

void world_next(void)
{
    world_client *client = &world.client;
    int i;

    free(client->got);
    free(client->piece);
    memset(client, 0, sizeof(*client));
    client->room = 64 * 1024;
    world.connection.data_in_output_filters = 0;
    world.used = NULL;
    world.is_redirected = 0;
    world.has_blocked = 0;
    world.waits = 0;
    for (i = 0; i < world.socket_count; i++) {
        app_socket *one = &world.sockets[i];

        one->is_used = 0;
        one->said_before = one->said_read;
        one->heard_before = one->heard_len;
    }
}

void world_end(void)
{
    int i;

    for (i = 0; i < world.socket_count; i++) {
        REQUIRE(!world.sockets[i].is_open);
        free(world.sockets[i].said);
        free(world.sockets[i].heard);
    }
    free(world.client.got);
    free(world.client.piece);
    REQUIRE(!world.permits && !world.pressing);
}
