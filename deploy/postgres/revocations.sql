-- Tells Portcullis of every revocation that is written to a table of revoked token ids, as soon as the
-- transaction commits. Run it once, and again after an update; it may run any number of times:
--
--   psql -f revocations.sql "$DATABASE_URL"
--
-- Another table, column or channel than those of `blacklist.postgres` as it comes:
--
--   PGOPTIONS='-c portcullis.revoked_table=auth.revoked -c portcullis.id_column=jti' \
--     psql -f revocations.sql "$DATABASE_URL"
--
-- The table must exist, and needs no other column than that one: every row is a token that is revoked
-- for ever, and deleting the row takes the revocation back. A table that takes its place, as after a
-- rename, needs the trigger too. Portcullis itself only reads. Needs PostgreSQL 13 or later, and the
-- owner of the table.

-- The message is an event as `host/revocation/src/event.rs` reads it, or empty: read the table again. Of
-- equal messages in a transaction PostgreSQL delivers one, so rows that are deleted together cause one
-- reading. Arguments of the trigger: the column, the channel.
CREATE OR REPLACE FUNCTION portcullis_notify_revocation() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  id_column CONSTANT text := TG_ARGV[0];
  channel CONSTANT text := TG_ARGV[1];
  -- PostgreSQL refuses longer ones, and with them the statement.
  longest CONSTANT integer := 7999;
  token_id text;
  message text;
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    PERFORM pg_notify(channel, '');
    RETURN NULL;
  END IF;
  IF TG_OP = 'UPDATE' AND to_jsonb(OLD) -> id_column = to_jsonb(NEW) -> id_column THEN
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    PERFORM pg_notify(channel, '');
  END IF;
  IF TG_OP <> 'DELETE' THEN
    token_id := to_jsonb(NEW) ->> id_column;
    IF token_id IS NOT NULL THEN
      message := jsonb_build_object('type', 'add', 'jti', token_id)::text;
      PERFORM pg_notify(channel, CASE WHEN octet_length(message) > longest THEN '' ELSE message END);
    END IF;
  END IF;
  RETURN NULL;
END
$$;

DO $$
DECLARE
  wanted CONSTANT text := coalesce(nullif(current_setting('portcullis.revoked_table', true), ''), 'revoked_tokens');
  id_column CONSTANT text := coalesce(nullif(current_setting('portcullis.id_column', true), ''), 'token_id');
  channel CONSTANT text := coalesce(nullif(current_setting('portcullis.notify_channel', true), ''), 'portcullis_revocations');
  revoked CONSTANT regclass := to_regclass(wanted);
BEGIN
  IF revoked IS NULL THEN
    RAISE EXCEPTION 'there is no table %', wanted
      USING HINT = 'Set portcullis.revoked_table to the table of revoked token ids, if need be with its schema.';
  END IF;
  IF NOT EXISTS (SELECT FROM pg_attribute
                 WHERE attrelid = revoked AND attname = id_column AND attnum > 0 AND NOT attisdropped) THEN
    RAISE EXCEPTION 'the table % has no column %', revoked, id_column
      USING HINT = 'Set portcullis.id_column to the column that holds the token ids.';
  END IF;
  EXECUTE format('DROP TRIGGER IF EXISTS portcullis_revocation ON %s', revoked);
  EXECUTE format('DROP TRIGGER IF EXISTS portcullis_truncation ON %s', revoked);
  EXECUTE format('CREATE TRIGGER portcullis_revocation AFTER INSERT OR UPDATE OR DELETE ON %s
                  FOR EACH ROW EXECUTE FUNCTION portcullis_notify_revocation(%L, %L)',
                 revoked, id_column, channel);
  EXECUTE format('CREATE TRIGGER portcullis_truncation AFTER TRUNCATE ON %s
                  FOR EACH STATEMENT EXECUTE FUNCTION portcullis_notify_revocation(%L, %L)',
                 revoked, id_column, channel);
  -- Also for what logical replication changes.
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER portcullis_revocation,
                  ENABLE ALWAYS TRIGGER portcullis_truncation', revoked);
END
$$;
