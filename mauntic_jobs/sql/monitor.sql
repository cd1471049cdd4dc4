-- What in the delivery ledger is worth an alert. Of each state at most `most` deliveries are looked at: those that have
-- to be decided, or are due first.

-- held -- Deliveries that have been ambiguous for long, by channel, and how many of them only a human can decide.
SELECT channel, count(*) AS deliveries, count(*) FILTER (WHERE until IS NULL) AS held, min(updated_at) AS since
FROM (
    SELECT channel, until, updated_at
    FROM mauntic_jobs.deliveries
    WHERE unsent_state = 'ambiguous'
    ORDER BY unsent_at DESC
    LIMIT %(most)s
) AS uncertain
WHERE updated_at <= %(before)s
GROUP BY channel
ORDER BY channel

-- deferred -- Deliveries that were asked for long ago and wait for a provider that works, by channel, with the most common
-- reason. Those that wait for their domain's warm-up are well; they are due last, at the next midnight. So are those whose
-- receiver asks to wait.
SELECT
    channel, count(*) AS deliveries, count(DISTINCT organization_id) AS organizations, min(created_at) AS since,
    mode() WITHIN GROUP (ORDER BY reason) AS reason
FROM (
    SELECT channel, organization_id, created_at, reason
    FROM mauntic_jobs.deliveries
    WHERE unsent_state = 'deferred'
    ORDER BY unsent_at
    LIMIT %(most)s
) AS waiting
WHERE reason NOT LIKE 'warm-up:%%' AND reason NOT LIKE 'the receiver asks to wait:%%' AND created_at <= %(before)s
GROUP BY channel
ORDER BY channel

-- expired -- Deliveries that have expired since an instant, by channel: nothing was sent.
SELECT channel, count(*) AS deliveries, count(DISTINCT organization_id) AS organizations, min(unsent_at) AS since
FROM (
    SELECT channel, organization_id, unsent_at
    FROM mauntic_jobs.deliveries
    WHERE unsent_state = 'expired' AND unsent_at >= %(since)s
    ORDER BY unsent_at DESC
    LIMIT %(most)s
) AS expired
GROUP BY channel
ORDER BY channel

-- refused -- Messages that failed since an instant because of their recipients, by organization, channel and class; not
-- fewer than `fewest`.
SELECT organization_id, channel, reject_reason, count(*) AS deliveries
FROM mauntic_jobs.deliveries
WHERE unsent_state = 'failed' AND unsent_at >= %(since)s AND reject_reason = any(%(classes)s::text[])
GROUP BY organization_id, channel, reject_reason
HAVING count(*) >= %(fewest)s
ORDER BY deliveries DESC, organization_id, channel, reject_reason

-- sent -- Messages that some organizations have sent since an instant, by channel.
SELECT organization_id, channel, count(*) AS deliveries
FROM mauntic_jobs.deliveries
WHERE state = 'sent' AND claimed_at >= %(since)s AND organization_id = any(%(organizations)s::uuid[])
GROUP BY organization_id, channel
