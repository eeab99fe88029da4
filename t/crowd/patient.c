/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * patient.c - a FastCGI application of one thread that has thousands of
 * requests at once and is in no hurry. What it does to a request stands in
 * the query string:
 *
 *     id=N      which one it is; the answer says so all over
 *     lines=N   lines of the answer, each with the id and its own number (3)
 *     hold      answered when the gate is open
 *     after=N   answered after N milliseconds, if it does not hold
 *     half=N    N milliseconds between the two halves of the answer
 *     every=N   an event stream: an event every N milliseconds, each with
 *               the id, its number and the time it was made; the last, when
 *               the gate opens, says "end" in place of the time
 *     events=N  the stream ends by itself after so many
 *
 * Listens on descriptor 3. Commands come on standard input:
 *
 *     go        opens the gate
 *     hold      closes it, as it is at first
 *     count     prints "count HELD STREAMS OPEN SEEN": requests that wait for
 *               the gate, event streams, connections, all requests so far
 *     order     prints "order ID ID ...": in the order in which they came
 *
 * Trusts whoever connects to speak FastCGI; requests have no body.
 */
#define _GNU_SOURCE /* accept4 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tool.h"

#define LISTENER  3
#define IN_SIZE   16384 /* a request must fit */
#define QUERY_MAX 256
#define EVENT_MAX 64

enum {
    BEGIN_REQUEST = 1,
    ABORT_REQUEST,
    END_REQUEST,
    PARAMS,
    STDIN,
    STDOUT
};

enum state {
    READING,
    HELD,
    LATE,
    HALF,
    STREAM,
    LEAVING
};

struct conn {
    int fd;
    enum state state;
    int keep, request_id, wants_write;
    uint8_t *in; /* NULL when there is nothing */
    size_t in_len;
    uint8_t *out;
    size_t out_len, out_sent;
    long id, lines, half, every, events, number;
    uint64_t due; /* when something is to be done; 0: nothing */
    size_t place; /* in the heap, from 1 on; 0: not there */
    struct conn *previous, *next; /* of those that are held, and streams */
};

static int poller, gate_is_open;
static long open_count, seen_count, held_count, stream_count;
static struct conn held = { .previous = &held, .next = &held };
static struct conn streams = { .previous = &streams, .next = &streams };
static long *order;
static size_t order_count, order_room;

/* ---- who is next: a heap of those that have a time ---- */

static struct conn **heap;
static size_t heap_count, heap_room;

static void put(struct conn *conn, size_t place)
{
    heap[place] = conn;
    conn->place = place;
}

static void sift(struct conn *conn, size_t place)
{
    while (place > 1 && heap[place / 2]->due > conn->due) {
        put(heap[place / 2], place);
        place /= 2;
    }
    while (2 * place <= heap_count) {
        size_t child = 2 * place;

        if (child < heap_count && heap[child + 1]->due < heap[child]->due) {
            child++;
        }
        if (heap[child]->due >= conn->due) {
            break;
        }
        put(heap[child], place);
        place = child;
    }
    put(conn, place);
}

static void set_due(struct conn *conn, uint64_t due)
{
    conn->due = due;
    if (!conn->place) {
        if (++heap_count >= heap_room) {
            heap_room = 2 * heap_room + 64;
            heap = realloc(heap, heap_room * sizeof(*heap));
            if (!heap) {
                tool_die("memory");
            }
        }
        conn->place = heap_count;
    }
    sift(conn, conn->place);
}

static void forget_due(struct conn *conn)
{
    struct conn *last = heap_count ? heap[heap_count] : NULL;
    size_t place = conn->place;

    if (!place) {
        return;
    }
    conn->place = 0;
    heap_count--;
    if (last != conn) {
        sift(last, place);
    }
}

/* ---- lists ---- */

static void enter(struct conn *list, struct conn *conn, long *count)
{
    conn->previous = list->previous;
    conn->next = list;
    conn->previous->next = list->previous = conn;
    ++*count;
}

