-- Why: two locks on every row. Requests and stages run as graphmill_app, which owns nothing, can't bypass row
-- security and sees one organization a transaction; stager, sweeper, sequencer and janitor run as graphmill_engine,
-- which crosses organizations and reaches scheduling columns only, never a text, a checkpoint or a graph.

do $$
declare
    wanted text;
begin
    foreach wanted in array array['graphmill_app', 'graphmill_engine'] loop
        if not exists (select from pg_roles where rolname = wanted) then
            begin
                execute format('create role %I nologin nosuperuser nobypassrls nocreatedb nocreaterole', wanted);
            exception
                -- Roles are the server's: another database of it may be migrated at the same moment.
                when duplicate_object or unique_violation then null;
                when insufficient_privilege then
                    raise exception 'the roles graphmill_app and graphmill_engine are missing and % may not create them', current_user
                        using hint = format(
                            'as an administrator: create role graphmill_app nologin; create role graphmill_engine nologin; grant graphmill_app, graphmill_engine to %I', current_user);
            end;
        end if;
        -- From Postgres 16 on, whoever creates a role may administer it and still not set it.
        if not pg_has_role(current_user, wanted,
                           case when current_setting('server_version_num')::integer >= 160000
                                then 'set' else 'member' end) then
            begin
                execute format('grant %I to current_user', wanted);
            exception
                when insufficient_privilege then
                    raise exception '% is no member of the role % and may not grant it', current_user, wanted
                        using hint = format(
                            'as an administrator: grant graphmill_app, graphmill_engine to %I', current_user);
            end;
        end if;
    end loop;
end
$$;

grant usage on schema public to graphmill_app, graphmill_engine;
grant select on _sqlx_migrations to graphmill_app, graphmill_engine;

-- graphmill_app: whole rows of one organization.
grant select on organization to graphmill_app;
grant select, insert, update, delete on
    api_key, ontology, batch, document, workflow_execution, workflow_activity, workflow_signal, checkpoint,
    chunk, mention, entity, relation, evidence, cluster, cluster_member, same_as, llm_call, budget
    to graphmill_app;
grant insert on event_outbox to graphmill_app;
grant select on event to graphmill_app;

do $$
declare
    owned text;
begin
    foreach owned in array array[
        'api_key', 'ontology', 'batch', 'document', 'workflow_execution', 'workflow_activity',
        'workflow_signal', 'checkpoint', 'event_outbox', 'event', 'chunk', 'mention', 'entity', 'relation',
        'evidence', 'cluster', 'cluster_member', 'same_as', 'llm_call', 'budget'] loop
        execute format('alter table %I enable row level security', owned);
        execute format(
            'create policy own_organization on %I to graphmill_app
                 using (organization_id = current_organization())
                 with check (organization_id = current_organization())', owned);
    end loop;
end
$$;
alter table organization enable row level security;
create policy own_organization on organization for select to graphmill_app
    using (id = current_organization());

-- graphmill_engine: scheduling columns of every organization.
grant select (id, organization_id, name, concurrency, failure_policy, max_retries, generation, state, state_data,
              counts, stopping, sealed_at, paused_at, created_at, started_at, ended_at, updated_at),
      update (state, state_data, counts, stopping, started_at, ended_at, updated_at)
    on batch to graphmill_engine;
grant select (id, organization_id, batch_id, generation, document_id, workflow_type, workflow_version, status,
              current_activity, round, partial, lease_owner, lease_epoch, lease_until, due_at, rung_at,
              ring_incarnation, paused_at, stop_requested_at, started_at, completed_at, updated_at),
      insert (id, organization_id, batch_id, generation, workflow_type, workflow_version, status, current_activity),
      update (status, round, lease_owner, lease_epoch, lease_until, due_at, rung_at, ring_incarnation,
              started_at, completed_at, updated_at)
    on workflow_execution to graphmill_engine;
grant select, insert on workflow_activity to graphmill_engine;
grant update (status, error, completed_at) on workflow_activity to graphmill_engine;
grant select, update (outcome, delivered_at) on workflow_signal to graphmill_engine;
grant select, insert, delete on event_outbox to graphmill_engine;
grant select, insert on event to graphmill_engine;
grant select, update on event_cursor to graphmill_engine;
grant select, insert, update, delete on worker to graphmill_engine;

do $$
declare
    scheduled text;
begin
    foreach scheduled in array array[
        'batch', 'workflow_execution', 'workflow_activity', 'workflow_signal', 'event_outbox', 'event'] loop
        execute format('create policy every_organization on %I to graphmill_engine using (true) with check (true)',
                       scheduled);
    end loop;
end
$$;
