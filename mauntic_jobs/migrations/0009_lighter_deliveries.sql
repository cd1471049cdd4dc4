-- A lighter delivery ledger, with consent, evidence, warm-up and refused results. This replaces the table of 0005 and
-- the functions of 0006.
--
-- What a result changes stands at the end of the row, because Postgres logs of an updated row what lies between its
-- first and its last change. None of it is part of an index as long as a message is sent at its first attempt: then the
-- update is a HOT update, which writes to no index.

ALTER TABLE mauntic_jobs.deliveries RENAME TO deliveries_before;
ALTER INDEX mauntic_jobs.deliveries_pkey RENAME TO deliveries_before_pkey;

CREATE TABLE mauntic_jobs.deliveries (
    organization_id uuid NOT NULL,
    owner uuid NOT NULL,
    job_id uuid,
    contact_id uuid,
    provider_id uuid,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sending_at timestamptz,
    first_sending_at timestamptz,
    fence bigint NOT NULL DEFAULT 1,
    resends int NOT NULL DEFAULT 0,
    possible_duplicate boolean NOT NULL DEFAULT false,
    delivery_id text NOT NULL CHECK (length(delivery_id) BETWEEN 1 AND 255),
    channel text NOT NULL CHECK (channel IN ('email', 'sms', 'push')),
    queue_job text NOT NULL,
    campaign_id text,
    address text,
    message_id text,
    domain text,
    unknown_fields text[],
    provider text,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    until timestamptz,
    counted boolean NOT NULL DEFAULT false,
    state text NOT NULL CHECK (
        state IN ('claimed', 'sending', 'sent', 'failed', 'deferred', 'suppressed', 'ambiguous', 'expired')
    ),
    unsent_state text GENERATED ALWAYS AS (CASE WHEN state NOT IN ('sending', 'sent') THEN state END) STORED,
    unsent_at timestamptz GENERATED ALWAYS AS (
        CASE WHEN state IN ('deferred', 'ambiguous') THEN until WHEN state NOT IN ('sending', 'sent') THEN updated_at END
    ) STORED,
    reason text,
    reject_reason text,
    provider_message_id text,
    attempts jsonb NOT NULL DEFAULT '[]',
    payload jsonb,
    unrecorded jsonb,
    address_hash text,
    PRIMARY KEY (organization_id, delivery_id)
) WITH (
    -- Room for the second version of the rows that are in hand at once.
    fillfactor = 75,
    -- Half of the rows of a page are dead when it is full, and the plans of status need current statistics.
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.02
);

COMMENT ON COLUMN mauntic_jobs.deliveries.owner IS 'which claim it was, so that a claim can be repeated safely';
COMMENT ON COLUMN mauntic_jobs.deliveries.job_id IS 'the row of delivery.delivery_jobs that counts it';
COMMENT ON COLUMN mauntic_jobs.deliveries.claimed_at IS 'when it was claimed last';
COMMENT ON COLUMN mauntic_jobs.deliveries.sending_at IS 'when the latest exchange that may have sent it was allowed to begin';
COMMENT ON COLUMN mauntic_jobs.deliveries.first_sending_at IS
'when the first of several exchanges that may have sent it began; evidence counts from then on';
COMMENT ON COLUMN mauntic_jobs.deliveries.fence IS 'rises with each claim; a result counts only with the latest';
COMMENT ON COLUMN mauntic_jobs.deliveries.queue_job IS 'id of the BullMQ job that last asked for it';
COMMENT ON COLUMN mauntic_jobs.deliveries.campaign_id IS 'the campaign as its payload names it';
COMMENT ON COLUMN mauntic_jobs.deliveries.domain IS 'the sending domain, while it is being warmed up';
COMMENT ON COLUMN mauntic_jobs.deliveries.unknown_fields IS
'fields of its template that neither the message nor the contact has, and that were rendered as nothing';
COMMENT ON COLUMN mauntic_jobs.deliveries.until IS
'sending: when the lease ends; deferred: not before; ambiguous: when it is sent again, null if a human decides';
COMMENT ON COLUMN mauntic_jobs.deliveries.counted IS
'whether a final result of mauntic-jobs has been counted in delivery_jobs before';
COMMENT ON COLUMN mauntic_jobs.deliveries.state IS
'claimed: taken in hand, and not being sent; sending: a provider may have it; ambiguous: nobody knows whether it has';
COMMENT ON COLUMN mauntic_jobs.deliveries.unsent_state IS 'the state, unless the message is being sent or was sent';
COMMENT ON COLUMN mauntic_jobs.deliveries.unsent_at IS 'of such a message: until, or when it reached its state';
COMMENT ON COLUMN mauntic_jobs.deliveries.reject_reason IS
'why a provider will never take it: invalid, bounced, timed_out, blocked, spam, unsubscribed or other';
COMMENT ON COLUMN mauntic_jobs.deliveries.attempts IS 'one object for each: provider, times, outcome, reason';
COMMENT ON COLUMN mauntic_jobs.deliveries.payload IS
'what was asked for, from its first result on until it was sent; before that the queue has it';
COMMENT ON COLUMN mauntic_jobs.deliveries.unrecorded IS
'the result, and the error with which Postgres refused its events and counts; null where all is recorded';
COMMENT ON COLUMN mauntic_jobs.deliveries.address_hash IS
'once the address is gone: sha256, in hexadecimal, of the organization''s id, a colon and the address in lower case';

