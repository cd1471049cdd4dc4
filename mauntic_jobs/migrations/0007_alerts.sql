-- The alerts: what was noticed, who was told, and when it was over.

CREATE TABLE mauntic_jobs.alerts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fingerprint text NOT NULL,
    cause text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'error', 'critical')),
    summary text NOT NULL,
    action text NOT NULL,
    details jsonb NOT NULL DEFAULT '{}',
    opened_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    seen int NOT NULL DEFAULT 1,
    notified_at timestamptz,
    notified_by text,
    problem text,
    closed_at timestamptz,
    close_notified_at timestamptz,
    claimed_until timestamptz
);

COMMENT ON COLUMN mauntic_jobs.alerts.fingerprint IS 'the cause and what it is about: open once, whoever notices it';
COMMENT ON COLUMN mauntic_jobs.alerts.action IS 'the command to run next';
COMMENT ON COLUMN mauntic_jobs.alerts.seen IS 'how often it was noticed';
COMMENT ON COLUMN mauntic_jobs.alerts.notified_by IS 'the channel that took it; null if no channel wants its severity';
COMMENT ON COLUMN mauntic_jobs.alerts.problem IS 'why nobody could be told';
COMMENT ON COLUMN mauntic_jobs.alerts.close_notified_at IS
'when somebody was told that it is over, or when it ended if nobody had been told of it';
COMMENT ON COLUMN mauntic_jobs.alerts.claimed_until IS 'until then a process is telling it, or nobody tries again';

CREATE UNIQUE INDEX alerts_open ON mauntic_jobs.alerts (fingerprint) WHERE closed_at IS NULL;

-- Few rows at a time: what is over, and was told, leaves it.
CREATE INDEX alerts_unsettled ON mauntic_jobs.alerts (opened_at) WHERE close_notified_at IS NULL;
