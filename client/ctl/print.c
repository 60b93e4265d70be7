/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/ctl/print.h"

#include "client/proto/check.h"
#include "client/proto/json.h"
#include "client/proto/utf8.h"

#include <time.h>
#include <wchar.h>

enum { INDENT = 2, CELL_MAX = 64 * 1024 };

/* --- text --------------------------------------------------------------------------------- */

static uint32_t
decode(const char *p, size_t n)
{
    const unsigned char *b = (const unsigned char *)p;
    if (n == 1)
        return b[0];
    uint32_t c = b[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (b[i] & 0x3fu);
    return c;
}

static bool
is_dangerous(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f || c == 0x061c ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

void
print_text(struct kt_buf *buf, struct kt_str s)
{
    for (size_t i = 0, n; i < s.n; i += n) {
        n = kt_utf8_char(s.p + i, s.n - i);
        uint32_t c = n ? decode(s.p + i, n) : (unsigned char)s.p[i];
        if (n && !is_dangerous(c)) {
            kt_buf_put(buf, s.p + i, n);
            continue;
        }
        n = n ? n : 1;
        kt_buf_printf(buf, c < 0x100 ? "\\x%02x" : "\\u%04x", (unsigned)c);
    }
}

size_t
print_width(struct kt_str s)
{
    size_t width = 0;
    for (size_t i = 0, n; i < s.n; i += n) {
        n = kt_utf8_char(s.p + i, s.n - i);
        int w = n ? wcwidth((wchar_t)decode(s.p + i, n)) : 1;
        width += w < 0 ? 1 : (size_t)w;
        n = n ? n : 1;
    }
    return width;
}

/* A JSON string, which is a YAML string too, with more escaped than JSON asks for. */
static void
put_quoted(struct kt_buf *buf, struct kt_str s)
{
    kt_buf_putc(buf, '"');
    for (size_t i = 0, n; i < s.n; i += n) {
        n = kt_utf8_char(s.p + i, s.n - i);
        uint32_t c = n ? decode(s.p + i, n) : 0xfffd;
        n = n ? n : 1;
        if (c == '"' || c == '\\')
            kt_buf_putc(buf, '\\');
        if (is_dangerous(c) || c == 0xfffd)
            kt_buf_printf(buf, "\\u%04x", (unsigned)c);
        else
            kt_buf_put(buf, s.p + i, n);
    }
    kt_buf_putc(buf, '"');
}

static void
put_spaces(struct kt_buf *buf, size_t n)
{
    for (size_t i = 0; i < n; i++)
        kt_buf_putc(buf, ' ');
}

/* --- JSON --------------------------------------------------------------------------------- */

static void put_json(struct kt_buf *, const struct kt_value *, size_t indent);

static void
put_json_item(struct kt_buf *buf, bool first, size_t indent)
{
    kt_buf_puts(buf, first ? "\n" : ",\n");
    put_spaces(buf, indent + INDENT);
}

static void
put_json_end(struct kt_buf *buf, size_t n, size_t indent, char close)
{
    if (n) {
        kt_buf_putc(buf, '\n');
        put_spaces(buf, indent);
    }
    kt_buf_putc(buf, close);
}

static void
put_json(struct kt_buf *buf, const struct kt_value *v, size_t indent)
{
    if (v->type == KT_V_STR) {
        put_quoted(buf, v->s);
        return;
    }
    if (v->type == KT_V_ARRAY) {
        kt_buf_putc(buf, '[');
        for (size_t i = 0; i < v->array.n; i++) {
            put_json_item(buf, i == 0, indent);
            put_json(buf, &v->array.v[i], indent + INDENT);
        }
        put_json_end(buf, v->array.n, indent, ']');
        return;
    }
    if (v->type != KT_V_MAP) {
        kt_json_put_value(buf, v);
        return;
    }
    kt_buf_putc(buf, '{');
    for (size_t i = 0; i < v->map.n; i++) {
        put_json_item(buf, i == 0, indent);
        put_quoted(buf, v->map.v[i].name);
        kt_buf_puts(buf, ": ");
        put_json(buf, &v->map.v[i].value, indent + INDENT);
    }
    put_json_end(buf, v->map.n, indent, '}');
}

void
print_json_line(struct kt_buf *buf, const struct kt_value *v)
{
    bool map = v->type == KT_V_MAP;
    if (v->type == KT_V_STR) {
        put_quoted(buf, v->s);
        return;
    }
    if (!map && v->type != KT_V_ARRAY) {
        kt_json_put_value(buf, v);
        return;
    }
    kt_buf_putc(buf, map ? '{' : '[');
    for (size_t i = 0; i < (map ? v->map.n : v->array.n); i++) {
        kt_buf_puts(buf, i ? "," : "");
        if (map) {
            put_quoted(buf, v->map.v[i].name);
            kt_buf_putc(buf, ':');
        }
        print_json_line(buf, map ? &v->map.v[i].value : &v->array.v[i]);
    }
    kt_buf_putc(buf, map ? '}' : ']');
}

/* --- YAML --------------------------------------------------------------------------------- */

static bool
is_plain_yaml(struct kt_str s)
{
    static const char *const words[] = { "true", "false", "null", "yes", "no", "on", "off", "y",
                                         "n" };
    if (s.n == 0 || !((s.p[0] | 0x20) >= 'a' && (s.p[0] | 0x20) <= 'z'))
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!memchr("-_./0123456789", s.p[i], 14) &&
            !((s.p[i] | 0x20) >= 'a' && (s.p[i] | 0x20) <= 'z'))
            return false;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (s.n == strlen(words[i]) && strncasecmp(s.p, words[i], s.n) == 0)
            return false;
    return true;
}

static void
put_yaml_scalar(struct kt_buf *buf, const struct kt_value *v)
{
    if (v->type == KT_V_STR && is_plain_yaml(v->s))
        kt_buf_put_str(buf, v->s);
    else if (v->type == KT_V_STR)
        put_quoted(buf, v->s);
    else
        kt_json_put_value(buf, v);
}

static bool
is_nested(const struct kt_value *v)
{
    return (v->type == KT_V_MAP && v->map.n) || (v->type == KT_V_ARRAY && v->array.n);
}

static void put_yaml(struct kt_buf *, const struct kt_value *, size_t indent, bool inline_first);

/* Behind "name:", where a scalar stays on the line and anything else begins a new one. */
static void
put_yaml_member(struct kt_buf *buf, const struct kt_value *v, size_t indent)
{
    if (is_nested(v)) {
        kt_buf_putc(buf, '\n');
        put_yaml(buf, v, v->type == KT_V_MAP ? indent + INDENT : indent, false);
        return;
    }
    kt_buf_putc(buf, ' ');
    put_yaml_scalar(buf, v);
    kt_buf_putc(buf, '\n');
}

/* inline_first: the first line continues one that has "- " already. */
static void
put_yaml(struct kt_buf *buf, const struct kt_value *v, size_t indent, bool inline_first)
{
    if (!is_nested(v)) {
        put_spaces(buf, inline_first ? 0 : indent);
        put_yaml_scalar(buf, v);
        kt_buf_putc(buf, '\n');
        return;
    }
    size_t n = v->type == KT_V_MAP ? v->map.n : v->array.n;
    for (size_t i = 0; i < n; i++) {
        put_spaces(buf, i == 0 && inline_first ? 0 : indent);
        if (v->type == KT_V_ARRAY) {
            kt_buf_puts(buf, "- ");
            put_yaml(buf, &v->array.v[i], indent + INDENT, true);
            continue;
        }
        struct kt_value name = { .type = KT_V_STR, .s = v->map.v[i].name };
        put_yaml_scalar(buf, &name);
        kt_buf_putc(buf, ':');
        put_yaml_member(buf, &v->map.v[i].value, indent);
    }
}

/* --- cells -------------------------------------------------------------------------------- */

void
print_cell(struct kt_buf *buf, const struct kt_value *v)
{
    if (!v || v->type == KT_V_NULL)
        return;
    if (v->type == KT_V_STR) {
        print_text(buf, v->s);
        return;
    }
    if (v->type == KT_V_ARRAY && v->array.n && v->array.v[0].type == KT_V_MAP) {
        kt_buf_printf(buf, "%zu", v->array.n);
        return;
    }
    if (v->type == KT_V_ARRAY) {
        for (size_t i = 0; i < v->array.n; i++) {
            kt_buf_puts(buf, i ? "," : "");
            print_cell(buf, &v->array.v[i]);
        }
        return;
    }
    if (v->type == KT_V_MAP) {
        const struct kt_value *name = kt_value_get(v, "name");
        print_cell(buf, name ? name : kt_value_get(v, "id"));
        return;
    }
    kt_json_put_value(buf, v);
}

static void
put_count(struct kt_buf *buf, const struct kt_value *item, const char *member)
{
    const struct kt_value *v = kt_value_get(item, member);
    const struct kt_value *cut = kt_value_get(item, "tokensTruncated");
    kt_buf_printf(buf, "%zu%s", v && v->type == KT_V_ARRAY ? v->array.n : 0,
                  cut && cut->type == KT_V_BOOL && cut->b ? "+" : "");
}

static const char *
token_state(const struct kt_value *token)
{
    const struct kt_value *expiry = kt_value_get(token, "expiresAt");
    struct timespec now;
    struct kt_time t;
    if (kt_value_get(token, "revokedAt"))
        return "revoked";
    clock_gettime(CLOCK_REALTIME, &now);
    if (expiry && expiry->type == KT_V_STR && kt_time_parse(expiry->s, &t) &&
        t.ms <= (int64_t)now.tv_sec * 1000)
        return "expired";
    return "live";
}

/* --- tables ------------------------------------------------------------------------------- */

struct column {
    const char *title, *member;
    enum { CELL_VALUE = 0, CELL_COUNT, CELL_STATE } kind;
};

static const struct column account_columns[] = {
    { "NAME", "name", 0 },        { "SLUG", "slug", 0 }, { "ID", "id", 0 },
    { "TOKENS", "tokens", CELL_COUNT }, { NULL, NULL, 0 },
};
static const struct column token_columns[] = {
    { "NAME", "name", 0 },
    { "SLUG", "slug", 0 },
    { "STATE", NULL, CELL_STATE },
    { "EXPIRES AT", "expiresAt", 0 },
    { "SCOPES", "scopes", 0 },
    { NULL, NULL, 0 },
};

static const struct column key_columns[] = {
    { "KIND", "kind", 0 },       { "ID", "id", 0 },
    { "STATE", "state", 0 },     { "TOKENS", "tokens", 0 },
    { "RECORDS", "records", 0 }, { "PUBLISHED UNTIL", "publishedUntil", 0 },
    { NULL, NULL, 0 },
};

static bool
lists_keys(const struct kt_op_spec *spec)
{
    return spec == &kt_op_specs[KT_OP_KEY_LIST];
}

static const struct column *
columns_of(const struct kt_op_spec *spec)
{
    if (lists_keys(spec))
        return key_columns;
    return spec->out == &kt_shape_token_page ? token_columns : account_columns;
}

static bool
is_page(const struct kt_op_spec *spec)
{
    return spec && (spec->out == &kt_shape_token_page || spec->out == &kt_shape_account_page ||
                    lists_keys(spec));
}

/* buf: empty. */
static void
put_column(struct kt_buf *buf, const struct column *c, const struct kt_value *item)
{
    if (c->kind == CELL_COUNT)
        put_count(buf, item, c->member);
    else if (c->kind == CELL_STATE)
        kt_buf_puts(buf, token_state(item));
    else
        print_cell(buf, kt_value_get(item, c->member));
    /* Programs that cut columns at white space find each in its place. */
    if (buf->n == 0)
        kt_buf_putc(buf, '-');
}

/* text padded to width, but not behind the last column. */
static void
put_padded(struct kt_buf *buf, struct kt_str text, size_t width, bool last)
{
    kt_buf_put_str(buf, text);
    size_t n = print_width(text);
    if (!last)
        put_spaces(buf, (n < width ? width - n : 0) + 2);
    else
        kt_buf_putc(buf, '\n');
}

static void
table_measure(struct print_list *list, const struct kt_value *items)
{
    const struct column *c = columns_of(list->spec);
    struct kt_buf cell;
    kt_buf_init(&cell, CELL_MAX);
    for (size_t i = 0; c[i].title; i++) {
        size_t width = print_width(kt_str(c[i].title));
        for (size_t row = 0; row < items->array.n; row++) {
            kt_buf_reset(&cell);
            put_column(&cell, &c[i], &items->array.v[row]);
            size_t n = print_width(kt_buf_str(&cell));
            width = n > width ? n : width;
        }
        list->width[i] = width > list->width[i] ? width : list->width[i];
    }
    kt_buf_done(&cell);
}

static void
table_rows(struct print_list *list, const struct kt_value *items, struct kt_buf *buf)
{
    const struct column *c = columns_of(list->spec);
    struct kt_buf cell;
    kt_buf_init(&cell, CELL_MAX);
    table_measure(list, items);
    for (size_t i = 0; list->items == 0 && c[i].title; i++)
        put_padded(buf, kt_str(c[i].title), list->width[i], !c[i + 1].title);
    for (size_t row = 0; row < items->array.n; row++)
        for (size_t i = 0; c[i].title; i++) {
            kt_buf_reset(&cell);
            put_column(&cell, &c[i], &items->array.v[row]);
            put_padded(buf, kt_buf_str(&cell), list->width[i], !c[i + 1].title);
        }
    kt_buf_done(&cell);
}

/* One object: a line per member. */
static void
table_object(struct kt_buf *buf, const struct kt_value *v)
{
    size_t width = 0;
    for (size_t i = 0; i < v->map.n; i++) {
        size_t n = print_width(v->map.v[i].name);
        width = n > width ? n : width;
    }
    for (size_t i = 0; i < v->map.n; i++) {
        size_t n = print_width(v->map.v[i].name);
        print_text(buf, v->map.v[i].name);
        put_spaces(buf, width - (n < width ? n : width) + 2);
        size_t before = buf->n;
        print_cell(buf, &v->map.v[i].value);
        kt_buf_puts(buf, buf->n == before ? "-\n" : "\n");
    }
}

static void
put_table(struct kt_buf *buf, const struct kt_value *v)
{
    if (v->type == KT_V_MAP) {
        table_object(buf, v);
        return;
    }
    print_cell(buf, v);
    kt_buf_putc(buf, '\n');
}

/* --- names -------------------------------------------------------------------------------- */

/* The word by which a command would name it again. */
static void
put_name(struct kt_buf *buf, const struct kt_value *v)
{
    static const char *const names[] = { "slug", "tokenId", "subject", "status", "id" };
    if (v->type == KT_V_STR) {
        print_cell(buf, v);
        kt_buf_putc(buf, '\n');
    }
    if (v->type == KT_V_ARRAY)
        for (size_t i = 0; i < v->array.n; i++)
            put_name(buf, &v->array.v[i]);
    if (v->type != KT_V_MAP)
        return;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const struct kt_value *name = kt_value_get(v, names[i]);
        if (name) {
            put_name(buf, name);
            return;
        }
    }
    const struct kt_value *scopes = kt_value_get(v, "scopes");
    if (scopes)
        put_name(buf, scopes);
}

