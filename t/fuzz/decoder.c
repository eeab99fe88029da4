/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * decoder.c - the contract is in decoder.h. Sections are those of FastCGI 1.0
 * if nothing else is said.
 */
#include "decoder.h"

#include <string.h>
#include <strings.h>

enum {
    BEGIN = 1,
    ABORT = 2,
    END = 3,
    PARAMS = 4,
    STDIN = 5,
    STDOUT = 6
};

/* A record (3.3), of which len bytes of content are here. */
typedef struct record {
    unsigned int type, id;
    size_t content_len, whole_len;
    const uint8_t *content;
    size_t len;
} record;

/* False if there is not even a header, or none of version 1. */
static int get_record(const uint8_t *bytes, size_t len, record *found)
{
    if (len < 8 || bytes[0] != 1) {
        return 0;
    }
    found->type = bytes[1];
    found->id = bytes[2] * 256u + bytes[3];
    found->content_len = bytes[4] * 256u + bytes[5];
    found->whole_len = 8 + found->content_len + bytes[6];
    found->content = bytes + 8;
    found->len = len - 8 < found->content_len ? len - 8 : found->content_len;
    return 1;
}

/* ---- header blocks (RFC 3875, 6.3) ---- */

static int is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static int is_token(const char *text, size_t len)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    size_t i;

    for (i = 0; i < len; i++) {
        char c = text[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z')
              || (c >= 'A' && c <= 'Z')
              || memchr(others, c, sizeof(others) - 1))) {
            return 0;
        }
    }
    return len > 0;
}

static int is_content(const char *text, size_t len)
{
    size_t i;

    for (i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c != '\t' && (c < ' ' || c == 0x7f)) {
            return 0;
        }
    }
    return 1;
}

static int has_name(const char *line, size_t name_len, const char *name)
{
    return strlen(name) == name_len && !strncasecmp(line, name, name_len);
}

static int digits(const char *text, size_t len)
{
    size_t count = 0;

    while (count < len && text[count] >= '0' && text[count] <= '9') {
        count++;
    }
    return (int)count;
}

/* What a block said so far. */
typedef struct block {
    int status;
    int64_t length;
    int length_is_bad;
    int has_location, location_is_path, has_more_fields;
} block;

static int take_status(block *head, const char *value, size_t len)
{
    if (digits(value, len) != 3) {
        return 0;
    }
    head->status =
        (value[0] - '0') * 100 + (value[1] - '0') * 10 + value[2] - '0';
    return head->status >= 100;
}

static void take_length(block *head, const char *value, size_t len)
{
    int64_t number = 0;
    size_t i;
    int fits = len > 0 && (size_t)digits(value, len) == len;

    for (i = 0; fits && i < len; i++) {
        int digit = value[i] - '0';

        fits = number <= (INT64_MAX - digit) / 10;
        number = fits ? number * 10 + digit : 0;
    }
    if (!fits || (head->length >= 0 && head->length != number)) {
        head->length_is_bad = 1;
    }
    head->length = number;
}

/* One line without its end. False if it cannot be believed. */
static int take_line(block *head, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);
    const char *value = colon, *end = line + len;
    size_t name_len;

    if (!colon) {
        return 0;
    }
    for (value++; value < end && is_blank(*value); value++) {
    }
    while (end > value && is_blank(end[-1])) {
        end--;
    }
    name_len = (size_t)(colon - line);
    len = (size_t)(end - value);
    if (!is_token(line, name_len) || !is_content(value, len)) {
        return 0;
    }
    if (has_name(line, name_len, "Status")) {
        return take_status(head, value, len);
    }
    if (has_name(line, name_len, "Content-Length")) {
        take_length(head, value, len);
    }
    else if (has_name(line, name_len, "Location")) {
        head->has_location = 1;
        head->location_is_path =
            len > 0 && value[0] == '/' && (len < 2 || value[1] != '/');
    }
    else if (!has_name(line, name_len, "Content-Type")) {
        head->has_more_fields = 1;
    }
    return 1;
}

/* The length of the line that begins there, its end not counted; -1: it has
 * none. */
static long line_length(const char *text, size_t len)
{
    const char *end = memchr(text, '\n', len);

    return end ? (long)(end - text) : -1;
}

/* The bytes of the block that text begins with, its blank line included; 0:
 * there is no blank line. */
static size_t block_length(const char *text, size_t len)
{
    size_t at = 0;

    for (;;) {
        long line_len = line_length(text + at, len - at);

        if (line_len < 0) {
            return 0;
        }
        if (line_len == 0 || (line_len == 1 && text[at] == '\r')) {
            return at + (size_t)line_len + 1;
        }
        at += (size_t)line_len + 1;
    }
}

/* False if a line of a whole block cannot be believed. */
static int take_block(block *head, const char *text, size_t len)
{
    size_t at = 0;

    memset(head, 0, sizeof(*head));
    head->length = -1;
    if (memchr(text, '\0', len)) {
        return 0;
    }
    while (at < len) {
        size_t line_len = (size_t)line_length(text + at, len - at);
        size_t end = line_len && text[at + line_len - 1] == '\r' ? line_len - 1
                                                                 : line_len;

        if (end && !take_line(head, text + at, end)) {
            return 0;
        }
        at += line_len + 1;
    }
    if (head->length_is_bad) {
        head->length = -1;
    }
    return 1;
}

