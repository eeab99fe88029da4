/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_page.c - reports in HTML; the contract is in fcgi_page.h. Begin at
 * fcgi_page_whole() at the end. Pictures are SVG inside the page.
 */
#include "fcgi_page.h"

#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>

#include "fcgi_version.h"

/* A picture is so high, in its own units; and its bars, one each wide. */
#define HEIGHT 40

/* Powers of two, in microseconds, that the picture of times shows. */
#define TIMES_FROM 6
#define TIMES_TO   26

#define MOMENTS_A_MINUTE ((int)(60 / apr_time_sec(FCGI_MOMENT)))

static const char style[] =
    ":root{color-scheme:light dark;--page:#f4f5f7;--card:#fff;--text:#1d2430;"
    "--dim:#5d6878;--line:#dde1e7;--use:#2a63c9;--idle:#a9c6f7;--bad:#c62f3b;"
    "--good:#1c7c4a;--warn:#96600a}"
    "@media(prefers-color-scheme:dark){:root{--page:#12161c;--card:#1b212a;"
    "--text:#e4e9f0;--dim:#98a4b5;--line:#303947;--use:#6ba1ff;--idle:#4a71ad;"
    "--bad:#ff7a81;--good:#5fcf93;--warn:#e5b04c}}"
    "*{box-sizing:border-box}"
    "body{margin:0 auto;max-width:76rem;padding:1.5rem 1rem 3rem;"
    "background:var(--page);color:var(--text);"
    "font:15px/1.45 system-ui,sans-serif;font-variant-numeric:tabular-nums}"
    "h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:0}"
    "h2 small{font-weight:400;color:var(--dim);overflow-wrap:anywhere}"
    "h3{font-size:.8rem;font-weight:600;color:var(--dim);margin:0 0 .4rem;"
    "text-transform:uppercase;letter-spacing:.04em}"
    "a{color:var(--use)}p{margin:.3rem 0}"
    "header p,.none,.of{color:var(--dim)}"
    "section{background:var(--card);border:1px solid var(--line);"
    "border-radius:10px;padding:1rem 1.2rem;margin-top:1rem}"
    ".top{display:flex;gap:1rem;justify-content:space-between;"
    "align-items:baseline;margin-bottom:.8rem}"
    ".state{font-size:.85rem;font-weight:600;white-space:nowrap}"
    ".state::before{content:'';display:inline-block;width:.6em;height:.6em;"
    "border-radius:50%;background:currentColor;margin-right:.4em}"
    ".good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}"
    ".quiet{color:var(--dim)}"
    ".panels{display:grid;gap:1.2rem 2rem;"
    "grid-template-columns:1fr 1.2fr 1.4fr 1fr}"
    "@media(max-width:64rem){.panels{grid-template-columns:1fr 1fr}}"
    "@media(max-width:38rem){.panels{grid-template-columns:1fr}}"
    ".axis{display:flex;justify-content:space-between;margin:-.2rem 0 .4rem;"
    "font-size:.75rem;color:var(--dim)}"
    ".big{font-size:1.5rem;font-weight:600}"
    "svg{display:block;width:100%;margin:.4rem 0;background:var(--page);"
    "border-radius:4px}.bar{height:10px}.bars{height:44px}"
    ".use{fill:var(--use)}.idle{fill:var(--idle)}.fail{fill:var(--bad)}"
    "table{border-collapse:collapse;width:100%}"
    "th{font-weight:400;color:var(--dim);text-align:left}"
    "td,th{padding:.1rem 0;white-space:nowrap}"
    "td{text-align:right;padding-left:.7rem}"
    "thead th{text-align:right;font-size:.8rem;padding-left:.7rem}";

/* ---- numbers ---- */

/* Microseconds, with three digits that matter. */
static const char *show_time(apr_pool_t *pool, apr_interval_time_t time)
{
    static const struct {
        apr_interval_time_t size;
        const char *name;
    } units[] = { { APR_USEC_PER_SEC, "s" }, { 1000, "ms" } };
    unsigned int i;

    if (time < 0) {
        return "&ndash;";
    }
    for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        double value = (double)time / (double)units[i].size;

        if (value >= 1) {
            return apr_psprintf(pool, "%.*f&nbsp;%s",
                                value < 10    ? 2
                                : value < 100 ? 1
                                              : 0,
                                value, units[i].name);
        }
    }
    return apr_psprintf(pool, "%d&nbsp;&micro;s", (int)time);
}

