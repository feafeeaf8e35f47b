//! A model is asked about names that may be of one thing: what it says is merged as far as it may be, what it does not
//! say stays proposed, and nothing is asked twice.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use graphmill::{
    extractors::{Extractors, OpenAi, OpenAiSettings},
    flow::{BatchStateName, Signal, Stage},
    mock_model::{Entry, Event},
    pipeline::{Adjudicate, ModelChoice, NewDocument},
    store::{self, Caps, Decision},
    workflow::{self, AdjudicationReport, NewBatch, Rerun},
};
use graphmill_jobs::{BatchId, EntityId, LinkId};

use super::{Clusters, clusters, id_of};
use crate::support::{Drill, Ground, ModelServer, OURS, Scripted, new_batch, poll, quick};

/// Three people called Smith, one who may be another, and two acronyms that no document proves: five doubts, of which
/// one follows from another and contradicts it.
pub(crate) const DOUBTS: [&str; 5] = [
    "John Smith was born in Vienna. He worked for the Global Energy Forum in Oslo.",
    "J. Smith lives in Lisbon. GEF was founded in 1972, and GEF is based in Armonk.",
    "James Smith met Mary Jones in London. They work for Acme Corporation.",
    "M. Jones works for the Lisbon Rowing Club in Lisbon.",
    "Jan Kowalski was born in Vienna. LRC employs Mr. Kowalski and LRC is based in Lisbon.",
];

/// Names of one cluster, as the model's server says it of initials and acronyms.
const MERGED: [[&str; 2]; 4] = [
    ["Mary Jones", "M. Jones"],
    ["Global Energy Forum", "GEF"],
    ["Lisbon Rowing Club", "LRC"],
    ["John Smith", "J. Smith"],
];

struct Scene {
    drill: Drill,
    ground: Arc<Ground>,
    server: ModelServer,
}

impl Scene {
    async fn new(script: &str) -> Self {
        Self::patient(script, OpenAiSettings::default().timeout).await
    }

    /// With calls that may take so long.
    async fn patient(script: &str, timeout: Duration) -> Self {
        let server = ModelServer::start(script).await;
        let provider = OpenAi::new(&OpenAiSettings {
            base_url: server.base_url(),
            timeout,
            ..OpenAiSettings::default()
        });
        let extractors = Extractors::builtin()
            .with(Scripted::plain())
            .calling(provider.unwrap());
        let mut drill = Drill::new().await;
        drill.start(extractors, quick()).await;
        Self {
            ground: Arc::clone(&drill.ground),
            drill,
            server,
        }
    }

    async fn submit(&self, batch: &NewBatch) -> BatchId {
        let documents = DOUBTS
            .iter()
            .zip(0..)
            .map(|(&text, number)| NewDocument::new(format!("d{number}"), text));
        self.ground.submit(batch, documents.collect()).await
    }

    async fn ended(&self, batch: BatchId) {
        let ended = self.ground.ended(batch).await;
        assert_eq!(ended.state.name(), BatchStateName::Completed);
    }

    /// To the batch's end, and the workers' too. What the limits keep in Redis is no job.
    async fn stop(&mut self, batch: BatchId) {
        self.ended(batch).await;
        self.drill.stop().await;
    }

    /// Resolves the batch again, to its end.
    async fn again(&self, batch: BatchId) {
        let generation = self.ground.batch(batch).await.generation + 1;
        let rerun = Rerun {
            from: Stage::Resolve,
            ontology: None,
            prompt: None,
            force: false,
        };
        workflow::rerun(&self.ground.store, OURS, batch, &rerun)
            .await
            .unwrap();
        let is_resolved = format!(
            "select count(*) from batch where generation = {generation} and ended_at is not null"
        );
        self.ground
            .until("it is resolved again", &is_resolved, 1)
            .await;
        self.ended(batch).await;
    }

