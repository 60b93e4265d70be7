/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/ctl/confirm.h"

#include "client/ctl/ctl.h"
#include "client/ctl/print.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* What the signal handler needs to restore the terminal. */
static struct termios terminal;
static volatile sig_atomic_t hidden;
static void (*volatile undo_begun)(void);

static void
restore(void)
{
    if (hidden)
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal);
    hidden = 0;
}

static void
on_signal(int signal_number)
{
    void (*undo)(void) = undo_begun;
    (void)signal_number;
    restore();
    if (undo)
        undo();
    _exit(CTL_SIGNAL);
}

void
confirm_catch_signals(void)
{
    static const int ends[] = { SIGINT, SIGTERM, SIGQUIT };
    struct sigaction sa = { .sa_handler = on_signal }, before;
    sigfillset(&sa.sa_mask); /* it undoes once */
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        (void)sigaction(ends[i], &sa, NULL);
    /* Who was started by nohup(1) goes on without a terminal. */
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        (void)sigaction(SIGHUP, &sa, NULL);
    /* A reader that went away is seen as a failed write. */
    sa.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &sa, NULL);
}

void
confirm_undo(void (*undo)(void))
{
    undo_begun = undo;
}

static void
show(const char *text, const char *tail)
{
    struct kt_buf buf;
    kt_buf_init(&buf, 4096);
    print_text(&buf, kt_str(text));
    kt_buf_puts(&buf, tail);
    ctl_emit(STDERR_FILENO, &buf);
    kt_buf_done(&buf);
}

static ssize_t
read_line(char *p, size_t size)
{
    ssize_t n;
    do
        n = read(STDIN_FILENO, p, size);
    while (n < 0 && errno == EINTR);
    return n;
}

int
confirm_ask(const char *question, bool yes)
{
    if (yes)
        return 0;
    if (!isatty(STDIN_FILENO))
        return ctl_fail(CTL_USAGE, "give --yes to do it without being asked",
                        "this destroys something, and there is nobody to ask");
    show(question, " [y/N] ");
    char line[16] = { 0 };
    ssize_t n = read_line(line, sizeof line - 1);
    if (n > 0 && (strcmp(line, "y\n") == 0 || strcmp(line, "yes\n") == 0))
        return 0;
    return ctl_fail(CTL_OTHER, NULL, "nothing was changed");
}

ssize_t
confirm_hidden(const char *prompt, char *p, size_t n)
{
    if (tcgetattr(STDIN_FILENO, &terminal) != 0)
        return -1;
    struct termios quiet = terminal;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    hidden = 1;
    /* Before the question: what is typed after it must be neither shown nor flushed away. */
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet) != 0)
        return -1;
    show(prompt, "");
    ssize_t got = read_line(p, n);
    restore();
    show("", "\n");
    return got;
}
