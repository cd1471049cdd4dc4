-- The record of migrations, and what the database looks like to one who is about to migrate it.

-- has_record -- Tell whether any migration was ever applied.
SELECT to_regclass('mauntic_jobs.migrations') IS NOT NULL AS present

-- applied -- List the applied migrations.
SELECT version, name, checksum, applied_at FROM mauntic_jobs.migrations ORDER BY version

-- may_read -- Tell whether there is a record of migrations that this role may read.
SELECT coalesce(has_table_privilege(to_regclass('mauntic_jobs.migrations'), 'SELECT'), false) AS allowed

-- record -- Record a migration, in the transaction that made it.
INSERT INTO mauntic_jobs.migrations (version, name, checksum) VALUES (%(version)s, %(name)s, %(checksum)s)

-- lock -- Keep other upgrades away until this transaction ends, or tell that one is under way.
SELECT pg_try_advisory_xact_lock(hashtextextended('mauntic-jobs/db upgrade', 0)) AS locked

-- missing_tables -- Name those of the given tables that do not exist. Needs no right to anything.
SELECT wanted.name
FROM unnest(%(tables)s::text[]) AS wanted (name)
WHERE NOT EXISTS (
    SELECT FROM pg_class AS class
    JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
    WHERE namespace.nspname = split_part(wanted.name, '.', 1) AND class.relname = split_part(wanted.name, '.', 2)
)
ORDER BY 1

-- existing_schemas -- Name those of the given schemas that exist.
SELECT nspname AS name FROM pg_namespace WHERE nspname = ANY (%(schemas)s::text[]) ORDER BY 1

-- indexes -- Tell which of the given indexes exist on their tables, and whether each was built to the end.
SELECT class.relname AS name, index.indisvalid AS valid
FROM pg_index AS index
JOIN pg_class AS class ON class.oid = index.indexrelid
JOIN pg_class AS owner ON owner.oid = index.indrelid
JOIN pg_namespace AS namespace ON namespace.oid = owner.relnamespace
JOIN unnest(%(names)s::text[], %(tables)s::text[]) AS wanted (name, table_name)
    ON class.relname = wanted.name AND namespace.nspname || '.' || owner.relname = wanted.table_name
