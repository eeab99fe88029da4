/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_line.c - permits and the line for them; the contract is in fcgi_line.h.
 *
 * With max everything happens under the lock of the account, and every line is
 * served by whoever changes something: grant_next() is the one place where
 * permits are granted. A process may be killed between any two instructions:
 * each write to what another child owns is a single word, and what a child has
 * is the sum of what it wrote itself.
 *
 * Bells ring after the lock is given back. Until then who was granted a permit
 * is in a ring, out of which it takes itself before its memory goes; the mutex
 * of that ring is taken under an account's lock, never the other way round.
 */
#include "fcgi_line.h"

#include <pthread.h>

#include <apr_atomic.h>

APR_RING_HEAD(fcgi_calls, fcgi_waiting);

/* What this child has of all lines. */
static struct {
    pthread_mutex_t mutex;   /* of what is not atomic */
    struct fcgi_calls calls; /* those whose bell is to ring */
    int is_made;             /* calls is */
    fcgi_line *first;        /* lines in which anybody ever waited; they are
                              * added at the front, and stay */
    apr_uint32_t waiting;    /* requests; atomic */
    apr_uint32_t attended;   /* atomic: fcgi_line_attend() will be called */
} here = { .mutex = PTHREAD_MUTEX_INITIALIZER };

/* What is to be told when the lock is given back. */
typedef struct tidings {
    int calls;          /* bells are to ring here */
    apr_uint32_t child; /* that is to be notified; 0: none */
} tidings;

static fcgi_share *mine(fcgi_line *line)
{
    return fcgi_stats_my_share(line->account);
}

static fcgi_slots *slots_of(fcgi_line *line)
{
    return fcgi_stats_line(line->account);
}

/* ---- bells ---- */

/* One of this child's has a grant. Under the lock. */
static void call(fcgi_waiting *waiting, tidings *news)
{
    pthread_mutex_lock(&here.mutex);
    if (!here.is_made) {
        APR_RING_INIT(&here.calls, fcgi_waiting, link);
        here.is_made = 1;
    }
    if (!waiting->is_called) {
        waiting->is_called = 1;
        APR_RING_INSERT_TAIL(&here.calls, waiting, fcgi_waiting, link);
    }
    pthread_mutex_unlock(&here.mutex);
    news->calls = 1;
}

/* Takes one out of the ring. Under the mutex. */
static void uncall(fcgi_waiting *waiting)
{
    if (waiting->is_called) {
        waiting->is_called = 0;
        APR_RING_REMOVE(waiting, link);
    }
}

static void ring_bells(void)
{
    pthread_mutex_lock(&here.mutex);
    while (!APR_RING_EMPTY(&here.calls, fcgi_waiting, link)) {
        fcgi_waiting *waiting = APR_RING_FIRST(&here.calls);

        uncall(waiting);
        fcgi_bell_ring(&waiting->bell);
    }
    pthread_mutex_unlock(&here.mutex);
}

/* Without the lock. */
static void tell_news(const tidings *news)
{
    if (news->calls) {
        ring_bells();
    }
    if (news->child) {
        fcgi_stats_notify(news->child);
    }
}

/* One more of this child waits. Under the lock. */
static void count_in(fcgi_line *line)
{
    pthread_mutex_lock(&here.mutex);
    if (!line->is_listed) {
        line->is_listed = 1;
        line->next = here.first;
        here.first = line;
    }
    pthread_mutex_unlock(&here.mutex);
    apr_atomic_inc32(&line->waiting);
    apr_atomic_inc32(&here.waiting);
}

/* It waits no more, and its memory may go. Nobody finds it in its slot any
 * more; who did before is done when the mutex is free. */
static void count_out(fcgi_line *line, fcgi_waiting *waiting)
{
    pthread_mutex_lock(&here.mutex);
    uncall(waiting);
    pthread_mutex_unlock(&here.mutex);
    apr_atomic_dec32(&line->waiting);
    apr_atomic_dec32(&here.waiting);
}

/* ---- permits ---- */

/* Where permits are counted, each change of them is under the lock. */
static void lock_permits(fcgi_line *line)
{
    if (line->limits.max) {
        fcgi_stats_lock(line->account);
    }
}

static void unlock_permits(fcgi_line *line)
{
    if (line->limits.max) {
        fcgi_stats_unlock(line->account);
    }
}

static apr_uint32_t count_waiting(fcgi_account *account)
{
    fcgi_slots *slots = fcgi_stats_line(account);

    return slots ? apr_atomic_read32(&slots->waiting) : 0;
}

/* The slot of the one that came first, or 0. */
static apr_uint32_t first_waiter(fcgi_account *account)
{
    fcgi_slots *slots = fcgi_stats_line(account);

    return slots ? slots->line.first : 0;
}

/* Connections there are, or will be once those with a grant have made
 * theirs. */
static apr_uint32_t count_permits(fcgi_account *account)
{
    fcgi_slots *slots = fcgi_stats_line(account);
    fcgi_share sum = fcgi_stats_sum(account);

    return sum.in_use + sum.idle + (slots ? slots->granted : 0);
}

