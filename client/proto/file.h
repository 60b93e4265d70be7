/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Bytes into files. */
#ifndef KT_FILE_H
#define KT_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* Writes all n bytes, however often the kernel takes only some or a signal comes in between. False:
 * errno, and an unknown part of them is written. Any thread; blocks. */
bool kt_write_all(int fd, const void *bytes, size_t n);

#endif
