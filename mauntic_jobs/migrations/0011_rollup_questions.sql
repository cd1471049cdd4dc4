-- What rebuilding the rollups leaves open: groups that were withheld, and events that came late.

CREATE TABLE mauntic_jobs.withheld (
    job text NOT NULL,
    bucket text NOT NULL,
    organization_id uuid NOT NULL,
    kind text NOT NULL,
    reason text NOT NULL,
    old_total bigint NOT NULL,
    new_total bigint NOT NULL,
    since timestamptz NOT NULL,
    PRIMARY KEY (job, bucket, organization_id, kind)
);

COMMENT ON TABLE mauntic_jobs.withheld IS 'groups that a scheduled run did not write, until a run of their bucket does';
COMMENT ON COLUMN mauntic_jobs.withheld.bucket IS 'the UTC day or month, such as 2026-10-05 or 2026-10';
COMMENT ON COLUMN mauntic_jobs.withheld.kind IS 'the event type as it is recorded, or the campaign''s id';
COMMENT ON COLUMN mauntic_jobs.withheld.old_total IS 'the events that are recorded; 0 if there is no row';
COMMENT ON COLUMN mauntic_jobs.withheld.new_total IS 'the events that were found';

CREATE TABLE mauntic_jobs.late_events (
    day date NOT NULL,
    organization_id uuid NOT NULL,
    found_at timestamptz NOT NULL,
    events bigint NOT NULL,
    PRIMARY KEY (day, organization_id, found_at)
);

COMMENT ON TABLE mauntic_jobs.late_events IS 'events that came after their day had been recorded for the last time';
COMMENT ON COLUMN mauntic_jobs.late_events.found_at IS 'the slot of the run that found them';

CREATE INDEX late_events_by_time ON mauntic_jobs.late_events (found_at);

CREATE TABLE mauntic_jobs.reported_days (
    day date PRIMARY KEY,
    messages bigint NOT NULL
);

COMMENT ON TABLE mauntic_jobs.reported_days IS 'how many message events the figures of campaigns were counted from, by day';
