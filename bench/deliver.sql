-- domain -- A sending domain that is past its warm-up.
INSERT INTO delivery.sending_domains (organization_id, domain, status, created_at)
VALUES (%(org)s, 'acme.test', 'verified', '2020-01-01')

-- provider -- The sink.
INSERT INTO delivery.provider_configs (organization_id, channel, provider_type, config)
VALUES (%(org)s, 'email', 'custom_smtp', %(config)s::jsonb)

-- template -- 6 kB of HTML with variables.
INSERT INTO content.templates (id, organization_id, name, type, subject, body_html, body_text)
VALUES (%(template)s, %(org)s, 'Bench', 'email', %(subject)s, %(html)s, %(text)s)

-- job -- The campaign that counts the messages.
INSERT INTO delivery.delivery_jobs (
    id, organization_id, channel, status, recipient_count, sent_count, failed_count, idempotency_key
)
VALUES (%(job)s, %(org)s, 'email', 'queued', %(messages)s, 0, 0, %(job)s::text)
