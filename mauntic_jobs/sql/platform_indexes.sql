-- The indexes that mauntic-jobs adds to the platform's tables. They are built concurrently, so that writers go on.
-- For a unique key there are four statements: build, drop (a build that failed leaves an invalid index), count the
-- surplus rows, and move them to mauntic_jobs.duplicates.

-- contact_activity_created_at -- Find the events of a day without reading the whole table.
CREATE INDEX CONCURRENTLY mauntic_jobs_contact_activity_created_at
ON analytics.contact_activity USING brin (created_at) WITH (autosummarize = on)

-- contact_activity_created_at_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS analytics.mauntic_jobs_contact_activity_created_at

-- event_aggregates_key -- One rollup for each organization, day, type and channel, also where the channel is null.
CREATE UNIQUE INDEX CONCURRENTLY mauntic_jobs_event_aggregates_key
ON analytics.event_aggregates (organization_id, date, event_type, channel) NULLS NOT DISTINCT

-- event_aggregates_key_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS analytics.mauntic_jobs_event_aggregates_key

-- event_aggregates_key_surplus -- Count the rows that share their key with a row that would be kept.
SELECT count(*) - count(DISTINCT (organization_id, date, event_type, channel)) AS surplus
FROM analytics.event_aggregates

-- event_aggregates_key_move -- Of rows with one key, keep the highest count, then unique_count, then the lowest id.
WITH ranked AS (
    SELECT id, first_value(id) OVER same_key AS kept_id
    FROM analytics.event_aggregates
    WINDOW same_key AS (
        PARTITION BY organization_id, date, event_type, channel ORDER BY count DESC, unique_count DESC, id
    )
), moved AS (
    DELETE FROM analytics.event_aggregates AS surplus
    USING ranked
    WHERE surplus.id = ranked.id AND ranked.id <> ranked.kept_id
    RETURNING ranked.kept_id, to_jsonb(surplus) AS row_data
)
INSERT INTO mauntic_jobs.duplicates (table_name, kept_id, row_data)
SELECT 'analytics.event_aggregates', kept_id, row_data FROM moved

-- campaign_daily_stats_key -- One row for each campaign, organization and day.
CREATE UNIQUE INDEX CONCURRENTLY mauntic_jobs_campaign_daily_stats_key
ON analytics.campaign_daily_stats (campaign_id, organization_id, date)

-- campaign_daily_stats_key_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS analytics.mauntic_jobs_campaign_daily_stats_key

-- campaign_daily_stats_key_surplus -- Count the rows that share their key with a row that would be kept.
SELECT count(*) - count(DISTINCT (campaign_id, organization_id, date)) AS surplus
FROM analytics.campaign_daily_stats

-- campaign_daily_stats_key_move -- Of rows with one key, keep the one with most events in all, then the lowest id.
WITH ranked AS (
    SELECT id, first_value(id) OVER same_key AS kept_id
    FROM analytics.campaign_daily_stats
    WINDOW same_key AS (
        PARTITION BY campaign_id, organization_id, date
        ORDER BY sent::bigint + delivered + opened + clicked + bounced + complained + unsubscribed DESC, id
    )
), moved AS (
    DELETE FROM analytics.campaign_daily_stats AS surplus
    USING ranked
    WHERE surplus.id = ranked.id AND ranked.id <> ranked.kept_id
    RETURNING ranked.kept_id, to_jsonb(surplus) AS row_data
)
INSERT INTO mauntic_jobs.duplicates (table_name, kept_id, row_data)
SELECT 'analytics.campaign_daily_stats', kept_id, row_data FROM moved

-- contacts_by_organization -- Find the contacts of an organization.
CREATE INDEX CONCURRENTLY mauntic_jobs_contacts_by_organization ON crm.contacts (organization_id, id)

-- contacts_by_organization_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS crm.mauntic_jobs_contacts_by_organization

-- segment_contacts_by_segment -- Find the members of a static segment.
CREATE INDEX CONCURRENTLY mauntic_jobs_segment_contacts_by_segment ON crm.segment_contacts (segment_id, contact_id)

-- segment_contacts_by_segment_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS crm.mauntic_jobs_segment_contacts_by_segment

-- journey_executions_by_contact -- Find when a contact entered a journey.
CREATE INDEX CONCURRENTLY mauntic_jobs_journey_executions_by_contact
ON journey.journey_executions (journey_id, contact_id, started_at)

-- journey_executions_by_contact_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS journey.mauntic_jobs_journey_executions_by_contact

-- step_executions_by_execution -- Find the steps of an execution.
CREATE INDEX CONCURRENTLY mauntic_jobs_step_executions_by_execution ON journey.step_executions (execution_id)

-- step_executions_by_execution_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS journey.mauntic_jobs_step_executions_by_execution

-- active_executions_by_start -- Find the active executions that started before a time.
CREATE INDEX CONCURRENTLY mauntic_jobs_active_executions_by_start
ON journey.journey_executions (started_at) WHERE status = 'active'

