//! The tables `chunk`, `mention`, `entity`, `relation` and `evidence`: written when their stage settles, in its
//! transaction, and read in pages.

use graphmill_jobs::{
    BatchId, DocumentId, EntityId, OrganizationId, RelationId, WorkflowExecutionId,
};
use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::{Fence, StoreError};
use crate::{
    flow::Replaced,
    graph::{DocumentGraph, NameLabel, Span, Text, TypedMention},
};

/// Writes how a document was cut.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn add_chunks(
    connection: &mut PgConnection,
    fence: Fence,
    chunks: &[Span],
) -> Result<(), StoreError> {
    let starts: Vec<i32> = chunks.iter().map(|span| signed(span.start)).collect();
    let ends: Vec<i32> = chunks.iter().map(|span| signed(span.end)).collect();
    query!(
        "insert into chunk (organization_id, workflow_execution_id, ordinal, start_char, end_char)
         select $1, $2, c.number - 1, c.start_char, c.end_char
         from unnest($3::integer[], $4::integer[]) with ordinality as c (start_char, end_char, number)",
        fence.organization.uuid(),
        fence.execution.uuid(),
        &starts,
        &ends,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes a document's graph, in one statement: nothing in it waits for anything else.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn add_graph(
    connection: &mut PgConnection,
    fence: Fence,
    text: &Text,
    graph: &DocumentGraph,
) -> Result<(), StoreError> {
    let entities = EntityColumns::of(graph);
    let mentions = MentionColumns::of(text, graph, &entities.ids);
    let relations = RelationColumns::of(graph, &entities.ids);
    let evidence = EvidenceColumns::of(text, graph, &relations.ids);
    query!(
        "with entities as (
             insert into entity (organization_id, workflow_execution_id, ordinal, id, name, type, value, mentions)
             select $1, $2, e.number - 1, e.id, e.name, e.type, e.value,
                    ($6::integer[])[e.last - e.count + 1 : e.last]
             from (
                 select u.*, sum(u.count) over (order by u.number) as last
                 from unnest($3::uuid[], $4::text[], $5::text[], $8::text[], $7::integer[])
                     with ordinality as u (id, name, type, value, count, number)
             ) as e
         ), mentions as (
             insert into mention (organization_id, workflow_execution_id, ordinal, entity_id, start_char,
                                  end_char, text, type, label, value, confidence)
             select $1, $2, m.number - 1, m.entity_id, m.start_char, m.end_char, m.text, m.type, m.label,
                    m.value, m.confidence
             from unnest($9::uuid[], $10::integer[], $11::integer[], $12::text[], $13::text[], $14::text[],
                         $15::text[], $16::real[])
                 with ordinality
                 as m (entity_id, start_char, end_char, text, type, label, value, confidence, number)
         ), relations as (
             insert into relation (organization_id, workflow_execution_id, ordinal, id, subject_id, predicate,
                                   object_id, confidence)
             select $1, $2, r.number - 1, r.id, r.subject_id, r.predicate, r.object_id, r.confidence
             from unnest($17::uuid[], $18::uuid[], $19::text[], $20::uuid[], $21::real[])
                 with ordinality as r (id, subject_id, predicate, object_id, confidence, number)
         )
         insert into evidence (organization_id, workflow_execution_id, relation_id, ordinal, start_char,
                               end_char, text)
         select $1, $2, e.relation_id, e.ordinal, e.start_char, e.end_char, e.text
         from unnest($22::uuid[], $23::integer[], $24::integer[], $25::integer[], $26::text[])
             as e (relation_id, ordinal, start_char, end_char, text)",
        fence.organization.uuid(),
        fence.execution.uuid(),
        &entities.ids,
        &entities.names,
        &entities.types,
        &entities.mentions,
        &entities.counts,
        &entities.values as &[Option<String>],
        &mentions.entities,
        &mentions.starts,
        &mentions.ends,
        &mentions.texts,
        &mentions.types,
        &mentions.labels as &[Option<String>],
        &mentions.values as &[Option<String>],
        &mentions.confidences,
        &relations.ids,
        &relations.subjects,
        &relations.predicates,
        &relations.objects,
        &relations.confidences,
        &evidence.relations,
        &evidence.ordinals,
        &evidence.starts,
        &evidence.ends,
        &evidence.texts,
    )
    .execute(connection)
    .await?;
    Ok(())
}

