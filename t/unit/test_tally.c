/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * test_tally.c - what fcgi_tally.h promises, with a clock that the tests set.
 *
 * The steps of the histogram are written down here once more, from the
 * drawing in the header. Knows nothing but fcgi_tally.h; t/07-tally.t
 * compiles and runs it, once more under ThreadSanitizer.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <apr_atomic.h>
#include <apr_general.h>

#include "fcgi_tally.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define FIRST_POWER 4
#define LAST_POWER  36
#define STEPS       258

#define THREADS 8
#define ADDS    4000 /* of each thread, or child */
#define ROUNDS  200  /* of all threads finding it back at once */

/* Some weeks after the start of a machine, at the beginning of a moment. */
#define START   (apr_time_from_sec(1792000))
#define MOMENT  apr_time_from_sec(5)
#define MOMENTS 121

/* ---- the clock ---- */

static fcgi_instant now = START;

/* Takes the place of fcgi_clock.c's. */
fcgi_instant fcgi_clock_now(void)
{
    return now;
}

/* ---- atomic operations ---- */

/* All threads read this word before any of them goes on; NULL: none does. */
static struct {
    volatile apr_uint32_t *word;
    pthread_barrier_t all;
} seen_by_all;

/*
 * These take the place of APR's own: ThreadSanitizer sees what it has
 * compiled, and libapr it has not.
 */
apr_uint32_t apr_atomic_read32(volatile apr_uint32_t *mem)
{
    apr_uint32_t value = __atomic_load_n(mem, __ATOMIC_SEQ_CST);

    if (mem == seen_by_all.word) {
        pthread_barrier_wait(&seen_by_all.all);
    }
    return value;
}

void apr_atomic_set32(volatile apr_uint32_t *mem, apr_uint32_t val)
{
    __atomic_store_n(mem, val, __ATOMIC_SEQ_CST);
}

apr_uint32_t apr_atomic_inc32(volatile apr_uint32_t *mem)
{
    return __atomic_fetch_add(mem, 1, __ATOMIC_SEQ_CST);
}

apr_uint32_t apr_atomic_cas32(volatile apr_uint32_t *mem, apr_uint32_t with,
                              apr_uint32_t expected)
{
    __atomic_compare_exchange_n(mem, &expected, with, 0, __ATOMIC_SEQ_CST,
                                __ATOMIC_SEQ_CST);
    return expected;
}

apr_uint64_t apr_atomic_inc64(volatile apr_uint64_t *mem)
{
    return __atomic_fetch_add(mem, 1, __ATOMIC_SEQ_CST);
}

apr_uint64_t apr_atomic_add64(volatile apr_uint64_t *mem, apr_uint64_t val)
{
    return __atomic_fetch_add(mem, val, __ATOMIC_SEQ_CST);
}

/* ---- requests ---- */

/* One that went well, of which nothing was measured. */
static fcgi_ended request(void)
{
    fcgi_ended ended = { 0 };
    int span;

    ended.at = fcgi_clock_now();
    ended.outcome = FCGI_OUTCOME_DONE;
    ended.starts = 1;
    for (span = 0; span < FCGI_SPAN_COUNT; span++) {
        ended.spans[span] = -1;
    }
    return ended;
}

static void add_span(fcgi_tally *tally, fcgi_span which,
                     apr_interval_time_t span)
{
    fcgi_ended ended = request();

    ended.spans[which] = span;
    fcgi_tally_add(tally, &ended);
}

static void add_total(fcgi_tally *tally, apr_interval_time_t span)
{
    add_span(tally, FCGI_SPAN_TOTAL, span);
}

static void add_outcome(fcgi_tally *tally, fcgi_outcome outcome)
{
    fcgi_ended ended = request();

    ended.outcome = outcome;
    fcgi_tally_add(tally, &ended);
}

static fcgi_tally *new_tally(void)
{
    fcgi_tally *tally = calloc(1, sizeof(*tally));

    assert_non_null(tally);
    now = START;
    return tally;
}

