-- Jobs that are to be put on a BullMQ queue: written in the transaction that makes them necessary, published after it.

CREATE TABLE mauntic_jobs.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    job_id text NOT NULL,
    name text NOT NULL,
    data json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at timestamptz,
    UNIQUE (queue, job_id)
);

COMMENT ON COLUMN mauntic_jobs.outbox.queue IS 'the queue''s name without its prefix, such as journey:execute-step';
COMMENT ON COLUMN mauntic_jobs.outbox.job_id IS 'BullMQ adds a job of one id once, so publishing again doubles nothing';

CREATE INDEX outbox_unpublished ON mauntic_jobs.outbox (id) WHERE published_at IS NULL;
