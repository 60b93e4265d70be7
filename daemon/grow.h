/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Vectors that grow one element at a time. */
#ifndef GROW_H
#define GROW_H

#include <stdbool.h>
#include <stddef.h>

/* Makes room for one more element of size bytes. vector is the address of the pointer to the
 * elements, which is NULL at first and then for the caller to free(); there are n of them and room
 * for *room. They may move. False: there is no memory, and nothing has changed. */
bool grow(void *vector, size_t n, size_t *room, size_t size);

#endif
