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

#endif
