-- What is kept of dead letters that were discarded, and of deliveries that have become old.

CREATE TABLE mauntic_jobs.discarded (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    job_id text NOT NULL,
    name text NOT NULL,
    fingerprint text NOT NULL,
    reason text NOT NULL,
    payload json,
    attempts int NOT NULL,
    failed_at timestamptz NOT NULL,
    discarded_at timestamptz NOT NULL,
    discarded_by text NOT NULL,
    UNIQUE (queue, job_id, failed_at)
);

COMMENT ON COLUMN mauntic_jobs.discarded.queue IS 'the queue''s name without its prefix; `run` for a run of the ledger';
COMMENT ON COLUMN mauntic_jobs.discarded.reason IS 'the error that the job failed with';
COMMENT ON COLUMN mauntic_jobs.discarded.payload IS 'the job''s data, whole; a text if it was no JSON';
COMMENT ON COLUMN mauntic_jobs.discarded.discarded_by IS 'user and host';

ALTER TABLE mauntic_jobs.deliveries ADD COLUMN address_hash text;

COMMENT ON COLUMN mauntic_jobs.deliveries.address_hash IS
'once the address is gone: sha256, in hexadecimal, of the organization''s id, a colon and the address in lower case';

CREATE TABLE mauntic_jobs.pruned (
    part text PRIMARY KEY,
    before timestamptz NOT NULL
);

COMMENT ON COLUMN mauntic_jobs.pruned.before IS 'rows older than this may be gone';
