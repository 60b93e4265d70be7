/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/ctl/run.h"

#include "client/ctl/backup.h"
#include "client/ctl/confirm.h"
#include "client/ctl/door.h"
#include "client/ctl/member.h"
#include "client/ctl/print.h"
#include "client/proto/encode.h"
#include "client/proto/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    LONG_TIMEOUT_MS = 24 * 3600 * 1000,
    INPUT_MAX = 1024 * 1024,       /* JSON that call reads */
    OUTPUT_MAX = 512 * 1024 * 1024 /* what -o json --all may gather */
};

/* What one command has at hand. */
struct command {
    const struct args *args;
    const struct kt_op_spec *spec; /* NULL: call, of a method that is in no table */
    const char *method;
    enum ctl_output output;
    struct door *door;
    struct secret_in credential, subject; /* who asks; what verify is about */
    struct kt_arena arena;
    struct kt_value input;
};

static bool
errors_as_json(const struct command *c)
{
    return c->output == CTL_JSON || c->output == CTL_NDJSON;
}

static bool
has(const struct args *a, enum args_option option)
{
    return a->value[option] != NULL;
}

/* --- getting ready ------------------------------------------------------------------------ */

static int
read_given(const struct args *a, struct secret_in *ret)
{
    if (has(a, ARG_TOKEN_FILE) && has(a, ARG_TOKEN_FD))
        return ctl_fail(CTL_USAGE, NULL, "--token-file and --token-fd exclude each other");
    if (has(a, ARG_TOKEN_FILE))
        return secret_in_file(a->value[ARG_TOKEN_FILE], ret);
    return secret_in_fd(a->token_fd, "--token-fd", ret);
}

static int
read_subject(struct command *c)
{
    const struct args *a = c->args;
    bool dash = a->nwords == a->used + 1 && strcmp(a->words[a->used], "-") == 0;
    if (a->nwords > a->used && !dash)
        return ctl_fail(CTL_USAGE, "kaitenctl verify <FILE, or --token-file FILE",
                        "a token is not given on the command line");
    if (has(a, ARG_TOKEN_FILE) || has(a, ARG_TOKEN_FD))
        return read_given(a, &c->subject);
    return secret_in_stdin(&c->subject);
}

/* Over HTTP the token to be verified is the credential. On the socket nothing is sent unless it
 * was asked for: the kernel says who we are. */
static int
read_credential(struct command *c)
{
    const struct args *a = c->args;
    if (a->verb->flags & VERB_VERIFY) {
        int rc = read_subject(c);
        if (rc == 0 && has(a, ARG_URL))
            c->credential = c->subject;
        return rc;
    }
    if (has(a, ARG_TOKEN_FILE) || has(a, ARG_TOKEN_FD))
        return read_given(a, &c->credential);
    return has(a, ARG_URL) ? secret_in_environment(&c->credential) : 0;
}

static int
add_subject(struct command *c)
{
    struct kt_member *v = kt_arena_calloc(&c->arena, c->input.map.n + 1, sizeof *v);
    if (!v)
        return ctl_fail(CTL_OTHER, NULL, "out of memory");
    v[0].name = KT_LIT("token");
    v[0].value = (struct kt_value){ .type = KT_V_STR, .s = { c->subject.p, c->subject.n } };
    if (c->input.map.n)
        memcpy(v + 1, c->input.map.v, c->input.map.n * sizeof *v);
    c->input.map.v = v;
    c->input.map.n++;
    return 0;
}

static int
make_verify_input(struct command *c)
{
    struct args words = *c->args;
    words.nwords = words.used; /* "-" was not one of the words of the input */
    int rc = args_input(&words, 0, &c->arena, &c->input);
    if (rc != 0)
        return rc;
    if (!has(c->args, ARG_URL))
        return add_subject(c);
    if (c->input.map.n)
        return ctl_fail(CTL_USAGE, "verify on the socket, without --url",
                        "a scope cannot be asked for over HTTP");
    return 0;
}

