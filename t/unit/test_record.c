/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * test_record.c - what fcgi_record.h promises, shown byte by byte.
 *
 * Streams are built here by hand together with what must be read from them
 * (struct stream), so that the codec is never compared with itself. Every
 * slice is given to the reader right before an unreadable page. Knows nothing
 * but fcgi_record.h; t/00-record.t compiles and runs it.
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "fcgi_record.h"

#define OUR_ID      1
#define GUARDED_LEN (256 * 1024)
#define COUNT(a)    (sizeof(a) / sizeof((a)[0]))

/* ---- bytes that grow ---------------------------------------------------- */

struct bytes {
    uint8_t *at;
    size_t len;
    size_t size;
};

static void append(struct bytes *bytes, const void *from, size_t len)
{
    if (bytes->len + len > bytes->size) {
        bytes->size = (bytes->len + len) * 2;
        bytes->at = realloc(bytes->at, bytes->size);
        assert_non_null(bytes->at);
    }
    if (len > 0) {
        memcpy(bytes->at + bytes->len, from, len);
    }
    bytes->len += len;
}

static void append_byte(struct bytes *bytes, unsigned value)
{
    uint8_t byte = (uint8_t)value;

    append(bytes, &byte, 1);
}

static void assert_same_bytes(const struct bytes *a, const struct bytes *b)
{
    assert_int_equal(a->len, b->len);
    if (a->len > 0) {
        assert_memory_equal(a->at, b->at, a->len);
    }
}

/* ---- a transcript: what was read, whatever the cuts --------------------- */

enum mark {
    MARK_STREAM_END = 0x80,
    MARK_END_REQUEST,
    MARK_FOREIGN,
    MARK_FAILED
};

/* Two bytes for each byte of content: neither cuts nor records show. */
static void note_content(struct bytes *transcript, uint8_t type,
                         const uint8_t *content, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        append_byte(transcript, type);
        append_byte(transcript, content[i]);
    }
}

static void note_stream_end(struct bytes *transcript, uint8_t type)
{
    append_byte(transcript, MARK_STREAM_END);
    append_byte(transcript, type);
}

static void note_end_request(struct bytes *transcript, uint32_t app_status,
                             uint8_t protocol_status)
{
    append_byte(transcript, MARK_END_REQUEST);
    append_byte(transcript, app_status >> 24);
    append_byte(transcript, app_status >> 16 & 0xff);
    append_byte(transcript, app_status >> 8 & 0xff);
    append_byte(transcript, app_status & 0xff);
    append_byte(transcript, protocol_status);
}

static void note_foreign(struct bytes *transcript, uint8_t type, uint16_t id)
{
    append_byte(transcript, MARK_FOREIGN);
    append_byte(transcript, type);
    append_byte(transcript, id >> 8);
    append_byte(transcript, id & 0xff);
}

static void note_failure(struct bytes *transcript, fcgi_event event,
                         uint8_t bad_version)
{
    append_byte(transcript, MARK_FAILED);
    append_byte(transcript, event);
    append_byte(transcript, bad_version);
}

/* ---- a stream: bytes on the wire and what they mean --------------------- */

struct stream {
    struct bytes wire;
    struct bytes expected; /* the transcript a reader must give */
    uint32_t foreign;      /* the counters it must end with */
    uint32_t ignored;
    uint16_t id; /* the reader's; 0 means OUR_ID */
    int failed;  /* nothing after this is read */
};

struct record {
    uint8_t type;
    uint16_t id;
    size_t content_len;
    size_t padding_len;
    const uint8_t *content; /* NULL: anything but zeros */
};

static void free_stream(struct stream *stream)
{
    free(stream->wire.at);
    free(stream->expected.at);
    memset(stream, 0, sizeof(*stream));
}

static void add_header(struct stream *stream, const struct record *record)
{
    const uint8_t header[8] = { 1,
                                record->type,
                                (uint8_t)(record->id / 256),
                                (uint8_t)(record->id % 256),
                                (uint8_t)(record->content_len / 256),
                                (uint8_t)(record->content_len % 256),
                                (uint8_t)record->padding_len,
                                0x5a /* reserved: anything */ };

    assert_true(record->content_len <= 65535 && record->padding_len <= 255);
    append(&stream->wire, header, sizeof(header));
}

static void expect_end_request(struct stream *stream, const uint8_t *body,
                               size_t len)
{
    if (len < 8) {
        note_failure(&stream->expected, FCGI_EVENT_BAD_LENGTH, 0);
        stream->failed = 1;
        return;
    }
    note_end_request(&stream->expected,
                     body[0] * 16777216u + body[1] * 65536u + body[2] * 256u
                         + body[3],
                     body[4]);
}

/* The model: a record's meaning, told from its parts. */
static void expect_record(struct stream *stream, const struct record *record,
                          const uint8_t *content)
{
    uint16_t our_id = stream->id ? stream->id : OUR_ID;

    if (record->id == 0 && record->type != 6 && record->type != 3) {
        stream->ignored++;
    }
    else if (record->id != our_id) {
        stream->foreign++;
        if (record->type == 6 || record->type == 3) {
            note_foreign(&stream->expected, record->type, record->id);
        }
    }
    else if (record->type == 3) {
        expect_end_request(stream, content, record->content_len);
    }
    else if (record->type != 6 && record->type != 7) {
        stream->ignored++;
    }
    else if (record->content_len == 0) {
        note_stream_end(&stream->expected, record->type);
    }
    else {
        note_content(&stream->expected, record->type, content,
                     record->content_len);
    }
}

static void add(struct stream *stream, struct record record)
{
    size_t start;

    add_header(stream, &record);
    start = stream->wire.len;
    if (record.content != NULL) {
        append(&stream->wire, record.content, record.content_len);
    }
    else {
        for (size_t i = 0; i < record.content_len; i++) {
            append_byte(&stream->wire, (unsigned)(1 + (start + i) % 251));
        }
    }
    if (!stream->failed) {
        expect_record(stream, &record, stream->wire.at + start);
    }
    for (size_t i = 0; i < record.padding_len; i++) {
        append_byte(&stream->wire, 0xee);
    }
}

static void add_text(struct stream *stream, uint8_t type, const char *text,
                     size_t padding_len)
{
    add(stream, (struct record){ .type = type,
                                 .id = stream->id ? stream->id : OUR_ID,
                                 .content = (const uint8_t *)text,
                                 .content_len = strlen(text),
                                 .padding_len = padding_len });
}

