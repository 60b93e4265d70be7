/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* kaitenctl without a server: command lines, exit codes, secrets coming in. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/ctl/args.h"
#include "client/ctl/confirm.h"
#include "client/ctl/door.h"
#include "client/proto/json.h"

#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET "ksh_0123456789abcdefghijklmnopqrst"

/* --- what goes to stderr ------------------------------------------------------------------ */

static char said[64 * 1024];
static int saved, caught[2];

static void
listen_begin(void)
{
    fflush(stderr);
    assert_int_equal(pipe2(caught, O_CLOEXEC | O_NONBLOCK), 0);
    saved = dup(STDERR_FILENO);
    dup2(caught[1], STDERR_FILENO);
}

static void
listen_end(void)
{
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(caught[1]);
    ssize_t n = read(caught[0], said, sizeof said - 1);
    said[n > 0 ? n : 0] = '\0';
    close(caught[0]);
}

/* --- command lines ------------------------------------------------------------------------ */

enum { WORDS_MAX = 24, NOW = 1000 };

/* Splits at spaces; "~" stands for a space inside of a word. */
static int
split(char *line, char *argv[WORDS_MAX])
{
    int argc = 0;
    char *rest = line, *word;
    argv[argc++] = line;
    while ((word = strsep(&rest, " ")))
        if (*word)
            argv[argc++] = word;
    argv[argc] = NULL;
    for (int i = 1; i < argc; i++)
        for (char *p = argv[i]; *p; p++)
            *p = *p == '~' ? ' ' : *p;
    return argc;
}

/* What a command line comes to: "operation {input}", or the exit code. */
static void
interpret(const char *text, char *result, size_t size)
{
    char line[512];
    char *argv[WORDS_MAX];
    snprintf(line, sizeof line, "%s", text);
    int argc = split(line, argv);
    struct args args;
    struct kt_arena arena;
    struct kt_value input;
    struct kt_buf buf;
    kt_arena_init(&arena, 1024 * 1024);
    kt_buf_init(&buf, 64 * 1024);
    listen_begin();
    int rc = args_parse(argc, argv, &args);
    if (rc == 0)
        rc = args_input(&args, NOW, &arena, &input);
    listen_end();
    if (rc == 0)
        kt_json_put_value(&buf, &input);
    if (rc == 0)
        snprintf(result, size, "%s %.*s", verb_spec(args.verb, false)->name,
                 KT_FMT(kt_buf_str(&buf)));
    else
        snprintf(result, size, "%d", rc);
    kt_buf_done(&buf);
    kt_arena_done(&arena);
}

