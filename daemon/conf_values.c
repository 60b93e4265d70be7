/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/conf_file.h"
#include "daemon/conf_option.h"
#include "daemon/grow.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WHERE_MAX = 16 }; /* ":" and a line number, with the NUL */

struct item {
    char *text; /* STRING PATH SECRET LIST; NULL: none */
    char *where;
};

struct value {
    struct item *items;
    size_t n, room;
    int64_t number;
    bool is_set;
};

struct conf_values {
    const struct kaiten_option *table;
    char *where;
    size_t n; /* rows of the table */
    struct value values[];
};

/* What one application works on. */
struct applying {
    const struct conf *conf;
    const struct conf_section *section; /* NULL: there is none, all defaults */
    struct conf_values *values;
    struct conf_error *err;
};

void
conf_values_free(struct conf_values *values)
{
    if (values == NULL)
        return;
    for (size_t i = 0; i < values->n; i++) {
        for (size_t k = 0; k < values->values[i].n; k++) {
            free(values->values[i].items[k].text);
            free(values->values[i].items[k].where);
        }
        free(values->values[i].items);
    }
    free(values->where);
    free(values);
}

static bool
refuse_unknown(const struct applying *a, const struct conf_entry *e)
{
    char text[CONF_TITLE_MAX], names[CONF_ERROR_MAX / 2];
    const struct kaiten_option *table = a->values->table;
    const char *near = conf_option_nearest(table, e->key);
    if (near != NULL)
        return conf_refuse(a->err, "%s:%u: %s %s: unknown option; did you mean %s?", a->conf->file,
                           e->line, conf_title(a->section, text), e->key, near);
    return conf_refuse(a->err, "%s:%u: %s %s: unknown option; accepted: %s", a->conf->file, e->line,
                       conf_title(a->section, text), e->key,
                       conf_option_names(table, names, sizeof(names)));
}

/* One value into its row; where names its place. */
static bool
set_value(const struct applying *a, const struct kaiten_option *o, struct value *v,
          const char *text, const char *where, const char *section)
{
    char words[CONF_ACCEPTED_MAX];
    if (!grow(&v->items, v->n, &v->room, sizeof(*v->items)))
        return conf_no_memory(a->err);
    if (!conf_option_is_text(o->type)) {
        int64_t number = 0;
        if (!conf_option_number(o, kt_str(text), &number))
            return conf_refuse(a->err, "%s: %s %s: \"%.64s\" is malformed; accepted: %s", where,
                               section, o->name, text, conf_option_accepted(o, words));
        if (conf_option_has_range(o) && (number < o->min || number > o->max))
            return conf_refuse(a->err, "%s: %s %s: %.64s is out of range; accepted: %s", where,
                               section, o->name, text, conf_option_accepted(o, words));
        v->number = number;
    } else if (conf_option_is_path(o->type) && text[0] == '\0') {
        return conf_refuse(a->err, "%s: %s %s: empty; accepted: %s", where, section, o->name,
                           conf_option_accepted(o, words));
    }
    struct item item = { NULL, strdup(where) };
    bool relative = conf_option_is_path(o->type) && text[0] != '/';
    if (asprintf(&item.text, "%s%s", relative ? a->conf->folder : "", text) < 0)
        item.text = NULL;
    v->items[v->n++] = item;
    return (item.text != NULL && item.where != NULL) || conf_no_memory(a->err);
}

static bool
apply_entry(const struct applying *a, const struct conf_entry *e)
{
    const struct kaiten_option *o = a->values->table;
    char text[CONF_TITLE_MAX], where[PATH_MAX + WHERE_MAX];
    while (o->name != NULL && strcmp(o->name, e->key) != 0)
        o++;
    if (o->name == NULL)
        return refuse_unknown(a, e);
    struct value *v = &a->values->values[o - a->values->table];
    snprintf(where, sizeof(where), "%s:%u", a->conf->file, e->line);
    conf_title(a->section, text);
    if (v->is_set && o->type != KAITEN_OPT_LIST)
        return conf_refuse(a->err, "%s: %s %s: again; it stands at %s already", where, text, e->key,
                           v->items[0].where);
    if (v->n == CONF_LIST_MAX)
        return conf_refuse(a->err, "%s: %s %s: too many; accepted: at most %d", where, text, e->key,
                           (int)CONF_LIST_MAX);
    v->is_set = true;
    return set_value(a, o, v, e->value, where, text);
}