-- active_executions_by_start_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS journey.mauntic_jobs_active_executions_by_start

-- active_execution_key -- A contact is in a journey once at a time.
CREATE UNIQUE INDEX CONCURRENTLY mauntic_jobs_active_execution_key
ON journey.journey_executions (journey_id, contact_id) WHERE status = 'active'

-- active_execution_key_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS journey.mauntic_jobs_active_execution_key

-- active_execution_key_surplus -- Count the rows that share their key with a row that would be kept.
SELECT count(*) - count(DISTINCT (journey_id, contact_id)) AS surplus
FROM journey.journey_executions
WHERE status = 'active'

-- active_execution_key_move -- Of the active executions of a contact in a journey, keep the first, then the lowest id.
WITH ranked AS (
    SELECT id, first_value(id) OVER same_key AS kept_id
    FROM journey.journey_executions
    WHERE status = 'active'
    WINDOW same_key AS (PARTITION BY journey_id, contact_id ORDER BY started_at, id)
), moved AS (
    DELETE FROM journey.journey_executions AS surplus
    USING ranked
    WHERE surplus.id = ranked.id AND ranked.id <> ranked.kept_id
    RETURNING ranked.kept_id, to_jsonb(surplus) AS row_data
)
INSERT INTO mauntic_jobs.duplicates (table_name, kept_id, row_data)
SELECT 'journey.journey_executions', kept_id, row_data FROM moved

-- suppressions_by_address -- Deliveries look each address up before they are sent.
CREATE INDEX CONCURRENTLY mauntic_jobs_suppressions_by_address
ON delivery.suppressions (organization_id, email)

-- suppressions_by_address_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS delivery.mauntic_jobs_suppressions_by_address

-- delivery_events_by_contact -- What the platform has heard of a delivery that may have been sent.
CREATE INDEX CONCURRENTLY mauntic_jobs_delivery_events_by_contact
ON delivery.delivery_events (contact_id, created_at)

-- delivery_events_by_contact_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS delivery.mauntic_jobs_delivery_events_by_contact

-- delivery_events_of_node -- How many emails the Node engine has sent for an organization since midnight, for warm-up.
CREATE INDEX CONCURRENTLY mauntic_jobs_delivery_events_of_node
ON delivery.delivery_events (organization_id, created_at)
WHERE channel = 'email' AND event_type = 'sent' AND metadata ->> 'engine' IS DISTINCT FROM 'mauntic-jobs'

-- delivery_events_of_node_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS delivery.mauntic_jobs_delivery_events_of_node

-- delivery_events_against_senders -- Bounces and complaints of the last day, of all organizations.
CREATE INDEX CONCURRENTLY mauntic_jobs_delivery_events_against_senders
ON delivery.delivery_events (created_at)
WHERE event_type IN ('bounced', 'complained')

-- delivery_events_against_senders_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS delivery.mauntic_jobs_delivery_events_against_senders

-- companies_by_contact -- Find the company of a contact that a template names.
CREATE INDEX CONCURRENTLY mauntic_jobs_companies_by_contact ON crm.contact_companies (contact_id)

-- companies_by_contact_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS crm.mauntic_jobs_companies_by_contact

-- contacts_by_email -- Find the consent of the contact that an email goes to, where the message does not name it.
CREATE INDEX CONCURRENTLY mauntic_jobs_contacts_by_email ON crm.contacts (organization_id, lower(email))

-- contacts_by_email_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS crm.mauntic_jobs_contacts_by_email

-- contacts_by_phone -- The same for SMS: a number is found by its digits, however it is written.
CREATE INDEX CONCURRENTLY mauntic_jobs_contacts_by_phone
ON crm.contacts (organization_id, regexp_replace(phone, '[^0-9]', '', 'g'))

-- contacts_by_phone_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS crm.mauntic_jobs_contacts_by_phone

-- providers_by_channel -- Each process asks for an organization's providers twice a minute.
CREATE INDEX CONCURRENTLY mauntic_jobs_providers_by_channel
ON delivery.provider_configs (organization_id, channel)

-- providers_by_channel_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS delivery.mauntic_jobs_providers_by_channel

-- domains_by_name -- And for when the warm-up of a sending domain began.
CREATE INDEX CONCURRENTLY mauntic_jobs_domains_by_name
ON delivery.sending_domains (organization_id, lower(domain))

-- domains_by_name_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS delivery.mauntic_jobs_domains_by_name

-- open_campaigns -- Find the campaigns that are not complete. A count that changes writes nothing to it.
CREATE INDEX CONCURRENTLY mauntic_jobs_open_campaigns ON delivery.delivery_jobs (created_at) WHERE completed_at IS NULL

-- open_campaigns_drop -- Drop it.
DROP INDEX CONCURRENTLY IF EXISTS delivery.mauntic_jobs_open_campaigns
