-- What operators look up: messages that have expired, in the order in which they are sent again. Messages that are sent
-- cost this index nothing.
CREATE INDEX deliveries_expired ON mauntic_jobs.deliveries (organization_id, delivery_id) WHERE unsent_state = 'expired';

-- Providers that the circuit breakers of delivering processes leave alone, for operators and for the other processes. Who
-- deletes a row closes the breakers of all processes.
CREATE TABLE mauntic_jobs.provider_pauses (
    organization_id uuid NOT NULL,
    provider_id uuid NOT NULL,
    channel text NOT NULL,
    provider text NOT NULL,
    reason text NOT NULL,
    tries int NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (organization_id, provider_id)
);

COMMENT ON COLUMN mauntic_jobs.provider_pauses.reason IS 'the latest refusal, without credentials';
COMMENT ON COLUMN mauntic_jobs.provider_pauses.tries IS 'refusals in a row, as the process that wrote last counts them';
COMMENT ON COLUMN mauntic_jobs.provider_pauses.since IS 'when the first of them was';
COMMENT ON COLUMN mauntic_jobs.provider_pauses.until IS 'when the provider is tried again';

-- A run that was stopped by a signal has not failed: nobody needs to look at it, and its slot is due again.
ALTER TABLE mauntic_jobs.runs
    DROP CONSTRAINT runs_status_check,
    ADD CONSTRAINT runs_status_check
        CHECK (status IN ('running', 'succeeded', 'failed', 'stopped', 'skipped', 'lost', 'missed', 'superseded'));
UPDATE mauntic_jobs.runs SET status = 'stopped'
WHERE status = 'failed' AND NOT claims_slot AND error LIKE 'stopped by signal %';
