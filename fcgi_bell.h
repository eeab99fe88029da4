/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_bell.h - how a request that waits is told that it need not any more, in
 * whatever way it waits: what rings is hung up by who waits, and rung by who
 * has news. No ring is lost: one with nothing hung up waits for that. Knows
 * nothing of what is waited for.
 */
#ifndef FCGI_BELL_H
#define FCGI_BELL_H

/* In the memory of who waits. */
typedef struct fcgi_bell {
    void (*ring)(void *baton); /* NULL: nothing is hung up */
    void *baton;
    int rung; /* with nothing hung up */
} fcgi_bell;

void fcgi_bell_init(fcgi_bell *bell);

/*
 * From now on ring(baton) is called, in any thread, each time the bell is
 * rung; at once if it was before with nothing hung up. It must not wait, nor
 * call anything of fcgi_bell or fcgi_line.
 */
void fcgi_bell_hang(fcgi_bell *bell, void (*ring)(void *baton), void *baton);

/* Not any more: ring is not called after this, nor is it at work. To be called
 * without any lock that ring takes. */
void fcgi_bell_take_down(fcgi_bell *bell);

/* In any thread. */
void fcgi_bell_ring(fcgi_bell *bell);

#endif
