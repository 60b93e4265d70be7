/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The strict scan of JSON: it alone decides what is accepted. For json.c, and for what writes. */
#ifndef KT_JSON_SCAN_H
#define KT_JSON_SCAN_H

#include "client/proto/json.h"

/* Whether the text is one document within the limits, as json.h says it. False: the error is
 * filled. The arena lends memory for the names of objects, when there are many. Any thread. */
bool kt_json_scan(struct kt_str text, struct kt_arena *, const struct kt_json_limits *,
                  struct kt_json_error *ret_error);

/* ASCII that stands in a string as it is: no control character, no quote, no backslash. */
static inline bool
kt_json_is_plain(char c)
{
    return (unsigned char)c >= ' ' && (unsigned char)c < 0x80 && c != '"' && c != '\\';
}

#endif
