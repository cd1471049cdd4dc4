-- A test of text that may be a number or a time: Postgres has one of its own since version 16. Not immutable, because
-- how a time without an offset reads depends on the session's zone.

DO $create$
BEGIN
    IF current_setting('server_version_num')::int >= 160000 THEN
        CREATE FUNCTION mauntic_jobs.input_is_valid(value text, type_name text) RETURNS boolean
        LANGUAGE sql STABLE STRICT PARALLEL SAFE
        AS $function$ SELECT pg_catalog.pg_input_is_valid(value, type_name) $function$;
    ELSE
        -- A block with an exception begins a subtransaction, which no parallel worker may.
        CREATE FUNCTION mauntic_jobs.input_is_valid(value text, type_name text) RETURNS boolean
        LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE
        AS $function$
        BEGIN
            CASE type_name
                WHEN 'numeric' THEN PERFORM value::numeric;
                WHEN 'timestamptz' THEN PERFORM value::timestamptz;
            END CASE;
            RETURN true;
        EXCEPTION
            WHEN data_exception THEN RETURN false;
        END
        $function$;
    END IF;
END
$create$;

COMMENT ON FUNCTION mauntic_jobs.input_is_valid IS 'whether a text can be read as numeric or timestamptz';
