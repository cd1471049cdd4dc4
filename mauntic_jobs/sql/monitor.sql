-- What in the delivery ledger is worth an alert.

-- held -- Deliveries that have been ambiguous for long, by channel, and how many of them only a human can decide.
SELECT channel, count(*) AS deliveries, count(*) FILTER (WHERE until IS NULL) AS held, min(updated_at) AS since
FROM mauntic_jobs.deliveries
WHERE state = 'ambiguous' AND updated_at <= %(before)s
GROUP BY channel
ORDER BY channel

-- deferred -- Deliveries that were asked for long ago and wait for a provider that works, by channel. Those that wait for
-- their domain's warm-up are well.
SELECT channel, count(*) AS deliveries, count(DISTINCT organization_id) AS organizations, min(created_at) AS since
FROM mauntic_jobs.deliveries
WHERE state = 'deferred' AND reason NOT LIKE 'warm-up:%%' AND created_at <= %(before)s
GROUP BY channel
ORDER BY channel
