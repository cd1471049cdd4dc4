-- What receivers hold against an organization: hard bounces and complaints, of messages that any engine has sent.

-- outcomes -- Hard bounces and complaints by organization and channel, within an hour and within a day, of those with at
-- least `fewest` of one kind. Where sending was paused for them and is resumed, only what came after that counts. Soft
-- bounces are left out: SES calls them Transient and Undetermined, Postmark SoftBounce and Transient, SendGrid blocked.
WITH resumed AS (
    SELECT organization_id, channel, max(ends) AS resumed_at
    FROM mauntic_jobs.restrictions
    WHERE set_by = %(by)s AND ends > %(day)s AND ends <= %(now)s
    GROUP BY organization_id, channel
)
SELECT
    outcome.organization_id, outcome.channel, max(resumed.resumed_at) AS resumed_at,
    count(*) FILTER (WHERE kind = 'bounced' AND at >= %(hour)s) AS bounced_hour,
    count(*) FILTER (WHERE kind = 'bounced') AS bounced_day,
    count(*) FILTER (WHERE kind = 'bounced' AND unsent AND at >= %(hour)s) AS unsent_hour,
    count(*) FILTER (WHERE kind = 'bounced' AND unsent) AS unsent_day,
    count(*) FILTER (WHERE kind = 'complained' AND at >= %(hour)s) AS complained_hour,
    count(*) FILTER (WHERE kind = 'complained') AS complained_day
FROM (
    SELECT organization_id, channel, event_type AS kind, created_at AT TIME ZONE 'UTC' AS at, false AS unsent
    FROM delivery.delivery_events
    WHERE
        event_type IN ('bounced', 'complained') AND created_at >= %(day)s AT TIME ZONE 'UTC'
        AND lower(coalesce(metadata ->> 'bounceType', metadata ->> 'bounce_type', metadata ->> 'type', '')) NOT IN (
            'transient', 'undetermined', 'soft', 'softbounce', 'soft_bounce', 'blocked'
        )
    UNION ALL
    SELECT organization_id, channel, 'bounced', unsent_at, true
    FROM mauntic_jobs.deliveries
    WHERE unsent_state = 'failed' AND unsent_at >= %(day)s AND reject_reason = 'bounced'
) AS outcome
LEFT JOIN resumed
    ON resumed.organization_id = outcome.organization_id AND resumed.channel = outcome.channel
WHERE outcome.at > coalesce(resumed.resumed_at, '-infinity')
GROUP BY outcome.organization_id, outcome.channel
HAVING
    count(*) FILTER (WHERE kind = 'bounced') >= %(fewest_bounced)s
    OR count(*) FILTER (WHERE kind = 'complained') >= %(fewest_complained)s
ORDER BY outcome.organization_id, outcome.channel

-- held -- Which organizations and channels are paused, by whom and for what, the monitor's own pauses first.
SELECT id, organization_id, channel, why, set_by = %(by)s AS own
FROM mauntic_jobs.restrictions
WHERE rate = 0 AND ends > %(now)s AND provider_id IS NULL AND campaign_id IS NULL
ORDER BY own DESC, id

-- lock -- Let monitors on several hosts pause one after the other, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('mauntic-jobs/reputation', 0))
