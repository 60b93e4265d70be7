/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/portable.h"

#include "client/proto/bigend.h"
#include "client/proto/file.h"
#include "client/proto/wipe.h"
#include "daemon/model/digest.h"
#include "daemon/store.h"

#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    FORMAT = 1,
    NAME_BYTES = DIGEST_FINGERPRINT_MAX - 1,
    HEADER_BYTES = 16 + NAME_BYTES,
    RECORD_HEAD = 6,
    COUNT_BYTES = 8,
    MAC_BYTES = 32,
    BUFFER_BYTES = 256 * 1024
};

_Static_assert((int)BUFFER_BYTES > RECORD_HEAD + KAITEN_KEY_MAX + KAITEN_VALUE_MAX,
               "a record fits");

static const unsigned char magic[8] = "KTNEXP\r\n";

static void
begin_mac(crypto_generichash_state *mac, const struct digest_keys *keys, size_t i)
{
    unsigned char key[DIGEST_BYTES];
    digest_subkey(keys, i, DIGEST_USE_EXPORT, key);
    crypto_generichash_init(mac, key, sizeof key, MAC_BYTES);
    kt_wipe(key, sizeof key);
}

/* --- writing ------------------------------------------------------------------------------ */

struct portable_out {
    int fd;
    int failed; /* an errno */
    crypto_generichash_state mac;
    uint64_t records;
    size_t n;
    unsigned char buffer[BUFFER_BYTES];
};

static void
flush(struct portable_out *out)
{
    if (!out->failed && !kt_write_all(out->fd, out->buffer, out->n))
        out->failed = errno;
    out->n = 0;
}

static void
put(struct portable_out *out, const void *bytes, size_t n)
{
    if (n > sizeof out->buffer - out->n)
        flush(out);
    memcpy(out->buffer + out->n, bytes, n);
    out->n += n;
}

static void
put_under_mac(struct portable_out *out, const void *bytes, size_t n)
{
    crypto_generichash_update(&out->mac, bytes, n);
    put(out, bytes, n);
}

struct portable_out *
portable_begin(int fd, const struct digest_keys *keys)
{
    unsigned char header[HEADER_BYTES] = { 0 };
    struct portable_out *out = malloc(sizeof *out);
    if (!out)
        return NULL;
    out->fd = fd;
    out->failed = 0;
    out->records = out->n = 0;
    begin_mac(&out->mac, keys, 0);
    memcpy(header, magic, sizeof magic);
    kt_put_be(header + 8, FORMAT, 4);
    memcpy(header + 16, digest_keys_fingerprint(keys, 0), NAME_BYTES);
    put_under_mac(out, header, sizeof header);
    return out;
}

bool
portable_put(struct portable_out *out, struct kt_str key, struct kt_str value)
{
    unsigned char head[RECORD_HEAD];
    kt_put_be(head, key.n, 2);
    kt_put_be(head + 2, value.n, 4);
    put_under_mac(out, head, sizeof head);
    put_under_mac(out, key.p, key.n);
    put_under_mac(out, value.p, value.n);
    out->records++;
    errno = out->failed;
    return out->failed == 0;
}

bool
portable_end(struct portable_out *out, uint64_t *ret_records)
{
    unsigned char trailer[2 + COUNT_BYTES] = { 0 }, mac[MAC_BYTES];
    kt_put_be(trailer + 2, out->records, COUNT_BYTES);
    put_under_mac(out, trailer, sizeof trailer);
    crypto_generichash_final(&out->mac, mac, sizeof mac);
    put(out, mac, sizeof mac);
    flush(out);
    int failed = out->failed;
    *ret_records = out->records;
    portable_abandon(out);
    errno = failed;
    return failed == 0;
}

void
portable_abandon(struct portable_out *out)
{
    if (out)
        kt_wipe(&out->mac, sizeof out->mac);
    free(out);
}

/* --- reading ------------------------------------------------------------------------------ */

struct in {
    const struct portable_source *source;
    char *err;
    crypto_generichash_state mac;
    uint64_t records;
    unsigned char last[KAITEN_KEY_MAX]; /* the key before */
    size_t nlast, at, n;
    bool ended;
    unsigned char buffer[BUFFER_BYTES];
};

static bool __attribute__((format(printf, 2, 3)))
refuse(struct in *in, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(in->err, PORTABLE_ERROR_MAX, fmt, ap);
    va_end(ap);
    return false;
}

/* Has n bytes stand at in->at. False: there are not so many. */
static bool
have(struct in *in, size_t n)
{
    if (in->n - in->at < n) {
        memmove(in->buffer, in->buffer + in->at, in->n - in->at);
        in->n -= in->at;
        in->at = 0;
    }
    while (in->n - in->at < n && !in->ended) {
        ssize_t got = in->source->read(in->source->ctx, in->buffer + in->n,
                                       sizeof in->buffer - in->n);
        if (got < 0)
            return refuse(in, "cannot be read: %s", strerror(errno));
        in->ended = got == 0;
        in->n += (size_t)got;
    }
    return in->n - in->at >= n || refuse(in, "cut off after %llu records",
                                         (unsigned long long)in->records);
}

