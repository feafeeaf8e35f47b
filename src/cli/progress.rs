//! How far a batch is: bars on a terminal, plain lines elsewhere. What they show are the counts that the sequencer
//! folds, whoever works the batch and wherever; nothing is counted or timed here.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use graphmill_jobs::{BatchId, OrganizationId};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{error::CliError, output, session::steadily, summary};
use crate::{
    flow::{BatchStateName, PAUSED_BY_HAND, Stage},
    store::{self, Batch, Store, StoreError},
    workflow::{self, AdjudicationReport, ProgressReport, SpentReport},
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
        Box::new(Lines::default())
    };
    loop {
        let seen = steadily(async || look(store, organization, batch).await).await?;
        let Some(seen) = seen else {
            return Err(CliError::Usage(format!("there is no batch `{batch}`")));
        };
        let state = seen.state();
        view.show(&seen);
        if state.has_ended() {
            view.end();
            return Ok(Watched::Ended);
        }
        if until == Until::AtRest
            && steadily(async || workflow::is_at_rest(store, organization, &seen.batch).await)
                .await?
        {
            view.end();
            return Ok(Watched::AtRest);
        }
        let begun = Instant::now();
        loop {
            let left = DRAW.saturating_sub(begun.elapsed());
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

/// A batch, as it is at a moment.
struct Seen {
    batch: Batch,
    progress: ProgressReport,
    spent: Option<SpentReport>,
    /// What keeps it, if something does.
    held: Option<String>,
    /// What is asked about names, while that is done.
    asked: Option<AdjudicationReport>,
}

/// Reads it; `None`: there is no such batch.
async fn look(
    store: &Store,
    organization: OrganizationId,
    id: BatchId,
) -> Result<Option<Seen>, StoreError> {
    let mut transaction = store.app(organization).await?;
    let Some(batch) = store::batch_by_id(&mut transaction, organization, id).await? else {
        return Ok(None);
    };
    let waits = store::waited_for(&mut transaction, organization, id).await?;
    let in_work = store::documents_in_work(&mut transaction, organization, id).await?;
    let budget = store::budget(&mut transaction, organization, id).await?;
    let asked = if batch.state.name() == BatchStateName::Resolving {
        workflow::adjudication(&mut transaction, organization, &batch).await?
    } else {
        None
    };
    let held = match (&batch.paused, waits) {
        (Some(reason), _) if reason == PAUSED_BY_HAND => {
            Some(format!("paused {reason}: graphmill batch resume"))
        }
        (Some(reason), _) => Some(format!("paused: {reason}")),
        (None, Some(reason)) => Some(format!("waiting: {reason}")),
        (None, None) => None,
    };
    Ok(Some(Seen {
        progress: ProgressReport::of(&batch, in_work),
        spent: budget.map(SpentReport::from),
        held,
        asked,
        batch,
    }))
}

impl Seen {
    const fn state(&self) -> BatchStateName {
        self.batch.state.name()
    }

    /// There is nothing to count yet: 0 of 0 looks like all.
    const fn is_empty(&self) -> bool {
        self.batch.counts.accepted == 0
    }

    /// What it does, how fast, and how long that will take.
    fn doing(&self) -> String {
        let mut said = said(self.state(), self.held.as_deref());
        for part in summary::pace(&self.progress) {
            // Writing to a string does not fail.
            let _ = write!(said, ", {part}");
        }
        if let Some(asked) = &self.asked {
            let _ = write!(
                said,
                ", {} questions about names answered of {} at most",
                asked.answered, asked.most
            );
        }
        said
    }

    /// What it has found and spent.
    fn found(&self) -> String {
        let counts = &self.batch.counts;
        let mut said = format!(
            "{} entities, {} relations",
            counts.entities, counts.relations
        );
        if let Some(spent) = &self.spent {
            let tokens = spent.prompt_tokens + spent.completion_tokens;
            let _ = write!(said, "; {tokens} tokens, ${:.4}", spent.cost);
        }
        said
    }
}

trait View {
    fn show(&mut self, seen: &Seen);
    fn end(&mut self);
}

/// A bar for the batch and one for each stage of its documents; two lines say the rest.
struct Bars {
    all: MultiProgress,
    batch: ProgressBar,
    stages: Vec<(Stage, ProgressBar)>,
    doing: ProgressBar,
    found: ProgressBar,
}

impl Bars {
    fn new() -> Self {
        // Hidden until there is something to count: a bar of 0 of 0 looks like a full one.
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let bar = |name: String, template: &str| {
            let bar = all.add(ProgressBar::new(0));
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("━╸ "));
            bar.set_prefix(name);
            bar
        };
        let batch = "{prefix:>10} {wide_bar:.green} {pos}/{len} documents {msg:>6} %";
        let stage = "{prefix:>10} {wide_bar:.blue} {pos}/{len}";
        let line = "{prefix:>10} {wide_msg}";
        Self {
            batch: bar("batch".to_owned(), batch),
            stages: Stage::of_a_document()
                .map(|at| (at, bar(at.to_string(), stage)))
                .collect(),
            doing: bar("now".to_owned(), line),
            found: bar("found".to_owned(), line),
            all,
        }
    }
}

impl View for Bars {
    fn show(&mut self, seen: &Seen) {
        if seen.is_empty() {
            return;
        }
        if self.all.is_hidden() {
            self.all.set_draw_target(ProgressDrawTarget::stderr());
        }
        let documents = seen.progress.documents;
        self.batch.set_length(documents.total);
        self.batch.set_position(documents.current);
        self.batch.set_message(format!("{:.1}", documents.percent));
        for (stage, bar) in &self.stages {
            bar.set_length(documents.total);
            bar.set_position(seen.batch.counts.through(*stage));
        }
        self.doing.set_message(seen.doing());
        self.found.set_message(seen.found());
    }

    fn end(&mut self) {
        // The summary that follows says it all.
        let _ = self.all.clear();
    }
}

/// A line now and then.
#[derive(Default)]
struct Lines {
    written: Option<(Instant, BatchStateName)>,
}

impl View for Lines {
    fn show(&mut self, seen: &Seen) {
        let state = seen.state();
        if seen.is_empty() && !state.has_ended() {
            return;
        }
        let due = self.written.is_none_or(|(at, before)| {
            at.elapsed() >= WRITE || (before != state && state.has_ended())
        });
        if !due {
            return;
        }
        self.written = Some((Instant::now(), state));
        let documents = seen.progress.documents;
        output::note(&format!(
            "{}/{} documents ({:.1} %), {}; {}",
            documents.current,
            documents.total,
            documents.percent,
            seen.doing(),
            seen.found()
        ));
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
