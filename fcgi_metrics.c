/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_metrics.c - reports for programs; the contract is in fcgi_metrics.h.
 * Numbers of one kind that all forms have stand in the tables at the top.
 */
#include "fcgi_metrics.h"

#include <apr_strings.h>

#include <http_protocol.h>

#include "fcgi_version.h"

/* The numbers that all forms have. */
typedef enum metric {
    IN_USE,
    IDLE,
    WAITING,
    PARKED,
    MAX,
    QUEUE,
    KEEPALIVE,
    REQUESTS,
    FAILED,
    AGAIN,
    REUSED,
    RETURNS,
    BYTES_SENT,
    BYTES_RECEIVED,
    METRIC_COUNT
} metric;

static apr_uint64_t value_of(const fcgi_report *report, metric which)
{
    const fcgi_tally *tally = &report->tally;
    const apr_uint64_t values[METRIC_COUNT] = {
        [IN_USE] = report->length.in_use,
        [IDLE] = report->length.idle,
        [WAITING] = report->length.waiting,
        [PARKED] = report->length.parked,
        [MAX] = report->limits.max,
        [QUEUE] = report->limits.queue,
        [KEEPALIVE] = report->limits.keepalive,
        [REQUESTS] = fcgi_tally_requests(tally),
        [FAILED] = fcgi_tally_failed(tally),
        [AGAIN] = tally->again,
        [REUSED] = tally->reused,
        [RETURNS] = report->attendance.returns,
        [BYTES_SENT] = tally->bytes_sent,
        [BYTES_RECEIVED] = tally->bytes_received,
    };

    return values[which];
}

/* How each form names them. */
static const struct form {
    const char *json;
    const char *line;       /* of ?auto */
    const char *prometheus; /* behind "fcgi_backend_"; NULL: it has more */
    const char *type;       /* of Prometheus */
    const char *help;
} forms[METRIC_COUNT] = {
    [IN_USE] = { "in_use", "InUse", "connections_in_use", "gauge",
                 "Connections that carry a request or are being made." },
    [IDLE] = { "idle", "Idle", "connections_idle", "gauge",
               "Connections kept for the next request." },
    [WAITING] = { "waiting", "Waiting", "requests_waiting", "gauge",
                  "Requests in line for a connection." },
    [PARKED] = { "parked", "Parked", "requests_parked", "gauge",
                 "Requests that wait without a thread of httpd, in line or "
                 "for the application." },
    [MAX] = { "max", "Max", "connections_max", "gauge",
              "Connections allowed at a time, 0 for any number." },
    [QUEUE] = { "queue", "Queue", "requests_waiting_max", "gauge",
                "Requests allowed in line." },
    [KEEPALIVE] = { "keepalive", "KeepAlive", "connections_idle_max", "gauge",
                    "Idle connections allowed." },
    [REQUESTS] = { "requests", "Requests", NULL, NULL, NULL },
    [FAILED] = { "failed", "Failed", "requests_failed_total", "counter",
                 "Requests that failed and not through their client." },
    [AGAIN] = { "sent_again", "SentAgain", "requests_sent_again_total",
                "counter", "Requests that were sent once more." },
    [REUSED] = { "reused", "Reused", "requests_reused_total", "counter",
                 "Requests on a connection that had been kept." },
    [RETURNS] = { "returns", "Returns", "returns_total", "counter",
                  "How often the application came back after it was not "
                  "there." },
    [BYTES_SENT] = { "bytes_sent", "BytesSent", "sent_bytes_total", "counter",
                     "Bytes to the application." },
    [BYTES_RECEIVED] = { "bytes_received", "BytesReceived",
                         "received_bytes_total", "counter",
                         "Bytes from the application." },
};

static const struct span {
    const char *json;
    const char *line;
    const char *prometheus;
    const char *help;
} spans[FCGI_SPAN_COUNT] = {
    [FCGI_SPAN_WAIT] = { "wait", "Wait", "wait_seconds",
                         "Time in line and to connect." },
    [FCGI_SPAN_FIRST_BYTE] = { "first_byte", "FirstByte", "first_byte_seconds",
                               "Time until the first byte of the answer." },
    [FCGI_SPAN_TOTAL] = { "total", "Total", "request_seconds",
                          "Time of a request from when its body was here." },
};

static const int percentiles[] = { 50, 90, 99 };

#define PERCENTILE_COUNT (sizeof(percentiles) / sizeof(percentiles[0]))

/* An outcome's name as a word: "bad headers" is bad_headers. */
static const char *outcome_word(apr_pool_t *pool, int outcome)
{
    char *word = apr_pstrdup(pool, fcgi_outcome_name((fcgi_outcome)outcome));
    char *c;

    ap_str_tolower(word);
    for (c = word; *c; c++) {
        if (*c == ' ') {
            *c = '_';
        }
    }
    return word;
}

/* Microseconds as seconds; "null" if there are none. */
static const char *seconds(apr_pool_t *pool, apr_interval_time_t time)
{
    return time < 0
               ? "null"
               : apr_psprintf(pool, "%" APR_TIME_T_FMT ".%06d",
                              apr_time_sec(time), (int)apr_time_usec(time));
}

