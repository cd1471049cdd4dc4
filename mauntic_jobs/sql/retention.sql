-- Retention: what has become old in the tables of mauntic_jobs, and in no others.
-- `_old` names rows that are older than `before`, or of the tables with an upper bound not among the latest `most`;
-- `_delete` removes those of them that are still what they were.

-- delivery_pages -- Tell how many pages the deliveries fill.
SELECT pg_relation_size('mauntic_jobs.deliveries') / current_setting('block_size')::bigint AS pages

-- note_pruned -- Note that rows older than this may be gone.
INSERT INTO mauntic_jobs.pruned AS known (part, before) VALUES (%(part)s, %(before)s)
ON CONFLICT (part) DO UPDATE SET before = greatest(known.before, EXCLUDED.before)

-- unsettled_old -- Name deliveries, in a range of pages, that are not settled, and that nothing has moved for long.
SELECT ctid::text AS id
FROM mauntic_jobs.deliveries
WHERE
    ctid >= %(first)s::tid AND ctid < %(end)s::tid AND state IN ('claimed', 'sending', 'deferred', 'ambiguous')
    AND updated_at < %(before)s AND (until IS NULL OR until < %(before)s)

-- unsettled_rows -- Read those of them that have not moved since, but for rows that are in use.
SELECT organization_id, delivery_id, fence, state IN ('ambiguous', 'sending') OR possible_duplicate AS uncertain
FROM mauntic_jobs.deliveries
WHERE
    ctid = any(%(ids)s::tid[]) AND state IN ('claimed', 'sending', 'deferred', 'ambiguous')
    AND updated_at < %(before)s AND (until IS NULL OR until < %(before)s)
FOR UPDATE SKIP LOCKED

-- contact_data_old -- Name settled deliveries, in a range of pages, whose contact data is old.
SELECT ctid::text AS id
FROM mauntic_jobs.deliveries
WHERE
    ctid >= %(first)s::tid AND ctid < %(end)s::tid AND state IN ('sent', 'failed', 'suppressed', 'expired')
    AND updated_at < %(before)s AND (address IS NOT NULL OR payload IS NOT NULL)

-- contact_data_delete -- Forget whom deliveries went to and what they said; a hash of the address stays.
UPDATE mauntic_jobs.deliveries
SET
    address = NULL, payload = NULL,
    address_hash = coalesce(
        encode(sha256(convert_to(organization_id::text || ':' || lower(address), 'UTF8')), 'hex'), address_hash
    )
WHERE ctid = any(
    ARRAY(
        SELECT ctid
        FROM mauntic_jobs.deliveries
        WHERE
            ctid = any(%(ids)s::tid[]) AND state IN ('sent', 'failed', 'suppressed', 'expired')
            AND updated_at < %(before)s AND (address IS NOT NULL OR payload IS NOT NULL)
        FOR UPDATE SKIP LOCKED
    )
)

-- deliveries_old -- Name settled deliveries, in a range of pages, that are old.
SELECT ctid::text AS id
FROM mauntic_jobs.deliveries
WHERE
    ctid >= %(first)s::tid AND ctid < %(end)s::tid AND state IN ('sent', 'failed', 'suppressed', 'expired')
    AND updated_at < %(before)s

-- deliveries_delete -- Delete settled deliveries.
DELETE FROM mauntic_jobs.deliveries
WHERE ctid = any(
    ARRAY(
        SELECT ctid
        FROM mauntic_jobs.deliveries
        WHERE
            ctid = any(%(ids)s::tid[]) AND state IN ('sent', 'failed', 'suppressed', 'expired')
            AND updated_at < %(before)s
        FOR UPDATE SKIP LOCKED
    )
)

-- discarded_payloads_old -- Name discarded dead letters whose payload is old.
SELECT id
FROM mauntic_jobs.discarded
WHERE id > %(after)s AND discarded_at < %(before)s AND payload IS NOT NULL AND queue <> 'run'
ORDER BY id
LIMIT %(batch)s

-- discarded_payloads_delete -- Forget what discarded dead letters said.
UPDATE mauntic_jobs.discarded SET payload = NULL WHERE id = any(%(ids)s)

-- discarded_old -- Name discarded dead letters that are old; a run that is still in its ledger would be back on the list.
SELECT id
FROM mauntic_jobs.discarded
WHERE
    id > %(after)s
    AND (
        discarded_at < %(before)s
        OR id <= (SELECT id FROM mauntic_jobs.discarded ORDER BY id DESC OFFSET %(most)s LIMIT 1)
    )
    AND NOT (queue = 'run' AND EXISTS (SELECT FROM mauntic_jobs.runs WHERE runs.id::text = discarded.job_id))
ORDER BY id
LIMIT %(batch)s

-- discarded_delete -- Delete copies of discarded dead letters.
DELETE FROM mauntic_jobs.discarded WHERE id = any(%(ids)s)

-- backfills_old -- Name backfills that are over and old.
SELECT id
FROM mauntic_jobs.backfills
WHERE id > %(after)s AND ended_at < %(before)s
ORDER BY id
LIMIT %(batch)s

