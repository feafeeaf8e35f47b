//! The failure policies against a small model of what they promise. The model knows a policy, the rounds, a tolerance
//! and what each document does in each round, and nothing of machines, counts or events; the pure machines, in random
//! orders, and the whole engine must come to what it says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use graphmill::{
    extractors::{ExtractError, UnitName},
    flow::{
        BatchCounts, BatchEvent, BatchState, BatchStateName, EventKind, ExecutionEvent,
        ExecutionStatus, Failure, FailureCode, FailurePolicy, FailureRules, NextStep, Replaced,
        ResolutionEnd, Stage, StageEnd, Stopping, Tolerance, Verdict, settled,
    },
    pipeline::NewDocument,
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};

use crate::support::{Drill, Scripted, new_batch, poll};

/// What a document does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    Succeeds,
    /// Some of its units fail for good, which its batch allows.
    Partly,
    /// It fails in so many rounds, and succeeds in the next.
    Fails(u32),
}

/// A batch to be.
#[derive(Debug, Clone)]
struct Case {
    rules: FailureRules,
    max_retries: u32,
    documents: Vec<Script>,
}

/// What becomes of a document, if nothing is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Completed { partial: bool },
    Abandoned,
}

/// The model.
impl Case {
    fn fate(&self, script: Script) -> Fate {
        let rounds = match self.rules.policy {
            FailurePolicy::RetryFailed => self.max_retries,
            FailurePolicy::ContinueOnFailure | FailurePolicy::AbortAll => 0,
        };
        match script {
            Script::Succeeds => Fate::Completed { partial: false },
            Script::Partly => Fate::Completed { partial: true },
            Script::Fails(times) if times <= rounds => Fate::Completed { partial: false },
            Script::Fails(_) => Fate::Abandoned,
        }
    }

    /// How many documents may be abandoned of all; more end the batch.
    fn bearable(&self) -> usize {
        let all = self.documents.len();
        let tolerated = match self.rules.tolerance {
            None => all,
            Some(Tolerance::Documents(most)) => most as usize,
            Some(Tolerance::Share(share)) => all * share as usize / 10_000,
        };
        if self.rules.policy == FailurePolicy::AbortAll {
            0
        } else {
            tolerated
        }
    }

    /// Holds an end against what must have come of it.
    fn judge(&self, end: &End) -> Result<(), TestCaseError> {
        let fates: Vec<Fate> = self.documents.iter().map(|one| self.fate(*one)).collect();
        let doomed = fates.iter().filter(|one| **one == Fate::Abandoned).count();
        let abandoned = end.count(ExecutionStatus::Abandoned);
        let cancelled = end.count(ExecutionStatus::Cancelled);
        for ((status, partial), fate) in end.documents.iter().zip(&fates) {
            match (status, fate) {
                (ExecutionStatus::Completed, Fate::Completed { partial: wanted }) => {
                    prop_assert_eq!(partial, wanted);
                }
                (ExecutionStatus::Abandoned, Fate::Abandoned) | (ExecutionStatus::Cancelled, _) => {
                }
                (status, fate) => prop_assert!(false, "{:?} became {}", fate, status),
            }
        }
        if doomed > self.bearable() {
            prop_assert!(
                abandoned > self.bearable(),
                "it gave up too early: {:?}",
                end
            );
            prop_assert_eq!(end.state, BatchStateName::Failed);
            let named = match self.rules.policy {
                FailurePolicy::AbortAll => "abort-all",
                FailurePolicy::ContinueOnFailure | FailurePolicy::RetryFailed => "max-failures",
            };
            prop_assert!(end.error.contains(named), "{}", end.error);
        } else {
            prop_assert_eq!((abandoned, cancelled), (doomed, 0));
            let nothing = doomed == fates.len() && !fates.is_empty();
            let wanted = if nothing {
                BatchStateName::Failed
            } else {
                BatchStateName::Completed
            };
            prop_assert_eq!(end.state, wanted);
        }
        Ok(())
    }
}

/// What came of a batch.
#[derive(Debug)]
struct End {
    documents: Vec<(ExecutionStatus, bool)>,
    state: BatchStateName,
    /// Why it failed.
    error: String,
}

impl End {
    fn count(&self, status: ExecutionStatus) -> usize {
        self.documents
            .iter()
            .filter(|(is, _)| *is == status)
            .count()
    }
}

fn error_of(state: &BatchState) -> String {
    if let BatchState::Failed { error } = state {
        error.message.clone()
    } else {
        String::new()
    }
}

fn script() -> impl Strategy<Value = Script> {
    prop_oneof![
        4 => Just(Script::Succeeds),
        1 => Just(Script::Partly),
        3 => (1..4_u32).prop_map(Script::Fails),
    ]
}

