/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/plugin/check.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A child writes and reports each group that was DONE; the parent kills it at a random moment and
 * looks what is there. It never shows a missing sync (the kernel keeps what was written), but it
 * shows everything else. */

enum { ROUNDS = 12, GROUP = 4, VALUE = 200 };

/* What the child tells its parent after each group. */
struct report {
    uint64_t groups;   /* DONE so far, in all rounds */
    uint64_t revision; /* the greatest one */
};

/* Batch i sets the rows a<i> and b<i>, and takes away c<i>, which batch i - 1 has set as c<i>. */
static struct kaiten_batch *
batch_of(struct check *c, uint64_t i)
{
    struct kaiten_batch *batch = check_batch(c);
    struct kaiten_bytes value = check_filled(c, (int)(i % 251), VALUE);
    check_set(batch, check_key_number(c, "a", i), value);
    check_set(batch, check_key_number(c, "b", i * 7919 % 1000003), value);
    check_set(batch, check_key_number(c, "c", i + 1), value);
    check_delete(batch, check_key_number(c, "c", i));
    return batch;
}

static void
child_run(struct check *c, int pipe_fd, uint64_t groups)
{
    if (!check_open(c))
        _exit(1);
    struct report report = { .groups = groups };
    for (;;) {
        struct kaiten_batch batches[GROUP];
        struct kaiten_outcome outcomes[GROUP];
        for (uint64_t i = 0; i < GROUP; i++)
            batches[i] = *batch_of(c, report.groups * GROUP + i);
        if (check_apply(c, batches, GROUP, outcomes) != KAITEN_DONE)
            _exit(1);
        for (size_t i = 0; i < GROUP; i++) {
            if (outcomes[i].status != KAITEN_DONE)
                _exit(1);
            report.revision = outcomes[i].revision;
        }
        report.groups++;
        if (write(pipe_fd, &report, sizeof report) != sizeof report)
            _exit(1);
    }
}

/* Starts a child, kills it, and leaves its last report in *report. */
static bool
child_kill(struct check *c, struct report *report)
{
    int ends[2];
    EXPECT(pipe(ends) == 0);
    pid_t pid = fork();
    EXPECT(pid >= 0);
    if (pid == 0)
        child_run(c, ends[1], report->groups);
    close(ends[1]);
    /* From the first report on: a child that is killed while it recovers has its turn later. */
    bool alive = read(ends[0], report, sizeof *report) == sizeof *report;
    struct timespec pause = { 0, (long)(check_random() % 40000000) };
    nanosleep(&pause, NULL);
    kill(pid, SIGKILL);
    while (read(ends[0], report, sizeof *report) == sizeof *report)
        continue;
    close(ends[0]);
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return alive || check_fail("the child could not write");
}

static bool
has_row(struct check *c, struct kaiten_bytes key, struct kaiten_bytes value, uint64_t *revision)
{
    struct kaiten_emit emit;
    EXPECT(check_read(c, key, &emit));
    bool has = emit.n == 1 && check_compare(emit.rows[0].value, value) == 0;
    if (has && emit.rows[0].revision > *revision)
        *revision = emit.rows[0].revision;
    fake_emit_done(&emit);
    return has;
}

/* Every acknowledged batch is there; the groups after that are there or not, but each batch is
 * whole. Sets *groups to the groups that are there. */
static bool
store_check(struct check *c, const struct report *report, uint64_t *groups)
{
    EXPECT(check_open(c));
    uint64_t newest = 0, batches = 0;
    for (;; batches++) {
        struct kaiten_bytes value = check_filled(c, (int)(batches % 251), VALUE);
        bool a = has_row(c, check_key_number(c, "a", batches), value, &newest);
        bool b = has_row(c, check_key_number(c, "b", batches * 7919 % 1000003), value, &newest);
        EXPECT(a == b);
        if (!a)
            break;
    }
    if (batches < report->groups * GROUP)
        return check_fail("%llu batches are there, %llu were acknowledged",
                          (unsigned long long)batches,
                          (unsigned long long)(report->groups * GROUP));
    /* One c row, that of the last batch. */
    struct kaiten_range range = { .from = check_key(c, "c"), .to = check_key(c, "d") };
    struct kaiten_emit emit;
    fake_emit_init(&emit);
    EXPECT(check_scan(c, &range, &emit) == KAITEN_DONE);
    EXPECT(emit.n == 1);
    EXPECT(check_compare(emit.rows[0].key, check_key_number(c, "c", batches)) == 0);
    fake_emit_done(&emit);

    struct kaiten_outcome outcome = check_apply_one(c, batch_of(c, batches));
    EXPECT(outcome.status == KAITEN_DONE);
    EXPECT(outcome.revision > newest && outcome.revision > report->revision);
    check_close(c);
    *groups = (batches + 1) / GROUP;
    return true;
}

static bool
crash_kill(struct check *c)
{
    struct report report = { 0 };
    for (int round = 0; round < ROUNDS; round++) {
        EXPECT(child_kill(c, &report));
        /* The next child starts with the group that may be there in part: to set again is fine. */
        EXPECT(store_check(c, &report, &report.groups));
    }
    return true;
}

const struct check_case cases_crash[] = {
    { "KAITEN_DONE survives kill -9, every batch is whole, no revision comes again", crash_kill,
      NEED_DIRECTORY | NEED_DURABLE },
    { NULL, NULL, 0 },
};
