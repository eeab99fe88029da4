/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_tally.c - counting; the contract is in fcgi_tally.h.
 */
#include "fcgi_tally.h"

#include <apr_atomic.h>
#include <apr_version.h>

#if !APR_VERSION_AT_LEAST(1, 7, 0)
#error "APR 1.7 or newer is needed: it counts in 64 bits"
#endif

static int is_failure(fcgi_outcome outcome)
{
    return outcome != FCGI_OUTCOME_DONE && outcome != FCGI_OUTCOME_CLIENT_BAD
           && outcome != FCGI_OUTCOME_CLIENT_GONE
           && outcome != FCGI_OUTCOME_REFUSED;
}

/* ---- histograms ---- */

/* Which power of two a time reaches, of those that steps begin at; one less:
 * none. Most times are short. */
static int power_of(apr_uint64_t time)
{
    int power = FCGI_HISTOGRAM_FIRST - 1;

    while (power < FCGI_HISTOGRAM_END && time >> (power + 1)) {
        power++;
    }
    return power;
}

/* The first step from a power of two on. */
static int step_at(int power)
{
    return 1 + 8 * (power - FCGI_HISTOGRAM_FIRST);
}

static int step_of(apr_interval_time_t span)
{
    apr_uint64_t time = span > 0 ? (apr_uint64_t)span : 0;
    int power = power_of(time);

    if (power < FCGI_HISTOGRAM_FIRST) {
        return 0;
    }
    if (power == FCGI_HISTOGRAM_END) {
        return FCGI_HISTOGRAM_STEPS - 1;
    }
    return step_at(power) + (int)(time >> (power - 3) & 7);
}

/* Where a step begins. */
static apr_interval_time_t start_of(int step)
{
    int power = FCGI_HISTOGRAM_FIRST + (step - 1) / 8;

    return step ? (APR_INT64_C(8) + (step - 1) % 8) << (power - 3) : 0;
}

static void measure(fcgi_histogram *histogram, apr_interval_time_t span)
{
    if (span >= 0) {
        apr_atomic_inc64(&histogram->counts[step_of(span)]);
        apr_atomic_add64(&histogram->sum, (apr_uint64_t)span);
    }
}

static apr_uint64_t count_steps(const fcgi_histogram *histogram, int end)
{
    apr_uint64_t count = 0;
    int step;

    for (step = 0; step < end; step++) {
        count += histogram->counts[step];
    }
    return count;
}

apr_uint64_t fcgi_histogram_count(const fcgi_histogram *histogram)
{
    return count_steps(histogram, FCGI_HISTOGRAM_STEPS);
}

apr_uint64_t fcgi_histogram_below(const fcgi_histogram *histogram, int power)
{
    return count_steps(histogram, step_at(power));
}

apr_interval_time_t fcgi_histogram_percentile(const fcgi_histogram *histogram,
                                              int percent)
{
    apr_uint64_t count = fcgi_histogram_count(histogram);
    apr_uint64_t wanted = (count * (apr_uint64_t)percent + 99) / 100;
    apr_interval_time_t start, width;
    apr_uint64_t before = 0;
    int step = 0;

    if (!count) {
        return -1;
    }
    if (!wanted) {
        wanted = 1;
    }
    while (before + histogram->counts[step] < wanted) {
        before += histogram->counts[step++];
    }
    start = start_of(step);
    if (step == FCGI_HISTOGRAM_STEPS - 1) {
        return start;
    }
    width = start_of(step + 1) - start;
    return start
           + (apr_interval_time_t)((apr_uint64_t)width * (wanted - before)
                                   / histogram->counts[step]);
}

/* ---- the last minutes ---- */

/* The number repeats after 680 years. */
static apr_uint32_t number_at(fcgi_instant now)
{
    return (apr_uint32_t)(now / FCGI_MOMENT);
}

/* The moment at now, cleared of what it was ten minutes ago. What another
 * child counts in the same instant may be lost: it is for a picture. */
