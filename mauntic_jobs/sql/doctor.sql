-- What the doctor asks of Postgres. Catalogs are read by name, so that nothing is refused to a role without rights.

-- server -- What the role may do beyond its grants, whether anything can be written, and how new connections are set.
SELECT
    current_user::text AS role, roles.rolsuper AS superuser, roles.rolbypassrls AS bypasses_row_security,
    current_setting('transaction_read_only') = 'on' AS read_only, pg_is_in_recovery() AS standby,
    (SELECT reset_val FROM pg_settings WHERE name = 'TimeZone') AS time_zone,
    pg_backend_pid() AS backend, current_database()::text AS database
FROM pg_roles AS roles
WHERE roles.rolname = current_user

-- replica -- Whether the replay ends what is read here for longer than a while: asked of the read replica.
SELECT current_setting('max_standby_streaming_delay') AS patience,
       current_setting('max_standby_streaming_delay') <> '-1' AND NOT current_setting('hot_standby_feedback')::boolean
           AS ends_scans

-- clock -- What time it is for Postgres.
SELECT clock_timestamp() AS now

-- newest_event -- When the newest event was, beside the clock in the zone of its column, and in that of new sessions.
-- Parameter: zone. What lies more than two days ahead was not written by a clock.
SELECT
    max(created_at) AS newest,
    clock_timestamp() AT TIME ZONE %(zone)s AS expected,
    clock_timestamp() AT TIME ZONE (SELECT reset_val FROM pg_settings WHERE name = 'TimeZone') AS by_default
FROM analytics.contact_activity
WHERE created_at < clock_timestamp() AT TIME ZONE 'UTC' + interval '2 days'

-- lacking -- Of the given privileges, those that the role lacks on objects that are there.
SELECT wanted.privilege, wanted.name
FROM unnest(%(kinds)s::text[], %(names)s::text[], %(privileges)s::text[])
    WITH ORDINALITY AS wanted (kind, name, privilege, place)
LEFT JOIN pg_namespace AS namespace ON namespace.nspname = split_part(wanted.name, '.', 1)
LEFT JOIN pg_class AS class
    ON class.relnamespace = namespace.oid AND class.relname = split_part(wanted.name, '.', 2)
WHERE NOT CASE wanted.kind
    WHEN 'DATABASE' THEN has_database_privilege(current_database(), wanted.privilege)
    WHEN 'SCHEMA' THEN has_schema_privilege(namespace.oid, wanted.privilege)
    WHEN 'SEQUENCE' THEN has_sequence_privilege(class.oid, wanted.privilege)
    ELSE has_table_privilege(class.oid, wanted.privilege)
END
ORDER BY wanted.place

-- unreadable -- Of the given tables, those that the role may not read, and those that are not there.
SELECT wanted.name, class.oid IS NOT NULL AS present
FROM unnest(%(tables)s::text[]) AS wanted (name)
LEFT JOIN pg_namespace AS namespace ON namespace.nspname = split_part(wanted.name, '.', 1)
LEFT JOIN pg_class AS class
    ON class.relnamespace = namespace.oid AND class.relname = split_part(wanted.name, '.', 2)
WHERE
    class.oid IS NULL
    OR NOT (has_table_privilege(class.oid, 'SELECT') AND has_schema_privilege(namespace.oid, 'USAGE'))

-- row_security -- Tables of which row-level security may hide rows from the role.
SELECT namespace.nspname || '.' || class.relname AS name
FROM pg_class AS class
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE namespace.nspname = any(%(schemas)s::text[]) AND class.relrowsecurity AND row_security_active(class.oid)
ORDER BY 1

-- moved -- How many duplicates were moved out of the platform's tables, ever.
SELECT table_name, count(*) AS rows FROM mauntic_jobs.duplicates GROUP BY table_name ORDER BY table_name

-- delivery_functions -- Whether the ledger has the functions of this version, and whether anything can be written.
SELECT
    to_regclass('mauntic_jobs.lease_sweep') IS NOT NULL AS present,
    current_setting('transaction_read_only') = 'on' AS read_only

-- unrecorded -- How many results Postgres has refused to record whole, and the latest error.
SELECT
    count(*) AS results,
    (array_agg(unrecorded ->> 'error' ORDER BY updated_at DESC))[1] AS error
FROM mauntic_jobs.deliveries
WHERE unrecorded IS NOT NULL

-- unknown_fields -- Fields of templates that were left empty since a time, the most common first.
SELECT field, count(*) AS messages, min(delivery_id) AS example
FROM mauntic_jobs.deliveries, unnest(unknown_fields) AS field
WHERE unknown_fields IS NOT NULL AND claimed_at >= %(since)s
GROUP BY field
ORDER BY messages DESC, field
LIMIT 20
