/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Pages of a newest-first list: limit and cursor in, items and the next cursor out. */
#ifndef PAGE_H
#define PAGE_H

#include "daemon/model/cursor.h"
#include "daemon/request.h"

struct page {
    size_t limit;               /* items that the caller wants; read one more to know of more */
    const struct cursor *below; /* NULL: from the newest */
    struct cursor cursor;
};

/* From rq->in.page. KT_VALIDATION with this code when the cursor is none of ours. */
int page_begin(struct request *, const char *invalid_code, struct page *ret);

/* Fills rq->out.page with the first page->limit of n items. last_id and last_ms name the last item
 * that is kept when there are more; last_id NULL: there are none. */
int page_end(struct request *, const struct page *, const void *items, size_t n,
             const struct uuid *last_id, int64_t last_ms);

#endif
