-- Events that came after their day was recorded: the raw events of the last days beside the recorded rollups, by counts
-- alone, without distinct contacts. Parameters: days (date[], in order), starts (timestamp[], when each begins in UTC),
-- start and end (timestamp, UTC, half-open, of them all).

-- checksum -- Tell whether a day (date, start, end) differs from what is recorded, in one pass that groups nothing: the
-- sum of a hash of each event's organization and type is the sum of the recorded counts, each times that hash, unless a
-- count differs. Campaigns may lack events where more messages are found than their figures were counted from.
SELECT found.messages,
       found.events > 0
       AND (found.checksum IS DISTINCT FROM recorded.checksum OR found.messages > coalesce(reported.messages, -1))
           AS differs
FROM (
    SELECT count(*) AS events,
           sum(uuid_hash(organization_id) # hashtext(event_type))
               FILTER (WHERE NOT starts_with(event_type, 'monthly:')) AS checksum,
           count(*) FILTER (WHERE event_type IN (
               'email_sent', 'email_delivered', 'email_opened', 'email_clicked', 'email_bounced',
               'email_complained', 'email_unsubscribed',
               'sms_sent', 'sms_delivered', 'sms_opened', 'sms_clicked', 'sms_bounced',
               'sms_complained', 'sms_unsubscribed',
               'push_sent', 'push_delivered', 'push_opened', 'push_clicked', 'push_bounced',
               'push_complained', 'push_unsubscribed'
           )) AS messages
    FROM analytics.contact_activity
    WHERE created_at >= %(start)s AND created_at < %(end)s
) AS found
CROSS JOIN (
    SELECT sum(count::numeric * (uuid_hash(organization_id) # hashtext(event_type))) AS checksum
    FROM analytics.event_aggregates
    WHERE date = %(date)s AND channel IS NULL AND NOT starts_with(event_type, 'monthly:')
) AS recorded
LEFT JOIN mauntic_jobs.reported_days AS reported ON reported.day = %(date)s

-- count -- Count the events of the days that differ (date[]), by source only where the type is a message's; it is put in
-- the temporary table mauntic_jobs_late_counted.
SELECT (%(days)s::date[])[width_bucket(created_at, %(starts)s::timestamp[])] AS day, organization_id, event_type,
       CASE WHEN event_type IN (
           'email_sent', 'email_delivered', 'email_opened', 'email_clicked', 'email_bounced',
           'email_complained', 'email_unsubscribed',
           'sms_sent', 'sms_delivered', 'sms_opened', 'sms_clicked', 'sms_bounced',
           'sms_complained', 'sms_unsubscribed',
           'push_sent', 'push_delivered', 'push_opened', 'push_clicked', 'push_bounced',
           'push_complained', 'push_unsubscribed'
       ) THEN event_source END AS event_source,
       count(*) AS events
FROM analytics.contact_activity
WHERE created_at >= %(start)s AND created_at < %(end)s
  AND (%(days)s::date[])[width_bucket(created_at, %(starts)s::timestamp[])] = ANY (%(differing)s::date[])
GROUP BY 1, 2, 3, 4

-- compare -- Put what the daily rollups lack in a temporary table. Groups that are withheld already, and have not changed
-- since, are known.
CREATE TEMPORARY TABLE mauntic_jobs_late ON COMMIT DROP AS
SELECT day, found.organization_id, sum(found.events - coalesce(recorded.count, 0))::bigint AS events
FROM (
    SELECT day, organization_id, event_type, sum(events)::bigint AS events
    FROM pg_temp.mauntic_jobs_late_counted
    WHERE NOT starts_with(event_type, 'monthly:')
    GROUP BY day, organization_id, event_type
) AS found
LEFT JOIN analytics.event_aggregates AS recorded
    ON recorded.organization_id = found.organization_id AND recorded.date = found.day
    AND recorded.event_type = found.event_type AND recorded.channel IS NULL
WHERE found.events > coalesce(recorded.count, 0)
  AND NOT EXISTS (
      SELECT FROM mauntic_jobs.withheld AS known
      WHERE known.job = 'aggregate-hourly' AND known.bucket = to_char(found.day, 'YYYY-MM-DD')
        AND known.organization_id = found.organization_id AND known.kind = found.event_type
        AND known.new_total = found.events
  )
GROUP BY day, found.organization_id

-- late_days -- List the days whose rollups lack events, with the organizations if they are at most `most`.
-- Events are late if a run had recorded their day after its end; otherwise no run has recorded it so far.
SELECT late.day, count(*) AS organizations, sum(late.events)::bigint AS events,
       CASE WHEN count(*) <= %(most)s THEN array_agg(late.organization_id) END AS ids,
       EXISTS (
           SELECT FROM mauntic_jobs.runs
           WHERE job = 'aggregate-hourly' AND status = 'succeeded' AND options::text = '{}'
             AND window_end >= (late.day + 1)::timestamp AT TIME ZONE 'UTC'
             AND window_start < (late.day + 8)::timestamp AT TIME ZONE 'UTC'
       ) AS recorded
FROM pg_temp.mauntic_jobs_late AS late
GROUP BY late.day
ORDER BY late.day

-- late_campaigns -- List the days on which campaigns lack events, with the organizations if they are at most `most`.
SELECT day, CASE WHEN count(DISTINCT organization_id) <= %(most)s THEN array_agg(DISTINCT organization_id) END AS ids
FROM (
    SELECT DISTINCT ON (day, organization_id, campaign_id) day, organization_id, campaign_id, events, figures
    FROM (
        SELECT day, organization_id, campaign_id, channel, sum(events)::bigint AS events,
               ARRAY[
                   sum(events) FILTER (WHERE kind = 'sent'),
                   sum(events) FILTER (WHERE kind = 'delivered'),
                   sum(events) FILTER (WHERE kind = 'opened'),
                   sum(events) FILTER (WHERE kind = 'clicked'),
                   sum(events) FILTER (WHERE kind = 'bounced'),
                   sum(events) FILTER (WHERE kind = 'complained'),
                   sum(events) FILTER (WHERE kind = 'unsubscribed')
               ]::bigint[] AS figures
        FROM (
            SELECT day, organization_id, events, split_part(event_type, '_', 2) AS kind,
                   CASE WHEN %(all_channels)s THEN 'all' ELSE split_part(event_type, '_', 1) END AS channel,
                   CASE WHEN event_source COLLATE "C" ~* '^(campaign:)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                        THEN right(event_source, 36)::uuid END AS campaign_id
            FROM pg_temp.mauntic_jobs_late_counted
            WHERE event_source IS NOT NULL
        ) AS by_source
        WHERE campaign_id IS NOT NULL
        GROUP BY day, organization_id, campaign_id, channel
    ) AS by_channel
    ORDER BY day, organization_id, campaign_id, array_position(ARRAY['email', 'sms', 'push'], channel)
) AS found
LEFT JOIN (
    SELECT date AS day, organization_id, campaign_id,
           ARRAY[sent, delivered, opened, clicked, bounced, complained, unsubscribed]::bigint[] AS figures
    FROM analytics.campaign_daily_stats
    WHERE date = ANY (%(days)s::date[])
) AS recorded USING (day, organization_id, campaign_id)
WHERE EXISTS (
    SELECT FROM unnest(found.figures, recorded.figures) AS figure (new, old) WHERE figure.new > coalesce(figure.old, 0)
) AND NOT EXISTS (
    SELECT FROM mauntic_jobs.withheld AS known
    WHERE known.job = 'generate-daily-reports' AND known.bucket = to_char(day, 'YYYY-MM-DD')
      AND known.organization_id = found.organization_id AND known.kind = found.campaign_id::text
      AND known.new_total = found.events
)
GROUP BY day
ORDER BY day

-- late_month -- Name the organizations whose usage of a month lacks events that its daily rollups have, if it was
-- recorded at all. `first` and `after` are the first of the month and of the next; of a month that is not `over`, only
-- organizations with late events are looked at.
SELECT DISTINCT daily.organization_id
FROM (
    SELECT organization_id, event_type, sum(count) AS events
    FROM analytics.event_aggregates
    WHERE date >= %(first)s AND date < %(after)s AND channel IS NULL AND NOT starts_with(event_type, 'monthly:')
      AND (%(over)s OR organization_id IN (
          SELECT organization_id FROM pg_temp.mauntic_jobs_late WHERE day >= %(first)s AND day < %(after)s
      ))
      AND EXISTS (
          SELECT FROM analytics.event_aggregates WHERE date = %(first)s AND channel = 'monthly_summary'
      )
    GROUP BY organization_id, event_type
) AS daily
LEFT JOIN analytics.event_aggregates AS monthly
    ON monthly.organization_id = daily.organization_id AND monthly.date = %(first)s
    AND monthly.event_type = 'monthly:' || daily.event_type AND monthly.channel = 'monthly_summary'
WHERE daily.events > coalesce(monthly.count, 0)
  AND NOT EXISTS (
      SELECT FROM mauntic_jobs.withheld AS known
      WHERE known.job = 'monthly-usage-summary' AND known.bucket = to_char(%(first)s::date, 'YYYY-MM')
        AND known.organization_id = daily.organization_id AND known.kind = 'monthly:' || daily.event_type
        AND known.new_total >= daily.events
  )
ORDER BY daily.organization_id

-- record -- Record how many events of each organization came late on the given days.
INSERT INTO mauntic_jobs.late_events (day, organization_id, found_at, events)
SELECT day, organization_id, %(found_at)s, events
FROM pg_temp.mauntic_jobs_late
WHERE day = ANY (%(recorded)s::date[])
ON CONFLICT (day, organization_id, found_at) DO UPDATE SET events = excluded.events

-- report -- Record from how many message events the figures of days were counted.
INSERT INTO mauntic_jobs.reported_days (day, messages)
SELECT day, messages FROM unnest(%(days)s::date[], %(messages)s::bigint[]) AS counted (day, messages)
ON CONFLICT (day) DO UPDATE SET messages = excluded.messages

-- reported -- Tell from how many message events the figures of a day were counted, null if that is not known.
SELECT (SELECT messages FROM mauntic_jobs.reported_days WHERE day = %(date)s) AS messages

-- prune -- Forget what was found before that instant.
DELETE FROM mauntic_jobs.late_events WHERE found_at < %(before)s

-- prune_reported -- Forget the days before that one.
DELETE FROM mauntic_jobs.reported_days WHERE day < %(before)s::date

-- share -- The organizations with most late events of the days from `first` to before `after`: how many events they have
-- recorded on those days, how many of them came late, and how long after the end of their day at most.
SELECT late.organization_id, late.events, late.hours, recorded.events AS recorded
FROM (
    SELECT organization_id, sum(events)::bigint AS events,
           max(extract(EPOCH FROM found_at - ((day + 1)::timestamp AT TIME ZONE 'UTC')) / 3600)::int AS hours
    FROM mauntic_jobs.late_events
    WHERE day >= %(first)s AND day < %(after)s
    GROUP BY organization_id
    ORDER BY sum(events) DESC, organization_id
    LIMIT %(most)s
) AS late
CROSS JOIN LATERAL (
    SELECT coalesce(sum(count), 0)::bigint AS events
    FROM analytics.event_aggregates AS daily
    WHERE daily.organization_id = late.organization_id AND daily.date >= %(first)s AND daily.date < %(after)s
      AND daily.channel IS NULL AND NOT starts_with(daily.event_type, 'monthly:')
) AS recorded
ORDER BY late.events DESC, late.organization_id