/* --- answers ------------------------------------------------------------------------------ */

static const struct kt_value *
items_of(const struct kt_value *page)
{
    static const struct kt_value none = { .type = KT_V_ARRAY };
    const struct kt_value *items = kt_value_get(page, "items");
    return items && items->type == KT_V_ARRAY ? items : &none;
}

void
print_answer(struct kt_buf *buf, enum ctl_output output, const struct kt_op_spec *spec,
             const struct kt_value *answer)
{
    if (is_page(spec) && output != CTL_JSON && output != CTL_YAML) {
        struct print_list list;
        print_list_begin(&list, output, spec, buf);
        print_list_items(&list, answer, buf);
        print_list_end(&list, buf);
        return;
    }
    switch (output) {
    case CTL_JSON:
        put_json(buf, answer, 0);
        kt_buf_putc(buf, '\n');
        return;
    case CTL_NDJSON:
        print_json_line(buf, answer);
        kt_buf_putc(buf, '\n');
        return;
    case CTL_YAML: put_yaml(buf, answer, 0, false); return;
    case CTL_NAME: put_name(buf, answer); return;
    case CTL_TABLE:
    case CTL_OUTPUT_COUNT: put_table(buf, answer); return;
    }
}

void
print_list_begin(struct print_list *list, enum ctl_output output, const struct kt_op_spec *spec,
                 struct kt_buf *buf)
{
    *list = (struct print_list){ .output = output, .spec = spec };
    if (output == CTL_JSON)
        kt_buf_puts(buf, "{\n  \"items\": [");
    if (output == CTL_YAML)
        kt_buf_puts(buf, "items:");
}

