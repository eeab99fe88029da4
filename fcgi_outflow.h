/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_outflow.h - an answer's bytes on their way to the client: given to
 * httpd as fast as the client follows, held for it otherwise, so that no
 * client holds an application. Answers three questions: how much more may be
 * read, what is waited for, and is it time to flush.
 *
 *     behind    the client has not taken all that httpd was given, and what
 *               comes is held for it
 *     held up   the application waits, as what is held is as much as may be
 *     grace     for how long a client may do that, instead of having its
 *               answer written to a file; none if others wait
 *     pause     of the application: it says nothing for a moment, and the
 *               client gets what there is
 *
 * There are two kinds. An HTTP/1 connection has a socket that says when it
 * has room; an HTTP/2 stream says nothing of its client. Knows neither
 * FastCGI nor header fields.
 */
#ifndef FCGI_OUTFLOW_H
#define FCGI_OUTFLOW_H

#include <httpd.h>
#include <apr_buckets.h>

#include "fcgi_clock.h"
#include "fcgi_config.h"
#include "fcgi_outlet.h"
#include "fcgi_spool.h"

/* So much is read of an answer at a time, and given to httpd at once, which
 * takes it in one piece without waiting: it is less than FlushMaxThreshold's
 * 64 KB even with header fields. */
#define FCGI_OUTFLOW_PIECE (56 * 1024)

/* Slices shorter than this are copied, so that a few bytes that a filter
 * holds back do not hold a whole read buffer. */
#define FCGI_OUTFLOW_COPY_BELOW 4096

/* Whether something may be said past what is given. */
typedef enum {
    FCGI_OUTFLOW_NOW,   /* yes, and it waits for nobody */
    FCGI_OUTFLOW_LATER, /* when the client's socket has room */
    FCGI_OUTFLOW_NEVER  /* not without waiting for the client */
} fcgi_outflow_when;

/* True if others wait for the application: then its time is not the client's
 * to take. */
typedef int fcgi_outflow_urgent(const void *baton);

struct fcgi_outflow_kind;

typedef struct fcgi_outflow {
    fcgi_outlet outlet;  /* where it goes; its bb is just taken, or given */
    const char *backend; /* its name, for log lines */
    const struct fcgi_outflow_kind *kind;
    fcgi_outflow_urgent *is_urgent;
    const void *baton;

    /* to be given */
    fcgi_spool *held; /* what the client cannot take yet */
    int no_file;      /* the spool's file failed; memory has to do */
    apr_off_t total;  /* bytes taken */
    int awaits_room;  /* something else is to be said first */

    /* given */
    apr_size_t given;          /* bytes of which httpd may hold some still */
    apr_size_t at_once;        /* how many httpd takes without waiting */
    int has_room;              /* the client's socket is known to take some */
    int file_pieces;           /* that an HTTP/2 stream got in pauses */
    fcgi_instant delivered_at; /* its socket took all there was then; 0: not
                                * yet, or there is no socket */

    /* flushing */
    fcgi_flush flush;
    int is_live;                  /* an HTTP/2 client is taken to follow */
    int unflushed;                /* something came since the last flush */
    fcgi_instant unflushed_since; /* 0: nothing was given since */
    fcgi_instant taken_at;        /* the last bytes came from the application;
                                   * set by whoever reads */

    /* the client holds the application up */
    fcgi_instant held_up_since;  /* 0: not now */
    apr_interval_time_t held_up; /* and did so before, in all */
} fcgi_outflow;

/* What an outflow waits for. */
typedef struct fcgi_outflow_wait {
    int for_room;         /* in the client's socket */
    fcgi_instant wake_at; /* when to settle again at the latest; 0: never */
} fcgi_outflow_wait;

/* Makes an outflow for r's answer; limits are of what is held. Nothing is
 * flushed before fcgi_outflow_begin(). */
fcgi_outflow *fcgi_outflow_create(request_rec *r, const char *backend,
                                  const fcgi_spool_limits *limits,
                                  fcgi_outflow_urgent *is_urgent,
                                  const void *baton);

/* The header fields are known, so that there is something to be flushed. A
 * live answer's client is taken to follow, even where nobody can tell. */
void fcgi_outflow_begin(fcgi_outflow *flow, fcgi_flush flush, int is_live);

/* Takes len bytes of the body at data, which lie in the heap bucket buffer; it
 * may be NULL if they are copied. Nothing is given on yet. Dropped if the
 * outlet is not open. */
void fcgi_outflow_take(fcgi_outflow *flow, apr_bucket *buffer,
                       const char *data, apr_size_t len);

/* True while what is held, or to be said, has to wait for the client. */
int fcgi_outflow_is_behind(const fcgi_outflow *flow);

/* True if the client was given all that was taken. An HTTP/2 stream is gone as
 * soon as its client has it; a socket that fails may have kept some back. */
int fcgi_outflow_gave_all(const fcgi_outflow *flow);

/* How many bytes of the application's may be read now, at most
 * FCGI_OUTFLOW_PIECE. 0: what is held is as much as may be, or the client has
 * a moment's time to follow, which keeps the answer out of a file. */
apr_size_t fcgi_outflow_room(const fcgi_outflow *flow);

/* Gives httpd what was taken, as far as the client follows; holds the rest.
 * Waits for nobody, but for the client of an HTTP/2 stream that is live, or
 * that has paused often. Returns 0 if the outlet is not open any more. */
int fcgi_outflow_pass(fcgi_outflow *flow);

/* The client's socket takes bytes again: the same, for what is held. */
int fcgi_outflow_resume(fcgi_outflow *flow);

/*
 * Nothing moves for now: flushes if it is time to, and says what is waited
 * for. Look at the outlet's state afterwards. Waits as fcgi_outflow_pass().
 */
fcgi_outflow_wait fcgi_outflow_settle(fcgi_outflow *flow);

/*
 * When len bytes may go past this, flushed: an interim response. LATER asks
 * for room, and nothing is given on before fcgi_outflow_said(), or the answer
 * ends.
 */
fcgi_outflow_when fcgi_outflow_may_say(fcgi_outflow *flow, apr_size_t len);

/* len bytes went that way, 0 if none will. */
void fcgi_outflow_said(fcgi_outflow *flow, apr_size_t len);

/* True if the answer can be ended, or cut, without waiting for its client. If
 * not there is no file, and the client has to take more first; what may be
 * given is given. */
int fcgi_outflow_may_end(fcgi_outflow *flow);

/*
 * Gives all that is held and ends the answer; may wait for the client, unless
 * fcgi_outflow_may_end(). With flush a flush follows, although the request is
 * not over. Returns 0 if the outlet is not open any more; then it has to be
 * cut.
 */
int fcgi_outflow_end(fcgi_outflow *flow, int flush);

/* Ends an answer that has no body. Returns as fcgi_outflow_end(). */
int fcgi_outflow_end_headers(fcgi_outflow *flow);

/* Gives what may be given without waiting, drops the rest, and cuts the
 * answer, see fcgi_outlet_cut(). */
void fcgi_outflow_cut(fcgi_outflow *flow);

#endif
