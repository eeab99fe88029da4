/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * late.c - a library before libc, with which httpd is as slow as on a machine
 * that is far too busy: around some of its system calls, at random, it sleeps
 * for a moment, and before lines of logs it does so, too. A test that
 * takes for granted what only mostly comes first fails then; "make test-late".
 *
 * LATE is at how many of a hundred such moments it is late; 3, if not set.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LATE_MS_MAX 20 /* a call */
#define LOG_MS      30 /* a line of a log; of an error log each third */

static __thread unsigned seed;

static void pause_ms(unsigned ms)
{
    struct timespec time = { 0, ms * 1000000L };
    int saved = errno;

    nanosleep(&time, NULL);
    errno = saved;
}

static unsigned draw(unsigned below)
{
    if (!seed) {
        seed = (unsigned)time(NULL) * 31 + (unsigned)syscall(SYS_gettid);
    }
    return (unsigned)rand_r(&seed) % below;
}

static void be_late(void)
{
    const char *percent = getenv("LATE");

    if (draw(100) < (percent ? strtoul(percent, NULL, 10) : 3)) {
        pause_ms(1 + draw(LATE_MS_MAX));
    }
}

static void be_late_with_logs(int fd)
{
    char link[64], path[512];
    ssize_t len;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, path, sizeof(path) - 1);
    path[len < 0 ? 0 : len] = '\0';
    if (strstr(path, "error.log") ? !draw(3) : strstr(path, ".log") != NULL) {
        pause_ms(LOG_MS);
    }
    be_late();
}

/* A function that calls libc's, with what is done before and after. */
#define CALL(before, after, type, name, parameters, arguments)                \
    type name parameters                                                      \
    {                                                                         \
        static type(*real) parameters;                                        \
        type result;                                                          \
                                                                              \
        if (!real) {                                                          \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                        \
        }                                                                     \
        before;                                                               \
        result = real arguments;                                              \
        after;                                                                \
        return result;                                                        \
    }
#define LATE(...)     CALL(be_late(), be_late(), __VA_ARGS__)
#define LATE_LOG(...) CALL(be_late_with_logs(fd), (void)0, __VA_ARGS__)

LATE_LOG(ssize_t, write, (int fd, const void *bytes, size_t len),
         (fd, bytes, len))
LATE_LOG(ssize_t, writev, (int fd, const struct iovec *pieces, int count),
         (fd, pieces, count))
LATE(ssize_t, read, (int fd, void *bytes, size_t len), (fd, bytes, len))
LATE(ssize_t, readv, (int fd, const struct iovec *pieces, int count),
     (fd, pieces, count))
LATE(ssize_t, recv, (int fd, void *bytes, size_t len, int flags),
     (fd, bytes, len, flags))
LATE(ssize_t, send, (int fd, const void *bytes, size_t len, int flags),
     (fd, bytes, len, flags))
LATE(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags),
     (fd, message, flags))
LATE(int, poll, (struct pollfd * fds, nfds_t count, int timeout),
     (fds, count, timeout))
LATE(int, epoll_wait,
     (int set, struct epoll_event *events, int count, int timeout),
     (set, events, count, timeout))
LATE(int, connect, (int fd, const struct sockaddr *address, socklen_t len),
     (fd, address, len))
LATE(int, accept4,
     (int fd, struct sockaddr *address, socklen_t *len, int flags),
     (fd, address, len, flags))
LATE(int, shutdown, (int fd, int how), (fd, how))
LATE(int, close, (int fd), (fd))