/* --- call --------------------------------------------------------------------------------- */

static int
read_json_stdin(struct kt_buf *buf)
{
    for (;;) {
        char *room = kt_buf_reserve(buf, 16 * 1024);
        if (!room)
            return ctl_fail(CTL_USAGE, NULL, "more than %d bytes on standard input", INPUT_MAX);
        ssize_t n = read(STDIN_FILENO, room, 16 * 1024);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return ctl_fail(CTL_OTHER, NULL, "standard input: %s", strerror(errno));
        if (n == 0)
            return 0;
        buf->n += (size_t)n;
    }
}

static int
parse_json(struct command *c, struct kt_str text)
{
    struct kt_json_error e;
    static const struct kt_json_limits limits = {
        .depth = 16, .members = 4096, .nodes = 4096, .string = 64 * 1024, .number = 60,
    };
    if (kt_json_read(text, &c->arena, &limits, &c->input, &e) != 0)
        return ctl_fail(CTL_USAGE, NULL, "no JSON: %s at byte %zu", e.text, e.offset);
    if (c->input.type != KT_V_MAP)
        return ctl_fail(CTL_USAGE, "arguments look like {\"limit\":10}", "no JSON object");
    return 0;
}

static int
make_call_input(struct command *c)
{
    const struct args *a = c->args;
    size_t n = a->nwords - a->used;
    if (n < 1 || n > 2)
        return ctl_fail(CTL_USAGE, "usage: kaitenctl call METHOD [JSON|-]",
                        n < 1 ? "METHOD is missing" : "one word too many");
    c->method = a->words[a->used];
    c->spec = kt_op_find(kt_str(c->method));
    const char *json = n == 2 ? a->words[a->used + 1] : "{}";
    if (strcmp(json, "-") != 0)
        return parse_json(c, kt_str(json));
    struct kt_buf buf;
    kt_buf_init(&buf, INPUT_MAX);
    int rc = read_json_stdin(&buf);
    if (rc == 0)
        rc = parse_json(c, kt_buf_str(&buf));
    kt_buf_done(&buf);
    return rc;
}

/* --- the operation ------------------------------------------------------------------------ */

static int64_t
now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int
make_input(struct command *c)
{
    const struct args *a = c->args;
    if (a->verb->flags & VERB_CALL)
        return make_call_input(c);
    c->spec = verb_spec(a->verb, has(a, ARG_URL));
    if (!c->spec)
        return ctl_fail(CTL_USAGE, "leave out --url", "%s%s%s is to be had on the socket only",
                        a->verb->group ? a->verb->group : "", a->verb->group ? " " : "",
                        a->verb->name);
    c->method = c->spec->name;
    if (a->verb->flags & VERB_VERIFY)
        return make_verify_input(c);
    return args_input(a, now_ms(), &c->arena, &c->input);
}

static int
ask(const struct command *c)
{
    const struct args *a = c->args;
    if (!a->verb->confirm)
        return 0;
    /* The question has a place for each word, in their order. */
    struct kt_buf question;
    kt_buf_init(&question, 16 * 1024);
    size_t word = a->used;
    for (const char *p = a->verb->confirm; *p; p++) {
        if (p[0] == '%' && p[1] == 's' && word < a->nwords) {
            kt_buf_puts(&question, a->words[word++]);
            p++;
            continue;
        }
        kt_buf_putc(&question, *p);
    }
    kt_buf_putc(&question, '\0');
    int rc = question.failed ? CTL_USAGE : confirm_ask(question.p, has(a, ARG_YES));
    kt_buf_done(&question);
    return rc;
}

/* --- the answer --------------------------------------------------------------------------- */

static bool
reveals(const struct command *c)
{
    return c->spec && c->spec->out && kt_shape_reveals(c->spec->out);
}

