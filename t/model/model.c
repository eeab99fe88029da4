/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * model.c - all that children of httpd can do to one line, in all orders, and
 * killed between any two steps.
 *
 * It runs the sources themselves: fcgi_line.c, fcgi_slots.c, fcgi_stats.c,
 * fcgi_bell.c and fcgi_notice.c. What is a step there is a function that is
 * ours here: each atomic access to memory that others see (read_word() and
 * those after it), taking and giving back the lock of the account
 * (take_mutex(), give_mutex_back()), a notice to a child (post()), and waiting
 * (fcgi_clock_wait()). Before each the thread stops, and explore() lets any
 * other go on, or kills any child: what it has of the lock, and a byte of the
 * presence file, the system gives back. A thread is a stack of its own;
 * memory, stacks and registers together are a state, of which each is left in
 * all ways once.
 *
 * Time passes only where nobody can do anything else: the steps are shorter
 * than any wait. What has to be true:
 *
 *     at each step    no more connections than max are there
 *     without a kill  every request ends without any time passing: whoever has
 *                     something to tell has told it (but for connections that
 *                     are kept, which are given up after 2 ms)
 *     with a kill     it ends after two looks for dead children at the most
 *     always          nobody goes on without an end
 *     in the end      nobody has anything, and the next sweep finds it so
 *
 * t/09-model.t compiles and runs it, with the sources as they are and with
 * each of some mistakes in them, which it has to find. -DCHILDREN=, -DMAX= and
 * so on say how large the world is.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#include <apr_atomic.h>
#include <apr_general.h>
#include <apr_global_mutex.h>

#include "fcgi_idle.h"
#include "fcgi_line.h"
#include "fcgi_notice.h"
#include "fcgi_thread.h"

/* ---- the sources, and what they call ---- */

static apr_uint32_t read_word(volatile apr_uint32_t *word);
static void set_word(volatile apr_uint32_t *word, apr_uint32_t value);
static apr_uint32_t inc_word(volatile apr_uint32_t *word);
static int dec_word(volatile apr_uint32_t *word);
static apr_uint32_t cas_word(volatile apr_uint32_t *word, apr_uint32_t with,
                             apr_uint32_t expected);
static int take_mutex(pthread_mutex_t *mutex);
static int give_mutex_back(pthread_mutex_t *mutex);
static int repair_mutex(pthread_mutex_t *mutex);
static int ask_byte(int fd, int command, struct flock *region);
static int post(sem_t *semaphore);

/* The lock of all is for what never changes here. */
#define apr_global_mutex_lock(lock)                    APR_SUCCESS
#define apr_global_mutex_unlock(lock)                  APR_SUCCESS
#define apr_global_mutex_lockfile(lock)                NULL
#define apr_global_mutex_child_init(lock, name, pool)  APR_SUCCESS
#define apr_pool_create_unmanaged_ex(made, end, alloc) (*(made) = NULL, 0)
#define apr_atomic_read32                              read_word
#define apr_atomic_set32                               set_word
#define apr_atomic_inc32                               inc_word
#define apr_atomic_dec32                               dec_word
#define apr_atomic_cas32                               cas_word
#define __atomic_load_n(word, order)                   read_word(word)
#define pthread_mutex_lock                             take_mutex
#define pthread_mutex_unlock                           give_mutex_back
#define pthread_mutex_consistent                       repair_mutex
#define fcntl                                          ask_byte
#define sem_post                                       post
#define count_in                                       count_in_slots

#include "fcgi_slots.c"
#undef count_in
#include "fcgi_stats.c"
#include "fcgi_bell.c"
#include "fcgi_line.c"
#include "fcgi_notice.c"

#undef pthread_mutex_lock
#undef pthread_mutex_unlock
#undef fcntl
#undef sem_post

