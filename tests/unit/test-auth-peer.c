/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-peer/rule.h"
#include "tests/unit/auth-host.h"

TEST_PLUGIN(peer);

static void *
open_rules(const char *const *rules)
{
    void *instance = NULL;
    fake_reset();
    for (; *rules; rules++)
        fake_set("rule", *rules, 0);
    (void)plugin->open(&fake_host, &fake.config, &instance, &fake.err);
    return instance;
}

static struct kaiten_caller
peer(uint32_t uid, uint32_t gid)
{
    return (struct kaiten_caller){ .size = sizeof(struct kaiten_caller),
                                   .listener = KAITEN_LISTENER_SOCKET,
                                   .has_peer = true,
                                   .uid = uid,
                                   .gid = gid };
}

static enum kaiten_verdict
identify(void *instance, const struct kaiten_caller *caller)
{
    fake_forget();
    return plugin->identify(instance, caller, NULL, &fake.err);
}

static const char *const office[] = {
    "uid=13 deny",
    "user=root org=acme subject=root name=\"The Root, himself\" scopes=read:*,write:* verify=any "
    "max_lifetime=1h",
    "uid=1000 gid=50 org=acme scopes=read:tokens",
    "gid=60 org=beta verify=own",
    "  group=daemon\torg=\"org two\"  ",
    "uid=65534 gid=70 org=strangers",
    "any org=rest",
    NULL,
};

static const struct {
    uint32_t uid, gid, group; /* group: one supplementary, 0 none */
    enum kaiten_verdict want;
    const char *subject, *organization, *name, *scopes;
    int verify;
    int64_t max_lifetime_ms;
} people[] = {
    { 0, 0, 0, KAITEN_KNOWN, "root", "acme", "The Root, himself", "read:*,write:*",
      KAITEN_VERIFY_ANY, 3600000 },
    { 13, 60, 0, KAITEN_REFUSED, "", "", "", "", 0, 0 },
    { 1000, 50, 0, KAITEN_KNOWN, "uid:1000", "acme", "-", "read:tokens", KAITEN_VERIFY_NO, 0 },
    { 1000, 49, 50, KAITEN_KNOWN, "uid:1000", "acme", "-", "read:tokens", KAITEN_VERIFY_NO, 0 },
    { 1000, 49, 0, KAITEN_KNOWN, "uid:1000", "rest", "-", "", KAITEN_VERIFY_NO, 0 },
    { 1001, 60, 0, KAITEN_KNOWN, "uid:1001", "beta", "-", "", KAITEN_VERIFY_OWN, 0 },
    { 1001, 9, 60, KAITEN_KNOWN, "uid:1001", "beta", "-", "", KAITEN_VERIFY_OWN, 0 },
    { 1001, 1, 0, KAITEN_KNOWN, "uid:1001", "org two", "-", "", KAITEN_VERIFY_NO, 0 },
    { 4294967294u, 9, 0, KAITEN_KNOWN, "uid:4294967294", "rest", "-", "", KAITEN_VERIFY_NO, 0 },
    { 65534, 70, 0, KAITEN_KNOWN, "uid:65534", "strangers", "-", "", KAITEN_VERIFY_NO, 0 },
    { 65534, 60, 0, KAITEN_REFUSED, "", "", "", "", 0, 0 },
    { 65534, 65534, 0, KAITEN_REFUSED, "", "", "", "", 0, 0 },
};

