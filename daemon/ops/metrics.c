/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the daemon counts, in the text format of Prometheus (version 0.0.4). No name of an
 * organization, an account or a token is in it: it may be shown to anybody. */
#include "config.h"

#include "daemon/metrics.h"

#include "client/proto/buf.h"
#include "daemon/commit.h"
#include "daemon/follow.h"
#include "daemon/index.h"
#include "daemon/limits.h"
#include "daemon/ops.h"
#include "daemon/service.h"
#include "daemon/store.h"
#include "daemon/worker.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PAGE_MAX = 1024 * 1024 };

static void
head(struct kt_buf *out, const char *type, const char *name, const char *help)
{
    kt_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A number without labels. */
static void
number(struct kt_buf *out, const char *type, const char *name, double value, const char *help)
{
    head(out, type, name, help);
    kt_buf_printf(out, "%s %.15g\n", name, value);
}

static void
gauge(struct kt_buf *out, const char *name, double value, const char *help)
{
    number(out, "gauge", name, value, help);
}

static void
counter(struct kt_buf *out, const char *name, double value, const char *help)
{
    number(out, "counter", name, value, help);
}

/* --- requests ----------------------------------------------------------------------------- */

static const enum door doors[] = { DOOR_SOCKET, DOOR_HTTP };

static const char *
door_name(enum door door)
{
    return door == DOOR_HTTP ? "http" : "socket";
}

static const char *
op_name(size_t op)
{
    return op < KT_OP_COUNT ? kt_op_specs[op].name : "none";
}

static uint64_t
answers(const struct metrics_requests *r)
{
    uint64_t n = 0;
    for (size_t i = 0; i <= METRICS_BUCKETS; i++)
        n += r->took[i];
    return n;
}

/* Each operation that was asked for, through each door. */
static void
each_asked(struct kt_buf *out, const struct metrics *m,
           void (*print)(struct kt_buf *, const char *labels, const struct metrics_requests *))
{
    for (size_t d = 0; d < sizeof doors / sizeof doors[0]; d++)
        for (size_t op = 0; op < METRICS_OPS; op++) {
            struct metrics_requests r;
            char labels[128];
            metrics_requests(m, doors[d], op, &r);
            snprintf(labels, sizeof labels, "door=\"%s\",operation=\"%s\"", door_name(doors[d]),
                     op_name(op));
            if (answers(&r) != 0)
                print(out, labels, &r);
        }
}

static void
print_kinds(struct kt_buf *out, const char *labels, const struct metrics_requests *r)
{
    for (size_t kind = 0; kind < KT_KIND_COUNT; kind++)
        if (r->kinds[kind] != 0)
            kt_buf_printf(out, "kaitend_requests_total{%s,status=\"%d\"} %llu\n", labels,
                          kt_kind_info((enum kt_kind)kind)->http,
                          (unsigned long long)r->kinds[kind]);
}

static void
print_took(struct kt_buf *out, const char *labels, const struct metrics_requests *r)
{
    uint64_t n = 0;
    for (size_t i = 0; i < METRICS_BUCKETS; i++) {
        n += r->took[i];
        kt_buf_printf(out, "kaitend_request_duration_seconds_bucket{%s,le=\"%g\"} %llu\n", labels,
                      (double)metrics_bucket_ms[i] / 1000, (unsigned long long)n);
    }
    unsigned long long all = answers(r);
    kt_buf_printf(out,
                  "kaitend_request_duration_seconds_bucket{%s,le=\"+Inf\"} %llu\n"
                  "kaitend_request_duration_seconds_sum{%s} %.3f\n"
                  "kaitend_request_duration_seconds_count{%s} %llu\n",
                  labels, all, labels, (double)r->took_ms / 1000, labels, all);
}

static void
print_requests(struct kt_buf *out, const struct metrics *m)
{
    head(out, "counter", "kaitend_requests_total",
         "Answers, by door, operation (none: the request named none) and status; 200 is any "
         "success.");
    each_asked(out, m, print_kinds);
    head(out, "histogram", "kaitend_request_duration_seconds",
         "From the head or message of a request to its answer; 0: in the same turn of a loop.");
    each_asked(out, m, print_took);
}

/* --- listeners ---------------------------------------------------------------------------- */

static void
print_label(struct kt_buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            kt_buf_putc(out, '\\');
        kt_buf_putc(out, *text);
    }
}

