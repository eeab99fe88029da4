/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_idle.h - the idle connections of this child, and a thread that watches
 * them and closes each that the application ends, or that has expired. Which
 * may be kept at all is fcgi_line.c's word.
 */
#ifndef FCGI_IDLE_H
#define FCGI_IDLE_H

#include "fcgi_conn.h"

/* What the child says to the watcher, and hears of it; in any thread. */
typedef struct fcgi_idle_hooks {
    /* True if the child has to stop, although nobody called
     * fcgi_idle_stop() yet. */
    int (*has_to_stop)(void);
    /* How often it is asked that while connections are idle; 0: never at all,
     * as fcgi_idle_stop() is called in time. */
    apr_interval_time_t ask_every;
    /* Bytes came on a connection that carried no request; it is closed
     * afterwards. */
    void (*report_stray)(const char *backend);
} fcgi_idle_hooks;

/* Starts the thread, in a process whose pool is child, before which it ends.
 * After fcgi_stats_join(). */
apr_status_t fcgi_idle_start(apr_pool_t *child, const fcgi_idle_hooks *hooks);

/* The child is told to stop: closes all, keeps none from now on. */
void fcgi_idle_stop(void);

/* True if connections are kept in this child. */
int fcgi_idle_is_on(void);

/* Closes those that stand in the way of a request of any child. */
void fcgi_idle_give_up(void);

/* Takes over a connection that fcgi_line_keep() allowed, idle from now on,
 * until expires.
 * Closes it if the child is told to stop. */
void fcgi_idle_put(fcgi_conn *conn, fcgi_instant now, fcgi_instant expires);

/*
 * A quiet connection of that line that has been idle for age microseconds at
 * least, in use now with its permit, or NULL. Those found ended are thrown
 * away.
 */
fcgi_conn *fcgi_idle_take(fcgi_line *line, apr_interval_time_t age);

/* True if nothing came on a connection that carries no request; tells of
 * stray bytes. */
int fcgi_idle_is_quiet(fcgi_conn *conn);

#endif
