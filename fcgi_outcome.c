/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_outcome.c - outcomes and phases in words, for people.
 */
#include "fcgi_outcome.h"

#include <apr_strings.h>

static const char *const outcome_names[FCGI_OUTCOME_COUNT] = {
    [FCGI_OUTCOME_PENDING] = "pending",
    [FCGI_OUTCOME_DONE] = "done",
    [FCGI_OUTCOME_NO_CONNECT] = "no connection",
    [FCGI_OUTCOME_NO_PLACE] = "no place",
    [FCGI_OUTCOME_TIMED_OUT] = "timed out",
    [FCGI_OUTCOME_BROKEN] = "broken answer",
    [FCGI_OUTCOME_MALFORMED] = "not FastCGI",
    [FCGI_OUTCOME_BAD_HEADERS] = "bad headers",
    [FCGI_OUTCOME_OVERLOADED] = "overloaded",
    [FCGI_OUTCOME_UNKNOWN_ROLE] = "unknown role",
    [FCGI_OUTCOME_CLIENT_BAD] = "bad request body",
    [FCGI_OUTCOME_NO_SPACE] = "no space",
    [FCGI_OUTCOME_CLIENT_GONE] = "client gone",
    [FCGI_OUTCOME_REFUSED] = "refused by a filter",
};

static const char *const phase_names[] = {
    [FCGI_PHASE_RECEIVE] = "receive", [FCGI_PHASE_QUEUE] = "queue",
    [FCGI_PHASE_RESOLVE] = "resolve", [FCGI_PHASE_CONNECT] = "connect",
    [FCGI_PHASE_SEND] = "send",       [FCGI_PHASE_HEADERS] = "headers",
    [FCGI_PHASE_BODY] = "body",
};

const char *fcgi_outcome_name(fcgi_outcome outcome)
{
    return outcome_names[outcome];
}

const char *fcgi_phase_name(fcgi_phase phase)
{
    return phase_names[phase];
}

const char *fcgi_outcome_over(apr_pool_t *pool, const char *directive,
                              apr_interval_time_t limit)
{
    return apr_psprintf(pool, "%s %" APR_TIME_T_FMT " ms is over", directive,
                        apr_time_as_msec(limit));
}
