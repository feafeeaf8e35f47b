//! The table `budget`: what a batch may spend, has reserved and has spent; and how a call moves it, together with its
//! organization's (`organization_budget.rs`).
//!
//! A call reserves the most that it may take before it is made, so that the bill can't pass a cap; what it took in
//! the end replaces the reservation. A call in doubt keeps its reservation. The row can be rebuilt from the ledger.
//! Invariant: rows are locked in the order `llm_call`, `budget`, `organization_budget`, and one of each at most.

use chrono::{DateTime, Utc};
use graphmill_jobs::{BatchId, OrganizationId};
use sqlx::{PgConnection, query, query_scalar};

use super::{
    StoreError,
    ledger::{Nanodollars, Spending},
};

/// What a batch may spend, in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// Money.
    pub cost: Option<Nanodollars>,
    /// Tokens, of prompts and answers.
    pub tokens: Option<i64>,
}

/// How a budget stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// What it may be at most.
    pub caps: Caps,
    /// What calls in work and calls in doubt may take at most.
    pub reserved: Spent,
    /// What answered calls took.
    pub spent: Spent,
    /// Calls that were answered and paid.
    pub calls: i64,
    /// Tokens of their prompts.
    pub prompt_tokens: i64,
    /// Of those, read from a cache.
    pub cached_tokens: i64,
    /// Tokens of their answers.
    pub completion_tokens: i64,
}

/// An amount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Money, as far as prices are known.
    pub cost: Nanodollars,
    /// Tokens.
    pub tokens: i64,
}

/// Opens a batch's budget, or changes the caps that are given of one that is open.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn set_budget(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    caps: Caps,
) -> Result<(), StoreError> {
    query!(
        "insert into budget (organization_id, batch_id, max_cost, max_tokens)
         values ($1, $2, $3::bigint::numeric / 1000000000, $4)
         on conflict (batch_id, organization_id) do update
         set max_cost = coalesce(excluded.max_cost, budget.max_cost),
             max_tokens = coalesce(excluded.max_tokens, budget.max_tokens)",
        organization.uuid(),
        batch.uuid(),
        caps.cost,
        caps.tokens,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How a batch's budget stands; `None` if it calls no model.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn budget(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Option<Budget>, StoreError> {
    let row = query!(
        r#"select (max_cost * 1000000000)::bigint as max_cost, max_tokens,
                  (reserved_cost * 1000000000)::bigint as "reserved_cost!", reserved_tokens,
                  (spent_cost * 1000000000)::bigint as "spent_cost!", spent_tokens,
                  calls, prompt_tokens, cached_tokens, completion_tokens
           from budget where organization_id = $1 and batch_id = $2"#,
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Budget {
        caps: Caps {
            cost: row.max_cost,
            tokens: row.max_tokens,
        },
        reserved: Spent {
            cost: row.reserved_cost,
            tokens: row.reserved_tokens,
        },
        spent: Spent {
            cost: row.spent_cost,
            tokens: row.spent_tokens,
        },
        calls: row.calls,
        prompt_tokens: row.prompt_tokens,
        cached_tokens: row.cached_tokens,
        completion_tokens: row.completion_tokens,
    }))
}

/// Whether what a call may take is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reserved {
    Yes,
    /// There is no need: the request was answered meanwhile.
    Answered,
    /// It could pass a cap of the batch.
    PastBatch,
    /// It could pass a cap of the organization.
    PastOrganization,
}

/// Reserves what a call may take, in the batch's budget and the organization's, unless it could pass a cap. A call of
/// unknown price fits under no cap on money. Unless it is reserved the caller rolls back.
///
/// The organization's row is taken last, in the statement that ends the transaction but for its commit: all batches
/// wait for it.
pub(super) async fn reserve(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    hash: &[u8; 32],
    most: Spending,
) -> Result<Reserved, StoreError> {
    let row = query!(
        r#"with mine as (
             update budget
             set reserved_cost = reserved_cost + coalesce($3::bigint::numeric / 1000000000, 0),
                 reserved_tokens = reserved_tokens + $4
             where organization_id = $1 and batch_id = $2
               and (max_cost is null
                    or spent_cost + reserved_cost + $3::bigint::numeric / 1000000000 <= max_cost)
               and (max_tokens is null or spent_tokens + reserved_tokens + $4 <= max_tokens)
             returning organization_id
           ), ours as (
             update organization_budget o
             set reserved_cost = o.reserved_cost + coalesce($3::bigint::numeric / 1000000000, 0),
                 reserved_tokens = o.reserved_tokens + $4
             from mine
             where o.organization_id = mine.organization_id
               -- Else the month has begun while this transaction waited: it looks again, in the month.
               and o.counted_from <= now()
               and (o.max_cost is null
                    or o.spent_cost + o.reserved_cost + $3::bigint::numeric / 1000000000 <= o.max_cost)
               and (o.max_tokens is null or o.spent_tokens + o.reserved_tokens + $4 <= o.max_tokens)
             returning o.organization_id
           )
           select exists (select from llm_call where organization_id = $1 and request_hash = $5
                                                and response is not null and response_pruned_at is null) as "answered!",
                  exists (select from mine) as "mine!",
                  exists (select from ours)
                  or not exists (select from organization_budget where organization_id = $1) as "ours!""#,
        organization.uuid(),
        batch.uuid(),
        most.cost,
        most.tokens,
        hash,
    )
    .fetch_one(connection)
    .await?;
    if row.answered {
        return Ok(Reserved::Answered);
    }
    Ok(match (row.mine, row.ours) {
        (true, true) => Reserved::Yes,
        (true, false) => Reserved::PastOrganization,
        (false, _) => Reserved::PastBatch,
    })
}

