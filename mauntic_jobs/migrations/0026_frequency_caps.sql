-- Marketing messages of each contact and channel that count towards its frequency cap. Rows are written only where a
-- channel has one.
CREATE TABLE mauntic_jobs.frequency_caps (
    organization_id uuid NOT NULL,
    contact_id uuid NOT NULL,
    channel text NOT NULL CHECK (channel IN ('email', 'sms', 'push')),
    deliveries jsonb NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, contact_id, channel)
) WITH (
    -- Each message changes its contact's row.
    fillfactor = 75
);

COMMENT ON COLUMN mauntic_jobs.frequency_caps.deliveries IS
'by the id of each delivery when it was last about to be sent, in seconds since 1970; some may have failed since';

-- Who could deliver and prune before can do so still.
DO $grants$
DECLARE
    holder record;
BEGIN
    FOR holder IN
        SELECT acl.grantee::regrole AS role, acl.privilege_type
        FROM pg_class AS deliveries, aclexplode(deliveries.relacl) AS acl
        WHERE
            deliveries.oid = 'mauntic_jobs.deliveries'::regclass AND acl.grantee NOT IN (0, deliveries.relowner)
            AND acl.privilege_type IN ('INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT SELECT, %s ON mauntic_jobs.frequency_caps TO %s', holder.privilege_type, holder.role);
    END LOOP;
END
$grants$;
