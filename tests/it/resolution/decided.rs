//! What people decide: at once, for ever, and reversible.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use graphmill::{
    flow::Signal,
    graph::ExportFormat,
    pipeline::NewDocument,
    store::{self, Decision, NewLink},
    workflow::{self, LinkError, Submission, link_id},
};
use graphmill_jobs::{BatchId, ClusterId, EntityId, LinkId};
use serde_json::Value;

use super::{clusters, id_of, shared::breaking};
use crate::support::{Drill, Ground, OURS, Said, documents, new_batch, say};

/// The batch `decided` of six documents and one that fails until it is let through.
struct Court {
    drill: Drill,
    ground: Arc<Ground>,
    batch: BatchId,
    broken: Arc<AtomicBool>,
}

impl Court {
    async fn new() -> Self {
        let broken = Arc::new(AtomicBool::new(true));
        let drill = Drill::with(breaking(&broken)).await;
        let ground = Arc::clone(&drill.ground);
        let mut all = documents(6);
        let text =
            "Maria Keller worked for Acme Corporation in Vienna. Olga Petrova lives in Minsk.";
        all.push(NewDocument::new("broken", text));
        let batch = ground.submit(&new_batch("decided"), all).await;
        ground.ended(batch).await;
        Self {
            drill,
            ground,
            batch,
            broken,
        }
    }

    /// Resolves the batch again, from what its documents say.
    async fn again(&self) {
        let generation = self.ground.batch(self.batch).await.generation + 1;
        workflow::signal_batch(&self.ground.store, OURS, self.batch, Signal::Retry)
            .await
            .unwrap();
        let is_resolved = format!(
            "select count(*) from batch where generation = {generation} and ended_at is not null"
        );
        self.ground
            .until("it is resolved again", &is_resolved, 1)
            .await;
        self.ground.ended(self.batch).await;
    }

    async fn entity(&self, document: &str, name: &str) -> EntityId {
        let sql = format!(
            "select n.id from entity n join workflow_execution e on e.id = n.workflow_execution_id
             join document d on d.id = e.document_id where d.external_id = '{document}' and n.name = '{name}'"
        );
        self.ground
            .text(sql)
            .await
            .parse::<uuid::Uuid>()
            .unwrap()
            .into()
    }

    /// A proposal of the published resolution, as the rules would make one.
    async fn propose(&self, left: EntityId, right: EntityId) -> LinkId {
        let mut transaction = self.ground.app().await;
        let ends = store::resolvable_by_id(&mut transaction, OURS, &[left, right])
            .await
            .unwrap();
        let id = link_id(OURS, &ends[0], &ends[1]);
        let link = NewLink {
            id,
            left,
            right,
            score: 0.8,
            reason: "spelling".to_owned(),
        };
        let resolution = self.ground.batch(self.batch).await.resolution.unwrap();
        store::add_proposals(&mut transaction, OURS, self.batch, resolution, &[link])
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        id
    }

    /// The counts follow the decision, by way of the log.
    async fn adds_up(&self, batch: BatchId) {
        let left = "select count(*) from event_outbox";
        self.ground.until("the outbox is empty", left, 0).await;
        self.ground.assert_counts_equal_rows(batch).await;
    }

    fn link(&self, arguments: &[&str]) -> Said {
        let mut command = crate::support::bare();
        command
            .env("DATABASE_URL", self.ground.url())
            .env("REDIS_URL", self.drill.redis.url())
            .arg("link")
            .args(arguments);
        say(&mut command)
    }

    async fn exported_links(&self) -> Value {
        let store = &self.ground.store;
        let json = ExportFormat::Json;
        let out = workflow::export(store, OURS, self.batch, json, Vec::new()).await;
        let mut export: Value = serde_json::from_slice(&out.unwrap()).unwrap();
        export["same_as"].take()
    }

    async fn id(&self, name: &str) -> String {
        id_of(&clusters(&self.ground, self.batch).await, name).to_owned()
    }

