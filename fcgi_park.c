/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_park.c - an epoll set that stands for a client's socket; the contract
 * is in fcgi_park.h. These are raw descriptors, as APR's pollset has none to
 * show; a system without them waits in its threads.
 */
#include "fcgi_park.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <apr_atomic.h>
#include <apr_portable.h>

#if defined(__linux__) && !defined(FCGI_WITHOUT_PARK)
#define HAS_EPOLL 1
#include <sys/epoll.h>
#include <sys/timerfd.h>
#else
#define HAS_EPOLL 0
#endif

void fcgi_park_init(fcgi_park *park)
{
    memset(park, 0, sizeof(*park));
    park->set = -1;
    park->client = -1;
    park->client_events = -1;
    park->application = -1;
}

#if HAS_EPOLL

/* So often a socket is looked at that the set has no room for. */
#define LOOK_EVERY apr_time_from_msec(20)

/* What a member of the set is, beside the timer. */
#define CLIENT      1
#define APPLICATION 2

int fcgi_park_is_possible(void)
{
    return 1;
}

static int timer_of(fcgi_park *park)
{
    return (int)apr_atomic_read32(&park->timer) - 1;
}

static int change(const fcgi_park *park, int how, int fd, int events, int is)
{
    struct epoll_event event;

    memset(&event, 0, sizeof(event));
    event.events = (uint32_t)events;
    event.data.fd = is;
    return epoll_ctl(park->set, how, fd, &event);
}

apr_status_t fcgi_park_open(fcgi_park *park)
{
    int timer, error;

    if (park->set >= 0) {
        return APR_SUCCESS;
    }
    park->set = epoll_create1(EPOLL_CLOEXEC);
    if (park->set < 0) {
        return errno;
    }
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer < 0 || change(park, EPOLL_CTL_ADD, timer, EPOLLIN, 0)) {
        error = errno;
        if (timer >= 0) {
            close(timer);
        }
        close(park->set);
        park->set = -1;
        return error;
    }
    apr_atomic_xchg32(&park->timer, (apr_uint32_t)timer + 1);
    return APR_SUCCESS;
}

void fcgi_park_close(fcgi_park *park)
{
    int timer = timer_of(park);

    apr_atomic_xchg32(&park->timer, 0);
    if (timer >= 0) {
        close(timer);
    }
    if (park->set >= 0) {
        close(park->set);
    }
    park->set = -1;
    park->client_events = -1;
    park->application = -1;
}

