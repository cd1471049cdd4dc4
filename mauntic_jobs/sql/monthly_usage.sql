-- The monthly usage in analytics.event_aggregates: one row for each organization, UTC month and event type, on the first
-- of the month, with the type `monthly:` + type and the channel `monthly_summary`.
-- Parameters: start, end (timestamp, UTC, half-open, one month), date (its first day), organizations (uuid[], null for
-- all), longest and largest (what the columns can hold, null for no limit), allow_shrink, share and seed (to look at
-- this share of the organizations in 2^31, drawn by the seed; null for all). It is written by the statements of
-- the daily rollups.

-- expected -- Tell how many events the table holds by its statistics; -1 if it has none.
SELECT reltuples::bigint AS events FROM pg_class WHERE oid = 'analytics.contact_activity'::regclass

-- compare -- Put what the month's events say, by the `count` of event_counts.sql, beside what the rollup says now, in a
-- temporary table.
CREATE TEMPORARY TABLE mauntic_jobs_groups ON COMMIT DROP AS
SELECT organization_id, event_type AS kind,
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
    SELECT organization_id, 'monthly:' || event_type AS event_type,
           sum(count)::bigint AS count, sum(unique_count)::bigint AS unique_count
    FROM pg_temp.mauntic_jobs_counted
    GROUP BY organization_id, mauntic_jobs_counted.event_type
) AS counted
FULL JOIN (
    SELECT organization_id, event_type, count, unique_count
    FROM analytics.event_aggregates
    WHERE date = %(date)s AND channel = 'monthly_summary' AND starts_with(event_type, 'monthly:')
      AND (%(organizations)s::uuid[] IS NULL OR organization_id = ANY (%(organizations)s::uuid[]))
      AND (%(share)s::bigint IS NULL
           OR uuid_hash_extended(organization_id, %(seed)s::bigint) & 2147483647 < %(share)s::bigint)
) AS recorded USING (organization_id, event_type)

-- audit -- Compare the month's events with the rollup by counts alone, and write nothing: the events, the groups that are
-- recorded, the events that those lack, and the groups that a rebuild would withhold.
SELECT coalesce(sum(counted.count), 0)::bigint AS events, count(recorded.count) AS groups,
       coalesce(sum(counted.count - coalesce(recorded.count, 0)) FILTER (
           WHERE NOT withheld AND counted.count > coalesce(recorded.count, 0)
       ), 0)::bigint AS lacking,
       count(*) FILTER (WHERE withheld) AS withheld
FROM (
    SELECT organization_id, 'monthly:' || event_type AS event_type, count(*) AS count
    FROM analytics.contact_activity
    WHERE created_at >= %(start)s AND created_at < %(end)s
      AND (%(organizations)s::uuid[] IS NULL OR organization_id = ANY (%(organizations)s::uuid[]))
    GROUP BY organization_id, contact_activity.event_type
) AS counted
FULL JOIN (
    SELECT organization_id, event_type, count
    FROM analytics.event_aggregates
    WHERE date = %(date)s AND channel = 'monthly_summary' AND starts_with(event_type, 'monthly:')
      AND (%(organizations)s::uuid[] IS NULL OR organization_id = ANY (%(organizations)s::uuid[]))
) AS recorded USING (organization_id, event_type)
CROSS JOIN LATERAL (
    SELECT coalesce(counted.count, 0) < coalesce(recorded.count, 0)
           OR coalesce(counted.count > %(largest)s::int, false)
           OR coalesce(char_length(event_type) > %(longest)s::int, false) AS withheld
) AS judged

-- differences -- Put the figures that differ in a temporary table. `gains`: the group only lacks events that its daily
-- rollups (`date` to before `after`) lack as well, which is what events that came late look like.
CREATE TEMPORARY TABLE mauntic_jobs_differences ON COMMIT DROP AS
SELECT organization_id, kind, figure.position, figure.name AS figure, figure.stands, figure.should_be, withheld,
       coalesce(new_count > coalesce(old_count, 0) AND new_unique_count >= coalesce(old_unique_count, 0), false)
           AND coalesce((
               SELECT sum(daily.count)
               FROM analytics.event_aggregates AS daily
               WHERE daily.organization_id = month.organization_id AND daily.event_type = substr(month.kind, 9)
                 AND daily.date >= %(date)s AND daily.date < %(after)s AND daily.channel IS NULL
           ), 0) <= coalesce(old_count, 0) AS gains
FROM pg_temp.mauntic_jobs_groups AS month
CROSS JOIN LATERAL (
    VALUES (1, 'count', old_count::bigint, new_count),
           (2, 'unique_count', old_unique_count::bigint, new_unique_count)
) AS figure (position, name, stands, should_be)
WHERE figure.stands IS DISTINCT FROM figure.should_be