static bool
apply_defaults(const struct applying *a, const char *section)
{
    for (size_t i = 0; i < a->values->n; i++) {
        const struct kaiten_option *o = &a->values->table[i];
        struct value *v = &a->values->values[i];
        if (v->is_set)
            continue;
        if ((o->flags & KAITEN_OPT_REQUIRED) != 0)
            return conf_refuse(a->err, "%s: %s %s: missing; accepted: %s", a->values->where,
                               section, o->name, conf_option_type(o->type));
        if (o->def != NULL && !set_value(a, o, v, o->def, a->values->where, section))
            return false;
    }
    return true;
}

static struct conf_values *
values_new(const struct kaiten_option *table, const char *where)
{
    size_t n = 0;
    while (table[n].name != NULL)
        n++;
    struct conf_values *values = calloc(1, sizeof(*values) + n * sizeof(values->values[0]));
    if (values == NULL)
        return NULL;
    values->table = table;
    values->n = n;
    values->where = strdup(where);
    if (values->where == NULL) {
        conf_values_free(values);
        return NULL;
    }
    return values;
}

static bool
apply(const struct conf *conf, const struct conf_section *section, const char *name,
      const struct kaiten_option *table, struct conf_values **ret, struct conf_error *err)
{
    struct conf_values *values = values_new(table, section != NULL ? section->where : conf->file);
    if (values == NULL)
        return conf_no_memory(err);
    struct applying a = { conf, section, values, err };
    bool ok = true;
    for (size_t i = 0; ok && section != NULL && i < section->n; i++)
        ok = apply_entry(&a, &section->entries[i]);
    if (!ok || !apply_defaults(&a, name)) {
        conf_values_free(values);
        return false;
    }
    *ret = values;
    return true;
}

bool
conf_section_apply(struct conf_section *section, const struct kaiten_option *table,
                   struct conf_values **ret, struct conf_error *err)
{
    char text[CONF_TITLE_MAX];
    section->used = true;
    return apply(section->conf, section, conf_title(section, text), table, ret, err);
}

bool
conf_apply(struct conf *conf, const char *kind, const char *name,
           const struct kaiten_option *table, struct conf_values **ret, struct conf_error *err)
{
    char text[CONF_TITLE_MAX];
    struct conf_section *section = conf_section_find(conf, kind, name);
    if (section != NULL)
        return conf_section_apply(section, table, ret, err);
    snprintf(text, sizeof(text), "[%s%s%s]", kind, name == NULL ? "" : " ",
             name == NULL ? "" : name);
    return apply(conf, NULL, text, table, ret, err);
}

/* The row of a name; aborts when the table has none. */
static const struct value *
row_of(const struct conf_values *values, const char *name, const struct kaiten_option **ret)
{
    for (size_t i = 0; i < values->n; i++) {
        if (strcmp(values->table[i].name, name) == 0) {
            *ret = &values->table[i];
            return &values->values[i];
        }
    }
    fprintf(stderr, "bug: no option %s\n", name);
    abort();
}

static void
check_type(bool right, const char *name)
{
    if (right)
        return;
    fprintf(stderr, "bug: option %s asked for with the wrong type\n", name);
    abort();
}

const char *
conf_str(const struct conf_values *values, const char *name)
{
    const struct kaiten_option *o;
    const struct value *v = row_of(values, name, &o);
    check_type(conf_option_is_text(o->type) && o->type != KAITEN_OPT_LIST, name);
    return v->n > 0 ? v->items[0].text : NULL;
}

int64_t
conf_int(const struct conf_values *values, const char *name)
{
    const struct kaiten_option *o;
    const struct value *v = row_of(values, name, &o);
    check_type(!conf_option_is_text(o->type) && o->type != KAITEN_OPT_BOOL, name);
    return v->number;
}

