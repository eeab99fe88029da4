/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_socket.c - the contract is in fcgi_socket.h.
 */
#include "fcgi_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <sys/socket.h>
#include <sys/time.h>

#include <apr_portable.h>

/* Of a socket that is open. */
static int descriptor_of(apr_socket_t *socket)
{
    apr_os_sock_t fd = -1;

    apr_os_sock_get(&fd, socket);
    return fd;
}

fcgi_socket_sound fcgi_socket_listen(apr_socket_t *socket)
{
    char byte;
    ssize_t len =
        recv(descriptor_of(socket), &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    if (len > 0) {
        return FCGI_SOCKET_SAYS;
    }
    return len < 0 && APR_STATUS_IS_EAGAIN(apr_get_netos_error())
               ? FCGI_SOCKET_QUIET
               : FCGI_SOCKET_ENDED;
}

/* Not by apr_socket_timeout_set(), which does nothing if the socket has the mode
 * already as far as APR knows: it was made non-blocking without its knowing. */
apr_status_t fcgi_socket_set_patient(apr_socket_t *socket, int patient)
{
    const struct timeval limit = { apr_time_sec(FCGI_SOCKET_PATIENCE),
                                   apr_time_usec(FCGI_SOCKET_PATIENCE) };
    int fd = descriptor_of(socket);
    int mode = fcntl(fd, F_GETFL);

    if (mode < 0
        || (patient
            && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)))
        || fcntl(fd, F_SETFL,
                 patient ? mode & ~O_NONBLOCK : mode | O_NONBLOCK)) {
        return apr_get_netos_error();
    }
    return APR_SUCCESS;
}

apr_status_t fcgi_socket_recv(apr_socket_t *socket, char *data,
                              apr_size_t *len, int wait)
{
    ssize_t got;
    int is_interrupted;

    do {
        got = recv(descriptor_of(socket), data, *len, wait ? 0 : MSG_DONTWAIT);
        is_interrupted = got < 0 && errno == EINTR;
    } while (is_interrupted && !wait);
    *len = got > 0 ? (apr_size_t)got : 0;
    return is_interrupted ? APR_EAGAIN /* the time is not begun anew */
           : got < 0      ? apr_get_netos_error()
           : got          ? APR_SUCCESS
                          : APR_EOF;
}

apr_status_t fcgi_socket_send(apr_socket_t *socket, struct iovec *pieces,
                              int count, apr_size_t *sent)
{
    struct msghdr message;
    ssize_t put;

    memset(&message, 0, sizeof(message));
    message.msg_iov = pieces;
    message.msg_iovlen = (size_t)count;
    do {
        put = sendmsg(descriptor_of(socket), &message, MSG_DONTWAIT);
    } while (put < 0 && errno == EINTR);
    *sent = put > 0 ? (apr_size_t)put : 0;
    return put < 0 ? apr_get_netos_error() : APR_SUCCESS;
}