static const struct {
    const char *line, *expected;
} command_lines[] = {
    { "account create CI", "account.create {\"name\":\"CI\"}" },
    { "account create --slug ci C~I", "account.create {\"name\":\"C I\",\"slug\":\"ci\"}" },
    { "service-accounts create --name CI", "account.create {\"name\":\"CI\"}" },
    { "account create CI --name CI", "2" },
    { "account create", "2" },
    { "account get ci", "account.get {\"serviceAccountSlug\":\"ci\"}" },
    { "service-accounts get ci", "account.get {\"serviceAccountSlug\":\"ci\"}" },
    { "-o json account get -q ci", "account.get {\"serviceAccountSlug\":\"ci\"}" },
    { "account get -- -ci", "account.get {\"serviceAccountSlug\":\"-ci\"}" },
    { "-- account get -ci", "account.get {\"serviceAccountSlug\":\"-ci\"}" },
    { "account get ci more", "2" },
    { "account update ci --name New",
      "account.update {\"serviceAccountSlug\":\"ci\",\"name\":\"New\"}" },
    { "account update ci", "2" },
    { "account update ci --slug x --name y",
      "account.update {\"serviceAccountSlug\":\"ci\",\"name\":\"y\",\"slug\":\"x\"}" },
    { "account delete ci", "account.delete {\"serviceAccountSlug\":\"ci\"}" },
    { "accounts rm ci", "account.delete {\"serviceAccountSlug\":\"ci\"}" },
    { "account list", "account.list {}" },
    { "account ls --limit 5 --cursor abc",
      "account.list {\"cursor\":\"abc\",\"limit\":5}" },
    { "account list --limit five", "2" },
    { "account list --scope x", "2" },
    { "token create ci --name n",
      "token.create {\"serviceAccountSlug\":\"ci\",\"name\":\"n\",\"scopes\":[]}" },
    { "token create ci --name n --scope read:tokens --scope write:tokens",
      "token.create {\"serviceAccountSlug\":\"ci\",\"name\":\"n\","
      "\"scopes\":[\"read:tokens\",\"write:tokens\"]}" },
    { "token create ci --name n --all-scopes",
      "token.create {\"serviceAccountSlug\":\"ci\",\"name\":\"n\",\"scopes\":null}" },
    { "token create ci --name n --all-scopes --scope a:b", "2" },
    { "token create ci --name n --slug s --expires-at 2030-01-01T00:00:00+01:00",
      "token.create {\"serviceAccountSlug\":\"ci\",\"name\":\"n\",\"slug\":\"s\","
      "\"scopes\":[],\"expiresAt\":\"2030-01-01T00:00:00+01:00\"}" },
    { "token create ci --name n --expires-in 1h",
      "token.create {\"serviceAccountSlug\":\"ci\",\"name\":\"n\",\"scopes\":[],"
      "\"expiresAt\":\"1970-01-01T01:00:01Z\"}" },
    { "token create ci --name n --expires-in -1h", "2" },
    { "token create ci --name n --expires-in 9999999w", "2" },
    { "token create ci --name n --expires-at tomorrow", "2" },
    { "token create ci --name n --expires-at 2030-01-01T00:00:00Z --expires-in 1h", "2" },
    { "token create ci", "2" },
    { "service-accounts tokens list ci", "token.list {\"serviceAccountSlug\":\"ci\"}" },
    { "service-accounts tokens create ci --name n",
      "token.create {\"serviceAccountSlug\":\"ci\",\"name\":\"n\",\"scopes\":[]}" },
    { "service-accounts tokens delete ci t",
      "token.revoke {\"serviceAccountSlug\":\"ci\",\"tokenSlug\":\"t\"}" },
    { "token ls ci", "token.list {\"serviceAccountSlug\":\"ci\"}" },
    { "token get ci t", "token.get {\"serviceAccountSlug\":\"ci\",\"tokenSlug\":\"t\"}" },
    { "token get ci", "2" },
    { "token rotate ci t --grace 1h",
      "token.rotate {\"serviceAccountSlug\":\"ci\",\"tokenSlug\":\"t\","
      "\"gracePeriodSeconds\":3600}" },
    { "token rotate ci t --grace 1500ms", "2" },
    { "token revoke ci t",
      "token.revoke {\"serviceAccountSlug\":\"ci\",\"tokenSlug\":\"t\"}" },
    { "token delete ci t",
      "token.revoke {\"serviceAccountSlug\":\"ci\",\"tokenSlug\":\"t\"}" },
    { "token revoke-all ci", "token.revokeAll {\"serviceAccountSlug\":\"ci\"}" },
    { "token revoke-all", "2" },
    { "token revoke-all ci t", "2" },
    { "verify --scope read:tokens", "token.verify {\"scope\":\"read:tokens\"}" },
    { "verify --scope a:b --scope c:d", "2" },
    { "verify --all-scopes", "2" },
    { "whoami", "whoami {}" },
    { "scopes", "scopes {}" },
    { "health", "readyz {}" },
    { "ping", "kaiten.ping {}" },
    { "ping pong", "2" },
    { "describe", "kaiten.describe {}" },
    { "", "2" },
    { "token", "2" },
    { "token make ci", "2" },
    { "toke list ci", "2" },
    { "ping --socket", "2" },
    { "ping --no-such", "2" },
    { "ping -x", "2" },
    { "ping --quiet=1", "2" },
    { "ping -o xml", "2" },
    { "ping --timeout soon", "2" },
    { "ping --timeout 0", "2" },
    { "ping --token-fd x", "2" },
    { "ping --token-fd -1", "2" },
    { "ping a b c d e f g h i", "2" },
    { "account get ci --field id", "account.get {\"serviceAccountSlug\":\"ci\"}" },
    { "account list --field slug", "account.list {}" },
    { "verify --field tokenId", "token.verify {}" },
    { "key list --field id", "key.list {}" },
    { "account list --field items", "2" },
    { "account get ci --field Id", "2" },
    { "account get ci --field id -o json", "2" },
    { "account delete ci --field id", "2" },
    { "backup copy --field files", "2" },
};

