/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/store_walk.h"

#include "daemon/service.h"

void
store_walk_begin(struct store_walk *w, char space)
{
    w->space = w->next[0] = space;
    w->nnext = 1;
}

struct piece {
    struct call *call;
    struct store_walk *walk;
    int (*each)(void *ctx, const struct store_row *);
    void *ctx;
    size_t seen;
};

static int
see(void *ctx, const struct store_row *row)
{
    struct piece *p = ctx;
    struct store_walk *w = p->walk;
    if (row->key.n + 1 > sizeof w->next)
        return fail_cause(p->call, KT_INTERNAL, NULL, "a key of space '%c' is too long", w->space);
    memcpy(w->next, row->key.p, row->key.n);
    w->next[row->key.n] = '\0'; /* its next neighbour */
    w->nnext = row->key.n + 1;
    p->seen++;
    return p->each(p->ctx, row);
}

int
store_walk_piece(struct call *call, struct store_walk *w, size_t limit,
                 int (*each)(void *ctx, const struct store_row *), void *ctx, bool *ret_last)
{
    struct piece p = { call, w, each, ctx, 0 };
    const char to = (char)(w->space + 1);
    char from[sizeof w->next]; /* of its own: next goes on meanwhile */
    memcpy(from, w->next, w->nnext);
    const struct store_range range = { { from, w->nnext }, { &to, 1 }, false, limit };
    int status = store_scan(call, call->svc->store, &range, see, &p);
    *ret_last = p.seen < limit;
    return status;
}

void
store_walk_skip(struct store_walk *w, size_t n)
{
    while (n > 1 && w->next[n - 1] == '\xff')
        n--;
    w->next[n - 1]++;
    w->nnext = n;
}