struct EntityColumns {
    ids: Vec<Uuid>,
    names: Vec<String>,
    types: Vec<String>,
    values: Vec<Option<String>>,
    /// Arrays of arrays are rectangular in SQL, so the mentions travel as one list and how long each one's part is.
    mentions: Vec<i32>,
    counts: Vec<i32>,
}

impl EntityColumns {
    fn of(graph: &DocumentGraph) -> Self {
        let entities = || graph.entities.iter();
        Self {
            ids: entities().map(|_| EntityId::generate().uuid()).collect(),
            names: entities().map(|entity| entity.name.clone()).collect(),
            types: entities()
                .map(|entity| entity.class.as_str().to_owned())
                .collect(),
            values: entities()
                .map(|entity| normal(&graph.mentions[*entity.mentions.first()?]))
                .collect(),
            mentions: entities()
                .flat_map(|entity| entity.mentions.iter().map(|&index| ordinal(index)))
                .collect(),
            counts: entities()
                .map(|entity| ordinal(entity.mentions.len()))
                .collect(),
        }
    }
}

struct MentionColumns {
    entities: Vec<Uuid>,
    starts: Vec<i32>,
    ends: Vec<i32>,
    texts: Vec<String>,
    types: Vec<String>,
    labels: Vec<Option<String>>,
    values: Vec<Option<String>>,
    confidences: Vec<f32>,
}

impl MentionColumns {
    fn of(text: &Text, graph: &DocumentGraph, ids: &[Uuid]) -> Self {
        let mut entities = vec![Uuid::nil(); graph.mentions.len()];
        for (entity, &id) in graph.entities.iter().zip(ids) {
            for &mention in &entity.mentions {
                entities[mention] = id;
            }
        }
        let mentions = || graph.mentions.iter();
        Self {
            entities,
            starts: mentions().map(|m| signed(m.span.start)).collect(),
            ends: mentions().map(|m| signed(m.span.end)).collect(),
            texts: mentions().map(|m| text.slice(m.span).to_owned()).collect(),
            types: mentions().map(|m| m.class.as_str().to_owned()).collect(),
            labels: mentions()
                .map(|m| m.label.map(|label| label.as_str().to_owned()))
                .collect(),
            values: mentions().map(normal).collect(),
            confidences: mentions().map(|m| m.confidence).collect(),
        }
    }
}

fn normal(mention: &TypedMention) -> Option<String> {
    mention.value.as_ref().map(|value| value.normal.clone())
}

struct RelationColumns {
    ids: Vec<Uuid>,
    subjects: Vec<Uuid>,
    predicates: Vec<String>,
    objects: Vec<Uuid>,
    confidences: Vec<f32>,
}

impl RelationColumns {
    fn of(graph: &DocumentGraph, entities: &[Uuid]) -> Self {
        let relations = || graph.relations.iter();
        Self {
            ids: relations().map(|_| RelationId::generate().uuid()).collect(),
            subjects: relations().map(|r| entities[r.subject]).collect(),
            predicates: relations()
                .map(|r| r.predicate.as_str().to_owned())
                .collect(),
            objects: relations().map(|r| entities[r.object]).collect(),
            confidences: relations().map(|r| r.confidence).collect(),
        }
    }
}

#[derive(Default)]
struct EvidenceColumns {
    relations: Vec<Uuid>,
    ordinals: Vec<i32>,
    starts: Vec<i32>,
    ends: Vec<i32>,
    texts: Vec<String>,
}

impl EvidenceColumns {
    fn of(text: &Text, graph: &DocumentGraph, ids: &[Uuid]) -> Self {
        let mut columns = Self::default();
        for (relation, &id) in graph.relations.iter().zip(ids) {
            for (ordinal, &span) in (0..).zip(&relation.evidence) {
                columns.relations.push(id);
                columns.ordinals.push(ordinal);
                columns.starts.push(signed(span.start));
                columns.ends.push(signed(span.end));
                columns.texts.push(text.slice(span).to_owned());
            }
        }
        columns
    }
}

/// Where a page of findings ends: the next one begins behind it. Pages follow the primary keys, so that none has to
/// sort what came before.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The execution of the last row.
    pub execution: WorkflowExecutionId,
    /// Its ordinal there.
    pub ordinal: i32,
}

