/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_path.c - the contract is in fcgi_path.h. APR has no way to follow
 * links or to hold a file; POSIX has the one, Linux the other.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_PATH */
#endif
#include "fcgi_path.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <apr_errno.h>
#include <apr_strings.h>

const char *fcgi_path_real(apr_pool_t *pool, const char *path)
{
    char *real = realpath(path, NULL);
    const char *copy = real ? apr_pstrdup(pool, real) : NULL;

    free(real);
    return copy;
}

const char *fcgi_path_real_folder(apr_pool_t *pool, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *folder =
        slash ? fcgi_path_real(
            pool, apr_pstrmemdup(pool, path, (apr_size_t)(slash - path) + 1))
              : NULL;

    return folder
               ? apr_pstrcat(pool, folder, folder[1] ? slash : slash + 1, NULL)
               : NULL;
}

#ifdef O_PATH
/* Where a link of /proc leads; NULL if there is no /proc. */
static const char *read_link(apr_pool_t *pool, const char *link)
{
    char path[PATH_MAX];
    ssize_t len = readlink(link, path, sizeof(path));

    return len > 0 && len < (ssize_t)sizeof(path)
               ? apr_pstrmemdup(pool, path, (apr_size_t)len)
               : NULL;
}
#endif

/* Without O_PATH, or without /proc. */
static apr_status_t only_follow(apr_pool_t *pool, const char *path,
                                fcgi_held *held)
{
    held->fd = -1;
    held->real = held->name = fcgi_path_real(pool, path);
    return held->real ? APR_SUCCESS : apr_get_os_error();
}

apr_status_t fcgi_path_hold(apr_pool_t *pool, const char *path,
                            fcgi_held *held)
{
#ifdef O_PATH
    held->fd = open(path, O_PATH | O_CLOEXEC);
    if (held->fd < 0) {
        return apr_get_os_error();
    }
    held->name = apr_psprintf(pool, "/proc/self/fd/%d", held->fd);
    held->real = read_link(pool, held->name);
    if (held->real) {
        return APR_SUCCESS;
    }
    fcgi_path_let_go(held);
#endif
    return only_follow(pool, path, held);
}

void fcgi_path_let_go(fcgi_held *held)
{
    if (held->fd >= 0) {
        close(held->fd);
        held->fd = -1;
    }
}