fn case(most: usize) -> impl Strategy<Value = Case> {
    let policy = prop::sample::select(FailurePolicy::ALL.to_vec());
    let tolerance = prop_oneof![
        3 => Just(None),
        2 => (0..4_u32).prop_map(|most| Some(Tolerance::Documents(most))),
        2 => (0..6_u32).prop_map(|tenths| Some(Tolerance::Share(tenths * 1_000))),
    ];
    let documents = prop::collection::vec(script(), 0..most);
    (policy, tolerance, 0..3_u32, documents).prop_map(
        |(policy, tolerance, max_retries, documents)| Case {
            rules: FailureRules { policy, tolerance },
            max_retries,
            documents,
        },
    )
}

/// The pure machines, driven by hand: documents in a random order, and a sequencer that comes when it likes.
struct Machines<'a> {
    case: &'a Case,
    documents: Vec<Document>,
    unfolded: Vec<EventKind>,
    counts: BatchCounts,
    state: BatchState,
    stopping: Option<Stopping>,
}

#[derive(Clone, Copy)]
struct Document {
    status: ExecutionStatus,
    round: u32,
    partial: bool,
}

impl<'a> Machines<'a> {
    fn new(case: &'a Case) -> Self {
        let document = Document {
            status: ExecutionStatus::Queued,
            round: 0,
            partial: false,
        };
        Self {
            case,
            documents: vec![document; case.documents.len()],
            unfolded: vec![EventKind::DocumentsAdded {
                accepted: case.documents.len() as u64,
                refused: 0,
                duplicate: 0,
            }],
            counts: BatchCounts::default(),
            state: BatchState::Pending,
            stopping: None,
        }
    }

    /// One document takes its next step; nothing, if none of it is due.
    fn work(&mut self, at: usize) {
        let (document, script) = (&mut self.documents[at], self.case.documents[at]);
        let waits = matches!(
            document.status,
            ExecutionStatus::Queued | ExecutionStatus::Retry
        );
        if self.stopping.is_some() {
            if let Ok(cancelled) = document.status.on(ExecutionEvent::Cancel) {
                let was_failed = document.status == ExecutionStatus::Failed;
                document.status = cancelled;
                self.unfolded.push(EventKind::DocumentCancelled {
                    was_failed,
                    stage: None,
                });
            }
        } else if waits {
            document.status = document.status.on(ExecutionEvent::Admit).unwrap();
            self.unfolded.push(EventKind::DocumentStarted);
        } else if document.status == ExecutionStatus::Processing {
            let fails = matches!(script, Script::Fails(times) if document.round < times);
            let failure = Failure::terminal(FailureCode::Extractor, "as its script says");
            if fails {
                let round = i32::try_from(document.round).unwrap();
                let rounds = i32::try_from(self.case.max_retries).unwrap();
                let verdict = self.case.rules.policy.on_failure(round, rounds);
                let moved = settled(Stage::Mentions, StageEnd::Failed(verdict)).unwrap();
                document.status = moved.status;
                self.unfolded.push(match verdict {
                    Verdict::AwaitRound => EventKind::DocumentFailed {
                        failure,
                        stage: None,
                        reached: None,
                    },
                    Verdict::Abandon => EventKind::DocumentAbandoned {
                        failure,
                        stage: None,
                        reached: None,
                    },
                });
            } else {
                document.status = settled(Stage::Assemble, StageEnd::Done).unwrap().status;
                document.partial = script == Script::Partly;
                self.unfolded.push(EventKind::DocumentCompleted {
                    partial: document.partial,
                    entities: 1,
                    relations: 0,
                    replaced: Replaced::default(),
                });
            }
        }
    }

    /// The sequencer: folds, and does what the counts call for.
    fn sequence(&mut self) {
        for event in self.unfolded.drain(..) {
            self.counts.fold(&event);
        }
        loop {
            let name = self.state.name();
            match self.counts.next_step(name, self.case.rules, self.stopping) {
                NextStep::Wait => return,
                NextStep::Move(event) => self.state = self.state.on(event).unwrap(),
                NextStep::StartResolution => {
                    let enter = BatchEvent::Enter(Stage::Resolve, self.counts.progress());
                    self.state = self.state.on(enter).unwrap();
                    self.counts.resolution = Some(ResolutionEnd::Completed);
                }
                NextStep::Revive => {
                    for document in &mut self.documents {
                        if let Ok(revived) = document.status.on(ExecutionEvent::Revive) {
                            document.status = revived;
                            document.round += 1;
                            let round = i32::try_from(document.round).unwrap();
                            self.unfolded.push(EventKind::DocumentRevived { round });
                        }
                    }
                    return;
                }
                NextStep::Abort => {
                    assert_eq!(self.stopping, None, "it is stopped once");
                    self.stopping = Some(Stopping::Abort);
                }
                NextStep::Seal => {
                    self.unfolded.push(EventKind::BatchSealed);
                    return;
                }
            }
        }
    }