impl Place {
    pub(super) fn new(execution: Uuid, ordinal: i32) -> Self {
        Self {
            execution: execution.into(),
            ordinal,
        }
    }

    /// The two halves of the key, as the queries take them.
    pub(super) fn key(place: Option<Self>) -> (Uuid, i32) {
        place.map_or((Uuid::nil(), -1), |place| {
            (place.execution.uuid(), place.ordinal)
        })
    }
}

/// An entity of a batch, as it is exported.
#[derive(Debug, Clone)]
pub struct EntityRow {
    /// Where it stands.
    pub place: Place,
    /// Its id.
    pub id: EntityId,
    /// The caller's id of its document.
    pub document: String,
    /// Its document.
    pub document_id: DocumentId,
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: String,
    /// Its mentions, in order.
    pub mentions: Vec<MentionRow>,
}

/// A mention of an entity.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct MentionRow {
    /// Where it is.
    #[serde(flatten)]
    pub span: Span,
    /// What the text says there.
    pub text: String,
    /// Its class.
    #[serde(rename = "type")]
    pub class: String,
    /// The normal form of its value, if it is one.
    pub value: Option<String>,
    /// 0 to 1.
    pub confidence: f32,
}

/// A page of a batch's entities with their mentions, after `after`. Only those of completed documents: nothing else
/// was published.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn entity_page(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    after: Option<Place>,
    most: i64,
) -> Result<Vec<EntityRow>, StoreError> {
    let (execution, ordinal) = Place::key(after);
    let rows = query!(
        r#"select n.workflow_execution_id, n.ordinal, n.id, d.external_id, d.id as document_id, n.name, n.type as class,
                  m.mentions as "mentions!"
           from workflow_execution e
           join document d on d.organization_id = e.organization_id and d.id = e.document_id
           join entity n on n.organization_id = e.organization_id and n.workflow_execution_id = e.id
           cross join lateral (
               select coalesce(jsonb_agg(jsonb_build_object(
                          'start', start_char, 'end', end_char, 'text', text, 'type', type,
                          'value', value, 'confidence', confidence) order by ordinal), '[]') as mentions
               from mention m
               where m.organization_id = n.organization_id
                 and m.workflow_execution_id = n.workflow_execution_id and m.ordinal = any(n.mentions)
           ) m
           where e.organization_id = $1 and e.batch_id = $2 and e.status = 'completed' and e.id >= $3
             and (n.workflow_execution_id, n.ordinal) > ($3, $4)
           order by n.workflow_execution_id, n.ordinal limit $5"#,
        organization.uuid(),
        batch.uuid(),
        execution,
        ordinal,
        most,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(EntityRow {
                place: Place::new(row.workflow_execution_id, row.ordinal),
                id: row.id.into(),
                document: row.external_id,
                document_id: row.document_id.into(),
                name: row.name,
                class: row.class,
                mentions: super::from_json("mentions", row.mentions)?,
            })
        })
        .collect()
}

/// A relation of a batch, as it is exported.
#[derive(Debug, Clone)]
pub struct RelationRow {
    /// Where it stands.
    pub place: Place,
    /// Its id.
    pub id: RelationId,
    /// The caller's id of its document.
    pub document: String,
    /// Its document.
    pub document_id: DocumentId,
    /// Its subject.
    pub subject: EntityId,
    /// The subject's name.
    pub subject_name: String,
    /// What is said.
    pub predicate: String,
    /// Its object.
    pub object: EntityId,
    /// The object's name.
    pub object_name: String,
    /// 0 to 1.
    pub confidence: f32,
    /// Where the document says so, in order.
    pub evidence: Vec<EvidenceRow>,
}

/// A piece of evidence.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct EvidenceRow {
    /// Where it is.
    #[serde(flatten)]
    pub span: Span,
    /// What the text says there.
    pub text: String,
}