-- Content that waits is compressed, by the quicker of two ways where the server has it.
DO $lz4$
BEGIN
    ALTER TABLE mauntic_jobs.deliveries ALTER COLUMN payload SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL;
END
$lz4$;

INSERT INTO mauntic_jobs.deliveries (
    organization_id, owner, job_id, contact_id, provider_id, created_at, claimed_at, sending_at, fence, resends,
    possible_duplicate, delivery_id, channel, queue_job, campaign_id, address, message_id, provider, updated_at, until,
    state, reason, reject_reason, provider_message_id, attempts, payload, address_hash
)
SELECT
    organization_id, owner, job_id, contact_id, provider_id, created_at, coalesce(sending_at, updated_at), sending_at,
    fence, resends, possible_duplicate, delivery_id, channel, queue_job, payload ->> 'campaignId', address, message_id,
    provider, updated_at, until, state, reason, reject_reason, provider_message_id, attempts, payload, address_hash
FROM mauntic_jobs.deliveries_before;

-- No delivery that was claimed before this time is being sent: leases that have ended are looked for after it.
CREATE TABLE mauntic_jobs.lease_sweep (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    swept_to timestamptz NOT NULL
);

INSERT INTO mauntic_jobs.lease_sweep (swept_to) VALUES ('-infinity');

-- Who could use the table before can use it still.
DO $grants$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT acl.grantee::regrole AS grantee, acl.privilege_type AS privilege
        FROM pg_class AS before, aclexplode(before.relacl) AS acl
        WHERE before.oid = 'mauntic_jobs.deliveries_before'::regclass AND acl.grantee NOT IN (0, before.relowner)
    LOOP
        EXECUTE format('GRANT %s ON mauntic_jobs.deliveries TO %s', granted.privilege, granted.grantee);
        IF granted.privilege IN ('SELECT', 'UPDATE') THEN
            EXECUTE format('GRANT %s ON mauntic_jobs.lease_sweep TO %s', granted.privilege, granted.grantee);
        END IF;
    END LOOP;
END
$grants$;

DROP TABLE mauntic_jobs.deliveries_before;

CREATE INDEX deliveries_claimed ON mauntic_jobs.deliveries (claimed_at);
CREATE INDEX deliveries_unsent ON mauntic_jobs.deliveries (unsent_state, unsent_at) WHERE unsent_state IS NOT NULL;
CREATE INDEX deliveries_owed ON mauntic_jobs.deliveries (organization_id, delivery_id)
WHERE unsent_state IN ('claimed', 'deferred', 'ambiguous');
CREATE INDEX deliveries_uncertain ON mauntic_jobs.deliveries (organization_id, delivery_id)
WHERE possible_duplicate AND unsent_state IN ('claimed', 'deferred');
-- A campaign's failed messages, in the order in which they are sent again.
CREATE INDEX deliveries_failed_of_campaign ON mauntic_jobs.deliveries (organization_id, job_id, delivery_id)
WHERE unsent_state = 'failed';
CREATE INDEX deliveries_unrecorded ON mauntic_jobs.deliveries (organization_id, delivery_id)
WHERE unrecorded IS NOT NULL;
CREATE INDEX deliveries_with_unknown_fields ON mauntic_jobs.deliveries (organization_id, claimed_at)
WHERE unknown_fields IS NOT NULL;
CREATE INDEX deliveries_of_warmup ON mauntic_jobs.deliveries (organization_id, domain, sending_at)
WHERE domain IS NOT NULL;

