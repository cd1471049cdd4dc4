-- Alerts. Who is telling one is judged by the database's clock, which all hosts share.

-- open -- Write down alerts: those that are open already were seen once more.
INSERT INTO mauntic_jobs.alerts AS known (fingerprint, cause, severity, summary, action, details, opened_at, seen_at)
SELECT fingerprint, cause, severity, summary, action, details, %(now)s, %(now)s
FROM jsonb_to_recordset(%(alerts)s::jsonb) AS alert (
    fingerprint text, cause text, severity text, summary text, action text, details jsonb
)
ORDER BY fingerprint
ON CONFLICT (fingerprint) WHERE closed_at IS NULL DO UPDATE
SET
    severity = EXCLUDED.severity, summary = EXCLUDED.summary, action = EXCLUDED.action, details = EXCLUDED.details,
    seen_at = greatest(known.seen_at, EXCLUDED.seen_at), seen = known.seen + 1

-- close -- End the open alerts of some causes, those of `only` if it is given, but for those of `keep` and those seen since.
-- With `until`, only those of runs whose window ends no later.
UPDATE mauntic_jobs.alerts
SET
    closed_at = %(now)s,
    close_notified_at = CASE WHEN notified_by IS NULL THEN %(now)s END
WHERE
    closed_at IS NULL AND cause = any(%(causes)s::text[]) AND seen_at <= %(now)s
    AND (%(only)s::text[] IS NULL OR fingerprint = any(%(only)s::text[]))
    AND NOT fingerprint = any(%(keep)s::text[])
    AND (%(until)s::timestamptz IS NULL OR (details ->> 'window_end')::timestamptz <= %(until)s::timestamptz)

-- claim -- Claim alerts to be sent: those that are new, open for long, or over.
UPDATE mauntic_jobs.alerts
SET claimed_until = clock_timestamp() + %(lease)s
WHERE id IN (
    SELECT id
    FROM mauntic_jobs.alerts
    WHERE
        close_notified_at IS NULL
        AND (claimed_until IS NULL OR claimed_until < clock_timestamp())
        AND CASE
            WHEN closed_at IS NULL
                THEN notified_at IS NULL OR (severity <> 'info' AND notified_at <= %(now)s - %(repeat)s)
            -- What has been over for so long is not sent any more.
            ELSE closed_at > %(now)s - %(repeat)s
        END
    ORDER BY opened_at
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
)
RETURNING id, fingerprint, cause, severity, summary, action, details, opened_at, notified_at, closed_at, seen

-- told -- Write down what became of claimed alerts. One that ended while it was told of leaves its end to be told.
UPDATE mauntic_jobs.alerts AS alert
SET
    notified_at = CASE WHEN outcome.closing OR outcome.problem IS NOT NULL THEN alert.notified_at ELSE %(now)s END,
    notified_by = CASE
        WHEN outcome.closing OR outcome.problem IS NOT NULL THEN alert.notified_by ELSE outcome.channel
    END,
    close_notified_at = CASE
        WHEN outcome.problem IS NOT NULL THEN alert.close_notified_at
        WHEN outcome.closing THEN %(now)s
        WHEN outcome.channel IS NULL THEN alert.close_notified_at
    END,
    problem = outcome.problem,
    claimed_until = CASE WHEN outcome.problem IS NOT NULL THEN clock_timestamp() + %(pause)s END
FROM jsonb_to_recordset(%(outcomes)s::jsonb) AS outcome (id bigint, closing boolean, channel text, problem text)
WHERE alert.id = outcome.id

-- list -- List alerts, those opened last first. Every filter may be null.
SELECT
    id, fingerprint, cause, severity, summary, action, details, opened_at, seen_at, seen, notified_at, notified_by,
    problem, closed_at, close_notified_at
FROM mauntic_jobs.alerts
WHERE (NOT %(only_open)s OR closed_at IS NULL) AND (%(since)s::timestamptz IS NULL OR seen_at >= %(since)s)
ORDER BY id DESC
LIMIT %(limit)s
