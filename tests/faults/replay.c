/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* replay TRACE                        a line for each record of a trace: time, kind, bytes, name
 * replay TRACE CUT MODE SEED FOLDER   what a power cut just before record CUT may have left
 *
 * What was synced before the cut is there. Of what was not:
 *
 *     drop      nothing
 *     kept      everything, as after kill -9
 *     data      the data, but no name
 *     names     the names, but no data
 *     blocks    any of the names, any 4 KiB blocks of the data
 *     sectors   any of the names, any 512-byte sectors of the data
 *
 * A rename happens as a whole or not at all. Object and record are words of disk.h. */
#include "tests/faults/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OBJECTS_MAX = 65536, PATH_BYTES = 4096 };

struct change {
    const struct disk_record *record; /* DISK_WRITE or DISK_TRUNCATE */
    uint64_t number;                  /* of the record */
};

struct object {
    uint64_t inode;
    bool is_folder;
    struct change *changes;
    size_t nchanges, room;
    size_t durable; /* the first so many changes survive */
};

/* A name that was given or taken; those of one record share its number. */
struct event {
    uint64_t number;
    struct object *parent, *object; /* object NULL: the name is gone */
    const char *name;
    bool durable;
};

struct model {
    struct object *objects[OBJECTS_MAX]; /* newest last */
    size_t nobjects;
    struct event *events;
    size_t nevents, room;
    struct object *root;
};

static const char *const kinds[] = { "?",     "root",   "create", "mkdir",  "write",
                                     "trunc", "sync",   "rename", "link",   "unlink" };

