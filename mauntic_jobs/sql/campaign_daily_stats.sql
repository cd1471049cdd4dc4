-- The daily figures of campaigns in analytics.campaign_daily_stats: one row for each campaign, organization and UTC day.
-- Parameters: start, end (timestamp, UTC, half-open, one day), date (the day), organizations, campaigns (uuid[], null
-- for all), largest (what the columns can hold, null for no limit), allow_shrink, all_channels, share and seed (to look
-- at this share of the organizations in 2^31, drawn by the seed; null for all), figures (the names of the table's nine
-- columns). The arrays `old` and `new` hold the figures in that order; distinct contacts, which are the fourth and the
-- sixth, are no events. What is written is noted as with the daily rollups: now, run, job, reason.

-- count -- Count the message events of each campaign and channel by their kinds, and the distinct contacts of two kinds.
-- Contacts are told apart only where distinct ones are wanted, and sources are read once for each group of events, because
-- both cost more than the counting. A null campaign_id has the events whose source is no campaign, with the channel `all`,
-- as all have with all_channels. `half` is 0 or 1 for the events of one half of the contacts, null for all.
SELECT organization_id, campaign_id, channel, sum(events)::bigint AS events,
       coalesce(sum(events) FILTER (WHERE kind = 'sent'), 0)::bigint AS sent,
       coalesce(sum(events) FILTER (WHERE kind = 'delivered'), 0)::bigint AS delivered,
       coalesce(sum(events) FILTER (WHERE kind = 'opened'), 0)::bigint AS opened,
       count(*) FILTER (WHERE kind = 'opened') AS unique_opened,
       coalesce(sum(events) FILTER (WHERE kind = 'clicked'), 0)::bigint AS clicked,
       count(*) FILTER (WHERE kind = 'clicked') AS unique_clicked,
       coalesce(sum(events) FILTER (WHERE kind = 'bounced'), 0)::bigint AS bounced,
       coalesce(sum(events) FILTER (WHERE kind = 'complained'), 0)::bigint AS complained,
       coalesce(sum(events) FILTER (WHERE kind = 'unsubscribed'), 0)::bigint AS unsubscribed
FROM (
    SELECT organization_id, campaign_id, contact_id, sum(events) AS events,
           split_part(event_type, '_', 2) AS kind,
           CASE WHEN %(all_channels)s OR campaign_id IS NULL THEN 'all' ELSE split_part(event_type, '_', 1) END
               AS channel
    FROM (
        SELECT organization_id, event_type, contact_id, events,
               CASE WHEN event_source COLLATE "C" ~* '^(campaign:)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                    THEN right(event_source, 36)::uuid END AS campaign_id
        FROM (
            SELECT organization_id, event_source, event_type,
                   CASE WHEN event_type IN ('email_opened', 'sms_opened', 'push_opened',
                                            'email_clicked', 'sms_clicked', 'push_clicked') THEN contact_id END
                       AS contact_id,
                   count(*) AS events
            FROM analytics.contact_activity
            WHERE created_at >= %(start)s AND created_at < %(end)s
              AND (%(half)s::int IS NULL OR (uuid_hash(contact_id) < 0) = (%(half)s::int = 0))
              AND (%(organizations)s::uuid[] IS NULL OR organization_id = ANY (%(organizations)s::uuid[]))
              AND (%(share)s::bigint IS NULL
                   OR uuid_hash_extended(organization_id, %(seed)s::bigint) & 2147483647 < %(share)s::bigint)
              AND event_type IN (
                  'email_sent', 'email_delivered', 'email_opened', 'email_clicked', 'email_bounced',
                  'email_complained', 'email_unsubscribed',
                  'sms_sent', 'sms_delivered', 'sms_opened', 'sms_clicked', 'sms_bounced',
                  'sms_complained', 'sms_unsubscribed',
                  'push_sent', 'push_delivered', 'push_opened', 'push_clicked', 'push_bounced',
                  'push_complained', 'push_unsubscribed'
              )
            GROUP BY 1, 2, 3, 4
        ) AS by_source
    ) AS by_campaign
    WHERE %(campaigns)s::uuid[] IS NULL OR campaign_id = ANY (%(campaigns)s::uuid[])
    GROUP BY 1, 2, 3, 5, 6
) AS by_contact
GROUP BY organization_id, campaign_id, channel

