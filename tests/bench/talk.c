/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/bench/speech.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

char *
put(char *at, const void *p, size_t n)
{
    memcpy(at, p, n);
    return at + n;
}

char *
put_hex(char *at, uint64_t value)
{
    for (int shift = 60; shift >= 0; shift -= 4)
        *at++ = "0123456789abcdef"[value >> shift & 15];
    return at;
}

static const char *
random_key(struct talk *t)
{
    t->random ^= t->random << 13;
    t->random ^= t->random >> 7;
    t->random ^= t->random << 17;
    return t->keys + (t->random >> 16) % t->nkeys * t->key_width;
}

/* Keys at random are drawn ahead, so that the generator doesn't spend a third of its time in waiting
 * for the memory that they lie in. */
const char *
talk_key(struct talk *t)
{
    if (t->in_order)
        return t->keys + t->asked % t->nkeys * t->key_width;
    const char **place = &t->ahead[t->drawn++ % SPEECH_AHEAD];
    const char *key = *place;
    *place = random_key(t);
    __builtin_prefetch(*place);
    __builtin_prefetch(*place + t->key_width - 1);
    return key;
}

uint64_t
talk_number(struct talk *t)
{
    return t->base + t->asked;
}

/* --- a run -------------------------------------------------------------------------------- */

/* In huge pages: else a key at random costs the generator a walk through the page tables, which
 * takes longer than the rest of its work for a request. */
static char *
keys_room(size_t n)
{
    size_t align = (size_t)2 << 20, size = (n + align - 1) / align * align;
    char *p = aligned_alloc(align, size);
    if (!p)
        die("no memory for the keys");
    (void)madvise(p, size, MADV_HUGEPAGE);
    return p;
}

static void
read_keys(struct talk *t, const struct talk_options *o)
{
    struct stat st;
    int fd = open(o->keys, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        die("%s: %s", o->keys, strerror(errno));
    t->key_width = o->key_width;
    t->nkeys = (size_t)st.st_size / o->key_width;
    if (o->distinct != 0 && o->distinct < t->nkeys)
        t->nkeys = o->distinct;
    if (t->nkeys == 0)
        die("%s: no keys", o->keys);
    char *keys = keys_room((size_t)st.st_size);
    for (ssize_t done = 0, n; done < st.st_size; done += n) {
        n = read(fd, keys + done, (size_t)(st.st_size - done));
        if (n <= 0)
            die("%s: %s", o->keys, n < 0 ? strerror(errno) : "it became shorter");
    }
    t->keys = keys;
    close(fd);
}

/* The first line of a file. */
static void
read_bearer(struct talk *t, const char *path)
{
    static char line[SPEECH_ASK_MAX / 2];
    FILE *f = fopen(path, "re");
    if (!f || !fgets(line, sizeof line, f))
        die("%s: %s", path, strerror(errno));
    fclose(f);
    t->bearer = line;
    t->bearer_n = strcspn(line, "\n");
}

void
talk_begin(struct talk *t, const struct talk_options *o)
{
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    uint64_t ns = (uint64_t)wall.tv_sec * 1000000000u + (uint64_t)wall.tv_nsec;
    *t = (struct talk){ .in_order = o->in_order, .base = ns, .random = ns };
    if (o->keys)
        read_keys(t, o);
    for (size_t i = 0; t->nkeys > 0 && i < SPEECH_AHEAD; i++)
        t->ahead[i] = random_key(t);
    if (o->bearer)
        read_bearer(t, o->bearer);
    t->save = o->save ? fopen(o->save, "ae") : NULL;
    if (o->save && !t->save)
        die("%s: %s", o->save, strerror(errno));
}

void
talk_end(struct talk *t, const struct talk_options *o)
{
    if (t->save && fclose(t->save) != 0)
        die("%s: %s", o->save, strerror(errno));
}
