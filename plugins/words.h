/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Options that consist of words, for the plugins of this tree that have such. Not installed. */
#ifndef PLUGIN_WORDS_H
#define PLUGIN_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* The next word of a line; double quotes around it, or around what follows its equals sign, are
 * taken off. Cuts the line. NULL: no more. *ret_open: a quote stays open. */
static inline char *
words_next(char **line, bool *ret_open)
{
    char *p = *line + strspn(*line, " \t"), *word = p, *out = p;
    if (!*p)
        return NULL;
    for (bool quoted = false; *p && (quoted || (*p != ' ' && *p != '\t')); p++) {
        if (*p == '"')
            quoted = !quoted;
        else
            *out++ = *p;
        *ret_open = quoted;
    }
    *line = *p ? p + 1 : p;
    *out = 0;
    return word;
}

/* Whether this has the form of a scope of at most so many bytes; which modules exist is the
 * daemon's configuration. */
static inline bool
words_look_like_scope(const char *s, size_t most)
{
    static const char *const actions[] = { "read:", "write:", "delete:" };
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.*";
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        size_t n = strlen(actions[i]);
        if (strncmp(s, actions[i], n) == 0)
            return s[n] && s[n + strspn(s + n, letters)] == 0 && strlen(s) <= most;
    }
    return false;
}

#endif
