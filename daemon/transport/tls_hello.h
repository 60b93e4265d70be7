/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Looks at what a TLS client sends before there is a key, for the length that its ClientHello says
 * it has: OpenSSL makes room for all of it, up to 128 KiB, when it has read the nine bytes that say
 * so, and everybody may send those. */
#ifndef TLS_HELLO_H
#define TLS_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TLS_HELLO_MAX = 16 * 1024 }; /* with a ticket and keys for post-quantum groups: 5 KiB */

/* Zeroed at the start. */
struct tls_hello {
    unsigned char header[5]; /* of the record: type, version, length */
    unsigned nheader;
    uint32_t record_left; /* bytes of it that are still to come */
    uint32_t message;     /* type and length of a handshake message */
    unsigned nmessage;    /* bytes of them that are there */
    uint32_t message_left;
};

/* The next bytes of the stream. False: a hello is longer than TLS_HELLO_MAX. */
bool tls_hello_look(struct tls_hello *, const void *bytes, size_t n);

#endif
