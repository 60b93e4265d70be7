/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/bench/speech.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The protocol of PostgreSQL, version 3, as far as one prepared statement needs it. */

/* The same job as token.create, less its hardest part: id, secret and digest come from here, at no
 * cost. That the account exists is seen by the select, without the row lock of a foreign key. */
static const char statement[] =
    "insert into token (id, account, slug, name, digest, scopes, created_by)"
    " select $1::uuid, id, $2, $2, $3::bytea, '{read:instances}', 'bench'"
    " from account where org = 'bench' and slug = $4";

static char *
put_u16(char *at, size_t n)
{
    *at++ = (char)(n >> 8);
    *at++ = (char)n;
    return at;
}

static char *
put_u32(char *at, size_t n)
{
    return put_u16(put_u16(at, n >> 16), n);
}

static size_t
get_u32(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;
    return (size_t)u[0] << 24 | (size_t)u[1] << 16 | (size_t)u[2] << 8 | u[3];
}

/* The length of a message counts itself, not the type before it. */
static char *
end_message(char *length, char *at)
{
    put_u32(length, (size_t)(at - length));
    return at;
}

static char *
put_parse(char *at)
{
    *at++ = 'P';
    char *length = at;
    at = put(at + 4, "mint", 5);
    at = put(at, statement, sizeof statement);
    return end_message(length, put_u16(at, 0));
}

static char *
put_sync(char *at)
{
    return put(at, "S\0\0\0\4", 5);
}

/* --- greeting ----------------------------------------------------------------------------- */

static void
write_all(int fd, const char *p, size_t n)
{
    if (send(fd, p, n, MSG_NOSIGNAL) != (ssize_t)n)
        die("postgres: cannot send: %s", strerror(errno));
}

static void
read_all(int fd, char *p, size_t n)
{
    while (n > 0) {
        ssize_t got = read(fd, p, n);
        if (got <= 0)
            die("postgres: the connection ended");
        p += got;
        n -= (size_t)got;
    }
}

static void
await_ready(int fd)
{
    char head[5], body[4096];
    do {
        read_all(fd, head, sizeof head);
        size_t n = get_u32(head + 1) - 4;
        if (n > sizeof body)
            die("postgres: a message of %zu bytes", n);
        read_all(fd, body, n);
        if (head[0] == 'E')
            die("postgres: %.*s", (int)n, body);
        if (head[0] == 'R' && get_u32(body) != 0)
            die("postgres: it asks for a password; pg_hba.conf must say trust");
    } while (head[0] != 'Z');
}

static void
greet(int fd)
{
    static const char hello[] = "user\0bench\0database\0bench\0";
    char buf[SPEECH_ASK_MAX];
    char *at = put_u32(buf + 4, 196608); /* 3.0 */
    at = end_message(buf, put(at, hello, sizeof hello));
    write_all(fd, buf, (size_t)(at - buf));
    await_ready(fd);
    at = put_sync(put_parse(buf));
    write_all(fd, buf, (size_t)(at - buf));
    await_ready(fd);
}

/* --- minting: keys are slugs of accounts -------------------------------------------------- */

static char *
put_value(char *at, const void *p, size_t n)
{
    return put(put_u32(at, n), p, n);
}

/* Bytes that look drawn at random: digests come in no order. */
static void
fill(struct talk *t, uint64_t *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        t->random ^= t->random << 13;
        t->random ^= t->random >> 7;
        t->random ^= t->random << 17;
        words[i] = t->random;
    }
}

static size_t
ask_mint(struct talk *t, char *out)
{
    uint64_t number = talk_number(t), digest[4];
    char id[16], name[2 + 16] = "t-";
    fill(t, digest, 4);
    put_hex(id, number);
    put_hex(name + 2, number);
    char *at = put(out, "B", 1);
    char *length = at;
    at = put(at + 4, "\0mint", 6);
    at = put_u16(put_u16(put_u16(put_u16(put_u16(at, 4), 1), 0), 1), 0);
    at = put_u16(at, 4);
    at = put_value(at, id, sizeof id);
    at = put_value(at, name, sizeof name);
    at = put_value(at, digest, sizeof digest);
    at = put_value(at, talk_key(t), t->key_width);
    at = end_message(length, put_u16(at, 0));
    at = put(at, "E\0\0\0\x9\0\0\0\0\0", 10);
    at = put_sync(at);
    t->asked++;
    return (size_t)(at - out);
}

/* Bound, one row inserted, ready for the next. */
static ssize_t
hear_inserted(struct talk *t, const char *p, size_t n)
{
    (void)t;
    bool inserted = false;
    for (size_t at = 0; n - at >= 5;) {
        size_t len = 1 + get_u32(p + at + 1);
        if (n - at < len)
            return 0;
        if (p[at] == 'E')
            return -1;
        if (p[at] == 'C')
            inserted = memcmp(p + at + 5, "INSERT 0 1", 11) == 0;
        if (p[at] == 'Z')
            return inserted ? (ssize_t)(at + len) : -1;
        at += len;
    }
    return 0;
}

const struct speech speech_postgres_mint = {
    .name = "postgres-mint",
    .greet = greet,
    .ask = ask_mint,
    .hear = hear_inserted,
};
