/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * httpd_doubles.h - what fcgi_head.c needs of the httpd program, for programs
 * that are not httpd: its functions, as <httpd.h> and RFC 9110 describe them.
 * Include it in one file of a program.
 *
 * apr_palloc() is replaced for that program, not in APR itself, when it is
 * linked with -Wl,--wrap=apr_palloc: each piece is then malloc's, so that
 * ASan sees its ends, and counted.
 */
#ifndef HTTPD_DOUBLES_H
#define HTTPD_DOUBLES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <apr_pools.h>

#include <httpd.h>

/* What apr_palloc() gave. */
static struct {
    size_t total;
    size_t largest;
} allocated;

void *__wrap_apr_palloc(apr_pool_t *pool, apr_size_t size);

static apr_status_t free_piece(void *piece)
{
    free(piece);
    return APR_SUCCESS;
}

void *__wrap_apr_palloc(apr_pool_t *pool, apr_size_t size)
{
    void *piece = malloc(size);

    if (!piece) {
        abort();
    }
    memset(piece, 0xa5, size);
    apr_pool_cleanup_register(pool, piece, free_piece, free_piece);
    allocated.total += size;
    if (size > allocated.largest) {
        allocated.largest = size;
    }
    return piece;
}

/* RFC 9110, 5.6.2: tchar */
static int is_token_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z')
           || (c >= 'a' && c <= 'z') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* RFC 9110, 5.5: VCHAR, SP, HTAB, obs-text */
static int is_content_char(unsigned char c)
{
    return c == '\t' || (c >= 0x20 && c <= 0x7e) || c >= 0x80;
}

const char *ap_scan_http_token(const char *ptr)
{
    while (is_token_char((unsigned char)*ptr)) {
        ptr++;
    }
    return ptr;
}

const char *ap_scan_http_field_content(const char *ptr)
{
    while (is_content_char((unsigned char)*ptr)) {
        ptr++;
    }
    return ptr;
}

static int lower(char c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : (unsigned char)c;
}

int ap_cstr_casecmp(const char *s1, const char *s2)
{
    while (*s1 && lower(*s1) == lower(*s2)) {
        s1++;
        s2++;
    }
    return lower(*s1) - lower(*s2);
}

void ap_content_type_tolower(char *text)
{
    for (; *text && *text != ';'; text++) {
        *text = (char)lower(*text);
    }
}

int ap_parse_strict_length(apr_off_t *len, const char *str)
{
    const apr_off_t most = sizeof(*len) == 8 ? INT64_MAX : INT32_MAX;
    apr_off_t value = 0;

    if (!*str) {
        return 0;
    }
    for (; *str; str++) {
        int digit = *str - '0';

        if (digit < 0 || digit > 9 || value > (most - digit) / 10) {
            return 0;
        }
        value = value * 10 + digit;
    }
    *len = value;
    return 1;
}

#endif
