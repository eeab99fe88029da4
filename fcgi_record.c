/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_record.c - reads and writes FastCGI 1.0 records in memory.
 *
 * Knows the layout of bytes and nothing that carries them: no httpd, no APR,
 * no sockets, no allocation. What an event means for the request is
 * fcgi_exchange.c's business, what goes into PARAMS is fcgi_env.c's. Begin
 * with fcgi_record.h, then step() and the four functions above it.
 */
#include "fcgi_record.h"

#include <string.h>

#define END_REQUEST_BODY_LEN 8

/* Where the reader is in a record. From FAILED_VERSION on, it stays. */
enum reader_state {
    READ_HEADER,      /* header_used of its eight bytes are here */
    READ_CONTENT,     /* content_left to hand out */
    READ_END_REQUEST, /* header_used of the body's eight bytes are here */
    SKIP_REST,        /* content_left, then padding_left, of no interest */
    FAILED_VERSION,
    FAILED_LENGTH
};

void fcgi_reader_init(fcgi_reader *reader, uint16_t request_id)
{
    memset(reader, 0, sizeof(*reader));
    reader->request_id = request_id;
    reader->state = READ_HEADER;
}

static uint32_t get_u16(const uint8_t *from)
{
    return (uint32_t)from[0] << 8 | from[1];
}

static uint32_t get_u32(const uint8_t *from)
{
    return get_u16(from) << 16 | get_u16(from + 2);
}

/* Takes what there is of *left from len bytes. Returns how many. */
static size_t take(uint32_t *left, size_t len)
{
    size_t count = len < *left ? len : *left;

    *left -= (uint32_t)count;
    return count;
}

/* Copies into header until its eight bytes are there. Returns how many. */
static size_t collect(fcgi_reader *reader, const uint8_t *data, size_t len)
{
    uint32_t left = FCGI_HEADER_LEN - reader->header_used;
    size_t count = take(&left, len);

    memcpy(reader->header + reader->header_used, data, count);
    reader->header_used += (uint32_t)count;
    return count;
}

/* Skips what is left of the record; the next one may begin at once. */
static void leave_record(fcgi_reader *reader)
{
    reader->header_used = 0;
    if (reader->content_left == 0 && reader->padding_left == 0) {
        reader->state = READ_HEADER;
    }
    else {
        reader->state = SKIP_REST;
    }
}

static fcgi_event begin_stream(fcgi_reader *reader)
{
    if (reader->content_left == 0) {
        leave_record(reader);
        return FCGI_EVENT_STREAM_END;
    }
    reader->state = READ_CONTENT;
    return FCGI_EVENT_MORE;
}

static fcgi_event begin_end_request(fcgi_reader *reader)
{
    if (reader->content_left < END_REQUEST_BODY_LEN) {
        reader->state = FAILED_LENGTH;
        return FCGI_EVENT_BAD_LENGTH;
    }
    reader->state = READ_END_REQUEST;
    reader->header_used = 0;
    return FCGI_EVENT_MORE;
}

static fcgi_event ignore_record(fcgi_reader *reader, uint32_t *counter)
{
    (*counter)++;
    leave_record(reader);
    return FCGI_EVENT_MORE;
}

/* Somebody else's answer begins, or ends, where there may be nobody else. */
static fcgi_event skip_foreign(fcgi_reader *reader, uint32_t id)
{
    ignore_record(reader, &reader->foreign_records);
    reader->foreign_id = (uint16_t)id;
    return reader->type == FCGI_STDOUT || reader->type == FCGI_END_REQUEST
               ? FCGI_EVENT_FOREIGN
               : FCGI_EVENT_MORE;
}

/* The header is complete: decides what becomes of the record. */
static fcgi_event begin_record(fcgi_reader *reader)
{
    uint32_t id = get_u16(reader->header + 2);

    reader->type = reader->header[1];
    reader->content_left = get_u16(reader->header + 4);
    reader->padding_left = reader->header[6];

    if (id == 0 && reader->type != FCGI_STDOUT
        && reader->type != FCGI_END_REQUEST) {
        return ignore_record(reader, &reader->ignored_records);
    }
    if (id != reader->request_id) {
        return skip_foreign(reader, id);
    }
    if (reader->type == FCGI_END_REQUEST) {
        return begin_end_request(reader);
    }
    if (reader->type == FCGI_STDOUT || reader->type == FCGI_STDERR) {
        return begin_stream(reader);
    }
    return ignore_record(reader, &reader->ignored_records);
}

static fcgi_event read_header(fcgi_reader *reader, const uint8_t *data,
                              size_t len, size_t *used)
{
    /* Before anything else is believed: it may not be FastCGI at all. */
    if (reader->header_used == 0 && data[0] != FCGI_VERSION_1) {
        reader->bad_version = data[0];
        reader->state = FAILED_VERSION;
        *used += 1;
        return FCGI_EVENT_BAD_VERSION;
    }
    *used += collect(reader, data, len);
    if (reader->header_used < FCGI_HEADER_LEN) {
        return FCGI_EVENT_MORE;
    }
    return begin_record(reader);
}

