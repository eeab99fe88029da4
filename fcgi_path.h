/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_path.h - paths of files, with all links followed.
 */
#ifndef FCGI_PATH_H
#define FCGI_PATH_H

#include <apr_pools.h>

/* The absolute path without links that path means, in pool; NULL if there is
 * no such file, or a folder on the way may not be searched. */
const char *fcgi_path_real(apr_pool_t *pool, const char *path);

#endif
