-- The marker by which a loss of Redis' data is noticed. Instants are timestamptz.

-- read -- Return the marker of a queue prefix, and the loss that was not recovered from.
SELECT
    number, marked_at, lost_at, lost_since, kept_until
FROM mauntic_jobs.redis_marker
WHERE prefix = %(prefix)s

-- raise -- Note the number that Redis has now; others may have noted a later one.
INSERT INTO mauntic_jobs.redis_marker AS marker (prefix, number, marked_at)
VALUES (%(prefix)s, %(number)s, %(now)s)
ON CONFLICT (prefix) DO UPDATE
SET number = greatest(marker.number, EXCLUDED.number), marked_at = greatest(marker.marked_at, EXCLUDED.marked_at)

-- lose -- Note that Redis lost what came after `kept_until` (null for everything). Of several losses the first counts.
UPDATE mauntic_jobs.redis_marker
SET
    lost_since = coalesce(lost_since, marked_at),
    kept_until = CASE WHEN lost_at IS NULL THEN %(kept_until)s::timestamptz ELSE kept_until END,
    lost_at = coalesce(lost_at, %(now)s)
WHERE prefix = %(prefix)s

-- recover -- Note that what was lost is recovered.
UPDATE mauntic_jobs.redis_marker
SET lost_at = NULL, lost_since = NULL, kept_until = NULL, recovered_at = %(now)s
WHERE prefix = %(prefix)s AND lost_at IS NOT NULL
