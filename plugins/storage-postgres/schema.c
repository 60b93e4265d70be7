/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What stands in the database, as the steps that make it. A step is never changed once it has been
 * released: another format is one more step. */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

/* row      the map. written: the transaction that wrote the row, in watched spaces only, so that
 *          what nobody watches costs no index entry and can be updated in place.
 * gone     keys of watched spaces whose rows were deleted.
 * op       what was done under an operation id, so that a commit whose answer is lost can be looked
 *          up. A row with revision 0 says that the operation must not happen any more.
 * meta     one row. watched: the spaces that changes() was asked for. gone_until: deletions of
 *          transactions below this one are no longer told. */
static const char tables[] =
    "CREATE SCHEMA kaiten;"
    "CREATE TABLE kaiten.meta ("
    "  one boolean PRIMARY KEY DEFAULT true CHECK (one),"
    "  format integer NOT NULL,"
    "  store uuid NOT NULL DEFAULT gen_random_uuid(),"
    "  watched bytea NOT NULL DEFAULT '',"
    "  gone_until xid8 NOT NULL DEFAULT '0',"
    "  gone_since timestamptz NOT NULL DEFAULT now());"
    "CREATE TABLE kaiten.row ("
    "  key bytea PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 512),"
    "  value bytea NOT NULL,"
    "  revision bigint NOT NULL,"
    "  written xid8);"
    /* Sealed records do not compress. */
    "ALTER TABLE kaiten.row ALTER COLUMN value SET STORAGE EXTERNAL;"
    "CREATE INDEX row_written ON kaiten.row (written) WHERE written IS NOT NULL;"
    "CREATE TABLE kaiten.gone ("
    "  written xid8,"
    "  key bytea,"
    "  at timestamptz NOT NULL DEFAULT now(),"
    "  PRIMARY KEY (written, key));"
    "CREATE TABLE kaiten.op ("
    "  id uuid PRIMARY KEY,"
    "  revision bigint NOT NULL,"
    "  at timestamptz NOT NULL DEFAULT now());"
    "CREATE SEQUENCE kaiten.revision;"
    "INSERT INTO kaiten.meta (format) VALUES (1);";

/* One batch. The caller passes every list in the order of keys (locks: of numbers) and each key
 * once.
 *
 * locks is a fair queue: without it a stream of mints, which share the lock on their account's
 * row, would keep the one who wants to change that row out for ever. What makes conditions hold
 * until the commit is the locks on rows; what decides between two that insert the same key is the
 * primary key. Keys that have to be absent are looked for together: a statement for each costs more
 * than the look.
 *
 * How its statements are planned is a setting of the session, see connect.c: one of the function
 * costs as much as one of the statements.
 *
 * Above 0: done, the revision. 0: somebody has declared the operation dead. Below: condition
 * -1 - number did not hold. */
