//! The two locks on every row: the roles that the program works as own nothing and can't get around row security,
//! and within a transaction for one organization nothing of another is to be seen or written.
//!
//! Tables are enumerated from the catalogue, so that a new one can't be forgotten.

use graphmill::{
    store::{self, AppTransaction},
    workflow::Submission,
};
use graphmill_jobs::OrganizationId;
use sqlx::AssertSqlSafe;

use crate::support::{Ground, OURS, documents, new_batch, refusal, texts};

pub(crate) const OF_AN_ORGANIZATION: &str = "select c.table_name::text from information_schema.columns c
     join information_schema.tables t using (table_schema, table_name)
     where c.table_schema = 'public' and c.column_name = 'organization_id' and t.table_type = 'BASE TABLE'
     order by 1";

pub(crate) async fn theirs(ground: &Ground) -> OrganizationId {
    let organization = OrganizationId::generate();
    ground
        .execute(format!(
            "insert into organization (id, name) values ('{}', 'theirs')",
            organization.uuid()
        ))
        .await
        .unwrap();
    organization
}

/// A row in every table for an organization: a batch through the front door, the rest straight as the owner.
pub(crate) async fn seed(ground: &Ground, organization: OrganizationId) {
    let mut submission = Submission::open(&ground.store, organization, &new_batch("seed"))
        .await
        .unwrap();
    for document in documents(1) {
        submission.add(document).await.unwrap();
    }
    let batch = submission.seal().await.unwrap().uuid();
    let of = organization.uuid();
    let rows = format!(
        "insert into api_key (id, organization_id, name, prefix, hash, scopes)
             values (gen_random_uuid(), '{of}', 'k', right('{of}', 12), sha256('{of}'::text::bytea), '{{read}}');
         insert into event (position, organization_id, batch_id, type, payload, created_at)
             select coalesce(max(position), 0) + 1, '{of}', '{batch}', 'BatchSealed', '{{\"type\": \"BatchSealed\"}}',
                    now() from event;
         insert into workflow_activity (id, workflow_execution_id, organization_id, activity_name, activity_type,
                                        status, attempt_number, lease_epoch)
             select gen_random_uuid(), id, '{of}', 'chunk-text', 'extraction', 'running', 1, 1
             from workflow_execution where organization_id = '{of}';
         insert into workflow_signal (id, workflow_execution_id, organization_id, signal_name)
             select gen_random_uuid(), id, '{of}', 'cancel' from workflow_execution where organization_id = '{of}';
         insert into checkpoint (workflow_execution_id, organization_id, stage, unit, input_hash, outcome, tries,
                                 lease_epoch)
             select id, '{of}', 'chunk', 0, '', 'done', 1, 1 from workflow_execution where organization_id = '{of}';
         insert into chunk (workflow_execution_id, organization_id, ordinal, start_char, end_char)
             select id, '{of}', 0, 0, 1 from workflow_execution where organization_id = '{of}';
         insert into entity (id, workflow_execution_id, organization_id, ordinal, name, type, mentions)
             select gen_random_uuid(), id, '{of}', 0, 'n', 'person', '{{0}}'
             from workflow_execution where organization_id = '{of}';
         insert into mention (workflow_execution_id, organization_id, ordinal, entity_id, start_char, end_char, text,
                              type, confidence)
             select id, '{of}', 0, gen_random_uuid(), 0, 1, 'n', 'person', 1
             from workflow_execution where organization_id = '{of}';
         insert into relation (id, workflow_execution_id, organization_id, ordinal, subject_id, predicate, object_id,
                               confidence)
             select gen_random_uuid(), id, '{of}', 0, id, 'knows', id, 1
             from workflow_execution where organization_id = '{of}';
         insert into evidence (relation_id, workflow_execution_id, organization_id, ordinal, start_char, end_char,
                               text)
             select id, workflow_execution_id, '{of}', 0, 0, 1, 'n' from relation where organization_id = '{of}';
         insert into cluster (id, organization_id, batch_id, resolution_id, name, type)
             values (gen_random_uuid(), '{of}', '{batch}', gen_random_uuid(), 'n', 'person');
         insert into cluster_member (cluster_id, entity_id, resolution_id, organization_id)
             select id, gen_random_uuid(), resolution_id, '{of}' from cluster where organization_id = '{of}';
         insert into cluster_key (key, cluster_id, entity_id, resolution_id, batch_id, organization_id)
             select 1, id, gen_random_uuid(), resolution_id, batch_id, '{of}' from cluster where organization_id = '{of}';
         insert into resolution (id, organization_id, batch_id, workflow_execution_id, digest)
             values (gen_random_uuid(), '{of}', '{batch}', gen_random_uuid(), '');
         insert into resolution_turn (organization_id) values ('{of}');
         insert into same_as (id, organization_id, batch_id, resolution_id, left_entity_id, right_entity_id, score,
                              reason)
             values (gen_random_uuid(), '{of}', '{batch}', gen_random_uuid(), gen_random_uuid(), gen_random_uuid(),
                     1, 'r');
         insert into same_as_member (same_as_id, organization_id, side, entity_id, batch_id, document_id, name, type)
             values (gen_random_uuid(), '{of}', 'left', gen_random_uuid(), '{batch}', gen_random_uuid(), 'n', 'person');
         insert into llm_call (id, organization_id, provider, model, request_hash, attempt, outcome, claim_until)
             values (gen_random_uuid(), '{of}', 'p', 'm', '', 1, 'intent', now());
         insert into model_endpoint (organization_id, endpoint, model, known) values ('{of}', 'e', 'm', 'k');
         insert into dropped_item (organization_id, workflow_execution_id, stage, unit, reason, count)
             select '{of}', id, 'mentions', 0, 'ungrounded', 1 from workflow_execution where organization_id = '{of}';
         insert into webhook_delivery (batch_id, generation, organization_id, id, state_data, counts)
             values ('{batch}', 1, '{of}', gen_random_uuid(), '{{}}', '{{}}');
         insert into idempotency_key (key, organization_id, batch_id, request_hash)
             values ('k', '{of}', '{batch}', '');
         insert into limit_notice (organization_id, batch_id, model) values ('{of}', '{batch}', 'm');
         insert into budget (organization_id, batch_id) values ('{of}', '{batch}');
         insert into organization_budget (organization_id) values ('{of}');
         insert into organization_limit (organization_id, max_documents) values ('{of}', 9);"
    );
    ground.execute(rows).await.unwrap();
}

