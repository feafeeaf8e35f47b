-- Why: a stop that was asked of a leased execution may find it in `retry` or `failed`, when its holder settles before
-- it looks. The sweeper applies such stops; it asks every second, so that must cost nothing while there are none.

create index workflow_execution_stop on workflow_execution (organization_id, id)
    where stop_requested_at is not null and status in ('queued', 'processing', 'retry', 'failed');
