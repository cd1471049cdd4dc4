-- Providers that are paused by the circuit breaker of a delivering process.

-- list -- The paused providers, of all organizations.
SELECT organization_id, provider_id, provider, reason, tries, since, until FROM mauntic_jobs.provider_pauses

-- publish -- Note that a provider is paused, and why.
INSERT INTO mauntic_jobs.provider_pauses AS known (
    organization_id, provider_id, channel, provider, reason, tries, since, until
)
VALUES (
    %(organization)s, %(provider)s, %(channel)s, %(name)s, %(reason)s, %(tries)s, %(since)s::timestamptz,
    %(until)s::timestamptz
)
ON CONFLICT (organization_id, provider_id) DO UPDATE SET
    channel = EXCLUDED.channel, provider = EXCLUDED.provider, reason = EXCLUDED.reason,
    tries = greatest(known.tries, EXCLUDED.tries), since = least(known.since, EXCLUDED.since),
    until = greatest(known.until, EXCLUDED.until)
RETURNING organization_id

-- end -- Note that a provider works: every process closes its breaker.
DELETE FROM mauntic_jobs.provider_pauses
WHERE organization_id = %(organization)s AND provider_id = %(provider)s
RETURNING organization_id
