/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_engine.h - what this module does for another one: it asks an
 * application for a request of whose address and variables the other one
 * decides. Offered as two optional functions of APR, so that neither module
 * has to be loaded for the other; proxy/ has the one that uses them. Knows
 * nothing of who that is, and this header none of our own.
 */
#ifndef FCGI_ENGINE_H
#define FCGI_ENGINE_H

#include <httpd.h>
#include <apr_optional.h>
#include <apr_tables.h>

/* How it ended, as far as it matters to who chose the application. */
typedef enum {
    FCGI_ENGINE_ANSWERED,      /* by the application; status may be an error
                                * for which httpd's page is given */
    FCGI_ENGINE_NO_CONNECTION, /* nobody is there */
    FCGI_ENGINE_BUSY,          /* its line or its backlog is full, or it says
                                * that it is overloaded */
    FCGI_ENGINE_TIMED_OUT,     /* it answers too slowly */
    FCGI_ENGINE_BROKEN,        /* its answer is none, or no whole one */
    FCGI_ENGINE_NOT_ITS_FAULT  /* but the client's, or httpd's */
} fcgi_engine_end;

/* For add_variables() below. */
#define FCGI_ENGINE_NO_BODY (-2)

/* A request that is to be asked. Begins with 0 in all that is not set. */
typedef struct fcgi_engine_question {
    const char *address; /* a handler's name, "fcgi:...": FcgiAllow and the
                          * threat model are not asked */

    /* in place of directives; times in microseconds, 0: as these say */
    apr_interval_time_t timeout;           /* FcgiTimeout */
    apr_interval_time_t connect_timeout;   /* FcgiConnectTimeout */
    int flush;                             /* 1: FcgiFlush On */
    int error_override;                    /* 1: FcgiErrorOverride On */
    const apr_array_header_t *error_codes; /* of int, for that; or NULL */

    int has_others; /* another application can be asked in its place: then it
                     * is not waited for, and that is to be done if may_move is
                     * set */

    int was_in_vain; /* this is the error page of a request for which such
                      * another application was waited for: this one is not */

    /* It may go on without this thread. Then is_parked is set when the
     * engine returns OK, and ended is called some time, in any thread, with
     * what it would have returned. That returns what a handler does: the
     * status, or that of another application that it has asked meanwhile. */
    int may_park; /* 0 or 1 */
    int (*ended)(request_rec *r, int status);

    /* Makes all variables in r->subprocess_env. body_len as in CONTENT_LENGTH,
     * -1: not known yet; or FCGI_ENGINE_NO_BODY: what the client sent is
     * another request's, not read yet, and its fields are not to be touched.
     * OK, or the status to end with. */
    int (*add_variables)(request_rec *r, apr_off_t body_len);

    /* what became of it */
    int is_parked; /* it is not over */
    fcgi_engine_end end;
    int may_move;       /* nothing is lost of the request, and nothing is said
                         * to the client: it can be asked again with this very
                         * struct and another address; else it must not be */
    apr_off_t sent;     /* bytes to the application, this time */
    apr_off_t received; /* bytes from it */

    /* the engine's own, from one time to the next */
    struct fcgi_ask *ask;
    struct ap_conf_vector_t *sections; /* r's own, if another one is asked: */
    apr_table_t *env;                  /* as nothing was asked yet */
} fcgi_engine_question;

/*
 * Asks, and waits for the end. Returns what a handler does: OK or a status;
 * HTTP_SERVICE_UNAVAILABLE if another one is to be asked. The question lives as
 * long as r.
 */
APR_DECLARE_OPTIONAL_FN(int, fcgi_engine_ask,
                        (request_rec * r, fcgi_engine_question *question));

/*
 * While the configuration is checked, before APR_HOOK_MIDDLE: an address that
 * requests may have, with "key=value" for each of FcgiBackend's keys that is
 * known for it, then NULL. FcgiBackend has the last word; of several others
 * the largest number holds. Returns NULL, or a sentence that says what is
 * wrong.
 */
APR_DECLARE_OPTIONAL_FN(const char *, fcgi_engine_enter,
                        (apr_pool_t * pool, const char *address,
                         const char *const *settings));

/* Offers both; when hooks are registered. */
void fcgi_engine_offer(void);

#endif
