/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/ctl/args.h"

#include "client/ctl/member.h"
#include "client/proto/check.h"
#include "client/proto/wipe.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { MEMBERS_MAX = 16, SECRET_TAIL_MIN = 20 };

/* member: what the option fills of an operation's input; an option without one belongs to all. */
static const struct {
    const char *name, *placeholder, *member, *doc;
    char letter;
} options[ARG_COUNT] = {
    [ARG_SOCKET] = { "socket", "PATH", NULL, "Socket of kaitend (KAITEN_SOCKET).", 's' },
    [ARG_URL] = { "url", "URL", NULL, "Speak HTTP to this address instead of the socket.", 0 },
    [ARG_TIMEOUT] = { "timeout", "TIME", NULL, "How long to wait: 500ms, 10s, 1m. Default 5s.", 0 },
    [ARG_OUTPUT] = { "output", "FORM", NULL, "table, json, ndjson, yaml or name.", 'o' },
    [ARG_FIELD] = { "field", "MEMBER", NULL, "Print this member of the answer, nothing else.", 0 },
    [ARG_QUIET] = { "quiet", NULL, NULL, "Print the secret or the name alone, no notes.", 'q' },
    [ARG_YES] = { "yes", NULL, NULL, "Do not ask before something is destroyed.", 'y' },
    [ARG_TOKEN_FILE] = { "token-file", "FILE", NULL,
                         "File with the token: the caller's, or the one to verify.", 0 },
    [ARG_TOKEN_FD] = { "token-fd", "N", NULL, "The same, from an open descriptor.", 0 },
    [ARG_HELP] = { "help", NULL, NULL, "This text.", 'h' },
    [ARG_VERSION] = { "version", NULL, NULL, "The version.", 'V' },
    [ARG_NAME] = { "name", "NAME", "name", NULL, 0 },
    [ARG_SLUG] = { "slug", "SLUG", "slug", NULL, 0 },
    [ARG_SCOPE] = { "scope", "SCOPE", "scopes", NULL, 0 },
    [ARG_ALL_SCOPES] = { "all-scopes", NULL, "scopes", "All scopes that the caller has.", 0 },
    [ARG_EXPIRES_AT] = { "expires-at", "TIME", "expiresAt", NULL, 0 },
    [ARG_EXPIRES_IN] = { "expires-in", "TIME", "expiresAt", "The same, from now: 1h, 30d, 52w.",
                         0 },
    [ARG_GRACE] = { "grace", "TIME", "gracePeriodSeconds", NULL, 0 },
    [ARG_LIMIT] = { "limit", "N", "limit", NULL, 0 },
    [ARG_CURSOR] = { "cursor", "CURSOR", "cursor", NULL, 0 },
    [ARG_ALL] = { "all", NULL, "cursor", "All pages.", 0 },
};

static const char *const outputs[CTL_OUTPUT_COUNT] = {
    [CTL_TABLE] = "table", [CTL_JSON] = "json", [CTL_NDJSON] = "ndjson",
    [CTL_YAML] = "yaml",   [CTL_NAME] = "name",
};

static const char see_help[] = "kaitenctl --help lists the verbs and options";

/* --- secrets in argv ---------------------------------------------------------------------- */

static char *
find_secret(char *arg)
{
    for (char *p = strstr(arg, "ksh_"); p; p = strstr(p + 1, "ksh_")) {
        size_t tail = strspn(p + 4, "0123456789abcdefghijklmnopqrstuvwxyz"
                                    "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_");
        if (tail >= SECRET_TAIL_MIN)
            return p;
    }
    return NULL;
}

int
args_refuse_secrets(int argc, char **argv)
{
    bool found = false;
    for (int i = 1; i < argc; i++) {
        char *secret = find_secret(argv[i]);
        if (!secret)
            continue;
        kt_wipe(secret, strlen(secret));
        found = true;
    }
    if (!found)
        return 0;
    return ctl_fail(CTL_USAGE,
                    "give it on standard input, with --token-file or with --token-fd; revoke it "
                    "when others use this machine",
                    "a token stands on the command line, where every process can read it");
}

