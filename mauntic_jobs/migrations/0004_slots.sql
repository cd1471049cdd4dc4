-- The slots of cron lines: each is claimed once, by whichever launcher comes first, or is recorded as passed over.

ALTER TABLE mauntic_jobs.runs
    ADD COLUMN claims_slot boolean NOT NULL DEFAULT false,
    ADD COLUMN launcher_id text NOT NULL DEFAULT '',
    DROP CONSTRAINT runs_launcher_check,
    ADD CONSTRAINT runs_launcher_check
        CHECK (launcher IN ('cli', 'cron', 'schedule', 'loop', 'backfill', 'bullmq', 'demo')),
    DROP CONSTRAINT runs_status_check,
    ADD CONSTRAINT runs_status_check
        CHECK (status IN ('running', 'succeeded', 'failed', 'skipped', 'lost', 'missed', 'superseded')),
    ADD CONSTRAINT runs_claim_needs_slot CHECK (slot IS NOT NULL OR NOT claims_slot);

COMMENT ON COLUMN mauntic_jobs.runs.claims_slot IS 'whether this row settles its slot; a lost run does not';
COMMENT ON COLUMN mauntic_jobs.runs.launcher_id IS 'which clock it was, if a setting names it; else the host tells';

CREATE UNIQUE INDEX runs_slot ON mauntic_jobs.runs (job, slot) WHERE claims_slot;

CREATE TABLE mauntic_jobs.schedules (
    job text PRIMARY KEY,
    cron text NOT NULL,
    settled timestamptz NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON COLUMN mauntic_jobs.schedules.cron IS 'the line whose slots are accounted for';
COMMENT ON COLUMN mauntic_jobs.schedules.settled IS 'every slot up to here is settled for good, or older than the job';
