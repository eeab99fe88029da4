/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * world.h - all that a request meets, as the bytes of a fuzzer say: an
 * application and its sockets, a client, httpd's filters, time, the line, the
 * idle connections, whoever waits. Doubles of httpd, APR's sockets and a few
 * files of the module; nothing in it ever blocks, and what would block is
 * found out. What must be so stands in fuzz_conversation.c.
 */
#ifndef WORLD_H
#define WORLD_H

#include <stddef.h>
#include <stdint.h>

#include <httpd.h>
#include <http_core.h>

#include "fcgi_ask.h"
#include "fcgi_config.h"
#include "fcgi_parked.h"

#define WORLD_SOCKETS 64           /* connections of one input */
#define WORLD_BYTES   (256 * 1024) /* each way of a connection, at most */

/* One connection to the application, as it and the kernel see it. */
typedef struct app_socket {
    uint8_t *said; /* by the application, WORLD_BYTES; NULL: nothing */
    size_t said_len, said_read;
    uint8_t *heard; /* by it */
    size_t heard_len;
    size_t room; /* bytes that the kernel takes still */
    int is_open; /* on our side */
    int is_closed, is_reset, end_was_seen, is_patient;
    unsigned int uses; /* by requests */
    int is_used;       /* by the present one, which began there: */
    size_t said_before, heard_before;
} app_socket;

/* The client, and httpd between it and us. */
typedef struct world_client {
    apr_size_t body_here, body_read; /* bytes that arrived, and were read */
    int body_ended, body_broken;     /* behind those */
    int end_was_read;
    char *piece; /* of the last read */
    int half_closed, is_reset, has_next_request;
    int write_fails; /* that it is reset nobody was told before */

    apr_size_t room;    /* in its socket */
    apr_size_t in_core; /* bytes that httpd holds for it, in memory */
    apr_size_t in_files;
    uint8_t *got; /* body bytes given to httpd, WORLD_BYTES */
    size_t got_len;
    size_t got_more; /* did not fit there */
    int passes, has_eos, has_error;
    int was_reset;           /* its connection, by us */
    int fails_at, fails_how; /* which pass of the filters does; 0: none */
} world_client;

typedef struct world {
    /* the input */
    const uint8_t *data;
    size_t left;
    int is_over; /* all was read: everything goes well now, or ends */
    int tells;   /* each wait is written to stderr: FUZZ_TELL is set */

    fcgi_instant now;
    apr_interval_time_t look; /* takes a look at the clock */
    fcgi_instant over_at;     /* when the input was at its end; 0: not yet */
    int waits;                /* since time passed */
    int may_block;            /* httpd's own waiting is allowed: before the
                    * application is asked, and at the end */
    int has_blocked;

    app_socket sockets[WORLD_SOCKETS];
    int socket_count;
    app_socket *used; /* last, by the present request; NULL: none */
    size_t read_max;  /* bytes that one read gives, or one write takes */
    world_client client;

    /* the line */
    int permits, pressing, is_pressed, is_limited, is_granted;
    fcgi_waiting *in_line;

    /* idle connections */
    fcgi_conn *idle[WORLD_SOCKETS];
    int idle_count, keeps;

    /* who waits */
    int can_park, is_woken, is_abandoned;
    fcgi_parkable *parked;

    int has_no_files; /* descriptors */

    /* httpd */
    apr_pool_t *pool; /* of the connection */
    fcgi_dir_config settings;
    server_rec server;
    conn_rec connection;
    request_rec *r;
    apr_bucket_alloc_t *list;
    int condition; /* what ap_meets_conditions() says */
    int is_redirected;
} world_type;

extern world_type world;

void world_require(int fact, const char *what, int line);
#define REQUIRE(fact) world_require((fact) != 0, #fact, __LINE__)

/* A byte of the input; 0 if there is none. */
uint8_t world_byte(void);

/* Begins, and ends, what data says. */
void world_begin(const uint8_t *data, size_t len);
void world_end(void);

/* WORLD_BYTES that differ: what any client sends, and much of what is said to
 * applications. */
const uint8_t *world_bytes(void);

/* Lets something happen, if nothing is ready, or time pass up to wake_at (0:
 * there is no such time). Returns what is ready of what is wanted. */
int world_wait(int wants, apr_socket_t *application, fcgi_instant wake_at);

/* The client's connection, and a request of it, as httpd has them. */
void world_connect(apr_pool_t *pool);
request_rec *world_request(apr_pool_t *pool);

/* A pass of what a request gives to its output filters. */
apr_status_t world_output(request_rec *r, apr_bucket_brigade *bb);

app_socket *world_socket_of(const fcgi_conn *conn);

/* The next request begins. */
void world_next(void);

#endif