-- A UUID for a name: the same each time. Not md5(), which servers in FIPS mode do not have. Stable as convert_to() is,
-- because a statement can only take in a function that promises no more than its parts.
CREATE FUNCTION mauntic_jobs.uuid_of(name text) RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
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

-- What few deliveries need stands in functions of their own, in PL/pgSQL, which no statement takes in: a statement that
-- contains it prepares it at each call.

-- Whether the platform has heard of a delivery since its first exchange.
CREATE FUNCTION mauntic_jobs.has_evidence(delivery mauntic_jobs.deliveries) RETURNS boolean
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM mauntic_jobs.evidence_of(delivery));
END
$$;

-- Why contacts with an address must not get a message that names no contact, or null.
CREATE FUNCTION mauntic_jobs.refusal_by_address(
    organization uuid, channel text, address text, written text, transactional boolean
) RETURNS text
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    CASE channel
        WHEN 'email' THEN
            RETURN (
                SELECT min(mauntic_jobs.consent_refusal(
                    contact.status, contact.custom_fields, channel, transactional
                ))
                FROM crm.contacts AS contact
                WHERE
                    contact.organization_id = organization
                    AND lower(contact.email) IN (lower(address), lower(written))
            );
        WHEN 'sms' THEN
            RETURN (
                SELECT min(mauntic_jobs.consent_refusal(
                    contact.status, contact.custom_fields, channel, transactional
                ))
                FROM crm.contacts AS contact
                WHERE
                    contact.organization_id = organization
                    AND mauntic_jobs.digits_of(contact.phone) = mauntic_jobs.digits_of(address)
            );
        ELSE RETURN NULL;
    END CASE;
END
$$;

-- A result that Postgres refused to record beyond the ledger, with the error and what is needed to record it later.
CREATE FUNCTION mauntic_jobs.owed_result(results json, number int, refused text, was_counted boolean) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN (
        SELECT (result.value::jsonb - '{attempts,payload}'::text[]) || jsonb_build_object(
            'error', refused, 'counted_before', was_counted
        )
        FROM json_array_elements(results) AS result (value)
        WHERE (result.value ->> 'n')::int = number
    );
END
$$;

-- Whether the Node engine has recorded that a message of a campaign failed.
CREATE FUNCTION mauntic_jobs.has_failed_elsewhere(organization uuid, job uuid, contact uuid, by_channel text)
RETURNS boolean
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM delivery.delivery_events AS event
        WHERE
            event.contact_id = contact AND event.organization_id = organization
            AND event.job_id = job AND event.channel = by_channel
            AND event.event_type = 'failed'
            AND event.metadata ->> 'engine' IS DISTINCT FROM 'mauntic-jobs'
            -- Before it named itself, this engine wrote both.
            AND NOT coalesce(event.metadata ?& ARRAY['deliveryId', 'reason'], false)
    );
END
$$;

-- How many messages each domain of `claims` that has a limit has sent since its `day`, at most as many as it may, by
-- organization and domain; it counts what the Node engine has sent too. Until the end of the transaction nobody else
-- counts them.
CREATE FUNCTION mauntic_jobs.sent_today(claims json) RETURNS jsonb
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(domains.key)
    FROM (
        SELECT DISTINCT hashtextextended(claim.organization_id::text || ':' || claim.domain, 9) AS key
        FROM json_to_recordset(claims) AS claim (organization_id uuid, domain text, most bigint, ready boolean)
        WHERE claim.ready AND claim.most IS NOT NULL
        ORDER BY key
    ) AS domains;

    RETURN (
        SELECT jsonb_object_agg(
            each.organization_id::text || ':' || each.domain,
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
                        event.organization_id = each.organization_id
                        AND event.created_at >= each.day AT TIME ZONE 'UTC'
                        AND event.channel = 'email' AND event.event_type = 'sent'
                        AND event.metadata ->> 'engine' IS DISTINCT FROM 'mauntic-jobs'
                    LIMIT each.most
                ) AS counted
            )
        )
        FROM (
            SELECT claim.organization_id, claim.domain, min(claim.day) AS day, max(claim.most) AS most
            FROM json_to_recordset(claims) AS claim (
                organization_id uuid, domain text, most bigint, day timestamptz, ready boolean
            )
            WHERE claim.ready AND claim.most IS NOT NULL
            GROUP BY claim.organization_id, claim.domain
        ) AS each
    );
