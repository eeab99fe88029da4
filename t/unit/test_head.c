/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * test_head.c - what fcgi_head.h promises, shown byte by byte.
 *
 * Every slice is given right before an unreadable page and spoiled when it
 * has been taken; what fcgi_head.c allocates has ends that ASan sees. What
 * must be told of a block is written here by hand. Knows nothing but
 * fcgi_head.h; t/03-head.t compiles and runs it.
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <apr_general.h>

#include "fcgi_head.h"
#include "t/unit/httpd_doubles.h"

#define GUARDED_LEN (2 * 1024 * 1024)
#define USUAL_MAX   (64 * 1024)
#define NO_CUTS     NULL, 0
#define COUNT(a)    (sizeof(a) / sizeof((a)[0]))
#define TEXT(t)     t, sizeof(t) - 1 /* with the NULs in it */

/* What follows a block and is not of it, though it looks like one. */
#define BODY "X-Body: 1\r\n\r\n\nbody"

/* ---- bytes that grow ---------------------------------------------------- */

struct bytes {
    char *at; /* with a NUL behind */
    size_t len;
    size_t size;
};

static void append(struct bytes *bytes, const char *from, size_t len)
{
    if (bytes->len + len + 1 > bytes->size) {
        bytes->size = (bytes->len + len + 1) * 2;
        bytes->at = realloc(bytes->at, bytes->size);
        assert_non_null(bytes->at);
    }
    if (len > 0) {
        memcpy(bytes->at + bytes->len, from, len);
    }
    bytes->len += len;
    bytes->at[bytes->len] = '\0';
}

static void append_text(struct bytes *bytes, const char *text)
{
    append(bytes, text, strlen(text));
}

/* ---- what is told of a block -------------------------------------------- */

static int tell_field(void *told, const char *name, const char *value)
{
    append_text(told, "\n");
    append_text(told, name);
    append_text(told, "=[");
    append_text(told, value);
    append_text(told, "]");
    return 1;
}

/* "200 [200 OK] 12" for status, reason, length; " !" and the value if a length
 * was dropped; then a line for each field; and a ";" behind the block. */
static void tell(struct bytes *told, const fcgi_head *head)
{
    char number[32];

    snprintf(number, sizeof(number), "%d [", head->status);
    append_text(told, number);
    append_text(told, head->reason ? head->reason : "-");
    snprintf(number, sizeof(number), "] %lld",
             (long long)head->content_length);
    append_text(told, number);
    if (head->bad_length) {
        append_text(told, " !");
        append_text(told, head->bad_length);
    }
    apr_table_do(tell_field, told, head->fields, NULL);
    append_text(told, ";");
}

/* ---- reading ------------------------------------------------------------ */

static char *guarded_end; /* the first unreadable byte */

static int set_up(void **state)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *start = mmap(NULL, GUARDED_LEN + page, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    if (start == MAP_FAILED || GUARDED_LEN % page != 0
        || apr_initialize() != APR_SUCCESS) {
        return -1;
    }
    guarded_end = start + GUARDED_LEN;
    return mprotect(guarded_end, page, PROT_NONE);
}

static int tear_down(void **state)
{
    (void)state;
    apr_terminate();
    return 0;
}

/* One reading of one or more blocks, each after a restart. */
struct reading {
    apr_pool_t *pool;
    fcgi_head head;
    fcgi_head_state state; /* of the last block */
    struct bytes told;     /* of all that were whole */
    size_t taken;          /* in all */
};

static void start_reading(struct reading *reading, size_t max)
{
    memset(reading, 0, sizeof(*reading));
    memset(&allocated, 0, sizeof(allocated));
    assert_int_equal(apr_pool_create(&reading->pool, NULL), APR_SUCCESS);
    memset(&reading->head, 0xff, sizeof(reading->head));
    fcgi_head_init(&reading->head, reading->pool, max);
}

static void end_reading(struct reading *reading)
{
    apr_pool_destroy(reading->pool);
    free(reading->told.at);
}

/* Adds a slice; it cannot be read beyond its end, nor after this. */
static fcgi_head_state add(fcgi_head *head, const char *from, size_t len,
                           size_t *taken)
{
    char *data = guarded_end - len;
    fcgi_head_state state;

    assert_true(len <= GUARDED_LEN);
    if (len > 0) {
        memcpy(data, from, len);
    }
    *taken = (size_t)-1;
    state = fcgi_head_add(head, data, len, taken);
    memset(data, '!', len);
    assert_true(*taken <= len);
    assert_true(head->len <= head->max);
    if (state == FCGI_HEAD_BAD) {
        assert_non_null(head->why);
        assert_true(*head->why != '\0');
    }
    return state;
}

/* The model: where the block ends that starts at text; 0: not here. */
static size_t end_of_block(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        size_t line = i > 0 && text[i - 1] == '\r' ? i - 1 : i;

        if (text[i] == '\n' && (line == 0 || text[line - 1] == '\n')) {
            return i + 1;
        }
    }
    return 0;
}

/* A slice is judged when the block ends in it or is over its bound, and
 * never before. */
static void add_and_compare(struct reading *reading, const char *block,
                            size_t end, size_t done, size_t len)
{
    size_t mine = end > 0 && done + len > end ? end - done : len;
    size_t taken;

    reading->state = add(&reading->head, block + done, len, &taken);
    assert_int_equal(taken, mine);
    reading->taken += taken;
    if (done + mine > reading->head.max) {
        assert_int_equal(reading->state, FCGI_HEAD_BAD);
    }
    else {
        assert_int_equal(reading->state == FCGI_HEAD_MORE, done + mine != end);
    }
}