static fcgi_histogram *total_of(fcgi_tally *tally)
{
    return &tally->spans[FCGI_SPAN_TOTAL];
}

/* ---- the steps, as the header draws them ---- */

static uint64_t starts[STEPS];

static void draw_steps(void)
{
    int step = 0, power, eighth;

    starts[step++] = 0;
    for (power = FIRST_POWER; power < LAST_POWER; power++) {
        for (eighth = 0; eighth < 8; eighth++) {
            uint64_t from = (uint64_t)1 << power;

            starts[step++] = from + (uint64_t)eighth * (from / 8);
        }
    }
    starts[step++] = (uint64_t)1 << LAST_POWER;
    assert_int_equal(step, STEPS);
}

static int step_of(uint64_t time)
{
    int step = STEPS - 1;

    while (time < starts[step]) {
        step--;
    }
    return step;
}

/* A time alone is found in that step, and in no other. */
static void check_step(apr_interval_time_t time, int step)
{
    fcgi_tally *tally = new_tally();
    int i;

    add_total(tally, time);
    for (i = 0; i < STEPS; i++) {
        assert_int_equal(total_of(tally)->counts[i], i == step);
    }
    assert_int_equal(fcgi_histogram_count(total_of(tally)), 1);
    assert_int_equal(total_of(tally)->sum, time);
    free(tally);
}

static void the_steps_are_those_of_the_drawing(void **state)
{
    static const struct {
        int step;
        uint64_t from;
    } drawn[] = { { 0, 0 },
                  { 1, 16 },
                  { 2, 18 },
                  { 8, 30 },
                  { 9, 32 },
                  { 10, 36 },
                  { 16, 60 },
                  { 17, 64 },
                  { 249, 34359738368 },
                  { 257, 68719476736 } };
    size_t i;

    (void)state;
    assert_int_equal(FCGI_HISTOGRAM_STEPS, STEPS);
    assert_int_equal(FCGI_HISTOGRAM_FIRST, FIRST_POWER);
    assert_int_equal(FCGI_HISTOGRAM_END, LAST_POWER);
    for (i = 0; i < COUNT(drawn); i++) {
        assert_int_equal(starts[drawn[i].step], drawn[i].from);
        check_step((apr_interval_time_t)drawn[i].from, drawn[i].step);
    }
}

static void a_time_is_in_its_step_at_every_boundary(void **state)
{
    int step;

    (void)state;
    check_step(0, 0);
    check_step(1, 0);
    for (step = 1; step < STEPS; step++) {
        apr_interval_time_t from = (apr_interval_time_t)starts[step];

        check_step(from - 1, step - 1);
        check_step(from, step);
        check_step(from + 1, step);
    }
}

static void the_longest_times_are_in_the_last_step(void **state)
{
    static const apr_interval_time_t times[] = {
        (apr_interval_time_t)1 << 36, ((apr_interval_time_t)1 << 37) - 1,
        (apr_interval_time_t)1 << 37, (apr_interval_time_t)1 << 62, INT64_MAX
    };
    size_t i;

    (void)state;
    check_step(((apr_interval_time_t)1 << 36) - 1, STEPS - 2);
    for (i = 0; i < COUNT(times); i++) {
        fcgi_tally *tally = new_tally();

        check_step(times[i], STEPS - 1);
        add_total(tally, times[i]);
        assert_int_equal(fcgi_histogram_percentile(total_of(tally), 50),
                         (apr_interval_time_t)1 << 36);
        assert_int_equal(fcgi_histogram_below(total_of(tally), LAST_POWER), 0);
        free(tally);
    }
}

static void a_negative_span_is_not_measured(void **state)
{
    static const apr_interval_time_t spans[] = { -1, -2, INT64_MIN };
    fcgi_tally *tally = new_tally();
    size_t i;
    int power;

    (void)state;
    for (i = 0; i < COUNT(spans); i++) {
        add_total(tally, spans[i]);
    }
    assert_int_equal(fcgi_histogram_count(total_of(tally)), 0);
    assert_int_equal(total_of(tally)->sum, 0);
    assert_int_equal(fcgi_histogram_percentile(total_of(tally), 50), -1);
    assert_int_equal(fcgi_histogram_percentile(total_of(tally), 0), -1);
    for (power = FIRST_POWER; power <= LAST_POWER; power++) {
        assert_int_equal(fcgi_histogram_below(total_of(tally), power), 0);
    }
    assert_int_equal(fcgi_tally_requests(tally), 3);
    add_total(tally, 0);
    assert_int_equal(fcgi_histogram_count(total_of(tally)), 1);
    free(tally);
}