static const char *show_bytes(apr_pool_t *pool, apr_uint64_t bytes)
{
    char *text = apr_palloc(pool, 5);

    return apr_strfsize((apr_off_t)bytes, text);
}

/* What has to be seen first of a backend. */
typedef struct state {
    const char *class;
    const char *word;
} state;

/* Requests of the last minute, as far as it is over; and failed ones. */
static fcgi_moment last_minute(const fcgi_report *report, fcgi_instant now)
{
    fcgi_moment sum = { 0, 0, 0 };
    int back;

    for (back = 0; back <= MOMENTS_A_MINUTE; back++) {
        fcgi_moment moment = fcgi_tally_moment(&report->tally, now, back);

        sum.requests += moment.requests;
        sum.failed += moment.failed;
    }
    return sum;
}

static state state_of(const fcgi_report *report, fcgi_instant now)
{
    static const state gone = { "bad", "not there" },
                       failing = { "bad", "failing" },
                       full = { "warn", "requests in line" },
                       busy = { "good", "busy" }, good = { "good", "good" },
                       quiet = { "quiet", "not asked yet" };

    if (report->attendance.gone) {
        return gone;
    }
    if (last_minute(report, now).failed) {
        return failing;
    }
    if (report->length.waiting) {
        return full;
    }
    if (report->length.in_use) {
        return busy;
    }
    return fcgi_tally_requests(&report->tally) ? good : quiet;
}

/* ---- pictures ---- */

/* Bars of one colour, as high as they are of the highest. Those of something
 * are never invisible. */
static void draw_bars(request_rec *r, const char *class,
                      const apr_uint64_t *values, int count,
                      apr_uint64_t highest)
{
    int i;

    ap_rprintf(r, "<path class=\"%s\" d=\"", class);
    for (i = 0; highest && i < count; i++) {
        if (values[i]) {
            double height =
                1 + (HEIGHT - 1) * (double)values[i] / (double)highest;

            ap_rprintf(r, "M%d %dv-%.1fh.9v%.1fz", i, HEIGHT, height, height);
        }
    }
    ap_rputs("\"/>", r);
}

static apr_uint64_t highest_of(const apr_uint64_t *values, int count)
{
    apr_uint64_t highest = 0;
    int i;

    for (i = 0; i < count; i++) {
        highest = values[i] > highest ? values[i] : highest;
    }
    return highest;
}

static void begin_bars(request_rec *r, int count, const char *title)
{
    ap_rprintf(r,
               "<svg class=\"bars\" role=\"img\" viewBox=\"0 0 %d %d\" "
               "preserveAspectRatio=\"none\"><title>%s</title>",
               count, HEIGHT, title);
}

/* The last ten minutes, without the moment that is not over. */
static void draw_history(request_rec *r, const fcgi_tally *tally,
                         fcgi_instant now)
{
    enum {
        COUNT = FCGI_MOMENTS - 1
    };
    apr_uint64_t requests[COUNT], failed[COUNT], highest;
    int i;

    for (i = 0; i < COUNT; i++) {
        fcgi_moment moment = fcgi_tally_moment(tally, now, COUNT - i);

        requests[i] = moment.requests;
        failed[i] = moment.failed;
    }
    highest = highest_of(requests, COUNT);
    begin_bars(r, COUNT,
               "Requests of the last ten minutes; those that failed in red");
    draw_bars(r, "use", requests, COUNT, highest);
    draw_bars(r, "fail", failed, COUNT, highest);
    ap_rprintf(r,
               "</svg><div class=\"axis\"><span>10&nbsp;min ago</span>"
               "<span>up to %.1f/s</span><span>now</span></div>",
               (double)highest / (double)apr_time_sec(FCGI_MOMENT));
}