static void
test_command_lines(void **state)
{
    char result[1024];
    for (size_t i = 0; i < sizeof command_lines / sizeof command_lines[0]; i++) {
        interpret(command_lines[i].line, result, sizeof result);
        if (strcmp(result, command_lines[i].expected) != 0)
            fail_msg("%s\n gave     %s\n expected %s", command_lines[i].line, result,
                     command_lines[i].expected);
    }
}

static void
test_global_options(void **state)
{
    char line[] = "-ojson ping --timeout 1m -q -y --url http://localhost --token-fd 7";
    char *argv[WORDS_MAX];
    struct args args;
    assert_int_equal(args_parse(split(line, argv), argv, &args), 0);
    assert_int_equal(args.output, CTL_JSON);
    assert_int_equal(args.timeout_ms, 60000);
    assert_int_equal(args.token_fd, 7);
    assert_string_equal(args.value[ARG_URL], "http://localhost");
    assert_non_null(args.value[ARG_QUIET]);
    assert_non_null(args.value[ARG_YES]);

    setenv("KAITEN_OUTPUT", "yaml", 1);
    char second[] = "ping", third[] = "ping -o name";
    assert_int_equal(args_parse(split(second, argv), argv, &args), 0);
    assert_int_equal(args.output, CTL_YAML);
    assert_int_equal(args_parse(split(third, argv), argv, &args), 0);
    assert_int_equal(args.output, CTL_NAME);
    unsetenv("KAITEN_OUTPUT");
}

static void
test_secret_in_argv(void **state)
{
    static const char *const lines[] = {
        "verify " SECRET,
        "verify --token-file " SECRET,
        "verify --token-file=" SECRET,
        "call token.verify {\"token\":\"" SECRET "\"}",
        "ping -s/" SECRET,
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char line[256];
        char *argv[WORDS_MAX];
        snprintf(line, sizeof line, "%s", lines[i]);
        int argc = split(line, argv);
        listen_begin();
        int rc = args_refuse_secrets(argc, argv);
        listen_end();
        assert_int_equal(rc, CTL_USAGE);
        assert_null(strstr(said, SECRET));
        for (int j = 0; j < argc; j++)
            assert_null(strstr(argv[j], SECRET));
    }
    char name[] = "account create my_ksh_account";
    char *argv[WORDS_MAX];
    assert_int_equal(args_refuse_secrets(split(name, argv), argv), 0);
}

static void
test_help(void **state)
{
    char line[] = "token create --help";
    char *argv[WORDS_MAX];
    struct args args;
    struct kt_buf buf;
    kt_buf_init(&buf, 64 * 1024);
    assert_int_equal(args_parse(split(line, argv), argv, &args), 0);
    args_help(&args, &buf);
    kt_buf_putc(&buf, '\0');
    assert_non_null(strstr(buf.p, kt_op_specs[KT_OP_TOKEN_CREATE].doc));
    assert_non_null(strstr(buf.p, "--expires-in"));
    assert_null(strstr(buf.p, "--cursor"));
    kt_buf_reset(&buf);
    char all[] = "--help";
    assert_int_equal(args_parse(split(all, argv), argv, &args), 0);
    args_help(&args, &buf);
    kt_buf_putc(&buf, '\0');
    for (size_t i = 0; i < verb_count; i++)
        assert_non_null(strstr(buf.p, verb_doc(&verbs[i])));
    kt_buf_done(&buf);
}