static void each_span_has_its_histogram(void **state)
{
    fcgi_tally *tally = new_tally();
    int which, other;

    (void)state;
    for (which = 0; which < FCGI_SPAN_COUNT; which++) {
        add_span(tally, (fcgi_span)which, 1000 * (which + 1));
        for (other = 0; other < FCGI_SPAN_COUNT; other++) {
            assert_int_equal(fcgi_histogram_count(&tally->spans[other]),
                             other <= which);
            assert_int_equal(tally->spans[other].sum,
                             other <= which ? 1000 * (other + 1) : 0);
        }
    }
    free(tally);
}

/* ---- what a histogram says ---- */

static uint64_t seed = 20260101;

/* Knuth's MMIX; the low bits are poor. */
static uint64_t random_number(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return seed >> 20;
}

/* Of any size up to twenty minutes. */
static apr_interval_time_t random_time(void)
{
    return (apr_interval_time_t)(random_number() >> (14 + random_number() % 30)
                                 & (((uint64_t)1 << 30) - 1));
}

static int compare(const void *one, const void *other)
{
    apr_interval_time_t a = *(const apr_interval_time_t *)one;
    apr_interval_time_t b = *(const apr_interval_time_t *)other;

    return a < b ? -1 : a > b;
}

/* What so many of a hundred do not exceed, of sorted times. */
static apr_interval_time_t exact(const apr_interval_time_t *times, int count,
                                 int percent)
{
    int rank = (count * percent + 99) / 100;

    return times[rank > 0 ? rank - 1 : 0];
}

static void check_percentiles(const fcgi_histogram *histogram,
                              const apr_interval_time_t *times, int count)
{
    apr_interval_time_t before = 0;
    int percent;

    for (percent = 0; percent <= 100; percent++) {
        apr_interval_time_t is = exact(times, count, percent);
        apr_interval_time_t said =
            fcgi_histogram_percentile(histogram, percent);
        apr_interval_time_t error = said > is ? said - is : is - said;

        assert_true(error <= (is < 16 ? 16 : is / 8));
        assert_true(said >= before);
        assert_true(said
                    >= (apr_interval_time_t)starts[step_of((uint64_t)is)]);
        before = said;
    }
}

static void check_below(const fcgi_histogram *histogram,
                        const apr_interval_time_t *times, int count)
{
    int power, i;

    for (power = FIRST_POWER; power <= LAST_POWER; power++) {
        uint64_t below = 0;

        for (i = 0; i < count; i++) {
            below += times[i] < (apr_interval_time_t)1 << power;
        }
        assert_int_equal(fcgi_histogram_below(histogram, power), below);
    }
}

static void percentiles_are_right_to_an_eighth(void **state)
{
    static const int counts[] = { 1, 2, 3, 7, 10, 99, 100, 101, 5000 };
    static apr_interval_time_t times[5000];
    size_t i;
    int round, j;

    (void)state;
    for (i = 0; i < COUNT(counts); i++) {
        for (round = 0; round < (counts[i] > 1000 ? 2 : 20); round++) {
            fcgi_tally *tally = new_tally();
            uint64_t sum = 0;

            for (j = 0; j < counts[i]; j++) {
                times[j] = random_time();
                sum += (uint64_t)times[j];
                add_total(tally, times[j]);
            }
            qsort(times, (size_t)counts[i], sizeof(times[0]), compare);
            assert_int_equal(total_of(tally)->sum, sum);
            assert_int_equal(fcgi_histogram_count(total_of(tally)), counts[i]);
            check_percentiles(total_of(tally), times, counts[i]);
            check_below(total_of(tally), times, counts[i]);
            free(tally);
        }
    }
}

