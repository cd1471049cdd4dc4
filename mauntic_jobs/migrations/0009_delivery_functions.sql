-- Consent, evidence, warm-up and refused results in the delivery ledger. This replaces the functions of 0006.

ALTER TABLE mauntic_jobs.deliveries
ADD COLUMN first_sending_at timestamptz,
ADD COLUMN counted boolean NOT NULL DEFAULT false,
ADD COLUMN domain text,
ADD COLUMN unknown_fields text[],
ADD COLUMN unrecorded jsonb;

COMMENT ON COLUMN mauntic_jobs.deliveries.first_sending_at IS
'when the first of the exchanges began that may have sent it; evidence counts from then on';
COMMENT ON COLUMN mauntic_jobs.deliveries.counted IS
'whether a final result of mauntic-jobs has been counted in delivery_jobs before';
COMMENT ON COLUMN mauntic_jobs.deliveries.domain IS 'the sending domain, while it is being warmed up';
COMMENT ON COLUMN mauntic_jobs.deliveries.unknown_fields IS
'fields of its template that neither the message nor the contact has, and that were rendered as nothing';
COMMENT ON COLUMN mauntic_jobs.deliveries.unrecorded IS
'the result, and the error with which Postgres refused its events and counts; null where all is recorded';

CREATE INDEX deliveries_uncertain ON mauntic_jobs.deliveries (organization_id, delivery_id)
WHERE possible_duplicate AND state IN ('claimed', 'deferred');
CREATE INDEX deliveries_unrecorded ON mauntic_jobs.deliveries (organization_id, delivery_id)
WHERE unrecorded IS NOT NULL;
CREATE INDEX deliveries_with_unknown_fields ON mauntic_jobs.deliveries (organization_id, updated_at)
WHERE unknown_fields IS NOT NULL;
CREATE INDEX deliveries_of_warmup ON mauntic_jobs.deliveries (organization_id, domain, sending_at)
WHERE domain IS NOT NULL;

