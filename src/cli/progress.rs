//! How far a batch is: bars on a terminal, plain lines elsewhere. What they show is read from the rows.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use graphmill_jobs::{BatchId, OrganizationId};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{error::CliError, output, session::steadily};
use crate::{
    flow::{BatchCounts, BatchStateName, ExecutionStatus, PAUSED_BY_HAND, Stage},
    store::{self, Store},
    workflow,
};

/// How a wait for a batch ended.
pub(super) enum Watched {
    /// The batch has ended.
    Ended,
    /// It is kept open, and everything that it has is through.
    AtRest,
    /// Somebody stopped it.
    Interrupted,
}

/// What a batch is followed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Its end.
    Ended,
    /// Its end, or a rest, if it is kept open.
    AtRest,
}

/// How often bars are drawn.
const DRAW: Duration = Duration::from_millis(200);
/// How often plain lines are written.
const WRITE: Duration = Duration::from_secs(5);
/// The stages that have a bar.
const STAGES: [(Stage, &str); 5] = [
    (Stage::Chunk, "chunk"),
    (Stage::Mentions, "mentions"),
    (Stage::Entities, "entities"),
    (Stage::Relations, "relations"),
    (Stage::Assemble, "assemble"),
];

/// Shows the batch's progress until it has come as far as asked, or `stop` is cancelled; `moved` tells of news sooner than the
/// clock does. It is never dropped between a statement
/// and its answer, which would leave a connection in the middle of a transaction.
pub(super) async fn follow(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    mut moved: Option<watch::Receiver<u64>>,
    until: Until,
    stop: &CancellationToken,
) -> Result<Watched, CliError> {
    let mut view: Box<dyn View + Send> = if output::is_watched() {
        Box::new(Bars::new())
    } else {
        Box::new(Lines::new())
    };
    loop {
        let wants_stages = view.wants_stages();
        let (now, waits, at_stage) = steadily(async || {
            let mut transaction = store.app(organization).await?;
            let now = store::batch_by_id(&mut transaction, organization, batch).await?;
            // Bars count the rows; the larger the batch, the dearer the count and the less often it changes a bar.
            let at_stage = if wants_stages {
                store::status_counts(&mut transaction, organization, batch).await?
            } else {
                Vec::new()
            };
            let waits = store::waited_for(&mut transaction, organization, batch).await?;
            Ok((now, waits, at_stage))
        })
        .await?;
        let Some(now) = now else {
            return Err(CliError::Usage(format!("there is no batch `{batch}`")));
        };
        let state = now.state.name();
        let held = match (&now.paused, waits) {
            (Some(reason), _) if reason == PAUSED_BY_HAND => {
                Some(format!("paused {reason}: graphmill batch resume"))
            }
            (Some(reason), _) => Some(format!("paused: {reason}")),
            (None, Some(reason)) => Some(format!("waiting: {reason}")),
            (None, None) => None,
        };
        view.show(state, held.as_deref(), &now.counts, &at_stage);
        if state.has_ended() {
            view.end();
            return Ok(Watched::Ended);
        }
        if until == Until::AtRest
            && steadily(async || workflow::is_at_rest(store, organization, &now).await).await?
        {
            view.end();
            return Ok(Watched::AtRest);
        }
        let pause = DRAW * u32::try_from(1 + now.counts.accepted / 20_000).unwrap_or(u32::MAX);
        let begun = Instant::now();
        loop {
            let left = pause.saturating_sub(begun.elapsed());
            tokio::select! {
                () = stop.cancelled() => {
                    view.end();
                    return Ok(Watched::Interrupted);
                }
                () = tokio::time::sleep(left) => break,
                () = changed(&mut moved) => {}
            }
            // Only the end is worth an early look.
            let now = steadily(async || {
                let mut transaction = store.app(organization).await?;
                store::batch_by_id(&mut transaction, organization, batch).await
            })
            .await?;
            if now.is_none_or(|now| now.state.name().has_ended()) {
                break;
            }
        }
    }
}

/// Waits until the sequencer of this process has moved something; for ever, if it has none.
async fn changed(moved: &mut Option<watch::Receiver<u64>>) {
    let heard = match moved {
        Some(moved) => moved.changed().await.is_ok(),
        None => false,
    };
    if !heard {
        std::future::pending::<()>().await;
    }
}

type AtStage = [(Stage, ExecutionStatus, u64)];