/* Reads so many blocks from the text, cut at positions that rise. */
static void read_cut_at(struct reading *reading, const char *text, size_t len,
                        size_t max, size_t blocks, const size_t *cuts,
                        size_t count)
{
    size_t start = 0, at = 0;
    size_t end = end_of_block(text, len);

    start_reading(reading, max);
    for (size_t i = 0; at < len && blocks > 0;) {
        size_t cut = i < count ? cuts[i] : len;

        add_and_compare(reading, text + start, end, at - start, cut - at);
        at = reading->taken;
        i += at == cut;
        if (reading->state == FCGI_HEAD_BAD) {
            break;
        }
        if (reading->state == FCGI_HEAD_WHOLE) {
            tell(&reading->told, &reading->head);
            fcgi_head_restart(&reading->head);
            blocks--;
            start = at;
            end = end_of_block(text + start, len - start);
        }
    }
}

/* ---- expectations ------------------------------------------------------- */

/* What must come of a text however it is cut. */
struct expected {
    fcgi_head_state state;
    const char *told; /* FCGI_HEAD_WHOLE: all; FCGI_HEAD_BAD: a part of why */
    size_t taken;
    size_t blocks;
};

static void check_cut_at(const char *text, size_t len,
                         const struct expected *expected, const size_t *cuts,
                         size_t count)
{
    struct reading reading;

    read_cut_at(&reading, text, len, USUAL_MAX, expected->blocks, cuts, count);
    assert_int_equal(reading.state, expected->state);
    assert_int_equal(reading.taken, expected->taken);
    if (expected->state == FCGI_HEAD_WHOLE) {
        assert_string_equal(reading.told.at, expected->told);
    }
    else {
        assert_null(reading.told.at);
        assert_non_null(strstr(reading.head.why, expected->told));
    }
    end_reading(&reading);
}

static void check_in_bytes(const char *text, size_t len,
                           const struct expected *expected)
{
    size_t *cuts = calloc(len, sizeof(*cuts));

    assert_non_null(cuts);
    for (size_t i = 0; i + 1 < len; i++) {
        cuts[i] = i + 1;
    }
    check_cut_at(text, len, expected, cuts, len - 1);
    free(cuts);
}

static void check(const char *text, size_t len,
                  const struct expected *expected)
{
    check_cut_at(text, len, expected, NO_CUTS);
    for (size_t cut = 1; cut < len; cut++) {
        check_cut_at(text, len, expected, &cut, 1);
    }
    check_in_bytes(text, len, expected);
}

/* Alone, and with a body behind. */
static void check_block(const char *block, size_t len, fcgi_head_state state,
                        const char *told)
{
    struct expected expected = { state, told, len, 1 };
    struct bytes text = { 0 };

    assert_int_equal(end_of_block(block, len), len);
    check(block, len, &expected);
    append(&text, block, len);
    append_text(&text, BODY);
    check(text.at, text.len, &expected);
    free(text.at);
}

static void is_whole(const char *block, const char *told)
{
    check_block(block, strlen(block), FCGI_HEAD_WHOLE, told);
}

static void is_bad(const char *block, const char *why)
{
    check_block(block, strlen(block), FCGI_HEAD_BAD, why);
}

/* "name: value" as a block of its own. */
static char *field_block(const char *name, const char *value)
{
    struct bytes block = { 0 };

    append_text(&block, name);
    append_text(&block, ": ");
    append_text(&block, value);
    append_text(&block, "\n\n");
    return block.at;
}

static void field_is_whole(const char *name, const char *value,
                           const char *told)
{
    char *block = field_block(name, value);

    is_whole(block, told);
    free(block);
}

static void field_is_bad(const char *name, const char *value, const char *why)
{
    char *block = field_block(name, value);

    is_bad(block, why);
    free(block);
}

/* ---- whole blocks ------------------------------------------------------- */

static void lines_may_end_with_lf(void **state)
{
    (void)state;
    is_whole("Status: 404 Not here\nContent-Type: text/html\n"
             "Content-Length: 12\nX-A: 1\n\n",
             "404 [404 Not here] 12\nContent-Type=[text/html]\nX-A=[1];");
}

static void lines_may_end_with_crlf(void **state)
{
    (void)state;
    is_whole("Status: 404 Not here\r\nContent-Type: text/html\r\n"
             "Content-Length: 12\r\nX-A: 1\r\n\r\n",
             "404 [404 Not here] 12\nContent-Type=[text/html]\nX-A=[1];");
}

static void lines_may_end_differently(void **state)
{
    (void)state;
    is_whole("X-A: 1\r\nX-B: 2\nX-C: 3\r\n\n",
             "0 [-] -1\nX-A=[1]\nX-B=[2]\nX-C=[3];");
    is_whole("X-A: 1\nX-B: 2\r\nX-C: 3\n\r\n",
             "0 [-] -1\nX-A=[1]\nX-B=[2]\nX-C=[3];");
}

static void a_block_cut_at_any_two_bytes_gives_the_same_fields(void **state)
{
    static const char text[] = "Status: 201 Ok\r\nA: b\nETag: \"1\"\r\n"
                               "Content-Length: 3\r\nC:\td \r\n\r\n" BODY;
    const size_t len = sizeof(text) - 1;
    const struct expected expected = {
        FCGI_HEAD_WHOLE, "201 [201 Ok] 3\nA=[b]\nETag=[\"1\"]\nC=[d];",
        len - strlen(BODY), 1
    };
    size_t cuts[2];

    (void)state;
    for (cuts[0] = 1; cuts[0] < len; cuts[0]++) {
        for (cuts[1] = cuts[0] + 1; cuts[1] < len; cuts[1]++) {
            check_cut_at(text, len, &expected, cuts, 2);
        }
    }
}

