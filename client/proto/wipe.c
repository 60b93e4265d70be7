/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/wipe.h"

#include <string.h>

void
kt_wipe(void *p, size_t n)
{
    if (n != 0)
        explicit_bzero(p, n);
}