#ifndef CHILDREN
#define CHILDREN 2 /* at the start; the first is number 1 */
#endif
#ifndef REQUESTS
#define REQUESTS 1, 1, 2 /* whose each is */
#endif
#ifndef MAX
#define MAX 1
#endif
#ifndef KEEPALIVE
#define KEEPALIVE 0
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef IMPATIENT
#define IMPATIENT 0 /* bits of requests that may leave the line */
#endif
#ifndef BORN
#define BORN 0 /* 1: a new child takes the number of the one that was killed */
#endif
#ifndef PRESSES
#define PRESSES 0 /* that began and ended before */
#endif

#define CHILDREN_MAX 4
#define THREADS_MAX  9
#define STACK_LEN    8192
#define SLOTS        6
#define TICKS_MAX    2
#define DEPTH_MAX    4000
#define VISITED_LEN  (1U << 22)

static const int request_child[] = { REQUESTS };

#define COUNT ((int)(sizeof(request_child) / sizeof(*request_child)))

/* ---- the world ---- */

typedef enum {
    NONE,
    READY,
    AT_LOCK,
    AT_NOTICE,
    AT_BELL,
    DONE
} thread_state;

typedef struct thread {
    ucontext_t context;
    thread_state state;
    int child;
    int request;        /* its number; -1: it hears notices */
    fcgi_instant until; /* AT_NOTICE: then it waits no longer; -1: never */
} thread;

/* What a state consists of beside the memory of fcgi_stats.c and the stacks. */
static struct world {
    thread threads[THREADS_MAX];
    fcgi_waiting waiting[COUNT];
    fcgi_line lines[CHILDREN_MAX + 1];
    char heres[CHILDREN_MAX + 1][sizeof(here)]; /* fcgi_line.c's, of each */
    int rung[COUNT];
    int is_alive[CHILDREN_MAX + 1];
    int conns[CHILDREN_MAX + 1]; /* sockets that are open */
    int lock;                    /* thread that has it; -1: nobody */
    int lock_is_orphan;          /* its owner was killed */
    int alone;                   /* thread whose next step nobody else can
                                  * see; -1: none */
    int kills;
    int ticks; /* since anybody did anything else */
    int born;
    fcgi_instant now;
} w;

static char stacks[THREADS_MAX][STACK_LEN] __attribute__((aligned(64)));
static ucontext_t explorer;
static int running = -1;  /* thread; -1: nobody, and nothing is a step */
static fcgi_stats memory; /* that fcgi_stats.c uses */
static fcgi_account *account;
static fcgi_slots *slots;
static char fresh_here[sizeof(here)];

static unsigned long states, steps, ends;
static char path[DEPTH_MAX + 1]; /* who did each step: a thread's number, or
                                  * the letter of a child that was killed */
static int depth;

static void violate(const char *what)
{
    printf("violated: %s\nafter %d steps: %.*s\n", what, depth, depth, path);
    exit(1);
}

static void stop_here(thread_state state)
{
    int self = running;

    if (self < 0) {
        return;
    }
    w.threads[self].state = state;
    swapcontext(&w.threads[self].context, &explorer);
}

/* ---- what the sources call ---- */

static int is_inside(const volatile void *word, const void *data, size_t len)
{
    return (const volatile char *)word >= (const char *)data
           && (const volatile char *)word < (const char *)data + len;
}

static int is_pressing(const volatile apr_uint32_t *word)
{
    int child;

    for (child = 0; child < CHILDREN_MAX; child++) {
        if (word == &account->shares[child].pressing) {
            return 1;
        }
    }
    return word == &account->presses || word == &account->quiet;
}

/* True if somebody without the lock looks at a word of the slots. */
static int is_looked_at(const volatile apr_uint32_t *word)
{
    int i;

    for (i = 1; i < SLOTS; i++) {
        if (word == &slots->slot[i].state) {
            return 1;
        }
    }
    for (i = 0; i < CHILDREN_MAX; i++) {
        if (word == &slots->stands[i].granted.first) {
            return 1;
        }
    }
    return 0;
}

static size_t shares_len(void)
{
    return CHILDREN_MAX * sizeof(fcgi_share);
}

typedef enum {
    FIXED,
    UNDER_LOCK,
    FREE
} word_kind;

