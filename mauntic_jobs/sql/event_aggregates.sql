-- The daily rollups in analytics.event_aggregates: one row for each organization, UTC day and event type, with a null
-- channel. Rows of other channels, and rows whose type starts with `monthly:`, belong to the monthly summary.
-- Parameters: start, end (timestamp, UTC, half-open, one day), date (the day), organizations (uuid[], null for all),
-- longest and largest (what the columns can hold, null for no limit), allow_shrink, share and seed (to look at this
-- share of the organizations in 2^31, drawn by the seed; null for all). `replace` and `remove` are those of the monthly
-- summary as well, by `channel`, and note what they write: now, run (null for none, and then nothing is noted), job and
-- reason.

-- compare -- Put what the day's events say, by the `count` of event_counts.sql, beside what the rollup says now, in a
-- temporary table.
CREATE TEMPORARY TABLE mauntic_jobs_groups ON COMMIT DROP AS
SELECT organization_id, event_type::text AS kind,
       recorded.count AS old_count, recorded.unique_count AS old_unique_count,
       counted.count AS new_count, counted.unique_count AS new_unique_count,
       coalesce(recorded.count, 0)::bigint AS old_total, coalesce(counted.count, 0)::bigint AS new_total,
       CASE WHEN counted.count IS NOT NULL AND char_length(event_type) > %(longest)s::int THEN 'too long'
            WHEN counted.count > %(largest)s::int THEN 'too large'
            WHEN %(allow_shrink)s OR recorded.count IS NULL THEN NULL
            WHEN counted.count IS NULL OR counted.count < recorded.count
                OR counted.unique_count < recorded.unique_count THEN 'shrinks'
       END AS withheld
FROM (
    SELECT organization_id, event_type, sum(count)::bigint AS count, sum(unique_count)::bigint AS unique_count
    FROM pg_temp.mauntic_jobs_counted
    WHERE NOT starts_with(event_type, 'monthly:')
    GROUP BY organization_id, event_type
) AS counted
FULL JOIN (
    SELECT organization_id, event_type, count, unique_count
    FROM analytics.event_aggregates
    WHERE date = %(date)s AND channel IS NULL AND NOT starts_with(event_type, 'monthly:')
      AND (%(organizations)s::uuid[] IS NULL OR organization_id = ANY (%(organizations)s::uuid[]))
      AND (%(share)s::bigint IS NULL
           OR uuid_hash_extended(organization_id, %(seed)s::bigint) & 2147483647 < %(share)s::bigint)
) AS recorded USING (organization_id, event_type)

-- audit -- Compare the day's events with the rollup by counts alone, and write nothing: the events, the groups that are
-- recorded, the events that those lack, and the groups that a rebuild would withhold.
SELECT coalesce(sum(counted.count), 0)::bigint AS events, count(recorded.count) AS groups,
       coalesce(sum(counted.count - coalesce(recorded.count, 0)) FILTER (
           WHERE NOT withheld AND counted.count > coalesce(recorded.count, 0)
       ), 0)::bigint AS lacking,
       count(*) FILTER (WHERE withheld) AS withheld
FROM (
    SELECT organization_id, event_type, count(*) AS count
    FROM analytics.contact_activity
    WHERE created_at >= %(start)s AND created_at < %(end)s AND NOT starts_with(event_type, 'monthly:')
      AND (%(organizations)s::uuid[] IS NULL OR organization_id = ANY (%(organizations)s::uuid[]))
    GROUP BY organization_id, event_type
) AS counted
FULL JOIN (
    SELECT organization_id, event_type, count
    FROM analytics.event_aggregates
    WHERE date = %(date)s AND channel IS NULL AND NOT starts_with(event_type, 'monthly:')
      AND (%(organizations)s::uuid[] IS NULL OR organization_id = ANY (%(organizations)s::uuid[]))
) AS recorded USING (organization_id, event_type)
CROSS JOIN LATERAL (
    SELECT coalesce(counted.count, 0) < coalesce(recorded.count, 0)
           OR coalesce(counted.count > %(largest)s::int, false)
           OR coalesce(char_length(event_type) > %(longest)s::int, false) AS withheld
) AS judged

-- summary -- Count the groups by what is to be done with them, and the events. Those of months are counted alike.
SELECT coalesce(sum(new_count), 0)::bigint AS events,
       count(*) FILTER (WHERE withheld IS NULL AND old_count IS NULL) AS inserted,
       count(*) FILTER (WHERE withheld IS NULL AND (old_count, old_unique_count) <> (new_count, new_unique_count))
           AS updated,
       count(*) FILTER (WHERE withheld IS NULL AND new_count IS NULL) AS removed,
       count(*) FILTER (WHERE (old_count, old_unique_count) = (new_count, new_unique_count)) AS unchanged,
       count(*) FILTER (WHERE withheld IS NOT NULL) AS withheld
FROM pg_temp.mauntic_jobs_groups

