/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_untouched.h - a request as it would be if there were no .htaccess
 * files: what is kept of it from before such a file had a part in it, and the
 * question to httpd which handler it gives that. What the answer is good for
 * is fcgi_trust's business. Knows no address.
 */
#ifndef FCGI_UNTOUCHED_H
#define FCGI_UNTOUCHED_H

#include <httpd.h>
#include <http_config.h>

/* A pre_config hook, before any request. */
int fcgi_untouched_start(apr_pool_t *pconf, apr_pool_t *plog,
                         apr_pool_t *ptemp);

/* A check_config hook: where the configuration lets nobody but the
 * administrator have a part in requests, nothing is kept. */
int fcgi_untouched_prepare(apr_pool_t *pconf, apr_pool_t *plog,
                           apr_pool_t *ptemp, server_rec *s);

/* A post_read_request hook, after all others: keeps header fields and
 * variables, as long as no .htaccess file was read. */
int fcgi_untouched_save(request_rec *r);

/* A translate_name hook, before all others: keeps the URL, before rewrite
 * rules of the server change it. */
int fcgi_untouched_save_url(request_rec *r);

/* A post_perdir_config hook, before all others: now a .htaccess file may have
 * been read. */
int fcgi_untouched_look(request_rec *r);

/* Hooks of that names, before core's: for a request that
 * fcgi_untouched_make() makes, there is no .htaccess file, and links are
 * followed, whatever such a file says of them. */
apr_status_t fcgi_untouched_open_htaccess(request_rec *r, const char *dir,
                                          const char *name,
                                          ap_configfile_t **file,
                                          const char **path);
apr_status_t fcgi_untouched_stat(apr_finfo_t *info, request_rec *r,
                                 apr_int32_t wanted);

/* True if nobody but the client and the server's own configuration had a part
 * in r: no .htaccess file was read for it or a request that led to it, and it
 * is no subrequest, whose variables a page may set. */
int fcgi_untouched_is(request_rec *r);

/*
 * A copy of r, in pool, as httpd would have it without any .htaccess file,
 * with the handler it would get then; NULL if it would get none at all. It
 * has the URL, the method and the client of r, and the header fields,
 * variables and user of before any .htaccess file had a part in them. It must
 * not be run, and ends with pool, which must not be r's.
 */
request_rec *fcgi_untouched_make(request_rec *r, apr_pool_t *pool);

#endif
