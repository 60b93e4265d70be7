/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What somebody may have meant by a word that is none. */
#ifndef KT_NEAR_H
#define KT_NEAR_H

#include <stddef.h>

enum { KT_NEAR_MAX = 64 }; /* bytes of a word; none that is longer is near to anything */

/* The Levenshtein distance: bytes to put in, leave out or exchange until one word is the other.
 * KT_NEAR_MAX when one of them is longer than that. Any thread. */
size_t kt_near(const char *a, const char *b);

#endif
