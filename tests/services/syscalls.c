/* Fails chosen system calls on chosen files: preloaded into a process (LD_PRELOAD), steered by a shared mapping.
 *
 * SYSCALLS_PATH is a part of the files' names, SYSCALLS_CONTROL the file that is mapped (`syscalls.py` has its layout). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST 4096

static struct control {
    int64_t countdown; /* so many calls go well before one fails; below zero: all go well */
    int64_t is_lasting; /* all that follow fail as well */
    int64_t number;    /* errno */
    int64_t seen;      /* calls since the start */
    int64_t failed;    /* those of them that failed */
} off = {-1, 0, 0, 0, 0}, *control = &off;

static const char *part;
static char ours[MOST];

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void)
{
    REAL(open64);
    const char *path = getenv("SYSCALLS_CONTROL");
    part = getenv("SYSCALLS_PATH");
    int fd = path && part ? real(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) control = map;
    close(fd);
}

static int fails(void)
{
    __atomic_add_fetch(&control->seen, 1, __ATOMIC_SEQ_CST);
    if (control->countdown < 0) return 0;
    if (__atomic_fetch_sub(&control->countdown, 1, __ATOMIC_SEQ_CST) != 0) return 0;
    control->countdown = control->is_lasting ? 0 : -1;
    __atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST);
    errno = (int)control->number;
    return 1;
}

static int is_ours(int fd) { return fd >= 0 && fd < MOST && ours[fd]; }
static int is_named(const char *path) { return part && path && strstr(path, part) && !strstr(path, ".broken-"); }

static int opened(int fd)
{
    if (fd >= 0 && fd < MOST) ours[fd] = 1;
    return fd;
}

#define OPEN(name)                                                                                \
    int name(const char *path, int flags, ...)                                                    \
    {                                                                                             \
        REAL(name);                                                                               \
        va_list more; va_start(more, flags); int mode = va_arg(more, int); va_end(more);          \
        if (!is_named(path)) return real(path, flags, mode);                                      \
        return fails() ? -1 : opened(real(path, flags, mode));                                    \
    }
OPEN(open)
OPEN(open64)

int close(int fd)
{
    REAL(close);
    if (fd >= 0 && fd < MOST) ours[fd] = 0;
    return real(fd);
}

#define ON_FD(type, name, parameters, arguments)                                                  \
    type name parameters { REAL(name); return is_ours(fd) && fails() ? (type)-1 : real arguments; }
ON_FD(ssize_t, read, (int fd, void *data, size_t n), (fd, data, n))
ON_FD(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n))
ON_FD(ssize_t, pread, (int fd, void *data, size_t n, off_t at), (fd, data, n, at))
ON_FD(ssize_t, pread64, (int fd, void *data, size_t n, off64_t at), (fd, data, n, at))
ON_FD(ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at), (fd, data, n, at))
ON_FD(ssize_t, pwrite64, (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at))
ON_FD(int, fsync, (int fd), (fd))
ON_FD(int, fdatasync, (int fd), (fd))
ON_FD(int, ftruncate, (int fd, off_t size), (fd, size))
ON_FD(int, ftruncate64, (int fd, off64_t size), (fd, size))
ON_FD(int, fstat, (int fd, struct stat *facts), (fd, facts))
ON_FD(int, fstat64, (int fd, struct stat64 *facts), (fd, facts))
ON_FD(int, fchmod, (int fd, mode_t mode), (fd, mode))

void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset)
{
    REAL(mmap64);
    return is_ours(fd) && fails() ? MAP_FAILED : real(at, size, protection, flags, fd, offset);
}

int unlink(const char *path)
{
    REAL(unlink);
    return is_named(path) && fails() ? -1 : real(path);
}
