//! Looking things up in the published graph: entities by name and by words, relations by what they are about, clusters
//! by member. Read by the HTTP API, over an organization or one batch.
//!
//! Only what completed executions found is published; older and withdrawn graphs are deleted when that happens, so
//! nothing here asks for generations. Every look is bounded: where a condition has no index of its own, a page looks at
//! so many rows and says which of them fit, and the next page goes on behind them.

use graphmill_jobs::{
    BatchId, ClusterId, DocumentId, EntityId, OrganizationId, RelationId, WorkflowExecutionId,
};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{
    StoreError,
    cluster::uuids,
    findings::{EvidenceRow, MentionRow, Place},
    from_json,
};

/// An entity that was looked up.
#[derive(Debug, Clone)]
pub struct FoundEntity {
    /// Its id.
    pub id: EntityId,
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: String,
    /// The normal form of its value, if it is one.
    pub value: Option<String>,
    /// How many mentions it has.
    pub mentions: i32,
    /// The caller's id of its document.
    pub document: String,
    /// Its document.
    pub document_id: DocumentId,
    /// Its document's title.
    pub title: Option<String>,
    /// Where its document came from.
    pub source_uri: Option<String>,
    /// Its batch.
    pub batch: BatchId,
    /// The execution that found it.
    pub execution: WorkflowExecutionId,
    /// Its cluster, once its batch is resolved.
    pub cluster: Option<ClusterId>,
}

/// A row that a page has looked at.
#[derive(Debug, Clone)]
pub struct Looked<K, I> {
    /// Where it stands: the next page begins behind it.
    pub key: K,
    /// Whose row it is.
    pub id: I,
    /// Whether it is asked for.
    pub fits: bool,
}

/// What names are asked for.
#[derive(Debug, Clone, Copy)]
pub struct NameRange<'a> {
    /// The name, or its beginning; the case does not matter.
    pub name: &'a str,
    /// Names that go on behind it, too.
    pub prefix: bool,
}

/// Which entities of those that are looked at are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct EntityFilter<'a> {
    /// Those of one batch.
    pub batch: Option<BatchId>,
    /// Those of one class.
    pub class: Option<&'a str>,
}

/// Looks at entities by name, `most` of them behind `after`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn entities_by_name(
    connection: &mut PgConnection,
    organization: OrganizationId,
    names: NameRange<'_>,
    filter: EntityFilter<'_>,
    after: Option<&(String, EntityId)>,
    most: i64,
) -> Result<Vec<Looked<(String, EntityId), EntityId>>, StoreError> {
    let (key, id) = after.map_or(("", Uuid::nil()), |(key, id)| (key.as_str(), id.uuid()));
    let rows = query!(
        r#"select n.name_key as "key!", n.id,
                  (e.id is not null and ($8::text is null or n.type = $8)) as "fits!"
           from (
               select name_key, id, type, workflow_execution_id from entity
               where organization_id = $1 and (name_key, organization_id, id) > ($2, $1, $3)
                 and name_key >= lower(left($4, 200))
                 -- Nothing sorts between a name and itself with the least character behind it.
                 and name_key < lower(left($4, 200)) || case when $5 then chr(1114111) else chr(1) end
               order by name_key, organization_id, id limit $6
           ) as n
           left join lateral (
               select e.id from workflow_execution e
               where e.organization_id = $1 and e.id = n.workflow_execution_id and e.status = 'completed'
                 and ($7::uuid is null or e.batch_id = $7)
           ) as e on true
           order by n.name_key, n.id"#,
        organization.uuid(),
        key,
        id,
        names.name,
        names.prefix,
        most,
        filter.batch.map(BatchId::uuid),
        filter.class,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Looked {
            key: (row.key, row.id.into()),
            id: row.id.into(),
            fits: row.fits,
        })
        .collect())
}

/// Looks at entities whose names have these words, `most` of them behind `after`, by id. Words as people type them:
/// `"a phrase"`, `or`, and `-` for what must not be there.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn entities_by_words(
    connection: &mut PgConnection,
    organization: OrganizationId,
    words: &str,
    filter: EntityFilter<'_>,
    after: Option<EntityId>,
    most: i32,
) -> Result<Vec<Looked<EntityId, EntityId>>, StoreError> {
    let rows = query!(
        r#"select w.id as "id!", (e.id is not null and ($6::text is null or n.type = $6)) as "fits!"
           from entities_with_words($2, $3, $4) as w (id)
           join entity n on n.organization_id = $1 and n.id = w.id
           left join lateral (
               select e.id from workflow_execution e
               where e.organization_id = $1 and e.id = n.workflow_execution_id and e.status = 'completed'
                 and ($5::uuid is null or e.batch_id = $5)
           ) as e on true
           order by w.id"#,
        organization.uuid(),
        words,
        after.map_or(Uuid::nil(), EntityId::uuid),
        most,
        filter.batch.map(BatchId::uuid),
        filter.class,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Looked {
            key: row.id.into(),
            id: row.id.into(),
            fits: row.fits,
        })
        .collect())
}

