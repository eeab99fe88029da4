/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * answer.c - the least that a handler of httpd can do, for the benchmarks: 13
 * bytes, for URLs that are no files.
 *
 *     SetHandler bench-answer          from memory, with ?bytes=N so many more
 *                                      if N is not a single digit. A gateway's
 *                                      own work is what it takes beyond that
 *     SetHandler bench-least           from a FastCGI application that is asked
 *     BenchLeast /path/of/a/socket     with the same query string, over a
 *                                      connection of each thread: it writes
 *                                      once, waits, and reads until there is an
 *                                      end; the answer is the same 13 bytes
 *
 *     apxs -c answer.c
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <apr_strings.h>

#include <httpd.h>
#include <http_config.h>
#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>

#define FILLER 65536
#define TAIL   16 /* an FCGI_END_REQUEST, which is the last of an answer */

/* No file is looked for below these, as FcgiScript Virtual has it. */
static int map(request_rec *r)
{
    return strncmp(r->uri, "/answer/", 8) && strncmp(r->uri, "/least/", 7)
               ? DECLINED
               : OK;
}

/* 13 bytes, and more. */
static int give(request_rec *r, apr_size_t more)
{
    static const char bytes[] = "ok 0\nxxxxxxxx";
    static char filler[FILLER];
    apr_bucket_alloc_t *list = r->connection->bucket_alloc;
    apr_bucket_brigade *bb;

    ap_set_content_type(r, "text/plain");
    bb = apr_brigade_create(r->pool, list);
    APR_BRIGADE_INSERT_TAIL(
        bb, apr_bucket_immortal_create(bytes, sizeof(bytes) - 1, list));
    while (more) {
        apr_size_t part = more < FILLER ? more : FILLER;

        APR_BRIGADE_INSERT_TAIL(
            bb, apr_bucket_immortal_create(filler, part, list));
        more -= part;
    }
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_eos_create(list));
    return ap_pass_brigade(r->output_filters, bb) == APR_SUCCESS
               ? OK
               : AP_FILTER_ERROR;
}

static int answer(request_rec *r)
{
    const char *query = r->args ? r->args : "";
    apr_size_t more = 0;

    if (!r->handler || strcmp(r->handler, "bench-answer")) {
        return DECLINED;
    }
    if (strlen(query) > strlen("bytes=8")) {
        more = (apr_size_t)strtoul(query + strlen("bytes="), NULL, 10);
    }
    return give(r, more);
}

/* ---- the least that a gateway can do ---- */

static struct sockaddr_un application;

static char *put_header(char *to, int type, size_t len)
{
    const char header[] = { 1,         (char)type, 0, 1, (char)(len >> 8),
                            (char)len, 0,          0 };

    memcpy(to, header, sizeof(header));
    return to + sizeof(header);
}

static char *put_pair(char *to, const char *name, const char *value)
{
    size_t name_len = strlen(name), len = strlen(value);

    *to++ = (char)name_len;
    *to++ = (char)len;
    memcpy(to, name, name_len);
    memcpy(to + name_len, value, len);
    return to + name_len + len;
}

/* A request with variables as long as a real one's; how long it is. */
static size_t put_request(char *request, const char *query)
{
    static const char responder_kept[8] = { 0, 1, 1 };
    char *params = put_header(request, 1, sizeof(responder_kept));
    char filler[101] = "";
    char *to;
    int i;

    memset(filler, 'x', sizeof(filler) - 1);
    memcpy(params, responder_kept, sizeof(responder_kept));
    params += sizeof(responder_kept);
    to = put_pair(params + 8, "REQUEST_METHOD", "GET");
    to = put_pair(to, "QUERY_STRING", query);
    for (i = 0; i < 6; i++) {
        to = put_pair(to, "FILLER", filler);
    }
    put_header(params, 4, (size_t)(to - params) - 8);
    to = put_header(to, 4, 0);
    to = put_header(to, 5, 0);
    return (size_t)(to - request);
}

static const char *set_application(cmd_parms *cmd, void *config,
                                   const char *path)
{
    (void)cmd;
    (void)config;
    if (strlen(path) >= sizeof(application.sun_path)) {
        return "the path is too long for a socket";
    }
    application.sun_family = AF_UNIX;
    strcpy(application.sun_path, path);
    return NULL;
}

static int make_connection(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd >= 0
        && connect(fd, (struct sockaddr *)&application, sizeof(application))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Reads a whole answer; false if there is none. The bytes before the last ones
 * are forgotten. */
static int read_answer(int fd)
{
    static const char end[] = { 1, 3, 0, 1, 0, 8 };
    static __thread char bytes[TAIL + FILLER];
    struct pollfd wait = { fd, POLLIN, 0 };
    ssize_t len;

    memset(bytes, 0, TAIL);
    do {
        len = poll(&wait, 1, -1) > 0 ? read(fd, bytes + TAIL, FILLER) : 0;
        if (len <= 0) {
            return 0;
        }
        memmove(bytes, bytes + len, TAIL);
    } while (memcmp(bytes, end, sizeof(end)));
    return 1;
}

static int least(request_rec *r)
{
    static __thread int fd = -1;
    static __thread char request[1024], asked[101];
    static __thread struct iovec piece = { NULL, 0 };
    const char *query = r->args ? r->args : "";

    if (!r->handler || strcmp(r->handler, "bench-least")
        || strlen(query) >= sizeof(asked)) {
        return DECLINED;
    }
    if (fd < 0) {
        fd = make_connection();
    }
    if (!piece.iov_len || strcmp(query, asked)) {
        apr_cpystrn(asked, query, sizeof(asked));
        piece.iov_base = request;
        piece.iov_len = put_request(request, query);
    }
    if (writev(fd, &piece, 1) <= 0 || !read_answer(fd)) {
        close(fd);
        fd = -1;
        return HTTP_BAD_GATEWAY;
    }
    return give(r, 0);
}

static const command_rec commands[] = {
    AP_INIT_TAKE1("BenchLeast", set_application, NULL, RSRC_CONF,
                  "the socket of the application that bench-least asks"),
    { NULL },
};

static void register_hooks(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_map_to_storage(map, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_handler(answer, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(least, NULL, NULL, APR_HOOK_MIDDLE);
}

AP_DECLARE_MODULE(bench_answer) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, commands, register_hooks,
    AP_MODULE_FLAG_NONE,
};