static void a_percentile_is_of_as_many_as_it_says(void **state)
{
    fcgi_tally *tally = new_tally();
    int i;

    (void)state;
    for (i = 0; i < 98; i++) {
        add_total(tally, 1024);
    }
    add_total(tally, 4096);
    add_total(tally, 65536);
    assert_in_range(fcgi_histogram_percentile(total_of(tally), 98), 1024,
                    1024 + 128);
    assert_in_range(fcgi_histogram_percentile(total_of(tally), 99), 4096,
                    4096 + 512);
    assert_in_range(fcgi_histogram_percentile(total_of(tally), 100), 65536,
                    65536 + 8192);
    free(tally);
}

/* Times that fill a step evenly are told evenly. */
static void inside_a_step_it_is_estimated(void **state)
{
    fcgi_tally *tally = new_tally();
    int i, percent;

    (void)state;
    for (i = 0; i < 1000; i++) {
        add_total(tally, 8192 + i); /* the step ends at 9216 */
    }
    for (percent = 1; percent <= 100; percent++) {
        assert_int_equal(fcgi_histogram_percentile(total_of(tally), percent),
                         8192 + 1024 * percent / 100);
    }
    free(tally);
}

static void below_a_power_it_itself_is_not(void **state)
{
    int power, other;

    (void)state;
    for (power = FIRST_POWER; power <= LAST_POWER; power++) {
        apr_interval_time_t time = (apr_interval_time_t)1 << power;
        fcgi_tally *tally = new_tally();

        add_total(tally, time - 1);
        add_total(tally, time);
        for (other = FIRST_POWER; other <= LAST_POWER; other++) {
            assert_int_equal(fcgi_histogram_below(total_of(tally), other),
                             other < power    ? 0
                             : other == power ? 1
                                              : 2);
        }
        free(tally);
    }
}

/* ---- how requests end ---- */

static int is_failure(int outcome)
{
    switch (outcome) {
    case FCGI_OUTCOME_DONE:
    case FCGI_OUTCOME_CLIENT_BAD:
    case FCGI_OUTCOME_CLIENT_GONE:
    case FCGI_OUTCOME_REFUSED:
        return 0;
    default:
        return 1;
    }
}

static void every_outcome_is_counted_as_what_it_is(void **state)
{
    fcgi_tally *tally = new_tally();
    apr_uint64_t requests = 0, failed = 0;
    int outcome, other;

    (void)state;
    for (outcome = FCGI_OUTCOME_DONE; outcome < FCGI_OUTCOME_COUNT;
         outcome++) {
        for (other = 0; other <= outcome; other++) {
            add_outcome(tally, (fcgi_outcome)outcome);
            requests++;
            failed += is_failure(outcome) ? 1 : 0;
            assert_int_equal(fcgi_tally_requests(tally), requests);
            assert_int_equal(fcgi_tally_failed(tally), failed);
            assert_int_equal(fcgi_tally_moment(tally, now, 0).requests,
                             requests);
            assert_int_equal(fcgi_tally_moment(tally, now, 0).failed, failed);
        }
    }
    assert_int_equal(tally->outcomes[FCGI_OUTCOME_PENDING], 0);
    for (other = FCGI_OUTCOME_DONE; other < FCGI_OUTCOME_COUNT; other++) {
        assert_int_equal(tally->outcomes[other], other + 1);
    }
    free(tally);
}

static void sent_again_and_reused_are_counted_once(void **state)
{
    fcgi_tally *tally = new_tally();
    fcgi_ended ended = request();
    int starts;

    (void)state;
    for (starts = 0; starts <= 3; starts++) {
        ended.starts = starts;
        fcgi_tally_add(tally, &ended);
        assert_int_equal(tally->again, starts > 1 ? starts - 1 : 0);
        assert_int_equal(tally->reused, 0);
    }
    ended.starts = 1;
    ended.on_reused = 1;
    fcgi_tally_add(tally, &ended);
    ended.on_reused = 2;
    fcgi_tally_add(tally, &ended);
    assert_int_equal(tally->reused, 2);
    assert_int_equal(tally->again, 2);
    assert_int_equal(fcgi_tally_requests(tally), 6);
    free(tally);
}