static void add_end(struct stream *stream, uint8_t protocol_status,
                    size_t padding_len)
{
    const uint8_t body[8] = { 0, 0, 3, 0xaa, protocol_status, 1, 2, 3 };

    add(stream, (struct record){ .type = FCGI_END_REQUEST,
                                 .id = stream->id ? stream->id : OUR_ID,
                                 .content = body,
                                 .content_len = sizeof(body),
                                 .padding_len = padding_len });
}

static void add_bad_version(struct stream *stream, uint8_t version)
{
    const uint8_t header[8] = { version, 6, 0, 1, 0, 0, 0, 0 };

    append(&stream->wire, header, sizeof(header));
    if (!stream->failed) {
        note_failure(&stream->expected, FCGI_EVENT_BAD_VERSION, version);
        stream->failed = 1;
    }
}

/* One of each kind of record an application may send, and some it may not. */
static void add_one_of_each(struct stream *stream)
{
    add_text(stream, FCGI_STDOUT, "Status: 200\r\n\r\n<p>", 3);
    add(stream, (struct record){ .type = FCGI_STDOUT,
                                 .id = OUR_ID + 1,
                                 .content_len = 5,
                                 .padding_len = 2 });
    add_text(stream, FCGI_STDERR, "warning\n", 0);
    add(stream,
        (struct record){ .type = FCGI_UNKNOWN_TYPE, .content_len = 8 });
    add_text(stream, FCGI_STDOUT, "</p>", 0);
    add(stream,
        (struct record){
            .type = 200, .id = OUR_ID, .content_len = 3, .padding_len = 1 });
    add_text(stream, FCGI_STDOUT, "", 4);
    add_text(stream, FCGI_STDERR, "", 0);
    add_end(stream, FCGI_REQUEST_COMPLETE, 5);
}

/* ---- reading ------------------------------------------------------------ */

static uint8_t *guarded_end; /* the first unreadable byte */

static int map_guarded(void **state)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *start = mmap(NULL, GUARDED_LEN + page, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    if (start == MAP_FAILED || GUARDED_LEN % page != 0) {
        return -1;
    }
    guarded_end = start + GUARDED_LEN;
    return mprotect(guarded_end, page, PROT_NONE);
}

static const uint8_t *put_before_the_unreadable(const uint8_t *data,
                                                size_t len)
{
    assert_true(len <= GUARDED_LEN);
    if (len > 0) {
        memcpy(guarded_end - len, data, len);
    }
    return guarded_end - len;
}

static void note_event(struct bytes *transcript, const fcgi_reader *reader,
                       fcgi_event event)
{
    switch (event) {
    case FCGI_EVENT_MORE:
        break;
    case FCGI_EVENT_CONTENT:
        note_content(transcript, reader->type, reader->content,
                     reader->content_len);
        break;
    case FCGI_EVENT_STREAM_END:
        note_stream_end(transcript, reader->type);
        break;
    case FCGI_EVENT_END_REQUEST:
        note_end_request(transcript, reader->app_status,
                         reader->protocol_status);
        break;
    case FCGI_EVENT_FOREIGN:
        note_foreign(transcript, reader->type, reader->foreign_id);
        break;
    default:
        note_failure(transcript, event, reader->bad_version);
    }
}

static void assert_event_is_sound(const fcgi_reader *reader, fcgi_event event,
                                  const uint8_t *data, size_t len, size_t used)
{
    assert_true(used <= len);
    if (event == FCGI_EVENT_MORE) {
        assert_true(used == len);
    }
    else {
        assert_true(used > 0);
    }
    if (event == FCGI_EVENT_CONTENT) {
        assert_true(reader->content_len > 0);
        assert_true(reader->content >= data);
        assert_true(reader->content + reader->content_len == data + used);
    }
}

/* Gives one slice to the reader. Returns 0 if the reader gave up. */
static int read_slice(fcgi_reader *reader, const uint8_t *from, size_t len,
                      struct bytes *transcript)
{
    const uint8_t *data = put_before_the_unreadable(from, len);
    fcgi_event event;
    size_t used;

    do {
        used = (size_t)-1;
        event = fcgi_reader_next(reader, data, len, &used);
        assert_event_is_sound(reader, event, data, len, used);
        note_event(transcript, reader, event);
        data += used;
        len -= used;
    } while (event != FCGI_EVENT_MORE && event != FCGI_EVENT_BAD_VERSION
             && event != FCGI_EVENT_BAD_LENGTH);
    return event == FCGI_EVENT_MORE;
}

static void start_reader(fcgi_reader *reader, const struct stream *stream)
{
    memset(reader, 0xff, sizeof(*reader));
    fcgi_reader_init(reader, stream->id ? stream->id : OUR_ID);
}

/* Cuts the stream at the given positions, which rise, and compares. */
static void assert_reads_cut_at(const struct stream *stream,
                                const size_t *cuts, size_t count)
{
    struct bytes transcript = { 0 };
    fcgi_reader reader;
    size_t done = 0;
    int going_on = 1;

    start_reader(&reader, stream);
    for (size_t i = 0; i <= count && going_on; i++) {
        size_t end = i < count ? cuts[i] : stream->wire.len;

        going_on = read_slice(&reader, stream->wire.at + done, end - done,
                              &transcript);
        done = end;
    }
    assert_same_bytes(&transcript, &stream->expected);
    assert_int_equal(!going_on, stream->failed);
    assert_int_equal(fcgi_reader_at_boundary(&reader), !stream->failed);
    assert_int_equal(reader.foreign_records, stream->foreign);
    assert_int_equal(reader.ignored_records, stream->ignored);
    free(transcript.at);
}

/* Slices of one size; 1 is byte by byte. */
static void assert_reads_in_slices_of(const struct stream *stream, size_t size)
{
    size_t count = (stream->wire.len - 1) / size;
    size_t *cuts = calloc(count + 1, sizeof(*cuts));

    assert_non_null(cuts);
    for (size_t i = 0; i < count; i++) {
        cuts[i] = (i + 1) * size;
    }
    assert_reads_cut_at(stream, cuts, count);
    free(cuts);
}

static void assert_reads_whole_and_in_bytes(const struct stream *stream)
{
    assert_reads_cut_at(stream, NULL, 0);
    assert_reads_in_slices_of(stream, 1);
}

/* ---- the reader: cuts --------------------------------------------------- */

