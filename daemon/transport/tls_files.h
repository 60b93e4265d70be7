/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Certificates and keys from their files into an SSL_CTX, with every check that they can be given
 * before a client comes. Main thread only. */
#ifndef TLS_FILES_H
#define TLS_FILES_H

#include "daemon/transport/tls.h"

#include <openssl/ssl.h>

enum {
    TLS_FILE_MAX = 1 << 20, /* bytes of a file */
    TLS_CHAIN_MAX = 16,     /* certificates of tls_certificate */
    TLS_AUTHORITIES_MAX = 1024
};

/* False: err has FILE:LINE: [http] option: file: what is wrong. */
bool tls_files_load(SSL_CTX *, const struct tls_options *, struct conf_error *err);

#endif
