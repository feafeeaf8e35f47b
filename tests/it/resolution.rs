//! Clusters over documents, batches, crashes and repeats: the same thing has the same id, and what people decide holds.

pub(crate) mod adjudicated;
mod decided;
mod orders;
mod scale;
mod shared;

use std::collections::{BTreeMap, BTreeSet};

use graphmill::{graph::ExportFormat, workflow};
use graphmill_jobs::{BatchId, OrganizationId};
use serde_json::Value;

use crate::support::{Ground, OURS};

/// The clusters of an export by id: name, class, and the members as (document, name).
type Clusters = BTreeMap<String, (String, String, BTreeSet<(String, String)>)>;

/// What a batch's export says of its clusters.
async fn clusters(ground: &Ground, batch: BatchId) -> Clusters {
    clusters_of(ground, OURS, batch).await
}

async fn clusters_of(ground: &Ground, organization: OrganizationId, batch: BatchId) -> Clusters {
    let store = &ground.store;
    let out = workflow::export(store, organization, batch, ExportFormat::Json, Vec::new()).await;
    let export: Value = serde_json::from_slice(&out.unwrap()).unwrap();
    let said = |value: &Value| value.as_str().unwrap().to_owned();
    let list = |name: &str| export[name].as_array().unwrap().clone();
    let entities: BTreeMap<String, (String, String)> = list("entities")
        .iter()
        .map(|entity| {
            (
                said(&entity["id"]),
                (said(&entity["document"]), said(&entity["name"])),
            )
        })
        .collect();
    list("clusters")
        .iter()
        .map(|cluster| {
            let members = cluster["members"].as_array().unwrap();
            let members = members
                .iter()
                .map(|id| entities[id.as_str().unwrap()].clone())
                .collect();
            (
                said(&cluster["id"]),
                (said(&cluster["name"]), said(&cluster["type"]), members),
            )
        })
        .collect()
}

/// The id of the one cluster of that name.
#[track_caller]
fn id_of<'c>(clusters: &'c Clusters, name: &str) -> &'c str {
    let found: Vec<&str> = clusters
        .iter()
        .filter(|(_, (of, ..))| of == name)
        .map(|(id, _)| id.as_str())
        .collect();
    assert_eq!(found.len(), 1, "{name}: {clusters:#?}");
    found[0]
}
