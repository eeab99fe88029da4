/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_stderr.c - STDERR to log lines; the contract is in fcgi_stderr.h.
 */
#include "fcgi_stderr.h"

#include "fcgi_log.h"

APLOG_USE_MODULE(fastcgi_handler);

void fcgi_stderr_init(fcgi_stderr *output, request_rec *r, const char *backend,
                      const apr_array_header_t *rules)
{
    output->r = r;
    output->backend = backend;
    output->rules = rules;
    output->line = NULL;
    output->len = 0;
}

static int level_of(const fcgi_stderr *output, const char *text)
{
    int i;

    for (i = 0; output->rules && i < output->rules->nelts; i++) {
        const fcgi_stderr_rule *rule =
            &APR_ARRAY_IDX(output->rules, i, const fcgi_stderr_rule);

        if (!rule->pattern || !ap_regexec(rule->pattern, text, 0, NULL, 0)) {
            return rule->level;
        }
    }
    return APLOG_ERR;
}

/* Logs the gathered line. more says that it goes on in the next entry. */
static void log_line(fcgi_stderr *output, int more)
{
    char text[(FCGI_STDERR_LINE + 1) * 4 + 1];
    apr_size_t i, len = 0;

    for (i = 0; i < output->len; i++) {
        if (output->line[i]) {
            text[len++] = output->line[i];
        }
        else { /* httpd escapes all other control characters itself */
            memcpy(text + len, "\\x00", 4);
            len += 4;
        }
    }
    text[len] = '\0';
    ap_log_rerror(APLOG_MARK, level_of(output, text), 0, output->r,
                  FCGI_LOGNO("10") "%s: stderr: %s%s", output->backend, text,
                  more ? " [continued]" : "");
    output->len = 0;
}

void fcgi_stderr_end(fcgi_stderr *output)
{
    if (output->len && output->line[output->len - 1] == '\r') {
        output->len--;
    }
    if (output->len) {
        log_line(output, 0);
    }
}

void fcgi_stderr_add(fcgi_stderr *output, const char *data, apr_size_t len)
{
    if (len && !output->line) {
        output->line = apr_palloc(output->r->pool, FCGI_STDERR_LINE + 1);
    }
    for (; len; data++, len--) {
        if (*data == '\n') {
            fcgi_stderr_end(output);
            continue;
        }
        /* a CR there may be half of the line's end */
        if (output->len > FCGI_STDERR_LINE
            || (output->len == FCGI_STDERR_LINE && *data != '\r')) {
            log_line(output, 1);
        }
        output->line[output->len++] = *data;
    }
}
