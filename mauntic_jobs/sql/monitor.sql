-- What in the delivery ledger is worth an alert.

-- held -- Deliveries that have been ambiguous for long, by channel, and how many of them only a human can decide.
SELECT channel, count(*) AS deliveries, count(*) FILTER (WHERE until IS NULL) AS held, min(updated_at) AS since
FROM mauntic_jobs.deliveries
WHERE state = 'ambiguous' AND updated_at <= %(before)s
GROUP BY channel
ORDER BY channel
