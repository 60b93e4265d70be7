/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/journal_file.h"

#include "client/proto/bigend.h"
#include "client/proto/wipe.h"
#include "daemon/model/digest.h"

#include <sodium.h>
#include <stdio.h>

enum {
    FORMAT = 1,
    MAC_AT = 112,
    MAC_BYTES = JOURNAL_RECORD_BYTES - MAC_AT,
    KEY_BYTES = DIGEST_BYTES
};

static const unsigned char magic[8] = "KTNREVK\n";

/* --- MACs --------------------------------------------------------------------------------- */

static void
mac_of(const unsigned char key[KEY_BYTES], const unsigned char id[JOURNAL_ID_BYTES],
       const unsigned char before[MAC_BYTES], const unsigned char *record,
       unsigned char mac[MAC_BYTES])
{
    unsigned char text[JOURNAL_ID_BYTES + MAC_BYTES + MAC_AT];
    memcpy(text, id, JOURNAL_ID_BYTES);
    memcpy(text + JOURNAL_ID_BYTES, before, MAC_BYTES);
    memcpy(text + JOURNAL_ID_BYTES + MAC_BYTES, record, MAC_AT);
    crypto_generichash(mac, MAC_BYTES, text, sizeof text, key, KEY_BYTES);
}

static bool
is_authentic(const unsigned char key[KEY_BYTES], const unsigned char id[JOURNAL_ID_BYTES],
             const unsigned char before[MAC_BYTES], const unsigned char *record)
{
    unsigned char mac[MAC_BYTES];
    mac_of(key, id, before, record, mac);
    return digest_equal(mac, record + MAC_AT, MAC_BYTES);
}

/* --- writing ------------------------------------------------------------------------------ */

static const unsigned char nothing[MAC_BYTES]; /* before the header */

void
journal_put_header(const struct digest_keys *keys, struct journal_seen *seen,
                   unsigned char out[JOURNAL_RECORD_BYTES])
{
    unsigned char key[KEY_BYTES];
    memset(out, 0, JOURNAL_RECORD_BYTES);
    memcpy(out, magic, sizeof magic);
    kt_put_be(out + 8, FORMAT, 4);
    memcpy(out + 16, seen->id, JOURNAL_ID_BYTES);
    kt_put_be(out + 32, seen->floor, 8);
    kt_put_be(out + 40, seen->last, 8);
    kt_put_be(out + 48, seen->entries, 8);
    digest_subkey(keys, seen->key, DIGEST_USE_JOURNAL, key);
    mac_of(key, seen->id, nothing, out, out + MAC_AT);
    memcpy(seen->mac, out + MAC_AT, MAC_BYTES);
    kt_wipe(key, sizeof key);
}

void
journal_put_record(const struct journal_entry *e, unsigned char out[JOURNAL_RECORD_BYTES])
{
    memset(out, 0, JOURNAL_RECORD_BYTES);
    kt_put_be(out, e->number, 8);
    kt_put_be(out + 8, (uint64_t)e->type, 4);
    kt_put_be(out + 12, e->epoch, 4);
    kt_put_be(out + 16, (uint64_t)e->at_ms, 8);
    kt_put_be(out + 24, (uint64_t)e->ends_ms, 8);
    kt_put_be(out + 32, (uint64_t)e->until_ms, 8);
    memcpy(out + 48, e->org.b, sizeof e->org.b);
    memcpy(out + 64, e->id, sizeof e->id);
    memcpy(out + 96, e->account.b, sizeof e->account.b);
}

static void
seal(const struct digest_keys *keys, struct journal_seen *seen, unsigned char *records, size_t n,
     bool own_group)
{
    unsigned char key[KEY_BYTES];
    uint64_t group = seen->last + 1;
    digest_subkey(keys, seen->key, DIGEST_USE_JOURNAL, key);
    for (size_t i = 0; i < n; i++) {
        unsigned char *r = records + i * JOURNAL_RECORD_BYTES;
        uint64_t number = kt_get_be(r, 8);
        kt_put_be(r + 40, own_group ? number : group, 8);
        mac_of(key, seen->id, seen->mac, r, r + MAC_AT);
        memcpy(seen->mac, r + MAC_AT, MAC_BYTES);
        if (number > seen->last)
            seen->last = number;
    }
    seen->entries += n;
    seen->good_bytes += n * JOURNAL_RECORD_BYTES;
    kt_wipe(key, sizeof key);
}

void
journal_seal_group(const struct digest_keys *keys, struct journal_seen *seen,
                   unsigned char *records, size_t n)
{
    seal(keys, seen, records, n, false);
}

void
journal_seal_kept(const struct digest_keys *keys, struct journal_seen *seen,
                  unsigned char *records, size_t n)
{
    seal(keys, seen, records, n, true);
}

/* --- reading ------------------------------------------------------------------------------ */

struct reading {
    const unsigned char *p;
    size_t n;
    unsigned char key[KEY_BYTES];
    struct journal_seen *seen;
    uint64_t number; /* of the record before */
    uint64_t last;   /* in the header: numbers above it follow one another */
    size_t kept;     /* in the header */
};

static enum journal_found
damaged(struct journal_seen *seen, const char *what)
{
    snprintf(seen->why, sizeof seen->why, "%s", what);
    return JOURNAL_DAMAGED;
}