/* How many requests took how long; each bar twice as long as the one before.
 * What is shorter or longer is in the first and the last. */
static void draw_times(request_rec *r, const fcgi_histogram *times)
{
    enum {
        COUNT = TIMES_TO - TIMES_FROM + 2
    };
    apr_uint64_t values[COUNT], before = 0;
    int i;

    for (i = 0; i < COUNT - 1; i++) {
        apr_uint64_t below = fcgi_histogram_below(times, TIMES_FROM + i);

        values[i] = below - before;
        before = below;
    }
    values[COUNT - 1] = fcgi_histogram_count(times) - before;
    begin_bars(r, COUNT,
               "How many requests took how long: the first bar up to 64 "
               "microseconds, each next one up to the double, the last one "
               "more than 67 seconds");
    draw_bars(r, "use", values, COUNT, highest_of(values, COUNT));
    ap_rputs("</svg><div class=\"axis\"><span>64&nbsp;&micro;s</span>"
             "<span>2&nbsp;ms</span><span>65&nbsp;ms</span>"
             "<span>2&nbsp;s</span><span>67&nbsp;s</span></div>",
             r);
}

/* Connections in use and idle, as parts of those allowed. */
static void draw_connections(request_rec *r, const fcgi_report *report)
{
    unsigned int in_use = report->length.in_use, idle = report->length.idle;
    unsigned int max = report->limits.max;

    ap_rprintf(r,
               "<svg class=\"bar\" role=\"img\" viewBox=\"0 0 %u 1\" "
               "preserveAspectRatio=\"none\"><title>%u in use, %u idle"
               "</title><rect class=\"use\" width=\"%u\" height=\"1\"/>"
               "<rect class=\"idle\" x=\"%u\" width=\"%u\" height=\"1\"/>"
               "</svg>",
               max, in_use, idle, in_use, in_use, idle);
}

/* ---- the panels of a backend ---- */

static void panel_connections(request_rec *r, const fcgi_report *report)
{
    const fcgi_limits *limits = &report->limits;

    ap_rprintf(r,
               "<div><h3>Connections</h3><span class=\"big\">%u</span> in use",
               report->length.in_use);
    if (limits->max) {
        ap_rprintf(r, " <span class=\"of\">of %u</span>", limits->max);
        draw_connections(r, report);
    }
    ap_rprintf(r, "<table><tr><th>idle</th><td>%u", report->length.idle);
    if (limits->keepalive) {
        ap_rprintf(r, " <span class=\"of\">of %u</span>", limits->keepalive);
    }
    if (limits->max) {
        ap_rprintf(r,
                   "</td></tr><tr><th>requests in line</th><td>%u "
                   "<span class=\"of\">of %u</span>",
                   report->length.waiting, limits->queue);
    }
    ap_rprintf(r,
               "</td></tr><tr><th>waiting without a thread</th><td>%u</td>"
               "</tr></table></div>",
               report->length.parked);
}

static void panel_requests(request_rec *r, const fcgi_report *report,
                           fcgi_instant now)
{
    const fcgi_tally *tally = &report->tally;
    apr_uint64_t requests = fcgi_tally_requests(tally);
    apr_uint64_t reused = tally->reused < requests ? tally->reused : requests;

    ap_rprintf(r,
               "<div><h3>Requests</h3><span class=\"big\">%" APR_UINT64_T_FMT
               "</span> in all <span class=\"of\">%u in the last minute"
               "</span>",
               requests, last_minute(report, now).requests);
    draw_history(r, tally, now);
    ap_rprintf(r,
               "<table><tr><th>sent</th><td>%s</td></tr><tr><th>received"
               "</th><td>%s</td></tr><tr><th>on kept connections</th><td>%d"
               "&nbsp;%%</td></tr></table></div>",
               show_bytes(r->pool, tally->bytes_sent),
               show_bytes(r->pool, tally->bytes_received),
               requests ? (int)(reused * 100 / requests) : 0);
}

