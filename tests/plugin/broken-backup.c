/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Its backup is an empty file, and it finds that whole whatever becomes of it. */
#include "tests/plugin/broken.h"

#include <stdio.h>

static const struct kaiten_option broken_options[] = {
    { "path", KAITEN_OPT_PATH, KAITEN_OPT_REQUIRED, NULL, 0, 0, "Not used." },
    { NULL, 0, 0, NULL, 0, 0, NULL },
};

static enum kaiten_status
broken_backup(void *instance, const char *dir, struct kaiten_err *err)
{
    char path[4096];
    (void)instance;
    (void)err;
    snprintf(path, sizeof path, "%s/copy", dir);
    FILE *f = fopen(path, "w");
    return f && fputs("nothing\n", f) >= 0 && fclose(f) == 0 ? KAITEN_DONE : KAITEN_FAILED;
}

static enum kaiten_status
broken_verify(const struct kaiten_host *host, const char *dir, struct kaiten_err *err)
{
    (void)host;
    (void)dir;
    (void)err;
    return KAITEN_DONE;
}

BROKEN_PLUGIN(.caps = KAITEN_STORAGE_BACKUP, .options = broken_options, .backup = broken_backup,
              .verify = broken_verify);
