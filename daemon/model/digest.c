/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/digest.h"

#include "client/proto/check.h"
#include "client/proto/wipe.h"
#include "daemon/model/blake2b.h"
#include "daemon/model/keyfile.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    KEY_BYTES = crypto_kdf_KEYBYTES,
    KEY_TEXT = KT_B64URL_LEN(KEY_BYTES),
    LINE_MAX_BYTES = 128,
    FILE_MAX = DIGEST_KEYS_MAX * LINE_MAX_BYTES,
    CREATED_ID_BYTES = 4
};

_Static_assert((int)DIGEST_BYTES == (int)KEY_BYTES, "a subkey is as long as a key");

static const char line_head[] = "kaiten-key-1 ";

/* Numbers of subkeys; those from 3 on are enum digest_use. Never given a second meaning. */
enum { USE_TOKEN = 1, USE_RECORD = 2, USE_FINGERPRINT = 15 };
static const char use_context[crypto_kdf_CONTEXTBYTES] = { 'k', 'a', 'i', 't', 'e', 'n', '-', '1' };

struct key {
    unsigned char master[KEY_BYTES], token[KEY_BYTES];
    struct blake2b_key token_blake; /* of token */
    struct blake2b_key record_blake;
    char id[DIGEST_ID_MAX + 1];
    char fingerprint[DIGEST_FINGERPRINT_MAX];
    uint32_t tag; /* of the fingerprint */
};

/* From sodium_malloc: guarded, left out of dumps, wiped when freed. */
struct digest_keys {
    size_t n;
    bool locked;
    struct key keys[DIGEST_KEYS_MAX];
    char file[FILE_MAX + 1]; /* the text, only while it is read */
};

static bool __attribute__((format(printf, 2, 3)))
refuse(struct digest_error *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    return false;
}

static struct digest_keys *
keys_new(struct digest_error *err)
{
    if (sodium_init() < 0) {
        refuse(err, "libsodium cannot be initialised");
        return NULL;
    }
    struct digest_keys *keys = sodium_malloc(sizeof(*keys));
    if (keys == NULL) {
        refuse(err, "no memory for keys: %s", strerror(errno));
        return NULL;
    }
    /* sodium_malloc keeps quiet about a lock that it could not get. */
    bool locked = sodium_mlock(keys, sizeof(*keys)) == 0;
    memset(keys, 0, sizeof(*keys));
    keys->locked = locked;
    return keys;
}

void
digest_keys_free(struct digest_keys *keys)
{
    if (keys == NULL)
        return;
    (void)sodium_mprotect_readwrite(keys);
    sodium_free(keys);
}

static void
derive(const struct key *key, uint64_t use, unsigned char out[KEY_BYTES])
{
    crypto_kdf_derive_from_key(out, KEY_BYTES, use, use_context, key->master);
}

/* A compiler that gets this wrong must not get as far as a store full of wrong digests. */
static void
blake_check(const struct key *key)
{
    static const unsigned char text[BLAKE2B_SHORT_MAX + 1] = "ksh_000000000000000000000000000000";
    const void *const texts[BLAKE2B_LANES] = { text, text, text, text };
    unsigned char ours[BLAKE2B_LANES][DIGEST_BYTES], theirs[DIGEST_BYTES];
    unsigned char *const digests[BLAKE2B_LANES] = { ours[0], ours[1], ours[2], ours[3] };
    for (size_t n = BLAKE2B_SHORT_MAX; n <= sizeof(text); n++) {
        crypto_generichash(theirs, sizeof(theirs), text, n, key->token, KEY_BYTES);
        blake2b_digest(&key->token_blake, text, n, ours[0]);
        if (sodium_memcmp(ours[0], theirs, sizeof(theirs)) != 0)
            abort();
    }
    crypto_generichash(theirs, sizeof(theirs), text, BLAKE2B_SHORT_MAX, key->token, KEY_BYTES);
    blake2b_four(&key->token_blake, texts, BLAKE2B_SHORT_MAX, digests);
    for (size_t i = 0; i < BLAKE2B_LANES; i++)
        if (sodium_memcmp(ours[i], theirs, sizeof(theirs)) != 0)
            abort();
}

