/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* bdb-tool PLUGIN DIRECTORY [KEY=VALUE...] COMMAND...: opens the store, runs the commands in their
 * order, closes it. Says what came of each on a line of its own. Exit status 0: all went well;
 * 1: a command did not; 3: the store could not be opened.
 *
 *     fill=N     N rows more, in groups of 50; stops at the first that is refused
 *     end=N      an urgent write to row N
 *     ends=N     N urgent writes, or as many as the disk takes; that is no failure
 *     mixed=N    a group: a new row, an urgent write to row N, a new row
 *     drop=N     deletes every row but each N-th
 *     count=N    there are N rows, numbered without a gap, and each is as it was written
 *     each=N     each of the first N rows is there, asked for by itself, from the last one down
 *     cut=N      somebody else cuts the file of the rows to N pages
 *     late=N     row N is written anew while a scan is at the first row: the scan has it as it is now
 *     base=1     waits for a base copy that is newer than this process
 *     backup=DIR, verify=DIR, check=1, health=1
 *     both=DIR   two backups into it at the same time: one is made, the other one refused
 *     split=1    one batch of a group cannot be written; the others are, the urgent one first
 *     rows=abc   prints each row of these spaces: "row", key and value in hexadecimal digits
 *     row=K:V    writes that row; without a value: deletes it
 *     wait=1     waits to be killed
 *     !COMMAND   must not go well
 */
#include "config.h"

#include "plugins/kaiten-storage.h"

#include "tests/plugin/fake-host.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { GROUP = 50, KEY = 16, VALUE = 300, PAGE = 4096, BASE_WAIT_S = 120 };

struct tool {
    const struct kaiten_storage *s;
    const char *directory;
    void *store;
    unsigned long rows;
    struct stat base; /* the manifest of the base copy that was there at first */
    struct kaiten_err err;
};

static bool
base_stat(const struct tool *t, struct stat *ret)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/base/manifest", t->directory);
    return stat(path, ret) == 0;
}

static struct kaiten_write
row_write(char key[KEY], char value[VALUE], unsigned long number)
{
    int n = snprintf(key, KEY, "t%010lu", number);
    for (int i = 0; i < VALUE; i++)
        value[i] = (char)(number * 31 + (unsigned long)i * 7);
    return (struct kaiten_write){ KAITEN_SET, { key, (size_t)n }, { value, VALUE } };
}

static enum kaiten_status
group_write(struct tool *t, unsigned long from, unsigned n)
{
    static char keys[GROUP][KEY], values[GROUP][VALUE];
    struct kaiten_write writes[GROUP];
    struct kaiten_batch batches[GROUP] = { { 0 } };
    struct kaiten_outcome outcomes[GROUP];
    for (unsigned i = 0; i < n; i++) {
        writes[i] = row_write(keys[i], values[i], from + i);
        batches[i] = (struct kaiten_batch){ .writes = &writes[i], .nwrites = 1 };
    }
    enum kaiten_status status = t->s->apply(t->store, batches, n, outcomes, &t->err);
    for (unsigned i = 0; i < n && status == KAITEN_DONE; i++)
        status = outcomes[i].status;
    return status;
}

/* Numbers without a gap from 0 on, each with its value; how many, or -1. */
static long
rows_count(struct tool *t)
{
    char key[KEY], value[VALUE];
    struct kaiten_emit emit;
    struct kaiten_range all = { .from = { "t", 1 } };
    fake_emit_init(&emit);
    long n = t->s->scan(t->store, &all, &emit, &t->err) == KAITEN_DONE ? 0 : -1;
    for (size_t i = 0; i < emit.n && n >= 0; i++) {
        struct kaiten_write w = row_write(key, value, i);
        const struct fake_row *row = &emit.rows[i];
        bool same = row->key.n == w.key.n && memcmp(row->key.p, key, w.key.n) == 0 &&
                    row->value.n == VALUE && memcmp(row->value.p, value, VALUE) == 0;
        n = same ? n + 1 : -1;
    }
    fake_emit_done(&emit);
    return n;
}