static fcgi_moment *moment_at(fcgi_tally *tally, fcgi_instant now)
{
    apr_uint32_t number = number_at(now);
    fcgi_moment *moment = &tally->moments[number % FCGI_MOMENTS];
    apr_uint32_t old = apr_atomic_read32(&moment->number);

    if (old != number
        && apr_atomic_cas32(&moment->number, number, old) == old) {
        apr_atomic_set32(&moment->requests, 0);
        apr_atomic_set32(&moment->failed, 0);
    }
    return moment;
}

fcgi_moment fcgi_tally_moment(const fcgi_tally *tally, fcgi_instant now,
                              int back)
{
    apr_uint32_t number = number_at(now) - (apr_uint32_t)back;
    fcgi_moment none = { 0, 0, 0 };
    fcgi_moment moment = tally->moments[number % FCGI_MOMENTS];

    none.number = number;
    return moment.number == number ? moment : none;
}

/* ---- requests ---- */

void fcgi_attendance_note(fcgi_attendance *attendance, int there)
{
    if (!there) {
        apr_atomic_set32(&attendance->gone, 1);
    }
    else if (apr_atomic_read32(&attendance->gone)
             && apr_atomic_cas32(&attendance->gone, 0, 1) == 1) {
        apr_atomic_inc32(&attendance->returns);
    }
}

void fcgi_tally_add(fcgi_tally *tally, const fcgi_ended *ended)
{
    fcgi_moment *moment = moment_at(tally, ended->at);
    int span;

    apr_atomic_inc64(&tally->outcomes[ended->outcome]);
    if (ended->starts > 1) {
        apr_atomic_inc64(&tally->again);
    }
    if (ended->on_reused) {
        apr_atomic_inc64(&tally->reused);
    }
    apr_atomic_add64(&tally->bytes_sent, (apr_uint64_t)ended->bytes_sent);
    apr_atomic_add64(&tally->bytes_received,
                     (apr_uint64_t)ended->bytes_received);
    for (span = 0; span < FCGI_SPAN_COUNT; span++) {
        measure(&tally->spans[span], ended->spans[span]);
    }
    apr_atomic_inc32(&moment->requests);
    if (is_failure(ended->outcome)) {
        apr_atomic_inc32(&moment->failed);
    }
}

static void join_histogram(fcgi_histogram *sum, const fcgi_histogram *part)
{
    int step;

    for (step = 0; step < FCGI_HISTOGRAM_STEPS; step++) {
        sum->counts[step] += part->counts[step];
    }
    sum->sum += part->sum;
}

/* Of two that are not the same moment the later one. */
static void join_moment(fcgi_moment *sum, const fcgi_moment *part)
{
    if (part->number == sum->number) {
        sum->requests += part->requests;
        sum->failed += part->failed;
    }
    else if ((apr_int32_t)(part->number - sum->number) > 0) {
        *sum = *part;
    }
}

void fcgi_tally_join(fcgi_tally *sum, const fcgi_tally *part)
{
    int i;

    for (i = 0; i < FCGI_OUTCOME_COUNT; i++) {
        sum->outcomes[i] += part->outcomes[i];
    }
    sum->again += part->again;
    sum->reused += part->reused;
    sum->bytes_sent += part->bytes_sent;
    sum->bytes_received += part->bytes_received;
    for (i = 0; i < FCGI_SPAN_COUNT; i++) {
        join_histogram(&sum->spans[i], &part->spans[i]);
    }
    for (i = 0; i < FCGI_MOMENTS; i++) {
        join_moment(&sum->moments[i], &part->moments[i]);
    }
}

apr_uint64_t fcgi_tally_requests(const fcgi_tally *tally)
{
    apr_uint64_t count = 0;
    int outcome;

    for (outcome = 0; outcome < FCGI_OUTCOME_COUNT; outcome++) {
        count += tally->outcomes[outcome];
    }
    return count;
}

apr_uint64_t fcgi_tally_failed(const fcgi_tally *tally)
{
    apr_uint64_t count = 0;
    int outcome;

    for (outcome = 0; outcome < FCGI_OUTCOME_COUNT; outcome++) {
        if (is_failure((fcgi_outcome)outcome)) {
            count += tally->outcomes[outcome];
        }
    }
    return count;
}
