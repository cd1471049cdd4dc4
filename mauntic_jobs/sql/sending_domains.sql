-- The platform's sending domains.
-- Parameters: organizations (uuid[], null for all).

-- warming_up -- Name the domains created from `start` to just before `end` (timestamp, UTC), whatever their status, by
-- organization.
SELECT organization_id::text AS organization_id, array_agg(domain ORDER BY domain) AS domains
FROM delivery.sending_domains
WHERE created_at >= %(start)s AND created_at < %(end)s
  AND (%(organizations)s::uuid[] IS NULL OR organization_id = ANY (%(organizations)s::uuid[]))
GROUP BY organization_id
ORDER BY organization_id

-- unknown_organizations -- Name the given organizations that have no sending domain.
SELECT wanted.id
FROM unnest(%(organizations)s::uuid[]) AS wanted (id)
WHERE NOT EXISTS (SELECT FROM delivery.sending_domains AS known WHERE known.organization_id = wanted.id)
ORDER BY wanted.id