static void a_stream_of_golden_bytes_is_read(void **state)
{
    /* clang-format off */
    static const uint8_t golden[] = {
        1, 6, 0, 1, 0, 5, 3, 0,  'h', 'e', 'l', 'l', 'o',  0, 0, 0,
        1, 7, 0, 1, 0, 1, 0, 0,  '!',
        1, 6, 0, 1, 0, 0, 0, 0,
        1, 3, 0, 1, 0, 8, 0, 0,  0, 0, 3, 170,  2,  0, 0, 0
    };
    static const uint8_t meaning[] = {
        6, 'h', 6, 'e', 6, 'l', 6, 'l', 6, 'o',
        7, '!',
        MARK_STREAM_END, 6,
        MARK_END_REQUEST, 0, 0, 3, 170, 2
    };
    /* clang-format on */
    struct stream stream = { 0 };

    (void)state;
    append(&stream.wire, golden, sizeof(golden));
    append(&stream.expected, meaning, sizeof(meaning));
    assert_reads_whole_and_in_bytes(&stream);
    free_stream(&stream);
}

static void a_stream_cut_at_any_byte_gives_the_same_content(void **state)
{
    struct stream stream = { 0 };

    (void)state;
    add_one_of_each(&stream);
    for (size_t cut = 0; cut <= stream.wire.len; cut++) {
        assert_reads_cut_at(&stream, &cut, 1);
    }
    free_stream(&stream);
}

static void a_stream_cut_at_any_two_bytes_gives_the_same_content(void **state)
{
    struct stream stream = { 0 };
    size_t cuts[2];

    (void)state;
    add_one_of_each(&stream);
    for (cuts[0] = 0; cuts[0] <= stream.wire.len; cuts[0]++) {
        for (cuts[1] = cuts[0]; cuts[1] <= stream.wire.len; cuts[1]++) {
            assert_reads_cut_at(&stream, cuts, 2);
        }
    }
    free_stream(&stream);
}

static void slices_of_every_size_give_the_same_content(void **state)
{
    struct stream stream = { 0 };

    (void)state;
    add_one_of_each(&stream);
    for (size_t size = 1; size <= stream.wire.len; size++) {
        assert_reads_in_slices_of(&stream, size);
    }
    free_stream(&stream);
}

static void a_stream_that_stops_anywhere_gives_what_came(void **state)
{
    struct stream stream = { 0 };

    (void)state;
    add_one_of_each(&stream);
    for (size_t len = 0; len < stream.wire.len; len++) {
        struct bytes transcript = { 0 };
        fcgi_reader reader;

        start_reader(&reader, &stream);
        assert_true(read_slice(&reader, stream.wire.at, len, &transcript));
        assert_true(transcript.len <= stream.expected.len);
        if (transcript.len > 0) {
            assert_memory_equal(transcript.at, stream.expected.at,
                                transcript.len);
        }
        free(transcript.at);
    }
    free_stream(&stream);
}

static void empty_slices_change_nothing(void **state)
{
    struct stream stream = { 0 };
    struct bytes transcript = { 0 };
    fcgi_reader reader;
    size_t used = 9;

    (void)state;
    add_one_of_each(&stream);
    start_reader(&reader, &stream);
    for (size_t i = 0; i < stream.wire.len; i++) {
        assert_int_equal(fcgi_reader_next(&reader, NULL, 0, &used),
                         FCGI_EVENT_MORE);
        assert_int_equal(used, 0);
        assert_true(read_slice(&reader, stream.wire.at + i, 1, &transcript));
    }
    assert_same_bytes(&transcript, &stream.expected);
    free(transcript.at);
    free_stream(&stream);
}

static void content_is_handed_out_in_one_piece_without_a_copy(void **state)
{
    struct stream stream = { 0 };
    const uint8_t *data;
    fcgi_reader reader;
    size_t used;

    (void)state;
    add(&stream, (struct record){ .type = FCGI_STDOUT,
                                  .id = OUR_ID,
                                  .content_len = 4000,
                                  .padding_len = 7 });
    data = put_before_the_unreadable(stream.wire.at, stream.wire.len);
    start_reader(&reader, &stream);
    assert_int_equal(fcgi_reader_next(&reader, data, stream.wire.len, &used),
                     FCGI_EVENT_CONTENT);
    assert_int_equal(used, 8 + 4000);
    assert_ptr_equal(reader.content, data + 8);
    assert_int_equal(reader.content_len, 4000);
    free_stream(&stream);
}

/* ---- the reader: lengths and padding ------------------------------------ */

static void every_padding_is_skipped_after_every_kind_of_record(void **state)
{
    static const size_t lengths[] = { 0, 1, 8, 9, 300 };
    static const struct record kinds[] = {
        { .type = FCGI_STDOUT, .id = OUR_ID },
        { .type = FCGI_STDERR, .id = OUR_ID },
        { .type = FCGI_STDOUT, .id = OUR_ID + 1 },
        { .type = FCGI_GET_VALUES_RESULT, .id = 0 },
        { .type = 99, .id = OUR_ID },
    };

    (void)state;
    for (size_t padding = 0; padding <= 255; padding++) {
        struct stream stream = { 0 };

        for (size_t i = 0; i < COUNT(kinds) * COUNT(lengths); i++) {
            struct record record = kinds[i % COUNT(kinds)];

            record.content_len = lengths[i / COUNT(kinds)];
            record.padding_len = padding;
            add(&stream, record);
        }
        add_end(&stream, FCGI_REQUEST_COMPLETE, padding);
        add_text(&stream, FCGI_STDOUT, "still in step", padding);
        assert_reads_whole_and_in_bytes(&stream);
        free_stream(&stream);
    }
}

static void the_longest_record_of_every_kind_is_read_to_its_end(void **state)
{
    static const struct record kinds[] = {
        { .type = FCGI_STDOUT, .id = OUR_ID },
        { .type = FCGI_STDERR, .id = OUR_ID },
        { .type = FCGI_STDOUT, .id = 65535 },
        { .type = FCGI_UNKNOWN_TYPE, .id = 0 },
        { .type = FCGI_END_REQUEST, .id = OUR_ID },
    };
    static const size_t paddings[] = { 0, 1, 255 };

    (void)state;
    for (size_t i = 0; i < COUNT(kinds) * COUNT(paddings); i++) {
        struct record record = kinds[i % COUNT(kinds)];
        struct stream stream = { 0 };

        record.content_len = 65535;
        record.padding_len = paddings[i / COUNT(kinds)];
        add(&stream, record);
        add(&stream, record);
        add_text(&stream, FCGI_STDOUT, "still in step", 255);
        assert_reads_whole_and_in_bytes(&stream);
        assert_reads_in_slices_of(&stream, 4096);
        assert_reads_in_slices_of(&stream, 65536);
        free_stream(&stream);
    }
}

