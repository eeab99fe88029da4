/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_startup.c - starting and stopping; the contract is in fcgi_startup.h.
 * Knows httpd's phases; decides nothing about connections.
 */
#include "fcgi_startup.h"

#include <stdlib.h>

#include <apr_strings.h>

#include <ap_mpm.h>
#include <http_config.h>
#include <http_core.h>
#include <http_main.h>
#include <mpm_common.h>
#include <unixd.h>
#include <util_mutex.h>

#include "fcgi_declare.h"
#include "fcgi_idle.h"
#include "fcgi_known.h"
#include "fcgi_log.h"
#include "fcgi_notice.h"
#include "fcgi_room.h"
#include "fcgi_spool.h"
#include "fcgi_stats.h"

APLOG_USE_MODULE(fastcgi_handler);

/* The type of our lock in the directive Mutex. */
#define MUTEX_TYPE "fcgi-backends"

/* Where the shared memory is found again after a restart. The module's file
 * may be exchanged before: another layout of the memory has another name by its
 * sizes, and one of the same sizes needs another number here. */
#define RETAINED "mod_fastcgi_handler/accounts/6/"

/* prefork: how often idle.c's watcher asks whether its child has to stop. */
#define ASK_EVERY apr_time_from_sec(1)

int fcgi_startup_begin(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)plog;
    (void)ptemp;
    fcgi_known_start(pconf);
    return ap_mutex_register(pconf, MUTEX_TYPE, NULL, APR_LOCK_DEFAULT, 0)
                   == APR_SUCCESS
               ? OK
               : HTTP_INTERNAL_SERVER_ERROR;
}

/* Mechanisms that recover, to take in place of one that does not; the first
 * that can be made. They need no file. APR takes pthread's on its own only
 * where these recover. */
static const apr_lockmech_e recovering[] = {
#if APR_USE_PROC_PTHREAD_SERIALIZE
    APR_LOCK_PROC_PTHREAD,
#endif
#if APR_HAS_SYSVSEM_SERIALIZE
    APR_LOCK_SYSVSEM,
#endif
    APR_LOCK_DEFAULT
};

/* Another lock in place of one that does not recover, and a word about it. */
static apr_status_t replace_lock(server_rec *s, apr_pool_t *pool,
                                 apr_global_mutex_t **lock)
{
    const char *refused = apr_global_mutex_name(*lock);
    apr_size_t i = 0;
    apr_status_t rv;

    apr_global_mutex_destroy(*lock);
    do {
        rv = apr_global_mutex_create(lock, NULL, recovering[i++], pool);
    } while (rv != APR_SUCCESS
             && i < sizeof(recovering) / sizeof(recovering[0]));
#ifdef AP_NEED_SET_MUTEX_PERMS
    if (rv == APR_SUCCESS) {
        rv = ap_unixd_set_global_mutex_perms(*lock);
    }
#endif
    if (rv == APR_SUCCESS && !fcgi_stats_lock_recovers(*lock)) {
        rv = APR_ENOTIMPL;
    }
    if (rv == APR_SUCCESS) {
        ap_log_error(
            APLOG_MARK, APLOG_WARNING, 0, s,
            FCGI_LOGNO("30") "Mutex %s is not for " MUTEX_TYPE
                             ": a child that is killed while it has "
                             "the lock would stop all others; %s is "
                             "taken instead (write Mutex %s " MUTEX_TYPE ")",
            refused, apr_global_mutex_name(*lock),
            apr_global_mutex_name(*lock));
    }
    return rv;
}

/*
 * The lock of the shared memory, by the mechanism that Mutex says. One that
 * does not recover may have been meant for the whole server, and is no reason
 * not to start.
 */
static apr_status_t create_lock(server_rec *s, apr_pool_t *pool,
                                apr_global_mutex_t **lock)
{
    apr_status_t rv =
        ap_global_mutex_create(lock, NULL, MUTEX_TYPE, NULL, s, pool, 0);

    return rv == APR_SUCCESS && !fcgi_stats_lock_recovers(*lock)
               ? replace_lock(s, pool, lock)
               : rv;
}

