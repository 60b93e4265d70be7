/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The whole path over storage-memory, through both doors. An input is up to eight requests, each a
 * line that says how it is asked, a line that says what, and a body, ended by an empty line:
 *
 *   [S]ocket or HTTP, then who: [a]nn, [b]ob of another organization, [r]eader, [m]inted, [n]obody
 *   METHOD /path?query, or the name of a method
 *   the body (HTTP), or the arguments as JSON (socket)
 *
 * Whatever it is, each request has one answer, which is JSON; nothing is our own fault; a secret is
 * shown by what makes one and by nothing else. */
#include "config.h"

#include "tests/unit/core-ask.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

extern unsigned fuzz_sample;
unsigned fuzz_sample = 256; /* stub-main.c: each run goes through four threads */

enum { REQUESTS_MAX = 8, TEXT_MAX = 70000 };

static struct core core;
static char minted[64]; /* the last secret that was shown */

/* Up to the next such end, which is skipped; NUL-terminated in place. */
static char *
cut(char **rest, const char *end)
{
    char *from = *rest, *at = strstr(from, end);
    *rest = at ? at + strlen(end) : from + strlen(from);
    if (at)
        *at = '\0';
    return from;
}

static const char *
caller_of(const char *how)
{
    if (strchr(how, 'b'))
        return CORE_BOB;
    if (strchr(how, 'r'))
        return "rita/acme/read:*";
    if (strchr(how, 'm'))
        return minted;
    return strchr(how, 'n') ? NULL : CORE_ANN;
}

static bool
makes_secrets(const struct ask *a)
{
    return strstr(a->method, "POST") || strstr(a->method, "create") || strstr(a->method, "rotate");
}

static void
check(const struct ask *a)
{
    struct kt_arena arena;
    struct kt_value value;
    struct kt_json_error error;
    if (a->status < 200 || a->status > 599 || a->status == 500)
        abort();
    if (a->secret[0] && (a->status > 201 || !makes_secrets(a)))
        abort();
    kt_arena_init(&arena, 1 << 24);
    static const struct kt_json_limits roomy = { 16, 4096, 1 << 20, 1 << 20, 40 };
    if (*ask_json(a) && kt_json_read(kt_str(ask_json(a)), &arena, &roomy, &value, &error) != 0)
        abort();
    kt_arena_done(&arena);
}

static void
ask_one(char **rest)
{
    const char *how = cut(rest, "\n");
    struct ask a = { .door = strchr(how, 'S') ? DOOR_SOCKET : DOOR_HTTP };
    char *what = cut(rest, "\n");
    a.token = caller_of(how);
    a.body = cut(rest, "\n\n");
    a.method = what;
    if (a.door == DOOR_HTTP) {
        a.method = cut(&what, " ");
        a.path = what;
    }
    core_ask(&core, &a);
    check(&a);
    if (a.secret[0])
        memcpy(minted, a.secret, sizeof minted);
    ask_done(&a);
}

/* Threads and files go, too. */
static void
close_at_exit(void)
{
    core_close(&core);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[TEXT_MAX + 1];
    if (size > TEXT_MAX)
        return 0;
    if (!core.loops) {
        log_set_level(LOG_LEVEL_ERROR);
        core_open(&core, NULL);
        atexit(close_at_exit);
    }
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    strcpy(minted, "ksh_0000000000000000000000000000000000");
    char *rest = text;
    for (int i = 0; i < REQUESTS_MAX && *rest; i++)
        ask_one(&rest);
    core_reset(&core);
    return 0;
}
