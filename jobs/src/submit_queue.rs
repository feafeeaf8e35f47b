//! The queue of submissions: the names in Redis that whoever pushes an envelope and whoever takes it in must agree on.
//!
//! They are those of apalis-redis for a queue `graphmill:submit`; `docs/PRODUCERS.md` shows them to every other language.

/// A list: the ids of the envelopes that wait.
pub const ACTIVE: &str = "graphmill:submit:active";
/// A hash: the envelopes, by id.
pub const DATA: &str = "graphmill:submit:data";
/// With `:` and an id, a hash: how an envelope stands.
pub const META: &str = "graphmill:submit:meta";
/// With `:` and an id, a list of one: what became of an envelope.
pub const RECEIPT: &str = "graphmill:submit:receipt";
/// The channel on which a push is told of.
pub const CHANNEL: &str = "tasks:graphmill:submit:active:available";