static void an_empty_record_ends_its_stream_and_only_that(void **state)
{
    struct stream stream = { 0 };

    (void)state;
    add_text(&stream, FCGI_STDERR, "", 0);
    add_text(&stream, FCGI_STDOUT, "a", 0);
    add_text(&stream, FCGI_STDOUT, "", 255);
    add_text(&stream, FCGI_STDERR, "after its end", 0);
    add_text(&stream, FCGI_STDOUT, "", 0);
    assert_reads_whole_and_in_bytes(&stream);
    assert_int_equal(stream.expected.len, 3 * 2 + 2 + 2 * 13);
    free_stream(&stream);
}

static void an_empty_record_that_is_not_ours_ends_nothing(void **state)
{
    struct stream stream = { 0 };

    (void)state;
    add(&stream, (struct record){ .type = FCGI_STDOUT, .id = OUR_ID + 1 });
    add(&stream, (struct record){ .type = FCGI_STDOUT, .id = 0 });
    add(&stream, (struct record){ .type = FCGI_STDIN, .id = OUR_ID });
    assert_int_equal(stream.expected.len, 2 * 4); /* two of others */
    assert_reads_whole_and_in_bytes(&stream);
    free_stream(&stream);
}

static void another_ones_answer_is_told_of_at_its_header(void **state)
{
    static const uint8_t types[] = { FCGI_STDOUT, FCGI_END_REQUEST };

    (void)state;
    for (size_t i = 0; i < COUNT(types); i++) {
        const uint8_t header[] = { 1, types[i], 0x12, 0x34, 0, 9, 0, 0 };
        fcgi_reader reader;
        size_t used;

        fcgi_reader_init(&reader, OUR_ID);
        assert_int_equal(fcgi_reader_next(&reader, header, 7, &used),
                         FCGI_EVENT_MORE);
        assert_int_equal(fcgi_reader_next(&reader, header + 7, 1, &used),
                         FCGI_EVENT_FOREIGN);
        assert_int_equal(reader.type, types[i]);
        assert_int_equal(reader.foreign_id, 0x1234);
    }
}

/* ---- the reader: types and ids ------------------------------------------ */

static void every_type_but_three_is_ignored_and_counted(void **state)
{
    struct stream stream = { 0 };

    (void)state;
    for (unsigned type = 0; type <= 255; type++) {
        if (type != FCGI_END_REQUEST && type != FCGI_STDOUT
            && type != FCGI_STDERR) {
            add(&stream, (struct record){ .type = (uint8_t)type,
                                          .id = OUR_ID,
                                          .content_len = type % 11,
                                          .padding_len = type % 7 });
        }
    }
    assert_int_equal(stream.ignored, 253);
    assert_int_equal(stream.expected.len, 0);
    assert_reads_whole_and_in_bytes(&stream);
    free_stream(&stream);
}

static void every_type_of_a_foreign_id_is_skipped_and_counted(void **state)
{
    struct stream stream = { 0 };

    (void)state;
    for (unsigned type = 0; type <= 255; type++) {
        add(&stream, (struct record){ .type = (uint8_t)type,
                                      .id = 2,
                                      .content_len = type % 11,
                                      .padding_len = type % 7 });
    }
    add_text(&stream, FCGI_STDOUT, "ours", 0);
    assert_int_equal(stream.foreign, 256);
    assert_int_equal(stream.expected.len, 2 * 4 + 2 * 4);
    assert_reads_whole_and_in_bytes(&stream);
    free_stream(&stream);
}

static void every_type_of_a_management_record_is_ignored(void **state)
{
    struct stream stream = { 0 };

    (void)state;
    for (unsigned type = 0; type <= 255; type++) {
        add(&stream, (struct record){ .type = (uint8_t)type,
                                      .id = 0,
                                      .content_len = type % 11,
                                      .padding_len = type % 7 });
    }
    add_text(&stream, FCGI_STDOUT, "ours", 0);
    assert_int_equal(stream.ignored, 256 - 2);
    assert_int_equal(stream.foreign, 2); /* STDOUT and END_REQUEST */
    assert_int_equal(stream.expected.len, 2 * 4 + 2 * 4);
    assert_reads_whole_and_in_bytes(&stream);
    free_stream(&stream);
}

static void both_bytes_of_an_id_count(void **state)
{
    static const uint16_t ids[] = { 1, 255, 256, 257, 0x0102, 0x0201, 65535 };

    (void)state;
    for (size_t ours = 0; ours < COUNT(ids); ours++) {
        struct stream stream = { .id = ids[ours] };

        for (size_t i = 0; i < COUNT(ids); i++) {
            add(&stream, (struct record){ .type = FCGI_STDOUT,
                                          .id = ids[i],
                                          .content_len = 1 + i });
        }
        assert_int_equal(stream.foreign, COUNT(ids) - 1);
        assert_reads_whole_and_in_bytes(&stream);
        free_stream(&stream);
    }
}

/* ---- the reader: versions ----------------------------------------------- */

static void a_wrong_version_of_any_record_is_refused(void **state)
{
    (void)state;
    for (size_t before = 0; before <= 4; before++) {
        struct stream stream = { 0 };

        for (size_t i = 0; i < before; i++) {
            add_text(&stream, FCGI_STDOUT, "right", i);
        }
        add_bad_version(&stream, 0x80);
        add_text(&stream, FCGI_STDOUT, "never read", 0);
        assert_reads_whole_and_in_bytes(&stream);
        free_stream(&stream);
    }
}

static void every_version_but_one_is_refused_at_its_byte(void **state)
{
    (void)state;
    for (unsigned version = 0; version <= 255; version++) {
        uint8_t header[9] = { (uint8_t)version, FCGI_STDOUT, 0, OUR_ID, 0, 1 };

        for (size_t len = 1; len <= sizeof(header); len++) {
            const uint8_t *data = put_before_the_unreadable(header, len);
            fcgi_reader reader;
            fcgi_event event;
            size_t used;

            fcgi_reader_init(&reader, OUR_ID);
            event = fcgi_reader_next(&reader, data, len, &used);
            assert_int_equal(event == FCGI_EVENT_BAD_VERSION, version != 1);
            if (version != 1) {
                assert_int_equal(used, 1);
                assert_int_equal(reader.bad_version, version);
            }
        }
    }
}