/* Makes the shared memory. It and its lock live as long as the server. */
static apr_status_t create_stats(server_rec *s, fcgi_stats *stats)
{
    apr_pool_t *pool = s->process->pool;
    apr_global_mutex_t *lock = NULL;
    int children = 0;
    apr_status_t rv = ap_mpm_query(AP_MPMQ_HARD_LIMIT_DAEMONS, &children);

    if (rv == APR_SUCCESS) {
        rv = create_lock(s, pool, &lock);
    }
    /* some more: a child that ends has its number until it is gone */
    return rv == APR_SUCCESS ? fcgi_stats_create(stats, pool, lock,
                                                 (apr_uint32_t)children + 16)
                             : rv;
}

/* The shared memory of this server, made if there is none. */
static apr_status_t open_stats(server_rec *s)
{
    const char *name = apr_pstrcat(s->process->pconf, RETAINED,
                                   fcgi_stats_layout(s->process->pconf), NULL);
    fcgi_stats *stats = ap_retained_data_get(name);

    if (stats && stats->segments[0].head) {
        fcgi_stats_use(stats);
        fcgi_stats_restarted();
        return APR_SUCCESS;
    }
    if (!stats) {
        stats = ap_retained_data_create(name, sizeof(*stats));
    }
    return create_stats(s, stats);
}

int fcgi_startup_open(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                      server_rec *s)
{
    apr_status_t rv;

    (void)pconf;
    (void)plog;
    (void)ptemp;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG) {
        return OK; /* only to see whether it can be done; it comes again */
    }
    rv = open_stats(s);
    if (rv == APR_SUCCESS) {
        rv = fcgi_known_open_accounts();
    }
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, rv, s,
                     FCGI_LOGNO("21") "the memory that the children share "
                                      "cannot be made (it needs a directory "
                                      "for temporary files, and what the "
                                      "Mutex " MUTEX_TYPE " needs)");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    fcgi_declare_log(s);
    fcgi_room_log(s);
    return OK;
}

static void report_stray(const char *backend)
{
    ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                 FCGI_LOGNO("19") "%s: bytes came on a connection that "
                                  "carried no request; it is closed",
                 backend);
}

/* prefork runs no hook while its child still serves a request, and tells
 * nobody but the interrupted thread: it has to be asked. */
static int has_to_stop(void)
{
    int state;

    return ap_mpm_query(AP_MPMQ_MPM_STATE, &state) == APR_SUCCESS
           && state == AP_MPMQ_STOPPING;
}

/* True if the MPM's hook for a child that stops is called in time. */
static int is_told_to_stop(void)
{
    int threaded;

    return ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded) == APR_SUCCESS
           && threaded != AP_MPMQ_NOT_SUPPORTED;
}

static apr_status_t start_idle(apr_pool_t *pchild)
{
    static fcgi_idle_hooks hooks = { has_to_stop, 0, report_stray };

    hooks.ask_every = is_told_to_stop() ? 0 : ASK_EVERY;
    return fcgi_idle_start(pchild, &hooks);
}

void fcgi_startup_child(apr_pool_t *pchild, server_rec *s)
{
    apr_status_t rv = fcgi_address_start(pchild);

    fcgi_spool_find_dir(pchild);
    if (rv == APR_SUCCESS) {
        rv = fcgi_stats_join();
    }
    if (rv == APR_SUCCESS && fcgi_known_any_kept()) {
        rv = start_idle(pchild);
    }
    if (rv == APR_SUCCESS
        && (fcgi_known_any_kept() || fcgi_known_any_limited())) {
        rv = fcgi_notice_start(pchild);
    }
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, rv, s,
                     FCGI_LOGNO("22") "a child cannot take part in the memory "
                                      "that the children share; it ends");
        exit(APEXIT_CHILDSICK);
    }
}

void fcgi_startup_stop_child(apr_pool_t *pchild, int graceful)
{
    (void)pchild;
    (void)graceful;
    fcgi_idle_stop();
}
