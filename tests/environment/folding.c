/* A folder for which case does not count, as on macOS, Windows, exFAT or ext4 with casefold: names below $FOLD_ROOT are
 * taken for those that are there and differ in case only, in ASCII, or in how an e is accented. Absolute paths alone. Linux and glibc; LD_PRELOAD.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

typedef char Room[8192];
#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* Whether two names are one here: small letters and capitals, and an e with its accent or before it. */
static void plain(const char *name, char *out) {
    for (; *name; name++)
        if (!strncmp(name, "e\xcc\x81", 3)) { strcpy(out, "\xc3\xa9"); out += 2; name += 2; }
        else *out++ = *name;
    *out = 0;
}

static int same(const char *one, const char *other) {
    char a[512], b[512];
    plain(one, a);
    plain(other, b);
    return !strcasecmp(a, b);
}

/* Append to `folder` the entry in it that is `name` here, or `name` where there is none. */
static void spell(char *folder, const char *name) {
    REAL(opendir);
    struct dirent *entry;
    DIR *open = real(folder);
    char found[256] = "";
    while (open && (entry = readdir(open)))
        if (!strcmp(entry->d_name, name) || (!*found && same(entry->d_name, name))) strcpy(found, entry->d_name);
    if (open) closedir(open);
    strcat(strcat(folder, "/"), *found ? found : name);
}

static const char *fold(const char *path, Room room) {
    const char *root = getenv("FOLD_ROOT");
    size_t size = root ? strlen(root) : 0;
    Room rest;
    char *left;
    if (!size || !path || strncmp(path, root, size) || path[size] != '/' || strlen(path) >= sizeof(Room) / 2) return path;
    strcpy(room, root);
    strcpy(rest, path + size);
    for (char *name = strtok_r(rest, "/", &left); name; name = strtok_r(NULL, "/", &left)) spell(room, name);
    return room;
}

#define ONE(type, name, parameters, ...) type name parameters { REAL(name); Room a; return real(__VA_ARGS__); }
#define TWO(type, name, parameters, ...) type name parameters { REAL(name); Room a, b; return real(__VA_ARGS__); }
#define LAST va_list more; va_start(more, how); unsigned mode = va_arg(more, unsigned); va_end(more)
int open(const char *p, int how, ...) { REAL(open); LAST; Room a; return real(fold(p, a), how, mode); }
int open64(const char *p, int how, ...) { REAL(open64); LAST; Room a; return real(fold(p, a), how, mode); }
int openat(int d, const char *p, int how, ...) { REAL(openat); LAST; Room a; return real(d, fold(p, a), how, mode); }
int openat64(int d, const char *p, int how, ...) { REAL(openat64); LAST; Room a; return real(d, fold(p, a), how, mode); }
ONE(int, stat, (const char *p, struct stat *s), fold(p, a), s)
ONE(int, stat64, (const char *p, struct stat64 *s), fold(p, a), s)
ONE(int, lstat, (const char *p, struct stat *s), fold(p, a), s)
ONE(int, lstat64, (const char *p, struct stat64 *s), fold(p, a), s)
ONE(int, fstatat, (int d, const char *p, struct stat *s, int o), d, fold(p, a), s, o)
ONE(int, fstatat64, (int d, const char *p, struct stat64 *s, int o), d, fold(p, a), s, o)
ONE(int, access, (const char *p, int m), fold(p, a), m)
ONE(int, mkdir, (const char *p, mode_t m), fold(p, a), m)
ONE(DIR *, opendir, (const char *p), fold(p, a))
ONE(int, rmdir, (const char *p), fold(p, a))
ONE(int, unlink, (const char *p), fold(p, a))
ONE(int, chmod, (const char *p, mode_t m), fold(p, a), m)
ONE(ssize_t, readlink, (const char *p, char *r, size_t n), fold(p, a), r, n)
ONE(int, symlink, (const char *t, const char *p), t, fold(p, a))
ONE(int, utimensat, (int d, const char *p, const struct timespec t[2], int o), d, fold(p, a), t, o)
TWO(int, rename, (const char *p, const char *q), fold(p, a), fold(q, b))
TWO(int, link, (const char *p, const char *q), fold(p, a), fold(q, b))