trait View {
    fn wants_stages(&self) -> bool;
    /// Shows how far the batch is; `held` is what keeps it, if something does.
    fn show(
        &mut self,
        state: BatchStateName,
        held: Option<&str>,
        counts: &BatchCounts,
        at_stage: &AtStage,
    );
    fn end(&mut self);
}

/// A bar for the batch and one for each stage.
struct Bars {
    all: MultiProgress,
    batch: ProgressBar,
    stages: Vec<(Stage, ProgressBar)>,
}

impl Bars {
    fn new() -> Self {
        // Hidden until there is something to count: a bar of 0 of 0 looks like a full one.
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let style = |template: &str| {
            ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸ ")
        };
        let batch = all.add(ProgressBar::new(0));
        batch.set_style(style(
            "{prefix:>10} {wide_bar:.green} {pos}/{len} documents  {per_sec}  {eta} left  {msg}",
        ));
        batch.set_prefix("batch");
        let stages = STAGES
            .into_iter()
            .map(|(stage, name)| {
                let bar = all.add(ProgressBar::new(0));
                bar.set_style(style("{prefix:>10} {wide_bar:.blue} {pos}/{len}"));
                bar.set_prefix(name);
                (stage, bar)
            })
            .collect();
        Self { all, batch, stages }
    }
}

impl View for Bars {
    fn wants_stages(&self) -> bool {
        true
    }

    fn show(
        &mut self,
        state: BatchStateName,
        held: Option<&str>,
        counts: &BatchCounts,
        at_stage: &AtStage,
    ) {
        if counts.accepted == 0 {
            return;
        }
        if self.all.is_hidden() {
            self.all.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.batch.set_length(counts.accepted);
        self.batch.set_position(counts.ended());
        self.batch.set_message(said(state, held));
        for (stage, bar) in &self.stages {
            // A document has passed a stage when it is at a later one, or completed.
            let through: u64 = at_stage
                .iter()
                .filter(|(at, status, _)| {
                    *at != Stage::Resolve && (at > stage || *status == ExecutionStatus::Completed)
                })
                .map(|(_, _, count)| count)
                .sum();
            bar.set_length(counts.accepted);
            bar.set_position(through);
        }
    }

    fn end(&mut self) {
        // The summary that follows says it all.
        let _ = self.all.clear();
    }
}

/// A line now and then.
struct Lines {
    begun: Instant,
    written: Option<(Instant, BatchStateName)>,
}

impl Lines {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            written: None,
        }
    }
}

impl View for Lines {
    fn wants_stages(&self) -> bool {
        false
    }

    fn show(
        &mut self,
        state: BatchStateName,
        held: Option<&str>,
        counts: &BatchCounts,
        _at_stage: &AtStage,
    ) {
        if counts.accepted == 0 && !state.has_ended() {
            return;
        }
        let due = self.written.is_none_or(|(at, before)| {
            at.elapsed() >= WRITE || (before != state && state.has_ended())
        });
        if !due {
            return;
        }
        let seconds = self.begun.elapsed().as_secs_f64();
        self.written = Some((Instant::now(), state));
        let (done, all) = (counts.ended(), counts.accepted);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = if seconds > 0.5 {
            done as f64 / seconds
        } else {
            0.0
        };
        let mut line = format!("{done}/{all} documents, {}", said(state, held));
        if rate > 0.0 {
            // Writing to a string does not fail.
            let _ = write!(line, ", {rate:.1}/s");
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a time for people"
            )]
            let left = ((all - done.min(all)) as f64 / rate) as u64;
            if left > 0 {
                let left = humantime::format_duration(Duration::from_secs(left));
                let _ = write!(line, ", {left} left");
            }
        }
        output::note(&line);
    }

    fn end(&mut self) {}
}

/// A state, in words.
fn said(state: BatchStateName, held: Option<&str>) -> String {
    if let Some(held) = held.filter(|_| !state.has_ended()) {
        return held.to_owned();
    }
    let words = match state {
        BatchStateName::Pending => "pending",
        BatchStateName::Chunking => "chunking",
        BatchStateName::ExtractingMentions => "extracting mentions",
        BatchStateName::ExtractingEntities => "extracting entities",
        BatchStateName::ExtractingRelations => "extracting relations",
        BatchStateName::Assembling => "assembling",
        BatchStateName::Resolving => "resolving",
        BatchStateName::Completed => "completed",
        BatchStateName::Failed => "failed",
        BatchStateName::Cancelled => "cancelled",
    };
    words.to_owned()
}
