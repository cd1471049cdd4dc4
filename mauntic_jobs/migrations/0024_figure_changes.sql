-- What runs changed in the figures: one row for each organization that a run changed in a day or month, with all of its
-- groups. A row for each group would take several times the time and the space.
CREATE TABLE mauntic_jobs.figure_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_at timestamptz NOT NULL,
    run_id bigint NOT NULL,
    job text NOT NULL,
    bucket date NOT NULL,
    organization_id uuid NOT NULL,
    reason text NOT NULL,
    kinds text[] NOT NULL,
    old bigint[] NOT NULL,
    new bigint[] NOT NULL
);

COMMENT ON COLUMN mauntic_jobs.figure_changes.changed_at IS 'the instant that the run was asked for';
COMMENT ON COLUMN mauntic_jobs.figure_changes.job IS 'the job whose figures they are; the run may be another job''s';
COMMENT ON COLUMN mauntic_jobs.figure_changes.bucket IS 'the UTC day, or the first of the month';
COMMENT ON COLUMN mauntic_jobs.figure_changes.kinds IS 'the event types as they are recorded, or the campaigns';
COMMENT ON COLUMN mauntic_jobs.figure_changes.old IS
'the first figure of each kind before, then the second of each, and so on; null for no row';
COMMENT ON COLUMN mauntic_jobs.figure_changes.new IS 'the same after; null for a row that was removed';

CREATE INDEX figure_changes_of_bucket ON mauntic_jobs.figure_changes (job, bucket, organization_id);

-- Who could write the rollups and prune before can do so still.
DO $grants$
DECLARE
    holder record;
BEGIN
    FOR holder IN
        SELECT acl.grantee::regrole AS role, acl.privilege_type
        FROM pg_class AS known, aclexplode(known.relacl) AS acl
        WHERE
            acl.grantee NOT IN (0, known.relowner)
            AND (
                (known.oid = 'mauntic_jobs.rollup_days'::regclass AND acl.privilege_type = 'INSERT')
                OR (known.oid = 'mauntic_jobs.runs'::regclass AND acl.privilege_type = 'DELETE')
            )
    LOOP
        EXECUTE format('GRANT SELECT, %s ON mauntic_jobs.figure_changes TO %s', holder.privilege_type, holder.role);
    END LOOP;
END
$grants$;
