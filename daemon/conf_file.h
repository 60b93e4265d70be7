/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A configuration as it was read, for the files that make values of it: conf.c splits the text,
 * conf_values.c checks sections against tables. Everything that is read stays as it is. */
#ifndef CONF_FILE_H
#define CONF_FILE_H

#include "client/proto/str.h"
#include "daemon/conf.h"

enum { CONF_TITLE_MAX = 2 * CONF_NAME_MAX + 8 }; /* "[kind name]", with the NUL */

struct conf_entry {
    char *key, *value;
    unsigned line;
};

struct conf_section {
    struct conf *conf;
    char *kind, *name; /* name: NULL when there is none */
    char *where;
    unsigned line;
    bool used;
    struct conf_entry *entries;
    size_t n, room;
};

struct conf {
    char *file, *folder;
    struct conf_section **sections;
    size_t n, room;
};

/* Writes the message; always false. Any thread. */
bool conf_refuse(struct conf_error *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
bool conf_no_memory(struct conf_error *);

/* "[kind name]" or "[kind]" for messages, shortened where somebody wrote a very long name: buf. */
const char *conf_title(const struct conf_section *, char buf[CONF_TITLE_MAX]);

/* Without blanks, tabs and the CR of a line's end around it. */
struct kt_str conf_trim(struct kt_str);

#endif
