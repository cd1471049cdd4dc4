-- Dead letters: the failed runs of the ledger, the slots that they hold, and what was discarded.

-- failed_runs -- List the latest failure of each window that has not been covered since, oldest first.
-- A later success of a job that looks at the present covers every window. For the others, `next_start` and `next_end` are
-- the window that has succeeded since and follows it, which may cover it as part of a whole day or month.
WITH successes AS MATERIALIZED (
    SELECT job, options::text AS options, max(id) AS id
    FROM mauntic_jobs.runs
    WHERE status = 'succeeded' AND job = any(%(present)s::text[])
    GROUP BY job, options::text
)
SELECT failed.*, next.window_start AS next_start, next.window_end AS next_end
FROM (
    SELECT DISTINCT ON (job, window_start, window_end, options::text)
        id, job, slot, window_start, window_end, options, attempt, error, started_at, finished_at
    FROM mauntic_jobs.runs
    WHERE
        status IN ('failed', 'lost') AND (%(id)s::bigint IS NULL OR id = %(id)s)
        AND (%(since)s::timestamptz IS NULL OR finished_at >= %(since)s) AND finished_at <= %(until)s
        AND NOT EXISTS (
            SELECT FROM mauntic_jobs.discarded
            WHERE queue = 'run' AND job_id = runs.id::text
        )
    ORDER BY job, window_start, window_end, options::text, id DESC
) AS failed
LEFT JOIN LATERAL (
    SELECT window_start, window_end
    FROM mauntic_jobs.runs
    WHERE
        runs.job = failed.job AND status = 'succeeded' AND runs.id > failed.id
        AND (options::text = '{}' OR options::text = failed.options::text)
        AND window_start >= failed.window_start
    ORDER BY window_start
    LIMIT 1
) AS next ON true
LEFT JOIN LATERAL (
    -- Looked up for each failure: a join by the job would compare all failures with all successes.
    SELECT id
    FROM mauntic_jobs.runs AS done
    WHERE
        done.job = failed.job AND done.status = 'succeeded' AND done.id > failed.id
        AND (done.options::text = '{}' OR done.options::text = failed.options::text)
        AND tstzrange(done.window_start, done.window_end) @> tstzrange(failed.window_start, failed.window_end)
    LIMIT 1
) AS whole ON true
WHERE
    NOT EXISTS (
        SELECT FROM successes AS done
        WHERE done.job = failed.job AND done.id > failed.id AND done.options IN ('{}', failed.options::text)
    )
    AND whole.id IS NULL
ORDER BY failed.finished_at, failed.id

-- later_windows -- The windows that have succeeded since failed runs, from `starts` to `ends`, joined where they meet.
SELECT
    failed.id,
    (
        SELECT coalesce(json_agg(json_build_array(lower(part), upper(part)) ORDER BY part), '[]')
        FROM (
            SELECT unnest(range_agg(tstzrange(done.window_start, done.window_end))) AS part
            FROM mauntic_jobs.runs AS done
            WHERE
                done.job = failed.job AND done.status = 'succeeded' AND done.id > failed.id
                AND (done.options::text = '{}' OR done.options::text = failed.options::text)
                AND tstzrange(done.window_start, done.window_end) && tstzrange(asked.start, asked.finish)
        ) AS joined
    ) AS windows
FROM unnest(%(ids)s::bigint[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) AS asked (id, start, finish)
INNER JOIN mauntic_jobs.runs AS failed ON failed.id = asked.id

-- reject_reasons -- Why providers refused deliveries, by organization and id.
SELECT delivery.organization_id, delivery.delivery_id, delivery.reject_reason
FROM unnest(%(organizations)s::uuid[], %(deliveries)s::text[]) AS wanted (organization_id, delivery_id)
INNER JOIN mauntic_jobs.deliveries AS delivery
    ON delivery.organization_id = wanted.organization_id AND delivery.delivery_id = wanted.delivery_id
WHERE delivery.state = 'failed'

-- slot_holder -- Name the run that answers a slot.
SELECT id, status FROM mauntic_jobs.runs WHERE job = %(job)s AND slot = %(slot)s AND claims_slot

-- free_slot -- Let a slot be run again whose run has failed.
UPDATE mauntic_jobs.runs SET claims_slot = false
WHERE id = %(id)s AND claims_slot AND status = 'failed'

-- keep -- Keep copies of dead letters that are about to leave; what was kept before stays as it is.
INSERT INTO mauntic_jobs.discarded (
    queue, job_id, name, fingerprint, reason, payload, attempts, failed_at, discarded_at, discarded_by
)
SELECT queue, job_id, name, fingerprint, reason, payload::json, attempts, failed_at, %(now)s, %(by)s
FROM unnest(
    %(queues)s::text[], %(jobs)s::text[], %(names)s::text[], %(fingerprints)s::text[], %(reasons)s::text[],
    %(payloads)s::text[], %(attempts)s::int[], %(times)s::timestamptz[]
) AS letter (queue, job_id, name, fingerprint, reason, payload, attempts, failed_at)
ON CONFLICT (queue, job_id, failed_at) DO NOTHING
