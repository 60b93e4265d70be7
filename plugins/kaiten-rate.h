/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* How a rate is written in the configuration, the same for every plugin and for the daemon:
 * "200/s", "600/m,burst=50", "none". */
#ifndef KAITEN_RATE_H
#define KAITEN_RATE_H

#include "kaiten-auth.h"

#include <string.h>

enum { KAITEN_RATE_MAX = 1000000 }; /* requests of a period, and of a burst */

#define KAITEN_RATE_ACCEPTED \
    "N/s, N/m or N/h, perhaps with ,burst=N behind it, each N from 1 to 1000000, or none"

/* A number of 1 to KAITEN_RATE_MAX; NULL: there is none. Else what stands behind it. */
static inline const char *
kaiten_rate_number(const char *p, uint32_t *ret)
{
    uint32_t n = 0;
    for (; *p >= '0' && *p <= '9' && n <= KAITEN_RATE_MAX; p++)
        n = n * 10 + (uint32_t)(*p - '0');
    *ret = n;
    return n >= 1 && n <= KAITEN_RATE_MAX ? p : NULL;
}

/* Reads the whole text; "none" gives KAITEN_RATE_NONE. False: it has another form, and *ret is as
 * it was. Any thread. */
static inline bool
kaiten_rate_read(const char *text, struct kaiten_rate *ret)
{
    static const char burst[] = ",burst=";
    struct kaiten_rate rate = { KAITEN_RATE_NONE, 0, 0 };
    if (strcmp(text, "none") == 0) {
        *ret = rate;
        return true;
    }
    const char *p = kaiten_rate_number(text, &rate.requests);
    if (!p || *p++ != '/')
        return false;
    rate.period_ms = *p == 's' ? 1000 : *p == 'm' ? 60 * 1000 : *p == 'h' ? 3600 * 1000 : 0;
    if (rate.period_ms == 0)
        return false;
    if (*++p && strncmp(p, burst, sizeof burst - 1) == 0)
        p = kaiten_rate_number(p + sizeof burst - 1, &rate.burst);
    if (!p || *p)
        return false;
    *ret = rate;
    return true;
}

#endif
