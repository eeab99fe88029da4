/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_notice.h - the thread of a child that hears what other children tell:
 * that a request of this child has its turn, or that a connection kept here
 * stands in the way of a request of theirs. What is to be done then is
 * fcgi_line.c's and fcgi_idle.c's word.
 */
#ifndef FCGI_NOTICE_H
#define FCGI_NOTICE_H

#include <apr_pools.h>

/* Starts the thread, in a process whose pool is child, before which it ends:
 * not sooner, as requests wait in line until then. After fcgi_stats_join(), and
 * fcgi_idle_start() where connections are kept. */
apr_status_t fcgi_notice_start(apr_pool_t *child);

#endif