/* FIXED: no order of reading or writing it makes a difference. UNDER_LOCK: it
 * is read and written by who has the lock alone. */
static word_kind kind_of(const volatile apr_uint32_t *word)
{
    if (word == &account->line_number || word == &memory.lines
        || word == &memory.segments[0].head->children
        || word == &notice.stopping) {
        return FIXED;
    }
    if (is_inside(word, account->shares, shares_len())) {
        return KEEPALIVE && (is_pressing(word) || w.lock != running) ? FREE
               : w.lock == running ? UNDER_LOCK
                                   : FIXED;
    }
    if (is_inside(word, &w.lines, sizeof(w.lines))
        || is_inside(word, &here, sizeof(here)) || is_looked_at(word)) {
        return FREE;
    }
    return w.lock == running ? UNDER_LOCK : FREE;
}

static void stop_to_read(const volatile apr_uint32_t *word)
{
    if (running >= 0 && kind_of(word) == FREE) {
        stop_here(READY);
    }
}

/* What nobody sees is a step only because one may be killed before it. */
static void stop_to_write(const volatile apr_uint32_t *word)
{
    word_kind kind = running >= 0 ? kind_of(word) : FIXED;

    if (kind == UNDER_LOCK && w.kills < KILLS) {
        w.alone = running;
        stop_here(READY);
        w.alone = -1;
    }
    else if (kind == FREE) {
        stop_here(READY);
    }
}

static apr_uint32_t read_word(volatile apr_uint32_t *word)
{
    stop_to_read(word);
    return *word;
}

static void set_word(volatile apr_uint32_t *word, apr_uint32_t value)
{
    stop_to_write(word);
    *word = value;
}

static apr_uint32_t inc_word(volatile apr_uint32_t *word)
{
    stop_to_write(word);
    return (*word)++;
}

static int dec_word(volatile apr_uint32_t *word)
{
    stop_to_write(word);
    return --*word != 0;
}

static apr_uint32_t cas_word(volatile apr_uint32_t *word, apr_uint32_t with,
                             apr_uint32_t expected)
{
    apr_uint32_t before;

    stop_to_write(word);
    before = *word;
    if (before == expected) {
        *word = with;
    }
    return before;
}

/* Others are of one child alone, and for a moment that is no step. */
static int take_mutex(pthread_mutex_t *mutex)
{
    if (mutex != &account->lock) {
        return pthread_mutex_lock(mutex);
    }
    stop_here(AT_LOCK); /* until nobody has it */
    if (running >= 0) {
        w.threads[running].state = READY;
        w.lock = running;
    }
    return w.lock_is_orphan ? EOWNERDEAD : 0;
}

static int give_mutex_back(pthread_mutex_t *mutex)
{
    if (mutex != &account->lock) {
        return pthread_mutex_unlock(mutex);
    }
    stop_here(READY);
    w.lock = -1;
    if (w.lock_is_orphan) {
        violate("a lock is given back that is not consistent");
    }
    return 0;
}

static int repair_mutex(pthread_mutex_t *mutex)
{
    (void)mutex;
    w.lock_is_orphan = 0;
    return 0;
}

/* Locks of bytes of the presence file. */
static int ask_byte(int fd, int command, struct flock *region)
{
    (void)fd;
    stop_here(READY);
    if (command == F_GETLK) {
        region->l_type = w.is_alive[region->l_start] ? F_WRLCK : F_UNLCK;
        return 0;
    }
    if (w.is_alive[region->l_start]) {
        return -1;
    }
    w.is_alive[region->l_start] = 1;
    return 0;
}

static int post(sem_t *semaphore)
{
    stop_here(READY);
    return sem_post(semaphore);
}

fcgi_instant fcgi_clock_now(void)
{
    return w.now;
}

int fcgi_clock_wait(sem_t *semaphore, apr_interval_time_t at_most)
{
    thread *self = &w.threads[running];

    self->until = at_most < 0 ? -1 : w.now + at_most;
    stop_here(AT_NOTICE);
    self->state = READY;
    return sem_trywait(semaphore) == 0;
}

