-- Weights of organizations in their turns on the queues. An organization without a row has the weight 1. The processes that
-- deliver read it every two seconds.
CREATE TABLE mauntic_jobs.turn_weights (
    organization_id uuid PRIMARY KEY,
    weight double precision NOT NULL CHECK (weight BETWEEN 0.1 AND 10),
    why text NOT NULL,
    set_by text NOT NULL,
    since timestamptz NOT NULL
);

-- Who could read and set restrictions can do so with weights.
DO $grants$
DECLARE
    reader regrole;
    writer regrole;
BEGIN
    FOR reader, writer IN
        SELECT acl.grantee::regrole, CASE WHEN bool_or(acl.privilege_type = 'INSERT') THEN acl.grantee::regrole END
        FROM pg_class AS restrictions, aclexplode(restrictions.relacl) AS acl
        WHERE
            restrictions.oid = 'mauntic_jobs.restrictions'::regclass
            AND acl.grantee NOT IN (0, restrictions.relowner) AND acl.privilege_type IN ('SELECT', 'INSERT')
        GROUP BY acl.grantee
    LOOP
        EXECUTE format('GRANT SELECT ON mauntic_jobs.turn_weights TO %s', reader);
        IF writer IS NOT NULL THEN
            EXECUTE format('GRANT INSERT, UPDATE, DELETE ON mauntic_jobs.turn_weights TO %s', writer);
        END IF;
    END LOOP;
END
$grants$;
