/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* For targets that also try what is good until somebody changes it. */
#ifndef FUZZ_CHANGE_H
#define FUZZ_CHANGE_H

#include <stddef.h>
#include <stdint.h>

/* Three bytes of the input each: where, and what is written there. */
static inline void
fuzz_change(void *to, size_t n, const uint8_t *data, size_t size)
{
    uint8_t *bytes = to;
    for (; size >= 3; data += 3, size -= 3)
        bytes[((size_t)data[0] << 8 | data[1]) % n] = data[2];
}

#endif