/* What fcgi_idle.c does with connections that are kept. */
void fcgi_idle_give_up(void)
{
    apr_uint32_t me = memory.me;
    fcgi_line *line = &w.lines[me];

    while (fcgi_stats_my_share(account)->idle && fcgi_line_is_pressed(line)) {
        w.conns[me]--;
        fcgi_line_drop(line);
    }
}

apr_status_t fcgi_thread_start(apr_thread_start_t work, apr_uint32_t *count,
                               apr_pool_t *pool)
{
    (void)work;
    (void)count;
    (void)pool;
    return APR_ENOTIMPL;
}

void fcgi_thread_wait(apr_uint32_t *count)
{
    (void)count;
}

/* ---- threads ---- */

static void note_ring(void *baton)
{
    *(int *)baton = 1;
}

static void open_conn(int child)
{
    int i, all = 0;

    w.conns[child]++;
    for (i = 1; i <= CHILDREN_MAX; i++) {
        all += w.conns[i];
    }
    if (all > MAX) {
        violate("more connections than max");
    }
}

/* As fcgi_acquire.c: looks when the bell rings, and only then. */
static fcgi_line_state wait_in_line(int request, void **handed)
{
    int child = w.threads[running].child;
    fcgi_line *line = &w.lines[child];
    fcgi_waiting *waiting = &w.waiting[request];
    fcgi_line_state state = FCGI_LINE_WAITING;

    fcgi_line_press(line);
    fcgi_bell_hang(&waiting->bell, note_ring, &w.rung[request]);
    while (state == FCGI_LINE_WAITING) {
        stop_here(AT_BELL);
        w.threads[running].state = READY;
        if (!w.rung[request]) { /* it has no patience */
            state = fcgi_line_leave(line, waiting, handed);
            break;
        }
        w.rung[request] = 0;
        state = fcgi_line_look(line, waiting, handed);
    }
    fcgi_bell_take_down(&waiting->bell);
    fcgi_line_unpress(line);
    return state;
}

/* As fcgi_backend_release(). */
static void end_use(fcgi_line *line, int child)
{
    if (KEEPALIVE && fcgi_line_hand_on(line, line)) {
        return;
    }
    if (KEEPALIVE && fcgi_line_keep(line)) {
        if (fcgi_line_is_pressed(line)) { /* fcgi_idle_put() */
            fcgi_idle_give_up();
        }
        return;
    }
    w.conns[child]--;
    fcgi_line_free(line);
}

static void serve_request(int request)
{
    int child = w.threads[running].child;
    fcgi_line *line = &w.lines[child];
    void *handed = NULL;
    fcgi_line_state state;

    fcgi_bell_init(&w.waiting[request].bell);
    state = fcgi_line_enter(line, &w.waiting[request]);
    if (state == FCGI_LINE_FULL) {
        violate("the line is full");
    }
    if (state == FCGI_LINE_WAITING) {
        state = wait_in_line(request, &handed);
    }
    if (state == FCGI_LINE_PERMIT) {
        if (!handed) {
            open_conn(child);
        }
        stop_here(READY);
        end_use(line, child);
    }
}

static void hear_notices(void)
{
    plan next = { NEVER, NEVER };

    for (;;) {
        step(&next);
    }
}

static void begin_thread(void);

static void add_thread(int child, int request)
{
    int number = 0;
    thread *added;

    while (w.threads[number].state != NONE) {
        number++;
    }
    added = &w.threads[number];
    getcontext(&added->context);
    added->context.uc_stack.ss_sp = stacks[number];
    added->context.uc_stack.ss_size = STACK_LEN;
    added->context.uc_link = NULL;
    memset(stacks[number], 0, STACK_LEN);
    makecontext(&added->context, begin_thread, 0);
    added->state = READY;
    added->child = child;
    added->request = request;
}