static void
the_first_rule_that_matches_decides(void **state)
{
    (void)state;
    void *instance = open_rules(office);
    assert_string_equal(fake.err.text, "");
    for (size_t i = 0; i < COUNT(people); i++) {
        struct kaiten_caller caller = peer(people[i].uid, people[i].gid);
        caller.groups = &people[i].group;
        caller.ngroups = people[i].group != 0;
        assert_int_equal(identify(instance, &caller), people[i].want);
        assert_int_equal(fake.nprincipals, people[i].want == KAITEN_KNOWN);
        if (people[i].want != KAITEN_KNOWN)
            continue;
        assert_string_equal(fake.subject, people[i].subject);
        assert_string_equal(fake.organization, people[i].organization);
        assert_string_equal(fake.name, people[i].name);
        assert_string_equal(fake.scopes, people[i].scopes);
        assert_string_equal(fake.proof, "peer");
        assert_int_equal(fake.principal.verify, people[i].verify);
        assert_int_equal(fake.principal.max_lifetime_ms, people[i].max_lifetime_ms);
        assert_int_equal(fake.principal.expires_at_ms, 0);
    }
    plugin->close(instance);
}

static void
the_rate_of_its_rule_is_a_caller_s(void **state)
{
    static const char *const rules[] = { "uid=1 org=a rate=200/s,burst=50", "uid=2 org=a rate=none",
                                         "uid=3 org=a rate=7/h", "any org=a", NULL };
    static const struct kaiten_rate want[] = { { 200, 1000, 50 },
                                               { KAITEN_RATE_NONE, 0, 0 },
                                               { 7, 3600 * 1000, 0 },
                                               { 0, 0, 0 } };
    (void)state;
    void *instance = open_rules(rules);
    for (size_t i = 0; i < COUNT(want); i++) {
        const struct kaiten_caller caller = peer((uint32_t)i + 1, 0);
        assert_int_equal(identify(instance, &caller), KAITEN_KNOWN);
        assert_memory_equal(&fake.principal.rate, &want[i], sizeof want[i]);
    }
    plugin->close(instance);
}

static void
no_rule_refuses_everybody(void **state)
{
    static const char *const none[] = { NULL };
    static const char *const other[] = { "uid=7 org=a", NULL };
    (void)state;
    const struct kaiten_caller root = peer(0, 0);
    void *instance = open_rules(none);
    assert_int_equal(fake.nlogged, 1);
    assert_int_equal(identify(instance, &root), KAITEN_REFUSED);
    plugin->close(instance);
    instance = open_rules(other);
    assert_int_equal(identify(instance, &root), KAITEN_REFUSED);
    assert_non_null(strstr(fake.err.text, "no rule matches"));
    plugin->close(instance);
}

static void
only_bare_peers_of_the_socket_are_its_own(void **state)
{
    (void)state;
    void *instance = open_rules(office);
    struct kaiten_caller caller = peer(0, 0);
    caller.has_peer = false;
    assert_int_equal(identify(instance, &caller), KAITEN_REFUSED);
    caller = peer(0, 0);
    caller.credential = (struct kaiten_bytes){ "ksh_x", 5 };
    assert_int_equal(identify(instance, &caller), KAITEN_NOT_MINE);
    caller.has_peer = false;
    assert_int_equal(identify(instance, &caller), KAITEN_NOT_MINE);
    caller = peer(0, 0);
    caller.listener = KAITEN_LISTENER_HTTP;
    assert_int_equal(identify(instance, &caller), KAITEN_NOT_MINE);
    plugin->close(instance);
}

static void
too_many_groups_are_refused(void **state)
{
    static uint32_t groups[KAITEN_GROUPS_MAX + 1];
    (void)state;
    void *instance = open_rules(office);
    struct kaiten_caller caller = peer(5, 5);
    for (size_t i = 0; i < COUNT(groups); i++)
        groups[i] = 1000 + (uint32_t)i;
    groups[KAITEN_GROUPS_MAX - 1] = 60;
    caller.groups = groups;
    caller.ngroups = KAITEN_GROUPS_MAX;
    assert_int_equal(identify(instance, &caller), KAITEN_KNOWN);
    assert_string_equal(fake.organization, "beta");
    caller.ngroups = KAITEN_GROUPS_MAX + 1;
    assert_int_equal(identify(instance, &caller), KAITEN_REFUSED);
    plugin->close(instance);
}

