//! The work of each stage, one file a stage. A stage plans its units, runs those that have no checkpoint, and says
//! what came of it.
//!
//! A stage never moves an execution and never touches the queue: it returns an [`Outcome`], and whoever drives it
//! settles that. Where checkpoints go is an argument ([`Checkpoints`]), so that the durable path (`worker`) and the
//! direct one ([`extract`]) are the same code.

mod adjudicate;
mod assemble;
mod chunk;
mod direct;
mod entities;
mod errand;
mod findings;
mod foresight;
mod intake;
mod line;
mod mentions;
mod recipe;
mod relations;
mod reuse;
mod stage;
mod suspicion;
mod threads;
mod units;

/// The model of a batch is part of its configuration.
pub use crate::extractors::{ModelChoice, Price};
pub use adjudicate::{Judged, PairKey, Verdicts, adjudicate, wanted};
pub use chunk::{ChunkSettings, chunk};
pub use direct::{DirectError, extract};
pub use errand::{Errand, ErrandError, IsolatedError, Isolation, Workplace, perform};
pub use findings::Findings;
pub use foresight::{Foreseen, Foresight};
pub(crate) use intake::not_utf8;
pub use intake::{InvalidId, Limits, NewDocument, check_bytes, check_id, check_text, content_hash};
pub use line::{broken_line, line_reason, line_too_long, longest_line, parse_line};
pub use recipe::{ByStage, Digests, Recipe};
pub use reuse::Past;
pub use stage::{Adjudicate, BatchConfig, Document, Outcome, Settings, Work, run};
pub use threads::Threads;
pub use units::{
    CheckpointError, Checkpoints, Gate, Open, UnitGroup, UnitOutcome, UnitOutput, UnitRecord,
    UnitSettings,
};