/* Nobody will ever know a secret that could not be shown, so its token is revoked. */
static int
lost_output(struct command *c, const struct answer *answer)
{
    if (!reveals(c))
        return ctl_cannot_write();
    int code = ctl_fail(CTL_OTHER, NULL, "cannot write to standard output: %s", strerror(errno));
    if (kt_op_id(c->spec) != KT_OP_TOKEN_CREATE) {
        ctl_note("the new secret is lost: rotate the token again, or revoke it");
        return code;
    }
    const struct kt_value *account = kt_value_get(&c->input, "serviceAccountSlug");
    const struct kt_value *token = kt_value_get(&answer->value, "slug");
    if (!account || !token)
        return code;
    struct kt_member members[] = { { KT_LIT("serviceAccountSlug"), *account },
                                   { KT_LIT("tokenSlug"), *token } };
    struct kt_value input = { .type = KT_V_MAP, .map = { members, 2 } };
    struct answer gone;
    if (door_call(c->door, kt_op_specs[KT_OP_TOKEN_REVOKE].name, &input, &gone) == 0)
        ctl_note("the new token %.*s was revoked again", KT_FMT(token->s));
    else
        ctl_note("the new token %.*s could not be revoked: do it", KT_FMT(token->s));
    answer_release(&gone);
    return code;
}

static void
print_quiet(struct command *c, const struct kt_value *value, struct kt_buf *buf)
{
    const struct kt_value *secret = kt_value_get(value, "token");
    if (c->args->verb->flags & VERB_VERIFY)
        return;
    if (secret && secret->type == KT_V_STR && reveals(c)) {
        kt_buf_put_str(buf, secret->s);
        kt_buf_putc(buf, '\n');
        return;
    }
    enum ctl_output output = c->args->output_set ? c->output : CTL_NAME;
    print_answer(buf, output, c->spec, value);
}

static void
add_notes(const struct command *c, const struct kt_value *value)
{
    const struct kt_value *scopes = kt_value_get(value, "scopes");
    const struct kt_value *more = kt_value_get(value, "hasMore");
    if (has(c->args, ARG_QUIET))
        return;
    if (reveals(c) && c->output == CTL_TABLE && !has(c->args, ARG_FIELD)) {
        ctl_note("This is the only time that the token is shown.");
        if (scopes && scopes->type == KT_V_ARRAY && scopes->array.n == 0)
            ctl_note("It has no scopes, so it may do nothing: --scope gives it some.");
    }
    if (more && more->type == KT_V_BOOL && more->b && (c->args->verb->flags & VERB_PAGES)) {
        const struct kt_value *cursor = kt_value_get(value, "nextCursor");
        ctl_note("There is more: --all, or --cursor %.*s",
                 KT_FMT(cursor ? cursor->s : KT_LIT("")));
    }
}

static int
verdict_exit(const struct command *c, const struct kt_value *value)
{
    if (!(c->args->verb->flags & VERB_VERIFY))
        return CTL_OK;
    const struct kt_value *valid = kt_value_get(value, "valid");
    return valid && valid->type == KT_V_BOOL && valid->b ? CTL_OK : CTL_INVALID;
}

static int
show(struct command *c, const struct answer *answer)
{
    struct kt_buf buf;
    kt_buf_init(&buf, OUTPUT_MAX);
    bool empty = answer->value.type == KT_V_NULL && !(c->args->verb->flags & VERB_CALL);
    if (empty && c->args->verb->done && !has(c->args, ARG_QUIET))
        ctl_note("%s", c->args->verb->done);
    else if (!empty && has(c->args, ARG_FIELD))
        member_print(&buf, &answer->value, c->args->value[ARG_FIELD]);
    else if (!empty && has(c->args, ARG_QUIET))
        print_quiet(c, &answer->value, &buf);
    else if (!empty)
        print_answer(&buf, c->output, c->spec, &answer->value);
    bool written = ctl_emit(STDOUT_FILENO, &buf);
    kt_buf_done(&buf);
    if (!written)
        return lost_output(c, answer);
    add_notes(c, &answer->value);
    return verdict_exit(c, &answer->value);
}

