/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/ops/document.h"
#include "daemon/ops/explain.h"

/* --- text --------------------------------------------------------------------------------- */

static void
put_escaped(struct kt_buf *buf, struct kt_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        switch (s.p[i]) {
        case '&': kt_buf_puts(buf, "&amp;"); break;
        case '<': kt_buf_puts(buf, "&lt;"); break;
        case '>': kt_buf_puts(buf, "&gt;"); break;
        case '"': kt_buf_puts(buf, "&quot;"); break;
        default: kt_buf_putc(buf, s.p[i]);
        }
    }
}

static void
put_text(struct kt_buf *buf, const char *s)
{
    put_escaped(buf, kt_str(s));
}

/* <tag>text</tag> */
static void
put_in(struct kt_buf *buf, const char *tag, const char *text)
{
    kt_buf_printf(buf, "<%s>", tag);
    put_text(buf, text);
    kt_buf_printf(buf, "</%s>", tag);
}

static void
put_row(struct kt_buf *buf, const char *name, const char *value)
{
    kt_buf_puts(buf, "<div><dt>");
    put_text(buf, name);
    kt_buf_puts(buf, "</dt><dd><code>");
    put_text(buf, value);
    kt_buf_puts(buf, "</code></dd></div>\n");
}

/* --- JSON, laid out for reading ----------------------------------------------------------- */

static void
new_line(struct kt_buf *buf, size_t depth)
{
    kt_buf_putc(buf, '\n');
    for (size_t i = 0; i < depth; i++)
        kt_buf_puts(buf, "  ");
}

/* The end of a string that begins at i, behind its closing quote. */
static size_t
string_end(struct kt_str json, size_t i)
{
    for (i++; i < json.n && json.p[i] != '"'; i++)
        if (json.p[i] == '\\')
            i++;
    return i < json.n ? i + 1 : json.n;
}

/* An object on lines of their own, a list of plain values on one line. json: valid, compact. */
static void
put_json(struct kt_buf *buf, struct kt_str json)
{
    size_t depth = 0, flat = 0; /* lists that stay on their line */
    for (size_t i = 0; i < json.n;) {
        char c = json.p[i];
        if (c == '"') {
            size_t end = string_end(json, i);
            put_escaped(buf, (struct kt_str){ json.p + i, end - i });
            i = end;
            continue;
        }
        bool is_empty = i + 1 < json.n && (json.p[i + 1] == '}' || json.p[i + 1] == ']');
        bool is_plain = c == '[' && i + 1 < json.n && json.p[i + 1] != '{';
        if (c == ']' && flat)
            flat--;
        else if ((c == '}' || c == ']') && json.p[i - 1] != c - 2)
            new_line(buf, --depth);
        kt_buf_putc(buf, c);
        if (is_plain)
            flat++;
        else if ((c == '{' || c == '[') && !is_empty)
            new_line(buf, ++depth);
        else if (c == ',' && !flat)
            new_line(buf, depth);
        else if (c == ',' || c == ':')
            kt_buf_putc(buf, ' ');
        i++;
    }
}

/* --- tables of members -------------------------------------------------------------------- */

static const char *
type_name(enum kt_type type)
{
    switch (type) {
    case KT_T_BOOL: return "boolean";
    case KT_T_INT: return "integer";
    case KT_T_TIME: return "date-time";
    case KT_T_STR:
    case KT_T_SECRET:
    case KT_T_SECRET_VIEW: return "string";
    case KT_T_STRLIST:
    case KT_T_SECRET_LIST: return "list of strings";
    case KT_T_OBJECT:
    case KT_T_LIST:
    case KT_T_ANY: break;
    }
    return "any value";
}

static void
put_type(struct kt_buf *buf, const struct kt_field *f)
{
    if (f->shape)
        kt_buf_printf(buf, "%s<a href=\"#%s\">%s</a>", f->type == KT_T_LIST ? "list of " : "",
                      f->shape->name, f->shape->name);
    else
        kt_buf_puts(buf, type_name(f->type));
    if (f->flags & KT_NULLABLE)
        kt_buf_puts(buf, " or null");
}

