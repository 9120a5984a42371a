/* Makes calls to the system fail, below one folder: an odd file system of our own. Linux and glibc; LD_PRELOAD.
 *
 *   SHIM_FAULTS   call[@n]=errno, separated by commas: "chmod=1,fsync=22,write@1000000=122". The first n calls
 *                 succeed (of write: bytes; of thread: as many live at a time). errno 0: the call does nothing and says that it did.
 *   SHIM_ROOT     the folder; without it, everywhere.
 *
 * What a call here stands for is in the table at the end of tests/environment/shim.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#define MOST 32
static struct fault { char call[16]; long long spared; int error; } faults[MOST];
static int known;
static const char *root;

/* Before the process begins, and again in one that was forked and has variables of its own. */
__attribute__((constructor)) void read_faults(void) {
    const char *at = getenv("SHIM_FAULTS");
    known = 0;
    root = getenv("SHIM_ROOT");
    while (at && *at && known < MOST) {
        struct fault *fault = &faults[known];
        size_t name = strcspn(at, "@="), whole = strcspn(at, ",");
        if (name >= sizeof fault->call || name >= whole) break;
        memcpy(fault->call, at, name);
        fault->spared = at[name] == '@' ? atoll(at + name + 1) : 0;
        fault->error = atoi((const char *)memchr(at, '=', whole) + 1);
        known++;
        at += whole + (at[whole] == ',');
    }
}

static int below_path(int folder, const char *path) {
    char whole[8192], link[64];
    if (!root) return 1;
    if (!path) return 0;
    if (path[0] != '/') {
        ssize_t length;
        snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        if ((length = readlink(link, whole, 4095)) < 0) return 0;
        snprintf(whole + length, sizeof whole - length, "/%s", path);
        path = whole;
    }
    size_t size = strlen(root);
    return !strncmp(path, root, size) && (path[size] == '/' || !path[size]);
}

static int below_file(int file) {
    char path[4096], link[64];
    ssize_t length;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if ((length = readlink(link, path, sizeof path - 1)) < 0) return !root;
    path[length] = 0;
    return below_path(AT_FDCWD, path);
}

/* The errno with which this call fails, 0 if it only pretends, -1 if it goes to the system. */
static int verdict(const char *call, int below, long long amount) {
    for (int i = 0; below && i < known; i++)
        if (!strcmp(faults[i].call, call))
            return __atomic_sub_fetch(&faults[i].spared, amount, __ATOMIC_SEQ_CST) < 0 ? faults[i].error : -1;
    return -1;
}

/* A call of the C library: its type, name, parameters, arguments; which fault strikes it, where, how much it takes. */
#define CALL(type, name, parameters, arguments, fault, below, amount) \
    type name parameters { \
        static type (*real) parameters; \
        int error; \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name); \
        if ((error = verdict(fault, below, amount)) < 0) return real arguments; \
        errno = error; \
        return error ? FAILED : PRETENDED; \
    }
#define HERE(path) below_path(AT_FDCWD, path)

