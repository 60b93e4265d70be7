/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/route.h"

#include "daemon/transport/http_head.h"

enum { SEGMENTS_MAX = 6, NAMES = 128, METHOD_KEPT = 8 };

/* A path of the table, cut at its slashes; a segment in braces is a parameter. */
struct pattern {
    struct kt_str segments[SEGMENTS_MAX];
    size_t n;
};

static struct pattern patterns[KT_OP_COUNT];

/* Open addressing by hash of the name. */
static struct {
    struct kt_str text;
    const struct kt_op_spec *spec;
} names[NAMES];

static uint32_t
hash(struct kt_str s)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * 16777619u;
    return h;
}

/* False: more segments than any route has. */
static bool
cut(struct kt_str path, struct pattern *ret)
{
    ret->n = 0;
    const char *p = path.p, *end = path.p + path.n;
    while (p < end) {
        const char *start = p + 1;
        const char *slash = start < end ? memchr(start, '/', (size_t)(end - start)) : NULL;
        const char *stop = slash ? slash : end;
        if (ret->n == SEGMENTS_MAX)
            return false;
        ret->segments[ret->n++] = (struct kt_str){ start, (size_t)(stop - start) };
        p = stop;
    }
    return true;
}

static void
add_name(const struct kt_op_spec *spec)
{
    uint32_t i = hash(kt_str(spec->name));
    while (names[i % NAMES].spec)
        i++;
    names[i % NAMES].text = kt_str(spec->name);
    names[i % NAMES].spec = spec;
}

void
route_init(void)
{
    _Static_assert(NAMES > 2 * KT_OP_COUNT, "room for every name");
    memset(names, 0, sizeof names);
    for (size_t i = 0; i < KT_OP_COUNT; i++) {
        const struct kt_op_spec *spec = &kt_op_specs[i];
        if (spec->http_path)
            cut(kt_str(spec->http_path), &patterns[i]);
        if (spec->socket)
            add_name(spec);
    }
}

const struct kt_op_spec *
route_name(struct kt_str name)
{
    /* Each request looks its name up more than once, and the next request often has the same
     * one. */
    static _Thread_local uint32_t last;
    if (names[last].spec && kt_str_eq(name, names[last].text))
        return names[last].spec;
    for (uint32_t i = hash(name); names[i % NAMES].spec; i++) {
        if (!kt_str_eq(name, names[i % NAMES].text))
            continue;
        last = i % NAMES;
        return names[last].spec;
    }
    return NULL;
}

static bool
is_parameter(struct kt_str segment)
{
    return segment.n > 2 && segment.p[0] == '{';
}

static bool
matches(const struct pattern *pattern, const struct pattern *path)
{
    if (pattern->n == 0 || pattern->n != path->n)
        return false;
    for (size_t i = 0; i < path->n; i++) {
        struct kt_str segment = path->segments[i];
        bool fits = is_parameter(pattern->segments[i])
                        ? segment.n != 0 /* no method has an empty name */
                        : kt_str_eq(pattern->segments[i], segment);
        if (!fits)
            return false;
    }
    return true;
}

static bool
method_fits(const struct kt_op_spec *spec, struct kt_str method)
{
    if (kt_str_is(KT_LIT("*"), spec->http_method) || kt_str_is(method, spec->http_method))
        return true;
    return kt_str_is(method, "HEAD") && kt_str_is(KT_LIT("GET"), spec->http_method);
}

/* "GET, HEAD, POST" of every row with this path. */
static struct kt_str
allowed(const struct pattern *path, struct kt_arena *arena)
{
    struct kt_str list = { NULL, 0 };
    for (size_t i = 0; i < KT_OP_COUNT; i++) {
        if (!matches(&patterns[i], path))
            continue;
        const char *m = kt_op_specs[i].http_method;
        const char *more = kt_str_is(KT_LIT("GET"), m) ? "GET, HEAD" : m;
        list = kt_arena_printf(arena, "%.*s%s%s", KT_FMT(list), list.n ? ", " : "", more);
    }
    return list;
}

static enum route_result
take_params(const struct pattern *pattern, const struct pattern *path, struct kt_arena *arena,
            struct route *ret)
{
    size_t n = 0;
    for (size_t i = 0; i < path->n; i++) {
        struct kt_str name = pattern->segments[i];
        if (!is_parameter(name))
            continue;
        struct kt_str value;
        int status = http_percent_decode(arena, path->segments[i], &value);
        if (status != 0)
            return status == 503 ? ROUTE_NO_MEMORY : ROUTE_BAD_PATH;
        ret->params[n++] = (struct kt_param){ { name.p + 1, name.n - 2 }, value };
    }
    ret->nparams = n;
    return ROUTE_FOUND;
}

/* Each request asks for its route twice, and the next one often has the same: what was found last
 * under a path without parameters. */
static _Thread_local struct {
    const struct kt_op_spec *spec; /* NULL: nothing yet */
    struct kt_str path;            /* the table's */
    char method[METHOD_KEPT];
    size_t n; /* of method */
} last;

static bool
is_last(struct kt_str method, struct kt_str path)
{
    return last.spec && kt_str_eq(path, last.path) &&
           kt_str_eq(method, (struct kt_str){ last.method, last.n });
}

static void
remember(struct kt_str method, struct kt_str path, const struct kt_op_spec *spec)
{
    struct kt_str own = kt_str(spec->http_path);
    bool fixed = kt_str_eq(path, own) && !memchr(own.p, '{', own.n);
    if (!fixed || method.n == 0 || method.n > METHOD_KEPT)
        return;
    last.spec = spec;
    last.path = own;
    last.n = method.n;
    memcpy(last.method, method.p, method.n);
}

/* A slash at the end changes nothing, as in the reference. */
static struct kt_str
without_prefix(struct kt_str path)
{
    if (path.n > 1 && path.p[path.n - 1] == '/')
        path.n--;
    if (path.n > 5 && memcmp(path.p, "/api/", 5) == 0)
        return (struct kt_str){ path.p + 4, path.n - 4 };
    return path;
}

enum route_result
route_http(struct kt_str method, struct kt_str path, struct kt_arena *arena, struct route *ret)
{
    struct pattern asked;
    path = without_prefix(path);
    if (is_last(method, path)) {
        ret->spec = last.spec;
        if (arena)
            ret->nparams = 0;
        return ROUTE_FOUND;
    }
    if (!cut(path, &asked))
        return ROUTE_UNKNOWN;
    bool path_known = false;
    for (size_t i = 0; i < KT_OP_COUNT; i++) {
        if (!matches(&patterns[i], &asked))
            continue;
        path_known = true;
        if (!method_fits(&kt_op_specs[i], method))
            continue;
        enum route_result result =
            arena ? take_params(&patterns[i], &asked, arena, ret) : ROUTE_FOUND;
        if (result != ROUTE_FOUND)
            return result;
        ret->spec = &kt_op_specs[i];
        remember(method, path, ret->spec);
        return ROUTE_FOUND;
    }
    if (!path_known)
        return ROUTE_UNKNOWN;
    if (arena)
        ret->allow = allowed(&asked, arena);
    return ROUTE_METHOD;
}
