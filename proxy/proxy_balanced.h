/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * proxy_balanced.h - a request to a member of a balancer that went on without
 * the thread it began in, or for which mod_proxy then had no other member. What
 * mod_proxy does when a scheme's handler returns, which is to ask another
 * member, to hold one to be in error and to call the balancer, is done here
 * when that request is over. Knows nothing of URLs and variables.
 */
#ifndef PROXY_BALANCED_H
#define PROXY_BALANCED_H

#include "proxy_request.h"

/* A pre_request hook, before the balancer's, which chooses a member and puts
 * that one's URL in place of its own: keeps it for another attempt. */
int proxy_balanced_begin(proxy_worker **worker, proxy_balancer **balancer,
                         request_rec *r, proxy_server_conf *conf, char **url);

/*
 * An attempt is over in the thread that mod_proxy waits in, with that status.
 * mod_proxy asks another member after each 503. It is told not to do so where
 * a part of the request is with this member, and where this was the last that
 * may be asked.
 */
void proxy_balanced_limit(request_rec *r, int status);

/* True if a member's attempt ended for another one's sake, and mod_proxy has
 * not asked that. */
int proxy_balanced_is_left(request_rec *r);

/* mod_proxy thinks that all have had their turn: where requests pass over a
 * member at the same time, one had two. Returns what another attempt does. */
int proxy_balanced_go_on(request_rec *r);

/*
 * mod_proxy has found none: one may be fit, and not be asked all the same, as
 * heartbeats or forcerecovery=Off will have it, or be switched off meanwhile.
 * So the member that was left is the last one, to be asked again and waited
 * for. Returns the question.
 */
fcgi_engine_question *proxy_balanced_return(request_rec *r);

/* An attempt that mod_proxy does not end is over, and concluded, with that
 * status. Returns the request's; OK, too, if another attempt goes on alone. */
int proxy_balanced_end(request_rec *r, int status);

#endif
