/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * test_line.c - what fcgi_stats.h and fcgi_line.h promise, with real children
 * that do what the test tells them, one step at a time, and that are killed.
 * A child is an actor: it answers one order after the other. Knows nothing of
 * sockets to an application; t/04-line.t compiles and runs it.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <apr_atomic.h>
#include <apr_general.h>
#include <apr_strings.h>

#include "fcgi_line.h"

#define CHILDREN 8
#define ACTORS   16

/* An order is answered within this time, in milliseconds, or never. */
#define PATIENCE 20000

/* Far longer than PATIENCE: whoever waits so long has a grant, or hangs. */
#define LONG apr_time_from_sec(120)

typedef enum {
    ENTER,
    ENTER_ALL,
    WAIT,
    LEAVE,
    FREE,
    HAND_ON,
    KEEP,
    REUSE,
    DROP,
    PRESS,
    UNPRESS,
    IS_PRESSED,
    SWEEP,
    FAILED,
    LOCK,
    HEAR,
    TELL,
    ATTEND
} verb;

struct order {
    verb verb;
    apr_uint32_t slot;
    apr_interval_time_t tick;
    void *conn;
    unsigned int kill_at; /* step of fcgi_slots.c in which it is killed; 0:
                           * none */
};

struct answer {
    int value;
    apr_uint32_t number; /* ENTER: the slot; ENTER_ALL: how many; FAILED: how
                          * many others */
    void *conn;
};

struct actor {
    pid_t pid; /* 0: none */
    int fd;
    apr_uint32_t me;
};

struct fixture {
    apr_pool_t *pool;
    fcgi_stats stats;
    fcgi_account *account;
    fcgi_limits limits;
    struct actor actors[ACTORS];
};

/* ---- a child ---- */

/* Those of this child that wait, by their slots. */
static fcgi_waiting *waiting_in[FCGI_LINE_MAX + 1];

static unsigned int steps, kill_at;

void count_step(void);

void count_step(void)
{
    if (++steps == kill_at) {
        kill(getpid(), SIGKILL);
    }
}

static fcgi_line_state enter(fcgi_line *line, apr_uint32_t *slot)
{
    fcgi_waiting *waiting = malloc(sizeof(*waiting));
    fcgi_line_state state;

    fcgi_bell_init(&waiting->bell);
    state = fcgi_line_enter(line, waiting);

    *slot = 0;
    if (state == FCGI_LINE_WAITING) {
        *slot = waiting->slot;
        waiting_in[*slot] = waiting;
    }
    else {
        free(waiting);
    }
    return state;
}

/* Has left the slot if that is so; is to be told of no grant any more. */
static int out_of(apr_uint32_t slot, int has_left)
{
    if (has_left) {
        free(waiting_in[slot]);
        waiting_in[slot] = NULL;
    }
    return has_left;
}

static void post(void *semaphore)
{
    sem_post(semaphore);
}

/* Looks when the bell rings, and only then, after tick at the latest; rings by
 * itself what others have granted, as fcgi_notice.c does. */
static fcgi_line_state wait_for_bell(fcgi_line *line, fcgi_waiting *waiting,
                                     apr_interval_time_t tick, void **conn)
{
    fcgi_instant now = fcgi_clock_now(), until = now + tick;
    fcgi_line_state state = FCGI_LINE_WAITING;
    sem_t turn;

    sem_init(&turn, 0, 0);
    fcgi_bell_hang(&waiting->bell, post, &turn);
    while (state == FCGI_LINE_WAITING && now < until) {
        if (sem_trywait(&turn) == 0) {
            state = fcgi_line_look(line, waiting, conn);
        }
        else if (fcgi_stats_wait_for_notice(until - now)) {
            fcgi_line_tell();
        }
        now = fcgi_clock_now();
    }
    fcgi_bell_take_down(&waiting->bell);
    sem_destroy(&turn);
    return state;
}

static fcgi_line_state wait_for_turn(fcgi_line *line,
                                     const struct order *order, void **conn)
{
    fcgi_waiting *waiting = waiting_in[order->slot];
    fcgi_line_state state;

    if (order->tick) {
        state = wait_for_bell(line, waiting, order->tick, conn);
    }
    else {
        fcgi_line_attend();
        state = fcgi_line_look(line, waiting, conn);
    }
    out_of(order->slot, state == FCGI_LINE_PERMIT);
    return state;
}

static struct answer follow(fcgi_line *line, const struct order *order)
{
    struct answer answer = { 0, order->slot, NULL };

    steps = 0;
    kill_at = order->kill_at;
    switch (order->verb) {
    case ENTER:
        answer.value = (int)enter(line, &answer.number);
        break;
    case ENTER_ALL:
        answer.number = 0;
        do {
            apr_uint32_t slot;

            answer.value = (int)enter(line, &slot);
            answer.number += answer.value == FCGI_LINE_WAITING;
        } while (answer.value == FCGI_LINE_WAITING);
        break;
    case WAIT:
        answer.value = (int)wait_for_turn(line, order, &answer.conn);
        break;
    case LEAVE:
        answer.value =
            (int)fcgi_line_leave(line, waiting_in[order->slot], &answer.conn);
        out_of(order->slot, 1);
        break;
    case FREE:
        fcgi_line_free(line);
        break;
    case HAND_ON:
        answer.value = fcgi_line_hand_on(line, order->conn);
        break;
    case KEEP:
        answer.value = fcgi_line_keep(line);
        break;
    case REUSE:
        answer.value = fcgi_line_reuse(line);
        break;
    case DROP:
        fcgi_line_drop(line);
        break;
    case PRESS:
        fcgi_line_press(line);
        break;
    case UNPRESS:
        fcgi_line_unpress(line);
        break;
    case IS_PRESSED:
        answer.value = fcgi_line_is_pressed(line);
        break;
    case SWEEP:
        fcgi_stats_lock(line->account);
        line->account->swept_at = 0;
        answer.value = fcgi_stats_sweep(line->account);
        fcgi_stats_unlock(line->account);
        break;
    case FAILED:
        answer.value = fcgi_stats_failed(line->account, &answer.number);
        break;
    case LOCK: /* and keeps it */
        fcgi_stats_lock(line->account);
        break;
    case HEAR:
        fcgi_stats_wait_for_notice(-1);
        break;
    case TELL:
        answer.value = fcgi_line_tell();
        break;
    case ATTEND:
        answer.value = fcgi_line_attend();
        break;
    }
    return answer;
}

/* The whole life of a child; it says first how joining went. */
static void act(struct fixture *f, int fd)
{
    fcgi_line line = { .limits = f->limits, .account = f->account };
    struct answer answer = { 0, 0, NULL };
    struct order order;

    answer.value = (int)fcgi_stats_join();
    answer.number = answer.value == APR_SUCCESS ? fcgi_stats_me() : 0;
    while (write(fd, &answer, sizeof(answer)) == sizeof(answer)
           && read(fd, &order, sizeof(order)) == sizeof(order)) {
        answer = follow(&line, &order);
    }
    _exit(0);
}

/* ---- the test's side ---- */

static struct answer get_answer(const struct actor *actor)
{
    struct answer answer = { -1, 0, NULL };
    struct pollfd ready = { actor->fd, POLLIN, 0 };

    assert_int_equal(poll(&ready, 1, PATIENCE), 1);
    assert_int_equal(read(actor->fd, &answer, sizeof(answer)), sizeof(answer));
    return answer;
}

static void order(const struct actor *actor, struct order order)
{
    assert_int_equal(write(actor->fd, &order, sizeof(order)), sizeof(order));
}

static struct answer ask(const struct actor *actor, struct order wanted)
{
    order(actor, wanted);
    return get_answer(actor);
}

static int tell(const struct actor *actor, verb verb)
{
    return ask(actor, (struct order){ .verb = verb }).value;
}

/* Who begins to press after this process has read a word, once. */
static struct {
    volatile apr_uint32_t *word; /* NULL: none */
    const struct actor *presser;
} after_reading;

/* Takes the place of APR's own. */
apr_uint32_t apr_atomic_read32(volatile apr_uint32_t *mem)
{
    apr_uint32_t value = __atomic_load_n(mem, __ATOMIC_SEQ_CST);

    if (after_reading.word && mem == after_reading.word) {
        after_reading.word = NULL;
        tell(after_reading.presser, PRESS);
    }
    return value;
}

/* fork(), with nothing of the output in both. */
static pid_t fork_child(void)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    return pid;
}

/* Starts a child; it may have failed to join. */
static struct actor *fork_actor(struct fixture *f, struct answer *joined)
{
    struct actor *actor = f->actors;
    int pair[2], i;

    while (actor->pid) {
        assert_true(++actor < f->actors + ACTORS);
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    actor->pid = fork_child();
    if (actor->pid == 0) {
        for (i = 0; i < ACTORS; i++) {
            if (f->actors[i].pid) {
                close(f->actors[i].fd);
            }
        }
        close(pair[0]);
        act(f, pair[1]);
    }
    close(pair[1]);
    actor->fd = pair[0];
    *joined = get_answer(actor);
    actor->me = joined->number;
    return actor;
}

static struct actor *start(struct fixture *f)
{
    struct answer joined;
    struct actor *actor = fork_actor(f, &joined);

