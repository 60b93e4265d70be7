/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/conf.h"

#include "client/proto/check.h"
#include "client/proto/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    WHERE_MAX = 16, /* ":" and a line number, with the NUL */
    SUGGEST_MAX = 3 /* edits between what was written and what is suggested */
};

struct entry {
    char *key, *value;
    unsigned line;
};

struct conf_section {
    struct conf *conf;
    char *kind, *name; /* name: NULL when there is none */
    char *where;
    unsigned line;
    bool used;
    struct entry *entries;
    size_t n, room;
};

struct conf {
    char *file, *folder;
    struct conf_section **sections;
    size_t n, room;
};

static bool __attribute__((format(printf, 2, 3)))
refuse(struct conf_error *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    return false;
}

static bool
no_memory(struct conf_error *err)
{
    return refuse(err, "no memory for the configuration");
}

/* Room for one more element of size bytes; *v may move. */
static bool
grow(void *v, size_t n, size_t *room, size_t size)
{
    if (n < *room)
        return true;
    size_t more = *room == 0 ? 8 : *room * 2;
    void *old, *fresh;
    memcpy(&old, v, sizeof(old));
    fresh = reallocarray(old, more, size);
    if (fresh == NULL)
        return false;
    memcpy(v, &fresh, sizeof(fresh));
    *room = more;
    return true;
}

/* "[kind name] " or "[kind] " for messages, shortened where somebody wrote a very long name. */
static const char *
title(const struct conf_section *s, char buf[2 * CONF_NAME_MAX + 8])
{
    snprintf(buf, 2 * CONF_NAME_MAX + 8, "[%s%s%s]", s->kind, s->name == NULL ? "" : " ",
             s->name == NULL ? "" : s->name);
    return buf;
}

static struct kt_str
trim(struct kt_str s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t' || s.p[s.n - 1] == '\r'))
        s.n--;
    return s;
}

static bool
is_name(struct kt_str s)
{
    if (s.n < 1 || s.n > CONF_NAME_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
            c != '_' && c != '-' && c != '.')
            return false;
    }
    return true;
}

/* The place of a line in messages: conf being read, its current line. */
struct reader {
    struct conf *conf;
    struct conf_section *section;
    unsigned line;
    struct conf_error *err;
};