/* Not before somebody asks: it reads every page. */
static void
rows_learn(struct tool *t)
{
    long n = t->rows == 0 ? rows_count(t) : 0;
    if (n > 0)
        t->rows = (unsigned long)n;
}

static bool
fill(struct tool *t, unsigned long n)
{
    rows_learn(t);
    unsigned long end = t->rows + n;
    enum kaiten_status status = KAITEN_DONE;
    while (t->rows < end && status == KAITEN_DONE) {
        unsigned group = end - t->rows < GROUP ? (unsigned)(end - t->rows) : GROUP;
        status = group_write(t, t->rows, group);
        if (status == KAITEN_DONE)
            t->rows += group;
    }
    printf("fill: %d, %lu rows: %s\n", (int)status, t->rows, t->err.text);
    return status == KAITEN_DONE;
}

static enum kaiten_status
urgent_write(struct tool *t, unsigned long number)
{
    char key[KEY], value[VALUE];
    struct kaiten_write write = row_write(key, value, number);
    struct kaiten_batch batch = { .writes = &write, .nwrites = 1, .flags = KAITEN_BATCH_URGENT };
    struct kaiten_outcome outcome = { 0 };
    enum kaiten_status status = t->s->apply(t->store, &batch, 1, &outcome, &t->err);
    return status == KAITEN_DONE ? outcome.status : status;
}

static bool
urgent(struct tool *t, unsigned long number)
{
    enum kaiten_status status = urgent_write(t, number);
    printf("end: %d: %s\n", (int)status, t->err.text);
    return status == KAITEN_DONE;
}

static bool
urgent_many(struct tool *t, unsigned long n)
{
    enum kaiten_status status = KAITEN_DONE;
    unsigned long done = 0;
    while (done < n && (status = urgent_write(t, done % 1000)) == KAITEN_DONE)
        done++;
    printf("ends: %d, %lu: %s\n", (int)status, done, t->err.text);
    return status == KAITEN_DONE || status == KAITEN_FULL;
}

static bool
mixed(struct tool *t, unsigned long number)
{
    rows_learn(t);
    char keys[3][KEY], values[3][VALUE];
    struct kaiten_write writes[3] = { row_write(keys[0], values[0], t->rows),
                                      row_write(keys[1], values[1], number),
                                      row_write(keys[2], values[2], t->rows + 1) };
    struct kaiten_batch batches[3] = { { .writes = &writes[0], .nwrites = 1 },
                                       { .writes = &writes[1], .nwrites = 1,
                                         .flags = KAITEN_BATCH_URGENT },
                                       { .writes = &writes[2], .nwrites = 1 } };
    struct kaiten_outcome o[3] = { { 0 } };
    enum kaiten_status status = t->s->apply(t->store, batches, 3, o, &t->err);
    printf("mixed: %d: %d %d %d: %s\n", (int)status, (int)o[0].status, (int)o[1].status,
           (int)o[2].status, t->err.text);
    return status == KAITEN_DONE;
}

static bool
drop(struct tool *t, unsigned long keep)
{
    rows_learn(t);
    char key[KEY], value[VALUE];
    enum kaiten_status status = KAITEN_DONE;
    for (unsigned long i = 0; i < t->rows && status == KAITEN_DONE; i++) {
        struct kaiten_write write = row_write(key, value, i);
        write.type = KAITEN_DELETE;
        struct kaiten_batch batch = { .writes = &write, .nwrites = 1 };
        struct kaiten_outcome outcome;
        if (keep == 0 || i % keep != 0)
            status = t->s->apply(t->store, &batch, 1, &outcome, &t->err);
    }
    printf("drop: %d: %s\n", (int)status, t->err.text);
    return status == KAITEN_DONE;
}