static void begin_thread(void)
{
    thread *self = &w.threads[running];

    if (!w.is_alive[self->child] && fcgi_stats_join() != APR_SUCCESS) {
        violate("a child cannot begin");
    }
    if (self->request < 0) {
        hear_notices();
    }
    serve_request(self->request);
    stop_here(DONE);
}

/* ---- states ---- */

typedef struct region {
    void *data;
    size_t len;
} region;

static region regions[8];
static int region_count;
static size_t fixed_len;

static void add_region(void *data, size_t len)
{
    regions[region_count].data = data;
    regions[region_count++].len = len;
    fixed_len += len;
}

/* Where a thread's stack is used from. */
static char *stack_from(int number)
{
    thread *of = &w.threads[number];

    return of->state == NONE || of->state == DONE
               ? stacks[number] + STACK_LEN
               : (char *)of->context.uc_mcontext.gregs[REG_RSP];
}

static size_t state_len(void)
{
    size_t len = fixed_len;
    int i;

    for (i = 0; i < THREADS_MAX; i++) {
        len += (size_t)(stacks[i] + STACK_LEN - stack_from(i));
    }
    return len;
}

static char *save(void)
{
    char *saved = malloc(state_len()), *to = saved;
    int i;

    for (i = 0; i < region_count; i++) {
        memcpy(to, regions[i].data, regions[i].len);
        to += regions[i].len;
    }
    for (i = 0; i < THREADS_MAX; i++) {
        size_t len = (size_t)(stacks[i] + STACK_LEN - stack_from(i));

        memcpy(to, stacks[i] + STACK_LEN - len, len);
        to += len;
    }
    return saved;
}

static void restore(const char *from)
{
    int i;

    for (i = 0; i < region_count; i++) {
        memcpy(regions[i].data, from, regions[i].len);
        from += regions[i].len;
    }
    for (i = 0; i < THREADS_MAX; i++) {
        size_t len = (size_t)(stacks[i] + STACK_LEN - stack_from(i));

        memcpy(stacks[i] + STACK_LEN - len, from, len);
        from += len;
    }
}

static uint64_t mix(uint64_t hash, const void *data, size_t len)
{
    const unsigned char *byte = data;
    uint64_t word;

    while (len) {
        size_t part = len < sizeof(word) ? len : sizeof(word);

        word = 0;
        memcpy(&word, byte, part);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
        hash ^= hash >> 29;
        byte += part;
        len -= part;
    }
    return hash;
}

/* Of all but what a context has of floating point and signals. */
static uint64_t hash_state(void)
{
    static const int saved[] = { REG_RBX, REG_RBP, REG_R12, REG_R13,
                                 REG_R14, REG_R15, REG_RIP, REG_RSP };
    uint64_t hash = 1;
    size_t i, j;

    hash = mix(hash, (char *)&w + offsetof(struct world, waiting),
               sizeof(w) - offsetof(struct world, waiting));
    for (i = 1; i < (size_t)region_count; i++) {
        hash = mix(hash, regions[i].data, regions[i].len);
    }
    for (i = 0; i < THREADS_MAX; i++) {
        thread *of = &w.threads[i];
        const char *from = stack_from((int)i);

        hash = mix(hash, &of->state, sizeof(*of) - offsetof(thread, state));
        if (of->state == NONE || of->state == DONE) {
            continue;
        }
        for (j = 0; j < sizeof(saved) / sizeof(*saved); j++) {
            hash = mix(hash, &of->context.uc_mcontext.gregs[saved[j]],
                       sizeof(greg_t));
        }
        hash = mix(hash, from, (size_t)(stacks[i] + STACK_LEN - from));
    }
    return hash | 1;
}

/* Hashes of states; those on the way to the present one with ON_PATH. */
static uint64_t *visited;

#define ON_PATH (1ULL << 63)

