/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * proxy_worker.h - mod_proxy's workers, which balancers call members: what
 * their parameters mean to the engine, and what is said of them while a
 * request is with it. docs/proxy.rst has the table. Knows no variables.
 */
#ifndef PROXY_WORKER_H
#define PROXY_WORKER_H

#include "proxy_request.h"

/* While the configuration is checked: enters all workers of the scheme, with
 * what they say of connections. pool lives as long as the configuration. */
void proxy_worker_enter_all(apr_pool_t *pool, server_rec *s);

/* Says in the log which of their parameters, and which directives, mean
 * nothing here. */
void proxy_worker_log_all(server_rec *s);

/* True if worker can be asked, perhaps again, as its retry time is over. */
int proxy_worker_is_usable(proxy_worker *worker, server_rec *s);

/* True if nobody has switched it off, in error or not. */
int proxy_worker_is_switched_on(const proxy_worker *worker);

/* Sets what a question to worker is, for the attempt that begins. url is that
 * of the request. Returns OK or a status. */
int proxy_worker_set_question(request_rec *r, proxy_worker *worker,
                              proxy_server_conf *conf, const char *url,
                              fcgi_engine_question *question);

/* The attempt is over, with that status: counts its bytes, and tells mod_proxy
 * in notes what it is to know of it. */
void proxy_worker_conclude(request_rec *r, proxy_worker *worker,
                           const fcgi_engine_question *question, int status);

/*
 * mod_proxy takes a member for broken for retry seconds whatever the reason is
 * that it does not answer a request, and asks it again at once if these are 0.
 * One that is full, or whose worker died, is to be broken only while another
 * one is chosen for that request; and none is to be asked twice for it.
 */

/* Before one is chosen: those that the request has asked are not. */
void proxy_worker_pass_over(request_rec *r);

/* One is chosen, or the request is over, and its status is looked at now: they
 * are no more in error than they were. */
void proxy_worker_forgive(request_rec *r);

#endif
