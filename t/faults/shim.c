/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * shim.c - a library before libc, with which httpd's system calls fail as a
 * test says: those only that mod_fastcgi_handler.so makes, itself or through
 * APR.  Whose a call is says the stack: the first address on it that is
 * neither here nor in libc, APR or a sanitizer's library.  An address there is
 * a place in the source, so a fault is told by function, place and the how
 * many-th call from there.
 *
 * The test and all processes share the file that FAULTS names, see struct
 * control; t/92-faults.t builds and drives this.  Pools of APR end the process
 * when they cannot grow, as httpd told them to: their malloc() never fails
 * here, but for that of a pool which has nobody to tell.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define CALLS_MAX 8192
#define DEPTH     24

/* What a fault is beside an errno: half of what was asked for is done. */
#define SHORT 0x10000

enum {
    OFF,
    RECORD,
    FAIL
};

/* What a descriptor is. */
enum kind {
    NOTHING,
    A_FILE,
    A_SOCKET,
    ANOTHER
};

/* Names for the test; the order is that of enum function. */
#define FUNCTIONS(X)                                                          \
    X(read)                                                                   \
    X(recv)                                                                   \
    X(recvfrom)                                                               \
    X(write)                                                                  \
    X(writev)                                                                 \
    X(sendto)                                                                 \
    X(sendmsg)                                                                \
    X(sendfile)                                                               \
    X(socket)                                                                 \
    X(connect)                                                                \
    X(setsockopt)                                                             \
    X(getsockopt)                                                             \
    X(open)                                                                   \
    X(openat)                                                                 \
    X(mkstemp)                                                                \
    X(pipe)                                                                   \
    X(fcntl)                                                                  \
    X(ftruncate)                                                              \
    X(lseek)                                                                  \
    X(fstat)                                                                  \
    X(stat)                                                                   \
    X(unlink)                                                                 \
    X(dup)                                                                    \
    X(poll)                                                                   \
    X(epoll_create1)                                                          \
    X(epoll_ctl)                                                              \
    X(epoll_wait)                                                             \
    X(timerfd_create)                                                         \
    X(mmap)                                                                   \
    X(malloc)                                                                 \
    X(pthread_create)                                                         \
    X(sem_init)

#define AS_ENUM(name) FN_##name,
#define AS_NAME(name) #name,
enum function {
    FUNCTIONS(AS_ENUM) FUNCTION_COUNT
};

/* In 32-bit words, as the test reads and writes them. */
struct control {
    uint32_t mode;     /* what is to be done with each call */
    uint32_t function; /* FAIL: that of this */
    uint32_t place;    /*     from there */
    uint32_t nth;      /*     of this number, from 1 */
    uint32_t fault;    /*     ends so */
    uint32_t lasts;    /*     and so do all that lack the same after it */
    uint32_t seen;     /* how many there were; atomic, as the next */
    uint32_t count;    /* RECORD: calls that were noted */
    struct {
        uint32_t function; /* and 0x100 times enum kind */
        uint32_t place;
    } calls[CALLS_MAX];
};

static struct control off;
static struct control *control = &off;
static __thread int is_busy; /* what follows makes calls itself */

#define REAL(name) ((__typeof__(name) *)real_of(FN_##name))

static void *reals[FUNCTION_COUNT];

static void *real_of(enum function function)
{
    static const char *const names[] = { FUNCTIONS(AS_NAME) };

    if (!reals[function]) {
        reals[function] = dlsym(RTLD_NEXT, names[function]);
    }
    return reals[function];
}

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("FAULTS");
    void *frames[2];
    int fd, i;

    is_busy = 1;
    backtrace(frames, 2); /* which loads a library the first time */
    for (i = 0; i < FUNCTION_COUNT; i++) {
        real_of((enum function)i);
    }
    fd = name ? REAL(open)(name, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *memory = REAL(mmap)(NULL, sizeof(*control),
                                  PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        close(fd);
        control = memory == MAP_FAILED ? &off : memory;
    }
    is_busy = 0;
}

/* ---- whose call is it? ---- */

static int is_in(const Dl_info *info, const char *file)
{
    return strstr(info->dli_fname, file) != NULL;
}

/* A library between the module and the system. */
static int is_between(const Dl_info *info)
{
    return is_in(info, "/libapr-1") || is_in(info, "/libaprutil-1")
           || is_in(info, "/libc.") || is_in(info, "/libasan")
           || is_in(info, "/shim.so");
}

/* True if a pool asks for memory that would end the process without it. stack
 * is from its frame on. */
