/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/grow.h"

#include <stdlib.h>
#include <string.h>

enum { ROOM_FIRST = 16 };

bool
grow(void *vector, size_t n, size_t *room, size_t size)
{
    void *old, *fresh; /* copied: a pointer to something else is no pointer to void */
    if (n < *room)
        return true;
    size_t more = *room == 0 ? ROOM_FIRST : 2 * *room;
    memcpy(&old, vector, sizeof old);
    fresh = reallocarray(old, more, size);
    if (!fresh)
        return false;
    memcpy(vector, &fresh, sizeof fresh);
    *room = more;
    return true;
}
