/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fuzz_head.c - what fcgi_head_add() makes of any bytes.
 *
 * The first four bytes of an input choose the bound and the cuts, the rest is
 * what a hostile application says. It is read once whole and once in slices,
 * each in a block of its own size so that an over-read is seen; both must
 * tell the same. Knows nothing but fcgi_head.h; t/fuzz/run builds and runs it.
 */
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>

#include "fcgi_head.h"
#include "t/unit/httpd_doubles.h"

#define PREFIX_LEN 4

/* What was read, as numbers that no cut may change. */
struct summary {
    uint64_t hash; /* of the fields of all blocks, or why they are bad */
    uint64_t taken;
    fcgi_head_state last;
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

static void mix_text(struct summary *summary, const char *text)
{
    do {
        mix(summary, (unsigned char)*text);
    } while (*text++);
}

static int mix_field(void *summary, const char *name, const char *value)
{
    require(*name && !*ap_scan_http_token(name));
    require(!*ap_scan_http_field_content(value));
    mix_text(summary, name);
    mix_text(summary, value);
    return 1;
}

static void mix_block(struct summary *summary, const fcgi_head *head)
{
    require(head->status == 0 || (head->status >= 100 && head->status <= 999));
    require(head->content_length >= -1);
    mix(summary, (uint64_t)head->status);
    mix(summary, (uint64_t)head->content_length);
    require(!head->bad_length || head->content_length == -1);
    mix_text(summary, head->bad_length ? head->bad_length : "");
    mix_text(summary, head->reason ? head->reason : "");
    apr_table_do(mix_field, summary, head->fields, NULL);
}

static void note(struct summary *summary, fcgi_head *head)
{
    if (summary->last == FCGI_HEAD_WHOLE) {
        mix_block(summary, head);
        fcgi_head_restart(head);
    }
    else if (summary->last == FCGI_HEAD_BAD) {
        require(head->why != NULL && *head->why);
        mix_text(summary, head->why);
    }
}

static void read_slice(fcgi_head *head, const uint8_t *from, size_t len,
                       struct summary *summary)
{
    char *slice = malloc(len);
    const char *data = slice;

    require(slice != NULL);
    memcpy(slice, from, len);
    while (len > 0 && summary->last != FCGI_HEAD_BAD) {
        apr_size_t taken = (apr_size_t)-1;

        summary->last = fcgi_head_add(head, data, len, &taken);
        require(taken <= len && head->len <= head->max);
        require(summary->last == FCGI_HEAD_MORE ? taken == len : taken > 0);
        /* A block over its bound is bad before its end is seen. */
        summary->taken += summary->last != FCGI_HEAD_BAD ? taken : 0;
        note(summary, head);
        data += taken;
        len -= taken;
    }
    free(slice);
}

/* Slices of 1 to 2 * rough bytes, from a generator that seed starts. */
static void read_cut(fcgi_head *head, const uint8_t *data, size_t len,
                     uint32_t seed, struct summary *summary)
{
    uint32_t rough = 1 + (seed >> 8) % 40;

    while (len > 0 && summary->last != FCGI_HEAD_BAD) {
        size_t slice_len;

        seed = seed * 1664525u + 1013904223u;
        slice_len = 1 + (seed >> 16) % (2 * rough);
        slice_len = slice_len < len ? slice_len : len;
        read_slice(head, data, slice_len, summary);
        data += slice_len;
        len -= slice_len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct summary whole = { 0 }, cut = { 0 };
    fcgi_head one, other;
    apr_pool_t *pool;
    uint32_t seed;

    if (len <= PREFIX_LEN) {
        return 0;
    }
    require(apr_initialize() == APR_SUCCESS);
    require(apr_pool_create(&pool, NULL) == APR_SUCCESS);
    fcgi_head_init(&one, pool, 1 + (apr_size_t)data[0] * 16);
    fcgi_head_init(&other, pool, one.max);
    seed =
        (uint32_t)data[1] | (uint32_t)data[2] << 8 | (uint32_t)data[3] << 16;

    read_slice(&one, data + PREFIX_LEN, len - PREFIX_LEN, &whole);
    read_cut(&other, data + PREFIX_LEN, len - PREFIX_LEN, seed, &cut);
    require(whole.hash == cut.hash && whole.last == cut.last);
    require(whole.last == FCGI_HEAD_BAD || whole.taken == cut.taken);
    require(whole.last == FCGI_HEAD_BAD || whole.taken == len - PREFIX_LEN);
    apr_pool_destroy(pool);
    apr_terminate();
    return 0;
}