/* Where the present state stands; NULL: it was seen before. */
static uint64_t *enter_state(void)
{
    uint64_t hash = hash_state() & ~ON_PATH;
    size_t at = hash % VISITED_LEN;

    while (visited[at] && (visited[at] & ~ON_PATH) != hash) {
        at = (at + 1) % VISITED_LEN;
    }
    if (visited[at] & ON_PATH) {
        violate("it goes round and round");
    }
    if (visited[at]) {
        return NULL;
    }
    visited[at] = hash | ON_PATH;
    if (++states > VISITED_LEN / 2) {
        violate("too many states for the memory here");
    }
    return &visited[at];
}

/* ---- what can happen ---- */

static int notices_of(int child)
{
    int value = 0;

    sem_getvalue(&memory.segments[0].head->notices[child - 1], &value);
    return value;
}

static int can_go_on(int number)
{
    const thread *of = &w.threads[number];

    switch (of->state) {
    case READY:
        return 1;
    case AT_LOCK:
        return w.lock < 0;
    case AT_NOTICE:
        return notices_of(of->child) > 0
               || (of->until >= 0 && w.now >= of->until);
    case AT_BELL:
        return w.rung[of->request] || (IMPATIENT >> of->request & 1);
    default:
        return 0;
    }
}

static void enter_child(int child)
{
    memory.me = (apr_uint32_t)child;
    memcpy(&here, w.heres[child], sizeof(here));
}

static void leave_child(int child)
{
    memcpy(w.heres[child], &here, sizeof(here));
}

static void go_on(int number)
{
    thread *of = &w.threads[number];

    enter_child(of->child);
    if (of->request >= 0) {
        w.ticks = 0;
    }
    running = number;
    swapcontext(&explorer, &of->context);
    running = -1;
    leave_child(of->child);
    steps++;
    if (of->state == DONE) {
        memset(&w.waiting[of->request], 0, sizeof(w.waiting[0]));
    }
}

static void kill_child(int child)
{
    int i;

    for (i = 0; i < THREADS_MAX; i++) {
        if (w.threads[i].child == child && w.threads[i].state != NONE) {
            if (w.lock == i) {
                w.lock = -1;
                w.lock_is_orphan = 1;
            }
            memset(&w.threads[i], 0, sizeof(w.threads[i]));
        }
    }
    w.alone = -1;
    w.is_alive[child] = 0;
    w.conns[child] = 0;
    w.kills++;
    w.ticks = 0;
    memcpy(w.heres[child], fresh_here, sizeof(here));
    w.lines[child] =
        (fcgi_line){ .limits = w.lines[child].limits, .account = account };
}

static void bear_child(int child)
{
    w.born++;
    add_thread(child, -1);
}

/* Every request of the living has ended, and every child is quiet. */
static void check_end(void)
{
    apr_uint32_t i, conns = 0;
    fcgi_share sum;

    for (i = 1; i <= CHILDREN_MAX && !w.is_alive[i]; i++) {
    }
    if (i > CHILDREN_MAX) {
        return; /* nobody is left; who comes next is BORN's */
    }
    enter_child((int)i);
    w.now += SWEEP_EVERY;
    fcgi_stats_lock(account);
    fcgi_stats_sweep(account);
    fcgi_stats_unlock(account);
    sum = fcgi_stats_sum(account);
    for (i = 1; i <= CHILDREN_MAX; i++) {
        conns += (apr_uint32_t)w.conns[i];
    }
    if (sum.in_use || sum.idle != conns || sum.pressing) {
        violate("a place is lost");
    }
    if (slots->waiting || slots->granted || slots->line.first) {
        violate("somebody stands in line who is not there");
    }
    for (i = 1; i <= slots->used; i++) {
        if (slots->slot[i].child) {
            violate("a slot is lost");
        }
    }
    ends++;
}

