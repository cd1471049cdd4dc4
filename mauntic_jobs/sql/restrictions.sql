-- What is held back: pauses and rates that operators or the monitor have set. `ends` is infinite without an end.

-- current -- What holds, and the pauses that have ended since an instant: their messages go out slowly at first.
SELECT
    id, organization_id, channel, provider_id, campaign_id, rate, why, set_by, since,
    nullif(ends, 'infinity') AS ends
FROM mauntic_jobs.restrictions
WHERE ends > %(ended)s
ORDER BY id

-- list -- Restrictions of all or of one organization, those that hold first and the latest first.
SELECT
    id, organization_id, channel, provider_id, campaign_id, rate, why, set_by, since, until, ended_at, ended_by
FROM mauntic_jobs.restrictions
WHERE
    (ends > %(now)s OR %(ended)s) AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
ORDER BY ends > %(now)s DESC, id DESC
LIMIT %(limit)s

-- set -- Restrict something from now on.
INSERT INTO mauntic_jobs.restrictions (
    organization_id, channel, provider_id, campaign_id, rate, why, set_by, since, until
)
VALUES (
    %(organization)s, %(channel)s, %(provider)s, %(campaign)s, %(rate)s, %(why)s, %(by)s, %(since)s, %(until)s
)
RETURNING id

-- end -- End some restrictions, or with null all, that still hold.
UPDATE mauntic_jobs.restrictions
SET ended_at = greatest(%(now)s, since), ended_by = %(by)s
WHERE (id = any(%(ids)s::bigint[]) OR %(ids)s::bigint[] IS NULL) AND ends > %(now)s
RETURNING id

-- provider -- Whose a provider is, and its channel.
SELECT organization_id, channel FROM delivery.provider_configs WHERE id = %(provider)s

-- paused -- For how long a message, or a provider of its organization, was paused within a time.
SELECT coalesce(sum(upper(part) - lower(part)), interval '0') AS paused
FROM (
    SELECT unnest(range_agg(tstzrange(greatest(since, %(since)s), least(ends, %(now)s)))) AS part
    FROM mauntic_jobs.restrictions
    WHERE
        rate = 0 AND ends > %(since)s AND since < %(now)s
        AND (organization_id IS NULL OR organization_id = %(organization)s)
        AND (channel IS NULL OR channel = %(channel)s)
        AND (campaign_id IS NULL OR campaign_id = any(%(campaigns)s::text[]))
) AS parts
