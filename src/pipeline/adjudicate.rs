//! `resolve`, where somebody is asked: names that may be of one thing go into questions, a unit each, with checkpoints
//! like any stage's.
//!
//! Which question a pair goes into follows from the pairs alone, never from the order of documents or of the work.
//! Invariants: a pair that has a verdict is not asked about again, in this resolution or a later one of the batch; a
//! question that fails leaves its pairs as they were, and fails nothing else.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    stage::{self, Adjudicate, Outcome, Work},
    units::{
        self, CheckpointError, Checkpoints, Hindrance, Planned, Ran, UnitOutcome, UnitOutput,
        UnitRecord,
    },
};
use crate::{
    extractors::{ExtractError, Extractor, ModelChoice, UnitName},
    flow::Stage,
    graph::{DoubtfulPair, Sameness},
};

/// What tells a pair, as it is asked about and of whom, from every other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PairKey(String);

impl PairKey {
    /// The key of `pair`, when `extractor` and the model that it calls are asked.
    #[must_use]
    pub fn of(pair: &DoubtfulPair, extractor: &dyn Extractor, model: Option<&ModelChoice>) -> Self {
        // A pair has a JSON form.
        let pair = serde_json::to_vec(pair).unwrap_or_default();
        let prompt = extractor.adjudicates().unwrap_or_default();
        let model = model.map_or("", |model| &*model.name);
        let mut hash = Sha256::new();
        for part in [
            extractor.name().as_bytes(),
            model.as_bytes(),
            prompt.as_bytes(),
            &pair,
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut key = String::new();
        // Half of it tells a batch's pairs apart, and keeps checkpoints short.
        for byte in &hash.finalize()[..16] {
            // Writing to a string does not fail.
            let _ = write!(key, "{byte:02x}");
        }
        Self(key)
    }
}

/// What was said of a pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The pair.
    pub pair: PairKey,
    /// What was said.
    pub verdict: Sameness,
}

/// What is known of pairs.
#[derive(Debug, Clone, Default)]
pub struct Verdicts(HashMap<PairKey, Sameness>);

impl Verdicts {
    /// Adds what a question brought; the first answer for a pair stays.
    pub fn add(&mut self, judged: &[Judged]) {
        for judged in judged {
            self.0.entry(judged.pair.clone()).or_insert(judged.verdict);
        }
    }

    /// What was said of a pair.
    #[must_use]
    pub fn of(&self, pair: &PairKey) -> Option<Sameness> {
        self.0.get(pair).copied()
    }
}

/// A question that is to be asked.
#[derive(Debug, Clone)]
pub struct Question {
    unit: i32,
    input_hash: [u8; 32],
    tries: u32,
    pairs: Vec<(PairKey, DoubtfulPair)>,
}

/// The questions about `pairs`, the ones to ask first at the front; `records` are the resolution's own so far.
#[must_use]
pub fn wanted(
    pairs: &[(PairKey, DoubtfulPair)],
    known: &Verdicts,
    records: &[UnitRecord],
    settings: Adjudicate,
) -> Vec<Question> {
    let size = usize::try_from(settings.pairs.max(1)).unwrap_or(1);
    let most = usize::try_from(settings.most).unwrap_or(usize::MAX);
    let mut seen = HashSet::new();
    let open: Vec<&(PairKey, DoubtfulPair)> = pairs
        .iter()
        .filter(|(key, _)| seen.insert(key))
        .take(most.saturating_mul(size))
        .filter(|(key, _)| known.of(key).is_none())
        .collect();
    let mut taken: HashSet<i32> = records.iter().map(|record| record.unit).collect();
    let mut room = most.saturating_sub(taken.len());
    let (mut questions, mut free) = (Vec::new(), 0);
    for pairs in open.chunks(size) {
        let input_hash = hash(pairs);
        let before = records
            .iter()
            .find(|record| record.input_hash == input_hash);
        let (unit, tries) = if let Some(record) = before {
            match stage::tries_before(record, record.round) {
                Some(tries) => (record.unit, tries),
                // It failed for good.
                None => continue,
            }
        } else {
            if room == 0 {
                continue;
            }
            room -= 1;
            while !taken.insert(free) {
                free += 1;
            }
            (free, 0)
        };
        questions.push(Question {
            unit,
            input_hash,
            tries,
            pairs: pairs.iter().map(|&pair| pair.clone()).collect(),
        });
    }
    questions
}

