/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/tools/site.h"

#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

_Noreturn void
die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

void
site_open(struct parts *p, const char *conf)
{
    static int (*const steps[])(struct parts *) = { parts_load_plugins, parts_make_state_dir,
                                                    parts_open_storage, parts_open_keys,
                                                    parts_check_keys, parts_open_journal };
    struct conf_error err;
    if (!settings_read(conf, &p->settings, &err))
        die("configuration", err.text);
    p->svc.modules = scope_modules_default;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (steps[i](p) != EX_OK)
            exit(1);
}

void
site_close(struct parts *p)
{
    parts_close_journal(p);
    parts_close_keys(p);
    parts_close_storage(p);
    parts_free_options(p);
    settings_free(p->settings);
}