    async fn report(&self, batch: BatchId) -> AdjudicationReport {
        let report = workflow::report(&self.ground.store, OURS, batch, 0).await;
        report.unwrap().unwrap().adjudication.unwrap()
    }

    /// Proposed links as `score reason left ~ right`, by their names.
    async fn proposed(&self, batch: BatchId) -> Vec<(String, LinkId)> {
        let links = workflow::links(&self.ground.store, OURS, batch, 100).await;
        let mut proposed: Vec<(String, LinkId)> = links
            .unwrap()
            .into_iter()
            .filter(|link| link.status == "proposed")
            .map(|link| {
                let mut names = [link.left.name.unwrap(), link.right.name.unwrap()];
                names.sort();
                let said = format!("{:.2} {} {}", link.score, link.reason, names.join(" ~ "));
                (said, link.id)
            })
            .collect();
        proposed.sort();
        proposed
    }

    /// Answers to questions about pairs that the server has billed.
    fn paid(&self) -> Vec<Entry> {
        paid(&self.server)
    }

    async fn entity(&self, name: &str) -> EntityId {
        let sql = format!("select id from entity where name = '{name}'");
        let id = self.ground.text(sql).await;
        id.parse::<uuid::Uuid>().unwrap().into()
    }
}

pub(super) fn paid(server: &ModelServer) -> Vec<Entry> {
    let bill = server.bill().into_iter();
    bill.filter(|entry| entry.event == Event::Answered && entry.billed)
        .filter(|entry| {
            entry
                .task
                .as_deref()
                .is_some_and(|task| task.starts_with("pairs"))
        })
        .collect()
}

/// A batch of the extractor `test`, which calls no model, with questions of so many pairs.
pub(super) fn asking(name: &str, most: u32, pairs: u32) -> NewBatch {
    let mut batch = new_batch(name);
    batch.settings.adjudicate = Some(Adjudicate { most, pairs });
    let model = ModelChoice {
        name: "mock".to_owned(),
        price: None,
        fresh: false,
    };
    batch.model = Some((model, Caps::default()));
    batch
}

