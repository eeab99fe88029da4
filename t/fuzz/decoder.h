/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * decoder.h - what a conversation says, by somebody who has all of it before
 * him: FastCGI 1.0 and RFC 3875 read off the page, without a thought for
 * speed, and without a line of the code that is tested.
 */
#ifndef DECODER_H
#define DECODER_H

#include <stddef.h>
#include <stdint.h>

/* So much of an answer is decoded; no conversation has more. */
#define DECODER_MAX (1024 * 1024)

/* What an application said on one connection, for one request. */
typedef struct decoded_answer {
    int is_malformed;    /* no FastCGI, or for another request */
    int is_ended;        /* END_REQUEST is here */
    int protocol_status; /* of that */
    int stdout_ended;    /* the last record of STDOUT is empty */
    size_t used;         /* bytes, up to the end of END_REQUEST's eight, or
                          * of the last whole record */
    size_t rest;         /* what the records begun have behind that: padding */

    int has_head;   /* the last header block is whole */
    int bad_head;   /* a header block cannot be believed */
    int status;     /* 0: none was sent */
    int64_t length; /* Content-Length; -1: none that counts */
    int is_local;   /* it asks for an internal redirect */
    const uint8_t *body;
    size_t body_len;
} decoded_answer;

/* id is the request's, on a connection that had all lower ones before; a
 * header block has at most head_max bytes. Valid until the next call. */
decoded_answer decode_answer(const uint8_t *bytes, size_t len, unsigned int id,
                             size_t head_max);

/* What a request on one connection may say. */
typedef struct expected_request {
    unsigned int id;
    const uint8_t *params;
    size_t params_len;
    const uint8_t *body; /* all of it, or what came of it */
    size_t body_len;
    int body_done;
} expected_request;

typedef enum {
    REQUEST_WRONG,
    REQUEST_BEGUN,  /* right so far */
    REQUEST_WHOLE,  /* all of it */
    REQUEST_ABORTED /* and then, or before: FCGI_ABORT_REQUEST */
} decoded_request;

decoded_request decode_request(const uint8_t *bytes, size_t len,
                               const expected_request *expected);

#endif
