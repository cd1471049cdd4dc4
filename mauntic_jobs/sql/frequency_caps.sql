-- Frequency caps: which marketing messages of a channel its contacts may still get, by the database's clock, which all
-- processes share.

-- count -- Count deliveries that are about to be sent, where the `period` before has fewer than `most` others of the same
-- contact; return by contact which are counted. What failed, was suppressed or expired since does not count. A row is
-- locked until it is committed, so that processes count one after the other; no contact may be given twice.
INSERT INTO mauntic_jobs.frequency_caps AS known (organization_id, contact_id, channel, deliveries, updated_at)
SELECT
    organization_id, contact_id, %(channel)s,
    jsonb_build_object(delivery_id, extract(EPOCH FROM clock_timestamp())), clock_timestamp()
FROM unnest(%(organizations)s::uuid[], %(contacts)s::uuid[], %(deliveries)s::text[])
    AS asked (organization_id, contact_id, delivery_id)
-- In one order, so that no two processes wait for each other.
ORDER BY organization_id, contact_id
ON CONFLICT (organization_id, contact_id, channel) DO UPDATE SET
    deliveries = (
        SELECT
            coalesce(jsonb_object_agg(counted.key, counted.value), '{}')
            || CASE WHEN count(*) < %(most)s THEN EXCLUDED.deliveries ELSE '{}' END
        FROM jsonb_each(known.deliveries) AS counted
        WHERE
            counted.value::float8 > extract(EPOCH FROM clock_timestamp() - %(period)s::interval)
            AND NOT EXCLUDED.deliveries ? counted.key
            -- One that was counted before it was claimed has no row yet.
            AND coalesce(
                (
                    SELECT delivery.state
                    FROM mauntic_jobs.deliveries AS delivery
                    WHERE delivery.organization_id = known.organization_id AND delivery.delivery_id = counted.key
                ), 'claimed'
            ) NOT IN ('failed', 'suppressed', 'expired')
    ),
    updated_at = EXCLUDED.updated_at
RETURNING organization_id, contact_id, deliveries