static void
put_limits(struct kt_buf *buf, const struct kt_field *f)
{
    const char *unit = f->type == KT_T_INT ? "" : f->type == KT_T_STR ? " characters" : " items";
    if (f->bounded && f->min > 0)
        kt_buf_printf(buf, " <small>%lld to %lld%s.</small>", (long long)f->min, (long long)f->max,
                      unit);
    else if (f->bounded)
        kt_buf_printf(buf, " <small>At most %lld%s.</small>", (long long)f->max, unit);
    if (f->pattern) {
        kt_buf_puts(buf, " <small><code>");
        put_text(buf, f->pattern);
        kt_buf_puts(buf, "</code></small>");
    }
}

static void
put_field(struct kt_buf *buf, const struct kt_field *f, bool input)
{
    kt_buf_printf(buf, "<tr><th scope=\"row\"><code>%s</code></th><td>", f->name);
    put_type(buf, f);
    kt_buf_puts(buf, "</td><td>");
    if ((f->flags & KT_REQUIRED) && input)
        kt_buf_puts(buf, "<strong>Required.</strong> ");
    put_text(buf, f->doc);
    put_limits(buf, f);
    if ((f->flags & KT_READONLY) && !input)
        kt_buf_puts(buf, " <small>Read-only.</small>");
    kt_buf_puts(buf, "</td></tr>\n");
}

static void
begin_table(struct kt_buf *buf, const char *caption, const char *a, const char *b, const char *c)
{
    kt_buf_puts(buf, "<div class=\"wide\"><table>");
    if (caption)
        put_in(buf, "caption", caption);
    kt_buf_printf(buf, "<thead><tr><th scope=\"col\">%s</th><th scope=\"col\">%s</th>"
                       "<th scope=\"col\">%s</th></tr></thead><tbody>\n", a, b, c);
}

static void
end_table(struct kt_buf *buf)
{
    kt_buf_puts(buf, "</tbody></table></div>\n");
}

static bool
is_shown(const struct kt_field *f, enum kt_place place)
{
    return f->place == place && !(f->flags & KT_READONLY);
}

static void
put_fields(struct kt_buf *buf, const struct kt_op_spec *spec, enum kt_place place,
           const char *caption)
{
    if (!explain_has(spec, place))
        return;
    begin_table(buf, caption, "Name", "Type", "Meaning");
    for (const struct kt_field *f = spec->in->fields; f->name; f++)
        if (is_shown(f, place))
            put_field(buf, f, true);
    end_table(buf);
}

/* --- examples ----------------------------------------------------------------------------- */

/* For the shell, in single quotes; examples have none of their own. */
static void
put_quoted_input(struct kt_buf *buf, const struct kt_op_spec *spec, bool flat)
{
    struct kt_buf json;
    kt_buf_init(&json, 4096);
    explain_put_input(&json, spec, flat);
    if (!flat || json.n > 2) {
        kt_buf_puts(buf, " '");
        put_escaped(buf, kt_buf_str(&json));
        kt_buf_putc(buf, '\'');
    }
    kt_buf_done(&json);
}

static void
put_curl(struct kt_buf *buf, const struct kt_op_spec *spec)
{
    const char *method = explain_method(spec);
    kt_buf_puts(buf, "curl ");
    if (strcmp(method, "GET") != 0)
        kt_buf_printf(buf, "-X %s ", method);
    kt_buf_puts(buf, "&quot;$KAITEN_URL/api");
    explain_put_path(buf, spec);
    kt_buf_puts(buf, "&quot;");
    if (explain_takes_caller(spec))
        kt_buf_puts(buf, " \\\n  -H &quot;Authorization: Bearer $KAITEN_TOKEN&quot;");
    if (spec->body == KT_BODY_NONE)
        return;
    kt_buf_puts(buf, " \\\n  -H &quot;Content-Type: application/json&quot; \\\n  -d");
    put_quoted_input(buf, spec, false);
}

static void
put_ctl(struct kt_buf *buf, const struct kt_op_spec *spec)
{
    kt_buf_printf(buf, "kaitenctl call %s", spec->name);
    put_quoted_input(buf, spec, true);
}

