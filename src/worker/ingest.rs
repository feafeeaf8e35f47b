//! Taking in what producers have put on the queue of submissions.
//!
//! Knows who may submit ([`Keyring`]), how often, and where the rows go (`workflow`). Must not know how they are worked.
//! Invariants: an envelope is forgotten by Redis only after its rows are durable or it was refused, and its producer is
//! told in the same step; whatever ends this process, it is delivered again, and its key makes that change nothing; no
//! key is logged, set aside or told. No envelope stops its neighbours: so many are in work at once, each for so long at
//! most, and one that ends its taker again and again is set aside.

mod apply;
mod envelope;
mod redact;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::Notify, task::JoinSet, time};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    apply::{Refused, Verdict},
    redact::redacted,
};
use crate::{
    graph::Ontology,
    keys::Keyring,
    metrics,
    pipeline::{Limits, Settings},
    queue::{Aside, Envelope, Queue, QueueError, RateLimiter, Submissions},
    store::Store,
    workflow::{ModelDefaults, Webhooks},
};

/// Envelopes in work at once. Each is one of some connections to Postgres, and has up to 32 MiB.
const SLOTS: usize = 4;
/// How often the queue is looked at without a ring.
const LOOK: Duration = Duration::from_secs(1);
/// How often is said that those in work still are: a third of how long that is believed.
const RENEW: Duration = Duration::from_secs(5);
/// The pause after Redis gave no answer.
const PAUSE: Duration = Duration::from_millis(500);
/// How long an envelope may be in work; then it comes again, and goes on where it was.
const LONGEST: Duration = Duration::from_secs(120);
/// How often an envelope may end its taker, or fall into its silence, before it is set aside.
const MOST_TIMES: u32 = 10;
/// How long a receipt is kept if the envelope does not say.
const RECEIPT: Duration = Duration::from_secs(15 * 60);

/// What batches are opened with, and what documents must keep to: the same as those of the HTTP API.
#[derive(Debug, Clone)]
pub struct IngestSettings {
    /// The extractors that a batch may name, each with the settings of its batches.
    pub extractors: Vec<(String, Settings)>,
    /// What a document must keep to.
    pub limits: Limits,
    /// What may be found in them.
    pub ontology: Arc<Ontology>,
    /// Who is told of their ends.
    pub webhooks: Webhooks,
    /// What models cost and batches may spend, where they don't say.
    pub models: ModelDefaults,
}

/// What taking in needs.
struct Desk {
    store: Store,
    submissions: Submissions,
    keyring: Keyring,
    rates: RateLimiter,
    settings: IngestSettings,
}

/// A process that takes submissions in, until drained.
#[derive(Debug)]
pub struct Ingest {
    stop: CancellationToken,
    hard: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Ingest {
    /// Starts, and returns at once. Neither server need be reachable: it begins when they are.
    #[must_use]
    pub fn start(store: Store, queue: &Queue, settings: IngestSettings) -> Self {
        let desk = Arc::new(Desk {
            keyring: Keyring::new(store.clone()),
            rates: RateLimiter::new(queue),
            submissions: Submissions::new(queue),
            store,
            settings,
        });
        let (stop, hard) = (CancellationToken::new(), CancellationToken::new());
        let running = tokio::spawn(run(desk, stop.clone(), hard.clone()));
        Self {
            stop,
            hard,
            running,
        }
    }

    /// Takes no more, and lets what is in work end, until the deadline at most; the rest is put back.
    pub async fn drain(mut self, deadline: Duration) {
        self.stop.cancel();
        if time::timeout(deadline, &mut self.running).await.is_err() {
            self.hard.cancel();
            let _ = time::timeout(PAUSE * 4, &mut self.running).await;
        }
        self.running.abort();
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.stop.cancel();
        self.hard.cancel();
    }
}

async fn run(desk: Arc<Desk>, stop: CancellationToken, hard: CancellationToken) {
    let bell = Arc::new(Notify::new());
    let ears = {
        let (desk, bell, stop) = (Arc::clone(&desk), Arc::clone(&bell), stop.clone());
        tokio::spawn(async move { desk.submissions.listen(bell, stop).await })
    };
    let mut look = time::interval(LOOK);
    let mut renew = time::interval(RENEW);
    for timer in [&mut look, &mut renew] {
        timer.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    }
    let mut work: JoinSet<()> = JoinSet::new();
    let mut at_work: HashMap<tokio::task::Id, Vec<u8>> = HashMap::new();
    let mut hungry = false;
    let mut away = Away(false);
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = work.join_next_with_id() => {
                let id = ended.map_or_else(|panic| panic.id(), |(id, ())| id);
                at_work.remove(&id);
                if !hungry { continue }
            }
            () = bell.notified() => {}
            _ = look.tick() => {}
            _ = renew.tick() => {
                let ids = at_work.values().map(Vec::as_slice);
                away.note(desk.submissions.renew(ids).await.as_ref().err());
                continue;
            }
        }
        let free = SLOTS.saturating_sub(work.len());
        if free == 0 {
            // Whoever ends looks for the next.
            hungry = true;
            continue;
        }
        match desk.submissions.take(free).await {
            Ok((envelopes, more)) => {
                away.note(None);
                hungry = more;
                if more && envelopes.is_empty() {
                    bell.notify_one();
                }
                for envelope in envelopes {
                    let id = envelope.id.clone();
                    let task = deal(Arc::clone(&desk), envelope, hard.clone());
                    at_work.insert(work.spawn(task).id(), id);
                }
            }
            Err(error) => {
                away.note(Some(&error));
                tokio::select! { () = stop.cancelled() => {}, () = time::sleep(PAUSE) => {} }
            }
        }
    }
    // What is left is renewed no more; it ends, or is put back, well before anybody misses it.
    while work.join_next().await.is_some() {}
    let _ = ears.await;
}

