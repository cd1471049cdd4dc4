-- Ways to count a month's events and distinct contacts by organization and event type, as sums over all groups.
-- Parameters: start, end (timestamp, UTC).

-- count_distinct -- The obvious way.
SELECT count(*)::bigint AS groups, sum(events)::bigint AS events, sum(contacts)::bigint AS contacts
FROM (
    SELECT organization_id, event_type, count(*) AS events, count(DISTINCT contact_id) AS contacts
    FROM analytics.contact_activity
    WHERE created_at >= %(start)s AND created_at < %(end)s
    GROUP BY organization_id, event_type
) AS counted

-- two_levels -- First by contact, then by group: nothing has to be sorted.
SELECT count(*)::bigint AS groups, sum(events)::bigint AS events, sum(contacts)::bigint AS contacts
FROM (
    SELECT organization_id, event_type, sum(events) AS events, count(*) AS contacts
    FROM (
        SELECT organization_id, event_type, contact_id, count(*) AS events
        FROM analytics.contact_activity
        WHERE created_at >= %(start)s AND created_at < %(end)s
        GROUP BY organization_id, event_type, contact_id
    ) AS by_contact
    GROUP BY organization_id, event_type
) AS counted

-- clear -- Let the job begin without rows.
DELETE FROM analytics.event_aggregates

-- written -- Sum up what the job wrote.
SELECT count(*)::bigint AS groups, sum(count)::bigint AS events, sum(unique_count)::bigint AS contacts
FROM analytics.event_aggregates
WHERE channel = 'monthly_summary'