/* The rule, and what its error must name. */
static const char *const malformed[][2] = {
    { "", "nobody is selected" },
    { "org=a", "nobody is selected" },
    { "deny", "nobody is selected" },
    { "uid=1", "org= is missing" },
    { "any", "org= is missing" },
    { "any uid=1 org=a", "any stands beside" },
    { "any any org=a", "any stands twice" },
    { "uid=1 uid=2 org=a", "uid= stands twice" },
    { "uid=1 org=a org=b", "org= stands twice" },
    { "uid=1 deny deny", "deny stands twice" },
    { "uid=1 deny org=a", "deny takes nothing" },
    { "uid=1 deny scopes=read:*", "deny takes nothing" },
    { "uid=1 deny verify=no", "deny takes nothing" },
    { "uid= org=a", "uid=" },
    { "uid=-1 org=a", "uid=-1" },
    { "uid=+1 org=a", "uid=+1" },
    { "uid=0x0 org=a", "uid=0x0" },
    { "uid=4294967295 org=a", "4294967294" },
    { "uid=4294967296 org=a", "4294967294" },
    { "uid=99999999999999999999999 org=a", "4294967294" },
    { "uid=1.0 org=a", "uid=1.0" },
    { "gid=abc org=a", "gid=abc" },
    { "user=no-such-user-here org=a", "no-such-user-here" },
    { "group=no-such-group-here org=a", "no-such-group-here" },
    { "user=nobody org=a", "uid=65534" },
    { "group=nogroup org=a", "gid=65534" },
    { "any org=", "org=" },
    { "any org=\"\"", "org=" },
    { "any org=\"a", "quote" },
    { "any org=a\"", "quote" },
    { "any org=a\x01z", "org=" },
    { "any org=a\xff", "org=" },
    { "any org=a\xc0\xaf", "org=" },
    { "any org=a\xed\xa0\x80", "org=" },
    { "any org=a subject=", "subject=" },
    { "any org=a name=", "name=" },
    { "any org=a scopes=", "scopes" },
    { "any org=a scopes=read:*,", "scopes" },
    { "any org=a scopes=read", "\"read\"" },
    { "any org=a scopes=admin:*", "\"admin:*\"" },
    { "any org=a scopes=read:", "\"read:\"" },
    { "any org=a scopes=\"read:*, write:*\"", "\" write:*\"" },
    { "any org=a verify=maybe", "no, own or any" },
    { "any org=a verify=", "no, own or any" },
    { "any org=a max_lifetime=0s", "90s" },
    { "any org=a max_lifetime=1", "90s" },
    { "any org=a max_lifetime=h", "90s" },
    { "any org=a max_lifetime=1w", "90s" },
    { "any org=a max_lifetime=-1h", "90s" },
    { "any org=a max_lifetime=99999999999999999999h", "90s" },
    { "any org=a rate=0/s", "rate=0/s: N/s, N/m or N/h" },
    { "any org=a rate=", "N/s, N/m or N/h" },
    { "any org=a rate=1/s,burst=", "N/s, N/m or N/h" },
    { "any org=a rate=1/s rate=1/s", "twice" },
    { "any deny rate=1/s", "nothing but selectors" },
    { "any org=a colour=red", "\"colour=\"" },
    { "any org=a sudo", "\"sudo\"" },
    { "any org=a =x", "\"=\"" },
    { "uid 1 org=a", "\"uid\"" },
    { "any,org=a", "any,org" },
};

static void
a_malformed_rule_stops_the_start_and_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(malformed); i++) {
        const char *const rules[] = { "uid=0 org=fine", malformed[i][0], NULL };
        void *instance = open_rules(rules);
        if (instance || !strstr(fake.err.text, malformed[i][1]) ||
            !strstr(fake.err.text, "kaitend.conf:11"))
            fail_msg("rule \"%s\": opened %d, said \"%s\"", malformed[i][0], instance != NULL,
                     fake.err.text);
    }
}

