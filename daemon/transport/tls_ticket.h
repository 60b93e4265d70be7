/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Session tickets (RFC 5077, RFC 8446 section 4.6.1) under keys that live in this process only and
 * are changed while it runs, so that a stolen key opens the sessions of a short time. */
#ifndef TLS_TICKET_H
#define TLS_TICKET_H

#include <openssl/ssl.h>
#include <stdbool.h>

enum {
    TLS_SESSION_SECONDS = 3600,    /* how long a session may be resumed */
    TLS_SESSIONS_MAX = 4096,       /* of clients that know no tickets */
    TLS_TICKET_KEY_MS = 3600 * 1000 /* a key makes tickets for so long, and opens them twice that */
};

/* Resumption for this context by ticket and by id. The keys go with the context. False: no memory
 * or no random numbers. */
bool tls_ticket_use(SSL_CTX *);

#endif