END
$$;

DROP FUNCTION mauntic_jobs.claim_deliveries(json, interval);

-- Claim deliveries: `sending` where they may go out at once, else `claimed`; say what stands in the way.
-- `claims` is an array of objects with the columns below; `n` is the caller's own number, `written` the address as it
-- was given, which may be suppressed as well; `most` is how many messages `domain` may send from `day` on (UTC), null
-- for no limit. A row is granted if it is new, waits for nothing, or is this same claim repeated, unless the platform
-- has heard of what may have been sent. One row for each n; `granted` tells. `refusal` says why the recipient must not
-- get it, `over` that the domain has sent its messages of the day: both are granted, and not `sending`.
-- Rows are always found by their keys: other plans are for tables whose statistics are not known yet. One plan is kept:
-- by their estimated costs Postgres would plan some statements anew at each call, which takes longer than executing them.
CREATE FUNCTION mauntic_jobs.claim_deliveries(claims json, lease interval)
RETURNS TABLE (
    n int, refusal text, "over" boolean, granted boolean, state text, fence bigint, message_id text,
    possible_duplicate boolean, resends int, reason text, held boolean, wait_seconds float8, has_payload boolean
)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
    -- Messages of domains that are being warmed up are claimed one after the other, all others in one statement: for
    -- them the array is not read once more.
    with_limits boolean := strpos(claims::text, '"most":') > 0;
    parts json[] := ARRAY[claims];
    sent_today jsonb;
    limited text;
    is_over boolean := false;
