-- Messages that were sent, minute by minute, so that the monitor reads each of them once: the shares that it compares
-- with its limits are of the last hour.
CREATE TABLE mauntic_jobs.sent_minutes (
    minute timestamptz NOT NULL,
    organization_id uuid NOT NULL,
    channel text NOT NULL,
    provider_id uuid,
    messages bigint NOT NULL
);

COMMENT ON COLUMN mauntic_jobs.sent_minutes.minute IS 'when they were claimed, rounded down';

CREATE INDEX sent_minutes_by_organization ON mauntic_jobs.sent_minutes (organization_id, minute);
CREATE INDEX sent_minutes_by_minute ON mauntic_jobs.sent_minutes (minute);

-- Messages that were claimed before this time have been counted.
CREATE TABLE mauntic_jobs.sent_count (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    counted_to timestamptz NOT NULL
);

INSERT INTO mauntic_jobs.sent_count (counted_to) VALUES ('2000-01-01 00:00+00');

-- Who could run the monitor before can run it still.
DO $grants$
DECLARE
    reader regrole;
BEGIN
    FOR reader IN
        SELECT acl.grantee::regrole
        FROM pg_class AS deliveries, aclexplode(deliveries.relacl) AS acl
        WHERE
            deliveries.oid = 'mauntic_jobs.deliveries'::regclass AND acl.privilege_type = 'SELECT'
            AND acl.grantee NOT IN (0, deliveries.relowner)
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, DELETE ON mauntic_jobs.sent_minutes TO %s', reader);
        EXECUTE format('GRANT SELECT, UPDATE ON mauntic_jobs.sent_count TO %s', reader);
    END LOOP;
END
$grants$;
