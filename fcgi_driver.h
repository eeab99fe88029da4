/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_driver.h - drives the asking of an application in the worker thread.
 */
#ifndef FCGI_DRIVER_H
#define FCGI_DRIVER_H

#include "fcgi_ask.h"

/*
 * Steps and waits until ask has ended, and returns its outcome; or until that
 * moment, if it is not 0: then FCGI_OUTCOME_PENDING, and somebody else goes on
 * with it.
 */
fcgi_outcome fcgi_driver_run(fcgi_ask *ask, fcgi_instant until);

/* How many threads of this process are in there. */
apr_uint32_t fcgi_driver_count(void);

#endif