-- compare -- Put what was counted beside what the table says now, in a temporary table.
-- A campaign's row counts one channel, so that its figures make rates: email if the campaign has an event of an email on
-- that day, or else SMS, or else push. `left_out` are its events on other channels. With all_channels it counts them all.
CREATE TEMPORARY TABLE mauntic_jobs_groups ON COMMIT DROP AS
SELECT organization_id, campaign_id, campaign_id::text AS kind, counted.events, counted.left_out,
       recorded.figures AS old, counted.figures AS new,
       coalesce((SELECT sum(figure) FROM unnest(recorded.figures) AS figure), 0)::bigint
           - coalesce(recorded.figures[4] + recorded.figures[6], 0) AS old_total,
       coalesce(counted.events, 0) AS new_total,
       CASE WHEN campaign_id IS NULL THEN NULL
            WHEN %(largest)s::int < ANY (counted.figures) THEN 'too large'
            WHEN %(allow_shrink)s OR recorded.figures IS NULL THEN NULL
            WHEN counted.figures IS NULL OR EXISTS (
                SELECT FROM unnest(recorded.figures, counted.figures) AS figure (old, new) WHERE figure.new < figure.old
            ) THEN 'shrinks'
       END AS withheld
FROM (
    SELECT DISTINCT ON (organization_id, campaign_id) organization_id, campaign_id, figures, events,
           (sum(events) OVER (PARTITION BY organization_id, campaign_id) - events)::bigint AS left_out
    FROM (
        SELECT organization_id, campaign_id, channel, sum(events)::bigint AS events,
               ARRAY[
                   sum(sent), sum(delivered), sum(opened), sum(unique_opened), sum(clicked), sum(unique_clicked),
                   sum(bounced), sum(complained), sum(unsubscribed)
               ]::bigint[] AS figures
        FROM pg_temp.mauntic_jobs_counted
        GROUP BY organization_id, campaign_id, channel
    ) AS by_channel
    ORDER BY organization_id, campaign_id, array_position(ARRAY['email', 'sms', 'push'], channel)
) AS counted
FULL JOIN (
    SELECT organization_id, campaign_id,
           ARRAY[sent, delivered, opened, unique_opened, clicked, unique_clicked, bounced, complained, unsubscribed]
               ::bigint[] AS figures
    FROM analytics.campaign_daily_stats
    WHERE date = %(date)s
      AND (%(organizations)s::uuid[] IS NULL OR organization_id = ANY (%(organizations)s::uuid[]))
      AND (%(share)s::bigint IS NULL
           OR uuid_hash_extended(organization_id, %(seed)s::bigint) & 2147483647 < %(share)s::bigint)
      AND (%(campaigns)s::uuid[] IS NULL OR campaign_id = ANY (%(campaigns)s::uuid[]))
) AS recorded USING (organization_id, campaign_id)

-- audit -- Compare the day's message events with the figures, without distinct contacts, and write nothing: the events of
-- campaigns, the rows that are recorded, the events that those lack, and the rows that a rebuild would withhold.
-- Events of no campaign are left out last: Postgres would push an earlier condition down, and read each event's source.
SELECT coalesce(sum(counted.events) FILTER (WHERE campaign_id IS NOT NULL), 0)::bigint AS events,
       count(recorded.figures) AS groups,
       coalesce(sum(judged.lacking) FILTER (WHERE campaign_id IS NOT NULL AND NOT withheld), 0)::bigint AS lacking,
       count(*) FILTER (WHERE campaign_id IS NOT NULL AND withheld) AS withheld
FROM (
    SELECT DISTINCT ON (organization_id, campaign_id) organization_id, campaign_id, events, figures
    FROM (
        SELECT organization_id, campaign_id, channel, sum(events)::bigint AS events,
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
            SELECT organization_id, events, split_part(event_type, '_', 2) AS kind,
                   CASE WHEN %(all_channels)s THEN 'all' ELSE split_part(event_type, '_', 1) END AS channel,
                   CASE WHEN event_source COLLATE "C" ~* '^(campaign:)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                        THEN right(event_source, 36)::uuid END AS campaign_id
            FROM (
                SELECT organization_id, event_source, event_type, count(*) AS events
                FROM analytics.contact_activity
                WHERE created_at >= %(start)s AND created_at < %(end)s AND event_source IS NOT NULL
                  AND (%(organizations)s::uuid[] IS NULL OR organization_id = ANY (%(organizations)s::uuid[]))
                  AND event_type IN (
                      'email_sent', 'email_delivered', 'email_opened', 'email_clicked', 'email_bounced',
                      'email_complained', 'email_unsubscribed',
                      'sms_sent', 'sms_delivered', 'sms_opened', 'sms_clicked', 'sms_bounced',
                      'sms_complained', 'sms_unsubscribed',
                      'push_sent', 'push_delivered', 'push_opened', 'push_clicked', 'push_bounced',
                      'push_complained', 'push_unsubscribed'
                  )
                GROUP BY 1, 2, 3
            ) AS by_source
        ) AS by_campaign
        WHERE %(campaigns)s::uuid[] IS NULL OR campaign_id = ANY (%(campaigns)s::uuid[])
        GROUP BY 1, 2, 3
    ) AS by_channel
    ORDER BY organization_id, campaign_id, array_position(ARRAY['email', 'sms', 'push'], channel)
) AS counted
FULL JOIN (
    SELECT organization_id, campaign_id,
           ARRAY[sent, delivered, opened, clicked, bounced, complained, unsubscribed]::bigint[] AS figures
    FROM analytics.campaign_daily_stats
    WHERE date = %(date)s
      AND (%(organizations)s::uuid[] IS NULL OR organization_id = ANY (%(organizations)s::uuid[]))
      AND (%(campaigns)s::uuid[] IS NULL OR campaign_id = ANY (%(campaigns)s::uuid[]))
) AS recorded USING (organization_id, campaign_id)
CROSS JOIN LATERAL (
    SELECT sum(greatest(coalesce(figure.new, 0) - coalesce(figure.old, 0), 0)) AS lacking,
           bool_or(
               coalesce(figure.new, 0) < coalesce(figure.old, 0) OR coalesce(figure.new > %(largest)s::int, false)
           ) AS withheld
    FROM unnest(counted.figures, recorded.figures) AS figure (new, old)
) AS judged

