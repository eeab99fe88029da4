/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_terms.c - the contract is in fcgi_terms.h. Knows no application.
 */
#include "fcgi_terms.h"

#include <http_core.h>

#include "fcgi_body.h"

void fcgi_terms_init(fcgi_terms *terms, const request_rec *r)
{
    const fcgi_dir_config *conf = fcgi_config_settings(r);
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);

    terms->connect = conf->connect_timeout;
    terms->idle = conf->timeout;
    terms->first_byte = conf->first_byte_timeout;
    terms->total = conf->total_timeout;
    terms->ignore_client_abort = conf->ignore_client_abort;
    terms->has_body = fcgi_body_is_of(r);
    terms->stream_body = !conf->request_buffering && !fcgi_body_is_kept(r);
    terms->flush = (fcgi_flush)conf->flush;
    terms->retry = conf->retry;
    terms->has_others = 0;
    terms->max_header_size = (apr_size_t)conf->max_header_size;
    terms->spool.memory = (apr_size_t)conf->buffer_memory;
    terms->spool.max = conf->buffer_max;
    terms->spool.dir = conf->buffer_dir;
    /* Where nothing is said httpd sends no file of the site so, as that may
     * lie anywhere; ours lies where the system's temporary files do. */
    terms->spool.sendfile = core->enable_sendfile != ENABLE_SENDFILE_OFF;
}
