-- Where duplicates of the platform's tables go before a unique key is built on them.

CREATE TABLE mauntic_jobs.duplicates (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name text NOT NULL,
    kept_id uuid NOT NULL,
    row_data jsonb NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON COLUMN mauntic_jobs.duplicates.kept_id IS 'the id of the row that stayed in the table';
COMMENT ON COLUMN mauntic_jobs.duplicates.row_data IS 'the whole row that was moved here';
