/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_record.h - the FastCGI 1.0 record format, and nothing else.
 *
 * A reader that turns any sequence of byte slices into events, and writers
 * that put records into memory the caller owns. Pure: no sockets, no APR, no
 * allocation. Hold it against section 3 and appendix A of "FastCGI
 * Specification, version 1.0".
 */
#ifndef FCGI_RECORD_H
#define FCGI_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * The record header, eight bytes before every content (FastCGI 1.0, 3.3):
 *
 *      0        1        2        3        4        5        6        7
 *  +--------+--------+--------+--------+--------+--------+--------+--------+
 *  |version |  type  |   request id    | content length  |padding |reserved|
 *  |  = 1   |        | high      low   | high      low   | length |        |
 *  +--------+--------+--------+--------+--------+--------+--------+--------+
 *
 * then content length bytes of content, then padding length bytes of padding.
 */
#define FCGI_VERSION_1         1
#define FCGI_HEADER_LEN        8
#define FCGI_MAX_CONTENT_LEN   65535
#define FCGI_MAX_PADDING_LEN   255
#define FCGI_BEGIN_REQUEST_LEN 16 /* header and body of FCGI_BEGIN_REQUEST */
#define FCGI_MAX_PAIR_PREFIX   8  /* two lengths of four bytes each */

/* Of a name or a value (3.4): the high bit says that it has four bytes. */
#define FCGI_MAX_ONE_BYTE_LENGTH  0x7f
#define FCGI_MAX_FOUR_BYTE_LENGTH 0x7fffffff

/* Who encodes parameters leaves so many bytes free before them, for
 * FCGI_BEGIN_REQUEST and the header of FCGI_PARAMS, and behind them, for the
 * records that end it and FCGI_STDIN: so a request lies in one piece. */
#define FCGI_ROOM_BEFORE_PARAMS (FCGI_BEGIN_REQUEST_LEN + FCGI_HEADER_LEN)
#define FCGI_ROOM_BEHIND_PARAMS (2 * FCGI_HEADER_LEN)

/* Record types (FastCGI 1.0, appendix A). */
typedef enum {
    FCGI_BEGIN_REQUEST = 1,
    FCGI_ABORT_REQUEST = 2,
    FCGI_END_REQUEST = 3,
    FCGI_PARAMS = 4,
    FCGI_STDIN = 5,
    FCGI_STDOUT = 6,
    FCGI_STDERR = 7,
    FCGI_DATA = 8,
    FCGI_GET_VALUES = 9,
    FCGI_GET_VALUES_RESULT = 10,
    FCGI_UNKNOWN_TYPE = 11
} fcgi_type;

/* Roles and the flag of FCGI_BEGIN_REQUEST (5.1). */
#define FCGI_RESPONDER  1
#define FCGI_AUTHORIZER 2
#define FCGI_FILTER     3
#define FCGI_KEEP_CONN  1

/* protocolStatus of FCGI_END_REQUEST (5.5). */
typedef enum {
    FCGI_REQUEST_COMPLETE = 0,
    FCGI_CANT_MPX_CONN = 1,
    FCGI_OVERLOADED = 2,
    FCGI_UNKNOWN_ROLE = 3
} fcgi_protocol_status;

/* What fcgi_reader_next() found. */
typedef enum {
    FCGI_EVENT_MORE,        /* every byte given is consumed; give more */
    FCGI_EVENT_CONTENT,     /* content_len bytes of the record's content */
    FCGI_EVENT_STREAM_END,  /* a record of our id with empty content: the end
                             * of that stream (3.3); see type */
    FCGI_EVENT_END_REQUEST, /* app_status and protocol_status are valid */
    FCGI_EVENT_FOREIGN,     /* STDOUT or END_REQUEST of another id begins, and
                             * is skipped; see type and foreign_id */
    FCGI_EVENT_BAD_VERSION, /* the version byte of any record, whatever its id,
                             * is not 1; see bad_version; final */
    FCGI_EVENT_BAD_LENGTH   /* END_REQUEST with less than 8 bytes of content;
                             * final */
} fcgi_event;

/*
 * A reader of one connection's records. Start it with fcgi_reader_init().
 * A field below "the current record" is valid after the events named at it;
 * content and content_len until the next call. The last group is the reader's
 * own.
 */
typedef struct fcgi_reader {
    uint16_t request_id; /* ours; records with another id are skipped */

    /* the current record */
    uint8_t type;            /* STDOUT, STDERR or END_REQUEST: the record of a
                              * CONTENT, STREAM_END, END_REQUEST, FOREIGN or
                              * BAD_LENGTH event */
    uint16_t foreign_id;     /* FCGI_EVENT_FOREIGN */
    const uint8_t *content;  /* FCGI_EVENT_CONTENT: points into the slice */
    size_t content_len;      /* FCGI_EVENT_CONTENT: bytes at content, > 0 */
    uint32_t app_status;     /* FCGI_EVENT_END_REQUEST */
    uint8_t protocol_status; /* FCGI_EVENT_END_REQUEST; 5.5 */
    uint8_t bad_version;     /* FCGI_EVENT_BAD_VERSION: what stood there */

    /* counters a caller may report */
    uint32_t foreign_records; /* skipped for their id (not management) */
    uint32_t ignored_records; /* management or of an unexpected type; the
                               * reader bounds neither */

    /* the reader's own */
    int state;
    uint8_t header[FCGI_HEADER_LEN]; /* also collects END_REQUEST's body */
    uint32_t header_used;            /* bytes collected in header */
    uint32_t content_left;           /* of the current record */
    uint32_t padding_left;           /* of it, too: 65535 + 1 in 16 bits
                                      * would be nothing */
} fcgi_reader;