-- A UUID for a name: the same each time. Not md5(), which servers in FIPS mode do not have.
CREATE FUNCTION mauntic_jobs.uuid_of(name text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT encode(substr(sha256(convert_to(name, 'UTF8')), 1, 16), 'hex')::uuid $$;

-- Whether a JSON value of a consent says no: false, 0, or a text like them. What is absent says nothing.
CREATE FUNCTION mauntic_jobs.says_no(value text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT coalesce(lower(btrim(value)) IN ('false', '0', 'no', 'off'), false) $$;

-- Why a contact must not get a message, or null. Transactional messages pass what a contact may unsubscribe from.
CREATE FUNCTION mauntic_jobs.consent_refusal(status text, custom_fields jsonb, channel text, transactional boolean)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE
        WHEN lower(btrim(status)) IN ('bounced', 'do_not_contact') THEN 'the contact''s status is ' || lower(btrim(status))
        WHEN transactional THEN NULL
        WHEN lower(btrim(status)) = 'unsubscribed' THEN 'the contact''s status is unsubscribed'
        WHEN mauntic_jobs.says_no(custom_fields -> '_consent_preferences' ->> channel) THEN 'the contact refused ' || channel
        WHEN mauntic_jobs.says_no(custom_fields ->> '_consent_marketing_opt_in') THEN 'the contact refused marketing'
    END
$$;

-- The digits of a phone number: contacts' numbers are compared by them, however they are written.
CREATE FUNCTION mauntic_jobs.digits_of(phone text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT regexp_replace(phone, '[^0-9]', '', 'g') $$;

-- What the platform has heard of a delivery since its first exchange: it was sent. Rows that name the delivery count
-- whatever zone the platform's clock is in. Rows of the same campaign and contact that name no message count only if
-- they are later both in UTC and in the zone of new connections, in which the column's default may write.
CREATE FUNCTION mauntic_jobs.evidence_of(delivery mauntic_jobs.deliveries)
RETURNS TABLE (provider_message_id text, campaign_event boolean)
LANGUAGE sql STABLE
AS $$
    SELECT event.provider_message_id, event.job_id = (delivery).job_id
    FROM delivery.delivery_events AS event
    WHERE
        event.organization_id = (delivery).organization_id
        AND event.contact_id = (delivery).contact_id
        AND event.channel = (delivery).channel
        AND event.event_type <> 'failed'
        AND event.created_at >= (
            coalesce((delivery).first_sending_at, (delivery).sending_at) AT TIME ZONE 'UTC' - interval '1 day'
        )
        AND (
            event.metadata ->> 'deliveryId' = (delivery).delivery_id
            OR event.provider_message_id IN (
                (delivery).message_id, btrim((delivery).message_id, '<>'), (delivery).provider_message_id
            )
            OR (
                event.job_id = (delivery).job_id AND event.metadata ->> 'deliveryId' IS NULL
                AND (event.provider_message_id IS NULL OR (delivery).channel <> 'email')
                AND event.created_at >= greatest(
                    coalesce((delivery).first_sending_at, (delivery).sending_at) AT TIME ZONE 'UTC',
                    coalesce((delivery).first_sending_at, (delivery).sending_at)
                    AT TIME ZONE (SELECT setting.reset_val FROM pg_settings AS setting WHERE setting.name = 'TimeZone')
                ) - interval '1 minute'
            )
        )
$$;

DROP FUNCTION mauntic_jobs.claim_deliveries(json, interval);

-- Claim deliveries: `sending` where they may go out at once, else `claimed`; say what stands in the way.
-- `claims` is an array of objects with the columns below; `n` is the caller's own number, `written` the address as it
-- was given, which may be suppressed as well; `most` is how many messages `domain` may send from `day` on (UTC), null
-- for no limit. A row is granted if it is new, waits for nothing, or is this same claim repeated, unless the platform
-- has heard of what may have been sent. One row for each n; `granted` tells. `refusal` says why the recipient must not
-- get it, `over` that the domain has sent its messages of the day: both are granted, and not `sending`.
-- Rows are always found by their keys: other plans are for tables whose statistics are not known yet.
CREATE FUNCTION mauntic_jobs.claim_deliveries(claims json, lease interval)
RETURNS TABLE (
    n int, refusal text, "over" boolean, granted boolean, state text, fence bigint, message_id text,
    possible_duplicate boolean, resends int, reason text, held boolean, wait_seconds float8
)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
BEGIN
    -- The messages of a domain that is being warmed up are counted by one claim at a time. Others have no `most`: for
    -- them the array is not read once more.
    IF strpos(claims::text, '"most":') > 0 THEN
        PERFORM pg_advisory_xact_lock(domains.key)
        FROM (
            SELECT DISTINCT hashtextextended(claim.organization_id::text || ':' || claim.domain, 9) AS key
            FROM json_to_recordset(claims) AS claim (organization_id uuid, domain text, most bigint, ready boolean)
            WHERE claim.ready AND claim.most IS NOT NULL
            ORDER BY key
        ) AS domains;
    END IF;

    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT
            claim.*,
            claim.ready AND claim.most IS NOT NULL AND NOT EXISTS (
                SELECT FROM mauntic_jobs.deliveries AS settled
                WHERE
                    settled.organization_id = claim.organization_id AND settled.delivery_id = claim.delivery_id
                    AND (
                        settled.state NOT IN ('claimed', 'sending', 'deferred', 'ambiguous')
                        OR settled.until > clock_timestamp()
                    )
            ) AS counts,
            CASE WHEN claim.ready THEN coalesce(
                (
                    SELECT 'the address is on the suppression list (' || known.reason || ')'
                    FROM delivery.suppressions AS known
                    WHERE
                        known.organization_id = claim.organization_id
                        AND known.email IN (lower(claim.address), lower(claim.written))
                        AND NOT (known.reason = 'unsubscribe' AND claim.transactional)
                    LIMIT 1
                ),
                CASE
                    WHEN own.id IS NOT NULL THEN
                        mauntic_jobs.consent_refusal(own.status, own.custom_fields, claim.channel, claim.transactional)
                    WHEN claim.channel = 'email' THEN (
                        SELECT min(mauntic_jobs.consent_refusal(
                            other.status, other.custom_fields, claim.channel, claim.transactional
                        ))
                        FROM crm.contacts AS other
                        WHERE
                            other.organization_id = claim.organization_id
                            AND lower(other.email) IN (lower(claim.address), lower(claim.written))
                    )
                    WHEN claim.channel = 'sms' THEN (
                        SELECT min(mauntic_jobs.consent_refusal(
                            other.status, other.custom_fields, claim.channel, claim.transactional
                        ))
                        FROM crm.contacts AS other
                        WHERE
                            other.organization_id = claim.organization_id
                            AND mauntic_jobs.digits_of(other.phone) = mauntic_jobs.digits_of(claim.address)
                    )
                END
            ) END AS refusal
        FROM json_to_recordset(claims) AS claim (
            n int, organization_id uuid, delivery_id text, channel text, job_id uuid, contact_id uuid, address text,
            written text, queue_job text, provider_id uuid, provider text, message_id text, payload jsonb, owner uuid,
            ready boolean, transactional boolean, domain text, most bigint, day timestamptz, unknown_fields text[]
        )
        LEFT JOIN crm.contacts AS own
            ON own.id = claim.contact_id AND own.organization_id = claim.organization_id
    ), warming_up AS MATERIALIZED (
        SELECT
            each.organization_id, each.domain,
            (
                SELECT coalesce(sum(1 + counted.resends), 0)
                FROM (
                    SELECT own.resends
                    FROM mauntic_jobs.deliveries AS own
                    WHERE
                        own.organization_id = each.organization_id AND own.domain = each.domain
                        AND own.sending_at >= each.day
                        AND (own.state IN ('sending', 'sent', 'ambiguous') OR own.possible_duplicate)
                    LIMIT each.most
                ) AS counted
            ) + (
                SELECT count(*)
                FROM (
                    SELECT FROM delivery.delivery_events AS event
                    WHERE
                        event.organization_id = each.organization_id AND event.created_at >= each.day AT TIME ZONE 'UTC'
                        AND event.channel = 'email' AND event.event_type = 'sent'
                        AND event.metadata ->> 'engine' IS DISTINCT FROM 'mauntic-jobs'
                    LIMIT each.most
                ) AS counted
            ) AS used
        FROM (
            SELECT organization_id, domain, min(day) AS day, min(most) AS most
            FROM given
            WHERE ready AND most IS NOT NULL
            GROUP BY organization_id, domain
        ) AS each
    ), judged AS MATERIALIZED (
        SELECT
            given.*,
            given.counts AND warming_up.used + count(*) FILTER (WHERE given.counts AND given.refusal IS NULL) OVER (
                PARTITION BY given.organization_id, given.domain ORDER BY given.n
            ) > given.most AS is_over
        FROM given
        LEFT JOIN warming_up
            ON warming_up.organization_id = given.organization_id AND warming_up.domain = given.domain
    ), written AS (
        INSERT INTO mauntic_jobs.deliveries AS delivery (
            organization_id, delivery_id, channel, state, until, job_id, contact_id, address, queue_job, provider_id,
            provider, message_id, payload, owner, sending_at, first_sending_at, domain, unknown_fields
        )
        SELECT
            organization_id, delivery_id, channel,
            CASE WHEN goes THEN 'sending' ELSE 'claimed' END,
            CASE WHEN goes THEN clock_timestamp() + lease END,
            job_id, contact_id, address, queue_job, provider_id, provider, message_id, payload, owner,
            CASE WHEN goes THEN clock_timestamp() END, CASE WHEN goes THEN clock_timestamp() END,
            CASE WHEN most IS NOT NULL THEN domain END, unknown_fields
        FROM (
            SELECT judged.*, ready AND refusal IS NULL AND is_over IS NOT TRUE AS goes
            FROM judged
        ) AS each
        ORDER BY organization_id, delivery_id
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
            first_sending_at = CASE
                WHEN delivery.possible_duplicate OR delivery.state = 'ambiguous'
                    THEN coalesce(delivery.first_sending_at, delivery.sending_at)
                ELSE coalesce(EXCLUDED.sending_at, delivery.first_sending_at)
            END,
            domain = coalesce(EXCLUDED.domain, delivery.domain),
            unknown_fields = EXCLUDED.unknown_fields,
            updated_at = clock_timestamp()
        WHERE
            (delivery.owner = EXCLUDED.owner AND delivery.state = 'sending')
            OR (
                (
                    delivery.state = 'claimed'
                    OR (delivery.state IN ('deferred', 'ambiguous') AND delivery.until <= clock_timestamp())
                ) AND (
                    NOT (delivery.possible_duplicate OR delivery.state = 'ambiguous')
                    OR NOT EXISTS (SELECT FROM mauntic_jobs.evidence_of(delivery))
                )
            )
        RETURNING *
    )
    SELECT
        judged.n, judged.refusal, judged.is_over IS TRUE AS "over", written.fence IS NOT NULL AS granted,
        coalesce(written.state, existing.state) AS state,
        coalesce(written.fence, existing.fence) AS fence,
        coalesce(written.message_id, existing.message_id) AS message_id,
        coalesce(written.possible_duplicate, existing.possible_duplicate) AS possible_duplicate,
        coalesce(written.resends, existing.resends) AS resends,
        existing.reason,
        existing.state = 'ambiguous' AND existing.until IS NULL AS held,
        extract(EPOCH FROM existing.until - clock_timestamp())::float8 AS wait_seconds
    FROM judged
    LEFT JOIN written ON written.organization_id = judged.organization_id AND written.delivery_id = judged.delivery_id
    LEFT JOIN mauntic_jobs.deliveries AS existing
        ON existing.organization_id = judged.organization_id AND existing.delivery_id = judged.delivery_id;
END
$$;

-- Write into the ledger, and nowhere else, what became of claimed deliveries. `results` is an array of objects with the
-- columns below; a result counts only with the latest fence. `wait` is in seconds, null for no wait; `hold`: a human
-- must decide. A result that is ambiguous is sent again once, except an SMS. What may have been sent before stays
-- ambiguous, for a human, whatever stops it now. `refused` is the error with which Postgres refused what else is
-- recorded of a final result, which is then owed; a result with `again` is one that was owed.
CREATE FUNCTION mauntic_jobs.settle_deliveries(results json, resend_after interval, refused text)
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
            elsewhere boolean, tried_elsewhere boolean, hold boolean, again boolean
        )
    ), judged AS (
        SELECT
            given.*, delivery.counted AS counted_before,
            CASE
                WHEN delivery.possible_duplicate AND given.state IN ('failed', 'suppressed', 'expired') THEN 'ambiguous'
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
                ELSE delivery.attempts || coalesce(judged.attempts, '[]')
            END,
            reject_reason = judged.reject,
            payload = CASE WHEN judged.new_state IN ('sent', 'suppressed', 'expired') THEN NULL ELSE delivery.payload END,
            counted = delivery.counted OR (
                judged.new_state IN ('sent', 'failed', 'suppressed', 'expired') AND judged.elsewhere IS NOT TRUE
            ),
            unrecorded = CASE
                WHEN refused IS NOT NULL AND judged.new_state IN ('sent', 'failed', 'suppressed', 'expired')
                    THEN (judged.as_given::jsonb - 'attempts') || jsonb_build_object(
                        'error', refused, 'counted_before', judged.counted_before
                    )
            END,
            updated_at = clock_timestamp()
        FROM judged
        WHERE
            delivery.organization_id = judged.organization_id AND delivery.delivery_id = judged.delivery_id
            AND delivery.fence = judged.fence
            AND CASE
                WHEN judged.again THEN delivery.unrecorded IS NOT NULL AND delivery.state = judged.new_state
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

DROP FUNCTION mauntic_jobs.record_deliveries(json, interval, boolean);

-- Write down what became of claimed deliveries, and everything that follows from it, once: `settle_deliveries` says
-- what `results` holds. `elsewhere`: the Node engine has finished it, and has counted it; `tried_elsewhere`: it may
-- have counted a failure of what has an end only now, which is taken back.
CREATE FUNCTION mauntic_jobs.record_deliveries(results json, resend_after interval, record_activity boolean)
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