/* Setting it anew makes a timer that has run out unreadable. */
static void set_timer(int timer, fcgi_instant when)
{
    struct itimerspec spec;

    memset(&spec, 0, sizeof(spec)); /* all 0: never */
    spec.it_value.tv_sec = (time_t)(when / APR_USEC_PER_SEC);
    spec.it_value.tv_nsec = (long)(when % APR_USEC_PER_SEC) * 1000;
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

static void set_off(int timer)
{
    set_timer(timer, 1);
}

void fcgi_park_wake(fcgi_park *park)
{
    int timer;

    /* first this, then the timer; fcgi_park_watch() does it the other way
     * round, and so one of them sees the other */
    apr_atomic_xchg32(&park->woken, 1);
    timer = timer_of(park);
    if (timer >= 0) {
        set_off(timer);
    }
}

static int descriptor_of(apr_socket_t *socket)
{
    apr_os_sock_t fd = -1;

    return socket && apr_os_sock_get(&fd, socket) == APR_SUCCESS ? fd : -1;
}

static int events_of(int wants, int in, int out)
{
    return (wants & in ? EPOLLIN : 0) | (wants & out ? EPOLLOUT : 0);
}

/* The client's descriptor stays the same. It may have to be watched without
 * any event: for its failing. */
static void watch_client(fcgi_park *park, apr_socket_t *client, int wants)
{
    int events = events_of(wants, FCGI_WANTS_CLIENT, FCGI_WANTS_CLIENT_WRITE);
    int fd = descriptor_of(client), how;

    if (!events && !(wants & FCGI_WANTS_CLIENT_END)) {
        events = -1;
    }
    if (events == park->client_events) {
        return;
    }
    how = events < 0                ? EPOLL_CTL_DEL
          : park->client_events < 0 ? EPOLL_CTL_ADD
                                    : EPOLL_CTL_MOD;
    if (change(park, how, fd, events < 0 ? 0 : events, CLIENT)) {
        park->is_blind = 1;
    }
    else {
        park->client_events = events;
    }
}

/* The application's may be another one by now, of the same number: what was
 * closed has left the set by itself. */
static void watch_application(fcgi_park *park, apr_socket_t *application,
                              int wants)
{
    int events = events_of(wants, FCGI_WANTS_READ, FCGI_WANTS_WRITE);
    int fd = events ? descriptor_of(application) : -1;

    if (park->application >= 0 && park->application != fd) {
        change(park, EPOLL_CTL_DEL, park->application, 0, APPLICATION);
    }
    park->application = fd;
    if (fd >= 0 && change(park, EPOLL_CTL_MOD, fd, events, APPLICATION)
        && (errno != ENOENT
            || change(park, EPOLL_CTL_ADD, fd, events, APPLICATION))) {
        park->is_blind = 1;
    }
}

void fcgi_park_watch(fcgi_park *park, apr_socket_t *client,
                     apr_socket_t *application, const fcgi_wait *wait)
{
    fcgi_instant when = wait->wake_at;

    park->wants = wait->wants;
    park->is_blind = 0;
    watch_client(park, client, wait->wants);
    watch_application(park, application, wait->wants);
    if (park->is_blind) {
        fcgi_instant soon = fcgi_clock_now() + LOOK_EVERY;

        when = when && when < soon ? when : soon;
    }
    set_timer(timer_of(park), when);
    if (apr_atomic_read32(&park->woken)) {
        set_off(timer_of(park));
    }
}

static int ready_of(const struct epoll_event *event)
{
    const uint32_t told = event->events;

    if (event->data.fd != CLIENT && event->data.fd != APPLICATION) {
        return 0;
    }
    return fcgi_wait_ready(event->data.fd == CLIENT, (told & EPOLLIN) != 0,
                           (told & EPOLLOUT) != 0,
                           (told & (EPOLLERR | EPOLLHUP)) != 0);
}

int fcgi_park_look(fcgi_park *park)
{
    struct epoll_event events[3];
    int count = epoll_wait(park->set, events, 3, 0), ready = 0;

    apr_atomic_xchg32(&park->woken, 0);
    while (count-- > 0) {
        ready |= ready_of(&events[count]);
    }
    if (park->is_blind) {
        /* reading and writing find out; that it failed would be a fact */
        ready |= park->wants & ~FCGI_WANTS_CLIENT_END;
    }
    return ready;
}

void fcgi_park_swap_in(fcgi_park *park, apr_socket_t *client)
{
    apr_os_sock_t fd = park->set;

    park->client = descriptor_of(client);
    apr_os_sock_put(&client, &fd, NULL); /* makes nothing: needs no pool */
}

void fcgi_park_swap_out(fcgi_park *park, apr_socket_t *client)
{
    apr_os_sock_t fd = park->client;

    if (fd < 0) {
        return;
    }
    park->client = -1;
    if (descriptor_of(client) == park->set) {
        apr_os_sock_put(&client, &fd, NULL);
    }
    else {
        close(fd);
        park->set = -1;
    }
}

#else

int fcgi_park_is_possible(void)
{
    return 0;
}

apr_status_t fcgi_park_open(fcgi_park *park)
{
    (void)park;
    return APR_ENOTIMPL;
}

void fcgi_park_close(fcgi_park *park)
{
    (void)park;
}

void fcgi_park_watch(fcgi_park *park, apr_socket_t *client,
                     apr_socket_t *application, const fcgi_wait *wait)
{
    (void)park;
    (void)client;
    (void)application;
    (void)wait;
}

int fcgi_park_look(fcgi_park *park)
{
    (void)park;
    return 0;
}

void fcgi_park_swap_in(fcgi_park *park, apr_socket_t *client)
{
    (void)park;
    (void)client;
}

void fcgi_park_swap_out(fcgi_park *park, apr_socket_t *client)
{
    (void)park;
    (void)client;
}

void fcgi_park_wake(fcgi_park *park)
{
    apr_atomic_xchg32(&park->woken, 1);
}

#endif
