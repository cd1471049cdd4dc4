-- Jobs of the outbox are published queue by queue, each as long as it has room.

CREATE INDEX outbox_due ON mauntic_jobs.outbox (queue, id) WHERE published_at IS NULL;
DROP INDEX mauntic_jobs.outbox_unpublished;
