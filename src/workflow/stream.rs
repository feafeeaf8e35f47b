//! Following a batch or an execution, live: first how it stands, then every event of the durable log in its order.
//!
//! Knows positions. Must not know who listens or how it is sent. Invariants: what a [`Follower`] hands out is the log
//! after its position, without a gap, a repeat or a change of order, whatever becomes of this process' tail, of Redis
//! or of Postgres in the meantime; and whoever is slow reads the log by position and keeps nobody waiting.

mod feed;
mod follow;
mod message;
mod snapshot;

pub use feed::Feed;
pub use follow::{Follower, Following, follow_batch, follow_execution};
pub use message::{EventMessage, ProgressMessage};
pub use snapshot::{BatchSnapshot, ExecutionSnapshot, Snapshot, StageCount};
