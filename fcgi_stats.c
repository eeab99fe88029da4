/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_stats.c - shared memory and who is alive; the contract is in
 * fcgi_stats.h. The memory is APR's, without a name, inherited by fork().
 *
 * Why a killed child leaves nothing behind: it writes only its own share and
 * its own slots in lines, and others only set single words of them. What all
 * write in common counts what has been, and is right after any number of them:
 * tallies, presses, attendance. Each account has a lock of its own, which the
 * system gives back. Its lock on a byte of the presence file ends with it,
 * whatever ended it; then all that carries its number is cleared.
 */
#include "fcgi_stats.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <apr_atomic.h>
#include <apr_portable.h>
#include <apr_shm.h>
#include <apr_strings.h>

/* True where the system gives a lock back that a killed process had: POSIX of
 * 2008, and systems that have this part of it. */
#if defined(_POSIX_THREAD_PROCESS_SHARED) && _POSIX_THREAD_PROCESS_SHARED > 0
#if defined(PTHREAD_MUTEX_ROBUST) || _POSIX_VERSION >= 200809L
#define HAS_ROBUST_LOCKS 1
#endif
#endif

#define SWEEP_EVERY apr_time_from_msec(100)
#define SPEAK_EVERY apr_time_from_sec(1)

/* Accounts of the first segment; each further one has room for the double. */
#define FIRST_CAPACITY (2 * FCGI_STATS_SPARE)

typedef struct fcgi_segment_head {
    apr_uint32_t count;    /* accounts open */
    apr_uint32_t children; /* first segment: highest number of a child */
    apr_uint32_t spare;    /* first segment: accounts that requests opened */
    fcgi_life life;        /* first segment */
    sem_t notices[];       /* first segment: of child 1, 2, ... */
} fcgi_segment_head;

static fcgi_stats *stats;

static apr_size_t account_size(void)
{
    return offsetof(fcgi_account, shares)
           + stats->children * sizeof(fcgi_share);
}

static apr_size_t head_size(void)
{
    return APR_ALIGN(offsetof(fcgi_segment_head, notices)
                         + stats->children * sizeof(sem_t),
                     FCGI_STATS_CACHE_LINE);
}

static fcgi_account *account_at(const fcgi_segment *segment,
                                apr_uint32_t index)
{
    char *first = (char *)segment->head + head_size();

    return (fcgi_account *)(void *)(first + index * account_size());
}

/* Adds a segment; NULL if that cannot be done. Memory of APR's without a name
 * is zero, and its pages cost nothing until they are used. */
static fcgi_segment *add_segment(void)
{
    fcgi_segment *segment = stats->segments;
    apr_uint32_t capacity = FIRST_CAPACITY;
    apr_shm_t *memory;

    for (; segment->head; segment++) {
        capacity = segment->capacity * 2;
        if (segment == stats->segments + FCGI_STATS_SEGMENTS - 1) {
            return NULL;
        }
    }
    if (apr_shm_create(&memory,
                       head_size() + capacity * account_size()
                           + FCGI_STATS_CACHE_LINE,
                       NULL, stats->pool)
        != APR_SUCCESS) {
        return NULL;
    }
    segment->head = (void *)APR_ALIGN(
        (apr_uintptr_t)apr_shm_baseaddr_get(memory), FCGI_STATS_CACHE_LINE);
    segment->capacity = capacity;
    return segment;
}

/* The presence file has no name, and is never written to. */
static apr_status_t open_presence(void)
{
    const char *dir;
    char *name;
    apr_status_t rv = apr_temp_dir_get(&dir, stats->pool);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    name = apr_pstrcat(stats->pool, dir, "/fcgi-presence.XXXXXX", NULL);
    rv = apr_file_mktemp(&stats->presence, name,
                         APR_FOPEN_CREATE | APR_FOPEN_READ | APR_FOPEN_WRITE
                             | APR_FOPEN_EXCL,
                         stats->pool);
    if (rv == APR_SUCCESS) {
        rv = apr_file_remove(name, stats->pool);
    }
    return rv;
}

