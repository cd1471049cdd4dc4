-- Functions, so that their plans are made once for each connection to the server and not for each batch: planning took
-- longer than everything else. Rows are always found by their keys; a plan made while the table was empty would read all
-- of it for as long as it is kept.

-- Take deliveries in hand: `sending` where they may go out at once, else `claimed`; say what stands in the way.
-- `claims` is an array of objects with the columns below; `n` is the caller's own number, `written` the address as it
-- was given, which may be suppressed as well. A row is granted if it is new,
-- waits for nothing, or is this same claim repeated. One row for each n; `granted` tells.
CREATE FUNCTION mauntic_jobs.claim_deliveries(claims json, lease interval)
RETURNS TABLE (
    n int, suppressed boolean, granted boolean, state text, fence bigint, message_id text, possible_duplicate boolean,
    resends int, reason text, held boolean, wait_seconds float8
)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT claim.*, EXISTS (
            SELECT FROM delivery.suppressions
            WHERE suppressions.organization_id = claim.organization_id
                AND suppressions.email IN (lower(claim.address), lower(claim.written))
        ) AS suppressed
        FROM json_to_recordset(claims) AS claim (
            n int, organization_id uuid, delivery_id text, channel text, job_id uuid, contact_id uuid, address text,
            written text, queue_job text, provider_id uuid, provider text, message_id text, payload jsonb, owner uuid, ready boolean
        )
        ORDER BY organization_id, delivery_id
    ), written AS (
        INSERT INTO mauntic_jobs.deliveries AS delivery (
            organization_id, delivery_id, channel, state, until, job_id, contact_id, address, queue_job, provider_id,
            provider, message_id, payload, owner, sending_at
        )
        SELECT
            organization_id, delivery_id, channel,
            CASE WHEN ready AND NOT suppressed THEN 'sending' ELSE 'claimed' END,
            CASE WHEN ready AND NOT suppressed THEN clock_timestamp() + lease END,
            job_id, contact_id, address, queue_job, provider_id, provider, message_id, payload, owner,
            CASE WHEN ready AND NOT suppressed THEN clock_timestamp() END
        FROM given
        ON CONFLICT (organization_id, delivery_id) DO UPDATE SET
            state = EXCLUDED.state,
            until = EXCLUDED.until,
            job_id = coalesce(delivery.job_id, EXCLUDED.job_id),
            contact_id = coalesce(delivery.contact_id, EXCLUDED.contact_id),
            address = coalesce(EXCLUDED.address, delivery.address),
            queue_job = EXCLUDED.queue_job,
            provider_id = EXCLUDED.provider_id,
            provider = EXCLUDED.provider,
            message_id = coalesce(delivery.message_id, EXCLUDED.message_id),
            payload = EXCLUDED.payload,
            owner = EXCLUDED.owner,
            fence = delivery.fence + 1,
            resends = delivery.resends + (delivery.state = 'ambiguous' AND EXCLUDED.state = 'sending')::int,
            possible_duplicate = delivery.possible_duplicate OR delivery.state = 'ambiguous',
            sending_at = coalesce(EXCLUDED.sending_at, delivery.sending_at),
            updated_at = clock_timestamp()
        WHERE
            delivery.state = 'claimed'
            OR (delivery.state = 'deferred' AND delivery.until <= clock_timestamp())
            OR (delivery.owner = EXCLUDED.owner AND delivery.state = 'sending')
            OR (
                delivery.state = 'ambiguous' AND delivery.until <= clock_timestamp() AND NOT EXISTS (
                    SELECT FROM delivery.delivery_events AS evidence
                    WHERE
                        evidence.contact_id = delivery.contact_id
                        AND evidence.organization_id = delivery.organization_id
                        AND evidence.created_at >= (delivery.sending_at AT TIME ZONE 'UTC') - interval '1 minute'
                        AND evidence.channel = delivery.channel
                        AND evidence.event_type <> 'failed'
                        AND (
                            (
                                -- Of the same campaign and contact, and of no other message as far as it says.
                                evidence.job_id = delivery.job_id AND evidence.metadata ->> 'deliveryId' IS NULL
                                AND (evidence.provider_message_id IS NULL OR delivery.channel <> 'email')
                            )
                            OR evidence.metadata ->> 'deliveryId' = delivery.delivery_id
                            OR evidence.provider_message_id IN (
                                delivery.message_id, btrim(delivery.message_id, '<>'), delivery.provider_message_id
                            )
                        )
                )
            )
        RETURNING *
    )
    SELECT
        given.n, given.suppressed, written.fence IS NOT NULL AS granted,
        coalesce(written.state, existing.state) AS state,
        coalesce(written.fence, existing.fence) AS fence,
        coalesce(written.message_id, existing.message_id) AS message_id,
        coalesce(written.possible_duplicate, existing.possible_duplicate) AS possible_duplicate,
        coalesce(written.resends, existing.resends) AS resends,
        existing.reason,
        existing.state = 'ambiguous' AND existing.until IS NULL AS held,
        extract(EPOCH FROM existing.until - clock_timestamp())::float8 AS wait_seconds
    FROM given
    LEFT JOIN written ON written.organization_id = given.organization_id AND written.delivery_id = given.delivery_id
    LEFT JOIN mauntic_jobs.deliveries AS existing
        ON existing.organization_id = given.organization_id AND existing.delivery_id = given.delivery_id;
