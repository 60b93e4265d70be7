/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Digest keys for fuzz targets whose bytes are authenticated with them. */
#ifndef FUZZ_KEYS_H
#define FUZZ_KEYS_H

#include "daemon/model/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Made at the first call, and never freed; their file is gone. */
static inline const struct digest_keys *
fuzz_keys(void)
{
    static struct digest_keys *keys;
    char folder[] = "/tmp/kaiten-fuzz-XXXXXX", path[64];
    struct digest_error err;
    if (keys)
        return keys;
    if (!mkdtemp(folder))
        abort();
    snprintf(path, sizeof path, "%s/digest.key", folder);
    if (!digest_keys_create(path, &keys, &err))
        abort();
    (void)unlink(path);
    (void)rmdir(folder);
    return keys;
}

#endif
