/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Rules for peers of the Unix socket: who they match and who those peers then are. */
#ifndef AUTH_PEER_RULE_H
#define AUTH_PEER_RULE_H

#include "plugins/kaiten-rate.h"

enum {
    RULE_COUNT_MAX = 1024,
    RULE_LINE_MAX = 4096,     /* bytes of one rule */
    RULE_TEXT_MAX = 255,      /* bytes of organization, subject and name */
    RULE_SELECTORS_MAX = 4,
    RULE_OVERFLOW_ID = 65534, /* what the kernel says for ids without a number in this namespace */
    RULE_WHY_MAX = 320
};

struct rule_selector {
    bool group; /* of a group; else of a user */
    uint32_t id;
};

/* All selectors must match; none (only with the word "any") matches everybody. */
struct rule {
    struct rule_selector selectors[RULE_SELECTORS_MAX];
    size_t nselectors;
    bool any, deny;
    const char *organization, *subject, *name; /* subject NULL: uid:<n>; name NULL: the subject */
    const char **scopes; /* owned; what it points to lies in text */
    size_t nscopes;
    int verify;              /* enum kaiten_verify */
    int64_t max_lifetime_ms; /* 0: not limited here */
    struct kaiten_rate rate; /* of each caller that it admits; zeros: not limited here */
    unsigned seen;           /* words that were given, one bit each */
    char *text;              /* owned copy of the line, cut into words */
};

struct rule_why {
    char text[RULE_WHY_MAX];
};

/* Reads one line; looks user and group names up, so it may block: during open() only. False:
 * *ret_why names the word and what would be accepted. On success *ret_rule is to be given to
 * rule_done(). */
bool rule_parse(const char *line, struct rule *ret_rule, struct rule_why *ret_why);

void rule_done(struct rule *);

/* Does the rule match this peer (has_peer is true)? Any thread. */
bool rule_matches(const struct rule *, const struct kaiten_caller *);

#endif
