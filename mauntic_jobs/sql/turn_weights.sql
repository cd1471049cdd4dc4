-- Weights of organizations in their turns, which operators set.

-- current -- The weights of all organizations that have one, or of one organization.
SELECT organization_id, weight, why, set_by, since
FROM mauntic_jobs.turn_weights
WHERE %(organization)s::uuid IS NULL OR organization_id = %(organization)s
ORDER BY since DESC, organization_id

-- set -- Give an organization a weight.
INSERT INTO mauntic_jobs.turn_weights (organization_id, weight, why, set_by, since)
VALUES (%(organization)s, %(weight)s, %(why)s, %(by)s, %(since)s)
ON CONFLICT (organization_id) DO UPDATE
SET weight = excluded.weight, why = excluded.why, set_by = excluded.set_by, since = excluded.since

-- unset -- Give an organization the usual weight.
DELETE FROM mauntic_jobs.turn_weights WHERE organization_id = %(organization)s
