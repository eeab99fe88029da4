/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * test_slots.c - what fcgi_slots.h promises: the order, the last slot, how few
 * slots each step looks at, and that a process may be killed at any of them.
 * fcgi_slots.c is compiled with a call of count_step() wherever it looks at a
 * slot or writes a word. Knows no permits; t/04-line.t compiles and runs it.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <apr_general.h>

#include "fcgi_slots.h"

#define CHILDREN 5

/* Whose steps are cut short, and what is left of them then. */
#define VICTIM 2

/* Far more than any step on one slot needs, and far less than a walk. */
#define FEW 60

struct fixture {
    apr_pool_t *pool;
    fcgi_slots *slots;
};

static unsigned int steps;   /* since it was set to 0 */
static unsigned int kill_at; /* at this step; 0: never */

void count_step(void);

void count_step(void)
{
    if (++steps == kill_at) {
        kill(getpid(), SIGKILL);
    }
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    *state = f;
    if (!f || apr_pool_create(&f->pool, NULL) != APR_SUCCESS) {
        return -1;
    }
    f->slots = fcgi_slots_create(f->pool, CHILDREN);
    return f->slots ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    apr_pool_destroy(f->pool);
    free(f);
    return 0;
}

/* ---- is all of it as the slots say? ---- */

/* Returns the length of a list; each in it is of that child (0: of any) and in
 * that state, and the lists are in order where those that wait stand. */
static apr_uint32_t check_list(fcgi_slots *slots, const fcgi_slot_list *list,
                               apr_uint32_t child, fcgi_slot_state is)
{
    apr_uint32_t number = list->first, before = 0, count = 0;
    apr_uint64_t ticket = 0;

    while (number) {
        fcgi_slot *slot = &slots->slot[number];

        assert_in_range(number, 1, slots->used);
        assert_int_not_equal(slot->child, 0);
        assert_true(!child || slot->child == child);
        assert_int_equal(slot->state, is);
        assert_int_equal(slot->before, before);
        if (is == FCGI_SLOT_WAITS) {
            assert_true(!before || slot->ticket > ticket);
            ticket = slot->ticket;
        }
        assert_true(++count <= slots->used);
        before = number;
        number = slot->next;
    }
    assert_int_equal(list->last, before);
    return count;
}

static void check_free(fcgi_slots *slots, apr_uint32_t expected)
{
    apr_uint32_t number = slots->free;

    while (number) {
        assert_int_equal(slots->slot[number].child, 0);
        assert_true(expected-- > 0);
        number = slots->slot[number].next;
    }
    assert_int_equal(expected, 0);
}

static void check(fcgi_slots *slots)
{
    apr_uint32_t counts[CHILDREN + 1][3] = { { 0 } };
    apr_uint32_t i, waiting = 0, granted = 0, unused = 0;

    assert_int_equal(slots->dirty, 0);
    for (i = 1; i <= slots->used; i++) {
        fcgi_slot *slot = &slots->slot[i];

        unused += slot->child == 0;
        waiting += slot->child && slot->state == FCGI_SLOT_WAITS;
        granted += slot->child && slot->state != FCGI_SLOT_WAITS;
        counts[slot->child][slot->state]++;
    }
    assert_int_equal(slots->waiting, waiting);
    assert_int_equal(slots->granted, granted);
    assert_int_equal(check_list(slots, &slots->line, 0, FCGI_SLOT_WAITS),
                     waiting);
    check_free(slots, unused);
    for (i = 1; i <= CHILDREN; i++) {
        fcgi_stand *stand = &slots->stands[i - 1];

        assert_int_equal(stand->count,
                         counts[i][0] + counts[i][1] + counts[i][2]);
        assert_int_equal(
            check_list(slots, &stand->granted, i, FCGI_SLOT_GRANTED),
            counts[i][1]);
    }
}

static void assert_empty(fcgi_slots *slots)
{
    check(slots);
    assert_int_equal(slots->waiting, 0);
    assert_int_equal(slots->granted, 0);
}

