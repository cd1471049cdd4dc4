-- Proof of figures: the raw events that they were counted from. Parameters: organization, start and end (timestamp, as
-- the platform writes them, half-open).

-- owners -- Name the organizations that have figures of a campaign.
SELECT DISTINCT organization_id
FROM analytics.campaign_daily_stats
WHERE campaign_id = %(campaign)s AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
ORDER BY organization_id

-- senders -- Name the organizations that have events of a campaign on a day.
SELECT DISTINCT organization_id
FROM analytics.contact_activity
WHERE created_at >= %(start)s AND created_at < %(end)s
  AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
  AND lower(event_source COLLATE "C") IN (%(campaign)s::text, 'campaign:' || %(campaign)s::text)
ORDER BY organization_id

-- latest_day -- Find the latest day on which a campaign of an organization has figures; null if it has none.
SELECT max(date) AS day
FROM analytics.campaign_daily_stats
WHERE campaign_id = %(campaign)s AND organization_id = %(organization)s

-- sources -- Count an organization's message events of a day by type and source, and by how the source relates to a
-- campaign: it `names` it, names `another` or `none`, is `missing`, or has the campaign's id in `another form`; events
-- that name it and are about no message are `no message`. Sources of other campaigns are added up. The three earliest
-- events of each are examples. The pattern of a source is that of the job.
SELECT relation, event_type, event_source, count(*) AS events, count(DISTINCT contact_id) AS contacts,
       (array_agg(id ORDER BY created_at, id))[1:3] AS examples
FROM (
    SELECT id, contact_id, created_at, event_type,
           CASE WHEN campaign_id IS NULL OR campaign_id = %(campaign)s THEN event_source END AS event_source,
           CASE WHEN NOT event_type = ANY (%(types)s) THEN 'no message'
                WHEN campaign_id = %(campaign)s THEN 'names'
                WHEN campaign_id IS NOT NULL THEN 'another'
                WHEN event_source IS NULL THEN 'missing'
                WHEN has_id THEN 'another form'
                ELSE 'none'
           END AS relation
    FROM (
        SELECT id, contact_id, created_at, event_type::text AS event_type, event_source,
               CASE WHEN event_source COLLATE "C" ~* '^(campaign:)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                    THEN right(event_source, 36)::uuid END AS campaign_id,
               coalesce(
                   strpos(replace(lower(event_source), '-', ''), replace(%(campaign)s::text, '-', '')) > 0, false
               ) AS has_id
        FROM analytics.contact_activity
        WHERE created_at >= %(start)s AND created_at < %(end)s AND organization_id = %(organization)s
    ) AS event
    WHERE event_type = ANY (%(types)s) OR has_id
) AS related
GROUP BY relation, event_type, event_source
ORDER BY events DESC, event_type, event_source
LIMIT %(limit)s

-- late -- List when events of a day of an organization were found to have come late, and how many.
SELECT found_at, events
FROM mauntic_jobs.late_events
WHERE day = %(day)s AND organization_id = %(organization)s
ORDER BY found_at

-- days -- Count an organization's events by type and day (days, in order, and starts, when each begins), and name the
-- first and the last of each: by time, and at the same time by id. What is compared is time and id in one text, because
-- it can be read in one pass.
SELECT event_type, day, count(*) AS events,
       right(min(place), 36)::uuid AS first_id, right(max(place), 36)::uuid AS last_id,
       min(created_at) AS first_at, max(created_at) AS last_at
FROM (
    SELECT event_type::text AS event_type, created_at,
           (%(days)s::date[])[width_bucket(created_at, %(starts)s::timestamp[])] AS day,
           (to_char(created_at, 'YYYYMMDDHH24MISSUS') || id) COLLATE "C" AS place
    FROM analytics.contact_activity
    WHERE created_at >= %(start)s AND created_at < %(end)s AND organization_id = %(organization)s
) AS event
GROUP BY event_type, day
ORDER BY day, event_type
