/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Listening descriptors: made safely, or taken over from the service manager that made them
 * (LISTEN_FDS of sd_listen_fds(3)). Main thread only. */
#ifndef ENDPOINT_H
#define ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { ENDPOINT_NAME_MAX = 128, ENDPOINT_BACKLOG = 1024 };

struct endpoint {
    int fd;      /* listening, non-blocking */
    int lock_fd; /* held as long as we serve the path; -1: none */
    bool inherited; /* the service manager's: neither shut down nor unlinked */
    bool ours;   /* the path is to be unlinked by us */
    dev_t dev;   /* what we made, so that nothing else is unlinked */
    ino_t ino;
    char name[ENDPOINT_NAME_MAX]; /* what clients connect to */
};

/* The file of a Unix socket. */
struct endpoint_file {
    const char *path;
    unsigned mode;     /* permission bits */
    const char *group; /* name or number; NULL: as is */
};

/* A Unix socket. It appears at its path only once it has that mode and that group. False: a
 * sentence in err. */
bool endpoint_unix(const struct endpoint_file *, struct endpoint *ret, char *err, size_t errlen);

/* A TCP socket at a numeric "address:port" or "[address]:port". */
bool endpoint_tcp(const char *address, struct endpoint *ret, char *err, size_t errlen);

/* Whether these could take that, as far as it can be said without opening anything: the form of the
 * path, and that the group is there; the form of the address. False: a sentence in err. */
bool endpoint_unix_check(const char *path, char *err, size_t errlen);
bool endpoint_group_check(const char *group, char *err, size_t errlen); /* NULL: none */
bool endpoint_tcp_check(const char *address, char *err, size_t errlen);

void endpoint_close(struct endpoint *);

/* Closes the sockets of the service manager that no endpoint has claimed, with a warning each. */
void endpoint_unclaimed_close(void);

#endif
