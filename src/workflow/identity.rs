//! What clusters and links are known by: ids that follow from what they are about, so that a repeated, crashed or second
//! run gives the same ones.
//!
//! An entity's own id is made anew whenever its document is extracted, so nothing here knows of it.

use graphmill_jobs::{ClusterId, LinkId, OrganizationId};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use crate::{graph::name_key, store::Resolvable};

/// The id of a cluster whose first member is `founder`. `nth` counts up while the id is another cluster's.
#[must_use]
pub fn cluster_id(organization: OrganizationId, founder: &Resolvable, nth: u32) -> ClusterId {
    let said = said(founder);
    uuid(&[
        b"cluster",
        organization.uuid().as_bytes(),
        founder.external.as_bytes(),
        founder.class.as_bytes(),
        said.as_bytes(),
        &nth.to_be_bytes(),
    ])
    .into()
}

/// The id of the link between two entities, in whatever order.
#[must_use]
pub fn link_id(organization: OrganizationId, one: &Resolvable, other: &Resolvable) -> LinkId {
    let (one, other) = (end(one), end(other));
    let (first, second) = if one <= other {
        (one, other)
    } else {
        (other, one)
    };
    uuid(&[b"link", organization.uuid().as_bytes(), &first, &second]).into()
}

/// The id of the link between those that were taken out of a cluster and the rest of it.
#[must_use]
pub(super) fn split_id<'a>(
    organization: OrganizationId,
    cluster: ClusterId,
    out: impl IntoIterator<Item = &'a Resolvable>,
) -> LinkId {
    let mut out: Vec<[u8; 32]> = out.into_iter().map(end).collect();
    out.sort_unstable();
    let organization = organization.uuid();
    let cluster = cluster.uuid();
    let mut parts: Vec<&[u8]> = vec![b"split", organization.as_bytes(), cluster.as_bytes()];
    parts.extend(out.iter().map(<[u8; 32]>::as_slice));
    uuid(&parts).into()
}

fn end(entity: &Resolvable) -> [u8; 32] {
    let said = said(entity);
    digest(&[
        entity.batch.uuid().as_bytes(),
        entity.external.as_bytes(),
        entity.class.as_bytes(),
        said.as_bytes(),
    ])
}

fn said(entity: &Resolvable) -> String {
    match &entity.value {
        Some(value) => format!("={value}"),
        None => name_key(&entity.name),
    }
}

fn uuid(parts: &[&[u8]]) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest(parts)[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