/// Looks at entities of one batch, by document, `most` of them behind `after`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn entities_of_batch(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    class: Option<&str>,
    after: Option<Place>,
    most: i64,
) -> Result<Vec<Looked<Place, EntityId>>, StoreError> {
    let (execution, ordinal) = Place::key(after);
    let rows = query!(
        r#"select n.workflow_execution_id, n.ordinal, n.id, ($6::text is null or n.type = $6) as "fits!"
           from workflow_execution e
           join entity n on n.organization_id = e.organization_id and n.workflow_execution_id = e.id
           where e.organization_id = $1 and e.batch_id = $2 and e.status = 'completed' and e.id >= $3
             and (n.workflow_execution_id, n.ordinal) > ($3, $4)
           order by n.workflow_execution_id, n.ordinal limit $5"#,
        organization.uuid(),
        batch.uuid(),
        execution,
        ordinal,
        most,
        class,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Looked {
            key: Place::new(row.workflow_execution_id, row.ordinal),
            id: row.id.into(),
            fits: row.fits,
        })
        .collect())
}

/// These entities, in no order; those that are gone are left out.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn entities_by_id(
    connection: &mut PgConnection,
    organization: OrganizationId,
    ids: &[EntityId],
) -> Result<Vec<FoundEntity>, StoreError> {
    let rows = query!(
        r#"select n.id, n.name, n.type as class, n.value, cardinality(n.mentions) as "mentions!", d.external_id,
                  d.id as document_id, d.title, d.source_uri, e.batch_id, e.id as execution,
                  c.cluster_id as "cluster_id?"
           from entity n
           join workflow_execution e on e.organization_id = n.organization_id and e.id = n.workflow_execution_id
           join document d on d.organization_id = e.organization_id and d.id = e.document_id
           left join lateral (
               select m.cluster_id from batch b
               join cluster_member m on m.organization_id = b.organization_id and m.resolution_id = b.resolution_id
               where b.organization_id = e.organization_id and b.id = e.batch_id and m.entity_id = n.id limit 1
           ) as c on true
           where n.organization_id = $1 and n.id = any($2) and e.status = 'completed'"#,
        organization.uuid(),
        &uuids(ids),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| FoundEntity {
            id: row.id.into(),
            name: row.name,
            class: row.class,
            value: row.value,
            mentions: row.mentions,
            document: row.external_id,
            document_id: row.document_id.into(),
            title: row.title,
            source_uri: row.source_uri,
            batch: row.batch_id.into(),
            execution: row.execution.into(),
            cluster: row.cluster_id.map(Into::into),
        })
        .collect())
}

/// The first mentions of an entity, in order, `most` at most.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn mentions_of(
    connection: &mut PgConnection,
    organization: OrganizationId,
    entity: EntityId,
    most: i32,
) -> Result<Vec<MentionRow>, StoreError> {
    let mentions = query_scalar!(
        r#"select coalesce(jsonb_agg(jsonb_build_object(
                      'start', m.start_char, 'end', m.end_char, 'text', m.text, 'type', m.type,
                      'value', m.value, 'confidence', m.confidence) order by m.ordinal), '[]') as "mentions!"
           from entity n
           join mention m on m.organization_id = n.organization_id
                         and m.workflow_execution_id = n.workflow_execution_id and m.ordinal = any(n.mentions[1:$3])
           where n.organization_id = $1 and n.id = $2"#,
        organization.uuid(),
        entity.uuid(),
        most,
    )
    .fetch_one(connection)
    .await?;
    from_json("mentions", mentions)
}

/// A relation that was looked up.
#[derive(Debug, Clone)]
pub struct FoundRelation {
    /// Where it stands.
    pub place: Place,
    /// Its id.
    pub id: RelationId,
    /// Its batch.
    pub batch: BatchId,
    /// The caller's id of its document.
    pub document: String,
    /// Its document.
    pub document_id: DocumentId,
    /// Its subject: id, name and class.
    pub subject: (EntityId, String, String),
    /// What is said.
    pub predicate: String,
    /// Its object: id, name and class.
    pub object: (EntityId, String, String),
    /// 0 to 1.
    pub confidence: f32,
    /// Where the document says so, in order.
    pub evidence: Vec<EvidenceRow>,
}

