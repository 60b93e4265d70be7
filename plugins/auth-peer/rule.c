/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-peer/rule.h"

#include "plugins/words.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool complain(struct rule_why *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool
complain(struct rule_why *ret, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(ret->text, sizeof(ret->text), fmt, ap);
    va_end(ap);
    return false;
}

/* A decimal number of at most max. */
static bool
read_number(const char *s, uint64_t max, uint64_t *ret, const char **ret_rest)
{
    uint64_t v = 0;
    const char *p = s;
    for (; *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (v > (max - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    if (p == s)
        return false;
    *ret = v;
    *ret_rest = p;
    return true;
}

static bool
add_selector(struct rule *rule, bool group, uint32_t id)
{
    rule->selectors[rule->nselectors++] = (struct rule_selector){ group, id };
    return true;
}

/* (uid_t)-1 is nobody's number, it means "do not change". */
static bool
take_id(struct rule *rule, bool group, const char *value, struct rule_why *why)
{
    uint64_t id = 0;
    const char *rest = "";
    if (!read_number(value, UINT32_MAX - 1, &id, &rest) || *rest)
        return complain(why, "%s=%.64s: a number of 0 to 4294967294 is accepted",
                        group ? "gid" : "uid", value);
    return add_selector(rule, group, (uint32_t)id);
}

static bool
take_uid(struct rule *rule, char *value, struct rule_why *why)
{
    return take_id(rule, false, value, why);
}

static bool
take_gid(struct rule *rule, char *value, struct rule_why *why)
{
    return take_id(rule, true, value, why);
}

/* All users of foreign namespaces appear under this one number, so a rule must name the number. */
static bool
take_name_id(struct rule *rule, bool group, const char *value, uint32_t id, struct rule_why *why)
{
    if (id == RULE_OVERFLOW_ID)
        return complain(why,
                        "%s=%.64s is number 65534, which stands for strangers of other user "
                        "namespaces too; %s=65534 is accepted if you mean them all",
                        group ? "group" : "user", value, group ? "gid" : "uid");
    return add_selector(rule, group, id);
}

static bool
take_user(struct rule *rule, char *value, struct rule_why *why)
{
    errno = 0;
    const struct passwd *pw = getpwnam(value);
    if (!pw)
        return complain(why, "user=%.64s: %s; the name of a user of this system is accepted", value,
                        errno ? strerror(errno) : "no such user");
    return take_name_id(rule, false, value, pw->pw_uid, why);
}

static bool
take_group(struct rule *rule, char *value, struct rule_why *why)
{
    errno = 0;
    const struct group *gr = getgrnam(value);
    if (!gr)
        return complain(why, "group=%.64s: %s; the name of a group of this system is accepted",
                        value, errno ? strerror(errno) : "no such group");
    return take_name_id(rule, true, value, gr->gr_gid, why);
}

/* Bytes of the UTF-8 sequence at p, RFC 3629 section 4; 0: none, or a control character. */
static size_t
utf8_length(const unsigned char *p)
{
    if (*p < 0x80)
        return *p >= 0x20 && *p != 0x7f;
    size_t n = *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2;
    if (*p < 0xc2 || *p > 0xf4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
        (*p == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

static bool
take_text(const char **ret, const char *word, const char *value, struct rule_why *why)
{
    const unsigned char *p = (const unsigned char *)value;
    size_t n = strlen(value), step = 1;
    while (*p && step > 0)
        p += step = utf8_length(p);
    if (n == 0 || n > RULE_TEXT_MAX || *p)
        return complain(why,
                        "%s=%.64s: 1 to %d bytes of UTF-8 without control characters are "
                        "accepted",
                        word, value, RULE_TEXT_MAX);
    *ret = value;
    return true;
}

static bool
take_org(struct rule *rule, char *value, struct rule_why *why)
{
    return take_text(&rule->organization, "org", value, why);
}

static bool
take_subject(struct rule *rule, char *value, struct rule_why *why)
{
    return take_text(&rule->subject, "subject", value, why);
}

static bool
take_name(struct rule *rule, char *value, struct rule_why *why)
{
    return take_text(&rule->name, "name", value, why);
}

static bool
take_scopes(struct rule *rule, char *value, struct rule_why *why)
{
    rule->scopes = calloc(KAITEN_SCOPES_MAX, sizeof(*rule->scopes));
    if (!rule->scopes)
        return complain(why, "no memory");
    for (char *scope; (scope = strsep(&value, ",")) != NULL;) {
        if (rule->nscopes == KAITEN_SCOPES_MAX)
            return complain(why, "scopes: at most %d are accepted", KAITEN_SCOPES_MAX);
        if (!words_look_like_scope(scope, KAITEN_SCOPE_MAX))
            return complain(why,
                            "scopes: \"%.64s\": read:MODULE, write:MODULE and delete:MODULE "
                            "with commas between them are accepted, and * for MODULE",
                            scope);
        rule->scopes[rule->nscopes++] = scope;
    }
    return true;
}

static bool
take_verify(struct rule *rule, char *value, struct rule_why *why)
{
    static const char *const names[] = {
        [KAITEN_VERIFY_NO] = "no", [KAITEN_VERIFY_OWN] = "own", [KAITEN_VERIFY_ANY] = "any"
    };
    for (int i = KAITEN_VERIFY_NO; i <= KAITEN_VERIFY_ANY; i++) {
        if (strcmp(value, names[i]) != 0)
            continue;
        rule->verify = i;
        return true;
    }
    return complain(why, "verify=%.64s: no, own or any is accepted", value);
}

static bool
take_max_lifetime(struct rule *rule, char *value, struct rule_why *why)
{
    static const struct {
        const char *name;
        int64_t ms;
    } units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };
    uint64_t v = 0;
    const char *rest = "";
    if (read_number(value, UINT32_MAX, &v, &rest))
        for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
            if (strcmp(rest, units[i].name) == 0 && v > 0)
                rule->max_lifetime_ms = (int64_t)v * units[i].ms;
    return rule->max_lifetime_ms > 0 ||
           complain(why, "max_lifetime=%.64s: a duration like 90s, 15m, 1h or 30d is accepted",
                    value);
}

static bool
take_rate(struct rule *rule, char *value, struct rule_why *why)
{
    return kaiten_rate_read(value, &rule->rate) ||
           complain(why, "rate=%.64s: " KAITEN_RATE_ACCEPTED " is accepted", value);
}

static const struct word {
    const char *key;
    bool selector;
    bool (*take)(struct rule *, char *value, struct rule_why *);
} words[] = {
    { "uid", true, take_uid },        { "user", true, take_user },
    { "gid", true, take_gid },        { "group", true, take_group },
    { "org", false, take_org },       { "subject", false, take_subject },
    { "name", false, take_name },     { "scopes", false, take_scopes },
    { "verify", false, take_verify }, { "max_lifetime", false, take_max_lifetime },
    { "rate", false, take_rate },
};

enum { WORD_COUNT = sizeof(words) / sizeof(words[0]) };

static bool
parse_bare(struct rule *rule, const char *word, struct rule_why *why)
{
    bool *flag = strcmp(word, "any") == 0    ? &rule->any
                 : strcmp(word, "deny") == 0 ? &rule->deny
                                             : NULL;
    if (!flag)
        return complain(why,
                        "unknown word \"%.64s\"; uid= user= gid= group= any org= subject= "
                        "name= scopes= verify= max_lifetime= rate= deny are accepted",
                        word);
    if (*flag)
        return complain(why, "%s stands twice", word);
    return *flag = true;
}

static bool
parse_word(struct rule *rule, char *word, struct rule_why *why)
{
    size_t n = strcspn(word, "=");
    if (!word[n])
        return parse_bare(rule, word, why);
    for (unsigned i = 0; i < WORD_COUNT; i++) {
        if (strlen(words[i].key) != n || memcmp(words[i].key, word, n) != 0)
            continue;
        if (rule->seen & (1u << i))
            return complain(why, "%s= stands twice", words[i].key);
        rule->seen |= 1u << i;
        return words[i].take(rule, word + n + 1, why);
    }
    word[n] = 0;
    return complain(why,
                    "unknown word \"%.64s=\"; uid= user= gid= group= any org= subject= name= "
                    "scopes= verify= max_lifetime= rate= deny are accepted",
                    word);
}

/* What holds between the words of one rule. */
static bool
check_rule(const struct rule *rule, struct rule_why *why)
{
    bool says_who = false;
    for (unsigned i = 0; i < WORD_COUNT; i++)
        says_who = says_who || (!words[i].selector && (rule->seen & (1u << i)));
    if (rule->nselectors == 0 && !rule->any)
        return complain(why, "nobody is selected; uid=, user=, gid=, group= or any is needed");
    if (rule->nselectors > 0 && rule->any)
        return complain(why, "any stands beside another selector; one or the other is accepted");
    if (rule->deny && says_who)
        return complain(why, "deny takes nothing but selectors beside it");
    if (!rule->deny && !rule->organization)
        return complain(why, "org= is missing; the organization's external id, or deny, is needed");
    return true;
}

bool
rule_parse(const char *line, struct rule *ret_rule, struct rule_why *ret_why)
{
    struct rule rule = { .verify = KAITEN_VERIFY_NO };
    bool open_quote = false, good = true;
    if (strlen(line) > RULE_LINE_MAX)
        return complain(ret_why, "a rule has at most %d bytes", RULE_LINE_MAX);
    char *rest = rule.text = strdup(line);
    if (!rest)
        return complain(ret_why, "no memory");
    for (char *word; good && (word = words_next(&rest, &open_quote)) != NULL;)
        good = open_quote ? complain(ret_why, "\"%.64s\": a quote without end", word)
                          : parse_word(&rule, word, ret_why);
    if (good && check_rule(&rule, ret_why)) {
        *ret_rule = rule;
        return true;
    }
    rule_done(&rule);
    return false;
}

void
rule_done(struct rule *rule)
{
    free(rule->scopes);
    free(rule->text);
    *rule = (struct rule){ 0 };
}

static bool
in_group(const struct kaiten_caller *peer, uint32_t gid)
{
    if (peer->gid == gid)
        return true;
    for (size_t i = 0; i < peer->ngroups; i++)
        if (peer->groups[i] == gid)
            return true;
    return false;
}

static bool
selector_matches(const struct rule_selector *selector, const struct kaiten_caller *peer)
{
    return selector->group ? in_group(peer, selector->id) : peer->uid == selector->id;
}

bool
rule_matches(const struct rule *rule, const struct kaiten_caller *peer)
{
    bool by_uid = false;
    for (size_t i = 0; i < rule->nselectors; i++) {
        if (!selector_matches(&rule->selectors[i], peer))
            return false;
        by_uid = by_uid || !rule->selectors[i].group;
    }
    /* Everybody of a foreign user namespace looks like this; only a rule that names the number
     * means them. A rule that turns people away needs no such care. */
    return peer->uid != RULE_OVERFLOW_ID || by_uid || rule->deny;
}