static void leave(struct conn *conn)
{
    if (conn->next) {
        conn->previous->next = conn->next;
        conn->next->previous = conn->previous;
        conn->next = NULL;
        --*(conn->state == HELD ? &held_count : &stream_count);
    }
}

/* ---- writing ---- */

static void drop(struct conn *conn)
{
    leave(conn);
    forget_due(conn);
    close(conn->fd);
    free(conn->in);
    free(conn->out);
    free(conn);
    open_count--;
}

static void watch(struct conn *conn, int wants_write)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = conn };

    if (conn->wants_write != wants_write) {
        conn->wants_write = wants_write;
        event.events |= wants_write ? EPOLLOUT : 0;
        epoll_ctl(poller, EPOLL_CTL_MOD, conn->fd, &event);
    }
}

/* Sends what there is; 0 if the connection is gone. */
static int flush(struct conn *conn)
{
    while (conn->out_sent < conn->out_len) {
        ssize_t sent = send(conn->fd, conn->out + conn->out_sent,
                            conn->out_len - conn->out_sent, MSG_DONTWAIT);

        if (sent < 0 && errno == EAGAIN) {
            watch(conn, 1);
            return 1;
        }
        if (sent < 0 && errno != EINTR) {
            drop(conn);
            return 0;
        }
        conn->out_sent += sent > 0 ? (size_t)sent : 0;
    }
    free(conn->out);
    conn->out = NULL;
    conn->out_len = conn->out_sent = 0;
    watch(conn, 0);
    if (conn->state == LEAVING) {
        drop(conn);
        return 0;
    }
    return 1;
}

static void append(struct conn *conn, const void *bytes, size_t len)
{
    conn->out = realloc(conn->out, conn->out_len + len);
    if (!conn->out) {
        tool_die("memory");
    }
    memcpy(conn->out + conn->out_len, bytes, len);
    conn->out_len += len;
}

static void add_record(struct conn *conn, int type, const void *content,
                       size_t len)
{
    uint8_t head[8] = { 1,
                        (uint8_t)type,
                        (uint8_t)(conn->request_id >> 8),
                        (uint8_t)conn->request_id,
                        (uint8_t)(len >> 8),
                        (uint8_t)len };

    append(conn, head, sizeof(head));
    append(conn, content, len);
}

static void add_text(struct conn *conn, const char *text)
{
    add_record(conn, STDOUT, text, strlen(text));
}

static void add_lines(struct conn *conn, long from, long to)
{
    char text[1000 * 18 + 1];
    size_t len = 0;

    for (; from < to; from++) {
        len += (size_t)sprintf(text + len, "%08ld %08ld\n", conn->id, from);
        if (len > sizeof(text) - 19 || from == to - 1) {
            add_record(conn, STDOUT, text, len);
            len = 0;
        }
    }
}

/* The answer is whole; the connection waits for the next request, or goes. */
static void end(struct conn *conn)
{
    const uint8_t complete[8] = { 0 };

    leave(conn);
    forget_due(conn);
    add_record(conn, END_REQUEST, complete, sizeof(complete));
    conn->state = conn->keep ? READING : LEAVING;
    flush(conn);
}

/* ---- what becomes of a request ---- */

static void answer(struct conn *conn)
{
    leave(conn);
    add_text(conn, "Content-Type: text/plain\r\n\r\n");
    if (!conn->half) {
        add_lines(conn, 0, conn->lines);
        end(conn);
        return;
    }
    add_lines(conn, 0, conn->lines / 2);
    conn->state = HALF;
    set_due(conn, tool_now() + (uint64_t)conn->half * 1000);
    flush(conn);
}

static void tell(struct conn *conn, uint64_t now)
{
    char event[EVENT_MAX];

    snprintf(event, sizeof(event), "data: %ld %ld %llu\n\n", conn->id,
             conn->number++, (unsigned long long)now);
    add_text(conn, event);
    set_due(conn, conn->due + (uint64_t)conn->every * 1000);
    flush(conn);
}

