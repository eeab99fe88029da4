/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fuzz_record.c - what fcgi_reader_next() makes of any bytes.
 *
 * The first four bytes of an input choose the request id and the cuts, the
 * rest is what a hostile backend sends. It is read once whole and once in
 * slices, each in a block of its own size so that an over-read is seen; both
 * must tell the same, and the same as a decoder that has all bytes before it.
 * Knows nothing but fcgi_record.h; t/fuzz/run builds and runs it.
 */
#include <stdlib.h>
#include <string.h>

#include "fcgi_record.h"

#define PREFIX_LEN 4

/* What was read, as numbers that no cut may change. */
struct summary {
    uint64_t hash;     /* of all content bytes with their type, and events */
    uint64_t content;  /* bytes of content */
    uint64_t consumed; /* bytes in all */
    fcgi_event last;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(int fact)
{
    if (!fact) {
        abort();
    }
}

static void mix(struct summary *summary, uint64_t value)
{
    summary->hash = (summary->hash ^ value) * 1099511628211u;
}

static void mix_content(struct summary *summary, uint8_t type,
                        const uint8_t *content, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        mix(summary, (uint64_t)type << 8 | content[i]);
    }
    summary->content += len;
}

/* An event, with the number that belongs to it. */
static void mix_event(struct summary *summary, fcgi_event event, uint8_t type,
                      uint64_t number)
{
    mix(summary, 0x10000 + (uint64_t)event);
    mix(summary, type);
    mix(summary, number);
}

static void note_event(struct summary *summary, const fcgi_reader *reader,
                       fcgi_event event)
{
    switch (event) {
    case FCGI_EVENT_MORE:
        break;
    case FCGI_EVENT_CONTENT:
        mix_content(summary, reader->type, reader->content,
                    reader->content_len);
        break;
    case FCGI_EVENT_END_REQUEST:
        mix_event(summary, event, reader->type,
                  (uint64_t)reader->app_status << 8 | reader->protocol_status);
        break;
    case FCGI_EVENT_FOREIGN:
        mix_event(summary, event, reader->type, reader->foreign_id);
        break;
    case FCGI_EVENT_BAD_VERSION:
        mix_event(summary, event, 0, reader->bad_version);
        break;
    case FCGI_EVENT_STREAM_END:
    case FCGI_EVENT_BAD_LENGTH:
        mix_event(summary, event, reader->type, 0);
        break;
    }
}

static int is_final(fcgi_event event)
{
    return event == FCGI_EVENT_BAD_VERSION || event == FCGI_EVENT_BAD_LENGTH;
}

/* ---- the decoder: FastCGI 1.0, 3.3 and 5.5, read off the page ---- */

/* A record of ours of which len bytes of content are here. False if nothing
 * may be read behind it. */
static int decode_ours(const uint8_t *header, size_t content_len, size_t len,
                       struct summary *summary)
{
    const uint8_t *content = header + FCGI_HEADER_LEN;
    uint8_t type = header[1];

    if (type == FCGI_END_REQUEST && content_len < 8) {
        summary->last = FCGI_EVENT_BAD_LENGTH;
        mix_event(summary, summary->last, type, 0);
        return 0;
    }
    if (type == FCGI_END_REQUEST && len >= 8) {
        uint64_t app_status = (uint64_t)content[0] << 24
                              | (uint64_t)content[1] << 16
                              | (uint64_t)content[2] << 8 | content[3];

        mix_event(summary, FCGI_EVENT_END_REQUEST, type,
                  app_status << 8 | content[4]);
    }
    if (type == FCGI_STDOUT || type == FCGI_STDERR) {
        mix_content(summary, type, content, len);
        if (!content_len) {
            mix_event(summary, FCGI_EVENT_STREAM_END, type, 0);
        }
    }
    return 1;
}

static void decode(const uint8_t *data, size_t len, unsigned int ours,
                   struct summary *summary)
{
    size_t at = 0;