static bool
count(struct tool *t, unsigned long wanted)
{
    long n = rows_count(t);
    printf("count: %ld: %s\n", n, t->err.text);
    return n == (long)wanted;
}

static bool
each(struct tool *t, unsigned long n)
{
    char key[KEY], value[VALUE];
    struct kaiten_emit emit;
    enum kaiten_status status = KAITEN_DONE;
    bool there = true;
    for (unsigned long i = n; i > 0 && status == KAITEN_DONE && there; i--) {
        struct kaiten_bytes one = row_write(key, value, i - 1).key;
        fake_emit_init(&emit);
        status = t->s->get(t->store, &one, 1, &emit, &t->err);
        there = emit.n == 1 && memcmp(emit.rows[0].value.p, value, VALUE) == 0;
        fake_emit_done(&emit);
    }
    printf("each: %d %d: %s\n", (int)status, there, t->err.text);
    return status == KAITEN_DONE && there;
}

static bool
cut(struct tool *t, unsigned long pages)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/space-74.db", t->directory);
    return truncate(path, (off_t)pages * PAGE) == 0;
}

/* What happens when the sink has its first row. */
static struct {
    struct tool *tool;
    unsigned long row;
    enum kaiten_status status;
} meanwhile;

static bool
tool_row(struct kaiten_emit *emit, struct kaiten_bytes key, struct kaiten_bytes value,
         uint64_t revision)
{
    struct tool *t = meanwhile.tool;
    if (t && emit->n == 0) {
        char own_key[KEY], other_key[KEY], own[VALUE], other[VALUE];
        struct kaiten_write write = row_write(own_key, own, meanwhile.row);
        write.value = row_write(other_key, other, meanwhile.row + 1).value;
        struct kaiten_batch batch = { .writes = &write, .nwrites = 1 };
        struct kaiten_outcome outcome = { 0 };
        meanwhile.status = t->s->apply(t->store, &batch, 1, &outcome, &t->err);
    }
    return fake_host()->row(emit, key, value, revision);
}

static bool
late(struct tool *t, unsigned long number)
{
    char key[KEY], value[VALUE];
    struct kaiten_emit emit;
    struct kaiten_range all = { .from = { "t", 1 } };
    struct kaiten_write now = row_write(key, value, number + 1);
    fake_emit_init(&emit);
    meanwhile.tool = t;
    meanwhile.row = number;
    enum kaiten_status status = t->s->scan(t->store, &all, &emit, &t->err);
    meanwhile.tool = NULL;
    bool good = status == KAITEN_DONE && meanwhile.status == KAITEN_DONE && emit.n > number &&
                memcmp(emit.rows[number].value.p, now.value.p, VALUE) == 0;
    printf("late: %d %d, %zu rows: %s\n", (int)status, (int)meanwhile.status, emit.n, t->err.text);
    fake_emit_done(&emit);
    return good;
}

static bool
base_wait(struct tool *t)
{
    struct stat st;
    for (int i = 0; i < BASE_WAIT_S * 20; i++) {
        if (base_stat(t, &st) && (st.st_ino != t->base.st_ino ||
                                  st.st_mtim.tv_sec != t->base.st_mtim.tv_sec ||
                                  st.st_mtim.tv_nsec != t->base.st_mtim.tv_nsec)) {
            printf("base: done\n");
            return true;
        }
        nanosleep(&(struct timespec){ 0, 50000000 }, NULL);
    }
    printf("base: none\n");
    return false;
}