static void
key_finish(struct key *key)
{
    unsigned char mark[KEY_BYTES], record[KEY_BYTES];
    derive(key, USE_TOKEN, key->token);
    blake2b_key_init(&key->token_blake, key->token, DIGEST_BYTES);
    blake_check(key);
    derive(key, USE_RECORD, record);
    blake2b_key_init(&key->record_blake, record, DIGEST_MAC_BYTES);
    derive(key, USE_FINGERPRINT, mark);
    sodium_bin2hex(key->fingerprint, sizeof(key->fingerprint), mark,
                   (sizeof(key->fingerprint) - 1) / 2);
    memcpy(&key->tag, mark, sizeof(key->tag));
    key->tag = key->tag == 0 ? 1 : be32toh(key->tag);
    kt_wipe(mark, sizeof(mark));
    kt_wipe(record, sizeof(record));
}

static bool
id_is_valid(struct kt_str id)
{
    if (id.n < 1 || id.n > DIGEST_ID_MAX)
        return false;
    for (size_t i = 0; i < id.n; i++) {
        char c = id.p[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9'))
            return false;
    }
    return true;
}

/* One line without its newline into the next free place. */
static bool
parse_line(struct digest_keys *keys, struct kt_str line, const char *path, struct digest_error *err)
{
    size_t head = sizeof(line_head) - 1, number = keys->n + 1, n;
    if (line.n < head || memcmp(line.p, line_head, head) != 0)
        return refuse(err, "%s:%zu: not a key; accepted: kaiten-key-1 <id> <key>", path, number);
    line = (struct kt_str){ line.p + head, line.n - head };
    const char *space = line.n == 0 ? NULL : memchr(line.p, ' ', line.n);
    struct kt_str id = { line.p, space == NULL ? line.n : (size_t)(space - line.p) };
    if (!id_is_valid(id))
        return refuse(err, "%s:%zu: malformed id; accepted: 1 to %d of a-z and 0-9", path, number,
                      (int)DIGEST_ID_MAX);
    struct kt_str value = { line.p + id.n, line.n - id.n };
    if (value.n != KEY_TEXT + 1)
        return refuse(err, "%s:%zu: malformed key; accepted: %d characters of base64url", path,
                      number, (int)KEY_TEXT);
    if (keys->n == DIGEST_KEYS_MAX)
        return refuse(err, "%s:%zu: too many keys; accepted: at most %d", path, number,
                      (int)DIGEST_KEYS_MAX);
    if (digest_keys_find(keys, id, &n))
        return refuse(err, "%s:%zu: the id of line %zu again", path, number, n + 1);

    struct key *key = &keys->keys[keys->n];
    value = (struct kt_str){ value.p + 1, KEY_TEXT };
    if (!kt_b64url_decode(value, key->master, sizeof(key->master), &n))
        return refuse(err, "%s:%zu: malformed key; accepted: %d characters of base64url", path,
                      number, (int)KEY_TEXT);
    memcpy(key->id, id.p, id.n);
    key_finish(key);
    keys->n++;
    return true;
}

static bool
parse(struct digest_keys *keys, struct kt_str text, const char *path, struct digest_error *err)
{
    while (text.n > 0) {
        const char *end = memchr(text.p, '\n', text.n);
        if (end == NULL)
            return refuse(err, "%s:%zu: the line is cut off: no newline", path, keys->n + 1);
        struct kt_str line = { text.p, (size_t)(end - text.p) };
        if (!parse_line(keys, line, path, err))
            return false;
        text = (struct kt_str){ end + 1, text.n - line.n - 1 };
    }
    if (keys->n == 0)
        return refuse(err, "%s: empty; restore it from a backup: without its key no token is good",
                      path);
    return true;
}

static bool
check_file(int fd, const char *path, struct digest_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return refuse(err, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return refuse(err, "%s: not a regular file", path);
    /* No chown for root: the daemon that the file belongs to could not read it any more. */
    if (st.st_uid != geteuid() && geteuid() == 0)
        return refuse(err, "%s: owned by uid %ju; run kaitend as that user", path,
                      (uintmax_t)st.st_uid);
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return refuse(err, "%s: owned by uid %ju; accepted: uid %ju or root; run: chown %ju %s",
                      path, (uintmax_t)st.st_uid, (uintmax_t)geteuid(), (uintmax_t)geteuid(), path);
    if ((st.st_mode & 077) != 0)
        return refuse(err, "%s: mode %04o is open to others; accepted: 0600; run: chmod 600 %s",
                      path, (unsigned)(st.st_mode & 07777), path);
    if (st.st_size > FILE_MAX)
        return refuse(err, "%s: %jd bytes; accepted: at most %d", path, (intmax_t)st.st_size,
                      (int)FILE_MAX);
    return true;
}

/* The whole file into keys->file, which is locked memory. */
static bool
slurp(int fd, struct digest_keys *keys, const char *path, struct kt_str *ret,
      struct digest_error *err)
{
    size_t n = 0;
    while (n < sizeof(keys->file)) {
        ssize_t got = read(fd, keys->file + n, sizeof(keys->file) - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return refuse(err, "%s: %s", path, strerror(errno));
        if (got == 0)
            break;
        n += (size_t)got;
    }
    if (n > FILE_MAX)
        return refuse(err, "%s: more than %d bytes", path, (int)FILE_MAX);
    *ret = (struct kt_str){ keys->file, n };
    return true;
}

static bool
load(int fd, const char *path, struct digest_keys *keys, struct digest_error *err)
{
    struct kt_str text = { NULL, 0 };
    bool ok = check_file(fd, path, err) && slurp(fd, keys, path, &text, err) &&
              parse(keys, text, path, err);
    kt_wipe(keys->file, sizeof(keys->file));
    return ok;
}

bool
digest_keys_read(const char *path, struct digest_keys **ret, bool *ret_missing,
                 struct digest_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (ret_missing != NULL)
        *ret_missing = fd < 0 && errno == ENOENT;
    if (fd < 0)
        return refuse(err, "%s: %s", path,
                      errno == ELOOP ? "a symbolic link; accepted: the file itself"
                                     : strerror(errno));
    struct digest_keys *keys = keys_new(err);
    bool ok = keys != NULL && load(fd, path, keys, err);
    close(fd);
    if (!ok) {
        digest_keys_free(keys);
        return false;
    }
    (void)sodium_mprotect_readonly(keys);
    *ret = keys;
    return true;
}

/* The line of a key, at the end of the n bytes of keys->file. */
static size_t
put_line(struct digest_keys *keys, size_t n, const struct key *key)
{
    char *p = keys->file + n;
    size_t used = (size_t)snprintf(p, LINE_MAX_BYTES, "%s%s ", line_head, key->id);
    used += kt_b64url_encode(key->master, sizeof(key->master), p + used);
    p[used++] = '\n';
    return n + used;
}

/* The line of a fresh one. */
static size_t
make_line(struct digest_keys *keys)
{
    unsigned char id[CREATED_ID_BYTES];
    struct key *key = &keys->keys[0];
    randombytes_buf(id, sizeof(id));
    sodium_bin2hex(key->id, sizeof(key->id), id, sizeof(id));
    crypto_kdf_keygen(key->master);
    return put_line(keys, 0, key);
}

bool
digest_keys_create(const char *path, struct digest_keys **ret, struct digest_error *err)
{
    struct digest_keys *keys = keys_new(err);
    if (keys == NULL)
        return false;
    size_t n = make_line(keys);
    bool made = keyfile_create(path, keys->file, n);
    int saved = errno;
    digest_keys_free(keys);
    if (!made)
        return refuse(err, "%s: cannot be made: %s", path, strerror(saved));
    return digest_keys_read(path, ret, NULL, err);
}

/* --- rotating ----------------------------------------------------------------------------- */

/* Somebody who has edited the file must not lose what he wrote. */
static bool
is_unchanged(const char *path, const struct digest_keys *keys, struct digest_error *err)
{
    struct digest_keys *there;
    if (!digest_keys_read(path, &there, NULL, err))
        return false;
    bool same = there->n == keys->n;
    for (size_t i = 0; same && i < keys->n; i++)
        same = strcmp(there->keys[i].id, keys->keys[i].id) == 0 &&
               digest_equal(there->keys[i].master, keys->keys[i].master, KEY_BYTES);
    digest_keys_free(there);
    return same || refuse(err, "%s: it says something else than the keys in force; restart first",
                          path);
}

/* Writes a fresh key if there is to be one, then all keys but number without. */
static bool
write_anew(const char *path, const struct digest_keys *keys, bool fresh, size_t without,
           struct digest_keys **ret, struct digest_error *err)
{
    if (!is_unchanged(path, keys, err))
        return false;
    struct digest_keys *scratch = keys_new(err);
    if (scratch == NULL)
        return false;
    size_t n = 0, other;
    do
        n = fresh ? make_line(scratch) : 0;
    while (fresh && digest_keys_find(keys, kt_str(scratch->keys[0].id), &other));
    for (size_t i = 0; i < keys->n; i++)
        if (i != without)
            n = put_line(scratch, n, &keys->keys[i]);
    bool written = keyfile_replace(path, scratch->file, n);
    int saved = errno;
    digest_keys_free(scratch);
    if (!written)
        return refuse(err, "%s: cannot be written: %s", path, strerror(saved));
    return digest_keys_read(path, ret, NULL, err);
}

bool
digest_keys_rotate(const char *path, const struct digest_keys *keys, struct digest_keys **ret,
                   struct digest_error *err)
{
    if (keys->n == DIGEST_KEYS_MAX)
        return refuse(err, "%s: it has %d keys already; accepted: at most %d; retire one first",
                      path, (int)DIGEST_KEYS_MAX, (int)DIGEST_KEYS_MAX);
    return write_anew(path, keys, true, DIGEST_KEYS_MAX, ret, err);
}

bool
digest_keys_retire(const char *path, const struct digest_keys *keys, size_t i,
                   struct digest_keys **ret, struct digest_error *err)
{
    if (i == 0 || i >= keys->n)
        abort();
    return write_anew(path, keys, false, i, ret, err);
}

bool
digest_keys_locked(const struct digest_keys *keys)
{
    return keys->locked;
}

size_t
digest_keys_count(const struct digest_keys *keys)
{
    return keys->n;
}

static const struct key *
key_at(const struct digest_keys *keys, size_t i)
{
    if (i >= keys->n)
        abort();
    return &keys->keys[i];
}

const char *
digest_keys_id(const struct digest_keys *keys, size_t i)
{
    return key_at(keys, i)->id;
}

bool
digest_keys_find(const struct digest_keys *keys, struct kt_str id, size_t *ret)
{
    for (size_t i = 0; i < keys->n; i++) {
        if (kt_str_is(id, keys->keys[i].id)) {
            *ret = i;
            return true;
        }
    }
    return false;
}

const char *
digest_keys_fingerprint(const struct digest_keys *keys, size_t i)
{
    return key_at(keys, i)->fingerprint;
}

uint32_t
digest_keys_tag(const struct digest_keys *keys, size_t i)
{
    return key_at(keys, i)->tag;
}

void
digest_token_with(const struct digest_keys *keys, size_t i, struct kt_secret_view token,
                  unsigned char ret[DIGEST_BYTES])
{
    const struct key *key = key_at(keys, i);
    if (token.n > 0 && token.n <= BLAKE2B_MESSAGE_MAX)
        blake2b_digest(&key->token_blake, token.p, token.n, ret);
    else
        crypto_generichash(ret, DIGEST_BYTES, (const unsigned char *)token.p, token.n, key->token,
                           KEY_BYTES);
}

void
digest_token(const struct digest_keys *keys, struct kt_secret_view token,
             unsigned char ret[DIGEST_BYTES])
{
    digest_token_with(keys, 0, token, ret);
}

void
digest_tokens(const struct digest_keys *keys, const struct kt_secret_view tokens[], size_t n,
              unsigned char *const ret[])
{
    const void *messages[BLAKE2B_LANES];
    unsigned char *digests[BLAKE2B_LANES];
    size_t done = 0;
    /* Four at once take less time than two one after the other, so the last one fills up. */
    while (n - done > 1 && tokens[done].n <= BLAKE2B_SHORT_MAX) {
        for (size_t i = 0; i < BLAKE2B_LANES; i++) {
            size_t k = done + i < n ? done + i : n - 1;
            messages[i] = tokens[k].p;
            digests[i] = ret[k];
        }
        blake2b_four(&key_at(keys, 0)->token_blake, messages, tokens[done].n, digests);
        done = n - done < BLAKE2B_LANES ? n : done + BLAKE2B_LANES;
    }
    for (; done < n; done++)
        digest_token(keys, tokens[done], ret[done]);
}

static void
put_length(unsigned char out[8], size_t n)
{
    for (size_t i = 0; i < 8; i++)
        out[i] = (unsigned char)((uint64_t)n >> (8 * i));
}

void
digest_record_mac(const struct digest_keys *keys, size_t i, const struct kt_str parts[], size_t n,
                  unsigned char ret[DIGEST_MAC_BYTES])
{
    struct blake2b_state state;
    unsigned char length[8];
    if (n > DIGEST_PARTS_MAX)
        abort();
    blake2b_begin(&state, &key_at(keys, i)->record_blake);
    for (size_t k = 0; k < n; k++) {
        put_length(length, parts[k].n);
        blake2b_more(&state, length, sizeof(length));
        blake2b_more(&state, parts[k].p, parts[k].n);
    }
    put_length(length, n);
    blake2b_more(&state, length, sizeof(length));
    blake2b_end(&state, ret);
}

static unsigned char *
put_piece(unsigned char *to, const struct kt_str *piece)
{
    put_length(to, piece->n);
    if (piece->n > 0)
        memcpy(to + 8, piece->p, piece->n);
    return to + 8 + piece->n;
}

bool
digest_record_block(const struct kt_str parts[], size_t n, struct blake2b_block *ret)
{
    ret->n = 8;
    for (size_t k = 0; k < n; k++) {
        if (parts[k].n > sizeof(ret->message))
            return false;
        ret->n += 8 + parts[k].n;
    }
    if (ret->n > sizeof(ret->message))
        return false;
    unsigned char *p = ret->message;
    for (size_t k = 0; k < n; k++)
        p = put_piece(p, &parts[k]);
    put_length(p, n);
    memset(p + 8, 0, sizeof(ret->message) - ret->n);
    return true;
}

void
digest_record_macs(const struct digest_keys *keys, size_t i,
                   const struct blake2b_block blocks[DIGEST_TOGETHER],
                   unsigned char ret[DIGEST_TOGETHER][DIGEST_BYTES])
{
    blake2b_blocks(&key_at(keys, i)->record_blake, blocks, ret);
}

void
digest_subkey(const struct digest_keys *keys, size_t i, enum digest_use use,
              unsigned char ret[DIGEST_BYTES])
{
    derive(key_at(keys, i), use, ret);
}

bool
digest_equal(const void *a, const void *b, size_t n)
{
    return sodium_memcmp(a, b, n) == 0;
}
