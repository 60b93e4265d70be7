/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Files that hold keys, read whole, and what is said of those that are not taken. */
#ifndef AUTH_JWT_KEYFILE_H
#define AUTH_JWT_KEYFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum {
    KEY_FILE_MAX = 256 * 1024, /* bytes */
    KEY_WHY_MAX = 256
};

enum key_flag {
    KEY_ANY_MODE = 1 << 0, /* whoever may read or write the file: for tools without real secrets */
    KEY_ANY_ALG = 1 << 1,  /* a JWK that names no algorithm serves each of its type: for tools that
                              ask about a signature; the daemon's keys have exactly one */
    KEY_PUBLIC = 1 << 2    /* of a JWK Set, only keys without any secret member: it came over a
                              network, so whatever it holds is known to others */
};

/* Why a key was not taken, for the operator. */
struct key_why {
    char text[KEY_WHY_MAX];
};

/* Sets the reason. False, always. */
bool key_refuse(struct key_why *ret, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A whole file, followed by a NUL byte that is not counted. */
struct keyfile {
    char *p;
    size_t n;
    mode_t mode;
};

/* Reads a regular file of 1 to KEY_FILE_MAX bytes that not everybody may write. *ret is yours:
 * keyfile_done(). False: *ret_why says why, without the path. Any thread. */
bool keyfile_read(const char *path, unsigned flags, struct keyfile *ret, struct key_why *ret_why);

/* Wipes and frees. */
void keyfile_done(struct keyfile *);

#endif
