/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Option tables: what a row accepts, how that is said, and values as text. Any thread. */
#ifndef CONF_OPTION_H
#define CONF_OPTION_H

#include "client/proto/str.h"
#include "daemon/conf.h"

enum { CONF_ACCEPTED_MAX = 160 };

/* The name in the table that somebody may have meant; NULL: none is near. */
const char *conf_option_nearest(const struct kaiten_option *table, const char *key);

/* The names of a table, as many as fit, in buf, which is returned. */
const char *conf_option_names(const struct kaiten_option *table, char *buf, size_t size);

/* "a whole number": what a type is. */
const char *conf_option_type(enum kaiten_option_type);

/* Whether min and max of the row say something. */
bool conf_option_has_range(const struct kaiten_option *);

/* "a whole number from 1 to 64"; in buf, or a text that stays. */
const char *conf_option_accepted(const struct kaiten_option *, char buf[CONF_ACCEPTED_MAX]);

/* The number that a text stands for: INT, SIZE in bytes, DURATION in milliseconds, BOOL as 0 or 1.
 * The range is not looked at. False: malformed, or the row is of another type. */
bool conf_option_number(const struct kaiten_option *, struct kt_str, int64_t *ret);

bool conf_option_is_text(enum kaiten_option_type); /* STRING PATH SECRET LIST */
bool conf_option_is_path(enum kaiten_option_type); /* PATH SECRET */

#endif
