-- What is held back, and by whom: messages of an organization, a channel, a provider or a campaign are paused, or sent at
-- a lower rate. The processes that deliver read it every two seconds.
CREATE TABLE mauntic_jobs.restrictions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id uuid,
    channel text CHECK (channel IN ('email', 'sms', 'push')),
    provider_id uuid,
    campaign_id text CHECK (length(campaign_id) BETWEEN 1 AND 255),
    rate double precision NOT NULL CHECK (rate >= 0 AND rate < 'infinity'),
    why text NOT NULL,
    set_by text NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz,
    ended_at timestamptz,
    ended_by text,
    ends timestamptz NOT NULL GENERATED ALWAYS AS (
        least(coalesce(until, 'infinity'), coalesce(ended_at, 'infinity'))
    ) STORED,
    CHECK (until > since),
    CHECK ((ended_at IS NULL) = (ended_by IS NULL)),
    CHECK (organization_id IS NOT NULL OR (provider_id IS NULL AND campaign_id IS NULL))
);

COMMENT ON COLUMN mauntic_jobs.restrictions.organization_id IS 'null for all; the same holds for the three after it';
COMMENT ON COLUMN mauntic_jobs.restrictions.rate IS 'messages a second at most; 0 for a pause';
COMMENT ON COLUMN mauntic_jobs.restrictions.until IS 'null until it is ended by hand';

CREATE INDEX restrictions_ends ON mauntic_jobs.restrictions (ends);

-- Who could deliver before can deliver still, and who could end the pause of a provider can set restrictions.
DO $grants$
DECLARE
    reader regrole;
    writer regrole;
BEGIN
    FOR reader, writer IN
        SELECT acl.grantee::regrole, CASE WHEN bool_or(acl.privilege_type = 'DELETE') THEN acl.grantee::regrole END
        FROM pg_class AS pauses, aclexplode(pauses.relacl) AS acl
        WHERE
            pauses.oid = 'mauntic_jobs.provider_pauses'::regclass AND acl.grantee NOT IN (0, pauses.relowner)
            AND acl.privilege_type IN ('SELECT', 'DELETE')
        GROUP BY acl.grantee
    LOOP
        EXECUTE format('GRANT SELECT ON mauntic_jobs.restrictions TO %s', reader);
        IF writer IS NOT NULL THEN
            EXECUTE format('GRANT INSERT, UPDATE, DELETE ON mauntic_jobs.restrictions TO %s', writer);
        END IF;
    END LOOP;
END
$grants$;
