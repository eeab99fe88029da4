/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_slots.h - the memory of one backend's line: a slot for each request
 * that waits, of all children, and lists through them, so that no step looks
 * at more than a few slots, however many wait.
 *
 * The truth is in the slots. What belongs to whom is one word of a slot, which
 * is written at once; lists and counts are made from that again where a
 * process was killed while it changed them. Knows no permits and no backends:
 * fcgi_line.c has the rules, fcgi_stats.c the lock, under which all of this is
 * called and all of it is read, but for what is said to be atomic.
 */
#ifndef FCGI_SLOTS_H
#define FCGI_SLOTS_H

#include <apr_pools.h>

/* Slots of a line; they have the numbers from 1. */
#define FCGI_SLOTS_MAX 65535

/* What one that stands in a slot has. */
typedef enum {
    FCGI_SLOT_WAITS = 0,
    FCGI_SLOT_GRANTED = 1, /* and its child is to be told so */
    FCGI_SLOT_TOLD = 2     /* and its child knows */
} fcgi_slot_state;

typedef struct fcgi_slot {
    apr_uint32_t child;  /* the number of the child whose it is; 0: free */
    apr_uint32_t state;  /* fcgi_slot_state; atomic, for its child */
    apr_uint64_t ticket; /* the lowest is the first */
    void *owner;         /* in that child's memory: only it may follow this */
    apr_uint32_t next;   /* in the list where it is; 0: none */
    apr_uint32_t before;
} fcgi_slot;

/* Numbers of slots. */
typedef struct fcgi_slot_list {
    apr_uint32_t first; /* 0: nobody */
    apr_uint32_t last;
} fcgi_slot_list;

/* The slots of one child. */
typedef struct fcgi_stand {
    apr_uint32_t count;     /* all */
    fcgi_slot_list granted; /* FCGI_SLOT_GRANTED; first is atomic */
} fcgi_stand;

typedef struct fcgi_slots {
    apr_uint32_t dirty;    /* somebody changes what follows, or was killed */
    apr_uint32_t children; /* that can be alive at a time */
    apr_uint32_t used;     /* slots that were ever taken */
    apr_uint32_t free;     /* the first of those that are free again */
    fcgi_slot_list line;   /* FCGI_SLOT_WAITS, in their order */
    apr_uint32_t waiting;  /* how many these are; atomic */
    apr_uint32_t granted;  /* how many have more than that */
    apr_uint64_t next_ticket;
    fcgi_slot slot[FCGI_SLOTS_MAX + 1]; /* 0 is nobody's */
    fcgi_stand stands[];                /* of child 1, 2, ... */
} fcgi_slots;

/* Memory that children inherit, and that costs nothing until it is used. NULL:
 * there is none. */
fcgi_slots *fcgi_slots_create(apr_pool_t *pool, apr_uint32_t children);

/* Makes lists and counts again if a process was killed while it changed them;
 * before anything else under the lock. Its child is to be told anew of a grant
 * of which it was not told for sure. */
void fcgi_slots_repair(fcgi_slots *slots);

/* A slot at the end of the line; 0: none is free. */
apr_uint32_t fcgi_slots_take(fcgi_slots *slots, apr_uint32_t child,
                             void *owner);

/* One that waits has what it waits for; state is FCGI_SLOT_GRANTED, or
 * FCGI_SLOT_TOLD. */
void fcgi_slots_grant(fcgi_slots *slots, apr_uint32_t number,
                      fcgi_slot_state state);

/* One of that child's that it is to be told of: now it is. 0: no more. */
apr_uint32_t fcgi_slots_tell(fcgi_slots *slots, apr_uint32_t child);

/* Gives a slot back, whatever its state. */
void fcgi_slots_leave(fcgi_slots *slots, apr_uint32_t number);

/* Gives all slots of a dead child back; looks at all. True: it had one. */
int fcgi_slots_clear(fcgi_slots *slots, apr_uint32_t child);

#endif
