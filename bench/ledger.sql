-- extension -- Reads the log.
CREATE EXTENSION IF NOT EXISTS pg_walinspect

-- contacts -- The contacts that messages go to.
INSERT INTO crm.contacts (id, organization_id, email)
SELECT id, %(org)s, 'contact' || n || '@example.com' FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS given (id, n)

-- position -- Where the log ends now.
SELECT pg_current_wal_insert_lsn()::text AS start

-- total -- How much was written since.
SELECT pg_current_wal_insert_lsn() - %(start)s::pg_lsn AS bytes

-- log -- Bytes of the log since then by table and index, and those of no table; a record of several blocks by its first.
SELECT coalesce(relation.oid::regclass::text, log.resource_manager) AS relation, sum(log.record_length)::float8 AS bytes
FROM (
    SELECT DISTINCT ON (entry.start_lsn) entry.record_length, entry.resource_manager, block.relfilenode
    FROM pg_get_wal_records_info(%(start)s::pg_lsn, pg_current_wal_flush_lsn()) AS entry
    LEFT JOIN pg_get_wal_block_info(%(start)s::pg_lsn, pg_current_wal_flush_lsn(), show_data => false) AS block
        ON block.start_lsn = entry.start_lsn
    ORDER BY entry.start_lsn, block.block_id
) AS log
LEFT JOIN pg_class AS relation ON pg_relation_filenode(relation.oid) = log.relfilenode
GROUP BY relation
ORDER BY bytes DESC
LIMIT 24

-- table -- The ledger's size, and its updates.
SELECT
    pg_relation_size('mauntic_jobs.deliveries')::float8 AS heap,
    coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0)::float8 AS toast,
    pg_stat_get_tuples_updated(oid) AS updates, pg_stat_get_tuples_hot_updated(oid) AS hot,
    pg_stat_get_dead_tuples(oid) AS dead
FROM pg_class
WHERE oid = 'mauntic_jobs.deliveries'::regclass

-- indexes -- The size of each of its indexes.
SELECT indexrelid::regclass::text AS index, pg_relation_size(indexrelid)::float8 AS bytes
FROM pg_index
WHERE indrelid = 'mauntic_jobs.deliveries'::regclass
ORDER BY bytes DESC
