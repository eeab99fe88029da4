/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_head.c - gathers and parses a header block; the contract is in
 * fcgi_head.h. The bytes are hostile: nothing is used before the whole block
 * is here and has been checked.
 */
#include "fcgi_head.h"

#include <string.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include <httpd.h>

/* Most blocks fit without growing. */
#define FIRST_SIZE 1024

void fcgi_head_init(fcgi_head *head, apr_pool_t *pool, apr_size_t max)
{
    memset(head, 0, sizeof(*head));
    head->pool = pool;
    head->block_pool = pool;
    head->max = max;
    head->content_length = -1;
}

void fcgi_head_restart(fcgi_head *head)
{
    if (head->block_pool != head->pool) {
        apr_pool_clear(head->block_pool);
    }
    else {
        apr_pool_create(&head->block_pool, head->pool);
    }
    head->len = 0;
    head->line_len = 0;
    head->why = NULL;
}

/* How many of len bytes belong to the header block: up to the blank line
 * that ends it, and then *ended is set, or all. */
static apr_size_t find_end(fcgi_head *head, const char *data, apr_size_t len,
                           int *ended)
{
    apr_size_t used = 0;

    *ended = 0;
    while (used < len && !*ended) {
        const char *line = data + used;
        const char *end = memchr(line, '\n', len - used);
        apr_size_t count = end ? (apr_size_t)(end - line) : len - used;

        if (count) {
            head->line_cr = line[count - 1] == '\r';
            head->line_len += count;
        }
        used += count;
        if (end) {
            *ended =
                head->line_len == 0 || (head->line_len == 1 && head->line_cr);
            head->line_len = 0;
            used++;
        }
    }
    return used;
}

/* Appends to the header block; 0 if that would exceed its bound. */
static int append(fcgi_head *head, const char *data, apr_size_t len)
{
    apr_size_t needed = head->len + len;

    if (needed > head->max) {
        return 0;
    }
    if (needed > head->size) {
        apr_size_t size = FIRST_SIZE;
        char *bytes;

        while (size < needed) {
            size *= 2;
        }
        if (size > head->max) {
            size = head->max;
        }
        bytes = apr_palloc(head->pool, size + 1);
        if (head->len) {
            memcpy(bytes, head->bytes, head->len);
        }
        head->bytes = bytes;
        head->size = size;
    }
    memcpy(head->bytes + head->len, data, len);
    head->len = needed;
    return 1;
}

/* Status: three digits from 100 on, but not four, and then perhaps a reason
 * (RFC 3875, 6.3.3), which some write without the blank. */
