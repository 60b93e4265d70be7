/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/scope.h"

#include <stdlib.h>

enum { MODULE_MAX = 64 };

#define NAME(s) { "" s, sizeof(s) - 1 }

static const struct kt_str modules[] = {
    NAME("feature_flags"),    NAME("instances"),       NAME("licenses"), NAME("entitlements"),
    NAME("components"),       NAME("customers"),       NAME("deployment_zones"),
    NAME("metadata_fields"),  NAME("releases"),        NAME("users"),    NAME("organizations"),
    NAME("tokens"),           NAME("webhooks"),        NAME("memberships"),
    NAME("notifications"),    NAME("billing"),         NAME("addons"),
};

enum { MODULE_COUNT = sizeof(modules) / sizeof(modules[0]) };

const struct scope_modules scope_modules_default = { modules, MODULE_COUNT };

static const struct kt_str actions[] = { NAME("read"), NAME("write"), NAME("delete") };

/* Both sides of the first colon. */
static bool
split(struct kt_str scope, struct kt_str *action, struct kt_str *module)
{
    const char *colon = scope.n == 0 ? NULL : memchr(scope.p, ':', scope.n);
    if (colon == NULL)
        return false;
    *action = (struct kt_str){ scope.p, (size_t)(colon - scope.p) };
    *module = (struct kt_str){ colon + 1, scope.n - action->n - 1 };
    return true;
}

bool
scope_module_is_valid(struct kt_str module)
{
    if (module.n < 1 || module.n > MODULE_MAX || module.p[0] < 'a' || module.p[0] > 'z')
        return false;
    for (size_t i = 1; i < module.n; i++) {
        char c = module.p[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_')
            return false;
    }
    return true;
}

static bool
is_among(const struct kt_str *v, size_t n, struct kt_str what)
{
    for (size_t i = 0; i < n; i++) {
        if (kt_str_eq(v[i], what))
            return true;
    }
    return false;
}

bool
scope_is_valid(const struct scope_modules *known, struct kt_str scope)
{
    struct kt_str action, module;
    return split(scope, &action, &module) &&
           is_among(actions, sizeof(actions) / sizeof(actions[0]), action) &&
           (kt_str_is(module, "*") || is_among(known->v, known->n, module));
}

static bool
permits(struct kt_str held, struct kt_str action, struct kt_str module)
{
    struct kt_str held_action, held_module;
    if (kt_str_is(held, "write:*"))
        return true;
    if (!kt_str_is(action, "read") || !split(held, &held_action, &held_module))
        return false;
    return kt_str_is(held, "read:*") ||
           (kt_str_is(held_action, "write") && kt_str_eq(held_module, module));
}

bool
scope_grants(const struct kt_str held[], size_t n, struct kt_str required)
{
    struct kt_str action, module;
    if (is_among(held, n, required))
        return true;
    if (!split(required, &action, &module))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (permits(held[i], action, module))
            return true;
    }
    return false;
}

bool
scope_list_covers(const struct kt_str held[], size_t nheld, const struct kt_str wanted[],
                  size_t nwanted, size_t *ret_missing)
{
    for (size_t i = 0; i < nwanted; i++) {
        if (scope_grants(held, nheld, wanted[i]))
            continue;
        if (ret_missing != NULL)
            *ret_missing = i;
        return false;
    }
    return true;
}

/* Memory for a list of texts, and the place where the next one goes. */
struct joined {
    char *p;
    size_t n;
};

static bool
joined_init(struct joined *j, struct kt_arena *arena, const struct kt_str v[], size_t n)
{
    size_t size = 1;
    for (size_t i = 0; i < n; i++)
        size += v[i].n + 2;
    j->p = kt_arena_alloc(arena, size);
    j->n = 0;
    return j->p != NULL;
}

static void
joined_add(struct joined *j, const char *separator, struct kt_str s)
{
    size_t n = j->n == 0 ? 0 : strlen(separator);
    memcpy(j->p + j->n, separator, n);
    j->n += n;
    if (s.n > 0)
        memcpy(j->p + j->n, s.p, s.n);
    j->n += s.n;
}

static struct kt_str
joined_text(struct joined *j)
{
    j->p[j->n] = '\0';
    return (struct kt_str){ j->p, j->n };
}

struct kt_str
scope_missing_text(struct kt_arena *arena, const struct kt_str held[], size_t nheld,
                   const struct kt_str wanted[], size_t nwanted)
{
    struct joined j;
    if (!joined_init(&j, arena, wanted, nwanted))
        return (struct kt_str){ NULL, 0 };
    for (size_t i = 0; i < nwanted; i++) {
        if (!scope_grants(held, nheld, wanted[i]))
            joined_add(&j, ", ", wanted[i]);
    }
    return joined_text(&j);
}

static struct kt_str
invalid_message(const struct scope_modules *known, struct kt_arena *arena, struct joined *bad)
{
    struct joined all;
    if (!joined_init(&all, arena, known->v, known->n))
        return (struct kt_str){ NULL, 0 };
    for (size_t i = 0; i < known->n; i++)
        joined_add(&all, ", ", known->v[i]);
    return kt_arena_printf(arena,
                           "invalid scopes: [%s]. Valid format is <action>:<module> where action "
                           "is [read, write, delete] and module is [%s, *]",
                           joined_text(bad).p, joined_text(&all).p);
}

bool
scope_list_check(const struct scope_modules *known, const struct kt_str scopes[], size_t n,
                 struct kt_arena *arena, struct kt_str *ret_message)
{
    size_t first = 0;
    while (first < n && scope_is_valid(known, scopes[first]))
        first++;
    if (first == n)
        return true;

    struct joined bad;
    *ret_message = (struct kt_str){ NULL, 0 };
    if (!joined_init(&bad, arena, scopes, n))
        return false;
    for (size_t i = first; i < n; i++) {
        if (!scope_is_valid(known, scopes[i]))
            joined_add(&bad, " ", scopes[i]);
    }
    *ret_message = invalid_message(known, arena, &bad);
    return false;
}

static int
compare(const void *a, const void *b)
{
    const struct kt_str *x = a, *y = b;
    int order = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
    return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

struct kt_strlist
scope_published(struct kt_arena *arena, const struct scope_modules *known)
{
    static const char *const verbs[] = { "read", "write" };
    struct kt_str *v = kt_arena_calloc(arena, 2 * known->n + 1, sizeof(*v));
    size_t n = 0;
    if (v == NULL)
        return (struct kt_strlist){ NULL, 0, KT_ABSENT };
    for (size_t i = 0; i < 2 * known->n; i++) {
        struct kt_str module = known->v[i / 2];
        if (kt_str_is(module, "users") || kt_str_is(module, "memberships"))
            continue;
        v[n] = kt_arena_printf(arena, "%s:%.*s", verbs[i % 2], KT_FMT(module));
        if (v[n++].p == NULL)
            return (struct kt_strlist){ NULL, 0, KT_ABSENT };
    }
    qsort(v, n, sizeof(*v), compare);
    return (struct kt_strlist){ v, n, KT_SET };
}
