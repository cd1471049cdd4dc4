-- The delivery ledger: what became of each message. It decides what is sent; the queues only ring.

CREATE TABLE mauntic_jobs.deliveries (
    organization_id uuid NOT NULL,
    delivery_id text NOT NULL CHECK (length(delivery_id) BETWEEN 1 AND 255),
    channel text NOT NULL CHECK (channel IN ('email', 'sms', 'push')),
    state text NOT NULL CHECK (
        state IN ('claimed', 'sending', 'sent', 'failed', 'deferred', 'suppressed', 'ambiguous', 'expired')
    ),
    reason text,
    reject_reason text,
    until timestamptz,
    job_id uuid,
    contact_id uuid,
    address text,
    queue_job text NOT NULL,
    provider_id uuid,
    provider text,
    message_id text,
    provider_message_id text,
    payload jsonb,
    attempts jsonb NOT NULL DEFAULT '[]',
    resends int NOT NULL DEFAULT 0,
    possible_duplicate boolean NOT NULL DEFAULT false,
    owner uuid NOT NULL,
    fence bigint NOT NULL DEFAULT 1,
    sending_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (organization_id, delivery_id)
);

COMMENT ON COLUMN mauntic_jobs.deliveries.state IS
'claimed: taken in hand, and not being sent; sending: a provider may have it; ambiguous: nobody knows whether it has';
COMMENT ON COLUMN mauntic_jobs.deliveries.until IS
'sending: when the lease ends; deferred: not before; ambiguous: when it is sent again, null if a human decides';
COMMENT ON COLUMN mauntic_jobs.deliveries.reject_reason IS
'why a provider will never take it: invalid, bounced, timed_out, blocked, spam, unsubscribed or other';
COMMENT ON COLUMN mauntic_jobs.deliveries.job_id IS 'the row of delivery.delivery_jobs that counts it';
COMMENT ON COLUMN mauntic_jobs.deliveries.queue_job IS 'id of the BullMQ job that last asked for it';
COMMENT ON COLUMN mauntic_jobs.deliveries.payload IS 'what was asked for, kept until it is settled';
COMMENT ON COLUMN mauntic_jobs.deliveries.attempts IS 'one object for each: provider, times, outcome, reason';
COMMENT ON COLUMN mauntic_jobs.deliveries.owner IS 'which claim it was, so that a claim can be repeated safely';
COMMENT ON COLUMN mauntic_jobs.deliveries.fence IS 'rises with each claim; a result counts only with the latest';

-- Few rows at a time: what is settled leaves it.
CREATE INDEX deliveries_open ON mauntic_jobs.deliveries (state, until)
WHERE state IN ('claimed', 'sending', 'deferred', 'ambiguous');
CREATE INDEX deliveries_failed ON mauntic_jobs.deliveries (updated_at) WHERE state = 'failed';
