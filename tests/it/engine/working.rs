//! Work that succeeds: the graph, the hops, the overlap, and company.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use graphmill::{
    extractors::{ExtractError, Extractor, Extractors, Local, UnitName},
    flow::{BatchStateName, Stage, WorkflowType},
    graph::{ExportFormat, Text},
    pipeline::{self, Document, NewDocument, Work},
    worker::WorkerSettings,
    workflow::{self, NewBatch},
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::{Drill, OURS, Scripted, documents, new_batch, quick};

/// Documents of one sentence a chunk, so that one has many units.
fn in_small_chunks(name: &str) -> NewBatch {
    let mut batch = new_batch(name);
    batch.settings.chunks.chars = 120;
    batch.settings.chunks.min_chars = 10;
    batch
}

/// What a document holds, in the words of the export, without ids.
fn comparable(export: &Value, document: &str) -> Value {
    let of = |section: &str| {
        let rows = export[section].as_array().unwrap().iter();
        rows.filter(|row| row["document"] == document)
            .cloned()
            .collect::<Vec<_>>()
    };
    let entities = of("entities");
    let name_of = |id: &Value| {
        let found = entities.iter().find(|entity| entity["id"] == *id);
        found.expect("a relation is between entities of its document")["mentions"].clone()
    };
    let mut nodes: Vec<String> = entities
        .iter()
        .map(|entity| json!([entity["name"], entity["type"], entity["mentions"]]).to_string())
        .collect();
    let mut edges: Vec<String> = of("relations")
        .iter()
        .map(|relation| {
            json!([
                name_of(&relation["subject"]),
                relation["predicate"],
                name_of(&relation["object"]),
                relation["confidence"],
                relation["evidence"]
            ])
            .to_string()
        })
        .collect();
    nodes.sort();
    edges.sort();
    json!([nodes, edges])
}

