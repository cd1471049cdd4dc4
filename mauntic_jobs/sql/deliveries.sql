-- The delivery ledger. Its leases and waits are judged by the database's clock, which all processes share.

-- check -- Fail where there is no ledger, or where row-level security would hide rows that claims depend on.
SELECT
FROM mauntic_jobs.deliveries, delivery.suppressions, delivery.delivery_events, delivery.delivery_jobs, crm.contacts
LIMIT 0

-- clock -- Tell the time of the server, in seconds since 1970.
SELECT extract(epoch FROM clock_timestamp())::float8 AS seconds

-- claim -- Take deliveries in hand: migration 0009 says how.
SELECT json_agg(answer) FROM mauntic_jobs.claim_deliveries(%(claims)s::json, %(lease)s::interval) AS answer

-- record -- Write down what became of claimed deliveries: migration 0009 says how.
SELECT json_agg(answer)
FROM mauntic_jobs.record_deliveries(
    %(results)s::json, %(resend_after)s::interval, %(record_activity)s::boolean
) AS answer

-- record_alone -- Write into the ledger alone what became of claimed deliveries: migration 0009 says how.
SELECT json_agg(answer)
FROM mauntic_jobs.settle_deliveries(%(results)s::json, %(resend_after)s::interval, %(refused)s::text) AS answer

-- unrecorded -- Results whose events and counts Postgres has refused, a page after the last key given.
SELECT organization_id, delivery_id, fence, unrecorded
FROM mauntic_jobs.deliveries
WHERE
    unrecorded IS NOT NULL AND (organization_id, delivery_id) > (%(organization)s::uuid, %(delivery)s)
ORDER BY organization_id, delivery_id
LIMIT %(page)s

-- start_jobs -- Note that the sending of these campaigns has begun.
UPDATE delivery.delivery_jobs AS job
SET status = 'sending'
FROM unnest(%(organizations)s::uuid[], %(jobs)s::uuid[]) AS started (organization_id, id)
WHERE job.id = started.id AND job.organization_id = started.organization_id AND job.status = 'queued'

-- deferrals -- How often receivers have asked to wait with a delivery.
SELECT count(*) AS deferrals
FROM mauntic_jobs.deliveries AS delivery
CROSS JOIN LATERAL jsonb_array_elements(delivery.attempts) AS attempt (value)
WHERE
    delivery.organization_id = %(organization)s AND delivery.delivery_id = %(delivery)s
    AND attempt.value ->> 'outcome' = 'deferred'

-- end_leases -- Name what was being sent by processes that have died, or have lost sight of it. It was claimed
-- after the sweep, or less than `behind` before: its claim may have been committed when the sweep had passed it.
UPDATE mauntic_jobs.deliveries AS delivery
SET
    state = 'ambiguous',
    reason = 'the process that was sending it died or was cut off',
    until = CASE
        WHEN NOT (delivery.channel = 'sms' OR delivery.possible_duplicate OR delivery.resends > 0)
            THEN greatest(delivery.sending_at, clock_timestamp()) + %(resend_after)s::interval
    END,
    updated_at = clock_timestamp()
WHERE (delivery.organization_id, delivery.delivery_id) IN (
    SELECT organization_id, delivery_id
    FROM mauntic_jobs.deliveries
    WHERE
        state = 'sending' AND until < clock_timestamp()
        AND claimed_at >= (SELECT swept_to - %(behind)s::interval FROM mauntic_jobs.lease_sweep)
    ORDER BY claimed_at
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
)
RETURNING organization_id, delivery_id, channel, until IS NULL AS held