/* ---- JSON ---- */

static void write_outcomes(request_rec *r, const fcgi_tally *tally)
{
    int outcome;

    ap_rputs("\"outcomes\":{", r);
    for (outcome = FCGI_OUTCOME_DONE; outcome < FCGI_OUTCOME_COUNT;
         outcome++) {
        ap_rprintf(r, "%s\"%s\":%" APR_UINT64_T_FMT,
                   outcome == FCGI_OUTCOME_DONE ? "" : ",",
                   outcome_word(r->pool, outcome), tally->outcomes[outcome]);
    }
    ap_rputs("}", r);
}

static void write_span(request_rec *r, const struct span *span,
                       const fcgi_histogram *times)
{
    unsigned int i;

    ap_rprintf(r, "\"%s\":{\"count\":%" APR_UINT64_T_FMT ",\"sum\":%s",
               span->json, fcgi_histogram_count(times),
               seconds(r->pool, (apr_interval_time_t)times->sum));
    for (i = 0; i < PERCENTILE_COUNT; i++) {
        ap_rprintf(r, ",\"p%d\":%s", percentiles[i],
                   seconds(r->pool,
                           fcgi_histogram_percentile(times, percentiles[i])));
    }
    ap_rputs("}", r);
}

/* Requests, and failed ones, of the last moments, the oldest first. */
static void write_history(request_rec *r, const fcgi_tally *tally,
                          fcgi_instant now)
{
    int failed_ones, back;

    ap_rprintf(r, "\"history\":{\"seconds\":%d",
               (int)apr_time_sec(FCGI_MOMENT));
    for (failed_ones = 0; failed_ones < 2; failed_ones++) {
        ap_rprintf(r, ",\"%s\":[", failed_ones ? "failed" : "requests");
        for (back = FCGI_MOMENTS - 1; back >= 0; back--) {
            fcgi_moment moment = fcgi_tally_moment(tally, now, back);

            ap_rprintf(r, "%u%s",
                       failed_ones ? moment.failed : moment.requests,
                       back ? "," : "]");
        }
    }
    ap_rputs("}", r);
}

static void write_backend(request_rec *r, const fcgi_report *report,
                          fcgi_instant now)
{
    metric which;
    int span;

    ap_rprintf(r, "{\"backend\":\"%s\",\"name\":\"%s\",\"configured\":%s,",
               report->name, report->alias,
               report->is_known ? "true" : "false");
    for (which = 0; which < METRIC_COUNT; which++) {
        ap_rprintf(r, "\"%s\":%" APR_UINT64_T_FMT ",", forms[which].json,
                   value_of(report, which));
    }
    write_outcomes(r, &report->tally);
    ap_rputs(",\"latency\":{", r);
    for (span = 0; span < FCGI_SPAN_COUNT; span++) {
        ap_rputs(span ? "," : "", r);
        write_span(r, &spans[span], &report->tally.spans[span]);
    }
    ap_rputs("},", r);
    write_history(r, &report->tally, now);
    ap_rputs("}", r);
}

void fcgi_metrics_json(request_rec *r, const fcgi_reports *reports)
{
    int i;

    ap_rprintf(r,
               "{\"version\":\"" FCGI_MODULE_VERSION "\",\"time\":%s,"
               "\"since\":%s,\"restarts\":%u,\"backends\":[",
               seconds(r->pool, reports->at),
               seconds(r->pool, reports->life.since), reports->life.restarts);
    for (i = 0; i < reports->count; i++) {
        ap_rputs(i ? ",\n" : "\n", r);
        write_backend(r, reports->list[i], reports->now);
    }
    ap_rputs("\n]}\n", r);
}

/* ---- Prometheus ---- */

static void begin_family(request_rec *r, const char *name, const char *type,
                         const char *help)
{
    ap_rprintf(r, "# HELP fcgi_%s %s\n# TYPE fcgi_%s %s\n", name, help, name,
               type);
}

/* What tells the samples of one backend from others, without the braces. */
static const char *labels(apr_pool_t *pool, const fcgi_report *report)
{
    return apr_pstrcat(pool, "backend=\"", report->name, "\",name=\"",
                       report->alias, "\"", NULL);
}

static void write_metric(request_rec *r, const fcgi_reports *reports,
                         metric which)
{
    const struct form *form = &forms[which];
    int i;

    begin_family(r, apr_pstrcat(r->pool, "backend_", form->prometheus, NULL),
                 form->type, form->help);
    for (i = 0; i < reports->count; i++) {
        ap_rprintf(r, "fcgi_backend_%s{%s} %" APR_UINT64_T_FMT "\n",
                   form->prometheus, labels(r->pool, reports->list[i]),
                   value_of(reports->list[i], which));
    }
}