static bool
split(struct tool *t)
{
    struct kaiten_write writes[3] = { { KAITEN_SET, { "ya", 2 }, { "1", 1 } },
                                      { KAITEN_SET, { "yb", 2 }, { "2", 1 } },
                                      { KAITEN_SET, { "yc", 2 }, { "3", 1 } } };
    struct kaiten_cond poison = { (enum kaiten_cond_type)99, { "yb", 2 }, 0 };
    struct kaiten_batch batches[3] = { { .writes = &writes[0], .nwrites = 1 },
                                       { .writes = &writes[1], .nwrites = 1,
                                         .conds = &poison, .nconds = 1 },
                                       { .writes = &writes[2], .nwrites = 1,
                                         .flags = KAITEN_BATCH_URGENT } };
    struct kaiten_outcome o[3] = { { 0 } };
    enum kaiten_status status = t->s->apply(t->store, batches, 3, o, &t->err);
    printf("split: %d: %d %d %d\n", (int)status, (int)o[0].status, (int)o[1].status,
           (int)o[2].status);
    if (status != KAITEN_DONE || o[0].status != KAITEN_DONE || o[1].status != KAITEN_FAILED ||
        o[2].status != KAITEN_DONE || o[2].revision >= o[0].revision)
        return false;
    struct kaiten_bytes keys[3] = { { "ya", 2 }, { "yb", 2 }, { "yc", 2 } };
    struct kaiten_emit emit;
    fake_emit_init(&emit);
    bool good = t->s->get(t->store, keys, 3, &emit, &t->err) == KAITEN_DONE && emit.n == 2;
    fake_emit_done(&emit);
    return good && t->s->apply(t->store, &batches[1], 1, o, &t->err) != KAITEN_DONE;
}

static void
print_bytes(char before, struct kaiten_bytes bytes)
{
    const unsigned char *p = bytes.p;
    putchar(before);
    for (size_t i = 0; i < bytes.n; i++)
        printf("%02x", p[i]);
}

static bool
print_rows(struct tool *t, const char *space)
{
    struct kaiten_emit emit;
    const struct kaiten_range all = { .from = { space, 1 } };
    fake_emit_init(&emit);
    enum kaiten_status status = t->s->scan(t->store, &all, &emit, &t->err);
    for (size_t i = 0; i < emit.n; i++) {
        printf("row");
        print_bytes(' ', emit.rows[i].key);
        print_bytes(' ', emit.rows[i].value);
        putchar('\n');
    }
    fake_emit_done(&emit);
    printf("rows: %d: %s\n", (int)status, t->err.text);
    return status == KAITEN_DONE && (space[1] == '\0' || print_rows(t, space + 1));
}

static bool
write_row(struct tool *t, const char *text)
{
    static char key[KAITEN_KEY_MAX], value[KAITEN_VALUE_MAX];
    size_t nkey, nvalue;
    const char *end;
    if (sodium_hex2bin((unsigned char *)key, sizeof key, text, strlen(text), NULL, &nkey, &end) ||
        *end != ':' ||
        sodium_hex2bin((unsigned char *)value, sizeof value, end + 1, strlen(end + 1), NULL,
                       &nvalue, NULL)) {
        printf("row: no such form\n");
        return false;
    }
    struct kaiten_write write = { nvalue == 0 ? KAITEN_DELETE : KAITEN_SET, { key, nkey },
                                  { value, nvalue } };
    struct kaiten_batch batch = { .writes = &write, .nwrites = 1 };
    struct kaiten_outcome outcome = { .status = KAITEN_FAILED };
    enum kaiten_status status = t->s->apply(t->store, &batch, 1, &outcome, &t->err);
    printf("row: %d %d: %s\n", (int)status, (int)outcome.status, t->err.text);
    return status == KAITEN_DONE && outcome.status == KAITEN_DONE;
}

static bool
say(struct tool *t, const char *what, enum kaiten_status status)
{
    printf("%s: %d: %s\n", what, (int)status, t->err.text);
    return status == KAITEN_DONE;
}

struct one {
    struct tool *tool;
    const char *dir;
    enum kaiten_status status;
};

static void *
backup_one(void *arg)
{
    struct one *one = arg;
    struct kaiten_err err;
    fake_err_init(&err);
    one->status = one->tool->s->backup(one->tool->store, one->dir, &err);
    return NULL;
}

