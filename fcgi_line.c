/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_line.c - permits and the line for them; the contract is in fcgi_line.h.
 *
 * With max everything happens under the lock of the shared memory, and every
 * line is served by whoever changes something: grant_next() is the one place
 * where permits are granted. A process may be killed between any two
 * instructions: each write to what another child owns is a single word, and
 * what a child has is the sum of what it wrote itself.
 */
#include "fcgi_line.h"

#include <errno.h>
#include <semaphore.h>
#include <time.h>

#include <apr_atomic.h>

/* A clock that nobody sets, where there is one to wait by. */
#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 30)
#define WAIT_CLOCK             CLOCK_MONOTONIC
#define wait_until(sem, limit) sem_clockwait(sem, WAIT_CLOCK, limit)
#endif
#endif
#ifndef WAIT_CLOCK
#define WAIT_CLOCK             CLOCK_REALTIME
#define wait_until(sem, limit) sem_timedwait(sem, limit)
#endif

static fcgi_share *mine(fcgi_line *line)
{
    return fcgi_stats_my_share(line->account);
}

/* Where permits are counted, each change of them is under the lock. */
static void lock_permits(fcgi_line *line)
{
    if (line->limits.max) {
        fcgi_stats_lock();
    }
}

static void unlock_permits(fcgi_line *line)
{
    if (line->limits.max) {
        fcgi_stats_unlock();
    }
}

/* True if it waits for its permit. */
static int is_waiting(const fcgi_waiter *waiter)
{
    return waiter->child && !waiter->granted;
}

static apr_uint32_t count_waiting(const fcgi_account *account)
{
    apr_uint32_t i, count = 0;

    for (i = 0; i < account->line_count; i++) {
        count += (apr_uint32_t)is_waiting(&account->line[i]);
    }
    return count;
}

/* The waiter that came first, or NULL. */
static fcgi_waiter *first_waiter(fcgi_account *account)
{
    fcgi_waiter *first = NULL;
    apr_uint32_t i;

    for (i = 0; i < account->line_count; i++) {
        fcgi_waiter *waiter = &account->line[i];

        if (is_waiting(waiter) && (!first || waiter->ticket < first->ticket)) {
            first = waiter;
        }
    }
    return first;
}

/* Connections there are, or will be once those with a grant have made
 * theirs. */
static apr_uint32_t count_permits(fcgi_account *account)
{
    fcgi_share sum = fcgi_stats_sum(account);
    apr_uint32_t i, count = sum.in_use + sum.idle;

    for (i = 0; i < account->line_count; i++) {
        count += account->line[i].child && account->line[i].granted;
    }
    return count;
}

static void grant(fcgi_waiter *waiter)
{
    waiter->granted = 1;
    sem_post(&waiter->wake);
}

/* Grants free permits to those that wait, in their order. */
static void grant_next(fcgi_line *line)
{
    fcgi_waiter *first = first_waiter(line->account);

    while (first && count_permits(line->account) < line->limits.max) {
        grant(first);
        first = first_waiter(line->account);
    }
}

/* Takes a slot of the line; false if there is none. */
static int take_slot(fcgi_line *line, apr_uint32_t *slot)
{
    fcgi_account *account = line->account;
    fcgi_waiter *waiter;
    apr_uint32_t i = 0;

    while (i < account->line_count && account->line[i].child) {
        i++;
    }
    if (i == FCGI_LINE_MAX) {
        return 0;
    }
    waiter = &account->line[i];
    if (sem_init(&waiter->wake, 1, 0)) {
        return 0;
    }
    if (i == account->line_count) {
        account->line_count++;
    }
    line->handed[i] = NULL;
    waiter->granted = 0;
    waiter->ticket = account->next_ticket++;
    waiter->child = fcgi_stats_me();
    *slot = i;
    return 1;
}

/* How many may wait in line. Idle connections are given up for those that
 * come, so that they hardly wait. */
