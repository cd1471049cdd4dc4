-- What every benchmark asks the server.

-- version -- The server's version.
SELECT current_setting('server_version') AS version

-- settings -- The settings that decide about speed.
SELECT name, current_setting(name) AS value
FROM pg_settings
WHERE name IN ('shared_buffers', 'work_mem', 'hash_mem_multiplier', 'max_parallel_workers_per_gather', 'fsync',
               'synchronous_commit', 'full_page_writes', 'jit', 'max_wal_size')
ORDER BY name
