/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * app.c - the cheap application behind every gateway of t/bench/bench.pl, on
 * libfcgi: what it costs is small and the same for all.
 *
 *     cc -O2 -o app app.c -lfcgi && ./app WORKERS LOG <listening socket
 *
 * The listening socket is file 0, as FastCGI says. It reads the whole body,
 * and answers with that length and with as many bytes as the query string
 * says:
 *
 *     bytes=N   so many bytes more
 *     sleep=N   after N milliseconds
 *     log       a line in LOG when its worker is free again: when it began
 *               and when it was done, in seconds
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <fcgiapp.h>

/* The longest piece that is written at once. */
#define FILLER 65536

static char filler[FILLER];

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_REALTIME, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* The number after name in the query string; 0 without one. */
static long number(const char *query, const char *name)
{
    const char *found = strstr(query, name);

    return found ? strtol(found + strlen(name), NULL, 10) : 0;
}

static long read_body(FCGX_Stream *in)
{
    static char bytes[65536];
    long total = 0;
    int len;

    while ((len = FCGX_GetStr(bytes, sizeof(bytes), in)) > 0) {
        total += len;
    }
    return total;
}

static void answer(FCGX_Request *request, const char *query)
{
    long left = number(query, "bytes="), body = read_body(request->in);

    if (number(query, "sleep=") > 0) {
        usleep((useconds_t)number(query, "sleep=") * 1000);
    }
    FCGX_FPrintF(request->out, "Content-Type: text/plain\r\n\r\nok %ld\n",
                 body);
    while (left > 0) {
        int len = (int)(left < FILLER ? left : FILLER);

        if (FCGX_PutStr(filler, len, request->out) < len) {
            return;
        }
        left -= len;
    }
}

static void work(const char *log_name)
{
    FILE *log = fopen(log_name, "a");
    FCGX_Request request;

    FCGX_InitRequest(&request, 0, 0);
    while (FCGX_Accept_r(&request) == 0) {
        const char *query = FCGX_GetParam("QUERY_STRING", request.envp);
        double began = now();
        int logs = query && strstr(query, "log");

        answer(&request, query ? query : "");
        FCGX_Finish_r(&request);
        if (logs && log) {
            fprintf(log, "%.6f %.6f\n", began, now());
            fflush(log);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fputs("usage: app WORKERS LOG <listening socket\n", stderr);
        return 2;
    }
    memset(filler, 'x', sizeof(filler));
    FCGX_Init();
    for (int worker = atoi(argv[1]); worker > 0; worker--) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            work(argv[2]);
            _exit(1);
        }
    }
    while (wait(NULL) > 0) {
    }
    return 1;
}
