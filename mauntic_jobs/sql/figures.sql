-- Figures as the jobs recorded them, and the runs that wrote them. Parameters: first and after (date, half-open),
-- organization, campaign and journey (uuid, null for all).

-- runs -- List the successful runs of a job that may have rebuilt something between `start` and `until`, latest first.
-- `exact`: the run covered its window, and nothing around it.
SELECT id, window_start, window_end, options, counters, finished_at, backfill_id IS NOT NULL AS exact
FROM mauntic_jobs.runs
WHERE job = %(job)s AND status = 'succeeded' AND window_start < %(until)s AND window_end > %(start)s
ORDER BY id DESC

-- latest_runs -- List the latest successful runs of a job.
SELECT id, options, counters, finished_at
FROM mauntic_jobs.runs
WHERE job = %(job)s AND status = 'succeeded'
ORDER BY started_at DESC
LIMIT %(limit)s

-- rollups -- List the daily rollups.
SELECT organization_id, date, event_type, count AS events, unique_count AS contacts
FROM analytics.event_aggregates
WHERE date >= %(first)s AND date < %(after)s AND channel IS NULL AND NOT starts_with(event_type, 'monthly:')
  AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
ORDER BY date, organization_id, event_type

-- campaigns -- List the daily figures of campaigns.
SELECT campaign_id, organization_id, date, sent, delivered, opened, unique_opened, clicked, unique_clicked, bounced,
       complained, unsubscribed
FROM analytics.campaign_daily_stats
WHERE date >= %(first)s AND date < %(after)s
  AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
  AND (%(campaign)s::uuid IS NULL OR campaign_id = %(campaign)s)
ORDER BY date, sent DESC, campaign_id, organization_id

-- usage -- List the usage of a month.
SELECT organization_id, date, substr(event_type, char_length('monthly:') + 1) AS event_type, count AS events,
       unique_count AS contacts
FROM analytics.event_aggregates
WHERE date = %(first)s AND channel = 'monthly_summary' AND starts_with(event_type, 'monthly:')
  AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
ORDER BY organization_id, event_type

-- journeys -- Count by journey the executions that began from `start` to before `end` (timestamp, UTC), by their status.
SELECT journey.id AS journey_id, journey.organization_id, journey.name, count(*) AS entered,
       count(*) FILTER (WHERE execution.status = 'active') AS active,
       count(*) FILTER (WHERE execution.status = 'completed') AS completed,
       count(*) FILTER (WHERE execution.status = 'failed') AS failed,
       count(*) FILTER (WHERE execution.status = 'canceled') AS canceled,
       max(execution.started_at) AT TIME ZONE 'UTC' AS entered_at
FROM journey.journey_executions AS execution
INNER JOIN journey.journeys AS journey
    ON journey.id = execution.journey_id AND journey.organization_id = execution.organization_id
WHERE execution.started_at >= %(start)s AND execution.started_at < %(end)s
  AND (%(organization)s::uuid IS NULL OR execution.organization_id = %(organization)s)
  AND (%(journey)s::uuid IS NULL OR execution.journey_id = %(journey)s)
GROUP BY journey.id
ORDER BY entered DESC, journey.name, journey.id

-- unknown_journey -- Tell whether no organization, or not the given one, has a journey of this id.
SELECT NOT EXISTS (
    SELECT FROM journey.journeys
    WHERE id = %(journey)s AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
) AS unknown

-- unknown_organization -- Tell whether an organization has neither a journey nor a contact.
SELECT NOT EXISTS (SELECT FROM journey.journeys WHERE organization_id = %(organization)s)
       AND NOT EXISTS (SELECT FROM crm.contacts WHERE organization_id = %(organization)s) AS unknown

-- changes -- List what runs changed in figures of a job, latest first, at most `limit` rows: a row for each group, with its
-- figures before and after. Of organization and kind one may be null for all.
SELECT coalesce(run.finished_at, change.changed_at) AS changed_at, change.run_id AS run, change.reason,
       change.organization_id, change.bucket, each.kind,
       ARRAY(
           SELECT change.old[place] FROM generate_series(each.number, cardinality(change.old), size) AS place
           ORDER BY place
       ) AS old,
       ARRAY(
           SELECT change.new[place] FROM generate_series(each.number, cardinality(change.new), size) AS place
           ORDER BY place
       ) AS new
FROM mauntic_jobs.figure_changes AS change
CROSS JOIN LATERAL cardinality(change.kinds) AS size
CROSS JOIN LATERAL unnest(change.kinds) WITH ORDINALITY AS each (kind, number)
LEFT JOIN mauntic_jobs.runs AS run ON run.id = change.run_id
WHERE change.job = %(job)s AND change.bucket >= %(first)s AND change.bucket < %(after)s
  AND (%(organization)s::uuid IS NULL OR change.organization_id = %(organization)s)
  AND (%(kind)s::text IS NULL OR each.kind = %(kind)s)
ORDER BY change.id DESC, each.kind
LIMIT %(limit)s

-- last_changes -- Name for each group the run that changed it last.
SELECT DISTINCT ON (change.organization_id, change.bucket, each.kind)
       change.organization_id, change.bucket, each.kind, change.run_id AS run,
       coalesce(run.finished_at, change.changed_at) AS changed_at
FROM mauntic_jobs.figure_changes AS change
CROSS JOIN LATERAL unnest(change.kinds) AS each (kind)
LEFT JOIN mauntic_jobs.runs AS run ON run.id = change.run_id
WHERE change.job = %(job)s AND change.bucket >= %(first)s AND change.bucket < %(after)s
  AND (%(organization)s::uuid IS NULL OR change.organization_id = %(organization)s)
  AND (%(kind)s::text IS NULL OR each.kind = %(kind)s)
ORDER BY change.organization_id, change.bucket, each.kind, change.id DESC
