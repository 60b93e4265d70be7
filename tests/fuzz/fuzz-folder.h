/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A folder of its own for targets whose readers want files with names. */
#ifndef FUZZ_FOLDER_H
#define FUZZ_FOLDER_H

#include "plugins/storage-bdb/bdb.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static char fuzz_folder_path[] = "/tmp/kaiten-fuzz-XXXXXX";

static inline void
fuzz_folder_remove(void)
{
    bdb_directory_remove(fuzz_folder_path);
}

/* Made at the first call; gone when the process ends. */
static inline const char *
fuzz_folder(void)
{
    static bool made;
    if (!made && (!mkdtemp(fuzz_folder_path) || atexit(fuzz_folder_remove) != 0))
        abort();
    made = true;
    return fuzz_folder_path;
}

static inline int
fuzz_file_open(const char *name, int flags)
{
    char path[BDB_PATH];
    int fd = bdb_path(path, fuzz_folder(), name) ? open(path, flags | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        abort();
    return fd;
}

/* The file has these bytes and no more. */
static inline void
fuzz_file(const char *name, const void *data, size_t size)
{
    int fd = fuzz_file_open(name, O_WRONLY | O_CREAT | O_TRUNC);
    if (write(fd, data, size) != (ssize_t)size)
        abort();
    close(fd);
}

#endif