/* Nobody can go on: time passes, if anybody waits for that. */
static int let_time_pass(void)
{
    fcgi_instant first = -1;
    int i, are_waiting = 0;

    for (i = 0; i < THREADS_MAX; i++) {
        const thread *of = &w.threads[i];

        are_waiting |= of->state == AT_BELL || of->state == AT_LOCK;
        if (of->state == AT_NOTICE && of->until >= 0
            && (first < 0 || of->until < first)) {
            first = of->until;
        }
    }
    if (are_waiting && !w.kills && !KEEPALIVE) {
        violate("one that waits was not told");
    }
    if (are_waiting && (first < 0 || w.ticks > TICKS_MAX * CHILDREN_MAX)) {
        violate("one that waits is forgotten");
    }
    if (!are_waiting || first < 0) {
        return 0;
    }
    w.now = first;
    w.ticks++;
    return 1;
}

static void explore(void);

static void branch(const char *saved, char who)
{
    path[depth++] = who;
    if (depth >= DEPTH_MAX) {
        violate("there is no end");
    }
    explore();
    depth--;
    restore(saved);
}

static void explore(void)
{
    uint64_t *entry = enter_state();
    char *saved;
    int i, moved = 0;

    if (!entry) {
        return;
    }
    saved = save();
    for (i = 0; i < THREADS_MAX; i++) {
        if (can_go_on(i) && (w.alone < 0 || w.alone == i)) {
            moved = 1;
            go_on(i);
            branch(saved, (char)('0' + i));
        }
    }
    if (!moved && let_time_pass()) {
        branch(saved, '.');
    }
    else if (!moved) {
        check_end();
        restore(saved);
    }
    for (i = 1; i <= CHILDREN && w.kills < KILLS; i++) {
        if (w.is_alive[i] && (w.alone < 0 || w.threads[w.alone].child == i)) {
            kill_child(i);
            branch(saved, (char)('a' + i - 1));
        }
    }
    for (i = 1; i <= CHILDREN && BORN && w.kills > w.born && w.alone < 0;
         i++) {
        if (!w.is_alive[i]) {
            bear_child(i);
            branch(saved, (char)('A' + i - 1));
        }
    }
    *entry &= ~ON_PATH;
    free(saved);
}

/* ---- the beginning ---- */

static void make_memory(apr_pool_t *pool)
{
    static apr_global_mutex_t *no_lock;
    size_t head_len =
        offsetof(fcgi_segment_head, notices) + CHILDREN_MAX * sizeof(sem_t);

    if (fcgi_stats_create(&memory, pool, no_lock, CHILDREN_MAX)) {
        violate("no memory");
    }
    account = fcgi_stats_open_configured("model");
    fcgi_stats_open_line(account);
    slots = fcgi_stats_line(account);
    account->presses = PRESSES;
    add_region(&w, sizeof(w));
    add_region(memory.segments[0].head, head_len);
    add_region(&account->swept_at, sizeof(account->swept_at));
    add_region(&account->presses, sizeof(account->presses));
    add_region(&account->quiet, sizeof(account->quiet));
    add_region(account->shares, CHILDREN_MAX * sizeof(fcgi_share));
    add_region(slots, offsetof(fcgi_slots, slot) + SLOTS * sizeof(fcgi_slot));
    add_region(slots->stands, CHILDREN_MAX * sizeof(fcgi_stand));
}

static void make_children(void)
{
    int child, i;

    for (child = 1; child <= CHILDREN; child++) {
        fcgi_limits limits = { MAX, COUNT + 1, KEEPALIVE };

        w.lines[child].limits = limits;
        w.lines[child].account = account;
        memcpy(w.heres[child], fresh_here, sizeof(here));
        enter_child(child);
        if (fcgi_stats_join() != APR_SUCCESS) {
            violate("a child cannot begin");
        }
        leave_child(child);
        add_thread(child, -1);
    }
    for (i = 0; i < COUNT; i++) {
        add_thread(request_child[i], i);
    }
}

int main(void)
{
    apr_pool_t *pool;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    visited =
        mmap(NULL, VISITED_LEN * sizeof(*visited), PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    w.lock = w.alone = -1;
    w.now = 1000000;
    memcpy(fresh_here, &here, sizeof(here));
    make_memory(pool);
    make_children();
    explore();
    printf("%lu states, %lu steps, %lu ends\n", states, steps, ends);
    return 0;
}
