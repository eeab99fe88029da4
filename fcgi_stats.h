/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_stats.h - memory that all children share: an account for each backend,
 * and which children are alive.
 *
 * The memory outlives restarts, as the children of before a graceful restart
 * do. What one child holds stands in that child's own share, so that it can
 * be given back when the child is killed at any instruction. Knows no sockets
 * and no requests; fcgi_line.c has the rules of who may connect.
 */
#ifndef FCGI_STATS_H
#define FCGI_STATS_H

#include <pthread.h>
#include <semaphore.h>

#include <apr_file_io.h>
#include <apr_global_mutex.h>
#include <apr_pools.h>
#include <apr_time.h>

#include "fcgi_clock.h"
#include "fcgi_slots.h"
#include "fcgi_tally.h"

/* Longer names of backends have no account. */
#define FCGI_STATS_NAME_LEN 320

/* Parts the memory may consist of: it grows when a restart brings more
 * backends than there was room for, each time to the double. */
#define FCGI_STATS_SEGMENTS 10

/* Accounts for addresses that only requests name. */
#define FCGI_STATS_SPARE 64

/* What different children write lies in different lines of the cache, as a
 * processor waits for a line that another one has written. */
#define FCGI_STATS_CACHE_LINE 64
#define FCGI_STATS_APART      __attribute__((aligned(FCGI_STATS_CACHE_LINE)))

/* What one child has of one backend. Written atomically by that child, and
 * by whoever finds it dead. */
typedef struct fcgi_share {
    apr_uint32_t in_use;   /* connections, those being made included */
    apr_uint32_t idle;     /* connections kept */
    apr_uint32_t pressing; /* requests that wait for the application, and
                           * press (fcgi_line.h) */
    apr_uint32_t parked;   /* requests that wait without a thread */
} FCGI_STATS_APART fcgi_share;

/* Children count in some tallies, so that few of them want the same words at
 * the same time. */
#define FCGI_STATS_TALLIES 4

typedef struct fcgi_part {
    fcgi_tally tally;
} FCGI_STATS_APART fcgi_part;

/* One backend. Under fcgi_stats_lock() but for what is said to be atomic. */
typedef struct fcgi_account {
    char name[FCGI_STATS_NAME_LEN]; /* never changes */
    pthread_mutex_t lock;           /* given back when its holder is killed */
    apr_uint32_t has_own_lock;      /* 0: there are no such locks here, and the
                                     * one of all is taken; never changes */
    apr_uint32_t line_number;       /* of its memory, in the order of making,
                                     * from 1; 0: it has none; atomic */
    fcgi_slots *line;               /* for whom knows that number; never
                                     * changes then */
    apr_uint64_t swept_at;          /* when dead children were last looked for;
                                     * atomic */
    apr_uint32_t presses;           /* that have begun; atomic */
    apr_uint32_t quiet;             /* after so many none went on; atomic */
    fcgi_attendance attendance;     /* atomic */
    fcgi_instant failed_at; /* when a failure was last said in the log */
    apr_uint32_t failures;  /* that the log does not say yet */
    fcgi_part parts[FCGI_STATS_TALLIES]; /* atomic */
    fcgi_share shares[];                 /* atomic; of child 1, 2, ... */
} fcgi_account;

typedef struct fcgi_segment {
    struct fcgi_segment_head *head; /* shared; before its accounts */
    apr_uint32_t capacity;          /* accounts that fit */
} fcgi_segment;

/* All of it, as one process sees it. Kept over restarts. */
typedef struct fcgi_stats {
    apr_pool_t *pool;
    apr_global_mutex_t *lock;
    apr_file_t *presence;  /* a byte of it is locked by each child alive */
    apr_uint32_t children; /* that can be alive at a time */
    apr_uint32_t me;       /* this child's number, from 1; 0: none */
    apr_uint32_t lines;    /* memories of lines that this process has;
                            * atomic */
    fcgi_segment segments[FCGI_STATS_SEGMENTS];
} fcgi_stats;

/* True if the system gives a lock back that a killed process had. Where it
 * does not, as with POSIX's semaphores, all others wait for it for good. */
int fcgi_stats_lock_recovers(apr_global_mutex_t *lock);