int fcgi_stats_lock_recovers(apr_global_mutex_t *lock)
{
    const char *name = apr_global_mutex_name(lock);

#if !APR_USE_PROC_PTHREAD_SERIALIZE
    if (!strcmp(name, "pthread")) {
        return 0; /* not robust here, see fcgi_startup.c */
    }
#endif
    return strcmp(name, "posixsem") != 0;
}

/* Once for all children: a dead one's is its heir's, who must not make it anew
 * while others use it. A semaphore takes no descriptor, of which httpd may
 * have few, and is right whoever is killed. */
static apr_status_t create_notices(void)
{
    apr_uint32_t i;

    for (i = 0; i < stats->children; i++) {
        if (sem_init(&stats->segments[0].head->notices[i], 1, 0)) {
            return apr_get_os_error();
        }
    }
    return APR_SUCCESS;
}

apr_status_t fcgi_stats_create(fcgi_stats *made, apr_pool_t *pool,
                               apr_global_mutex_t *lock, apr_uint32_t children)
{
    apr_status_t rv;

    memset(made, 0, sizeof(*made));
    made->pool = pool;
    made->lock = lock;
    made->children = children;
    stats = made;
    rv = open_presence();
    if (rv == APR_SUCCESS && !add_segment()) {
        rv = APR_ENOMEM;
    }
    if (rv == APR_SUCCESS) {
        rv = create_notices();
    }
    if (rv == APR_SUCCESS) {
        stats->segments[0].head->life.since = apr_time_now();
    }
    return rv;
}

const char *fcgi_stats_layout(apr_pool_t *pool)
{
    return apr_psprintf(
        pool,
        "%" APR_SIZE_T_FMT "-%" APR_SIZE_T_FMT "-%" APR_SIZE_T_FMT
        "-%" APR_SIZE_T_FMT "-%" APR_SIZE_T_FMT "-%" APR_SIZE_T_FMT
        "-%" APR_SIZE_T_FMT,
        sizeof(fcgi_stats), sizeof(fcgi_segment_head), sizeof(fcgi_account),
        sizeof(fcgi_share), sizeof(fcgi_slots), sizeof(fcgi_slot),
        sizeof(fcgi_stand));
}

void fcgi_stats_use(fcgi_stats *made)
{
    stats = made;
}

void fcgi_stats_restarted(void)
{
    apr_atomic_inc32(&stats->segments[0].head->life.restarts);
}

fcgi_life fcgi_stats_life(void)
{
    return stats->segments[0].head->life;
}

/* ---- locks ---- */

/* A lock that cannot be had leaves no way to go on. Where it is a file's, the
 * system takes processes with several threads for a deadlock at times. */
static void lock_all(void)
{
    apr_status_t rv = apr_global_mutex_lock(stats->lock);

    while (rv == EDEADLK) {
        apr_sleep(apr_time_from_msec(1));
        rv = apr_global_mutex_lock(stats->lock);
    }
    if (rv != APR_SUCCESS) {
        abort();
    }
}

static void unlock_all(void)
{
    if (apr_global_mutex_unlock(stats->lock) != APR_SUCCESS) {
        abort();
    }
}

#if HAS_ROBUST_LOCKS

/* Makes an account's own lock; false if that cannot be done. */
static int make_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t shared;
    int made;

    if (pthread_mutexattr_init(&shared)) {
        return 0;
    }
    made = !pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED)
           && !pthread_mutexattr_setrobust(&shared, PTHREAD_MUTEX_ROBUST)
           && !pthread_mutex_init(lock, &shared);
    pthread_mutexattr_destroy(&shared);
    return made;
}

/* What the lock guards is as a killed holder left it. The shares are right at
 * any moment, and the line says itself whether it is. */
static void take_lock(pthread_mutex_t *lock)
{
    int rv = pthread_mutex_lock(lock);

    if (rv == EOWNERDEAD) {
        rv = pthread_mutex_consistent(lock);
    }
    if (rv) {
        abort();
    }
}