static void
put_item(struct print_list *list, const struct kt_value *item, struct kt_buf *buf)
{
    switch (list->output) {
    case CTL_JSON:
        put_json_item(buf, list->items == 0, INDENT);
        put_json(buf, item, 2 * INDENT);
        break;
    case CTL_NDJSON:
        print_json_line(buf, item);
        kt_buf_putc(buf, '\n');
        break;
    case CTL_YAML:
        kt_buf_puts(buf, list->items == 0 ? "\n- " : "- ");
        put_yaml(buf, item, INDENT, true);
        break;
    case CTL_NAME: put_name(buf, item); break;
    case CTL_TABLE:
    case CTL_OUTPUT_COUNT: break;
    }
    list->items++;
}

void
print_list_items(struct print_list *list, const struct kt_value *page, struct kt_buf *buf)
{
    const struct kt_value *items = items_of(page);
    if (list->output == CTL_TABLE) {
        table_rows(list, items, buf);
        list->items += items->array.n;
        return;
    }
    for (size_t i = 0; i < items->array.n; i++)
        put_item(list, &items->array.v[i], buf);
}

void
print_list_end(struct print_list *list, struct kt_buf *buf)
{
    if (list->output == CTL_JSON) {
        put_json_end(buf, list->items, INDENT, ']');
        kt_buf_puts(buf, ",\n  \"hasMore\": false\n}\n");
    }
    if (list->output == CTL_YAML)
        kt_buf_puts(buf, list->items ? "hasMore: false\n" : " []\nhasMore: false\n");
}