/* --- parsing ------------------------------------------------------------------------------ */

static void
make_getopt(struct option longs[ARG_COUNT + 1], char letters[2 * ARG_COUNT + 2])
{
    char *next = letters;
    *next++ = '+';
    *next++ = ':';
    for (int i = 0; i < ARG_COUNT; i++) {
        bool takes = options[i].placeholder != NULL;
        longs[i] = (struct option){ options[i].name, takes ? required_argument : no_argument, NULL,
                                    256 + i };
        if (!options[i].letter)
            continue;
        *next++ = options[i].letter;
        if (takes)
            *next++ = ':';
    }
    longs[ARG_COUNT] = (struct option){ NULL, 0, NULL, 0 };
    *next = '\0';
}

static int
option_of(int c)
{
    for (int i = 0; i < ARG_COUNT; i++)
        if (c == 256 + i || (options[i].letter && c == options[i].letter))
            return i;
    return -1;
}

static int
take_option(struct args *a, int option, const char *value)
{
    if (option == ARG_SCOPE) {
        if (a->nscopes == ARGS_SCOPES_MAX)
            return ctl_fail(CTL_USAGE, NULL, "more than %d scopes", ARGS_SCOPES_MAX);
        a->scopes[a->nscopes++] = value;
    }
    a->value[option] = value ? value : "";
    return 0;
}

static int
take_word(struct args *a, char *word)
{
    if (a->nwords == ARGS_WORDS_MAX)
        return ctl_fail(CTL_USAGE, see_help, "too many words: %s", word);
    a->words[a->nwords++] = word;
    return 0;
}

static int
bad_option(int c, const char *arg)
{
    int option = optopt ? option_of(optopt) : -1;
    if (option >= 0 && c == ':')
        return ctl_fail(CTL_USAGE, see_help, "--%s needs a value", options[option].name);
    if (option >= 0)
        return ctl_fail(CTL_USAGE, see_help, "--%s takes no value", options[option].name);
    /* The letter may be one of several behind one dash, in a word that getopt has left already: so
     * the letter is named, and not the word. */
    if (optopt > 0 && optopt < 256)
        return ctl_fail(CTL_USAGE, see_help, "no such option: -%c", optopt);
    return ctl_fail(CTL_USAGE, see_help, "no such option: %s", arg);
}

/* Options may stand anywhere, and words between them; "--" ends the options. */
static int
scan(int argc, char **argv, struct args *a)
{
    struct option longs[ARG_COUNT + 1];
    char letters[2 * ARG_COUNT + 2];
    make_getopt(longs, letters);
    optind = 0;
    opterr = 0;
    int rc = 0;
    while (rc == 0) {
        int before = optind ? optind : 1;
        int c = getopt_long(argc, argv, letters, longs, NULL);
        if (c == ':' || c == '?')
            return bad_option(c, argv[optind - 1]);
        if (c != -1) {
            rc = take_option(a, option_of(c), optarg);
            continue;
        }
        bool rest = optind > before && strcmp(argv[optind - 1], "--") == 0;
        if (optind >= argc)
            break;
        do
            rc = take_word(a, argv[optind++]);
        while (rc == 0 && rest && optind < argc);
        if (rest)
            break;
    }
    return rc;
}

static int
parse_output(struct args *a)
{
    const char *form = a->value[ARG_OUTPUT] ? a->value[ARG_OUTPUT] : getenv("KAITEN_OUTPUT");
    if (!form || !*form)
        return 0;
    for (int i = 0; i < CTL_OUTPUT_COUNT; i++)
        if (strcmp(form, outputs[i]) == 0) {
            a->output = (enum ctl_output)i;
            a->output_set = true;
            return 0;
        }
    return ctl_fail(CTL_USAGE, "one of table, json, ndjson, yaml, name", "no such form: %s%s", form,
                    a->value[ARG_OUTPUT] ? "" : " (KAITEN_OUTPUT)");
}

