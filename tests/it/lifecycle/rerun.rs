//! An ended batch is worked again from a stage on. The witnesses are an extractor that counts what it begins, and the
//! bill of the model server; the judges are the dry run before it and the graph that was there at first.

use std::{fs, sync::Arc};

use graphmill::{
    flow::{BatchStateName, FailurePolicy, Signal, Stage},
    graph::Ontology,
    mock_model::Event,
    pipeline::Foresight,
    workflow::{Forecast, Rerun, RerunError, Rerunning},
};
use serde_json::Value;

use super::{killed::Cell, *};
use crate::support::{ModelServer, Redis, Said, bare, folder, say};

fn rerun_from(from: Stage, ontology: Option<&Arc<Ontology>>) -> Rerun {
    Rerun {
        from,
        ontology: ontology.cloned(),
        prompt: None,
        force: false,
    }
}

fn builtin() -> Arc<Ontology> {
    Arc::new(Ontology::builtin().unwrap())
}

/// The built-in ontology without a relation type.
fn without(relation: &str) -> Arc<Ontology> {
    let mut ontology = Ontology::builtin().unwrap();
    ontology.relations.retain(|one| one.id.as_str() != relation);
    Arc::new(ontology)
}

async fn ask(ground: &Ground, batch: BatchId, rerun: &Rerun) -> Result<Rerunning, RerunError> {
    workflow::rerun(&ground.store, OURS, batch, rerun).await
}

async fn foresee(ground: &Ground, batch: BatchId, rerun: &Rerun) -> Forecast {
    let foresight = Foresight::new(Arc::new(Scripted::plain()));
    workflow::forecast(&ground.store, OURS, batch, rerun, &foresight)
        .await
        .unwrap()
}

/// Units to be worked, reused and possible, of each stage.
fn units(forecast: &Forecast) -> Vec<(u64, u64, u64)> {
    let stages = forecast.stages.iter();
    stages
        .map(|stage| (stage.worked, stage.reused, stage.up_to))
        .collect()
}