-- doubt -- Note that a worker of another program may have sent a delivery since a time, and died before it said so. What is
-- closed or being sent stays so, and is named as a possible duplicate; what is ambiguous is named already.
INSERT INTO mauntic_jobs.deliveries AS delivery (
    organization_id, delivery_id, channel, state, reason, until, job_id, contact_id, campaign_id, queue_job, owner,
    sending_at
)
VALUES (
    %(organization)s, %(delivery)s, %(channel)s, 'ambiguous',
    'a worker of another program died while it had it in hand',
    CASE WHEN %(channel)s::text <> 'sms' THEN clock_timestamp() + %(resend_after)s::interval END,
    %(job)s, %(contact)s, %(campaign)s, %(queue_job)s, %(owner)s, least(%(since)s::timestamptz, clock_timestamp())
)
ON CONFLICT (organization_id, delivery_id) DO UPDATE SET
    state = CASE WHEN delivery.state IN ('claimed', 'deferred') THEN EXCLUDED.state ELSE delivery.state END,
    reason = CASE WHEN delivery.state IN ('claimed', 'deferred') THEN EXCLUDED.reason ELSE delivery.reason END,
    until = CASE
        WHEN delivery.state NOT IN ('claimed', 'deferred') THEN delivery.until
        WHEN NOT (delivery.possible_duplicate OR delivery.resends > 0) THEN EXCLUDED.until
    END,
    -- A result of the claim before it counts no more.
    fence = delivery.fence + (delivery.state IN ('claimed', 'deferred'))::int,
    sending_at = CASE
        WHEN delivery.possible_duplicate OR delivery.state NOT IN ('claimed', 'deferred') THEN delivery.sending_at
        -- What this program has recorded before, it has not sent.
        ELSE greatest(EXCLUDED.sending_at, delivery.updated_at)
    END,
    possible_duplicate = delivery.possible_duplicate OR delivery.state NOT IN ('claimed', 'deferred'),
    updated_at = clock_timestamp()
WHERE delivery.state <> 'ambiguous'

-- swept -- Note up to when no delivery is being sent any more that was claimed before, so that none is read again.
UPDATE mauntic_jobs.lease_sweep AS sweep
SET swept_to = greatest(
    sweep.swept_to,
    (
        SELECT coalesce(min(delivery.claimed_at), clock_timestamp() - %(lease)s::interval)
        FROM mauntic_jobs.deliveries AS delivery
        WHERE
            delivery.state = 'sending' AND delivery.claimed_at >= sweep.swept_to
            AND delivery.claimed_at < clock_timestamp() - %(lease)s::interval
    )
)

-- sweep_again -- Look once more for the lease of a delivery: it was committed after the sweep had passed it.
UPDATE mauntic_jobs.lease_sweep AS sweep
SET swept_to = delivery.claimed_at
FROM mauntic_jobs.deliveries AS delivery
WHERE
    delivery.organization_id = %(organization)s AND delivery.delivery_id = %(delivery)s AND delivery.state = 'sending'
    AND delivery.claimed_at < sweep.swept_to

-- keep_payload -- Keep what an open delivery says, of which only its queue had it: the process that claimed it has died.
UPDATE mauntic_jobs.deliveries
SET payload = %(payload)s::jsonb
WHERE
    organization_id = %(organization)s AND delivery_id = %(delivery)s AND payload IS NULL
    AND unsent_state IN ('claimed', 'deferred', 'ambiguous')

-- contact -- The contacts that messages are addressed to.
SELECT
    contact.id, contact.organization_id, contact.email, contact.phone, contact.first_name, contact.last_name,
    contact.status, contact.stage, contact.custom_fields
FROM unnest(%(organizations)s::uuid[], %(ids)s::uuid[]) AS wanted (organization_id, id)
INNER JOIN crm.contacts AS contact ON contact.id = wanted.id AND contact.organization_id = wanted.organization_id

-- template -- The templates that messages are made of.
SELECT
    template.id, template.organization_id, template.type, template.subject, template.body_html, template.body_text,
    template.is_active
FROM unnest(%(organizations)s::uuid[], %(ids)s::uuid[]) AS wanted (organization_id, id)
INNER JOIN content.templates AS template
    ON template.id = wanted.id AND template.organization_id = wanted.organization_id

-- company -- The companies that contacts belong to; of several the one that was created first.
SELECT DISTINCT ON (wanted.organization_id, wanted.id) wanted.organization_id, wanted.id, company.name
FROM unnest(%(organizations)s::uuid[], %(ids)s::uuid[]) AS wanted (organization_id, id)
INNER JOIN crm.contact_companies AS belongs ON belongs.contact_id = wanted.id
INNER JOIN crm.companies AS company
    ON company.id = belongs.company_id AND company.organization_id = wanted.organization_id
ORDER BY wanted.organization_id, wanted.id, company.created_at, company.id

-- segment -- The segment of a name; of several the one that was created first.
SELECT id, organization_id, type, filter_criteria
FROM crm.segments
WHERE organization_id = %(organization)s AND lower(btrim(name)) = lower(%(name)s)
ORDER BY created_at, id
LIMIT 1

-- template_owner -- The organization that a template belongs to.
SELECT organization_id FROM content.templates WHERE id = %(template)s

-- providers -- The active providers of an organization and a channel, the one to be tried first first.
SELECT id, provider_type, config
FROM delivery.provider_configs
WHERE organization_id = %(organization)s AND channel = %(channel)s AND is_active
ORDER BY priority DESC, created_at, id