static void bytes_are_added_each_way(void **state)
{
    fcgi_tally *tally = new_tally();
    fcgi_ended ended = request();

    (void)state;
    ended.bytes_sent = APR_INT64_C(5000000000);
    ended.bytes_received = 7;
    fcgi_tally_add(tally, &ended);
    ended.bytes_sent = 1;
    ended.bytes_received = APR_INT64_C(6000000000);
    fcgi_tally_add(tally, &ended);
    assert_int_equal(tally->bytes_sent, APR_INT64_C(5000000001));
    assert_int_equal(tally->bytes_received, APR_INT64_C(6000000007));
    free(tally);
}

/* ---- the last minutes ---- */

/* At that time there were so many requests, and failed ones, so long ago. */
static void check_moment(const fcgi_tally *tally, int back,
                         apr_uint32_t requests, apr_uint32_t failed)
{
    fcgi_moment moment = fcgi_tally_moment(tally, now, back);

    assert_int_equal(moment.number, now / MOMENT - back);
    assert_int_equal(moment.requests, requests);
    assert_int_equal(moment.failed, failed);
}

static void a_moment_has_five_seconds(void **state)
{
    fcgi_tally *tally = new_tally();

    (void)state;
    add_outcome(tally, FCGI_OUTCOME_DONE);
    now += MOMENT - 1;
    add_outcome(tally, FCGI_OUTCOME_BROKEN);
    check_moment(tally, 0, 2, 1);
    now += 1;
    check_moment(tally, 0, 0, 0);
    check_moment(tally, 1, 2, 1);
    add_outcome(tally, FCGI_OUTCOME_CLIENT_GONE);
    check_moment(tally, 0, 1, 0);
    check_moment(tally, 1, 2, 1);
    check_moment(tally, 2, 0, 0);
    free(tally);
}

/* Half an hour with i % 7 requests in the i-th moment, one of them failed:
 * after each moment all of the last ten minutes are right. */
static void ten_minutes_are_remembered(void **state)
{
    fcgi_tally *tally = new_tally();
    int i, j, back;

    (void)state;
    assert_int_equal(FCGI_MOMENTS, MOMENTS);
    assert_int_equal(FCGI_MOMENT, MOMENT);
    for (i = 0; i < 360; i++, now += MOMENT) {
        for (j = 0; j < i % 7; j++) {
            add_outcome(tally, j ? FCGI_OUTCOME_DONE : FCGI_OUTCOME_TIMED_OUT);
        }
        for (back = 0; back < MOMENTS; back++) {
            int was = i - back;

            check_moment(tally, back, was > 0 ? (apr_uint32_t)was % 7 : 0,
                         was > 0 && was % 7 > 0);
        }
    }
    free(tally);
}

static void what_is_older_is_forgotten(void **state)
{
    fcgi_tally *tally = new_tally();
    int back;

    (void)state;
    add_outcome(tally, FCGI_OUTCOME_BROKEN);
    now += (MOMENTS - 1) * MOMENT;
    check_moment(tally, MOMENTS - 1, 1, 1);
    now += MOMENT; /* the same place */
    for (back = 0; back < MOMENTS; back++) {
        check_moment(tally, back, 0, 0);
    }
    add_outcome(tally, FCGI_OUTCOME_DONE);
    check_moment(tally, 0, 1, 0);
    now += apr_time_from_sec(86400) + 1;
    for (back = 0; back < MOMENTS; back++) {
        check_moment(tally, back, 0, 0);
    }
    assert_int_equal(fcgi_tally_requests(tally), 2);
    assert_int_equal(fcgi_tally_failed(tally), 1);
    free(tally);
}