static void
texts_have_exact_limits(void **state)
{
    char rule[5000];
    (void)state;
    for (int n = 254; n <= 256; n++) {
        const char *const rules[] = { rule, NULL };
        (void)snprintf(rule, sizeof(rule), "any org=%.*s", n, "");
        memset(rule + 8, 'x', (size_t)n);
        rule[8 + n] = 0;
        void *instance = open_rules(rules);
        assert_int_equal(instance != NULL, n <= 255);
        plugin->close(instance);
    }
}

static void
lines_and_lists_have_exact_limits(void **state)
{
    char rule[5000];
    const char *const rules[] = { rule, NULL };
    (void)state;
    for (size_t n = RULE_LINE_MAX - 1; n <= RULE_LINE_MAX + 1; n++) {
        memset(rule, ' ', n);
        rule[n] = 0;
        memcpy(rule + n - 9, "any org=a", 9);
        void *instance = open_rules(rules);
        assert_int_equal(instance != NULL, n <= RULE_LINE_MAX);
        assert_true(instance || strstr(fake.err.text, "a rule has at most 4096 bytes"));
        plugin->close(instance);
    }
    for (size_t n = KAITEN_SCOPES_MAX - 1; n <= KAITEN_SCOPES_MAX + 1; n++) {
        int at = snprintf(rule, sizeof rule, "any org=a scopes=read:*");
        for (size_t i = 1; i < n; i++)
            at += snprintf(rule + at, sizeof rule - (size_t)at, ",read:*");
        void *instance = open_rules(rules);
        assert_int_equal(instance != NULL, n <= KAITEN_SCOPES_MAX);
        assert_true(instance || strstr(fake.err.text, "at most 256 are accepted"));
        plugin->close(instance);
    }
    for (int n = KAITEN_SCOPE_MAX - 1; n <= KAITEN_SCOPE_MAX + 1; n++) { /* read: is a part of it */
        snprintf(rule, sizeof rule, "any org=a scopes=read:%0*d", n - 5, 0);
        void *instance = open_rules(rules);
        assert_int_equal(instance != NULL, n <= KAITEN_SCOPE_MAX);
        plugin->close(instance);
    }
}

/* RFC 3629: the first and the last of each length, and their neighbours that are none. */
static void
names_are_strict_utf8(void **state)
{
    (void)state;
    static const char *const good[] = { "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                                        "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80",
                                        "\xf4\x8f\xbf\xbf" };
    static const char *const bad[] = { "\xc1\xbf", "\xc2", "\xc2" "A", "\x80", "\xe0\x9f\xbf",
                                       "\xed\xa0\x80", "\xe1\x80", "\xf0\x8f\xbf\xbf",
                                       "\xf1\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
                                       "\xff", "\x7f", "\x1f" };
    char rule[64];
    const char *const rules[] = { rule, NULL };
    for (size_t i = 0; i < COUNT(good) + COUNT(bad); i++) {
        bool is_good = i < COUNT(good);
        snprintf(rule, sizeof rule, "any org=a%s", is_good ? good[i] : bad[i - COUNT(good)]);
        void *instance = open_rules(rules);
        if ((instance != NULL) != is_good)
            fail_msg("%s name %zu", is_good ? "good" : "bad", i);
        plugin->close(instance);
    }
}

static void
says_what_it_is(void **state)
{
    (void)state;
    fake_check_header(plugin, KAITEN_AUTH_INLINE);
    plugin->close(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_rule_that_matches_decides),
        cmocka_unit_test(the_rate_of_its_rule_is_a_caller_s),
        cmocka_unit_test(no_rule_refuses_everybody),
        cmocka_unit_test(only_bare_peers_of_the_socket_are_its_own),
        cmocka_unit_test(too_many_groups_are_refused),
        cmocka_unit_test(a_malformed_rule_stops_the_start_and_is_named),
        cmocka_unit_test(texts_have_exact_limits),
        cmocka_unit_test(lines_and_lists_have_exact_limits),
        cmocka_unit_test(names_are_strict_utf8),
        cmocka_unit_test(says_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