static const char apply[] =
    "CREATE FUNCTION kaiten.apply(op uuid, locks bigint[], lock_alone boolean[],"
    "    cond_keys bytea[], cond_wants bigint[], cond_numbers integer[], cond_alone boolean[],"
    "    fresh bytea[], set_keys bytea[], set_values bytea[], delete_keys bytea[],"
    "    urgent boolean) RETURNS bigint"
    "  LANGUAGE plpgsql SET search_path = '' AS $$"
    "DECLARE"
    "  failed integer; absent integer; have bigint; done bigint; n bigint;"
    "BEGIN"
    "  PERFORM CASE WHEN l.alone THEN pg_advisory_xact_lock(l.number)"
    "               ELSE pg_advisory_xact_lock_shared(l.number) END"
    "    FROM unnest(locks, lock_alone) AS l(number, alone);"
    "  FOR i IN 1 .. cardinality(cond_keys) LOOP"
    "    CONTINUE WHEN cond_wants[i] = -2;"
    "    have := NULL;"
    "    IF cond_alone[i] THEN"
    "      SELECT r.revision INTO have FROM kaiten.row AS r WHERE r.key = cond_keys[i] FOR UPDATE;"
    "    ELSE"
    "      SELECT r.revision INTO have FROM kaiten.row AS r WHERE r.key = cond_keys[i] FOR SHARE;"
    "    END IF;"
    "    IF (CASE cond_wants[i] WHEN -1 THEN have IS NULL"
    "                           ELSE have IS DISTINCT FROM cond_wants[i] END) THEN"
    "      failed := least(failed, cond_numbers[i]);"
    "    END IF;"
    "  END LOOP;"
    "  IF cardinality(fresh) > 0 THEN"
    "    SELECT min(c.number) INTO absent"
    "      FROM unnest(cond_keys, cond_wants, cond_numbers) AS c(key, want, number)"
    "      JOIN kaiten.row AS r ON r.key = c.key WHERE c.want = -2;"
    "    failed := least(failed, absent);"
    "  END IF;"
    "  IF failed IS NOT NULL THEN RETURN -1 - failed; END IF;"
    "  IF cardinality(set_keys) = 0 AND cardinality(delete_keys) = 0 THEN"
    "    RETURN nextval('kaiten.revision');"
    "  END IF;"
    "  INSERT INTO kaiten.op AS o (id, revision) VALUES (op, nextval('kaiten.revision'))"
    "    ON CONFLICT (id) DO NOTHING RETURNING o.revision INTO done;"
    "  IF done IS NULL THEN RETURN 0; END IF;"
    "  IF cardinality(delete_keys) > 0 THEN"
    "    WITH d AS (DELETE FROM kaiten.row AS r WHERE r.key = ANY (delete_keys)"
    "                 RETURNING r.key, r.written)"
    "    INSERT INTO kaiten.gone (written, key)"
    "      SELECT pg_current_xact_id(), d.key FROM d, kaiten.meta AS m"
    "        WHERE m.one AND position(substr(d.key, 1, 1) IN m.watched) > 0;"
    "  END IF;"
    "  INSERT INTO kaiten.row AS r (key, value, revision, written)"
    "    SELECT s.key, s.value, done,"
    "           CASE WHEN position(substr(s.key, 1, 1) IN m.watched) > 0"
    "                THEN pg_current_xact_id() END"
    "      FROM unnest(set_keys, set_values) AS s(key, value), kaiten.meta AS m WHERE m.one"
    "    ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision,"
    "                                    written = excluded.written"
    "      WHERE r.key <> ALL (fresh);"
    "  GET DIAGNOSTICS n = ROW_COUNT;"
    "  IF n < cardinality(set_keys) THEN"
    "    RAISE EXCEPTION 'a key that had to be absent came meanwhile' USING ERRCODE = 'KT001';"
    "  END IF;"
    "  IF urgent THEN PERFORM pg_notify('kaiten', ''); END IF;"
    "  RETURN done;"
    "END $$;";

/* What became of an operation whose answer was lost. Its id is unique: while its transaction runs
 * this waits for it, and one that has not begun yet finds its id taken and does nothing. The row is
 * written in any case, so that with synchronous standbys the answer waits for them as the lost
 * commit should have. 0: it did not happen and never will. */
static const char resolve[] =
    "CREATE FUNCTION kaiten.resolve(op uuid) RETURNS bigint"
    "  LANGUAGE plpgsql SET search_path = '' AS $$"
    "DECLARE"
    "  found_revision bigint;"
    "BEGIN"
    "  INSERT INTO kaiten.op AS o (id, revision) VALUES (op, 0)"
    "    ON CONFLICT (id) DO UPDATE SET at = now() RETURNING o.revision INTO found_revision;"
    "  RETURN found_revision;"
    "END $$;";

/* How far transactions are; asked for all the time, hence a function, whose plan is kept. moved is
 * how many have ended: it grows with each, in whatever order.
 *
 * history is a number for the cluster, its timeline (a standby that takes over begins another one),
 * this store, and the very database and table, which a dump that is put back makes anew. And it is
 * one for each time that the server has begun: after a crash it gives numbers of transactions again
 * that had never reached the disk, and what is written under them lies before positions that were
 * given out. When one of its processes crashes the server does not start anew, but its statistics
 * do. */
