//! The doorbell: one Redis queue a stage, rung by whoever moves an execution, answered by apalis workers.
//!
//! Beside it, the limits on model calls ([`Limiter`]) and on requests ([`RateLimiter`]), which the fleet shares through
//! the same Redis.
//!
//! Knows Redis, apalis and the shape of a job. Must not know Postgres, leases or what a stage does: a handler is
//! given the stage and the [`Ring`](graphmill_jobs::Ring) and settles everything itself. No type of apalis leaves
//! this room.
//!
//! Invariant: **an id is in Redis exactly while it waits or is in flight.** Nothing is kept after the
//! acknowledgement, and nothing that Redis does (restart, kill, freeze, flush, a key of a wrong type) or holds (a
//! job that nobody can read) stops a worker for longer than the trouble lasts. Redis may lose a ring or deliver
//! it twice at any time; the lease in Postgres decides, and whoever rang rings again.
//!
//! One queue more is for producers ([`Submissions`]): its entries carry documents, which nobody but Redis has until they
//! are taken in, so there a job is forgotten only by whoever has done it.
//!
//! The layout of the keys is that of apalis-redis (`{queue}:active`, `:data`, `:meta:<id>`, `:inflight:<worker>`,
//! `:workers`), so that its board and plain-Redis producers can read and write along. Its scripts and its poll
//! strategies are not used: the schedule through which it pushes breaks at some 8,000 due jobs, one unreadable
//! job stops its worker, its interval may leave no waker, and it keeps every job for ever.

mod backend;
mod bell;
mod connection;
mod feeder;
mod hand;
mod keys;
mod limits;
mod rate;
mod ring;
mod set_aside;
mod submissions;
mod ticket;
mod workers;

pub use connection::{Health, Queue, QueueError};
pub use hand::{Onward, Reserved};
pub use limits::{
    Acquired, Breaker, CallEnd, LimitSettings, Limiter, LimiterStatus, Owner, Permit, Settled,
    Turned, WaitReason, Waiting,
};
pub use rate::{RateLimiter, Taken};
pub use ring::Rung;
pub use set_aside::SetAside;
pub use submissions::{Aside, Envelope, Submissions};
pub use workers::{Drained, Handler, Slots, Tally, Workers, WorkersConfig};
