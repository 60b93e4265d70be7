/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Slugs made from names when the caller gives none. */
#ifndef SLUG_H
#define SLUG_H

#include "client/proto/arena.h"
#include "client/proto/str.h"

/* The readable part: lower case, accents dropped, æ ð đ ı ł ø œ ß þ spelt out, apostrophes
 * dropped, every other run of characters one hyphen, none at the ends. Empty when nothing is left.
 * Never cut, and never longer than the name. p == NULL: no memory. */
struct kt_str slug_base(struct kt_arena *, struct kt_str name);

/* slug_base, a hyphen and six hexadecimal digits; the digits alone when the base is empty. random
 * fills n bytes; NULL: the system's generator. p == NULL: no memory. */
struct kt_str slug_derive(struct kt_arena *, struct kt_str name,
                          void (*random)(void *buf, size_t n));

#endif
