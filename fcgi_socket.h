/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_socket.h - the calls that an application's socket gets while a request is
 * on it. None of them waits, whatever mode the socket is in, but reading if that
 * is asked for: a thread that has nothing else to do saves asking the system
 * first whether there is something. APR has neither, as with it a socket's mode
 * decides for all calls.
 */
#ifndef FCGI_SOCKET_H
#define FCGI_SOCKET_H

#include <apr_network_io.h>

/* So long reading waits at the most, in microseconds; the system may count in
 * steps of some milliseconds. It sees nothing else meanwhile. */
#define FCGI_SOCKET_PATIENCE apr_time_from_msec(20)

/* What a socket says that nobody has asked anything. */
typedef enum {
    FCGI_SOCKET_QUIET, /* nothing */
    FCGI_SOCKET_SAYS,  /* a byte is there */
    FCGI_SOCKET_ENDED  /* it is closed, or has failed */
} fcgi_socket_sound;

/* Listens without taking anything. */
fcgi_socket_sound fcgi_socket_listen(apr_socket_t *socket);

/* Makes it possible that reading waits, or makes the socket non-blocking (0),
 * which apr_socket_sendfile() needs to not wait. */
apr_status_t fcgi_socket_set_patient(apr_socket_t *socket, int patient);

/*
 * Reads up to *len bytes into data, and sets *len. With wait a patient socket
 * waits for the first byte. APR_SUCCESS; APR_EAGAIN, nothing is there (yet); APR_EOF;
 * or why it has failed. *len is 0 then.
 */
apr_status_t fcgi_socket_recv(apr_socket_t *socket, char *data,
                              apr_size_t *len, int wait);

/* Writes count pieces, as much as there is room for, and sets *sent. Errors as
 * above. */
apr_status_t fcgi_socket_send(apr_socket_t *socket, struct iovec *pieces,
                              int count, apr_size_t *sent);

#endif