static void a_block_of_one_field_is_whole(void **state)
{
    (void)state;
    is_whole("A:b\n\n", "0 [-] -1\nA=[b];");
    is_whole("A:\n\n", "0 [-] -1\nA=[];");
    is_whole("A:\r\n\r\n", "0 [-] -1\nA=[];");
    is_whole("A: \t\r\n\r\n", "0 [-] -1\nA=[];");
    is_whole("Status: 204\n\n", "204 [-] -1;");
    is_whole("Content-Length: 0\n\n", "0 [-] 0;");
}

static void a_value_is_trimmed_and_otherwise_kept(void **state)
{
    (void)state;
    is_whole("A: \t b  c\td \t\nB:e\r\nC: f:g:\n\n",
             "0 [-] -1\nA=[b  c\td]\nB=[e]\nC=[f:g:];");
}

static void names_and_values_have_the_bytes_of_rfc_9110(void **state)
{
    static const char tchars[] = "!#$%&'*+-.^_`|~";

    (void)state;
    for (int c = 1; c < 256; c++) {
        char name[] = { 'A', (char)c, 'B', '\0' };
        int letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        struct bytes told = { 0 };

        append_text(&told, "0 [-] -1");
        if (letter || (c >= '0' && c <= '9') || strchr(tchars, c)) {
            tell_field(&told, name, "v");
            append_text(&told, ";");
            field_is_whole(name, "v", told.at);
        }
        else if (c != ':') {
            field_is_bad(name, "v", c == '\n' ? "colon" : "name");
        }
        told.len = strlen("0 [-] -1");
        if (c == '\t' || (c >= ' ' && c != 0x7f)) {
            tell_field(&told, "N", name);
            append_text(&told, ";");
            field_is_whole("N", name, told.at);
        }
        else {
            field_is_bad("N", name, c == '\n' ? "colon" : "control");
        }
        free(told.at);
    }
}

/* ---- blocks that are bad ------------------------------------------------ */

static void an_empty_block_is_one(void **state)
{
    (void)state;
    is_whole("\n", "0 [-] -1;");
    is_whole("\r\n", "0 [-] -1;");
}

static void a_nul_anywhere_is_bad(void **state)
{
    static const char block[] = "Status: 200 OK\r\nA: b\nContent-Length: 1\n"
                                "\r\n";
    const size_t len = sizeof(block) - 1;

    (void)state;
    for (size_t at = 0; at < len - 2; at++) {
        struct bytes text = { 0 };

        append(&text, block, at);
        append(&text, "", 1);
        append(&text, block + at, len - at);
        check_block(text.at, text.len, FCGI_HEAD_BAD, "NUL");
        free(text.at);
    }
    check_block(TEXT("\0\n\n"), FCGI_HEAD_BAD, "NUL");
    check_block(TEXT("A: b\n\0\r\n\n"), FCGI_HEAD_BAD, "NUL");
    check_block(TEXT("A: b\n\r\0\n\n"), FCGI_HEAD_BAD, "NUL");
}

static void a_bare_cr_is_bad(void **state)
{
    (void)state;
    is_bad("A: b\rc\n\n", "control");
    is_bad("A: b\rC: d\r\n\r\n", "control");
    is_bad("A: \rb\r\n\r\n", "control");
    is_bad("A: b\r\r\n\r\n", "control");
    is_bad("A: b \r \r\n\r\n", "control");
    is_bad("A\r: b\n\n", "name");
    is_bad("\rA: b\n\n", "name");
    is_bad("A: b\n\rC: d\n\n", "name");
    is_bad("A: b\n\r\r\n\n", "colon");
    is_bad("\r\r\n\n", "colon");
}

static void a_control_character_is_bad(void **state)
{
    (void)state;
    is_bad("A: \x01\n\n", "control");
    is_bad("A: b\x1b[1m\n\n", "control");
    is_bad("A: b\x7f\n\n", "control");
    is_bad("Status: 200 O\x08K\n\n", "control");
    is_bad("Content-Length: 5\x0b\n\n", "control");
    is_bad("A\x02: b\n\n", "name");
}

static void a_line_that_is_no_field_is_bad(void **state)
{
    (void)state;
    is_bad("A\n\n", "colon");
    is_bad("A: b\nC\nD: e\n\n", "colon");
    is_bad("A: b\r\n \r\n\r\n", "colon");
    is_bad("HTTP/1.1 200 OK\r\nA: b\r\n\r\n", "colon");
    is_bad("<!doctype html>\n<p>\n\n", "colon");
}

static void a_name_must_be_a_token(void **state)
{
    (void)state;
    is_bad(": b\n\n", "name");
    is_bad(":\n\n", "name");
    is_bad("::\n\n", "name");
    is_bad("A: b\n: c\n\n", "name");
    is_bad("A : b\n\n", "name");
    is_bad("A\t: b\n\n", "name");
    is_bad("A B: c\n\n", "name");
    is_bad(" A: b\n\n", "name");
    is_bad("Status : 200\n\n", "name");
    is_bad("Content-Length : 5\n\n", "name");
}

static void a_folded_line_is_bad(void **state)
{
    (void)state;
    is_bad("A: b\n c\n\n", "colon");
    is_bad("A: b\r\n\tc\r\n\r\n", "colon");
    is_bad("A: b\n c: d\n\n", "name");
    is_bad("A: b\r\n\tc: d\r\n\r\n", "name");
}