static int
parse_numbers(struct args *a)
{
    int64_t n = 5000;
    const char *timeout = a->value[ARG_TIMEOUT], *fd = a->value[ARG_TOKEN_FD];
    if (timeout && (!kt_duration_parse(kt_str(timeout), &n) || n < 1 || n > INT_MAX))
        return ctl_fail(CTL_USAGE, "a time looks like 500ms, 10s or 1m", "--timeout %s", timeout);
    a->timeout_ms = (unsigned)n;
    a->token_fd = -1;
    if (!fd)
        return 0;
    if (!kt_int_parse(kt_str(fd), &n) || n < 0 || n > INT_MAX)
        return ctl_fail(CTL_USAGE, "a descriptor is a number, 0 or more", "--token-fd %s", fd);
    a->token_fd = (int)n;
    return 0;
}

static const struct kt_field *
input_field(const struct verb *verb, const char *member)
{
    const struct kt_op_spec *spec = verb_spec(verb, false);
    if (!spec)
        return NULL;
    for (const struct kt_field *f = spec->in->fields; f->name; f++)
        if (strcmp(f->name, member) == 0 && !(f->flags & KT_READONLY))
            return f;
    return NULL;
}

/* The member of this verb's input that an option fills: verify takes one scope, where create takes
 * many. */
static const struct kt_field *
option_field(const struct verb *verb, int option)
{
    const struct kt_field *f = input_field(verb, options[option].member);
    if (f || option != ARG_SCOPE)
        return f;
    return input_field(verb, "scope");
}

/* Path members are words, never options. */
static bool
verb_takes(const struct verb *verb, int option)
{
    if (!options[option].member)
        return true;
    const struct kt_field *f = option_field(verb, option);
    return f && f->place != KT_PATH;
}

static int
no_verb(const struct args *a)
{
    char fix[96];
    const char *group = a->group ? a->group : "", *space = a->group ? " " : "";
    const char *word = a->used <= a->nwords ? a->words[a->used - 1] : NULL;
    const char *nearest = word ? verb_nearest(a->group, word) : NULL;
    if (word && !nearest && verb_nearest(NULL, word)) {
        nearest = verb_nearest(NULL, word); /* "token verify" is "verify" */
        group = space = "";
    }
    snprintf(fix, sizeof fix, "%s", see_help);
    if (nearest)
        snprintf(fix, sizeof fix, "did you mean kaitenctl %s%s%s?", group, space, nearest);
    else if (a->group)
        snprintf(fix, sizeof fix, "kaitenctl help %s lists them", group);
    if (!word)
        return ctl_fail(CTL_USAGE, fix, "%s needs one of its verbs", a->words[0]);
    return ctl_fail(CTL_USAGE, fix, "no such verb: %s%s%s", a->group ? a->group : "",
                    a->group ? " " : "", word);
}

static int
check_verb(const struct args *a)
{
    if (!a->verb && a->nwords == 0)
        return ctl_fail(CTL_USAGE, see_help, "what should be done?");
    if (!a->verb)
        return no_verb(a);
    for (int i = 0; i < ARG_COUNT; i++)
        if (a->value[i] && !verb_takes(a->verb, i))
            return ctl_fail(CTL_USAGE, see_help, "--%s means nothing to %s%s%s", options[i].name,
                            a->verb->group ? a->verb->group : "", a->verb->group ? " " : "",
                            a->verb->name);
    if (!a->value[ARG_FIELD])
        return 0;
    if (a->value[ARG_OUTPUT])
        return ctl_fail(CTL_USAGE, NULL, "--field and --output exclude each other");
    return member_check(a->verb, a->value[ARG_FIELD]);
}

/* "help token create" is "token create --help", and "version" is "--version". */
static void
take_first_word(struct args *a)
{
    if (a->nwords == 1 && strcmp(a->words[0], "version") == 0)
        a->value[ARG_VERSION] = "";
    if (a->nwords == 0 || strcmp(a->words[0], "help") != 0)
        return;
    a->value[ARG_HELP] = "";
    a->nwords--;
    memmove(a->words, a->words + 1, a->nwords * sizeof a->words[0]);
}