-- backfills_delete -- Delete backfills with their windows.
DELETE FROM mauntic_jobs.backfills WHERE id = any(%(ids)s) AND ended_at < %(before)s

-- runs_old -- Name runs that have ended and are old; the latest hundred of each job stay, and those of backfills that stay.
SELECT id
FROM mauntic_jobs.runs
WHERE
    id > %(after)s
    AND (
        finished_at < %(before)s
        OR id <= (SELECT id FROM mauntic_jobs.runs ORDER BY id DESC OFFSET %(most)s LIMIT 1)
    )
    AND status <> 'running'
    AND NOT EXISTS (SELECT FROM mauntic_jobs.backfills WHERE backfills.id = runs.backfill_id)
    AND started_at < (
        SELECT latest.started_at
        FROM mauntic_jobs.runs AS latest
        WHERE latest.job = runs.job
        ORDER BY latest.started_at DESC
        OFFSET 99 LIMIT 1
    )
ORDER BY id
LIMIT %(batch)s

-- runs_delete -- Delete runs.
DELETE FROM mauntic_jobs.runs WHERE id = any(%(ids)s) AND status <> 'running'

-- figure_changes_old -- Name changes of figures that are old. Their ids rise with their times, so that those before the
-- first young one are read, and no others.
SELECT id
FROM mauntic_jobs.figure_changes
WHERE
    id > %(after)s AND changed_at < %(before)s
    AND id < coalesce(
        (
            SELECT id FROM mauntic_jobs.figure_changes
            WHERE id > %(after)s AND changed_at >= %(before)s ORDER BY id LIMIT 1
        ),
        9223372036854775807
    )
ORDER BY id
LIMIT %(batch)s

-- figure_changes_delete -- Delete changes of figures.
DELETE FROM mauntic_jobs.figure_changes WHERE id = any(%(ids)s) AND changed_at < %(before)s

-- outbox_old -- Name jobs that were published, or were no longer wanted, and are old.
SELECT id
FROM mauntic_jobs.outbox
WHERE
    id > %(after)s AND published_at IS NOT NULL
    AND (
        published_at < %(before)s
        OR id <= (SELECT id FROM mauntic_jobs.outbox ORDER BY id DESC OFFSET %(most)s LIMIT 1)
    )
ORDER BY id
LIMIT %(batch)s

-- outbox_delete -- Delete published jobs.
DELETE FROM mauntic_jobs.outbox WHERE id = any(%(ids)s) AND published_at IS NOT NULL

-- alerts_old -- Name alerts that are over and old.
SELECT id
FROM mauntic_jobs.alerts
WHERE
    id > %(after)s AND closed_at IS NOT NULL
    AND (
        closed_at < %(before)s
        OR id <= (SELECT id FROM mauntic_jobs.alerts ORDER BY id DESC OFFSET %(most)s LIMIT 1)
    )
ORDER BY id
LIMIT %(batch)s

-- alerts_delete -- Delete alerts.
DELETE FROM mauntic_jobs.alerts WHERE id = any(%(ids)s) AND closed_at IS NOT NULL

-- duplicates_old -- Name duplicates that were moved aside long ago.
SELECT id
FROM mauntic_jobs.duplicates
WHERE id > %(after)s AND moved_at < %(before)s
ORDER BY id
LIMIT %(batch)s

-- duplicates_delete -- Delete duplicates that were moved aside.
DELETE FROM mauntic_jobs.duplicates WHERE id = any(%(ids)s)

-- pauses_old -- Name paused providers that nothing has tried since: they were removed, or are not used.
SELECT provider_id::text AS id
FROM mauntic_jobs.provider_pauses
WHERE provider_id::text > %(after)s::text AND until < %(before)s
ORDER BY provider_id::text
LIMIT %(batch)s

-- pauses_delete -- Delete pauses of providers that nothing tries.
DELETE FROM mauntic_jobs.provider_pauses WHERE provider_id::text = any(%(ids)s) AND until < %(before)s

-- restrictions_old -- Name pauses and rates that have ended.
SELECT id
FROM mauntic_jobs.restrictions
WHERE id > %(after)s AND ends < %(before)s
ORDER BY id
LIMIT %(batch)s

-- restrictions_delete -- Delete pauses and rates that have ended.
DELETE FROM mauntic_jobs.restrictions WHERE id = any(%(ids)s) AND ends < %(before)s

-- frequency_caps_old -- Name contacts whose messages are too old to count.
SELECT ctid::text AS id
FROM mauntic_jobs.frequency_caps
WHERE ctid > coalesce(nullif(%(after)s::text, '0'), '(0,0)')::tid AND updated_at < %(before)s
ORDER BY ctid
LIMIT %(batch)s

-- frequency_caps_delete -- Forget them.
DELETE FROM mauntic_jobs.frequency_caps WHERE ctid = any(%(ids)s::tid[]) AND updated_at < %(before)s
