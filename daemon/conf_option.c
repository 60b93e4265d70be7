/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/conf_option.h"

#include "client/proto/check.h"
#include "client/proto/near.h"

#include <string.h>

enum { SUGGEST_MAX = 3 }; /* edits between what was written and what is suggested */

const char *
conf_option_nearest(const struct kaiten_option *table, const char *key)
{
    const char *best = NULL;
    size_t least = SUGGEST_MAX + 1;
    for (size_t i = 0; table[i].name != NULL; i++) {
        size_t d = kt_near(key, table[i].name);
        if (d < least && d < strlen(table[i].name)) {
            least = d;
            best = table[i].name;
        }
    }
    return best;
}

const char *
conf_option_names(const struct kaiten_option *table, char *buf, size_t size)
{
    size_t n = 0;
    buf[0] = '\0';
    for (size_t i = 0; table[i].name != NULL && n < size; i++)
        n += (size_t)snprintf(buf + n, size - n, "%s%s", i == 0 ? "" : ", ", table[i].name);
    return buf;
}

/* A number as it would stand in the file. */
static const char *
number_text(enum kaiten_option_type type, int64_t number, char buf[KT_DURATION_MAX])
{
    static const char letters[] = "\0KMGT";
    size_t power = 0;
    if (type == KAITEN_OPT_DURATION && number >= 0) {
        kt_duration_print(number, buf);
        return buf;
    }
    while (type == KAITEN_OPT_SIZE && number != 0 && number % 1024 == 0 && power < 4) {
        number /= 1024;
        power++;
    }
    snprintf(buf, KT_DURATION_MAX, "%jd%.1s", (intmax_t)number, &letters[power]);
    return buf;
}

const char *
conf_option_type(enum kaiten_option_type type)
{
    switch (type) {
    case KAITEN_OPT_INT:
        return "a whole number";
    case KAITEN_OPT_SIZE:
        return "a size such as 64K, 8M or 2G";
    case KAITEN_OPT_DURATION:
        return "a duration such as 500ms, 10s, 5m, 1h or 30d";
    case KAITEN_OPT_BOOL:
        return "yes, no, on, off, true or false";
    case KAITEN_OPT_PATH:
        return "a path";
    case KAITEN_OPT_SECRET:
        return "the path of a file that only its owner may read";
    case KAITEN_OPT_LIST:
        return "text, as often as needed";
    case KAITEN_OPT_STRING:
    default:
        return "text";
    }
}

bool
conf_option_has_range(const struct kaiten_option *o)
{
    return (o->type == KAITEN_OPT_INT || o->type == KAITEN_OPT_SIZE ||
            o->type == KAITEN_OPT_DURATION) &&
           (o->min != 0 || o->max != 0);
}

const char *
conf_option_accepted(const struct kaiten_option *o, char buf[CONF_ACCEPTED_MAX])
{
    char min[KT_DURATION_MAX], max[KT_DURATION_MAX];
    if (!conf_option_has_range(o))
        return conf_option_type(o->type);
    snprintf(buf, CONF_ACCEPTED_MAX, "%s from %s to %s", conf_option_type(o->type),
             number_text(o->type, o->min, min), number_text(o->type, o->max, max));
    return buf;
}

static bool
parse_bool(struct kt_str s, int64_t *ret)
{
    static const char *const words[] = { "no", "yes", "off", "on", "false", "true" };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (kt_str_is(s, words[i])) {
            *ret = (int64_t)(i & 1);
            return true;
        }
    }
    return false;
}

bool
conf_option_number(const struct kaiten_option *o, struct kt_str s, int64_t *ret)
{
    switch (o->type) {
    case KAITEN_OPT_INT:
        return kt_int_parse(s, ret);
    case KAITEN_OPT_SIZE:
        return kt_size_parse(s, ret);
    case KAITEN_OPT_DURATION:
        return kt_duration_parse(s, ret);
    case KAITEN_OPT_BOOL:
        return parse_bool(s, ret);
    case KAITEN_OPT_STRING:
    case KAITEN_OPT_PATH:
    case KAITEN_OPT_SECRET:
    case KAITEN_OPT_LIST:
    default:
        return false;
    }
}

bool
conf_option_is_text(enum kaiten_option_type type)
{
    return type == KAITEN_OPT_STRING || type == KAITEN_OPT_PATH || type == KAITEN_OPT_SECRET ||
           type == KAITEN_OPT_LIST;
}

bool
conf_option_is_path(enum kaiten_option_type type)
{
    return type == KAITEN_OPT_PATH || type == KAITEN_OPT_SECRET;
}

void
conf_print_option_doc(FILE *f, const struct kaiten_option *table)
{
    char words[CONF_ACCEPTED_MAX];
    for (; table->name != NULL; table++) {
        fprintf(f, "# %s\n# Accepted: %s.", table->doc == NULL ? "" : table->doc,
                conf_option_accepted(table, words));
        if ((table->flags & KAITEN_OPT_REQUIRED) != 0)
            fprintf(f, " Required.\n");
        else
            fprintf(f, " Default: %s.\n", table->def == NULL ? "none" : table->def);
        fprintf(f, "#%s = %s\n\n", table->name, table->def == NULL ? "" : table->def);
    }
}
