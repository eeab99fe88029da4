/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * answer.c - the least that a handler of httpd can do, for the benchmarks: 13
 * bytes, for URLs that are no files.
 *
 *     SetHandler bench-answer          from memory, with bytes=N in the query
 *                                      string so many more. A gateway's own
 *                                      work is what it takes beyond that
 *     SetHandler bench-least           from a FastCGI application that is asked
 *     BenchLeast /path/of/a/socket     with the same query string, over a
 *                                      connection of each thread: it writes
 *                                      once, waits, and reads until there is an
 *                                      end, of which 13 bytes are given on
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

#define LEN    5 /* of the answer, without the bytes that are asked for */
#define FILLER 65536

/* No file is looked for below these, as FcgiScript Virtual has it. */
static int map(request_rec *r)
{
    return strncmp(r->uri, "/answer/", 8) && strncmp(r->uri, "/least/", 7)
               ? DECLINED
               : OK;
}

/* So many bytes more are asked for. */
static apr_size_t more_of(const request_rec *r)
{
    const char *found = r->args ? strstr(r->args, "bytes=") : NULL;

    return found ? (apr_size_t)strtoul(found + 6, NULL, 10) : 0;
}

static int give(request_rec *r, const char *bytes, apr_size_t more)
{
    static char filler[FILLER];
    apr_bucket_alloc_t *list = r->connection->bucket_alloc;
    apr_bucket_brigade *bb = apr_brigade_create(r->pool, list);

    ap_set_content_type(r, "text/plain");
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_transient_create(bytes, LEN, list));
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
    return r->handler && !strcmp(r->handler, "bench-answer")
               ? give(r, "ok 0\n", more_of(r))
               : DECLINED;
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
    application.sun_family = AF_UNIX;
    apr_cpystrn(application.sun_path, path, sizeof(application.sun_path));
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

/* Reads all of an answer into bytes, over and over; false if there is none. */
static int read_answer(int fd, char *bytes, size_t size)
{
    static const char end[] = { 1, 3, 0, 1, 0, 8 };
    struct pollfd wait = { fd, POLLIN, 0 };
    ssize_t len;

    do {
        len = poll(&wait, 1, -1) > 0 ? read(fd, bytes, size) : 0;
    } while (len > 0
             && (len < 16 || memcmp(bytes + len - 16, end, sizeof(end))));
    return len > 0;
}

static int least(request_rec *r)
{
    static __thread int fd = -1;
    static __thread char bytes[FILLER], request[1024], asked[101];
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
    return writev(fd, &piece, 1) > 0 && read_answer(fd, bytes, sizeof(bytes))
               ? give(r, "ok 0\n", 8)
               : HTTP_BAD_GATEWAY;
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