static void panel_times(request_rec *r, const fcgi_tally *tally)
{
    static const char *const names[FCGI_SPAN_COUNT] = {
        [FCGI_SPAN_WAIT] = "connection",
        [FCGI_SPAN_FIRST_BYTE] = "first byte",
        [FCGI_SPAN_TOTAL] = "total",
    };
    static const int percentiles[] = { 50, 90, 99 };
    unsigned int i;
    int span;

    ap_rputs("<div><h3>Times</h3><table><thead><tr><th></th><th>median</th>"
             "<th>90&nbsp;%</th><th>99&nbsp;%</th></tr></thead><tbody>",
             r);
    for (span = 0; span < FCGI_SPAN_COUNT; span++) {
        ap_rprintf(r, "<tr><th>%s</th>", names[span]);
        for (i = 0; i < sizeof(percentiles) / sizeof(percentiles[0]); i++) {
            ap_rprintf(r, "<td>%s</td>",
                       show_time(r->pool,
                                 fcgi_histogram_percentile(&tally->spans[span],
                                                           percentiles[i])));
        }
        ap_rputs("</tr>", r);
    }
    ap_rputs("</tbody></table>", r);
    draw_times(r, &tally->spans[FCGI_SPAN_TOTAL]);
    ap_rputs("</div>", r);
}

static void write_row(request_rec *r, const char *name, apr_uint64_t count)
{
    if (count) {
        ap_rprintf(r, "<tr><th>%s</th><td>%" APR_UINT64_T_FMT "</td></tr>",
                   name, count);
    }
}

static void panel_ends(request_rec *r, const fcgi_report *report)
{
    const fcgi_tally *tally = &report->tally;
    int outcome;

    ap_rprintf(r,
               "<div><h3>Failures</h3><span class=\"big%s\">%" APR_UINT64_T_FMT
               "</span> <span class=\"of\">failed</span><table>",
               fcgi_tally_failed(tally) ? " bad" : "",
               fcgi_tally_failed(tally));
    for (outcome = FCGI_OUTCOME_DONE + 1; outcome < FCGI_OUTCOME_COUNT;
         outcome++) {
        write_row(r, fcgi_outcome_name((fcgi_outcome)outcome),
                  tally->outcomes[outcome]);
    }
    write_row(r, "sent once more", tally->again);
    write_row(r, "restarts survived", report->attendance.returns);
    ap_rputs("</table></div>", r);
}

static void write_backend(request_rec *r, const fcgi_report *report,
                          fcgi_instant now)
{
    state shown = state_of(report, now);

    ap_rprintf(r,
               "<section><div class=\"top\"><h2>%s%s<small>%s%s</small></h2>"
               "<span class=\"state %s\">%s</span></div>"
               "<div class=\"panels\">",
               report->alias, report->alias[0] ? " " : "", report->name,
               report->is_known ? "" : " (not configured)", shown.class,
               shown.word);
    panel_connections(r, report);
    panel_requests(r, report, now);
    panel_times(r, &report->tally);
    panel_ends(r, report);
    ap_rputs("</div></section>\n", r);
}

/* ---- the page ---- */

static const char *show_date(apr_pool_t *pool, apr_time_t when)
{
    return ap_ht_time(pool, when, "%Y-%m-%d %H:%M:%S %Z", 0);
}

static void write_head(request_rec *r, const fcgi_reports *reports,
                       int refresh)
{
    const char *host = ap_escape_html(r->pool, ap_get_server_name(r));

    ap_rputs("<!DOCTYPE html>\n<html lang=\"en\"><head>"
             "<meta charset=\"utf-8\">",
             r);
    if (refresh) {
        ap_rprintf(r, "<meta http-equiv=\"refresh\" content=\"%d\">", refresh);
    }
    ap_rprintf(
        r,
        "<meta name=\"viewport\" content=\"width=device-width\">"
        "<title>FastCGI backends of %s</title><style>%s</style></head>"
        "<body>\n<header><h1>FastCGI backends of %s</h1><p>"
        "mod_fastcgi_handler " FCGI_MODULE_VERSION " &middot; %s &middot; "
        "counting since %s, %u restarts of httpd since<br>",
        host, style, host, show_date(r->pool, reports->at),
        show_date(r->pool, reports->life.since), reports->life.restarts);
    if (refresh) {
        ap_rprintf(r, "new every %d&nbsp;s, <a href=\"?refresh=0\">stop</a>",
                   refresh);
    }
    else {
        ap_rputs("<a href=\"?\">go on</a>", r);
    }
    ap_rputs(" &middot; <a href=\"?json\">JSON</a> &middot; "
             "<a href=\"?prometheus\">Prometheus</a></p></header>\n",
             r);
}