BEGIN
    IF with_limits THEN
        parts := ARRAY(SELECT json_build_array(each.value) FROM json_array_elements(claims) AS each (value));
        sent_today := mauntic_jobs.sent_today(claims);
    END IF;

    FOR part IN 1..cardinality(parts) LOOP
        IF with_limits THEN
            limited := NULL;
            SELECT
                claim.organization_id::text || ':' || claim.domain,
                (sent_today ->> (claim.organization_id::text || ':' || claim.domain))::bigint >= claim.most
            INTO limited, is_over
            FROM json_to_recordset(parts[part]) AS claim (
                organization_id uuid, delivery_id text, domain text, most bigint, ready boolean
            )
            WHERE claim.ready AND claim.most IS NOT NULL AND NOT EXISTS (
                SELECT FROM mauntic_jobs.deliveries AS settled
                WHERE
                    settled.organization_id = claim.organization_id AND settled.delivery_id = claim.delivery_id
                    AND (
                        settled.state NOT IN ('claimed', 'sending', 'deferred', 'ambiguous')
                        OR settled.until > clock_timestamp()
                    )
            );
        END IF;

        RETURN QUERY
        WITH given AS MATERIALIZED (
            SELECT
                claim.*,
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
                        WHEN own.id IS NOT NULL THEN mauntic_jobs.consent_refusal(
                            own.status, own.custom_fields, claim.channel, claim.transactional
                        )
                        ELSE mauntic_jobs.refusal_by_address(
                            claim.organization_id, claim.channel, claim.address, claim.written, claim.transactional
                        )
                    END
                ) END AS refusal
            FROM json_to_recordset(parts[part]) AS claim (
                n int, organization_id uuid, delivery_id text, channel text, job_id uuid, contact_id uuid, address text,
                written text, queue_job text, provider_id uuid, provider text, message_id text, campaign_id text,
                owner uuid, ready boolean, transactional boolean, domain text, most bigint, unknown_fields text[]
            )
            LEFT JOIN crm.contacts AS own
                ON own.id = claim.contact_id AND own.organization_id = claim.organization_id
        ), written AS (
            INSERT INTO mauntic_jobs.deliveries AS delivery (
                organization_id, delivery_id, channel, state, until, job_id, contact_id, address, queue_job, provider_id,
                provider, message_id, campaign_id, owner, sending_at, domain, unknown_fields
            )
            SELECT
                organization_id, delivery_id, channel,
                CASE WHEN goes THEN 'sending' ELSE 'claimed' END,
                CASE WHEN goes THEN clock_timestamp() + lease END,
                job_id, contact_id, address, queue_job, provider_id, provider, message_id, campaign_id, owner,
                CASE WHEN goes THEN clock_timestamp() END,
                CASE WHEN most IS NOT NULL THEN domain END, unknown_fields
            FROM (SELECT given.*, ready AND refusal IS NULL AND is_over IS NOT TRUE AS goes FROM given) AS each
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
                campaign_id = coalesce(EXCLUDED.campaign_id, delivery.campaign_id),
                owner = EXCLUDED.owner,
                fence = delivery.fence + 1,
                resends = delivery.resends + (delivery.state = 'ambiguous' AND EXCLUDED.state = 'sending')::int,
                possible_duplicate = delivery.possible_duplicate OR delivery.state = 'ambiguous',
                sending_at = coalesce(EXCLUDED.sending_at, delivery.sending_at),
                first_sending_at = CASE
                    WHEN delivery.possible_duplicate OR delivery.state = 'ambiguous'
                        THEN coalesce(delivery.first_sending_at, delivery.sending_at)
                END,
                domain = coalesce(EXCLUDED.domain, delivery.domain),
                unknown_fields = EXCLUDED.unknown_fields,
                claimed_at = clock_timestamp(),
                updated_at = clock_timestamp()
            WHERE
                (delivery.owner = EXCLUDED.owner AND delivery.state = 'sending')
                OR (
                    (
                        delivery.state = 'claimed'
                        OR (delivery.state IN ('deferred', 'ambiguous') AND delivery.until <= clock_timestamp())
                    ) AND (
                        NOT (delivery.possible_duplicate OR delivery.state = 'ambiguous')
                        OR NOT mauntic_jobs.has_evidence(delivery)
                    )
                )
            RETURNING *
        )
        SELECT
            given.n, given.refusal, is_over IS TRUE AS "over", written.fence IS NOT NULL AS granted,
            coalesce(written.state, existing.state) AS state,
            coalesce(written.fence, existing.fence) AS fence,
            coalesce(written.message_id, existing.message_id) AS message_id,
            coalesce(written.possible_duplicate, existing.possible_duplicate) AS possible_duplicate,
            coalesce(written.resends, existing.resends) AS resends,
            coalesce(written.reason, existing.reason) AS reason,
            existing.state = 'ambiguous' AND existing.until IS NULL AS held,
            extract(EPOCH FROM existing.until - clock_timestamp())::float8 AS wait_seconds,
            existing.payload IS NOT NULL AS has_payload
        FROM given
        LEFT JOIN written ON written.organization_id = given.organization_id AND written.delivery_id = given.delivery_id
        LEFT JOIN LATERAL (
            SELECT * FROM mauntic_jobs.deliveries AS found
            WHERE
                written.fence IS NULL
                AND found.organization_id = given.organization_id AND found.delivery_id = given.delivery_id
        ) AS existing ON true;

        IF limited IS NOT NULL AND EXISTS (
            SELECT FROM json_to_recordset(parts[part]) AS claim (organization_id uuid, delivery_id text, owner uuid)
            INNER JOIN mauntic_jobs.deliveries AS delivery
                ON delivery.organization_id = claim.organization_id AND delivery.delivery_id = claim.delivery_id
            WHERE delivery.owner = claim.owner AND delivery.state = 'sending'
        ) THEN
            sent_today := jsonb_set(sent_today, ARRAY[limited], to_jsonb((sent_today ->> limited)::bigint + 1));
        END IF;
    END LOOP;
END
$$;

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

-- A result as `settle_deliveries` has written it into the ledger, with what else is to be recorded of it.
CREATE TYPE mauntic_jobs.settled_delivery AS (
    n int, recorded boolean, state text, held boolean, wait_seconds float8,
    organization_id uuid, delivery_id text, fence bigint, channel text, reason text, job_id uuid, contact_id uuid,
    address text, provider text, provider_message_id text, message_id text, possible_duplicate boolean,
    campaign_id text, reject text, elsewhere boolean, tried_elsewhere boolean
);

