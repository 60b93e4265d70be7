/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Pages that nothing was ever written to. Recovery comes upon them, and the library takes a page of
 * zeros for one that is still to come, without looking at its sum. Whoever looks for a row is led
 * to pages that were written, or to what a disk or a repair of the file system has left of one:
 * there the library would find no rows, or look for ever. */
#include "config.h"

#include "plugins/storage-bdb/layout.h"

#include <unistd.h>

/* Its memory comes with the thread: nothing is to fail here for want of some. */
static _Thread_local bool watching __attribute__((tls_model("initial-exec")));

void
bdb_holes_watch(bool watch)
{
    watching = watch;
}

bool
bdb_page_is_hole(const unsigned char page[BDB_PAGE])
{
    static const unsigned char zero[BDB_PAGE];
    return memcmp(page, zero, BDB_PAGE) == 0;
}

/* With a number the page is none that is to come, and its sum is wrong: the library says so itself,
 * and does what it does for any other damaged page. */
static ssize_t
hook_pread(int fd, void *bytes, size_t n, off_t offset)
{
    ssize_t there = pread(fd, bytes, n, offset);
    if (watching && n == BDB_PAGE && there == BDB_PAGE && bdb_page_is_hole(bytes))
        memset((unsigned char *)bytes + PAGE_NUMBER, 0xff, sizeof(uint32_t));
    return there;
}

void
bdb_holes_hook(void)
{
    db_env_set_func_pread(hook_pread);
}