static void the_place_of_a_bad_line_does_not_matter(void **state)
{
    (void)state;
    is_bad("?\nA: b\nC: d\n\n", "colon");
    is_bad("A: b\n?\nC: d\n\n", "colon");
    is_bad("A: b\nC: d\n?\n\n", "colon");
    is_bad("Status: 20\nA: b\n\n", "Status");
    is_bad("A: b\nStatus: 20\n\n", "Status");
    is_bad("Status: 20\nStatus: 200\n\n", "Status");
}

/* ---- Status ------------------------------------------------------------- */

static void a_status_is_three_digits_from_100_on(void **state)
{
    char value[16], told[32];

    (void)state;
    for (int number = 0; number <= 2000; number++) {
        snprintf(value, sizeof(value), "%d", number);
        snprintf(told, sizeof(told), "%d [-] -1;", number);
        if (number >= 100 && number <= 999) {
            field_is_whole("Status", value, told);
        }
        else {
            field_is_bad("Status", value, "Status");
        }
    }
}

static void a_status_of_another_form_is_bad(void **state)
{
    static const char *const values[] = {
        "",       "abc",     "20",    "099",          "0200",
        "2000",   "1000 OK", "2000x", "-200",         "+200",
        "-20",    "2 0",     "20 OK", "2OO",          "OK",
        "0x200",  "/00",     ":00",   "1:0",          "10/",
        "099 OK", "000",     "00",    "HTTP/1.1 200", "\xb2\xb0o"
    };

    (void)state;
    for (size_t i = 0; i < COUNT(values); i++) {
        field_is_bad("Status", values[i], "Status");
    }
}

/* As servers and scripts write them. */
static void what_follows_three_digits_is_the_reason(void **state)
{
    (void)state;
    field_is_whole("Status", "404Not Found", "404 [404 Not Found] -1;");
    field_is_whole("Status", "404\tx", "404 [404 x] -1;");
    field_is_whole("Status", "404 \t x", "404 [404 x] -1;");
    field_is_whole("Status", "200x OK", "200 [200 x OK] -1;");
    field_is_whole("Status", "200-1", "200 [200 -1] -1;");
    field_is_whole("Status", "200.0", "200 [200 .0] -1;");
    field_is_whole("Status", "200\xa0OK", "200 [200 \xa0OK] -1;");
    field_is_whole("Status", "601 UPDATE NEEDED",
                   "601 [601 UPDATE NEEDED] -1;");
    field_is_whole("Status", "999 Request denied",
                   "999 [999 Request denied] -1;");
}

static void a_status_may_have_a_reason(void **state)
{
    (void)state;
    field_is_whole("Status", "200 ", "200 [-] -1;");
    field_is_whole("Status", "200 \t ", "200 [-] -1;");
    field_is_whole("Status", "200 OK", "200 [200 OK] -1;");
    field_is_whole("Status", " 200 OK ", "200 [200 OK] -1;");
    field_is_whole("Status", "404 Not here", "404 [404 Not here] -1;");
    field_is_whole("Status", "599 x", "599 [599 x] -1;");
    field_is_whole("Status", "103 \xe4\xf6", "103 [103 \xe4\xf6] -1;");
    field_is_whole("sTATUs", "418", "418 [-] -1;");
}

/* ---- Content-Length ----------------------------------------------------- */

static void a_length_is_digits(void **state)
{
    (void)state;
    field_is_whole("Content-Length", "0", "0 [-] 0;");
    field_is_whole("Content-Length", " 5\t", "0 [-] 5;");
    field_is_whole("content-lENGTH", "007", "0 [-] 7;");
    field_is_whole("Content-Length", "4294967296", "0 [-] 4294967296;");
    field_is_whole("Content-Length", "9223372036854775807",
                   "0 [-] 9223372036854775807;");
}

static void a_length_of_another_form_is_dropped(void **state)
{
    static const char *const values[] = {
        "",
        "-1",
        "-0",
        "+5",
        "5, 5",
        "5,5",
        "5 5",
        "5x",
        "x5",
        "0x5",
        "5.0",
        "5e1",
        "five",
        ",",
        "\"5\"",
        "9223372036854775808",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999999999999999999999"
    };

    (void)state;
    for (size_t i = 0; i < COUNT(values); i++) {
        struct bytes told = { 0 };

        append_text(&told, "0 [-] -1 !");
        append_text(&told, values[i]);
        append_text(&told, ";");
        field_is_whole("Content-Length", values[i], told.at);
        free(told.at);
    }
}

static void lengths_must_be_equal(void **state)
{
    (void)state;
    is_whole("Content-Length: 5\nA: b\ncontent-length: 5\n\n",
             "0 [-] 5\nA=[b];");
    is_whole("Content-Length: 0\r\nContent-Length: 0\r\n\r\n", "0 [-] 0;");
    is_whole("Content-Length: 5\nContent-Length: 6\n\n", "0 [-] -1 !6;");
    is_whole("Content-Length: 0\nContent-Length: 6\n\n", "0 [-] -1 !6;");
    is_whole("Content-Length: 6\nContent-Length: 0\n\n", "0 [-] -1 !0;");
    is_whole("Content-Length: 5\nA: b\nCONTENT-LENGTH: 6\n\n",
             "0 [-] -1 !6\nA=[b];");
    is_whole("Content-Length: 5\nContent-Length: 5\nContent-Length: 6\n\n",
             "0 [-] -1 !6;");
    is_whole("Content-Length: 5\nContent-Length:\n\n", "0 [-] -1 !;");
}