/// SHA-256 of what a question is about.
fn hash(pairs: &[&(PairKey, DoubtfulPair)]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(Stage::Resolve.as_str());
    for (key, _) in pairs {
        hash.update(key.0.as_bytes());
    }
    hash.finalize().into()
}

/// Asks `questions`; `records` are the resolution's own, and are extended with the new ones. Whatever fails for good,
/// the stage goes on.
///
/// # Errors
/// [`CheckpointError`]: the work is dropped, and the questions that were in flight will be asked again, which costs
/// nothing if they were answered.
pub async fn adjudicate(
    work: &Work,
    questions: Vec<Question>,
    records: &mut Vec<UnitRecord>,
    checkpoints: &mut dyn Checkpoints,
) -> Result<Outcome, CheckpointError> {
    let wanted = questions.len();
    let planned = questions
        .into_iter()
        .map(|question| planned(work, question))
        .collect();
    let parallel = work.settings.parallel_chunks;
    let stage = Stage::Resolve;
    let Ran { fresh, hindrance } =
        units::run(stage, work, &[], planned, parallel, checkpoints).await?;
    let paused = fresh.len() < wanted;
    records.retain(|old| !fresh.iter().any(|new| new.unit == old.unit));
    records.extend(fresh);
    match hindrance {
        Some(Hindrance::Waits(failure, wait)) => return Ok(Outcome::Retry { failure, wait }),
        Some(Hindrance::Blocked(failure)) => return Ok(Outcome::Blocked { failure }),
        None if paused => return Ok(Outcome::Paused),
        None => {}
    }
    let waits = records.iter().filter_map(|record| match &record.outcome {
        UnitOutcome::Retry(failure) => Some((stage::wait(work, record), failure)),
        UnitOutcome::Done(_) | UnitOutcome::Failed(_) => None,
    });
    if let Some((wait, failure)) = waits.max_by_key(|(wait, _)| *wait) {
        return Ok(Outcome::Retry {
            failure: failure.clone(),
            wait,
        });
    }
    let failed = |record: &&UnitRecord| matches!(record.outcome, UnitOutcome::Failed(_));
    Ok(Outcome::Settled {
        units: records.len(),
        failed_units: records.iter().filter(failed).count(),
        graph: None,
    })
}

