/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_driver.h - drives an exchange to its end in the worker thread.
 */
#ifndef FCGI_DRIVER_H
#define FCGI_DRIVER_H

#include "fcgi_exchange.h"

/* Steps and waits until ex has ended; returns its outcome. */
fcgi_outcome fcgi_driver_run(fcgi_exchange *ex);

/*
 * Waits for interval microseconds, an exchange's that has no connection; 0:
 * only looks. APR_ECONNABORTED: it has ended, as its client left or its time
 * is over.
 */
apr_status_t fcgi_driver_pause(void *exchange, apr_interval_time_t interval);

#endif
