/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/ctl/verb.h"

#include "client/proto/near.h"

#include <string.h>

#define ACCOUNT "serviceAccountSlug"
#define TOKEN "tokenSlug"
#define DIRECTORY "directory" /* stays here */
#define FILE_NAME "file" /* stays here, too */
#define SAME(id) .op = (id), .http_op = (id)

const struct verb verbs[] = {
    { "account", "create", SAME(KT_OP_ACCOUNT_CREATE), .words = { "name" },
      .example = "account create Builds --slug build" },
    { "account", "list", SAME(KT_OP_ACCOUNT_LIST), .flags = VERB_PAGES,
      .example = "account list --all -o name" },
    { "account", "get", SAME(KT_OP_ACCOUNT_GET), .words = { ACCOUNT } },
    { "account", "update", SAME(KT_OP_ACCOUNT_UPDATE), .words = { ACCOUNT },
      .example = "account update build --name Builders", .done = "Service account updated." },
    { "account", "delete", SAME(KT_OP_ACCOUNT_DELETE), .words = { ACCOUNT },
      .confirm = "Delete service account %s and revoke all of its tokens?",
      .done = "Service account deleted." },
    { "token", "create", SAME(KT_OP_TOKEN_CREATE), .words = { ACCOUNT },
      .example = "token create build --name nightly --scope read:releases --expires-in 30d" },
    { "token", "list", SAME(KT_OP_TOKEN_LIST), .flags = VERB_PAGES, .words = { ACCOUNT },
      .example = "token list build --all -o ndjson" },
    { "token", "get", SAME(KT_OP_TOKEN_GET), .words = { ACCOUNT, TOKEN } },
    { "token", "rotate", SAME(KT_OP_TOKEN_ROTATE), .words = { ACCOUNT, TOKEN },
      .confirm = "Replace the secret of service account %s's token %s?",
      .example = "token rotate build nightly --grace 1h" },
    { "token", "revoke", SAME(KT_OP_TOKEN_REVOKE), .words = { ACCOUNT, TOKEN },
      .confirm = "Revoke service account %s's token %s for good?",
      .done = "Service account token revoked." },
    { "token", "revoke-all", SAME(KT_OP_TOKEN_REVOKE_ALL), .words = { ACCOUNT },
      .confirm = "Revoke every token of service account %s for good?" },
    { NULL, "verify", .op = KT_OP_TOKEN_VERIFY, .http_op = KT_OP_TOKEN_VALIDATE,
      .flags = VERB_VERIFY, .example = "verify --scope read:releases --token-file nightly.token" },
    { NULL, "whoami", SAME(KT_OP_WHOAMI) },
    { NULL, "scopes", SAME(KT_OP_SCOPES) },
    { NULL, "health", SAME(KT_OP_READYZ) },
    { NULL, "ping", .op = KT_OP_PING, .http_op = KT_OP_HEALTHZ,
      .doc = "Say whether the daemon answers at all." },
    { NULL, "backup", .op = KT_OP_STORE_BACKUP, .http_op = -1,
      .flags = VERB_BACKUP | VERB_LONG, .words = { DIRECTORY },
      .doc = "Copy the store into a new folder, while it is in use; root and the daemon's user.",
      .example = "backup /var/backups/kaitend-1" },
    { NULL, "export", .op = KT_OP_STORE_EXPORT, .http_op = -1,
      .flags = VERB_EXPORT | VERB_LONG, .words = { FILE_NAME },
      .doc = "Copy the store into a file for any storage plugin; root and the daemon's user.",
      .example = "export kaitend.export" },
    { "storage", "check", .op = KT_OP_STORE_CHECK, .http_op = -1, .flags = VERB_LONG },
    { "key", "list", .op = KT_OP_KEY_LIST, .http_op = -1, .flags = VERB_LONG },
    { "key", "rotate", .op = KT_OP_KEY_ROTATE, .http_op = -1, .words = { "kind" },
      .example = "key rotate digest" },
    { "key", "retire", .op = KT_OP_KEY_RETIRE, .http_op = -1, .flags = VERB_LONG,
      .words = { "key" }, .confirm = "Take out key %s for good?", .done = "Key taken out." },
    { NULL, "call", .op = -1, .http_op = -1, .flags = VERB_CALL | VERB_RAW,
      .doc = "Call any method with a JSON object as its arguments.",
      .example = "call account.list {\"limit\":10}" },
    { NULL, "describe", .op = KT_OP_DESCRIBE, .http_op = -1, .flags = VERB_RAW,
      .doc = "Print the daemon's methods, their members and scopes." },
};