fn planned(work: &Work, question: Question) -> Planned {
    let name = UnitName {
        document: Arc::clone(&work.document.name),
        stage: Stage::Resolve.as_str(),
        unit: question.unit,
    };
    let (extractor, of) = (Arc::clone(&work.extractor), name.clone());
    let asked = async move {
        let (keys, pairs): (Vec<PairKey>, Vec<DoubtfulPair>) = question.pairs.into_iter().unzip();
        let verdicts = extractor.adjudicate(&of, &pairs).await?;
        if verdicts.len() != keys.len() {
            return Err(ExtractError::Terminal(
                "not every pair has a verdict".to_owned(),
            ));
        }
        let judged = keys.into_iter().zip(verdicts);
        Ok(UnitOutput::Verdicts(
            judged
                .map(|(pair, verdict)| Judged { pair, verdict })
                .collect(),
        ))
    };
    Planned {
        name,
        input_hash: question.input_hash,
        tries: question.tries,
        deaths: 0,
        alone: false,
        work: Box::pin(asked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        flow::{Failure, FailureCode},
        graph::Described,
    };

    fn pairs(count: usize) -> Vec<(PairKey, DoubtfulPair)> {
        let side = |name: String| Described {
            name,
            class: "person".to_owned(),
            also: Vec::new(),
            contexts: Vec::new(),
        };
        (0..count)
            .map(|at| {
                let pair = DoubtfulPair::new(side(format!("a{at}")), side(format!("b{at}")));
                (PairKey(format!("{at}")), pair)
            })
            .collect()
    }

    fn settings(most: u32, pairs: u32) -> Adjudicate {
        Adjudicate { most, pairs }
    }

    fn record(question: &Question, outcome: UnitOutcome) -> UnitRecord {
        UnitRecord {
            stage: Stage::Resolve,
            unit: question.unit,
            round: 0,
            tries: 1,
            deaths: 0,
            input_hash: question.input_hash,
            outcome,
        }
    }

    fn said(questions: &[Question]) -> Vec<(i32, Vec<&str>)> {
        questions
            .iter()
            .map(|question| {
                let keys = question.pairs.iter().map(|(key, _)| key.0.as_str());
                (question.unit, keys.collect())
            })
            .collect()
    }

    #[test]
    fn what_was_answered_is_not_asked_and_the_rest_is_asked_in_the_same_questions() {
        let pairs = pairs(5);
        let first = wanted(&pairs, &Verdicts::default(), &[], settings(9, 2));
        let whole = said(&first);
        assert_eq!(
            whole,
            [(0, vec!["0", "1"]), (1, vec!["2", "3"]), (2, vec!["4"])]
        );
        // A crash: the second question alone has its checkpoint.
        let judged: Vec<Judged> = first[1]
            .pairs
            .iter()
            .map(|(pair, _)| Judged {
                pair: pair.clone(),
                verdict: Sameness::Unsure,
            })
            .collect();
        let done = record(
            &first[1],
            UnitOutcome::Done(UnitOutput::Verdicts(judged.clone())),
        );
        let mut known = Verdicts::default();
        known.add(&judged);
        let rest = wanted(&pairs, &known, &[done], settings(9, 2));
        assert_eq!(said(&rest), [whole[0].clone(), whole[2].clone()]);
        assert_eq!(rest[0].input_hash, first[0].input_hash);
        // A later resolution, to which others have left what they know.
        assert_eq!(
            said(&wanted(&pairs, &known, &[], settings(9, 2))),
            [(0, vec!["0", "1"]), (1, vec!["4"])]
        );
    }

    #[test]
    fn what_failed_for_good_is_not_asked_again_and_what_has_tries_left_is() {
        let pairs = pairs(4);
        let none = Verdicts::default();
        let first = wanted(&pairs, &none, &[], settings(9, 2));
        let failure = Failure::transient(FailureCode::Extractor, "no answer");
        let failed = record(&first[0], UnitOutcome::Failed(failure.clone()));
        let retried = record(&first[1], UnitOutcome::Retry(failure));
        let again = wanted(&pairs, &none, &[failed, retried], settings(9, 2));
        assert_eq!(said(&again), [(1, vec!["2", "3"])]);
        assert_eq!(again[0].tries, 1);
    }

    #[test]
    fn no_more_questions_are_asked_than_may_be() {
        let pairs = pairs(9);
        let none = Verdicts::default();
        let two = wanted(&pairs, &none, &[], settings(2, 2));
        assert_eq!(said(&two), [(0, vec!["0", "1"]), (1, vec!["2", "3"])]);
        let failure = Failure::terminal(FailureCode::Extractor, "no answer");
        let failed = two
            .iter()
            .map(|question| record(question, UnitOutcome::Failed(failure.clone())));
        let failed: Vec<UnitRecord> = failed.collect();
        // Those that others stand for by now do not make room for more.
        let others = &pairs[4..];
        assert!(said(&wanted(others, &none, &failed, settings(2, 2))).is_empty());
        assert!(said(&wanted(&pairs, &none, &[], settings(0, 2))).is_empty());
    }
}