fn predicates(graph: &Value) -> String {
    graph["relations"].to_string() + &graph["edges"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_stage_that_changed_is_worked_and_going_back_works_nothing() {
    let begun = Begun::default();
    let (mut drill, ground) = drill(&begun).await;
    let documents: Vec<NewDocument> = (0..4).map(|n| version(n, 0)).collect();
    let batch = ground.submit(&new_batch("again"), documents.clone()).await;
    let first = ground.ended(batch).await;
    let first_graph = graph(&ground, batch).await;
    assert!(
        predicates(&first_graph).contains("born_in"),
        "{first_graph}"
    );
    let all = begun.take();
    assert_eq!(
        all.len(),
        12,
        "a unit for each stage of a document: {all:?}"
    );

    // Nothing would change.
    for same in [None, Some(&builtin())] {
        let same = rerun_from(Stage::Relations, same);
        assert!(!foresee(&ground, batch, &same).await.changes);
        let done = ask(&ground, batch, &same).await.unwrap();
        assert_eq!(done, Rerunning::Nothing);
    }
    assert_eq!(ground.batch(batch).await.generation, 1, "nothing was done");

    let other = rerun_from(Stage::Relations, Some(&without("born_in")));
    let foreseen = foresee(&ground, batch, &other).await;
    assert_eq!(units(&foreseen), [(0, 4, 0), (0, 4, 0), (4, 0, 0)]);
    assert_eq!(ground.batch(batch).await.generation, 1, "a dry run");
    let done = ask(&ground, batch, &other).await.unwrap();
    let documents_again = Rerunning::Documents {
        documents: 4,
        generation: 2,
    };
    assert_eq!(done, documents_again);
    let second = ground.ended(batch).await;
    assert_eq!(second.state.name(), BatchStateName::Completed);
    let worked = begun.take();
    assert!(
        worked.len() == 4 && worked.keys().all(|unit| unit.contains("/relations/")),
        "{worked:?}"
    );
    let second_graph = graph(&ground, batch).await;
    assert!(!predicates(&second_graph).contains("born_in"));
    assert_eq!(second.counts.entities, first.counts.entities);
    assert!(second.counts.relations < first.counts.relations);
    assert_eq!(ground.told(batch, "BatchRerun").await, 1);

    // From the beginning: the classes are asked for only where the mentions are known.
    let mentions = rerun_from(Stage::Mentions, Some(&without("lives_in")));
    let foreseen = foresee(&ground, batch, &mentions).await;
    assert_eq!(units(&foreseen), [(4, 0, 0), (0, 0, 4), (0, 0, 4)]);
    ask(&ground, batch, &mentions).await.unwrap();
    ground.ended(batch).await;
    assert_eq!(begun.take().len(), 12);
    // It is as if the batch had been begun with it.
    let mut fresh = new_batch("fresh");
    fresh.ontology = without("lives_in");
    let fresh = ground.submit(&fresh, documents).await;
    ground.ended(fresh).await;
    assert_eq!(graph(&ground, batch).await, graph(&ground, fresh).await);
    begun.take();

    let back = rerun_from(Stage::Mentions, Some(&builtin()));
    let foreseen = foresee(&ground, batch, &back).await;
    assert_eq!(units(&foreseen), [(0, 4, 0), (0, 4, 0), (0, 4, 0)]);
    ask(&ground, batch, &back).await.unwrap();
    let back = ground.ended(batch).await;
    assert_eq!(back.generation, 4);
    assert_eq!(begun.take(), HashMap::new(), "it costs nothing");
    assert_eq!(holds(&back.counts), holds(&first.counts));
    assert_eq!(graph(&ground, batch).await, first_graph);
    let mut read = ground.app().await;
    let calls = graphmill::store::calls(&mut read, OURS, batch)
        .await
        .unwrap();
    drop(read);
    assert_eq!(calls, 12 + 4 + 12, "what was reused is no call");

    // By force, and without work at all.
    let force = Rerun {
        force: true,
        ..rerun_from(Stage::Relations, None)
    };
    assert_eq!(
        units(&foresee(&ground, batch, &force).await),
        [(0, 4, 0), (0, 4, 0), (4, 0, 0)]
    );
    ask(&ground, batch, &force).await.unwrap();
    ground.ended(batch).await;
    assert_eq!(begun.take().len(), 4);
    for from in [Stage::Assemble, Stage::Resolve] {
        let again = rerun_from(from, None);
        assert!(foresee(&ground, batch, &again).await.changes);
        ask(&ground, batch, &again).await.unwrap();
        ground.ended(batch).await;
        assert_eq!(begun.take(), HashMap::new());
        assert_eq!(graph(&ground, batch).await, first_graph);
    }
    assert_eq!(ground.told(batch, "ResolutionCompleted").await, 7);
    drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_worked_with_the_rest_and_what_came_back_is_not_taken_for_new() {
    let begun = Begun::default();
    let (mut drill, ground) = drill(&begun).await;
    let documents: Vec<NewDocument> = (0..3).map(|n| version(n, 0)).collect();
    let batch = ground.submit(&new_batch("mixed"), documents).await;
    ground.ended(batch).await;
    remove(&ground, batch, &["d1"]).await;
    ground.ended(batch).await;
    let other = rerun_from(Stage::Entities, Some(&without("born_in")));
    let Rerunning::Documents { documents, .. } = ask(&ground, batch, &other).await.unwrap() else {
        panic!("it changes");
    };
    assert_eq!(documents, 2, "what was removed is not worked");
    ground.ended(batch).await;
    begun.take();
    // It comes with the checkpoints of another ontology: those of its mentions still hold.
    add(&ground, batch, vec![version(1, 0)]).await.unwrap();
    ground.ended(batch).await;
    let worked = begun.take();
    let mut worked: Vec<&String> = worked.keys().collect();
    worked.sort();
    assert_eq!(worked, ["d1/entities/0", "d1/relations/0"]);
    assert!(!predicates(&graph(&ground, batch).await).contains("born_in"));

    // A re-run that is stopped: what was found before it stays, and a retry goes on with it.
    drill.stop().await;
    let mentions = rerun_from(Stage::Mentions, Some(&without("lives_in")));
    ask(&ground, batch, &mentions).await.unwrap();
    workflow::signal_batch(&ground.store, OURS, batch, Signal::Cancel)
        .await
        .unwrap();
    drill.start_plain().await;
    let stopped = ground.ended(batch).await;
    assert_eq!(stopped.state.name(), BatchStateName::Cancelled);
    assert_eq!((stopped.counts.cancelled, stopped.counts.completed), (3, 0));
    workflow::signal_batch(&ground.store, OURS, batch, Signal::Retry)
        .await
        .unwrap();
    let ended = ground.ended(batch).await;
    assert_eq!(ended.counts.completed, 3);
    let found = predicates(&graph(&ground, batch).await);
    assert!(found.contains("born_in") && !found.contains("lives_in"));
    drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rerun_that_is_cut_off_or_whose_worker_dies_comes_to_the_same_end() {
    let cell = Cell {
        ground: Ground::new().await,
        redis: Redis::start(),
        fails: folder("rerun-killed").join("fails"),
    };
    let ground = &cell.ground;
    let batch = cell.submit(FailurePolicy::ContinueOnFailure).await;
    let mut worker = cell.worker(0);
    ground.ended(batch).await;
    let first = graph(ground, batch).await;
    worker.0.kill().unwrap();
    worker.0.wait().unwrap();

    let other = rerun_from(Stage::Entities, Some(&without("born_in")));
    ask(ground, batch, &other).await.unwrap();
    // As if it had been cut off after the first document.
    ground
        .execute(
            "delete from workflow_execution where generation = 2 and document_id <>
                 (select document_id from workflow_execution where generation = 2 limit 1);
             delete from event_outbox where type = 'BatchSealed';
             update batch set sealed_at = null",
        )
        .await
        .unwrap();
    let third = rerun_from(Stage::Entities, Some(&builtin()));
    let refused = ask(ground, batch, &third).await.unwrap_err();
    assert!(
        refused.to_string().contains("batch in preparation"),
        "{refused}"
    );
    assert_eq!(ask(ground, batch, &other).await.unwrap(), Rerunning::GoesOn);
    let count = "select count(*) from workflow_execution where generation = 2";
    assert_eq!(ground.number(count).await, 3);
    let refused = ask(ground, batch, &third).await.unwrap_err();
    assert!(refused.to_string().contains("sealed batch"), "{refused}");

    let mut worker = cell.worker(300);
    let begun = "select least(count(*), 1) from checkpoint c
                 join workflow_execution e on e.id = c.workflow_execution_id
                 where e.generation = 2 and e.lease_until > now() and c.stage = 'entities'";
    ground.until("a unit of the re-run is done", begun, 1).await;
    worker.0.kill().unwrap();
    worker.0.wait().unwrap();
    let _worker = cell.worker(0);
    let ended = ground.ended(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    assert!(!predicates(&graph(ground, batch).await).contains("born_in"));

    ask(ground, batch, &third).await.unwrap();
    ground.ended(batch).await;
    assert_eq!(graph(ground, batch).await, first);
}

/// A database, a model server, and the command line.
struct Scene {
    ground: Ground,
    redis: Redis,
    server: ModelServer,
    folder: std::path::PathBuf,
}

impl Scene {
    fn graphmill(&self, arguments: &[&str]) -> Said {
        let mut command = bare();
        command
            .env("DATABASE_URL", self.ground.url())
            .env("REDIS_URL", self.redis.url())
            .env("OPENAI_BASE_URL", self.server.base_url())
            .env("OPENAI_API_KEY", "sk-x")
            .env("GRAPHMILL_MODEL", "mock")
            .current_dir(&self.folder);
        say(command.args(arguments))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    /// What was billed since `after`, by task.
    fn billed(&self, after: usize) -> (usize, Vec<String>) {
        let bill = self.server.bill();
        let billed: Vec<_> = bill
            .iter()
            .filter(|entry| entry.event == Event::Answered && entry.billed)
            .collect();
        let mut tasks: Vec<String> = billed[after..]
            .iter()
            .map(|entry| entry.task.clone().unwrap_or_default())
            .collect();
        tasks.sort();
        (billed.len(), tasks)
    }

    fn resume(&self, batch: &str) {
        self.graphmill(&["run", "--resume", batch, "--json"])
            .exits(0);
    }

    fn export(&self, batch: &str) -> Value {
        let export = self.graphmill(&["export", batch, "--format", "json"]);
        without_ids(&export.exits(0).json())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_bill_a_rerun_costs_what_the_dry_run_says_and_going_back_nothing() {
    let scene = Scene {
        ground: Ground::new().await,
        redis: Redis::start(),
        server: ModelServer::start("").await,
        folder: folder("rerun-bill"),
    };
    let config = "[prices.\"mock\"]\ninput = 1.0\noutput = 2.0\n";
    scene.write("graphmill.toml", config);
    for number in 0..3 {
        scene.write(&format!("d{number}.txt"), &version(number, 0).text);
    }
    let files = ["d0.txt", "d1.txt", "d2.txt"];
    let run = [
        "run",
        "--extractor",
        "openai",
        "--json",
        "--name",
        "paid",
        "--fresh",
    ];
    scene.graphmill(&[&run[..], &files].concat()).exits(0);
    let (paid, _) = scene.billed(0);
    let first = scene.export("paid");
    let toml = without("born_in").to_toml().unwrap();
    scene.write("less.toml", &toml);
    let relations = ["batch", "rerun", "paid", "--from", "relations"];
    let rerun = |more: &[&str]| scene.graphmill(&[&relations[..], more].concat());

    let ontology = ["--ontology", "less.toml", "--json"];
    let foreseen = rerun(&[&ontology[..], &["--dry-run"]].concat())
        .exits(0)
        .json();
    assert_eq!(foreseen["documents"], 3, "{foreseen}");
    assert_eq!(foreseen["calls"], 3, "{foreseen}");
    assert!(foreseen["cost"].as_f64().unwrap() > 0.0, "{foreseen}");
    assert_eq!(foreseen["stages"][2]["by"], "calls", "{foreseen}");
    assert_eq!(scene.billed(0).0, paid, "a dry run");
    let done = rerun(&ontology).exits(0).json();
    assert_eq!(
        (&done["changes"], &done["generation"]),
        (&true.into(), &2.into())
    );
    scene.resume("paid");
    let (now, tasks) = scene.billed(paid);
    assert_eq!(tasks, ["relations", "relations", "relations"]);

    // Another prompt, under a name of its own.
    let prompt = include_str!("../../../src/extractors/model/prompts/relations.md");
    scene.write("own.md", &prompt.replacen("@1\n", "@own\n", 1));
    rerun(&["--prompt", "own.md"]).exits(0);
    scene.resume("paid");
    let (after, tasks) = scene.billed(now);
    assert_eq!(tasks.len(), 3, "{tasks:?}");
    let ledger = scene
        .graphmill(&["calls", "paid", "--json"])
        .exits(0)
        .stdout;
    assert_eq!(ledger.matches("relations@own").count(), 3, "{ledger}");

    let back = ["--prompt", "built-in", "--ontology", "built-in"];
    let said = rerun(&[&back[..], &["--dry-run"]].concat()).exits(0);
    assert!(said.stdout.contains("0 to work, 3 reused"), "{said:?}");
    // Those that the ledger answered too.
    let asked = "select count(*) from llm_call";
    let before = scene.ground.number(asked).await;
    rerun(&back).exits(0);
    scene.resume("paid");
    assert_eq!(scene.billed(0).0, after, "going back costs nothing");
    assert_eq!(
        scene.ground.number(asked).await,
        before,
        "nothing was asked"
    );
    assert_eq!(scene.export("paid"), first);
    let said = rerun(&back).exits(0);
    assert!(said.stderr.contains("nothing would change"), "{said:?}");
    let batch = scene.ground.text("select id::text from batch").await;
    let batch = BatchId::from(batch.parse::<uuid::Uuid>().unwrap());
    scene.ground.assert_counts_equal_rows(batch).await;

    what_cannot_be_meant_is_refused(&scene, &toml);
    assert_eq!(scene.billed(0).0, after);
}

/// Expects the batch `paid` and the prompt file `own.md`; bills nothing.
fn what_cannot_be_meant_is_refused(scene: &Scene, toml: &str) {
    scene.write(
        "broken.toml",
        &toml.replacen("[[relation]]", "[[relation]", 1),
    );
    scene.write("task.md", "List what is stated.\n");
    let refused = |arguments: &[&str], part: &str| {
        let said = scene
            .graphmill(&[&["batch", "rerun"], arguments].concat())
            .exits(2);
        assert!(said.stderr.contains(part), "{part}: {said:?}");
    };
    refused(&["nobody", "--from", "relations"], "nobody");
    refused(&["paid", "--from", "chunk"], "mentions");
    refused(
        &["paid", "--from", "relations", "--ontology", "broken.toml"],
        "broken.toml:",
    );
    refused(
        &["paid", "--from", "relations", "--prompt", "task.md"],
        "task.md:1: ",
    );
    refused(
        &["paid", "--from", "entities", "--prompt", "own.md"],
        "own.md:1: ",
    );
    refused(
        &["paid", "--from", "resolve", "--ontology", "less.toml"],
        "asks no extractor",
    );
    refused(
        &["paid", "--from", "assemble", "--prompt", "own.md"],
        "no model is asked",
    );
    scene
        .graphmill(&["run", "--open", "--name", "open", "--json", "d0.txt"])
        .exits(0);
    refused(&["open", "--from", "relations"], "open batch");
    refused(
        &["open", "--from", "relations", "--prompt", "own.md"],
        "`local` calls none",
    );
    scene.graphmill(&["batch", "seal", "open"]).exits(0);
    refused(
        &["open", "--from", "relations", "--dry-run"],
        "sealed batch",
    );
}
