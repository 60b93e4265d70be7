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

/* Occupies those of the descriptors 0, 1 and 2 that are closed, so that no file that is opened
 * later takes the place of standard output. Reading there and writing there fails as before. False:
 * errno. Call first of all in main(). */
bool kt_stdio_hold(void);

#endif