static void
put_examples(struct kt_buf *buf, const struct kt_op_spec *spec)
{
    kt_buf_puts(buf, "<pre><code>");
    if (spec->http_method)
        put_curl(buf, spec);
    if (spec->http_method && spec->socket)
        kt_buf_puts(buf, "\n\n# the same through the local socket\n");
    if (spec->socket)
        put_ctl(buf, spec);
    kt_buf_puts(buf, "</code></pre>\n");
}

/* --- answers ------------------------------------------------------------------------------ */

static void
put_success(struct kt_buf *buf, const struct kt_op_spec *spec)
{
    kt_buf_printf(buf, "<p>Answers <strong>%d</strong>", spec->http_ok ? spec->http_ok : 200);
    if (spec->out)
        kt_buf_printf(buf, " with <a href=\"#%s\">%s</a>:", spec->out->name, spec->out->name);
    else if (spec->media)
        kt_buf_printf(buf, " with <code>%s</code>.", spec->media);
    else if (spec->loose)
        kt_buf_puts(buf, " with an object.");
    else
        kt_buf_puts(buf, " with nothing more.");
    kt_buf_puts(buf, "</p>\n");
    if (!spec->out)
        return;
    struct kt_buf json;
    kt_buf_init(&json, 64 * 1024);
    explain_put_result(&json, spec);
    kt_buf_puts(buf, "<pre><code>");
    put_json(buf, kt_buf_str(&json));
    kt_buf_puts(buf, "</code></pre>\n");
    kt_buf_done(&json);
}

static void
put_refusals(struct kt_buf *buf, const struct kt_op_spec *spec)
{
    struct kt_op_error errors[EXPLAIN_ERRORS_MAX];
    size_t n = explain_errors(spec, errors);
    char text[EXPLAIN_DETAIL_MAX];
    kt_buf_puts(buf, "<details><summary>How it is refused</summary>\n");
    begin_table(buf, NULL, "Status", "Code", "For example");
    for (size_t i = 0; i < n; i++) {
        const struct kt_kind_info *info = kt_kind_info(errors[i].kind);
        if (!errors[i].code && !errors[i].detail)
            continue;
        kt_buf_printf(buf, "<tr><td>%d</td><td><code>%s</code></td><td>", info->http,
                      errors[i].code ? errors[i].code : info->code);
        put_escaped(buf, explain_detail(spec, &errors[i], text));
        kt_buf_puts(buf, "</td></tr>\n");
    }
    end_table(buf);
    kt_buf_puts(buf, "</details>\n");
}

/* --- operations --------------------------------------------------------------------------- */

static void
put_path(struct kt_buf *buf, const char *path)
{
    for (; *path; path++) {
        if (*path == '{')
            kt_buf_puts(buf, "<var>{");
        else if (*path == '}')
            kt_buf_puts(buf, "}</var>");
        else
            kt_buf_putc(buf, *path);
    }
}

static void
put_heading(struct kt_buf *buf, const struct kt_op_spec *spec)
{
    if (!spec->http_method) {
        kt_buf_printf(buf, "<h3><code>%s</code></h3>\n", spec->name);
        return;
    }
    const char *method = explain_method(spec);
    kt_buf_printf(buf, "<h3><b class=\"%s\">%s</b> <code>", method, method);
    put_path(buf, spec->http_path);
    kt_buf_puts(buf, "</code></h3>\n");
}

static const char *
anchor(const struct kt_op_spec *spec)
{
    return spec->id ? spec->id : spec->name;
}