static void end_stream(struct conn *conn)
{
    char event[EVENT_MAX];

    snprintf(event, sizeof(event), "data: %ld %ld end\n\n", conn->id,
             conn->number);
    add_text(conn, event);
    end(conn);
}

static void wake(struct conn *conn, uint64_t now)
{
    if (conn->state == STREAM) {
        if (conn->events && conn->number >= conn->events) {
            end_stream(conn);
        }
        else {
            tell(conn, now);
        }
    }
    else if (conn->state == HALF) {
        add_lines(conn, conn->lines / 2, conn->lines);
        end(conn);
    }
    else {
        forget_due(conn);
        answer(conn);
    }
}

/* The number after name in the query; otherwise without one. */
static long number(const char *query, const char *name, long otherwise)
{
    const char *found = strstr(query, name);

    return found ? strtol(found + strlen(name), NULL, 10) : otherwise;
}

static void note_order(long id)
{
    if (order_count == order_room) {
        order_room = 2 * order_room + 1024;
        order = realloc(order, order_room * sizeof(*order));
        if (!order) {
            tool_die("memory");
        }
    }
    order[order_count++] = id;
}

/* Events of many streams are spread over their pause by the id. */
static void begin_stream(struct conn *conn)
{
    uint64_t pause = (uint64_t)conn->every * 1000;

    add_text(conn, "Content-Type: text/event-stream\r\n\r\n");
    conn->state = STREAM;
    conn->number = 0;
    enter(&streams, conn, &stream_count);
    set_due(conn, tool_now() + (uint64_t)conn->id * 7919 * 1000 % pause);
    flush(conn);
}

static void serve(struct conn *conn, const char *query)
{
    long after = number(query, "after=", 0);

    conn->id = number(query, "id=", 0);
    conn->lines = number(query, "lines=", 3);
    conn->half = number(query, "half=", 0);
    conn->every = number(query, "every=", 0);
    conn->events = number(query, "events=", 0);
    seen_count++;
    note_order(conn->id);
    if (conn->every) {
        begin_stream(conn);
    }
    else if (strstr(query, "hold") && !gate_is_open) {
        conn->state = HELD;
        enter(&held, conn, &held_count);
    }
    else if (after) {
        conn->state = LATE;
        set_due(conn, tool_now() + (uint64_t)after * 1000);
    }
    else {
        answer(conn);
    }
}

/* ---- reading ---- */

static size_t length_of(const uint8_t **at)
{
    const uint8_t *p = *at;

    if (p[0] < 0x80) {
        *at += 1;
        return p[0];
    }
    *at += 4;
    return ((size_t)(p[0] & 0x7f) << 24) | (size_t)p[1] << 16
           | (size_t)p[2] << 8 | p[3];
}

/* Looks for QUERY_STRING in the parameters of one record. */
static void find_query(const uint8_t *at, size_t len, char *query)
{
    const uint8_t *past = at + len;

    while (at < past) {
        size_t name = length_of(&at), value = length_of(&at);

        if (name == 12 && !memcmp(at, "QUERY_STRING", 12)
            && value < QUERY_MAX) {
            memcpy(query, at + name, value);
            query[value] = '\0';
        }
        at += name + value;
    }
}

/* The bytes of the first whole request, or 0. */
static size_t take_request(struct conn *conn, char *query)
{
    size_t at = 0;

    while (at + 8 <= conn->in_len) {
        const uint8_t *head = conn->in + at;
        size_t len = (size_t)head[4] << 8 | head[5];

        at += 8 + len + head[6];
        if (at > conn->in_len) {
            return 0;
        }
        if (head[1] == BEGIN_REQUEST) {
            conn->request_id = head[2] << 8 | head[3];
            conn->keep = head[10] & 1;
        }
        else if (head[1] == PARAMS) {
            find_query(head + 8, len, query);
        }
        else if (head[1] == STDIN && !len) {
            return at;
        }
    }
    return 0;
}