/* The forward-authentication hook says yes or no by its status. */
static bool
http_verdict(const struct command *c, struct answer *answer)
{
    static const struct kt_member good = { KT_LIT("valid"), { .type = KT_V_BOOL, .b = true } };
    static const struct kt_member bad = { KT_LIT("valid"), { .type = KT_V_BOOL, .b = false } };
    bool verify = (c->args->verb->flags & VERB_VERIFY) && c->door->http;
    if (!verify || (answer->error != 0 && answer->error != KAITEN_EUNAUTHORIZED))
        return false;
    answer->value = (struct kt_value){ .type = KT_V_MAP,
                                       .map = { answer->error ? &bad : &good, 1 } };
    return true;
}

static void
tell_interrupted(void)
{
    static const char text[] = "kaitenctl: interrupted\n"
                               "  the change may have been made all the same: look before you "
                               "repeat it\n";
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
}

static bool
changes(const struct command *c)
{
    if (!c->spec)
        return true; /* call, of what only the daemon knows */
    if (c->spec->scope)
        return strncmp(c->spec->scope, "write:", 6) == 0;
    const enum kt_op_id op = kt_op_id(c->spec);
    return op == KT_OP_KEY_ROTATE || op == KT_OP_KEY_RETIRE;
}

static int
run_once(struct command *c)
{
    struct answer answer;
    confirm_undo(changes(c) ? tell_interrupted : NULL);
    int error = door_call(c->door, c->method, &c->input, &answer);
    int code = http_verdict(c, &answer) || error == 0
                   ? show(c, &answer)
                   : door_complain(c->door, &answer, errors_as_json(c));
    confirm_undo(NULL);
    answer_release(&answer);
    return code;
}

/* --- all pages ---------------------------------------------------------------------------- */

/* The input once more, with the cursor of the page before and as many items as one page holds. */
static int
next_input(struct command *c, struct kt_str cursor, struct kt_value *ret)
{
    size_t n = c->input.map.n;
    struct kt_member *v = kt_arena_calloc(&c->arena, n + 2, sizeof *v);
    if (!v)
        return ctl_fail(CTL_OTHER, NULL, "out of memory");
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (!cursor.p || !kt_str_is(c->input.map.v[i].name, "cursor"))
            v[kept++] = c->input.map.v[i];
    if (cursor.p) {
        struct kt_str copy = kt_arena_str(&c->arena, cursor);
        v[kept++] = (struct kt_member){ KT_LIT("cursor"), { .type = KT_V_STR, .s = copy } };
    }
    if (!has(c->args, ARG_LIMIT))
        v[kept++] = (struct kt_member){ KT_LIT("limit"), { .type = KT_V_INT, .i = KT_PAGE_MAX } };
    *ret = (struct kt_value){ .type = KT_V_MAP, .map = { v, kept } };
    return 0;
}

/* JSON and YAML are one document, which is written when it is whole; rows as they come. */
static bool
flush_rows(const struct print_list *list, struct kt_buf *buf)
{
    if (list->output == CTL_JSON || list->output == CTL_YAML)
        return !buf->failed;
    bool written = ctl_emit(STDOUT_FILENO, buf);
    kt_buf_reset(buf);
    return written;
}

