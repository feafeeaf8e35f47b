//! What a batch's events add up to.
//!
//! The sequencer folds every event once, in the order of the log; whoever opens a generation or seals a batch folds its
//! own event at once, with the batch's row locked. What the counts call for says [`super::batch`].

use serde::{Deserialize, Serialize};

use super::{EventKind, Progress, Stage, Withdrawn};

/// What a batch's events add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchCounts {
    /// Documents to work.
    pub accepted: u64,
    /// Documents refused, duplicates aside.
    pub refused: u64,
    /// Documents whose text the batch already had.
    pub duplicate: u64,
    /// Documents completed, partial ones among them.
    pub completed: u64,
    /// Documents completed with failed units.
    pub partial: u64,
    /// Documents that wait for another round; none once the batch has ended.
    pub failed: u64,
    /// Documents given up.
    pub abandoned: u64,
    /// Documents stopped.
    pub cancelled: u64,
    /// Entities found.
    pub entities: u64,
    /// Relations found.
    pub relations: u64,
    /// Clusters published.
    pub clusters: u64,
    /// Documents that are through each stage, in the order of [`Stage::of_a_document`].
    #[serde(default)]
    pub passed: [u64; Stage::OF_A_DOCUMENT],
    /// The furthest stage that a document has entered.
    pub furthest: Option<Stage>,
    /// The batch takes no more documents.
    pub sealed: bool,
    /// How its resolution ended, once it has.
    pub resolution: Option<ResolutionEnd>,
    /// Documents that earlier generations gave up, and this one does not try again.
    #[serde(default)]
    pub abandoned_before: u64,
    /// How often the batch was opened again after its end.
    #[serde(default)]
    pub retries: i32,
}

/// How a resolution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResolutionEnd {
    /// Its clusters are published.
    Completed,
    /// It was given up or stopped.
    Abandoned,
}

impl BatchCounts {
    /// Takes one event into account.
    pub fn fold(&mut self, event: &EventKind) {
        match event {
            EventKind::DocumentsAdded {
                accepted,
                refused,
                duplicate,
            } => {
                self.accepted += accepted;
                self.refused += refused;
                self.duplicate += duplicate;
            }
            EventKind::BatchSealed => self.sealed = true,
            EventKind::DocumentStarted => self.furthest = self.furthest.max(Some(Stage::Chunk)),
            EventKind::StageCompleted { stage, .. } => {
                self.furthest = self.furthest.max(stage.next());
                if let Some(passed) = self.passed.get_mut(stage.place()) {
                    *passed += 1;
                }
            }
            EventKind::DocumentCompleted {
                partial,
                entities,
                relations,
                replaced,
            } => {
                self.completed += 1;
                self.partial += u64::from(*partial);
                self.entities = (self.entities + entities).saturating_sub(replaced.entities);
                self.relations = (self.relations + relations).saturating_sub(replaced.relations);
            }
            // Whoever opens a generation counts that at once, lest the batch be taken for one that is through.
            EventKind::BatchRetried { generation, .. }
            | EventKind::BatchReopened { generation }
            | EventKind::BatchRerun { generation, .. } => {
                if self.retries + 1 < *generation {
                    self.begin(*generation, event);
                }
            }
            EventKind::DocumentReplaced { was, .. } | EventKind::DocumentRemoved { was, .. } => {
                self.withdraw(was);
            }
            EventKind::DocumentFailed { .. } => self.failed += 1,
            EventKind::DocumentRevived { .. } => self.failed = self.failed.saturating_sub(1),
            EventKind::DocumentAbandoned { .. } => self.abandoned += 1,
            EventKind::DocumentCancelled { was_failed, .. } => {
                self.cancelled += 1;
                self.failed = self.failed.saturating_sub(u64::from(*was_failed));
            }
            EventKind::ResolutionCompleted { clusters } => {
                self.clusters = *clusters;
                self.resolution = Some(ResolutionEnd::Completed);
            }
            EventKind::ClustersChanged { clusters } => self.clusters = *clusters,
            EventKind::ResolutionAbandoned { .. } => {
                self.resolution = Some(ResolutionEnd::Abandoned);
            }
            EventKind::BatchCreated { .. }
            | EventKind::StageProgress { .. }
            | EventKind::StageRetried { .. }
            | EventKind::DocumentPaused
            | EventKind::DocumentResumed
            | EventKind::BatchPaused { .. }
            | EventKind::BatchResumed
            | EventKind::RateLimited { .. }
            | EventKind::BreakerOpened { .. }
            | EventKind::BreakerProbed { .. }
            | EventKind::BreakerClosed { .. }
            | EventKind::BatchKeptOpen
            | EventKind::ResolutionStarted
            | EventKind::StageEntered { .. }
            | EventKind::BatchCompleted
            | EventKind::BatchFailed { .. }
            | EventKind::BatchCancelled => {}
        }
    }