static bool __attribute__((format(printf, 2, 3)))
refuse_line(const struct reader *r, const char *fmt, ...)
{
    char text[CONF_ERROR_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return refuse(r->err, "%s:%u: %s", r->conf->file, r->line, text);
}

static bool
same_name(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

struct conf_section *
conf_section_find(const struct conf *conf, const char *kind, const char *name)
{
    for (size_t i = 0; i < conf->n; i++) {
        struct conf_section *s = conf->sections[i];
        if (same_name(s->kind, kind) && same_name(s->name, name))
            return s;
    }
    return NULL;
}

/* Owned by conf as soon as it is there, whatever happens next. */
static bool
section_add(struct reader *r, struct kt_str kind, struct kt_str name)
{
    struct conf *conf = r->conf;
    struct conf_section *s = calloc(1, sizeof(*s));
    if (s == NULL || !grow(&conf->sections, conf->n, &conf->room, sizeof(struct conf_section *))) {
        free(s);
        return no_memory(r->err);
    }
    conf->sections[conf->n++] = s;
    s->conf = conf;
    s->line = r->line;
    s->kind = strndup(kind.p, kind.n);
    if (s->kind == NULL || (name.p != NULL && (s->name = strndup(name.p, name.n)) == NULL) ||
        asprintf(&s->where, "%s:%u", conf->file, r->line) < 0) {
        s->where = NULL; /* what asprintf left there is undefined */
        return no_memory(r->err);
    }
    r->section = s;
    return true;
}

static bool
read_section(struct reader *r, struct kt_str line)
{
    char text[2 * CONF_NAME_MAX + 8];
    if (line.p[line.n - 1] != ']')
        return refuse_line(r, "a section has no ]; accepted: [kind] or [kind name]");
    struct kt_str kind = trim((struct kt_str){ line.p + 1, line.n - 2 }), name = { NULL, 0 };
    size_t end = 0;
    while (end < kind.n && kind.p[end] != ' ' && kind.p[end] != '\t')
        end++;
    if (end < kind.n)
        name = trim((struct kt_str){ kind.p + end, kind.n - end });
    kind.n = end;
    if (!is_name(kind) || (name.p != NULL && !is_name(name)))
        return refuse_line(r, "malformed section; accepted: [kind] or [kind name], each 1 to %d of "
                              "letters, digits, _ - .", (int)CONF_NAME_MAX);
    if (r->conf->n == CONF_SECTIONS_MAX)
        return refuse_line(r, "too many sections; accepted: at most %d", (int)CONF_SECTIONS_MAX);

    struct conf_section probe = { .kind = strndupa(kind.p, kind.n) };
    probe.name = name.p == NULL ? NULL : strndupa(name.p, name.n);
    const struct conf_section *before = conf_section_find(r->conf, probe.kind, probe.name);
    if (before != NULL)
        return refuse_line(r, "%s again; it starts at line %u already", title(before, text),
                           before->line);
    return section_add(r, kind, name);
}

/* Undoes the escapes of a quoted value in place; raw is what stands between the quotes. */
static bool
unquote(const struct reader *r, char *raw, size_t n)
{
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        if (raw[i] == '"')
            return refuse_line(r, "text behind the closing quote; accepted: \\\" for a quote");
        if (raw[i] == '\\' && (i + 1 == n || (raw[i + 1] != '"' && raw[i + 1] != '\\')))
            return refuse_line(r, "unknown escape in quotes; accepted: \\\" and \\\\");
        if (raw[i] == '\\')
            i++;
        raw[out++] = raw[i];
    }
    raw[out] = '\0';
    return true;
}

static bool
read_value(const struct reader *r, struct kt_str value, char **ret)
{
    bool quoted = value.n > 0 && value.p[0] == '"';
    if (quoted && (value.n < 2 || value.p[value.n - 1] != '"'))
        return refuse_line(r, "a value has no closing quote");
    size_t n = quoted ? value.n - 2 : value.n;
    char *copy = strndup(quoted ? value.p + 1 : value.p, n);
    if (copy == NULL)
        return no_memory(r->err);
    if (quoted && !unquote(r, copy, n)) {
        free(copy);
        return false;
    }
    *ret = copy;
    return true;
}

static bool
read_option(struct reader *r, struct kt_str line)
{
    const char *equals = memchr(line.p, '=', line.n);
    if (equals == NULL)
        return refuse_line(r, "neither a section nor an option; accepted: key = value");
    struct kt_str key = trim((struct kt_str){ line.p, (size_t)(equals - line.p) });
    size_t behind = (size_t)(equals - line.p) + 1;
    struct kt_str value = trim((struct kt_str){ line.p + behind, line.n - behind });
    if (!is_name(key))
        return refuse_line(r, "malformed key; accepted: 1 to %d of letters, digits, _ - .",
                           (int)CONF_NAME_MAX);
    struct conf_section *s = r->section;
    if (s == NULL)
        return refuse_line(r, "%.*s: stands before the first section", KT_FMT(key));
    if (!grow(&s->entries, s->n, &s->room, sizeof(*s->entries)))
        return no_memory(r->err);
    struct entry *e = &s->entries[s->n];
    *e = (struct entry){ .line = r->line };
    if (!read_value(r, value, &e->value))
        return false;
    e->key = strndup(key.p, key.n);
    s->n++;
    return e->key != NULL || no_memory(r->err);
}

static bool
read_line(struct reader *r, struct kt_str line)
{
    if (line.n > CONF_LINE_MAX)
        return refuse_line(r, "%zu bytes in a line; accepted: at most %d", line.n,
                           (int)CONF_LINE_MAX);
    if (line.n > 0 && !kt_utf8_is_text(line.p, line.n))
        return refuse_line(r, "NUL or bytes that are no UTF-8; accepted: UTF-8 text");
    line = trim(line);
    if (line.n == 0 || line.p[0] == '#' || line.p[0] == ';')
        return true;
    return line.p[0] == '[' ? read_section(r, line) : read_option(r, line);
}

static struct conf *
conf_new(const char *file)
{
    struct conf *conf = calloc(1, sizeof(*conf));
    if (conf == NULL)
        return NULL;
    const char *slash = strrchr(file, '/');
    conf->file = strdup(file);
    /* The slash stays, so that the root folder needs no case of its own. */
    conf->folder = slash == NULL ? strdup("") : strndup(file, (size_t)(slash - file) + 1);
    if (conf->file == NULL || conf->folder == NULL) {
        conf_free(conf);
        return NULL;
    }
    return conf;
}

static void
section_free(struct conf_section *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->entries[i].key);
        free(s->entries[i].value);
    }
    free(s->entries);
    free(s->kind);
    free(s->name);
    free(s->where);
    free(s);
}

