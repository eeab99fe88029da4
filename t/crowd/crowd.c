/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * crowd.c - thousands of clients of an HTTP server in one thread, each of
 * which looks at every byte of its answer.
 *
 *     crowd --port=N --path=/app?id= [options]
 *
 *     --path=PATH       the client's own number, from 1 on, is added to it
 *     --lines=N         what to expect: so many lines of patient.c (3),
 *     --stream          an event stream of patient.c,
 *     --expect=TEXT     or exactly that
 *     --again           who has an answer asks once more, on the same
 *                       connection if it is kept; who has none as well
 *     --pause=MS        so much later
 *     --patience=MS     who has no whole answer by then leaves: it is late
 *     --rate=N          new clients in a second, at the most (5000)
 *
 * Commands come on standard input: "ask N" (N clients more), "leave N" (N of
 * those that wait close or reset their connection, at random), "finish"
 * (nobody asks again), "reset" (forget the times measured), "report". The end
 * of standard input ends it. A report is a line of JSON:
 *
 *     begun      clients whose answer's header is there, so far
 *     asked = right + refused + cut + wrong + left + late + waiting
 *     right      whole, and as expected in each byte
 *     refused    another status than 200, and whole
 *     cut        not whole, and that can be seen
 *     wrong      anything else; "why" tells of the first
 *     again      asked once more because a kept connection was closed before
 *     oldest     microseconds that the first of those that wait has waited
 *     events     of event streams
 *     answer, event   microseconds, of right answers from the request to the
 *                end, and of events from their time to their arrival: count,
 *                p50, p90, p99, p999, max
 */
#define _GNU_SOURCE /* memmem */

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tool.h"

#define TICK_MS     10
#define HEAD_MAX    4096
#define LINE_LEN    18   /* of patient.c's answers */
#define PER_ADDRESS 5000 /* clients of one source address */

enum body {
    NO_BODY_YET,
    LENGTH,
    CHUNK_SIZE,
    CHUNK,
    CHUNK_END,
    TRAILER,
    UNTIL_CLOSE,
    WHOLE
};

enum outcome {
    RIGHT,
    REFUSED,
    CUT,
    WRONG,
    LEFT,
    LATE,
    OUTCOMES
};

struct client {
    int fd; /* -1: none */
    long id;
    uint64_t asked_at, asks_at; /* 0: it does not wait; will not ask */
    int is_reused, is_kept, status;
    enum body body;
    uint64_t left; /* bytes of the body or the chunk */
    char *head;    /* the header so far, NULL afterwards */
    size_t head_len;
    char size[32]; /* a chunk's size, so far */
    size_t size_len;
    uint64_t seen;  /* bytes of content */
    char event[64]; /* the part of an event that is there */
    size_t event_len;
    long event_number;
    int is_wrong, has_ended;
};

static struct options {
    int port, is_stream, asks_again;
    long lines, pause, patience, rate;
    const char *path, *expect;
} options = { .lines = 3, .rate = 5000 };

static int poller, is_finishing;
static struct client **clients;
static long client_count, client_room, to_come, asked, waiting, begun, again;
static long events_seen, outcomes[OUTCOMES];
static char why[256];

/* ---- times: 64 steps for each doubling ---- */

#define STEPS  64
#define LEVELS 40

struct times {
    uint64_t counts[LEVELS * STEPS], count, max;
} answer_times, event_times;

static size_t step_of(uint64_t value)
{
    int level = 0;

    while (value >> level >= 2 * STEPS) {
        level++;
    }
    return (size_t)level * STEPS + (value >> level);
}

static uint64_t value_of(size_t step)
{
    size_t level = step < 2 * STEPS ? 0 : step / STEPS - 1;

    return (uint64_t)(step - level * STEPS) << level;
}

static void measure(struct times *times, uint64_t value)
{
    size_t step = step_of(value);

    times->counts[step < LEVELS * STEPS ? step : LEVELS * STEPS - 1]++;
    times->count++;
    if (value > times->max) {
        times->max = value;
    }
}

