-- The index that bench/monthly_index.py measures with.

-- index -- In the order in which the events of a month are grouped.
CREATE INDEX by_group ON analytics.contact_activity (organization_id, event_type, contact_id, created_at)

-- of_ssds -- Tell the planner that a page out of order costs little more than the next one.
ALTER DATABASE {database} SET random_page_cost = 1.1

-- size -- How large it is.
SELECT pg_relation_size('analytics.by_group') AS bytes

-- one_process -- Let no other process help, whose CPU would be counted when it ends.
SELECT set_config('max_parallel_workers_per_gather', '0', false)

-- read -- Read the month's events, and their columns up to the time, and do nothing with them.
SELECT count(*) FROM analytics.contact_activity WHERE created_at >= %(start)s AND created_at < %(end)s

-- counted -- Count the month's events of each organization and type; not their contacts.
SELECT organization_id, event_type, count(*)
FROM analytics.contact_activity
WHERE created_at >= %(start)s AND created_at < %(end)s
GROUP BY organization_id, event_type