static void a_wrong_version_after_a_skipped_record_is_refused(void **state)
{
    static const uint16_t ids[] = { 0, OUR_ID, OUR_ID + 1 };

    (void)state;
    for (size_t i = 0; i < COUNT(ids); i++) {
        struct stream stream = { 0 };

        add(&stream, (struct record){ .type = FCGI_DATA,
                                      .id = ids[i],
                                      .content_len = 20,
                                      .padding_len = 4 });
        add_bad_version(&stream, 2);
        assert_reads_whole_and_in_bytes(&stream);
        free_stream(&stream);
    }
}

static void a_wrong_version_of_a_foreign_record_is_refused(void **state)
{
    const uint8_t foreign[8] = { 2, FCGI_STDOUT, 0, OUR_ID + 1 };
    const uint8_t management[8] = { 2, FCGI_UNKNOWN_TYPE, 0, 0 };
    const uint8_t *headers[2] = { foreign, management };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct stream stream = { 0 };

        append(&stream.wire, headers[i], 8);
        note_failure(&stream.expected, FCGI_EVENT_BAD_VERSION, 2);
        stream.failed = 1;
        assert_reads_whole_and_in_bytes(&stream);
        free_stream(&stream);
    }
}

static void a_reader_that_gave_up_stays_so(void **state)
{
    const uint8_t bad_version[8] = { 'H', 'T', 'T', 'P', '/', '1', '.', '1' };
    const uint8_t bad_length[8] = { 1, FCGI_END_REQUEST, 0, OUR_ID, 0, 7 };
    const uint8_t good[9] = { 1, FCGI_STDOUT, 0, OUR_ID, 0, 1, 0, 0, 'x' };
    const uint8_t *starts[2] = { bad_version, bad_length };
    fcgi_event wanted[2] = { FCGI_EVENT_BAD_VERSION, FCGI_EVENT_BAD_LENGTH };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        fcgi_reader reader;
        size_t used;

        fcgi_reader_init(&reader, OUR_ID);
        assert_int_equal(fcgi_reader_next(&reader, starts[i], 8, &used),
                         wanted[i]);
        assert_int_equal(fcgi_reader_next(&reader, good, 9, &used), wanted[i]);
        assert_int_equal(used, 0);
        assert_int_equal(fcgi_reader_next(&reader, NULL, 0, &used), wanted[i]);
        assert_int_equal(used, 0);
        assert_false(fcgi_reader_at_boundary(&reader));
    }
}

/* ---- the reader: END_REQUEST -------------------------------------------- */

static void a_short_end_request_is_refused_at_its_header(void **state)
{
    (void)state;
    for (size_t len = 0; len < 8; len++) {
        struct stream stream = { 0 };

        add_text(&stream, FCGI_STDOUT, "before", 2);
        add(&stream, (struct record){ .type = FCGI_END_REQUEST,
                                      .id = OUR_ID,
                                      .content_len = len,
                                      .padding_len = 255 });
        assert_reads_whole_and_in_bytes(&stream);
        stream.wire.len = 8 + 6 + 2 + 8;
        assert_reads_whole_and_in_bytes(&stream);
        free_stream(&stream);
    }
}

static void a_short_end_request_of_another_id_is_skipped(void **state)
{
    struct stream stream = { 0 };

    (void)state;
    for (size_t len = 0; len < 8; len++) {
        for (uint16_t id = 0; id <= 2; id += 2) {
            add(&stream, (struct record){ .type = FCGI_END_REQUEST,
                                          .id = id,
                                          .content_len = len });
        }
    }
    add_text(&stream, FCGI_STDOUT, "ours", 0);
    assert_false(stream.failed);
    assert_reads_whole_and_in_bytes(&stream);
    free_stream(&stream);
}

static void a_long_end_request_is_accepted_and_its_rest_skipped(void **state)
{
    static const size_t lengths[] = { 9, 15, 16, 17, 255, 256, 264, 65535 };

    (void)state;
    for (size_t i = 0; i < COUNT(lengths); i++) {
        struct stream stream = { 0 };

        add(&stream, (struct record){ .type = FCGI_END_REQUEST,
                                      .id = OUR_ID,
                                      .content_len = lengths[i],
                                      .padding_len = i });
        add_text(&stream, FCGI_STDOUT, "still in step", 0);
        assert_reads_whole_and_in_bytes(&stream);
        free_stream(&stream);
    }
}

static void every_protocol_status_is_reported(void **state)
{
    struct stream stream = { 0 };

    (void)state;
    for (unsigned status = 0; status <= 255; status++) {
        add_end(&stream, (uint8_t)status, status % 9);
    }
    assert_reads_whole_and_in_bytes(&stream);
    free_stream(&stream);
}

static void every_byte_of_app_status_is_reported(void **state)
{
    static const uint8_t bodies[][8] = {
        { 0, 0, 0, 0, 0 },    { 0, 0, 0, 1, 0 },    { 1, 2, 3, 4, 0 },
        { 0x80, 0, 0, 0, 0 }, { 0, 0x80, 0, 0, 0 }, { 255, 255, 255, 255, 0 },
    };
    static const uint32_t wanted[] = { 0,           1,       16909060,
                                       2147483648u, 8388608, 4294967295u };

    (void)state;
    for (size_t i = 0; i < COUNT(wanted); i++) {
        uint8_t record[16] = { 1, FCGI_END_REQUEST, 0, OUR_ID, 0, 8, 0, 0 };
        fcgi_reader reader;
        size_t used;

        memcpy(record + 8, bodies[i], 8);
        fcgi_reader_init(&reader, OUR_ID);
        assert_int_equal(fcgi_reader_next(&reader, record, 16, &used),
                         FCGI_EVENT_END_REQUEST);
        assert_int_equal(used, 16);
        assert_true(reader.app_status == wanted[i]);
    }
}

static void end_request_is_reported_before_its_padding(void **state)
{
    struct stream stream = { 0 };
    fcgi_reader reader;
    size_t used;

    (void)state;
    add_end(&stream, FCGI_OVERLOADED, 3);
    start_reader(&reader, &stream);
    assert_int_equal(fcgi_reader_next(&reader, stream.wire.at, 16, &used),
                     FCGI_EVENT_END_REQUEST);
    assert_int_equal(reader.type, FCGI_END_REQUEST);
    assert_int_equal(used, 16);
    assert_false(fcgi_reader_at_boundary(&reader));
    assert_int_equal(fcgi_reader_next(&reader, stream.wire.at + 16, 3, &used),
                     FCGI_EVENT_MORE);
    assert_true(fcgi_reader_at_boundary(&reader));
    assert_int_equal(reader.app_status, 938);
    assert_int_equal(reader.protocol_status, FCGI_OVERLOADED);
    free_stream(&stream);
}

