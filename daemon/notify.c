/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { NOTIFY_MESSAGE_MAX = 1024 };

static int notify_fd = -1;
static int64_t watchdog_ms;

/* "@name" is an abstract socket; anything else has to be an absolute path. */
static bool
connect_to(int fd, const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t n = strlen(name);
    if ((name[0] != '/' && name[0] != '@') || n < 2 || n >= sizeof address.sun_path)
        return false;
    memcpy(address.sun_path, name, n);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    else
        size++;
    return connect(fd, (struct sockaddr *)&address, size) == 0;
}

static int64_t
read_number(const char *text)
{
    if (!text || *text < '0' || *text > '9')
        return 0;
    errno = 0;
    char *end;
    long long number = strtoll(text, &end, 10);
    return errno || *end ? 0 : number;
}

static void
read_watchdog(void)
{
    int64_t us = read_number(getenv("WATCHDOG_USEC"));
    const char *pid = getenv("WATCHDOG_PID");
    if (us > 0 && (!pid || read_number(pid) == getpid()))
        watchdog_ms = us / 2000 > 0 ? us / 2000 : 1;
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

bool
notify_open(void)
{
    read_watchdog();
    const char *name = getenv("NOTIFY_SOCKET");
    if (!name || !*name)
        return true;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool good = fd >= 0 && connect_to(fd, name);
    unsetenv("NOTIFY_SOCKET");
    if (!good) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    notify_fd = fd;
    return true;
}

void
notify_close(void)
{
    if (notify_fd >= 0)
        close(notify_fd);
    notify_fd = -1;
    watchdog_ms = 0;
}

int64_t
notify_watchdog_ms(void)
{
    return watchdog_ms;
}

static void __attribute__((format(printf, 1, 2)))
tell(const char *fmt, ...)
{
    if (notify_fd < 0)
        return;
    char text[NOTIFY_MESSAGE_MAX];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n <= 0)
        return;
    size_t size = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    while (send(notify_fd, text, size, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

/* A line break would begin another assignment. */
static void
one_line(char *text)
{
    for (; *text; text++)
        if (*text == '\n' || *text == '\r')
            *text = ' ';
}

static void
tell_with_status(const char *state, const char *status)
{
    char line[NOTIFY_MESSAGE_MAX / 2];
    snprintf(line, sizeof line, "%s", status ? status : "");
    one_line(line);
    tell("%s\n%s%s", state, status ? "STATUS=" : "", line);
}

void
notify_ready(const char *status)
{
    tell_with_status("READY=1", status);
}

void
notify_stopping(const char *status)
{
    tell_with_status("STOPPING=1", status);
}

void
notify_alive(void)
{
    tell("WATCHDOG=1");
}