static void
test_examples_are_command_lines(void **state)
{
    char line[256], *argv[WORDS_MAX];
    for (size_t i = 0; i < verb_count; i++) {
        struct args args;
        if (!verbs[i].example)
            continue;
        snprintf(line, sizeof line, "%s", verbs[i].example);
        assert_int_equal(args_parse(split(line, argv), argv, &args), 0);
        assert_ptr_equal(args.verb, &verbs[i]);
    }
}

static void
test_what_may_be_meant(void **state)
{
    static const struct {
        const char *line, *said; /* NULL: nothing is like it */
    } rows[] = {
        { "acount list", "did you mean kaitenctl account?" },
        { "veryfy", "did you mean kaitenctl verify?" },
        { "token lst build", "did you mean kaitenctl token list?" },
        { "tokens revok a b", "did you mean kaitenctl token revoke?" },
        { "token verify", "no such verb: token verify" },
        { "token verify", "did you mean kaitenctl verify?" },
        { "token frobnicate", NULL },
        { "nope", NULL },
        { "token", NULL },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char line[64], result[256];
        snprintf(line, sizeof line, "%s", rows[i].line);
        interpret(line, result, sizeof result);
        assert_string_equal(result, "2");
        if (!strstr(said, rows[i].said ? rows[i].said : "kaitenctl: "))
            fail_msg("%s: %s", rows[i].line, said);
        if (!rows[i].said)
            assert_null(strstr(said, "did you mean"));
    }
}

/* Every member of an operation that a verb stands for can be said on the command line. */
static void
test_verbs_cover_the_table(void **state)
{
    static const char *const said_members[] = { "name",   "slug",   "scopes", "expiresAt", "scope",
                                                "cursor", "limit",  "gracePeriodSeconds", "token" };
    for (size_t i = 0; i < verb_count; i++) {
        const struct kt_op_spec *spec = verb_spec(&verbs[i], false);
        for (const struct kt_field *f = spec ? spec->in->fields : NULL; f && f->name; f++) {
            bool said_somehow = (f->flags & KT_READONLY) != 0;
            for (size_t w = 0; w < VERB_WORDS_MAX && verbs[i].words[w]; w++)
                said_somehow |= strcmp(verbs[i].words[w], f->name) == 0;
            for (size_t m = 0; m < sizeof said_members / sizeof said_members[0]; m++)
                said_somehow |= strcmp(said_members[m], f->name) == 0;
            if (!said_somehow)
                fail_msg("%s: no way to give %s", spec->name, f->name);
        }
    }
}

/* --- exit codes and complaints ------------------------------------------------------------ */

