/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Rules of auth-peer, and whom they match. */
#include "config.h"

#include "plugins/auth-peer/rule.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINE_MAX_BYTES = 500 };

/* People of foreign user namespaces all look like this one: only a rule that names the number means
 * them, and only in order to turn them away may a rule mean them by accident. */
static void
check_strangers(const struct rule *rule)
{
    const struct kaiten_caller stranger = { .size = sizeof stranger, .has_peer = true,
                                            .listener = KAITEN_LISTENER_SOCKET,
                                            .uid = RULE_OVERFLOW_ID, .gid = 7 };
    bool named = rule->deny;
    for (size_t i = 0; i < rule->nselectors; i++)
        named = named || (!rule->selectors[i].group && rule->selectors[i].id == RULE_OVERFLOW_ID);
    if (rule_matches(rule, &stranger) && !named)
        abort();
}

static void
check_rule(const struct rule *rule)
{
    if (rule->any == (rule->nselectors > 0) || rule->deny == (rule->organization != NULL))
        abort();
    if (rule->nselectors > RULE_SELECTORS_MAX || rule->nscopes > KAITEN_SCOPES_MAX)
        abort();
    for (size_t i = 0; i < rule->nscopes; i++)
        if (!rule->scopes[i][0] || strlen(rule->scopes[i]) > KAITEN_SCOPE_MAX)
            abort();
    check_strangers(rule);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t groups[] = { 0, 7, 65534 };
    const struct kaiten_caller peer = { .size = sizeof peer, .listener = KAITEN_LISTENER_SOCKET,
                                        .has_peer = true, .uid = 1000, .gid = 7,
                                        .groups = groups, .ngroups = 3 };
    char line[LINE_MAX_BYTES + 1];
    struct rule rule;
    struct rule_why why = { "" };
    if (size > LINE_MAX_BYTES)
        return 0;
    if (size > 0)
        memcpy(line, data, size);
    line[size] = '\0';
    if (!rule_parse(line, &rule, &why)) {
        if (why.text[0] == '\0' || strnlen(why.text, sizeof why.text) == sizeof why.text)
            abort();
        return 0;
    }
    check_rule(&rule);
    if (rule.any && !rule_matches(&rule, &peer))
        abort();
    rule_done(&rule);
    return 0;
}
