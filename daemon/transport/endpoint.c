/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/endpoint.h"

#include "daemon/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    INHERITED_FIRST = 3, /* SD_LISTEN_FDS_START */
    INHERITED_MAX = 64,
    GROUP_BYTES_MAX = 64 * 1024
};

#define NEW_SUFFIX ".new"
#define LOCK_SUFFIX ".lock"

static struct {
    bool read;
    int n;
    bool claimed[INHERITED_MAX];
} inherited;

static long
env_number(const char *name)
{
    const char *text = getenv(name);
    if (!text || *text < '0' || *text > '9')
        return -1;
    errno = 0;
    char *end;
    long number = strtol(text, &end, 10);
    return errno || *end ? -1 : number;
}

/* Once; afterwards the variables are gone, so that no child takes them for its own. */
static void
inherited_read(void)
{
    if (inherited.read)
        return;
    inherited.read = true;
    long n = env_number("LISTEN_FDS");
    if (n > 0 && env_number("LISTEN_PID") == getpid())
        inherited.n = n < INHERITED_MAX ? (int)n : INHERITED_MAX;
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDNAMES");
    for (int i = 0; i < inherited.n; i++)
        fcntl(INHERITED_FIRST + i, F_SETFD, FD_CLOEXEC);
}

static bool
is_listening_at(int fd, const struct sockaddr *want, socklen_t size)
{
    int listening = 0, type = 0;
    socklen_t n = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) != 0 || !listening)
        return false;
    n = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) != 0 || type != SOCK_STREAM)
        return false;
    struct sockaddr_storage at;
    memset(&at, 0, sizeof at);
    n = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &n) != 0 || at.ss_family != want->sa_family)
        return false;
    if (want->sa_family == AF_UNIX)
        return strcmp(((struct sockaddr_un *)&at)->sun_path,
                      ((const struct sockaddr_un *)want)->sun_path) == 0;
    return n == size && memcmp(&at, want, size) == 0;
}

/* The descriptor that the service manager opened at this address, or -1. */
static int
inherited_claim(const struct sockaddr *want, socklen_t size)
{
    inherited_read();
    for (int i = 0; i < inherited.n; i++) {
        int fd = INHERITED_FIRST + i;
        if (inherited.claimed[i] || !is_listening_at(fd, want, size))
            continue;
        inherited.claimed[i] = true;
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        return fd;
    }
    return -1;
}

void
endpoint_unclaimed_close(void)
{
    inherited_read();
    for (int i = 0; i < inherited.n; i++) {
        if (inherited.claimed[i])
            continue;
        log_line(LOG_LEVEL_WARNING, "listen.unclaimed", "fd=%d", INHERITED_FIRST + i);
        close(INHERITED_FIRST + i);
    }
    inherited.n = 0;
}

static bool __attribute__((format(printf, 3, 4)))
refuse(char *err, size_t errlen, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(err, errlen, fmt, args);
    va_end(args);
    return false;
}

static struct endpoint
nothing(void)
{
    return (struct endpoint){ .fd = -1, .lock_fd = -1 };
}

static bool
find_group(const char *name, gid_t *ret)
{
    char *end;
    errno = 0;
    unsigned long number = strtoul(name, &end, 10);
    if (*name >= '0' && *name <= '9' && !*end && !errno && number < (gid_t)-1) {
        *ret = (gid_t)number;
        return true;
    }
    char *memory = malloc(GROUP_BYTES_MAX);
    struct group group, *found = NULL;
    if (memory && getgrnam_r(name, &group, memory, GROUP_BYTES_MAX, &found) != 0)
        found = NULL;
    if (found)
        *ret = found->gr_gid;
    free(memory);
    return found;
}

static long
lock_holder(int fd)
{
    char text[32] = "";
    if (pread(fd, text, sizeof text - 1, 0) <= 0)
        return 0;
    return strtol(text, NULL, 10);
}

/* The lock, not the socket's file, says whether another daemon serves the path: it dies with its
 * holder, and a file does not. */
