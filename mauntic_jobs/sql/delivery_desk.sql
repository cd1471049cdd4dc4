-- What an operator asks of the delivery ledger.

-- list -- The deliveries that were claimed last, of some states, an organization and a channel; each is for all if null.
-- `blame` is what the last refusal is about, or the class that the provider's API has for it.
SELECT
    delivery_id, organization_id, channel, state, address, until, updated_at, possible_duplicate,
    jsonb_array_length(attempts) + coalesce((attempts -> 10 ->> 'omitted')::int - 1, 0) AS attempts,
    coalesce(attempts -> -1 ->> 'blame', reject_reason) AS blame, reason
FROM mauntic_jobs.deliveries
WHERE
    (%(states)s::text[] IS NULL OR state = any(%(states)s::text[]))
    AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s::uuid)
    AND (%(channel)s::text IS NULL OR channel = %(channel)s::text)
    AND claimed_at >= coalesce(%(since)s::timestamptz, '-infinity')
ORDER BY claimed_at DESC
LIMIT %(limit)s

-- list_of_organization -- The same of one organization, which may have few of all deliveries: its own are sorted.
SELECT
    delivery_id, organization_id, channel, state, address, until, updated_at, possible_duplicate,
    jsonb_array_length(attempts) + coalesce((attempts -> 10 ->> 'omitted')::int - 1, 0) AS attempts,
    coalesce(attempts -> -1 ->> 'blame', reject_reason) AS blame, reason
FROM mauntic_jobs.deliveries
WHERE
    organization_id = %(organization)s::uuid AND (%(states)s::text[] IS NULL OR state = any(%(states)s::text[]))
    AND (%(channel)s::text IS NULL OR channel = %(channel)s::text)
ORDER BY claimed_at + interval '0' DESC
LIMIT %(limit)s

-- list_unsent -- The same of states other than sending and sent, whose deliveries are few: they are sorted.
SELECT
    delivery_id, organization_id, channel, state, address, until, updated_at, possible_duplicate,
    jsonb_array_length(attempts) + coalesce((attempts -> 10 ->> 'omitted')::int - 1, 0) AS attempts,
    coalesce(attempts -> -1 ->> 'blame', reject_reason) AS blame, reason
FROM mauntic_jobs.deliveries
WHERE
    unsent_state = any(%(states)s::text[])
    AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s::uuid)
    AND (%(channel)s::text IS NULL OR channel = %(channel)s::text)
ORDER BY claimed_at + interval '0' DESC
LIMIT %(limit)s

-- count -- How many deliveries there are of each channel and state; of those that were sent, only since a time.
SELECT channel, state, count(*) AS deliveries, min(created_at) AS oldest, max(updated_at) AS latest
FROM (
    SELECT channel, state, created_at, updated_at
    FROM mauntic_jobs.deliveries
    WHERE unsent_state IS NOT NULL AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s::uuid)
    UNION ALL
    SELECT channel, state, created_at, updated_at
    FROM mauntic_jobs.deliveries
    WHERE
        unsent_state IS NULL AND claimed_at >= %(since)s
        AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s::uuid)
) AS known
GROUP BY channel, state
ORDER BY channel, state

-- show -- Everything about the deliveries of an id, of one organization if it is given.
SELECT *
FROM mauntic_jobs.deliveries
WHERE delivery_id = %(delivery)s AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s::uuid)
ORDER BY organization_id

-- events -- What the platform has heard of a delivery.
SELECT event_type, provider_message_id, metadata, created_at AT TIME ZONE 'UTC' AS created_at
FROM delivery.delivery_events
WHERE
    organization_id = %(organization)s AND contact_id = %(contact)s AND channel = %(channel)s
    AND (
        metadata ->> 'deliveryId' = %(delivery)s
        OR provider_message_id IN (%(message_id)s, btrim(%(message_id)s, '<>'), %(provider_message_id)s)
    )
ORDER BY delivery_events.created_at

-- campaign_owner -- The organization that a campaign belongs to.
SELECT organization_id FROM delivery.delivery_jobs WHERE id = %(campaign)s

-- unsent_reasons -- Why messages of a state were not sent, by organization and channel; `gone` have no content. Each
-- condition but the state is for all if it is null.
SELECT
    delivery.organization_id, delivery.channel, delivery.reason, count(*) AS deliveries,
    count(*) FILTER (WHERE delivery.payload IS NULL) AS gone
FROM mauntic_jobs.deliveries AS delivery
WHERE
    delivery.unsent_state = %(state)s
    AND (%(organization)s::uuid IS NULL OR delivery.organization_id = %(organization)s::uuid)
    AND (%(campaign)s::uuid IS NULL OR delivery.job_id = %(campaign)s::uuid)
    AND (%(channel)s::text IS NULL OR delivery.channel = %(channel)s::text)
    AND (%(since)s::timestamptz IS NULL OR delivery.unsent_at >= %(since)s::timestamptz)
    AND (%(reason)s::text IS NULL OR strpos(lower(delivery.reason), lower(%(reason)s::text)) > 0)
GROUP BY delivery.organization_id, delivery.channel, delivery.reason
ORDER BY delivery.organization_id, deliveries DESC, delivery.reason

-- unsent_page -- Messages of an organization and a state that can be sent again, a page after the last delivery id given.
SELECT
    delivery.organization_id, delivery.delivery_id, delivery.channel, delivery.fence, delivery.payload,
    delivery.created_at
FROM mauntic_jobs.deliveries AS delivery
WHERE
    delivery.unsent_state = %(state)s AND delivery.organization_id = %(organization)s
    AND delivery.payload IS NOT NULL AND delivery.delivery_id > %(after)s
    AND (%(campaign)s::uuid IS NULL OR delivery.job_id = %(campaign)s::uuid)
    AND (%(channel)s::text IS NULL OR delivery.channel = %(channel)s::text)
    AND (%(since)s::timestamptz IS NULL OR delivery.unsent_at >= %(since)s::timestamptz)
    AND (%(reason)s::text IS NULL OR strpos(lower(delivery.reason), lower(%(reason)s::text)) > 0)
ORDER BY delivery.delivery_id
LIMIT %(page)s