int
args_parse(int argc, char **argv, struct args *ret)
{
    *ret = (struct args){ .token_fd = -1 };
    int rc = scan(argc, argv, ret);
    if (rc == 0)
        rc = parse_output(ret);
    if (rc == 0)
        rc = parse_numbers(ret);
    if (rc != 0)
        return rc;
    take_first_word(ret);
    ret->verb = verb_find(ret->words, ret->nwords, &ret->used, &ret->group);
    bool is_known = ret->verb || ret->group || ret->nwords == 0;
    if (ret->value[ARG_VERSION] || (ret->value[ARG_HELP] && is_known))
        return 0;
    return check_verb(ret);
}

/* --- the input of an operation ------------------------------------------------------------ */

struct input {
    struct kt_member *v;
    size_t n;
    struct kt_arena *arena;
};

static void
add(struct input *in, const char *name, struct kt_value value)
{
    in->v[in->n++] = (struct kt_member){ kt_str(name), value };
}

static void
add_str(struct input *in, const char *name, const char *text)
{
    add(in, name, (struct kt_value){ .type = KT_V_STR, .s = kt_str(text) });
}

static int
usage_line(const struct args *a, const char *before, const char *what, const char *after)
{
    struct kt_buf buf;
    kt_buf_init(&buf, 4096);
    kt_buf_printf(&buf, "usage: kaitenctl %s%s%s", a->verb->group ? a->verb->group : "",
                  a->verb->group ? " " : "", a->verb->name);
    for (size_t i = 0; i < VERB_WORDS_MAX && a->verb->words[i]; i++)
        kt_buf_printf(&buf, " %s", verb_word_label(a->verb, i));
    kt_buf_putc(&buf, '\0');
    int rc = ctl_fail(CTL_USAGE, buf.failed ? NULL : buf.p, "%s%s%s", before, what, after);
    kt_buf_done(&buf);
    return rc;
}

/* A word may also be given as an option for the same member, as on Kaiten's own command line. */
static int
add_words(const struct args *a, struct input *in)
{
    const struct verb *verb = a->verb;
    size_t at = a->used;
    for (size_t i = 0; i < VERB_WORDS_MAX && verb->words[i]; i++) {
        bool is_option = strcmp(verb->words[i], "name") == 0 && a->value[ARG_NAME];
        if (is_option)
            continue;
        if (at == a->nwords)
            return usage_line(a, "", verb_word_label(verb, i), " is missing");
        add_str(in, verb->words[i], a->words[at++]);
    }
    if (at < a->nwords)
        return usage_line(a, "one word too many: ", a->words[at], "");
    return 0;
}

static int
add_scopes(const struct args *a, struct input *in)
{
    if (a->value[ARG_ALL_SCOPES] && a->nscopes)
        return ctl_fail(CTL_USAGE, NULL, "--scope and --all-scopes exclude each other");
    if (a->value[ARG_ALL_SCOPES]) {
        add(in, "scopes", (struct kt_value){ .type = KT_V_NULL });
        return 0;
    }
    struct kt_value *v = kt_arena_calloc(in->arena, a->nscopes, sizeof *v);
    if (!v)
        return CTL_OTHER;
    for (size_t i = 0; i < a->nscopes; i++)
        v[i] = (struct kt_value){ .type = KT_V_STR, .s = kt_str(a->scopes[i]) };
    add(in, "scopes", (struct kt_value){ .type = KT_V_ARRAY, .array = { v, a->nscopes } });
    return 0;
}

static int
add_expiry(const struct args *a, int64_t now_ms, struct input *in)
{
    const char *at = a->value[ARG_EXPIRES_AT], *after = a->value[ARG_EXPIRES_IN];
    struct kt_time t;
    int64_t ms;
    if (at && after)
        return ctl_fail(CTL_USAGE, NULL, "--expires-at and --expires-in exclude each other");
    if (at && !kt_time_parse(kt_str(at), &t))
        return ctl_fail(CTL_USAGE, "an instant looks like 2027-01-31T09:30:00Z", "--expires-at %s",
                        at);
    if (at) {
        add_str(in, "expiresAt", at);
        return 0;
    }
    if (!kt_duration_parse(kt_str(after), &ms) || ms < 1 || ms > KT_TIME_LAST - now_ms)
        return ctl_fail(CTL_USAGE, "a time looks like 90m, 1h or 30d", "--expires-in %s", after);
    char *text = kt_arena_alloc(in->arena, KT_TIME_MAX);
    if (!text)
        return CTL_OTHER;
    kt_time_print((struct kt_time){ now_ms + ms }, text);
    add_str(in, "expiresAt", text);
    return 0;
}