void
conf_free(struct conf *conf)
{
    if (conf == NULL)
        return;
    for (size_t i = 0; i < conf->n; i++)
        section_free(conf->sections[i]);
    free(conf->sections);
    free(conf->file);
    free(conf->folder);
    free(conf);
}

bool
conf_parse(const char *text, size_t n, const char *file, struct conf **ret, struct conf_error *err)
{
    struct conf *conf = conf_new(file);
    if (conf == NULL)
        return no_memory(err);
    if (n > CONF_FILE_MAX) {
        conf_free(conf);
        return refuse(err, "%s: more than %d bytes", file, (int)CONF_FILE_MAX);
    }
    struct reader r = { .conf = conf, .err = err };
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t length = end == NULL ? n - at : (size_t)(end - (text + at));
        r.line++;
        if (!read_line(&r, (struct kt_str){ text + at, length })) {
            conf_free(conf);
            return false;
        }
        at += length + 1;
    }
    *ret = conf;
    return true;
}

bool
conf_read(const char *path, struct conf **ret, struct conf_error *err)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return refuse(err, "%s: %s", path, strerror(errno));
    bool ok = false;
    /* One more than allowed, so that a file that is too long can be told. */
    char *text = malloc(CONF_FILE_MAX + 1);
    if (text == NULL) {
        no_memory(err);
    } else {
        size_t n = fread(text, 1, CONF_FILE_MAX + 1, f);
        ok = ferror(f) ? refuse(err, "%s: %s", path, strerror(errno))
                       : conf_parse(text, n, path, ret, err);
    }
    free(text);
    fclose(f);
    return ok;
}

struct conf_section *
conf_section_at(const struct conf *conf, size_t i)
{
    return i < conf->n ? conf->sections[i] : NULL;
}

const char *
conf_section_kind(const struct conf_section *s)
{
    return s->kind;
}

const char *
conf_section_name(const struct conf_section *s)
{
    return s->name;
}

const char *
conf_section_where(const struct conf_section *s)
{
    return s->where;
}

const char *
conf_section_peek(const struct conf_section *s, const char *key)
{
    for (size_t i = 0; i < s->n; i++) {
        if (strcmp(s->entries[i].key, key) == 0)
            return s->entries[i].value;
    }
    return NULL;
}

bool
conf_unused(const struct conf *conf, struct conf_error *err)
{
    char text[2 * CONF_NAME_MAX + 8];
    for (size_t i = 0; i < conf->n; i++) {
        if (!conf->sections[i]->used)
            return refuse(err, "%s: %s: nothing uses this section", conf->sections[i]->where,
                          title(conf->sections[i], text));
    }
    return true;
}

/* The second phase: values. */

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

/* Edits (one character put in, taken out, or changed) that make b of a; both at most CONF_NAME_MAX
 * characters, the rest is ignored. */
