-- provider -- The one that is measured.
INSERT INTO delivery.provider_configs (organization_id, channel, provider_type, config)
VALUES (%(org)s, %(channel)s, %(type)s, %(config)s)