static void a_dropped_length_does_not_come_back(void **state)
{
    (void)state;
    is_whole("Content-Length: 5\nContent-Length: 6\nContent-Length: 5\n\n",
             "0 [-] -1 !6;");
    is_whole("Content-Length: x\nContent-Length: 5\n\n", "0 [-] -1 !x;");
}

/* ---- fields that come twice --------------------------------------------- */

static const char *const singles[] = { "Content-Type", "Location", "ETag",
                                       "Last-Modified", "Content-Range" };

static void the_last_of_a_single_field_counts(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(singles); i++) {
        struct bytes block = { 0 }, told = { 0 };

        for (char value = '1'; value <= '3'; value++) {
            append_text(&block, singles[i]);
            append(&block, ":", 1);
            append(&block, &value, 1);
            append_text(&block, "\r\nX-A: 0\r\n");
        }
        append_text(&block, "\r\n");
        append_text(&told, "0 [-] -1\nX-A=[0]\nX-A=[0]");
        tell_field(&told, singles[i], "3");
        append_text(&told, "\nX-A=[0];");
        is_whole(block.at, told.at);
        free(block.at);
        free(told.at);
    }
}

static void single_fields_are_known_in_any_case(void **state)
{
    (void)state;
    is_whole("Content-Type: a\nCONTENT-TYPE: b\n\n",
             "0 [-] -1\nCONTENT-TYPE=[b];");
    is_whole("location: /a\nLocation: /b\netag: 1\nEtag: 2\n\n",
             "0 [-] -1\nLocation=[/b]\nEtag=[2];");
    is_whole("ETag: 1\nETag:\n\n", "0 [-] -1\nETag=[];");
}

static void a_type_is_in_lower_case(void **state)
{
    (void)state;
    is_whole("Content-Type: Text/HTML; charset=UTF-8\nX-A: Text/HTML\n\n",
             "0 [-] -1\nContent-Type=[text/html; charset=UTF-8]\n"
             "X-A=[Text/HTML];");
}

static void other_fields_stay_in_order(void **state)
{
    (void)state;
    is_whole("Set-Cookie: a=1; Path=/\nX-A: 1\nSet-Cookie: b=2\nX-A: 1\n\n",
             "0 [-] -1\nSet-Cookie=[a=1; Path=/]\nX-A=[1]\n"
             "Set-Cookie=[b=2]\nX-A=[1];");
    is_whole("Set-Cookie: a\nset-cookie: a\n\n",
             "0 [-] -1\nSet-Cookie=[a]\nset-cookie=[a];");
}

static void names_of_single_fields_are_told_from_others(void **state)
{
    static const char *const others[] = { "",
                                          "Set-Cookie",
                                          "Content-Typ",
                                          "Content-Types",
                                          "ETags",
                                          "E-Tag",
                                          "Loc",
                                          "X-Location",
                                          "Location ",
                                          "Link",
                                          "Vary",
                                          "Status",
                                          "Content",
                                          "Last_Modified",
                                          "Warning",
                                          "etag\xc3",
                                          "WWW-Authenticate" };

    (void)state;
    for (size_t i = 0; i < COUNT(singles); i++) {
        assert_true(fcgi_head_is_single(fcgi_head_field(singles[i])));
    }
    assert_int_equal(fcgi_head_field("content-RANGE"), FCGI_FIELD_SINGLE);
    assert_int_equal(fcgi_head_field("etag"), FCGI_FIELD_SINGLE);
    for (size_t i = 0; i < COUNT(others); i++) {
        assert_false(fcgi_head_is_single(fcgi_head_field(others[i])));
    }
}

static void names_of_fields_are_known_in_any_case(void **state)
{
    static const struct {
        const char *name;
        fcgi_field field;
    } names[] = {
        { "Status", FCGI_FIELD_STATUS },
        { "CONTENT-LENGTH", FCGI_FIELD_LENGTH },
        { "Content-type", FCGI_FIELD_TYPE },
        { "last-modified", FCGI_FIELD_MODIFIED },
        { "Location", FCGI_FIELD_SINGLE },
        { "vary", FCGI_FIELD_VARY },
        { "connection", FCGI_FIELD_CONNECTION },
        { "keep-alive", FCGI_FIELD_HOP },
        { "Proxy-Connection", FCGI_FIELD_HOP },
        { "te", FCGI_FIELD_HOP },
        { "Trailer", FCGI_FIELD_HOP },
        { "UPGRADE", FCGI_FIELD_HOP },
        { "transfer-encoding", FCGI_FIELD_HOP },
        { "", FCGI_FIELD_OTHER },
        { "Link", FCGI_FIELD_OTHER },
        { "Keep_Alive", FCGI_FIELD_OTHER },
        { "Content-Digest", FCGI_FIELD_OTHER },
        { "Content-Security-Policy", FCGI_FIELD_OTHER },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        assert_int_equal(fcgi_head_field(names[i].name), names[i].field);
    }
}

/* ---- the bound ---------------------------------------------------------- */

/* A field that fills a block of len bytes, its blank line included. */
static struct bytes block_of(size_t len, const char *line_end)
{
    struct bytes block = { 0 };

    append_text(&block, "A:");
    while (block.len + 2 * strlen(line_end) < len) {
        append_text(&block, "x");
    }
    append_text(&block, line_end);
    append_text(&block, line_end);
    assert_int_equal(block.len, len);
    return block;
}

/* The block is one piece, which is replaced by one twice as large. */
static void assert_memory_is_bounded(const fcgi_head *head)
{
    assert_true(head->len <= head->max);
    assert_true(head->size <= 2 * head->max);
    assert_true(allocated.largest <= 2 * head->max + 1);
    assert_true(allocated.total < 4 * head->max + 64);
}