static size_t
distance(const char *a, const char *b)
{
    size_t row[CONF_NAME_MAX + 1], n = strnlen(b, CONF_NAME_MAX);
    for (size_t k = 0; k <= n; k++)
        row[k] = k;
    for (size_t i = 0; a[i] != '\0' && i < CONF_NAME_MAX; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t k = 0; k < n; k++) {
            size_t change = diagonal + (a[i] != b[k]);
            diagonal = row[k + 1];
            size_t other = (row[k] < diagonal ? row[k] : diagonal) + 1;
            row[k + 1] = change < other ? change : other;
        }
    }
    return row[n];
}

static const char *
nearest(const struct kaiten_option *table, const char *key)
{
    const char *best = NULL;
    size_t least = SUGGEST_MAX + 1;
    for (size_t i = 0; table[i].name != NULL; i++) {
        size_t d = distance(key, table[i].name);
        if (d < least && d < strlen(table[i].name)) {
            least = d;
            best = table[i].name;
        }
    }
    return best;
}

/* The names of a table, as many as fit. */
static const char *
all_names(const struct kaiten_option *table, char *buf, size_t size)
{
    size_t n = 0;
    buf[0] = '\0';
    for (size_t i = 0; table[i].name != NULL && n < size; i++)
        n += (size_t)snprintf(buf + n, size - n, "%s%s", i == 0 ? "" : ", ", table[i].name);
    return buf;
}