/// What the database says to a statement; the transaction goes on.
async fn attempt(transaction: &mut AppTransaction, sql: &str) -> Result<u64, String> {
    let run = async |transaction: &mut AppTransaction, sql: &str| {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut **transaction)
            .await
            .map(|done| done.rows_affected())
            .map_err(|error| refusal(&error))
    };
    run(transaction, "savepoint attempt").await.unwrap();
    let done = run(transaction, sql).await;
    run(transaction, "rollback to savepoint attempt")
        .await
        .unwrap();
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_own_nothing_and_can_not_get_around_row_security() {
    let ground = Ground::new().await;
    let roles = "('graphmill_app', 'graphmill_engine')";
    let attributes = ground
        .texts(format!(
            "select concat_ws(' ', rolname, rolsuper, rolbypassrls, rolcanlogin, rolcreatedb, rolcreaterole,
                              rolreplication)
             from pg_roles where rolname in {roles} order by rolname"
        ))
        .await;
    assert_eq!(
        attributes,
        ["graphmill_app f f f f f f", "graphmill_engine f f f f f f"]
    );
    for (catalogue, owner) in [
        ("pg_class", "relowner"),
        ("pg_proc", "proowner"),
        ("pg_namespace", "nspowner"),
        ("pg_type", "typowner"),
        ("pg_database", "datdba"),
    ] {
        let sql = format!(
            "select count(*) from {catalogue} c join pg_roles r on r.oid = c.{owner} where r.rolname in {roles}"
        );
        assert_eq!(ground.number(sql).await, 0, "{catalogue}");
    }
    let member_of = format!(
        "select count(*) from pg_auth_members m join pg_roles r on r.oid = m.member where r.rolname in {roles}"
    );
    assert_eq!(
        ground.number(member_of).await,
        0,
        "nor members of a role that does"
    );
    assert!(
        store::health(&ground.store).await.unwrap().roles_are_safe,
        "doctor agrees"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pools_work_as_these_roles() {
    let ground = Ground::new().await;
    let who =
        "select concat_ws(' ', current_user, pg_has_role(current_user, 'graphmill_app', 'usage'),
                                current_setting('is_superuser'))";
    let mut app = ground.app().await;
    assert_eq!(texts(&mut *app, who).await, ["graphmill_app t off"]);
    let mut engine = ground.store.engine().await.unwrap();
    assert_eq!(texts(&mut *engine, who).await, ["graphmill_engine f off"]);
    let mut engine = ground.store.engine_transaction().await.unwrap();
    assert_eq!(texts(&mut *engine, who).await, ["graphmill_engine f off"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_of_an_organization_has_row_security_for_the_app() {
    let ground = Ground::new().await;
    let tables = ground.texts(OF_AN_ORGANIZATION).await;
    assert!(tables.len() >= 20, "{tables:?}");
    for table in &tables {
        let secured = format!(
            "select relrowsecurity::text from pg_class where oid = 'public.{table}'::regclass"
        );
        assert_eq!(ground.text(secured).await, "true", "{table}");
        let policies = ground
            .texts(format!(
                "select concat_ws(' | ', cmd, permissive, qual, with_check) from pg_policies
                 where tablename = '{table}' and 'graphmill_app' = any(roles)"
            ))
            .await;
        let own = "(organization_id = current_organization())";
        assert_eq!(
            policies,
            [format!("ALL | PERMISSIVE | {own} | {own}")],
            "{table}"
        );
        let open = format!(
            "select count(*) from pg_policies where tablename = '{table}' and 'public' = any(roles)"
        );
        assert_eq!(ground.number(open).await, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_another_organization_is_seen_or_written() {
    let ground = Ground::new().await;
    let theirs = theirs(&ground).await;
    seed(&ground, OURS).await;
    seed(&ground, theirs).await;
    let mut app = ground.app().await;
    for table in ground.texts(OF_AN_ORGANIZATION).await {
        let of = |organization: OrganizationId| {
            format!(
                "select count(*) from {table} where organization_id = '{}'",
                organization.uuid()
            )
        };
        for organization in [OURS, theirs] {
            assert!(
                ground.number(of(organization)).await > 0,
                "{table} has no row to hide: seed one"
            );
        }
        let columns = ground
            .texts(format!(
                "select quote_ident(column_name) from information_schema.columns
                 where table_schema = 'public' and table_name = '{table}' and is_generated = 'NEVER'
                   and is_identity = 'NO'"
            ))
            .await
            .join(", ");
        // The outbox is written and never read by the app.
        if table != "event_outbox" {
            assert_eq!(texts(&mut *app, of(theirs)).await, ["0"], "{table}");
            assert_ne!(texts(&mut *app, of(OURS)).await, ["0"], "{table}");
            for change in [
                format!("update {table} set organization_id = organization_id"),
                format!("delete from {table}"),
            ] {
                let sql = format!("{change} where organization_id = '{}'", theirs.uuid());
                let done = attempt(&mut app, &sql).await;
                // What the app may write of a limit is the count alone; another test tries that.
                let untouchable = ["event", "organization_limit"].contains(&table.as_str());
                assert!(done == Ok(0) || untouchable, "{sql}: {done:?}");
            }
        }
        let theirs_now = columns.replace("organization_id", &format!("'{}'::uuid", theirs.uuid()));
        let insert = if table == "event_outbox" {
            format!(
                "insert into event_outbox (organization_id, batch_id, type, payload)
                 values ('{}', gen_random_uuid(), 'x', '{{}}')",
                theirs.uuid()
            )
        } else {
            format!("insert into {table} ({columns}) select {theirs_now} from {table} limit 1")
        };
        let refused = attempt(&mut app, &insert).await.unwrap_err();
        assert!(
            refused.contains("row-level security") || refused.contains("permission denied"),
            "{insert}: {refused}"
        );
    }
    let found =
        "select count(*) from entities_with_words('n', '00000000-0000-0000-0000-000000000000', 10)";
    let entities = format!(
        "select count(*) from entity where organization_id = '{}'",
        OURS.uuid()
    );
    assert_eq!(texts(&mut *app, found).await, [ground.text(entities).await]);
    let organizations = texts(&mut *app, "select id::text from organization").await;
    assert_eq!(organizations, [OURS.uuid().to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_key_the_app_sees_its_own_organizations_or_the_one_that_it_names() {
    let ground = Ground::new().await;
    let theirs = theirs(&ground).await;
    seed(&ground, OURS).await;
    seed(&ground, theirs).await;
    let prefix = |organization: OrganizationId| {
        let text = organization.uuid().to_string();
        text[text.len() - 12..].to_owned()
    };
    let mut outside = ground.store.outside().await.unwrap();
    let listed = texts(&mut *outside, "select prefix from api_key").await;
    assert!(listed.is_empty(), "{listed:?}");
    for organization in [OURS, theirs] {
        let found = store::api_key_by_prefix(&mut outside, &prefix(organization))
            .await
            .unwrap();
        assert_eq!(found.unwrap().organization, organization);
    }
    for none in ["", "%", "_", "0"] {
        let found = store::api_key_by_prefix(&mut outside, none).await.unwrap();
        assert!(found.is_none(), "{none}");
    }
    drop(outside);
    let mut app = ground.app().await;
    let listed = texts(&mut *app, "select prefix from api_key").await;
    assert_eq!(listed, [prefix(OURS)]);
    let revoked = store::revoke_api_key(&mut app, theirs, &prefix(theirs)).await;
    assert!(
        !revoked.unwrap(),
        "another organization's key is not ours to revoke"
    );
    let counted = attempt(&mut app, "update organization_limit set documents = 1").await;
    assert_eq!(counted, Ok(1), "of two rows, ours");
    let changed = attempt(&mut app, "update organization_limit set max_documents = 99").await;
    assert!(changed.unwrap_err().contains("permission denied"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_organization_nothing_is_seen() {
    let ground = Ground::new().await;
    seed(&ground, OURS).await;
    // An organization that was set for one transaction is gone in the connection's next one.
    let mut app = ground.app().await;
    attempt(&mut app, "select 1").await.unwrap();
    texts(&mut *app, "set local graphmill.organization = ''").await;
    let mut tables = ground.texts(OF_AN_ORGANIZATION).await;
    tables.retain(|table| table != "event_outbox");
    tables.push("organization".to_owned());
    for table in &tables {
        let count = texts(&mut *app, format!("select count(*) from {table}")).await;
        assert_eq!(count, ["0"], "{table}");
    }
    app.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a list of statements")]
async fn the_engine_reads_no_content_and_writes_scheduling_columns_only() {
    let ground = Ground::new().await;
    seed(&ground, OURS).await;
    let mut engine = ground.store.engine_transaction().await.unwrap();
    for read in [
        "select text from document",
        "select * from document",
        "select * from checkpoint",
        "select * from chunk",
        "select * from mention",
        "select * from entity",
        "select * from relation",
        "select * from evidence",
        "select * from cluster",
        "select * from cluster_member",
        "select * from cluster_key",
        "select * from resolution",
        "select * from resolution_turn",
        "select * from same_as",
        "select * from same_as_member",
        "select * from llm_call",
        "select * from api_key",
        "select * from api_key_by_prefix('x')",
        "select api_key_exists()",
        "select * from organization_limit",
        "select created_at from organization",
        "select * from budget",
        "select max_cost, spent_cost from organization_budget",
        "select * from model_endpoint",
        "select * from dropped_item",
        "select * from idempotency_key",
        "select * from limit_notice",
        "select input, output, error from workflow_execution",
        "select config from batch",
        "select notify_url from batch",
        "select body from webhook_delivery",
        "select * from webhook_delivery",
    ] {
        let refused = attempt(&mut engine, read).await.unwrap_err();
        assert!(refused.contains("permission denied"), "{read}: {refused}");
    }
    let words =
        "select * from entities_with_words('n', '00000000-0000-0000-0000-000000000000', 10)";
    let refused = attempt(&mut engine, words).await.unwrap_err();
    assert!(refused.contains("permission denied"), "{refused}");
    for (table, may) in [
        (
            "batch",
            "state state_data counts stopping sealed_at pace started_at ended_at updated_at",
        ),
        (
            "workflow_execution",
            "status round lost_leases lease_owner lease_epoch lease_until due_at rung_at ring_incarnation started_at \
             completed_at updated_at",
        ),
        ("workflow_activity", "status error completed_at"),
        ("workflow_signal", "outcome delivered_at"),
        ("event_outbox", ""),
        ("event", ""),
        (
            "webhook_delivery",
            "status attempts next_due lease_owner lease_epoch lease_until last_error settled_at",
        ),
        ("organization_budget", ""),
    ] {
        let may: Vec<&str> = may.split(' ').collect();
        let columns = ground
            .texts(format!(
                "select column_name::text from information_schema.columns
                 where table_schema = 'public' and table_name = '{table}' and is_generated = 'NEVER'"
            ))
            .await;
        for column in columns {
            let granted = ground
                .text(format!(
                    "select has_column_privilege('graphmill_engine', '{table}', '{column}', 'update')::text"
                ))
                .await;
            let wanted = may.contains(&column.as_str()).to_string();
            assert_eq!(granted, wanted, "update of {table}.{column}");
        }
    }
    let granted = ground
        .texts(
            "select distinct table_name::text from information_schema.column_privileges
             where grantee = 'graphmill_engine' and table_schema = 'public' order by 1",
        )
        .await;
    assert_eq!(
        granted,
        [
            "_sqlx_migrations",
            "batch",
            "event",
            "event_cursor",
            "event_outbox",
            "organization",
            "organization_budget",
            "webhook_delivery",
            "worker",
            "workflow_activity",
            "workflow_execution",
            "workflow_signal",
        ],
        "a new grant to the engine belongs here"
    );
}