void fcgi_page_whole(request_rec *r, const fcgi_reports *reports, int refresh)
{
    int i;

    write_head(r, reports, refresh);
    for (i = 0; i < reports->count; i++) {
        write_backend(r, reports->list[i], reports->now);
    }
    if (!reports->count) {
        ap_rputs("<section class=\"none\">The configuration names no backend, "
                 "and none was asked.</section>\n",
                 r);
    }
    ap_rputs("</body></html>\n", r);
}

/* ---- in mod_status ---- */

static void write_limit(request_rec *r, unsigned int count, unsigned int limit)
{
    ap_rprintf(r, limit ? "<td>%u of %u</td>" : "<td>%u</td>", count, limit);
}

/* What went wrong, in words. */
static const char *list_failures(apr_pool_t *pool, const fcgi_tally *tally)
{
    const char *list = "";
    int outcome;

    for (outcome = FCGI_OUTCOME_DONE + 1; outcome < FCGI_OUTCOME_COUNT;
         outcome++) {
        if (tally->outcomes[outcome]) {
            list = apr_psprintf(pool, "%s%s%" APR_UINT64_T_FMT " %s", list,
                                list[0] ? ", " : "", tally->outcomes[outcome],
                                fcgi_outcome_name((fcgi_outcome)outcome));
        }
    }
    return list;
}

static void write_table_row(request_rec *r, const fcgi_report *report)
{
    const fcgi_tally *tally = &report->tally;
    const fcgi_limits *limits = &report->limits;
    int span;

    ap_rprintf(r,
               "<tr><td style=\"overflow-wrap:anywhere;min-width:12em\">"
               "%s%s%s</td>",
               report->alias, report->alias[0] ? " " : "", report->name);
    write_limit(r, report->length.in_use, limits->max);
    write_limit(r, report->length.idle, limits->keepalive);
    write_limit(r, report->length.waiting, limits->queue);
    ap_rprintf(r,
               "<td>%u</td><td>%" APR_UINT64_T_FMT "</td><td>%s</td>"
               "<td>%u</td><td>%s</td><td>%s</td>",
               report->length.parked, fcgi_tally_requests(tally),
               list_failures(r->pool, tally), report->attendance.returns,
               show_bytes(r->pool, tally->bytes_sent),
               show_bytes(r->pool, tally->bytes_received));
    for (span = 0; span < FCGI_SPAN_COUNT; span++) {
        const fcgi_histogram *times = &tally->spans[span];

        ap_rprintf(r, "<td>%s / %s</td>",
                   show_time(r->pool, fcgi_histogram_percentile(times, 50)),
                   show_time(r->pool, fcgi_histogram_percentile(times, 99)));
    }
    ap_rputs("</tr>\n", r);
}

void fcgi_page_section(request_rec *r, const fcgi_reports *reports)
{
    int i;

    ap_rputs("<table border=\"1\"><tr>"
             "<th>Backend</th><th>In use</th><th>Idle</th><th>In line</th>"
             "<th>Without a thread</th><th>Requests</th><th>Not done</th>"
             "<th>Restarts survived</th><th>Sent</th><th>Received</th>"
             "<th>Wait, median / 99&nbsp;%</th><th>First byte</th>"
             "<th>Total</th></tr>\n",
             r);
    for (i = 0; i < reports->count; i++) {
        write_table_row(r, reports->list[i]);
    }
    ap_rprintf(r,
               "</table>\n<p>mod_fastcgi_handler " FCGI_MODULE_VERSION
               ". Counting since %s, %u restarts of httpd since.</p>\n",
               show_date(r->pool, reports->life.since),
               reports->life.restarts);
}