static void records_after_end_request_are_still_read(void **state)
{
    struct stream stream = { 0 };

    (void)state;
    add_end(&stream, FCGI_REQUEST_COMPLETE, 0);
    add_text(&stream, FCGI_STDOUT, "too late", 1);
    add_end(&stream, FCGI_CANT_MPX_CONN, 2);
    add_text(&stream, FCGI_STDERR, "later still", 0);
    assert_reads_whole_and_in_bytes(&stream);
    free_stream(&stream);
}

/* ---- the reader: boundaries --------------------------------------------- */

static void the_boundary_is_where_a_record_ends_and_nowhere_else(void **state)
{
    static const struct record records[] = {
        { .type = FCGI_STDOUT, .id = OUR_ID, .content_len = 3 },
        { .type = FCGI_STDOUT, .id = OUR_ID },
        { .type = FCGI_STDERR, .id = OUR_ID, .padding_len = 1 },
        { .type = FCGI_STDERR,
          .id = OUR_ID,
          .content_len = 2,
          .padding_len = 9 },
        { .type = FCGI_STDOUT, .id = 9, .content_len = 4, .padding_len = 2 },
        { .type = 77, .id = 0 },
        { .type = FCGI_END_REQUEST, .id = OUR_ID, .content_len = 8 },
        { .type = FCGI_END_REQUEST,
          .id = OUR_ID,
          .content_len = 10,
          .padding_len = 3 },
    };
    struct bytes transcript = { 0 };
    fcgi_reader reader;

    (void)state;
    fcgi_reader_init(&reader, OUR_ID);
    assert_true(fcgi_reader_at_boundary(&reader));
    for (size_t i = 0; i < COUNT(records); i++) {
        struct stream one = { 0 };

        add(&one, records[i]);
        for (size_t at = 0; at < one.wire.len; at++) {
            assert_true(read_slice(&reader, one.wire.at + at, 1, &transcript));
            assert_int_equal(fcgi_reader_at_boundary(&reader),
                             at + 1 == one.wire.len);
        }
        free_stream(&one);
    }
    free(transcript.at);
}

/* ---- the reader: chance ------------------------------------------------- */

static uint64_t chance; /* xorshift; seeded by each test, so repeatable */

static uint32_t any_below(uint32_t limit)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (uint32_t)(chance >> 16) % limit;
}

static size_t any_content_len(void)
{
    switch (any_below(40)) {
    case 0:
        return any_below(3000);
    case 1:
        return 65535 - (any_below(8) != 0 ? 65400 : 0);
    case 2:
    case 3:
    case 4:
        return 8;
    default:
        return any_below(40);
    }
}

static struct record any_record(uint16_t our_id)
{
    static const uint8_t types[] = { 6, 6, 6, 7, 7, 3, 11, 10, 200, 0 };
    struct record record = { 0 };

    record.type = types[any_below(COUNT(types))];
    record.id = our_id;
    if (any_below(4) == 0) {
        record.id = any_below(2) ? 0 : (uint16_t)any_below(65536);
    }
    record.content_len = any_content_len();
    if (record.type == 3 && record.content_len < 8 && any_below(4) != 0) {
        record.content_len += 8;
    }
    record.padding_len = any_below(3) ? any_below(9) : any_below(256);
    return record;
}

static void add_any_records(struct stream *stream)
{
    uint32_t count = 1 + any_below(12);

    stream->id = (uint16_t)(1 + any_below(any_below(2) ? 3 : 65535));
    for (uint32_t i = 0; i < count; i++) {
        if (any_below(60) == 0) {
            add_bad_version(stream, (uint8_t)(any_below(255) + 2));
        }
        else {
            add(stream, any_record(stream->id));
        }
    }
}

static size_t any_cuts(size_t len, size_t *cuts, size_t limit)
{
    uint32_t longest = any_below(2) ? 12 : (uint32_t)len + 1;
    size_t count = 0;
    size_t at = any_below(longest);

    while (count < limit && at <= len) {
        cuts[count++] = at;
        at += any_below(longest);
    }
    return count;
}

static void any_stream_in_any_cuts_agrees_with_the_model(void **state)
{
    size_t cuts[200];

    (void)state;
    chance = 0x5eed5eed5eed5eedu;
    for (int i = 0; i < 20000; i++) {
        struct stream stream = { 0 };

        add_any_records(&stream);
        if (stream.wire.len <= GUARDED_LEN) {
            assert_reads_cut_at(&stream, cuts,
                                any_cuts(stream.wire.len, cuts, COUNT(cuts)));
        }
        free_stream(&stream);
    }
}

static void any_bytes_at_all_are_read_alike_in_any_cuts(void **state)
{
    (void)state;
    chance = 0xfee1600dfee1600du;
    for (int i = 0; i < 20000; i++) {
        struct bytes whole = { 0 }, cut = { 0 };
        uint8_t wire[200];
        fcgi_reader reader;
        size_t len = 1 + any_below(sizeof(wire));
        size_t middle = any_below((uint32_t)len);

        for (size_t at = 0; at < len; at++) {
            wire[at] =
                any_below(3) ? (uint8_t)any_below(8) : (uint8_t)any_below(256);
        }
        wire[0] = 1;
        fcgi_reader_init(&reader, 1);
        read_slice(&reader, wire, len, &whole);
        fcgi_reader_init(&reader, 1);
        if (read_slice(&reader, wire, middle, &cut)) {
            read_slice(&reader, wire + middle, len - middle, &cut);
        }
        assert_same_bytes(&whole, &cut);
        free(whole.at);
        free(cut.at);
    }
}

/* ---- the writers -------------------------------------------------------- */

