-- Ways to count a day's message events by campaign, as sums over all campaigns.
-- Parameters: start, end (timestamp, UTC).

-- count_distinct -- The obvious way.
SELECT count(*)::bigint AS campaigns, sum(sent)::bigint AS sent, sum(opened)::bigint AS opened,
       sum(unique_opened)::bigint AS unique_opened, sum(unique_clicked)::bigint AS unique_clicked
FROM (
    SELECT organization_id, event_source,
           count(*) FILTER (WHERE event_type LIKE '%%\_sent') AS sent,
           count(*) FILTER (WHERE event_type LIKE '%%\_opened') AS opened,
           count(DISTINCT contact_id) FILTER (WHERE event_type LIKE '%%\_opened') AS unique_opened,
           count(DISTINCT contact_id) FILTER (WHERE event_type LIKE '%%\_clicked') AS unique_clicked
    FROM analytics.contact_activity
    WHERE created_at >= %(start)s AND created_at < %(end)s AND event_source IS NOT NULL
      AND event_type ~ '^(email|sms|push)_'
    GROUP BY organization_id, event_source
) AS counted

-- clear -- Let the job begin without rows.
DELETE FROM analytics.campaign_daily_stats

-- written -- Sum up what the job wrote.
SELECT count(*)::bigint AS campaigns, sum(sent)::bigint AS sent, sum(opened)::bigint AS opened,
       sum(unique_opened)::bigint AS unique_opened, sum(unique_clicked)::bigint AS unique_clicked
FROM analytics.campaign_daily_stats