static uint64_t percentile(const struct times *times, double part)
{
    uint64_t wanted = (uint64_t)((double)times->count * part), seen = 0;

    for (size_t step = 0; step < LEVELS * STEPS; step++) {
        seen += times->counts[step];
        if (seen > wanted) {
            return value_of(step);
        }
    }
    return times->max;
}

static void print_times(const char *name, const struct times *times)
{
    printf(",\"%s\":{\"count\":%llu,\"p50\":%llu,\"p90\":%llu,\"p99\":%llu,"
           "\"p999\":%llu,\"max\":%llu}",
           name, (unsigned long long)times->count,
           (unsigned long long)percentile(times, 0.5),
           (unsigned long long)percentile(times, 0.9),
           (unsigned long long)percentile(times, 0.99),
           (unsigned long long)percentile(times, 0.999),
           (unsigned long long)times->max);
}

static uint64_t oldest(void)
{
    uint64_t now = tool_now(), longest = 0;

    for (long i = 0; i < client_count; i++) {
        if (clients[i]->asked_at && now - clients[i]->asked_at > longest) {
            longest = now - clients[i]->asked_at;
        }
    }
    return longest;
}

static void report(void)
{
    printf("{\"asked\":%ld,\"waiting\":%ld,\"begun\":%ld,\"right\":%ld,"
           "\"refused\":%ld,\"cut\":%ld,\"wrong\":%ld,\"left\":%ld,"
           "\"late\":%ld,\"again\":%ld,\"oldest\":%llu,\"events\":%ld,"
           "\"why\":\"%s\"",
           asked, waiting, begun, outcomes[RIGHT], outcomes[REFUSED],
           outcomes[CUT], outcomes[WRONG], outcomes[LEFT], outcomes[LATE],
           again, (unsigned long long)oldest(), events_seen, why);
    print_times("answer", &answer_times);
    print_times("event", &event_times);
    printf("}\n");
    fflush(stdout);
}

/* ---- asking, and how it ends ---- */

static void hang_up(struct client *client, int resets)
{
    struct linger linger = { .l_onoff = 1 };

    if (client->fd >= 0) {
        if (resets) {
            setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger,
                       sizeof(linger));
        }
        close(client->fd);
        client->fd = -1;
    }
    free(client->head);
    client->head = NULL;
}

static void settle(struct client *client, enum outcome outcome)
{
    uint64_t now = tool_now();

    outcomes[outcome]++;
    waiting--;
    if (outcome == RIGHT) {
        measure(&answer_times, now - client->asked_at);
    }
    client->asked_at = 0;
    client->asks_at = options.asks_again && !is_finishing
                          ? now + (uint64_t)options.pause * 1000 + 1
                          : 0;
    if (outcome != RIGHT || !client->is_kept || !client->asks_at) {
        hang_up(client, outcome == LEFT && client->id % 2);
    }
}

/* Notes the first thing that is wrong, without what JSON would have to quote.
 */
static void blame(struct client *client, const char *what, const char *bytes,
                  size_t len)
{
    client->is_wrong = 1;
    if (!*why) {
        size_t at = (size_t)snprintf(why, sizeof(why),
                                     "client %ld: %s: ", client->id, what);

        for (size_t i = 0; i < len && at < sizeof(why) - 1; i++) {
            char c = bytes[i];

            why[at++] = c < ' ' || c > '~' || strchr("\"\\", c) ? '_' : c;
        }
        why[at] = '\0';
    }
}

static void connect_to_server(struct client *client)
{
    struct sockaddr_in from = { .sin_family = AF_INET }, to = from;
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = client };
    int yes = 1;

    from.sin_addr.s_addr =
        htonl(INADDR_LOOPBACK + (uint32_t)(client->id / PER_ADDRESS));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)options.port);
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (client->fd < 0) {
        tool_die("socket");
    }
    setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes,
               sizeof(yes));
    if (bind(client->fd, (struct sockaddr *)&from, sizeof(from)) < 0
        || connect(client->fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
        hang_up(client, 0);
        return;
    }
    epoll_ctl(poller, EPOLL_CTL_ADD, client->fd, &event);
}

/* On the connection there is, or a new one. A server that is not there is a
 * cut answer. */