#define FAILED -1
#define PRETENDED 0
CALL(int, chmod, (const char *p, mode_t m), (p, m), "chmod", HERE(p), 1)
CALL(int, fchmod, (int f, mode_t m), (f, m), "chmod", below_file(f), 1)
CALL(int, fchmodat, (int d, const char *p, mode_t m, int o), (d, p, m, o), "chmod", below_path(d, p), 1)
CALL(int, fsync, (int f), (f), "fsync", below_file(f), 1)
CALL(int, fdatasync, (int f), (f), "fsync", below_file(f), 1)
CALL(int, flock, (int f, int how), (f, how), how & LOCK_UN ? "unlock" : "flock", below_file(f), 1)
CALL(int, link, (const char *a, const char *b), (a, b), "link", HERE(b), 1)
CALL(int, linkat, (int c, const char *a, int d, const char *b, int o), (c, a, d, b, o), "link", below_path(d, b), 1)
CALL(int, symlink, (const char *a, const char *b), (a, b), "symlink", HERE(b), 1)
CALL(int, symlinkat, (const char *a, int d, const char *b), (a, d, b), "symlink", below_path(d, b), 1)
CALL(int, utimensat, (int d, const char *p, const struct timespec t[2], int o), (d, p, t, o), "utime", below_path(d, p), 1)
CALL(int, futimens, (int f, const struct timespec t[2]), (f, t), "utime", below_file(f), 1)
CALL(int, utimes, (const char *p, const struct timeval t[2]), (p, t), "utime", HERE(p), 1)
CALL(int, ftruncate, (int f, off_t n), (f, n), "truncate", below_file(f), 1)
CALL(int, ftruncate64, (int f, off64_t n), (f, n), "truncate", below_file(f), 1)
CALL(int, mkdir, (const char *p, mode_t m), (p, m), "mkdir", HERE(p), 1)
CALL(int, unlink, (const char *p), (p), "unlink", HERE(p), 1)
CALL(int, unlinkat, (int d, const char *p, int o), (d, p, o), "unlink", below_path(d, p), 1)
CALL(int, statvfs, (const char *p, struct statvfs *s), (p, s), "statvfs", HERE(p), 1)
CALL(int, statvfs64, (const char *p, struct statvfs64 *s), (p, s), "statvfs", HERE(p), 1)
CALL(ssize_t, copy_file_range, (int a, off64_t *i, int b, off64_t *j, size_t n, unsigned o), (a, i, b, j, n, o), "copy", below_file(b), 1)
CALL(ssize_t, sendfile, (int b, int a, off_t *i, size_t n), (b, a, i, n), "copy", below_file(a) || below_file(b), 1)
CALL(ssize_t, sendfile64, (int b, int a, off64_t *i, size_t n), (b, a, i, n), "copy", below_file(a) || below_file(b), 1)
#undef PRETENDED
#define PRETENDED (ssize_t)n
CALL(ssize_t, write, (int f, const void *a, size_t n), (f, a, n), "write", below_file(f), n)
CALL(ssize_t, pwrite, (int f, const void *a, size_t n, off_t i), (f, a, n, i), "write", below_file(f), n)
CALL(ssize_t, pwrite64, (int f, const void *a, size_t n, off64_t i), (f, a, n, i), "write", below_file(f), n)
#undef PRETENDED
#define PRETENDED 0
CALL(ssize_t, read, (int f, void *a, size_t n), (f, a, n), "read", below_file(f), 1)
CALL(ssize_t, pread, (int f, void *a, size_t n, off_t i), (f, a, n, i), "read", below_file(f), 1)
CALL(ssize_t, pread64, (int f, void *a, size_t n, off64_t i), (f, a, n, i), "read", below_file(f), 1)

/* These give the error itself. */
#undef FAILED
#define FAILED error
CALL(int, posix_fallocate, (int f, off_t i, off_t n), (f, i, n), "allocate", below_file(f), 1)
CALL(int, posix_fallocate64, (int f, off64_t i, off64_t n), (f, i, n), "allocate", below_file(f), 1)
CALL(int, getpwuid_r, (uid_t u, struct passwd *p, char *b, size_t n, struct passwd **r), (u, p, b, n, r), "passwd", (*r = NULL, 1), 1)

/* Threads that have ended make room for others. */
struct begun { void *(*work)(void *); void *given; };
static void ended(void *nothing) {
    for (int i = 0; i < known; i++)
        if (!strcmp(faults[i].call, "thread")) __atomic_add_fetch(&faults[i].spared, 1, __ATOMIC_SEQ_CST);
}
static void *counted(void *given) {
    struct begun begun = *(struct begun *)given;
    void *result;
    free(given);
    pthread_cleanup_push(ended, NULL);
    result = begun.work(begun.given);
    pthread_cleanup_pop(1);
    return result;
}
int pthread_create(pthread_t *t, const pthread_attr_t *o, void *(*f)(void *), void *a) {
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    struct begun *begun = malloc(sizeof *begun);
    int error;
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    if ((error = verdict("thread", 1, 1)) >= 0 && (ended(NULL), error)) return free(begun), error;
    *begun = (struct begun){f, a};
    return real(t, o, counted, begun);
}