const size_t verb_count = sizeof verbs / sizeof verbs[0];

/* The spellings of Kaiten's own command line, and short ones. */
static const struct {
    const char *alias, *word;
} groups[] = {
    { "account", "account" }, { "accounts", "account" }, { "service-accounts", "account" },
    { "service-account", "account" }, { "token", "token" }, { "tokens", "token" },
    { "storage", "storage" }, { "key", "key" }, { "keys", "key" },
}, names[] = {
    { "ls", "list" }, { "rm", "delete" }, { "show", "get" }, { "mint", "create" },
    { "new", "create" },
};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static const char *
group_of(const char *word)
{
    for (size_t i = 0; i < COUNT(groups); i++)
        if (strcmp(word, groups[i].alias) == 0)
            return groups[i].word;
    return NULL;
}

static const char *
name_of(const char *group, const char *word)
{
    for (size_t i = 0; i < COUNT(names); i++)
        if (strcmp(word, names[i].alias) == 0)
            word = names[i].word;
    /* A token is revoked, for good; Kaiten says delete. */
    return strcmp(group, "token") == 0 && strcmp(word, "delete") == 0 ? "revoke" : word;
}

static const struct verb *
find_row(const char *group, const char *name)
{
    for (size_t i = 0; i < verb_count; i++) {
        bool same = group ? verbs[i].group && strcmp(group, verbs[i].group) == 0
                          : verbs[i].group == NULL;
        if (same && strcmp(name, verbs[i].name) == 0)
            return &verbs[i];
    }
    return NULL;
}

const struct verb *
verb_find(char *const *words, size_t n, size_t *ret_used, const char **ret_group)
{
    *ret_group = NULL;
    if (n == 0)
        return NULL;
    const char *group = group_of(words[0]);
    *ret_used = 1;
    if (!group)
        return find_row(NULL, words[0]);
    /* "service-accounts tokens list" is the same as "tokens list". */
    size_t at = 1;
    const char *inner = n > 1 ? group_of(words[1]) : NULL;
    if (inner && strcmp(group, "account") == 0 && strcmp(inner, "token") == 0) {
        group = inner;
        at = 2;
    }
    *ret_group = group;
    *ret_used = at + 1;
    return n > at ? find_row(group, name_of(group, words[at])) : NULL;
}

const char *
verb_nearest(const char *group, const char *word)
{
    const char *nearest = NULL;
    size_t least = (strlen(word) + 1) / 3; /* more than that is another word */
    least = least < 2 ? least + 1 : 3;
    for (size_t i = 0; i < verb_count; i++) {
        const struct verb *v = &verbs[i];
        bool same = group && v->group && strcmp(group, v->group) == 0;
        if (group && !same)
            continue;
        const char *name = !group && v->group ? v->group : v->name;
        size_t n = kt_near(word, name);
        if (n < least) {
            least = n;
            nearest = name;
        }
    }
    return nearest;
}

const struct kt_op_spec *
verb_spec(const struct verb *verb, bool http)
{
    int op = http ? verb->http_op : verb->op;
    return op < 0 ? NULL : &kt_op_specs[op];
}

const char *
verb_word_label(const struct verb *verb, size_t word)
{
    const char *member = verb->words[word];
    if (strcmp(member, "kind") == 0)
        return "digest|signing";
    if (strcmp(member, "key") == 0)
        return "KEY";
    if (strcmp(member, FILE_NAME) == 0)
        return "FILE";
    if (strcmp(member, DIRECTORY) == 0)
        return "DIR";
    if (strcmp(member, ACCOUNT) == 0)
        return verb->group && strcmp(verb->group, "token") == 0 ? "ACCOUNT" : "SLUG";
    return strcmp(member, TOKEN) == 0 ? "TOKEN" : "NAME";
}

const char *
verb_doc(const struct verb *verb)
{
    return verb->doc ? verb->doc : kt_op_specs[verb->op].doc;
}