static int
one_page(struct command *c, const struct kt_value *input, struct print_list *list,
         struct kt_buf *buf, struct kt_str *ret_cursor)
{
    struct answer answer;
    int code = CTL_OK;
    if (door_call(c->door, c->method, input, &answer) != 0)
        code = door_complain(c->door, &answer, errors_as_json(c));
    const struct kt_value *more = kt_value_get(&answer.value, "hasMore");
    const struct kt_value *next = kt_value_get(&answer.value, "nextCursor");
    *ret_cursor = (struct kt_str){ NULL, 0 };
    if (code == CTL_OK) {
        if (has(c->args, ARG_FIELD))
            member_print(buf, &answer.value, c->args->value[ARG_FIELD]);
        else
            print_list_items(list, &answer.value, buf);
        if (!flush_rows(list, buf))
            code = ctl_cannot_write();
        if (more && more->type == KT_V_BOOL && more->b && next && next->type == KT_V_STR)
            *ret_cursor = kt_arena_str(&c->arena, next->s);
    }
    answer_release(&answer);
    return code;
}

static int
run_pages(struct command *c)
{
    struct kt_buf buf;
    struct print_list list;
    struct kt_str cursor = { NULL, 0 };
    struct kt_value input;
    kt_buf_init(&buf, OUTPUT_MAX);
    bool names = has(c->args, ARG_QUIET) && !c->args->output_set;
    enum ctl_output output = names || has(c->args, ARG_FIELD) ? CTL_NAME : c->output;
    print_list_begin(&list, output, c->spec, &buf);
    int code;
    do {
        struct kt_str before = cursor;
        code = next_input(c, cursor, &input);
        if (code == CTL_OK)
            code = one_page(c, &input, &list, &buf, &cursor);
        if (code == CTL_OK && cursor.p && before.p && kt_str_eq(cursor, before))
            code = ctl_fail(CTL_SERVER, NULL, "the server gives the same page for ever");
    } while (code == CTL_OK && cursor.p);
    if (code == CTL_OK) {
        print_list_end(&list, &buf);
        if (!ctl_emit(STDOUT_FILENO, &buf))
            code = ctl_cannot_write();
    }
    kt_buf_done(&buf);
    return code;
}

/* --- one command -------------------------------------------------------------------------- */

static int
open_door(struct command *c)
{
    const struct args *a = c->args;
    if (has(a, ARG_URL) && has(a, ARG_SOCKET))
        return ctl_fail(CTL_USAGE, NULL, "--url and --socket exclude each other");
    if (has(a, ARG_URL)) {
        c->door = door_http(a->value[ARG_URL], a->timeout_ms, &c->credential);
        return c->door ? 0 : CTL_USAGE;
    }
    bool is_long = (a->verb->flags & VERB_LONG) && !has(a, ARG_TIMEOUT);
    unsigned timeout_ms = is_long ? LONG_TIMEOUT_MS : a->timeout_ms;
    c->door = door_socket(a->value[ARG_SOCKET], timeout_ms, &c->credential);
    return c->door ? 0 : ctl_fail(CTL_OTHER, NULL, "no memory, or a token that is no text");
}

static int
prepare(struct command *c)
{
    int rc = read_credential(c);
    if (rc == 0)
        rc = make_input(c);
    if (rc == 0)
        rc = ask(c);
    if (rc == 0)
        rc = open_door(c);
    return rc;
}

int
run(const struct args *args)
{
    struct command c = { .args = args, .output = args->output };
    if ((args->verb->flags & VERB_RAW) && !args->output_set)
        c.output = CTL_JSON;
    kt_arena_init(&c.arena, OUTPUT_MAX);
    int code = prepare(&c);
    const struct backup_form form = { errors_as_json(&c), has(args, ARG_QUIET) };
    if (code == 0 && (args->verb->flags & VERB_BACKUP))
        code = backup_fetch(c.door, args->words[args->used], &form);
    else if (code == 0 && (args->verb->flags & VERB_EXPORT))
        code = export_fetch(c.door, args->words[args->used], &form);
    else if (code == 0 && has(args, ARG_ALL))
        code = run_pages(&c);
    else if (code == 0)
        code = run_once(&c);
    if (c.door)
        c.door->close(c.door);
    kt_arena_wipe(&c.arena);
    kt_arena_done(&c.arena);
    secret_in_wipe(&c.credential);
    secret_in_wipe(&c.subject);
    return code;
}