#undef FAILED
#define FAILED MAP_FAILED
#undef PRETENDED
#define PRETENDED MAP_FAILED
CALL(void *, mmap, (void *a, size_t n, int p, int o, int f, off_t i), (a, n, p, o, f, i), "mmap", f >= 0 && below_file(f), 1)
CALL(void *, mmap64, (void *a, size_t n, int p, int o, int f, off64_t i), (a, n, p, o, f, i), "mmap", f >= 0 && below_file(f), 1)

/* "rename": any. "move": from one folder to another. */
#undef FAILED
#define FAILED -1
#undef PRETENDED
#define PRETENDED 0
static const char *kind(const char *a, const char *b) {
    const char *x = strrchr(a, '/'), *y = strrchr(b, '/');
    int same = x && y ? x - a == y - b && !strncmp(a, b, x - a) : x == y;
    for (int i = 0; i < known; i++)
        if (!strcmp(faults[i].call, "rename")) return "rename";
    return same ? "stay" : "move";
}
CALL(int, rename, (const char *a, const char *b), (a, b), kind(a, b), HERE(a) || HERE(b), 1)
CALL(int, renameat, (int c, const char *a, int d, const char *b), (c, a, d, b), kind(a, b), below_path(c, a) || below_path(d, b), 1)
CALL(int, renameat2, (int c, const char *a, int d, const char *b, unsigned o), (c, a, d, b, o), o ? "exchange" : kind(a, b), below_path(c, a) || below_path(d, b), 1)

/* A clock that is wrong by so many seconds. */
int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    const char *wrong = getenv("SHIM_CLOCK");
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(which, now);
    if (wrong && which == CLOCK_REALTIME) now->tv_sec += atoll(wrong);
    return result;
}

/* Calls with a last argument that is not always there. */
#define LAST(type, before) va_list more; va_start(more, before); type last = va_arg(more, type); va_end(more)
static const char *opening(int how) {
    if ((how & __O_TMPFILE) == __O_TMPFILE) return "tmpfile";
    return how & (O_WRONLY | O_RDWR | O_CREAT) ? "create" : "open";
}
#define OPEN(name) \
    CALL_OPEN(name, (const char *p, int how, ...), (const char *, int, ...), (p, how, last), HERE(p)) 
#define OPENAT(name) \
    CALL_OPEN(name, (int d, const char *p, int how, ...), (int, const char *, int, ...), (d, p, how, last), below_path(d, p))
#define CALL_OPEN(name, parameters, types, arguments, below) \
    int name parameters { \
        static int (*real) types; \
        LAST(unsigned, how); \
        int error; \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name); \
        if ((error = verdict(opening(how), below, 1)) < 0) return real arguments; \
        errno = error; \
        return -1; \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

static int locks(int what) {
    return what == F_SETLK || what == F_SETLKW || what == F_OFD_SETLK || what == F_OFD_SETLKW;
}
#define CONTROL(name, what_type, fault) \
    int name(int f, what_type what, ...) { \
        static int (*real)(int, what_type, ...); \
        LAST(void *, what); \
        int error; \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name); \
        if ((error = verdict(fault, below_file(f), 1)) < 0) return real(f, what, last); \
        errno = error; \
        return error ? -1 : 0; \
    }
CONTROL(fcntl, int, locks(what) ? "lock" : "control")
CONTROL(fcntl64, int, locks(what) ? "lock" : "control")
CONTROL(ioctl, unsigned long, what == 0x40049409UL ? "clone" : "control")
