/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Runs a program as a service manager does that forbids some system calls:
 *
 *     without NAME,NAME,... PROGRAM [ARGUMENT...]
 *
 * A call of one of those ends the process with SIGSYS. Names that this machine does not have are
 * passed over. Exit status: that of the program, 2 wrong usage. */
#include "config.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FORBIDDEN_MAX = 100 };

/* Those of the groups @privileged and @resources that a program in C may meet. */
static const struct {
    const char *name;
    int number;
} calls[] = {
    { "acct", SYS_acct },
    { "adjtimex", SYS_adjtimex },
    { "bpf", SYS_bpf },
    { "capset", SYS_capset },
#ifdef SYS_chown
    { "chown", SYS_chown },
    { "lchown", SYS_lchown },
#endif
    { "chroot", SYS_chroot },
    { "clock_adjtime", SYS_clock_adjtime },
    { "clock_settime", SYS_clock_settime },
    { "fanotify_init", SYS_fanotify_init },
    { "fchown", SYS_fchown },
    { "fchownat", SYS_fchownat },
    { "ioprio_set", SYS_ioprio_set },
    { "mbind", SYS_mbind },
    { "migrate_pages", SYS_migrate_pages },
    { "move_pages", SYS_move_pages },
    { "open_by_handle_at", SYS_open_by_handle_at },
    { "pivot_root", SYS_pivot_root },
    { "quotactl", SYS_quotactl },
    { "sched_setaffinity", SYS_sched_setaffinity },
    { "sched_setattr", SYS_sched_setattr },
    { "sched_setparam", SYS_sched_setparam },
    { "sched_setscheduler", SYS_sched_setscheduler },
    { "set_mempolicy", SYS_set_mempolicy },
    { "setdomainname", SYS_setdomainname },
    { "setfsgid", SYS_setfsgid },
    { "setfsuid", SYS_setfsuid },
    { "setgroups", SYS_setgroups },
    { "sethostname", SYS_sethostname },
    { "setpriority", SYS_setpriority },
    { "setresuid", SYS_setresuid },
    { "setreuid", SYS_setreuid },
    { "setrlimit", SYS_setrlimit },
    { "settimeofday", SYS_settimeofday },
    { "setuid", SYS_setuid },
    { "vhangup", SYS_vhangup },
};

static bool
is_listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = list; (p = strstr(p, name)); p += n)
        if ((p == list || p[-1] == ',') && (p[n] == ',' || p[n] == '\0'))
            return true;
    return false;
}

static bool
forbid(const char *list)
{
    struct sock_filter code[2 * FORBIDDEN_MAX + 2] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    unsigned short n = 1;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        if (!is_listed(list, calls[i].name))
            continue;
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                                 (unsigned)calls[i].number, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const struct sock_fprog program = { n, code };
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

int
main(int argc, char **argv)
{
    if (argc < 3) {
        (void)fputs("usage: without NAME,NAME,... PROGRAM [ARGUMENT...]\n", stderr);
        return 2;
    }
    if (forbid(argv[1]))
        execv(argv[2], argv + 2);
    perror("without");
    return 2;
}
