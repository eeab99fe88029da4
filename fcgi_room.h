/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_room.h - how many connections httpd takes at most, said at startup
 * where that is less than what requests that wait without a thread are for.
 * Knows httpd's MPM and its tree of directives; neither requests nor backends.
 */
#ifndef FCGI_ROOM_H
#define FCGI_ROOM_H

#include <httpd.h>

/*
 * In the parent, once all of the configuration is known. Says something only
 * if it is true and of use: the MPM can wait for requests, the configuration
 * asks applications and lets requests wait (FcgiPark), a child does not take a
 * thousand of them, and nobody has set AsyncRequestWorkerFactor, which decides.
 * After a restart only if the numbers are others.
 */
void fcgi_room_log(server_rec *s);

#endif