static const char moment[] =
    "CREATE FUNCTION kaiten.moment() RETURNS TABLE (oldest bigint, next bigint, moved bigint,"
    "    gone_until bigint, watched bytea, history bigint)"
    "  LANGUAGE plpgsql STABLE SET search_path = '' AS $$"
    "BEGIN"
    "  RETURN QUERY SELECT pg_snapshot_xmin(s.now)::text::bigint,"
    "    pg_snapshot_xmax(s.now)::text::bigint,"
    "    pg_snapshot_xmax(s.now)::text::bigint - (SELECT count(*) FROM pg_snapshot_xip(s.now)),"
    "    m.gone_until::text::bigint, m.watched,"
    "    hashtextextended(concat_ws('/', c.system_identifier,"
    "      substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), m.store, t.oid,"
    "      pg_relation_filenode(t.oid), d.oid,"
    "      extract(epoch FROM pg_postmaster_start_time()), extract(epoch FROM w.stats_reset)), 0)"
    "  FROM pg_current_snapshot() AS s(now), kaiten.meta AS m, pg_control_system() AS c,"
    "    pg_stat_wal AS w,"
    "    (SELECT 'kaiten.row'::regclass::oid) AS t(oid), pg_database AS d"
    "  WHERE m.one AND d.datname = current_database();"
    "END $$;";

/* changes(), gone(): rows, and keys of deleted rows, that transactions from since on have left in
 * the spaces, in pages: in the order of transactions and keys, beginning after a key of the first
 * transaction. A key that has a row again is not gone.
 * watch(): the spaces are watched from now on. It waits until nobody is writing, and whoever writes
 * after it knows of them. */
static const char feed[] =
    "CREATE FUNCTION kaiten.changes(since xid8, after bytea, spaces bytea, most bigint)"
    "    RETURNS TABLE (written xid8, key bytea, value bytea, revision bigint)"
    "  LANGUAGE plpgsql STABLE SET search_path = '' SET enable_seqscan = off SET jit = off AS $$"
    "BEGIN"
    "  RETURN QUERY SELECT r.written, r.key, r.value, r.revision FROM kaiten.row AS r"
    "    WHERE r.written >= since AND (r.written > since OR r.key > after)"
    "      AND position(substr(r.key, 1, 1) IN spaces) > 0"
    "    ORDER BY r.written, r.key LIMIT most;"
    "END $$;"
    "CREATE FUNCTION kaiten.gone(since xid8, after bytea, spaces bytea, most bigint)"
    "    RETURNS TABLE (written xid8, key bytea, value bytea, revision bigint)"
    "  LANGUAGE plpgsql STABLE SET search_path = '' SET enable_seqscan = off SET jit = off AS $$"
    "BEGIN"
    "  RETURN QUERY SELECT g.written, g.key, NULL::bytea, 0::bigint FROM kaiten.gone AS g"
    "    WHERE g.written >= since AND (g.written > since OR g.key > after)"
    "      AND position(substr(g.key, 1, 1) IN spaces) > 0"
    "      AND NOT EXISTS (SELECT FROM kaiten.row AS r WHERE r.key = g.key)"
    "    ORDER BY g.written, g.key LIMIT most;"
    "END $$;"
    "CREATE FUNCTION kaiten.watch(spaces bytea) RETURNS void"
    "  LANGUAGE plpgsql SET search_path = '' AS $$"
    "BEGIN"
    "  LOCK TABLE kaiten.row IN SHARE ROW EXCLUSIVE MODE;"
    "  FOR i IN 0 .. length(spaces) - 1 LOOP"
    "    UPDATE kaiten.meta SET watched = watched || substr(spaces, i + 1, 1)"
    "      WHERE position(substr(spaces, i + 1, 1) IN watched) = 0;"
    "  END LOOP;"
    "END $$;";

/* Forgets old operations and deletions, at most so many of each; how many it were. Deletions are
 * announced as forgotten first and removed half a minute later, so that no changes() is under way
 * that has looked before and reads after. One at a time: who finds another one at it goes. */