static bool
take_lock(const char *path, struct endpoint *end, char *err, size_t errlen)
{
    char name[ENDPOINT_NAME_MAX + sizeof LOCK_SUFFIX];
    snprintf(name, sizeof name, "%s" LOCK_SUFFIX, path);
    end->lock_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    struct stat st;
    if (end->lock_fd < 0 || fstat(end->lock_fd, &st) != 0)
        return refuse(err, errlen, "cannot open the lock file %s: %s", name, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return refuse(err, errlen, "%s is not a regular file", name);
    if (flock(end->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return refuse(err, errlen, "cannot lock %s: %s", name, strerror(errno));
        return refuse(err, errlen, "another kaitend (pid %ld) serves %s", lock_holder(end->lock_fd),
                      path);
    }
    char pid[32];
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(end->lock_fd, 0) != 0 || pwrite(end->lock_fd, pid, (size_t)n, 0) != n)
        return refuse(err, errlen, "cannot write %s: %s", name, strerror(errno));
    return true;
}

/* Nobody may connect before mode and group are right, hence the mask and the other name; and who
 * waits for the path to appear finds a socket that listens. The price is that the kernel remembers
 * the name it was bound to: getpeername(2) and ss(8) show it with the suffix. */
static bool
bind_hidden(int fd, const char *hidden, char *err, size_t errlen)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    memcpy(address.sun_path, hidden, strlen(hidden) + 1);
    if (unlink(hidden) != 0 && errno != ENOENT)
        return refuse(err, errlen, "cannot remove %s: %s", hidden, strerror(errno));
    mode_t before = umask(0177);
    int status = bind(fd, (struct sockaddr *)&address, sizeof address);
    int why = errno;
    umask(before);
    return status == 0 ||
           refuse(err, errlen, "cannot make a socket at %s: %s", hidden, strerror(why));
}

/* (gid_t)-1 for no group. */
static bool
group_of(const char *group, gid_t *ret, char *err, size_t errlen)
{
    *ret = (gid_t)-1;
    return !group || find_group(group, ret) ||
           refuse(err, errlen, "there is no group %.64s", group);
}

bool
endpoint_group_check(const char *group, char *err, size_t errlen)
{
    gid_t gid;
    return group_of(group, &gid, err, errlen);
}

static bool
dress(const char *hidden, const struct endpoint_file *file, char *err, size_t errlen)
{
    gid_t gid;
    mode_t mode = file->mode & 0777;
    if (!group_of(file->group, &gid, err, errlen))
        return false;
    if (file->group && lchown(hidden, (uid_t)-1, gid) != 0)
        return refuse(err, errlen, "cannot give %s to group %s: %s", hidden, file->group,
                      strerror(errno));
    if (chmod(hidden, mode) != 0)
        return refuse(err, errlen, "cannot set mode %o of %s: %s", mode, hidden,
                      strerror(errno));
    return true;
}

static bool
replace(const char *hidden, const char *path, struct endpoint *end, char *err, size_t errlen)
{
    struct stat st;
    if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
        return refuse(err, errlen, "%s exists and is not a socket", path);
    if (lstat(hidden, &st) != 0 || rename(hidden, path) != 0)
        return refuse(err, errlen, "cannot make %s: %s", path, strerror(errno));
    end->ours = true;
    end->dev = st.st_dev;
    end->ino = st.st_ino;
    return true;
}

static bool
make_unix(const struct endpoint_file *file, struct endpoint *end, char *err, size_t errlen)
{
    const char *path = file->path;
    char hidden[ENDPOINT_NAME_MAX + sizeof NEW_SUFFIX];
    snprintf(hidden, sizeof hidden, "%s" NEW_SUFFIX, path);
    if (!take_lock(path, end, err, errlen))
        return false;
    end->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (end->fd < 0)
        return refuse(err, errlen, "cannot make a socket: %s", strerror(errno));
    if (!bind_hidden(end->fd, hidden, err, errlen))
        return false;
    bool good = dress(hidden, file, err, errlen);
    if (good && listen(end->fd, ENDPOINT_BACKLOG) != 0)
        good = refuse(err, errlen, "cannot listen at %s: %s", path, strerror(errno));
    good = good && replace(hidden, path, end, err, errlen);
    if (!good)
        unlink(hidden);
    return good;
}

bool
endpoint_unix_check(const char *path, char *err, size_t errlen)
{
    const size_t most = sizeof((struct sockaddr_un *)NULL)->sun_path - sizeof NEW_SUFFIX;
    if (*path == '\0' || *path == '@')
        return refuse(err, errlen, "\"%s\" is no path: abstract sockets have no permissions", path);
    return strlen(path) <= most ||
           refuse(err, errlen, "the path %s is longer than %zu bytes", path, most);
}

