/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/uuid.h"

#include "client/proto/check.h"

#include <endian.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <sodium.h>

enum { EXTERNAL_BYTES = 24 };

/* Spaces of the derived ids: version 5 of "user" and of "organization" below one fixed root. */
static const struct uuid user_space = { { 0x6b, 0x64, 0x94, 0x46, 0x09, 0xb9, 0x5a, 0x94, 0xbd,
                                          0x05, 0x89, 0x80, 0xc0, 0x42, 0x3c, 0x7a } };
static const struct uuid org_space = { { 0x56, 0xd5, 0xed, 0x37, 0xb3, 0x6f, 0x57, 0xd9, 0xa2,
                                         0x43, 0x52, 0x8b, 0x92, 0x58, 0x7a, 0x56 } };

static bool
is_hyphen_place(size_t i)
{
    return i == 8 || i == 13 || i == 18 || i == 23;
}

bool
uuid_parse(struct kt_str s, struct uuid *ret)
{
    struct uuid id;
    if (s.n != UUID_TEXT_MAX - 1)
        return false;
    for (size_t i = 0, out = 0; i < s.n;) {
        if (is_hyphen_place(i)) {
            if (s.p[i++] != '-')
                return false;
            continue;
        }
        int high = kt_hex_digit(s.p[i]), low = kt_hex_digit(s.p[i + 1]);
        if (high < 0 || low < 0)
            return false;
        id.b[out++] = (unsigned char)(high << 4 | low);
        i += 2;
    }
    *ret = id;
    return true;
}

/* Four bytes at once, each nibble in a byte of its own: every answer to a verification says an
 * id. */
static void
put_hex(const unsigned char bytes[4], char out[8])
{
    uint32_t four;
    memcpy(&four, bytes, sizeof(four));
    uint64_t x = be32toh(four);
    x = (x | x << 16) & UINT64_C(0x0000ffff0000ffff);
    x = (x | x << 8) & UINT64_C(0x00ff00ff00ff00ff);
    x = (x | x << 4) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    uint64_t letters = (x + UINT64_C(0x0606060606060606)) >> 4 & UINT64_C(0x0101010101010101);
    x = htobe64(x + UINT64_C(0x3030303030303030) + letters * ('a' - '0' - 10));
    memcpy(out, &x, sizeof(x));
}

void
uuid_print(const struct uuid *id, char buf[UUID_TEXT_MAX])
{
    char hex[32];
    for (size_t i = 0; i < sizeof(id->b); i += 4)
        put_hex(id->b + i, hex + 2 * i);
    memcpy(buf, hex, 8);
    memcpy(buf + 9, hex + 8, 4);
    memcpy(buf + 14, hex + 12, 4);
    memcpy(buf + 19, hex + 16, 4);
    memcpy(buf + 24, hex + 20, 12);
    buf[8] = buf[13] = buf[18] = buf[23] = '-';
    buf[36] = '\0';
}

int
uuid_compare(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->b, b->b, sizeof(a->b));
}

static void
set_version(struct uuid *id, unsigned version)
{
    id->b[6] = (unsigned char)((id->b[6] & 0x0f) | version << 4);
    id->b[8] = (unsigned char)((id->b[8] & 0x3f) | 0x80);
}

bool
uuid_v5(const struct uuid *ns, struct kt_str name, struct uuid *ret)
{
    unsigned char sha1[EVP_MAX_MD_SIZE];
    unsigned n;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context && EVP_DigestInit_ex(context, EVP_sha1(), NULL) == 1 &&
              EVP_DigestUpdate(context, ns->b, sizeof(ns->b)) == 1 &&
              EVP_DigestUpdate(context, name.p, name.n) == 1 &&
              EVP_DigestFinal_ex(context, sha1, &n) == 1 && n >= sizeof(ns->b);
    EVP_MD_CTX_free(context);
    if (!ok)
        return false;
    memcpy(ret->b, sha1, sizeof(ret->b));
    set_version(ret, 5);
    return true;
}

