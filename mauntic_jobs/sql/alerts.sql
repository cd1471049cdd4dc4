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

-- close -- End the open alerts of a cause, those of `only` if it is given, but for those of `keep` and those seen later.
UPDATE mauntic_jobs.alerts
SET
    closed_at = %(now)s,
    close_notified_at = CASE WHEN notified_by IS NULL THEN %(now)s END,
    claimed_until = NULL
WHERE
    closed_at IS NULL AND cause = %(cause)s AND seen_at <= %(now)s
    AND (%(only)s::text[] IS NULL OR fingerprint = any(%(only)s::text[]))
    AND NOT fingerprint = any(%(keep)s::text[])
