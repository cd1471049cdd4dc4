-- Tasks that the clock runs beside the jobs: watching and pruning. One row for each, which is updated.
CREATE TABLE mauntic_jobs.upkeep (
    task text PRIMARY KEY,
    slot timestamptz,
    claimed_by text NOT NULL,
    started_at timestamptz NOT NULL,
    ends_by timestamptz NOT NULL,
    finished_at timestamptz,
    exit_code integer,
    error text,
    failures integer NOT NULL DEFAULT 0
);

COMMENT ON COLUMN mauntic_jobs.upkeep.slot IS 'the latest slot that was claimed; null if it is due again';
COMMENT ON COLUMN mauntic_jobs.upkeep.ends_by IS 'from then on a run that has not finished counts as that of a dead clock';
COMMENT ON COLUMN mauntic_jobs.upkeep.failures IS 'failed runs in a row';

-- Who could run the clock before can run it still.
DO $grants$
DECLARE
    clock regrole;
BEGIN
    FOR clock IN
        SELECT acl.grantee::regrole
        FROM pg_class AS schedules, aclexplode(schedules.relacl) AS acl
        WHERE
            schedules.oid = 'mauntic_jobs.schedules'::regclass AND acl.privilege_type = 'UPDATE'
            AND acl.grantee NOT IN (0, schedules.relowner)
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON mauntic_jobs.upkeep TO %s', clock);
    END LOOP;
END
$grants$;