static void
test_exit_codes(void **state)
{
    static const struct {
        int error, code;
    } cases[] = {
        { KAITEN_OK, 0 },           { KAITEN_EUSAGE, 2 },          { KAITEN_EMEMORY, 1 },
        { KAITEN_ECONNECT, 6 },     { KAITEN_ETIMEOUT, 6 },        { KAITEN_ELOST, 6 },
        { KAITEN_EPROTOCOL, 6 },    { KAITEN_EVALIDATION, 5 },     { KAITEN_EUNAUTHORIZED, 3 },
        { KAITEN_EFORBIDDEN, 3 },   { KAITEN_ENOTFOUND, 4 },       { KAITEN_ECONFLICT, 5 },
        { KAITEN_EUNPROCESSABLE, 5 }, { KAITEN_ETOOMANYREQUESTS, 5 }, { 418, 5 },
        { KAITEN_EINTERNAL, 6 },    { KAITEN_EUNAVAILABLE, 6 },    { 599, 6 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(door_exit(cases[i].error), cases[i].code);
}

static const char *next_problem;

static int
fake_call(struct door *door, const char *method, const struct kt_value *args, struct answer *a)
{
    (void)door;
    (void)method;
    (void)args;
    if (!next_problem)
        return answer_fail(a, KAITEN_ECONNECT, "Client.Connect", "/x: gone");
    assert_true(answer_read(a, kt_str(next_problem), &a->problem));
    return answer_refused(a, (int)kt_value_get(&a->problem, "status")->i);
}

static int
complain(const char *problem, bool http, bool json)
{
    struct door door = { .http = http, .call = fake_call };
    struct answer a;
    struct kt_value none = { .type = KT_V_MAP };
    next_problem = problem;
    door_call(&door, "x", &none, &a);
    listen_begin();
    int code = door_complain(&door, &a, json);
    listen_end();
    answer_release(&a);
    return code;
}

static void
test_complaints(void **state)
{
    const char *problem = "{\"title\":\"Not Found\",\"status\":404,\"detail\":\"no \\u001b\","
                          "\"code\":\"Token.NotFound\"}";
    assert_int_equal(complain(problem, false, false), CTL_NOT_FOUND);
    assert_string_equal(said, "kaitenctl: Token.NotFound: no \\x1b\n"
                              "  kaitenctl token list ACCOUNT lists the tokens\n");
    assert_int_equal(complain(problem, false, true), CTL_NOT_FOUND);
    assert_string_equal(said, "{\"title\":\"Not Found\",\"status\":404,\"detail\":\"no \\u001b\","
                              "\"code\":\"Token.NotFound\"}\n");
    assert_int_equal(complain("{\"status\":422,\"detail\":\"validation failed\",\"code\":\"U\","
                              "\"errors\":[{\"message\":\"expected string\","
                              "\"location\":\"body.name\"}]}", true, false), CTL_REFUSED);
    assert_string_equal(said, "kaitenctl: U: validation failed\n  body.name: expected string\n");
    assert_int_equal(
        complain("{\"status\":500,\"title\":\"Oops\",\"errorId\":\"17\"}", true, false),
        CTL_SERVER);
    assert_string_equal(said, "kaitenctl: Oops\n  error id 17\n  the log of kaitend says why\n");
    static const char *const codes[] = { "Server.Quarantined", "Server.NotReady", "Storage.Full",
                                         "Server.ClockBehind", "Storage.Unknown" };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        char refusal[128];
        snprintf(refusal, sizeof refusal, "{\"status\":503,\"code\":\"%s\"}", codes[i]);
        assert_int_equal(complain(refusal, false, false), CTL_SERVER);
        assert_null(strstr(said, "in a moment"));
    }
    complain("{\"status\":503,\"code\":\"Server.Busy\"}", false, false);
    assert_non_null(strstr(said, "in a moment"));
    assert_int_equal(complain("{\"status\":401,\"detail\":\"who\"}", true, false), CTL_AUTH);
    assert_non_null(strstr(said, "KAITEN_TOKEN"));
    assert_int_equal(complain("{\"status\":401,\"detail\":\"who\"}", false, false), CTL_AUTH);
    assert_null(strstr(said, "KAITEN_TOKEN"));
    assert_int_equal(complain(NULL, false, false), CTL_SERVER);
    assert_non_null(strstr(said, "--socket"));
    assert_int_equal(complain(NULL, false, true), CTL_SERVER);
    assert_string_equal(said, "{\"title\":\"cannot reach the server\",\"detail\":\"/x: gone\","
                              "\"code\":\"Client.Connect\"}\n");
}

/* --- secrets coming in -------------------------------------------------------------------- */

static int
read_bytes(const char *bytes, size_t n, struct secret_in *s)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(write(fds[1], bytes, n), n);
    close(fds[1]);
    listen_begin();
    int rc = secret_in_fd(fds[0], "here", s);
    listen_end();
    close(fds[0]);
    return rc;
}

