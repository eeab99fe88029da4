/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_socket.h - reading and writing on a connection to an application, and
 * listening on any. No call waits, whatever mode the socket is in
 * (MSG_DONTWAIT), but reading where that is asked for (SO_RCVTIMEO): a thread
 * that has nothing else to wait for saves asking the system first whether there
 * is something. With APR's calls the mode of the socket decides for all of them.
 */
#ifndef FCGI_SOCKET_H
#define FCGI_SOCKET_H

#include <apr_network_io.h>

/* So long reading waits at the most, in microseconds; the system may count in
 * steps of some milliseconds. It sees nothing else meanwhile. */
#define FCGI_SOCKET_PATIENCE apr_time_from_msec(20)

/* What is heard from a socket. */
typedef enum {
    FCGI_SOCKET_QUIET, /* nothing */
    FCGI_SOCKET_SAYS,  /* a byte is there */
    FCGI_SOCKET_ENDED  /* it is closed, or has failed */
} fcgi_socket_sound;

/* Listens without taking anything. */
fcgi_socket_sound fcgi_socket_listen(apr_socket_t *socket);

/* Makes reading able to wait, or the socket non-blocking, as apr_socket_sendfile()
 * needs it. Errors of the system. */
apr_status_t fcgi_socket_set_patient(apr_socket_t *socket, int patient);

/*
 * Reads up to *len bytes into data, and sets *len. With wait a patient socket
 * waits for the first byte. APR_SUCCESS, or with *len 0: APR_EAGAIN, nothing is
 * there yet; APR_EOF; or why it has failed.
 */
apr_status_t fcgi_socket_recv(apr_socket_t *socket, char *data,
                              apr_size_t *len, int wait);

/* Writes count pieces, as much as there is room for, and sets *sent. APR_SUCCESS,
 * or with *sent 0: APR_EAGAIN, there is no room; or why it has failed. */
apr_status_t fcgi_socket_send(apr_socket_t *socket, struct iovec *pieces,
                              int count, apr_size_t *sent);

#endif
