/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_slots.c - slots and the lists through them; the contract is in
 * fcgi_slots.h. Every change begins with begin_change() and ends with
 * end_change(). A process that is killed between the two leaves the word
 * dirty, and rebuild() makes from the slots what the others need.
 */
#include "fcgi_slots.h"

#include <stddef.h>

#include <apr_atomic.h>
#include <apr_shm.h>

/* A test counts here what is looked at and written, and may be killed. */
#ifdef FCGI_SLOTS_STEP
void FCGI_SLOTS_STEP(void);
#else
#define FCGI_SLOTS_STEP() ((void)0)
#endif

/* Enough lists of 1, 2, 4, ... slots to sort all. */
#define SORTED_LISTS 17

static fcgi_slot *slot_at(fcgi_slots *slots, apr_uint32_t number)
{
    FCGI_SLOTS_STEP();
    return &slots->slot[number];
}

static fcgi_stand *stand_of(fcgi_slots *slots, apr_uint32_t child)
{
    return &slots->stands[child - 1];
}

/* At once, and in the order of the calls. */
static void set(apr_uint32_t *word, apr_uint32_t value)
{
    FCGI_SLOTS_STEP();
    apr_atomic_set32(word, value);
}

static void begin_change(fcgi_slots *slots)
{
    set(&slots->dirty, 1);
}

static void end_change(fcgi_slots *slots)
{
    set(&slots->dirty, 0);
}

fcgi_slots *fcgi_slots_create(apr_pool_t *pool, apr_uint32_t children)
{
    fcgi_slots *slots;
    apr_shm_t *memory;

    if (apr_shm_create(&memory,
                       offsetof(fcgi_slots, stands)
                           + children * sizeof(fcgi_stand),
                       NULL, pool)
        != APR_SUCCESS) {
        return NULL; /* the machine has no memory */
    }
    slots = apr_shm_baseaddr_get(memory);
    slots->children = children;
    return slots;
}

/* ---- lists ---- */

static void append(fcgi_slots *slots, fcgi_slot_list *list,
                   apr_uint32_t number)
{
    fcgi_slot *slot = slot_at(slots, number);

    set(&slot->next, 0);
    set(&slot->before, list->last);
    if (list->last) {
        set(&slot_at(slots, list->last)->next, number);
    }
    else {
        set(&list->first, number);
    }
    set(&list->last, number);
}

static void take_out(fcgi_slots *slots, fcgi_slot_list *list,
                     apr_uint32_t number)
{
    fcgi_slot *slot = slot_at(slots, number);

    if (slot->before) {
        set(&slot_at(slots, slot->before)->next, slot->next);
    }
    else {
        set(&list->first, slot->next);
    }
    if (slot->next) {
        set(&slot_at(slots, slot->next)->before, slot->before);
    }
    else {
        set(&list->last, slot->before);
    }
}

static void add_free(fcgi_slots *slots, apr_uint32_t number)
{
    set(&slot_at(slots, number)->next, slots->free);
    set(&slots->free, number);
}

/* A free slot, out of its list; 0: none. */
static apr_uint32_t take_free(fcgi_slots *slots)
{
    apr_uint32_t number = slots->free;

    if (number) {
        set(&slots->free, slot_at(slots, number)->next);
    }
    else if (slots->used < FCGI_SLOTS_MAX) {
        number = slots->used + 1;
        set(&slots->used, number);
    }
    return number;
}

/* ---- from the slots alone ---- */

/* Two chains of slots, each in order, as one. */
static apr_uint32_t merge(fcgi_slots *slots, apr_uint32_t one,
                          apr_uint32_t other)
{
    apr_uint32_t first = 0, *end = &first;

    while (one && other) {
        apr_uint32_t *lower =
            slot_at(slots, one)->ticket < slot_at(slots, other)->ticket
                ? &one
                : &other;

        *end = *lower;
        end = &slot_at(slots, *lower)->next;
        *lower = *end;
    }
    *end = one ? one : other;
    return first;
}

/* Adds a slot to chains of which each is empty or in order, the next of twice
 * the length. */
static void sort_in(fcgi_slots *slots, apr_uint32_t *sorted,
                    apr_uint32_t number)
{
    set(&slot_at(slots, number)->next, 0);
    for (; *sorted; sorted++) {
        number = merge(slots, *sorted, number);
        *sorted = 0;
    }
    *sorted = number;
}

static void line_up(fcgi_slots *slots, const apr_uint32_t *sorted)
{
    apr_uint32_t number = 0;
    int i;

    for (i = 0; i < SORTED_LISTS; i++) {
        number = merge(slots, sorted[i], number);
    }
    while (number) {
        apr_uint32_t next = slot_at(slots, number)->next;

        append(slots, &slots->line, number);
        set(&slots->waiting, slots->waiting + 1);
        number = next;
    }
}