/// A call whose reservation is over.
pub(super) struct Settled {
    pub(super) batch: BatchId,
    pub(super) reserved: Spending,
    /// When it was begun: it counts in the organization's period of that time.
    pub(super) begun: DateTime<Utc>,
}

/// Gives back what a call had reserved that took nothing. What one that was answered took is put in its place by
/// [`file_answer`](super::file_answer), together with the answer.
pub(super) async fn give_back(
    connection: &mut PgConnection,
    organization: OrganizationId,
    call: Settled,
) -> Result<(), StoreError> {
    // `mine` is counted, so that the organization's row is taken after the batch's, and also if that is gone.
    query!(
        "with mine as (
           update budget
           set reserved_cost = greatest(reserved_cost - coalesce($3::bigint::numeric / 1000000000, 0), 0),
               reserved_tokens = greatest(reserved_tokens - $4, 0)
           where organization_id = $1 and batch_id = $2
           returning batch_id
         )
         update organization_budget o
         set reserved_cost = greatest(o.reserved_cost - coalesce($3::bigint::numeric / 1000000000, 0), 0),
             reserved_tokens = greatest(o.reserved_tokens - $4, 0)
         from (select count(*) from mine) m
         where o.organization_id = $1 and o.counted_from <= $5",
        organization.uuid(),
        call.batch.uuid(),
        call.reserved.cost,
        call.reserved.tokens,
        call.begun,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Counts a batch's budget anew from the ledger; whether it was wrong.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn recount_budget(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<bool, StoreError> {
    // Calls that are being reserved or settled wait for the row and then add themselves; all others are seen below.
    query!(
        "select from budget where organization_id = $1 and batch_id = $2 for update",
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_optional(&mut *connection)
    .await?;
    let wrong = query!(
        "update budget b
         set reserved_cost = s.reserved_cost, reserved_tokens = s.reserved_tokens, spent_cost = s.spent_cost,
             spent_tokens = s.prompt_tokens + s.completion_tokens, calls = s.calls,
             prompt_tokens = s.prompt_tokens, cached_tokens = s.cached_tokens,
             completion_tokens = s.completion_tokens
         from (select coalesce(sum(reserved_cost) filter (where response is null), 0) as reserved_cost,
                      coalesce(sum(reserved_tokens) filter (where response is null), 0) as reserved_tokens,
                      count(response) as calls,
                      coalesce(sum(cost) filter (where response is not null), 0) as spent_cost,
                      coalesce(sum(prompt_tokens) filter (where response is not null), 0) as prompt_tokens,
                      coalesce(sum(cached_tokens) filter (where response is not null), 0) as cached_tokens,
                      coalesce(sum(completion_tokens) filter (where response is not null), 0) as completion_tokens
               from llm_call
               where organization_id = $1 and batch_id = $2 and outcome in ('intent', 'answered', 'in_doubt')) s
         where b.organization_id = $1 and b.batch_id = $2
           and (b.reserved_cost, b.reserved_tokens, b.spent_cost, b.spent_tokens, b.calls, b.prompt_tokens,
                b.cached_tokens, b.completion_tokens)
               is distinct from (s.reserved_cost, s.reserved_tokens, s.spent_cost,
                                 s.prompt_tokens + s.completion_tokens, s.calls, s.prompt_tokens, s.cached_tokens,
                                 s.completion_tokens)",
        organization.uuid(),
        batch.uuid(),
    )
    .execute(connection)
    .await?;
    Ok(wrong.rows_affected() == 1)
}

/// The batches of the organization that have a budget.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn batches_with_budgets(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Vec<BatchId>, StoreError> {
    let batches = query_scalar!(
        "select batch_id from budget where organization_id = $1 order by batch_id",
        organization.uuid(),
    )
    .fetch_all(connection)
    .await?;
    Ok(batches.into_iter().map(Into::into).collect())
}