static bool
backup_both(struct tool *t, const char *dir)
{
    pthread_t thread;
    struct one a = { t, dir, KAITEN_FAILED }, b = a;
    if (pthread_create(&thread, NULL, backup_one, &a) != 0)
        return false;
    backup_one(&b);
    pthread_join(thread, NULL);
    printf("both: %d %d\n", (int)a.status, (int)b.status);
    return (a.status == KAITEN_DONE) != (b.status == KAITEN_DONE) &&
           t->s->verify(fake_host(), dir, &t->err) == KAITEN_DONE;
}

static bool
run(struct tool *t, const char *command)
{
    char name[16] = "";
    if (command[0] == '!')
        return !run(t, command + 1);
    const char *value = strchr(command, '=') + 1;
    unsigned long n = strtoul(value, NULL, 10);
    snprintf(name, sizeof name, "%.*s", (int)(value - 1 - command), command);
    fake_err_init(&t->err);
    if (strcmp(name, "fill") == 0)
        return fill(t, n);
    if (strcmp(name, "end") == 0)
        return urgent(t, n);
    if (strcmp(name, "ends") == 0)
        return urgent_many(t, n);
    if (strcmp(name, "mixed") == 0)
        return mixed(t, n);
    if (strcmp(name, "drop") == 0)
        return drop(t, n);
    if (strcmp(name, "count") == 0)
        return count(t, n);
    if (strcmp(name, "each") == 0)
        return each(t, n);
    if (strcmp(name, "cut") == 0)
        return cut(t, n);
    if (strcmp(name, "late") == 0)
        return late(t, n);
    if (strcmp(name, "base") == 0)
        return base_wait(t);
    if (strcmp(name, "split") == 0)
        return split(t);
    if (strcmp(name, "rows") == 0)
        return print_rows(t, value);
    if (strcmp(name, "row") == 0)
        return write_row(t, value);
    if (strcmp(name, "backup") == 0)
        return say(t, name, t->s->backup(t->store, value, &t->err));
    if (strcmp(name, "both") == 0)
        return backup_both(t, value);
    if (strcmp(name, "verify") == 0)
        return say(t, name, t->s->verify(fake_host(), value, &t->err));
    if (strcmp(name, "check") == 0)
        return say(t, name, t->s->check(t->store, &t->err));
    if (strcmp(name, "health") == 0)
        return say(t, name, t->s->health(t->store, &t->err));
    if (strcmp(name, "wait") == 0) {
        printf("waiting\n");
        fflush(stdout);
        pause();
    }
    printf("%s: no such command\n", name);
    return false;
}

static bool
tool_open(struct tool *t, struct kaiten_config *config)
{
    fake_err_init(&t->err);
    fake_host_in_open(true);
    static struct kaiten_host host;
    host = *fake_host();
    host.row = tool_row;
    enum kaiten_status status = t->s->open(&host, config, &t->store, &t->err);
    fake_host_in_open(false);
    printf("open: %d: %s\n", (int)status, t->err.text);
    return status == KAITEN_DONE;
}

int
main(int argc, char **argv)
{
    char problem[256];
    void *handle = argc > 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
    struct tool t = { .s = handle ? dlsym(handle, "kaiten_storage_plugin") : NULL };
    if (!t.s) {
        fprintf(stderr, "usage: bdb-tool PLUGIN DIRECTORY [KEY=VALUE...] COMMAND...\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    fake_host_verbose(true);
    t.directory = argv[2];
    (void)base_stat(&t, &t.base);
    struct kaiten_config *config = fake_config_new(t.s->options);
    fake_config_set(config, "path", argv[2]);
    int at = 3;
    while (at < argc && fake_config_add(config, argv[at], problem, sizeof problem))
        at++;
    bool good = tool_open(&t, config);
    int code = good ? 0 : 3;
    if (good) {
        for (; at < argc && good; at++)
            good = run(&t, argv[at]);
        t.s->close(t.store);
        code = good ? 0 : 1;
    }
    fake_config_free(config);
    return code;
}
