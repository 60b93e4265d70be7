/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* TLS 1.2 and 1.3 of a listener: its certificate, which can be exchanged while it serves, and the
 * struct conn_io of its connections.
 *
 * The handshake belongs to CONN_FIRST_BYTE: until the first byte of a request has come out of it,
 * all of it is under that one deadline. */
#ifndef TLS_H
#define TLS_H

#include "daemon/conf.h"

struct conn;
struct tls;

/* All borrowed for the life of the struct tls. Errors say where in the configuration an option
 * stands, by values. */
struct tls_options {
    const struct conf_values *values; /* of the section [http] */
    const char *certificate;          /* PEM: the listener's own, then what leads to its root */
    const char *key;                  /* PEM */
    const char *client_ca;            /* PEM; NULL: clients are not asked for a certificate */
    bool client_required;             /* false: who has none is served as well */
    int version_min;                  /* TLS1_2_VERSION or TLS1_3_VERSION */
};

/* Reads and checks the files: the key fits the certificate, and neither is weaker than RSA with
 * 2048 bits or P-256. A certificate that is not valid now is a warning in the log. NULL: err. Main
 * thread. */
struct tls *tls_new(const struct tls_options *, struct conf_error *err);

/* Reads and checks the files again and puts the result aside. False: err, and nothing is put aside.
 * Main thread. */
bool tls_reread(struct tls *, struct conf_error *err);

/* New connections get what tls_reread() put aside (nothing: no change); those that are there keep
 * what they have. Sessions from before are not resumed. Main thread. */
void tls_renew(struct tls *);

/* Throws away what tls_reread() put aside. Main thread. */
void tls_forget(struct tls *);

/* When no connection begins any more. NULL allowed. Main thread. */
void tls_free(struct tls *);

/* The connection speaks TLS from its first byte on. Before conn_start(), on its loop. False: no
 * memory. */
bool tls_begin(struct tls *, struct conn *);

#endif
