/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/tls_hello.h"

enum { HANDSHAKE = 22, CLIENT_HELLO = 1, MESSAGE_HEADER = 4 };

static void
header_byte(struct tls_hello *hello, unsigned char c)
{
    hello->header[hello->nheader++] = c;
    if (hello->nheader < sizeof hello->header)
        return;
    hello->nheader = 0;
    hello->record_left = (uint32_t)hello->header[3] << 8 | hello->header[4];
}

/* A message goes over as many records as its sender likes, and a second one follows when the first
 * had no key that we can use. What is no hello OpenSSL refuses, whatever its length. */
static bool
message_byte(struct tls_hello *hello, unsigned char c)
{
    if (hello->message_left > 0) {
        hello->message_left--;
        return true;
    }
    hello->message = hello->message << 8 | c;
    if (++hello->nmessage < MESSAGE_HEADER)
        return true;
    hello->nmessage = 0;
    hello->message_left = hello->message & 0xFFFFFF;
    return hello->message >> 24 != CLIENT_HELLO || hello->message_left <= TLS_HELLO_MAX;
}

bool
tls_hello_look(struct tls_hello *hello, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) {
        if (hello->record_left == 0) {
            header_byte(hello, p[i]);
            continue;
        }
        hello->record_left--;
        if (hello->header[0] == HANDSHAKE && !message_byte(hello, p[i]))
            return false;
    }
    return true;
}
