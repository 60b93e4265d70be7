/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/ops/page.h"

#include "daemon/service.h"

int
page_begin(struct request *rq, const char *invalid_code, struct page *ret)
{
    const struct kt_in_page *in = &rq->in.page;
    ret->limit = in->limit == KT_NO_INT ? KT_PAGE_DEFAULT : (size_t)in->limit;
    ret->below = NULL;
    if (!in->cursor.p || in->cursor.n == 0)
        return KT_OK;
    if (!cursor_decode(in->cursor, &ret->cursor))
        return fail(&rq->call, KT_VALIDATION, invalid_code, "invalid cursor");
    ret->below = &ret->cursor;
    return KT_OK;
}

int
page_end(struct request *rq, const struct page *page, const void *items, size_t n,
         const struct uuid *last_id, int64_t last_ms)
{
    struct kt_page *out = &rq->out.page;
    out->items = (struct kt_list){ items, n > page->limit ? page->limit : n, KT_SET };
    out->has_more = last_id != NULL;
    if (!last_id)
        return KT_OK;
    char text[CURSOR_TEXT_MAX];
    const struct cursor next = { { last_ms }, *last_id };
    size_t length = cursor_encode(&next, text);
    out->next_cursor = kt_arena_str(rq->call.arena, (struct kt_str){ text, length });
    return out->next_cursor.p ? KT_OK : fail_memory(&rq->call);
}