/// Whether two names are of one cluster.
fn together(clusters: &Clusters, [one, other]: [&str; 2]) -> bool {
    let names = |(_, _, members): &(_, _, BTreeSet<(String, String)>)| {
        let has = |wanted: &str| members.iter().any(|(_, name)| name == wanted);
        has(one) && has(other)
    };
    clusters.values().any(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_says_is_merged_as_far_as_it_may_be_and_asked_once() {
    let mut scene = Scene::new("").await;
    let batch = scene.submit(&asking("said", 50, 2)).await;
    scene.ended(batch).await;
    let found = clusters(&scene.ground, batch).await;
    for pair in MERGED {
        assert!(together(&found, pair), "{pair:?}: {found:#?}");
    }
    // It was said too, and contradicts what was likelier: it stays proposed.
    assert!(!together(&found, ["James Smith", "J. Smith"]), "{found:#?}");
    let left = scene.proposed(batch).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].0.contains("James Smith"), "{left:?}");
    let merges = "select distinct concat_ws(' ', m.reason, m.score) from cluster_member m
                  join batch b on b.resolution_id = m.resolution_id where m.reason like 'adjudicated%'";
    assert_eq!(
        scene.ground.texts(merges).await,
        ["adjudicated by mock 0.9"]
    );
    let wanted = AdjudicationReport {
        most: 50,
        answered: 3,
        same: 5,
        ..AdjudicationReport::default()
    };
    assert_eq!(scene.report(batch).await, wanted);
    let paid = scene.paid();
    assert_eq!(paid.len(), 3, "{paid:#?}");
    let ledger = "select concat_ws(' ', stage, unit, outcome, prompt) from llm_call
                  where prompt <> 'probe@1' order by 1";
    assert_eq!(
        scene.ground.texts(ledger).await,
        [
            "resolve 0 answered pairs@1",
            "resolve 1 answered pairs@1",
            "resolve 2 answered pairs@1"
        ]
    );
    let rows =
        "select concat_ws(' ', m.cluster_id, m.entity_id, m.with_entity_id, m.score, m.reason)
                from cluster_member m join batch b on b.resolution_id = m.resolution_id order by 1";
    let members = scene.ground.texts(rows).await;
    scene.again(batch).await;
    assert_eq!(clusters(&scene.ground, batch).await, found);
    assert_eq!(scene.ground.texts(rows).await, members);
    assert_eq!(scene.proposed(batch).await, left);
    assert_eq!(scene.report(batch).await, wanted);
    let calls = "select count(*) from llm_call where stage = 'resolve' and prompt <> 'probe@1'";
    assert_eq!(
        scene.ground.number(calls).await,
        3,
        "not even the ledger is asked"
    );
    scene.stop(batch).await;
    assert_eq!(scene.paid(), paid);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_apart_comes_last_and_what_can_not_be_told_stays() {
    let script = r#"
        [[rule]]
        when = { task = "pairs", contains = "GEF" }
        then = { verdict = "different" }
        [[rule]]
        when = { task = "pairs" }
        then = { verdict = "unsure" }
        "#;
    let mut scene = Scene::new(script).await;
    let plain = scene.submit(&new_batch("plain")).await;
    scene.ended(plain).await;
    let before = clusters(&scene.ground, plain).await;
    let mut wanted = scene.proposed(plain).await;
    assert_eq!(wanted.len(), 5, "{wanted:?}");
    scene.drill.stop().await;

    let mut scene = Scene::new(script).await;
    let batch = scene.submit(&asking("apart", 50, 1)).await;
    scene.ended(batch).await;
    let sets = |clusters: &Clusters| clusters.values().cloned().collect::<BTreeSet<_>>();
    assert_eq!(sets(&clusters(&scene.ground, batch).await), sets(&before));
    let found = scene.proposed(batch).await;
    for (said, _) in &mut wanted {
        if said.contains("GEF") {
            *said = said.replace("0.60 acronym", "0.00 told apart by mock");
        }
    }
    let said = |links: &[(String, LinkId)]| {
        links
            .iter()
            .map(|(said, _)| said.clone())
            .collect::<BTreeSet<String>>()
    };
    assert_eq!(said(&found), said(&wanted));
    let report = scene.report(batch).await;
    assert_eq!((report.different, report.unsure, report.same), (1, 4, 0));
    // The user has the last word.
    let link = found.iter().find(|(said, _)| said.contains("GEF")).unwrap();
    workflow::decide(&scene.ground.store, OURS, link.1, Decision::Accepted)
        .await
        .unwrap();
    scene.again(batch).await;
    let found = clusters(&scene.ground, batch).await;
    assert!(together(&found, MERGED[1]), "{found:#?}");
    scene.stop(batch).await;
    assert_eq!(scene.paid().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_fails_leaves_its_pairs_proposed_and_people_decide_before_it_is_asked_again()
 {
    let rule = |then: &str| format!("[[rule]]\nwhen = {{ task = \"pairs\" }}\nthen = {then}\n");
    let quickly = Duration::from_secs(2);
    let patiently = Duration::from_secs(60);
    for (then, timeout) in [
        ("\"refuse\"", patiently),
        ("\"broken_json\"", patiently),
        ("{ verdict = \"banana\" }", patiently),
        ("{ fail = { status = 500 } }", patiently),
        ("\"hang\"", quickly),
    ] {
        let mut scene = Scene::patient(&rule(then), timeout).await;
        let mut batch = asking("failing", 50, 12);
        batch.settings.units.retry.retries = 1;
        let batch = scene.submit(&batch).await;
        scene.ended(batch).await;
        let report = scene.report(batch).await;
        assert_eq!((report.answered, report.failed), (0, 1), "{then}");
        println!("{then}: {:?}", report.failure);
        assert!(report.failure.is_some(), "{then}");
        let proposed = scene.proposed(batch).await;
        assert_eq!(proposed.len(), 5, "{then}: {proposed:?}");
        if !then.contains("500") {
            scene.stop(batch).await;
            continue;
        }
        let link = proposed.iter().find(|(said, _)| said.contains("GEF"));
        workflow::decide(
            &scene.ground.store,
            OURS,
            link.unwrap().1,
            Decision::Rejected,
        )
        .await
        .unwrap();
        scene.server.script("");
        scene.again(batch).await;
        let found = clusters(&scene.ground, batch).await;
        assert!(together(&found, MERGED[0]), "{found:#?}");
        assert!(!together(&found, MERGED[1]), "it was rejected: {found:#?}");
        scene.stop(batch).await;
        let report = scene.report(batch).await;
        assert_eq!((report.answered, report.same), (1, 4), "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_split_stays_apart_whatever_the_model_said() {
    let mut scene = Scene::new("").await;
    let batch = scene.submit(&asking("split", 50, 12)).await;
    scene.ended(batch).await;
    let found = clusters(&scene.ground, batch).await;
    let cluster = found
        .iter()
        .find(|(_, (_, _, members))| members.iter().any(|(_, name)| name == "J. Smith"));
    let cluster = cluster.unwrap().0.parse().unwrap();
    let out = scene.entity("J. Smith").await;
    workflow::split(&scene.ground.store, OURS, cluster, &[out])
        .await
        .unwrap();
    scene.again(batch).await;
    let found = clusters(&scene.ground, batch).await;
    assert!(!together(&found, MERGED[3]), "{found:#?}");
    // What else was said of him has nothing against it now.
    assert!(together(&found, ["J. Smith", "James Smith"]), "{found:#?}");
    id_of(&found, "Mary Jones");
    scene.stop(batch).await;
    assert_eq!(scene.paid().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_asked_than_may_be_and_the_likeliest_first() {
    let mut scene = Scene::new("").await;
    let batch = scene.submit(&asking("most", 1, 2)).await;
    scene.stop(batch).await;
    assert_eq!(scene.paid().len(), 1);
    let found = clusters(&scene.ground, batch).await;
    let merged = MERGED.map(|pair| together(&found, pair));
    assert_eq!(merged, [true, true, false, false], "{found:#?}");
    assert_eq!(scene.proposed(batch).await.len(), 3);
    let report = scene.report(batch).await;
    assert_eq!((report.most, report.answered, report.same), (1, 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_account_and_a_spent_budget_pause_the_batch() {
    let poor = Caps {
        tokens: Some(1),
        cost: None,
    };
    let empty = "[[rule]]\nwhen = { task = \"pairs\" }\nthen = \"insufficient_quota\"\n";
    for (script, caps, why) in [
        (empty, Caps::default(), "account"),
        ("", poor, "budget is used up"),
    ] {
        let mut scene = Scene::new(script).await;
        let mut batch = asking("poor", 50, 2);
        batch.model = batch.model.map(|(model, _)| (model, caps));
        let batch = scene.submit(&batch).await;
        let reason = poll("the batch is paused", async || {
            scene.ground.batch(batch).await.paused
        })
        .await;
        println!("{reason}");
        assert!(reason.contains(why), "{reason}");
        assert!(scene.paid().is_empty());
        scene.server.script("");
        let mut write = scene.ground.app().await;
        let rich = Caps {
            tokens: Some(1_000_000),
            cost: None,
        };
        store::set_budget(&mut write, OURS, batch, rich)
            .await
            .unwrap();
        write.commit().await.unwrap();
        workflow::signal_batch(&scene.ground.store, OURS, batch, Signal::Resume)
            .await
            .unwrap();
        scene.stop(batch).await;
        assert_eq!(scene.paid().len(), 3);
    }
}