/* Takes STDOUT apart: blocks of interim responses, a header block, a body. */
static void take_stdout(decoded_answer *answer, const char *text, size_t len,
                        size_t head_max)
{
    block head;

    do {
        size_t head_len = block_length(text, len);

        if (head_len > head_max || (!head_len && len > head_max)) {
            answer->bad_head = 1;
            return;
        }
        if (!head_len) {
            return;
        }
        if (!take_block(&head, text, head_len) || head.status == 101) {
            answer->bad_head = 1;
            return;
        }
        text += head_len;
        len -= head_len;
    } while (head.status >= 100 && head.status < 200);
    answer->has_head = 1;
    answer->status = head.status;
    answer->length = head.length;
    answer->body = (const uint8_t *)text;
    answer->body_len = len;
    if (head.has_location && !head.status) {
        answer->is_local = head.location_is_path && !head.has_more_fields;
        answer->status = answer->is_local ? 0 : 302;
    }
}

/* ---- answers ---- */

/* A record of ours, or that says it is. False: nothing counts behind it. */
static int take_record(decoded_answer *answer, const record *found,
                       uint8_t *text, size_t *text_len)
{
    if (found->type == END) {
        answer->is_malformed = found->content_len < 8;
        if (found->content_len >= 8 && found->len >= 8) {
            answer->is_ended = 1;
            answer->protocol_status = found->content[4];
        }
        return 0;
    }
    if (found->type == STDOUT) {
        answer->stdout_ended =
            found->content_len == 0 || (answer->stdout_ended && !found->len);
        memcpy(text + *text_len, found->content, found->len);
        *text_len += found->len;
    }
    return 1;
}

decoded_answer decode_answer(const uint8_t *bytes, size_t len, unsigned int id,
                             size_t head_max)
{
    static uint8_t text[DECODER_MAX];
    decoded_answer answer = { 0 };
    size_t text_len = 0;
    record found;

    answer.length = -1;
    while (get_record(bytes + answer.used, len - answer.used, &found)) {
        int is_answer = found.type == STDOUT || found.type == END;

        if (found.id != id && is_answer
            && (found.type == END || !found.id || found.id > id)) {
            answer.is_malformed = 1;
            break;
        }
        if (found.id == id && !take_record(&answer, &found, text, &text_len)) {
            break;
        }
        if (found.whole_len > len - answer.used) {
            break; /* the rest is not here */
        }
        answer.used += found.whole_len;
    }
    if (answer.is_ended) {
        answer.used += 16;
        answer.rest = found.whole_len - 16;
    }
    else if (answer.used < len && bytes[answer.used] != 1) {
        answer.is_malformed = 1;
    }
    take_stdout(&answer, (const char *)text, text_len, head_max);
    return answer;
}

/* ---- requests ---- */

/* The records of a stream (3.3): a prefix of what is expected. Returns how
 * many bytes they are. *ended: the empty one is here; *wrong: they say
 * something else. */
static size_t take_stream(const uint8_t *bytes, size_t len, unsigned int type,
                          const expected_request *expected, int *state)
{
    const uint8_t *content =
        type == PARAMS ? expected->params : expected->body;
    size_t left = type == PARAMS ? expected->params_len : expected->body_len;
    size_t at = 0;
    record found;

    *state = 0;
    while (!*state && get_record(bytes + at, len - at, &found)
           && found.type == type && found.id == expected->id) {
        if (found.content_len > left
            || (found.len && memcmp(found.content, content, found.len))) {
            *state = -1;
        }
        else if (!found.content_len) {
            *state = left || (type == STDIN && !expected->body_done) ? -1 : 1;
        }
        content += found.len;
        left -= *state < 0 ? 0 : found.content_len;
        at += found.whole_len < len - at ? found.whole_len : len - at;
    }
    return at;
}

/* What is left behind the last record that was expected: ABORT_REQUEST, or
 * what was written of it; or of any other as long as the request is not whole. */
static decoded_request judge_rest(const uint8_t *bytes, size_t len,
                                  unsigned int id, decoded_request so_far)
{
    const uint8_t abort[8] = { 1, ABORT, (uint8_t)(id >> 8), (uint8_t)id };

    if (!len) {
        return so_far;
    }
    if (len <= sizeof(abort) && !memcmp(bytes, abort, len)
        && (len == sizeof(abort) || so_far == REQUEST_WHOLE)) {
        return REQUEST_ABORTED;
    }
    return len < 8 && bytes[0] == 1 && so_far != REQUEST_WHOLE ? so_far
                                                               : REQUEST_WRONG;
}

decoded_request decode_request(const uint8_t *bytes, size_t len,
                               const expected_request *expected)
{
    static const uint8_t responder[] = { 0, 1 };
    record begin;
    size_t at = 16;
    int state = 0;

    if (len < 16) {
        return len && bytes[0] != 1 ? REQUEST_WRONG : REQUEST_BEGUN;
    }
    if (!get_record(bytes, len, &begin) || begin.type != BEGIN
        || begin.id != expected->id || begin.whole_len != 16
        || memcmp(begin.content, responder, 2) || begin.content[2] > 1) {
        return REQUEST_WRONG;
    }
    at += take_stream(bytes + at, len - at, PARAMS, expected, &state);
    if (state == 1) {
        at += take_stream(bytes + at, len - at, STDIN, expected, &state);
    }
    else if (!state) {
        return judge_rest(bytes + at, len - at, expected->id, REQUEST_BEGUN);
    }
    return state < 0 ? REQUEST_WRONG
                     : judge_rest(bytes + at, len - at, expected->id,
                                  state ? REQUEST_WHOLE : REQUEST_BEGUN);
}
