//! Who may ask: API keys, how they look, how one is checked, and tokens for one stream.
//!
//! Knows secrets, hashes and for how long what was looked up holds. Must not know HTTP, routes, SQL, or what a scope
//! allows. Invariants: a secret is in memory while it is made or shown and nowhere else, so no `Debug` has one and
//! nothing here logs one; a secret and a signature are compared in a time that says nothing of them; a key that was
//! taken back lets nobody in [`FRESH`] later, on any replica.

mod issue;
mod key;
mod keyring;
mod token;

pub use issue::{IssueError, Issued, NewKey, first, issue};
pub use key::{Key, prefix_in};
pub use keyring::{FRESH, Holder, Keyring, Refusal};
pub use token::{STREAM_TOKEN, StreamToken};