static void
put_operation(struct kt_buf *buf, const struct kt_op_spec *spec)
{
    kt_buf_printf(buf, "<article id=\"%s\">\n", anchor(spec));
    put_heading(buf, spec);
    put_in(buf, "p", spec->doc);
    kt_buf_puts(buf, "\n<dl>\n");
    if (spec->http_method)
        put_row(buf, "Name", spec->name);
    if (spec->scope)
        put_row(buf, "Scope", spec->scope);
    kt_buf_printf(buf, "<div><dt>Caller</dt><dd>%s</dd></div>\n",
                  explain_takes_caller(spec) ? "with a credential" : "anybody");
    if (explain_takes_key(spec))
        kt_buf_puts(buf, "<div><dt>Header</dt><dd><code>Idempotency-Key</code>, if you like</dd>"
                         "</div>\n");
    kt_buf_puts(buf, "</dl>\n");
    put_fields(buf, spec, KT_PATH, "In the path");
    put_fields(buf, spec, KT_QUERY, "In the query");
    put_fields(buf, spec, KT_BODY, spec->http_method ? "In the body" : "Arguments");
    put_examples(buf, spec);
    put_success(buf, spec);
    put_refusals(buf, spec);
    kt_buf_puts(buf, "</article>\n");
}

static bool
is_in(const struct kt_op_spec *spec, const struct explain_group *group)
{
    /* NULL stands for those that HTTP does not have. */
    return group ? spec->http_method && explain_group(spec) == group : !spec->http_method;
}

static void
put_group(struct kt_buf *buf, const struct explain_group *group, const char *title, const char *doc)
{
    kt_buf_puts(buf, "<section>\n");
    put_in(buf, "h2", title);
    put_in(buf, "p", doc);
    kt_buf_putc(buf, '\n');
    for (size_t i = 0; i < KT_OP_COUNT; i++)
        if (is_in(&kt_op_specs[i], group))
            put_operation(buf, &kt_op_specs[i]);
    kt_buf_puts(buf, "</section>\n");
}

/* --- the page ----------------------------------------------------------------------------- */

static const char socket_title[] = "On the socket only";

static void
put_links(struct kt_buf *buf, const struct explain_group *group, const char *title)
{
    put_in(buf, "h2", title);
    kt_buf_puts(buf, "\n<ul>\n");
    for (size_t i = 0; i < KT_OP_COUNT; i++)
        if (is_in(&kt_op_specs[i], group))
            kt_buf_printf(buf, "<li><a href=\"#%s\">%s</a></li>\n", anchor(&kt_op_specs[i]),
                          kt_op_specs[i].name);
    kt_buf_puts(buf, "</ul>\n");
}

static void
put_nav(struct kt_buf *buf, const struct kt_shape *const shapes[], size_t n)
{
    kt_buf_puts(buf, "<nav aria-label=\"Contents\">\n");
    for (size_t i = 0; i < EXPLAIN_GROUPS; i++)
        put_links(buf, &explain_groups[i], explain_groups[i].title);
    put_links(buf, NULL, socket_title);
    kt_buf_puts(buf, "<h2>Objects</h2>\n<ul>\n");
    for (size_t i = 0; i < n; i++)
        kt_buf_printf(buf, "<li><a href=\"#%s\">%s</a></li>\n", shapes[i]->name, shapes[i]->name);
    kt_buf_puts(buf, "</ul>\n</nav>\n");
}

static void
put_object(struct kt_buf *buf, const struct kt_shape *shape)
{
    kt_buf_printf(buf, "<article id=\"%s\">\n<h3><code>%s</code></h3>\n", shape->name, shape->name);
    begin_table(buf, NULL, "Member", "Type", "Meaning");
    for (const struct kt_field *f = shape->fields; f->name; f++)
        if (f->place == KT_BODY)
            put_field(buf, f, false);
    end_table(buf);
    kt_buf_puts(buf, "</article>\n");
}

/* Each %s: the way up to the folder that the other documents are in. */
static const char head[] =
    "<!DOCTYPE html>\n"
    "<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n"
    "<title>kaitend " PACKAGE_VERSION "</title>\n"
    "<link rel=\"stylesheet\" href=\"%sdocs/style.css\">\n</head>\n<body>\n"
    "<a class=\"skip\" href=\"#start\">Skip the contents</a>\n"
    "<header>\n<h1>kaitend <small>" PACKAGE_VERSION "</small></h1>\n"
    "<p>Service accounts and their API tokens: mint, rotate, revoke, verify. "
    "For programs there is the same as <a href=\"%sopenapi.json\">OpenAPI 3.1</a>.</p>\n"
    "</header>\n";