/* Whatever follows the block does not count. */
static void check_bound(const struct bytes *block, size_t max, size_t slice)
{
    size_t count = (block->len - 1) / slice;
    size_t *cuts = calloc(count + 1, sizeof(*cuts));
    struct reading reading;

    assert_non_null(cuts);
    for (size_t i = 0; i < count; i++) {
        cuts[i] = (i + 1) * slice;
    }
    read_cut_at(&reading, block->at, block->len, max, 1, cuts, count);
    if (end_of_block(block->at, block->len) <= max) {
        assert_int_equal(reading.state, FCGI_HEAD_WHOLE);
        assert_int_equal(strlen(apr_table_get(reading.head.fields, "A")),
                         strcspn(block->at, "\r\n") - 2);
    }
    else {
        assert_int_equal(reading.state, FCGI_HEAD_BAD);
        assert_non_null(strstr(reading.head.why, "larger"));
    }
    assert_memory_is_bounded(&reading.head);
    end_reading(&reading);
    free(cuts);
}

static void check_bounds_around(size_t max)
{
    for (size_t len = max - 2; len <= max + 2; len++) {
        struct bytes lf = block_of(len, "\n"), crlf = block_of(len, "\r\n");

        check_bound(&lf, max, len);
        check_bound(&lf, max, 1);
        check_bound(&crlf, max, len);
        check_bound(&crlf, max, 1);
        check_bound(&crlf, max, 1000);
        append_text(&crlf, BODY);
        check_bound(&crlf, max, len - 1);
        check_bound(&crlf, max, crlf.len);
        free(lf.at);
        free(crlf.at);
    }
}

static void a_block_may_have_max_bytes_and_not_one_more(void **state)
{
    static const size_t bounds[] = { 1024, 1025, 1500, 2047,
                                     2048, 2049, 5000, 8192 };

    (void)state;
    for (size_t i = 0; i < COUNT(bounds); i++) {
        check_bounds_around(bounds[i]);
    }
}

static void a_small_bound_is_kept_to_the_byte(void **state)
{
    static const char text[] = "Status: 200 OK\r\nA: b\r\n\r\n" BODY;
    const size_t len = sizeof(text) - 1;
    const size_t end = end_of_block(text, len);

    (void)state;
    for (size_t max = 1; max <= len; max++) {
        for (size_t cut = 1; cut <= len; cut++) {
            struct reading reading;

            read_cut_at(&reading, text, len, max, 1, &cut, 1);
            assert_int_equal(reading.state,
                             end <= max ? FCGI_HEAD_WHOLE : FCGI_HEAD_BAD);
            end_reading(&reading);
        }
    }
}

/* Goes on although the block is bad, as no caller does. */
static void check_endless(const char *line, size_t slice)
{
    const size_t len = 1024 * 1024;
    struct bytes text = { 0 };
    struct reading reading;

    while (text.len < len) {
        append_text(&text, line);
    }
    start_reading(&reading, USUAL_MAX);
    for (size_t at = 0; at < len; at += slice) {
        size_t taken;
        fcgi_head_state wanted =
            at + slice > USUAL_MAX ? FCGI_HEAD_BAD : FCGI_HEAD_MORE;

        assert_int_equal(add(&reading.head, text.at + at, slice, &taken),
                         wanted);
        assert_true(taken == slice || at > USUAL_MAX);
    }
    assert_non_null(strstr(reading.head.why, "larger"));
    assert_memory_is_bounded(&reading.head);
    end_reading(&reading);
    free(text.at);
}

static void a_stream_without_a_blank_line_takes_no_more_than_its_bound(
    void **state)
{
    static const char *const lines[] = { "X", "X-A: 1\r\n", "\r", "\r\r\n",
                                         "X\n" };
    static const size_t slices[] = { 1, 8, 4096, 8192, 65536, 1024 * 1024 };

    (void)state;
    for (size_t i = 0; i < COUNT(lines); i++) {
        for (size_t j = 0; j < COUNT(slices); j++) {
            check_endless(lines[i], slices[j]);
        }
    }
}

/* ---- one block after another -------------------------------------------- */

static void a_second_block_has_nothing_of_the_first(void **state)
{
    static const char text[] = "Status: 103 Early Hints\r\nLink: </a>\r\n"
                               "Content-Length: 7\r\nETag: 1\r\n\r\n"
                               "X-A: 1\n\n"
                               "Status: 500\nContent-Length: 8\n\n" BODY;
    const struct expected expected = {
        FCGI_HEAD_WHOLE,
        "103 [103 Early Hints] 7\nLink=[</a>]\nETag=[1];"
        "0 [-] -1\nX-A=[1];"
        "500 [-] 8;",
        sizeof(text) - sizeof(BODY), 3
    };

    (void)state;
    check(TEXT(text), &expected);
}

static void a_restart_forgets_a_block_at_any_byte(void **state)
{
    static const char first[] = "Status: 404 Gone\r\nA: b\r\n\r\n";
    static const char second[] = "\r\n", third[] = "C: d\r\n\r\n";

    (void)state;
    for (size_t len = 0; len < sizeof(first); len++) {
        struct reading reading;
        size_t taken;

        start_reading(&reading, sizeof(first) - 1);
        for (size_t i = 0; i < len; i++) {
            reading.state = add(&reading.head, first + i, 1, &taken);
        }
        fcgi_head_restart(&reading.head);
        assert_int_equal(add(&reading.head, TEXT(third), &taken),
                         FCGI_HEAD_WHOLE);
        tell(&reading.told, &reading.head);
        assert_string_equal(reading.told.at, "0 [-] -1\nC=[d];");
        end_reading(&reading);

        start_reading(&reading, sizeof(first) - 1);
        for (size_t i = 0; i < len; i++) {
            reading.state = add(&reading.head, first + i, 1, &taken);
        }
        fcgi_head_restart(&reading.head);
        assert_int_equal(add(&reading.head, TEXT(second), &taken),
                         FCGI_HEAD_WHOLE);
        tell(&reading.told, &reading.head);
        assert_string_equal(reading.told.at, "0 [-] -1;");
        end_reading(&reading);
    }
}