    assert_int_equal(joined.value, APR_SUCCESS);
    return actor;
}

/* Returns when all that the kernel does for a dead process is done. */
static void kill_actor(struct actor *actor)
{
    assert_int_equal(kill(actor->pid, SIGKILL), 0);
    assert_int_equal(waitpid(actor->pid, NULL, 0), actor->pid);
    close(actor->fd);
    actor->pid = 0;
}

static void limit(struct fixture *f, apr_uint32_t max, apr_uint32_t queue,
                  apr_uint32_t keepalive)
{
    f->limits.max = max;
    f->limits.queue = queue;
    f->limits.keepalive = keepalive;
}

/* The next look for dead children is due now. */
static void let_sweep(struct fixture *f)
{
    fcgi_stats_lock(f->account);
    f->account->swept_at = 0;
    fcgi_stats_unlock(f->account);
}

/* Nobody looks for dead children now. */
static void let_not_sweep(struct fixture *f)
{
    fcgi_stats_lock(f->account);
    f->account->swept_at = (apr_uint64_t)fcgi_clock_now();
    fcgi_stats_unlock(f->account);
}

static int sweep(struct fixture *f)
{
    int found;

    fcgi_stats_lock(f->account);
    f->account->swept_at = 0;
    found = fcgi_stats_sweep(f->account);
    fcgi_stats_unlock(f->account);
    return found;
}

static int count_standing(struct fixture *f)
{
    apr_uint32_t i;
    int count = 0;

    fcgi_stats_lock(f->account);
    for (i = 1; i <= f->account->line->used; i++) {
        count += f->account->line->slot[i].child != 0;
    }
    fcgi_stats_unlock(f->account);
    return count;
}

static void assert_shares(struct fixture *f, apr_uint32_t in_use,
                          apr_uint32_t idle, apr_uint32_t pressing)
{
    fcgi_share sum = fcgi_stats_sum(f->account);

    assert_int_equal(sum.in_use, in_use);
    assert_int_equal(sum.idle, idle);
    assert_int_equal(sum.pressing, pressing);
}

static void assert_clean(struct fixture *f)
{
    fcgi_slots *slots = f->account->line;
    int i;

    assert_shares(f, 0, 0, 0);
    if (!slots) {
        return;
    }
    assert_int_equal(count_standing(f), 0);
    assert_int_equal(slots->dirty, 0);
    assert_int_equal(slots->waiting, 0);
    assert_int_equal(slots->granted, 0);
    assert_int_equal(slots->line.first, 0);
    for (i = 0; i < CHILDREN; i++) {
        assert_int_equal(slots->stands[i].count, 0);
        assert_int_equal(slots->stands[i].granted.first, 0);
    }
}

static void assert_permitted(struct actor *actor)
{
    assert_int_equal(tell(actor, ENTER), FCGI_LINE_PERMIT);
}

/* Enters, and has to wait in line; returns the slot. */
static apr_uint32_t line_up(struct actor *actor)
{
    struct answer answer = ask(actor, (struct order){ .verb = ENTER });

    assert_int_equal(answer.value, FCGI_LINE_WAITING);
    return answer.number;
}

/* Looks once. */
static struct answer look(struct actor *actor, apr_uint32_t slot)
{
    return ask(actor, (struct order){ .verb = WAIT, .slot = slot });
}

static void assert_granted(struct actor *actor, apr_uint32_t slot)
{
    struct answer answer = look(actor, slot);

    assert_int_equal(answer.value, FCGI_LINE_PERMIT);
    assert_null(answer.conn);
}

static void assert_waiting(struct actor *actor, apr_uint32_t slot)
{
    assert_int_equal(look(actor, slot).value, FCGI_LINE_WAITING);
}

static struct answer leave(struct actor *actor, apr_uint32_t slot)
{
    return ask(actor, (struct order){ .verb = LEAVE, .slot = slot });
}

static int hand_on(struct actor *actor, void *conn)
{
    return ask(actor, (struct order){ .verb = HAND_ON, .conn = conn }).value;
}

static apr_status_t make_stats(struct fixture *f, fcgi_stats *stats,
                               apr_lockmech_e mechanism, apr_uint32_t children)
{
    apr_global_mutex_t *lock;
    apr_status_t rv = apr_global_mutex_create(&lock, NULL, mechanism, f->pool);

    return rv == APR_SUCCESS
               ? fcgi_stats_create(stats, f->pool, lock, children)
               : rv;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    *state = f;
    if (!f || apr_pool_create(&f->pool, NULL) != APR_SUCCESS
        || make_stats(f, &f->stats, APR_LOCK_DEFAULT, CHILDREN)
               != APR_SUCCESS) {
        return -1;
    }
    f->account = fcgi_stats_open_configured("fcgi:/run/app");
    limit(f, 1, 10, 0);
    return f->account && fcgi_stats_open_line(f->account) ? 0 : -1;
}

/* As where the system has no locks for accounts. */
static int setup_with_one_lock(void **state)
{
    int failed = setup(state);

    if (!failed) {
        ((struct fixture *)*state)->account->has_own_lock = 0;
    }
    return failed;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    int i;

    for (i = 0; i < ACTORS; i++) {
        if (f->actors[i].pid) {
            kill_actor(&f->actors[i]);
        }
    }
    apr_pool_destroy(f->pool);
    free(f);
    return 0;
}

/* Opens accounts LABEL-0, LABEL-1, ...; returns how many different ones there
 * are, at most count. */
static int open_accounts(struct fixture *f, const char *label, int count)
{
    fcgi_account *before = NULL;
    int i;

    for (i = 0; i < count; i++) {
        const char *name = apr_psprintf(f->pool, "fcgi:/%s-%d", label, i);
        fcgi_account *account = fcgi_stats_open_configured(name);

        if (!account || account == before || strcmp(account->name, name)) {
            break;
        }
        before = account;
    }
    return i;
}

/* ---- permits and the line ---- */

static void permits_are_counted_over_all_children(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b;

    limit(f, 3, 0, 0);
    a = start(f);
    b = start(f);
    assert_int_not_equal(a->me, b->me);
    assert_permitted(a);
    assert_permitted(a);
    assert_permitted(b);
    assert_int_equal(tell(a, ENTER), FCGI_LINE_FULL);
    assert_int_equal(tell(b, ENTER), FCGI_LINE_FULL);
    assert_shares(f, 3, 0, 0);
    tell(a, FREE);
    assert_permitted(b);
    assert_int_equal(tell(a, ENTER), FCGI_LINE_FULL);
    tell(a, FREE);
    tell(b, FREE);
    tell(b, FREE);
    assert_clean(f);
}

static void permits_are_granted_in_order_of_coming(void **state)
{
    struct fixture *f = *state;
    struct actor *a = start(f), *b = start(f), *c = start(f), *d = start(f);
    struct actor *order[] = { c, b, d, b, a, c };
    apr_uint32_t slots[6];
    int i, j;

    assert_permitted(a);
    for (i = 0; i < 6; i++) {
        slots[i] = line_up(order[i]);
    }
    tell(a, FREE);
    for (i = 0; i < 6; i++) {
        for (j = 5; j > i; j--) {
            assert_waiting(order[j], slots[j]);
        }
        assert_granted(order[i], slots[i]);
        assert_shares(f, 1, 0, 0);
        tell(order[i], FREE);
    }
    assert_clean(f);
}

/* A slot that is used again is no reason to be served first. */
static void who_comes_last_is_last_at_any_spot(void **state)
{
    struct fixture *f = *state;
    struct actor *a = start(f), *b = start(f);
    apr_uint32_t first, second, third, last;

    assert_permitted(a);
    first = line_up(a);
    second = line_up(b);
    third = line_up(a);
    assert_int_equal(leave(a, first).value, FCGI_LINE_WAITING);
    last = line_up(b);
    assert_int_equal(last, first);
    tell(a, FREE);
    assert_waiting(b, last);
    assert_waiting(a, third);
    assert_granted(b, second);
    tell(b, FREE);
    assert_waiting(b, last);
    assert_granted(a, third);
    tell(a, FREE);
    assert_granted(b, last);
    tell(b, FREE);
    assert_clean(f);
}

/* Nobody overtakes, not even where a permit is free. */
static void who_enters_stands_behind_those_in_line(void **state)
{
    struct fixture *f = *state;
    struct actor *a = start(f), *b = start(f), *c;
    apr_uint32_t early, late;

    limit(f, 2, 10, 0); /* as after a restart */
    c = start(f);
    assert_permitted(a);
    early = line_up(b);
    late = line_up(c);
    assert_waiting(c, late); /* with its limits, b has a permit */
    assert_granted(b, early);
    assert_waiting(c, late);
    assert_shares(f, 2, 0, 0);
}

static void several_free_places_call_as_many(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b;
    apr_uint32_t slots[3];
    int i;

    limit(f, 2, 10, 0);
    a = start(f);
    b = start(f);
    assert_permitted(a);
    assert_permitted(a);
    for (i = 0; i < 3; i++) {
        slots[i] = line_up(b);
    }
    tell(a, FREE);
    tell(a, FREE);
    assert_waiting(b, slots[2]);
    assert_granted(b, slots[1]);
    assert_granted(b, slots[0]);
    assert_shares(f, 2, 0, 0);
    tell(b, FREE);
    assert_granted(b, slots[2]);
    assert_shares(f, 2, 0, 0);
}

static void a_full_line_takes_nobody(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b;
    apr_uint32_t first, second;

    limit(f, 1, 2, 0);
    a = start(f);
    b = start(f);
    assert_permitted(a);
    first = line_up(a);
    second = line_up(b);
    assert_int_equal(tell(a, ENTER), FCGI_LINE_FULL);
    assert_int_equal(tell(b, ENTER), FCGI_LINE_FULL);
    assert_int_equal(count_standing(f), 2);

    /* one with a grant waits no more */
    tell(a, FREE);
    line_up(b);
    assert_int_equal(tell(b, ENTER), FCGI_LINE_FULL);
    assert_granted(a, first);
    assert_waiting(b, second);

    /* nor one that has left */
    assert_int_equal(leave(b, second).value, FCGI_LINE_WAITING);
    line_up(a);
    assert_int_equal(tell(a, ENTER), FCGI_LINE_FULL);
}

static void the_line_ends_where_its_memory_does(void **state)
{
    struct fixture *f = *state;
    struct answer all;
    struct actor *a;

    limit(f, 1, 100 * FCGI_LINE_MAX, 0);
    a = start(f);
    assert_permitted(a);
    all = ask(a, (struct order){ .verb = ENTER_ALL });
    assert_int_equal(all.value, FCGI_LINE_FULL);
    assert_int_equal(all.number, 65535);
    assert_int_equal(fcgi_line_measure(f->account).waiting, 65535);
    assert_int_equal(leave(a, 700).value, FCGI_LINE_WAITING);
    assert_int_equal(line_up(a), 700);
    assert_int_equal(tell(a, ENTER), FCGI_LINE_FULL);
    kill_actor(a);
    sweep(f);
    assert_clean(f);
}

static void who_has_left_is_not_called(void **state)
{
    struct fixture *f = *state;
    struct actor *a = start(f), *b = start(f);
    apr_uint32_t first, second;

    assert_permitted(a);
    first = line_up(b);
    second = line_up(a);
    assert_int_equal(leave(b, first).value, FCGI_LINE_WAITING);
    assert_int_equal(count_standing(f), 1);
    tell(a, FREE);
    assert_granted(a, second);
    tell(a, FREE);
    assert_clean(f);
}

static void who_leaves_after_the_grant_has_the_permit(void **state)
{
    struct fixture *f = *state;
    struct actor *a = start(f), *b = start(f);
    struct answer left;
    apr_uint32_t slot;

    assert_permitted(a);
    slot = line_up(b);
    tell(a, FREE);
    left = leave(b, slot);
    assert_int_equal(left.value, FCGI_LINE_PERMIT);
    assert_null(left.conn);
    assert_shares(f, 1, 0, 0);
    assert_int_equal(count_standing(f), 0);
    tell(b, FREE);
    assert_clean(f);
}

static void a_grant_wakes_a_waiter_of_another_child(void **state)
{
    struct fixture *f = *state;
    struct actor *a = start(f), *b = start(f);
    apr_uint32_t slot;

    assert_permitted(a);
    slot = line_up(b);
    order(b, (struct order){ WAIT, slot, LONG, NULL, 0 });
    tell(a, FREE);
    assert_int_equal(get_answer(b).value, FCGI_LINE_PERMIT);
    tell(b, FREE);
    assert_clean(f);
}

/* What rang for one rings for no other that takes the same slot. */
static void a_grant_is_for_one_waiter_only(void **state)
{
    struct fixture *f = *state;
    struct actor *a = start(f), *b = start(f);
    fcgi_instant from;
    apr_uint32_t slot;

    assert_permitted(a);
    slot = line_up(b);
    tell(a, FREE);
    assert_int_equal(leave(b, slot).value, FCGI_LINE_PERMIT);
    assert_int_equal(line_up(b), slot);
    from = fcgi_clock_now();
    order(b, (struct order){ WAIT, slot, apr_time_from_msec(200), NULL, 0 });
    assert_int_equal(get_answer(b).value, FCGI_LINE_WAITING);
    assert_true(fcgi_clock_now() - from >= apr_time_from_msec(190));
}

static void without_max_anybody_has_a_permit(void **state)
{
    struct fixture *f = *state;
    struct actor *a;
    int i;

    limit(f, 0, 0, 1);
    a = start(f);
    for (i = 0; i < 100; i++) {
        assert_permitted(a);
    }
    assert_shares(f, 100, 0, 0);
    assert_false(hand_on(a, f));
    assert_true(tell(a, KEEP));
    assert_false(tell(a, KEEP));
    assert_shares(f, 99, 1, 0);
    tell(a, DROP);
    for (i = 0; i < 99; i++) {
        tell(a, FREE);
    }
    assert_clean(f);
}

static void without_an_account_nothing_is_counted(void **state)
{
    fcgi_line line = { .limits = { 1, 1, 1 } };
    fcgi_waiting waiting;

    (void)state;
    assert_int_equal(fcgi_line_enter(&line, &waiting), FCGI_LINE_PERMIT);
    assert_int_equal(fcgi_line_enter(&line, &waiting), FCGI_LINE_PERMIT);
    assert_false(fcgi_line_hand_on(&line, &line));
    assert_false(fcgi_line_keep(&line));
    fcgi_line_press(&line);
    assert_false(fcgi_line_is_pressed(&line));
    fcgi_line_unpress(&line);
    fcgi_line_free(&line);
}

/* ---- connections handed on and kept ---- */

static void a_connection_goes_to_the_first_of_its_own_child(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b;
    apr_uint32_t first, second, third;
    struct answer got;
    char conn[2];

    limit(f, 2, 10, 0);
    a = start(f);
    b = start(f);
    assert_false(hand_on(a, &conn[0])); /* nobody is there */
    assert_permitted(a);
    assert_permitted(a);
    first = line_up(a);
    second = line_up(a);
    third = line_up(b);
    assert_true(hand_on(a, &conn[0]));
    assert_true(hand_on(a, &conn[1]));
    assert_shares(f, 0, 0, 0); /* two have a grant */
    assert_waiting(b, third);

    got = look(a, second);
    assert_int_equal(got.value, FCGI_LINE_PERMIT);
    assert_ptr_equal(got.conn, &conn[1]);
    assert_shares(f, 1, 0, 0);
    got = leave(a, first);
    assert_int_equal(got.value, FCGI_LINE_PERMIT);
    assert_ptr_equal(got.conn, &conn[0]);
    assert_shares(f, 2, 0, 0);

    /* the first is another's, who cannot have it */
    line_up(a);
    assert_false(hand_on(a, &conn[0]));
    assert_shares(f, 2, 0, 0);
    tell(a, FREE);
    assert_granted(b, third);
}

/* A permit in a slot where a connection was handed to another before. */
static void a_connection_is_handed_once(void **state)
{
    struct fixture *f = *state;
    struct actor *a = start(f);
    apr_uint32_t slot;
    char conn;

    assert_permitted(a);
    slot = line_up(a);
    assert_true(hand_on(a, &conn));
    assert_ptr_equal(look(a, slot).conn, &conn);
    assert_int_equal(line_up(a), slot);
    tell(a, FREE);
    assert_granted(a, slot);
}

/* Children of before a restart may have more than is allowed now. */
static void above_a_lower_max_nothing_is_kept_or_handed_on(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b;

    limit(f, 2, 10, 5);
    a = start(f);
    limit(f, 1, 10, 5);
    b = start(f);
    assert_permitted(b);
    assert_permitted(a);
    assert_false(tell(b, KEEP));
    line_up(b);
    assert_false(hand_on(b, f));
    assert_shares(f, 2, 0, 0);
}

static void as_many_are_kept_as_keepalive_says(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b;

    limit(f, 5, 10, 2);
    a = start(f);
    b = start(f);
    assert_permitted(a);
    assert_permitted(a);
    assert_permitted(b);
    assert_true(tell(a, KEEP));
    assert_shares(f, 2, 1, 0);
    assert_true(tell(b, KEEP));
    assert_false(tell(a, KEEP));
    assert_shares(f, 1, 2, 0);
    tell(b, DROP);
    assert_shares(f, 1, 1, 0);
    assert_true(tell(a, KEEP));
    assert_shares(f, 0, 2, 0);
    assert_true(tell(a, REUSE));
    assert_shares(f, 1, 1, 0);
    tell(a, FREE);
    tell(a, DROP);
    assert_clean(f);
}

static void nothing_is_kept_while_anybody_waits(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b;
    apr_uint32_t slot;

    limit(f, 2, 10, 5);
    a = start(f);
    b = start(f);
    assert_permitted(a);
    assert_permitted(a);
    tell(b, PRESS);
    assert_true(tell(a, IS_PRESSED));
    assert_false(tell(a, KEEP));
    tell(b, PRESS);
    tell(b, UNPRESS);
    assert_false(tell(a, KEEP));
    tell(b, UNPRESS);
    assert_false(tell(a, IS_PRESSED));

    /* in line, before it has said so */
    slot = line_up(b);
    assert_false(tell(a, KEEP));
    assert_int_equal(leave(b, slot).value, FCGI_LINE_WAITING);
    assert_true(tell(a, KEEP));
    assert_shares(f, 1, 1, 0);
}

/* One begins to press just after its share was read, when presses of before
 * were to be found over. */
static void who_presses_meanwhile_is_seen_by_the_next_look(void **state)
{
    struct fixture *f = *state;
    struct actor *a;

    limit(f, 0, 0, 5);
    a = start(f);
    tell(a, PRESS);
    assert_true(fcgi_stats_is_pressed(f->account));
    tell(a, UNPRESS);
    after_reading.word = &f->account->shares[a->me - 1].pressing;
    after_reading.presser = a;
    assert_false(fcgi_stats_is_pressed(f->account));
    assert_null(after_reading.word);
    assert_true(fcgi_stats_is_pressed(f->account));
    tell(a, UNPRESS);
    assert_false(fcgi_stats_is_pressed(f->account));
    assert_false(fcgi_stats_is_pressed(f->account));
}

static void nothing_is_used_again_while_anybody_waits(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b;

    limit(f, 2, 10, 5);
    a = start(f);
    b = start(f);
    assert_permitted(a);
    assert_true(tell(a, KEEP));
    tell(b, PRESS);
    assert_false(tell(a, REUSE));
    assert_shares(f, 0, 1, 1);
    tell(b, UNPRESS);
    tell(a, PRESS);
    assert_false(tell(a, REUSE));
    tell(a, UNPRESS);
    assert_true(tell(a, REUSE));
    assert_shares(f, 1, 0, 0);
}

static void an_idle_connection_has_a_permit_until_it_is_dropped(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b;
    apr_uint32_t slot;

    limit(f, 1, 10, 1);
    a = start(f);
    b = start(f);
    assert_permitted(a);
    assert_true(tell(a, KEEP));
    slot = line_up(b);
    assert_waiting(b, slot);
    order(b, (struct order){ WAIT, slot, LONG, NULL, 0 });
    tell(a, DROP);
    assert_int_equal(get_answer(b).value, FCGI_LINE_PERMIT);
    assert_shares(f, 1, 0, 0);
}

static void assert_hears(struct actor *actor)
{
    order(actor, (struct order){ .verb = HEAR });
    get_answer(actor);
}

/* Begins to hear, and has heard nothing after a while. */
static void assert_hears_nothing(struct actor *actor)
{
    struct pollfd ready = { actor->fd, POLLIN, 0 };

    order(actor, (struct order){ .verb = HEAR });
    assert_int_equal(poll(&ready, 1, 50), 0);
}

static void who_keeps_a_connection_hears_of_who_waits(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b, *c;

    limit(f, 0, 0, 5);
    a = start(f);
    b = start(f);
    c = start(f);
    assert_permitted(a);
    assert_permitted(b);
    assert_true(tell(a, KEEP));
    assert_hears_nothing(a);
    tell(b, PRESS);
    get_answer(a);
    tell(b, UNPRESS);
    assert_hears_nothing(a); /* who waits no more is nothing to hear of */
    tell(c, PRESS);
    get_answer(a);
    assert_hears_nothing(b); /* it keeps none */
    fcgi_stats_notify(b->me);
    get_answer(b);
}

static void notices_of_before_are_one(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b;
    apr_uint32_t number;
    int i;

    limit(f, 0, 0, 5);
    a = start(f);
    b = start(f);
    number = a->me;
    assert_permitted(a);
    assert_true(tell(a, KEEP));
    for (i = 0; i < 5; i++) {
        tell(b, PRESS);
    }
    assert_hears(a);
    assert_hears_nothing(a); /* in which it is killed */
    kill_actor(a);
    for (i = 0; i < 5; i++) {
        tell(b, PRESS);
    }
    a = start(f);
    assert_int_equal(a->me, number);
    assert_hears(a);
    assert_hears_nothing(a);
    fcgi_stats_notify(number);
    get_answer(a);
}

/* Nobody tells of dead children: so a child with one that waits is to look,
 * and sleeps otherwise, until one comes. */
static void a_child_attends_while_any_of_its_own_waits(void **state)
{
    struct fixture *f = *state;
    struct actor *a = start(f), *b = start(f);
    apr_uint32_t first, second;

    assert_false(tell(a, TELL));
    assert_false(tell(a, ATTEND));
    assert_permitted(b);
    first = line_up(a);
    assert_hears(a);
    assert_true(tell(a, TELL));
    assert_true(tell(a, ATTEND));
    assert_false(tell(b, ATTEND));
    assert_int_equal(leave(a, first).value, FCGI_LINE_WAITING);
    second = line_up(a);
    assert_true(tell(a, ATTEND));
    assert_int_equal(leave(a, second).value, FCGI_LINE_WAITING);
    assert_false(tell(a, ATTEND));
    line_up(a);
    line_up(a);
    assert_true(tell(a, TELL)); /* who comes now needs to tell nothing */
    assert_hears(a);
    line_up(a);
    assert_hears_nothing(a);
    tell(b, FREE);
    get_answer(a); /* of its grant */
}

/* ---- bells ---- */

static void count_ring(void *rings)
{
    ++*(int *)rings;
}

static void no_ring_is_lost_and_none_comes_late(void **state)
{
    fcgi_bell bell;
    int rings = 0;

    (void)state;
    fcgi_bell_init(&bell);
    fcgi_bell_hang(&bell, count_ring, &rings);
    assert_int_equal(rings, 0);
    fcgi_bell_ring(&bell);
    fcgi_bell_ring(&bell);
    assert_int_equal(rings, 2);
    fcgi_bell_take_down(&bell);
    fcgi_bell_ring(&bell);
    fcgi_bell_ring(&bell);
    assert_int_equal(rings, 2);
    fcgi_bell_hang(&bell, count_ring, &rings);
    assert_int_equal(rings, 3);
    fcgi_bell_take_down(&bell);
    fcgi_bell_hang(&bell, count_ring, &rings);
    assert_int_equal(rings, 3);
}

/* ---- killed children ---- */

static void a_killed_childs_permits_are_free(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b;

    limit(f, 2, 0, 0);
    a = start(f);
    b = start(f);
    assert_permitted(a);
    assert_permitted(a);
    kill_actor(a);
    let_not_sweep(f);
    assert_int_equal(tell(b, ENTER), FCGI_LINE_FULL);
    let_sweep(f);
    assert_permitted(b);
    assert_permitted(b);
    assert_shares(f, 2, 0, 0);
    let_sweep(f);
    assert_int_equal(tell(b, ENTER), FCGI_LINE_FULL);
}

/* Any that waits in line sees to it, for all. */
static void a_killed_childs_permits_come_to_who_waits(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b, *c, *d;
    apr_uint32_t first, second, third;

    limit(f, 2, 10, 0);
    a = start(f);
    b = start(f);
    c = start(f);
    d = start(f);
    assert_permitted(a);
    assert_permitted(a);
    first = line_up(b);
    second = line_up(c);
    third = line_up(d);
    order(b, (struct order){ WAIT, first, LONG, NULL, 0 });
    order(c, (struct order){ WAIT, second, LONG, NULL, 0 });
    kill_actor(a);
    let_sweep(f);
    assert_waiting(d, third);
    assert_int_equal(get_answer(b).value, FCGI_LINE_PERMIT);
    assert_int_equal(get_answer(c).value, FCGI_LINE_PERMIT);
    assert_shares(f, 2, 0, 0);
}

/* One that comes sees to it, too, and does not overtake. */
static void who_enters_brings_the_dead_ones_permit_to_who_waits(void **state)
{
    struct fixture *f = *state;
    struct actor *a = start(f), *b = start(f), *c = start(f);
    apr_uint32_t slot;

    assert_permitted(a);
    slot = line_up(b);
    order(b, (struct order){ WAIT, slot, LONG, NULL, 0 });
    kill_actor(a);
    let_sweep(f);
    line_up(c);
    assert_int_equal(get_answer(b).value, FCGI_LINE_PERMIT);
    assert_shares(f, 1, 0, 0);
}

static void a_killed_child_stands_in_line_no_more(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b, *c;
    apr_uint32_t slot;

    limit(f, 1, 3, 0);
    a = start(f);
    b = start(f);
    c = start(f);
    assert_permitted(a);
    line_up(b);
    line_up(b);
    slot = line_up(c);
    kill_actor(b);
    assert_int_equal(count_standing(f), 3);
    let_sweep(f);
    line_up(c); /* there is room in the queue again */
    assert_int_equal(count_standing(f), 2);
    order(c, (struct order){ WAIT, slot, LONG, NULL, 0 });
    tell(a, FREE);
    assert_int_equal(get_answer(c).value, FCGI_LINE_PERMIT);
}

static void a_killed_childs_grant_goes_to_the_next(void **state)
{
    struct fixture *f = *state;
    struct actor *a = start(f), *b = start(f), *c = start(f);
    apr_uint32_t slot;

    assert_permitted(a);
    line_up(b);
    slot = line_up(c);
    tell(a, FREE); /* b has the grant */
    kill_actor(b);
    let_not_sweep(f);
    assert_waiting(c, slot);
    let_sweep(f);
    assert_granted(c, slot);
    assert_shares(f, 1, 0, 0);
    tell(c, FREE);
    assert_clean(f);
}

static void a_grant_given_to_a_dead_child_goes_to_the_next(void **state)
{
    struct fixture *f = *state;
    struct actor *a = start(f), *b = start(f), *c = start(f);
    apr_uint32_t slot;

    assert_permitted(a);
    line_up(b);
    slot = line_up(c);
    kill_actor(b);
    tell(a, FREE);
    let_sweep(f);
    assert_granted(c, slot);
    assert_int_equal(count_standing(f), 0);
}

static void what_was_handed_in_a_killed_child_is_given_back(void **state)
{
    struct fixture *f = *state;
    struct actor *a = start(f), *b = start(f);

    assert_permitted(a);
    line_up(a);
    assert_true(hand_on(a, f));
    kill_actor(a);
    let_sweep(f);
    assert_permitted(b);
    assert_shares(f, 1, 0, 0);
    assert_int_equal(count_standing(f), 0);
}

static void a_killed_childs_idle_connections_are_gone(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b;

    limit(f, 2, 0, 1);
    a = start(f);
    b = start(f);
    assert_permitted(b);
    assert_permitted(a);
    assert_true(tell(a, KEEP));
    kill_actor(a);
    let_not_sweep(f);
    assert_false(tell(b, KEEP));
    let_sweep(f);
    assert_true(tell(b, KEEP));
    assert_shares(f, 0, 1, 0);
}

static void a_killed_childs_requests_press_no_more(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b;

    limit(f, 2, 0, 1);
    a = start(f);
    b = start(f);
    assert_permitted(b);
    tell(a, PRESS);
    kill_actor(a);
    let_not_sweep(f);
    assert_false(tell(b, KEEP));
    let_sweep(f);
    assert_true(tell(b, KEEP));
    assert_false(tell(b, IS_PRESSED));
    assert_true(tell(b, REUSE));
}

static void the_living_lose_nothing(void **state)
{
    struct fixture *f = *state;
    struct actor *a, *b;

    limit(f, 2, 10, 1);
    a = start(f);
    b = start(f);
    assert_permitted(a);
    assert_true(tell(a, KEEP));
    assert_permitted(b);
    tell(a, PRESS);
    line_up(a);
    line_up(b);
    assert_false(sweep(f));
    assert_false(tell(a, SWEEP));
    assert_false(tell(b, SWEEP));
    assert_shares(f, 1, 1, 1);
    assert_int_equal(count_standing(f), 2);
    kill_actor(a);
    assert_true(tell(b, SWEEP));
    assert_false(tell(b, SWEEP));
    assert_shares(f, 1, 0, 0);
    assert_int_equal(count_standing(f), 1);
}

static void the_dead_are_looked_for_ten_times_a_second(void **state)
{
    struct fixture *f = *state;
    struct actor *a = start(f);
    fcgi_instant now;
    int found;

    assert_permitted(a);
    kill_actor(a);
    fcgi_stats_lock(f->account);
    f->account->swept_at = (apr_uint64_t)fcgi_clock_now();
    found = fcgi_stats_sweep(f->account);
    fcgi_stats_unlock(f->account);
    assert_false(found);
    assert_shares(f, 1, 0, 0);

    fcgi_stats_lock(f->account);
    f->account->swept_at = now = fcgi_clock_now() - apr_time_from_msec(100);
    found = fcgi_stats_sweep(f->account);
    fcgi_stats_unlock(f->account);
    assert_true(found);
    assert_clean(f);
    assert_true((fcgi_instant)f->account->swept_at
                >= now + apr_time_from_msec(100));
}

static void a_new_child_with_a_dead_ones_number_starts_clean(void **state)
{
    struct fixture *f = *state;
    fcgi_account *other, *first = f->account;
    struct actor *a, *b, *c;
    apr_uint32_t number;
    int count;

    count = (int)f->stats.segments[0].capacity;
    assert_int_equal(open_accounts(f, "a", count - 1), count - 1);
    assert_non_null(fcgi_stats_open_configured("fcgi:/run/between"));
    other = fcgi_stats_open_configured("fcgi:/run/other");
    assert_true(fcgi_stats_open_line(other));
    limit(f, 2, 10, 5);
    a = start(f);
    b = start(f);
    f->account = other;
    c = start(f); /* sees the other account alone */
    number = a->me;
    assert_permitted(a);
    assert_true(tell(a, KEEP));
    tell(a, PRESS);
    assert_permitted(b);
    line_up(a);
    assert_permitted(c);
    kill_actor(c);
    kill_actor(a);
    let_not_sweep(f);

    a = start(f);
    assert_int_equal(a->me, number);
    c = start(f);
    assert_clean(f);
    f->account = first;
    assert_shares(f, 1, 0, 0); /* b's */
    assert_int_equal(count_standing(f), 0);
    assert_false(sweep(f));
}

static void there_are_no_more_children_than_numbers(void **state)
{
    struct fixture *f = *state;
    struct answer joined;
    struct actor *actor = NULL;
    int i;

    for (i = 0; i < CHILDREN; i++) {
        actor = start(f);
        assert_int_equal(actor->me, i + 1);
    }
    fork_actor(f, &joined);
    assert_int_not_equal(joined.value, APR_SUCCESS);
    kill_actor(&f->actors[3]);
    assert_int_equal(start(f)->me, 4);
    assert_permitted(actor); /* the last share is there, too */
    assert_shares(f, 1, 0, 0);
}

/* ---- children that live and die at full speed ---- */

/* What all processes of such a test see. */
struct scene {
    apr_uint32_t open, most; /* connections: now, ever */
    apr_uint32_t rounds;     /* done, by all */
    apr_uint32_t mistakes;   /* connections of others that were handed */
};

/* A connection; whose it is. */
struct token {
    pid_t owner;
};

struct player {
    pthread_t thread;
    fcgi_line *line;
    struct scene *scene;
    unsigned int seed;
    int rounds; /* -1: until it is killed */
};

static struct scene *make_scene(void)
{
    struct scene *scene = mmap(NULL, sizeof(*scene), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(scene, MAP_FAILED);
    return scene;
}

static struct token *open_token(struct scene *scene)
{
    struct token *token = malloc(sizeof(*token));
    apr_uint32_t now = __atomic_add_fetch(&scene->open, 1, __ATOMIC_SEQ_CST);
    apr_uint32_t most = __atomic_load_n(&scene->most, __ATOMIC_SEQ_CST);

