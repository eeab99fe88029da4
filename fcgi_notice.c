/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_notice.c - the contract is in fcgi_notice.h. While nobody tells
 * anything, and no request of this child waits in line, the thread sleeps.
 */
#include "fcgi_notice.h"

#include <apr_atomic.h>

#include "fcgi_clock.h"
#include "fcgi_idle.h"
#include "fcgi_line.h"
#include "fcgi_thread.h"

/* So long after a notice it is looked whether that request still waits. One
 * that makes its connection at once does not any more, and needs nobody's. */
#define GIVE_UP_AFTER apr_time_from_msec(2)

/* Nobody tells of dead children: so often it is looked for them while anybody
 * waits in line. */
#define ATTEND_EVERY apr_time_from_msec(100)

/* No moment will be later. */
#define NEVER ((fcgi_instant)APR_INT64_MAX)

static struct {
    apr_uint32_t stopping; /* atomic: the child ends */
    apr_uint32_t running;  /* atomic */
} notice;

/* What is to be done, and when. */
typedef struct plan {
    fcgi_instant give_up_at;
    fcgi_instant attend_at;
} plan;

static fcgi_instant sooner(fcgi_instant one, fcgi_instant other)
{
    return one < other ? one : other;
}

static apr_interval_time_t time_until(fcgi_instant instant)
{
    fcgi_instant now = fcgi_clock_now();

    if (instant == NEVER) {
        return -1;
    }
    return instant > now ? instant - now : 0;
}

/* Waits for a notice, or for what is planned, and does it. */
static void step(plan *next)
{
    fcgi_instant until = sooner(next->give_up_at, next->attend_at);
    int heard = fcgi_stats_wait_for_notice(time_until(until));
    fcgi_instant now = fcgi_clock_now();

    if (heard) {
        next->give_up_at = sooner(next->give_up_at, now + GIVE_UP_AFTER);
        if (fcgi_line_tell()) {
            next->attend_at = sooner(next->attend_at, now + ATTEND_EVERY);
        }
    }
    if (now >= next->give_up_at) {
        fcgi_idle_give_up();
        next->give_up_at = NEVER;
    }
    if (now >= next->attend_at) {
        next->attend_at = fcgi_line_attend() ? now + ATTEND_EVERY : NEVER;
    }
}

static void *APR_THREAD_FUNC hear(apr_thread_t *thread, void *data)
{
    plan next = { NEVER, NEVER };

    (void)data;
    (void)thread;
    while (!apr_atomic_read32(&notice.stopping)) {
        step(&next);
    }
    apr_atomic_dec32(&notice.running);
    return NULL;
}

/* Before the child's pool goes. */
static apr_status_t end_thread(void *data)
{
    (void)data;
    apr_atomic_set32(&notice.stopping, 1);
    fcgi_stats_notify(fcgi_stats_me());
    fcgi_thread_wait(&notice.running);
    return APR_SUCCESS;
}

apr_status_t fcgi_notice_start(apr_pool_t *child)
{
    apr_pool_t *pool;
    apr_status_t rv = apr_pool_create_unmanaged_ex(&pool, NULL, NULL);

    if (rv == APR_SUCCESS) {
        rv = fcgi_thread_start(hear, &notice.running, pool);
    }
    if (rv == APR_SUCCESS) {
        apr_pool_pre_cleanup_register(child, NULL, end_thread);
    }
    return rv;
}
