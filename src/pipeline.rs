//! The work on one document, stage by stage. A stage takes what the one before it left and returns an outcome; it
//! never moves an execution and knows no queue.

mod chunk;

pub use chunk::{ChunkSettings, chunk};