static const char introduction[] =
    "<section id=\"start\">\n<h2>Before you start</h2>\n"
    "<p>Say where the server is, and who you are: a JWT of an issuer that it trusts, or a token "
    "that it has minted.</p>\n"
    "<pre><code>export KAITEN_URL=https://tokens.example.org KAITEN_TOKEN=ksh_…</code></pre>\n"
    "<ul>\n"
    "<li>Every path is served with and without <code>/api</code> before it; a slash at its end "
    "changes nothing, but what is open to anybody then asks who calls.</li>\n"
    "<li>Bodies are JSON. An unknown member is refused; a read-only one may be sent back and is "
    "ignored; <code>null</code> for an optional one is its absence. Unknown "
    "query parameters are ignored.</li>\n"
    "<li>Instants are RFC 3339; what comes back is in UTC.</li>\n"
    "<li>Lists are pages, newest first: while <code>hasMore</code>, send <code>nextCursor</code> "
    "as <code>cursor</code>.</li>\n"
    "<li>A refusal is problem details (RFC 9457): its <code>code</code> is for programs, its "
    "<code>detail</code> for people. See <a href=\"#Problem\">Problem</a>.</li>\n"
    "<li>With an <code>Idempotency-Key</code>, the same request gets the same answer once more for "
    "ten minutes, a secret included.</li>\n"
    "<li>On the local socket the same operations are called by name (MessagePack-RPC, one map of "
    "all parameters), and the kernel says who calls.</li>\n"
    "</ul>\n</section>\n";

void
docs_print(struct kt_buf *buf, const char *up)
{
    const struct kt_shape *shapes[EXPLAIN_SHAPES_MAX];
    size_t n = explain_shapes(shapes, true);
    kt_buf_printf(buf, head, up, up);
    put_nav(buf, shapes, n);
    kt_buf_puts(buf, "<main>\n");
    kt_buf_puts(buf, introduction);
    for (size_t i = 0; i < EXPLAIN_GROUPS; i++)
        put_group(buf, &explain_groups[i], explain_groups[i].title, explain_groups[i].doc);
    put_group(buf, NULL, socket_title, "What needs the local socket, and its own methods.");
    kt_buf_puts(buf, "<section>\n<h2>Objects</h2>\n");
    for (size_t i = 0; i < n; i++)
        put_object(buf, shapes[i]);
    kt_buf_puts(buf, "</section>\n</main>\n</body>\n</html>\n");
}

/* --- how it looks ------------------------------------------------------------------------- */