END
$$;

-- Write down what became of claimed deliveries, and everything that follows from it, once. `results` is an array of
-- objects with the columns below; a result counts only with the latest fence. `wait` is in seconds, null for no wait;
-- `elsewhere` says that the Node engine sent it, and has counted it. A result that is ambiguous is sent again once,
-- except an SMS. What may have been sent before stays ambiguous, for a human, whatever stops it now.
CREATE FUNCTION mauntic_jobs.record_deliveries(results json, resend_after interval, record_activity boolean)
RETURNS TABLE (n int, recorded boolean, state text, held boolean, wait_seconds float8)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT *
        FROM json_to_recordset(results) AS result (
            n int, organization_id uuid, delivery_id text, fence bigint, state text, reason text, wait float8,
            provider_id uuid, provider text, provider_message_id text, attempts jsonb, campaign_id text, reject text,
            elsewhere boolean
        )
    ), judged AS (
        SELECT
            given.*, delivery.sending_at,
            delivery.state AS state_before,
            CASE
                WHEN delivery.possible_duplicate AND given.state IN ('failed', 'suppressed', 'expired') THEN 'ambiguous'
                ELSE given.state
            END AS new_state,
            delivery.possible_duplicate OR delivery.resends > 0 OR delivery.channel = 'sms' AS held
        FROM given
        INNER JOIN mauntic_jobs.deliveries AS delivery
            ON delivery.organization_id = given.organization_id AND delivery.delivery_id = given.delivery_id
        ORDER BY given.organization_id, given.delivery_id
    ), changed AS (
        UPDATE mauntic_jobs.deliveries AS delivery
        SET
            state = judged.new_state,
            until = CASE
                WHEN judged.new_state = 'ambiguous' AND judged.held THEN NULL
                WHEN judged.new_state = 'ambiguous' THEN delivery.sending_at + resend_after
                ELSE clock_timestamp() + judged.wait * interval '1 second'
            END,
            reason = judged.reason,
            provider_id = coalesce(judged.provider_id, delivery.provider_id),
            provider = coalesce(judged.provider, delivery.provider),
            provider_message_id = coalesce(judged.provider_message_id, delivery.provider_message_id),
            attempts = delivery.attempts || coalesce(judged.attempts, '[]'),
            reject_reason = judged.reject,
            payload = CASE WHEN judged.new_state IN ('sent', 'suppressed', 'expired') THEN NULL ELSE delivery.payload END,
            updated_at = clock_timestamp()
        FROM judged
        WHERE
            delivery.organization_id = judged.organization_id AND delivery.delivery_id = judged.delivery_id
            AND delivery.fence = judged.fence AND delivery.state IN ('claimed', 'sending', 'ambiguous')
            AND (delivery.state <> 'ambiguous' OR judged.new_state <> 'ambiguous')
        RETURNING
            delivery.organization_id, delivery.delivery_id, delivery.fence, delivery.channel, delivery.state,
            delivery.reason, delivery.until, delivery.job_id, delivery.contact_id, delivery.address, delivery.provider,
            delivery.provider_message_id, delivery.message_id, delivery.possible_duplicate, judged.campaign_id,
            judged.reject, judged.elsewhere IS TRUE AS elsewhere,
            coalesce(
                delivery.job_id, md5(delivery.organization_id::text || ':' || delivery.delivery_id)::uuid
            ) AS event_job_id
    ), events AS (
        INSERT INTO delivery.delivery_events (
            id, job_id, organization_id, contact_id, channel, event_type, provider_message_id, metadata, created_at
        )
        SELECT
            md5(organization_id::text || ':' || delivery_id || ':' || fence || ':' || state)::uuid,
            event_job_id, organization_id, contact_id, channel, state, left(provider_message_id, 255),
            jsonb_strip_nulls(jsonb_build_object(
                'deliveryId', delivery_id, 'messageId', message_id, 'provider', provider, 'reason', reason, 'rejectReason', reject,
                'possibleDuplicate', CASE WHEN possible_duplicate THEN true END
            )),
            clock_timestamp() AT TIME ZONE 'UTC'
        FROM changed
        WHERE state IN ('sent', 'failed') AND contact_id IS NOT NULL AND NOT elsewhere
        ON CONFLICT (id) DO NOTHING
    ), activity AS (
        INSERT INTO analytics.contact_activity (
            id, organization_id, contact_id, event_type, event_source, event_data, created_at
        )
        SELECT
            md5(organization_id::text || ':' || delivery_id || ':sent')::uuid, organization_id, contact_id,
            channel || '_sent', campaign_id, jsonb_build_object('deliveryId', delivery_id),
            clock_timestamp() AT TIME ZONE 'UTC'
        FROM changed
        WHERE record_activity AND state = 'sent' AND contact_id IS NOT NULL AND NOT elsewhere
        ON CONFLICT (id) DO NOTHING
    ), rejected AS (
        INSERT INTO delivery.suppressions (organization_id, email, reason, source, created_at)
        SELECT DISTINCT ON (organization_id, lower(address))
            organization_id, lower(address),
            CASE reject WHEN 'bounced' THEN 'bounce' WHEN 'spam' THEN 'complaint' ELSE 'unsubscribe' END,
            'mauntic-jobs', clock_timestamp() AT TIME ZONE 'UTC'
        FROM changed
        WHERE reject IN ('bounced', 'spam', 'unsubscribed') AND channel <> 'push' AND NOT EXISTS (
            SELECT FROM delivery.suppressions AS known
            WHERE known.organization_id = changed.organization_id AND known.email = lower(changed.address)
        )
    ), counted AS (
        SELECT
            job_id, count(*) FILTER (WHERE state = 'sent') AS sent,
            count(*) FILTER (WHERE state IN ('failed', 'suppressed', 'expired')) AS failed
        FROM changed
        WHERE job_id IS NOT NULL AND state IN ('sent', 'failed', 'suppressed', 'expired') AND NOT elsewhere
        GROUP BY job_id
    ), locked AS MATERIALIZED (
        -- In one order, so that no two processes wait for each other.
        SELECT id FROM delivery.delivery_jobs WHERE id IN (SELECT job_id FROM counted) ORDER BY id FOR NO KEY UPDATE
    ), jobs AS (
        UPDATE delivery.delivery_jobs AS job
        SET
            sent_count = job.sent_count + counted.sent,
            failed_count = job.failed_count + counted.failed,
            status = CASE
                WHEN job.sent_count + counted.sent + job.failed_count + counted.failed < job.recipient_count THEN 'sending'
                WHEN job.failed_count + counted.failed = 0 THEN 'sent'
                WHEN job.sent_count + counted.sent = 0 THEN 'failed'
                ELSE 'partial'
            END,
            completed_at = CASE
                WHEN job.sent_count + counted.sent + job.failed_count + counted.failed >= job.recipient_count
                    THEN coalesce(job.completed_at, clock_timestamp() AT TIME ZONE 'UTC')
            END
        FROM counted
        INNER JOIN locked ON locked.id = counted.job_id
        WHERE job.id = counted.job_id
    )
    SELECT
        given.n, changed.fence IS NOT NULL AS recorded,
        coalesce(changed.state, existing.state) AS state,
        CASE
            WHEN changed.fence IS NOT NULL THEN changed.state = 'ambiguous' AND changed.until IS NULL
            ELSE existing.state = 'ambiguous' AND existing.until IS NULL
        END AS held,
        extract(EPOCH FROM CASE
            WHEN changed.fence IS NOT NULL THEN changed.until
            ELSE existing.until
        END - clock_timestamp())::float8 AS wait_seconds
    FROM given
    LEFT JOIN changed ON changed.organization_id = given.organization_id AND changed.delivery_id = given.delivery_id
    LEFT JOIN mauntic_jobs.deliveries AS existing
        ON existing.organization_id = given.organization_id AND existing.delivery_id = given.delivery_id;
END
$$;