static apr_uint32_t queue_limit(fcgi_line *line)
{
    return line->limits.queue + fcgi_stats_sum(line->account).idle;
}

static int has_free_permit(fcgi_line *line)
{
    return !first_waiter(line->account)
           && count_permits(line->account) < line->limits.max;
}

fcgi_line_state fcgi_line_enter(fcgi_line *line, apr_uint32_t *slot)
{
    fcgi_line_state state = FCGI_LINE_FULL;

    if (!line->account) {
        return FCGI_LINE_PERMIT;
    }
    if (!line->limits.max) {
        apr_atomic_inc32(&mine(line)->in_use);
        return FCGI_LINE_PERMIT;
    }
    fcgi_stats_lock();
    if (!has_free_permit(line) && fcgi_stats_sweep(line->account)) {
        grant_next(line);
    }
    if (has_free_permit(line)) {
        apr_atomic_inc32(&mine(line)->in_use);
        state = FCGI_LINE_PERMIT;
    }
    else if (count_waiting(line->account) < queue_limit(line)
             && take_slot(line, slot)) {
        state = FCGI_LINE_WAITING;
    }
    fcgi_stats_unlock();
    return state;
}

/* Takes the permit that a waiter was granted, and leaves its slot. Under the
 * lock. */
static void take_permit(fcgi_line *line, apr_uint32_t slot, void **conn)
{
    *conn = line->handed[slot];
    line->handed[slot] = NULL;
    apr_atomic_inc32(&mine(line)->in_use);
    line->account->line[slot].child = 0;
}

/*
 * Waits until the waiter has a grant, at most for tick. APR has nothing that
 * wakes a thread of another process; a semaphore is right even if its waiter
 * is killed. A grant that was lost with a killed process is found at the next
 * tick.
 */
static void wait_for_grant(fcgi_waiter *waiter, apr_interval_time_t tick)
{
    struct timespec limit;
    int rv;

    clock_gettime(WAIT_CLOCK, &limit);
    limit.tv_sec += (time_t)apr_time_sec(tick);
    limit.tv_nsec += (long)apr_time_usec(tick) * 1000;
    if (limit.tv_nsec >= 1000000000) {
        limit.tv_nsec -= 1000000000;
        limit.tv_sec++;
    }
    do {
        rv = wait_until(&waiter->wake, &limit);
    } while (rv && errno == EINTR);
}

fcgi_line_state fcgi_line_wait(fcgi_line *line, apr_uint32_t slot,
                               apr_interval_time_t tick, void **conn)
{
    fcgi_waiter *waiter = &line->account->line[slot];
    fcgi_line_state state = FCGI_LINE_WAITING;

    wait_for_grant(waiter, tick);
    fcgi_stats_lock();
    if (!waiter->granted) {
        fcgi_stats_sweep(line->account);
        grant_next(line);
    }
    if (waiter->granted) {
        take_permit(line, slot, conn);
        state = FCGI_LINE_PERMIT;
    }
    fcgi_stats_unlock();
    return state;
}

fcgi_line_state fcgi_line_leave(fcgi_line *line, apr_uint32_t slot,
                                void **conn)
{
    fcgi_waiter *waiter = &line->account->line[slot];
    fcgi_line_state state = FCGI_LINE_WAITING;

    fcgi_stats_lock();
    if (waiter->granted) {
        take_permit(line, slot, conn);
        state = FCGI_LINE_PERMIT;
    }
    else {
        waiter->child = 0;
    }
    fcgi_stats_unlock();
    return state;
}

/* One less of what this child counts there. */
static void give_back(fcgi_line *line, apr_uint32_t *count)
{
    lock_permits(line);
    apr_atomic_dec32(count);
    if (line->limits.max) {
        grant_next(line);
    }
    unlock_permits(line);
}

void fcgi_line_free(fcgi_line *line)
{
    if (line->account) {
        give_back(line, &mine(line)->in_use);
    }
}

