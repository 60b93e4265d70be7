/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-jwt/source.h"

#include "plugins/auth-jwt/fetch.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>

enum {
    SETTLE_S = 2,        /* two changes within the resolution of the file's time look like one */
    RETRY_FIRST_MS = 1000
};

void
source_done(struct source *s)
{
    free(s->place);
    free(s->ca);
    free(s->kid);
    key_set_done(&s->keys);
    *s = (struct source){ 0 };
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mode == b->st_mode && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Is there a reason to read the file? Remembers it as it is now. */
static bool
file_moved(struct source *s)
{
    struct stat st = { 0 };
    (void)stat(s->place, &st); /* a file that is not there looks like zeros, and reading says why */
    bool moved = !s->is_settled || !same_file(&st, &s->seen);
    s->seen = st;
    s->is_settled = time(NULL) - st.st_ctim.tv_sec > SETTLE_S;
    return moved;
}

static bool
get_text(const struct source *s, const struct source_look *look, struct keyfile *ret,
         struct key_why *ret_why)
{
    if (s->kind != SOURCE_URL)
        return keyfile_read(s->place, 0, ret, ret_why);
    const struct fetch f = { s->place, s->ca, look->timeout_ms, look->stop };
    return fetch_get(&f, ret, ret_why);
}

static bool
read_keys(const struct source *s, struct keyfile *text, key_log *log, struct key_set *ret_fresh,
          struct key_why *ret_why)
{
    if (s->kind == SOURCE_KEY)
        return key_set_add_text(ret_fresh, text, s->alg, s->kid, 0, ret_why);
    const struct jwk_origin origin = { .name = s->place,
                                       .mode = text->mode,
                                       .flags = s->kind == SOURCE_URL ? KEY_PUBLIC : 0,
                                       .alg = s->alg,
                                       .log = log };
    return jwk_read(ret_fresh, text->p, text->n, &origin, ret_why);
}

enum source_news
source_read(struct source *s, const struct source_look *look, struct key_set *ret_fresh,
            struct key_why *ret_why)
{
    struct keyfile text = { 0 };
    struct key_why inner = { "" };
    unsigned char digest[32];
    bool must = atomic_exchange(&s->again, false) || look->must;
    if (s->kind != SOURCE_URL && !file_moved(s) && !must)
        return SOURCE_SAME;
    bool good = get_text(s, look, &text, &inner) &&
                (EVP_Digest(text.p, text.n, digest, NULL, EVP_sha256(), NULL) == 1 ||
                 key_refuse(&inner, "OpenSSL has no SHA-256"));
    bool same = good && s->has_keys && !s->complaint[0] && text.mode == s->mode &&
                memcmp(digest, s->digest, sizeof(digest)) == 0;
    if (good && !same)
        good = read_keys(s, &text, look->log, ret_fresh, &inner);
    mode_t mode = text.mode;
    keyfile_done(&text);
    if (!good) {
        key_refuse(ret_why, "%.120s: %.120s", s->place, inner.text);
        return SOURCE_FAILED;
    }
    memcpy(s->digest, digest, sizeof(digest));
    s->mode = mode;
    return same ? SOURCE_SAME : SOURCE_FRESH;
}

void
source_keep(struct source *s, struct key_set *take_fresh, int64_t now_ms)
{
    key_set_done(&s->keys);
    s->keys = *take_fresh;
    *take_fresh = (struct key_set){ 0 };
    s->has_keys = true;
    s->fetched_ms = now_ms;
    s->failures = 0;
    s->complaint[0] = 0;
}

int64_t
source_next_ms(const struct source *s, const struct source_times *times)
{
    if (s->tried_ms == 0)
        return 0;
    if (s->failures == 0)
        return s->tried_ms + times->refresh;
    int64_t wait = RETRY_FIRST_MS << (s->failures < 16 ? s->failures - 1 : 15);
    return s->tried_ms + (wait < times->refresh ? wait : times->refresh);
}
