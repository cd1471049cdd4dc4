-- Up to where each segment trigger was evaluated: written in the transaction that lets contacts in.
CREATE TABLE mauntic_jobs.segment_marks (
    trigger_id uuid PRIMARY KEY,
    organization_id uuid NOT NULL,
    store text NOT NULL,
    horizon xid8 NOT NULL,
    fingerprint text NOT NULL,
    evaluated_at timestamp NOT NULL,
    full_at timestamp NOT NULL
);

COMMENT ON COLUMN mauntic_jobs.segment_marks.store IS 'the cluster, database and tables that the horizon is about';
COMMENT ON COLUMN mauntic_jobs.segment_marks.horizon IS
'each transaction before it had ended when the evaluation began: what they wrote is evaluated';
COMMENT ON COLUMN mauntic_jobs.segment_marks.fingerprint IS 'of the trigger, its segment, its version and our reading';
COMMENT ON COLUMN mauntic_jobs.segment_marks.evaluated_at IS 'in UTC: the present that rules of time were applied to';
COMMENT ON COLUMN mauntic_jobs.segment_marks.full_at IS 'in UTC: when all contacts were evaluated last';

-- Who could run the jobs before can run them still.
DO $grants$
DECLARE
    jobs regrole;
BEGIN
    FOR jobs IN
        SELECT acl.grantee::regrole
        FROM pg_class AS outbox, aclexplode(outbox.relacl) AS acl
        WHERE
            outbox.oid = 'mauntic_jobs.outbox'::regclass AND acl.privilege_type = 'INSERT'
            AND acl.grantee NOT IN (0, outbox.relowner)
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON mauntic_jobs.segment_marks TO %s', jobs);
    END LOOP;
END
$grants$;