/// Which relations are asked for, of those of some entities.
#[derive(Debug, Clone, Copy, Default)]
pub struct RelationFilter<'a> {
    /// One of these is its subject.
    pub subjects: Option<&'a [EntityId]>,
    /// One of these is its object.
    pub objects: Option<&'a [EntityId]>,
    /// One of these is one of the two.
    pub either: Option<&'a [EntityId]>,
    /// What is said.
    pub predicate: Option<&'a str>,
    /// In which batch.
    pub batch: Option<BatchId>,
}

impl RelationFilter<'_> {
    /// Entities of which every relation that fits has one: its document is theirs.
    fn anchors(&self) -> Vec<Uuid> {
        let anchors = self.either.or(self.subjects).or(self.objects);
        uuids(anchors.unwrap_or_default())
    }
}

/// Relations of entities, `most` of them behind `after`. The filter must name a subject, an object or either.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn relations_of(
    connection: &mut PgConnection,
    organization: OrganizationId,
    filter: &RelationFilter<'_>,
    after: Option<Place>,
    most: i64,
) -> Result<Vec<(Place, RelationId)>, StoreError> {
    let (execution, ordinal) = Place::key(after);
    let subjects = filter.subjects.map(uuids);
    let objects = filter.objects.map(uuids);
    let either = filter.either.map(uuids);
    let rows = query!(
        r#"select r.workflow_execution_id, r.ordinal, r.id
           from relation r
           join workflow_execution e on e.organization_id = r.organization_id and e.id = r.workflow_execution_id
           where r.organization_id = $1
             -- A relation is one of its document, so those of an entity stand in its execution.
             and r.workflow_execution_id = any(array(
                     select distinct n.workflow_execution_id from entity n
                     where n.organization_id = $1 and n.id = any($2)))
             and (r.workflow_execution_id, r.ordinal) > ($3, $4)
             and ($5::uuid[] is null or r.subject_id = any($5))
             and ($6::uuid[] is null or r.object_id = any($6))
             and ($7::uuid[] is null or r.subject_id = any($7) or r.object_id = any($7))
             and ($8::text is null or r.predicate = $8)
             and ($9::uuid is null or e.batch_id = $9) and e.status = 'completed'
           order by r.workflow_execution_id, r.ordinal limit $10"#,
        organization.uuid(),
        &filter.anchors(),
        execution,
        ordinal,
        subjects.as_deref(),
        objects.as_deref(),
        either.as_deref(),
        filter.predicate,
        filter.batch.map(BatchId::uuid),
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let place = Place::new(row.workflow_execution_id, row.ordinal);
            (place, row.id.into())
        })
        .collect())
}

/// Looks at relations of one batch, by document, `most` of them behind `after`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn relations_of_batch(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    predicate: Option<&str>,
    after: Option<Place>,
    most: i64,
) -> Result<Vec<Looked<Place, RelationId>>, StoreError> {
    let (execution, ordinal) = Place::key(after);
    let rows = query!(
        r#"select r.workflow_execution_id, r.ordinal, r.id, ($6::text is null or r.predicate = $6) as "fits!"
           from workflow_execution e
           join relation r on r.organization_id = e.organization_id and r.workflow_execution_id = e.id
           where e.organization_id = $1 and e.batch_id = $2 and e.status = 'completed' and e.id >= $3
             and (r.workflow_execution_id, r.ordinal) > ($3, $4)
           order by r.workflow_execution_id, r.ordinal limit $5"#,
        organization.uuid(),
        batch.uuid(),
        execution,
        ordinal,
        most,
        predicate,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Looked {
            key: Place::new(row.workflow_execution_id, row.ordinal),
            id: row.id.into(),
            fits: row.fits,
        })
        .collect())
}

/// Looks at relations of the organization, by execution, `most` of them behind `after`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn relations_of_all(
    connection: &mut PgConnection,
    organization: OrganizationId,
    predicate: Option<&str>,
    after: Option<Place>,
    most: i64,
) -> Result<Vec<Looked<Place, RelationId>>, StoreError> {
    let (execution, ordinal) = Place::key(after);
    let rows = query!(
        r#"select r.workflow_execution_id, r.ordinal, r.id,
                  (e.id is not null and ($5::text is null or r.predicate = $5)) as "fits!"
           from (
               select workflow_execution_id, ordinal, id, predicate from relation
               where organization_id = $1 and (workflow_execution_id, ordinal) > ($2, $3)
               order by workflow_execution_id, ordinal limit $4
           ) as r
           left join lateral (
               select e.id from workflow_execution e
               where e.organization_id = $1 and e.id = r.workflow_execution_id and e.status = 'completed'
           ) as e on true
           order by r.workflow_execution_id, r.ordinal"#,
        organization.uuid(),
        execution,
        ordinal,
        most,
        predicate,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Looked {
            key: Place::new(row.workflow_execution_id, row.ordinal),
            id: row.id.into(),
            fits: row.fits,
        })
        .collect())
}

