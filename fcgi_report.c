/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_report.c - gathering; the contract is in fcgi_report.h.
 */
#include "fcgi_report.h"

#include <stdlib.h>
#include <string.h>

#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_tables.h>

#include "fcgi_known.h"

/* Names may come from requests, and go into formats that want UTF-8. */
static const char *printable(apr_pool_t *pool, const char *name)
{
    char *copy = apr_palloc(pool, 3 * strlen(name) + 1), *to = copy;

    for (; *name; name++) {
        if (apr_isascii(*name) && apr_isprint(*name)
            && !strchr("%\"'<>&\\", *name)) {
            *to++ = *name;
        }
        else {
            to += apr_snprintf(to, 4, "%%%02X", (unsigned char)*name);
        }
    }
    *to = '\0';
    return copy;
}

/* NULL if the configuration's backend of that name has another account: it was
 * known by another path when httpd started. */
static const fcgi_report *report_of(apr_pool_t *pool, fcgi_account *account)
{
    const char *alias;
    const fcgi_backend *backend = fcgi_known_of_account(account->name, &alias);
    fcgi_report *report;

    if (backend && backend->line->account != account) {
        return NULL;
    }
    report = apr_pcalloc(pool, sizeof(*report));
    report->name = printable(pool, backend ? backend->name : account->name);
    report->alias = alias ? alias : "";
    report->is_known = backend != NULL;
    if (backend) {
        report->limits = backend->line->limits;
    }
    if (!report->limits.max) {
        report->limits.queue = 0; /* there is no line */
    }
    report->length = fcgi_line_measure(account);
    report->tally = fcgi_stats_tally(account);
    report->attendance = account->attendance;
    return report;
}

/* One that a former configuration named, or that only requests name, counts
 * once it was asked. */
static int is_shown(const fcgi_report *report)
{
    return report->is_known || report->length.in_use || report->length.idle
           || report->length.parked || fcgi_tally_requests(&report->tally);
}

static int compare(const void *one, const void *other)
{
    const fcgi_report *a = *(const fcgi_report *const *)one;
    const fcgi_report *b = *(const fcgi_report *const *)other;

    return a->is_known != b->is_known ? b->is_known - a->is_known
                                      : strcmp(a->name, b->name);
}

fcgi_reports *fcgi_report_all(apr_pool_t *pool)
{
    fcgi_reports *reports = apr_pcalloc(pool, sizeof(*reports));
    apr_array_header_t *list =
        apr_array_make(pool, 8, sizeof(const fcgi_report *));
    fcgi_account *account;
    apr_uint32_t i;

    for (i = 0; (account = fcgi_stats_account(i)); i++) {
        const fcgi_report *report = report_of(pool, account);

        if (report && is_shown(report)) {
            APR_ARRAY_PUSH(list, const fcgi_report *) = report;
        }
    }
    reports->at = apr_time_now();
    reports->now = fcgi_clock_now();
    reports->life = fcgi_stats_life();
    reports->count = list->nelts;
    reports->list = (const fcgi_report **)(void *)list->elts;
    qsort(list->elts, (size_t)list->nelts, sizeof(const fcgi_report *),
          compare);
    return reports;
}
