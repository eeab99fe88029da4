/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_conn.c - the states of a connection; the contract is in fcgi_conn.h. How
 * one is made is fcgi_connect.c's.
 */
#include "fcgi_conn.h"

#include <assert.h>

#include "fcgi_socket.h"

fcgi_conn *fcgi_conn_create(apr_pool_t *pool, fcgi_line *line, int keepable)
{
    fcgi_conn *conn;

    if (keepable
        && apr_pool_create_unmanaged_ex(&pool, NULL, NULL) != APR_SUCCESS) {
        return NULL;
    }
    conn = apr_pcalloc(pool, sizeof(*conn));
    conn->state = FCGI_CONN_NEW;
    conn->pool = pool;
    conn->owns_pool = keepable;
    conn->line = line;
    conn->connecting.pool = pool;
    return conn;
}

void fcgi_conn_move(fcgi_conn *conn, fcgi_conn_state from, fcgi_conn_state to)
{
    assert(conn->state == from);
    conn->state = to;
}

/* What the next attempt needs takes the place of what the last one needed:
 * there may be hundreds. */
static void clear_attempt(fcgi_conn *conn)
{
    apr_pool_t **pool = &conn->connecting.pool;

    if (*pool != conn->pool) {
        apr_pool_clear(*pool);
    }
    else if (apr_pool_create(pool, conn->pool) != APR_SUCCESS) {
        *pool = conn->pool;
    }
}

apr_status_t fcgi_conn_open(fcgi_conn *conn, const fcgi_address *address,
                            fcgi_instant until, int may_wait,
                            apr_pool_t *scratch, fcgi_result *result)
{
    apr_status_t rv;

    assert(conn->state == FCGI_CONN_NEW);
    rv = fcgi_connect_step(&conn->connecting, address, until, may_wait,
                           scratch, result);
    conn->socket = conn->connecting.socket;
    conn->wake_at = conn->connecting.wake_at;
    if (rv == APR_SUCCESS) {
        fcgi_conn_move(conn, FCGI_CONN_NEW, FCGI_CONN_IN_USE);
    }
    else if (!APR_STATUS_IS_EINPROGRESS(rv)) {
        clear_attempt(conn);
    }
    return rv;
}

void fcgi_conn_be_patient(fcgi_conn *conn, int patient)
{
    if (patient != conn->is_patient
        && fcgi_socket_set_patient(conn->socket, patient) == APR_SUCCESS) {
        conn->is_patient = patient;
    }
}

void fcgi_conn_close(fcgi_conn *conn, fcgi_conn_state from)
{
    fcgi_conn_move(conn, from, FCGI_CONN_CLOSED);
    if (from == FCGI_CONN_NEW) {
        fcgi_connect_give_up(&conn->connecting);
    }
    else {
        apr_socket_close(conn->socket);
    }
    conn->socket = NULL;
    if (conn->owns_pool) {
        apr_pool_destroy(conn->pool);
    }
}