#else

static int make_lock(pthread_mutex_t *lock)
{
    (void)lock;
    return 0;
}

static void take_lock(pthread_mutex_t *lock)
{
    (void)lock;
    abort();
}

#endif

void fcgi_stats_lock(fcgi_account *account)
{
    fcgi_slots *line = fcgi_stats_line(account);

    if (account->has_own_lock) {
        take_lock(&account->lock);
    }
    else {
        lock_all();
    }
    if (line) {
        fcgi_slots_repair(line);
    }
}

void fcgi_stats_unlock(fcgi_account *account)
{
    if (!account->has_own_lock) {
        unlock_all();
    }
    else if (pthread_mutex_unlock(&account->lock)) {
        abort();
    }
}

/* ---- who is alive ---- */

/*
 * Asks for a lock on a child's byte, or who has it. APR locks whole files
 * only. Such a lock is the process's, and the kernel takes it back in any
 * case: even kill -9 cannot keep it, and no number of a process is mistaken
 * for that of another.
 */
static int lock_byte(int command, apr_uint32_t child, struct flock *region)
{
    apr_os_file_t fd;

    memset(region, 0, sizeof(*region));
    region->l_type = F_WRLCK;
    region->l_whence = SEEK_SET;
    region->l_start = (off_t)child;
    region->l_len = 1;
    return apr_os_file_get(&fd, stats->presence) == APR_SUCCESS
           && fcntl(fd, command, region) == 0;
}

static int is_alive(apr_uint32_t child)
{
    struct flock region;

    return child == stats->me || !lock_byte(F_GETLK, child, &region)
           || region.l_type != F_UNLCK;
}

/* Clears all that carries a dead child's number. Under the lock. */
static int clear(fcgi_account *account, apr_uint32_t child)
{
    fcgi_share *share = &account->shares[child - 1];
    fcgi_slots *line = fcgi_stats_line(account);
    int found =
        share->in_use || share->idle || share->pressing || share->parked;

    apr_atomic_set32(&share->in_use, 0);
    apr_atomic_set32(&share->idle, 0);
    apr_atomic_set32(&share->pressing, 0);
    apr_atomic_set32(&share->parked, 0);
    if (line) {
        found |= fcgi_slots_clear(line, child);
    }
    return found;
}

static void clear_everywhere(apr_uint32_t child)
{
    fcgi_account *account;
    apr_uint32_t i;

    for (i = 0; (account = fcgi_stats_account(i)); i++) {
        fcgi_stats_lock(account);
        clear(account, child);
        fcgi_stats_unlock(account);
    }
}

apr_status_t fcgi_stats_join(void)
{
    struct flock region;
    apr_uint32_t child = 1;
    apr_pool_t *own; /* our threads may use the lock until the very end */
    apr_status_t rv = apr_pool_create_unmanaged_ex(&own, NULL, NULL);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = apr_global_mutex_child_init(
        &stats->lock, apr_global_mutex_lockfile(stats->lock), own);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    while (child <= stats->children && !lock_byte(F_SETLK, child, &region)) {
        child++;
    }
    if (child > stats->children) {
        return APR_ENOSPC;
    }
    lock_all();
    if (fcgi_stats_children() < child) {
        apr_atomic_set32(&stats->segments[0].head->children, child);
    }
    unlock_all();
    clear_everywhere(child);
    stats->me = child;
    return APR_SUCCESS;
}

/* ---- accounts ---- */

/* The account of that name, or NULL; *room is a segment that has room for
 * one more, or NULL. Under the lock. */
static fcgi_account *find(const char *name, fcgi_segment **room)
{
    int i;

    *room = NULL;
    for (i = 0; i < FCGI_STATS_SEGMENTS && stats->segments[i].head; i++) {
        fcgi_segment *segment = &stats->segments[i];
        apr_uint32_t j;

        for (j = 0; j < segment->head->count; j++) {
            fcgi_account *account = account_at(segment, j);

            if (!strcmp(account->name, name)) {
                return account;
            }
        }
        if (!*room && segment->head->count < segment->capacity) {
            *room = segment;
        }
    }
    return NULL;
}

