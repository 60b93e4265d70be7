/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/ctl/door.h"

#include "client/ctl/ctl.h"
#include "client/ctl/print.h"
#include "client/proto/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { ARENA_MAX = 256 * 1024 * 1024 };

static const struct kt_json_limits answer_limits = {
    .depth = 16, .members = 4096, .nodes = 1024 * 1024, .string = 1024 * 1024, .number = 60,
};

int
door_call(struct door *door, const char *method, const struct kt_value *args, struct answer *ret)
{
    *ret = (struct answer){ .error = 0 };
    kt_arena_init(&ret->arena, ARENA_MAX);
    return ret->error = door->call(door, method, args, ret);
}

void
answer_release(struct answer *a)
{
    kt_arena_wipe(&a->arena);
    kt_arena_done(&a->arena);
}

bool
answer_read(struct answer *a, struct kt_str json, struct kt_value *ret)
{
    struct kt_json_error e;
    return kt_json_read(json, &a->arena, &answer_limits, ret, &e) == 0;
}

int
answer_fail(struct answer *a, int error, const char *code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(a->detail, sizeof a->detail, fmt, ap);
    va_end(ap);
    snprintf(a->code, sizeof a->code, "%s", code);
    return a->error = error;
}

static struct kt_str
member_str(const struct kt_value *map, const char *name)
{
    const struct kt_value *v = kt_value_get(map, name);
    return v && v->type == KT_V_STR ? v->s : (struct kt_str){ "", 0 };
}

int
answer_refused(struct answer *a, int error)
{
    struct kt_str detail = member_str(&a->problem, "detail");
    if (!detail.n)
        detail = member_str(&a->problem, "title");
    answer_fail(a, error, "", "%.*s", KT_FMT(detail));
    snprintf(a->code, sizeof a->code, "%.*s", KT_FMT(member_str(&a->problem, "code")));
    return error;
}

int
door_exit(int error)
{
    switch (error) {
    case KAITEN_OK: return CTL_OK;
    case KAITEN_EUSAGE: return CTL_USAGE;
    case KAITEN_EMEMORY: return CTL_OTHER;
    case KAITEN_EUNAUTHORIZED:
    case KAITEN_EFORBIDDEN: return CTL_AUTH;
    case KAITEN_ENOTFOUND: return CTL_NOT_FOUND;
    default: return error >= 400 && error < 500 ? CTL_REFUSED : CTL_SERVER;
    }
}

/* --- complaints --------------------------------------------------------------------------- */

