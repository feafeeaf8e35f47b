-- Why: what a crash leaves behind. A lease that ran out is no try of anything, but what was in work under it is
-- suspect: it may have taken the process down. Suspect units run in a process of their own; there a death is
-- theirs, and the third one puts the unit into quarantine.

alter table workflow_execution
    add column lost_leases integer not null default 0 check (lost_leases >= 0);
comment on column workflow_execution.lost_leases is
    'Leases that ran out since the last settle; above zero, the units without a checkpoint are suspect.';

alter table checkpoint
    add column deaths integer not null default 0 check (deaths >= 0);
comment on column checkpoint.deaths is 'Processes that died while they worked on this unit and on nothing else.';

grant select (lost_leases), update (lost_leases) on workflow_execution to graphmill_engine;

-- The sweeper asks every second for signals that nobody delivers; that must cost nothing while there are none.
drop index workflow_execution_stop;
drop index workflow_signal_undelivered;
create index workflow_signal_undelivered on workflow_signal (workflow_execution_id, id)
    where delivered_at is null;
