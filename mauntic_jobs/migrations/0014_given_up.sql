-- Messages that are given up, a bound for their attempts, suppressions that are written once, and indexes for what
-- commands look up. This replaces two functions of 0009.

-- The first ten and the last forty of a delivery's attempts; the eleventh says how many were left out between them.
CREATE FUNCTION mauntic_jobs.bounded_attempts(attempts jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE
        WHEN jsonb_array_length(attempts) <= 51 THEN attempts
        ELSE (
            SELECT
                jsonb_agg(each.value ORDER BY each.n) FILTER (WHERE each.n <= 10)
                || jsonb_build_object('omitted', (
                    coalesce((attempts -> 10 ->> 'omitted')::int - 1, 0) + jsonb_array_length(attempts) - 50
                ))
                || jsonb_agg(each.value ORDER BY each.n) FILTER (WHERE each.n > jsonb_array_length(attempts) - 40)
            FROM jsonb_array_elements(attempts) WITH ORDINALITY AS each (value, n)
        )
    END
$$;

-- Write into the ledger, and nowhere else, what became of claimed deliveries. `results` is an array of objects with the
-- columns below; a result counts only with the latest fence. `wait` is in seconds, null for no wait; `hold`: a human
-- must decide. A result that is ambiguous is sent again once, except an SMS. What may have been sent before stays
-- ambiguous, for a human, whatever stops it now. `refused` is the error with which Postgres refused what else is
-- recorded of a final result, which is then owed; a result with `again` is one that was owed. A result with `given_up` is
-- of a message that waits and shall wait no longer: it counts in every state but that of being sent. With `for_good` what
-- may have been sent is not left to a human either, and the time of the last change stays what it was.
CREATE OR REPLACE FUNCTION mauntic_jobs.settle_deliveries(results json, resend_after interval, refused text)
RETURNS TABLE (
    n int, recorded boolean, state text, held boolean, wait_seconds float8,
    organization_id uuid, delivery_id text, fence bigint, channel text, reason text, job_id uuid, contact_id uuid,
    address text, provider text, provider_message_id text, message_id text, possible_duplicate boolean,
    campaign_id text, reject text, elsewhere boolean, tried_elsewhere boolean
)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT result.*, owed.value AS as_given
        FROM json_array_elements(results) AS owed (value)
        CROSS JOIN LATERAL json_to_record(owed.value) AS result (
            n int, organization_id uuid, delivery_id text, fence bigint, state text, reason text, wait float8,
            provider_id uuid, provider text, provider_message_id text, attempts jsonb, campaign_id text, reject text,
            elsewhere boolean, tried_elsewhere boolean, hold boolean, again boolean, given_up boolean, for_good boolean
        )
    ), judged AS (
        SELECT
            given.*, delivery.counted AS counted_before,
            CASE
                WHEN given.for_good THEN given.state
                WHEN given.state IN ('failed', 'suppressed', 'expired') AND (
                    delivery.possible_duplicate
                    OR (given.given_up IS TRUE AND delivery.state IN ('ambiguous', 'sending'))
                ) THEN 'ambiguous'
                ELSE given.state
            END AS new_state,
            given.hold IS TRUE OR delivery.possible_duplicate OR delivery.resends > 0 OR delivery.channel = 'sms' AS held
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
                WHEN judged.new_state = 'ambiguous' THEN greatest(delivery.sending_at, clock_timestamp()) + resend_after
                ELSE clock_timestamp() + judged.wait * interval '1 second'
            END,
            reason = judged.reason,
            provider_id = coalesce(judged.provider_id, delivery.provider_id),
            provider = coalesce(judged.provider, delivery.provider),
            provider_message_id = coalesce(judged.provider_message_id, delivery.provider_message_id),
            attempts = CASE
                WHEN judged.again THEN delivery.attempts
                ELSE mauntic_jobs.bounded_attempts(delivery.attempts || coalesce(judged.attempts, '[]'))
            END,
            reject_reason = judged.reject,
            payload = CASE
                WHEN judged.new_state IN ('sent', 'suppressed') OR judged.for_good THEN NULL
                ELSE delivery.payload
            END,
            counted = delivery.counted OR (
                judged.new_state IN ('sent', 'failed', 'suppressed', 'expired') AND judged.elsewhere IS NOT TRUE
            ),
            unrecorded = CASE
                WHEN refused IS NOT NULL AND judged.new_state IN ('sent', 'failed', 'suppressed', 'expired')
                    THEN (judged.as_given::jsonb - 'attempts') || jsonb_build_object(
                        'error', refused, 'counted_before', judged.counted_before
                    )
            END,
            updated_at = CASE WHEN judged.for_good THEN delivery.updated_at ELSE clock_timestamp() END
        FROM judged
        WHERE
            delivery.organization_id = judged.organization_id AND delivery.delivery_id = judged.delivery_id
            AND delivery.fence = judged.fence
            AND CASE
                WHEN judged.again THEN delivery.unrecorded IS NOT NULL AND delivery.state = judged.new_state
                WHEN judged.given_up THEN
                    delivery.state IN ('claimed', 'deferred')
                    OR (delivery.state = 'ambiguous' AND (judged.for_good OR delivery.until IS NOT NULL))
                    OR (delivery.state = 'sending' AND delivery.until < clock_timestamp())
                -- What waits, or is ambiguous already, changes only by what is known of it since.
                ELSE
                    delivery.state IN ('claimed', 'sending')
                    OR (delivery.state = 'ambiguous' AND judged.new_state <> 'ambiguous')
                    OR (delivery.state = 'deferred' AND judged.new_state = 'sent')
            END
        RETURNING delivery.*, judged.campaign_id, judged.elsewhere, judged.tried_elsewhere, judged.counted_before
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
        END - clock_timestamp())::float8 AS wait_seconds,
        changed.organization_id, changed.delivery_id, changed.fence, changed.channel, changed.reason, changed.job_id,
        changed.contact_id, changed.address, changed.provider, changed.provider_message_id, changed.message_id,
        changed.possible_duplicate, changed.campaign_id, changed.reject_reason AS reject,
        changed.elsewhere IS TRUE AS elsewhere,
        changed.tried_elsewhere IS TRUE AND NOT coalesce(
            (given.as_given ->> 'counted_before')::boolean, changed.counted_before
        ) AS tried_elsewhere
    FROM given
    LEFT JOIN changed ON changed.organization_id = given.organization_id AND changed.delivery_id = given.delivery_id
    LEFT JOIN mauntic_jobs.deliveries AS existing
        ON existing.organization_id = given.organization_id AND existing.delivery_id = given.delivery_id;
