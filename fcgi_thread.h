/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_thread.h - threads of our own beside the MPM's: how one starts, and how
 * a child that ends waits for it. Knows nothing of what they do.
 */
#ifndef FCGI_THREAD_H
#define FCGI_THREAD_H

#include <apr_pools.h>
#include <apr_thread_proc.h>

/*
 * Starts a thread that nobody joins, and that no signal
 * interrupts: they are the MPM's. running counts those that are not done,
 * atomically; the last thing that the thread does is to count it down. pool is
 * never destroyed.
 */
apr_status_t fcgi_thread_start(apr_thread_start_t work, apr_uint32_t *running,
                               apr_pool_t *pool);

/*
 * Waits until all are done that running counts, and were told to end. Not for
 * long: prefork's children end in a signal's handler, and the thread that was
 * interrupted may hold what the others wait for. Nothing that they use may
 * ever be freed.
 */
void fcgi_thread_wait(apr_uint32_t *running);

#endif
