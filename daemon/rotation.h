/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Changing the digest keys while the daemon serves.
 *
 * A fresh key goes to the head of the file first, then into force between two groups of the
 * committer: from there on everything is made and sealed with it. The key from before has retired.
 * Tokens are still told by it; whoever uses one has its digest made anew. The keeper seals records
 * anew. Once nothing depends on a retired key any more, it can be taken out. At whatever instant
 * the process ends, the file has every key that something in the store was made with. */
#ifndef ROTATION_H
#define ROTATION_H

#include "daemon/call.h"

struct rotation;

enum { ROTATIONS_MAX = 256 }; /* of one process: keys that were in force are kept to its end */

/* path: the file of the keys that are in force. NULL: no memory. */
struct rotation *rotation_new(const char *path);

/* Wipes all keys but those in force. After the last thread that may read them. NULL allowed. */
void rotation_free(struct rotation *);

/* A fresh key. 0 or a kind; KT_UNAVAILABLE also when the committer does not rest by the deadline,
 * and nothing has changed then. Worker. */
int rotation_begin(struct call *, struct rotation *);

/* Takes out the key with this id. KT_NOT_FOUND: there is none; KT_CONFLICT: it is the current one,
 * or something depends on it, as the refusal says. Worker; blocks for as long as the store is
 * large. */
int rotation_end(struct call *, struct rotation *, struct kt_str id);

#endif
