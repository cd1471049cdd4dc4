-- What the job is measured against. Parameters of a day: start, end (timestamp, UTC, half-open), date.

-- work_mem -- Give the transaction the memory that the job's has.
SELECT set_config('work_mem', %(work_mem)s, true)

-- count_by_contact -- Bare SQL: count by contact first, then add up; by CREATE TABLE, which may scan in parallel.
CREATE TEMPORARY TABLE bench_day ON COMMIT DROP AS
SELECT organization_id, event_type, sum(events) AS count, count(*) AS unique_count
FROM (
    SELECT organization_id, event_type, contact_id, count(*) AS events
    FROM analytics.contact_activity
    WHERE created_at >= %(start)s AND created_at < %(end)s
    GROUP BY organization_id, event_type, contact_id
) AS by_contact
GROUP BY organization_id, event_type

-- count_distinct -- Bare SQL: the same by count(DISTINCT).
CREATE TEMPORARY TABLE bench_day ON COMMIT DROP AS
SELECT organization_id, event_type, count(*) AS count, count(DISTINCT contact_id) AS unique_count
FROM analytics.contact_activity
WHERE created_at >= %(start)s AND created_at < %(end)s
GROUP BY organization_id, event_type

-- sort -- Have the planner sort instead of hash, which it can do in parallel.
SELECT set_config('enable_hashagg', 'off', true)

-- write -- Write the table that was counted.
INSERT INTO analytics.event_aggregates AS recorded (organization_id, date, event_type, channel, count, unique_count)
SELECT organization_id, %(date)s, event_type, NULL, count, unique_count FROM pg_temp.bench_day
ON CONFLICT (organization_id, date, event_type, channel)
DO UPDATE SET count = excluded.count, unique_count = excluded.unique_count
WHERE (recorded.count, recorded.unique_count) <> (excluded.count, excluded.unique_count)

-- count_by_contact_and_write -- Bare SQL in one statement.
INSERT INTO analytics.event_aggregates AS recorded (organization_id, date, event_type, channel, count, unique_count)
SELECT organization_id, %(date)s, event_type, NULL, sum(events), count(*)
FROM (
    SELECT organization_id, event_type, contact_id, count(*) AS events
    FROM analytics.contact_activity
    WHERE created_at >= %(start)s AND created_at < %(end)s
    GROUP BY organization_id, event_type, contact_id
) AS by_contact
GROUP BY organization_id, event_type
ON CONFLICT (organization_id, date, event_type, channel)
DO UPDATE SET count = excluded.count, unique_count = excluded.unique_count
WHERE (recorded.count, recorded.unique_count) <> (excluded.count, excluded.unique_count)

-- count_distinct_and_write -- Bare SQL in one statement, by count(DISTINCT).
INSERT INTO analytics.event_aggregates AS recorded (organization_id, date, event_type, channel, count, unique_count)
SELECT organization_id, %(date)s, event_type, NULL, count(*), count(DISTINCT contact_id)
FROM analytics.contact_activity
WHERE created_at >= %(start)s AND created_at < %(end)s
GROUP BY organization_id, event_type
ON CONFLICT (organization_id, date, event_type, channel)
DO UPDATE SET count = excluded.count, unique_count = excluded.unique_count
WHERE (recorded.count, recorded.unique_count) <> (excluded.count, excluded.unique_count)

-- hour_groups -- The replaced way: the groups of one hour.
SELECT organization_id, event_type, count(*) AS count, count(DISTINCT contact_id) AS unique_count
FROM analytics.contact_activity
WHERE created_at >= %(start)s AND created_at < %(end)s
GROUP BY organization_id, event_type

-- hour_find -- The replaced way: look a group up.
SELECT id FROM analytics.event_aggregates
WHERE organization_id = %(organization_id)s AND date = %(date)s AND event_type = %(event_type)s AND channel IS NULL

-- hour_add -- The replaced way: add the hour to a group that is there.
UPDATE analytics.event_aggregates
SET count = count + %(count)s, unique_count = unique_count + %(unique_count)s
WHERE id = %(id)s

-- hour_insert -- The replaced way: begin a group that is not.
INSERT INTO analytics.event_aggregates (organization_id, date, event_type, channel, count, unique_count)
VALUES (%(organization_id)s, %(date)s, %(event_type)s, NULL, %(count)s, %(unique_count)s)

-- without_events_index -- As the platform is before `db upgrade`; to be rolled back.
DROP INDEX analytics.mauntic_jobs_contact_activity_created_at

-- without_rollups_key -- As the platform is before `db upgrade`; to be rolled back.
DROP INDEX analytics.mauntic_jobs_event_aggregates_key

-- empty -- Remove the day's rollups, and what is known of them: without that they were lowered by another program.
WITH forgotten AS (DELETE FROM mauntic_jobs.rollup_days WHERE date = %(date)s)
DELETE FROM analytics.event_aggregates WHERE date = %(date)s

-- empty_all -- Remove all rollups, and what is known of them.
TRUNCATE analytics.event_aggregates, mauntic_jobs.rollup_days

-- settle -- Do what autovacuum does in time, so that no way pays for the rows that another one left behind.
VACUUM (ANALYZE) analytics.event_aggregates

-- wrong -- Count the rollups of the day that are missing, left over or different from what the events say.
WITH counted AS (
    SELECT organization_id, event_type, count(*) AS count, count(DISTINCT contact_id) AS unique_count
    FROM analytics.contact_activity
    WHERE created_at >= %(start)s AND created_at < %(end)s
    GROUP BY organization_id, event_type
), recorded AS (
    SELECT organization_id, event_type, count, unique_count FROM analytics.event_aggregates WHERE date = %(date)s
)
SELECT count(*) AS wrong
FROM counted FULL JOIN recorded USING (organization_id, event_type)
WHERE (counted.count, counted.unique_count) IS DISTINCT FROM (recorded.count, recorded.unique_count)
