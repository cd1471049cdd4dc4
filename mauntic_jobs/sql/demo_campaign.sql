-- The demo's campaign: its providers, its template, and whom it is sent to.

-- recipients -- Some contacts of an organization, the same each time.
SELECT DISTINCT contact_id FROM analytics.contact_activity WHERE organization_id = %(organization)s ORDER BY 1 LIMIT %(limit)s

-- provider -- Add a provider.
INSERT INTO delivery.provider_configs (organization_id, channel, provider_type, config)
VALUES (%(organization)s, %(channel)s, %(type)s, %(config)s::jsonb)

-- template -- Add a template and return its id.
INSERT INTO content.templates (organization_id, name, type, subject, body_html, body_text)
VALUES (%(organization)s, 'News', %(channel)s, %(subject)s, %(html)s, %(text)s)
RETURNING id

-- job -- Add the row that a campaign's messages are counted in, and return its id.
INSERT INTO delivery.delivery_jobs (organization_id, channel, recipient_count, idempotency_key)
VALUES (%(organization)s, %(channel)s, %(recipients)s, gen_random_uuid()::text)
RETURNING id

-- suppress -- Put an address on the suppression list.
INSERT INTO delivery.suppressions (organization_id, email, reason, source)
VALUES (%(organization)s, %(address)s, 'unsubscribe', 'demo')

-- outcome -- What became of the campaigns' messages.
SELECT
    job.channel, job.recipient_count, job.status,
    count(*) FILTER (WHERE delivery.state = 'sent') AS sent,
    count(*) FILTER (WHERE delivery.state = 'suppressed') AS suppressed,
    count(*) FILTER (WHERE delivery.state = 'failed') AS failed,
    (SELECT count(*) FROM delivery.delivery_events AS event WHERE event.job_id = job.id) AS events
FROM delivery.delivery_jobs AS job
JOIN mauntic_jobs.deliveries AS delivery ON delivery.job_id = job.id
GROUP BY job.id
ORDER BY job.channel