    fn end(&self) -> End {
        End {
            documents: self
                .documents
                .iter()
                .map(|one| (one.status, one.partial))
                .collect(),
            state: self.state.name(),
            error: error_of(&self.state),
        }
    }
}

proptest! {
    #![proptest_config(Config::with_cases(2_000))]

    #[test]
    fn the_machines_do_what_the_policies_promise_in_any_order(
        case in case(12),
        order in prop::collection::vec((0..12_usize, 0..4_u8), 0..80),
        sealed_at in 0..80_usize,
    ) {
        let mut machines = Machines::new(&case);
        let all = case.documents.len();
        let rest = (0..).map(|n| (n, 1));
        for (step, (at, then)) in order.into_iter().chain(rest).enumerate() {
            if step == sealed_at {
                machines.unfolded.push(EventKind::BatchSealed);
            }
            if all > 0 {
                machines.work(at % all);
            }
            if then > 0 {
                machines.sequence();
            }
            if machines.state.name().has_ended() {
                break;
            }
            prop_assert!(step < 1_000, "it never ends: {:?}", machines.end());
        }
        case.judge(&machines.end())?;
    }
}

/// An extractor that does what is written in the documents' ids, `case-document-script`.
fn as_written() -> Scripted {
    let tries: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    Scripted::new(move |unit: UnitName| {
        let fails = if unit.stage == "mentions" && unit.unit == 0 {
            let mut tries = tries.lock().unwrap();
            let so_far = tries.entry(unit.document.to_string()).or_default();
            *so_far += 1;
            match unit.document.rsplit_once('-').unwrap().1 {
                "p" => true,
                times => times.parse::<u32>().unwrap() >= *so_far,
            }
        } else {
            false
        };
        async move {
            if fails {
                return Err(ExtractError::Terminal("as its script says".to_owned()));
            }
            Ok(())
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_does_what_the_policies_promise() {
    let mut drill = Drill::with(as_written()).await;
    let mut runner = TestRunner::deterministic();
    let mut batches = Vec::new();
    for number in 0..24 {
        let case = case(9).new_tree(&mut runner).unwrap().current();
        let mut batch = new_batch(&format!("case-{number}"));
        batch.policy = case.rules.policy;
        batch.tolerance = case.rules.tolerance;
        batch.max_retries = case.max_retries;
        batch.concurrency = 1 + number % 4;
        batch.settings.allow_partial = true;
        // One sentence a chunk, so that a part of a document can fail.
        batch.settings.chunks.chars = 40;
        batch.settings.chunks.min_chars = 10;
        let documents = case.documents.iter().enumerate().map(|(at, script)| {
            let (code, tail) = match script {
                Script::Succeeds => ("0".to_owned(), " Helen Turner lives in Oslo today."),
                Script::Partly => ("p".to_owned(), " Helen Turner lives in Oslo today."),
                // With a single chunk all of it fails.
                Script::Fails(times) => (times.to_string(), ""),
            };
            let text = format!("Maria Keller of number {at} works in Vienna.{tail}");
            NewDocument::new(format!("{number}-{at}-{code}"), text)
        });
        let id = drill.ground.submit(&batch, documents.collect()).await;
        batches.push((case, id));
    }
    for (_, id) in &batches {
        poll("it has ended", async || {
            let batch = drill.ground.batch(*id).await;
            batch.state.name().has_ended().then_some(())
        })
        .await;
    }
    for (case, id) in batches {
        let ended = drill.ground.ended(id).await;
        let sql = format!(
            "select concat_ws(' ', d.external_id, e.status, e.partial) from workflow_execution e
             join document d on d.id = e.document_id where e.batch_id = '{}' order by d.id",
            id.uuid()
        );
        let mut documents = vec![(ExecutionStatus::Queued, false); case.documents.len()];
        for row in drill.ground.texts(sql).await {
            let mut words = row.split(' ');
            let at: usize = words
                .next()
                .unwrap()
                .split('-')
                .nth(1)
                .unwrap()
                .parse()
                .unwrap();
            let status = words.next().unwrap().parse().unwrap();
            documents[at] = (status, words.next() == Some("t"));
        }
        let end = End {
            documents,
            state: ended.state.name(),
            error: error_of(&ended.state),
        };
        if let Err(error) = case.judge(&end) {
            panic!("{error}\n{case:?}\n{end:?}");
        }
    }
    drill.stop().await;
}