/* The first row that fits; code may be the end of one; error 0 and code NULL fit all. */
static const struct {
    int error;
    const char *code;
    enum { ANY = 0, SOCKET, HTTP } door;
    const char *fix;
} fixes[] = {
    { KAITEN_ECONNECT, NULL, SOCKET,
      "is kaitend running? --socket PATH or KAITEN_SOCKET names another socket" },
    { KAITEN_ECONNECT, NULL, HTTP, "is kaitend running, and is the address right?" },
    { KAITEN_ETIMEOUT, NULL, ANY,
      "a change may have been made all the same: look before you repeat one; --timeout TIME "
      "waits longer" },
    { KAITEN_ELOST, NULL, ANY,
      "a change may have been made all the same: look before you repeat one" },
    { KAITEN_EPROTOCOL, NULL, ANY, "is it kaitend that answers there?" },
    { KAITEN_EUNAUTHORIZED, NULL, SOCKET,
      "ask who runs kaitend for a peer rule for this user, or give a token with --token-file" },
    { KAITEN_EUNAUTHORIZED, NULL, HTTP,
      "set KAITEN_TOKEN or KAITEN_TOKEN_FILE, or give --token-file" },
    { 0, ".ScopesExceedCaller", ANY, "kaitenctl whoami shows the scopes that you can pass on" },
    { 0, "Auth.MissingScope", ANY, "kaitenctl whoami shows the scopes that you have" },
    { KAITEN_EFORBIDDEN, NULL, SOCKET, "ask who runs kaitend for a peer rule that permits it" },
    { 0, "Token.InvalidScopes", ANY, "kaitenctl scopes lists the scopes that there are" },
    { 0, ".InvalidCursor", ANY, "a cursor is the nextCursor of the page before" },
    { 0, ".SlugConflict", ANY, "choose another --slug, or leave it out to have one made" },
    { 0, "CreateToken.Conflict", ANY, "choose another --name, or revoke the token that has it" },
    { 0, "Token.NotFound", ANY, "kaitenctl token list ACCOUNT lists the tokens" },
    { 0, "ServiceAccount.NotFound", ANY, "kaitenctl account list lists the accounts" },
    { 0, ".ServiceAccountNotFound", ANY, "kaitenctl account list lists the accounts" },
    { 0, "Method.NotFound", SOCKET, "kaitenctl describe lists the methods" },
    { KAITEN_ETOOMANYREQUESTS, NULL, ANY, "what revokes or deletes is never held up by a limit" },
    { 0, "Server.Quarantined", ANY,
      "it does not pass by itself: kaitend(8), Rollback, tells who runs kaitend what to do" },
    { 0, "Server.NotReady", ANY, "if it does not pass, the log of kaitend says why" },
    { 0, "Server.ClockBehind", ANY,
      "set the server's clock right; kaitend(8), Time, says what to do if it is right" },
    { 0, "Storage.Full", ANY, "the server's disk is full: it needs room; what revokes goes on" },
    { 0, "Storage.Unknown", ANY,
      "the change may have been made all the same: look before you repeat it" },
    { 0, "Key.File", SOCKET, "the keys that are in force stay so: put that right, and try again" },
    { 0, "Store.Failed", SOCKET, "the store goes on as it was: put that right, and try again" },
    { KAITEN_EUNAVAILABLE, NULL, ANY, "try again in a moment" },
    { KAITEN_EINTERNAL, NULL, ANY, "the log of kaitend says why" },
};

static bool
ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static const char *
find_fix(const struct door *door, const struct answer *a)
{
    for (size_t i = 0; i < sizeof fixes / sizeof fixes[0]; i++) {
        if (fixes[i].door != ANY && (fixes[i].door == HTTP) != door->http)
            continue;
        if ((fixes[i].error == 0 || fixes[i].error == a->error) &&
            (!fixes[i].code || ends_with(a->code, fixes[i].code)))
            return fixes[i].fix;
    }
    return NULL;
}

/* The problem as the server said it, or one of our own with the same members. */
static void
complain_json(const struct answer *a)
{
    struct kt_buf buf;
    kt_buf_init(&buf, DOOR_ANSWER_MAX);
    if (a->problem.type == KT_V_MAP) {
        print_json_line(&buf, &a->problem);
    } else {
        kt_buf_puts(&buf, "{\"title\":");
        kt_json_put_str(&buf, kt_str(kaiten_strerror(a->error)));
        kt_buf_puts(&buf, ",\"detail\":");
        kt_json_put_str(&buf, kt_str(a->detail));
        kt_buf_puts(&buf, ",\"code\":");
        kt_json_put_str(&buf, kt_str(a->code));
        kt_buf_putc(&buf, '}');
    }
    kt_buf_putc(&buf, '\n');
    ctl_emit(STDERR_FILENO, &buf);
    kt_buf_done(&buf);
}

static void
complain_fields(const struct answer *a)
{
    const struct kt_value *errors = kt_value_get(&a->problem, "errors");
    for (size_t i = 0; errors && errors->type == KT_V_ARRAY && i < errors->array.n; i++)
        ctl_note("%.*s: %.*s", KT_FMT(member_str(&errors->array.v[i], "location")),
                 KT_FMT(member_str(&errors->array.v[i], "message")));
}

int
door_complain(const struct door *door, const struct answer *a, bool json)
{
    int code = door_exit(a->error);
    if (json) {
        complain_json(a);
        return code;
    }
    const char *detail = a->detail[0] ? a->detail : kaiten_strerror(a->error);
    ctl_fail(code, NULL, "%s%s%s", a->code, a->code[0] ? ": " : "", detail);
    complain_fields(a);
    struct kt_str id = member_str(&a->problem, "errorId");
    if (id.n)
        ctl_note("error id %.*s", KT_FMT(id));
    const char *fix = find_fix(door, a);
    if (fix)
        ctl_note("%s", fix);
    return code;
}