    async fn cluster_of(&self, entity: EntityId) -> ClusterId {
        let mut read = self.ground.app().await;
        let found = store::clusters_of_entities(&mut read, OURS, &[entity])
            .await
            .unwrap();
        assert_eq!(found.len(), 1);
        found[0].1
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_accepted_at_once_for_ever_and_taken_back() {
    let mut court = Court::new().await;
    let before = clusters(&court.ground, court.batch).await;
    let (maria, alice) = ("Maria Keller", "Alice Keller");
    let one = court.entity("d0", maria).await;
    let other = court.entity("d4", alice).await;
    let (one_id, other_id) = (court.id(maria).await, court.id(alice).await);
    let link = court.propose(one, other).await;
    let name = link.to_string();
    let listed = court.link(&["list", "decided", "--json"]).exits(0).json();
    assert_eq!(listed[0]["id"], name);
    assert_eq!(listed[0]["status"], "proposed");
    assert_eq!(listed[0]["left"]["cluster_id"], one_id);
    let said = court.exported_links().await;
    assert_eq!(said.as_array().map(Vec::len), Some(1), "{said}");
    assert_eq!(said[0]["id"], name);
    assert_eq!(said[0]["status"], "proposed");
    assert_eq!(said[0]["left"], one.to_string());
    assert_eq!(said[0]["left_cluster"], one_id);
    assert_eq!(said[0]["right_name"], alice);

    let done = court.link(&["accept", &name, "--json"]).exits(0).json();
    assert_eq!(done["changed"], true);
    let united = done["clusters"][0]["cluster_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(united == one_id || united == other_id, "{done}");
    let gone = if united == one_id { &other_id } else { &one_id };
    assert_eq!(done["gone"], serde_json::json!([gone]));
    let now = clusters(&court.ground, court.batch).await;
    assert_eq!(now.len(), before.len() - 1);
    let both: BTreeSet<_> = before[&one_id]
        .2
        .union(&before[&other_id].2)
        .cloned()
        .collect();
    assert_eq!(now[&united].2, both);
    court.adds_up(court.batch).await;
    assert_eq!(court.exported_links().await[0]["status"], "accepted");
    // A second time it changes nothing.
    let again = court.link(&["accept", &name, "--json"]).exits(0).json();
    assert_eq!(again["changed"], false);
    assert_eq!(clusters(&court.ground, court.batch).await, now);

    court.again().await;
    assert_eq!(clusters(&court.ground, court.batch).await, now, "it holds");
    court.adds_up(court.batch).await;

    let said = court.link(&["reject", &name]).exits(0);
    assert!(said.stdout.contains("is rejected"), "{said:#?}");
    assert_eq!(
        clusters(&court.ground, court.batch).await,
        before,
        "as if nothing had been"
    );
    court.adds_up(court.batch).await;
    court.again().await;
    assert_eq!(clusters(&court.ground, court.batch).await, before);
    // And what is rejected can be accepted.
    court.link(&["accept", &name]).exits(0);
    assert_eq!(clusters(&court.ground, court.batch).await, now);
    let listed = court.link(&["list", "decided", "--json"]).exits(0).json();
    assert_eq!(listed[0]["status"], "accepted");
    court.drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_follows_the_document_that_takes_anothers_place() {
    let mut court = Court::new().await;
    let (maria, alice, acme) = ("Maria Keller", "Alice Keller", "Acme Corporation");
    let one = court.entity("d0", maria).await;
    let (other, left, right) = (
        court.entity("d4", alice).await,
        court.entity("d4", acme).await,
        court.entity("d3", acme).await,
    );
    let accepted = court.propose(one, other).await.to_string();
    court.link(&["accept", &accepted]).exits(0);
    assert_eq!(court.cluster_of(left).await, court.cluster_of(right).await);
    let rejected = court.propose(left, right).await.to_string();
    court.link(&["reject", &rejected]).exits(0);
    assert_ne!(court.cluster_of(left).await, court.cluster_of(right).await);

    // One end of both, and then the other one of one; each time with other words around the names.
    let mut generation = court.ground.batch(court.batch).await.generation;
    for (number, words) in [(4, "It rained."), (3, "It snowed."), (4, "The sun shone.")] {
        let old = court.entity(&format!("d{number}"), acme).await;
        let mut document = documents(6).remove(number);
        document.text = format!("{} {words}", document.text);
        let mut submission = Submission::to(&court.ground.store, OURS, court.batch)
            .await
            .unwrap();
        submission.add(document).await.unwrap();
        assert_eq!(submission.finish(false).await.unwrap().replaced, 1);
        let ended = court.ground.ended(court.batch).await;
        generation += 1;
        assert_eq!(ended.generation, generation);
        assert_ne!(court.entity(&format!("d{number}"), acme).await, old);

        let one = court.entity("d0", maria).await;
        let (other, left, right) = (
            court.entity("d4", alice).await,
            court.entity("d4", acme).await,
            court.entity("d3", acme).await,
        );
        let [one, other] = [court.cluster_of(one).await, court.cluster_of(other).await];
        assert_eq!(one, other, "what was accepted holds: {words}");
        let [one, other] = [court.cluster_of(left).await, court.cluster_of(right).await];
        assert_ne!(one, other, "what was rejected holds: {words}");
        let listed = court.link(&["list", "decided", "--json"]).exits(0).json();
        let listed = listed.as_array().unwrap();
        for (id, status, ends) in [(&accepted, "accepted", 2), (&rejected, "rejected", 2)] {
            let found: Vec<_> = listed.iter().filter(|link| link["id"] == **id).collect();
            assert_eq!(found.len(), 1, "{listed:#?}");
            assert_eq!(found[0]["status"], status);
            let there = ["left", "right"]
                .iter()
                .filter(|side| found[0][**side]["cluster_id"].is_string())
                .count();
            assert_eq!(there, ends, "{listed:#?}");
        }
        let stale = "select count(*) from same_as_member m join document d on d.id = m.document_id
                     where d.withdrawn_at is not null";
        assert_eq!(court.ground.number(stale).await, 0);
    }
    court.drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_split_off_for_ever_and_brought_back() {
    let mut court = Court::new().await;
    let before = clusters(&court.ground, court.batch).await;
    let acme = court.id("Acme Corporation").await;
    let whole = before[&acme].2.len();
    let out = [
        court.entity("d1", "Acme Corporation").await,
        court.entity("d3", "Acme Corporation").await,
    ];
    let words = [out[0].to_string(), out[1].to_string()];
    let done = court
        .link(&["split", &acme, &words[0], &words[1], "--json"])
        .exits(0)
        .json();
    let link = done["link"]["id"].as_str().unwrap().to_owned();
    let check = async |broken: bool| {
        let now = clusters(&court.ground, court.batch).await;
        assert_eq!(now[&acme].2.len(), whole - 2 + usize::from(!broken));
        let (one, other) = (
            court.cluster_of(out[0]).await,
            court.cluster_of(out[1]).await,
        );
        assert_eq!(one, other);
        assert_ne!(one.to_string(), acme);
        assert_eq!(now[&one.to_string()].2.len(), 2);
        assert_eq!(now[&one.to_string()].0, "Acme Corporation");
        one
    };
    let away = check(true).await;
    let again = court
        .link(&["split", &acme, &words[1], &words[0], "--json"])
        .exits(0)
        .json();
    assert_eq!(again["changed"], false, "{again}");
    court.again().await;
    assert_eq!(
        check(true).await,
        away,
        "the rules would have them together"
    );
    // A new document joins those that it did not leave.
    court.broken.store(false, Ordering::SeqCst);
    court.again().await;
    assert_eq!(check(false).await, away);

    court.link(&["accept", &link]).exits(0);
    let now = clusters(&court.ground, court.batch).await;
    assert_eq!(now[&acme].2.len(), whole + 1);
    assert!(!now.contains_key(&away.to_string()));
    court.adds_up(court.batch).await;
    court.drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_reaches_every_batch_that_speaks_of_the_clusters() {
    let mut court = Court::new().await;
    let second = court
        .ground
        .submit(&new_batch("second"), documents(5))
        .await;
    court.ground.ended(second).await;
    let (maria, alice) = (
        court.id("Maria Keller").await,
        court.id("Alice Keller").await,
    );
    let of = |document: &'static str, name: &'static str| court.entity(document, name);
    let link = court
        .propose(
            of("d0", "Maria Keller").await,
            of("d4", "Alice Keller").await,
        )
        .await;
    workflow::decide(&court.ground.store, OURS, link, Decision::Accepted)
        .await
        .unwrap();
    for batch in [court.batch, second] {
        let now = clusters(&court.ground, batch).await;
        let there = [&maria, &alice].map(|id| now.contains_key(id));
        assert_eq!(
            there.iter().filter(|&&there| there).count(),
            1,
            "{batch}: {now:#?}"
        );
        court.adds_up(batch).await;
    }
    // A third one finds one thing, and neither of the old resolutions shows another.
    let third = court.ground.submit(&new_batch("third"), documents(5)).await;
    court.ground.ended(third).await;
    let ids = |clusters: super::Clusters| clusters.into_keys().collect::<BTreeSet<_>>();
    assert_eq!(
        ids(clusters(&court.ground, third).await),
        ids(clusters(&court.ground, second).await)
    );
    workflow::decide(&court.ground.store, OURS, link, Decision::Rejected)
        .await
        .unwrap();
    for batch in [court.batch, second, third] {
        let now = clusters(&court.ground, batch).await;
        assert_eq!(
            (id_of(&now, "Maria Keller"), id_of(&now, "Alice Keller")),
            (&*maria, &*alice)
        );
        court.adds_up(batch).await;
    }
    court.drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_meant_is_refused() {
    let mut court = Court::new().await;
    let maria = court.entity("d0", "Maria Keller").await;
    let alice = court.entity("d4", "Alice Keller").await;
    let helen = court.entity("d2", "Helen Turner").await;
    let first = court.propose(maria, alice).await;
    let second = court.propose(alice, helen).await;
    let third = court.propose(maria, helen).await;
    let store = &court.ground.store;
    workflow::decide(store, OURS, first, Decision::Accepted)
        .await
        .unwrap();
    workflow::decide(store, OURS, second, Decision::Accepted)
        .await
        .unwrap();
    // They are one thing by two steps.
    let said = court.link(&["reject", &third.to_string()]).exits(2);
    assert!(
        said.stderr.contains(&first.to_string()) && said.stderr.contains(&second.to_string()),
        "{said:#?}"
    );
    workflow::decide(store, OURS, second, Decision::Rejected)
        .await
        .unwrap();
    workflow::decide(store, OURS, third, Decision::Rejected)
        .await
        .unwrap();
    // Maria is Alice, and neither of them is Helen.
    let refused = workflow::decide(store, OURS, second, Decision::Accepted)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, LinkError::Contradicts(links) if links[0].0 == third),
        "{refused}"
    );

    let acme = court.id("Acme Corporation").await;
    let members = workflow::cluster(store, OURS, acme.parse().unwrap())
        .await
        .unwrap()
        .unwrap()
        .members;
    let all: Vec<String> = members
        .iter()
        .map(|member| member.entity_id.to_string())
        .collect();
    let mut whole = vec!["split", &acme];
    whole.extend(all.iter().map(String::as_str));
    for (arguments, wanted) in [
        (whole.as_slice(), "all members"),
        (&["split", &acme, &maria.to_string()], "is no member"),
        (
            &["split", &ClusterId::generate().to_string(), &all[0]],
            "no published cluster",
        ),
        (
            &["show", &ClusterId::generate().to_string()],
            "no published cluster",
        ),
        (
            &["accept", &LinkId::generate().to_string()],
            "there is no link",
        ),
        (&["reject", &acme], "is not a link id"),
        (&["list", "nope"], "there is no batch"),
    ] {
        let said = court.link(arguments).exits(2);
        assert!(said.stderr.contains(wanted), "{arguments:?}: {said:#?}");
        assert_eq!(said.stdout, "");
    }
    let shown = court.link(&["show", &acme]).exits(0);
    assert_eq!(shown.stdout.lines().count(), 1 + all.len());
    court.drill.stop().await;
}