-- domain -- When the warm-up of a sending domain began, in UTC; beyond the years that Python has, the nearest of them.
SELECT
    CASE
        WHEN count(*) > 0 THEN greatest(least(min(created_at), timestamp '9999-12-30'), timestamp '0001-01-02')
    END AS created_at
FROM delivery.sending_domains
WHERE organization_id = %(organization)s AND lower(domain) = %(domain)s

-- owed -- Deliveries that wait for no human and are not being sent, a page after the last key given.
SELECT organization_id, delivery_id, channel, queue_job, fence, payload
FROM mauntic_jobs.deliveries
WHERE
    unsent_state IN ('claimed', 'deferred', 'ambiguous') AND (unsent_state <> 'ambiguous' OR until IS NOT NULL)
    AND (organization_id, delivery_id) > (%(organization)s::uuid, %(delivery)s)
ORDER BY organization_id, delivery_id
LIMIT %(page)s

-- being_sent -- How many deliveries are being sent, or were when their process died less than a lease ago; of those that
-- were claimed after the sweep, or less than `behind` before.
SELECT count(*) AS deliveries
FROM mauntic_jobs.deliveries
WHERE state = 'sending' AND claimed_at >= (SELECT swept_to - %(behind)s::interval FROM mauntic_jobs.lease_sweep)

-- uncertain -- Whether deliveries are being sent, or have become ambiguous within a time.
SELECT EXISTS (
    SELECT
    FROM mauntic_jobs.deliveries
    WHERE state = 'sending' AND claimed_at >= (SELECT swept_to FROM mauntic_jobs.lease_sweep)
) OR EXISTS (
    SELECT
    FROM mauntic_jobs.deliveries
    WHERE unsent_state = 'ambiguous' AND updated_at > clock_timestamp() - %(within)s::interval
) AS uncertain

-- requeued -- Note the BullMQ job that now asks for a delivery.
UPDATE mauntic_jobs.deliveries
SET queue_job = %(queue_job)s
WHERE organization_id = %(organization)s AND delivery_id = %(delivery)s AND fence = %(fence)s

-- campaigns -- Campaigns that are not complete, and how many of their messages the ledger knows. It is read once for all
-- of them: an index of campaigns would cost each message a tenth of its log.
WITH incomplete AS MATERIALIZED (
    SELECT id, organization_id, channel, created_at, recipient_count
    FROM delivery.delivery_jobs
    WHERE status IN ('queued', 'sending') AND completed_at IS NULL
), known AS (
    SELECT organization_id, job_id, count(*) AS deliveries
    FROM mauntic_jobs.deliveries
    WHERE
        organization_id = any(ARRAY(SELECT DISTINCT organization_id FROM incomplete))
        AND job_id = any(ARRAY(SELECT id FROM incomplete))
    GROUP BY organization_id, job_id
)
SELECT
    job.id, job.organization_id, job.channel, job.created_at AT TIME ZONE 'UTC' AS created_at, job.recipient_count,
    coalesce(known.deliveries, 0) AS known
FROM incomplete AS job
LEFT JOIN known ON known.organization_id = job.organization_id AND known.job_id = job.id
ORDER BY job.created_at

-- standing -- How deliveries stand, by organization and id; and up to when they were created that may have been pruned.
SELECT
    wanted.organization_id, wanted.delivery_id, delivery.state, delivery.fence, delivery.queue_job,
    delivery.state = 'ambiguous' AND delivery.until IS NULL AS held,
    (SELECT before FROM mauntic_jobs.pruned WHERE part = 'deliveries') AS pruned_before
FROM unnest(%(organizations)s::uuid[], %(deliveries)s::text[]) AS wanted (organization_id, delivery_id)
LEFT JOIN mauntic_jobs.deliveries AS delivery
    ON delivery.organization_id = wanted.organization_id AND delivery.delivery_id = wanted.delivery_id

-- resend -- Let a delivery that is ambiguous, failed or expired be claimed again, and uncount its failure; say whether it
-- was done.
WITH changed AS (
    UPDATE mauntic_jobs.deliveries
    SET
        state = 'claimed', until = NULL, reason = 'sent again by hand', fence = fence + 1,
        possible_duplicate = possible_duplicate OR state = 'ambiguous', queue_job = %(queue_job)s,
        unrecorded = NULL, updated_at = clock_timestamp()
    WHERE
        organization_id = %(organization)s AND delivery_id = %(delivery)s AND fence = %(fence)s
        AND state IN ('ambiguous', 'failed', 'expired')
    RETURNING organization_id, job_id
)
UPDATE delivery.delivery_jobs AS job
SET
    failed_count = job.failed_count - 1,
    status = 'sending',
    completed_at = NULL
