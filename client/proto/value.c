/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/value.h"

const struct kt_value *
kt_value_get(const struct kt_value *v, const char *name)
{
    if (!v || v->type != KT_V_MAP)
        return NULL;
    struct kt_str wanted = kt_str(name);
    for (size_t i = 0; i < v->map.n; i++)
        if (kt_str_eq(v->map.v[i].name, wanted))
            return &v->map.v[i].value;
    return NULL;
}
