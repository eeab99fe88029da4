/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * hello.c - a FastCGI application in C, as small as libfcgi makes it.
 *
 *     cc -o hello hello.c -lfcgi && ./hello /run/hello.sock
 *
 * It answers with a page that shows how it sees the request, or with one
 * line of plain text when the query string starts with "plain".
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fcgiapp.h>

static const char *const shown[] = {
    "REQUEST_METHOD", "REQUEST_URI",     "SCRIPT_NAME", "PATH_INFO",
    "QUERY_STRING",   "SERVER_PROTOCOL", "REMOTE_ADDR", "HTTP_USER_AGENT",
};

/* What the client sent must not become a part of the page's HTML. */
static void put_escaped(const char *text, FCGX_Stream *out)
{
    for (; *text; text++) {
        switch (*text) {
        case '<':
            FCGX_PutS("&lt;", out);
            break;
        case '>':
            FCGX_PutS("&gt;", out);
            break;
        case '&':
            FCGX_PutS("&amp;", out);
            break;
        default:
            FCGX_PutChar(*text, out);
        }
    }
}

static const char *param(const FCGX_Request *request, const char *name)
{
    const char *value = FCGX_GetParam(name, request->envp);
    return value ? value : "";
}

static void answer_plain(FCGX_Request *request, unsigned long count)
{
    FCGX_FPrintF(request->out,
                 "Content-Type: text/plain; charset=utf-8\r\n\r\n"
                 "Hello from C: request %lu, SCRIPT_NAME=%s, PATH_INFO=%s\n",
                 count, param(request, "SCRIPT_NAME"),
                 param(request, "PATH_INFO"));
}

static void answer_page(FCGX_Request *request, unsigned long count)
{
    FCGX_Stream *out = request->out;

    FCGX_FPrintF(out,
                 "Content-Type: text/html; charset=utf-8\r\n\r\n"
                 "<!DOCTYPE html>\n<title>Hello from C</title>\n"
                 "<style>body { font: 1em sans-serif; margin: 3em }\n"
                 "td { padding: .2em 1em .2em 0 }</style>\n"
                 "<h1>Hello from C</h1>\n"
                 "<p>Request %lu of process %d. This is how it looks to a "
                 "program with libfcgi:\n<table>\n",
                 count, (int)getpid());
    for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
        FCGX_FPrintF(out, "<tr><td>%s<td>", shown[i]);
        put_escaped(param(request, shown[i]), out);
        FCGX_PutS("\n", out);
    }
    FCGX_PutS("</table>\n<p><a href=\"/\">PHP</a> "
              "<a href=\"/django/\">Django</a>\n",
              out);
}

int main(int argc, char **argv)
{
    FCGX_Request request;
    unsigned long count = 0;
    int listener;

    if (argc != 2) {
        fputs("usage: hello SOCKET\n", stderr);
        return 2;
    }
    umask(0); /* the web server's user is another one and must connect */
    FCGX_Init();
    listener = FCGX_OpenSocket(argv[1], 128);
    if (listener < 0) {
        perror(argv[1]);
        return 1;
    }
    FCGX_InitRequest(&request, listener, 0);
    while (FCGX_Accept_r(&request) == 0) {
        count++;
        if (!strncmp(param(&request, "QUERY_STRING"), "plain", 5)) {
            answer_plain(&request, count);
        }
        else {
            answer_page(&request, count);
        }
        FCGX_Finish_r(&request);
    }
    return 1;
}
