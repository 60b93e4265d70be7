/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* JSON objects out of hostile bytes: a strict scan of our own decides, cJSON only builds the tree.
 * cJSON alone takes invalid UTF-8, repeated members, loose numbers and cuts strings at NUL. */
#ifndef AUTH_JWT_JSON_H
#define AUTH_JWT_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

enum {
    JSON_DEPTH_MAX = 16,
    JSON_MEMBERS_MAX = 64,  /* of one object */
    JSON_NUMBER_MAX = 40,   /* characters of one number */
    JSON_TEXT_MAX = 256 * 1024
};

/* Is this exactly one JSON object, RFC 8259, in UTF-8, with no NUL (raw or escaped), no unpaired
 * surrogate, no member name twice in one object after unescaping, and within the limits above?
 * When not, *ret_why says so in a few words. Any thread. */
bool json_scan_object(const char *text, size_t n, const char **ret_why);

/* Scans and reads. *ret_object is yours: json_free(). False: *ret_why says why; it is NULL when
 * memory ran out. Any thread. */
bool json_read_object(const char *text, size_t n, cJSON **ret_object, const char **ret_why);

/* Wipes every string and frees: cJSON alone leaves what was read in freed memory. NULL is fine. */
void json_free(cJSON *);

/* The string member of that name, or NULL when it is absent or no string. */
const char *json_member_text(const cJSON *object, const char *name);

#endif