-- Write into the ledger, and nowhere else, what became of claimed deliveries. `results` is an array of objects with the
-- columns below; a result counts only with the latest fence. `wait` is in seconds, null for no wait; `hold`: a human
-- must decide. A result that is ambiguous is sent again once, except an SMS. What may have been sent before stays
-- ambiguous, for a human, whatever stops it now. `refused` is the error with which Postgres refused what else is
-- recorded of a final result, which is then owed; a result with `again` is one that was owed, and `counted_before` what
-- was noted with it. A result with `given_up` is of a message that waits and shall wait no longer: it counts in every
-- state but that of being sent. With `for_good` what may have been sent is not left to a human either, and the time of
-- the last change stays what it was.
CREATE FUNCTION mauntic_jobs.settle_deliveries(results json, resend_after interval, refused text)
RETURNS SETOF mauntic_jobs.settled_delivery
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT *
        FROM json_to_recordset(results) AS result (
            n int, organization_id uuid, delivery_id text, fence bigint, state text, reason text, wait float8,
            provider_id uuid, provider text, provider_message_id text, attempts jsonb, payload jsonb, reject text,
            elsewhere boolean, tried_elsewhere boolean, hold boolean, again boolean, given_up boolean, for_good boolean,
            counted_before boolean
        )
    ), judged AS (
        SELECT
            given.*, coalesce(given.counted_before, delivery.counted) AS was_counted,
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
                WHEN judged.again OR judged.attempts IS NULL THEN delivery.attempts
                -- Few have more, and for one such call there could be four results.
                WHEN jsonb_array_length(delivery.attempts) < 40 THEN delivery.attempts || judged.attempts
                ELSE mauntic_jobs.bounded_attempts(delivery.attempts || judged.attempts)
            END,
            reject_reason = judged.reject,
            payload = CASE
                WHEN judged.new_state NOT IN ('sent', 'suppressed') AND judged.for_good IS NOT TRUE
                    THEN coalesce(judged.payload, delivery.payload)
            END,
            counted = delivery.counted OR (
                judged.new_state IN ('sent', 'failed', 'suppressed', 'expired') AND judged.elsewhere IS NOT TRUE
            ),
            unrecorded = CASE
                WHEN refused IS NOT NULL AND judged.new_state IN ('sent', 'failed', 'suppressed', 'expired') THEN
                    mauntic_jobs.owed_result(results, judged.n, refused, judged.was_counted)
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
        RETURNING delivery.*, judged.elsewhere, judged.tried_elsewhere, judged.was_counted
    )
    SELECT
        given.n, changed.fence IS NOT NULL,
        coalesce(changed.state, existing.state),
        coalesce(changed.state, existing.state) = 'ambiguous' AND CASE
            WHEN changed.fence IS NOT NULL THEN changed.until
            ELSE existing.until
        END IS NULL,
        extract(EPOCH FROM CASE
            WHEN changed.fence IS NOT NULL THEN changed.until
            ELSE existing.until
        END - clock_timestamp())::float8,
        changed.organization_id, changed.delivery_id, changed.fence, changed.channel, changed.reason, changed.job_id,
        changed.contact_id, changed.address, changed.provider, changed.provider_message_id, changed.message_id,
        changed.possible_duplicate, changed.campaign_id, changed.reject_reason, changed.elsewhere IS TRUE,
        changed.tried_elsewhere IS TRUE AND NOT changed.was_counted
    FROM given
    LEFT JOIN changed ON changed.organization_id = given.organization_id AND changed.delivery_id = given.delivery_id
    LEFT JOIN LATERAL (
        SELECT * FROM mauntic_jobs.deliveries AS found
        WHERE
            changed.fence IS NULL
            AND found.organization_id = given.organization_id AND found.delivery_id = given.delivery_id
    ) AS existing ON true;
END
$$;

DROP FUNCTION mauntic_jobs.record_deliveries(json, interval, boolean);