static void
print_listener(struct kt_buf *out, const char *name, const struct metrics_listener *l,
               const char *reason, uint64_t value)
{
    kt_buf_printf(out, "%s{door=\"%s\",listener=\"", name, door_name(l->door));
    print_label(out, l->name);
    if (reason)
        kt_buf_printf(out, "\",reason=\"%s", reason);
    kt_buf_printf(out, "\"} %llu\n", (unsigned long long)value);
}

static void
print_listeners(struct kt_buf *out, const struct metrics *m)
{
    static const char open[] = "kaitend_connections",
                      accepted[] = "kaitend_connections_accepted_total",
                      refused[] = "kaitend_connections_refused_total",
                      evicted[] = "kaitend_connections_evicted_total";
    const struct metrics_listener *l;
    head(out, "gauge", open, "Open connections.");
    for (size_t i = 0; (l = metrics_listener_at(m, i)); i++)
        print_listener(out, open, l, NULL, l->open);
    head(out, "counter", accepted, "Connections that were let in.");
    for (size_t i = 0; (l = metrics_listener_at(m, i)); i++)
        print_listener(out, accepted, l, NULL, l->accepted);
    head(out, "counter", refused,
         "Connections that were turned away: full is max_connections, crowded is "
         "max_connections_per_peer.");
    for (size_t i = 0; (l = metrics_listener_at(m, i)); i++) {
        print_listener(out, refused, l, "full", l->full);
        print_listener(out, refused, l, "crowded", l->crowded);
    }
    head(out, "counter", evicted, "Connections that were closed to make room for others.");
    for (size_t i = 0; (l = metrics_listener_at(m, i)); i++)
        print_listener(out, evicted, l, NULL, l->evicted);
}

/* --- what there is one of ----------------------------------------------------------------- */

static void
print_service(struct kt_buf *out, const struct service *svc)
{
    int state = atomic_load(&svc->state);
    uint64_t taken, kept;
    metrics_reloads(svc->metrics, &taken, &kept);
    gauge(out, "kaitend_serving", state == SERVICE_READY,
          "1 while requests are served: not starting, not draining.");
    gauge(out, "kaitend_quarantined", svc->quarantine != NULL,
          "1 while no token is accepted because the store may have forgotten revocations.");
    gauge(out, "kaitend_workers_waiting", (double)workers_waiting(svc->workers),
          "Requests that wait for a worker.");
    counter(out, "kaitend_tls_reloads_total", (double)taken,
            "Certificates of all listeners read again and taken over.");
    counter(out, "kaitend_tls_reload_failures_total", (double)kept,
            "Certificates read again and not taken over, because something is wrong with them.");
}

/* A commit that takes long is seen while it does. */
static void
print_committer(struct kt_buf *out, const struct service *svc)
{
    struct committer_load load;
    committer_load(svc->committer, clock_mono_ms(), &load);
    gauge(out, "kaitend_commits_waiting", (double)load.waiting,
          "Changes that wait for the committer.");
    gauge(out, "kaitend_commit_running_seconds", (double)load.busy_ms / 1000,
          "How long the committer has been at what it does now; 0 while it has nothing to do.");
    head(out, "counter", "kaitend_requests_abandoned_total",
         "Requests that were refused because their time was up while they were at work; outcome "
         "unknown: of a change that may be made yet.");
    for (int taken = 0; taken < 2; taken++)
        kt_buf_printf(out, "kaitend_requests_abandoned_total{outcome=\"%s\"} %llu\n",
                      taken ? "unknown" : "none",
                      (unsigned long long)metrics_abandonments(svc->metrics, taken));
}

static void
print_index(struct kt_buf *out, const struct index *index)
{
    struct index_stats stats;
    index_stats(index, &stats);
    gauge(out, "kaitend_index_tokens", (double)stats.records,
          "Tokens that verify looks up in memory, dead ones until they are purged included.");
    gauge(out, "kaitend_index_accounts", (double)stats.accounts,
          "Service accounts that those tokens belong to.");
    gauge(out, "kaitend_index_bytes", (double)stats.bytes, "Memory of that index.");
}

static void
print_limits(struct kt_buf *out, const struct limits *limits)
{
    static const char *const names[LIMITS_KINDS] = { [LIMITS_REQUESTS] = "requests",
                                                     [LIMITS_LOOKUPS] = "lookups",
                                                     [LIMITS_CREDENTIALS] = "credentials" };
    struct limits_stats stats;
    limits_stats(limits, &stats);
    head(out, "counter", "kaitend_limit_refusals_total",
         "Answers 429, by limit: requests of a caller, look-ups of what is not there, wrong "
         "credentials.");
    for (size_t i = 0; i < LIMITS_KINDS; i++)
        kt_buf_printf(out, "kaitend_limit_refusals_total{limit=\"%s\"} %llu\n", names[i],
                      (unsigned long long)stats.refused[i]);
    counter(out, "kaitend_limit_crowded_total", (double)stats.crowded,
            "How often a caller or an address found no bucket of its own, and shared one.");
}

