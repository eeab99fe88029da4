/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_client.c - the contract is in fcgi_client.h.
 */
#include "fcgi_client.h"

#include <http_core.h>
#include <util_filter.h>

#include "fcgi_socket.h"
#include "fcgi_wait.h"

/* A client that closed its sending side is given up after so long without a
 * byte for it. One that left answers a byte with a reset. */
#define SILENCE apr_time_from_sec(1)

void fcgi_client_init(fcgi_client *client, request_rec *r, int ignore)
{
    client->r = r;
    client->scratch = NULL;
    client->is_watched = !ignore;
    client->is_ready = 0;
    client->is_gone = 0;
    client->ended_at = 0;
}

static int is_reset(apr_status_t rv)
{
    return APR_STATUS_IS_ECONNRESET(rv) || APR_STATUS_IS_ECONNABORTED(rv)
           || APR_STATUS_IS_EPIPE(rv);
}

/* Where httpd has refused a request while it read it, its filters say that
 * there is no more, whatever the client still sends. */
static int has_unread(conn_rec *c)
{
    return fcgi_socket_listen(ap_get_conn_socket(c)) == FCGI_SOCKET_SAYS;
}

static apr_bucket_brigade *get_scratch(fcgi_client *client)
{
    const request_rec *r = client->r;

    if (!client->scratch) { /* most are never looked at */
        client->scratch =
            apr_brigade_create(r->pool, r->connection->bucket_alloc);
    }
    return client->scratch;
}

void fcgi_client_look(fcgi_client *client)
{
    conn_rec *c = client->r->connection;
    apr_bucket_brigade *scratch;
    int at_eof = 0;
    apr_status_t rv;

    client->is_ready = 0;
    if (c->master) {
        return; /* HTTP/2: mod_http2 sets c->aborted */
    }
    /* The socket first: mod_reqtimeout refuses to read once the time for the
     * body is over, although the body is here. */
    rv = apr_socket_atreadeof(ap_get_conn_socket(c), &at_eof);
    if (rv == APR_SUCCESS && at_eof) {
        client->ended_at = fcgi_clock_now();
        return;
    }
    scratch = get_scratch(client);
    rv = ap_get_brigade(c->input_filters, scratch, AP_MODE_SPECULATIVE,
                        APR_NONBLOCK_READ, 1);
    if (APR_STATUS_IS_EOF(rv) && has_unread(c)) {
        client->is_watched = 0; /* that hides its end */
    }
    else if (APR_STATUS_IS_EOF(rv)) {
        client->ended_at = fcgi_clock_now(); /* TLS says so first */
    }
    else if (is_reset(rv)) {
        client->is_gone = 1;
    }
    else if (!APR_STATUS_IS_EAGAIN(rv)
             && (rv != APR_SUCCESS || !APR_BRIGADE_EMPTY(scratch))) {
        client->is_watched = 0; /* the next request hides its end */
    }
    apr_brigade_cleanup(scratch);
}

const char *fcgi_client_lost(const fcgi_client *client, int body_done)
{
    if (client->r->connection->aborted) {
        return "the client's connection is gone";
    }
    return client->is_gone && body_done ? "the client reset its connection"
                                        : NULL;
}

fcgi_instant fcgi_client_given_up_at(const fcgi_client *client,
                                     fcgi_instant since)
{
    if (!client->ended_at || !client->is_watched) {
        return 0;
    }
    return (since > client->ended_at ? since : client->ended_at) + SILENCE;
}

int fcgi_client_wants(const fcgi_client *client)
{
    if (!client->is_watched || client->is_gone) {
        return 0;
    }
    return client->ended_at ? FCGI_WANTS_CLIENT_END
                            : FCGI_WANTS_CLIENT | FCGI_WANTS_CLIENT_END;
}