static void a_clock_set_back_spoils_no_count(void **state)
{
    fcgi_tally *tally = new_tally();

    (void)state;
    add_outcome(tally, FCGI_OUTCOME_BROKEN);
    now -= MOMENTS * MOMENT; /* the same place */
    check_moment(tally, 0, 0, 0);
    add_outcome(tally, FCGI_OUTCOME_DONE);
    check_moment(tally, 0, 1, 0);
    now += MOMENT;
    add_outcome(tally, FCGI_OUTCOME_DONE);
    check_moment(tally, 0, 1, 0);
    check_moment(tally, 1, 1, 0);
    now = START;
    check_moment(tally, 0, 0, 0);
    check_moment(tally, MOMENTS - 1, 1, 0);
    add_outcome(tally, FCGI_OUTCOME_DONE);
    check_moment(tally, 0, 1, 0);
    assert_int_equal(fcgi_tally_requests(tally), 4);
    free(tally);
}

/* ---- gone and back ---- */

static void coming_back_is_counted_once(void **state)
{
    fcgi_attendance seen = { 0, 0 };
    apr_uint32_t i;

    (void)state;
    fcgi_attendance_note(&seen, 1);
    assert_int_equal(seen.gone, 0);
    assert_int_equal(seen.returns, 0);
    for (i = 1; i <= 3; i++) {
        fcgi_attendance_note(&seen, 0);
        fcgi_attendance_note(&seen, 0);
        assert_int_equal(seen.gone, 1);
        assert_int_equal(seen.returns, i - 1);
        fcgi_attendance_note(&seen, 1);
        fcgi_attendance_note(&seen, 1);
        assert_int_equal(seen.gone, 0);
        assert_int_equal(seen.returns, i);
    }
}

/* ---- many at once ---- */

typedef struct crowd {
    fcgi_tally *tally;
    fcgi_attendance attendance;
    pthread_barrier_t *together;
} crowd;

/* Each time of 0 ... ADDS - 1, with every outcome in turn. */
static void add_many(fcgi_tally *tally)
{
    int i;

    for (i = 0; i < ADDS; i++) {
        fcgi_ended ended = request();

        ended.outcome =
            (fcgi_outcome)(FCGI_OUTCOME_DONE
                           + i % (FCGI_OUTCOME_COUNT - FCGI_OUTCOME_DONE));
        ended.starts = 1 + i % 2;
        ended.on_reused = i % 4 == 0;
        ended.bytes_sent = i;
        ended.bytes_received = 3;
        ended.spans[FCGI_SPAN_WAIT] = i;
        ended.spans[FCGI_SPAN_FIRST_BYTE] = 20;
        ended.spans[FCGI_SPAN_TOTAL] = i % 2 ? -1 : i;
        fcgi_tally_add(tally, &ended);
    }
}

/* What add_many() leaves, done so many times. */
static void check_many(fcgi_tally *tally, apr_uint64_t times)
{
    const apr_uint64_t sum = (apr_uint64_t)ADDS * (ADDS - 1) / 2;
    apr_uint64_t failed = 0, counts[STEPS] = { 0 };
    int i;

    for (i = 0; i < ADDS; i++) {
        failed += is_failure(FCGI_OUTCOME_DONE
                             + i % (FCGI_OUTCOME_COUNT - FCGI_OUTCOME_DONE))
                      ? 1
                      : 0;
        counts[step_of((uint64_t)i)] += times;
    }
    assert_int_equal(fcgi_tally_requests(tally), times * ADDS);
    assert_int_equal(fcgi_tally_failed(tally), times * failed);
    assert_int_equal(tally->again, times * ADDS / 2);
    assert_int_equal(tally->reused, times * ADDS / 4);
    assert_int_equal(tally->bytes_sent, times * sum);
    assert_int_equal(tally->bytes_received, times * ADDS * 3);
    for (i = 0; i < STEPS; i++) {
        assert_int_equal(tally->spans[FCGI_SPAN_WAIT].counts[i], counts[i]);
    }
    assert_int_equal(tally->spans[FCGI_SPAN_WAIT].sum, times * sum);
    assert_int_equal(tally->spans[FCGI_SPAN_FIRST_BYTE].counts[step_of(20)],
                     times * ADDS);
    assert_int_equal(fcgi_histogram_count(&tally->spans[FCGI_SPAN_TOTAL]),
                     times * ADDS / 2);
    /* the moment was begun before; only at its beginning one may be lost */
    check_moment(tally, 0, (apr_uint32_t)(times * ADDS + 1),
                 (apr_uint32_t)(times * failed));
}