static void
print_store(struct kt_buf *out, struct store *store)
{
    struct store_counts counts;
    const uint64_t kept = store_kept(store);
    store_count(store, &counts);
    gauge(out, "kaitend_store_durable", (kept & KAITEN_STORAGE_DURABLE) != 0,
          "1: what was acknowledged survives a power cut.");
    if (store_has_outsiders(store))
        gauge(out, "kaitend_store_notices", (kept & KAITEN_STORAGE_NOTICES) != 0,
              "1: the store says at once when another daemon has ended something.");
    counter(out, "kaitend_store_gets_total", (double)counts.gets, "Look-ups in the store.");
    counter(out, "kaitend_store_scans_total", (double)counts.scans, "Ranges read in the store.");
    counter(out, "kaitend_store_commits_total", (double)counts.applies,
            "Writes to the store; each carries the changes of all requests that waited.");
    counter(out, "kaitend_store_batches_total", (double)counts.batches,
            "Changes in those writes.");
}

/* Seconds without a bound are not said at all: a gauge that is missing is an alert. */
static void
print_follower(struct kt_buf *out, const struct follower *follower)
{
    struct follow_stats stats;
    follower_stats(follower, &stats);
    gauge(out, "kaitend_store_max_staleness_seconds", (double)stats.staleness_ms / 1000,
          "How old what memory knows of the store may be before it decides nothing.");
    if (stats.age_ms >= 0)
        gauge(out, "kaitend_store_staleness_seconds", (double)stats.age_ms / 1000,
              "How old what memory knows of the store is at most.");
    counter(out, "kaitend_store_polls_total", (double)stats.polls,
            "Questions to the store what other daemons have changed.");
    counter(out, "kaitend_store_poll_failures_total", (double)stats.failures,
            "Those of them that found no answer.");
    counter(out, "kaitend_store_changes_total", (double)stats.rows,
            "Rows that those questions have brought, those of this daemon included.");
    counter(out, "kaitend_store_rereads_total", (double)stats.rereads,
            "How often the whole store was read again.");
}

/* The names that every exporter uses. */
static void
print_process(struct kt_buf *out, const struct metrics *m)
{
    struct rusage used;
    struct rlimit fds;
    unsigned long pages, resident;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%lu %lu", &pages, &resident) == 2) {
        double size = (double)sysconf(_SC_PAGESIZE);
        gauge(out, "process_virtual_memory_bytes", (double)pages * size, "Address space.");
        gauge(out, "process_resident_memory_bytes", (double)resident * size, "Memory in use.");
    }
    if (f)
        fclose(f);
    if (getrusage(RUSAGE_SELF, &used) == 0)
        counter(out, "process_cpu_seconds_total",
                (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                    (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6,
                "Processor time of all threads.");
    if (getrlimit(RLIMIT_NOFILE, &fds) == 0 && fds.rlim_cur != RLIM_INFINITY)
        gauge(out, "process_max_fds", (double)fds.rlim_cur, "Descriptors that may be open.");
    gauge(out, "process_start_time_seconds", (double)metrics_started_ms(m) / 1000,
          "When the process started, in seconds since 1970.");
}

/* On a loop, although a file of the kernel's is read: it must be told how full the queue of the
 * workers is, above all when it is full. */
int
metrics_print(struct request *rq)
{
    const struct service *svc = rq->call.svc;
    struct kt_buf out;
    kt_buf_init(&out, PAGE_MAX);
    head(&out, "gauge", "kaitend_build_info", "Always 1; the label says which version this is.");
    kt_buf_puts(&out, "kaitend_build_info{version=\"" PACKAGE_VERSION "\"} 1\n");
    print_service(&out, svc);
    print_committer(&out, svc);
    print_requests(&out, svc->metrics);
    print_listeners(&out, svc->metrics);
    print_index(&out, svc->index);
    print_store(&out, svc->store);
    if (svc->limits)
        print_limits(&out, svc->limits);
    if (svc->follower)
        print_follower(&out, svc->follower);
    print_process(&out, svc->metrics);
    rq->out.text = (struct kt_text){ .body = kt_arena_str(rq->call.arena, kt_buf_str(&out)) };
    bool ok = !out.failed && rq->out.text.body.p;
    kt_buf_done(&out);
    return ok ? KT_OK : fail_memory(&rq->call);
}
