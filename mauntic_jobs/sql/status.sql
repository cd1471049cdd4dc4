-- How everything stands, in a handful of bounded queries: each reads a few rows of an index, however many there are.

-- history -- For each job: its latest success and what it counted, and how long its latest successes took, oldest first.
SELECT wanted.job, latest.finished_at, latest.counters, latest.error AS problems,
       coalesce(recent.seconds, '{}') AS seconds
FROM unnest(%(jobs)s::text[]) AS wanted (job)
LEFT JOIN LATERAL (
    SELECT finished_at, counters, error
    FROM mauntic_jobs.runs
    WHERE runs.job = wanted.job AND status = 'succeeded'
    ORDER BY started_at DESC LIMIT 1
) AS latest ON true
LEFT JOIN LATERAL (
    SELECT array_agg(extract(EPOCH FROM finished_at - started_at)::float8 ORDER BY started_at) AS seconds
    FROM (
        SELECT started_at, finished_at
        FROM (
            SELECT started_at, finished_at, status
            FROM mauntic_jobs.runs
            WHERE runs.job = wanted.job
            ORDER BY started_at DESC LIMIT 20 * %(most)s
        ) AS late
        WHERE status = 'succeeded'
        ORDER BY started_at DESC LIMIT %(most)s
    ) AS succeeded
) AS recent ON true

-- deliveries -- How many deliveries wait, by channel and state, and since when; of each state at most `most` are counted.
-- `held` is what a human must decide, `warming_up` what waits for a domain's next day, `quiet_hours` for the end of those
-- of its recipient, `asked_to_wait` what its receiver wants later; `failed` and `expired` are those since `since`, `refused` those of them that failed because of their
-- recipients.
SELECT channel, state, count(*) AS deliveries, min(updated_at) AS oldest, min(until) AS next
FROM (
    (
        SELECT channel, 'held' AS state, updated_at, until
        FROM mauntic_jobs.deliveries WHERE unsent_state = 'ambiguous' AND unsent_at IS NULL LIMIT %(most)s
    ) UNION ALL (
        SELECT channel, 'ambiguous' AS state, updated_at, until
        FROM mauntic_jobs.deliveries WHERE unsent_state = 'ambiguous' AND unsent_at IS NOT NULL LIMIT %(most)s
    ) UNION ALL (
        SELECT
            channel,
            coalesce((
                SELECT wait.name FROM unnest(%(waits)s::text[], %(wait_names)s::text[]) AS wait (pattern, name)
                WHERE reason LIKE wait.pattern
            ), 'deferred') AS state,
            updated_at, until
        FROM mauntic_jobs.deliveries WHERE unsent_state = 'deferred' LIMIT %(most)s
    ) UNION ALL (
        SELECT channel, state, updated_at, until
        FROM mauntic_jobs.deliveries
        WHERE state = 'sending' AND claimed_at >= (SELECT swept_to FROM mauntic_jobs.lease_sweep) LIMIT %(most)s
    ) UNION ALL (
        SELECT channel, state, updated_at, until
        FROM mauntic_jobs.deliveries WHERE unsent_state = 'claimed' LIMIT %(most)s
    ) UNION ALL (
        SELECT
            channel, CASE WHEN reject_reason = any(%(recipients)s::text[]) THEN 'refused' ELSE 'failed' END AS state,
            updated_at, until
        FROM mauntic_jobs.deliveries WHERE unsent_state = 'failed' AND unsent_at >= %(since)s LIMIT %(most)s
    ) UNION ALL (
        SELECT channel, state, updated_at, until
        FROM mauntic_jobs.deliveries WHERE unsent_state = 'expired' AND unsent_at >= %(since)s LIMIT %(most)s
    )
) AS open
GROUP BY channel, state
ORDER BY channel, state

-- alerts -- The alerts that are open, the latest first.
SELECT id, cause, severity, summary, action, opened_at, problem
FROM mauntic_jobs.alerts
WHERE closed_at IS NULL
ORDER BY opened_at DESC
LIMIT %(most)s

-- pauses -- Providers that are paused by circuit breakers, the longest first, and how many messages wait for one of their
-- organization and channel, of at most `most`; those whose wait is over are on the queue again. A pause that has ended and for which nothing waits is left out.
WITH waiting AS MATERIALIZED (
    SELECT organization_id, channel, count(*) AS deliveries
    FROM (
        SELECT organization_id, channel
        FROM mauntic_jobs.deliveries
        WHERE
            unsent_state = 'deferred' AND reason NOT LIKE ALL (%(waits)s::text[])
            AND unsent_at > %(now)s AND EXISTS (SELECT FROM mauntic_jobs.provider_pauses)
        LIMIT %(most)s
    ) AS deferred
    GROUP BY organization_id, channel
)
SELECT
    pause.organization_id, pause.provider_id, pause.channel, pause.provider, pause.reason, pause.tries, pause.since,
    pause.until, coalesce(waiting.deliveries, 0) AS held
FROM mauntic_jobs.provider_pauses AS pause
LEFT JOIN waiting ON waiting.organization_id = pause.organization_id AND waiting.channel = pause.channel
WHERE waiting.deliveries > 0 OR pause.until > %(ended)s
ORDER BY pause.since, pause.provider
LIMIT %(most_pauses)s