static int is_fatal(void *const *stack, int count)
{
    static const char *const harmless[] = { "apr_pool_create_unmanaged_ex",
                                            "apr_mmap_create",
                                            "apr_shm_create" };
    Dl_info info;
    size_t name;
    int i;

    for (i = 0; i < count && dladdr(stack[i], &info); i++) {
        if (!is_in(&info, "/libapr-1")) {
            return i > 0; /* 0: no pool asks */
        }
        for (name = 0; name < sizeof(harmless) / sizeof(*harmless); name++) {
            if (info.dli_sname && !strcmp(info.dli_sname, harmless[name])) {
                return 0;
            }
        }
    }
    return 1;
}

/* Where in the module the call comes from; 0: from elsewhere. */
static uint32_t find_place(enum function function)
{
    void *frames[DEPTH];
    int count = backtrace(frames, DEPTH), is_here = 1, i;
    Dl_info info;

    for (i = 0; i < count && dladdr(frames[i], &info); i++) {
        if (is_here && !is_in(&info, "/shim.so")) {
            is_here = 0;
            if ((function == FN_malloc || function == FN_mmap)
                && is_fatal(frames + i, count - i)) {
                return 0;
            }
        }
        if (!is_between(&info)) {
            return is_in(&info, "/mod_fastcgi_handler.so")
                       ? (uint32_t)((char *)frames[i] - (char *)info.dli_fbase)
                       : 0;
        }
    }
    return 0;
}

static uint32_t next_of(uint32_t *counter)
{
    return __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
}

static enum kind kind_of(int fd)
{
    struct stat found;

    if (fd < 0 || REAL(fstat)(fd, &found)) {
        return NOTHING;
    }
    return S_ISREG(found.st_mode)    ? A_FILE
           : S_ISSOCK(found.st_mode) ? A_SOCKET
                                     : ANOTHER;
}

static void note(enum function function, int fd, uint32_t place)
{
    uint32_t index = next_of(&control->count) - 1;

    if (index < CALLS_MAX) {
        control->calls[index].function = function + 0x100 * kind_of(fd);
        control->calls[index].place = place;
    }
}

/* True if a call lacks what the one that failed lacked. */
static int lacks_the_same(enum function function, int fd)
{
    if (control->fault == EMFILE) {
        return function == FN_open || function == FN_openat
               || function == FN_mkstemp || function == FN_pipe
               || function == FN_socket || function == FN_dup
               || function == FN_epoll_create1
               || function == FN_timerfd_create;
    }
    return function == FN_open || function == FN_mkstemp
           || ((function == FN_write || function == FN_writev)
               && kind_of(fd) == A_FILE);
}

/* Whether this is the call that is to fail, or comes after it. */
static int is_to_fail(enum function function, int fd, uint32_t place)
{
    if (control->lasts && control->seen >= control->nth) {
        return lacks_the_same(function, fd);
    }
    return function == control->function && place == control->place
           && next_of(&control->seen) == control->nth;
}

/* How this call, of fd or -1, is to end; 0: as it does. A connection that was
 * reset is over for all that follows, too. */
static int fault(enum function function, int fd)
{
    uint32_t mode = control->mode, place;
    int error = errno, end = 0;

    if (mode == OFF || is_busy
        || (mode == FAIL && !control->lasts
            && control->function != function)) {
        return 0;
    }
    is_busy = 1;
    place = find_place(function);
    if (place && mode == RECORD) {
        note(function, fd, place);
    }
    else if (place && is_to_fail(function, fd, place)) {
        end = (int)control->fault;
    }
    if (end == ECONNRESET && function != FN_connect) {
        shutdown(fd, SHUT_RDWR);
    }
    is_busy = 0;
    errno = error;
    return end;
}

/* ---- the calls ---- */

static size_t half(size_t len)
{
    return len > 1 ? len / 2 : len;
}