    summary->last = FCGI_EVENT_MORE;
    while (at < len && data[at] == 1 && len - at >= FCGI_HEADER_LEN) {
        const uint8_t *header = data + at;
        unsigned int id = header[2] * 256u + header[3];
        size_t content_len = header[4] * 256u + header[5];
        size_t left = len - at - FCGI_HEADER_LEN;
        int is_answer =
            header[1] == FCGI_STDOUT || header[1] == FCGI_END_REQUEST;

        if (id != ours && is_answer) {
            mix_event(summary, FCGI_EVENT_FOREIGN, header[1], id);
        }
        if (id == ours
            && !decode_ours(header, content_len,
                            left < content_len ? left : content_len,
                            summary)) {
            return;
        }
        at += FCGI_HEADER_LEN + content_len + header[6];
    }
    if (at < len && data[at] != 1) {
        summary->last = FCGI_EVENT_BAD_VERSION;
        mix_event(summary, summary->last, 0, data[at]);
    }
}

/* ---- the reader ---- */

static void require_sound(const fcgi_reader *reader, fcgi_event event,
                          const uint8_t *data, size_t len, size_t used)
{
    require(used <= len);
    require(event == FCGI_EVENT_MORE ? used == len : used > 0);
    if (event == FCGI_EVENT_CONTENT) {
        require(reader->content_len > 0);
        require(reader->content >= data);
        require(reader->content + reader->content_len == data + used);
    }
    if (is_final(event)) {
        require(!fcgi_reader_at_boundary(reader));
    }
}

static void read_slice(fcgi_reader *reader, const uint8_t *from, size_t len,
                       struct summary *summary)
{
    uint8_t *slice = malloc(len > 0 ? len : 1);
    const uint8_t *data = slice;
    size_t used;

    require(slice != NULL);
    memcpy(slice, from, len);
    do {
        used = (size_t)-1;
        summary->last = fcgi_reader_next(reader, data, len, &used);
        require_sound(reader, summary->last, data, len, used);
        note_event(summary, reader, summary->last);
        summary->consumed += used;
        data += used;
        len -= used;
    } while (summary->last != FCGI_EVENT_MORE && !is_final(summary->last));
    free(slice);
}

/* Slices of 0 to 2 * rough - 1 bytes, from a generator that seed starts. */
static void read_cut(fcgi_reader *reader, const uint8_t *data, size_t len,
                     uint32_t seed, struct summary *summary)
{
    uint32_t rough = 1 + (seed >> 8) % 40;

    while (len > 0 && !is_final(summary->last)) {
        size_t slice_len;

        seed = seed * 1664525u + 1013904223u;
        slice_len = (seed >> 16) % (2 * rough);
        slice_len = slice_len < len ? slice_len : len;
        read_slice(reader, data, slice_len, summary);
        data += slice_len;
        len -= slice_len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct summary whole = { 0 }, cut = { 0 }, decoded = { 0 };
    fcgi_reader one, other;
    uint32_t seed;

    if (len <= PREFIX_LEN) {
        return 0;
    }
    fcgi_reader_init(&one, data[0] > 0 ? data[0] : 256);
    fcgi_reader_init(&other, one.request_id);
    seed =
        (uint32_t)data[1] | (uint32_t)data[2] << 8 | (uint32_t)data[3] << 16;

    read_slice(&one, data + PREFIX_LEN, len - PREFIX_LEN, &whole);
    read_cut(&other, data + PREFIX_LEN, len - PREFIX_LEN, seed, &cut);
    decode(data + PREFIX_LEN, len - PREFIX_LEN, one.request_id, &decoded);
    require(whole.hash == decoded.hash && whole.content == decoded.content);
    require(whole.last == decoded.last);
    require(whole.hash == cut.hash && whole.content == cut.content);
    require(whole.consumed == cut.consumed && whole.last == cut.last);
    require(one.foreign_records == other.foreign_records);
    require(one.ignored_records == other.ignored_records);
    require(fcgi_reader_at_boundary(&one) == fcgi_reader_at_boundary(&other));
    require(whole.consumed == len - PREFIX_LEN || is_final(whole.last));
    return 0;
}
