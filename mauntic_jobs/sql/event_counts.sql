-- The raw events of a range of time, counted for the rollups. Parameters: start, end (timestamp, UTC, half-open), date (the
-- first day), organizations (uuid[], null for all), share and seed (to look at this share of the organizations in 2^31,
-- drawn by the seed; null for all), half (0 or 1 for the events of one half of the contacts, null for all).

-- count -- Count the events and the distinct contacts of each organization and type.
-- By contact first: to sort the contacts of a group, as count(DISTINCT) does, takes longer. What does not fit into work_mem
-- is spilled to disk, in as many parts as the planner expects to need: of a half it expects a third of the events, because
-- its condition is an inequality, and of `hash & 1` it would expect one in 200.
SELECT organization_id, event_type, sum(events)::bigint AS count, count(*) AS unique_count
FROM (
    SELECT organization_id, event_type, contact_id, count(*) AS events
    FROM analytics.contact_activity
    WHERE created_at >= %(start)s AND created_at < %(end)s
      AND (%(half)s::int IS NULL OR (uuid_hash(contact_id) < 0) = (%(half)s::int = 0))
      AND (%(organizations)s::uuid[] IS NULL OR organization_id = ANY (%(organizations)s::uuid[]))
      AND (%(share)s::bigint IS NULL
           OR uuid_hash_extended(organization_id, %(seed)s::bigint) & 2147483647 < %(share)s::bigint)
    GROUP BY organization_id, event_type, contact_id
) AS by_contact
GROUP BY organization_id, event_type

-- planned -- Have the planner say how many events there are, by its statistics; it reads none of them.
EXPLAIN (FORMAT JSON)
SELECT FROM analytics.contact_activity WHERE created_at >= %(start)s AND created_at < %(end)s

-- recorded -- Sum up the events of the first day as they are recorded: statistics are too old to know of the present day.
SELECT coalesce(sum(count), 0)::bigint AS events
FROM analytics.event_aggregates
WHERE date = %(date)s AND channel IS NULL AND NOT starts_with(event_type, 'monthly:')
