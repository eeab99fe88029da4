/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * tool.c - what crowd.c and patient.c have in common; the contract is in
 * tool.h.
 */
#include "tool.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

uint64_t tool_now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

void tool_init(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOFBF, 65536);
}

void tool_die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

void *tool_alloc(size_t len)
{
    void *memory = calloc(1, len);

    if (!memory) {
        tool_die("memory");
    }
    return memory;
}

int tool_commands(void (*run)(const char *line))
{
    static char text[4096];
    static size_t len;
    ssize_t got = read(0, text + len, sizeof(text) - len - 1);
    char *end;

    if (got <= 0) {
        return got < 0 && (errno == EINTR || errno == EAGAIN);
    }
    len += (size_t)got;
    text[len] = '\0';
    while ((end = strchr(text, '\n')) != NULL) {
        *end++ = '\0';
        run(text);
        len -= (size_t)(end - text);
        memmove(text, end, len + 1);
    }
    return len < sizeof(text) - 1;
}