#define FAILS(name, fd)                                                       \
    int end = fault(FN_##name, fd);                                           \
    if (end && end != SHORT) {                                                \
        errno = end;                                                          \
        return -1;                                                            \
    }

#define CALL(type, name, parameters, arguments)                               \
    type name parameters                                                      \
    {                                                                         \
        FAILS(name, -1)                                                       \
        return REAL(name) arguments;                                          \
    }

/* Those that move len bytes from or to fd. */
#define MOVE(name, parameters, arguments)                                     \
    ssize_t name parameters                                                   \
    {                                                                         \
        FAILS(name, fd)                                                       \
        if (end == SHORT) {                                                   \
            len = half(len);                                                  \
        }                                                                     \
        return REAL(name) arguments;                                          \
    }

MOVE(read, (int fd, void *data, size_t len), (fd, data, len))
MOVE(recv, (int fd, void *data, size_t len, int flags), (fd, data, len, flags))
MOVE(recvfrom,
     (int fd, void *data, size_t len, int flags, struct sockaddr *from,
      socklen_t *from_len),
     (fd, data, len, flags, from, from_len))
MOVE(write, (int fd, const void *data, size_t len), (fd, data, len))
MOVE(sendto,
     (int fd, const void *data, size_t len, int flags,
      const struct sockaddr *to, socklen_t to_len),
     (fd, data, len, flags, to, to_len))
MOVE(sendfile, (int fd, int from, off_t *offset, size_t len),
     (fd, from, offset, len))

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    FAILS(sendmsg, fd)
    if (end == SHORT) { /* half of the first */
        return REAL(sendto)(fd, message->msg_iov[0].iov_base,
                            half(message->msg_iov[0].iov_len), flags, NULL, 0);
    }
    return REAL(sendmsg)(fd, message, flags);
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    FAILS(writev, fd)
    if (end == SHORT) { /* half of the first */
        return REAL(write)(fd, pieces[0].iov_base, half(pieces[0].iov_len));
    }
    return REAL(writev)(fd, pieces, count);
}

CALL(int, socket, (int domain, int type, int protocol),
     (domain, type, protocol))
CALL(int, connect, (int fd, const struct sockaddr *to, socklen_t len),
     (fd, to, len))
CALL(int, setsockopt,
     (int fd, int level, int name, const void *value, socklen_t len),
     (fd, level, name, value, len))
CALL(int, getsockopt,
     (int fd, int level, int name, void *value, socklen_t *len),
     (fd, level, name, value, len))
CALL(int, mkstemp, (char *name), (name))
CALL(int, pipe, (int fds[2]), (fds))
CALL(int, ftruncate, (int fd, off_t len), (fd, len))
CALL(off_t, lseek, (int fd, off_t offset, int whence), (fd, offset, whence))
CALL(int, fstat, (int fd, struct stat *found), (fd, found))
CALL(int, stat, (const char *name, struct stat *found), (name, found))
CALL(int, unlink, (const char *name), (name))
CALL(int, dup, (int fd), (fd))
CALL(int, poll, (struct pollfd * fds, nfds_t count, int timeout),
     (fds, count, timeout))
CALL(int, epoll_create1, (int flags), (flags))
CALL(int, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *event),
     (epfd, op, fd, event))
CALL(int, epoll_wait,
     (int epfd, struct epoll_event *events, int count, int timeout),
     (epfd, events, count, timeout))
CALL(int, timerfd_create, (int clock, int flags), (clock, flags))
CALL(int, sem_init, (sem_t * semaphore, int shared, unsigned int value),
     (semaphore, shared, value))

/* The third argument of these three may be missing; what is read then is
 * handed on, and nobody looks at it. */
static void *argument(va_list list)
{
    return va_arg(list, void *);
}

/* Only locks: flags of an open descriptor can always be read and set. */
int fcntl(int fd, int command, ...)
{
    va_list list;
    void *value;

    if (command == F_SETLK || command == F_GETLK) {
        FAILS(fcntl, -1)
    }
    va_start(list, command);
    value = argument(list);
    va_end(list);
    return REAL(fcntl)(fd, command, value);
}

int open(const char *name, int flags, ...)
{
    va_list list;
    mode_t mode;
    FAILS(open, -1)

    va_start(list, flags);
    mode = (mode_t)(uintptr_t)argument(list);
    va_end(list);
    return REAL(open)(name, flags, mode);
}

int openat(int dir, const char *name, int flags, ...)
{
    va_list list;
    mode_t mode;
    FAILS(openat, -1)

    va_start(list, flags);
    mode = (mode_t)(uintptr_t)argument(list);
    va_end(list);
    return REAL(openat)(dir, name, flags, mode);
}

/* What programs call that were built with -D_FORTIFY_SOURCE. */
int __openat_2(int dir, const char *name, int flags);

int __openat_2(int dir, const char *name, int flags)
{
    return openat(dir, name, flags, 0);
}

void *mmap(void *at, size_t len, int protection, int flags, int fd,
           off_t offset)
{
    int end = fault(FN_mmap, -1);

    if (end) {
        errno = end;
        return MAP_FAILED;
    }
    return REAL(mmap)(at, len, protection, flags, fd, offset);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *how,
                   void *(*work)(void *), void *data)
{
    int end = fault(FN_pthread_create, -1);

    return end ? end : REAL(pthread_create)(thread, how, work, data);
}

/* A sanitizer has its own. */
#ifndef WITHOUT_MALLOC
extern void *__libc_malloc(size_t len);

void *malloc(size_t len)
{
    int end = fault(FN_malloc, -1);

    if (end) {
        errno = end;
        return NULL;
    }
    return __libc_malloc(len);
}
#endif
