//! The life of a batch: it is kept open, takes documents, newer versions of them, gives some away, is sealed, ends, and
//! is opened again. The judge is a fresh batch of what a changed one holds at last: both have the same graph and the
//! same counts, however the changed one came there.

mod changing;
mod command;
mod killed;
mod open;
mod paid;
mod readers;
mod rerun;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use graphmill::{
    flow::BatchCounts,
    graph::ExportFormat,
    pipeline::NewDocument,
    store::Changed,
    workflow::{self, NewBatch, Removed, Submission, SubmitError},
};
use graphmill_jobs::BatchId;
use serde_json::Value;

use crate::support::{Drill, Ground, OURS, Scripted, new_batch, without_ids};

/// Opens a batch that is kept open.
async fn open(ground: &Ground, batch: &NewBatch, documents: Vec<NewDocument>) -> BatchId {
    let mut submission = Submission::open(&ground.store, OURS, batch).await.unwrap();
    let id = submission.batch();
    for document in documents {
        submission.add(document).await.unwrap();
    }
    submission.finish(true).await.unwrap();
    id
}

/// Adds documents to a batch that takes them.
async fn add(
    ground: &Ground,
    batch: BatchId,
    documents: Vec<NewDocument>,
) -> Result<Changed, SubmitError> {
    let mut submission = Submission::to(&ground.store, OURS, batch).await?;
    for document in documents {
        submission.add(document).await?;
    }
    submission.finish(false).await
}

async fn remove(ground: &Ground, batch: BatchId, documents: &[&str]) -> Removed {
    let documents: Vec<String> = documents.iter().map(|&id| id.to_owned()).collect();
    workflow::remove_documents(&ground.store, OURS, batch, &documents)
        .await
        .unwrap()
}

/// A document of two people and a place, who are others in another version.
fn version(number: usize, version: usize) -> NewDocument {
    const FIRST: [&str; 5] = ["Maria", "Jonas", "Helen", "Peter", "Alice"];
    const LAST: [&str; 7] = [
        "Keller", "Novak", "Turner", "Lindgren", "Moreau", "Silva", "Weber",
    ];
    const PLACE: [&str; 3] = ["Vienna", "Oslo", "Lisbon"];
    let name = |at: usize| format!("{} {}", FIRST[at % 5], LAST[at % 7]);
    let text = format!(
        "{one} was born in {place}. She worked for Acme Corporation in {place}.\n\n\
         Version {version} of {number} says that {one} married {other} in 1972. {other} lives in {place}.",
        one = name(number + 3 * version),
        other = name(number + 7 + version),
        place = PLACE[(number + version) % 3],
    );
    NewDocument::new(format!("d{number}"), text)
}

/// The current graph without ids.
async fn graph(ground: &Ground, batch: BatchId) -> Value {
    let json = workflow::export(&ground.store, OURS, batch, ExportFormat::Json, Vec::new()).await;
    without_ids(&serde_json::from_slice(&json.unwrap()).unwrap())
}

/// What counts of a batch's documents and graph, whatever its past.
fn holds(counts: &BatchCounts) -> [u64; 6] {
    [
        counts.accepted,
        counts.completed,
        counts.partial,
        counts.entities,
        counts.relations,
        counts.clusters,
    ]
}

/// The batch, which has ended, holds what a fresh one of these documents does.
async fn assert_holds(ground: &Ground, batch: BatchId, documents: Vec<NewDocument>) {
    let name = format!("fresh-{}", uuid::Uuid::new_v4());
    let fresh = ground.submit(&new_batch(&name), documents).await;
    let wanted = ground.ended(fresh).await;
    let found = ground.batch(batch).await;
    assert_eq!(holds(&found.counts), holds(&wanted.counts));
    assert_eq!(graph(ground, batch).await, graph(ground, fresh).await);
}

/// How often each unit was begun.
#[derive(Clone, Default)]
struct Begun(Arc<Mutex<HashMap<String, usize>>>);

impl Begun {
    fn extractor(&self) -> Scripted {
        let begun = self.clone();
        Scripted::new(move |unit| {
            *begun.0.lock().unwrap().entry(unit.to_string()).or_default() += 1;
            async { Ok(()) }
        })
    }

    fn take(&self) -> HashMap<String, usize> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

async fn drill(begun: &Begun) -> (Drill, Arc<Ground>) {
    let drill = Drill::with(begun.extractor()).await;
    let ground = Arc::clone(&drill.ground);
    (drill, ground)
}
