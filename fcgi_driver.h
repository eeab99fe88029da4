/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_driver.h - drives an exchange to its end in the worker thread.
 */
#ifndef FCGI_DRIVER_H
#define FCGI_DRIVER_H

#include "fcgi_exchange.h"

/* Steps and waits until ex has ended; returns its outcome. */
fcgi_outcome fcgi_driver_run(fcgi_exchange *ex);

#endif