    /// A generation begins: it is to be filled, and what goes through its stages again is not counted as through.
    fn begin(&mut self, generation: i32, event: &EventKind) {
        self.retries = generation - 1;
        self.sealed = false;
        self.furthest = None;
        self.resolution = None;
        if let EventKind::BatchRetried {
            abandoned,
            cancelled,
            partial,
            passed,
            ..
        } = event
        {
            for (now, before) in self.passed.iter_mut().zip(passed) {
                *now = now.saturating_sub(*before);
            }
            self.abandoned = self.abandoned.saturating_sub(*abandoned);
            self.cancelled = self.cancelled.saturating_sub(*cancelled);
            self.completed = self.completed.saturating_sub(*partial);
            self.partial = self.partial.saturating_sub(*partial);
        }
        if let EventKind::BatchRerun {
            from,
            completed,
            partial,
            abandoned,
            cancelled,
            ..
        } = event
        {
            // Every document, but for a mere resolution.
            if *from != Stage::Resolve {
                self.passed = [0; Stage::OF_A_DOCUMENT];
            }
            self.completed = self.completed.saturating_sub(*completed);
            self.partial = self.partial.saturating_sub(*partial);
            self.abandoned = self.abandoned.saturating_sub(*abandoned);
            self.cancelled = self.cancelled.saturating_sub(*cancelled);
        }
        self.abandoned_before = self.abandoned;
    }

    fn withdraw(&mut self, was: &Withdrawn) {
        let Withdrawn {
            accepted,
            refused,
            duplicate,
            completed,
            partial,
            failed,
            abandoned,
            abandoned_before,
            cancelled,
            entities,
            relations,
            passed,
        } = *was;
        for (now, gone) in self.passed.iter_mut().zip(passed) {
            *now = now.saturating_sub(gone);
        }
        for (count, gone) in [
            (&mut self.accepted, accepted),
            (&mut self.refused, refused),
            (&mut self.duplicate, duplicate),
            (&mut self.completed, completed),
            (&mut self.partial, partial),
            (&mut self.failed, failed),
            (&mut self.abandoned, abandoned),
            (&mut self.abandoned_before, abandoned_before),
            (&mut self.cancelled, cancelled),
            (&mut self.entities, entities),
            (&mut self.relations, relations),
        ] {
            *count = count.saturating_sub(gone);
        }
    }

    /// Documents that are final.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.completed + self.abandoned + self.cancelled
    }

    /// Documents that were submitted, whatever became of them.
    #[must_use]
    pub const fn submitted(&self) -> u64 {
        self.accepted + self.refused + self.duplicate
    }

    /// Documents that are through `stage`; for the resolution, whether it is published.
    #[must_use]
    pub fn through(&self, stage: Stage) -> u64 {
        let resolved = u64::from(self.resolution == Some(ResolutionEnd::Completed));
        self.passed.get(stage.place()).copied().unwrap_or(resolved)
    }

    /// How far the batch is.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        Progress {
            current: self.ended(),
            total: self.accepted,
        }
    }
}