static void ask(struct client *client)
{
    char request[1024];
    int len = snprintf(request, sizeof(request),
                       "GET %s%ld HTTP/1.1\r\nHost: localhost\r\n\r\n",
                       options.path, client->id);

    asked++;
    waiting++;
    client->asks_at = 0;
    client->asked_at = tool_now();
    client->is_reused = client->fd >= 0;
    if (client->fd < 0) {
        connect_to_server(client);
    }
    client->head = tool_alloc(HEAD_MAX);
    client->head_len = client->size_len = client->event_len = 0;
    client->body = NO_BODY_YET;
    client->seen = 0;
    client->event_number = 0;
    client->is_wrong = client->has_ended = client->status = 0;
    if (client->fd < 0
        || (send(client->fd, request, (size_t)len, MSG_DONTWAIT) < 0
            && !client->is_reused)) {
        settle(client, CUT);
    }
}

/* ---- looking at content ---- */

static void check_event(struct client *client)
{
    long id = 0, number = 0;
    char time[24] = "";

    client->event[client->event_len] = '\0';
    if (sscanf(client->event, "data: %ld %ld %23s", &id, &number, time) != 3
        || id != client->id || number != client->event_number++
        || client->has_ended) {
        blame(client, "event", client->event, client->event_len);
        return;
    }
    if (!strcmp(time, "end")) {
        client->has_ended = 1;
        return;
    }
    events_seen++;
    measure(&event_times, tool_now() - strtoull(time, NULL, 10));
}

static void check_stream(struct client *client, const char *bytes, size_t len)
{
    for (; len && !client->is_wrong; bytes++, len--) {
        char *end = client->event + client->event_len;

        *end = *bytes;
        if (++client->event_len == sizeof(client->event)) {
            blame(client, "long event", client->event, client->event_len - 1);
        }
        else if (*bytes == '\n' && client->event_len > 1 && end[-1] == '\n') {
            check_event(client);
            client->event_len = 0;
        }
    }
}

static void check_lines(struct client *client, const char *bytes, size_t len)
{
    uint64_t at = client->seen;
    char line[64];

    for (size_t i = 0; i < len; i++, at++) {
        if (i == 0 || at % LINE_LEN == 0) {
            snprintf(line, sizeof(line), "%08ld %08llu\n", client->id,
                     (unsigned long long)(at / LINE_LEN));
        }
        if (bytes[i] != line[at % LINE_LEN]
            || at >= (uint64_t)options.lines * LINE_LEN) {
            blame(client, "content", bytes + i, len - i);
            return;
        }
    }
}

static void check(struct client *client, const char *bytes, size_t len)
{
    if (client->status == 200 && !client->is_wrong) {
        if (options.is_stream) {
            check_stream(client, bytes, len);
        }
        else if (!options.expect) {
            check_lines(client, bytes, len);
        }
        else if (client->seen + len > strlen(options.expect)
                 || memcmp(options.expect + client->seen, bytes, len) != 0) {
            blame(client, "content", bytes, len);
        }
    }
    client->seen += len;
}

static int has_all(const struct client *client)
{
    return options.is_stream ? client->has_ended
           : options.expect
               ? client->seen == strlen(options.expect)
               : client->seen == (uint64_t)options.lines * LINE_LEN;
}

/* ---- HTTP ---- */

/* The value of a field, or NULL. */
static const char *field(const struct client *client, const char *name)
{
    const char *found = strcasestr(client->head, name);

    return found ? found + strlen(name) : NULL;
}

static void read_head(struct client *client)
{
    const char *length = field(client, "\r\nContent-Length: ");
    const char *connection = field(client, "\r\nConnection: ");

    client->status = (int)strtol(client->head + 9, NULL, 10);
    client->is_kept = !connection || strncasecmp(connection, "close", 5) != 0;
    client->left = 0;
    if (field(client, "\r\nTransfer-Encoding: chunked")) {
        client->body = CHUNK_SIZE;
    }
    else if (length) {
        client->left = strtoull(length, NULL, 10);
        client->body = client->left ? LENGTH : WHOLE;
    }
    else {
        client->body = UNTIL_CLOSE;
    }
    free(client->head);
    client->head = NULL;
    begun++;
}

