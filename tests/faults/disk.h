/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What disk.so, loaded before the C library, writes down and is told, and what replay reads.
 *
 * disk.so stands between a process and the files below one folder, KAITEN_DISK_ROOT. No sync is
 * ever made: a process that ends leaves its writes with the kernel, and what a power cut leaves is
 * worked out from the trace. With KAITEN_DISK_TRACE it appends a record of every change to that
 * file; with KAITEN_DISK_CONTROL it maps that file, a struct disk_control, and does what it says.
 *
 * The trace goes on over several lives of the process. Objects are named by inode number; CREATE
 * and MKDIR begin a new object, even under a number that was used before. */
#ifndef DISK_H
#define DISK_H

#include <stdint.h>

enum disk_kind {
    DISK_ROOT = 1, /* object: the folder; once per life */
    DISK_CREATE,   /* object, parent, name: a file that did not exist */
    DISK_MKDIR,    /* object, parent, name */
    DISK_WRITE,    /* object, offset, then n bytes */
    DISK_TRUNCATE, /* object, offset: the new size */
    DISK_SYNC,     /* object, offset: how many records had been written when it was asked for */
    DISK_RENAME,   /* object, parent and name of before, parent_to and name_to */
    DISK_LINK,     /* object, parent_to, name_to */
    DISK_UNLINK    /* parent, name; also of a folder */
};

enum { DISK_NAME_MAX = 63 };

/* A record; after a DISK_WRITE come its n bytes, and zeroes up to a multiple of 8. */
struct disk_record {
    uint32_t kind;
    uint32_t reserved;
    uint64_t at;     /* CLOCK_MONOTONIC in nanoseconds, before the change was made */
    uint64_t object; /* inode numbers */
    uint64_t parent, parent_to;
    uint64_t offset, n;
    char name[DISK_NAME_MAX + 1], name_to[DISK_NAME_MAX + 1];
};

/* Bits of disk_control.kinds. */
enum {
    DISK_ON_WRITE = 1,
    DISK_ON_SYNC = 2,
    DISK_ON_OPEN = 4,
    DISK_ON_NAME = 8, /* rename, link, unlink, mkdir */
    DISK_ON_READ = 16
};

/* Shared with the test, which maps the same file; the order of the members is part of it. */
struct disk_control {
    _Atomic uint32_t armed;   /* count calls, and make the nth fail */
    _Atomic uint32_t kinds;   /* which calls */
    _Atomic uint32_t error;   /* the errno to fail with; 0: the process is killed instead */
    _Atomic uint32_t forever; /* all calls from the nth on */
    _Atomic uint64_t count;   /* calls since it was armed */
    _Atomic uint64_t nth;     /* from 1; 0: none */
    _Atomic uint64_t hits;    /* calls that were made to fail */
    _Atomic uint64_t hit_at;  /* CLOCK_MONOTONIC of the first of them, in nanoseconds */
    _Atomic uint32_t limited; /* the file system has only so much space: */
    _Atomic uint32_t lie;     /* syncs are not made, and the trace does not say so either */
    _Atomic int64_t space;    /* bytes left */
    _Atomic uint64_t full;    /* calls that failed for want of space */
    _Atomic uint32_t hangs;   /* syncs do not return before this is 0 again */
    _Atomic uint32_t hanging; /* how many do not */
};

#endif