/* The request that begins the moment, and is then taken out of the sums. */
static void begin_moment(fcgi_tally *tally)
{
    add_outcome(tally, FCGI_OUTCOME_DONE);
    tally->outcomes[FCGI_OUTCOME_DONE]--;
}

static void run_threads(void *(*run)(void *), crowd *all)
{
    pthread_t threads[THREADS];
    pthread_barrier_t together;
    int i;

    all->together = &together;
    assert_int_equal(pthread_barrier_init(&together, NULL, THREADS), 0);
    for (i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run, all), 0);
    }
    for (i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    pthread_barrier_destroy(&together);
}

static void *thread_that_adds(void *baton)
{
    crowd *all = baton;

    pthread_barrier_wait(all->together);
    add_many(all->tally);
    return NULL;
}

static void many_threads_lose_nothing(void **state)
{
    fcgi_tally *tally = new_tally();
    crowd all = { .tally = tally };

    (void)state;
    begin_moment(tally);
    run_threads(thread_that_adds, &all);
    check_many(tally, THREADS);
    free(tally);
}

/* Which may lose some of the moment, but not of the sums; and nothing is
 * counted that was not. */
static void many_threads_begin_a_moment(void **state)
{
    fcgi_tally *tally = new_tally();
    crowd all = { .tally = tally };

    (void)state;
    run_threads(thread_that_adds, &all);
    assert_int_equal(fcgi_tally_requests(tally), THREADS * ADDS);
    assert_in_range(fcgi_tally_moment(tally, now, 0).requests, 1,
                    THREADS * ADDS);
    assert_in_range(fcgi_tally_moment(tally, now, 0).failed, 0,
                    fcgi_tally_failed(tally));
    free(tally);
}

