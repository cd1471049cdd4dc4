"""Parts of a query that Postgres works on at a time, each in one process from end to end."""

# A plan that shares each scan out passes every row on to one process, which then is the bottleneck. The rows of a part
# are hashed, which is quicker than to sort them: the planner expects few, for it takes a condition on a hash to hold
# for one row in 200.
IN_PARTS = b"SELECT set_config('min_parallel_table_scan_size', '1TB', true), set_config('enable_sort', 'off', true)"
AS_BEFORE = b"SET LOCAL min_parallel_table_scan_size TO DEFAULT; SET LOCAL enable_sort TO DEFAULT"
