/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/near.h"

#include <string.h>

size_t
kt_near(const char *a, const char *b)
{
    size_t row[KT_NEAR_MAX + 1], n = strlen(a), m = strlen(b);
    if (n > KT_NEAR_MAX || m > KT_NEAR_MAX)
        return KT_NEAR_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t above = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t exchanged = above + (a[i - 1] != b[j - 1]);
            size_t other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            above = row[j];
            row[j] = exchanged < other ? exchanged : other;
        }
    }
    return row[m];
}