/* Prepares a reader that takes records of request_id (1 to 65535). */
void fcgi_reader_init(fcgi_reader *reader, uint16_t request_id);

/*
 * Looks at the len bytes at data, consumes some of them (*used says how
 * many, never more than len) and returns what it found. Call it again with
 * the rest until FCGI_EVENT_MORE, which means *used == len; it can be cut at
 * any byte and copies no content. Every call with len > 0 consumes at least
 * one byte, except after a final event: then it consumes none and returns
 * that event again. A wrong version byte is the last byte consumed. data may
 * be NULL when len is 0.
 *
 * Only STDOUT, STDERR and END_REQUEST of our id give events, and STDOUT and
 * END_REQUEST of foreign ids, at their header; 0 is one, for these are never
 * management records (8). Other types, management records (id 0) and all
 * records of foreign ids are skipped whole and counted (3.3: "ignore"; 4.2
 * unknown types). END_REQUEST is reported as soon as its
 * eight bytes are here, before its padding: the request ends at once
 * (5.5). Bytes after it can be read on.
 */
fcgi_event fcgi_reader_next(fcgi_reader *reader, const uint8_t *data,
                            size_t len, size_t *used);

/* True at a record boundary: no byte of an unfinished record was read. */
int fcgi_reader_at_boundary(const fcgi_reader *reader);

/*
 * Writes a record header of eight bytes at to. content_len is at most
 * FCGI_MAX_CONTENT_LEN, padding_len at most FCGI_MAX_PADDING_LEN; request_id
 * 0 makes a management record. Returns the byte after it.
 */
uint8_t *fcgi_put_header(uint8_t *to, fcgi_type type, uint16_t request_id,
                         size_t content_len, size_t padding_len);

/*
 * Writes a whole FCGI_BEGIN_REQUEST record of FCGI_BEGIN_REQUEST_LEN bytes
 * (5.1). flags is 0 or FCGI_KEEP_CONN. Returns the byte after it.
 */
uint8_t *fcgi_put_begin_request(uint8_t *to, uint16_t request_id,
                                uint16_t role, uint8_t flags);

/* True if one byte is enough for either length, as for most pairs. */
static inline int fcgi_pair_is_short(size_t name_len, size_t value_len)
{
    return name_len <= FCGI_MAX_ONE_BYTE_LENGTH
           && value_len <= FCGI_MAX_ONE_BYTE_LENGTH;
}

/*
 * How many bytes a name-value pair takes (3.4): one or four bytes for each
 * length, then name and value; never less than 2. 0 if a length does not fit
 * 31 bits or the sum does not fit a size_t: such a pair cannot be written.
 */
static inline size_t fcgi_pair_size(size_t name_len, size_t value_len)
{
    size_t prefix;

    if (fcgi_pair_is_short(name_len, value_len)) {
        return 2 + name_len + value_len;
    }
    prefix = (name_len <= FCGI_MAX_ONE_BYTE_LENGTH ? 1 : 4)
             + (value_len <= FCGI_MAX_ONE_BYTE_LENGTH ? 1 : 4);
    if (name_len > FCGI_MAX_FOUR_BYTE_LENGTH
        || value_len > FCGI_MAX_FOUR_BYTE_LENGTH) {
        return 0;
    }
    /* Two of 31 bits and the prefix do not fit a size_t of 32. */
    if (value_len > SIZE_MAX - prefix - name_len) {
        return 0;
    }
    return prefix + name_len + value_len;
}

/* Writes the length of a name or a value. Returns the byte after it. */
uint8_t *fcgi_put_length(uint8_t *to, size_t len);

/*
 * Writes a name-value pair of fcgi_pair_size() bytes (3.4), which is not 0.
 * Returns the byte after it.
 */
static inline uint8_t *fcgi_put_pair(uint8_t *to, const char *name,
                                     size_t name_len, const char *value,
                                     size_t value_len)
{
    if (fcgi_pair_is_short(name_len, value_len)) {
        *to++ = (uint8_t)name_len;
        *to++ = (uint8_t)value_len;
    }
    else {
        to = fcgi_put_length(fcgi_put_length(to, name_len), value_len);
    }
    memcpy(to, name, name_len);
    to += name_len;
    memcpy(to, value, value_len);
    return to + value_len;
}

/* The specification's name of a protocolStatus, or "unknown". */
const char *fcgi_protocol_status_name(uint8_t status);

/* The specification's name of a record type. */
const char *fcgi_type_name(fcgi_type type);

#endif