FROM changed
WHERE job.id = changed.job_id AND job.organization_id = changed.organization_id AND %(counted)s AND job.failed_count > 0

-- reopen -- Let deliveries of a state (failed or expired) be claimed again, by the BullMQ jobs given, and uncount their
-- failures; name them.
WITH wanted AS (
    SELECT *
    FROM unnest(
        %(organizations)s::uuid[], %(deliveries)s::text[], %(fences)s::bigint[], %(queue_jobs)s::text[]
    ) AS given (organization_id, delivery_id, fence, queue_job)
), unsent AS MATERIALIZED (
    -- In one order, so that no two processes wait for each other.
    SELECT
        delivery.organization_id, delivery.delivery_id, wanted.queue_job, delivery.unrecorded IS NULL AS is_counted
    FROM mauntic_jobs.deliveries AS delivery
    INNER JOIN wanted
        ON wanted.organization_id = delivery.organization_id AND wanted.delivery_id = delivery.delivery_id
    WHERE delivery.unsent_state = %(state)s AND delivery.fence = wanted.fence
    ORDER BY delivery.organization_id, delivery.delivery_id
    FOR UPDATE OF delivery
), changed AS (
    UPDATE mauntic_jobs.deliveries AS delivery
    SET
        state = 'claimed', until = NULL, reason = 'sent again by hand', fence = delivery.fence + 1,
        queue_job = unsent.queue_job, unrecorded = NULL, updated_at = clock_timestamp()
    FROM unsent
    WHERE delivery.organization_id = unsent.organization_id AND delivery.delivery_id = unsent.delivery_id
    RETURNING delivery.organization_id, delivery.delivery_id, delivery.job_id, unsent.is_counted
), counted AS (
    SELECT organization_id, job_id, count(*) FILTER (WHERE is_counted) AS reopened
    FROM changed
    WHERE job_id IS NOT NULL
    GROUP BY organization_id, job_id
), locked AS MATERIALIZED (
    SELECT id, organization_id
    FROM delivery.delivery_jobs
    WHERE (organization_id, id) IN (SELECT organization_id, job_id FROM counted)
    ORDER BY id
    FOR NO KEY UPDATE
), jobs AS (
    UPDATE delivery.delivery_jobs AS job
    SET failed_count = greatest(job.failed_count - counted.reopened, 0), status = 'sending', completed_at = NULL
    FROM counted
    INNER JOIN locked ON locked.id = counted.job_id AND locked.organization_id = counted.organization_id
    WHERE job.id = counted.job_id AND job.organization_id = counted.organization_id
)
SELECT organization_id, delivery_id FROM changed

-- waiting -- Messages of an organization and a channel that wait for a provider, a page after the last one given; those that
-- wait for their domain's warm-up, for the end of quiet hours, or because the receiver asks to wait, do not.
SELECT organization_id, delivery_id, fence, queue_job, until
FROM mauntic_jobs.deliveries
WHERE
    unsent_state = 'deferred' AND organization_id = %(organization)s AND channel = %(channel)s
    AND reason NOT LIKE ALL (%(waits)s::text[]) AND unsent_at > %(before)s
    AND (unsent_at, delivery_id) > (%(after)s::timestamptz, %(delivery)s)
ORDER BY unsent_at, delivery_id
LIMIT %(page)s

-- release -- Let messages that wait be claimed at once.
UPDATE mauntic_jobs.deliveries AS delivery
SET until = clock_timestamp(), updated_at = clock_timestamp()
FROM unnest(%(deliveries)s::text[], %(fences)s::bigint[]) AS waiting (delivery_id, fence)
WHERE
    delivery.organization_id = %(organization)s AND delivery.delivery_id = waiting.delivery_id
    AND delivery.fence = waiting.fence AND delivery.state = 'deferred'
RETURNING delivery.queue_job

-- close_campaigns -- Complete the campaigns whose messages are all counted, whichever engine counted the last.
UPDATE delivery.delivery_jobs
SET
    status = CASE WHEN failed_count = 0 THEN 'sent' WHEN sent_count = 0 THEN 'failed' ELSE 'partial' END,
    completed_at = clock_timestamp() AT TIME ZONE 'UTC'
WHERE
    status IN ('queued', 'sending') AND completed_at IS NULL AND sent_count + failed_count >= recipient_count
    AND sent_count + failed_count > 0