static void grant(fcgi_slots *slots, apr_uint32_t number, tidings *news)
{
    fcgi_slot *slot = &slots->slot[number];

    if (slot->child == fcgi_stats_me()) {
        fcgi_slots_grant(slots, number, FCGI_SLOT_TOLD);
        call(slot->owner, news);
        return;
    }
    fcgi_slots_grant(slots, number, FCGI_SLOT_GRANTED);
    if (news->child && news->child != slot->child) {
        fcgi_stats_notify(news->child);
    }
    news->child = slot->child;
}

/* Grants free permits to those that wait, in their order. */
static void grant_next(fcgi_line *line, tidings *news)
{
    apr_uint32_t first = first_waiter(line->account);

    while (first && count_permits(line->account) < line->limits.max) {
        grant(slots_of(line), first, news);
        first = first_waiter(line->account);
    }
}

/* How many may wait in line. Idle connections are given up for those that
 * come, so that they hardly wait. */
static apr_uint32_t queue_limit(fcgi_line *line)
{
    return line->limits.queue + fcgi_stats_sum_idle(line->account);
}

static int has_free_permit(fcgi_line *line)
{
    return !first_waiter(line->account)
           && count_permits(line->account) < line->limits.max;
}

/* Takes a slot of the line; false if there is none. */
static int take_slot(fcgi_line *line, fcgi_waiting *waiting)
{
    fcgi_slots *slots = slots_of(line);

    waiting->handed = NULL;
    waiting->is_called = 0;
    waiting->slot =
        slots ? fcgi_slots_take(slots, fcgi_stats_me(), waiting) : 0;
    if (!waiting->slot) {
        return 0;
    }
    count_in(line);
    return 1;
}

/* With the lock: a permit, or a slot, or nothing. */
static fcgi_line_state ask(fcgi_line *line, fcgi_waiting *waiting,
                           tidings *news)
{
    if (!has_free_permit(line) && fcgi_stats_sweep(line->account)) {
        grant_next(line, news);
    }
    if (has_free_permit(line)) {
        apr_atomic_inc32(&mine(line)->in_use);
        return FCGI_LINE_PERMIT;
    }
    return count_waiting(line->account) < queue_limit(line)
                   && take_slot(line, waiting)
               ? FCGI_LINE_WAITING
               : FCGI_LINE_FULL;
}

fcgi_line_state fcgi_line_enter(fcgi_line *line, fcgi_waiting *waiting)
{
    tidings news = { 0, 0 };
    fcgi_line_state state;

    if (!line->account) {
        return FCGI_LINE_PERMIT;
    }
    if (!line->limits.max) {
        apr_atomic_inc32(&mine(line)->in_use);
        return FCGI_LINE_PERMIT;
    }
    fcgi_stats_lock(line->account);
    state = ask(line, waiting, &news);
    fcgi_stats_unlock(line->account);
    tell_news(&news);
    if (state == FCGI_LINE_WAITING && !apr_atomic_read32(&here.attended)) {
        fcgi_stats_notify(fcgi_stats_me());
    }
    return state;
}

/* Takes the permit that one was granted. Under the lock. */
static void take_permit(fcgi_line *line, fcgi_waiting *waiting, void **conn)
{
    *conn = waiting->handed;
    apr_atomic_inc32(&mine(line)->in_use);
    fcgi_slots_leave(slots_of(line), waiting->slot);
}

/* Its own child may ask without the lock. */
static int is_granted(fcgi_line *line, const fcgi_waiting *waiting)
{
    fcgi_slot *slot = &slots_of(line)->slot[waiting->slot];

    return apr_atomic_read32(&slot->state) != FCGI_SLOT_WAITS;
}

fcgi_line_state fcgi_line_look(fcgi_line *line, fcgi_waiting *waiting,
                               void **conn)
{
    if (!is_granted(line, waiting)) {
        return FCGI_LINE_WAITING;
    }
    fcgi_stats_lock(line->account);
    take_permit(line, waiting, conn);
    fcgi_stats_unlock(line->account);
    count_out(line, waiting);
    return FCGI_LINE_PERMIT;
}

fcgi_line_state fcgi_line_leave(fcgi_line *line, fcgi_waiting *waiting,
                                void **conn)
{
    fcgi_line_state state = FCGI_LINE_WAITING;

    fcgi_stats_lock(line->account);
    if (is_granted(line, waiting)) {
        take_permit(line, waiting, conn);
        state = FCGI_LINE_PERMIT;
    }
    else {
        fcgi_slots_leave(slots_of(line), waiting->slot);
    }
    fcgi_stats_unlock(line->account);
    count_out(line, waiting);
    return state;
}

/* ---- what others tell ---- */

/* Calls those of this child that are to be told. Under the lock. */
static void call_granted(fcgi_line *line, tidings *news)
{
    fcgi_slots *slots = slots_of(line);
    apr_uint32_t me = fcgi_stats_me(), number = fcgi_slots_tell(slots, me);

    while (number) {
        call(slots->slot[number].owner, news);
        number = fcgi_slots_tell(slots, me);
    }
}

