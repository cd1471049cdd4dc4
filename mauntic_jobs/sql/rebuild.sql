-- What the rebuilds of all rollups share. The temporary table mauntic_jobs_counted holds what a job's `count` has counted,
-- once for each half of the contacts if it was counted in halves. The temporary table mauntic_jobs_groups holds the groups of one bucket, with
-- the columns organization_id, kind (an event type or a campaign's id), old_total, new_total, and `withheld`: why a group
-- may not be written (`shrinks`, `too long`, `too large`), or null.

-- capacity -- Read what the columns of a table can hold: the largest number and the longest text, null for no limit.
SELECT min(CASE atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 END) AS largest,
       min(CASE WHEN atttypid = 'varchar'::regtype AND atttypmod > 4 THEN atttypmod - 4 END) AS longest
FROM pg_attribute
WHERE attrelid = %(table)s::regclass AND attname = ANY (%(columns)s::name[]) AND NOT attisdropped

-- groups -- List all groups of the bucket, with what is recorded and what was counted.
SELECT * FROM pg_temp.mauntic_jobs_groups ORDER BY organization_id, kind

-- release_gone -- Let the groups of organizations shrink that no longer exist: that have no event left in the bucket, and
-- no contact, segment, journey, template, provider or sending domain at all.
UPDATE pg_temp.mauntic_jobs_groups AS gone
SET withheld = NULL
WHERE gone.withheld = 'shrinks'
  AND NOT EXISTS (
      SELECT FROM pg_temp.mauntic_jobs_groups AS other
      WHERE other.organization_id = gone.organization_id AND other.new_total > 0
  )
  AND NOT EXISTS (SELECT FROM crm.contacts AS own WHERE own.organization_id = gone.organization_id)
  AND NOT EXISTS (SELECT FROM crm.segments AS own WHERE own.organization_id = gone.organization_id)
  AND NOT EXISTS (SELECT FROM journey.journeys AS own WHERE own.organization_id = gone.organization_id)
  AND NOT EXISTS (SELECT FROM content.templates AS own WHERE own.organization_id = gone.organization_id)
  AND NOT EXISTS (SELECT FROM delivery.provider_configs AS own WHERE own.organization_id = gone.organization_id)
  AND NOT EXISTS (SELECT FROM delivery.sending_domains AS own WHERE own.organization_id = gone.organization_id)

-- withheld -- Sum up the withheld groups by reason and organization, those that lose most first; at most `limit` of each
-- reason. `groups_in_all`, `old_in_all` and `new_in_all` are of all organizations with that reason.
SELECT reason, organization_id, groups, kinds, old_total, new_total,
       organizations, groups_in_all, old_in_all, new_in_all
FROM (
    SELECT by_organization.*,
           count(*) OVER same_reason AS organizations,
           sum(groups) OVER same_reason::bigint AS groups_in_all,
           sum(old_total) OVER same_reason::bigint AS old_in_all,
           sum(new_total) OVER same_reason::bigint AS new_in_all,
           row_number() OVER (PARTITION BY reason ORDER BY old_total - new_total DESC, organization_id) AS place
    FROM (
        SELECT withheld AS reason, organization_id, count(*) AS groups, (array_agg(kind ORDER BY kind))[1:3] AS kinds,
               sum(old_total)::bigint AS old_total, sum(new_total)::bigint AS new_total
        FROM pg_temp.mauntic_jobs_groups
        WHERE withheld IS NOT NULL
        GROUP BY withheld, organization_id
    ) AS by_organization
    WINDOW same_reason AS (PARTITION BY reason)
) AS ranked
WHERE place <= %(limit)s
ORDER BY reason, place

-- settle_withheld -- Forget the withheld groups of a bucket that are no longer in question, as far as the run looked:
-- `organizations` and `kinds` may be null for all.
DELETE FROM mauntic_jobs.withheld AS known
WHERE known.job = %(job)s AND known.bucket = %(bucket)s
  AND (%(organizations)s::uuid[] IS NULL OR known.organization_id = ANY (%(organizations)s::uuid[]))
  AND (%(kinds)s::text[] IS NULL OR known.kind = ANY (%(kinds)s::text[]))
  AND NOT EXISTS (
      SELECT FROM pg_temp.mauntic_jobs_groups AS found
      WHERE found.withheld IS NOT NULL AND found.organization_id = known.organization_id AND found.kind = known.kind
  )

-- record_withheld -- Record the withheld groups of a bucket.
INSERT INTO mauntic_jobs.withheld AS known
    (job, bucket, organization_id, kind, reason, old_total, new_total, since)
SELECT %(job)s, %(bucket)s, organization_id, kind, withheld, old_total, new_total, %(now)s
FROM pg_temp.mauntic_jobs_groups
WHERE withheld IS NOT NULL
ON CONFLICT (job, bucket, organization_id, kind) DO UPDATE
SET reason = excluded.reason, old_total = excluded.old_total, new_total = excluded.new_total

-- differing -- Count the groups that were compared, and those of which a figure differs, by the table that `differences`
-- has made; name their organizations if they are at most `most`. `known` are withheld by an earlier run already.
SELECT (SELECT count(*) FROM pg_temp.mauntic_jobs_groups WHERE kind IS NOT NULL) AS groups,
       count(*) AS differing, count(*) FILTER (WHERE gains AND NOT known) AS gaining,
       count(*) FILTER (WHERE known) AS known,
       CASE WHEN count(DISTINCT organization_id) <= %(most)s
           THEN coalesce(array_agg(DISTINCT organization_id), ARRAY[]::uuid[]) END AS organizations
FROM (
    SELECT organization_id, kind, bool_or(gains) AS gains,
           EXISTS (
               SELECT FROM mauntic_jobs.withheld AS held
               WHERE held.job = %(job)s AND held.bucket = %(bucket)s
                 AND held.organization_id = figures.organization_id AND held.kind = figures.kind
           ) AS known
    FROM pg_temp.mauntic_jobs_differences AS figures
    GROUP BY organization_id, kind
) AS differing

-- list_differences -- List the first figures that differ, at most `limit`.
SELECT organization_id, kind, figure, stands, should_be, withheld
FROM pg_temp.mauntic_jobs_differences
ORDER BY organization_id, kind, position
LIMIT %(limit)s

-- preview -- Sum up the events that are recorded and those that would be, and those of the groups that stay as they are.
SELECT coalesce(sum(old_total), 0)::bigint AS present,
       coalesce(sum(CASE WHEN withheld IS NULL THEN new_total ELSE old_total END), 0)::bigint AS future,
       count(*) FILTER (WHERE withheld IS NOT NULL) AS withheld,
       coalesce(sum(old_total) FILTER (WHERE withheld IS NOT NULL), 0)::bigint AS withheld_old,
       coalesce(sum(new_total) FILTER (WHERE withheld IS NOT NULL), 0)::bigint AS withheld_new
FROM pg_temp.mauntic_jobs_groups
WHERE kind IS NOT NULL

-- largest -- List the groups whose events change most, at most `most`.
SELECT organization_id, kind, old_total, new_total, withheld
FROM pg_temp.mauntic_jobs_groups
WHERE kind IS NOT NULL AND old_total <> new_total
ORDER BY abs(new_total - old_total) DESC, organization_id, kind
LIMIT %(most)s

-- forget -- Drop the count and the comparison, so that the next bucket can be rebuilt in the same transaction.
DROP TABLE pg_temp.mauntic_jobs_groups, pg_temp.mauntic_jobs_counted
