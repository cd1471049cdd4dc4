-- For benchmarks that compare a job with single statements.

-- work_mem -- Give the session its memory.
SELECT set_config('work_mem', %(work_mem)s, false)

-- flush -- Report what this session did to the statistics now.
SELECT pg_stat_force_next_flush()

-- spilled -- Tell how many bytes of temporary files this database has written.
SELECT temp_bytes AS bytes FROM pg_stat_database WHERE datname = current_database()
