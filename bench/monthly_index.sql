-- The index that bench/monthly_index.py measures with.

-- index -- In the order in which the events of a month are grouped.
CREATE INDEX by_group ON analytics.contact_activity (organization_id, event_type, contact_id, created_at)

-- of_ssds -- Tell the planner that a page out of order costs little more than the next one.
ALTER DATABASE {database} SET random_page_cost = 1.1

-- size -- How large it is.
SELECT pg_relation_size('analytics.by_group') AS bytes
