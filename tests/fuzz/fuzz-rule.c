/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Rules of auth-peer, and whom they match. */
#include "config.h"

#include "plugins/auth-peer/rule.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINE_MAX_BYTES = 500 };

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
    (void)rule_matches(&rule, &peer);
    rule_done(&rule);
    return 0;
}