static bool
is_zero(const unsigned char *p, size_t n)
{
    return sodium_is_zero(p, n) == 1;
}

static enum journal_found
refused(struct journal_seen *seen, const char *what)
{
    (void)damaged(seen, what);
    return JOURNAL_REFUSED;
}

/* The key that the header was made with. */
static bool
find_key(const struct digest_keys *keys, struct reading *r)
{
    for (size_t i = 0; i < digest_keys_count(keys); i++) {
        digest_subkey(keys, i, DIGEST_USE_JOURNAL, r->key);
        if (is_authentic(r->key, r->p + 16, nothing, r->p)) {
            r->seen->key = i;
            return true;
        }
    }
    return false;
}

static enum journal_found
read_header(const struct digest_keys *keys, struct reading *r)
{
    struct journal_seen *seen = r->seen;
    if (r->n < JOURNAL_RECORD_BYTES || memcmp(r->p, magic, sizeof magic) != 0)
        return damaged(seen, "it does not begin as a journal");
    if (!find_key(keys, r))
        return refused(seen, "it was made with another digest key, or changed: put the key file "
                             "back that belongs to it");
    if (kt_get_be(r->p + 8, 4) != FORMAT)
        return refused(seen, "it has a format that this version does not know: start the one that "
                             "made it");
    memcpy(seen->id, r->p + 16, JOURNAL_ID_BYTES);
    seen->floor = kt_get_be(r->p + 32, 8);
    seen->last = r->last = kt_get_be(r->p + 40, 8);
    r->kept = kt_get_be(r->p + 48, 8);
    memcpy(seen->mac, r->p + MAC_AT, MAC_BYTES);
    seen->good_bytes = JOURNAL_RECORD_BYTES;
    return JOURNAL_WHOLE;
}

static void
decode(const unsigned char *r, struct journal_entry *e)
{
    e->number = kt_get_be(r, 8);
    e->type = (enum journal_type)kt_get_be(r + 8, 4);
    e->epoch = (uint32_t)kt_get_be(r + 12, 4);
    e->at_ms = (int64_t)kt_get_be(r + 16, 8);
    e->ends_ms = (int64_t)kt_get_be(r + 24, 8);
    e->until_ms = (int64_t)kt_get_be(r + 32, 8);
    memcpy(e->org.b, r + 48, sizeof e->org.b);
    memcpy(e->id, r + 64, sizeof e->id);
    memcpy(e->account.b, r + 96, sizeof e->account.b);
}

/* Numbers rise; what was added since the file was made lacks none. */
static bool
is_next(const struct reading *r, uint64_t number)
{
    bool made = r->seen->entries < r->kept;
    return made ? number > r->number && number <= r->last
                : number == r->seen->last + 1;
}

/* Whether some record from here on was written after what stands here had been synced. */
static bool
was_synced(const struct reading *r, size_t at)
{
    for (size_t i = at + JOURNAL_RECORD_BYTES; i + JOURNAL_RECORD_BYTES <= r->n;
         i += JOURNAL_RECORD_BYTES) {
        const unsigned char *record = r->p + i;
        if (is_zero(record + MAC_AT, MAC_BYTES) || kt_get_be(record + 40, 8) <= r->seen->last + 1)
            continue;
        if (is_authentic(r->key, r->seen->id, record - MAC_BYTES, record))
            return true;
    }
    return false;
}

static enum journal_found
end_of_records(const struct reading *r, size_t at)
{
    if (r->seen->entries < r->kept)
        return damaged(r->seen, "records are missing that were there when it was made");
    if (was_synced(r, at))
        return damaged(r->seen, "a record in its midst is not authentic");
    return is_zero(r->p + at, r->n - at) ? JOURNAL_WHOLE : JOURNAL_TORN;
}

static enum journal_found
read_records(struct reading *r, void (*each)(void *, const struct journal_entry *), void *ctx)
{
    struct journal_seen *seen = r->seen;
    for (size_t at = JOURNAL_RECORD_BYTES;; at += JOURNAL_RECORD_BYTES) {
        const unsigned char *record = r->p + at;
        struct journal_entry e;
        if (r->n - at < JOURNAL_RECORD_BYTES ||
            !is_authentic(r->key, seen->id, seen->mac, record))
            return end_of_records(r, at);
        decode(record, &e);
        if (e.type < JOURNAL_BEGIN || e.type > JOURNAL_REVOKED || !is_next(r, e.number))
            return damaged(seen, "a record of it is not what it should be");
        if (each)
            each(ctx, &e);
        r->number = e.number;
        if (e.number > seen->last)
            seen->last = e.number;
        memcpy(seen->mac, record + MAC_AT, MAC_BYTES);
        seen->entries++;
        seen->good_bytes += JOURNAL_RECORD_BYTES;
    }
}

enum journal_found
journal_parse(const struct digest_keys *keys, const void *bytes, size_t n,
              void (*each)(void *, const struct journal_entry *), void *ctx,
              struct journal_seen *ret)
{
    struct reading r = { .p = bytes, .n = n, .seen = ret };
    memset(ret, 0, sizeof *ret);
    enum journal_found found = read_header(keys, &r);
    if (found == JOURNAL_WHOLE)
        found = read_records(&r, each, ctx);
    kt_wipe(r.key, sizeof r.key);
    return found;
}