-- Write down what became of claimed deliveries, and everything that follows from it, once: `settle_deliveries` says
-- what `results` holds. `elsewhere`: the Node engine has finished it, and has counted it; `tried_elsewhere`: it may
-- have counted a failure of what has an end only now, which is taken back. What nothing asks for is left out, because
-- beginning a statement costs more than a row of it.
CREATE FUNCTION mauntic_jobs.record_deliveries(results json, resend_after interval, record_activity boolean)
RETURNS TABLE (n int, recorded boolean, state text, held boolean, wait_seconds float8)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
    settled mauntic_jobs.settled_delivery[] := ARRAY(
        SELECT each FROM mauntic_jobs.settle_deliveries(results, resend_after, NULL) AS each
    );
    one mauntic_jobs.settled_delivery;
    has_events boolean := false;
    has_activity boolean := false;
    has_rejects boolean := false;
    has_counts boolean := false;
BEGIN
    FOREACH one IN ARRAY settled LOOP
        CONTINUE WHEN NOT one.recorded;
        has_events := has_events OR (one.state IN ('sent', 'failed') AND one.contact_id IS NOT NULL);
        has_activity := has_activity OR (record_activity AND one.state = 'sent' AND one.contact_id IS NOT NULL);
        has_rejects := has_rejects OR one.reject IS NOT NULL;
        has_counts := has_counts OR one.job_id IS NOT NULL;
    END LOOP;

    IF has_counts THEN
        WITH counted AS (
            SELECT
                organization_id, job_id, count(*) FILTER (WHERE state = 'sent' AND NOT elsewhere) AS sent,
                count(*) FILTER (WHERE state <> 'sent' AND NOT elsewhere) - count(*) FILTER (
                    WHERE
                        tried_elsewhere AND NOT elsewhere
                        AND mauntic_jobs.has_failed_elsewhere(organization_id, job_id, contact_id, channel)
                ) AS failed
            FROM unnest(settled) AS changed
            WHERE recorded AND job_id IS NOT NULL AND state IN ('sent', 'failed', 'suppressed', 'expired')
            GROUP BY organization_id, job_id
        ), locked AS MATERIALIZED (
            -- In one order, so that no two processes wait for each other.
            SELECT job.id, job.organization_id
            FROM delivery.delivery_jobs AS job
            WHERE (job.organization_id, job.id) IN (SELECT organization_id, job_id FROM counted)
            ORDER BY job.id
            FOR NO KEY UPDATE
        )
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
        WHERE job.id = counted.job_id AND job.organization_id = counted.organization_id;
    END IF;

    IF has_events THEN
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
        FROM unnest(settled) AS changed
        WHERE recorded AND state IN ('sent', 'failed') AND contact_id IS NOT NULL AND NOT elsewhere
        ON CONFLICT (id) DO NOTHING;
    END IF;

    IF has_activity THEN
        INSERT INTO analytics.contact_activity (
            id, organization_id, contact_id, event_type, event_source, event_data, created_at
        )
        SELECT
            mauntic_jobs.uuid_of(organization_id::text || ':' || delivery_id || ':sent'), organization_id, contact_id,
            channel || '_sent', left(campaign_id, 100), jsonb_build_object('deliveryId', delivery_id),
            clock_timestamp() AT TIME ZONE 'UTC'
        FROM unnest(settled) AS changed
        WHERE recorded AND state = 'sent' AND contact_id IS NOT NULL AND NOT elsewhere
        ON CONFLICT (id) DO NOTHING;
    END IF;

    IF has_rejects THEN
        -- By an id of the address' own: two processes that hear of it at once would both find it unknown.
        INSERT INTO delivery.suppressions (id, organization_id, email, reason, source, created_at)
        SELECT DISTINCT ON (organization_id, lower(address))
            mauntic_jobs.uuid_of(organization_id::text || ':' || lower(address)), organization_id, lower(address),
            CASE reject WHEN 'bounced' THEN 'bounce' WHEN 'spam' THEN 'complaint' ELSE 'unsubscribe' END,
            'mauntic-jobs', clock_timestamp() AT TIME ZONE 'UTC'
        FROM unnest(settled) AS changed
        WHERE
            recorded AND reject IN ('bounced', 'spam', 'unsubscribed') AND channel <> 'push' AND NOT EXISTS (
                SELECT FROM delivery.suppressions AS known
                WHERE known.organization_id = changed.organization_id AND known.email = lower(changed.address)
            )
        ON CONFLICT (id) DO NOTHING;
    END IF;

    RETURN QUERY
    SELECT each.n, each.recorded, each.state, each.held, each.wait_seconds FROM unnest(settled) AS each;
END
$$;