/* The 74 bits behind the time: the upper 12 stand in rand_a, the lower 62 in rand_b. */
struct tail {
    uint64_t low;
    uint32_t high;
};

enum { HIGH_BITS = 12, LOW_BITS = 62 };

/* Adds step; false when the 74 bits are used up. */
static bool
tail_add(struct tail *t, uint64_t step)
{
    t->low += step;
    t->high += (uint32_t)(t->low >> LOW_BITS);
    t->low &= (UINT64_C(1) << LOW_BITS) - 1;
    return t->high >> HIGH_BITS == 0;
}

/* A random start with the top bit clear: half of the numbers are left to count upwards. */
static struct tail
tail_random(void)
{
    struct tail t;
    randombytes_buf(&t, sizeof(t));
    t.low &= (UINT64_C(1) << LOW_BITS) - 1;
    t.high &= (1U << (HIGH_BITS - 1)) - 1;
    return t;
}

static struct uuid
assemble(uint64_t ms, struct tail t)
{
    struct uuid id;
    for (size_t i = 0; i < 6; i++)
        id.b[i] = (unsigned char)(ms >> (40 - 8 * i));
    id.b[6] = (unsigned char)(t.high >> 8);
    id.b[7] = (unsigned char)t.high;
    for (size_t i = 0; i < 8; i++)
        id.b[8 + i] = (unsigned char)(t.low >> (56 - 8 * i));
    set_version(&id, 7);
    return id;
}

struct uuid
uuid_v7(int64_t now_ms)
{
    /* The last id made. No other lock is taken while this one is held. */
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static uint64_t last_ms;
    static struct tail last;

    uint64_t now = now_ms > 0 ? (uint64_t)now_ms : 0;
    struct tail fresh = tail_random();
    pthread_mutex_lock(&lock);
    if (now > last_ms) {
        last_ms = now;
        last = fresh;
    } else if (!tail_add(&last, 1 + (fresh.low & UINT32_MAX))) {
        last_ms++;
        last = fresh;
    }
    struct uuid id = assemble(last_ms, last);
    pthread_mutex_unlock(&lock);
    return id;
}

enum { MEMO_SLOTS = 8, MEMO_TEXT_MAX = 63 };

/* What a thread derived lately. The same few callers connect again and again, and SHA-1 through its
 * library costs as much as all else that is done for a new connection. */
struct memo {
    struct uuid id;
    unsigned char n; /* 0: empty */
    char text[MEMO_TEXT_MAX];
};

static struct memo *
memo_slot(struct memo memo[MEMO_SLOTS], struct kt_str name)
{
    return &memo[(name.n + (unsigned char)name.p[name.n - 1]) % MEMO_SLOTS];
}

static bool
derive(const struct uuid *space, struct kt_str name, struct memo memo[MEMO_SLOTS],
       struct uuid *ret)
{
    if (name.n == 0 || name.n > MEMO_TEXT_MAX)
        return uuid_v5(space, name, ret);
    struct memo *slot = memo_slot(memo, name);
    if (!kt_str_eq((struct kt_str){ slot->text, slot->n }, name)) {
        slot->n = 0;
        if (!uuid_v5(space, name, &slot->id))
            return false;
        memcpy(slot->text, name.p, name.n);
        slot->n = (unsigned char)name.n;
    }
    *ret = slot->id;
    return true;
}

bool
uuid_of_user(struct kt_str subject, struct uuid *ret)
{
    static _Thread_local struct memo memo[MEMO_SLOTS];
    return derive(&user_space, subject, memo, ret);
}

bool
uuid_of_org(struct kt_str external_id, struct uuid *ret)
{
    static _Thread_local struct memo memo[MEMO_SLOTS];
    return derive(&org_space, external_id, memo, ret);
}

void
uuid_external_id(char buf[UUID_EXTERNAL_MAX])
{
    unsigned char bytes[EXTERNAL_BYTES];
    randombytes_buf(bytes, sizeof(bytes));
    memcpy(buf, "ksa_", 4);
    kt_b64url_encode(bytes, sizeof(bytes), buf + 4);
}
