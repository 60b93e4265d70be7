/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/ops/document.h"

#include "daemon/ops.h"
#include "daemon/service.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum { TAG_BYTES = 16, TAG_TEXT = 2 * TAG_BYTES + 1 };

struct document {
    struct kt_buf text;
    char tag[TAG_TEXT + 2]; /* in its quotes */
};

struct documents {
    struct document openapi, docs, docs_slash, style;
};

/* The same text has the same tag on every node. */
static bool
seal(struct document *d)
{
    unsigned char hash[TAG_BYTES];
    char hex[TAG_TEXT];
    if (d->text.failed)
        return false;
    crypto_generichash(hash, sizeof hash, (const unsigned char *)d->text.p, d->text.n, NULL, 0);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    snprintf(d->tag, sizeof d->tag, "\"%s\"", hex);
    return true;
}

static void
print_openapi(struct document *d, const struct scope_modules *modules)
{
    struct kt_arena arena;
    kt_arena_init(&arena, DOCUMENT_MAX);
    struct kt_strlist scopes = scope_published(&arena, modules);
    if (scopes.has == KT_SET)
        openapi_print(&d->text, &scopes);
    else
        d->text.failed = true;
    kt_arena_done(&arena);
}

struct documents *
documents_new(const struct scope_modules *modules)
{
    struct documents *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    kt_buf_init(&d->openapi.text, DOCUMENT_MAX);
    kt_buf_init(&d->docs.text, DOCUMENT_MAX);
    kt_buf_init(&d->docs_slash.text, DOCUMENT_MAX);
    kt_buf_init(&d->style.text, DOCUMENT_MAX);
    print_openapi(&d->openapi, modules);
    docs_print(&d->docs.text, "");
    docs_print(&d->docs_slash.text, "../");
    kt_buf_puts(&d->style.text, docs_style);
    if (seal(&d->openapi) && seal(&d->docs) && seal(&d->docs_slash) && seal(&d->style))
        return d;
    documents_free(d);
    return NULL;
}

void
documents_free(struct documents *d)
{
    if (!d)
        return;
    kt_buf_done(&d->openapi.text);
    kt_buf_done(&d->docs.text);
    kt_buf_done(&d->docs_slash.text);
    kt_buf_done(&d->style.text);
    free(d);
}

static int
answer(struct request *rq, const struct document *d)
{
    rq->out.text = (struct kt_text){ kt_buf_str(&d->text), kt_str(d->tag) };
    return KT_OK;
}

int
document_openapi(struct request *rq)
{
    return answer(rq, &rq->call.svc->documents->openapi);
}

/* With a slash at its end the path is a folder to whoever follows a link of the page. */
int
document_docs(struct request *rq)
{
    const struct documents *d = rq->call.svc->documents;
    bool slash = rq->path.n && rq->path.p[rq->path.n - 1] == '/';
    return answer(rq, slash ? &d->docs_slash : &d->docs);
}

int
document_style(struct request *rq)
{
    return answer(rq, &rq->call.svc->documents->style);
}
