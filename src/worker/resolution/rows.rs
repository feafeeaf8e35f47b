//! The rows of a resolution, and their digest: the same result is recognized after a crash.

use sha2::{Digest, Sha256};

use crate::store::{NewCluster, NewKey, NewLink, NewMember};

/// The rows of a resolution.
pub(super) struct Rows {
    pub(super) clusters: Vec<NewCluster>,
    pub(super) members: Vec<NewMember>,
    pub(super) keys: Vec<NewKey>,
    pub(super) links: Vec<NewLink>,
}

impl Rows {
    /// SHA-256 of all of them.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut text = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        for cluster in &self.clusters {
            text(&cluster.id.to_string());
            text(&cluster.name);
            text(&cluster.class);
        }
        for member in &self.members {
            text(&member.cluster.to_string());
            text(&member.entity.to_string());
            if let Some(joined) = &member.joined {
                text(&joined.with.to_string());
                text(&joined.reason);
                text(&joined.score.to_bits().to_string());
            }
        }
        for key in &self.keys {
            text(&key.key.to_string());
            text(&key.entity.to_string());
        }
        for link in &self.links {
            text(&link.id.to_string());
            text(&link.left.to_string());
            text(&link.right.to_string());
            text(&link.reason);
            text(&link.score.to_bits().to_string());
        }
        hash.finalize().into()
    }
}