const char docs_style[] =
    ":root {\n"
    "  color-scheme: light dark;\n"
    "  --ink: #1c2127; --dim: #5b6672; --paper: #ffffff; --panel: #f4f6f8; --line: #dde2e7;\n"
    "  --link: #0b5cad; --get: #0b6e4f; --post: #0b5cad; --put: #8a5a00; --delete: #b3261e;\n"
    "}\n"
    "@media (prefers-color-scheme: dark) {\n"
    "  :root {\n"
    "    --ink: #e4e8ec; --dim: #9aa6b2; --paper: #14181c; --panel: #1d2329; --line: #323a42;\n"
    "    --link: #7ab8ff; --get: #5fd0a5; --post: #7ab8ff; --put: #e5b25d; --delete: #ff8a80;\n"
    "  }\n"
    "}\n"
    "* { box-sizing: border-box; }\n"
    "html { scroll-padding-top: 1rem; }\n"
    "body {\n"
    "  margin: 0 auto; max-width: 76rem; padding: 0 1.25rem 4rem;\n"
    "  color: var(--ink); background: var(--paper);\n"
    "  font: 1rem/1.55 system-ui, sans-serif;\n"
    "}\n"
    "header { padding: 2rem 0 1rem; border-bottom: 1px solid var(--line); }\n"
    "h1 { margin: 0; font-size: 1.9rem; letter-spacing: -.02em; }\n"
    "h1 small { color: var(--dim); font-size: 1rem; font-weight: normal; letter-spacing: 0; }\n"
    "header p { margin: .4rem 0 0; color: var(--dim); }\n"
    "a { color: var(--link); text-underline-offset: .15em; }\n"
    ".skip { position: absolute; left: -99rem; }\n"
    ".skip:focus { left: 1rem; top: .5rem; }\n"
    "main h2 { margin: 3rem 0 .25rem; font-size: 1.4rem; letter-spacing: -.01em; }\n"
    "#start h2 { margin-top: 1rem; }\n"
    "h3 { margin: 0; font-size: 1.05rem; overflow-wrap: anywhere; }\n"
    "h3 code { font-size: 1em; background: none; padding: 0; }\n"
    "h3 var { color: var(--dim); font-style: normal; font-weight: normal; }\n"
    "h3 b { display: inline-block; min-width: 4.2em; font: 700 .8em/1.9 ui-monospace, monospace;\n"
    "  text-align: center; border: 1px solid; border-radius: .3rem; margin-right: .4rem; }\n"
    ".GET { color: var(--get); } .POST { color: var(--post); }\n"
    ".PUT { color: var(--put); } .DELETE { color: var(--delete); }\n"
    "article { margin: 1.25rem 0; padding: 1.1rem 1.25rem; border: 1px solid var(--line);\n"
    "  border-radius: .6rem; }\n"
    "article:target { border-color: var(--link); }\n"
    "article > p { margin: .6rem 0; }\n"
    "dl { display: flex; flex-wrap: wrap; gap: .2rem 1.5rem; margin: .6rem 0; font-size: .9rem; }\n"
    "dl div { display: flex; gap: .5rem; }\n"
    "dt { color: var(--dim); }\n"
    "dd { margin: 0; }\n"
    "code { font: .9em ui-monospace, monospace; background: var(--panel); border-radius: .25rem;\n"
    "  padding: .1em .3em; overflow-wrap: anywhere; }\n"
    "th code, details td code { white-space: nowrap; }\n"
    "pre { margin: .8rem 0; padding: .8rem 1rem; overflow-x: auto; background: var(--panel);\n"
    "  border-radius: .4rem; font-size: .9rem; line-height: 1.5; }\n"
    "pre code { background: none; padding: 0; overflow-wrap: normal; }\n"
    ".wide { overflow-x: auto; margin: .8rem 0; }\n"
    "table { width: 100%; border-collapse: collapse; font-size: .9rem; }\n"
    "caption { text-align: left; font-weight: 600; padding: .3rem 0; }\n"
    "th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0;\n"
    "  border-bottom: 1px solid var(--line); font-weight: normal; }\n"
    "thead th { color: var(--dim); font-size: .85em; }\n"
    "td small { color: var(--dim); }\n"
    "tbody tr:last-child > * { border-bottom: 0; }\n"
    "summary { cursor: pointer; color: var(--dim); font-size: .9rem; }\n"
    "nav h2 { margin: 1.1rem 0 .2rem; font-size: .8rem; color: var(--dim); }\n"
    "nav ul { margin: 0; padding: 0; list-style: none; font-size: .9rem; }\n"
    "nav a { text-decoration: none; display: block; padding: .1rem 0; overflow-wrap: anywhere; }\n"
    "nav a:hover { text-decoration: underline; }\n"
    "@media (min-width: 60rem) {\n"
    "  body { display: grid; grid-template-columns: 12rem minmax(0, 1fr); gap: 0 3rem; }\n"
    "  header { grid-column: 1 / -1; }\n"
    "  nav { position: sticky; top: 0; align-self: start; max-height: 100vh; overflow-y: auto;\n"
    "    padding: .5rem 0 2rem; }\n"
    "}\n"
    "@media (max-width: 59.99rem) {\n"
    "  nav ul { columns: 10rem; }\n"
    "}\n"
    "@media print {\n"
    "  nav { display: none; }\n"
    "  body { display: block; max-width: none; }\n"
    "  article { break-inside: avoid; }\n"
    "  pre { white-space: pre-wrap; }\n"
    "}\n";