-- summary -- Count the rows by what is to be done with them, and the message events with and without a campaign.
SELECT coalesce(sum(events) FILTER (WHERE campaign_id IS NOT NULL), 0)::bigint AS events,
       coalesce(sum(events) FILTER (WHERE campaign_id IS NULL), 0)::bigint AS unattributed,
       coalesce(sum(left_out), 0)::bigint AS other_channels,
       count(*) FILTER (WHERE withheld IS NULL AND old IS NULL AND campaign_id IS NOT NULL) AS inserted,
       count(*) FILTER (WHERE withheld IS NULL AND old <> new) AS updated,
       count(*) FILTER (WHERE withheld IS NULL AND new IS NULL) AS removed,
       count(*) FILTER (WHERE old = new) AS unchanged,
       count(*) FILTER (WHERE withheld IS NOT NULL) AS withheld
FROM pg_temp.mauntic_jobs_groups

-- changes -- List the figures that change, and whether their campaign is withheld.
-- A row that comes or goes shows `sent` even if that is zero, so that it is seen at all.
SELECT %(date)s::date AS date, organization_id, campaign_id, figure.name AS figure, figure.old, figure.new, withheld
FROM pg_temp.mauntic_jobs_groups AS campaign,
     unnest(
         %(figures)s::text[],
         campaign.old, campaign.new
     ) WITH ORDINALITY AS figure (name, old, new, position)
WHERE campaign_id IS NOT NULL
  AND (coalesce(figure.old, 0) <> coalesce(figure.new, 0)
       OR (figure.name = 'sent' AND (campaign.old IS NULL OR campaign.new IS NULL)))
ORDER BY organization_id, campaign_id, figure.position

-- differences -- Put the figures that differ in a temporary table. `gains`: the campaign only lacks events, which is what
-- events that came late look like. Of a row that comes or goes `sent` is there even if that is zero.
CREATE TEMPORARY TABLE mauntic_jobs_differences ON COMMIT DROP AS
SELECT organization_id, kind, figure.position, figure.name AS figure, figure.stands, figure.should_be, withheld,
       campaign.new_total > campaign.old_total AND NOT EXISTS (
           SELECT FROM unnest(campaign.old, campaign.new) AS each (old, new) WHERE each.new < each.old
       ) AS gains
FROM pg_temp.mauntic_jobs_groups AS campaign,
     unnest(
         %(figures)s::text[],
         campaign.old, campaign.new
     ) WITH ORDINALITY AS figure (name, stands, should_be, position)
WHERE campaign_id IS NOT NULL
  AND (coalesce(figure.stands, 0) <> coalesce(figure.should_be, 0)
       OR (figure.name = 'sent' AND (campaign.old IS NULL OR campaign.new IS NULL)))

-- fingerprint -- Sum up what is to be recorded, and what is.
SELECT coalesce(sum(hashtextextended(ROW(organization_id, kind, new)::text, 0)::numeric)
           FILTER (WHERE new IS NOT NULL), 0)::text AS input,
       coalesce(sum(hashtextextended(ROW(organization_id, kind, old)::text, 0)::numeric)
           FILTER (WHERE old IS NOT NULL), 0)::text AS target
FROM pg_temp.mauntic_jobs_groups
WHERE campaign_id IS NOT NULL