static const char purge[] =
    "CREATE FUNCTION kaiten.purge(most integer) RETURNS bigint"
    "  LANGUAGE plpgsql SET search_path = '' AS $$"
    "DECLARE"
    "  m kaiten.meta; n bigint; total bigint; newest xid8;"
    "BEGIN"
    "  SELECT * INTO m FROM kaiten.meta WHERE one FOR UPDATE SKIP LOCKED;"
    "  IF NOT FOUND THEN RETURN 0; END IF;"
    "  DELETE FROM kaiten.op WHERE ctid = ANY (ARRAY("
    "    SELECT o.ctid FROM kaiten.op AS o WHERE o.at < now() - interval '5 minutes' LIMIT most));"
    "  GET DIAGNOSTICS total = ROW_COUNT;"
    "  IF m.gone_since > now() - interval '30 seconds' THEN RETURN total; END IF;"
    "  DELETE FROM kaiten.gone WHERE (written, key) IN ("
    "    SELECT g.written, g.key FROM kaiten.gone AS g WHERE g.written < m.gone_until LIMIT most);"
    "  GET DIAGNOSTICS n = ROW_COUNT;"
    "  IF n > 0 THEN RETURN total + n; END IF;"
    "  SELECT g.written INTO newest FROM kaiten.gone AS g WHERE g.at < now() - interval '1 hour'"
    "    ORDER BY g.written DESC LIMIT 1;"
    "  IF newest IS NOT NULL THEN"
    "    UPDATE kaiten.meta SET gone_since = now(),"
    "      gone_until = ((newest::text)::numeric + 1)::text::xid8;"
    "  END IF;"
    "  RETURN total;"
    "END $$;";

/* What the daemon's role may do: read and write rows, and nothing else. */
static const char admit[] =
    "CREATE FUNCTION kaiten.admit(role name) RETURNS void"
    "  LANGUAGE plpgsql SET search_path = '' AS $$"
    "BEGIN"
    "  EXECUTE format('GRANT USAGE ON SCHEMA kaiten TO %I', role);"
    "  EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE"
    " ON kaiten.row, kaiten.gone, kaiten.op TO %I', role);"
    "  EXECUTE format('GRANT SELECT, UPDATE ON kaiten.meta TO %I', role);"
    "  EXECUTE format('GRANT USAGE ON SEQUENCE kaiten.revision TO %I', role);"
    "  EXECUTE format('GRANT EXECUTE ON FUNCTION kaiten.apply, kaiten.resolve, kaiten.moment,"
    " kaiten.changes, kaiten.gone, kaiten.watch, kaiten.purge TO %I', role);"
    "END $$;"
    "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA kaiten FROM PUBLIC;";

static const char *const format_1[] = { tables, apply, resolve, moment, feed, purge, admit, NULL };

/* moment(), and behind its row, when anything has ended since the last answer (told_moved, and
 * told_history as the daemon has it), what changes() and gone() say up to a page of each: of
 * transactions from next on, and of those that were running when it was the next one. One
 * question for all of it: of the time until a daemon knows of a revocation most is spent waiting
 * for a processor of the server. Everything is of one snapshot, which is the statement's. */
static const char news[] =
    "CREATE FUNCTION kaiten.news(since xid8, told_moved bigint, told_history bigint, spaces bytea,"
    "    most bigint)"
    "    RETURNS TABLE (oldest bigint, next bigint, moved bigint, gone_until bigint, watched bytea,"
    "    history bigint, key bytea, value bytea, revision bigint)"
    "  LANGUAGE plpgsql STABLE SET search_path = '' AS $$"
    "DECLARE"
    "  m record;"
    "BEGIN"
    "  SELECT * INTO m FROM kaiten.moment();"
    "  RETURN QUERY SELECT m.oldest, m.next, m.moved, m.gone_until, m.watched, m.history,"
    "    NULL::bytea, NULL::bytea, 0::bigint;"
    "  IF m.moved = told_moved OR (m.history | 1) <> told_history"
    "     OR since::text::bigint < m.gone_until OR since::text::bigint > m.next THEN"
    "    RETURN;"
    "  END IF;"
    "  RETURN QUERY SELECT 0::bigint, 0::bigint, 0::bigint, 0::bigint, NULL::bytea, 0::bigint,"
    "    c.key, c.value, c.revision FROM kaiten.changes(since, '', spaces, most) AS c;"
    "  RETURN QUERY SELECT 0::bigint, 0::bigint, 0::bigint, 0::bigint, NULL::bytea, 0::bigint,"
    "    g.key, g.value, g.revision FROM kaiten.gone(since, '', spaces, most) AS g;"
    "END $$;";

