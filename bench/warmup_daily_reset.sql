-- What `warmup_daily_reset.py` asks the server.

-- domains -- Add sending domains, 20 to an organization, created in the 30 days before `today`.
INSERT INTO delivery.sending_domains (organization_id, domain, created_at)
SELECT md5((number / 20)::text)::uuid, 'mail' || number || '.example.com',
       %(today)s::timestamp - (number %% 30 || ' days')::interval - interval '1 hour'
FROM generate_series(1, %(domains)s) AS numbers (number)

-- warming_up -- Name them, as the job that is replaced does.
SELECT organization_id::text, domain
FROM delivery.sending_domains
WHERE created_at >= %(today)s::timestamp - interval '30 days'
ORDER BY organization_id, domain
