/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The configuration file: reading it into raw sections, then checking each section against an
 * option table, so that plugins' sections are checked by the same code as the daemon's own.
 *
 * The file is UTF-8. A line is a section "[kind]" or "[kind name]", an option "key = value", a
 * comment that starts with # or ;, or blank. A value may stand in double quotes, in which \" and \\
 * are escapes; without quotes it ends with the line and surrounding white space is not part of it.
 * There are no comments behind a value.
 *
 * What is read here is immutable afterwards: any thread may use it. */
#ifndef CONF_H
#define CONF_H

#include "plugins/kaiten-plugin.h"

#include <stdio.h>

enum {
    CONF_LINE_MAX = 4096,     /* bytes of a line without its newline */
    CONF_FILE_MAX = 1 << 20,  /* bytes of the file */
    CONF_SECTIONS_MAX = 1024, /* sections of a file */
    CONF_NAME_MAX = 64,       /* bytes of a kind, a section's name or a key */
    CONF_LIST_MAX = 1024,     /* values of one list option */
    CONF_ERROR_MAX = 1024     /* bytes of a message with its NUL */
};

/* One sentence for the operator: FILE:LINE: [section] key: what is wrong; what is accepted. */
struct conf_error {
    char text[CONF_ERROR_MAX];
};

struct conf;         /* a file as it was read */
struct conf_section; /* a section of it, owned by it */
struct conf_values;  /* a section checked against a table; owns all of its memory */

/* Reads and splits the file. False: err is filled. The caller frees. */
bool conf_read(const char *path, struct conf **ret, struct conf_error *err);

/* The same for n bytes in memory; file is the name for messages, and relative paths are resolved
 * against its folder. */
bool conf_parse(const char *text, size_t n, const char *file, struct conf **ret,
                struct conf_error *err);

void conf_free(struct conf *);

/* Sections in the order of the file; NULL when i is beyond the last one. */
struct conf_section *conf_section_at(const struct conf *, size_t i);

/* The section "[kind name]", or "[kind]" when name is NULL; NULL: there is none. */
struct conf_section *conf_section_find(const struct conf *, const char *kind, const char *name);

const char *conf_section_kind(const struct conf_section *);
const char *conf_section_name(const struct conf_section *);  /* NULL: it has none */
const char *conf_section_where(const struct conf_section *); /* "file:line" */

/* Checks every key of the section against the table (ended by a NULL name) and fills in defaults.
 * The table must outlive the values. False: err names the first thing that is wrong: an unknown key
 * (with the nearest known one), a wrong type, a number out of range, a required option missing. */
bool conf_section_apply(struct conf_section *, const struct kaiten_option *table,
                        struct conf_values **ret, struct conf_error *err);

/* Find and apply in one; when there is no such section all defaults are taken. */
bool conf_apply(struct conf *, const char *kind, const char *name,
                const struct kaiten_option *table, struct conf_values **ret,
                struct conf_error *err);

/* False: some section was never applied; err names it. */
bool conf_unused(const struct conf *, struct conf_error *err);

void conf_values_free(struct conf_values *);

/* Typed answers, defaults applied. A name that is not in the table, or that has another type, is a
 * bug: the process aborts. Strings live as long as the values. */
const char *conf_str(const struct conf_values *, const char *name); /* STRING PATH SECRET; NULL */
int64_t conf_int(const struct conf_values *, const char *name);     /* INT SIZE DURATION(ms); 0 */
bool conf_bool(const struct conf_values *, const char *name);
size_t conf_list_count(const struct conf_values *, const char *name);
const char *conf_list_item(const struct conf_values *, const char *name, size_t i); /* or NULL */

/* Whether the file sets it (a default does not count). Any type. */
bool conf_is_set(const struct conf_values *, const char *name);

/* Whether both, of one table, have the same value there, from the file or by default. */
bool conf_is_same(const struct conf_values *, const struct conf_values *, const char *name);

/* "file:line" of the i-th value; the section's when it is not set, the file's when there is no
 * section. */
const char *conf_where(const struct conf_values *, const char *name, size_t i);

/* Whether the file is regular, not reached through a symbolic link as its last part, owned by us or
 * by root, and closed to group and others. False: err has the mode and the command to mend it. */
bool conf_check_secret_file(const char *path, struct conf_error *err);

/* The same for every SECRET option that is set. */
bool conf_check_secrets(const struct conf_values *, struct conf_error *err);

/* Every option of a table as comments: its sentence, type, range, default, and a line to be
 * uncommented. The form of etc/kaitend.conf. */
void conf_print_option_doc(FILE *, const struct kaiten_option *table);

/* The values in force as "key = value" lines; SECRET options print their path, not the contents. */
void conf_print_values(FILE *, const struct conf_values *);

#endif