/// Whether Redis is away, said once.
struct Away(bool);

impl Away {
    fn note(&mut self, error: Option<&QueueError>) {
        let was = std::mem::replace(&mut self.0, error.is_some());
        match (was, error) {
            (false, Some(error)) => warn!(
                error = error as &dyn std::error::Error,
                "no submissions are taken in: Redis does not answer"
            ),
            (true, None) => info!("submissions are taken in again"),
            _ => {}
        }
    }
}

/// Deals with one envelope, whatever is in it.
async fn deal(desk: Arc<Desk>, envelope: Envelope, hard: CancellationToken) {
    let id = String::from_utf8_lossy(&envelope.id).into_owned();
    let name = sayable(&id);
    let verdict = if envelope.times > MOST_TIMES {
        Verdict::Refused(Refused::new(
            "gave_up",
            format!(
                "it was taken {} times, and nobody came to an end with it",
                envelope.times - 1
            ),
        ))
    } else if envelope.bytes > Submissions::LARGEST {
        Verdict::Refused(Refused::new(
            "too_large",
            format!(
                "it has {} bytes, at most {} are taken: send the documents in several envelopes",
                envelope.bytes,
                Submissions::LARGEST
            ),
        ))
    } else {
        tokio::select! {
            () = hard.cancelled() => Verdict::Later(Duration::ZERO),
            dealt = time::timeout(LONGEST, apply::apply(&desk, &envelope)) => dealt.unwrap_or_else(|_| {
                warn!(envelope = name, "a submission took too long, and is gone on with");
                Verdict::Later(Duration::from_secs(1))
            }),
        }
    };
    let submissions = &desk.submissions;
    let outcome = match &verdict {
        Verdict::Accepted { .. } => "accepted",
        Verdict::Refused(_) => "refused",
        Verdict::Later(_) => "put_back",
    };
    let told = match verdict {
        Verdict::Accepted { mut answer, kept } => {
            say(&mut answer, &id);
            submissions
                .end(&envelope.id, &answer.to_string(), kept, None)
                .await
        }
        Verdict::Refused(refused) => {
            // The message may have a name that its sender gave: that is for whoever looks at what is set aside.
            warn!(
                envelope = name,
                code = refused.code,
                place = refused.place,
                "a submission was set aside"
            );
            let aside = Aside {
                reason: refused.message.clone(),
                payload: redacted(&envelope.payload),
            };
            let mut answer = refused.answer();
            say(&mut answer, &id);
            submissions
                .end(&envelope.id, &answer.to_string(), RECEIPT, Some(&aside))
                .await
        }
        Verdict::Later(wait) => submissions.put_back(&envelope.id, wait).await,
    };
    metrics::get().work.submission(outcome);
    if let Err(error) = told {
        warn!(
            envelope = name,
            error = &error as &dyn std::error::Error,
            "Redis was not told what became of a submission, which comes again"
        );
    }
}

/// An id for the log. Its producer may have put anything there, a key too; what is made as the docs say comes through.
fn sayable(id: &str) -> String {
    let made = id.strip_prefix("submit:").unwrap_or(id);
    if made.len() <= 64 && made.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
        return id.to_owned();
    }
    let shown = redacted(id.as_bytes());
    shown
        .chars()
        .flat_map(char::escape_debug)
        .take(80)
        .collect()
}

/// What every receipt says.
fn say(answer: &mut serde_json::Value, id: &str) {
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("v".to_owned(), envelope::VERSION.into());
        answer.insert("id".to_owned(), id.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Key;

    #[test]
    fn an_id_is_said_if_it_is_one() {
        for id in [
            "submit:0190f3a15b6c7d8e9f00112233445566",
            "0190f3a1-5b6c-7d8e-9f00-112233445566",
        ] {
            assert_eq!(sayable(id), id);
        }
        let key = Key::generate().unwrap().reveal();
        let said = sayable(&format!("submit:\u{1b}[31m{}{key}", "Z".repeat(5000)));
        assert!(said.len() <= 100 && !said.contains('\u{1b}'), "{said}");
        assert!(!said.contains(&key[3..23]), "{said}");
        assert_eq!(sayable("nightly/7"), "nightly/7");
    }
}