/* A new account in a segment that has room. Under the lock. */
static fcgi_account *open_account(fcgi_segment *segment, const char *name)
{
    fcgi_account *account = account_at(segment, segment->head->count);

    apr_cpystrn(account->name, name, sizeof(account->name));
    account->has_own_lock = (apr_uint32_t)make_lock(&account->lock);
    segment->head->count++;
    return account;
}

fcgi_account *fcgi_stats_open_configured(const char *name)
{
    fcgi_account *account;
    fcgi_segment *room;

    if (!stats || strlen(name) >= FCGI_STATS_NAME_LEN) {
        return NULL;
    }
    lock_all();
    account = find(name, &room);
    if (!account && !room) {
        room = add_segment();
    }
    if (!account && room) {
        account = open_account(room, name);
    }
    unlock_all();
    return account;
}

fcgi_account *fcgi_stats_open_spare(const char *name)
{
    fcgi_account *account;
    fcgi_segment *room;

    if (!stats || strlen(name) >= FCGI_STATS_NAME_LEN) {
        return NULL;
    }
    lock_all();
    account = find(name, &room);
    if (!account && room
        && stats->segments[0].head->spare < FCGI_STATS_SPARE) {
        stats->segments[0].head->spare++;
        account = open_account(room, name);
    }
    unlock_all();
    return account;
}

int fcgi_stats_open_line(fcgi_account *account)
{
    if (!account->line_number) {
        account->line = fcgi_slots_create(stats->pool, stats->children);
        if (account->line) {
            apr_atomic_set32(&account->line_number,
                             apr_atomic_inc32(&stats->lines) + 1);
        }
    }
    return account->line_number != 0;
}

/* Memory that was made after this child began is not in it. */
fcgi_slots *fcgi_stats_line(fcgi_account *account)
{
    apr_uint32_t number = apr_atomic_read32(&account->line_number);

    return number && number <= apr_atomic_read32(&stats->lines) ? account->line
                                                                : NULL;
}

fcgi_account *fcgi_stats_account(apr_uint32_t index)
{
    fcgi_account *account = NULL;
    int i;

    lock_all();
    for (i = 0; i < FCGI_STATS_SEGMENTS && stats->segments[i].head; i++) {
        apr_uint32_t count = stats->segments[i].head->count;

        if (index < count) {
            account = account_at(&stats->segments[i], index);
            break;
        }
        index -= count;
    }
    unlock_all();
    return account;
}

apr_uint32_t fcgi_stats_me(void)
{
    return stats->me;
}

fcgi_share *fcgi_stats_my_share(fcgi_account *account)
{
    return &account->shares[stats->me - 1];
}

apr_uint32_t fcgi_stats_children(void)
{
    return apr_atomic_read32(&stats->segments[0].head->children);
}

void fcgi_stats_notify(apr_uint32_t child)
{
    sem_post(&stats->segments[0].head->notices[child - 1]);
}

int fcgi_stats_wait_for_notice(apr_interval_time_t at_most)
{
    sem_t *notices = &stats->segments[0].head->notices[stats->me - 1];
    int heard = fcgi_clock_wait(notices, at_most);

    while (sem_trywait(notices) == 0) { /* all that came meanwhile is one */
        heard = 1;
    }
    return heard;
}

fcgi_tally *fcgi_stats_my_tally(fcgi_account *account)
{
    return &account->parts[stats->me % FCGI_STATS_TALLIES].tally;
}

/* Word by word: numbers that change meanwhile are old or new. */
fcgi_tally fcgi_stats_tally(const fcgi_account *account)
{
    fcgi_tally sum = account->parts[0].tally;
    int i;

    for (i = 1; i < FCGI_STATS_TALLIES; i++) {
        fcgi_tally_join(&sum, &account->parts[i].tally);
    }
    return sum;
}

