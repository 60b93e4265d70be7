/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* How a secret comes in: a file, a descriptor, the environment or the keyboard, never argv. */
#ifndef CTL_SECRET_IN_H
#define CTL_SECRET_IN_H

#include "client/kaiten.h"

/* One trailing line feed (and the carriage return before it) is not part of the secret. */
struct secret_in {
    char p[KAITEN_CREDENTIAL_MAX + 3];
    size_t n; /* 0: there is none */
};

/* Each returns 0, or an exit code after it has said why; ret is wiped then. */
int secret_in_fd(int fd, const char *name, struct secret_in *ret);
int secret_in_file(const char *path, struct secret_in *ret);

/* Standard input: with a prompt and without echo when it is a terminal. */
int secret_in_stdin(struct secret_in *ret);

/* KAITEN_TOKEN, else the file that KAITEN_TOKEN_FILE names, else none. */
int secret_in_environment(struct secret_in *ret);

void secret_in_wipe(struct secret_in *);

#endif