bool
endpoint_unix(const struct endpoint_file *file, struct endpoint *ret, char *err, size_t errlen)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t n = strlen(file->path);
    if (!endpoint_unix_check(file->path, err, errlen))
        return false;
    memcpy(address.sun_path, file->path, n + 1);
    struct endpoint end = nothing();
    memcpy(end.name, file->path, n + 1);
    end.fd = inherited_claim((struct sockaddr *)&address, sizeof address);
    end.inherited = end.fd >= 0;
    if (end.fd < 0 && !make_unix(file, &end, err, errlen)) {
        endpoint_close(&end);
        return false;
    }
    *ret = end;
    return true;
}

/* getaddrinfo(3) takes "" for port 0 and cuts 65536 down to it. */
static bool
is_port(const char *text)
{
    size_t n = strspn(text, "0123456789");
    return n >= 1 && n <= 5 && text[n] == '\0' && strtoul(text, NULL, 10) <= UINT16_MAX;
}

/* "host:port" or "[host]:port"; names are not looked up, nor is 1.2.3 taken for 1.2.0.3. */
static struct addrinfo *
parse_address(const char *address)
{
    char host[ENDPOINT_NAME_MAX];
    struct in_addr four;
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    if (n == 0 || n >= sizeof host || !is_port(colon + 1))
        return NULL;
    bool brackets = address[0] == '[' && address[n - 1] == ']';
    if (!brackets && memchr(address, ':', n))
        return NULL;
    snprintf(host, sizeof host, "%.*s", (int)(brackets ? n - 2 : n), address + brackets);
    if (!brackets && inet_pton(AF_INET, host, &four) != 1)
        return NULL;
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                              .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    return getaddrinfo(host, colon + 1, &hints, &found) == 0 ? found : NULL;
}

static int
make_tcp(const struct addrinfo *info)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int on = 1;
    bool good = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                (info->ai_family != AF_INET6 ||
                 setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0) &&
                bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, ENDPOINT_BACKLOG) == 0;
    if (good)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

/* With the port that the kernel chose when none was asked for. */
static void
name_tcp(struct endpoint *end)
{
    struct sockaddr_storage at;
    socklen_t n = sizeof at;
    char host[NI_MAXHOST], port[8];
    if (getsockname(end->fd, (struct sockaddr *)&at, &n) != 0 ||
        getnameinfo((struct sockaddr *)&at, n, host, sizeof host, port, sizeof port,
                       NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    bool six = at.ss_family == AF_INET6;
    snprintf(end->name, sizeof end->name, six ? "[%s]:%s" : "%s:%s", host, port);
}

static bool
refuse_address(const char *address, char *err, size_t errlen)
{
    return refuse(err, errlen, "\"%.128s\" is not an address: 127.0.0.1:3000 and [::1]:3000 are",
                  address);
}

bool
endpoint_tcp_check(const char *address, char *err, size_t errlen)
{
    struct addrinfo *info = parse_address(address);
    if (!info)
        return refuse_address(address, err, errlen);
    freeaddrinfo(info);
    return true;
}

bool
endpoint_tcp(const char *address, struct endpoint *ret, char *err, size_t errlen)
{
    struct addrinfo *info = parse_address(address);
    if (!info)
        return refuse_address(address, err, errlen);
    struct endpoint end = nothing();
    end.fd = inherited_claim(info->ai_addr, info->ai_addrlen);
    end.inherited = end.fd >= 0;
    if (end.fd < 0)
        end.fd = make_tcp(info);
    freeaddrinfo(info);
    if (end.fd < 0)
        return refuse(err, errlen, "cannot listen at %s: %s", address, strerror(errno));
    int on = 1;
    setsockopt(end.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* connections inherit it */
    name_tcp(&end);
    *ret = end;
    return true;
}

static void
unlink_ours(const struct endpoint *end)
{
    struct stat st;
    if (end->ours && lstat(end->name, &st) == 0 && st.st_dev == end->dev && st.st_ino == end->ino)
        unlink(end->name);
}

/* The lock file stays: whoever removed it could remove one that another has locked meanwhile. */
void
endpoint_close(struct endpoint *end)
{
    unlink_ours(end);
    if (end->fd >= 0)
        close(end->fd);
    if (end->lock_fd >= 0)
        close(end->lock_fd);
    *end = nothing();
}