/// A page of a batch's relations with their evidence, after `after`.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn relation_page(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    after: Option<Place>,
    most: i64,
) -> Result<Vec<RelationRow>, StoreError> {
    let (execution, ordinal) = Place::key(after);
    let rows = query!(
        r#"select r.workflow_execution_id, r.ordinal, r.id, d.external_id, d.id as document_id, r.subject_id,
                  s.name as subject_name, r.predicate, r.object_id,
                  o.name as object_name, r.confidence, v.evidence as "evidence!"
           from workflow_execution e
           join document d on d.organization_id = e.organization_id and d.id = e.document_id
           join relation r on r.organization_id = e.organization_id and r.workflow_execution_id = e.id
           join entity s on s.organization_id = r.organization_id and s.id = r.subject_id
           join entity o on o.organization_id = r.organization_id and o.id = r.object_id
           cross join lateral (
               select coalesce(jsonb_agg(jsonb_build_object(
                          'start', start_char, 'end', end_char, 'text', text) order by ordinal), '[]')
                          as evidence
               from evidence v
               where v.organization_id = r.organization_id and v.relation_id = r.id
           ) v
           where e.organization_id = $1 and e.batch_id = $2 and e.status = 'completed' and e.id >= $3
             and (r.workflow_execution_id, r.ordinal) > ($3, $4)
           order by r.workflow_execution_id, r.ordinal limit $5"#,
        organization.uuid(),
        batch.uuid(),
        execution,
        ordinal,
        most,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(RelationRow {
                place: Place::new(row.workflow_execution_id, row.ordinal),
                id: row.id.into(),
                document: row.external_id,
                document_id: row.document_id.into(),
                subject: row.subject_id.into(),
                subject_name: row.subject_name,
                predicate: row.predicate,
                object: row.object_id.into(),
                object_name: row.object_name,
                confidence: row.confidence,
                evidence: super::from_json("evidence", row.evidence)?,
            })
        })
        .collect()
}

/// Removes what executions of earlier generations had found in the document of `fence`, whose new graph takes their
/// place; returns how much that was.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn drop_older_graphs(
    connection: &mut PgConnection,
    fence: Fence,
    document: DocumentId,
) -> Result<Replaced, StoreError> {
    let row = query!(
        r#"with older as (
               select organization_id, id from workflow_execution
               where organization_id = $1 and document_id = $3 and id <> $2 and workflow_type = 'extraction'
           ), entities as (
               delete from entity n using older o
               where n.organization_id = o.organization_id and n.workflow_execution_id = o.id
               returning 1
           ), relations as (
               delete from relation r using older o
               where r.organization_id = o.organization_id and r.workflow_execution_id = o.id
               returning r.organization_id, r.id
           ), mentions as (
               delete from mention m using older o
               where m.organization_id = o.organization_id and m.workflow_execution_id = o.id
           ), evidences as (
               delete from evidence v using relations r
               where v.organization_id = r.organization_id and v.relation_id = r.id
           )
           select (select count(*) from entities) as "entities!", (select count(*) from relations) as "relations!""#,
        fence.organization.uuid(),
        fence.execution.uuid(),
        document.uuid(),
    )
    .fetch_one(connection)
    .await?;
    Ok(Replaced {
        entities: row.entities.unsigned_abs(),
        relations: row.relations.unsigned_abs(),
    })
}

/// The entities of a batch that most documents speak of: name, class, documents, mentions.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn busiest(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    most: i64,
) -> Result<Vec<(String, String, u64, u64)>, StoreError> {
    let rows = query!(
        r#"select c.name, c.type as class, count(distinct n.workflow_execution_id) as "documents!",
                  coalesce(sum(cardinality(n.mentions)), 0)::bigint as "mentions!"
           from batch b
           join cluster c on c.organization_id = b.organization_id and c.resolution_id = b.resolution_id
           join cluster_member k on k.organization_id = c.organization_id and k.resolution_id = c.resolution_id
                                and k.cluster_id = c.id
           join entity n on n.organization_id = k.organization_id and n.id = k.entity_id
           where b.organization_id = $1 and b.id = $2
           group by c.id, c.name, c.type
           order by 3 desc, 4 desc, c.name limit $3"#,
        organization.uuid(),
        batch.uuid(),
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            (
                row.name,
                row.class,
                row.documents.unsigned_abs(),
                row.mentions.unsigned_abs(),
            )
        })
        .collect())
}

/// A place in a list, as the database counts it.
fn ordinal(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

/// A database integer; documents are limited to far less than 2³¹ characters.
fn signed(offset: u32) -> i32 {
    i32::try_from(offset).unwrap_or(i32::MAX)
}

impl NameLabel {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Per => "PER",
            Self::Org => "ORG",
            Self::Loc => "LOC",
            Self::Misc => "MISC",
        }
    }
}