static void write_requests(request_rec *r, const fcgi_reports *reports)
{
    int i, outcome;

    begin_family(r, "backend_requests_total", "counter",
                 "Requests, by how they ended.");
    for (i = 0; i < reports->count; i++) {
        const fcgi_report *report = reports->list[i];
        const char *label = labels(r->pool, report);

        for (outcome = FCGI_OUTCOME_DONE; outcome < FCGI_OUTCOME_COUNT;
             outcome++) {
            ap_rprintf(r,
                       "fcgi_backend_requests_total{%s,outcome=\"%s\"} "
                       "%" APR_UINT64_T_FMT "\n",
                       label, outcome_word(r->pool, outcome),
                       report->tally.outcomes[outcome]);
        }
    }
}

/* A histogram's samples: from a quarter of a millisecond to a minute. */
static void write_buckets(request_rec *r, const fcgi_report *report,
                          const char *name, const fcgi_histogram *times)
{
    const char *label = labels(r->pool, report);
    apr_uint64_t count = fcgi_histogram_count(times);
    int power;

    for (power = 8; power <= 26; power++) {
        ap_rprintf(r,
                   "fcgi_backend_%s_bucket{%s,le=\"%s\"} "
                   "%" APR_UINT64_T_FMT "\n",
                   name, label, seconds(r->pool, APR_INT64_C(1) << power),
                   fcgi_histogram_below(times, power));
    }
    ap_rprintf(r,
               "fcgi_backend_%s_bucket{%s,le=\"+Inf\"} %" APR_UINT64_T_FMT
               "\nfcgi_backend_%s_sum{%s} %s\n"
               "fcgi_backend_%s_count{%s} %" APR_UINT64_T_FMT "\n",
               name, label, count, name, label,
               seconds(r->pool, (apr_interval_time_t)times->sum), name, label,
               count);
}

void fcgi_metrics_prometheus(request_rec *r, const fcgi_reports *reports)
{
    metric which;
    int span, j;

    begin_family(r, "build_info", "gauge", "The version of the module.");
    ap_rputs("fcgi_build_info{version=\"" FCGI_MODULE_VERSION "\"} 1\n", r);
    begin_family(r, "accounts_start_time_seconds", "gauge",
                 "When counting began, in seconds since 1970.");
    ap_rprintf(r, "fcgi_accounts_start_time_seconds %s\n",
               seconds(r->pool, reports->life.since));
    begin_family(r, "accounts_restarts_total", "counter",
                 "Restarts of httpd since then.");
    ap_rprintf(r, "fcgi_accounts_restarts_total %u\n", reports->life.restarts);
    write_requests(r, reports);
    for (which = 0; which < METRIC_COUNT; which++) {
        if (forms[which].prometheus) {
            write_metric(r, reports, which);
        }
    }
    for (span = 0; span < FCGI_SPAN_COUNT; span++) {
        begin_family(
            r, apr_pstrcat(r->pool, "backend_", spans[span].prometheus, NULL),
            "histogram", spans[span].help);
        for (j = 0; j < reports->count; j++) {
            write_buckets(r, reports->list[j], spans[span].prometheus,
                          &reports->list[j]->tally.spans[span]);
        }
    }
}

/* ---- mod_status ---- */

static void write_percentiles(request_rec *r, const fcgi_tally *tally,
                              const char *start)
{
    unsigned int i;
    int span;

    for (span = 0; span < FCGI_SPAN_COUNT; span++) {
        const fcgi_histogram *times = &tally->spans[span];

        if (!fcgi_histogram_count(times)) {
            continue;
        }
        for (i = 0; i < PERCENTILE_COUNT; i++) {
            ap_rprintf(
                r, "%s%sP%d: %s\n", start, spans[span].line, percentiles[i],
                seconds(r->pool,
                        fcgi_histogram_percentile(times, percentiles[i])));
        }
    }
}

static void write_lines(request_rec *r, const fcgi_report *report, int index)
{
    const char *start = apr_psprintf(r->pool, "FcgiBackend[%d]", index);
    metric which;
    int outcome;

    ap_rprintf(r, "%sAddress: %s\n%sName: %s\n", start, report->name, start,
               report->alias);
    for (which = 0; which < METRIC_COUNT; which++) {
        ap_rprintf(r, "%s%s: %" APR_UINT64_T_FMT "\n", start,
                   forms[which].line, value_of(report, which));
    }
    for (outcome = FCGI_OUTCOME_DONE; outcome < FCGI_OUTCOME_COUNT;
         outcome++) {
        ap_rprintf(r, "%sOutcome[%s]: %" APR_UINT64_T_FMT "\n", start,
                   outcome_word(r->pool, outcome),
                   report->tally.outcomes[outcome]);
    }
    write_percentiles(r, &report->tally, start);
}

void fcgi_metrics_lines(request_rec *r, const fcgi_reports *reports)
{
    int i;

    ap_rprintf(r,
               "FcgiVersion: " FCGI_MODULE_VERSION "\n"
               "FcgiBackends: %d\nFcgiRestarts: %u\n",
               reports->count, reports->life.restarts);
    for (i = 0; i < reports->count; i++) {
        write_lines(r, reports->list[i], i);
    }
}