END
$$;

-- Write down what became of claimed deliveries, and everything that follows from it, once: `settle_deliveries` says
-- what `results` holds. `elsewhere`: the Node engine has finished it, and has counted it; `tried_elsewhere`: it may
-- have counted a failure of what has an end only now, which is taken back.
CREATE OR REPLACE FUNCTION mauntic_jobs.record_deliveries(results json, resend_after interval, record_activity boolean)
RETURNS TABLE (n int, recorded boolean, state text, held boolean, wait_seconds float8)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH settled AS MATERIALIZED (
        SELECT * FROM mauntic_jobs.settle_deliveries(results, resend_after, NULL)
    ), changed AS MATERIALIZED (
        SELECT * FROM settled WHERE recorded
    ), events AS (
        INSERT INTO delivery.delivery_events (
            id, job_id, organization_id, contact_id, channel, event_type, provider_message_id, metadata, created_at
        )
        SELECT
            mauntic_jobs.uuid_of(organization_id::text || ':' || delivery_id || ':' || fence || ':' || state),
            coalesce(job_id, mauntic_jobs.uuid_of(organization_id::text || ':' || delivery_id)),
            organization_id, contact_id, channel, state, left(provider_message_id, 255),
            jsonb_strip_nulls(jsonb_build_object(
                'engine', 'mauntic-jobs', 'deliveryId', delivery_id, 'messageId', message_id,
                'provider', split_part(provider, ' ', 1), 'reason', reason, 'rejectReason', reject,
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
            mauntic_jobs.uuid_of(organization_id::text || ':' || delivery_id || ':sent'), organization_id, contact_id,
            channel || '_sent', left(campaign_id, 100), jsonb_build_object('deliveryId', delivery_id),
            clock_timestamp() AT TIME ZONE 'UTC'
        FROM changed
        WHERE record_activity AND state = 'sent' AND contact_id IS NOT NULL AND NOT elsewhere
        ON CONFLICT (id) DO NOTHING
    ), rejected AS (
        -- By an id of the address' own: two processes that hear of it at once would both find it unknown.
        INSERT INTO delivery.suppressions (id, organization_id, email, reason, source, created_at)
        SELECT DISTINCT ON (organization_id, lower(address))
            mauntic_jobs.uuid_of(organization_id::text || ':' || lower(address)), organization_id, lower(address),
            CASE reject WHEN 'bounced' THEN 'bounce' WHEN 'spam' THEN 'complaint' ELSE 'unsubscribe' END,
            'mauntic-jobs', clock_timestamp() AT TIME ZONE 'UTC'
        FROM changed
        WHERE reject IN ('bounced', 'spam', 'unsubscribed') AND channel <> 'push' AND NOT EXISTS (
            SELECT FROM delivery.suppressions AS known
            WHERE known.organization_id = changed.organization_id AND known.email = lower(changed.address)
        )
        ON CONFLICT (id) DO NOTHING
    ), counted AS (
        SELECT
            organization_id, job_id, count(*) FILTER (WHERE state = 'sent' AND NOT elsewhere) AS sent,
            count(*) FILTER (WHERE state <> 'sent' AND NOT elsewhere) - count(*) FILTER (
                WHERE tried_elsewhere AND NOT elsewhere AND EXISTS (
                    SELECT FROM delivery.delivery_events AS event
                    WHERE
                        event.contact_id = changed.contact_id AND event.organization_id = changed.organization_id
                        AND event.job_id = changed.job_id AND event.channel = changed.channel
                        AND event.event_type = 'failed'
                        AND event.metadata ->> 'engine' IS DISTINCT FROM 'mauntic-jobs'
                        -- Before it named itself, this engine wrote both.
                        AND NOT coalesce(event.metadata ?& ARRAY['deliveryId', 'reason'], false)
                )
            ) AS failed
        FROM changed
        WHERE job_id IS NOT NULL AND state IN ('sent', 'failed', 'suppressed', 'expired')
        GROUP BY organization_id, job_id
    ), locked AS MATERIALIZED (
        -- In one order, so that no two processes wait for each other.
        SELECT job.id, job.organization_id
        FROM delivery.delivery_jobs AS job
        WHERE (job.organization_id, job.id) IN (SELECT organization_id, job_id FROM counted)
        ORDER BY job.id
        FOR NO KEY UPDATE
    ), jobs AS (
        UPDATE delivery.delivery_jobs AS job
        SET
            sent_count = job.sent_count + counted.sent,
            failed_count = greatest(job.failed_count + counted.failed, 0),
            status = CASE
                WHEN job.sent_count + counted.sent + greatest(job.failed_count + counted.failed, 0) < job.recipient_count
                    THEN 'sending'
                WHEN job.failed_count + counted.failed <= 0 THEN 'sent'
                WHEN job.sent_count + counted.sent = 0 THEN 'failed'
                ELSE 'partial'
            END,
            completed_at = CASE
                WHEN job.sent_count + counted.sent + greatest(job.failed_count + counted.failed, 0) >= job.recipient_count
                    THEN coalesce(job.completed_at, clock_timestamp() AT TIME ZONE 'UTC')
            END
        FROM counted
        INNER JOIN locked ON locked.id = counted.job_id AND locked.organization_id = counted.organization_id
        WHERE job.id = counted.job_id AND job.organization_id = counted.organization_id
    )
    SELECT settled.n, settled.recorded, settled.state, settled.held, settled.wait_seconds FROM settled;
END
$$;

-- The failures among the runs, and the windows that have succeeded: dead letters are the ones without the others.
CREATE INDEX runs_failed ON mauntic_jobs.runs (finished_at) WHERE status IN ('failed', 'lost');
CREATE INDEX runs_succeeded ON mauntic_jobs.runs (job, window_start) WHERE status = 'succeeded';
CREATE INDEX runs_covering ON mauntic_jobs.runs USING gist (tstzrange(window_start, window_end))
WHERE status = 'succeeded';

-- A campaign's failed messages, in the order in which they are sent again. Messages that are sent cost it nothing.
CREATE INDEX deliveries_failed_of_campaign ON mauntic_jobs.deliveries (organization_id, job_id, delivery_id)
WHERE state = 'failed';
-- The latest messages, for a list of them. It is small, and costs an update nothing.
CREATE INDEX deliveries_by_time ON mauntic_jobs.deliveries USING brin (updated_at)
WITH (pages_per_range = 32, autosummarize = on);