static int parse_status(fcgi_head *head, const char *value)
{
    const char *text;

    if (!apr_isdigit(value[0]) || !apr_isdigit(value[1])
        || !apr_isdigit(value[2]) || apr_isdigit(value[3])) {
        return 0;
    }
    head->status =
        (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0');
    text = value + 3 + strspn(value + 3, " \t");
    head->reason =
        *text ? apr_psprintf(head->pool, "%d %s", head->status, text) : NULL;
    return head->status >= 100;
}

/* Content-Length: digits; a second one must say the same (RFC 9110, 8.6). */
static void parse_length(fcgi_head *head, const char *value)
{
    apr_off_t len;

    if (head->bad_length) {
        return;
    }
    if (!ap_parse_strict_length(&len, value)
        || (head->content_length >= 0 && head->content_length != len)) {
        head->bad_length = value;
        len = -1;
    }
    head->content_length = len;
}

static void trim_end(char *text)
{
    apr_size_t len = strlen(text);

    while (len && (text[len - 1] == ' ' || text[len - 1] == '\t')) {
        text[--len] = '\0';
    }
}

/* True for two names of that length; most are written as they are known. */
static int is_same(const char *name, const char *known, apr_size_t len)
{
    return !memcmp(name, known, len) || !ap_cstr_casecmp(name, known);
}

fcgi_field fcgi_head_field(const char *name)
{
    /* by their lengths; no more than two have the same */
    static const struct {
        const char *name;
        fcgi_field field;
    } known[][2] = {
        [2] = { { "TE", FCGI_FIELD_HOP } },
        [4] = { { "ETag", FCGI_FIELD_SINGLE }, { "Vary", FCGI_FIELD_VARY } },
        [6] = { { "Status", FCGI_FIELD_STATUS } },
        [7] = { { "Trailer", FCGI_FIELD_HOP }, { "Upgrade", FCGI_FIELD_HOP } },
        [8] = { { "Location", FCGI_FIELD_SINGLE } },
        [10] = { { "Connection", FCGI_FIELD_CONNECTION },
                 { "Keep-Alive", FCGI_FIELD_HOP } },
        [12] = { { "Content-Type", FCGI_FIELD_TYPE } },
        [13] = { { "Content-Range", FCGI_FIELD_SINGLE },
                 { "Last-Modified", FCGI_FIELD_MODIFIED } },
        [14] = { { "Content-Length", FCGI_FIELD_LENGTH } },
        [16] = { { "Proxy-Connection", FCGI_FIELD_HOP } },
        [17] = { { "Transfer-Encoding", FCGI_FIELD_HOP } },
    };
    apr_size_t len = strlen(name);
    int i;

    if (len >= sizeof(known) / sizeof(*known)) {
        return FCGI_FIELD_OTHER;
    }
    for (i = 0; i < 2 && known[len][i].name; i++) {
        if (is_same(name, known[len][i].name, len)) {
            return known[len][i].field;
        }
    }
    return FCGI_FIELD_OTHER;
}

int fcgi_head_is_single(fcgi_field field)
{
    return field >= FCGI_FIELD_TYPE && field <= FCGI_FIELD_SINGLE;
}

/* Takes one line, without its end, apart. Returns NULL or what is wrong. */
static const char *parse_line(fcgi_head *head, char *line)
{
    apr_pool_t *pool = head->pool;
    char *value = strchr(line, ':');
    fcgi_field field;

    if (!value) {
        return apr_psprintf(pool, "a header line without a colon: '%.80s'",
                            line);
    }
    *value++ = '\0';
    value += strspn(value, " \t");
    trim_end(value);
    if (!*line || *ap_scan_http_token(line)) {
        return apr_psprintf(pool, "an invalid header name: '%.80s'", line);
    }
    if (*ap_scan_http_field_content(value)) {
        return apr_psprintf(pool, "a control character in header %.80s", line);
    }
    field = fcgi_head_field(line);
    if (field == FCGI_FIELD_STATUS) {
        return parse_status(head, value)
                   ? NULL
                   : apr_psprintf(pool, "an invalid Status: '%.80s'", value);
    }
    if (field == FCGI_FIELD_LENGTH) {
        parse_length(head, value);
        return NULL;
    }
    if (field == FCGI_FIELD_TYPE) {
        ap_content_type_tolower(value); /* as core has it */
    }
    if (fcgi_head_is_single(field)) {
        apr_table_unset(head->fields, line);
    }
    apr_table_addn(head->fields, line, value);
    return NULL;
}

/* Parses the gathered block. Returns NULL or what is wrong with it. */
static const char *parse(fcgi_head *head)
{
    char *line = head->bytes;
    char *end = head->bytes + head->len;
    const char *problem = NULL;

    head->fields = apr_table_make(head->block_pool, 16);
    head->status = 0;
    head->reason = NULL;
    head->content_length = -1;
    head->bad_length = NULL;
    if (memchr(line, '\0', head->len)) {
        return "a NUL byte in the header block";
    }
    *end = '\0';
    while (!problem && line < end) {
        char *next = strchr(line, '\n');

        *next++ = '\0';
        if (next - line > 1 && next[-2] == '\r') {
            next[-2] = '\0';
        }
        if (*line) {
            problem = parse_line(head, line);
        }
        line = next;
    }
    return problem;
}

fcgi_head_state fcgi_head_add(fcgi_head *head, const char *data,
                              apr_size_t len, apr_size_t *taken)
{
    int ended;

    *taken = 0;
    if (head->why) {
        return FCGI_HEAD_BAD;
    }
    if (!len) {
        return FCGI_HEAD_MORE;
    }
    *taken = find_end(head, data, len, &ended);
    if (!append(head, data, *taken)) {
        head->why = apr_psprintf(head->pool,
                                 "the header block is larger than "
                                 "FcgiMaxHeaderSize %" APR_SIZE_T_FMT " bytes",
                                 head->max);
        return FCGI_HEAD_BAD;
    }
    if (!ended) {
        return FCGI_HEAD_MORE;
    }
    head->why = parse(head);
    return head->why ? FCGI_HEAD_BAD : FCGI_HEAD_WHOLE;
}
