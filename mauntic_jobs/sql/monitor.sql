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

-- deferred -- Deliveries that were asked for long ago and wait for a provider that works, by channel. Those that wait for
-- their domain's warm-up are well; they are due last, at the next midnight. So are those whose receiver asks to wait.
SELECT channel, count(*) AS deliveries, count(DISTINCT organization_id) AS organizations, min(created_at) AS since
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
