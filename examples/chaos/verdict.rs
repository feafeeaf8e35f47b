//! The verdict over the rows and the queues of a run that is over: what is wrong with them, line by line.
//!
//! Knows the tables and the keys; asks as their owner, whom no policy binds. The witness' part is in `witnessed`.

use std::time::{Duration, Instant};

use anyhow::Result;
use graphmill::flow::Stage;
use tokio::time::sleep;

use crate::{ground::Ground, jobs};

/// How long the heartbeats of the living may take to clear away what the dead held: 15 s of silence, then a beat.
const CLEARED_WITHIN: Duration = Duration::from_secs(60);

/// Questions that must have no rows for an answer.
const NONE: [(&str, &str); 13] = [
    (
        "a batch did not complete",
        "select name, state from batch where state <> 'Completed'",
    ),
    (
        "an execution is not completed",
        "select id, status, current_activity, error from workflow_execution where status <> 'completed' or partial",
    ),
    (
        "a document has no execution, or several",
        "select d.external_id, count(e.id) from document d left join workflow_execution e on e.document_id = d.id
         group by d.external_id, d.id having count(e.id) <> 1",
    ),
    (
        "a lease is left",
        "select id, lease_owner, lease_until from workflow_execution
         where lease_owner is not null or lease_until is not null",
    ),
    (
        "an activity is left running",
        "select workflow_execution_id, activity_name, status from workflow_activity
         where status in ('pending', 'running')",
    ),
    (
        "a stage was completed never, or twice",
        "select e.id, s.activity, count(a.id) from workflow_execution e
         join (values ('extraction', 'chunk-text'), ('extraction', 'extract-mentions'),
                      ('extraction', 'classify-entities'), ('extraction', 'extract-relations'),
                      ('extraction', 'assemble-graph'), ('resolution', 'resolve')) as s (type, activity)
           on s.type = e.workflow_type
         left join workflow_activity a
           on a.workflow_execution_id = e.id and a.activity_name = s.activity and a.status = 'completed'
         group by e.id, s.activity having count(a.id) <> 1",
    ),
    (
        "an attempt failed for another reason than its worker's",
        "select workflow_execution_id, activity_name, error from workflow_activity
         where status not in ('completed', 'failed', 'cancelled')
            or status <> 'completed' and error ->> 'code' not in ('lease_lost', 'worker', 'handed_back')",
    ),
    (
        "a unit is not done",
        "select workflow_execution_id, stage, unit, outcome, failure from checkpoint where outcome <> 'done'",
    ),
    (
        "the outbox is not empty",
        "select id, type from event_outbox",
    ),
    (
        "the positions of the events have gaps",
        "select count(*), max(position), (select last_position from event_cursor) from event
         having count(*) <> max(position)
             or max(position) <> (select last_position from event_cursor)",
    ),
    (
        "an event was told never, or twice",
        "select e.id, t.type, t.stage, count(v.position) from workflow_execution e
         join (values ('extraction', 'DocumentStarted', null), ('extraction', 'DocumentCompleted', null),
                      ('extraction', 'StageCompleted', 'chunk'), ('extraction', 'StageCompleted', 'mentions'),
                      ('extraction', 'StageCompleted', 'entities'), ('extraction', 'StageCompleted', 'relations'),
                      ('extraction', 'StageCompleted', 'assemble'), ('resolution', 'ResolutionCompleted', null))
              as t (workflow, type, stage)
           on t.workflow = e.workflow_type
         left join event v on v.workflow_execution_id = e.id and v.type = t.type
           and (t.stage is null or v.payload ->> 'stage' = t.stage)
         group by e.id, t.type, t.stage having count(v.position) <> 1",
    ),
    (
        "a batch's end was told never, or twice",
        "select b.name, count(v.position) from batch b
         left join event v on v.batch_id = b.id and v.type = 'BatchCompleted'
         group by b.id, b.name having count(v.position) <> 1",
    ),
    (
        "a batch has clusters of another resolution",
        "select b.name, count(*) from batch b join cluster c on c.batch_id = b.id
         where c.resolution_id is distinct from b.resolution_id group by b.name",
    ),
];

