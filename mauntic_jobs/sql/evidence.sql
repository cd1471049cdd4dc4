-- Deliveries that may have been sent: what the platform has heard of them since.

-- evidence -- Find deliveries that may have been sent, and of which the platform has heard since: they were.
SELECT
    delivery.organization_id, delivery.delivery_id, delivery.channel, delivery.fence, evidence.provider_message_id,
    -- What was never claimed to be sent, another engine had in hand, and this one has not sent it.
    delivery.address IS NOT NULL AND EXISTS (
        SELECT
        FROM delivery.delivery_events AS event
        WHERE
            event.organization_id = delivery.organization_id
            AND event.job_id = delivery.job_id AND event.contact_id = delivery.contact_id
            AND event.channel = delivery.channel AND event.event_type = 'sent'
            AND event.metadata ->> 'engine' IS DISTINCT FROM 'mauntic-jobs'
            AND event.created_at >= (
                coalesce(delivery.first_sending_at, delivery.sending_at) AT TIME ZONE 'UTC' - interval '1 day'
            )
    ) AS elsewhere
FROM (
    SELECT organization_id, delivery_id FROM mauntic_jobs.deliveries WHERE unsent_state = 'ambiguous'
    UNION ALL
    SELECT organization_id, delivery_id
    FROM mauntic_jobs.deliveries
    WHERE possible_duplicate AND unsent_state IN ('claimed', 'deferred')
) AS uncertain
INNER JOIN mauntic_jobs.deliveries AS delivery
    ON delivery.organization_id = uncertain.organization_id AND delivery.delivery_id = uncertain.delivery_id
CROSS JOIN LATERAL (
    SELECT provider_message_id FROM mauntic_jobs.evidence_of(delivery) ORDER BY campaign_event LIMIT 1
) AS evidence
ORDER BY delivery.until
LIMIT %(most)s

-- name_doubles -- Mark deliveries that another engine may have sent as well.
UPDATE mauntic_jobs.deliveries AS delivery
SET possible_duplicate = true
FROM unnest(%(organizations)s::uuid[], %(deliveries)s::text[]) AS wanted (organization_id, delivery_id)
WHERE delivery.organization_id = wanted.organization_id AND delivery.delivery_id = wanted.delivery_id
