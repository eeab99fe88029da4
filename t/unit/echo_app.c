/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * echo_app.c - a FastCGI application on libfcgi for t/52-libfcgi.t: says its
 * environment and the request body back, with what libfcgi does by itself.
 *
 *     cc -o echo_app echo_app.c -lfcgi && ./echo_app /tmp/x.sock
 *
 * The query string asks for more: "status=N" ends the request with exit
 * status N, "stderr" says a line there, "unread" leaves the body alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <fcgiapp.h>

static void answer(FCGX_Request *request, unsigned long count)
{
    const char *query = FCGX_GetParam("QUERY_STRING", request->envp);
    const char *status = query ? strstr(query, "status=") : NULL;
    char bytes[4096];
    char **variable;
    int len;

    FCGX_FPrintF(request->out,
                 "Content-Type: text/plain\r\nX-Count: %lu\r\n\r\n", count);
    for (variable = request->envp; *variable; variable++) {
        FCGX_FPrintF(request->out, "%s\n", *variable);
    }
    FCGX_PutS("\n", request->out);
    if (query && strstr(query, "stderr")) {
        FCGX_PutS("a line on stderr\n", request->err);
    }
    if (query && strstr(query, "unread")) {
        return;
    }
    while ((len = FCGX_GetStr(bytes, sizeof(bytes), request->in)) > 0) {
        FCGX_PutStr(bytes, len, request->out);
    }
    if (status) {
        FCGX_SetExitStatus(atoi(status + strlen("status=")), request->out);
    }
}

int main(int argc, char **argv)
{
    FCGX_Request request;
    unsigned long count = 0;
    int listener;

    if (argc != 2) {
        fputs("usage: echo_app SOCKET or :PORT\n", stderr);
        return 2;
    }
    umask(0); /* the web server's user is another one */
    FCGX_Init();
    listener = FCGX_OpenSocket(argv[1], 128);
    if (listener < 0) {
        perror(argv[1]);
        return 1;
    }
    FCGX_InitRequest(&request, listener, 0);
    while (FCGX_Accept_r(&request) == 0) {
        answer(&request, ++count);
        FCGX_Finish_r(&request);
    }
    return 1;
}
