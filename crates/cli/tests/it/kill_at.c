/* Kills the process with SIGKILL right before the n-th call that changes something on disk, n = KILL_AT.
 * With KILL_COUNT set, writes at the end into that file how many such calls there were. For tests, by LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static long calls;

static void step(void) {
    const char *at = getenv("KILL_AT");
    long call = __sync_add_and_fetch(&calls, 1);
    if (at && call == atol(at)) kill(getpid(), SIGKILL);
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("KILL_COUNT");
    if (!path) return;
    long seen = calls;
    FILE *file = fopen(path, "w");
    if (file) { fprintf(file, "%ld", seen); fclose(file); }
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) { REAL(write); if (fd > 2) step(); return real(fd, data, size); }
ssize_t writev(int fd, const struct iovec *v, int n) { REAL(writev); if (fd > 2) step(); return real(fd, v, n); }
ssize_t pwrite(int fd, const void *d, size_t s, off_t o) { REAL(pwrite); step(); return real(fd, d, s, o); }
ssize_t pwrite64(int fd, const void *d, size_t s, off64_t o) { REAL(pwrite64); step(); return real(fd, d, s, o); }
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t o) { REAL(pwritev); step(); return real(fd, v, n, o); }
int rename(const char *a, const char *b) { REAL(rename); step(); return real(a, b); }
int renameat(int d, const char *a, int e, const char *b) { REAL(renameat); step(); return real(d, a, e, b); }
int renameat2(int d, const char *a, int e, const char *b, unsigned f) { REAL(renameat2); step(); return real(d, a, e, b, f); }
int link(const char *a, const char *b) { REAL(link); step(); return real(a, b); }
int linkat(int d, const char *a, int e, const char *b, int f) { REAL(linkat); step(); return real(d, a, e, b, f); }
int unlink(const char *a) { REAL(unlink); step(); return real(a); }
int mkdir(const char *a, mode_t m) { REAL(mkdir); step(); return real(a, m); }
int fsync(int fd) { REAL(fsync); step(); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); step(); return real(fd); }
int msync(void *a, size_t s, int f) { REAL(msync); step(); return real(a, s, f); }
int ftruncate64(int fd, off64_t s) { REAL(ftruncate64); step(); return real(fd, s); }

int open64(const char *path, int flags, ...) {
    REAL(open64);
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
        step();
    }
    return real(path, flags, mode);
}
