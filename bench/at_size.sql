-- deliveries -- A ledger of 100 organizations, of which the first has three quarters of the messages, over 60 days.
INSERT INTO mauntic_jobs.deliveries (
    organization_id, delivery_id, channel, state, until, job_id, address, queue_job, message_id, owner, payload, reason,
    attempts, sending_at, created_at, claimed_at, updated_at
)
SELECT
    uuid_in(lpad(to_hex(CASE WHEN n %% 4 = 0 THEN 1 + n / 4 %% 99 ELSE 0 END), 32, '0')::cstring), 'd' || n, 'email',
    state, CASE WHEN state IN ('deferred', 'ambiguous') THEN now() + interval '1 hour' END,
    uuid_in(lpad(to_hex(n / 10000), 32, '0')::cstring), 'contact' || n || '@example.com', 'j' || n,
    '<d' || n || '@example.com>', gen_random_uuid(),
    CASE WHEN state <> 'sent' THEN '{"to": "contact@example.com"}'::jsonb END,
    CASE WHEN state <> 'sent' THEN '550 5.1.1 no such user' END, '[{"outcome": "sent"}]', at, at, at, at
FROM (
    SELECT
        n,
        CASE
            WHEN n %% 1000 = 0 THEN 'ambiguous' WHEN n %% 1000 = 1 THEN 'deferred' WHEN n %% 50 = 2 THEN 'failed' ELSE 'sent'
        END AS state,
        now() - (%(rows)s - n) * interval '60 days' / %(rows)s AS at
    FROM generate_series(1, %(rows)s) AS n
) AS message

-- campaigns -- A campaign for each ten thousand, of which the last few are open.
INSERT INTO delivery.delivery_jobs (
    id, organization_id, channel, status, recipient_count, sent_count, idempotency_key, completed_at
)
SELECT
    uuid_in(lpad(to_hex(n), 32, '0')::cstring), uuid_in(lpad('0', 32, '0')::cstring), 'email',
    CASE WHEN n > %(rows)s / 10000 - 5 THEN 'sending' ELSE 'sent' END, 7500, 7000, n::text,
    CASE WHEN n > %(rows)s / 10000 - 5 THEN NULL ELSE now() AT TIME ZONE 'UTC' END
FROM generate_series(0, %(rows)s / 10000) AS n

-- runs -- Runs of every few minutes for 100 days, one in fifty of which failed and was never made up for.
INSERT INTO mauntic_jobs.runs (
    job, window_start, window_end, launcher, host, pid, version, fencing_token, status, started_at, finished_at, error
)
SELECT
    'segment-trigger-eval', at, at + interval '5 minutes', 'cli', 'h', 1, '0', n,
    CASE WHEN n %% 50 = 0 THEN 'failed' ELSE 'succeeded' END, at, at, CASE WHEN n %% 50 = 0 THEN 'JobFailedError: no' END
FROM (SELECT n, now() - n * interval '5 minutes' AS at FROM generate_series(1, 28800) AS n) AS run
