/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fuzz_record.c - libFuzzer's and AFL++'s way into fcgi_reader_next().
 *
 * The first four bytes of an input choose the request id and the cuts, the
 * rest is what a hostile backend sends. It is read once whole and once in
 * slices, each in a block of its own size so that an over-read is seen; both
 * must tell the same. Knows nothing but fcgi_record.h. Run it:
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -I. \
 *       t/fuzz/fuzz_record.c fcgi_record.c -o fuzz_record
 *   mkdir corpus; t/fuzz/seed-records corpus; ./fuzz_record corpus
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

static void note_event(struct summary *summary, const fcgi_reader *reader,
                       fcgi_event event)
{
    if (event == FCGI_EVENT_CONTENT) {
        for (size_t i = 0; i < reader->content_len; i++) {
            mix(summary, (uint64_t)reader->type << 8 | reader->content[i]);
        }
        summary->content += reader->content_len;
    }
    else if (event != FCGI_EVENT_MORE) {
        mix(summary, 0x10000 + (uint64_t)event);
        mix(summary, reader->type);
        mix(summary, reader->app_status);
        mix(summary, reader->protocol_status);
        mix(summary, reader->bad_version);
    }
}

static int is_final(fcgi_event event)
{
    return event == FCGI_EVENT_BAD_VERSION || event == FCGI_EVENT_BAD_LENGTH;
}

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
    struct summary whole = { 0 }, cut = { 0 };
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
    require(whole.hash == cut.hash && whole.content == cut.content);
    require(whole.consumed == cut.consumed && whole.last == cut.last);
    require(one.foreign_records == other.foreign_records);
    require(one.ignored_records == other.ignored_records);
    require(fcgi_reader_at_boundary(&one) == fcgi_reader_at_boundary(&other));
    require(whole.consumed == len - PREFIX_LEN || is_final(whole.last));
    return 0;
}
