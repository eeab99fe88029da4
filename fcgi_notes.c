/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_notes.c - the contract is in fcgi_notes.h. All names begin alike, so
 * that a table would compare each with all others: they are added without a
 * look.
 */
#include "fcgi_notes.h"

#include <string.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include <http_config.h>

#define NOTES "fcgi-"

#define BACKEND    NOTES "backend"
#define REUSED     NOTES "reused"
#define TRIES      NOTES "tries"
#define QUEUE      NOTES "queue"
#define CONNECT    NOTES "connect"
#define FIRST_BYTE NOTES "first-byte"
#define TOTAL      NOTES "total"
#define BYTES_OUT  NOTES "bytes-out"
#define BYTES_IN   NOTES "bytes-in"
#define APP_STATUS NOTES "app-status"

/* Somebody may read them. */
static int are_wanted;

/* ---- whether somebody may ---- */

/* True if a text begins with the name of a note, and that ends there. */
static int begins_with_note(const char *text)
{
    static const char *const names[] = { BACKEND,    REUSED,    TRIES,
                                         QUEUE,      CONNECT,   FIRST_BYTE,
                                         TOTAL,      BYTES_OUT, BYTES_IN,
                                         APP_STATUS, NULL };
    int i;

    for (i = 0; names[i]; i++) {
        apr_size_t len = strlen(names[i]);

        if (!strncasecmp(text, names[i], len) && !apr_isalnum(text[len])) {
            return 1;
        }
    }
    return 0;
}

static int names_note(const char *args)
{
    const char *found = args;

    while ((found = ap_strcasestr(found, NOTES)) && !begins_with_note(found)) {
        found++;
    }
    return found != NULL;
}

static int any_names_note(const ap_directive_t *directive)
{
    for (; directive; directive = directive->next) {
        if (names_note(directive->args)
            || any_names_note(directive->first_child)) {
            return 1;
        }
    }
    return 0;
}

int fcgi_notes_look(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                    server_rec *s)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    (void)s;
    are_wanted = any_names_note(ap_conftree)
                 || ap_find_linked_module("mod_lua.c")
                 || ap_find_linked_module("mod_perl.c");
    return OK;
}

/* ---- making them ---- */

static void add(request_rec *r, const char *name, apr_int64_t number)
{
    apr_table_addn(r->notes, name,
                   number ? apr_off_t_toa(r->pool, number) : "0");
}

void fcgi_notes_add(const fcgi_ask *ask, apr_interval_time_t took)
{
    request_rec *r = ask->r;

    if (!are_wanted) {
        return;
    }
    /* the first: fcgi_notes_pass_on() looks for it */
    apr_table_addn(r->notes, BACKEND, ask->backend->name);
    apr_table_addn(r->notes, REUSED, ask->ex->on_reused ? "1" : "0");
    add(r, TRIES, ask->tries);
    add(r, QUEUE, ask->acquire.waits.queue);
    add(r, CONNECT, ask->acquire.waits.connect);
    add(r, TOTAL, took);
    add(r, BYTES_OUT, fcgi_exchange_sent(ask->ex));
    add(r, BYTES_IN, ask->ex->bytes_in);
    if (ask->ex->first_byte_at) {
        add(r, FIRST_BYTE, ask->ex->first_byte_at - ask->started);
    }
    if (ask->result.outcome == FCGI_OUTCOME_DONE && !ask->ex->unended) {
        add(r, APP_STATUS, ask->ex->app_status);
    }
}

/* ---- after internal redirects ---- */

static int copy_note(void *to, const char *name, const char *value)
{
    if (!strncmp(name, NOTES, sizeof(NOTES) - 1)) {
        apr_table_setn(to, name, value);
    }
    return 1;
}

void fcgi_notes_pass_on(request_rec *r)
{
    request_rec *asked = NULL, *last = r;

    for (; are_wanted && last; last = last->next) {
        if (apr_table_get(last->notes, BACKEND)) {
            asked = last;
        }
        else if (asked && !last->next) {
            apr_table_do(copy_note, last->notes, asked->notes, NULL);
        }
    }
}
