-- The providers that organizations have configured.

-- list -- The providers of all organizations or of one, in the order in which they are tried.
SELECT id, organization_id, channel, provider_type, config, priority, is_active
FROM delivery.provider_configs
WHERE %(organization)s::uuid IS NULL OR organization_id = %(organization)s::uuid
ORDER BY organization_id, channel, priority DESC, created_at, id

-- organizations -- Some organizations that have a provider.
SELECT DISTINCT organization_id FROM delivery.provider_configs ORDER BY organization_id LIMIT %(most)s