static const char admit_2[] =
    "CREATE OR REPLACE FUNCTION kaiten.admit(role name) RETURNS void"
    "  LANGUAGE plpgsql SET search_path = '' AS $$"
    "BEGIN"
    "  EXECUTE format('GRANT USAGE ON SCHEMA kaiten TO %I', role);"
    "  EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE"
    " ON kaiten.row, kaiten.gone, kaiten.op TO %I', role);"
    "  EXECUTE format('GRANT SELECT, UPDATE ON kaiten.meta TO %I', role);"
    "  EXECUTE format('GRANT USAGE ON SEQUENCE kaiten.revision TO %I', role);"
    "  EXECUTE format('GRANT EXECUTE ON FUNCTION kaiten.apply, kaiten.resolve, kaiten.moment,"
    " kaiten.changes, kaiten.gone, kaiten.news, kaiten.watch, kaiten.purge TO %I', role);"
    "END $$;"
    "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA kaiten FROM PUBLIC;";

static const char *const format_2[] = { news, admit_2, NULL };

/* Not from the oldest one that was running on: a transaction of somebody else that goes on for
 * hours, in whatever database of the cluster, would have all told again and again that has been
 * written since it began. kind: 0 moment(), 1 and 3 rows and gone ones from next on, 2 and 4 those
 * of the others. */
static const char news_3[] =
    "DROP FUNCTION kaiten.news(xid8, bigint, bigint, bytea, bigint);"
    "CREATE FUNCTION kaiten.news(next xid8, running xid8[], told_moved bigint, told_history bigint,"
    "    spaces bytea, most bigint)"
    "    RETURNS TABLE (oldest bigint, next_now bigint, moved bigint, gone_until bigint,"
    "    watched bytea, history bigint, kind integer, key bytea, value bytea, revision bigint)"
    "  LANGUAGE plpgsql STABLE SET search_path = '' AS $$"
    "DECLARE"
    "  m record;"
    "BEGIN"
    "  SELECT * INTO m FROM kaiten.moment();"
    "  RETURN QUERY SELECT m.oldest, m.next, m.moved, m.gone_until, m.watched, m.history, 0,"
    "    NULL::bytea, NULL::bytea, 0::bigint;"
    "  IF m.moved = told_moved OR (m.history | 1) <> told_history THEN RETURN; END IF;"
    "  RETURN QUERY SELECT 0::bigint, 0::bigint, 0::bigint, 0::bigint, NULL::bytea, 0::bigint, 1,"
    "    c.key, c.value, c.revision FROM kaiten.changes(next, '', spaces, most) AS c;"
    "  RETURN QUERY SELECT 0::bigint, 0::bigint, 0::bigint, 0::bigint, NULL::bytea, 0::bigint, 3,"
    "    g.key, g.value, g.revision FROM kaiten.gone(next, '', spaces, most) AS g;"
    "  IF cardinality(running) = 0 THEN RETURN; END IF;"
    "  RETURN QUERY SELECT 0::bigint, 0::bigint, 0::bigint, 0::bigint, NULL::bytea, 0::bigint, 2,"
    "    r.key, r.value, r.revision FROM kaiten.row AS r"
    "    WHERE r.written IS NOT NULL AND r.written = ANY (running)"
    "      AND position(substr(r.key, 1, 1) IN spaces) > 0 LIMIT most;"
    "  RETURN QUERY SELECT 0::bigint, 0::bigint, 0::bigint, 0::bigint, NULL::bytea, 0::bigint, 4,"
    "    g.key, NULL::bytea, 0::bigint FROM kaiten.gone AS g"
    "    WHERE g.written = ANY (running) AND position(substr(g.key, 1, 1) IN spaces) > 0"
    "      AND NOT EXISTS (SELECT FROM kaiten.row AS r WHERE r.key = g.key) LIMIT most;"
    "END $$;"
    "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA kaiten FROM PUBLIC;";

static const char *const format_3[] = { news_3, NULL };

const char *const *const pg_schema_steps[PG_FORMAT] = { format_1, format_2, format_3 };
