-- Indexes on partitioned tables. They are built on one partition after the other, concurrently, and attached: an index on
-- the whole table would block its writers. Postgres itself gives later partitions the index.

-- partitioned -- Name those of the given tables that are partitioned.
SELECT namespace.nspname || '.' || class.relname AS name
FROM pg_class AS class
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE class.relkind = 'p' AND namespace.nspname || '.' || class.relname = ANY (%(tables)s::text[])

-- next -- The next partition that lacks an index of its own, from the top down, and the statements that give it one.
-- Parameters: table, name (that of the index on the whole table, which must be there).
WITH RECURSIVE whole AS (
    SELECT class.oid, index.indrelid, pg_get_indexdef(class.oid) AS definition
    FROM pg_index AS index
    JOIN pg_class AS class ON class.oid = index.indexrelid
    WHERE index.indrelid = %(table)s::regclass AND class.relname = %(name)s
), attached AS (
    SELECT oid, indrelid FROM whole
    UNION ALL
    SELECT child.indexrelid, child.indrelid
    FROM attached
    JOIN pg_inherits AS inherits ON inherits.inhparent = attached.oid
    JOIN pg_index AS child ON child.indexrelid = inherits.inhrelid
), lacking AS (
    SELECT tree.relid, tree.isleaf, tree.level, class.relnamespace,
           parent.oid::regclass AS parent_index, %(name)s || '_' || tree.relid::oid AS index_name
    FROM pg_partition_tree(%(table)s::regclass) AS tree
    JOIN attached AS parent ON parent.indrelid = tree.parentrelid
    JOIN pg_class AS class ON class.oid = tree.relid
    WHERE class.relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM attached WHERE attached.indrelid = tree.relid)
)
SELECT lacking.relid::regclass::text AS partition,
       own.indisvalid OR own.indexrelid IS NOT NULL AND NOT lacking.isleaf AS built,
       own.indexrelid IS NOT NULL AS present,
       format('DROP INDEX CONCURRENTLY %%I.%%I', namespace.nspname, index_name) AS drop_sql,
       regexp_replace(
           whole.definition,
           '^CREATE (UNIQUE )?INDEX .+? ON ONLY \S+ ',
           CASE WHEN lacking.isleaf
               THEN format('CREATE \1INDEX CONCURRENTLY %%I ON %%s ', index_name, lacking.relid::regclass)
               ELSE format('CREATE \1INDEX %%I ON ONLY %%s ', index_name, lacking.relid::regclass)
           END
       ) AS build_sql,
       format('ALTER INDEX %%s ATTACH PARTITION %%I.%%I', parent_index, namespace.nspname, index_name) AS attach_sql
FROM lacking
CROSS JOIN whole
JOIN pg_namespace AS namespace ON namespace.oid = lacking.relnamespace
LEFT JOIN pg_class AS own_class
    ON own_class.relname = lacking.index_name AND own_class.relnamespace = lacking.relnamespace
LEFT JOIN pg_index AS own ON own.indexrelid = own_class.oid AND own.indrelid = lacking.relid
ORDER BY lacking.level, lacking.relid
LIMIT 1