static void many_children_lose_nothing(void **state)
{
    fcgi_tally *tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t children[THREADS];
    int i;

    (void)state;
    assert_ptr_not_equal(tally, MAP_FAILED);
    now = START;
    begin_moment(tally);
    for (i = 0; i < THREADS; i++) {
        children[i] = fork();
        assert_int_not_equal(children[i], -1);
        if (children[i] == 0) {
            add_many(tally);
            _exit(0);
        }
    }
    for (i = 0; i < THREADS; i++) {
        int status = -1;

        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    check_many(tally, THREADS);
    munmap(tally, sizeof(*tally));
}

/* ---- joined ---- */

static void what_parts_have_counted_is_added(void **state)
{
    fcgi_tally *parts[2] = { new_tally(), new_tally() };
    fcgi_tally *sum = new_tally();
    int i;

    (void)state;
    for (i = 0; i < 2; i++) {
        begin_moment(parts[i]);
        add_many(parts[i]);
        fcgi_tally_join(sum, parts[i]);
    }
    assert_int_equal(fcgi_tally_moment(sum, now, 0).requests, 2 * (ADDS + 1));
    add_outcome(sum, FCGI_OUTCOME_DONE);
    check_moment(sum, 0, 2 * ADDS + 3, fcgi_tally_moment(sum, now, 0).failed);
    fcgi_tally_join(parts[0], parts[1]);
    assert_int_equal(parts[0]->spans[FCGI_SPAN_WAIT].sum,
                     sum->spans[FCGI_SPAN_WAIT].sum);
    sum->outcomes[FCGI_OUTCOME_DONE]--;
    sum->moments[now / MOMENT % MOMENTS].requests -= 2;
    check_many(sum, 2);
    for (i = 0; i < 2; i++) {
        free(parts[i]);
    }
    free(sum);
}

/* Moments of one place of the ring, of which one part has an older one. */
static void of_two_moments_the_later_one_counts(void **state)
{
    fcgi_tally *early = new_tally(), *late = new_tally();
    int is_early;

    (void)state;
    add_outcome(early, FCGI_OUTCOME_DONE);
    add_outcome(early, FCGI_OUTCOME_DONE);
    now = START + MOMENTS * MOMENT;
    add_outcome(late, FCGI_OUTCOME_NO_CONNECT);
    for (is_early = 0; is_early < 2; is_early++) {
        fcgi_tally *sum = new_tally();

        now = START + MOMENTS * MOMENT;
        fcgi_tally_join(sum, is_early ? early : late);
        fcgi_tally_join(sum, is_early ? late : early);
        check_moment(sum, 0, 1, 1);
        assert_int_equal(fcgi_tally_requests(sum), 3);
        free(sum);
    }
    free(early);
    free(late);
}

/* Each time it is gone all find it back, and all see that it was gone before
 * one of them says so. */
static void *thread_that_finds(void *baton)
{
    crowd *all = baton;
    int i;

    for (i = 0; i < ROUNDS; i++) {
        if (pthread_barrier_wait(all->together)
            == PTHREAD_BARRIER_SERIAL_THREAD) {
            fcgi_attendance_note(&all->attendance, 0);
        }
        pthread_barrier_wait(all->together);
        fcgi_attendance_note(&all->attendance, 1);
    }
    return NULL;
}

static void many_that_find_it_back_count_once(void **state)
{
    crowd all = { .tally = NULL };

    (void)state;
    assert_int_equal(pthread_barrier_init(&seen_by_all.all, NULL, THREADS), 0);
    seen_by_all.word = &all.attendance.gone;
    run_threads(thread_that_finds, &all);
    seen_by_all.word = NULL;
    pthread_barrier_destroy(&seen_by_all.all);
    assert_int_equal(all.attendance.returns, ROUNDS);
    assert_int_equal(all.attendance.gone, 0);
}

/* All see it gone and back as they please: it came back no more often than
 * anyone saw it gone, and not never. */
static void *thread_that_looks(void *baton)
{
    crowd *all = baton;
    int i;

    pthread_barrier_wait(all->together);
    for (i = 0; i < ROUNDS; i++) {
        fcgi_attendance_note(&all->attendance, 0);
        fcgi_attendance_note(&all->attendance, 1);
    }
    return NULL;
}

static void it_comes_back_no_more_often_than_it_goes(void **state)
{
    crowd all = { .tally = NULL };

    (void)state;
    run_threads(thread_that_looks, &all);
    assert_in_range(all.attendance.returns, 1, THREADS * ROUNDS);
    assert_int_equal(all.attendance.gone, 0);
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_steps_are_those_of_the_drawing),
        TEST(a_time_is_in_its_step_at_every_boundary),
        TEST(the_longest_times_are_in_the_last_step),
        TEST(a_negative_span_is_not_measured),
        TEST(each_span_has_its_histogram),
        TEST(percentiles_are_right_to_an_eighth),
        TEST(a_percentile_is_of_as_many_as_it_says),
        TEST(inside_a_step_it_is_estimated),
        TEST(below_a_power_it_itself_is_not),
        TEST(every_outcome_is_counted_as_what_it_is),
        TEST(sent_again_and_reused_are_counted_once),
        TEST(bytes_are_added_each_way),
        TEST(a_moment_has_five_seconds),
        TEST(ten_minutes_are_remembered),
        TEST(what_is_older_is_forgotten),
        TEST(a_clock_set_back_spoils_no_count),
        TEST(coming_back_is_counted_once),
        TEST(many_threads_lose_nothing),
        TEST(many_threads_begin_a_moment),
        TEST(many_children_lose_nothing),
        TEST(what_parts_have_counted_is_added),
        TEST(of_two_moments_the_later_one_counts),
        TEST(many_that_find_it_back_count_once),
        TEST(it_comes_back_no_more_often_than_it_goes),
    };

    apr_initialize();
    draw_steps();
    return cmocka_run_group_tests_name("tally", tests, NULL, NULL);
}
