/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Is a secret one that others can guess? Judges its form, and whether it was published: a bad one
 * may pass, but what came out of a random generator is never refused. */
#ifndef AUTH_JWT_SECRET_H
#define AUTH_JWT_SECRET_H

#include <stdbool.h>
#include <stddef.h>

/* Does anything speak against the n bytes? *ret_why then says what, in fixed words that do not
 * repeat them. Any thread. */
bool secret_is_weak(const unsigned char *p, size_t n, const char **ret_why);

#endif