-- replace -- Write the rows that are new or differ, and note what they were. They are sorted once, for both.
WITH changed AS MATERIALIZED (
    SELECT organization_id, campaign_id, kind, old, new
    FROM pg_temp.mauntic_jobs_groups
    WHERE campaign_id IS NOT NULL AND withheld IS NULL AND new IS NOT NULL AND old IS DISTINCT FROM new
    ORDER BY organization_id, campaign_id
), noted AS (
    INSERT INTO mauntic_jobs.figure_changes
        (changed_at, run_id, job, bucket, organization_id, reason, kinds, old, new)
    SELECT %(now)s, %(run)s, %(job)s, %(date)s, organization_id, %(reason)s, array_agg(kind),
           array_agg(old[1]) || array_agg(old[2]) || array_agg(old[3]) || array_agg(old[4]) || array_agg(old[5])
               || array_agg(old[6]) || array_agg(old[7]) || array_agg(old[8]) || array_agg(old[9]),
           array_agg(new[1]) || array_agg(new[2]) || array_agg(new[3]) || array_agg(new[4]) || array_agg(new[5])
               || array_agg(new[6]) || array_agg(new[7]) || array_agg(new[8]) || array_agg(new[9])
    FROM changed
    WHERE %(run)s::bigint IS NOT NULL
    GROUP BY organization_id
)
INSERT INTO analytics.campaign_daily_stats
    (campaign_id, organization_id, date, sent, delivered, opened, unique_opened, clicked, unique_clicked, bounced,
     complained, unsubscribed)
SELECT campaign_id, organization_id, %(date)s, new[1], new[2], new[3], new[4], new[5], new[6], new[7], new[8], new[9]
FROM changed
ON CONFLICT (campaign_id, organization_id, date)
DO UPDATE SET sent = excluded.sent, delivered = excluded.delivered,
              opened = excluded.opened, unique_opened = excluded.unique_opened,
              clicked = excluded.clicked, unique_clicked = excluded.unique_clicked,
              bounced = excluded.bounced, complained = excluded.complained, unsubscribed = excluded.unsubscribed

-- remove -- Delete the rows whose events are gone, and note what they were.
WITH gone AS MATERIALIZED (
    SELECT organization_id, campaign_id, kind, old, new
    FROM pg_temp.mauntic_jobs_groups
    WHERE campaign_id IS NOT NULL AND new IS NULL AND withheld IS NULL
), noted AS (
    INSERT INTO mauntic_jobs.figure_changes
        (changed_at, run_id, job, bucket, organization_id, reason, kinds, old, new)
    SELECT %(now)s, %(run)s, %(job)s, %(date)s, organization_id, %(reason)s, array_agg(kind),
           array_agg(old[1]) || array_agg(old[2]) || array_agg(old[3]) || array_agg(old[4]) || array_agg(old[5])
               || array_agg(old[6]) || array_agg(old[7]) || array_agg(old[8]) || array_agg(old[9]),
           array_agg(new[1]) || array_agg(new[2]) || array_agg(new[3]) || array_agg(new[4]) || array_agg(new[5])
               || array_agg(new[6]) || array_agg(new[7]) || array_agg(new[8]) || array_agg(new[9])
    FROM gone
    WHERE %(run)s::bigint IS NOT NULL
    GROUP BY organization_id
)
DELETE FROM analytics.campaign_daily_stats AS recorded
USING gone
WHERE recorded.campaign_id = gone.campaign_id
  AND recorded.organization_id = gone.organization_id
  AND recorded.date = %(date)s

-- unknown_organizations -- Name the given organizations that have neither figures nor an event on any day.
-- CASE keeps the order: the events are read only for what is not found where it is cheaper to look.
SELECT wanted.id
FROM unnest(%(organizations)s::uuid[]) AS wanted (id)
WHERE CASE
    WHEN EXISTS (SELECT FROM analytics.campaign_daily_stats WHERE organization_id = wanted.id) THEN false
    ELSE NOT EXISTS (SELECT FROM analytics.contact_activity WHERE organization_id = wanted.id)
END
ORDER BY wanted.id

-- unknown_campaigns -- Name the given campaigns that have neither figures nor an event on any day.
SELECT wanted.id
FROM unnest(%(campaigns)s::uuid[]) AS wanted (id)
WHERE CASE
    WHEN EXISTS (SELECT FROM analytics.campaign_daily_stats WHERE campaign_id = wanted.id) THEN false
    WHEN EXISTS (
        SELECT FROM analytics.contact_activity
        WHERE created_at >= %(start)s AND created_at < %(end)s
          AND lower(event_source COLLATE "C") IN (wanted.id::text, 'campaign:' || wanted.id)
    ) THEN false
    ELSE NOT EXISTS (
        SELECT FROM analytics.contact_activity
        WHERE lower(event_source COLLATE "C") IN (wanted.id::text, 'campaign:' || wanted.id)
    )
END
ORDER BY wanted.id
