-- Sending domains that are being warmed up, as operators see them.

-- domains -- The sending domains created after `created` (timestamp, UTC), which are being warmed up, of an organization and of
-- a name where these are given, the newest first, and what each has sent since `day` (timestamptz) as a claim counts it: by the ledger, and by the Node engine.
SELECT
    domain.organization_id, domain.domain, domain.created_at,
    (
        SELECT coalesce(sum(1 + own.resends), 0)::bigint
        FROM mauntic_jobs.deliveries AS own
        WHERE
            own.organization_id = domain.organization_id AND own.domain = domain.domain
            AND own.sending_at >= greatest(%(day)s, domain.created_at AT TIME ZONE 'UTC')
            AND (own.state IN ('sending', 'sent', 'ambiguous') OR own.possible_duplicate)
    ) + (
        SELECT count(*)
        FROM delivery.delivery_events AS event
        WHERE
            event.organization_id = domain.organization_id
            AND event.created_at >= greatest(%(day)s AT TIME ZONE 'UTC', domain.created_at)
            AND event.channel = 'email' AND event.event_type = 'sent'
            AND event.metadata ->> 'engine' IS DISTINCT FROM 'mauntic-jobs'
    ) AS sent
FROM (
    SELECT organization_id, lower(domain) AS domain, min(created_at) AS created_at
    FROM delivery.sending_domains
    WHERE
        created_at > %(created)s
        AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
        AND (%(domain)s::text IS NULL OR lower(domain) = lower(%(domain)s))
    GROUP BY organization_id, lower(domain)
    ORDER BY min(created_at) DESC
    LIMIT %(most)s
) AS domain

-- waiting -- Messages that wait for the next day of their domain, by organization and domain, of an organization and of a
-- domain where these are given; at most `most` are looked at.
SELECT organization_id, domain, count(*) AS deliveries
FROM (
    SELECT organization_id, substring(reason FROM '^warm-up: (.*) has sent its ') AS domain
    FROM mauntic_jobs.deliveries
    WHERE
        unsent_state = 'deferred' AND reason LIKE 'warm-up: %%'
        AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
        AND (%(domain)s::text IS NULL OR starts_with(reason, 'warm-up: ' || lower(%(domain)s) || ' has sent '))
    LIMIT %(most)s
) AS deferred
GROUP BY organization_id, domain