static _Noreturn void
die(const char *what)
{
    fprintf(stderr, "replay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *
grow(void *p, size_t n, size_t *room, size_t size)
{
    if (n < *room)
        return p;
    *room = *room ? *room * 2 : 64;
    p = realloc(p, *room * size);
    if (!p)
        die("memory");
    return p;
}

/* --- chance ------------------------------------------------------------------------------- */

static uint64_t chance_state;

/* splitmix64: the same states for the same seed everywhere. */
static uint64_t
chance(void)
{
    uint64_t z = (chance_state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static bool
chance_of(uint64_t percent)
{
    return chance() % 100 < percent;
}

/* --- the model ---------------------------------------------------------------------------- */

static struct object *
find(const struct model *m, uint64_t inode)
{
    for (size_t i = m->nobjects; i-- > 0;)
        if (m->objects[i]->inode == inode)
            return m->objects[i];
    return NULL;
}

static struct object *
object_new(struct model *m, uint64_t inode, bool is_folder)
{
    if (m->nobjects == OBJECTS_MAX)
        die("too many objects");
    struct object *o = calloc(1, sizeof *o);
    if (!o)
        die("memory");
    o->inode = inode;
    o->is_folder = is_folder;
    return m->objects[m->nobjects++] = o;
}

static void
name_event(struct model *m, uint64_t number, uint64_t parent, const char *name, struct object *o)
{
    struct object *folder = find(m, parent);
    if (!folder)
        return;
    m->events = grow(m->events, m->nevents, &m->room, sizeof *m->events);
    m->events[m->nevents++] =
        (struct event){ .number = number, .parent = folder, .object = o, .name = name };
}

static void
change_add(struct object *o, const struct disk_record *r, uint64_t number)
{
    if (!o)
        return; /* a file that was there before the first record: not ours to check */
    o->changes = grow(o->changes, o->nchanges, &o->room, sizeof *o->changes);
    o->changes[o->nchanges++] = (struct change){ r, number };
}

/* A journal of a file system commits a record's names together. */
static void
names_sync(struct model *m, const struct object *folder, uint64_t before)
{
    for (size_t i = 0; i < m->nevents; i++) {
        if (m->events[i].parent != folder || m->events[i].number >= before)
            continue;
        m->events[i].durable = true;
        if (i > 0 && m->events[i - 1].number == m->events[i].number)
            m->events[i - 1].durable = true;
        if (i + 1 < m->nevents && m->events[i + 1].number == m->events[i].number)
            m->events[i + 1].durable = true;
    }
}

static void
object_sync(struct model *m, struct object *o, uint64_t before)
{
    if (!o)
        return;
    if (o->is_folder)
        names_sync(m, o, before);
    while (o->durable < o->nchanges && o->changes[o->durable].number < before)
        o->durable++;
}

static void
record_take(struct model *m, const struct disk_record *r, uint64_t number)
{
    switch (r->kind) {
    case DISK_ROOT:
        if (!m->root)
            m->root = object_new(m, r->object, true);
        break;
    case DISK_CREATE:
    case DISK_MKDIR:
        name_event(m, number, r->parent, r->name,
                   object_new(m, r->object, r->kind == DISK_MKDIR));
        break;
    case DISK_WRITE:
    case DISK_TRUNCATE: change_add(find(m, r->object), r, number); break;
    case DISK_SYNC: object_sync(m, find(m, r->object), r->offset); break;
    case DISK_RENAME:
        name_event(m, number, r->parent, r->name, NULL);
        name_event(m, number, r->parent_to, r->name_to, find(m, r->object));
        break;
    case DISK_LINK:
        name_event(m, number, r->parent_to, r->name_to, find(m, r->object));
        break;
    case DISK_UNLINK: name_event(m, number, r->parent, r->name, NULL); break;
    default: errno = EINVAL; die("not a trace");
    }
}

/* --- what is left ------------------------------------------------------------------------- */

struct mode {
    const char *name;
    unsigned names, data; /* chance in percent that what was not synced is there; 101: a random one */
    uint64_t unit;        /* bytes that are written as a whole */
};

static const struct mode modes[] = {
    { "drop", 0, 0, UINT64_MAX },    { "kept", 100, 100, UINT64_MAX },
    { "data", 0, 100, UINT64_MAX },  { "names", 100, 0, UINT64_MAX },
    { "blocks", 101, 101, 4096 },    { "sectors", 101, 101, 512 },
};

struct bytes {
    unsigned char *p;
    uint64_t n, room;
};

static void
bytes_resize(struct bytes *b, uint64_t n)
{
    if (n > b->room) {
        b->room = n * 2;
        b->p = realloc(b->p, b->room);
        if (!b->p)
            die("memory");
    }
    if (n > b->n)
        memset(b->p + b->n, 0, n - b->n);
    b->n = n;
}

static void
piece_put(struct bytes *b, const struct disk_record *r, uint64_t from, uint64_t to)
{
    if (b->n < to)
        bytes_resize(b, to);
    memcpy(b->p + from, (const unsigned char *)(r + 1) + (from - r->offset), to - from);
}

static void
change_put(struct bytes *b, const struct disk_record *r, uint64_t percent, uint64_t unit)
{
    if (r->kind == DISK_TRUNCATE) {
        if (chance_of(percent))
            bytes_resize(b, r->offset);
        return;
    }
    for (uint64_t from = r->offset, end = r->offset + r->n, to; from < end; from = to) {
        to = unit < UINT64_MAX ? (from / unit + 1) * unit : end;
        if (to > end)
            to = end;
        if (chance_of(percent))
            piece_put(b, r, from, to);
    }
}

static void
file_put(const struct object *o, const char *path, const struct mode *mode)
{
    struct bytes b = { NULL, 0, 0 };
    uint64_t percent = mode->data > 100 ? chance() % 101 : mode->data;
    for (size_t i = 0; i < o->nchanges; i++)
        change_put(&b, o->changes[i].record, i < o->durable ? 100 : percent,
                   i < o->durable ? UINT64_MAX : mode->unit);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        die(path);
    for (uint64_t at = 0; at < b.n;) {
        ssize_t done = write(fd, b.p + at, b.n - at);
        if (done <= 0)
            die(path);
        at += (uint64_t)done;
    }
    close(fd);
    free(b.p);
}

static void
names_choose(struct model *m, const struct mode *mode)
{
    uint64_t percent = mode->names > 100 ? chance() % 101 : mode->names;
    for (size_t i = 0; i < m->nevents; i++) {
        bool together = i > 0 && m->events[i - 1].number == m->events[i].number;
        if (!m->events[i].durable)
            m->events[i].durable = together ? m->events[i - 1].durable : chance_of(percent);
    }
}

/* The last event of each name that happened says what it is. */
static bool
is_last(const struct model *m, size_t at)
{
    const struct event *e = &m->events[at];
    for (size_t i = at + 1; i < m->nevents; i++)
        if (m->events[i].durable && m->events[i].parent == e->parent &&
            strcmp(m->events[i].name, e->name) == 0)
            return false;
    return true;
}

static void
folder_put(const struct model *m, const struct object *folder, const char *path,
           const struct mode *mode)
{
    for (size_t i = 0; i < m->nevents; i++) {
        const struct event *e = &m->events[i];
        char name[PATH_BYTES];
        if (e->parent != folder || !e->durable || !e->object || !is_last(m, i))
            continue;
        snprintf(name, sizeof name, "%s/%s", path, e->name);
        if (!e->object->is_folder) {
            file_put(e->object, name, mode);
            continue;
        }
        if (mkdir(name, 0700) != 0)
            die(name);
        folder_put(m, e->object, name, mode);
    }
}

/* --- the trace ---------------------------------------------------------------------------- */

static const unsigned char *
trace_map(const char *path, size_t *ret_n)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        die(path);
    *ret_n = (size_t)st.st_size;
    void *p = mmap(NULL, *ret_n, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        die(path);
    close(fd);
    return p;
}

static const struct disk_record *
record_next(const unsigned char *trace, size_t size, size_t *at)
{
    const struct disk_record *r = (const void *)(trace + *at);
    if (size - *at < sizeof *r || size - *at - sizeof *r < r->n)
        return NULL;
    /* Aligned, because the bytes of a write are padded. */
    *at += sizeof *r + (r->n + 7) / 8 * 8;
    return r;
}

static int
list(const unsigned char *trace, size_t size)
{
    const struct disk_record *r;
    for (size_t at = 0; at < size && (r = record_next(trace, size, &at));)
        printf("%" PRIu64 " %s %" PRIu64 " %" PRIu64 " %s\n", r->at, kinds[r->kind], r->object,
               r->kind == DISK_WRITE ? r->n : r->offset, r->name_to[0] ? r->name_to : r->name);
    return 0;
}

static int
restore(const unsigned char *trace, size_t size, uint64_t cut, const char *word, uint64_t seed,
        const char *folder)
{
    static struct model m;
    const struct mode *mode = NULL;
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(modes[i].name, word) == 0)
            mode = &modes[i];
    errno = EINVAL;
    if (!mode)
        die(word);
    const struct disk_record *r;
    size_t at = 0;
    for (uint64_t n = 0; n < cut && at < size && (r = record_next(trace, size, &at)); n++)
        record_take(&m, r, n);
    chance_state = seed;
    names_choose(&m, mode);
    folder_put(&m, m.root, folder, mode);
    return 0;
}

int
main(int argc, char **argv)
{
    if (argc != 2 && argc != 6) {
        fputs("usage: replay TRACE [CUT MODE SEED FOLDER]\n", stderr);
        return 2;
    }
    size_t size;
    const unsigned char *trace = trace_map(argv[1], &size);
    if (argc == 2)
        return list(trace, size);
    return restore(trace, size, strtoull(argv[2], NULL, 10), argv[3],
                   strtoull(argv[4], NULL, 10), argv[5]);
}