    while (now > most
           && !__atomic_compare_exchange_n(&scene->most, &most, now, 0,
                                           __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST)) {
    }
    token->owner = getpid();
    return token;
}

static void close_token(struct scene *scene, struct token *token)
{
    __atomic_sub_fetch(&scene->open, 1, __ATOMIC_SEQ_CST);
    free(token);
}

/* A bell that is not heard is a mistake: nobody looks up. */
static fcgi_line_state wait_for_the_bell(struct player *player,
                                         fcgi_waiting *waiting, void **conn)
{
    fcgi_line_state state = FCGI_LINE_WAITING;
    sem_t turn;

    sem_init(&turn, 0, 0);
    fcgi_bell_hang(&waiting->bell, post, &turn);
    while (state == FCGI_LINE_WAITING) {
        if (!fcgi_clock_wait(&turn, LONG)) {
            __atomic_add_fetch(&player->scene->mistakes, 1, __ATOMIC_SEQ_CST);
        }
        state = fcgi_line_look(player->line, waiting, conn);
    }
    fcgi_bell_take_down(&waiting->bell);
    sem_destroy(&turn);
    return state;
}

/* What fcgi_notice.c does, all the time. */
static void *hear_notices(void *data)
{
    apr_interval_time_t time = -1;

    for (;;) {
        time = (fcgi_stats_wait_for_notice(time) ? fcgi_line_tell()
                                                 : fcgi_line_attend())
                   ? apr_time_from_msec(100)
                   : -1;
    }
    return data;
}

static struct token *get_token(struct player *player)
{
    void *conn = NULL;
    fcgi_waiting waiting;
    fcgi_line_state state;

