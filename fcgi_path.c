/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_path.c - the contract is in fcgi_path.h. APR has no way to follow
 * links, to refuse to, or to hold a file; POSIX has the first two, Linux the
 * third. Raw descriptors do not leave this file, but for a held file's.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_PATH */
#endif
#include "fcgi_path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <apr_portable.h>
#include <apr_strings.h>

/* A folder on the way is searched and not read, which may be forbidden. */
#if defined(O_PATH)
#define SEARCH O_PATH
#elif defined(O_SEARCH)
#define SEARCH O_SEARCH
#else
#define SEARCH O_RDONLY
#endif

const char *fcgi_path_real(apr_pool_t *pool, const char *path)
{
    char *real = realpath(path, NULL);
    const char *copy = real ? apr_pstrdup(pool, real) : NULL;

    free(real);
    return copy;
}

/* Opens what is called name in folder, which is closed. -1, with errno, if it
 * is a link. */
static int open_in(int folder, const char *name, int flags)
{
    int fd = openat(folder, name, flags | O_NOFOLLOW | O_CLOEXEC);
    int error = errno;

    close(folder);
    errno = error;
    return fd;
}

/* Walks from the root to the end of path, which is taken to pieces. Whoever
 * may change names below can only make it fail: there is no second look. */
static int walk(char *path)
{
    int fd = open("/", SEARCH | O_DIRECTORY | O_CLOEXEC);
    char *rest, *name = apr_strtok(path, "/", &rest);

    while (name && fd >= 0) {
        char *next = apr_strtok(NULL, "/", &rest);

        fd = open_in(fd, name,
                     next ? SEARCH | O_DIRECTORY
                          : O_RDONLY | O_NONBLOCK | O_NOCTTY);
        name = next;
    }
    return fd;
}

/* APR closes a descriptor with its pool, wherever a bucket takes it, only if
 * it has made that itself: a duplicate. */
apr_status_t fcgi_path_open(apr_file_t **file, const char *path,
                            apr_int32_t flags, apr_pool_t *pool)
{
    int fd = walk(apr_pstrdup(pool, path));
    apr_file_t *walked;
    apr_status_t rv;

    if (fd < 0) {
        return apr_get_os_error();
    }
    rv = apr_os_file_put(&walked, &fd, APR_FOPEN_READ | flags, pool);
    if (rv == APR_SUCCESS) {
        rv = apr_file_dup(file, walked, pool);
    }
    close(fd);
    if (rv == APR_SUCCESS) {
        rv = apr_os_file_get(&fd, *file);
    }
    if (rv == APR_SUCCESS && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        rv = apr_get_os_error();
    }
    return rv;
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
