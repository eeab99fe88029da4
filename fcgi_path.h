/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_path.h - paths of files, with all links followed, and what lies there.
 */
#ifndef FCGI_PATH_H
#define FCGI_PATH_H

#include <apr_file_io.h>
#include <apr_pools.h>

/* The absolute path without links that path means, in pool; NULL if there is
 * no such file, or a folder on the way may not be searched. */
const char *fcgi_path_real(apr_pool_t *pool, const char *path);

/*
 * Opens the file at path, as fcgi_path_real() gave it, for reading; flags are
 * APR's beside APR_FOPEN_READ. It is what lies at that very place: if a part
 * of path has become a link meanwhile, that is an error. Waits for nobody,
 * also if it is a pipe: ask the open file what it is.
 */
apr_status_t fcgi_path_open(apr_file_t **file, const char *path,
                            apr_int32_t flags, apr_pool_t *pool);

/* The same for a file that need not be there: links in its folder are
 * followed. NULL if there is no such folder. */
const char *fcgi_path_real_folder(apr_pool_t *pool, const char *path);

/* A file that is held: what its path leads to in the meantime does not
 * matter. */
typedef struct fcgi_held {
    int fd;           /* -1: the system cannot hold files */
    const char *real; /* its absolute path without links */
    const char *name; /* a path that leads to it and nowhere else; without fd
                       * that is real, which may come to lead elsewhere */
} fcgi_held;

/* Follows path and holds what is there, of whatever type; opens and changes
 * nothing. *held lives in pool, until fcgi_path_let_go(). */
apr_status_t fcgi_path_hold(apr_pool_t *pool, const char *path,
                            fcgi_held *held);

void fcgi_path_let_go(fcgi_held *held);

#endif