bool
conf_bool(const struct conf_values *values, const char *name)
{
    const struct kaiten_option *o;
    const struct value *v = row_of(values, name, &o);
    check_type(o->type == KAITEN_OPT_BOOL, name);
    return v->number != 0;
}

size_t
conf_list_count(const struct conf_values *values, const char *name)
{
    const struct kaiten_option *o;
    const struct value *v = row_of(values, name, &o);
    check_type(o->type == KAITEN_OPT_LIST, name);
    return v->n;
}

const char *
conf_list_item(const struct conf_values *values, const char *name, size_t i)
{
    const struct kaiten_option *o;
    const struct value *v = row_of(values, name, &o);
    check_type(o->type == KAITEN_OPT_LIST, name);
    return i < v->n ? v->items[i].text : NULL;
}

bool
conf_is_set(const struct conf_values *values, const char *name)
{
    const struct kaiten_option *o;
    return row_of(values, name, &o)->is_set;
}

bool
conf_is_same(const struct conf_values *a, const struct conf_values *b, const char *name)
{
    const struct kaiten_option *o;
    const struct value *one = row_of(a, name, &o), *other = row_of(b, name, &o);
    bool same = one->n == other->n && one->number == other->number;
    if (!conf_option_is_text(o->type)) /* 1M is 1024K, on is yes */
        return same;
    for (size_t i = 0; same && i < one->n; i++)
        same = strcmp(one->items[i].text, other->items[i].text) == 0;
    return same;
}

const char *
conf_where(const struct conf_values *values, const char *name, size_t i)
{
    const struct kaiten_option *o;
    const struct value *v = row_of(values, name, &o);
    return v->is_set && i < v->n ? v->items[i].where : values->where;
}

bool
conf_check_secret_file(const char *path, struct conf_error *err)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return conf_refuse(err, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return conf_refuse(err, "%s: %s; accepted: a regular file", path,
                           S_ISLNK(st.st_mode) ? "a symbolic link" : "not a regular file");
    /* No chown for root: the daemon that the file belongs to could not read it any more. */
    if (st.st_uid != geteuid() && geteuid() == 0)
        return conf_refuse(err, "%s: owned by uid %ju; run kaitend as that user", path,
                           (uintmax_t)st.st_uid);
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return conf_refuse(err,
                           "%s: owned by uid %ju; accepted: uid %ju or root; run: chown %ju %s",
                           path, (uintmax_t)st.st_uid, (uintmax_t)geteuid(), (uintmax_t)geteuid(),
                           path);
    if ((st.st_mode & 077) != 0)
        return conf_refuse(err,
                           "%s: mode %04o is open to others; accepted: 0600; run: chmod 600 %s",
                           path, (unsigned)(st.st_mode & 07777), path);
    return true;
}

bool
conf_check_secrets(const struct conf_values *values, struct conf_error *err)
{
    struct conf_error inner;
    for (size_t i = 0; i < values->n; i++) {
        const struct value *v = &values->values[i];
        if (values->table[i].type != KAITEN_OPT_SECRET || v->n == 0)
            continue;
        if (!conf_check_secret_file(v->items[0].text, &inner))
            return conf_refuse(err, "%s: %s: %.*s", v->items[0].where, values->table[i].name,
                               (int)(CONF_ERROR_MAX / 2), inner.text);
    }
    return true;
}

/* In quotes where the reader would need them. */
static void
print_text(FILE *f, const char *text)
{
    struct kt_str s = kt_str(text);
    bool plain = s.n > 0 && text[0] != '"' && conf_trim(s).n == s.n;
    if (plain) {
        fputs(text, f);
        return;
    }
    fputc('"', f);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', f);
        fputc(*text, f);
    }
    fputc('"', f);
}

void
conf_print_values(FILE *f, const struct conf_values *values)
{
    for (size_t i = 0; i < values->n; i++) {
        for (size_t k = 0; k < values->values[i].n; k++) {
            fprintf(f, "%s = ", values->table[i].name);
            print_text(f, values->values[i].items[k].text);
            fputc('\n', f);
        }
    }
}