/* True if any of this child is to be told. Without the lock: whoever grants
 * notifies this child afterwards. */
static int is_to_tell(fcgi_line *line)
{
    fcgi_stand *stand = &slots_of(line)->stands[fcgi_stats_me() - 1];

    return apr_atomic_read32(&stand->granted.first) != 0;
}

static void serve(fcgi_line *line, int sweep, tidings *news)
{
    fcgi_stats_lock(line->account);
    if (sweep) {
        fcgi_stats_sweep(line->account);
        grant_next(line, news);
    }
    call_granted(line, news);
    fcgi_stats_unlock(line->account);
}

static fcgi_line *first_line(void)
{
    fcgi_line *first;

    pthread_mutex_lock(&here.mutex);
    first = here.first;
    pthread_mutex_unlock(&here.mutex);
    return first;
}

/* Lines in which requests of this child wait. */
static void serve_all(int sweep)
{
    fcgi_line *line;

    for (line = first_line(); line; line = line->next) {
        tidings news = { 0, 0 };

        if (apr_atomic_read32(&line->waiting) && (sweep || is_to_tell(line))) {
            serve(line, sweep, &news);
            tell_news(&news);
        }
    }
}

/* Says that nobody attends, and looks last of all whether anybody waits; who
 * comes counts itself, and then looks whether anybody attends. So one of the
 * two sees the other. */
static int is_to_attend(void)
{
    if (apr_atomic_read32(&here.waiting)) {
        apr_atomic_cas32(&here.attended, 1, 0);
        return 1;
    }
    apr_atomic_cas32(&here.attended, 0, 1);
    return apr_atomic_read32(&here.waiting) != 0;
}

int fcgi_line_tell(void)
{
    serve_all(0);
    return is_to_attend();
}

int fcgi_line_attend(void)
{
    serve_all(1);
    return is_to_attend();
}

/* ---- connections ---- */

/* One less of what this child counts there. */
static void give_back(fcgi_line *line, apr_uint32_t *count)
{
    tidings news = { 0, 0 };

    lock_permits(line);
    apr_atomic_dec32(count);
    if (line->limits.max) {
        grant_next(line, &news);
    }
    unlock_permits(line);
    tell_news(&news);
}

void fcgi_line_free(fcgi_line *line)
{
    if (line->account) {
        give_back(line, &mine(line)->in_use);
    }
}

/* Grants the permit of a connection, with it, to the first in line, if that is
 * one of this child's; false if it is not. Under the lock. */
static int grant_with(fcgi_line *line, void *conn, tidings *news)
{
    apr_uint32_t first = first_waiter(line->account);
    fcgi_slot *slot;

    if (!first || count_permits(line->account) > line->limits.max) {
        return 0;
    }
    slot = &slots_of(line)->slot[first];
    if (slot->child != fcgi_stats_me()) {
        return 0;
    }
    ((fcgi_waiting *)slot->owner)->handed = conn;
    apr_atomic_dec32(&mine(line)->in_use);
    grant(slots_of(line), first, news);
    return 1;
}

int fcgi_line_hand_on(fcgi_line *line, void *conn)
{
    tidings news = { 0, 0 };
    int handed;

    if (!line->account || !line->limits.max) {
        return 0;
    }
    fcgi_stats_lock(line->account);
    handed = grant_with(line, conn, &news);
    fcgi_stats_unlock(line->account);
    tell_news(&news);
    return handed;
}

/* Moves a connection from in use to idle, unless there are as many, or a
 * request waits. Says first that it is idle, and looks whether that makes too
 * many then: others may do the same at this moment. It says nothing where there
 * is no room, as that would keep others from what becomes free. */
static int move_to_idle(fcgi_line *line)
{
    if (fcgi_stats_is_pressed(line->account)
        || fcgi_stats_sum_idle(line->account) >= line->limits.keepalive) {
        return 0;
    }
    apr_atomic_inc32(&mine(line)->idle);
    if (fcgi_stats_sum_idle(line->account) > line->limits.keepalive) {
        /* another child did so in the same moment, which no test can choose */
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

    fcgi_stats_lock(account);
    moved =
        !first_waiter(account)
        && (!line->limits.max || count_permits(account) <= line->limits.max);
    if (moved && !move_to_idle(line)) {
        moved = fcgi_stats_sweep(account) && move_to_idle(line);
    }
    fcgi_stats_unlock(account);
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
    fcgi_stats_press(account);
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
        fcgi_stats_unpress(line->account);
    }
}

int fcgi_line_is_pressed(fcgi_line *line)
{
    return line->account && fcgi_stats_is_pressed(line->account);
}

fcgi_line_length fcgi_line_measure(fcgi_account *account)
{
    fcgi_line_length length;
    fcgi_share sum;

    fcgi_stats_lock(account);
    fcgi_stats_sweep(account);
    sum = fcgi_stats_sum(account);
    length.in_use = sum.in_use;
    length.idle = sum.idle;
    length.waiting = count_waiting(account);
    length.parked = sum.parked;
    fcgi_stats_unlock(account);
    return length;
}