static void a_header_is_written_as_the_specification_draws_it(void **state)
{
    static const struct {
        uint8_t golden[8];
        fcgi_type type;
        uint16_t id;
        size_t content_len;
        size_t padding_len;
    } cases[] = {
        { { 1, 5, 0, 1, 0, 0, 0, 0 }, FCGI_STDIN, 1, 0, 0 },
        { { 1, 4, 1, 2, 3, 4, 5, 0 }, FCGI_PARAMS, 0x0102, 0x0304, 5 },
        { { 1, 8, 255, 255, 255, 255, 255, 0 }, FCGI_DATA, 65535, 65535, 255 },
        { { 1, 9, 0, 0, 1, 0, 0, 0 }, FCGI_GET_VALUES, 0, 256, 0 },
        { { 1, 2, 0, 255, 0, 255, 0, 0 }, FCGI_ABORT_REQUEST, 255, 255, 0 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint8_t *to = guarded_end - 8;

        memset(to, 0xcc, 8);
        assert_ptr_equal(fcgi_put_header(to, cases[i].type, cases[i].id,
                                         cases[i].content_len,
                                         cases[i].padding_len),
                         guarded_end);
        assert_memory_equal(to, cases[i].golden, 8);
    }
}

static void begin_request_is_written_whole(void **state)
{
    static const uint8_t plain[16] = { 1, 1, 0, 1, 0, 8, 0, 0,
                                       0, 1, 0, 0, 0, 0, 0, 0 };
    static const uint8_t kept[16] = { 1,    1,    0xab, 0xcd, 0, 8, 0, 0,
                                      0x12, 0x03, 1,    0,    0, 0, 0, 0 };
    uint8_t *to = guarded_end - FCGI_BEGIN_REQUEST_LEN;

    (void)state;
    assert_int_equal(FCGI_BEGIN_REQUEST_LEN, 16);
    memset(to, 0xcc, 16);
    assert_ptr_equal(fcgi_put_begin_request(to, 1, FCGI_RESPONDER, 0),
                     guarded_end);
    assert_memory_equal(to, plain, 16);
    memset(to, 0xcc, 16);
    assert_ptr_equal(
        fcgi_put_begin_request(to, 0xabcd, 0x1203, FCGI_KEEP_CONN),
        guarded_end);
    assert_memory_equal(to, kept, 16);
}

static void a_whole_request_is_written_as_golden_bytes(void **state)
{
    /* clang-format off */
    static const uint8_t golden[] = {
        1, 1, 0, 1, 0, 8, 0, 0,  0, 1, 1, 0, 0, 0, 0, 0,
        1, 4, 0, 1, 0, 12, 4, 0,
            6, 4, 'M', 'E', 'T', 'H', 'O', 'D', 'P', 'O', 'S', 'T',
            0, 0, 0, 0,
        1, 4, 0, 1, 0, 0, 0, 0,
        1, 5, 0, 1, 0, 3, 0, 0,  'a', '=', '1',
        1, 5, 0, 1, 0, 0, 0, 0
    };
    /* clang-format on */
    uint8_t *start = guarded_end - sizeof(golden);
    uint8_t *to = start;

    (void)state;
    to = fcgi_put_begin_request(to, 1, FCGI_RESPONDER, FCGI_KEEP_CONN);
    to = fcgi_put_header(to, FCGI_PARAMS, 1, fcgi_pair_size(6, 4), 4);
    to = fcgi_put_pair(to, "METHOD", 6, "POST", 4);
    to = (uint8_t *)memset(to, 0, 4) + 4;
    to = fcgi_put_header(to, FCGI_PARAMS, 1, 0, 0);
    to = fcgi_put_header(to, FCGI_STDIN, 1, 3, 0);
    to = (uint8_t *)memcpy(to, "a=1", 3) + 3;
    to = fcgi_put_header(to, FCGI_STDIN, 1, 0, 0);
    assert_ptr_equal(to, guarded_end);
    assert_memory_equal(start, golden, sizeof(golden));
}

static void what_is_written_can_be_read(void **state)
{
    struct stream stream = { .id = 0x0201 };
    uint8_t header[8];

    (void)state;
    fcgi_put_header(header, FCGI_STDOUT, 0x0201, 0x0102, 3);
    append(&stream.wire, header, 8);
    for (int i = 0; i < 0x0102 + 3; i++) {
        append_byte(&stream.wire, 'c');
    }
    note_content(&stream.expected, FCGI_STDOUT, stream.wire.at + 8, 0x0102);
    fcgi_put_header(header, FCGI_STDERR, 0x0201, 0, 0);
    append(&stream.wire, header, 8);
    note_stream_end(&stream.expected, FCGI_STDERR);
    assert_reads_whole_and_in_bytes(&stream);
    free_stream(&stream);
}

/* ---- name-value pairs --------------------------------------------------- */

/* Lengths around each limit and the bytes they are written as. */
static const struct {
    size_t len;
    size_t size;
    uint8_t golden[4];
} lengths[] = {
    { 0, 1, { 0 } },
    { 1, 1, { 1 } },
    { 127, 1, { 127 } },
    { 128, 4, { 0x80, 0, 0, 128 } },
    { 255, 4, { 0x80, 0, 0, 255 } },
    { 65535, 4, { 0x80, 0, 255, 255 } },
    { 65536, 4, { 0x80, 1, 0, 0 } },
    { 1048576, 4, { 0x80, 0x10, 0, 0 } },
    { 0x01020304, 4, { 0x81, 2, 3, 4 } },
};

static char *text_of(size_t len, char first)
{
    char *text = malloc(len + 1); /* + 1: malloc(0) may be NULL */

    assert_non_null(text);
    memset(text, first + 1, len);
    if (len > 0) {
        text[0] = first;
        text[len - 1] = '$';
    }
    return text;
}

static void check_pair(size_t n, size_t v)
{
    char *name = text_of(lengths[n].len, 'A');
    char *value = text_of(lengths[v].len, 'a');
    size_t prefix = lengths[n].size + lengths[v].size;
    size_t size = prefix + lengths[n].len + lengths[v].len;
    uint8_t *pair = malloc(size); /* exactly: the sanitizer watches its end */

    assert_non_null(pair);
    assert_true(prefix <= FCGI_MAX_PAIR_PREFIX);
    assert_int_equal(fcgi_pair_size(lengths[n].len, lengths[v].len), size);
    assert_ptr_equal(
        fcgi_put_pair(pair, name, lengths[n].len, value, lengths[v].len),
        pair + size);
    assert_memory_equal(pair, lengths[n].golden, lengths[n].size);
    assert_memory_equal(pair + lengths[n].size, lengths[v].golden,
                        lengths[v].size);
    assert_int_equal(memcmp(pair + prefix, name, lengths[n].len), 0);
    assert_int_equal(
        memcmp(pair + prefix + lengths[n].len, value, lengths[v].len), 0);
    free(pair);
    free(value);
    free(name);
}

static void a_pair_has_lengths_of_one_or_four_bytes(void **state)
{
    (void)state;
    for (size_t n = 0; n < COUNT(lengths); n++) {
        for (size_t v = 0; v < COUNT(lengths); v++) {
            check_pair(n, v);
        }
    }
}

static void a_pair_is_written_as_golden_bytes(void **state)
{
    static const uint8_t golden[] = { 11,  4,   'S', 'E', 'R', 'V',
                                      'E', 'R', '_', 'P', 'O', 'R',
                                      'T', '8', '0', '8', '1' };
    uint8_t *to = guarded_end - sizeof(golden);

    (void)state;
    assert_int_equal(fcgi_pair_size(11, 4), sizeof(golden));
    assert_ptr_equal(fcgi_put_pair(to, "SERVER_PORT", 11, "8081", 4),
                     guarded_end);
    assert_memory_equal(to, golden, sizeof(golden));
}

static void a_name_or_value_may_be_empty(void **state)
{
    static const uint8_t empty[2] = { 0, 0 };
    static const uint8_t only_name[3] = { 1, 0, 'N' };
    uint8_t to[4] = { 0xcc, 0xcc, 0xcc, 0xcc };

    (void)state;
    assert_ptr_equal(fcgi_put_pair(to, "", 0, "", 0), to + 2);
    assert_memory_equal(to, empty, 2);
    assert_ptr_equal(fcgi_put_pair(to, "N", 1, "", 0), to + 3);
    assert_memory_equal(to, only_name, 3);
    assert_int_equal(to[3], 0xcc);
}

static void a_length_over_31_bits_is_refused(void **state)
{
    const size_t most = 0x7fffffff;
    const size_t refused[] = { most + 1,     0xffffffff,   SIZE_MAX / 2,
                               SIZE_MAX - 8, SIZE_MAX - 1, SIZE_MAX };

    (void)state;
    assert_true(fcgi_pair_size(most, 0) == most + 5);
    assert_true(fcgi_pair_size(0, most) == most + 5);
    for (size_t i = 0; i < COUNT(refused); i++) {
        if (refused[i] <= most) {
            continue; /* SIZE_MAX / 2 of 32 bits */
        }
        assert_true(fcgi_pair_size(refused[i], 0) == 0);
        assert_true(fcgi_pair_size(0, refused[i]) == 0);
        assert_true(fcgi_pair_size(refused[i], most) == 0);
        assert_true(fcgi_pair_size(refused[i], refused[i]) == 0);
    }
}

static void a_pair_too_large_for_a_size_is_refused(void **state)
{
    const uint64_t largest = 2 * (uint64_t)0x7fffffff + 8;
    size_t size = fcgi_pair_size(0x7fffffff, 0x7fffffff);

    (void)state;
    assert_true(size == (largest > SIZE_MAX ? 0 : largest));
}

/* ---- names -------------------------------------------------------------- */

static void every_protocol_status_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(fcgi_protocol_status_name(0), "FCGI_REQUEST_COMPLETE");
    assert_string_equal(fcgi_protocol_status_name(1), "FCGI_CANT_MPX_CONN");
    assert_string_equal(fcgi_protocol_status_name(2), "FCGI_OVERLOADED");
    assert_string_equal(fcgi_protocol_status_name(3), "FCGI_UNKNOWN_ROLE");
    for (unsigned status = 4; status <= 255; status++) {
        assert_string_equal(fcgi_protocol_status_name((uint8_t)status),
                            "unknown");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_of_golden_bytes_is_read),
        cmocka_unit_test(a_stream_cut_at_any_byte_gives_the_same_content),
        cmocka_unit_test(a_stream_cut_at_any_two_bytes_gives_the_same_content),
        cmocka_unit_test(slices_of_every_size_give_the_same_content),
        cmocka_unit_test(a_stream_that_stops_anywhere_gives_what_came),
        cmocka_unit_test(empty_slices_change_nothing),
        cmocka_unit_test(content_is_handed_out_in_one_piece_without_a_copy),
        cmocka_unit_test(every_padding_is_skipped_after_every_kind_of_record),
        cmocka_unit_test(the_longest_record_of_every_kind_is_read_to_its_end),
        cmocka_unit_test(an_empty_record_ends_its_stream_and_only_that),
        cmocka_unit_test(an_empty_record_that_is_not_ours_ends_nothing),
        cmocka_unit_test(another_ones_answer_is_told_of_at_its_header),
        cmocka_unit_test(every_type_but_three_is_ignored_and_counted),
        cmocka_unit_test(every_type_of_a_foreign_id_is_skipped_and_counted),
        cmocka_unit_test(every_type_of_a_management_record_is_ignored),
        cmocka_unit_test(both_bytes_of_an_id_count),
        cmocka_unit_test(a_wrong_version_of_any_record_is_refused),
        cmocka_unit_test(every_version_but_one_is_refused_at_its_byte),
        cmocka_unit_test(a_wrong_version_after_a_skipped_record_is_refused),
        cmocka_unit_test(a_wrong_version_of_a_foreign_record_is_refused),
        cmocka_unit_test(a_reader_that_gave_up_stays_so),
        cmocka_unit_test(a_short_end_request_is_refused_at_its_header),
        cmocka_unit_test(a_short_end_request_of_another_id_is_skipped),
        cmocka_unit_test(a_long_end_request_is_accepted_and_its_rest_skipped),
        cmocka_unit_test(every_protocol_status_is_reported),
        cmocka_unit_test(every_byte_of_app_status_is_reported),
        cmocka_unit_test(end_request_is_reported_before_its_padding),
        cmocka_unit_test(records_after_end_request_are_still_read),
        cmocka_unit_test(the_boundary_is_where_a_record_ends_and_nowhere_else),
        cmocka_unit_test(any_stream_in_any_cuts_agrees_with_the_model),
        cmocka_unit_test(any_bytes_at_all_are_read_alike_in_any_cuts),
        cmocka_unit_test(a_header_is_written_as_the_specification_draws_it),
        cmocka_unit_test(begin_request_is_written_whole),
        cmocka_unit_test(a_whole_request_is_written_as_golden_bytes),
        cmocka_unit_test(what_is_written_can_be_read),
        cmocka_unit_test(a_pair_has_lengths_of_one_or_four_bytes),
        cmocka_unit_test(a_pair_is_written_as_golden_bytes),
        cmocka_unit_test(a_name_or_value_may_be_empty),
        cmocka_unit_test(a_length_over_31_bits_is_refused),
        cmocka_unit_test(a_pair_too_large_for_a_size_is_refused),
        cmocka_unit_test(every_protocol_status_has_a_name),
    };

    return cmocka_run_group_tests_name("record", tests, map_guarded, NULL);
}
