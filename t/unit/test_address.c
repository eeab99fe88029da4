/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * test_address.c - what fcgi_address_hash() promises: names that differ in any
 * part of their end are spread over the places of an apr_hash_t. t/08-address.t
 * compiles and runs it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fcgi_address.h"

#define MOST 10000

/* At random the longest is 8 in one of a thousand cases. */
#define LONGEST 8

fcgi_instant fcgi_clock_now(void)
{
    return 1;
}

/* How many of the first count names of that form come to lie in one place, in
 * a table that is as large as apr_hash would have it. */
static unsigned int longest_chain(const char *form, int count)
{
    static unsigned int chains[2 * MOST];
    unsigned int size = 16, longest = 0;
    int i;

    while (size < (unsigned int)count) {
        size *= 2;
    }
    memset(chains, 0, sizeof(chains));
    for (i = 0; i < count; i++) {
        char name[100];
        apr_ssize_t len = -1;
        unsigned int *chain;

        snprintf(name, sizeof(name), form, i);
        chain = &chains[fcgi_address_hash(name, &len) % size];
        assert_int_equal(len, strlen(name));
        longest = ++*chain > longest ? *chain : longest;
    }
    return longest;
}

static void names_are_spread(void **state)
{
    static const char *const forms[] = {
        "fcgi:127.0.0.1:%d",
        "fcgi:127.0.0.1:1%04d",
        "fcgi:10.0.%04d.1:9000",
        "fcgi:[::1]:9%03d",
        "fcgi:%d",
        "fcgi:/run/php/user%04d",
        "fcgi:/run/php/user%04d.sock",
        "fcgi:/run/php/php-fpm-%d.socket",
        "fcgi:/home/u%04d/php.sock",
        "fcgi:/home/u%04d/php-fpm.sock",
        "fcgi:/home/u%04d/run/php-fpm.sock",
        "fcgi:/var/www/site%04d/private/run/php.sock",
    };
    size_t i;
    int count;

    (void)state;
    for (i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        for (count = 10; count <= MOST; count *= 10) {
            unsigned int longest = longest_chain(forms[i], count);

            if (longest > LONGEST) {
                fail_msg("%u of %d as %s are in one place", longest, count,
                         forms[i]);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_spread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