    fcgi_bell_init(&waiting.bell);
    state = fcgi_line_enter(player->line, &waiting);

    if (state == FCGI_LINE_WAITING) {
        fcgi_line_press(player->line);
        state = rand_r(&player->seed) % 8
                    ? wait_for_the_bell(player, &waiting, &conn)
                    : fcgi_line_leave(player->line, &waiting, &conn);
        fcgi_line_unpress(player->line);
        if (state == FCGI_LINE_WAITING) {
            return NULL;
        }
    }
    else if (state == FCGI_LINE_FULL) {
        return NULL;
    }
    if (conn && ((struct token *)conn)->owner != getpid()) {
        __atomic_add_fetch(&player->scene->mistakes, 1, __ATOMIC_SEQ_CST);
        conn = NULL;
    }
    return conn ? conn : open_token(player->scene);
}

/* Hands it on, or keeps it for a moment, or closes it. */
static void give_token(struct player *player, struct token *token)
{
    if (rand_r(&player->seed) % 3 && fcgi_line_hand_on(player->line, token)) {
        return;
    }
    if (fcgi_line_keep(player->line)) {
        if (!fcgi_line_reuse(player->line)) {
            close_token(player->scene, token);
            fcgi_line_drop(player->line);
            return;
        }
    }
    close_token(player->scene, token);
    fcgi_line_free(player->line);
}

static void *play(void *data)
{
    struct player *player = data;
    int i;

    for (i = 0; i != player->rounds; i++) {
        struct timespec moment = { 0, rand_r(&player->seed) % 200000 };
        struct token *token = get_token(player);

        if (token) {
            nanosleep(&moment, NULL);
            give_token(player, token);
            __atomic_add_fetch(&player->scene->rounds, 1, __ATOMIC_SEQ_CST);
        }
    }
    return NULL;
}

#define THREADS   4
#define PROCESSES 20

/* A child of THREADS threads. */
static pid_t fork_players(struct fixture *f, struct scene *scene, int rounds,
                          unsigned int seed)
{
    struct player players[THREADS];
    pthread_t listener;
    fcgi_line line = { .limits = f->limits, .account = f->account };
    pid_t pid = fork_child();
    int i;

    if (pid) {
        return pid;
    }
    if (fcgi_stats_join() != APR_SUCCESS) {
        _exit(1);
    }
    if (pthread_create(&listener, NULL, hear_notices, NULL)) {
        _exit(1);
    }
    for (i = 0; i < THREADS; i++) {
        players[i] =
            (struct player){ 0, &line, scene, seed * THREADS + (unsigned int)i,
                             rounds };
        if (pthread_create(&players[i].thread, NULL, play, &players[i])) {
            _exit(1);
        }
    }
    for (i = 0; i < THREADS; i++) {
        pthread_join(players[i].thread, NULL);
    }
    _exit(0);
}

static void many_threads_of_many_children_share_the_permits(void **state)
{
    const int rounds = 100;
    struct fixture *f = *state;
    struct scene *scene = make_scene();
    pid_t pids[PROCESSES];
    unsigned int i;

    assert_int_equal(make_stats(f, &f->stats, APR_LOCK_DEFAULT, PROCESSES),
                     APR_SUCCESS);
    f->account = fcgi_stats_open_configured("fcgi:/run/app");
    assert_true(fcgi_stats_open_line(f->account));
    limit(f, 3, 100, 2);
    for (i = 0; i < PROCESSES; i++) {
        pids[i] = fork_players(f, scene, rounds, i + 1);
    }
    for (i = 0; i < PROCESSES; i++) {
        int status;

        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_in_range(scene->rounds, PROCESSES * THREADS * rounds / 2,
                    PROCESSES * THREADS * rounds);
    assert_int_equal(scene->mistakes, 0);
    assert_int_equal(scene->most, 3);
    assert_int_equal(scene->open, 0);
    assert_clean(f);
    munmap(scene, sizeof(*scene));
}

/* A child that keeps a connection and uses it again, all the time. */
static pid_t fork_keeper(struct fixture *f, struct scene *scene, int rounds)
{
    fcgi_line line = { .limits = f->limits, .account = f->account };
    fcgi_waiting waiting;
    pid_t pid = fork_child();
    int good;

    if (pid) {
        return pid;
    }
    good = fcgi_stats_join() == APR_SUCCESS
           && fcgi_line_enter(&line, &waiting) == FCGI_LINE_PERMIT;
    __atomic_store_n(&scene->open, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&scene->rounds, 1, __ATOMIC_SEQ_CST);
    while (good && rounds--) {
        good = fcgi_line_keep(&line) && fcgi_line_reuse(&line);
    }
    __atomic_store_n(&scene->open, 0, __ATOMIC_SEQ_CST);
    _exit(!good);
}

static void a_connection_that_is_kept_and_used_counts_once(void **state)
{
    struct fixture *f = *state;
    struct scene *scene = make_scene();
    unsigned int looks = 0;
    int status;
    pid_t pid;

    limit(f, 1, 0, 1);
    pid = fork_keeper(f, scene, 100000);
    while (!__atomic_load_n(&scene->rounds, __ATOMIC_SEQ_CST)) {
        apr_sleep(100);
    }
    while (__atomic_load_n(&scene->open, __ATOMIC_SEQ_CST)) {
        fcgi_line_length length = fcgi_line_measure(f->account);

        if (__atomic_load_n(&scene->open, __ATOMIC_SEQ_CST)) {
            assert_int_equal(length.in_use + length.idle, 1);
            looks++;
        }
    }
    assert_true(looks > 100);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    sweep(f);
    assert_clean(f);
    munmap(scene, sizeof(*scene));
}

/* Whatever a child was doing, it is given back, the lock, too. */
static void a_child_may_be_killed_anywhere(void **state)
{
    const unsigned int times = 40;
    struct fixture *f = *state;
    struct scene *scene = make_scene();
    unsigned int i;

    limit(f, 2, 100, 2);
    alarm(100); /* a lock that is not given back would be waited for */
    for (i = 0; i < times; i++) {
        pid_t pid = fork_players(f, scene, -1, i);
        apr_uint32_t enough = scene->rounds + 10 + i % 7;

        while (__atomic_load_n(&scene->rounds, __ATOMIC_SEQ_CST) < enough) {
            assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
        }
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        sweep(f);
        assert_clean(f);
    }
    alarm(0);
    munmap(scene, sizeof(*scene));
}

/* ---- children that are killed while they change a line ---- */

/*
 * With max=2: one connection is dies's and one is stays's; in line are, in
 * this order, stays, dies, stays, dies and late.
 */
struct tableau {
    struct fixture *f;
    struct actor *dies;
    struct actor *owners[3]; /* stays, stays, late */
    apr_uint32_t slots[3];   /* theirs; 0: it had its turn */
    apr_uint32_t dies_in;    /* its first slot */
    int held[3];             /* permits, of the same owners */
};

static void set_tableau(struct tableau *t)
{
    t->dies = start(t->f);
    assert_permitted(t->dies);
    assert_permitted(t->owners[0]);
    t->held[0] = 1;
    t->slots[0] = line_up(t->owners[0]);
    t->dies_in = line_up(t->dies);
    t->slots[1] = line_up(t->owners[1]);
    line_up(t->dies);
    t->slots[2] = line_up(t->owners[2]);
}

/* True if it was killed at that step, false if it has done it all before; then
 * it is killed as well. */
static int die_at(struct actor *actor, struct order last)
{
    struct pollfd ready = { actor->fd, POLLIN, 0 };
    struct answer answer;
    int done;

    order(actor, last);
    assert_int_equal(poll(&ready, 1, PATIENCE), 1);
    done = read(actor->fd, &answer, sizeof(answer)) == sizeof(answer);
    kill_actor(actor);
    return !done;
}

/* An order to the one that dies, after what goes before it. */
typedef struct order prepare(struct tableau *t);

static struct order enters(struct tableau *t)
{
    (void)t;
    return (struct order){ .verb = ENTER };
}

static struct order leaves(struct tableau *t)
{
    return (struct order){ .verb = LEAVE, .slot = t->dies_in };
}

static struct order frees(struct tableau *t)
{
    (void)t;
    return (struct order){ .verb = FREE };
}

static void first_has_its_turn(struct tableau *t)
{
    tell(t->owners[0], FREE);
    assert_granted(t->owners[0], t->slots[0]);
    t->slots[0] = 0;
}

/* To its own first. */
static struct order hands_on(struct tableau *t)
{
    first_has_its_turn(t);
    return (struct order){ .verb = HAND_ON, .conn = t->f };
}

/* A grant that another child gave it. */
static struct order picks_up(struct tableau *t)
{
    first_has_its_turn(t);
    tell(t->owners[0], FREE);
    t->held[0] = 0;
    return (struct order){ .verb = WAIT, .slot = t->dies_in };
}

static struct order clears_the_dead(struct tableau *t)
{
    struct actor *dead = start(t->f);

    line_up(dead);
    line_up(dead);
    kill_actor(dead);
    return (struct order){ .verb = SWEEP };
}

/* What another left half done. */
static struct order repairs(struct tableau *t)
{
    struct actor *dead = start(t->f);

    assert_true(die_at(dead, (struct order){ .verb = ENTER, .kill_at = 9 }));
    return (struct order){ .verb = SWEEP };
}

static prepare *const prepares[] = { enters,   leaves,   frees,
                                     hands_on, picks_up, clears_the_dead,
                                     repairs };

/* Nobody has a grant before one that came sooner. */
static void assert_order(const struct tableau *t)
{
    int i, waits = 0;

    for (i = 0; i < 3; i++) {
        fcgi_slot *slot = &t->f->account->line->slot[t->slots[i]];

        if (t->slots[i]) {
            assert_int_equal(slot->child, t->owners[i]->me);
            waits |= slot->state == FCGI_SLOT_WAITS;
            assert_true(!waits || slot->state == FCGI_SLOT_WAITS);
        }
    }
}

/* The others lose nothing: each has its turn, and the counts are right. */
static void end_tableau(struct tableau *t)
{
    int i, j;

    let_sweep(t->f);
    tell(t->owners[0], SWEEP);
    assert_int_equal(t->f->account->line->dirty, 0);
    for (i = 0; i < 3; i++) {
        assert_order(t);
        if (t->slots[i]) {
            assert_granted(t->owners[i], t->slots[i]);
            t->slots[i] = 0;
            t->held[i]++;
        }
        assert_shares(
            t->f, (apr_uint32_t)(t->held[0] + t->held[1] + t->held[2]), 0, 0);
        for (j = 0; j < 3; j++) {
            for (; t->held[j]; t->held[j]--) {
                tell(t->owners[j], FREE);
            }
        }
    }
    assert_clean(t->f);
}

/* Returns at how many steps that was. */
static unsigned int die_at_each_step(struct tableau *t, prepare *prepare)
{
    unsigned int step = 0;
    int killed = 1;

    while (killed) {
        struct order last;

        set_tableau(t);
        last = prepare(t);
        last.kill_at = ++step;
        killed = die_at(t->dies, last);
        end_tableau(t);
    }
    return step - 1;
}

static void a_child_may_be_killed_at_any_step_of_a_change(void **state)
{
    struct fixture *f = *state;
    struct tableau t = { .f = f };
    unsigned int count = 0;
    size_t i;

    limit(f, 2, 20, 0);
    t.owners[0] = t.owners[1] = start(f);
    t.owners[2] = start(f);
    for (i = 0; i < sizeof(prepares) / sizeof(prepares[0]); i++) {
        unsigned int steps_of = die_at_each_step(&t, prepares[i]);

        assert_true(steps_of > 5);
        count += steps_of;
    }
    print_message("# killed at %u steps\n", count);
    assert_true(f->account->line->used < 20);
}

/* Memory that is made at a restart is not in the children of before, which
 * have no max then. */
static void a_line_may_be_made_at_a_restart(void **state)
{
    struct fixture *f = *state;
    struct actor *before, *after, *last;
    apr_uint32_t slot;

    f->account = fcgi_stats_open_configured("fcgi:/run/late");
    limit(f, 0, 0, 1);
    before = start(f);
    assert_permitted(before);
    assert_true(fcgi_stats_open_line(f->account));
    assert_true(fcgi_stats_open_line(f->account));
    limit(f, 1, 10, 1);
    after = start(f);
    slot = line_up(after);
    line_up(after);
    tell(before, FREE);
    assert_granted(after, slot);
    kill_actor(after);
    let_sweep(f);
    assert_true(tell(before, SWEEP));
    assert_shares(f, 0, 0, 0);
    assert_int_equal(count_standing(f), 1);
    assert_permitted(before);
    tell(before, FREE);
    last = start(f); /* has its number, and clears the line */
    assert_int_equal(count_standing(f), 0);
    assert_permitted(last);
    tell(last, FREE);
    assert_clean(f);
}

/* ---- the lock ---- */

/* A backend's own is there again after the child that had it was killed, and
 * keeps nobody from another backend meanwhile. */
static void a_backends_lock_stops_no_other_and_outlives_its_holder(
    void **state)
{
    struct fixture *f = *state;
    fcgi_account *first = f->account,
                 *second = fcgi_stats_open_configured("fcgi:/run/second");
    struct actor *a = start(f), *b = start(f), *c;

    if (!first->has_own_lock) {
        print_message("# there are no such locks here\n");
        return;
    }
    assert_true(second->has_own_lock);
    assert_true(fcgi_stats_open_spare("fcgi:/spare")->has_own_lock);
    assert_true(fcgi_stats_open_line(second));
    f->account = second;
    c = start(f);
    tell(a, LOCK);
    order(b, (struct order){ .verb = ENTER });
    assert_permitted(c);
    tell(c, FREE);
    assert_false(poll(&(struct pollfd){ b->fd, POLLIN, 0 }, 1, 0));
    kill_actor(a);
    assert_int_equal(get_answer(b).value, FCGI_LINE_PERMIT);
    tell(b, FREE);
    assert_clean(f);
    f->account = first;
    assert_clean(f);
}

/* All that APR knows here. */
static const apr_lockmech_e mechanisms[] = {
#if APR_HAS_FCNTL_SERIALIZE
    APR_LOCK_FCNTL,
#endif
#if APR_HAS_FLOCK_SERIALIZE
    APR_LOCK_FLOCK,
#endif
#if APR_HAS_SYSVSEM_SERIALIZE
    APR_LOCK_SYSVSEM,
#endif
#if APR_HAS_PROC_PTHREAD_SERIALIZE
    APR_LOCK_PROC_PTHREAD,
#endif
#if APR_HAS_POSIXSEM_SERIALIZE
    APR_LOCK_POSIXSEM,
#endif
    APR_LOCK_DEFAULT
};

/* What is said of a mechanism is true: its lock is there again, or not, after
 * the child that had it was killed. Then all goes on with right counts. */
static void assert_lock_recovers(struct fixture *f, apr_lockmech_e mechanism)
{
    const char *name;
    struct actor *a, *b;
    int recovers;

    assert_int_equal(make_stats(f, &f->stats, mechanism, CHILDREN),
                     APR_SUCCESS);
    name = apr_global_mutex_name(f->stats.lock);
    recovers = fcgi_stats_lock_recovers(f->stats.lock);
    print_message("# %s %s\n", name, recovers ? "recovers" : "does not");
    f->account = fcgi_stats_open_configured("fcgi:/run/app");
    assert_true(fcgi_stats_open_line(f->account));
    f->account->has_own_lock = 0;
    a = start(f);
    b = start(f);
    assert_permitted(a);
    tell(a, LOCK);
    assert_true(apr_global_mutex_trylock(f->stats.lock) != APR_SUCCESS);
    kill_actor(a);
    if (recovers) {
        assert_int_equal(apr_global_mutex_trylock(f->stats.lock), APR_SUCCESS);
        fcgi_stats_unlock(f->account);
        let_sweep(f);
        assert_permitted(b);
        assert_shares(f, 1, 0, 0);
        tell(b, FREE);
        assert_clean(f);
    }
    else {
        assert_true(apr_global_mutex_trylock(f->stats.lock) != APR_SUCCESS);
    }
    kill_actor(b);
}

static void a_lock_is_known_to_outlive_its_killed_holder(void **state)
{
    unsigned int i;

    alarm(100);
    for (i = 0; i < sizeof(mechanisms) / sizeof(mechanisms[0]); i++) {
        assert_lock_recovers(*state, mechanisms[i]);
    }
    alarm(0);
}

/* ---- accounts ---- */

static void an_account_is_found_by_its_name(void **state)
{
    struct fixture *f = *state;
    fcgi_account *other = fcgi_stats_open_configured("fcgi:/run/app2");

    assert_ptr_equal(fcgi_stats_open_configured("fcgi:/run/app"), f->account);
    assert_non_null(other);
    assert_ptr_not_equal(other, f->account);
    assert_ptr_equal(fcgi_stats_open_configured("fcgi:/run/app2"), other);
    assert_string_equal(other->name, "fcgi:/run/app2");
}

static void the_shares_of_an_account_are_its_own(void **state)
{
    struct fixture *f = *state;
    fcgi_account *first = f->account,
                 *second = fcgi_stats_open_configured("b"),
                 *third = fcgi_stats_open_configured("c");
    struct actor *a;
    int i;

    f->account = second;
    limit(f, 0, 0, 0);
    for (i = 0; i < CHILDREN; i++) {
        a = start(f);
        assert_permitted(a);
        assert_int_equal(second->shares[a->me - 1].in_use, 1);
    }
    assert_shares(f, CHILDREN, 0, 0);
    f->account = first;
    assert_clean(f);
    assert_string_equal(third->name, "c");
    f->account = third;
    assert_clean(f);
}

static void a_name_too_long_has_no_account(void **state)
{
    char name[FCGI_STATS_NAME_LEN + 1];
    fcgi_account *account;

    (void)state;
    memset(name, 'x', sizeof(name));
    name[FCGI_STATS_NAME_LEN] = '\0';
    assert_null(fcgi_stats_open_configured(name));
    name[FCGI_STATS_NAME_LEN - 1] = '\0';
    account = fcgi_stats_open_configured(name);
    assert_non_null(account);
    assert_string_equal(account->name, name);
    assert_ptr_equal(fcgi_stats_open_configured(name), account);
}

static void the_configurations_accounts_get_memory(void **state)
{
    struct fixture *f = *state;
    fcgi_account *last;
    int count = (int)f->stats.segments[0].capacity;

    assert_int_equal(open_accounts(f, "a", count - 1), count - 1);
    assert_null(f->stats.segments[1].head);
    assert_int_equal(open_accounts(f, "a", count - 1), count - 1);
    assert_null(f->stats.segments[1].head);
    last = fcgi_stats_open_configured("fcgi:/last");
    assert_non_null(last);
    assert_non_null(f->stats.segments[1].head);

    /* as restarts do that bring other backends each time */
    assert_int_equal(open_accounts(f, "b", 500), 500);
    assert_int_equal(open_accounts(f, "c", 500), 500);
    assert_int_equal(open_accounts(f, "b", 500), 500);
    assert_null(f->stats.segments[4].head);
    assert_ptr_equal(fcgi_stats_open_configured("fcgi:/last"), last);
    assert_ptr_equal(fcgi_stats_open_spare("fcgi:/last"), last);
    assert_ptr_equal(fcgi_stats_open_configured("fcgi:/run/app"), f->account);
}

static void requests_can_name_so_many_and_no_more(void **state)
{
    struct fixture *f = *state;
    fcgi_account *first = fcgi_stats_open_spare("fcgi:/first");
    int i;

    assert_non_null(first);
    for (i = 1; i < FCGI_STATS_SPARE; i++) {
        assert_non_null(
            fcgi_stats_open_spare(apr_psprintf(f->pool, "fcgi:/spare-%d", i)));
        assert_ptr_equal(fcgi_stats_open_spare("fcgi:/first"), first);
        assert_ptr_equal(fcgi_stats_open_spare("fcgi:/run/app"), f->account);
    }
    assert_null(fcgi_stats_open_spare("fcgi:/more"));
    assert_ptr_equal(fcgi_stats_open_spare("fcgi:/first"), first);
    assert_ptr_equal(fcgi_stats_open_spare("fcgi:/run/app"), f->account);
    assert_ptr_equal(fcgi_stats_open_configured("fcgi:/first"), first);
    assert_non_null(fcgi_stats_open_configured("fcgi:/more"));
    assert_non_null(fcgi_stats_open_spare("fcgi:/more"));
}

/* Memory that a child makes is not seen by others. */
static void requests_get_no_memory(void **state)
{
    struct fixture *f = *state;
    int count = (int)f->stats.segments[0].capacity;

    assert_int_equal(open_accounts(f, "a", count - 1), count - 1);
    assert_null(fcgi_stats_open_spare("fcgi:/more"));
    assert_null(f->stats.segments[1].head);
}

/* The memory of before, in a new configuration, with other memory made in
 * between. */
static void a_restart_keeps_accounts_and_what_children_hold(void **state)
{
    struct fixture *f = *state;
    fcgi_stats between;
    struct actor *before, *after;
    apr_uint32_t slot;

    limit(f, 2, 10, 0);
    before = start(f);
    assert_permitted(before);
    assert_permitted(before);

    assert_int_equal(make_stats(f, &between, APR_LOCK_DEFAULT, CHILDREN),
                     APR_SUCCESS);
    assert_ptr_not_equal(fcgi_stats_open_configured("fcgi:/run/app"),
                         f->account);
    fcgi_stats_use(NULL);
    assert_null(fcgi_stats_open_configured("fcgi:/run/app"));
    fcgi_stats_use(&f->stats);
    assert_int_equal(open_accounts(f, "new", 300), 300);
    assert_ptr_equal(fcgi_stats_open_configured("fcgi:/run/app"), f->account);

    after = start(f);
    assert_int_not_equal(after->me, before->me);
    slot = line_up(after);
    assert_waiting(after, slot);
    order(after, (struct order){ WAIT, slot, LONG, NULL, 0 });
    tell(before, FREE);
    assert_int_equal(get_answer(after).value, FCGI_LINE_PERMIT);
    kill_actor(before);
    let_sweep(f);
    assert_permitted(after);
    assert_shares(f, 2, 0, 0);
}

/* ---- failures ---- */

static void failures_are_said_once_a_second(void **state)
{
    struct fixture *f = *state;
    struct actor *a = start(f), *b = start(f);
    struct answer said = ask(a, (struct order){ .verb = FAILED });
    int i;

    assert_true(said.value);
    assert_int_equal(said.number, 0);
    assert_true(f->account->failed_at
                > fcgi_clock_now() - apr_time_from_sec(30));

    /* as if all this were in the same second */
    for (i = 0; i < 6; i++) {
        fcgi_stats_lock(f->account);
        f->account->failed_at = fcgi_clock_now();
        fcgi_stats_unlock(f->account);
        assert_false(tell(i % 3 ? a : b, FAILED));
    }
    fcgi_stats_lock(f->account);
    f->account->failed_at = fcgi_clock_now() - apr_time_from_sec(1);
    fcgi_stats_unlock(f->account);
    said = ask(b, (struct order){ .verb = FAILED });
    assert_true(said.value);
    assert_int_equal(said.number, 6);

    fcgi_stats_lock(f->account);
    assert_true(f->account->failed_at
                > fcgi_clock_now() - apr_time_from_sec(30));
    fcgi_stats_unlock(f->account);
}

static void without_an_account_every_failure_is_said(void **state)
{
    apr_uint32_t others = 5;
    int i;

    (void)state;
    for (i = 0; i < 3; i++) {
        assert_true(fcgi_stats_failed(NULL, &others));
        assert_int_equal(others, 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(permits_are_counted_over_all_children),
        TEST(permits_are_granted_in_order_of_coming),
        TEST(who_comes_last_is_last_at_any_spot),
        TEST(who_enters_stands_behind_those_in_line),
        TEST(several_free_places_call_as_many),
        TEST(a_full_line_takes_nobody),
        TEST(the_line_ends_where_its_memory_does),
        TEST(who_has_left_is_not_called),
        TEST(who_leaves_after_the_grant_has_the_permit),
        TEST(a_grant_wakes_a_waiter_of_another_child),
        TEST(a_grant_is_for_one_waiter_only),
        TEST(without_max_anybody_has_a_permit),
        TEST(without_an_account_nothing_is_counted),
        TEST(a_connection_goes_to_the_first_of_its_own_child),
        TEST(a_connection_is_handed_once),
        TEST(above_a_lower_max_nothing_is_kept_or_handed_on),
        TEST(as_many_are_kept_as_keepalive_says),
        TEST(nothing_is_kept_while_anybody_waits),
        TEST(who_presses_meanwhile_is_seen_by_the_next_look),
        TEST(nothing_is_used_again_while_anybody_waits),
        TEST(an_idle_connection_has_a_permit_until_it_is_dropped),
        TEST(who_keeps_a_connection_hears_of_who_waits),
        TEST(notices_of_before_are_one),
        TEST(a_child_attends_while_any_of_its_own_waits),
        TEST(no_ring_is_lost_and_none_comes_late),
        TEST(a_killed_childs_permits_are_free),
        TEST(a_killed_childs_permits_come_to_who_waits),
        TEST(who_enters_brings_the_dead_ones_permit_to_who_waits),
        TEST(a_killed_child_stands_in_line_no_more),
        TEST(a_killed_childs_grant_goes_to_the_next),
        TEST(a_grant_given_to_a_dead_child_goes_to_the_next),
        TEST(what_was_handed_in_a_killed_child_is_given_back),
        TEST(a_killed_childs_idle_connections_are_gone),
        TEST(a_killed_childs_requests_press_no_more),
        TEST(the_living_lose_nothing),
        TEST(the_dead_are_looked_for_ten_times_a_second),
        TEST(a_new_child_with_a_dead_ones_number_starts_clean),
        TEST(there_are_no_more_children_than_numbers),
        TEST(many_threads_of_many_children_share_the_permits),
        TEST(a_connection_that_is_kept_and_used_counts_once),
        TEST(a_child_may_be_killed_anywhere),
        TEST(a_child_may_be_killed_at_any_step_of_a_change),
        cmocka_unit_test_setup_teardown(
            a_child_may_be_killed_at_any_step_of_a_change, setup_with_one_lock,
            teardown),
        TEST(a_line_may_be_made_at_a_restart),
        TEST(a_backends_lock_stops_no_other_and_outlives_its_holder),
        TEST(a_lock_is_known_to_outlive_its_killed_holder),
        TEST(an_account_is_found_by_its_name),
        TEST(the_shares_of_an_account_are_its_own),
        TEST(a_name_too_long_has_no_account),
        TEST(the_configurations_accounts_get_memory),
        TEST(requests_can_name_so_many_and_no_more),
        TEST(requests_get_no_memory),
        TEST(a_restart_keeps_accounts_and_what_children_hold),
        TEST(failures_are_said_once_a_second),
        TEST(without_an_account_every_failure_is_said),
    };

    apr_initialize();
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("line", tests, NULL, NULL);
}