static void each_block_has_the_whole_bound_and_the_same_memory(void **state)
{
    struct bytes block = block_of(5000, "\r\n");
    struct reading reading;
    size_t taken;

    (void)state;
    start_reading(&reading, block.len);
    for (int i = 0; i < 100; i++) {
        for (size_t at = 0; at < block.len; at += 1000) {
            reading.state = add(&reading.head, block.at + at, 1000, &taken);
        }
        assert_int_equal(reading.state, FCGI_HEAD_WHOLE);
        fcgi_head_restart(&reading.head);
    }
    assert_memory_is_bounded(&reading.head);
    end_reading(&reading);
    free(block.at);
}

/* ---- chance ------------------------------------------------------------- */

static uint64_t chance; /* xorshift; seeded by each test, so repeatable */

static uint32_t any_below(uint32_t limit)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (uint32_t)(chance >> 16) % limit;
}

/* Mostly lines that are fields. */
static struct bytes any_text(void)
{
    static const char *const pieces[] = {
        "Status: 200 OK",
        "Status: 404",
        "Status: ",
        "Content-Length: 5",
        "A: b",
        "ETag: \"x\"",
        "Set-Cookie: a=b",
        "C:",
        "Location: /x",
        "X-Long: abcdefghijklmnopqrstuvwxyz0123456789"
    };
    struct bytes text = { 0 };
    uint32_t lines = any_below(8);

    append(&text, "", 0);
    for (uint32_t i = 0; i < lines; i++) {
        append_text(&text, pieces[any_below(COUNT(pieces))]);
        append_text(&text, any_below(2) ? "\r\n" : "\n");
        if (any_below(20) == 0) {
            char byte = (char)any_below(256);

            append(&text, &byte, 1);
        }
    }
    append_text(&text, any_below(8) == 0 ? "" : any_below(2) ? "\r\n" : "\n");
    for (uint32_t i = any_below(6); text.len > 0 && i >= 5; i--) {
        text.at[any_below((uint32_t)text.len)] = (char)any_below(256);
    }
    return text;
}

/* Few of these bytes are not special. */
static struct bytes any_soup(void)
{
    static const char bytes[] = "\r\n\n\n:: \tAZaz09,;\0\x7f\xff\x1b";
    struct bytes text = { 0 };

    for (uint32_t i = any_below(60); i > 0; i--) {
        append(&text, bytes + any_below(sizeof(bytes) - 1), 1);
    }
    append_text(&text, "\n\n");
    return text;
}

static int check_sound_field(void *nothing, const char *name,
                             const char *value)
{
    size_t len = strlen(value);

    (void)nothing;
    assert_true(*name != '\0');
    for (; *name; name++) {
        assert_true(*name > ' ' && *name < 0x7f && *name != ':');
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)value[i];

        assert_true(c == '\t' || (c >= ' ' && c != 0x7f));
    }
    assert_true(len == 0 || !strchr(" \t", value[0]));
    assert_true(len == 0 || !strchr(" \t", value[len - 1]));
    return 1;
}

static void check_sound(const fcgi_head *head)
{
    assert_true(head->status == 0
                || (head->status >= 100 && head->status <= 999));
    assert_true(head->content_length >= -1);
    assert_null(apr_table_get(head->fields, "Status"));
    assert_null(apr_table_get(head->fields, "Content-Length"));
    if (head->reason) {
        assert_int_equal(atoi(head->reason), head->status);
        assert_int_equal(head->reason[3], ' ');
    }
    apr_table_do(check_sound_field, NULL, head->fields, NULL);
}

static size_t any_cuts(size_t *cuts, size_t most, size_t len)
{
    uint32_t rough = 1 + any_below(30);
    size_t count = 0;

    for (size_t at = 1 + any_below(rough); at < len && count < most;
         at += 1 + any_below(rough)) {
        cuts[count++] = at;
    }
    return count;
}

/* The same, whole and cut; returns what it was. */
static fcgi_head_state check_any(const struct bytes *text, size_t max)
{
    struct reading whole, cut;
    size_t cuts[200];

    read_cut_at(&whole, text->at, text->len, max, 1, NO_CUTS);
    if (whole.state == FCGI_HEAD_WHOLE) {
        check_sound(&whole.head);
    }
    for (int i = 0; i < 4; i++) {
        size_t count = any_cuts(cuts, COUNT(cuts), text->len);

        read_cut_at(&cut, text->at, text->len, max, 1, cuts, count);
        assert_int_equal(cut.state, whole.state);
        if (cut.state == FCGI_HEAD_WHOLE) {
            assert_string_equal(cut.told.at, whole.told.at);
            assert_int_equal(cut.taken, whole.taken);
        }
        else if (cut.state == FCGI_HEAD_BAD) {
            assert_string_equal(cut.head.why, whole.head.why);
        }
        end_reading(&cut);
    }
    end_reading(&whole);
    return whole.state;
}

