//! The work on a document, from its intake to its graph.

mod intake;

pub(crate) use intake::not_utf8;
pub use intake::{InvalidId, Limits, NewDocument, check_bytes, check_id, check_text, content_hash};