/// These relations with their evidence, by place; those that are gone are left out.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn relations_by_id(
    connection: &mut PgConnection,
    organization: OrganizationId,
    ids: &[RelationId],
) -> Result<Vec<FoundRelation>, StoreError> {
    let rows = query!(
        r#"select r.workflow_execution_id, r.ordinal, r.id, e.batch_id, d.external_id, d.id as document_id,
                  r.subject_id, s.name as subject_name, s.type as subject_class, r.predicate,
                  r.object_id, o.name as object_name, o.type as object_class, r.confidence,
                  v.evidence as "evidence!"
           from relation r
           join workflow_execution e on e.organization_id = r.organization_id and e.id = r.workflow_execution_id
           join document d on d.organization_id = e.organization_id and d.id = e.document_id
           join entity s on s.organization_id = r.organization_id and s.id = r.subject_id
           join entity o on o.organization_id = r.organization_id and o.id = r.object_id
           cross join lateral (
               select coalesce(jsonb_agg(jsonb_build_object(
                          'start', start_char, 'end', end_char, 'text', text) order by ordinal), '[]') as evidence
               from evidence v
               where v.organization_id = r.organization_id and v.relation_id = r.id
           ) as v
           where r.organization_id = $1 and r.id = any($2) and e.status = 'completed'
           order by r.workflow_execution_id, r.ordinal"#,
        organization.uuid(),
        &uuids(ids),
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(FoundRelation {
                place: Place::new(row.workflow_execution_id, row.ordinal),
                id: row.id.into(),
                batch: row.batch_id.into(),
                document: row.external_id,
                document_id: row.document_id.into(),
                subject: (row.subject_id.into(), row.subject_name, row.subject_class),
                predicate: row.predicate,
                object: (row.object_id.into(), row.object_name, row.object_class),
                confidence: row.confidence,
                evidence: from_json("evidence", row.evidence)?,
            })
        })
        .collect()
}

/// A published cluster: its name and class, and how many members it has; in one batch or in all.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn cluster_by_id(
    connection: &mut PgConnection,
    organization: OrganizationId,
    cluster: ClusterId,
    batch: Option<BatchId>,
) -> Result<Option<(String, String, u64)>, StoreError> {
    let row = query!(
        r#"select min(c.name) as name, min(c.type) as class, coalesce(sum(m.members), 0)::bigint as "members!"
           from cluster c
           join batch b on b.organization_id = c.organization_id and b.id = c.batch_id
                       and b.resolution_id = c.resolution_id
           cross join lateral (
               select count(*) as members from cluster_member m
               where m.organization_id = c.organization_id and m.resolution_id = c.resolution_id
                 and m.cluster_id = c.id
           ) as m
           where c.organization_id = $1 and c.id = $2 and ($3::uuid is null or c.batch_id = $3)"#,
        organization.uuid(),
        cluster.uuid(),
        batch.map(BatchId::uuid),
    )
    .fetch_one(connection)
    .await?;
    Ok(row
        .name
        .zip(row.class)
        .map(|(name, class)| (name, class, row.members.unsigned_abs())))
}

/// Members of published clusters, by entity, `most` of them behind `after`; in one batch or in all.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn members_of(
    connection: &mut PgConnection,
    organization: OrganizationId,
    clusters: &[ClusterId],
    batch: Option<BatchId>,
    after: Option<EntityId>,
    most: i64,
) -> Result<Vec<(ClusterId, EntityId)>, StoreError> {
    let rows = query!(
        "select m.cluster_id, m.entity_id
         from cluster c
         join batch b on b.organization_id = c.organization_id and b.id = c.batch_id
                     and b.resolution_id = c.resolution_id
         join cluster_member m on m.organization_id = c.organization_id and m.resolution_id = c.resolution_id
                              and m.cluster_id = c.id
         where c.organization_id = $1 and c.id = any($2) and ($3::uuid is null or c.batch_id = $3)
           and m.entity_id > $4
         order by m.entity_id limit $5",
        organization.uuid(),
        &uuids(clusters),
        batch.map(BatchId::uuid),
        after.map_or(Uuid::nil(), EntityId::uuid),
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.cluster_id.into(), row.entity_id.into()))
        .collect())
}
