/* Sends the process a signal right before the n-th call that changes something outside of it, n = KILL_AT. For tests,
 * by LD_PRELOAD.
 *
 *   KILL_CALLS   which calls count: `disk` or `socket`
 *   KILL_SIGNAL  the number of the signal; SIGKILL without it. A byte on file descriptor 0 tells that it is due
 *   KILL_COUNT   a file into which the number of such calls is written at the end
 *
 * Writes to what is neither a file nor a socket do not count: they wake other threads of the same process. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static long calls;

static void step(const char *kind) {
    const char *wanted = getenv("KILL_CALLS"), *at = getenv("KILL_AT"), *number = getenv("KILL_SIGNAL");
    if (!wanted || strcmp(wanted, kind) != 0) return;
    long call = __sync_add_and_fetch(&calls, 1);
    if (!at || call != atol(at)) return;
    if (number) syscall(SYS_write, 0, ".", 1);
    raise(number ? atoi(number) : SIGKILL); /* to this thread: another one would let this one go on for a moment */
}

static void disk(void) { step("disk"); }

static void either(int fd) {
    struct stat found;
    int before = errno;
    if (fd > 2 && fstat(fd, &found) == 0) {
        if (S_ISREG(found.st_mode) || S_ISDIR(found.st_mode)) disk();
        if (S_ISSOCK(found.st_mode)) step("socket");
    }
    errno = before;
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("KILL_COUNT");
    if (!path) return;
    long seen = calls;
    FILE *file = fopen(path, "w");
    if (file) { fprintf(file, "%ld", seen); fclose(file); }
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) { REAL(write); either(fd); return real(fd, data, size); }
ssize_t writev(int fd, const struct iovec *v, int n) { REAL(writev); either(fd); return real(fd, v, n); }
ssize_t send(int fd, const void *d, size_t s, int f) { REAL(send); either(fd); return real(fd, d, s, f); }
ssize_t sendto(int fd, const void *d, size_t s, int f, const struct sockaddr *a, socklen_t l) { REAL(sendto); either(fd); return real(fd, d, s, f, a, l); }
ssize_t sendmsg(int fd, const struct msghdr *m, int f) { REAL(sendmsg); either(fd); return real(fd, m, f); }
ssize_t pwrite(int fd, const void *d, size_t s, off_t o) { REAL(pwrite); disk(); return real(fd, d, s, o); }
ssize_t pwrite64(int fd, const void *d, size_t s, off64_t o) { REAL(pwrite64); disk(); return real(fd, d, s, o); }
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t o) { REAL(pwritev); disk(); return real(fd, v, n, o); }
int rename(const char *a, const char *b) { REAL(rename); disk(); return real(a, b); }
int renameat(int d, const char *a, int e, const char *b) { REAL(renameat); disk(); return real(d, a, e, b); }
int renameat2(int d, const char *a, int e, const char *b, unsigned f) { REAL(renameat2); disk(); return real(d, a, e, b, f); }
int link(const char *a, const char *b) { REAL(link); disk(); return real(a, b); }
int linkat(int d, const char *a, int e, const char *b, int f) { REAL(linkat); disk(); return real(d, a, e, b, f); }
int unlink(const char *a) { REAL(unlink); disk(); return real(a); }
int mkdir(const char *a, mode_t m) { REAL(mkdir); disk(); return real(a, m); }
int fsync(int fd) { REAL(fsync); disk(); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); disk(); return real(fd); }
int msync(void *a, size_t s, int f) { REAL(msync); disk(); return real(a, s, f); }
int ftruncate64(int fd, off64_t s) { REAL(ftruncate64); disk(); return real(fd, s); }

int open64(const char *path, int flags, ...) {
    REAL(open64);
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
        disk();
    }
    return real(path, flags, mode);
}