static bool
refuse_unknown(const struct applying *a, const struct entry *e)
{
    char text[2 * CONF_NAME_MAX + 8], names[CONF_ERROR_MAX / 2];
    const struct kaiten_option *table = a->values->table;
    const char *near = nearest(table, e->key);
    if (near != NULL)
        return refuse(a->err, "%s:%u: %s %s: unknown option; did you mean %s?", a->conf->file,
                      e->line, title(a->section, text), e->key, near);
    return refuse(a->err, "%s:%u: %s %s: unknown option; accepted: %s", a->conf->file, e->line,
                  title(a->section, text), e->key, all_names(table, names, sizeof(names)));
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

static const char *
type_words(enum kaiten_option_type type)
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

static bool
has_range(const struct kaiten_option *o)
{
    return (o->type == KAITEN_OPT_INT || o->type == KAITEN_OPT_SIZE ||
            o->type == KAITEN_OPT_DURATION) &&
           (o->min != 0 || o->max != 0);
}

/* "a whole number from 1 to 64". */
static const char *
accepted(const struct kaiten_option *o, char buf[160])
{
    char min[KT_DURATION_MAX], max[KT_DURATION_MAX];
    if (!has_range(o))
        return type_words(o->type);
    snprintf(buf, 160, "%s from %s to %s", type_words(o->type), number_text(o->type, o->min, min),
             number_text(o->type, o->max, max));
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

static bool
parse_number(const struct kaiten_option *o, struct kt_str s, int64_t *ret)
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

static bool
is_text(enum kaiten_option_type type)
{
    return type == KAITEN_OPT_STRING || type == KAITEN_OPT_PATH || type == KAITEN_OPT_SECRET ||
           type == KAITEN_OPT_LIST;
}

static bool
is_path(enum kaiten_option_type type)
{
    return type == KAITEN_OPT_PATH || type == KAITEN_OPT_SECRET;
}

/* One value into its row; where names its place. */
static bool
set_value(const struct applying *a, const struct kaiten_option *o, struct value *v,
          const char *text, const char *where, const char *section)
{
    char words[160];
    if (!grow(&v->items, v->n, &v->room, sizeof(*v->items)))
        return no_memory(a->err);
    if (!is_text(o->type)) {
        int64_t number = 0;
        if (!parse_number(o, kt_str(text), &number))
            return refuse(a->err, "%s: %s %s: \"%.64s\" is malformed; accepted: %s", where, section,
                          o->name, text, accepted(o, words));
        if (has_range(o) && (number < o->min || number > o->max))
            return refuse(a->err, "%s: %s %s: %.64s is out of range; accepted: %s", where, section,
                          o->name, text, accepted(o, words));
        v->number = number;
    } else if (is_path(o->type) && text[0] == '\0') {
        return refuse(a->err, "%s: %s %s: empty; accepted: %s", where, section, o->name,
                      accepted(o, words));
    }
    struct item item = { NULL, strdup(where) };
    bool relative = is_path(o->type) && text[0] != '/';
    if (asprintf(&item.text, "%s%s", relative ? a->conf->folder : "", text) < 0)
        item.text = NULL;
    v->items[v->n++] = item;
    return (item.text != NULL && item.where != NULL) || no_memory(a->err);
}

static bool
apply_entry(const struct applying *a, const struct entry *e)
{
    const struct kaiten_option *o = a->values->table;
    char text[2 * CONF_NAME_MAX + 8], where[PATH_MAX + WHERE_MAX];
    while (o->name != NULL && strcmp(o->name, e->key) != 0)
        o++;
    if (o->name == NULL)
        return refuse_unknown(a, e);
    struct value *v = &a->values->values[o - a->values->table];
    snprintf(where, sizeof(where), "%s:%u", a->conf->file, e->line);
    title(a->section, text);
    if (v->is_set && o->type != KAITEN_OPT_LIST)
        return refuse(a->err, "%s: %s %s: again; it stands at %s already", where, text, e->key,
                      v->items[0].where);
    if (v->n == CONF_LIST_MAX)
        return refuse(a->err, "%s: %s %s: too many; accepted: at most %d", where, text, e->key,
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
            return refuse(a->err, "%s: %s %s: missing; accepted: %s", a->values->where, section,
                          o->name, type_words(o->type));
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
        return no_memory(err);
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
    char text[2 * CONF_NAME_MAX + 8];
    section->used = true;
    return apply(section->conf, section, title(section, text), table, ret, err);
}

bool
conf_apply(struct conf *conf, const char *kind, const char *name,
           const struct kaiten_option *table, struct conf_values **ret, struct conf_error *err)
{
    char text[2 * CONF_NAME_MAX + 8];
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
    check_type(is_text(o->type) && o->type != KAITEN_OPT_LIST, name);
    return v->n > 0 ? v->items[0].text : NULL;
}

int64_t
conf_int(const struct conf_values *values, const char *name)
{
    const struct kaiten_option *o;
    const struct value *v = row_of(values, name, &o);
    check_type(!is_text(o->type) && o->type != KAITEN_OPT_BOOL, name);
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
        return refuse(err, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return refuse(err, "%s: %s; accepted: a regular file", path,
                      S_ISLNK(st.st_mode) ? "a symbolic link" : "not a regular file");
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return refuse(err, "%s: owned by uid %ju; accepted: uid %ju or root; run: chown %ju %s",
                      path, (uintmax_t)st.st_uid, (uintmax_t)geteuid(), (uintmax_t)geteuid(), path);
    if ((st.st_mode & 077) != 0)
        return refuse(err, "%s: mode %04o is open to others; accepted: 0600; run: chmod 600 %s",
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
            return refuse(err, "%s: %s: %.*s", v->items[0].where, values->table[i].name,
                          (int)(CONF_ERROR_MAX / 2), inner.text);
    }
    return true;
}

void
conf_print_option_doc(FILE *f, const struct kaiten_option *table)
{
    char words[160];
    for (; table->name != NULL; table++) {
        fprintf(f, "# %s\n# Accepted: %s.", table->doc == NULL ? "" : table->doc,
                accepted(table, words));
        if ((table->flags & KAITEN_OPT_REQUIRED) != 0)
            fprintf(f, " Required.\n");
        else
            fprintf(f, " Default: %s.\n", table->def == NULL ? "none" : table->def);
        fprintf(f, "#%s = %s\n\n", table->name, table->def == NULL ? "" : table->def);
    }
}

/* In quotes where the reader would need them. */
static void
print_text(FILE *f, const char *text)
{
    struct kt_str s = kt_str(text);
    bool plain = s.n > 0 && text[0] != '"' && trim(s).n == s.n;
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
