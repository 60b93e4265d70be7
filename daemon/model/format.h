/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The one record that says what the store is: its format, and the digest key it was made with. */
#ifndef FORMAT_H
#define FORMAT_H

#include "daemon/call.h"

/* Of the row that is there while an import fills the store. */
#define FORMAT_IMPORT_KEY "mimport"

/* Reads the record, or writes it into an empty store; brings the rows of an older format up to
 * date, which blocks for long, and may be interrupted and done again. Refuses a newer format, a
 * store that an import has not filled, and one that was made with a key we do not have; the log
 * says which, and names key_file, where the keys came from. Before the committer starts. 0;
 * KT_UNAVAILABLE: the store cannot be read or written now; any other kind: another try does not
 * help. */
int format_check(struct call *, const char *key_file);

/* Of a row from elsewhere, authentic: false when it says that all of them have a format that this
 * version does not know. */
bool format_is_known(struct kt_str key, struct kt_str value);

#endif
