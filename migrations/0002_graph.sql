-- Why: what was found. Rows appear when `assemble` settles (chunks when `chunk` does) and reference only the
-- execution: more foreign keys cost a fifth of the write rate.

create table chunk (
    workflow_execution_id uuid not null,
    organization_id uuid not null,
    ordinal integer not null check (ordinal >= 0),
    start_char integer not null check (start_char >= 0),
    end_char integer not null,
    primary key (workflow_execution_id, ordinal),
    foreign key (organization_id, workflow_execution_id)
        references workflow_execution (organization_id, id) on delete cascade,
    check (end_char > start_char)
);
comment on table chunk is 'How a document was cut. Offsets are Unicode scalar values of the document''s text, half-open.';

create table mention (
    workflow_execution_id uuid not null,
    organization_id uuid not null,
    ordinal integer not null check (ordinal >= 0),
    entity_id uuid not null,
    start_char integer not null check (start_char >= 0),
    end_char integer not null,
    text text not null,
    type text not null,
    label text check (label in ('PER', 'ORG', 'LOC', 'MISC')),
    confidence real not null check (confidence between 0 and 1),
    primary key (workflow_execution_id, ordinal),
    foreign key (organization_id, workflow_execution_id)
        references workflow_execution (organization_id, id) on delete cascade,
    check (end_char > start_char)
);
comment on table mention is 'A name in a document, with the class that it was given.';

create table entity (
    id uuid not null,
    workflow_execution_id uuid not null,
    organization_id uuid not null,
    ordinal integer not null check (ordinal >= 0),
    name text not null,
    type text not null,
    mentions integer[] not null check (cardinality(mentions) > 0),
    primary key (workflow_execution_id, ordinal),
    unique (id, organization_id),
    foreign key (organization_id, workflow_execution_id)
        references workflow_execution (organization_id, id) on delete cascade
);
comment on table entity is 'A thing that a document speaks of.';
comment on column entity.mentions is 'Ordinals of its mentions, ascending: they are found without an index on every mention.';

create table relation (
    id uuid not null,
    workflow_execution_id uuid not null,
    organization_id uuid not null,
    ordinal integer not null check (ordinal >= 0),
    subject_id uuid not null,
    predicate text not null,
    object_id uuid not null,
    confidence real not null check (confidence between 0 and 1),
    primary key (workflow_execution_id, ordinal),
    unique (id, organization_id),
    foreign key (organization_id, workflow_execution_id)
        references workflow_execution (organization_id, id) on delete cascade
);
comment on table relation is 'A typed statement of a document about two of its entities.';

create table evidence (
    relation_id uuid not null,
    workflow_execution_id uuid not null,
    organization_id uuid not null,
    ordinal integer not null check (ordinal >= 0),
    start_char integer not null check (start_char >= 0),
    end_char integer not null,
    text text not null,
    primary key (relation_id, ordinal),
    foreign key (organization_id, workflow_execution_id)
        references workflow_execution (organization_id, id) on delete cascade,
    check (end_char > start_char)
);
comment on table evidence is 'Where a document says what a relation states: a span that was located in its text.';

create table cluster (
    id uuid not null,
    organization_id uuid not null,
    batch_id uuid not null,
    resolution_id uuid not null,
    ordinal integer not null check (ordinal >= 0),
    name text not null,
    type text not null,
    primary key (id, organization_id),
    unique (batch_id, resolution_id, ordinal),
    foreign key (organization_id, batch_id) references batch (organization_id, id) on delete cascade
);
comment on table cluster is 'One real-world thing across documents. Visible while its resolution is the batch''s published one.';

create table cluster_member (
    cluster_id uuid not null,
    entity_id uuid not null,
    organization_id uuid not null,
    primary key (cluster_id, entity_id),
    foreign key (organization_id, cluster_id) references cluster (organization_id, id) on delete cascade
);
comment on table cluster_member is 'Which entities a cluster unites.';

create table same_as (
    id uuid not null,
    organization_id uuid not null,
    batch_id uuid not null,
    resolution_id uuid not null,
    left_cluster_id uuid not null,
    right_cluster_id uuid not null,
    score real not null check (score between 0 and 1),
    reason text not null,
    decision text check (decision in ('accepted', 'rejected')),
    decided_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (id, organization_id),
    foreign key (organization_id, batch_id) references batch (organization_id, id) on delete cascade,
    check ((decision is null) = (decided_at is null)),
    check (left_cluster_id <> right_cluster_id)
);
comment on table same_as is 'Clusters that may be one thing: proposed with a score and a reason, decided by people, reversible.';