static apr_uint32_t take(fcgi_slots *slots, apr_uint32_t child)
{
    apr_uint32_t number = fcgi_slots_take(slots, child, slots);

    assert_int_not_equal(number, 0);
    return number;
}

/* ---- one process ---- */

static void who_comes_first_is_first(void **state)
{
    fcgi_slots *slots = ((struct fixture *)*state)->slots;
    apr_uint32_t numbers[4], i;

    for (i = 0; i < 4; i++) {
        numbers[i] = take(slots, i % 2 + 1);
        check(slots);
    }
    fcgi_slots_leave(slots, numbers[1]);
    check(slots);
    numbers[1] = take(slots, 3); /* the same slot, at the end */
    check(slots);
    for (i = 0; i < 4; i++) {
        static const int order[] = { 0, 2, 3, 1 };
        apr_uint32_t number = numbers[order[i]];

        assert_int_equal(slots->line.first, number);
        fcgi_slots_grant(slots, number,
                         i % 2 ? FCGI_SLOT_TOLD : FCGI_SLOT_GRANTED);
        check(slots);
    }
    for (i = 0; i < 4; i++) {
        fcgi_slots_leave(slots, numbers[i]);
        check(slots);
    }
    assert_empty(slots);
}

static void a_child_is_told_of_each_grant_once(void **state)
{
    fcgi_slots *slots = ((struct fixture *)*state)->slots;
    apr_uint32_t one = take(slots, 1), two = take(slots, 1);
    apr_uint32_t other = take(slots, 2), known = take(slots, 1);

    assert_int_equal(fcgi_slots_tell(slots, 1), 0);
    fcgi_slots_grant(slots, one, FCGI_SLOT_GRANTED);
    fcgi_slots_grant(slots, two, FCGI_SLOT_GRANTED);
    fcgi_slots_grant(slots, other, FCGI_SLOT_GRANTED);
    fcgi_slots_grant(slots, known, FCGI_SLOT_TOLD);
    assert_int_equal(fcgi_slots_tell(slots, 1), one);
    assert_int_equal(fcgi_slots_tell(slots, 1), two);
    assert_int_equal(fcgi_slots_tell(slots, 1), 0);
    assert_int_equal(fcgi_slots_tell(slots, 2), other);
    check(slots);
    fcgi_slots_leave(slots, two);
    fcgi_slots_leave(slots, other);
    fcgi_slots_leave(slots, one);
    fcgi_slots_leave(slots, known);
    assert_empty(slots);
}

static void there_are_as_many_slots_as_is_said(void **state)
{
    fcgi_slots *slots = ((struct fixture *)*state)->slots;
    apr_uint32_t i;

    for (i = 0; i < FCGI_SLOTS_MAX; i++) {
        assert_in_range(take(slots, i % CHILDREN + 1), 1, FCGI_SLOTS_MAX);
    }
    assert_int_equal(slots->waiting, 65535);
    assert_int_equal(fcgi_slots_take(slots, 1, slots), 0);
    check(slots);
    fcgi_slots_leave(slots, 40000);
    assert_int_equal(take(slots, 1), 40000);
    assert_int_equal(fcgi_slots_take(slots, 1, slots), 0);
    check(slots);
    assert_int_equal(slots->line.last, 40000);
    for (i = 1; i <= CHILDREN; i++) {
        assert_true(fcgi_slots_clear(slots, i));
        assert_false(fcgi_slots_clear(slots, i));
        check(slots);
    }
    assert_empty(slots);
}

/* What one of everything costs behind so many: in slots looked at and words
 * written. */
struct price {
    unsigned int take, leave, grant, tell, tells_nothing, pick_up;
};

static struct price ask_price(fcgi_slots *slots, apr_uint32_t count)
{
    apr_uint32_t middle = 0, number;
    struct price price;

