/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_room.c - the contract is in fcgi_room.h.
 *
 * The event MPM counts connections, those that wait included. With all its
 * threads idle a child takes (server/mpm/event, connections_above_limit())
 *
 *     ThreadsPerChild + AsyncRequestWorkerFactor * ThreadsPerChild
 *
 * of them, and less by the factor for each thread that is busy. Nobody but the
 * MPM knows the factor; what httpd comes with is known, if nothing else ever
 * was set.
 */
#include "fcgi_room.h"

#include <string.h>
#include <strings.h>

#include <ap_mpm.h>
#include <http_config.h>
#include <util_cfgtree.h>

#include "fcgi_config.h"
#include "fcgi_conftree.h"
#include "fcgi_known.h"
#include "fcgi_log.h"

APLOG_USE_MODULE(fastcgi_handler);

/* httpd's own, see its documentation. */
#define DEFAULT_FACTOR 2

/* Waiting requests of one child for which nothing need be said. */
#define MANY 1000

/* Descriptors that a waiting request needs: its client's, its application's,
 * and two of fcgi_park.c's. */
#define DESCRIPTORS 4

/* What is kept over restarts; another layout needs another name. */
#define RETAINED "mod_fastcgi_handler/room/1"

typedef struct room_said {
    int threads;    /* of a child, as it was said last; 0: nothing was */
    int children;   /* at most; the same */
    int was_chosen; /* the factor was set, now or before a restart: an MPM that
                     * is not a module of its own has it still */
} room_said;

/* What the directives say, all of them together. */
typedef struct tree_words {
    int have_factor;
    int let_park; /* some section has a FcgiPark that is not Off */
    int allow;    /* .htaccess files may name applications */
} tree_words;

static void read_tree(const ap_directive_t *directive, tree_words *words)
{
    for (; directive; directive = directive->next) {
        const char *name = directive->directive;

        if (!strcasecmp(name, "AsyncRequestWorkerFactor")) {
            words->have_factor = 1;
        }
        else if (!strcasecmp(name, "FcgiAllow")) {
            words->allow |= strcasecmp(directive->args, "None") != 0;
        }
        else if (!strcasecmp(name, "FcgiPark") && directive->parent) {
            words->let_park |= strcasecmp(directive->args, "Off") != 0;
        }
        read_tree(directive->first_child, words);
    }
}

static int is_one(void *baton, fcgi_known *known)
{
    (void)baton;
    (void)known;
    return 1;
}

/* True if some request may be parked. */
static int is_of_use(const server_rec *s, const tree_words *words)
{
    int let_park = words->let_park;

    for (; s && !let_park; s = s->next) {
        let_park = fcgi_config_lets_park(s);
    }
    return let_park
           && (words->allow || fcgi_conftree_any_dynamic()
               || fcgi_known_each(is_one, NULL));
}

static int can_wait(void)
{
#ifdef AP_MPMQ_CAN_WAITIO
    int can = 0;

    return ap_mpm_query(AP_MPMQ_CAN_WAITIO, &can) == APR_SUCCESS && can
           && !strcmp(ap_show_mpm(), "event");
#else
    return 0;
#endif
}

static room_said *retained_room(void)
{
    room_said *kept = ap_retained_data_get(RETAINED);

    return kept ? kept : ap_retained_data_create(RETAINED, sizeof(*kept));
}

/* The first factor with which a child takes that many beside its threads. */
static int factor_for(int threads, int count)
{
    return (count + threads - 1) / threads;
}

static void say(server_rec *s, const room_said *room)
{
    int factor = factor_for(room->threads, MANY);
    int taken = room->threads * (1 + DEFAULT_FACTOR);
    int possible = room->threads * (1 + factor);

    ap_log_error(
        APLOG_MARK, APLOG_NOTICE, 0, s,
        FCGI_LOGNO("36") "requests that wait hold no thread (FcgiPark), but "
                         "count as connections: a child of httpd takes about "
                         "%d at most, and %d in all children (%d threads and "
                         "httpd's default AsyncRequestWorkerFactor, %d); for "
                         "%d and %d write AsyncRequestWorkerFactor %d (and "
                         "let a child have more than %d files: ulimit -n)",
        taken, taken * room->children, room->threads, DEFAULT_FACTOR, possible,
        possible * room->children, factor, DESCRIPTORS * possible);
}

void fcgi_room_log(server_rec *s)
{
    int threads = 0, children = 0;
    tree_words words = { 0, 0, 0 };
    room_said *kept;

    if (!can_wait()
        || ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads) != APR_SUCCESS
        || ap_mpm_query(AP_MPMQ_MAX_DAEMONS, &children) != APR_SUCCESS
        || threads < 1 || children < 1) {
        return;
    }
    kept = retained_room();
    read_tree(ap_conftree, &words);
    kept->was_chosen |= words.have_factor;
    if (kept->was_chosen || factor_for(threads, MANY) <= DEFAULT_FACTOR
        || !is_of_use(s, &words)
        || (kept->threads == threads && kept->children == children)) {
        return;
    }
    kept->threads = threads;
    kept->children = children;
    say(s, kept);
}