static fcgi_event read_content(fcgi_reader *reader, const uint8_t *data,
                               size_t len, size_t *used)
{
    reader->content = data;
    reader->content_len = take(&reader->content_left, len);
    *used += reader->content_len;
    if (reader->content_left == 0) {
        leave_record(reader);
    }
    return FCGI_EVENT_CONTENT;
}

static fcgi_event read_end_request(fcgi_reader *reader, const uint8_t *data,
                                   size_t len, size_t *used)
{
    *used += collect(reader, data, len);
    if (reader->header_used < END_REQUEST_BODY_LEN) {
        return FCGI_EVENT_MORE;
    }
    reader->app_status = get_u32(reader->header);
    reader->protocol_status = reader->header[4];
    /* More content than 5.5 defines is skipped like padding. */
    reader->content_left -= END_REQUEST_BODY_LEN;
    leave_record(reader);
    return FCGI_EVENT_END_REQUEST;
}

static fcgi_event skip_rest(fcgi_reader *reader, size_t len, size_t *used)
{
    size_t count = take(&reader->content_left, len);

    count += take(&reader->padding_left, len - count);
    *used += count;
    leave_record(reader);
    return FCGI_EVENT_MORE;
}

/* Takes one part of one record; len > 0, and so is what it adds to used. */
static fcgi_event step(fcgi_reader *reader, const uint8_t *data, size_t len,
                       size_t *used)
{
    switch (reader->state) {
    case READ_HEADER:
        return read_header(reader, data, len, used);
    case READ_CONTENT:
        return read_content(reader, data, len, used);
    case READ_END_REQUEST:
        return read_end_request(reader, data, len, used);
    default:
        return skip_rest(reader, len, used);
    }
}

fcgi_event fcgi_reader_next(fcgi_reader *reader, const uint8_t *data,
                            size_t len, size_t *used)
{
    fcgi_event event = FCGI_EVENT_MORE;

    *used = 0;
    reader->content = NULL;
    reader->content_len = 0;
    if (reader->state == FAILED_VERSION) {
        return FCGI_EVENT_BAD_VERSION;
    }
    if (reader->state == FAILED_LENGTH) {
        return FCGI_EVENT_BAD_LENGTH;
    }
    while (event == FCGI_EVENT_MORE && *used < len) {
        event = step(reader, data + *used, len - *used, used);
    }
    return event;
}

int fcgi_reader_at_boundary(const fcgi_reader *reader)
{
    return reader->state == READ_HEADER && reader->header_used == 0;
}

static uint8_t *put_u16(uint8_t *to, size_t value)
{
    to[0] = (uint8_t)(value >> 8 & 0xff);
    to[1] = (uint8_t)(value & 0xff);
    return to + 2;
}

uint8_t *fcgi_put_header(uint8_t *to, fcgi_type type, uint16_t request_id,
                         size_t content_len, size_t padding_len)
{
    *to++ = FCGI_VERSION_1;
    *to++ = (uint8_t)type;
    to = put_u16(to, request_id);
    to = put_u16(to, content_len);
    *to++ = (uint8_t)padding_len;
    *to++ = 0;
    return to;
}

uint8_t *fcgi_put_begin_request(uint8_t *to, uint16_t request_id,
                                uint16_t role, uint8_t flags)
{
    size_t content_len = FCGI_BEGIN_REQUEST_LEN - FCGI_HEADER_LEN;

    to = fcgi_put_header(to, FCGI_BEGIN_REQUEST, request_id, content_len, 0);
    to = put_u16(to, role);
    *to++ = flags;
    memset(to, 0, 5);
    return to + 5;
}

uint8_t *fcgi_put_length(uint8_t *to, size_t len)
{
    if (len <= FCGI_MAX_ONE_BYTE_LENGTH) {
        *to = (uint8_t)len;
        return to + 1;
    }
    to = put_u16(to, len >> 16 | 0x8000);
    return put_u16(to, len);
}

const char *fcgi_protocol_status_name(uint8_t status)
{
    switch (status) {
    case FCGI_REQUEST_COMPLETE:
        return "FCGI_REQUEST_COMPLETE";
    case FCGI_CANT_MPX_CONN:
        return "FCGI_CANT_MPX_CONN";
    case FCGI_OVERLOADED:
        return "FCGI_OVERLOADED";
    case FCGI_UNKNOWN_ROLE:
        return "FCGI_UNKNOWN_ROLE";
    default:
        return "unknown";
    }
}

const char *fcgi_type_name(fcgi_type type)
{
    static const char *const names[] = {
        [FCGI_BEGIN_REQUEST] = "FCGI_BEGIN_REQUEST",
        [FCGI_ABORT_REQUEST] = "FCGI_ABORT_REQUEST",
        [FCGI_END_REQUEST] = "FCGI_END_REQUEST",
        [FCGI_PARAMS] = "FCGI_PARAMS",
        [FCGI_STDIN] = "FCGI_STDIN",
        [FCGI_STDOUT] = "FCGI_STDOUT",
        [FCGI_STDERR] = "FCGI_STDERR",
        [FCGI_DATA] = "FCGI_DATA",
        [FCGI_GET_VALUES] = "FCGI_GET_VALUES",
        [FCGI_GET_VALUES_RESULT] = "FCGI_GET_VALUES_RESULT",
        [FCGI_UNKNOWN_TYPE] = "FCGI_UNKNOWN_TYPE",
    };

    return names[type];
}