static void take(struct conn *conn)
{
    char query[QUERY_MAX] = "";
    size_t len = take_request(conn, query);

    if (len) {
        conn->in_len -= len;
        memmove(conn->in, conn->in + len, conn->in_len);
        if (!conn->in_len) {
            free(conn->in);
            conn->in = NULL;
        }
        serve(conn, query);
    }
}

/* While a request waits all that can come is its end. */
static void listen_to(struct conn *conn)
{
    uint8_t spare[64];
    ssize_t got;

    if (conn->state != READING) {
        got = recv(conn->fd, spare, sizeof(spare), MSG_DONTWAIT);
        if (got >= 0 || errno != EAGAIN) {
            drop(conn);
        }
        return;
    }
    if (!conn->in) {
        conn->in = tool_alloc(IN_SIZE);
    }
    got = recv(conn->fd, conn->in + conn->in_len, IN_SIZE - conn->in_len,
               MSG_DONTWAIT);
    if (got > 0) {
        conn->in_len += (size_t)got;
        take(conn);
    }
    else if (got == 0 || errno != EAGAIN) {
        drop(conn);
    }
}

static void welcome(void)
{
    int fd;

    while ((fd = accept4(LISTENER, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct conn *conn = tool_alloc(sizeof(*conn));
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = conn };

        conn->fd = fd;
        open_count++;
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

/* ---- commands ---- */

static void open_gate(void)
{
    gate_is_open = 1;
    while (held.next != &held) {
        answer(held.next);
    }
    while (streams.next != &streams) {
        end_stream(streams.next);
    }
}

static void run(const char *line)
{
    if (!strcmp(line, "go")) {
        open_gate();
    }
    else if (!strcmp(line, "hold")) {
        gate_is_open = 0;
    }
    else if (!strcmp(line, "count")) {
        printf("count %ld %ld %ld %ld\n", held_count, stream_count, open_count,
               seen_count);
    }
    else if (!strcmp(line, "order")) {
        printf("order");
        for (size_t i = 0; i < order_count; i++) {
            printf(" %ld", order[i]);
        }
        printf("\n");
    }
    fflush(stdout);
}

static int time_left(void)
{
    uint64_t now = tool_now();

    if (!heap_count) {
        return -1;
    }
    return heap[1]->due > now ? (int)((heap[1]->due - now + 999) / 1000) : 0;
}

/* A connection may go in any of its own events: each comes once a round. */
static void handle(const struct epoll_event *event)
{
    struct conn *conn = event->data.ptr;

    if (event->events & EPOLLOUT && !flush(conn)) {
        return;
    }
    if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        listen_to(conn);
    }
}

static void add(int fd, void *who)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = who };

    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) {
        tool_die("epoll_ctl");
    }
}

int main(void)
{
    static int listener_is_ready, command_is_there;
    struct epoll_event events[256];

    tool_init();
    poller = epoll_create1(EPOLL_CLOEXEC);
    fcntl(LISTENER, F_SETFL, O_NONBLOCK);
    add(LISTENER, &listener_is_ready);
    add(0, &command_is_there);
    for (;;) {
        int count = epoll_wait(poller, events, 256, time_left());
        int must_run = 0, must_welcome = 0;
        uint64_t now;

        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &listener_is_ready) {
                must_welcome = 1;
            }
            else if (events[i].data.ptr == &command_is_there) {
                must_run = 1;
            }
            else {
                handle(&events[i]);
            }
        }
        for (now = tool_now(); heap_count && heap[1]->due <= now;) {
            wake(heap[1], now);
        }
        if (must_welcome) {
            welcome();
        }
        if (must_run && !tool_commands(run)) {
            return 0;
        }
    }
}
