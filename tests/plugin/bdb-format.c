/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* bdb-format DIRECTORY [NUMBER]: says the format of a store of storage-bdb, or makes it another
 * one, as an older or a newer version would have left it. */
#include <db.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROW_MAX = 1 << 17, LONG_REVISIONS = 2 /* up to this format */ };

static const char *
format_of(DB_ENV *env, const char *wanted)
{
    static char text[16];
    char name[] = "format";
    DB *db;
    DBT key = { .data = name, .size = sizeof name - 1 };
    DBT value = { .data = text, .ulen = sizeof text - 1, .flags = DB_DBT_USERMEM };
    if (db_create(&db, env, 0) ||
        db->open(db, NULL, "meta.db", NULL, DB_BTREE, DB_AUTO_COMMIT, 0600))
        return NULL;
    int error = wanted ? 0 : db->get(db, NULL, &key, &value, 0);
    if (wanted) {
        snprintf(text, sizeof text, "%s", wanted);
        value.size = (u_int32_t)strlen(text);
        error = db->put(db, NULL, &key, &value, 0);
    }
    return db->close(db, 0) || error ? NULL : text;
}

/* The rows as they were before format 3: their revision in 8 bytes. */
static int
space_old(DB_ENV *env, const char *name)
{
    static unsigned char row[ROW_MAX];
    DB *db;
    DBC *at;
    DB_TXN *txn;
    DBT key = { .size = 0 }, data = { .size = 0 };
    if (db_create(&db, env, 0) || db->open(db, NULL, name, NULL, DB_BTREE, DB_AUTO_COMMIT, 0600) ||
        env->txn_begin(env, NULL, &txn, 0) || db->cursor(db, txn, &at, 0))
        return 1;
    while (at->get(at, &key, &data, DB_NEXT) == 0) {
        const unsigned char *now = data.data;
        size_t n = now[0], rest = data.size - 1 - n;
        if (n == 0 || n > 7 || rest > sizeof row - 8)
            return 1;
        memset(row, 0, 8);
        memcpy(row + 8 - n, now + 1, n);
        memcpy(row + 8, now + 1 + n, rest);
        DBT old = { .data = row, .size = (u_int32_t)(8 + rest) };
        if (at->put(at, &key, &old, DB_CURRENT))
            return 1;
    }
    return at->close(at) || txn->commit(txn, 0) || db->close(db, 0);
}

static int
spaces_old(DB_ENV *env, const char *directory)
{
    DIR *dir = opendir(directory);
    int error = !dir;
    struct dirent *entry;
    while (!error && (entry = readdir(dir)))
        if (strncmp(entry->d_name, "space-", 6) == 0)
            error = space_old(env, entry->d_name);
    if (dir)
        closedir(dir);
    return error;
}

int
main(int argc, char **argv)
{
    DB_ENV *env;
    if (argc < 2 || db_env_create(&env, 0) ||
        env->set_lk_max_locks(env, 1 << 18) || env->set_lk_max_objects(env, 1 << 18) ||
        env->open(env, argv[1], DB_CREATE | DB_RECOVER | DB_PRIVATE | DB_INIT_TXN | DB_INIT_LOG |
                                    DB_INIT_MPOOL | DB_INIT_LOCK, 0600))
        return 1;
    const char *format = format_of(env, NULL);
    if (!format)
        return 1;
    puts(format);
    bool lengthen = argc > 2 && atoi(format) > LONG_REVISIONS && atoi(argv[2]) <= LONG_REVISIONS;
    return (lengthen && spaces_old(env, argv[1])) || (argc > 2 && !format_of(env, argv[2])) ||
           env->txn_checkpoint(env, 0, 0, DB_FORCE) || env->close(env, 0);
}
