/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_report.h - what is known of every backend at one moment, gathered from
 * the shared memory and the configuration, for whoever shows it: a copy that
 * changes no more. Knows neither requests nor formats.
 */
#ifndef FCGI_REPORT_H
#define FCGI_REPORT_H

#include <apr_pools.h>

#include "fcgi_clock.h"
#include "fcgi_line.h"
#include "fcgi_stats.h"
#include "fcgi_tally.h"

/* One backend. */
typedef struct fcgi_report {
    const char *name;   /* its address; what is not printable ASCII, or
                         * would have to be quoted in HTML, JSON or
                         * Prometheus text, is written as %XX */
    const char *alias;  /* FcgiBackend's name for it, or ""; letters,
                         * digits, "-_." */
    int is_known;       /* the configuration names it */
    fcgi_limits limits; /* 0: none; of one that is not known, none */
    fcgi_line_length length;
    fcgi_tally tally;
    fcgi_attendance attendance;
} fcgi_report;

/* All that have an account: not those of very long names, and of those that
 * only requests name the first FCGI_STATS_SPARE. */
typedef struct fcgi_reports {
    apr_time_t at;    /* of day, for people */
    fcgi_instant now; /* the same, for what is measured */
    fcgi_life life;
    int count;
    const fcgi_report **list; /* by name; first those the configuration names,
                               * then others that were asked */
} fcgi_reports;

/* In pool. */
fcgi_reports *fcgi_report_all(apr_pool_t *pool);

#endif
