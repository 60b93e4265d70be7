/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/kaiten-auth.h"

#include "plugins/auth-peer/rule.h"

#include <stdio.h>
#include <stdlib.h>

static const struct kaiten_option options[] = {
    { "rule", KAITEN_OPT_LIST, 0, NULL, 0, 0,
      "Who a peer is: selectors (uid= user= gid= group= any), then deny, or org= and optionally "
      "subject= name= scopes= verify= max_lifetime= rate=; the first rule that matches decides." },
    { 0 }
};

struct instance {
    const struct kaiten_host *host;
    struct rule *rules;
    size_t n;
};

static void
peer_close(void *p)
{
    struct instance *inst = p;
    if (!inst)
        return;
    for (size_t i = 0; i < inst->n; i++)
        rule_done(&inst->rules[i]);
    free(inst->rules);
    free(inst);
}

static bool
read_rules(struct instance *inst, const struct kaiten_config *config, struct kaiten_err *err)
{
    const struct kaiten_host *host = inst->host;
    size_t n = host->list_count(config, "rule");
    struct rule_why why = { "" };
    if (n > RULE_COUNT_MAX) {
        host->error(err, "%s: at most %d rules are accepted",
                    host->where(config, "rule", RULE_COUNT_MAX), RULE_COUNT_MAX);
        return false;
    }
    for (; inst->n < n; inst->n++) {
        const char *line = host->list_item(config, "rule", inst->n);
        if (rule_parse(line, &inst->rules[inst->n], &why))
            continue;
        host->error(err, "%s: rule: %s", host->where(config, "rule", inst->n), why.text);
        return false;
    }
    if (n == 0)
        host->log(KAITEN_LOG_WARNING, "%s: auth-peer has no rule: it refuses every peer",
                  host->where(config, "rule", 0));
    return true;
}

static enum kaiten_status
peer_open(const struct kaiten_host *host, const struct kaiten_config *config, void **ret_instance,
          struct kaiten_err *err)
{
    struct instance *inst = calloc(1, sizeof(*inst));
    if (inst) {
        inst->host = host;
        inst->rules = calloc(host->list_count(config, "rule") + 1, sizeof(*inst->rules));
    }
    if (!inst || !inst->rules) {
        host->error(err, "no memory");
        peer_close(inst);
        return KAITEN_FAILED;
    }
    if (!read_rules(inst, config, err)) {
        peer_close(inst);
        return KAITEN_FAILED;
    }
    *ret_instance = inst;
    return KAITEN_DONE;
}

static enum kaiten_verdict
know(const struct instance *inst, const struct rule *rule, const struct kaiten_caller *peer,
     struct kaiten_sink *sink, struct kaiten_err *err)
{
    char uid[32] = "";
    if (!rule->subject)
        (void)snprintf(uid, sizeof(uid), "uid:%u", (unsigned)peer->uid);
    const struct kaiten_principal principal = {
        .size = sizeof(principal),
        .subject = rule->subject ? rule->subject : uid,
        .organization = rule->organization,
        .name = rule->name,
        .scopes = rule->scopes,
        .nscopes = rule->nscopes,
        .max_lifetime_ms = rule->max_lifetime_ms,
        .verify = rule->verify,
        .proof = "peer",
        .rate = rule->rate,
    };
    if (inst->host->principal(sink, &principal))
        return KAITEN_KNOWN;
    inst->host->error(err, "peer uid %u refused: a text of its rule is too long",
                      (unsigned)peer->uid);
    return KAITEN_REFUSED;
}

static enum kaiten_verdict
judge(const struct instance *inst, const struct kaiten_caller *peer, struct kaiten_sink *sink,
      struct kaiten_err *err)
{
    for (size_t i = 0; i < inst->n; i++) {
        const struct rule *rule = &inst->rules[i];
        if (!rule_matches(rule, peer))
            continue;
        if (!rule->deny)
            return know(inst, rule, peer, sink, err);
        inst->host->error(err, "peer uid %u refused: rule %zu denies it", (unsigned)peer->uid,
                          i + 1);
        return KAITEN_REFUSED;
    }
    inst->host->error(err, "peer uid %u gid %u refused: no rule matches", (unsigned)peer->uid,
                      (unsigned)peer->gid);
    return KAITEN_REFUSED;
}

static enum kaiten_verdict
peer_identify(void *instance, const struct kaiten_caller *caller, struct kaiten_sink *sink,
              struct kaiten_err *err)
{
    const struct instance *inst = instance;
    if (caller->listener != KAITEN_LISTENER_SOCKET)
        return KAITEN_NOT_MINE;
    /* A credential decides, even if the peer alone could do more. */
    if (caller->credential.n > 0)
        return KAITEN_NOT_MINE;
    if (!caller->has_peer) {
        inst->host->error(err, "peer refused: the kernel did not say who it is");
        return KAITEN_REFUSED;
    }
    /* A cut list of groups could miss a rule that denies. */
    if (caller->ngroups > KAITEN_GROUPS_MAX) {
        inst->host->error(err, "peer uid %u refused: more than %d groups", (unsigned)caller->uid,
                          KAITEN_GROUPS_MAX);
        return KAITEN_REFUSED;
    }
    return judge(inst, caller, sink, err);
}

KAITEN_AUTH_SYMBOL(peer) = {
    .size = sizeof(struct kaiten_auth),
    .abi = KAITEN_AUTH_ABI,
    .threads = KAITEN_THREADS_PARALLEL,
    .caps = KAITEN_AUTH_INLINE,
    .name = "auth-peer",
    .version = PACKAGE_VERSION,
    .summary = "local callers by the uid and groups that the kernel reports",
    .options = options,
    .open = peer_open,
    .close = peer_close,
    .identify = peer_identify,
};
