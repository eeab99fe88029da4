/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_path.c - the contract is in fcgi_path.h. APR has no way to follow
 * links, nor to refuse to; POSIX has both, with raw descriptors, which do not
 * leave this file.
 */
#include "fcgi_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
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