    while (slots->waiting < count) {
        number = take(slots, 1);
        middle = slots->waiting == count / 2 ? number : middle;
    }
    steps = 0;
    take(slots, 1);
    price.take = steps;
    steps = 0;
    fcgi_slots_leave(slots, middle);
    price.leave = steps;
    steps = 0;
    number = slots->line.first;
    fcgi_slots_grant(slots, number, FCGI_SLOT_GRANTED);
    price.grant = steps;
    steps = 0;
    fcgi_slots_tell(slots, 1);
    price.tell = steps;
    steps = 0;
    fcgi_slots_tell(slots, 1);
    price.tells_nothing = steps;
    steps = 0;
    fcgi_slots_leave(slots, number);
    price.pick_up = steps;
    check(slots);
    return price;
}

static void a_step_is_as_short_before_65535_as_before_10(void **state)
{
    fcgi_slots *slots = ((struct fixture *)*state)->slots;
    struct price few = ask_price(slots, 10), many;

    while (slots->line.first) {
        fcgi_slots_leave(slots, slots->line.first);
    }
    many = ask_price(slots, FCGI_SLOTS_MAX - 1);
    print_message("# take %u, leave %u, grant %u, tell %u, pick up %u\n",
                  many.take, many.leave, many.grant, many.tell, many.pick_up);
    assert_in_range(many.take, 1, FEW);
    assert_in_range(many.leave, 1, FEW);
    assert_in_range(many.grant, 1, FEW);
    assert_in_range(many.tell, 1, FEW);
    assert_in_range(many.pick_up, 1, FEW);
    assert_in_range(many.take, 1, few.take + 4); /* from the free list */
    assert_int_equal(many.leave, few.leave);
    assert_int_equal(many.grant, few.grant);
    assert_int_equal(many.tell, few.tell);
    assert_int_equal(many.tells_nothing, few.tells_nothing);
    assert_int_equal(many.pick_up, few.pick_up);
}

/* ---- a process that is killed ---- */

/* Those of the living, in their order. */
struct scene {
    apr_uint32_t living[6];
    apr_uint32_t own[3]; /* the victim's: waits, granted, waits */
};

static void set_scene(fcgi_slots *slots, struct scene *scene)
{
    static const apr_uint32_t children[] = { 1, VICTIM, 3, VICTIM, 1,
                                             3, VICTIM, 4, 5 };
    apr_uint32_t numbers[9], i, living = 0, own = 0;

    for (i = 0; i < 9; i++) {
        numbers[i] = take(slots, children[i]);
        if (children[i] == VICTIM) {
            scene->own[own++] = numbers[i];
        }
        else {
            scene->living[living++] = numbers[i];
        }
    }
    fcgi_slots_grant(slots, scene->own[1], FCGI_SLOT_GRANTED);
    check(slots);
}

/* What the victim does. */
typedef void deed(fcgi_slots *slots, const struct scene *scene);

static void do_take(fcgi_slots *slots, const struct scene *scene)
{
    (void)scene;
    fcgi_slots_take(slots, VICTIM, slots);
}

static void do_leave_first(fcgi_slots *slots, const struct scene *scene)
{
    fcgi_slots_leave(slots, scene->own[0]);
}

static void do_leave_others(fcgi_slots *slots, const struct scene *scene)
{
    fcgi_slots_leave(slots, scene->own[1]);
    fcgi_slots_leave(slots, scene->own[2]);
}

static void do_tell_and_pick_up(fcgi_slots *slots, const struct scene *scene)
{
    fcgi_slots_leave(slots, fcgi_slots_tell(slots, VICTIM));
    (void)scene;
}

static void do_grant_others(fcgi_slots *slots, const struct scene *scene)
{
    fcgi_slots_grant(slots, scene->living[0], FCGI_SLOT_GRANTED);
}

static void do_grant_own(fcgi_slots *slots, const struct scene *scene)
{
    fcgi_slots_grant(slots, scene->own[0], FCGI_SLOT_TOLD);
}

/* In the middle of a change: its repair is killed, too. */
static void do_repair(fcgi_slots *slots, const struct scene *scene)
{
    (void)scene;
    slots->dirty = 1;
    slots->line.first = 0;
    fcgi_slots_repair(slots);
}

