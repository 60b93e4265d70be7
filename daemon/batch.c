/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/batch.h"

#include "daemon/seal.h"
#include "daemon/store.h"

struct batch *
batch_new(struct kt_arena *arena)
{
    struct batch *b = KT_ARENA_NEW(arena, struct batch);
    if (b)
        b->arena = arena;
    return b;
}

static void
add_cond(struct batch *b, struct kaiten_cond cond, struct refusal refuse_with)
{
    if (b->nconds == BATCH_CONDS_MAX || cond.key.n > KAITEN_KEY_MAX) {
        b->failed = true;
        return;
    }
    b->refusals[b->nconds] = refuse_with;
    b->conds[b->nconds++] = cond;
}

void
batch_if_at(struct batch *b, const struct store_row *row)
{
    const struct refusal again = { .kind = KT_OK };
    struct kaiten_bytes key = { row->key.p, row->key.n };
    add_cond(b, (struct kaiten_cond){ KAITEN_AT, key, row->revision }, again);
}

void
batch_if_absent(struct batch *b, struct kt_str key, struct refusal refuse_with)
{
    struct kaiten_bytes k = { key.p, key.n };
    add_cond(b, (struct kaiten_cond){ KAITEN_ABSENT, k, 0 }, refuse_with);
}

static void
add_write(struct batch *b, enum kaiten_write_type type, struct kt_str key, struct kt_str value)
{
    size_t most = b->sealed ? KAITEN_VALUE_MAX : KAITEN_VALUE_MAX - SEAL_HEAD;
    bool fits = b->nwrites < BATCH_WRITES_MAX && key.p && key.n <= KAITEN_KEY_MAX &&
                value.n <= most && (type == KAITEN_DELETE || value.p);
    if (!fits) {
        b->failed = true;
        return;
    }
    b->writes[b->nwrites++] =
        (struct kaiten_write){ type, { key.p, key.n }, { value.p, value.n } };
}

void
batch_set(struct batch *b, struct kt_str key, struct kt_str value)
{
    add_write(b, KAITEN_SET, key, value);
}

void
batch_delete(struct batch *b, struct kt_str key)
{
    add_write(b, KAITEN_DELETE, key, (struct kt_str){ NULL, 0 });
}

struct effect *
batch_effect(struct batch *b, enum effect_type type)
{
    static _Thread_local struct effect spill;
    struct effect *e = &spill;
    if (b->neffects < BATCH_EFFECTS_MAX)
        e = &b->effects[b->neffects++];
    else
        b->failed = true;
    *e = (struct effect){ .type = type };
    return e;
}
