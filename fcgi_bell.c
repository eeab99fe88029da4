/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_bell.c - the contract is in fcgi_bell.h. One mutex for all bells of the
 * process, as they ring for a moment only.
 */
#include "fcgi_bell.h"

#include <pthread.h>
#include <stddef.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

void fcgi_bell_init(fcgi_bell *bell)
{
    bell->ring = NULL;
    bell->baton = NULL;
    bell->rung = 0;
}

void fcgi_bell_hang(fcgi_bell *bell, void (*ring)(void *baton), void *baton)
{
    pthread_mutex_lock(&mutex);
    bell->ring = ring;
    bell->baton = baton;
    if (bell->rung) {
        bell->rung = 0;
        ring(baton);
    }
    pthread_mutex_unlock(&mutex);
}

void fcgi_bell_take_down(fcgi_bell *bell)
{
    pthread_mutex_lock(&mutex);
    bell->ring = NULL;
    pthread_mutex_unlock(&mutex);
}

void fcgi_bell_ring(fcgi_bell *bell)
{
    pthread_mutex_lock(&mutex);
    if (bell->ring) {
        bell->ring(bell->baton);
    }
    else {
        bell->rung = 1;
    }
    pthread_mutex_unlock(&mutex);
}