/// What a batch's counts say, and the rows.
const COUNTS: [(&str, &str); 11] = [
    (
        "accepted",
        "select count(*) from document d where d.batch_id = b.id and d.refusal is null",
    ),
    (
        "refused",
        "select count(*) from document d where d.batch_id = b.id and d.refusal ->> 'code' <> 'duplicate'",
    ),
    (
        "duplicate",
        "select count(*) from document d where d.batch_id = b.id and d.refusal ->> 'code' = 'duplicate'",
    ),
    (
        "completed",
        "select count(*) from workflow_execution e
         where e.batch_id = b.id and e.document_id is not null and e.status = 'completed'",
    ),
    (
        "partial",
        "select count(*) from workflow_execution e
         where e.batch_id = b.id and e.document_id is not null and e.status = 'completed' and e.partial",
    ),
    (
        "failed",
        "select count(*) from workflow_execution e
         where e.batch_id = b.id and e.document_id is not null and e.status = 'failed'",
    ),
    (
        "abandoned",
        "select count(*) from workflow_execution e
         where e.batch_id = b.id and e.document_id is not null and e.status = 'abandoned'",
    ),
    (
        "cancelled",
        "select count(*) from workflow_execution e
         where e.batch_id = b.id and e.document_id is not null and e.status = 'cancelled'",
    ),
    (
        "entities",
        "select count(*) from entity f join workflow_execution e on e.id = f.workflow_execution_id
         where e.batch_id = b.id",
    ),
    (
        "relations",
        "select count(*) from relation f join workflow_execution e on e.id = f.workflow_execution_id
         where e.batch_id = b.id",
    ),
    (
        "clusters",
        "select count(*) from cluster c where c.batch_id = b.id and c.resolution_id = b.resolution_id",
    ),
];

/// What is wrong with the rows.
pub(crate) async fn rows(ground: &Ground) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (what, question) in NONE {
        let found = ground.rows(question).await?;
        for row in found.iter().take(5) {
            wrong.push(format!("{what}: {}", row.join(" ")));
        }
        if found.len() > 5 {
            wrong.push(format!("{what}: and {} more", found.len() - 5));
        }
    }
    for (count, question) in COUNTS {
        let differing = format!(
            "select b.name, b.counts ->> '{count}', ({question}) from batch b
             where (b.counts ->> '{count}')::bigint is distinct from ({question})"
        );
        for row in ground.rows(differing).await? {
            let [batch, folded, counted] = &row[..] else {
                continue;
            };
            wrong.push(format!(
                "batch {batch} says {count} = {folded}, its rows say {counted}"
            ));
        }
    }
    Ok(wrong)
}

/// Waits until no job is left in any queue, while workers are there to clear away what the dead held; what stays.
pub(crate) async fn queues_empty(ground: &Ground) -> Result<Vec<String>> {
    let begun = Instant::now();
    loop {
        let left = jobs_left(ground).await;
        match left {
            Ok(left) if left.is_empty() => return Ok(left),
            Ok(left) if begun.elapsed() > CLEARED_WITHIN => {
                return Ok(left
                    .into_iter()
                    .map(|key| format!("a job is left in Redis: {key}"))
                    .collect());
            }
            Err(error) if begun.elapsed() > CLEARED_WITHIN => return Err(error),
            Ok(_) | Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn jobs_left(ground: &Ground) -> Result<Vec<String>> {
    let mut redis = ground.redis().await?;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await?;
    Ok(keys.into_iter().filter(|key| !is_constant(key)).collect())
}

/// The keys that stay: who the workers are, which queues there are, which data set this is, what was set aside.
fn is_constant(key: &str) -> bool {
    [
        "graphmill:sentinel",
        "graphmill:set-aside",
        "core:apalis:queues:list",
    ]
    .contains(&key)
        || Stage::ALL.iter().any(|stage| {
            key.strip_prefix(&jobs::queue(*stage))
                .is_some_and(|rest| rest == ":workers" || rest.starts_with(":workers:metadata:"))
        })
}
