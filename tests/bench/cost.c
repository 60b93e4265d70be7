/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/bench/cost.h"

#include "tests/bench/speech.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

double
cost_own_cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Seconds on a processor of one thread of another process. Its stat counts in ticks, which says
 * nothing of a server that has a process for each of many connections. */
static double
thread_cpu(const char *pid, const char *thread)
{
    char path[128];
    unsigned long long ns = 0;
    snprintf(path, sizeof path, "/proc/%.32s/task/%.32s/schedstat", pid, thread);
    FILE *f = fopen(path, "re");
    if (!f || fscanf(f, "%llu", &ns) != 1)
        ns = 0;
    if (f)
        fclose(f);
    return (double)ns / 1e9;
}

static double
process_cpu(const char *pid)
{
    char path[64];
    double sum = 0;
    snprintf(path, sizeof path, "/proc/%.32s/task", pid);
    DIR *threads = opendir(path);
    for (struct dirent *e; threads && (e = readdir(threads));)
        if (e->d_name[0] != '.')
            sum += thread_cpu(pid, e->d_name);
    if (threads)
        closedir(threads);
    return sum;
}

double
cost_server_cpu(pid_t pid)
{
    char path[64], child[32];
    if (pid == 0)
        return 0;
    snprintf(child, sizeof child, "%d", (int)pid);
    double sum = process_cpu(child);
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fscanf(f, "%31s", child) == 1)
        sum += process_cpu(child);
    if (f)
        fclose(f);
    return sum;
}

long
cost_server_rss(pid_t pid)
{
    char path[64];
    long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f || fscanf(f, "%*s %ld", &pages) != 1)
        die("%s: cannot be read", path);
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}