/* Takes bytes of the header; returns how many. */
static size_t take_head(struct client *client, const char *bytes, size_t len)
{
    size_t before = client->head_len, room = HEAD_MAX - 1 - before;
    size_t taken = len < room ? len : room;
    char *end;

    memcpy(client->head + before, bytes, taken);
    client->head_len += taken;
    client->head[client->head_len] = '\0';
    end = memmem(client->head, client->head_len, "\r\n\r\n", 4);
    if (end) {
        end[2] = '\0';
        taken = (size_t)(end + 4 - client->head) - before;
        read_head(client);
    }
    else if (client->head_len == HEAD_MAX - 1) {
        blame(client, "header", client->head, 80);
        client->body = WHOLE;
    }
    return taken;
}

/* A line of the chunked coding is there. */
static void end_chunk_line(struct client *client)
{
    client->size[client->size_len] = '\0';
    client->size_len = 0;
    if (client->body == CHUNK_END) {
        client->body = CHUNK_SIZE;
    }
    else if (client->body == CHUNK_SIZE) {
        client->left = strtoull(client->size, NULL, 16);
        client->body = client->left ? CHUNK : TRAILER;
    }
    else if (*client->size == '\r') {
        client->body = WHOLE;
    }
}

static size_t take_chunk_line(struct client *client, const char *bytes,
                              size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == '\n') {
            end_chunk_line(client);
            return i + 1;
        }
        if (client->size_len < sizeof(client->size) - 1) {
            client->size[client->size_len++] = bytes[i];
        }
    }
    return len;
}

static size_t take_content(struct client *client, const char *bytes,
                           size_t len)
{
    if (client->body != UNTIL_CLOSE) {
        len = len < client->left ? len : client->left;
        client->left -= len;
    }
    check(client, bytes, len);
    if (client->body != UNTIL_CLOSE && !client->left) {
        client->body = client->body == CHUNK ? CHUNK_END : WHOLE;
    }
    return len;
}

static void take(struct client *client, const char *bytes, size_t len)
{
    while (len && client->body != WHOLE) {
        size_t taken = client->body == NO_BODY_YET
                           ? take_head(client, bytes, len)
                       : client->body == LENGTH || client->body == CHUNK
                               || client->body == UNTIL_CLOSE
                           ? take_content(client, bytes, len)
                           : take_chunk_line(client, bytes, len);

        bytes += taken;
        len -= taken;
    }
    if (len) {
        blame(client, "bytes after the answer", bytes, len);
    }
}

/* The answer is whole as far as HTTP knows. */
static enum outcome judge(struct client *client)
{
    if (!client->is_wrong && client->status == 200 && !has_all(client)) {
        blame(client, "whole, but short", "", 0);
    }
    return client->is_wrong ? WRONG : client->status == 200 ? RIGHT : REFUSED;
}

/* The server closed, or reset the connection. Without a length nobody can tell
 * of a close that it cuts. */
static void end(struct client *client, int is_reset)
{
    if (!client->asked_at) {
        hang_up(client, 0);
    }
    else if (client->is_reused && client->body == NO_BODY_YET
             && !client->head_len) {
        again++;
        asked--;
        waiting--;
        hang_up(client, 0);
        ask(client);
    }
    else if (client->body == UNTIL_CLOSE && !is_reset) {
        client->is_kept = 0;
        settle(client, judge(client));
    }
    else {
        settle(client, client->is_wrong ? WRONG : CUT);
    }
}

static void read_from(struct client *client)
{
    static char bytes[65536];
    ssize_t got = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        end(client, got < 0);
    }
    else if (!client->asked_at) {
        blame(client, "bytes that nobody asked for", bytes, (size_t)got);
        outcomes[WRONG]++;
        hang_up(client, 0);
    }
    else {
        take(client, bytes, (size_t)got);
        if (client->body == WHOLE) {
            settle(client, judge(client));
        }
    }
}

/* ---- commands and the clock ---- */

