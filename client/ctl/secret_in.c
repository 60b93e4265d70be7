/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/ctl/secret_in.h"

#include "client/ctl/confirm.h"
#include "client/ctl/ctl.h"
#include "client/proto/wipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void
secret_in_wipe(struct secret_in *s)
{
    kt_wipe(s, sizeof *s);
}

static int
refuse(struct secret_in *s, int code, const char *name, const char *why)
{
    secret_in_wipe(s);
    return ctl_fail(code, NULL, "%s: %s", name, why);
}

static int
finish(struct secret_in *s, const char *name)
{
    if (s->n && s->p[s->n - 1] == '\n')
        s->n--;
    if (s->n && s->p[s->n - 1] == '\r')
        s->n--;
    if (s->n == 0)
        return refuse(s, CTL_USAGE, name, "no token there");
    if (s->n > KAITEN_CREDENTIAL_MAX)
        return refuse(s, CTL_USAGE, name, "longer than any token");
    if (memchr(s->p, '\0', s->n) || memchr(s->p, '\n', s->n))
        return refuse(s, CTL_USAGE, name, "a token is one line of text");
    return 0;
}

int
secret_in_fd(int fd, const char *name, struct secret_in *ret)
{
    ret->n = 0;
    while (ret->n < sizeof ret->p) {
        ssize_t n = read(fd, ret->p + ret->n, sizeof ret->p - ret->n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return refuse(ret, CTL_OTHER, name, strerror(errno));
        if (n == 0)
            break;
        ret->n += (size_t)n;
    }
    return finish(ret, name);
}

int
secret_in_file(const char *path, struct secret_in *ret)
{
    ret->n = 0;
    if (strcmp(path, "-") == 0)
        return secret_in_fd(STDIN_FILENO, "standard input", ret);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return refuse(ret, CTL_OTHER, path, strerror(errno));
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & (S_IRGRP | S_IROTH)))
        ctl_note("note: others can read %s; chmod 600 it", path);
    int rc = secret_in_fd(fd, path, ret);
    close(fd);
    return rc;
}

int
secret_in_stdin(struct secret_in *ret)
{
    ret->n = 0;
    if (!isatty(STDIN_FILENO))
        return secret_in_fd(STDIN_FILENO, "standard input", ret);
    ssize_t n = confirm_hidden("Token: ", ret->p, sizeof ret->p);
    if (n < 0)
        return refuse(ret, CTL_OTHER, "terminal", "cannot read");
    ret->n = (size_t)n;
    return finish(ret, "terminal");
}

int
secret_in_environment(struct secret_in *ret)
{
    const char *token = getenv("KAITEN_TOKEN"), *file = getenv("KAITEN_TOKEN_FILE");
    ret->n = 0;
    if (!token || !*token)
        return file && *file ? secret_in_file(file, ret) : 0;
    size_t n = strlen(token);
    if (n >= sizeof ret->p)
        return refuse(ret, CTL_USAGE, "KAITEN_TOKEN", "longer than any token");
    memcpy(ret->p, token, n);
    ret->n = n;
    return finish(ret, "KAITEN_TOKEN");
}
