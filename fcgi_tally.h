/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_tally.h - what a backend has done so far: how its requests ended, the
 * bytes, how long things took, and the last minutes.
 *
 * Lives in memory that all children share; each adds to it without a lock, a
 * word at a time. Knows neither who shares it nor who shows it.
 */
#ifndef FCGI_TALLY_H
#define FCGI_TALLY_H

#include <apr.h>
#include <apr_time.h>

#include "fcgi_clock.h"
#include "fcgi_outcome.h"

/*
 * A histogram's steps grow with the time: eight of one width from each power
 * of two to the next, so that a time is known to an eighth.
 *
 *     step        0      1 ... 8       9 ... 16           249 ... 256    257
 *     from us     0    16 18 ... 30   32 36 ... 60   ...  2^35 ...      2^36
 */
#define FCGI_HISTOGRAM_FIRST 4  /* its steps begin at 2^4 microseconds */
#define FCGI_HISTOGRAM_END   36 /* and end at 2^36, 19 hours */
#define FCGI_HISTOGRAM_STEPS                                                  \
    (2 + 8 * (FCGI_HISTOGRAM_END - FCGI_HISTOGRAM_FIRST))

/* The last minutes, in moments of some seconds. */
#define FCGI_MOMENT  apr_time_from_sec(5)
#define FCGI_MOMENTS 121 /* ten minutes, and the moment that is not over */

typedef struct fcgi_histogram {
    apr_uint64_t counts[FCGI_HISTOGRAM_STEPS];
    apr_uint64_t sum; /* microseconds */
} fcgi_histogram;

typedef struct fcgi_moment {
    apr_uint32_t number; /* of FCGI_MOMENT on fcgi_clock.h's clock */
    apr_uint32_t requests;
    apr_uint32_t failed; /* of them */
} fcgi_moment;

/* What is measured of a request. */
typedef enum {
    FCGI_SPAN_WAIT,       /* for a connection: in line, and to connect */
    FCGI_SPAN_FIRST_BYTE, /* until the answer's first byte */
    FCGI_SPAN_TOTAL,      /* all, from when its body was here */
    FCGI_SPAN_COUNT
} fcgi_span;

typedef struct fcgi_tally {
    apr_uint64_t outcomes[FCGI_OUTCOME_COUNT]; /* requests that ended so */
    apr_uint64_t again;          /* requests that were sent once more */
    apr_uint64_t reused;         /* requests on connections kept before */
    apr_uint64_t bytes_sent;     /* to the application, records */
    apr_uint64_t bytes_received; /* from it */
    fcgi_histogram spans[FCGI_SPAN_COUNT];
    fcgi_moment moments[FCGI_MOMENTS];
} fcgi_tally;

/* Whether the application is there, as all children see it. */
typedef struct fcgi_attendance {
    apr_uint32_t gone;    /* it was not there when last asked */
    apr_uint32_t returns; /* how often it came back */
} fcgi_attendance;

/* A request that ended. */
typedef struct fcgi_ended {
    fcgi_instant at; /* when */
    fcgi_outcome outcome;
    int starts; /* connections it was begun on */
    int on_reused;
    apr_off_t bytes_sent;
    apr_off_t bytes_received;
    apr_interval_time_t spans[FCGI_SPAN_COUNT]; /* -1: it did not come to it */
} fcgi_ended;

/* Counts a request. */
void fcgi_tally_add(fcgi_tally *tally, const fcgi_ended *ended);

/* Adds what part has counted to sum, which nobody counts in. */
void fcgi_tally_join(fcgi_tally *sum, const fcgi_tally *part);

/* Whoever asked the application found it there, or not: its socket was missing
 * or refused. */
void fcgi_attendance_note(fcgi_attendance *attendance, int there);

/* Requests that ended, in all; and those that failed, for which neither the
 * client, nor its connection, nor a filter of httpd's is to blame. */
apr_uint64_t fcgi_tally_requests(const fcgi_tally *tally);
apr_uint64_t fcgi_tally_failed(const fcgi_tally *tally);

/*
 * The moment that is so many before the one at now; 0 is that one itself.
 * back is less than FCGI_MOMENTS. Without requests if there were none.
 */
fcgi_moment fcgi_tally_moment(const fcgi_tally *tally, fcgi_instant now,
                              int back);

/* Times measured. */
apr_uint64_t fcgi_histogram_count(const fcgi_histogram *histogram);

/* Times measured of less than 2^power microseconds, power between
 * FCGI_HISTOGRAM_FIRST and FCGI_HISTOGRAM_END. */
apr_uint64_t fcgi_histogram_below(const fcgi_histogram *histogram, int power);

/* The time, in microseconds, that so many of a hundred did not exceed, known
 * to an eighth; -1 if nothing was measured. */
apr_interval_time_t fcgi_histogram_percentile(const fcgi_histogram *histogram,
                                              int percent);

#endif