static void
test_secrets_in(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        int rc;
        const char *expected;
    } cases[] = {
        { "abc", 3, 0, "abc" },        { "abc\n", 4, 0, "abc" },   { "abc\r\n", 5, 0, "abc" },
        { " abc ", 5, 0, " abc " },    { "abc\n\n", 5, 2, NULL },  { "", 0, 2, NULL },
        { "\n", 1, 2, NULL },          { "a\nb", 3, 2, NULL },     { "a\0b", 3, 2, NULL },
    };
    struct secret_in s;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(read_bytes(cases[i].bytes, cases[i].n, &s), cases[i].rc);
        if (cases[i].expected)
            assert_int_equal(s.n, strlen(cases[i].expected));
        if (cases[i].expected)
            assert_memory_equal(s.p, cases[i].expected, s.n);
    }
    char big[KAITEN_CREDENTIAL_MAX + 1];
    memset(big, 'x', sizeof big);
    assert_int_equal(read_bytes(big, sizeof big - 1, &s), 0);
    assert_int_equal(s.n, KAITEN_CREDENTIAL_MAX);
    assert_int_equal(read_bytes(big, sizeof big, &s), CTL_USAGE);
    assert_int_equal(s.n, 0);
}

static void
test_secret_files(void **state)
{
    struct secret_in s;
    char path[] = "/tmp/test-ctl-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, SECRET "\n", strlen(SECRET) + 1), strlen(SECRET) + 1);
    listen_begin();
    int rc = secret_in_file(path, &s);
    listen_end();
    assert_int_equal(rc, 0);
    assert_int_equal(s.n, strlen(SECRET));
    assert_string_equal(said, "");
    assert_int_equal(fchmod(fd, 0644), 0);
    listen_begin();
    rc = secret_in_file(path, &s);
    listen_end();
    assert_int_equal(rc, 0);
    assert_non_null(strstr(said, "others can read"));

    setenv("KAITEN_TOKEN_FILE", path, 1);
    listen_begin();
    assert_int_equal(secret_in_environment(&s), 0);
    assert_int_equal(s.n, strlen(SECRET));
    setenv("KAITEN_TOKEN", "other", 1);
    assert_int_equal(secret_in_environment(&s), 0);
    assert_int_equal(s.n, 5);
    unsetenv("KAITEN_TOKEN");
    unsetenv("KAITEN_TOKEN_FILE");
    assert_int_equal(secret_in_environment(&s), 0);
    assert_int_equal(s.n, 0);
    close(fd);
    unlink(path);
    assert_int_equal(secret_in_file(path, &s), CTL_OTHER);
    listen_end();
}

static void
test_nobody_to_ask(void **state)
{
    int stdin_copy = dup(STDIN_FILENO), null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(null, STDIN_FILENO);
    listen_begin();
    int without = confirm_ask("Sure?", false), with = confirm_ask("Sure?", true);
    listen_end();
    dup2(stdin_copy, STDIN_FILENO);
    close(stdin_copy);
    close(null);
    assert_int_equal(without, CTL_USAGE);
    assert_int_equal(with, 0);
    assert_non_null(strstr(said, "--yes"));
}

int
main(void)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    unsetenv("KAITEN_OUTPUT");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command_lines),
        cmocka_unit_test(test_global_options),
        cmocka_unit_test(test_secret_in_argv),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_examples_are_command_lines),
        cmocka_unit_test(test_what_may_be_meant),
        cmocka_unit_test(test_verbs_cover_the_table),
        cmocka_unit_test(test_exit_codes),
        cmocka_unit_test(test_complaints),
        cmocka_unit_test(test_secrets_in),
        cmocka_unit_test(test_secret_files),
        cmocka_unit_test(test_nobody_to_ask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