static void do_clear_itself(fcgi_slots *slots, const struct scene *scene)
{
    (void)scene;
    fcgi_slots_clear(slots, VICTIM);
}

static deed *const deeds[] = { do_take,         do_leave_first,
                               do_leave_others, do_tell_and_pick_up,
                               do_grant_others, do_grant_own,
                               do_repair,       do_clear_itself };

/* True if it was killed at that step, false if it came to its end before. */
static int kill_in(fcgi_slots *slots, const struct scene *scene, deed *deed,
                   unsigned int step)
{
    int status = 0;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        steps = 0;
        kill_at = step;
        deed(slots, scene);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) || status == 0);
    return WIFSIGNALED(status);
}

/* All of the living have lost nothing, and stand as before. */
static void check_living(fcgi_slots *slots, const struct scene *scene,
                         int granted)
{
    apr_uint32_t number = slots->line.first;
    int i;

    for (i = granted; i < 6; i++) {
        assert_int_equal(number, scene->living[i]);
        number = slots->slot[number].next;
    }
    assert_int_equal(number, 0);
    assert_int_equal(slots->granted, granted);
    if (granted) {
        assert_int_equal(fcgi_slots_tell(slots, 1), scene->living[0]);
    }
}

/* Whoever was granted, and is alive. */
static int count_granted(fcgi_slots *slots, const struct scene *scene)
{
    return slots->slot[scene->living[0]].state != FCGI_SLOT_WAITS;
}

static void clear_scene(fcgi_slots *slots, const struct scene *scene)
{
    int i;

    for (i = 0; i < 6; i++) {
        fcgi_slots_leave(slots, scene->living[i]);
    }
    assert_empty(slots);
}

static void a_process_may_be_killed_at_any_step(void **state)
{
    fcgi_slots *slots = ((struct fixture *)*state)->slots;
    unsigned int all = 0;
    size_t i;

    for (i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++) {
        unsigned int step = 0;
        int killed = 1;

        while (killed) {
            struct scene scene;

            set_scene(slots, &scene);
            killed = kill_in(slots, &scene, deeds[i], ++step);
            fcgi_slots_repair(slots);
            check(slots);
            fcgi_slots_clear(slots, VICTIM);
            check(slots);
            check_living(slots, &scene, count_granted(slots, &scene));
            clear_scene(slots, &scene);
        }
        assert_true(step > 10);
        all += step;
    }
    print_message("# killed at %u steps\n", all);
    assert_true(slots->used < 20); /* no slot is lost */
}

static void many_are_put_in_order_again(void **state)
{
    fcgi_slots *slots = ((struct fixture *)*state)->slots;
    unsigned int seed = 7;
    apr_uint32_t i;

    for (i = 0; i < FCGI_SLOTS_MAX; i++) {
        take(slots, i % CHILDREN + 1);
    }
    for (i = 0; i < 200000; i++) {
        apr_uint32_t number = 1 + (apr_uint32_t)rand_r(&seed) % FCGI_SLOTS_MAX;

        if (slots->slot[number].child) {
            fcgi_slots_leave(slots, number);
        }
        if (i % 3 == 0) {
            take(slots, i % CHILDREN + 1);
        }
        if (i % 100 == 0) {
            fcgi_slots_grant(slots, slots->line.first,
                             i % 200 ? FCGI_SLOT_GRANTED : FCGI_SLOT_TOLD);
        }
    }
    check(slots);
    i = slots->waiting;
    memset(&slots->line, 0xff, sizeof(slots->line));
    slots->free = slots->waiting = 12345;
    slots->dirty = 1;
    fcgi_slots_repair(slots);
    assert_int_equal(slots->waiting, i);
    check(slots);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_comes_first_is_first),
        TEST(a_child_is_told_of_each_grant_once),
        TEST(there_are_as_many_slots_as_is_said),
        TEST(a_step_is_as_short_before_65535_as_before_10),
        TEST(a_process_may_be_killed_at_any_step),
        TEST(many_are_put_in_order_again),
    };

    apr_initialize();
    return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
