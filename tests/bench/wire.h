/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* One connection of the load generator: a Unix socket, TCP, or TLS 1.3 over it. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/types.h>

struct wire {
    int fd;
    SSL *ssl; /* NULL: plain */
};

/* Connects, blocking, to a path or to 127.0.0.1:PORT, and shakes hands; certificates are not looked
 * at. False: nobody listens there. Other failures end the program. */
bool wire_open(struct wire *, const char *address, bool tls);

/* From here on read and send do not block. */
void wire_unblock(struct wire *);

/* As read(2) and send(2); -1 with EAGAIN: not now. */
ssize_t wire_read(struct wire *, void *p, size_t n);
ssize_t wire_send(struct wire *, const void *p, size_t n);

/* Whether something was read from the kernel that wire_read has not given yet. */
bool wire_has_more(const struct wire *);

void wire_close(struct wire *);

#endif