static void come(void)
{
    struct client *client = tool_alloc(sizeof(*client));

    if (client_count == client_room) {
        client_room = 2 * client_room + 1024;
        clients = realloc(clients, (size_t)client_room * sizeof(*clients));
        if (!clients) {
            tool_die("memory");
        }
    }
    clients[client_count++] = client;
    client->id = client_count;
    client->fd = -1;
    ask(client);
}

static void send_away(long count)
{
    long tries = 20 * count;

    while (count > 0 && tries-- > 0 && client_count) {
        struct client *client = clients[random() % client_count];

        if (client->asked_at) {
            settle(client, LEFT);
            count--;
        }
    }
}

static void run(const char *line)
{
    if (!strncmp(line, "ask ", 4)) {
        to_come += strtol(line + 4, NULL, 10);
    }
    else if (!strncmp(line, "leave ", 6)) {
        send_away(strtol(line + 6, NULL, 10));
    }
    else if (!strcmp(line, "finish")) {
        is_finishing = 1;
    }
    else if (!strcmp(line, "reset")) {
        memset(&answer_times, 0, sizeof(answer_times));
        memset(&event_times, 0, sizeof(event_times));
    }
    else if (!strcmp(line, "report")) {
        report();
    }
}

/* All clients, once in a while. */
static void look_at_clocks(uint64_t now)
{
    for (long i = 0; i < client_count; i++) {
        struct client *client = clients[i];

        if (is_finishing) {
            client->asks_at = 0;
        }
        if (client->asks_at && client->asks_at <= now) {
            ask(client);
        }
        else if (options.patience && client->asked_at
                 && client->asked_at + (uint64_t)options.patience * 1000
                        < now) {
            settle(client, LATE);
        }
    }
}

/* Lets in as many as the rate allows since it was called last. */
static void let_in(uint64_t now)
{
    static uint64_t last;
    static double allowed;

    allowed += last ? (double)(now - last) / 1e6 * (double)options.rate : 1;
    last = now;
    if (allowed > 100) {
        allowed = 100;
    }
    for (; to_come && allowed >= 1; allowed--, to_come--) {
        come();
    }
}

static void read_options(int argc, char **argv)
{
    const struct option known[] = {
        { "port", required_argument, NULL, 'p' },
        { "path", required_argument, NULL, 'u' },
        { "lines", required_argument, NULL, 'l' },
        { "stream", no_argument, NULL, 's' },
        { "expect", required_argument, NULL, 'e' },
        { "again", no_argument, NULL, 'a' },
        { "pause", required_argument, NULL, 'w' },
        { "patience", required_argument, NULL, 't' },
        { "rate", required_argument, NULL, 'r' },
        { NULL, 0, NULL, 0 },
    };
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        long number = optarg ? strtol(optarg, NULL, 10) : 0;

        switch (option) {
        case 'p':
            options.port = (int)number;
            break;
        case 'u':
            options.path = optarg;
            break;
        case 'l':
            options.lines = number;
            break;
        case 's':
            options.is_stream = 1;
            break;
        case 'e':
            options.expect = optarg;
            break;
        case 'a':
            options.asks_again = 1;
            break;
        case 'w':
            options.pause = number;
            break;
        case 't':
            options.patience = number;
            break;
        case 'r':
            options.rate = number;
            break;
        default:
            exit(2);
        }
    }
    if (!options.port || !options.path) {
        fputs("usage: crowd --port=N --path=PATH [options]\n", stderr);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct epoll_event command = { .events = EPOLLIN }, events[256];

    read_options(argc, argv);
    tool_init();
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, 0, &command) < 0) {
        tool_die("epoll_ctl");
    }
    for (uint64_t looked = 0;;) {
        int count = epoll_wait(poller, events, 256, TICK_MS), must_run = 0;
        uint64_t now;

        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr) {
                read_from(events[i].data.ptr);
            }
            else {
                must_run = 1;
            }
        }
        if (must_run && !tool_commands(run)) {
            return 0;
        }
        now = tool_now();
        let_in(now);
        if (now - looked >= TICK_MS * 1000) {
            looked = now;
            look_at_clocks(now);
        }
    }
}
