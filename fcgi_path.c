/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_path.c - the contract is in fcgi_path.h. APR has no way to follow
 * links; POSIX has.
 */
#include "fcgi_path.h"

#include <stdlib.h>

#include <apr_strings.h>

const char *fcgi_path_real(apr_pool_t *pool, const char *path)
{
    char *real = realpath(path, NULL);
    const char *copy = real ? apr_pstrdup(pool, real) : NULL;

    free(real);
    return copy;
}
