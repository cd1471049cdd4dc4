-- How far the buckets of a job are recorded, by the ledger of runs.

-- runs -- List the runs of a job that have ended and touch the time from `start` to `end`, or may cover it as part of a
-- later window, in the order in which they began. `exact`: the run covered its window, and nothing around it.
SELECT id, status, window_start, window_end, options, error, coalesce(slot, started_at) AS began,
       backfill_id IS NOT NULL AS exact
FROM mauntic_jobs.runs
WHERE job = %(job)s AND status IN ('succeeded', 'failed', 'lost') AND started_at >= %(start)s
  AND window_end > %(start)s AND window_start < %(until)s
ORDER BY id