/// The same of a graph of the direct path.
async fn direct(batch: &NewBatch, document: &NewDocument) -> Value {
    let text = Text::new(document.text.as_str());
    let work = Work {
        document: Document {
            name: document.id.as_str().into(),
            text: text.clone(),
        },
        extractor: Arc::new(Local::new()) as Arc<dyn Extractor>,
        ontology: Arc::clone(&batch.ontology),
        settings: batch.settings,
        round: 0,
        pause: CancellationToken::new(),
        workplace: pipeline::Workplace::here(),
        gate: Arc::new(pipeline::Open),
        past: pipeline::Past::default(),
    };
    let graph = pipeline::extract(&work).await.unwrap();
    // Through the line's own JSON, so that confidences are rounded as the export rounds them.
    let line = serde_json::to_value(graphmill::graph::extracted_line(
        &document.id,
        &text,
        &graph,
        None,
    ));
    let line = line.unwrap();
    let mentions = line["mentions"].as_array().unwrap();
    let mention = |index: usize| {
        let mut mention = mentions[index].clone();
        mention.as_object_mut().unwrap().remove("label");
        mention
    };
    let mentions_of = |entity: usize| -> Value {
        graph.entities[entity]
            .mentions
            .iter()
            .map(|&index| mention(index))
            .collect()
    };
    let mut nodes: Vec<String> = (0..graph.entities.len())
        .map(|index| {
            let entity = &graph.entities[index];
            json!([entity.name, entity.class.as_str(), mentions_of(index)]).to_string()
        })
        .collect();
    let mut edges: Vec<String> = graph
        .relations
        .iter()
        .zip(line["relations"].as_array().unwrap())
        .map(|(relation, written)| {
            let evidence: Vec<Value> = relation
                .evidence
                .iter()
                .map(|&span| {
                    json!({ "start": span.start, "end": span.end, "text": text.slice(span) })
                })
                .collect();
            json!([
                mentions_of(relation.subject),
                relation.predicate.as_str(),
                mentions_of(relation.object),
                written["confidence"],
                evidence
            ])
            .to_string()
        })
        .collect();
    nodes.sort();
    edges.sort();
    json!([nodes, edges])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_durable_graph_is_the_direct_one() {
    let mut drill = Drill::with(Scripted::plain()).await;
    let mut batch = in_small_chunks("same");
    batch.settings.group_size = 3;
    let mut documents = documents(20);
    documents[3]
        .text
        .push_str(" “Ünïcödé” 😀 says Zoë Müller of Zürich, who works for Nestlé.");
    let id = drill.ground.submit(&batch, documents.clone()).await;
    let ended = drill.ends(id).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    assert_eq!(ended.counts.completed, 20);
    assert!(ended.counts.relations > 0 && ended.counts.clusters > 0);
    let out = workflow::export(
        &drill.ground.store,
        OURS,
        id,
        ExportFormat::Json,
        Vec::new(),
    )
    .await;
    let export: Value = serde_json::from_slice(&out.unwrap()).unwrap();
    for document in &documents {
        assert_eq!(
            comparable(&export, &document.id),
            direct(&batch, document).await,
            "{}",
            document.id
        );
    }
    let members: Vec<&Value> = export["clusters"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|cluster| cluster["members"].as_array().unwrap())
        .collect();
    let unique: BTreeSet<String> = members.iter().map(ToString::to_string).collect();
    assert_eq!(members.len(), unique.len(), "an entity is in one cluster");
    assert_eq!(unique.len() as u64, ended.counts.entities);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stage_is_a_hop_through_its_own_queue() {
    let mut drill = Drill::new().await;
    let hour = Duration::from_secs(3600);
    let settings = WorkerSettings {
        stager: hour,
        sweeper: hour,
        ..quick()
    };
    let client = redis::Client::open(drill.redis.url()).unwrap();
    let monitor = client.get_async_monitor().await.unwrap();
    let mut commands = monitor.into_on_message::<String>();
    drill
        .start(Extractors::default().with(Scripted::plain()), settings)
        .await;
    let ground = Arc::clone(&drill.ground);
    let batch = ground.submit(&new_batch("hops"), documents(1)).await;
    drill.worker().wake(OURS, batch);
    let id = ground.execution(batch, "d0").await;
    drill.ends(batch).await;
    let mut read = ground.app().await;
    let activities = graphmill::store::activities(&mut read, OURS, id)
        .await
        .unwrap();
    let stages: Vec<Stage> = activities.iter().map(|activity| activity.stage).collect();
    assert_eq!(stages, Stage::ALL[..5]);
    assert!(activities.iter().all(|activity| activity.attempt == 1));
    assert_eq!(ground.column(id, "lease_epoch").await, "5");
    // Whatever is handed on is leased with the settle before it. Now and then there is no slot to spare.
    let handed_on = ground.number(
        "select count(*) from workflow_activity a
         join workflow_activity b on b.workflow_execution_id = a.workflow_execution_id
          and b.lease_epoch = a.lease_epoch + 1 and b.started_at = a.completed_at",
    );
    assert!(handed_on.await > 0, "{activities:?}");
    // What the server did, in order: each stage's job came into its queue's data, and left it when it had ended.
    let wanted = |command: &str| -> Vec<String> {
        let of = |stage: &Stage| format!("\"{command}\" \"graphmill:{stage}:data\"");
        Stage::ALL.iter().map(of).collect()
    };
    let (pushed, ended) = (wanted("HSET"), wanted("HDEL"));
    let (mut rung, mut answered) = (Vec::new(), Vec::new());
    while answered.len() < Stage::ALL.len() {
        let line = commands.next().await.unwrap();
        rung.extend(pushed.iter().filter(|it| line.contains(*it)).cloned());
        answered.extend(ended.iter().filter(|it| line.contains(*it)).cloned());
    }
    assert_eq!(rung, pushed, "one job a stage");
    // Of two that end close together, either may be acknowledged first.
    answered.sort();
    assert!(ended.iter().all(|it| answered.binary_search(it).is_ok()));
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_a_stage_overlap_in_time() {
    let (in_flight, _) = watch::channel(0_usize);
    let in_flight = Arc::new(in_flight);
    let gate = Arc::clone(&in_flight);
    let mut drill = Drill::with(Scripted::new(move |unit: UnitName| {
        let gate = Arc::clone(&gate);
        async move {
            if unit.stage == "mentions" {
                let mut opened = gate.subscribe();
                gate.send_modify(|count| *count += 1);
                opened.wait_for(|&count| count >= 4).await.unwrap();
            }
            Ok(())
        }
    }))
    .await;
    let text: String = documents(8)
        .into_iter()
        .map(|one| one.text + "\n\n")
        .collect();
    let document = NewDocument::new("long", text);
    let batch = drill
        .ground
        .submit(&in_small_chunks("overlap"), vec![document])
        .await;
    let ended = drill.ends(batch).await;
    assert_eq!(ended.counts.completed, 1);
    assert!(*in_flight.borrow() >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_a_batch() {
    let mut drill = Drill::new().await;
    let began: Arc<[watch::Sender<bool>; 2]> =
        Arc::new([watch::channel(false).0, watch::channel(false).0]);
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    for me in 0..2 {
        let (began, counts) = (Arc::clone(&began), Arc::clone(&counts));
        // Neither goes on before the other has got something to do.
        let extractor = Scripted::new(move |_| {
            let (began, counts) = (Arc::clone(&began), Arc::clone(&counts));
            async move {
                counts[me].fetch_add(1, Ordering::SeqCst);
                began[me].send_replace(true);
                began[1 - me].subscribe().wait_for(|&it| it).await.unwrap();
                Ok(())
            }
        });
        let settings = WorkerSettings {
            slots: 2,
            ..quick()
        };
        let store = drill.ground.another_store().await;
        drill
            .start_on(store, Extractors::default().with(extractor), settings)
            .await;
    }
    let batch = drill
        .ground
        .submit(&new_batch("shared"), documents(20))
        .await;
    let ended = drill.ends(batch).await;
    assert_eq!(ended.counts.completed, 20);
    let all: usize = counts
        .iter()
        .map(|count| count.load(Ordering::SeqCst))
        .sum();
    assert_eq!(all, 60, "no unit was worked twice: three units a document");
    assert!(counts.iter().all(|count| count.load(Ordering::SeqCst) > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_of_redis_loses_nothing() {
    let calls = Arc::new(AtomicUsize::new(0));
    let (flushed, _) = watch::channel(false);
    let flushed = Arc::new(flushed);
    let (count, open) = (Arc::clone(&calls), Arc::clone(&flushed));
    let mut drill = Drill::with(Scripted::new(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let mut open = open.subscribe();
        async move {
            // From the tenth unit on, everything waits for the flush: it comes in the middle.
            if number >= 10 {
                open.wait_for(|&it| it).await.unwrap();
            }
            Ok(())
        }
    }))
    .await;
    let batch = drill
        .ground
        .submit(&new_batch("flushed"), documents(30))
        .await;
    crate::support::poll("units are in flight", async || {
        (calls.load(Ordering::SeqCst) > 10).then_some(())
    })
    .await;
    let mut redis = drill.connection().await;
    let () = redis::cmd("FLUSHALL")
        .query_async(&mut redis)
        .await
        .unwrap();
    flushed.send_replace(true);
    let ended = drill.ends(batch).await;
    assert_eq!(ended.counts.completed, 30);
    assert_eq!(
        calls.load(Ordering::SeqCst),
        90,
        "nothing completed is repeated"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_batch_completes() {
    let mut drill = Drill::with(Scripted::plain()).await;
    let batch = drill.ground.submit(&new_batch("empty"), Vec::new()).await;
    let ended = drill.ends(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    assert_eq!(ended.counts.submitted(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_waits_for_a_worker_that_has_its_extractor() {
    let mut drill = Drill::new().await;
    drill.start(Extractors::default(), quick()).await;
    let ground = Arc::clone(&drill.ground);
    let batch = ground.submit(&new_batch("waits"), documents(3)).await;
    let postponed = "select count(*) from workflow_execution where status = 'retry' and workflow_type = 'extraction'";
    ground.until("all are postponed", postponed, 3).await;
    assert!(!ground.batch(batch).await.state.name().has_ended());
    drill.stop().await;
    ground
        .execute("update workflow_execution set due_at = now() where status = 'retry'")
        .await
        .unwrap();
    drill
        .start(Extractors::default().with(Scripted::plain()), quick())
        .await;
    let ended = drill.ends(batch).await;
    assert_eq!(ended.counts.completed, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_a_worker_does_not_know_is_left_alone() {
    let mut drill = Drill::new().await;
    let ground = Arc::clone(&drill.ground);
    let batch = ground.submit(&new_batch("versions"), documents(4)).await;
    let queued = ground.execution(batch, "d0").await;
    let running = ground.execution(batch, "d1").await;
    for (id, change) in [
        (queued, "workflow_version = 99"),
        (running, "workflow_version = 99, status = 'processing'"),
    ] {
        let sql = format!(
            "update workflow_execution set {change} where id = '{}'",
            id.uuid()
        );
        ground.execute(sql).await.unwrap();
    }
    drill
        .start(Extractors::default().with(Scripted::plain()), quick())
        .await;
    let completed = format!(
        "select count(*) from workflow_execution where status = 'completed' and workflow_type = '{}'",
        WorkflowType::Extraction.as_str()
    );
    ground
        .until("the others are completed", &completed, 2)
        .await;
    for (id, status) in [(queued, "queued"), (running, "processing")] {
        assert_eq!(ground.column(id, "status").await, status);
        assert_eq!(ground.column(id, "lease_epoch").await, "0");
    }
    assert!(!ground.batch(batch).await.state.name().has_ended());
    // A worker of that version takes them up.
    ground
        .execute("update workflow_execution set workflow_version = 1")
        .await
        .unwrap();
    assert_eq!(drill.ends(batch).await.counts.completed, 4);
}

/// Postgres would refuse such a confidence, and the document would be worked for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_extractor_claims_beyond_certainty_is_taken_for_certain() {
    struct Boasting;
    #[async_trait::async_trait]
    impl Extractor for Boasting {
        fn name(&self) -> &'static str {
            "test"
        }
        fn is_paid(&self) -> bool {
            false
        }
        async fn mentions(
            &self,
            unit: &UnitName,
            chunk: graphmill::extractors::ChunkText<'_>,
            ontology: &graphmill::graph::Ontology,
        ) -> Result<Vec<graphmill::graph::Mention>, ExtractError> {
            let mut found = Local::new().mentions(unit, chunk, ontology).await?;
            for (mention, claim) in found.iter_mut().zip([1.5, -1.0, f32::NAN, f32::INFINITY]) {
                mention.confidence = claim;
            }
            Ok(found)
        }
        async fn classify(
            &self,
            unit: &UnitName,
            text: &Text,
            group: &[graphmill::graph::Mention],
            ontology: &graphmill::graph::Ontology,
        ) -> Result<Vec<graphmill::graph::MentionType>, ExtractError> {
            let mut given = Local::new().classify(unit, text, group, ontology).await?;
            for given in &mut given {
                given.confidence = 7.0;
            }
            Ok(given)
        }
        async fn relations(
            &self,
            unit: &UnitName,
            chunk: graphmill::extractors::ChunkText<'_>,
            mentions: &[graphmill::graph::TypedMention],
            ontology: &graphmill::graph::Ontology,
        ) -> Result<Vec<graphmill::graph::FoundRelation>, ExtractError> {
            let mut found = Local::new()
                .relations(unit, chunk, mentions, ontology)
                .await?;
            for relation in &mut found {
                relation.confidence = f32::NAN;
            }
            Ok(found)
        }
    }
    let mut drill = Drill::with(Boasting).await;
    let batch = drill
        .ground
        .submit(&new_batch("boasting"), documents(2))
        .await;
    let ended = drill.ends(batch).await;
    assert_eq!(ended.counts.completed, 2);
    assert!(ended.counts.entities > 0 && ended.counts.relations > 0);
}