/* The generator must have made enough of each kind. */
static void check_many(struct bytes (*any)(void), uint64_t seed, int whole,
                       int bad, int more)
{
    int seen[3] = { 0 };

    chance = seed;
    for (int i = 0; i < 20000; i++) {
        struct bytes text = any();
        size_t max = any_below(4) == 0 ? 1 + any_below(200) : 4096;

        seen[check_any(&text, max)]++;
        free(text.at);
    }
    assert_true(seen[FCGI_HEAD_WHOLE] >= whole);
    assert_true(seen[FCGI_HEAD_BAD] >= bad);
    assert_true(seen[FCGI_HEAD_MORE] >= more);
}

static void any_lines_are_judged_alike_in_any_cuts(void **state)
{
    (void)state;
    check_many(any_text, 0x9e3779b97f4a7c15u, 4000, 4000, 500);
}

static void any_bytes_at_all_are_judged_alike_in_any_cuts(void **state)
{
    (void)state;
    check_many(any_soup, 0xd1b54a32d192ed03u, 20, 10000, 0);
}

/* ---- the letter of the contract ----------------------------------------- */

static void a_bad_block_stays_bad(void **state)
{
    static const char *const bad[] = { "A: b\nC: d\nE: f\n", "A\n\n",
                                       "Status: 20\n\n" };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct reading reading;
        size_t taken;

        start_reading(&reading, 14);
        assert_int_equal(add(&reading.head, bad[i], strlen(bad[i]), &taken),
                         FCGI_HEAD_BAD);
        assert_int_equal(add(&reading.head, TEXT("G"), &taken), FCGI_HEAD_BAD);
        assert_int_equal(add(&reading.head, TEXT(":\n\n"), &taken),
                         FCGI_HEAD_BAD);
        end_reading(&reading);
    }
}

static void memory_is_bounded_by_a_small_bound_too(void **state)
{
    (void)state;
    for (size_t max = 8; max < 1024; max += 100) {
        struct bytes block = block_of(max, "\n");

        check_bound(&block, max, 1);
        check_bound(&block, max, max);
        free(block.at);
    }
}

/* Last, because UBSan ends the program. */
static void empty_slices_change_nothing(void **state)
{
    static const char text[] = "A: b\r\nStatus: 200\r\n\r\n";
    struct reading reading;
    size_t taken;

    (void)state;
    start_reading(&reading, USUAL_MAX);
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        assert_int_equal(add(&reading.head, "", 0, &taken), FCGI_HEAD_MORE);
        assert_int_equal(taken, 0);
        reading.state = add(&reading.head, text + i, 1, &taken);
    }
    assert_int_equal(reading.state, FCGI_HEAD_WHOLE);
    tell(&reading.told, &reading.head);
    assert_string_equal(reading.told.at, "200 [-] -1\nA=[b];");
    end_reading(&reading);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_may_end_with_lf),
        cmocka_unit_test(lines_may_end_with_crlf),
        cmocka_unit_test(lines_may_end_differently),
        cmocka_unit_test(a_block_cut_at_any_two_bytes_gives_the_same_fields),
        cmocka_unit_test(a_block_of_one_field_is_whole),
        cmocka_unit_test(a_value_is_trimmed_and_otherwise_kept),
        cmocka_unit_test(names_and_values_have_the_bytes_of_rfc_9110),
        cmocka_unit_test(an_empty_block_is_one),
        cmocka_unit_test(a_nul_anywhere_is_bad),
        cmocka_unit_test(a_bare_cr_is_bad),
        cmocka_unit_test(a_control_character_is_bad),
        cmocka_unit_test(a_line_that_is_no_field_is_bad),
        cmocka_unit_test(a_name_must_be_a_token),
        cmocka_unit_test(a_folded_line_is_bad),
        cmocka_unit_test(the_place_of_a_bad_line_does_not_matter),
        cmocka_unit_test(a_status_is_three_digits_from_100_on),
        cmocka_unit_test(a_status_of_another_form_is_bad),
        cmocka_unit_test(what_follows_three_digits_is_the_reason),
        cmocka_unit_test(a_status_may_have_a_reason),
        cmocka_unit_test(a_length_is_digits),
        cmocka_unit_test(a_length_of_another_form_is_dropped),
        cmocka_unit_test(lengths_must_be_equal),
        cmocka_unit_test(a_dropped_length_does_not_come_back),
        cmocka_unit_test(the_last_of_a_single_field_counts),
        cmocka_unit_test(single_fields_are_known_in_any_case),
        cmocka_unit_test(a_type_is_in_lower_case),
        cmocka_unit_test(other_fields_stay_in_order),
        cmocka_unit_test(names_of_single_fields_are_told_from_others),
        cmocka_unit_test(names_of_fields_are_known_in_any_case),
        cmocka_unit_test(a_block_may_have_max_bytes_and_not_one_more),
        cmocka_unit_test(a_small_bound_is_kept_to_the_byte),
        cmocka_unit_test(
            a_stream_without_a_blank_line_takes_no_more_than_its_bound),
        cmocka_unit_test(a_second_block_has_nothing_of_the_first),
        cmocka_unit_test(a_restart_forgets_a_block_at_any_byte),
        cmocka_unit_test(each_block_has_the_whole_bound_and_the_same_memory),
        cmocka_unit_test(any_lines_are_judged_alike_in_any_cuts),
        cmocka_unit_test(any_bytes_at_all_are_judged_alike_in_any_cuts),
        cmocka_unit_test(a_bad_block_stays_bad),
        cmocka_unit_test(memory_is_bounded_by_a_small_bound_too),
        cmocka_unit_test(empty_slices_change_nothing),
    };

    return cmocka_run_group_tests_name("head", tests, set_up, tear_down);
}
