//! The table `ontology`.

use graphmill_jobs::{OntologyId, OrganizationId};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, query_scalar};

use super::{StoreError, from_json, to_json};
use crate::graph::Ontology;

/// The id of `ontology` in the organization, which is written if it is not there yet.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn ensure_ontology(
    connection: &mut PgConnection,
    organization: OrganizationId,
    ontology: &Ontology,
) -> Result<OntologyId, StoreError> {
    let definition = to_json("an ontology", ontology)?;
    let hash: [u8; 32] = Sha256::digest(definition.to_string()).into();
    // Nearly always it is there, and all submissions would write the same row.
    let known = query_scalar!(
        "select id from ontology where hash = $1 and organization_id = $2",
        &hash,
        organization.uuid(),
    )
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(known) = known {
        return Ok(known.into());
    }
    // The update changes nothing; it makes `returning` speak of the row that came in between.
    let id = query_scalar!(
        r#"insert into ontology (id, organization_id, name, version, hash, definition)
           values ($1, $2, $3, $4, $5, $6)
           on conflict (hash, organization_id) do update set hash = excluded.hash
           returning id"#,
        OntologyId::generate().uuid(),
        organization.uuid(),
        ontology.name,
        i32::try_from(ontology.version).unwrap_or(i32::MAX),
        &hash,
        definition,
    )
    .fetch_one(connection)
    .await?;
    Ok(id.into())
}

/// Reads an ontology.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn ontology_by_id(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: OntologyId,
) -> Result<Ontology, StoreError> {
    let definition = query_scalar!(
        "select definition from ontology where organization_id = $1 and id = $2",
        organization.uuid(),
        id.uuid(),
    )
    .fetch_one(connection)
    .await?;
    from_json("an ontology", definition)
}
