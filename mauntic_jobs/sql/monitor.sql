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
-- reason. Those that wait for their domain's warm-up are well; they are due last, at the next midnight. So are those that
-- wait for the end of quiet hours, and those whose receiver asks to wait.
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
WHERE reason NOT LIKE ALL (%(waits)s::text[]) AND created_at <= %(before)s
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

-- waiting -- Messages whose receivers asked to wait since an instant, which is the `wait` that their reason begins with, by
-- organization, channel and provider, with the most common reason; not fewer than `fewest`.
SELECT
    organization_id, channel, provider_id, min(provider) AS provider, count(*) AS deliveries,
    mode() WITHIN GROUP (ORDER BY reason) AS reason
FROM (
    SELECT organization_id, channel, provider_id, provider, updated_at, reason
    FROM mauntic_jobs.deliveries
    WHERE unsent_state = 'deferred'
    ORDER BY unsent_at
    LIMIT %(most)s
) AS deferred
WHERE starts_with(reason, %(wait)s) AND updated_at >= %(since)s
GROUP BY organization_id, channel, provider_id
HAVING count(*) >= %(fewest)s
ORDER BY deliveries DESC, organization_id, channel, provider_id

-- counted_to -- Lock the time up to which sent messages have been counted, so that each is counted once.
SELECT counted_to FROM mauntic_jobs.sent_count FOR UPDATE

-- count_minutes -- Count the messages that were claimed in some minutes, and sent.
INSERT INTO mauntic_jobs.sent_minutes (minute, organization_id, channel, provider_id, messages)
SELECT date_trunc('minute', claimed_at, 'UTC'), organization_id, channel, provider_id, count(*)
FROM mauntic_jobs.deliveries
WHERE state = 'sent' AND claimed_at >= %(first)s AND claimed_at < %(end)s
GROUP BY 1, 2, 3, 4

-- forget_minutes -- Delete the figures of minutes that nothing asks for any more.
DELETE FROM mauntic_jobs.sent_minutes WHERE minute < %(before)s

-- counted -- Note up to when sent messages have been counted.
UPDATE mauntic_jobs.sent_count SET counted_to = greatest(counted_to, %(end)s::timestamptz) WHERE is_only

-- sent -- Messages that some organizations have sent since an instant, by channel and provider: the figures of the
-- minutes before `settled`, and what was claimed since.
SELECT organization_id, channel, provider_id, sum(messages)::bigint AS messages
FROM (
    SELECT organization_id, channel, provider_id, messages
    FROM mauntic_jobs.sent_minutes
    WHERE minute >= %(since)s AND organization_id = any(%(organizations)s::uuid[])
    UNION ALL
    SELECT organization_id, channel, provider_id, 1
    FROM mauntic_jobs.deliveries
    WHERE state = 'sent' AND claimed_at >= %(settled)s AND organization_id = any(%(organizations)s::uuid[])
) AS sent
GROUP BY organization_id, channel, provider_id

-- refusing -- Providers that circuit breakers leave alone, those that refuse for longest first. A pause that has ended
-- before an instant, and that nothing has renewed, is left out.
SELECT organization_id, channel, provider_id, provider, reason, tries, since
FROM mauntic_jobs.provider_pauses
WHERE until > %(ended)s
ORDER BY since, provider_id
LIMIT %(most)s