/*
 * Makes the memory; once, in the parent, before any child. lock guards the
 * list of accounts among processes and threads, and recovers; where the system
 * has no such locks for many, it is that of every account as well. All lives in pool, as long as
 * the server.
 */
apr_status_t fcgi_stats_create(fcgi_stats *stats, apr_pool_t *pool,
                               apr_global_mutex_t *lock,
                               apr_uint32_t children);

/* The sizes of all that the memory consists of, as a word. In pool. */
const char *fcgi_stats_layout(apr_pool_t *pool);

/* Uses memory that was made, in this process; in the parent after each start
 * of the configuration. */
void fcgi_stats_use(fcgi_stats *stats);

/* Counts a restart of httpd. */
void fcgi_stats_restarted(void);

/* This process is a child from now on, until it ends in whatever way: takes a
 * number, and clears what a dead child left under it. */
apr_status_t fcgi_stats_join(void);

/*
 * The account of that name, opened if there was none. The configuration's get
 * new memory if there is no room, in the parent only; those that only
 * requests name have FCGI_STATS_SPARE together, as clients may have a part in
 * such names. NULL if there is none: then nothing is counted.
 */
fcgi_account *fcgi_stats_open_configured(const char *name);
fcgi_account *fcgi_stats_open_spare(const char *name);

/* Gives an account of the configuration's memory for a line, in the parent, if
 * it has none yet. False: there is none. */
int fcgi_stats_open_line(fcgi_account *account);

/* That memory; NULL: it has none, or has had none yet when this child began. */
fcgi_slots *fcgi_stats_line(fcgi_account *account);

/* One account after the other, from index 0; NULL: there are no more. */
fcgi_account *fcgi_stats_account(apr_uint32_t index);

/* When the memory was made, and the restarts of httpd since. */
typedef struct fcgi_life {
    apr_time_t since; /* of day, for people */
    apr_uint32_t restarts;
} fcgi_life;
fcgi_life fcgi_stats_life(void);

/* An account with its line is this thread's until it unlocks it. What a killed
 * child left half done in the line is put right before. Two may not be locked
 * at a time. */
void fcgi_stats_lock(fcgi_account *account);
void fcgi_stats_unlock(fcgi_account *account);

/* This child's number, and its share; only after fcgi_stats_join(). */
apr_uint32_t fcgi_stats_me(void);
fcgi_share *fcgi_stats_my_share(fcgi_account *account);

/* The highest number that a child has had. */
apr_uint32_t fcgi_stats_children(void);

/*
 * Notifies the child of that number that the memory says something new that
 * matters to it. Nobody has to wait for it there. May be called in a signal's
 * handler.
 */
void fcgi_stats_notify(apr_uint32_t child);

/* Waits until this child is notified, for at most that long; -1: for good. How
 * often, and what for, is not said; one of before, for a dead child of the same
 * number, is as good. True: it was notified. */
int fcgi_stats_wait_for_notice(apr_interval_time_t at_most);

/* Where this child counts; and what all have counted. */
fcgi_tally *fcgi_stats_my_tally(fcgi_account *account);
fcgi_tally fcgi_stats_tally(const fcgi_account *account);

/* The shares of all children, added; and one number of them, which each
 * request asks that keeps its connection. */
fcgi_share fcgi_stats_sum(fcgi_account *account);
apr_uint32_t fcgi_stats_sum_idle(fcgi_account *account);

/* A request of this child presses, or does no more; and whether any of any
 * child does, which each request asks several times. */
void fcgi_stats_press(fcgi_account *account);
void fcgi_stats_unpress(fcgi_account *account);
int fcgi_stats_is_pressed(fcgi_account *account);

/*
 * Gives back what dead children hold of the account; looks at most every
 * tenth of a second. Under the lock. Returns true if there was something.
 */
int fcgi_stats_sweep(fcgi_account *account);

/* True if fcgi_stats_sweep() would look now. Without the lock. */
int fcgi_stats_sweep_is_due(fcgi_account *account);

/*
 * Counts a request that this backend failed. True if the log is to say so
 * now, at most once a second; *others is then how many more there were that
 * it has not said. account may be NULL: then always.
 */
int fcgi_stats_failed(fcgi_account *account, apr_uint32_t *others);

#endif