-- changes -- List the groups that change, and those that are withheld.
SELECT %(date)s::date AS date, organization_id, kind AS event_type, old_count, new_count, old_unique_count,
       new_unique_count, withheld
FROM pg_temp.mauntic_jobs_groups
WHERE (old_count, old_unique_count) IS DISTINCT FROM (new_count, new_unique_count)
ORDER BY organization_id, kind

-- differences -- Put the figures that differ in a temporary table. `gains`: the group only lacks events, which is what
-- events that came late look like.
CREATE TEMPORARY TABLE mauntic_jobs_differences ON COMMIT DROP AS
SELECT organization_id, kind, figure.position, figure.name AS figure, figure.stands, figure.should_be, withheld,
       coalesce(new_count > coalesce(old_count, 0) AND new_unique_count >= coalesce(old_unique_count, 0), false)
           AS gains
FROM pg_temp.mauntic_jobs_groups
CROSS JOIN LATERAL (
    VALUES (1, 'count', old_count::bigint, new_count),
           (2, 'unique_count', old_unique_count::bigint, new_unique_count)
) AS figure (position, name, stands, should_be)
WHERE figure.stands IS DISTINCT FROM figure.should_be

-- fingerprint -- Sum up what is to be recorded, and what is.
SELECT coalesce(sum(hashtextextended(ROW(organization_id, kind, new_count, new_unique_count)::text, 0)::numeric)
           FILTER (WHERE new_count IS NOT NULL), 0)::text AS input,
       coalesce(sum(hashtextextended(ROW(organization_id, kind, old_count, old_unique_count)::text, 0)::numeric)
           FILTER (WHERE old_count IS NOT NULL), 0)::text AS target
FROM pg_temp.mauntic_jobs_groups

-- replace -- Write the groups that are new or differ, and note what they were. They are sorted once, for both.
WITH changed AS MATERIALIZED (
    SELECT organization_id, kind, old_count, old_unique_count, new_count, new_unique_count
    FROM pg_temp.mauntic_jobs_groups
    WHERE new_count IS NOT NULL AND withheld IS NULL
      AND (old_count, old_unique_count) IS DISTINCT FROM (new_count, new_unique_count)
    ORDER BY organization_id, kind
), noted AS (
    INSERT INTO mauntic_jobs.figure_changes
        (changed_at, run_id, job, bucket, organization_id, reason, kinds, old, new)
    SELECT %(now)s, %(run)s, %(job)s, %(date)s, organization_id, %(reason)s, array_agg(kind),
           array_agg(old_count)::bigint[] || array_agg(old_unique_count)::bigint[],
           array_agg(new_count) || array_agg(new_unique_count)
    FROM changed
    WHERE %(run)s::bigint IS NOT NULL
    GROUP BY organization_id
)
INSERT INTO analytics.event_aggregates AS recorded (organization_id, date, event_type, channel, count, unique_count)
SELECT organization_id, %(date)s, kind, %(channel)s, new_count, new_unique_count
FROM changed
ON CONFLICT (organization_id, date, event_type, channel)
DO UPDATE SET count = excluded.count, unique_count = excluded.unique_count
WHERE (recorded.count, recorded.unique_count) IS DISTINCT FROM (excluded.count, excluded.unique_count)

-- remove -- Delete the groups whose events are gone, and note what they were.
WITH gone AS MATERIALIZED (
    SELECT organization_id, kind, old_count, old_unique_count, new_count, new_unique_count
    FROM pg_temp.mauntic_jobs_groups
    WHERE new_count IS NULL AND withheld IS NULL
), noted AS (
    INSERT INTO mauntic_jobs.figure_changes
        (changed_at, run_id, job, bucket, organization_id, reason, kinds, old, new)
    SELECT %(now)s, %(run)s, %(job)s, %(date)s, organization_id, %(reason)s, array_agg(kind),
           array_agg(old_count)::bigint[] || array_agg(old_unique_count)::bigint[],
           array_agg(new_count) || array_agg(new_unique_count)
    FROM gone
    WHERE %(run)s::bigint IS NOT NULL
    GROUP BY organization_id
)
DELETE FROM analytics.event_aggregates AS recorded
USING gone
WHERE recorded.organization_id = gone.organization_id
  AND recorded.date = %(date)s
  AND recorded.event_type = gone.kind
  AND recorded.channel IS NOT DISTINCT FROM %(channel)s

-- unknown_organizations -- Name the given organizations that have neither a rollup nor an event on any day.
SELECT wanted.id
FROM unnest(%(organizations)s::uuid[]) AS wanted (id)
WHERE NOT EXISTS (SELECT FROM analytics.event_aggregates AS recorded WHERE recorded.organization_id = wanted.id)
  AND NOT EXISTS (SELECT FROM analytics.contact_activity AS event WHERE event.organization_id = wanted.id)
ORDER BY wanted.id
