/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The one way to erase memory that held a secret. */
#ifndef KT_WIPE_H
#define KT_WIPE_H

#include <stddef.h>

/* Overwrites n bytes at p with zeros; the compiler may not remove it. p may be NULL when n is 0. */
void kt_wipe(void *p, size_t n);

#endif