static void forget(fcgi_slots *slots)
{
    apr_uint32_t child;

    set(&slots->free, 0);
    set(&slots->line.first, 0);
    set(&slots->line.last, 0);
    set(&slots->waiting, 0);
    set(&slots->granted, 0);
    for (child = 1; child <= slots->children; child++) {
        fcgi_stand *stand = stand_of(slots, child);

        set(&stand->count, 0);
        set(&stand->granted.first, 0);
        set(&stand->granted.last, 0);
    }
}

/* One that stands in line, or has a grant. */
static void count_in(fcgi_slots *slots, apr_uint32_t number,
                     apr_uint32_t *sorted)
{
    fcgi_slot *slot = slot_at(slots, number);
    fcgi_stand *stand = stand_of(slots, slot->child);

    set(&stand->count, stand->count + 1);
    if (slot->state == FCGI_SLOT_WAITS) {
        sort_in(slots, sorted, number);
        return;
    }
    set(&slots->granted, slots->granted + 1);
    if (slot->state == FCGI_SLOT_GRANTED) {
        append(slots, &stand->granted, number);
    }
}

/* Ends a change. */
static void rebuild(fcgi_slots *slots)
{
    apr_uint32_t sorted[SORTED_LISTS] = { 0 };
    apr_uint32_t number;

    forget(slots);
    for (number = slots->used; number; number--) {
        if (slot_at(slots, number)->child) {
            count_in(slots, number, sorted);
        }
        else {
            add_free(slots, number);
        }
    }
    line_up(slots, sorted);
    end_change(slots);
}

void fcgi_slots_repair(fcgi_slots *slots)
{
    if (slots->dirty) {
        rebuild(slots);
    }
}

/* ---- one slot ---- */

apr_uint32_t fcgi_slots_take(fcgi_slots *slots, apr_uint32_t child,
                             void *owner)
{
    fcgi_stand *stand = stand_of(slots, child);
    apr_uint32_t number;
    fcgi_slot *slot;

    if (!slots->free && slots->used == FCGI_SLOTS_MAX) {
        return 0;
    }
    begin_change(slots);
    number = take_free(slots);
    slot = slot_at(slots, number);
    slot->ticket = slots->next_ticket++;
    slot->owner = owner;
    set(&slot->state, FCGI_SLOT_WAITS);
    set(&slot->child, child);
    append(slots, &slots->line, number);
    set(&slots->waiting, slots->waiting + 1);
    set(&stand->count, stand->count + 1);
    end_change(slots);
    return number;
}

void fcgi_slots_grant(fcgi_slots *slots, apr_uint32_t number,
                      fcgi_slot_state state)
{
    fcgi_slot *slot = slot_at(slots, number);

    begin_change(slots);
    take_out(slots, &slots->line, number);
    set(&slots->waiting, slots->waiting - 1);
    set(&slots->granted, slots->granted + 1);
    if (state == FCGI_SLOT_GRANTED) {
        append(slots, &stand_of(slots, slot->child)->granted, number);
    }
    set(&slot->state, state);
    end_change(slots);
}

apr_uint32_t fcgi_slots_tell(fcgi_slots *slots, apr_uint32_t child)
{
    fcgi_slot_list *granted = &stand_of(slots, child)->granted;
    apr_uint32_t number = granted->first;

    if (number) {
        begin_change(slots);
        take_out(slots, granted, number);
        set(&slot_at(slots, number)->state, FCGI_SLOT_TOLD);
        end_change(slots);
    }
    return number;
}

void fcgi_slots_leave(fcgi_slots *slots, apr_uint32_t number)
{
    fcgi_slot *slot = slot_at(slots, number);
    fcgi_stand *stand = stand_of(slots, slot->child);

    begin_change(slots);
    if (slot->state == FCGI_SLOT_WAITS) {
        take_out(slots, &slots->line, number);
        set(&slots->waiting, slots->waiting - 1);
    }
    else {
        set(&slots->granted, slots->granted - 1);
    }
    if (slot->state == FCGI_SLOT_GRANTED) {
        take_out(slots, &stand->granted, number);
    }
    set(&slot->child, 0);
    set(&stand->count, stand->count - 1);
    add_free(slots, number);
    end_change(slots);
}

int fcgi_slots_clear(fcgi_slots *slots, apr_uint32_t child)
{
    apr_uint32_t number;

    if (!stand_of(slots, child)->count) {
        return 0;
    }
    begin_change(slots);
    for (number = slots->used; number; number--) {
        fcgi_slot *slot = slot_at(slots, number);

        if (slot->child == child) {
            set(&slot->child, 0);
        }
    }
    rebuild(slots);
    return 1;
}