static int
add_integer(const char *option, const char *member, const char *text, struct input *in)
{
    int64_t n;
    if (!kt_int_parse(kt_str(text), &n))
        return ctl_fail(CTL_USAGE, NULL, "--%s needs a number, not %s", option, text);
    add(in, member, (struct kt_value){ .type = KT_V_INT, .i = n });
    return 0;
}

static int
add_grace(const char *text, struct input *in)
{
    int64_t ms;
    if (!kt_duration_parse(kt_str(text), &ms) || ms % 1000 != 0)
        return ctl_fail(CTL_USAGE, "a time in whole seconds looks like 30s, 5m or 1h", "--grace %s",
                        text);
    add(in, "gracePeriodSeconds", (struct kt_value){ .type = KT_V_INT, .i = ms / 1000 });
    return 0;
}

static int
add_options(const struct args *a, int64_t now_ms, struct input *in)
{
    static const enum args_option texts[] = { ARG_NAME, ARG_SLUG, ARG_CURSOR };
    int rc = 0;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (a->value[texts[i]])
            add_str(in, options[texts[i]].member, a->value[texts[i]]);
    const struct kt_field *scopes = option_field(a->verb, ARG_SCOPE);
    if (scopes && scopes->type == KT_T_STRLIST)
        rc = add_scopes(a, in);
    else if (scopes && a->nscopes > 1)
        rc = ctl_fail(CTL_USAGE, NULL, "only one --scope can be asked for");
    else if (scopes && a->nscopes)
        add_str(in, scopes->name, a->scopes[0]);
    if (rc == 0 && (a->value[ARG_EXPIRES_AT] || a->value[ARG_EXPIRES_IN]))
        rc = add_expiry(a, now_ms, in);
    if (rc == 0 && a->value[ARG_GRACE])
        rc = add_grace(a->value[ARG_GRACE], in);
    if (rc == 0 && a->value[ARG_LIMIT])
        rc = add_integer("limit", "limit", a->value[ARG_LIMIT], in);
    return rc;
}

/* Members that the table requires and that were not given. */
static int
check_required(const struct args *a, const struct input *in)
{
    const struct kt_op_spec *spec = verb_spec(a->verb, false);
    for (const struct kt_field *f = spec->in->fields; f->name; f++) {
        bool there = !(f->flags & KT_REQUIRED) || (a->verb->flags & VERB_VERIFY);
        for (size_t i = 0; i < in->n && !there; i++)
            there = kt_str_is(in->v[i].name, f->name);
        if (!there)
            return usage_line(a, "--", f->name, " is missing");
    }
    return 0;
}

int
args_input(const struct args *a, int64_t now_ms, struct kt_arena *arena, struct kt_value *ret_map)
{
    struct input in = { kt_arena_calloc(arena, MEMBERS_MAX, sizeof *in.v), 0, arena };
    if (!in.v)
        return CTL_OTHER;
    int rc = add_words(a, &in);
    if (rc == 0)
        rc = add_options(a, now_ms, &in);
    if (rc == 0)
        rc = check_required(a, &in);
    if (rc != 0)
        return rc;
    *ret_map = (struct kt_value){ .type = KT_V_MAP, .map = { in.v, in.n } };
    return 0;
}

/* --- help --------------------------------------------------------------------------------- */

static void
help_option(struct kt_buf *buf, int i, const char *doc)
{
    char left[40];
    snprintf(left, sizeof left, "%c%c%c --%s%s%s", options[i].letter ? '-' : ' ',
             options[i].letter ? options[i].letter : ' ', options[i].letter ? ',' : ' ',
             options[i].name, options[i].placeholder ? " " : "",
             options[i].placeholder ? options[i].placeholder : "");
    kt_buf_printf(buf, "  %-26s %s\n", left, doc);
}