int fcgi_line_hand_on(fcgi_line *line, void *conn)
{
    fcgi_account *account = line->account;
    fcgi_waiter *first;
    int handed;

    if (!account || !line->limits.max) {
        return 0;
    }
    fcgi_stats_lock();
    first = first_waiter(account);
    handed = first && first->child == fcgi_stats_me()
             && count_permits(account) <= line->limits.max;
    if (handed) {
        line->handed[first - account->line] = conn;
        apr_atomic_dec32(&mine(line)->in_use);
        grant(first);
    }
    fcgi_stats_unlock();
    return handed;
}

/* Moves a connection from in use to idle, unless there are as many, or a
 * request waits. Says first that it is idle, and looks whether that makes too
 * many then: others may do the same at this moment. */
static int move_to_idle(fcgi_line *line)
{
    fcgi_share sum = fcgi_stats_sum(line->account);

    if (sum.pressing || sum.idle >= line->limits.keepalive) {
        return 0;
    }
    apr_atomic_inc32(&mine(line)->idle);
    if (fcgi_stats_sum(line->account).idle > line->limits.keepalive) {
        apr_atomic_dec32(&mine(line)->idle);
        return 0;
    }
    apr_atomic_dec32(&mine(line)->in_use);
    return 1;
}

/* The same with a look for who waits in line, and for dead children. */
static int move_to_idle_with_care(fcgi_line *line)
{
    fcgi_account *account = line->account;
    int moved;

    fcgi_stats_lock();
    moved =
        !first_waiter(account)
        && (!line->limits.max || count_permits(account) <= line->limits.max);
    if (moved && !move_to_idle(line)) {
        moved = fcgi_stats_sweep(account) && move_to_idle(line);
    }
    fcgi_stats_unlock();
    return moved;
}

int fcgi_line_keep(fcgi_line *line)
{
    if (!line->account) {
        return 0;
    }
    if (line->limits.max) {
        return move_to_idle_with_care(line);
    }
    return move_to_idle(line)
           || (fcgi_stats_sweep_is_due(line->account)
               && move_to_idle_with_care(line));
}

/* With max permits are counted, under the lock: a connection must not count
 * twice then, or not at all, while it is moved. */
int fcgi_line_reuse(fcgi_line *line)
{
    int reused;

    lock_permits(line);
    reused = !fcgi_line_is_pressed(line);
    if (reused) {
        apr_atomic_inc32(&mine(line)->in_use);
        apr_atomic_dec32(&mine(line)->idle);
    }
    unlock_permits(line);
    return reused;
}

void fcgi_line_drop(fcgi_line *line)
{
    give_back(line, &mine(line)->idle);
}

/*
 * Says first that it waits, and then looks who keeps connections. Who keeps
 * one counts it first, has it where it can be given up, and then looks whether
 * anybody waits (fcgi_idle_put()). So one of the two sees the other: both are
 * writes that all see in one order, each before the read.
 */
void fcgi_line_press(fcgi_line *line)
{
    fcgi_account *account = line->account;
    apr_uint32_t i, count;

    if (!account) {
        return;
    }
    apr_atomic_inc32(&mine(line)->pressing);
    count = fcgi_stats_children();
    for (i = 0; i < count; i++) {
        if (apr_atomic_read32(&account->shares[i].idle)) {
            fcgi_stats_notify(i + 1);
        }
    }
}

void fcgi_line_unpress(fcgi_line *line)
{
    if (line->account) {
        apr_atomic_dec32(&mine(line)->pressing);
    }
}

int fcgi_line_is_pressed(fcgi_line *line)
{
    return line->account && fcgi_stats_sum(line->account).pressing > 0;
}

fcgi_line_length fcgi_line_measure(fcgi_account *account)
{
    fcgi_line_length length;
    fcgi_share sum;

    fcgi_stats_lock();
    fcgi_stats_sweep(account);
    sum = fcgi_stats_sum(account);
    length.in_use = sum.in_use;
    length.idle = sum.idle;
    length.waiting = count_waiting(account);
    fcgi_stats_unlock();
    return length;
}
