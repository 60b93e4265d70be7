/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/conf_file.h"

#include "client/proto/utf8.h"
#include "daemon/grow.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool
conf_refuse(struct conf_error *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    return false;
}

bool
conf_no_memory(struct conf_error *err)
{
    return conf_refuse(err, "no memory for the configuration");
}

const char *
conf_title(const struct conf_section *s, char buf[CONF_TITLE_MAX])
{
    snprintf(buf, CONF_TITLE_MAX, "[%s%s%s]", s->kind, s->name == NULL ? "" : " ",
             s->name == NULL ? "" : s->name);
    return buf;
}

struct kt_str
conf_trim(struct kt_str s)
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
    return conf_refuse(r->err, "%s:%u: %s", r->conf->file, r->line, text);
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
    if (s == NULL || !grow(&conf->sections, conf->n, &conf->room, sizeof(*conf->sections))) {
        free(s);
        return conf_no_memory(r->err);
    }
    conf->sections[conf->n++] = s;
    s->conf = conf;
    s->line = r->line;
    s->kind = strndup(kind.p, kind.n);
    if (s->kind == NULL || (name.p != NULL && (s->name = strndup(name.p, name.n)) == NULL) ||
        asprintf(&s->where, "%s:%u", conf->file, r->line) < 0) {
        s->where = NULL; /* asprintf leaves it undefined on failure */
        return conf_no_memory(r->err);
    }
    r->section = s;
    return true;
}

static bool
read_section(struct reader *r, struct kt_str line)
{
    char text[CONF_TITLE_MAX];
    if (line.p[line.n - 1] != ']')
        return refuse_line(r, "a section has no ]; accepted: [kind] or [kind name]");
    struct kt_str kind = conf_trim((struct kt_str){ line.p + 1, line.n - 2 }), name = { NULL, 0 };
    size_t end = 0;
    while (end < kind.n && kind.p[end] != ' ' && kind.p[end] != '\t')
        end++;
    if (end < kind.n)
        name = conf_trim((struct kt_str){ kind.p + end, kind.n - end });
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
        return refuse_line(r, "%s again; it starts at line %u already", conf_title(before, text),
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
        return conf_no_memory(r->err);
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
    struct kt_str key = conf_trim((struct kt_str){ line.p, (size_t)(equals - line.p) });
    size_t behind = (size_t)(equals - line.p) + 1;
    struct kt_str value = conf_trim((struct kt_str){ line.p + behind, line.n - behind });
    if (!is_name(key))
        return refuse_line(r, "malformed key; accepted: 1 to %d of letters, digits, _ - .",
                           (int)CONF_NAME_MAX);
    struct conf_section *s = r->section;
    if (s == NULL)
        return refuse_line(r, "%.*s: stands before the first section", KT_FMT(key));
    if (!grow(&s->entries, s->n, &s->room, sizeof(*s->entries)))
        return conf_no_memory(r->err);
    struct conf_entry *e = &s->entries[s->n];
    *e = (struct conf_entry){ .line = r->line };
    if (!read_value(r, value, &e->value))
        return false;
    e->key = strndup(key.p, key.n);
    s->n++;
    return e->key != NULL || conf_no_memory(r->err);
}

static bool
read_line(struct reader *r, struct kt_str line)
{
    if (line.n > CONF_LINE_MAX)
        return refuse_line(r, "%zu bytes in a line; accepted: at most %d", line.n,
                           (int)CONF_LINE_MAX);
    if (line.n > 0 && !kt_utf8_is_text(line.p, line.n))
        return refuse_line(r, "NUL or bytes that are no UTF-8; accepted: UTF-8 text");
    line = conf_trim(line);
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
        return conf_no_memory(err);
    if (n > CONF_FILE_MAX) {
        conf_free(conf);
        return conf_refuse(err, "%s: more than %d bytes", file, (int)CONF_FILE_MAX);
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
        return conf_refuse(err, "%s: %s", path, strerror(errno));
    bool ok = false;
    /* One more than allowed, so that a file that is too long is noticed. */
    char *text = malloc(CONF_FILE_MAX + 1);
    if (text == NULL) {
        conf_no_memory(err);
    } else {
        size_t n = fread(text, 1, CONF_FILE_MAX + 1, f);
        ok = ferror(f) ? conf_refuse(err, "%s: %s", path, strerror(errno))
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

bool
conf_unused(const struct conf *conf, struct conf_error *err)
{
    char text[CONF_TITLE_MAX];
    for (size_t i = 0; i < conf->n; i++) {
        if (!conf->sections[i]->used)
            return conf_refuse(err, "%s: %s: nothing uses this section", conf->sections[i]->where,
                               conf_title(conf->sections[i], text));
    }
    return true;
}
