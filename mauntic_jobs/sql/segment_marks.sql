-- Marks of segment triggers: up to where each was evaluated, and what changed since. A transaction id of 32 bits is
-- compared by its age, which is right up to two thousand million transactions.

-- horizon -- Read how far this transaction surely sees: what transactions before `horizon` wrote is visible to all that is
-- read from now on. `next` is the first id not given yet. `store` names what such ids are good for: one cluster, one
-- database, the very tables and partitions. `collation` is the version of the order in which texts are compared.
SELECT
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next,
    concat_ws(
        ' ',
        (SELECT system_identifier FROM pg_control_system()),
        own.oid,
        (
            SELECT string_agg(tables.oid::bigint::text, ',' ORDER BY tables.oid)
            FROM (
                SELECT wanted.oid FROM unnest(%(tables)s::text[]) AS given (name)
                CROSS JOIN LATERAL (
                    SELECT given.name::regclass::oid UNION SELECT relid::oid FROM pg_partition_tree(given.name::regclass)
                ) AS wanted (oid)
            ) AS tables
        )
    ) AS store,
    concat_ws(' ', own.datcollate, pg_database_collation_actual_version(own.oid)) AS collation
FROM pg_database AS own
WHERE own.datname = current_database()

-- list -- Read the marks of triggers.
SELECT trigger_id, store, horizon::text::bigint AS horizon, fingerprint, evaluated_at, full_at
FROM mauntic_jobs.segment_marks
WHERE trigger_id = ANY (%(triggers)s::uuid[])

-- write -- Write the marks of triggers.
INSERT INTO mauntic_jobs.segment_marks
    (trigger_id, organization_id, store, horizon, fingerprint, evaluated_at, full_at)
SELECT
    given.trigger_id, given.organization_id, %(store)s, %(horizon)s::text::xid8, given.fingerprint, %(now)s, given.full_at
FROM unnest(
    %(triggers)s::uuid[], %(organizations)s::uuid[], %(fingerprints)s::text[], %(full_at)s::timestamp[]
) AS given (trigger_id, organization_id, fingerprint, full_at)
ORDER BY given.trigger_id
ON CONFLICT (trigger_id) DO UPDATE
SET organization_id = excluded.organization_id, store = excluded.store, horizon = excluded.horizon,
    fingerprint = excluded.fingerprint, evaluated_at = excluded.evaluated_at, full_at = excluded.full_at

-- forget -- Remove the marks of triggers, whose next evaluation is a full one then, and those of triggers that are no
-- more.
DELETE FROM mauntic_jobs.segment_marks AS mark
WHERE mark.trigger_id = ANY (%(triggers)s::uuid[]) OR NOT EXISTS (
    SELECT FROM journey.journey_triggers AS trigger
    WHERE trigger.id = mark.trigger_id AND trigger.organization_id = mark.organization_id
)

-- changed -- Put the contacts that may have become entitled to enter, with what the evaluation reads of them, in a
-- temporary table; {contacts} lists them.
CREATE TEMPORARY TABLE mauntic_jobs_changed ON COMMIT DROP AS {contacts}

-- is_changed -- Tell whether one contact is among them.
SELECT EXISTS (
    SELECT FROM ({contacts}) AS changed
    WHERE changed.organization_id = %(organization)s AND changed.id = %(contact)s
) AS is_changed

-- changed_contacts -- List the contacts that may have become entitled to enter: those whose row a transaction at or after
-- the horizon wrote; those that it added to a static segment; and those whose execution it ended, or ended before, and
-- whose time to wait after it ran out since. {columns} are what else is read of each.
WITH span AS MATERIALIZED (
    SELECT age(%(horizon)s::text::xid8::xid) AS most, age(pg_snapshot_xmax(pg_current_snapshot())::xid) AS least
)
SELECT contact.organization_id, contact.id{columns}
FROM crm.contacts AS contact
WHERE contact.organization_id = ANY (%(organizations)s::uuid[])
  AND age(contact.xmin) <= (SELECT most FROM span) AND age(contact.xmin) >= (SELECT least FROM span)
UNION ALL
SELECT contact.organization_id, contact.id{columns}
FROM (
    SELECT static.organization_id, member.contact_id
    FROM unnest(%(segments)s::uuid[], %(segment_organizations)s::uuid[]) AS static (segment_id, organization_id)
    INNER JOIN crm.segment_contacts AS member ON member.segment_id = static.segment_id
    WHERE age(member.xmin) <= (SELECT most FROM span) AND age(member.xmin) >= (SELECT least FROM span)
    UNION
    SELECT waited.organization_id, execution.contact_id
    FROM unnest(
        %(journeys)s::uuid[], %(journey_organizations)s::uuid[],
        %(waited_after)s::timestamp[], %(waited_until)s::timestamp[]
    ) AS waited (journey_id, organization_id, after, until)
    INNER JOIN journey.journey_executions AS execution ON execution.journey_id = waited.journey_id
    WHERE execution.status <> 'active' AND (
        (age(execution.xmin) <= (SELECT most FROM span) AND age(execution.xmin) >= (SELECT least FROM span))
        OR (execution.started_at > waited.after AND execution.started_at <= waited.until)
    )
) AS other
INNER JOIN crm.contacts AS contact
    ON contact.id = other.contact_id AND contact.organization_id = other.organization_id
WHERE NOT (age(contact.xmin) <= (SELECT most FROM span) AND age(contact.xmin) >= (SELECT least FROM span))

-- changed_counts -- Count them, for each organization that has any.
SELECT organization_id, count(*) AS contacts FROM pg_temp.mauntic_jobs_changed GROUP BY organization_id

-- analyze_changed -- Let the planner know how many they are.
ANALYZE pg_temp.mauntic_jobs_changed (organization_id, id)