static void
help_usage(struct kt_buf *buf, const struct verb *verb)
{
    kt_buf_printf(buf, "kaitenctl %s%s%s", verb->group ? verb->group : "", verb->group ? " " : "",
                  verb->name);
    for (size_t i = 0; i < VERB_WORDS_MAX && verb->words[i]; i++)
        kt_buf_printf(buf, " %s", verb_word_label(verb, i));
    if (verb->flags & VERB_CALL)
        kt_buf_puts(buf, " METHOD [JSON|-]");
}

/* Texts that must be given, and have no place of their own among the words. */
static bool
is_needed(const struct verb *verb, int option)
{
    const struct kt_field *f = verb_takes(verb, option) ? option_field(verb, option) : NULL;
    bool needed = f && (f->flags & KT_REQUIRED) && f->type == KT_T_STR;
    for (size_t i = 0; needed && i < VERB_WORDS_MAX && verb->words[i]; i++)
        needed = strcmp(verb->words[i], f->name) != 0;
    return needed;
}

static const char *
option_doc(const struct verb *verb, int option)
{
    if (options[option].doc)
        return options[option].doc;
    const struct kt_field *f = option_field(verb, option);
    if (f->type == KT_T_STRLIST)
        return "What it may do, such as read:releases; as often as needed.";
    return f->doc;
}

static void
help_verb(struct kt_buf *buf, const struct verb *verb)
{
    kt_buf_puts(buf, "usage: ");
    help_usage(buf, verb);
    for (int i = ARG_NAME; i < ARG_COUNT; i++)
        if (is_needed(verb, i))
            kt_buf_printf(buf, " --%s %s", options[i].name, options[i].placeholder);
    kt_buf_printf(buf, " [options]\n\n%s\n", verb_doc(verb));
    if (verb->flags & VERB_VERIFY)
        kt_buf_puts(buf, "The token is read from standard input, --token-file or --token-fd.\n"
                         "Exits 10 when it is not good.\n");
    if (verb->example)
        kt_buf_printf(buf, "\nExample:\n  kaitenctl %s\n", verb->example);
    kt_buf_puts(buf, "\nOptions:\n");
    for (int i = ARG_NAME; i < ARG_COUNT; i++)
        if (verb_takes(verb, i) && (i != ARG_ALL || (verb->flags & VERB_PAGES)))
            help_option(buf, i, option_doc(verb, i));
    for (int i = 0; i < ARG_NAME; i++)
        help_option(buf, i, options[i].doc);
}

static void
help_all(struct kt_buf *buf, const char *group)
{
    kt_buf_puts(buf, "usage: kaitenctl [options] verb [words] [options]\n\n");
    for (size_t i = 0; i < verb_count; i++) {
        if (group && (!verbs[i].group || strcmp(group, verbs[i].group) != 0))
            continue;
        struct kt_buf usage;
        kt_buf_init(&usage, 256);
        help_usage(&usage, &verbs[i]);
        kt_buf_printf(buf, "  %-36.*s %s\n", KT_FMT(kt_buf_str(&usage)), verb_doc(&verbs[i]));
        kt_buf_done(&usage);
    }
    kt_buf_puts(buf, "\nOptions of all verbs (each verb has its own --help):\n");
    for (int i = 0; i < ARG_NAME; i++)
        help_option(buf, i, options[i].doc);
    kt_buf_puts(buf, "\nExit: 0 ok, 1 other, 2 usage, 3 not authenticated or not permitted, "
                     "4 not found,\n5 refused, 6 server unreachable or failing, 10 token not good, "
                     "130 interrupted.\n"
                     "Environment: KAITEN_SOCKET, KAITEN_OUTPUT; with --url KAITEN_TOKEN or "
                     "KAITEN_TOKEN_FILE.\n"
                     "kaitenctl(1) says more.\n");
}

void
args_help(const struct args *a, struct kt_buf *buf)
{
    if (a->verb)
        help_verb(buf, a->verb);
    else
        help_all(buf, a->group);
}
