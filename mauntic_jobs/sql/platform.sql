-- The platform's tables, for development and tests. On a real installation the platform owns and migrates them.
-- Every timestamp is UTC, without a time zone.

CREATE SCHEMA analytics;
CREATE SCHEMA delivery;
CREATE SCHEMA journey;
CREATE SCHEMA crm;
CREATE SCHEMA content;

CREATE TABLE analytics.contact_activity (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    contact_id uuid NOT NULL,
    event_type varchar(100) NOT NULL,
    event_source varchar(100),
    event_data jsonb,
    created_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE analytics.event_aggregates (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    date date NOT NULL,
    event_type varchar(100) NOT NULL,
    channel varchar(50),
    count int NOT NULL DEFAULT 0,
    unique_count int NOT NULL DEFAULT 0
);

CREATE TABLE analytics.campaign_daily_stats (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    campaign_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    date date NOT NULL,
    sent int NOT NULL DEFAULT 0,
    delivered int NOT NULL DEFAULT 0,
    opened int NOT NULL DEFAULT 0,
    unique_opened int NOT NULL DEFAULT 0,
    clicked int NOT NULL DEFAULT 0,
    unique_clicked int NOT NULL DEFAULT 0,
    bounced int NOT NULL DEFAULT 0,
    complained int NOT NULL DEFAULT 0,
    unsubscribed int NOT NULL DEFAULT 0
);

CREATE TABLE delivery.delivery_jobs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    channel varchar(50) NOT NULL,
    status varchar(50) NOT NULL DEFAULT 'queued',
    recipient_count int NOT NULL DEFAULT 0,
    sent_count int NOT NULL DEFAULT 0,
    failed_count int NOT NULL DEFAULT 0,
    idempotency_key varchar(255) NOT NULL UNIQUE,
    metadata jsonb,
    created_at timestamp NOT NULL DEFAULT now(),
    completed_at timestamp
);

CREATE TABLE delivery.delivery_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    job_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    contact_id uuid NOT NULL,
    channel varchar(50) NOT NULL,
    event_type varchar(50) NOT NULL,
    provider_message_id varchar(255),
    metadata jsonb,
    created_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE delivery.provider_configs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    channel varchar(50) NOT NULL,
    provider_type varchar(50) NOT NULL,
    config jsonb NOT NULL,
    is_active bool NOT NULL DEFAULT true,
    priority int NOT NULL DEFAULT 0,
    created_at timestamp NOT NULL DEFAULT now(),
    updated_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE delivery.suppressions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    email varchar(255) NOT NULL,
    reason varchar(50) NOT NULL,
    source varchar(255),
    created_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE delivery.sending_domains (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    domain varchar(255) NOT NULL,
    status varchar(50) NOT NULL DEFAULT 'pending',
    dns_records jsonb,
    verified_at timestamp,
    created_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE journey.journeys (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    name varchar(255) NOT NULL,
    description text,
    status varchar(50) NOT NULL DEFAULT 'draft',
    created_by uuid,
    created_at timestamp NOT NULL DEFAULT now(),
    updated_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE journey.journey_versions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    journey_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    version_number int NOT NULL,
    definition jsonb NOT NULL,
    published_at timestamp,
    created_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE journey.journey_steps (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    journey_version_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    type varchar(50) NOT NULL,
    config jsonb NOT NULL,
    position_x int NOT NULL DEFAULT 0,
    position_y int NOT NULL DEFAULT 0
);

CREATE TABLE journey.journey_step_connections (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    from_step_id uuid NOT NULL,
    to_step_id uuid NOT NULL,
    label varchar(255)
);

CREATE TABLE journey.journey_triggers (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    journey_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    type varchar(50) NOT NULL,
    config jsonb NOT NULL
);

CREATE TABLE journey.journey_executions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    journey_id uuid NOT NULL,
    journey_version_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    contact_id uuid NOT NULL,
    status varchar(50) NOT NULL,
    started_at timestamp NOT NULL DEFAULT now(),
    completed_at timestamp,
    current_step_id uuid
);

CREATE TABLE journey.step_executions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    execution_id uuid NOT NULL,
    step_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    status varchar(50) NOT NULL,
    started_at timestamp,
    completed_at timestamp,
    result jsonb,
    error text
);

CREATE TABLE journey.execution_logs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    execution_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    level varchar(50) NOT NULL,
    message text NOT NULL,
    metadata jsonb,
    created_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE crm.contacts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    email varchar(255),
    first_name varchar(255),
    last_name varchar(255),
    phone varchar(50),
    status varchar(50) NOT NULL DEFAULT 'active',
    stage varchar(50) NOT NULL DEFAULT 'subscriber',
    custom_fields jsonb,
    lead_score numeric(5, 2),
    lead_grade varchar(1),
    last_activity_at timestamp,
    created_at timestamp NOT NULL DEFAULT now(),
    updated_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE crm.segments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    name varchar(255) NOT NULL,
    description text,
    type varchar(50) NOT NULL,
    filter_criteria jsonb,
    contact_count int NOT NULL DEFAULT 0,
    created_at timestamp NOT NULL DEFAULT now(),
    updated_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE crm.segment_contacts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    segment_id uuid NOT NULL,
    contact_id uuid NOT NULL,
    added_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE crm.tags (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    name varchar(255) NOT NULL,
    created_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE crm.contact_tags (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    contact_id uuid NOT NULL,
    tag_id uuid NOT NULL
);

CREATE TABLE crm.companies (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    name varchar(255) NOT NULL,
    created_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE crm.contact_companies (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    contact_id uuid NOT NULL,
    company_id uuid NOT NULL,
    role varchar(255)
);

CREATE TABLE content.templates (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    name varchar(255) NOT NULL,
    type varchar(20) NOT NULL,
    category varchar(100),
    subject varchar(500),
    body_html text,
    body_text text,
    body_json jsonb,
    is_active bool NOT NULL DEFAULT true,
    created_by uuid,
    created_at timestamp NOT NULL DEFAULT now(),
    updated_at timestamp NOT NULL DEFAULT now()
);