static const unsigned char *
take(struct in *in, size_t n)
{
    const unsigned char *p = in->buffer + in->at;
    in->at += n;
    return p;
}

static const unsigned char *
take_under_mac(struct in *in, size_t n)
{
    crypto_generichash_update(&in->mac, in->buffer + in->at, n);
    return take(in, n);
}

static bool
read_header(struct in *in, const struct digest_keys *keys)
{
    if (!have(in, HEADER_BYTES))
        return false;
    const unsigned char *p = in->buffer + in->at;
    if (memcmp(p, magic, sizeof magic) != 0)
        return refuse(in, "not an export of kaitend");
    if (kt_get_be(p + 8, 4) != FORMAT || kt_get_be(p + 12, 4) != 0)
        return refuse(in, "of format %llu; this version knows %d",
                      (unsigned long long)kt_get_be(p + 8, 4), FORMAT);
    for (size_t i = 0; i < digest_keys_count(keys); i++) {
        if (memcmp(p + 16, digest_keys_fingerprint(keys, i), NAME_BYTES) != 0)
            continue;
        begin_mac(&in->mac, keys, i);
        (void)take_under_mac(in, HEADER_BYTES);
        return true;
    }
    return refuse(in, "made with another digest key; bring the file of the keys along");
}

static bool
rises(struct in *in, struct kt_str key)
{
    size_t n = key.n < in->nlast ? key.n : in->nlast;
    int order = memcmp(in->last, key.p, n);
    bool up = order < 0 || (order == 0 && in->nlast < key.n);
    memcpy(in->last, key.p, key.n);
    in->nlast = key.n;
    return up;
}

/* One record, or none, which is where the trailer begins. */
static bool
read_record(struct in *in, struct kt_str *ret_key, struct kt_str *ret_value)
{
    *ret_key = (struct kt_str){ NULL, 0 };
    if (!have(in, 2))
        return false;
    size_t nkey = kt_get_be(in->buffer + in->at, 2);
    if (nkey == 0)
        return true;
    if (!have(in, RECORD_HEAD))
        return false;
    size_t nvalue = kt_get_be(in->buffer + in->at + 2, 4);
    if (nkey > KAITEN_KEY_MAX || nvalue > KAITEN_VALUE_MAX)
        return refuse(in, "record %llu is too long", (unsigned long long)in->records + 1);
    if (!have(in, RECORD_HEAD + nkey + nvalue))
        return false;
    (void)take_under_mac(in, RECORD_HEAD);
    *ret_key = (struct kt_str){ (const char *)take_under_mac(in, nkey), nkey };
    *ret_value = (struct kt_str){ (const char *)take_under_mac(in, nvalue), nvalue };
    if (!rises(in, *ret_key))
        return refuse(in, "record %llu is not where it belongs",
                      (unsigned long long)in->records + 1);
    in->records++;
    return true;
}

static bool
read_trailer(struct in *in)
{
    unsigned char mac[MAC_BYTES];
    if (!have(in, 2 + COUNT_BYTES + MAC_BYTES))
        return false;
    uint64_t records = kt_get_be(take_under_mac(in, 2 + COUNT_BYTES) + 2, COUNT_BYTES);
    crypto_generichash_final(&in->mac, mac, sizeof mac);
    if (!digest_equal(take(in, MAC_BYTES), mac, sizeof mac) || records != in->records)
        return refuse(in, "changed since it was made");
    if (have(in, 1))
        return refuse(in, "there is something behind its end");
    if (in->ended)
        in->err[0] = '\0';
    return in->ended;
}

static bool
read_all(struct in *in, const struct digest_keys *keys,
         bool (*each)(void *, struct kt_str, struct kt_str), void *ctx)
{
    struct kt_str key, value;
    if (!read_header(in, keys))
        return false;
    for (;;) {
        if (!read_record(in, &key, &value))
            return false;
        if (!key.p)
            return read_trailer(in);
        if (!each(ctx, key, value))
            return false;
    }
}

bool
portable_read(const struct digest_keys *keys, const struct portable_source *source,
              bool (*each)(void *, struct kt_str, struct kt_str), void *ctx, uint64_t *ret_records,
              char err[PORTABLE_ERROR_MAX])
{
    struct in *in = calloc(1, sizeof *in);
    snprintf(err, PORTABLE_ERROR_MAX, "no memory");
    if (!in)
        return false;
    in->source = source;
    in->err = err;
    err[0] = '\0';
    bool ok = read_all(in, keys, each, ctx);
    *ret_records = in->records;
    kt_wipe(&in->mac, sizeof in->mac);
    free(in);
    return ok;
}
