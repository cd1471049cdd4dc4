-- What operators look up: messages that have expired, in the order in which they are sent again, and the latest of them.
-- Messages that are sent cost these indexes nothing.
CREATE INDEX deliveries_expired ON mauntic_jobs.deliveries (organization_id, delivery_id) WHERE state = 'expired';
CREATE INDEX deliveries_expired_by_time ON mauntic_jobs.deliveries (updated_at) WHERE state = 'expired';
