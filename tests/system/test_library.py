# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""What kaiten.h promises to the program around the library, tried from C++: signals, children,
descriptors, and a daemon that goes away and comes back."""

import os
import shutil
import signal
import subprocess

import pytest

from conftest import BUILD, PATIENCE, SANITIZED, SOURCE

CXX = os.environ.get("CXX", "c++").split()
LIBRARY = BUILD / "client/.libs"
pytestmark = [
    pytest.mark.skipif(
        SANITIZED or not (LIBRARY / "libkaiten.so").exists(),
        reason="a C++ program is linked with the shared library, and knows nothing of sanitizers"),
    pytest.mark.skipif(not shutil.which(CXX[-1]) and os.environ.get("CI") != "1",
                       reason="there is no C++ compiler"),
]

PROGRAM = r"""
#include <kaiten.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static struct kaiten *k;
static std::string secret;

#define MUST(x) \
    do { \
        if (!(x)) { \
            fprintf(stderr, "%d: %s: %s\n", __LINE__, #x, k ? kaiten_error_detail(k) : ""); \
            exit(1); \
        } \
    } while (0)

static int
descriptors(bool *all_close)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (struct dirent *e = readdir(d)) {
        int fd = atoi(e->d_name);
        if (e->d_name[0] == '.' || fd < 3 || fd == dirfd(d))
            continue;
        n++;
        *all_close = *all_close && (fcntl(fd, F_GETFD) & FD_CLOEXEC);
    }
    closedir(d);
    return n;
}

static bool
is_good(void)
{
    const struct kaiten_verification *v;
    return kaiten_token_verify(k, secret.data(), secret.size(), "read:tokens", &v) == 0 && v->valid;
}

static void
mint(void)
{
    const char *const scopes[] = { "read:tokens" };
    struct kaiten_token_request want = KAITEN_TOKEN_REQUEST_INIT;
    struct kaiten_account *account;
    struct kaiten_token *token;
    MUST(kaiten_account_create(k, "Farm", "farm", &account) == 0);
    kaiten_account_free(account);
    want.account = "farm";
    want.name = "one";
    want.scopes = scopes;
    want.nscopes = 1;
    MUST(kaiten_token_create(k, &want, &token) == 0);
    secret.assign(token->secret, token->secret_len);
    kaiten_token_free(token);
}

static volatile sig_atomic_t ticks;

static void
on_tick(int)
{
    ticks = ticks + 1;
}

static void
under_signals(void)
{
    struct sigaction sa = {};
    sa.sa_handler = on_tick; /* without SA_RESTART */
    sigaction(SIGALRM, &sa, NULL);
    const struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = {};
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 200 || ticks < 50; i++) {
        kaiten_close(k);
        MUST(is_good());
        MUST(kaiten_ping(k) == 0);
    }
    setitimer(ITIMER_REAL, &never, NULL);
}

static void
with_a_child(void)
{
    MUST(is_good());
    pid_t child = fork();
    if (child == 0) {
        kaiten_close(k);
        for (int i = 0; i < 50; i++)
            MUST(is_good());
        kaiten_free(k);
        _exit(0);
    }
    for (int i = 0; i < 50; i++)
        MUST(is_good());
    int status;
    MUST(waitpid(child, &status, 0) == child && status == 0);
}

static void
pipelined(void)
{
    const struct kaiten_verification *v;
    uint64_t tag, seen = 0;
    for (uint64_t i = 0; i < KAITEN_IN_FLIGHT_MAX; i++)
        MUST(kaiten_verify_send(k, i, secret.data(), secret.size(), NULL) == 0);
    MUST(kaiten_verify_send(k, 99, "x", 1, NULL) == KAITEN_EUSAGE);
    while (kaiten_in_flight(k) > 0) {
        MUST(kaiten_verify_recv(k, &tag, &v) == 0 && v->valid);
        seen |= UINT64_C(1) << tag;
    }
    MUST(seen == UINT64_MAX);
    MUST(kaiten_verify_recv(k, &tag, &v) == KAITEN_EUSAGE);
}

/* Says so on standard output, and waits for a line. */
static void
tell(const char *what)
{
    char line[16];
    printf("%s\n", what);
    fflush(stdout);
    MUST(fgets(line, sizeof line, stdin));
}

int
main(void)
{
    bool all_close = true;
    k = kaiten_new(NULL);
    MUST(k && descriptors(&all_close) == 0);
    mint();
    MUST(descriptors(&all_close) == 1 && all_close);
    under_signals();
    with_a_child();
    pipelined();
    MUST(descriptors(&all_close) == 1 && all_close);
    tell("served");
    /* The daemon is another one: what reads and what changes go on alike. */
    MUST(kaiten_account_rename(k, "farm", "Farm 2") == 0);
    MUST(is_good());
    tell("restarted");
    /* There is none: nothing is good, nothing was done, nobody is killed by SIGPIPE. */
    for (int i = 0; i < 100; i++) {
        MUST(!is_good());
        MUST(kaiten_account_rename(k, "farm", "x") == KAITEN_ECONNECT);
        MUST(!strcmp(kaiten_error_code(k), "Client.Connect") && !kaiten_error_problem(k));
    }
    MUST(descriptors(&all_close) == 0);
    tell("gone");
    MUST(is_good());
    MUST(kaiten_token_revoke(k, "farm", "none") == KAITEN_ENOTFOUND && kaiten_error_problem(k));
    MUST(kaiten_account_delete(k, "farm") == 0 && !is_good());
    kaiten_free(k);
    k = NULL;
    MUST(descriptors(&all_close) == 0);
    return 0;
}
"""


@pytest.mark.parametrize("standard", ["c++11", "c++17"])
def test_a_program_in_cxx_goes_through_all_of_it(own_daemon, tmp_path, standard):
    d = own_daemon("storage-bdb").start()
    (tmp_path / "program.cc").write_text(PROGRAM)
    subprocess.run([*CXX, f"-std={standard}", "-Wall", "-Wextra", "-pedantic", "-Werror", "-o",
                    tmp_path / "program", tmp_path / "program.cc", f"-I{SOURCE}/client",
                    f"-L{LIBRARY}", "-lkaiten"], check=True)
    process = subprocess.Popen([tmp_path / "program"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL),
                               env=dict(os.environ, KAITEN_SOCKET=d.socket_path,
                                        LD_LIBRARY_PATH=str(LIBRARY)))

    def after(what):
        assert process.stdout.readline().strip() == what, process.wait(PATIENCE)

    def go_on():
        process.stdin.write("\n")
        process.stdin.flush()

    try:
        after("served")
        d.kill()
        d.start()
        go_on()
        after("restarted")
        d.stop()
        go_on()
        after("gone")
        d.start()
        go_on()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