fcgi_share fcgi_stats_sum(fcgi_account *account)
{
    fcgi_share sum = { 0, 0, 0, 0 };
    apr_uint32_t i, count = fcgi_stats_children();

    for (i = 0; i < count; i++) {
        fcgi_share *share = &account->shares[i];

        sum.in_use += apr_atomic_read32(&share->in_use);
        sum.idle += apr_atomic_read32(&share->idle);
        sum.pressing += apr_atomic_read32(&share->pressing);
        sum.parked += apr_atomic_read32(&share->parked);
    }
    return sum;
}

apr_uint32_t fcgi_stats_sum_idle(fcgi_account *account)
{
    apr_uint32_t i, count = fcgi_stats_children(), sum = 0;

    for (i = 0; i < count; i++) {
        sum += apr_atomic_read32(&account->shares[i].idle);
    }
    return sum;
}

static int does_any_press(fcgi_account *account)
{
    apr_uint32_t i, count = fcgi_stats_children();

    for (i = 0; i < count; i++) {
        if (apr_atomic_read32(&account->shares[i].pressing)) {
            return 1;
        }
    }
    return 0;
}

/* Its share says so before presses does: whoever has read the new number of
 * presses finds it in the share. */
void fcgi_stats_press(fcgi_account *account)
{
    apr_atomic_inc32(&fcgi_stats_my_share(account)->pressing);
    apr_atomic_inc32(&account->presses);
}

void fcgi_stats_unpress(fcgi_account *account)
{
    apr_atomic_dec32(&fcgi_stats_my_share(account)->pressing);
}

/* The shares of all are looked at only if there was a press since somebody saw
 * none in them; they are read after presses, an order in which APR 1.7.0 does
 * not read. */
int fcgi_stats_is_pressed(fcgi_account *account)
{
    apr_uint32_t presses =
        __atomic_load_n(&account->presses, __ATOMIC_ACQUIRE);

    if (presses == apr_atomic_read32(&account->quiet)) {
        return 0;
    }
    if (does_any_press(account)) {
        return 1;
    }
    apr_atomic_set32(&account->quiet, presses);
    return 0;
}

/* True if that child holds something, as the account says. */
static int holds(fcgi_account *account, apr_uint32_t child)
{
    fcgi_share *share = &account->shares[child - 1];
    fcgi_slots *line = fcgi_stats_line(account);

    return apr_atomic_read32(&share->in_use) || apr_atomic_read32(&share->idle)
           || apr_atomic_read32(&share->pressing)
           || apr_atomic_read32(&share->parked)
           || (line && line->stands[child - 1].count);
}

int fcgi_stats_sweep_is_due(fcgi_account *account)
{
    fcgi_instant swept = (fcgi_instant)apr_atomic_read64(&account->swept_at);

    return fcgi_clock_now() >= swept + SWEEP_EVERY;
}

int fcgi_stats_sweep(fcgi_account *account)
{
    apr_uint32_t child, count = fcgi_stats_children();
    int found = 0;

    if (!fcgi_stats_sweep_is_due(account)) {
        return 0;
    }
    apr_atomic_set64(&account->swept_at, (apr_uint64_t)fcgi_clock_now());
    for (child = 1; child <= count; child++) {
        if (holds(account, child) && !is_alive(child)) {
            found |= clear(account, child);
        }
    }
    return found;
}

int fcgi_stats_failed(fcgi_account *account, apr_uint32_t *others)
{
    fcgi_instant now = fcgi_clock_now();
    int speak;

    *others = 0;
    if (!account) {
        return 1;
    }
    fcgi_stats_lock(account);
    speak = now >= account->failed_at + SPEAK_EVERY;
    if (speak) {
        *others = account->failures;
        account->failures = 0;
        account->failed_at = now;
    }
    else {
        account->failures++;
    }
    fcgi_stats_unlock(account);
    return speak;
}
